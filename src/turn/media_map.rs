//! Media's addresses, as clients are told them and as they are reached from within this machine.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Which of an allocation's sockets: two addresses that clients know and that are one on this machine need two, or an answer could
/// not be told from an answer of the other. Nearly always 0.
pub(super) type Lane = usize;

/// A media address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inside {
    /// Over this socket of an allocation…
    pub(super) lane: Lane,
    /// …it is reached there.
    pub(super) address: SocketAddr,
}

/// Both ways between the addresses.
#[derive(Clone, Debug, Default)]
pub struct MediaMap {
    inside: HashMap<SocketAddr, Inside>,
    told: HashMap<(Lane, SocketAddr), SocketAddr>,
    /// Where an allocation's sockets are bound, for IPv4 and IPv6, by lane.
    homes: [Vec<IpAddr>; 2],
}

impl MediaMap {
    /// Of pairs: as told, as reached.
    pub fn new(pairs: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> MediaMap {
        let mut map = MediaMap::default();
        for (told, address) in pairs {
            if map.inside.contains_key(&told) || told.is_ipv4() != address.is_ipv4() {
                continue;
            }
            // One more than there are addresses is free.
            let mut lanes = 0..=map.told.len();
            let lane = lanes.find(|lane| !map.told.contains_key(&(*lane, address))).unwrap_or_default();
            map.told.insert((lane, address), told);
            map.inside.insert(told, Inside { lane, address });
            let homes = &mut map.homes[usize::from(told.is_ipv6())];
            if homes.len() <= lane {
                homes.push(address.ip());
            }
        }
        map
    }

    /// The addresses as clients know them.
    pub fn told(&self) -> Vec<SocketAddr> {
        self.inside.keys().copied().collect()
    }

    /// Where an allocation's socket is bound.
    pub(super) fn home(&self, is_v4: bool, lane: Lane) -> Option<IpAddr> {
        self.homes[usize::from(!is_v4)].get(lane).copied()
    }

    /// How to reach an address that clients know.
    pub(super) fn inside(&self, told: SocketAddr) -> Option<Inside> {
        self.inside.get(&told).copied()
    }

    /// How clients know an address that something came from.
    pub(super) fn outside(&self, lane: Lane, address: SocketAddr) -> Option<SocketAddr> {
        self.told.get(&(lane, address)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_one_inside_stay_apart_outside() {
        let at = |text: &str| text.parse::<SocketAddr>().expect(text);
        let (public, private) = (at("203.0.113.9:7882"), at("10.0.0.5:7882"));
        let other = at("10.0.0.5:7883");
        let map = MediaMap::new([(public, private), (private, private), (other, other)]);
        for told in [public, private, other] {
            let Inside { lane, address } = map.inside(told).expect("known");
            assert_eq!(map.outside(lane, address), Some(told));
            assert_eq!(map.home(true, lane), Some(private.ip()));
        }
        assert_eq!(map.outside(0, at("10.0.0.5:7884")), None);
        assert_eq!(map.inside(at("203.0.113.9:7883")), None);
        assert_eq!(map.home(false, 0), None);
    }
}
