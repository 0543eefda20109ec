//! On real loopback sockets: what the kernel does is the thing under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use sfu::command::Path;

use super::*;

const BUFFERS: BufferSizes = BufferSizes { receive: 1 << 20, send: 1 << 20 };

fn bind(ip: impl Into<IpAddr>) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(ip.into(), 0), BUFFERS).expect("loopback is there")
}

fn wait_readable(socket: &UdpSocket) {
    let mut poller = Poller::new().unwrap();
    poller.add(socket, 1).unwrap();
    let mut ready = Ready::new();
    poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
    assert_eq!(ready.tokens().collect::<Vec<_>>(), [1], "nothing arrived");
}

/// Everything that has arrived, waiting for `count` datagrams.
fn receive(socket: &UdpSocket, count: usize) -> Vec<(Path, Vec<u8>)> {
    let mut batch = ReceiveBatch::new();
    let mut got = Vec::new();
    while got.len() < count {
        wait_readable(socket);
        batch.receive(socket).unwrap();
        let now = Instant::now();
        batch.for_each(now, socket.local_addr(), |at, path, bytes| {
            assert!(at <= now && now - at < Duration::from_secs(1));
            got.push((path, bytes.to_vec()));
        });
    }
    got
}

/// `count` datagrams of 1200 bytes and a last one of 300, each filled with its number.
fn run_of(count: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..count {
        bytes.extend(std::iter::repeat_n(i, if i + 1 == count { 300 } else { 1200 }));
    }
    bytes
}

fn assert_is_run(got: &[(Path, Vec<u8>)], count: u8, path: Path) {
    assert_eq!(got.len(), usize::from(count));
    for (i, (from, bytes)) in got.iter().enumerate() {
        assert_eq!(bytes.len(), if i + 1 == usize::from(count) { 300 } else { 1200 });
        assert!(bytes.iter().all(|&byte| usize::from(byte) == i), "datagram {i} is whole and in order");
        assert_eq!(*from, Path::udp(path.remote, path.local));
    }
}

#[test]
fn a_run_is_sent_in_one_call_and_arrives_as_the_datagrams_it_was() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let (mut from, to) = (bind(ip), bind(ip));
        let path = Path::udp(from.local_addr(), to.local_addr());
        let bytes = run_of(12);
        let report = SendBatch::new().send(&mut from, [Outgoing { path, segment: 1200, bytes: &bytes }]);
        assert_eq!(report.sent, 12);
        if from.segments {
            assert_eq!(report.calls, 1);
        }
        assert_is_run(&receive(&to, 12), 12, path);
    }
}

#[test]
fn without_segmentation_the_same_datagrams_arrive() {
    let (from, to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
    let path = Path::udp(from.local_addr(), to.local_addr());
    let bytes = run_of(12);
    let run = Outgoing { path, segment: 1200, bytes: &bytes };

    let mut from = from.without_segments();
    assert_eq!(SendBatch::new().send(&mut from, [run]).sent, 12);
    assert_is_run(&receive(&to, 12), 12, path);

    let report = SendBatch::new().send_after_refusal(&mut from, run);
    assert_eq!((report.sent, report.calls), (12, 12));
    assert_is_run(&receive(&to, 12), 12, path);
}

#[test]
fn more_than_the_kernel_takes_at_once_is_cut() {
    let (mut from, to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
    let path = Path::udp(from.local_addr(), to.local_addr());
    let bytes = run_of(150);
    let mut batch = SendBatch::new();
    assert_eq!(batch.send(&mut from, [Outgoing { path, segment: 1200, bytes: &bytes }]).sent, 150);
    assert_is_run(&receive(&to, 150), 150, path);

    // More messages than slots, of one datagram each.
    let small = [7; 100];
    let runs = (0..150).map(|_| Outgoing { path, segment: 100, bytes: &small });
    assert_eq!(batch.send(&mut from, runs).sent, 150);
    assert_eq!(receive(&to, 150).len(), 150);
}

#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    // 127.0.0.0/8 is all ours: a host with many addresses.
    let asked = Ipv4Addr::new(127, 9, 8, 7);
    let (mut client, mut server) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::UNSPECIFIED));
    let remote = SocketAddr::new(asked.into(), server.local_addr().port());
    let path = Path::udp(client.local_addr(), remote);
    let mut batch = SendBatch::new();
    batch.send(&mut client, [Outgoing { path, segment: 4, bytes: b"ping" }]);
    let (path, bytes) = receive(&server, 1).remove(0);
    assert_eq!((path.local, path.remote), (remote, client.local_addr()));

    batch.send(&mut server, [Outgoing { path, segment: 4, bytes: &bytes }]);
    let (path, bytes) = receive(&client, 1).remove(0);
    assert_eq!((path.remote, bytes.as_slice()), (remote, b"ping".as_slice()));
}

