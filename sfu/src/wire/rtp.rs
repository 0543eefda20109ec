//! The RTP header (RFC 3550 §5.1) and the retransmission payload (RFC 4588 §4).

use std::ops::Range;

use crate::ids::Ssrc;
use crate::units::RtpTime;

/// Bytes of a header without CSRCs and extension.
pub const FIXED_HEADER: usize = 12;

/// Why a datagram is not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Version is not 2.
    #[error("RTP version {0}, not 2")]
    Version(u8),
    /// It ends inside its header or padding.
    #[error("RTP packet of {0} bytes ends too early")]
    Truncated(usize),
}

/// A parsed header; ranges refer to the packet that it was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit: for video the last packet of a frame.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number as on the wire.
    pub sequence_number: u16,
    /// Media timestamp.
    pub timestamp: RtpTime,
    /// The stream.
    pub ssrc: Ssrc,
    /// The extension's profile word and the place of its elements.
    pub extension: Option<(u16, Range<usize>)>,
    /// Where the payload begins: CSRCs and extension are before it.
    pub header_len: usize,
    /// Where the payload ends: padding is behind it.
    pub payload_end: usize,
}

impl RtpHeader {
    /// Parses the header of a whole, decrypted packet.
    ///
    /// # Errors
    /// [`RtpError`] if the packet cannot be one. Never panics.
    pub fn parse(packet: &[u8]) -> Result<RtpHeader, RtpError> {
        let truncated = RtpError::Truncated(packet.len());
        let (fixed, _) = packet.split_first_chunk::<FIXED_HEADER>().ok_or(truncated)?;
        let version = fixed[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let mut header_len = FIXED_HEADER + 4 * usize::from(fixed[0] & 0x0f);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let head = packet.get(header_len..header_len + 4).ok_or(truncated)?;
            let profile = u16::from_be_bytes([head[0], head[1]]);
            let words = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let body = header_len + 4..header_len + 4 + 4 * words;
            header_len = body.end;
            extension = Some((profile, body));
        }
        let mut payload_end = packet.len();
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*packet.last().ok_or(truncated)?);
            payload_end = payload_end.checked_sub(padding).filter(|_| padding > 0).ok_or(truncated)?;
        }
        if header_len > payload_end {
            return Err(truncated);
        }
        Ok(RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: RtpTime(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ssrc: Ssrc(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            extension,
            header_len,
            payload_end,
        })
    }

    /// The payload within the packet.
    pub fn payload(&self) -> Range<usize> {
        self.header_len..self.payload_end
    }
}

/// What goes into the fixed part of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// Marker bit.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence_number: u16,
    /// Media timestamp.
    pub timestamp: RtpTime,
    /// The stream.
    pub ssrc: Ssrc,
}

