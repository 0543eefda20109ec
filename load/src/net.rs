//! Sockets: datagrams in runs, with the time at which the kernel had them, and which sockets have some.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::stamp::WallNanos;

/// Asked for, for each socket; the kernel's limit (`net.core.rmem_max`) may give less.
const RECEIVE_BUFFER: usize = 1 << 20;
/// A run of datagrams that the kernel hands over as one is not longer than this.
const RUN: usize = 1 << 16;
/// Sockets told of with one call.
const READY: usize = 256;

/// A socket for one peer connection.
pub(crate) struct Socket {
    udp: UdpSocket,
    local: SocketAddr,
    /// Datagrams that the kernel dropped because they were not read in time.
    dropped: u32,
}

impl Socket {
    /// Bound to the address from which `remote` is reached.
    pub(crate) fn towards(remote: SocketAddr) -> io::Result<Socket> {
        let any: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let probe = UdpSocket::bind((any, 0))?;
        probe.connect(remote)?; // sends nothing; asks the routing table
        let socket = UdpSocket::bind((probe.local_addr()?.ip(), 0))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // An old kernel hands datagrams over one by one.
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        Ok(Socket { local: socket.local_addr()?, udp: socket, dropped: 0 })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn dropped(&self) -> u32 {
        self.dropped
    }

    /// A datagram that cannot be sent now is lost, as on any network.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) {
        let _ = self.udp.send_to(datagram, to);
    }
}

/// Room for one run, used by one socket after the other.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    ancillary: Vec<u8>,
}

impl Inbox {
    pub(crate) fn new() -> Inbox {
        Inbox { bytes: vec![0; RUN], ancillary: nix::cmsg_space!(TimeSpec, u32, i32) }
    }

    /// Reads one run and gives each of its datagrams to `take` with its sender and its arrival. There may be more:
    /// the poller tells.
    pub(crate) fn receive(
        &mut self,
        socket: &mut Socket,
        mut take: impl FnMut(SocketAddr, WallNanos, &[u8]),
    ) -> io::Result<()> {
        let fd = socket.udp.as_raw_fd();
        let mut slices = [io::IoSliceMut::new(&mut self.bytes)];
        let ancillary = Some(&mut self.ancillary[..]);
        let run = match recvmsg::<SockaddrStorage>(fd, &mut slices, ancillary, MsgFlags::MSG_DONTWAIT) {
            Ok(run) => run,
            // The last is what an ICMP message says of a datagram that we sent.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (mut arrived, mut segment) = (None, run.bytes);
        for message in run.cmsgs()? {
            match message {
                ControlMessageOwned::ScmTimestampns(at) => {
                    arrived = Some(WallNanos(at.tv_sec() as u64 * 1_000_000_000 + at.tv_nsec() as u64));
                }
                ControlMessageOwned::UdpGroSegments(size) => segment = size as usize,
                ControlMessageOwned::RxqOvfl(dropped) => socket.dropped = dropped,
                _ => {}
            }
        }
        let Some(from) = run.address.as_ref().and_then(address) else { return Ok(()) };
        let (len, arrived) = (run.bytes, arrived.unwrap_or_else(WallNanos::now));
        for datagram in self.bytes[..len].chunks(segment.max(1)) {
            take(from, arrived, datagram);
        }
        Ok(())
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into()))
}

/// Which sockets have something.
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: vec![EpollEvent::empty(); READY] })
    }

    /// Watches a socket from now on, as `token`.
    pub(crate) fn watch(&self, socket: &Socket, token: usize) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token as u64);
        Ok(self.epoll.add(&socket.udp, event)?)
    }

    /// Tokens of sockets that have something now, [`READY`] at most. Does not wait.
    pub(crate) fn ready(&mut self, tokens: &mut Vec<usize>) -> io::Result<()> {
        tokens.clear();
        match self.epoll.wait(&mut self.events, EpollTimeout::ZERO) {
            Ok(count) => tokens.extend(self.events[..count].iter().map(|event| event.data() as usize)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_with_their_sender_and_a_time_that_has_passed() {
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::towards(other.local_addr().unwrap()).unwrap();
        let mut poller = Poller::new().unwrap();
        poller.watch(&socket, 5).unwrap();
        let mut ready = Vec::new();
        poller.ready(&mut ready).unwrap();
        assert!(ready.is_empty());

        let before = WallNanos::now();
        for number in 0..3 {
            other.send_to(&[number; 10], socket.local()).unwrap();
        }
        let (mut got, mut inbox) = (Vec::new(), Inbox::new());
        while got.len() < 3 {
            poller.ready(&mut ready).unwrap();
            assert_eq!(ready, [5]);
            let take = |from, at, bytes: &[u8]| got.push((from, at, bytes.to_vec()));
            inbox.receive(&mut socket, take).unwrap();
        }
        let after = WallNanos::now();
        assert_eq!(got.len(), 3);
        for (number, (from, at, bytes)) in got.iter().enumerate() {
            assert_eq!((*from, bytes), (other.local_addr().unwrap(), &vec![number as u8; 10]));
            assert!(before <= *at && *at <= after);
        }
        assert_eq!(socket.dropped(), 0);

        socket.send(b"back", other.local_addr().unwrap());
        let mut buffer = [0; 10];
        assert_eq!(other.recv(&mut buffer).unwrap(), 4);
    }
}
