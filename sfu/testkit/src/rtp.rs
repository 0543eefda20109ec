//! RTP as a client writes and reads it, independent of the code under test (RFC 3550 §5.1, RFC 8285 §4.2).

use sfu::ids::{Mid, Rid, Ssrc};

/// Ids of the header extensions in one session; `None`: not negotiated. 1 to 14.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: Option<u8>,
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01
    pub transport_cc: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`
    pub audio_level: Option<u8>,
}

/// One RTP packet, as values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpPacket {
    /// End of a frame.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Ticks of the media clock.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: Ssrc,
    /// Media section.
    pub mid: Option<Mid>,
    /// Encoding.
    pub rid: Option<Rid>,
    /// Encoding that an RTX packet repairs.
    pub repaired_rid: Option<Rid>,
    /// Transport-wide number.
    pub transport_number: Option<u16>,
    /// Voice, and level in -dBov.
    pub audio_level: Option<(bool, u8)>,
    /// What follows the header, padding removed.
    pub payload: Vec<u8>,
}

impl RtpPacket {
    /// A packet without extensions.
    pub fn new(ssrc: Ssrc, payload_type: u8, sequence: u16, timestamp: u32, payload: Vec<u8>) -> RtpPacket {
        RtpPacket {
            marker: false,
            payload_type,
            sequence,
            timestamp,
            ssrc,
            mid: None,
            rid: None,
            repaired_rid: None,
            transport_number: None,
            audio_level: None,
            payload,
        }
    }

    /// The bytes; values whose extension has no id are left out.
    pub fn write(&self, ids: &ExtensionIds) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut add = |id: Option<u8>, value: Option<&[u8]>| {
            if let (Some(id), Some(value)) = (id, value) {
                extensions.push(id << 4 | (value.len() as u8 - 1));
                extensions.extend_from_slice(value);
            }
        };
        add(ids.mid, self.mid.as_ref().map(|mid| mid.as_str().as_bytes()));
        add(ids.rid, self.rid.as_ref().map(|rid| rid.as_str().as_bytes()));
        add(ids.repaired_rid, self.repaired_rid.as_ref().map(|rid| rid.as_str().as_bytes()));
        let number = self.transport_number.map(u16::to_be_bytes);
        add(ids.transport_cc, number.as_ref().map(|number| &number[..]));
        let level = self.audio_level.map(|(voice, level)| [u8::from(voice) << 7 | (level & 0x7f)]);
        add(ids.audio_level, level.as_ref().map(|level| &level[..]));

        let mut bytes = vec![0x80, u8::from(self.marker) << 7 | self.payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.0.to_be_bytes());
        if !extensions.is_empty() {
            extensions.resize(extensions.len().next_multiple_of(4), 0);
            bytes[0] |= 0x10;
            bytes.extend([0xbe, 0xde]);
            bytes.extend((extensions.len() as u16 / 4).to_be_bytes());
            bytes.extend(extensions);
        }
        bytes.extend(&self.payload);
        bytes
    }

    /// Reads bytes with one-byte extensions; `None` for anything that is not RTP.
    pub fn read(bytes: &[u8], ids: &ExtensionIds) -> Option<RtpPacket> {
        let header = bytes.first_chunk::<12>()?;
        let be16 = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        if header[0] >> 6 != 2 || (192..=223).contains(&header[1]) {
            return None;
        }
        let mut packet = RtpPacket::new(
            Ssrc(u32::from_be_bytes([header[8], header[9], header[10], header[11]])),
            header[1] & 0x7f,
            be16(2)?,
            u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            Vec::new(),
        );
        packet.marker = header[1] & 0x80 != 0;
        let mut at = 12 + 4 * usize::from(header[0] & 0x0f);
        if header[0] & 0x10 != 0 {
            let one_byte = be16(at)? == 0xbede;
            let len = 4 * usize::from(be16(at + 2)?);
            let block = bytes.get(at + 4..at + 4 + len)?;
            at += 4 + len;
            if one_byte {
                packet.read_extensions(block, ids)?;
            }
        }
        let padding = if header[0] & 0x20 != 0 { usize::from(*bytes.last()?) } else { 0 };
        packet.payload = bytes.get(at..bytes.len().checked_sub(padding)?)?.to_vec();
        Some(packet)
    }

    fn read_extensions(&mut self, mut block: &[u8], ids: &ExtensionIds) -> Option<()> {
        while let Some((&first, rest)) = block.split_first() {
            if first == 0 {
                block = rest;
                continue;
            }
            let value = rest.get(..usize::from(first & 0x0f) + 1)?;
            block = &rest[value.len()..];
            let id = Some(first >> 4);
            let text = || std::str::from_utf8(value).ok();
            if id == ids.mid {
                self.mid = text().and_then(Mid::parse);
            } else if id == ids.rid {
                self.rid = text().and_then(Rid::parse);
            } else if id == ids.repaired_rid {
                self.repaired_rid = text().and_then(Rid::parse);
            } else if id == ids.transport_cc {
                self.transport_number = value.first_chunk().map(|number| u16::from_be_bytes(*number));
            } else if id == ids.audio_level {
                self.audio_level = Some((value[0] & 0x80 != 0, value[0] & 0x7f));
            }
        }
        Some(())
    }
}

/// Redundant audio (RFC 2198 §3).
pub mod red {
    /// The primary block, and before it one that is so many ticks older.
    pub fn write(payload_type: u8, earlier: Option<(u16, Vec<u8>)>, primary: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some((offset, earlier)) = &earlier {
            let fields = u32::from(*offset) << 10 | earlier.len() as u32;
            bytes.push(0x80 | payload_type);
            bytes.extend(&fields.to_be_bytes()[1..]);
        }
        bytes.push(payload_type);
        bytes.extend(earlier.into_iter().flat_map(|(_, earlier)| earlier));
        bytes.extend(primary);
        bytes
    }

    /// How much older each redundant block is, in ticks; `None` if they and a primary block are not all there.
    pub fn offsets(payload: &[u8]) -> Option<Vec<u32>> {
        let (mut at, mut length, mut offsets) = (0, 0, Vec::new());
        while *payload.get(at)? & 0x80 != 0 {
            let fields = payload.get(at..at + 4)?;
            let fields = u32::from_be_bytes([0, fields[1], fields[2], fields[3]]);
            offsets.push(fields >> 10);
            length += (fields & 0x3ff) as usize;
            at += 4;
        }
        (payload.len() > at + 1 + length).then_some(offsets)
    }
}

/// What a VP8 payload begins with (RFC 7741 §4.2, RFC 6386 §9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8 {
    /// First packet of the frame's first partition.
    pub start: bool,
    /// No other frame refers to it.
    pub disposable: bool,
    /// 15 bits.
    pub picture_id: u16,
    /// Running number of base-layer frames.
    pub tl0_pic_idx: u8,
    /// Temporal layer, 0 to 3.
    pub temporal: u8,
    /// Refers to the base layer alone.
    pub sync: bool,
    /// Picture size if it is the start of a keyframe.
    pub keyframe: Option<(u16, u16)>,
}

impl Vp8 {
    /// Descriptor, and at the start of a frame its header too.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = vec![0x80 | u8::from(self.disposable) << 5 | u8::from(self.start) << 4, 0xe0];
        bytes.extend((0x8000 | self.picture_id).to_be_bytes());
        bytes.push(self.tl0_pic_idx);
        bytes.push(self.temporal << 6 | u8::from(self.sync) << 5);
        if self.start {
            bytes.extend([0x10 | u8::from(self.keyframe.is_none()), 2, 0]);
            if let Some((width, height)) = self.keyframe {
                bytes.extend([0x9d, 0x01, 0x2a]);
                bytes.extend(width.to_le_bytes());
                bytes.extend(height.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads any descriptor that has picture id, TL0PICIDX and temporal id.
    pub fn read(payload: &[u8]) -> Option<Vp8> {
        let first = *payload.first()?;
        let mut vp8 = Vp8 { start: first & 0x17 == 0x10, disposable: first & 0x20 != 0, ..Vp8::default() };
        let mut at = 1;
        let mut next = || {
            at += 1;
            payload.get(at - 1).copied()
        };
        let flags = if first & 0x80 != 0 { next()? } else { 0 };
        if flags & 0x80 != 0 {
            let high = next()?;
            vp8.picture_id =
                if high & 0x80 != 0 { u16::from_be_bytes([high & 0x7f, next()?]) } else { u16::from(high) };
        }
        if flags & 0x40 != 0 {
            vp8.tl0_pic_idx = next()?;
        }
        if flags & 0x30 != 0 {
            let byte = next()?;
            vp8.temporal = byte >> 6;
            vp8.sync = byte & 0x20 != 0;
        }
        let frame = payload.get(at..)?;
        if vp8.start && frame.first()? & 1 == 0 {
            let size = frame.get(6..10)?;
            let side = |low: u8, high: u8| u16::from_le_bytes([low, high]) & 0x3fff;
            vp8.keyframe = Some((side(size[0], size[1]), side(size[2], size[3])));
        }
        Some(vp8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redundant_blocks_are_read() {
        let bytes = red::write(111, Some((960, vec![1, 2])), &[7, 8, 9]);
        assert_eq!(bytes, [0xef, 0x0f, 0x00, 0x02, 111, 1, 2, 7, 8, 9]);
        assert_eq!(red::offsets(&bytes), Some(vec![960]));
        assert_eq!(red::offsets(&red::write(111, None, &[7])), Some(vec![]));
        assert_eq!(red::offsets(&bytes[..7]), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let ids = ExtensionIds {
            mid: Some(1),
            rid: Some(2),
            repaired_rid: Some(3),
            transport_cc: Some(4),
            audio_level: Some(5),
        };
        let vp8 = Vp8 {
            start: true,
            disposable: false,
            picture_id: 0x7abc,
            tl0_pic_idx: 200,
            temporal: 2,
            sync: true,
            keyframe: Some((1280, 720)),
        };
        let mut packet = RtpPacket::new(Ssrc(0x89ab_cdef), 96, 65_535, 7, vp8.write());
        packet.marker = true;
        packet.mid = Mid::parse("video");
        packet.rid = Rid::parse("f");
        packet.transport_number = Some(0x1234);
        packet.audio_level = Some((true, 30));
        let read = RtpPacket::read(&packet.write(&ids), &ids).expect("RTP");
        assert_eq!(read, packet);
        assert_eq!(Vp8::read(&read.payload), Some(vp8));
        let none = ExtensionIds::default();
        assert_eq!(RtpPacket::read(&packet.write(&none), &ids).expect("RTP").mid, None);
        assert_eq!(RtpPacket::read(&[0x80, 205, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &ids), None, "RTCP");
    }
}