impl FixedHeader {
    /// Writes the 12 bytes, without CSRCs; `extension` is the X bit. The P bit is [`pad`]'s to set.
    pub fn write(&self, out: &mut [u8; FIXED_HEADER], extension: bool) {
        out[0] = 0x80 | if extension { 0x10 } else { 0 };
        out[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        out[2..4].copy_from_slice(&self.sequence_number.to_be_bytes());
        out[4..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
    }
}

/// SSRC and sequence number of a packet; they are not encrypted. `None` if it ends before.
pub fn name(packet: &[u8]) -> Option<(Ssrc, u16)> {
    let (fixed, _) = packet.split_first_chunk::<FIXED_HEADER>()?;
    let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    Some((Ssrc(ssrc), u16::from_be_bytes([fixed[2], fixed[3]])))
}

/// Lengthens a packet without padding to `len` bytes by padding (RFC 3550 §5.1), if that takes 255 bytes at most and
/// `packet` has them. Returns the length it has then; `plain` before.
pub fn pad(packet: &mut [u8], plain: usize, len: usize) -> usize {
    let Some(padding) = len.checked_sub(plain).and_then(|padding| u8::try_from(padding).ok()) else {
        return plain;
    };
    let Some(bytes) = packet.get_mut(plain..len).filter(|bytes| !bytes.is_empty()) else { return plain };
    bytes.fill(0);
    bytes[usize::from(padding) - 1] = padding;
    packet[0] |= 0x20;
    len
}

/// Splits a retransmission's payload into the original sequence number and the original payload; `None` for
/// one of padding alone, which senders use to probe (RFC 4588 §4).
pub fn split_retransmission(payload: &[u8]) -> Option<(u16, &[u8])> {
    let (number, original) = payload.split_first_chunk::<2>()?;
    (!original.is_empty()).then_some((u16::from_be_bytes(*number), original))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACKET: [u8; 24] = [
        0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7, // P, X, one CSRC, marker, type 96
        1, 1, 1, 1, 0xbe, 0xde, 0, 0, // CSRC, empty extension
        0xaa, 0xbb, 0, 2, // payload and two bytes of padding
    ];

    #[test]
    fn every_field_is_found() {
        let header = RtpHeader::parse(&PACKET).unwrap();
        assert!(header.marker);
        assert_eq!((header.payload_type, header.sequence_number), (96, 0x1234));
        assert_eq!((header.timestamp, header.ssrc), (RtpTime(9), Ssrc(7)));
        assert_eq!(header.extension, Some((0xbede, 20..20)));
        assert_eq!(&PACKET[header.payload()], [0xaa, 0xbb]);
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for len in 0..20 {
            assert!(RtpHeader::parse(&PACKET[..len]).is_err(), "{len}");
        }
        let mut padded = PACKET;
        for padding in [0, 5, 255] {
            padded[23] = padding;
            assert_eq!(RtpHeader::parse(&padded), Err(RtpError::Truncated(24)), "padding {padding}");
        }
        assert_eq!(RtpHeader::parse(&[0; 12]), Err(RtpError::Version(0)));
    }

    #[test]
    fn a_packet_of_padding_alone_has_an_empty_payload() {
        let mut packet = [0_u8; 12 + 4];
        packet[0] = 0xa0;
        packet[15] = 4;
        assert_eq!(RtpHeader::parse(&packet).unwrap().payload(), 12..12);
        for (len, padding) in [(16, 5), (16, 0), (12, 4)] {
            packet[15] = padding;
            assert_eq!(RtpHeader::parse(&packet[..len]), Err(RtpError::Truncated(len)));
        }
    }

    #[test]
    fn a_written_header_reads_back() {
        let fixed = FixedHeader {
            marker: true,
            payload_type: 111,
            sequence_number: 65_535,
            timestamp: RtpTime(0xdead_beef),
            ssrc: Ssrc(42),
        };
        let mut out = [0; FIXED_HEADER];
        fixed.write(&mut out, false);
        let header = RtpHeader::parse(&out).unwrap();
        assert_eq!((header.marker, header.payload_type, header.sequence_number), (true, 111, 65_535));
        assert_eq!((header.timestamp, header.ssrc, header.header_len), (fixed.timestamp, fixed.ssrc, 12));
    }

    #[test]
    fn a_retransmission_of_padding_alone_is_none() {
        assert_eq!(split_retransmission(&[0x12, 0x34, 9]), Some((0x1234, &[9][..])));
        assert_eq!(split_retransmission(&[0x12, 0x34]), None);
        assert_eq!(split_retransmission(&[]), None);
    }

    #[test]
    fn padding_is_found_again_and_never_cuts_off() {
        let mut packet = [7; 300];
        FixedHeader {
            marker: true,
            payload_type: 96,
            sequence_number: 1,
            timestamp: RtpTime(2),
            ssrc: Ssrc(3),
        }
        .write(packet.first_chunk_mut().unwrap(), false);
        for (len, expected) in [(40, 40), (39, 40), (41, 41), (295, 295), (296, 40), (301, 40)] {
            let mut packet = packet;
            assert_eq!(pad(&mut packet, 40, len), expected);
            let header = RtpHeader::parse(&packet[..expected]).unwrap();
            assert_eq!(header.payload(), 12..40, "to {len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_ranges_inside_them(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(header) = RtpHeader::parse(&bytes) {
                prop_assert!(bytes.get(header.payload()).is_some());
                prop_assert!(header.extension.is_none_or(|(_, body)| bytes.get(body).is_some()));
            }
        }
    }
}
