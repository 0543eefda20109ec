//! Packets of data tracks, as the LiveKit SDKs write them: one message of the data channel [`CHANNEL`] each.
//!
//! A frame of the application's is cut into packets, which are numbered as those of RTP are. All numbers are big-endian:
//!
//! ```text
//!  0                   1                   2                   3
//! |Ver=0|S|F|X|     reserved      |            handle             |   S, F: first and final packet of a frame
//! |        sequence number        |         frame number          |   X: extensions follow
//! |                     timestamp, 90 kHz                         |
//! |   words - 1 (only if X)       | extensions, padded to words   |   of 4 bytes, these two bytes included
//! ```
//!
//! A server rewrites the handle and nothing else. What the extensions say (a key's index, the application's time) is for
//! clients, and so is what follows them.

use super::u16_at;
use crate::ids::DataHandle;

/// Label of the data channel, unordered and never resent.
pub const CHANNEL: &str = "_data_track";

/// Largest packet that is forwarded, in bytes: as much as lossy channels carry. SDKs cut frames into packets of 16 000.
pub const MAX_PACKET: usize = 65_536;

/// Without extensions.
const FIXED_HEADER: usize = 12;

/// What forwarding needs of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataTrackHeader {
    /// Names the track among the sender's.
    pub handle: DataHandle,
    /// The same in all packets of a frame, one more in those of the next.
    pub frame: u16,
    /// Bytes before the payload.
    pub len: usize,
}

impl DataTrackHeader {
    /// Reads the header of a packet, untrusted. `None` for another version, a handle of 0, or a header that is longer than the
    /// packet.
    pub fn parse(packet: &[u8]) -> Option<DataTrackHeader> {
        let flags = packet.first()?;
        if flags >> 5 != 0 {
            return None;
        }
        let handle = DataHandle::new(u16_at(packet, 2)?.into())?;
        let frame = u16_at(packet, 6)?;
        let extensions = match flags & 0x04 {
            0 => 0,
            _ => 4 * (usize::from(u16_at(packet, FIXED_HEADER)?) + 1),
        };
        let len = FIXED_HEADER + extensions;
        (len <= packet.len()).then_some(DataTrackHeader { handle, frame, len })
    }
}

/// Puts another handle into a packet that [`DataTrackHeader::parse`] has read.
pub fn write_handle(packet: &mut [u8], handle: DataHandle) {
    if let Some(place) = packet.get_mut(2..4) {
        place.copy_from_slice(&handle.wire().to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start and final, without extensions: handle 0x0102, sequence 3, frame 0x0405.
    const SINGLE: [u8; 15] = [0x18, 0, 1, 2, 0, 3, 4, 5, 9, 9, 9, 9, b'x', b'y', b'z'];

    /// With room for one extension of 5 bytes, and one byte of padding: two words.
    fn extended() -> Vec<u8> {
        let mut packet = SINGLE[..FIXED_HEADER].to_vec();
        packet[0] |= 0x04;
        packet.extend([0, 1, 7, 3, 1, 2, 3, 0]);
        packet
    }

    #[test]
    fn a_header_tells_handle_frame_and_where_the_payload_begins() {
        let handle = DataHandle::new(0x0102).unwrap();
        assert_eq!(DataTrackHeader::parse(&SINGLE), Some(DataTrackHeader { handle, frame: 0x0405, len: 12 }));
        let header = DataTrackHeader::parse(&extended()).unwrap();
        assert_eq!((header.handle, header.len), (handle, 20), "an empty payload is a payload");
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for len in 0..FIXED_HEADER {
            assert_eq!(DataTrackHeader::parse(&SINGLE[..len]), None, "{len} bytes");
        }
        let whole = extended();
        for len in FIXED_HEADER..whole.len() {
            assert_eq!(DataTrackHeader::parse(&whole[..len]), None, "{len} bytes");
        }
        let with = |at: usize, byte| {
            let mut packet = SINGLE;
            packet[at] = byte;
            DataTrackHeader::parse(&packet)
        };
        assert_eq!(with(0, 0x38), None, "version 1");
        assert_eq!(with(2, 0).unwrap().handle.wire(), 2);
        let mut nameless = SINGLE;
        nameless[2..4].fill(0);
        assert_eq!(DataTrackHeader::parse(&nameless), None);
    }

    #[test]
    fn a_rewritten_packet_differs_in_its_handle_only() {
        let mut packet = extended();
        write_handle(&mut packet, DataHandle::new(0xfffe).unwrap());
        assert_eq!(packet[2..4], [0xff, 0xfe]);
        packet[2..4].copy_from_slice(&[1, 2]);
        assert_eq!(packet, extended());
    }
}
