//! Connections on loopback, with a scripted core in the place of `sfu::Sfu`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::command::{Command, Event, Path};
use sfu::stats::Stats;
use sfu::ticks::Ticks;
use sfu::transport::framing::{self, Deframer, MAX_FRAME};
use sfu::transport::stun::{self, IceRole, TransactionId};
use tokio::net::TcpListener;

use super::*;
use crate::config::TcpLimits;
use crate::listen::listen;
use crate::media::kernel::{Outgoing, Ready};
use crate::media::worker::{MediaCore, Worker, WorkerClient};

/// Answers each datagram with its own number, twice as one run, and what came.
struct Script {
    number: u8,
    start: Instant,
    /// Somebody is known by every path.
    knows: bool,
    runs: Vec<(Path, u16, Vec<u8>)>,
    backlog: Vec<bool>,
    stats: Stats,
}

impl Script {
    fn new(number: u8) -> Script {
        Script {
            number,
            start: Instant::now(),
            knows: true,
            runs: Vec::new(),
            backlog: Vec::new(),
            stats: Stats::default(),
        }
    }
}

impl MediaCore for Script {
    fn handle_datagram(&mut self, _: Instant, path: Path, bytes: &mut [u8]) {
        let answer = [&[self.number], &*bytes].concat();
        self.runs.push((path, answer.len() as u16, [&*answer, &answer].concat()));
    }
    fn handle_command(&mut self, _: Instant, _: Command) {}
    fn settle(&mut self, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn ticks(&self) -> Ticks {
        Ticks::since(self.start)
    }
    fn next_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_event(&mut self) -> Option<Event> {
        None
    }
    fn knows(&self, _: Path) -> bool {
        self.knows
    }
    fn handle_backlog(&mut self, _: Path, waits: bool) {
        self.backlog.push(waits);
    }
    fn restrain(&mut self, _: Instant, _: sfu::congestion::restraint::Restraint) {}
    fn egress(&self) -> impl Iterator<Item = Outgoing<'_>> {
        self.runs.iter().map(|(path, segment, bytes)| Outgoing { path: *path, segment: *segment, bytes })
    }
    fn clear_egress(&mut self) {
        self.runs.clear();
    }
    fn stats(&self) -> &Stats {
        &self.stats
    }
}

const LIMITS: TcpLimits = TcpLimits { connections: 4, connections_per_address: 3 };

/// A binding request for that core.
fn request(core: char) -> Vec<u8> {
    let check = stun::Check {
        transaction: TransactionId([7; 12]),
        their_ufrag: &format!("A{core}abcdefgh"),
        our_ufrag: "them",
        priority: 1,
        role: IceRole::Controlling(5),
        key: &stun::password_key("0123456789012345678901"),
    };
    let mut bytes = Vec::new();
    stun::write_check(&mut bytes, &check);
    bytes
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    framing::write(&mut stream, datagram);
    stream
}

/// A client that reads whole datagrams.
struct Client {
    stream: TcpStream,
    deframer: Deframer,
    datagrams: std::collections::VecDeque<Vec<u8>>,
}

impl Client {
    fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).expect("a listener");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Client { stream, deframer: Deframer::default(), datagrams: std::collections::VecDeque::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Takes what has come; `false` when that is nothing.
    fn read(&mut self) -> bool {
        let mut bytes = vec![0; 1 << 16];
        let Ok(length @ 1..) = self.stream.read(&mut bytes) else { return false };
        let datagrams = &mut self.datagrams;
        let read =
            self.deframer.read(&mut bytes[..length], |datagram| datagrams.push_back(datagram.to_vec()));
        read.expect("frames");
        true
    }

    fn receive(&mut self) -> Vec<u8> {
        loop {
            if let Some(datagram) = self.datagrams.pop_front() {
                return datagram;
            }
            assert!(self.read(), "closed, or silent");
        }
    }

    /// An end or a reset, and nothing before it.
    fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 16]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !waits_for_more(&error),
        }
    }
}

