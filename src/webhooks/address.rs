//! Which addresses webhooks may go to: those of the public Internet, and those that the operator names.
//!
//! Whoever can write a URL or a DNS record could otherwise have the server talk to what only the server can reach
//! (server-side request forgery): its own ports, its neighbours, the metadata service of its cloud.
//! Always: an address that carries another one inside (IPv4-mapped, NAT64) is judged by what it carries; what is not known to be
//! public is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What is allowed beside public addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Address ranges.
    pub networks: Vec<IpNet>,
    /// Host names, in lower case; whatever addresses they have.
    pub hosts: Vec<String>,
}

impl Allowed {
    /// Whether a receiver of that name may have that address.
    pub fn permits(&self, host: &str, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        is_public(ip)
            || self.networks.iter().any(|network| network.contains(&ip))
            || self.hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }
}

/// Whether an address is one of the public Internet (the special-purpose registries of RFC 6890).
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// Blocks of IPv4 that are not public: address and prefix length.
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),       // this network, RFC 791
    ([10, 0, 0, 0], 8),      // private, RFC 1918
    ([100, 64, 0, 0], 10),   // shared by carriers, RFC 6598
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, RFC 3927: metadata services of clouds
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 88, 99, 0], 24),  // relays of 6to4, RFC 7526
    ([192, 168, 0, 0], 16),  // private
    ([198, 18, 0, 0], 15),   // benchmarks, RFC 2544
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, broadcast
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let ip = u32::from(ip);
    SPECIAL_V4.iter().all(|(block, length)| (ip ^ u32::from_be_bytes(*block)) >> (32 - length) != 0)
}

/// Blocks inside of global unicast (`2000::/3`) that are not public: the first two groups and the prefix length.
const SPECIAL_V6: [([u16; 2], u8); 4] = [
    ([0x2001, 0x0000], 23), // protocol assignments: Teredo, ORCHID, benchmarks
    ([0x2001, 0x0db8], 32), // documentation
    ([0x2002, 0x0000], 16), // 6to4, RFC 7526: would reach whatever IPv4 address is inside
    ([0x3fff, 0x0000], 20), // documentation, RFC 9637
];

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let groups = ip.segments();
    // NAT64's well-known prefix (RFC 6052): where it is in use, public IPv4 hosts are reached by it.
    if groups[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let octets = ip.octets();
        return is_public_v4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]));
    }
    let first = u32::from(groups[0]) << 16 | u32::from(groups[1]);
    // All else is loopback, link-local, unique local, multicast, IPv4 in other clothes, or not assigned.
    first >> 29 == 1
        && SPECIAL_V6.iter().all(|([high, low], length)| {
            (first ^ (u32::from(*high) << 16 | u32::from(*low))) >> (32 - length) != 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_public_and_no_others() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
            "2001:200::1",
            "3ffe::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            // Loopback, unspecified, link-local, site-local, unique local (one cloud's metadata), multicast.
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            // IPv4 inside: mapped, compatible, translated (RFC 2765), NAT64 both ways, 6to4, Teredo, ISATAP-like.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::a00:1",
            "64:ff9b:1::808:808",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2002:808:808::1",
            "2001::1",
            "2001:0:7f00:1::",
            "fe80::5efe:7f00:1",
            // Documentation, ORCHID, benchmarks, discard-only, not assigned.
            "2001:db8::1",
            "3fff::1",
            "2001:20::1",
            "2001:2::1",
            "100::1",
            "4000::1",
            "1::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn the_operator_allows_networks_and_hosts() {
        let allowed = Allowed {
            networks: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            hosts: vec!["hooks.internal".to_owned()],
        };
        for (host, ip, permitted) in [
            ("a.example", "10.1.2.3", true),
            ("a.example", "::ffff:10.1.2.3", true),
            ("a.example", "10.2.2.3", false),
            ("a.example", "fd12::1", true),
            ("a.example", "fe80::1", false),
            ("Hooks.Internal", "127.0.0.1", true),
            ("hooks.internal.example", "127.0.0.1", false),
            ("a.example", "8.8.8.8", true),
        ] {
            assert_eq!(allowed.permits(host, ip.parse().unwrap()), permitted, "{host} {ip}");
        }
    }
}
