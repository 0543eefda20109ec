//! RTCP (RFC 3550 §6, RFC 4585 §6, RFC 5104 §4.3.1, RFC 8888, draft-alvestrand-rmcat-remb-03): compound packets are
//! walked without allocation; a sub-packet whose body is bad is an error of its own and does not hide the rest.
//!
//! The payloads of feedback for congestion control are read by `congestion::twcc` and `congestion::ccfb`.
#![expect(
    clippy::copy_iterator,
    reason = "a list is a slice with a position; whoever copies it reads it again"
)]

mod write;

pub use write::{Writer, write_feedback_header};

use crate::ids::Ssrc;
use crate::units::{NtpTime, RtpTime};

/// Sender report.
pub const PT_SR: u8 = 200;
/// Receiver report.
pub const PT_RR: u8 = 201;
/// Source description.
pub const PT_SDES: u8 = 202;
/// Goodbye.
pub const PT_BYE: u8 = 203;
/// Transport-layer feedback.
pub const PT_RTPFB: u8 = 205;
/// Payload-specific feedback.
pub const PT_PSFB: u8 = 206;
/// Feedback format of generic NACK, and of PLI in its own type.
pub const FMT_NACK: u8 = 1;
/// Feedback format of transport-wide congestion control.
pub const FMT_TRANSPORT_CC: u8 = 15;
/// Feedback format of congestion control feedback by stream (RFC 8888 §3.1).
pub const FMT_CCFB: u8 = 11;
/// Feedback format of FIR.
pub const FMT_FIR: u8 = 4;
/// Feedback format of application layer feedback, under which REMB goes.
pub const FMT_AFB: u8 = 15;

/// Why RTCP cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtcpError {
    /// A sub-packet's header is cut, of another version, or longer than what is left: nothing behind it is read.
    #[error("RTCP sub-packet's header is bad")]
    Header,
    /// A sub-packet's body is too short for its type.
    #[error("RTCP sub-packet of type {0} ends too early")]
    Body(u8),
}

/// One report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, 24 bits with sign.
    pub cumulative_lost: i32,
    /// Extended highest sequence number received.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks of the media clock.
    pub jitter: u32,
    /// Middle 32 bits of the last SR's NTP time; 0 when none came.
    pub last_sr: u32,
    /// Time since that SR, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

/// The sender's part of an SR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall-clock time…
    pub ntp: NtpTime,
    /// …and the same moment on the media clock.
    pub rtp: RtpTime,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
}

