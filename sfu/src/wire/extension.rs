//! RTP header extensions (RFC 8285): which id means what, reading and writing the elements.

use crate::ahead::look;
use crate::ids::{Mid, Rid};

/// Profile word of the one-byte form.
pub const ONE_BYTE: u16 = 0xbede;
/// Profile word of the two-byte form; its low four bits are free.
pub const TWO_BYTE: u16 = 0x1000;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $uri:literal,)*) => {
        /// An extension that we read, write or pass on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ExtensionKind { $($(#[$doc])* $name,)* }

        impl ExtensionKind {
            /// All of them.
            pub const ALL: &[ExtensionKind] = &[$(ExtensionKind::$name,)*];

            /// As in `a=extmap`.
            pub const fn uri(self) -> &'static str {
                match self { $(ExtensionKind::$name => $uri,)* }
            }

            /// The kind with this URI.
            pub fn from_uri(uri: &str) -> Option<ExtensionKind> {
                match uri { $($uri => Some(ExtensionKind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// RFC 9143 §15
    Mid = "urn:ietf:params:rtp-hdrext:sdes:mid",
    /// RFC 8852 §3.1
    Rid = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    /// RFC 8852 §3.2
    RepairedRid = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01 §2
    TransportCc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    /// libwebrtc, abs-send-time
    AbsSendTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    /// RFC 6464
    AudioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    /// RTP payload format for AV1, appendix A
    DependencyDescriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    /// libwebrtc, abs-capture-time
    AbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
    /// libwebrtc, playout-delay
    PlayoutDelay = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    /// 3GPP TS 26.114 §7.4.5
    VideoOrientation = "urn:3gpp:video-orientation",
}

/// Which id stands for which extension; the same over a whole bundle (RFC 9143 §9.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionMap {
    kinds: [Option<ExtensionKind>; 256],
    ids: [u8; ExtensionKind::ALL.len()], // 0: not negotiated
}

impl Default for ExtensionMap {
    fn default() -> Self {
        ExtensionMap { kinds: [None; 256], ids: [0; ExtensionKind::ALL.len()] }
    }
}

impl ExtensionMap {
    /// Adds one; refuses id 0 (padding), id 15 (reserved, RFC 8285 §4.2) and a second meaning for an id.
    /// Returns whether the map holds it now.
    pub fn insert(&mut self, id: u8, kind: ExtensionKind) -> bool {
        let slot = &mut self.kinds[usize::from(id)];
        if id == 0 || id == 15 || slot.is_some_and(|old| old != kind) {
            return false;
        }
        *slot = Some(kind);
        if self.ids[kind as usize] == 0 {
            self.ids[kind as usize] = id;
        }
        true
    }

    /// Reads ahead what writing extensions needs.
    pub(crate) fn ahead(&self) {
        look(&self.ids);
    }

    /// The id for `kind`, if negotiated.
    pub fn id_of(&self, kind: ExtensionKind) -> Option<u8> {
        Some(self.ids[kind as usize]).filter(|id| *id != 0)
    }

    /// What `id` stands for.
    pub fn kind_of(&self, id: u8) -> Option<ExtensionKind> {
        self.kinds[usize::from(id)]
    }
}

/// The elements of an extension block, as (id, data). Ends at the first thing that cannot be read: a length past
/// the end, the reserved id 15 of the one-byte form, id 0 with a length (RFC 8285 §4.2).
pub fn elements(profile: u16, body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let one_byte = profile == ONE_BYTE;
    let known = one_byte || profile & 0xfff0 == TWO_BYTE;
    let mut rest = if known { body } else { &[] };
    std::iter::from_fn(move || {
        loop {
            let (&first, tail) = rest.split_first()?;
            if first == 0 {
                rest = tail; // padding
                continue;
            }
            let (id, len, tail) = if one_byte {
                if matches!(first >> 4, 0 | 15) {
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f) + 1, tail)
            } else {
                let (&len, tail) = tail.split_first()?;
                (first, usize::from(len), tail)
            };
            let (data, tail) = tail.split_at_checked(len)?;
            rest = tail;
            return Some((id, data));
        }
    })
}

/// Loudness of one packet (RFC 6464 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender thinks it is voice.
    pub voice: bool,
    /// Level in -dBov: 0 is the loudest, 127 silence.
    pub dbov: u8,
}

/// The extensions of one packet, as far as we know them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    /// The media section.
    pub mid: Option<Mid>,
    /// The encoding.
    pub rid: Option<Rid>,
    /// The encoding that a retransmission repairs.
    pub repaired_rid: Option<Rid>,
    /// Transport-wide sequence number.
    pub transport_cc: Option<u16>,
    /// Loudness.
    pub audio_level: Option<AudioLevel>,
    /// Raw dependency descriptor, at least its three mandatory bytes.
    pub dependency_descriptor: Option<&'a [u8]>,
    /// Raw capture time, 8 or 16 bytes.
    pub abs_capture_time: Option<&'a [u8]>,
    /// Raw playout delay, 3 bytes.
    pub playout_delay: Option<&'a [u8]>,
    /// Raw orientation, 1 byte.
    pub video_orientation: Option<u8>,
}

