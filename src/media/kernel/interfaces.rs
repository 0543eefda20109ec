//! The addresses of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::check;

/// The addresses of all interfaces that are up, each once, IPv4 first; without loopback, and without IPv6
/// link-local addresses, which an ICE candidate cannot carry (they need an interface beside them, RFC 8445
/// §5.1.1.1).
///
/// # Errors
/// The kernel is out of memory.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `first` receives a list that is freed below and not touched after.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: not null, and an element of the list until it is freed.
        let interface = unsafe { &*next };
        next = interface.ifa_next;
        if interface.ifa_addr.is_null() || interface.ifa_flags & libc::IFF_UP as libc::c_uint == 0 {
            continue;
        }
        // SAFETY: not null; every socket address begins with its family, which says what type it is, and the
        // kernel gives properly aligned whole addresses.
        #[expect(clippy::cast_ptr_alignment, reason = "allocated by libc as the type that its family names")]
        let address = unsafe {
            match libc::c_int::from((*interface.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let v4 = &*interface.ifa_addr.cast::<libc::sockaddr_in>();
                    IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)))
                }
                libc::AF_INET6 => {
                    let v6 = &*interface.ifa_addr.cast::<libc::sockaddr_in6>();
                    IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr))
                }
                _ => continue,
            }
        };
        let usable = match address {
            IpAddr::V4(v4) => !v4.is_loopback(),
            IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
        };
        if usable && !found.contains(&address) {
            found.push(address);
        }
    }
    // SAFETY: from `getifaddrs` above, freed once.
    unsafe { libc::freeifaddrs(first) };
    found.sort_by_key(IpAddr::is_ipv6);
    Ok(found)
}