/// One sub-packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packet<'a> {
    /// SR, with what it says of others.
    SenderReport(Ssrc, SenderInfo, Blocks<'a>),
    /// RR.
    ReceiverReport(Ssrc, Blocks<'a>),
    /// BYE: the streams that end, four bytes each.
    Bye(Words<'a>),
    /// Generic NACK for a stream of ours.
    Nack(Ssrc, Nacks<'a>),
    /// Picture loss indication for a stream of ours.
    Pli(Ssrc),
    /// Full intra request: the streams meant.
    Fir(FirEntries<'a>),
    /// Receiver estimated maximum bitrate, in bit/s.
    Remb(u64),
    /// Transport-wide feedback: its payload behind the two SSRCs.
    TransportCc(&'a [u8]),
    /// Congestion control feedback by stream: all behind the SSRC of its sender, since there is no other.
    Ccfb(&'a [u8]),
    /// Nothing that we act on.
    Other(u8),
}

/// Walks the sub-packets of a decrypted RTCP packet.
pub fn packets(compound: &[u8]) -> impl Iterator<Item = Result<Packet<'_>, RtcpError>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let head = rest.first_chunk::<4>().filter(|head| head[0] >> 6 == 2);
        let split = head.and_then(|head| {
            let len = 4 * (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1);
            rest.split_at_checked(len)
        });
        let Some((packet, tail)) = split else {
            rest = &[];
            return Some(Err(RtcpError::Header));
        };
        rest = tail;
        Some(parse(packet))
    })
}

fn parse(packet: &[u8]) -> Result<Packet<'_>, RtcpError> {
    let (count, kind) = (packet[0] & 0x1f, packet[1]);
    let short = RtcpError::Body(kind);
    let mut body = &packet[4..];
    if packet[0] & 0x20 != 0 {
        // Legal on the last sub-packet alone (RFC 3550 §6.4.1), but does no harm elsewhere. It counts itself.
        let padding = usize::from(*body.last().ok_or(short)?);
        let len = body.len().checked_sub(padding).filter(|_| padding > 0).ok_or(short)?;
        body = &body[..len];
    }
    match kind {
        PT_SR => {
            let ssrc = Ssrc(word(body, 0).ok_or(short)?);
            let info = SenderInfo {
                ntp: NtpTime(
                    u64::from(word(body, 4).ok_or(short)?) << 32 | u64::from(word(body, 8).ok_or(short)?),
                ),
                rtp: RtpTime(word(body, 12).ok_or(short)?),
                packets: word(body, 16).ok_or(short)?,
                octets: word(body, 20).ok_or(short)?,
            };
            Ok(Packet::SenderReport(ssrc, info, Blocks::new(&body[24..], count)))
        }
        PT_RR => {
            let ssrc = Ssrc(word(body, 0).ok_or(short)?);
            Ok(Packet::ReceiverReport(ssrc, Blocks::new(&body[4..], count)))
        }
        PT_BYE => Ok(Packet::Bye(Words(body.get(..4 * usize::from(count)).ok_or(short)?))),
        PT_RTPFB | PT_PSFB => {
            let media = Ssrc(word(body, 4).ok_or(short)?);
            let rest = &body[8..];
            match (kind, count) {
                (PT_RTPFB, FMT_NACK) => Ok(Packet::Nack(media, Nacks { rest, base: 0, mask: 0 })),
                (PT_RTPFB, FMT_TRANSPORT_CC) => Ok(Packet::TransportCc(rest)),
                (PT_RTPFB, FMT_CCFB) => Ok(Packet::Ccfb(&body[4..])),
                (PT_PSFB, FMT_NACK) => Ok(Packet::Pli(media)),
                (PT_PSFB, FMT_FIR) => Ok(Packet::Fir(FirEntries(rest))),
                (PT_PSFB, FMT_AFB) if rest.starts_with(b"REMB") => {
                    let value = word(rest, 4).ok_or(short)?;
                    let (exponent, mantissa) = (value >> 18 & 0x3f, u64::from(value & 0x3_ffff));
                    let widened = u128::from(mantissa) << exponent;
                    Ok(Packet::Remb(u64::try_from(widened).unwrap_or(u64::MAX)))
                }
                _ => Ok(Packet::Other(kind)),
            }
        }
        _ => Ok(Packet::Other(kind)),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// SSRCs, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words<'a>(&'a [u8]);

impl Iterator for Words<'_> {
    type Item = Ssrc;
    fn next(&mut self) -> Option<Ssrc> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(Ssrc(u32::from_be_bytes(*head)))
    }
}

/// Report blocks, as many as are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks<'a>(&'a [u8]);

impl<'a> Blocks<'a> {
    fn new(bytes: &'a [u8], count: u8) -> Self {
        let end = bytes.len().min(24 * usize::from(count));
        Blocks(&bytes[..end])
    }
}

impl Iterator for Blocks<'_> {
    type Item = ReportBlock;
    fn next(&mut self) -> Option<ReportBlock> {
        let (block, tail) = self.0.split_first_chunk::<24>()?;
        self.0 = tail;
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let lost = word(4);
        Some(ReportBlock {
            ssrc: word(0),
            fraction_lost: (lost >> 24) as u8,
            cumulative_lost: ((lost << 8) as i32) >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        })
    }
}

/// The sequence numbers of a generic NACK: a number and the mask of the 16 behind it (RFC 4585 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nacks<'a> {
    rest: &'a [u8],
    base: u16,
    mask: u16,
}

impl Iterator for Nacks<'_> {
    type Item = u16;
    fn next(&mut self) -> Option<u16> {
        if self.mask != 0 {
            let bit = self.mask.trailing_zeros() as u16;
            self.mask &= self.mask - 1;
            return Some(self.base.wrapping_add(bit + 1));
        }
        let (head, tail) = self.rest.split_first_chunk::<4>()?;
        self.rest = tail;
        self.base = u16::from_be_bytes([head[0], head[1]]);
        self.mask = u16::from_be_bytes([head[2], head[3]]);
        Some(self.base)
    }
}

/// The streams of a FIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirEntries<'a>(&'a [u8]);

impl Iterator for FirEntries<'_> {
    type Item = Ssrc;
    fn next(&mut self) -> Option<Ssrc> {
        let (entry, tail) = self.0.split_first_chunk::<8>()?;
        self.0 = tail;
        Some(Ssrc(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])))
    }
}

#[cfg(test)]
mod tests;
