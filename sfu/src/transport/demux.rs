//! Which protocol a datagram of a media port speaks, by its first bytes (RFC 7983 §7).
//!
//! Says what a datagram claims to be, nothing of whether it is valid: that is for the protocol's own parser.

/// The protocol that a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketClass {
    /// Connectivity checks: [`stun`](super::stun).
    Stun,
    /// Handshake and data channels: [`dtls`](super::dtls).
    Dtls,
    /// Protected media.
    Rtp,
    /// Protected media control.
    Rtcp,
}

/// RFC 8489 §5: the header alone.
const MIN_STUN: usize = 20;
/// RFC 6347 §4.1: the record header alone.
const MIN_DTLS: usize = 13;
/// RFC 3550 §5.1: the fixed header.
const MIN_RTP: usize = 12;
/// RFC 3550 §6.4.2: the header and the sender's SSRC, as in an empty receiver report.
const MIN_RTCP: usize = 8;

/// What `datagram` claims to be; `None` for what we do not speak (ZRTP, TURN channels, QUIC) and for what is
/// too short to be what its first byte says.
///
/// DTLS takes 20 to 63 as RFC 9443 §3 has it, since DTLS 1.3 records start with 32 to 63. RTCP is told from
/// RTP by the packet types 192 to 223 (RFC 5761 §4).
pub fn classify(datagram: &[u8]) -> Option<PacketClass> {
    let (class, min) = match datagram {
        [0..=3, ..] => (PacketClass::Stun, MIN_STUN),
        [20..=63, ..] => (PacketClass::Dtls, MIN_DTLS),
        [128..=191, 192..=223, ..] => (PacketClass::Rtcp, MIN_RTCP),
        [128..=191, ..] => (PacketClass::Rtp, MIN_RTP),
        _ => return None,
    };
    (datagram.len() >= min).then_some(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starting_with(first: u8, second: u8, len: usize) -> Vec<u8> {
        let mut datagram = vec![0; len];
        datagram[0] = first;
        datagram[1] = second;
        datagram
    }

    #[test]
    fn the_first_byte_decides() {
        for (first, class) in [
            (0, Some(PacketClass::Stun)),
            (3, Some(PacketClass::Stun)),
            (4, None),
            (19, None),
            (20, Some(PacketClass::Dtls)),
            (63, Some(PacketClass::Dtls)),
            (64, None),
            (127, None),
            (128, Some(PacketClass::Rtp)),
            (191, Some(PacketClass::Rtp)),
            (192, None),
            (255, None),
        ] {
            assert_eq!(classify(&starting_with(first, 96, 40)), class, "first byte {first}");
        }
    }

    #[test]
    fn rtcp_is_told_by_its_packet_type() {
        for (second, class) in [
            (191, PacketClass::Rtp),
            (192, PacketClass::Rtcp),
            (200, PacketClass::Rtcp),
            (223, PacketClass::Rtcp),
            (224, PacketClass::Rtp),
        ] {
            assert_eq!(classify(&starting_with(0x80, second, 40)), Some(class), "second byte {second}");
        }
    }

    #[test]
    fn what_is_shorter_than_its_header_is_nothing() {
        for (first, second, min) in [(0, 1, 20), (22, 254, 13), (0x80, 96, 12), (0x80, 201, 8)] {
            assert_eq!(classify(&starting_with(first, second, min - 1)), None);
            assert!(classify(&starting_with(first, second, min)).is_some());
        }
        assert_eq!(classify(&[]), None);
        assert_eq!(classify(&[0x80]), None);
    }
}
