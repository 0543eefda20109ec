//! A UDP socket set up for media: large buffers, segmentation both ways, and the local address of each packet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// How much the kernel may hold for a socket, in bytes each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// Received and not yet read.
    pub receive: usize,
    /// Sent by us and not yet on the wire.
    pub send: usize,
}

/// A bound UDP socket. `Ipv6` sockets carry IPv6 only, so that one of each can share a port.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    /// The kernel cuts one long buffer into datagrams (UDP GSO). Cleared when the network card refuses.
    pub(super) segments: bool,
}

impl UdpSocket {
    /// Binds; port 0 lets the kernel choose.
    ///
    /// A port that another socket has, even one of this process, is an error: two servers on one port would
    /// each get half of a handshake. Buffers smaller than asked for are logged, not refused.
    ///
    /// # Errors
    /// The address is taken or not ours, or the family is not there.
    pub fn bind(address: SocketAddr, buffers: BufferSizes) -> io::Result<UdpSocket> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers; the descriptor returned is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };

        if address.is_ipv4() {
            set_option(&fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        } else {
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        }
        if let Err(error) = set_option(&fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1) {
            tracing::info!(%error, "kernel without receive times: datagrams count as received when they are read");
        }
        grow(&fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, buffers.receive, "receive", "rmem_max")?;
        grow(&fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, buffers.send, "send", "wmem_max")?;
        if let Err(error) = set_option(&fd, libc::SOL_UDP, libc::UDP_GRO, 1) {
            tracing::info!(%error, "kernel without UDP GRO: datagrams are received one by one");
        }
        // Setting the default segment size to "none" succeeds exactly where segmentation exists (Linux 4.18).
        let segments = set_option(&fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();

        let (name, length) = Name::from_address(address);
        // SAFETY: `name` lives through the call and has at least `length` bytes.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), length) })?;
        let mut name = Name::EMPTY;
        let mut length = size_of::<Name>() as libc::socklen_t;
        // SAFETY: `name` has `length` bytes; both live through the call.
        check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut name).cast(), &raw mut length) })?;
        let local = name.address().ok_or_else(|| io::Error::other("socket name of an unknown family"))?;
        Ok(UdpSocket { fd, local, segments })
    }

    /// Where it is bound, with the port that the kernel chose.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    #[cfg(test)]
    pub(super) fn without_segments(mut self) -> UdpSocket {
        self.segments = false;
        self
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn set_option(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and has `size` bytes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), size) })?;
    Ok(())
}

/// Sets a buffer size, past the system's limit where we may.
fn grow(
    fd: &OwnedFd,
    force: libc::c_int,
    plain: libc::c_int,
    wanted: usize,
    what: &str,
    limit: &str,
) -> io::Result<()> {
    let value = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX);
    if set_option(fd, libc::SOL_SOCKET, force, value).is_ok() {
        return Ok(());
    }
    set_option(fd, libc::SOL_SOCKET, plain, value)?;
    let mut got: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `got` has `size` bytes; both live through the call.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, plain, (&raw mut got).cast(), &raw mut size)
    })?;
    // The kernel reports twice what it was asked for: its own book-keeping is counted (socket(7)).
    if got / 2 < value {
        tracing::warn!(
            "UDP {what} buffer is {} bytes instead of {value}: raise net.core.{limit} to lose fewer packets in bursts",
            got / 2
        );
    }
    Ok(())
}

/// A socket address in the kernel's form.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    // SAFETY: all-zero bytes are a value of every field.
    pub(super) const EMPTY: Name = unsafe { std::mem::zeroed() };

    /// The address and how many bytes of it the kernel is to read.
    pub(super) fn from_address(address: SocketAddr) -> (Name, libc::socklen_t) {
        let mut name = Name::EMPTY;
        match address {
            SocketAddr::V4(v4) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(v6) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address; `None` for a family that is neither.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: every variant begins with the family and the whole union is initialised from the start, so
        // each read gives some value; the family says which is meant.
        unsafe {
            match libc::c_int::from(self.family) {
                libc::AF_INET => {
                    let ip = Ipv4Addr::from(u32::from_be(self.v4.sin_addr.s_addr));
                    Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port))))
                }
                libc::AF_INET6 => {
                    let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                    // Packets of one client may differ in the flow label; the scope tells interfaces apart.
                    let port = u16::from_be(self.v6.sin6_port);
                    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.v6.sin6_scope_id)))
                }
                _ => None,
            }
        }
    }
}

/// The address that a packet was sent to, or is to be sent from, as a control message has it.
pub(super) fn packet_info_v4(ip: Ipv4Addr) -> libc::in_pktinfo {
    libc::in_pktinfo {
        ipi_ifindex: 0, // by route
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(ip).to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

/// As [`packet_info_v4`]; link-local peers need the interface that `scope` names.
pub(super) fn packet_info_v6(ip: Ipv6Addr, scope: u32) -> libc::in6_pktinfo {
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: scope }
}

/// The destination in the header of a received packet.
pub(super) fn destination_v4(info: &libc::in_pktinfo) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)))
}

/// As [`destination_v4`].
pub(super) fn destination_v6(info: &libc::in6_pktinfo) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))
}