fn waits_for_more(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

/// Two workers behind one port.
struct Media {
    workers: Vec<Worker>,
    places: Arc<Places>,
    address: SocketAddr,
    _door: Door,
}

fn media() -> Media {
    let start = |number| Worker::start(number, Vec::new(), None, move |_| Script::new(number as u8)).unwrap();
    let workers: Vec<Worker> = (0..2).map(start).collect();
    let clients: Arc<[WorkerClient]> = workers.iter().map(|worker| worker.client().clone()).collect();
    let listener = TcpListener::from_std(listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let places = Places::new(LIMITS);
    Media { workers, address, _door: Door::open([listener], &places, &clients), places }
}

impl Media {
    /// Waits until as many have been refused for this reason.
    fn refused(&self, why: Refused, wanted: u64) {
        self.eventually(|stats| stats.refused[why as usize] == wanted);
    }

    fn eventually(&self, holds: impl Fn(&TcpStats) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(&self.places.stats()) {
            assert!(Instant::now() < deadline, "{:?}", self.places.stats());
            std::thread::yield_now();
        }
    }

    async fn stop(self) {
        for worker in self.workers {
            worker.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_to_the_worker_of_its_first_request_and_datagrams_go_both_ways() {
    let media = media();
    for (core, number) in [('A', 0), ('B', 1)] {
        let mut client = Client::connect(media.address);
        let hello = request(core);
        // In pieces, and with the next datagram right behind.
        let mut stream = framed(&hello);
        stream.extend(framed(b"second"));
        let (head, tail) = stream.split_at(30);
        client.send(head);
        client.send(tail);
        client.send(&framed(b"third"));
        for datagram in [&*hello, b"second", b"third"] {
            for _ in 0..2 {
                assert_eq!(client.receive(), [&[number], datagram].concat());
            }
        }
    }
    media.eventually(|stats| stats.connections == 0);
    media.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_client_is_closed_and_counted() {
    let media = media();
    let no_request = [0, 4, 1, 2, 3, 4];
    let other_core = framed(&request('9'));
    let begins: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 0], &no_request, &other_core];
    for (count, begin) in begins.into_iter().enumerate() {
        let mut client = Client::connect(media.address);
        client.send(begin);
        assert!(client.is_closed(), "{begin:?}");
        media.refused(Refused::Garbage, count as u64 + 1);
    }

    let mut client = Client::connect(media.address);
    client.send(&framed(&request('A')));
    client.receive();
    client.receive();
    client.send(&(MAX_FRAME as u16 + 1).to_be_bytes());
    assert!(client.is_closed());
    media.refused(Refused::Garbage, begins.len() as u64 + 1);
    media.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_caps_and_give_their_places_back() {
    let media = media();
    let mut crowd: Vec<Client> =
        (0..LIMITS.connections_per_address).map(|_| Client::connect(media.address)).collect();
    media.eventually(|stats| stats.connections == LIMITS.connections_per_address as u64);
    assert!(Client::connect(media.address).is_closed());
    media.refused(Refused::Address, 1);
    crowd.pop();
    media.eventually(|stats| stats.connections == LIMITS.connections_per_address as u64 - 1);
    let mut late = Client::connect(media.address);
    late.send(&framed(&request('A')));
    assert_eq!(late.receive()[0], 0);
    media.stop().await;
}

#[test]
fn addresses_share_the_whole_and_an_ipv6_network_is_one() {
    let places = Places::new(LIMITS);
    let take = |ip: &str| places.take(ip.parse().unwrap());
    let crowd: Vec<Place> =
        ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|ip| take(ip).unwrap()).into_iter().collect();
    assert_eq!(take("2001:db8::4").unwrap_err(), Refused::Address);
    let other = take("2001:db8:0:1::1").unwrap();
    assert_eq!(take("192.0.2.1").unwrap_err(), Refused::Total);
    drop((crowd, other));
    assert_eq!(places.stats().connections, 0);
    assert!(take("192.0.2.1").is_ok());
}

/// A connection that has come to its worker, and its client.
fn arrival(places: &Arc<Places>) -> (Arrival, Client) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = Client::connect(listener.local_addr().unwrap());
    let (stream, remote) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let local = stream.local_addr().unwrap();
    let place = places.take(remote.ip()).unwrap();
    (Arrival { stream, local, remote, first: framed(b"first"), since: Instant::now(), place }, client)
}

/// As a worker's turn, without waiting.
fn turn(streams: &mut Streams, now: Instant, core: &mut Script) {
    let mut ready = Ready::new();
    streams.ready(&mut ready).unwrap();
    for token in ready.tokens() {
        streams.serve(now, token, core);
    }
    streams.send(now, core);
    core.clear_egress();
}

#[test]
fn a_client_that_does_not_read_costs_its_queue_and_holds_up_nobody() {
    let (places, mut streams, mut core) = (Places::new(LIMITS), Streams::new().unwrap(), Script::new(1));
    let now = Instant::now();
    let ((slow, mut slow_client), (quick, mut quick_client)) = (arrival(&places), arrival(&places));
    let slow_path = Path::tcp(slow.local, slow.remote);
    streams.add(now, slow, &mut core).unwrap();
    streams.add(now, quick, &mut core).unwrap();
    turn(&mut streams, now, &mut core);
    for client in [&mut slow_client, &mut quick_client] {
        assert_eq!([client.receive(), client.receive()], [b"\x01first", b"\x01first"]);
    }

    let mut number = 0_u32;
    while streams.dropped()[0] == 0 {
        assert!(number < 1_000_000, "the queue was never full");
        let packets = (0..16).flat_map(|_| {
            number += 1;
            [&number.to_be_bytes()[..], &[0; 1196]].concat()
        });
        core.runs.push((slow_path, 1200, packets.collect()));
        turn(&mut streams, now, &mut core);
    }
    assert_eq!(core.backlog, [true], "told once");
    quick_client.send(&framed(b"quick"));
    while !quick_client.datagrams.contains(&b"\x01quick".to_vec()) {
        turn(&mut streams, now, &mut core);
        quick_client.stream.set_nonblocking(true).unwrap();
        quick_client.read();
    }

    slow_client.stream.set_nonblocking(true).unwrap();
    let deadline = now + Duration::from_secs(30);
    while core.backlog != [true, false] {
        assert!(Instant::now() < deadline, "{:?}", core.backlog);
        slow_client.read();
        turn(&mut streams, now, &mut core);
    }
    while slow_client.read() {}
    let numbers: Vec<u32> = slow_client
        .datagrams
        .iter()
        .map(|datagram| {
            assert_eq!(datagram.len(), 1200);
            u32::from_be_bytes(datagram[..4].try_into().unwrap())
        })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "whole frames, in order");
    assert!(numbers.len() > 100);
}

#[test]
fn what_is_nobodys_and_what_takes_nothing_is_closed_in_time() {
    let (places, mut streams, mut core) = (Places::new(LIMITS), Streams::new().unwrap(), Script::new(1));
    let (arrival, mut client) = arrival(&places);
    let (since, path) = (arrival.since, Path::tcp(arrival.local, arrival.remote));
    streams.add(since, arrival, &mut core).unwrap();
    core.clear_egress();
    let second = Duration::from_secs(1);

    // Somebody's, for as long as the core says so.
    streams.sweep(since + UNKNOWN_TIMEOUT * 10, &core);
    assert!(!streams.is_empty());
    core.knows = false;
    let lost = since + UNKNOWN_TIMEOUT * 10;
    streams.sweep(lost + UNKNOWN_TIMEOUT / 2, &core);
    assert!(!streams.is_empty());
    streams.sweep(lost + UNKNOWN_TIMEOUT, &core);
    assert!(streams.is_empty() && client.is_closed());
    core.runs.push((path, 3, b"foo".to_vec()));
    streams.send(lost, &mut core);
    assert_eq!(streams.dropped(), [0, 1], "there is no such connection");
    core.clear_egress();

    let (mut unknown, mut client) = self::arrival(&places);
    unknown.since = since;
    streams.add(since + second, unknown, &mut core).unwrap();
    core.clear_egress();
    streams.sweep(since + UNKNOWN_TIMEOUT, &core);
    assert!(streams.is_empty() && client.is_closed());

    core.knows = true;
    let (slow, _client) = self::arrival(&places);
    let path = Path::tcp(slow.local, slow.remote);
    streams.add(since, slow, &mut core).unwrap();
    core.clear_egress();
    while core.backlog.is_empty() {
        core.runs.push((path, 1200, vec![0; 16 * 1200]));
        turn(&mut streams, since, &mut core);
    }
    streams.sweep(since + STALL_TIMEOUT / 2, &core);
    assert!(!streams.is_empty());
    streams.sweep(since + STALL_TIMEOUT, &core);
    assert!(streams.is_empty());
    let count = |why| places.stats().refused[why as usize];
    assert_eq!([Refused::Idle, Refused::Unknown, Refused::Stalled].map(count), [1, 1, 1]);
    assert_eq!(places.stats().connections, 0);
}