#[test]
fn one_destination_without_a_way_does_not_stop_the_others() {
    let (mut from, to) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::LOCALHOST));
    let good = Path::udp(from.local_addr(), to.local_addr());
    let bad = Path::udp(from.local_addr(), "[2001:db8::1]:9".parse().unwrap());
    let out = |path| Outgoing { path, segment: 1, bytes: b"x" };
    let report = SendBatch::new().send(&mut from, [out(good), out(bad), out(good)]);
    assert_eq!((report.sent, report.unreachable), (2, 1));
    assert_eq!(receive(&to, 2).len(), 2);
}

#[test]
fn every_datagram_of_a_burst_is_accounted_for() {
    let small = BufferSizes { receive: 1 << 20, send: 4096 };
    let mut from = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), small).unwrap();
    let to = bind(Ipv4Addr::LOCALHOST);
    let path = Path::udp(from.local_addr(), to.local_addr());
    let bytes = vec![0; 60 * 1200];
    let runs = (0..200).map(|_| Outgoing { path, segment: 1200, bytes: &bytes });
    let report = SendBatch::new().send(&mut from, runs);
    assert_eq!(report.sent + report.no_room + report.unreachable, 200 * 60);
}

#[test]
fn a_port_in_use_is_refused() {
    let first = bind(Ipv4Addr::LOCALHOST);
    let error = UdpSocket::bind(first.local_addr(), BUFFERS).expect_err("two servers must not share a port");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn both_families_share_a_port_number() {
    let v4 = bind(Ipv4Addr::UNSPECIFIED);
    let port = v4.local_addr().port();
    // Another process may have this port for IPv6, but not an IPv4 wildcard of ours.
    let v6 = UdpSocket::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), BUFFERS).unwrap();
    assert_eq!(v6.local_addr().port(), port);
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let mut poller = Poller::new().unwrap();
    let mut ready = Ready::new();
    for coarse in [false, true] {
        if coarse {
            poller.make_coarse();
        }
        let begin = Instant::now();
        poller.wait(&mut ready, Some(Duration::from_micros(2_300))).unwrap();
        assert!(begin.elapsed() >= Duration::from_micros(2_300), "coarse: {coarse}");
        assert_eq!(ready.tokens().count(), 0);
    }
}

#[test]
fn another_thread_ends_the_wait_once() {
    let wakeup = std::sync::Arc::new(Wakeup::new().unwrap());
    let mut poller = Poller::new().unwrap();
    poller.add(&*wakeup, 7).unwrap();
    let other = std::sync::Arc::clone(&wakeup);
    std::thread::spawn(move || other.notify());
    let mut ready = Ready::new();
    poller.wait(&mut ready, Some(Duration::from_secs(5))).unwrap();
    assert_eq!(ready.tokens().collect::<Vec<_>>(), [7]);
    wakeup.clear();
    poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
    assert_eq!(ready.tokens().count(), 0, "cleared");
    assert!(wakeup.as_raw_fd() >= 0);
}

#[test]
fn no_announced_address_is_loopback_or_twice() {
    let found = interface_addresses().unwrap();
    assert!(found.iter().all(|ip| !ip.is_loopback() && !ip.is_unspecified()), "{found:?}");
    let mut unique = found.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), found.len());
}

#[test]
fn a_thread_uses_cpu_time_while_it_works_and_none_while_it_sleeps() {
    let begin = thread_cpu_time().unwrap();
    let used = || thread_cpu_time().unwrap().saturating_sub(begin);
    std::thread::sleep(Duration::from_millis(30));
    assert!(used() < Duration::from_millis(15), "{:?}", used());
    while used() < Duration::from_millis(20) {}
}