impl<'a> Extensions<'a> {
    /// Reads the block of a packet. What cannot be read is left out, as if it were not there; of two elements of one
    /// kind the last that can be read counts.
    pub fn read(map: &ExtensionMap, profile: u16, body: &'a [u8]) -> Extensions<'a> {
        let text = |data: &'a [u8]| std::str::from_utf8(data).ok();
        let mut found = Extensions::default();
        for (id, data) in elements(profile, body) {
            match map.kind_of(id) {
                Some(ExtensionKind::Mid) => found.mid = text(data).and_then(Mid::parse).or(found.mid),
                Some(ExtensionKind::Rid) => found.rid = text(data).and_then(Rid::parse).or(found.rid),
                Some(ExtensionKind::RepairedRid) => {
                    found.repaired_rid = text(data).and_then(Rid::parse).or(found.repaired_rid);
                }
                Some(ExtensionKind::TransportCc) => {
                    let number = data.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
                    found.transport_cc = number.or(found.transport_cc);
                }
                Some(ExtensionKind::AudioLevel) => {
                    let level =
                        data.first().map(|byte| AudioLevel { voice: byte & 0x80 != 0, dbov: byte & 0x7f });
                    found.audio_level = level.or(found.audio_level);
                }
                Some(ExtensionKind::DependencyDescriptor) if data.len() >= 3 => {
                    found.dependency_descriptor = Some(data);
                }
                Some(ExtensionKind::AbsCaptureTime) if matches!(data.len(), 8 | 16) => {
                    found.abs_capture_time = Some(data);
                }
                Some(ExtensionKind::PlayoutDelay) if data.len() == 3 => found.playout_delay = Some(data),
                Some(ExtensionKind::VideoOrientation) => {
                    found.video_orientation = data.first().copied().or(found.video_orientation);
                }
                Some(
                    ExtensionKind::AbsSendTime
                    | ExtensionKind::AbsCaptureTime
                    | ExtensionKind::DependencyDescriptor
                    | ExtensionKind::PlayoutDelay,
                )
                | None => {}
            }
        }
        found
    }
}

/// Writes a block: head, elements, padding to whole words.
///
/// The two-byte form is taken if an id is above 14 or a length does not fit the one-byte form (1 to 16).
/// Empty `elements` write nothing. Returns the length, or `None` when it does not fit `out` or an element has
/// more than 255 bytes.
pub fn write(out: &mut [u8], elements: &[(u8, &[u8])]) -> Option<usize> {
    if elements.is_empty() {
        return Some(0);
    }
    let one_byte = elements.iter().all(|(id, data)| (1..=14).contains(id) && (1..=16).contains(&data.len()));
    let mut at = 4;
    for (id, data) in elements {
        let head: &[u8] = if one_byte {
            &[(id << 4) | (data.len() - 1) as u8]
        } else {
            &[*id, u8::try_from(data.len()).ok()?]
        };
        out.get_mut(at..at + head.len())?.copy_from_slice(head);
        at += head.len();
        out.get_mut(at..at + data.len())?.copy_from_slice(data);
        at += data.len();
    }
    let end = at.next_multiple_of(4);
    out.get_mut(at..end)?.fill(0);
    out[..2].copy_from_slice(&if one_byte { ONE_BYTE } else { TWO_BYTE }.to_be_bytes());
    out[2..4].copy_from_slice(&((end / 4 - 1) as u16).to_be_bytes());
    Some(end)
}

/// Send time for the abs-send-time extension: seconds modulo 64 as 6.18 fixed point.
pub fn abs_send_time(ntp: crate::units::NtpTime) -> [u8; 3] {
    let value = (ntp.0 >> 14) as u32;
    [(value >> 16) as u8, (value >> 8) as u8, value as u8]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map() -> ExtensionMap {
        let mut map = ExtensionMap::default();
        for (id, kind) in [(4, ExtensionKind::Mid), (10, ExtensionKind::Rid), (3, ExtensionKind::TransportCc)]
        {
            assert!(map.insert(id, kind));
        }
        map
    }

    #[test]
    fn an_id_keeps_its_meaning() {
        let mut map = map();
        assert!(!map.insert(4, ExtensionKind::Rid), "one id, two meanings");
        assert!(map.insert(4, ExtensionKind::Mid), "saying it again is no harm");
        assert!(!map.insert(0, ExtensionKind::AudioLevel));
        assert!(!map.insert(15, ExtensionKind::AudioLevel));
        assert_eq!(map.id_of(ExtensionKind::Mid), Some(4));
        assert_eq!(map.id_of(ExtensionKind::AudioLevel), None);
    }

    #[test]
    fn uris_and_kinds_match_both_ways() {
        for kind in ExtensionKind::ALL {
            assert_eq!(ExtensionKind::from_uri(kind.uri()), Some(*kind));
        }
    }

    #[test]
    fn both_forms_read_back() {
        let long = [7_u8; 17];
        for elements in
            [&[(4, &b"0"[..]), (10, b"hi"), (3, &[1, 2])][..], &[(4, b"0"), (3, &[1, 2]), (200, &long)]]
        {
            let mut out = [0xff; 64];
            let len = write(&mut out, elements).unwrap();
            assert_eq!(len % 4, 0);
            let profile = u16::from_be_bytes([out[0], out[1]]);
            assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])) * 4 + 4, len);
            let read: Vec<_> = super::elements(profile, &out[4..len]).collect();
            assert_eq!(read, elements);
            let extensions = Extensions::read(&map(), profile, &out[4..len]);
            assert_eq!(extensions.mid, Mid::parse("0"));
            assert_eq!(extensions.transport_cc, Some(0x0102));
        }
    }

    /// RFC 8285 §4.2: padding may stand between elements.
    #[test]
    fn one_byte_elements_with_padding_between_them() {
        let body = [0x10, 0xaa, 0x21, 0xb0, 0xb1, 0x00, 0x00, 0x33, 1, 2, 3, 4];
        let read: Vec<_> = elements(ONE_BYTE, &body).collect();
        assert_eq!(read, [(1, &[0xaa][..]), (2, &[0xb0, 0xb1]), (3, &[1, 2, 3, 4])]);
    }

    /// RFC 8285 §4.3: an empty element, then one and four bytes.
    #[test]
    fn two_byte_elements_may_be_empty_or_long() {
        let body = [1, 0, 2, 1, 0xbb, 0, 200, 4, 1, 2, 3, 4];
        for profile in [0x1000, 0x100f] {
            let read: Vec<_> = elements(profile, &body).collect();
            assert_eq!(read, [(1, &[][..]), (2, &[0xbb]), (200, &[1, 2, 3, 4])]);
        }
        assert_eq!(elements(0x2000, &body).count(), 0, "not a profile of RFC 8285");
    }

    #[test]
    fn reading_stops_at_what_cannot_be_read() {
        let first = (1, &[0xaa][..]);
        for body in [
            &[0x10, 0xaa, 0xf0, 0x00, 0x10, 0xbb][..], // 15 is reserved
            &[0x10, 0xaa, 0x01, 0x00, 0x10, 0xbb],     // 0 with a length
            &[0x10, 0xaa, 0x23, 1, 2, 3],              // one byte short
        ] {
            assert_eq!(elements(ONE_BYTE, body).collect::<Vec<_>>(), [first]);
        }
        for body in [&[1, 1, 0xaa, 2][..], &[1, 1, 0xaa, 2, 255, 0]] {
            assert_eq!(elements(TWO_BYTE, body).collect::<Vec<_>>(), [first]);
        }
    }

    #[test]
    fn a_value_that_breaks_its_format_does_not_hide_one_that_keeps_it() {
        let mut map = ExtensionMap::default();
        for (id, kind) in (1..).zip(ExtensionKind::ALL) {
            assert!(map.insert(id, *kind));
        }
        let id = |kind| map.id_of(kind).unwrap();
        let mut out = [0; 128];
        let written = [
            (id(ExtensionKind::Mid), &b"0"[..]),
            (id(ExtensionKind::Rid), b"f"),
            (id(ExtensionKind::RepairedRid), b"h"),
            (id(ExtensionKind::TransportCc), &[0x12, 0x34]),
            (id(ExtensionKind::AudioLevel), &[0x9e]),
            (id(ExtensionKind::DependencyDescriptor), &[0xc0, 0, 7]),
            (id(ExtensionKind::VideoOrientation), &[1]),
            (id(ExtensionKind::PlayoutDelay), &[0, 0]), // one byte short
            (id(ExtensionKind::Mid), b"not a token"),
            (id(ExtensionKind::TransportCc), &[1]),
            (id(ExtensionKind::AudioLevel), &[]),
            (id(ExtensionKind::DependencyDescriptor), &[0xc0, 0]),
        ];
        let len = write(&mut out, &written).unwrap();
        let expected = Extensions {
            mid: Mid::parse("0"),
            rid: Rid::parse("f"),
            repaired_rid: Rid::parse("h"),
            transport_cc: Some(0x1234),
            audio_level: Some(AudioLevel { voice: true, dbov: 30 }),
            dependency_descriptor: Some(&[0xc0, 0, 7]),
            video_orientation: Some(1),
            ..Extensions::default()
        };
        assert_eq!(Extensions::read(&map, TWO_BYTE, &out[4..len]), expected);
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        assert_eq!(write(&mut [0; 7], &[(1, &[1, 2, 3, 4])]), None);
        assert_eq!(write(&mut [0; 4], &[]), Some(0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(profile: u16, body in proptest::collection::vec(any::<u8>(), 0..64)) {
            for profile in [profile, ONE_BYTE, TWO_BYTE] {
                let total: usize = elements(profile, &body).map(|(_, data)| data.len()).sum();
                prop_assert!(total <= body.len());
                let _ = Extensions::read(&map(), profile, &body);
            }
        }
    }
}
