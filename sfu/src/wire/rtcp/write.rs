//! Writing RTCP into a buffer that the caller owns.

use super::{FMT_FIR, FMT_NACK, PT_BYE, PT_PSFB, PT_RR, PT_RTPFB, PT_SDES, PT_SR, ReportBlock, SenderInfo};
use crate::ids::Ssrc;

/// Report blocks that one report can carry (5 bits).
const MAX_BLOCKS: usize = 31;

/// Appends sub-packets to a buffer. A sub-packet that does not fit is left out whole, and its writer says `false`.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Writer { out, len: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// SR; at most 31 blocks are taken.
    pub fn sender_report(&mut self, ssrc: Ssrc, info: &SenderInfo, blocks: &[ReportBlock]) -> bool {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        self.packet(blocks.len() as u8, PT_SR, 24 + 24 * blocks.len(), |body| {
            body.word(ssrc.0);
            body.word((info.ntp.0 >> 32) as u32);
            body.word(info.ntp.0 as u32);
            body.word(info.rtp.0);
            body.word(info.packets);
            body.word(info.octets);
            body.blocks(blocks);
        })
    }

    /// RR; at most 31 blocks are taken.
    pub fn receiver_report(&mut self, ssrc: Ssrc, blocks: &[ReportBlock]) -> bool {
        let blocks = &blocks[..blocks.len().min(MAX_BLOCKS)];
        self.packet(blocks.len() as u8, PT_RR, 4 + 24 * blocks.len(), |body| {
            body.word(ssrc.0);
            body.blocks(blocks);
        })
    }

    /// SDES with the CNAME alone, of at most 255 bytes.
    pub fn source_description(&mut self, ssrc: Ssrc, cname: &str) -> bool {
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        // At least one zero byte ends the list of items (RFC 3550 §6.5).
        let len = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        self.packet(1, PT_SDES, len, |body| {
            body.word(ssrc.0);
            body.bytes(&[1, cname.len() as u8]);
            body.bytes(cname);
        })
    }

    /// BYE for one stream.
    pub fn bye(&mut self, ssrc: Ssrc) -> bool {
        self.packet(1, PT_BYE, 4, |body| body.word(ssrc.0))
    }

    /// Generic NACK; `lost` ascending (modulo wrap), at most as many as fit.
    pub fn nack(&mut self, sender: Ssrc, media: Ssrc, lost: &[u16]) -> bool {
        let pairs = || {
            let mut rest = lost;
            std::iter::from_fn(move || {
                let (&base, tail) = rest.split_first()?;
                let near = tail.iter().take_while(|seq| (1..=16).contains(&seq.wrapping_sub(base))).count();
                let mask =
                    tail[..near].iter().fold(0_u16, |mask, seq| mask | 1 << (seq.wrapping_sub(base) - 1));
                rest = &tail[near..];
                Some((base, mask))
            })
        };
        let room = self.out.len().saturating_sub(self.len + 12) / 4;
        let count = pairs().count().min(room);
        if count == 0 {
            return false;
        }
        self.packet(FMT_NACK, PT_RTPFB, 8 + 4 * count, |body| {
            body.word(sender.0);
            body.word(media.0);
            for (base, mask) in pairs().take(count) {
                body.word(u32::from(base) << 16 | u32::from(mask));
            }
        })
    }

    /// Picture loss indication.
    pub fn pli(&mut self, sender: Ssrc, media: Ssrc) -> bool {
        self.packet(FMT_NACK, PT_PSFB, 8, |body| {
            body.word(sender.0);
            body.word(media.0);
        })
    }

    /// Full intra request for one stream; `number` grows by one for each new request.
    pub fn fir(&mut self, sender: Ssrc, media: Ssrc, number: u8) -> bool {
        self.packet(FMT_FIR, PT_PSFB, 16, |body| {
            body.word(sender.0);
            body.word(0); // RFC 5104 §4.3.1.2: the media SSRC is in the entry
            body.word(media.0);
            body.word(u32::from(number) << 24);
        })
    }

    /// Receiver estimated maximum bitrate for these streams.
    pub fn remb(&mut self, sender: Ssrc, bits_per_second: u64, media: &[Ssrc]) -> bool {
        let media = &media[..media.len().min(255)];
        let exponent = (64 - bits_per_second.leading_zeros()).saturating_sub(18);
        let mantissa = (bits_per_second >> exponent) as u32;
        self.packet(super::FMT_AFB, PT_PSFB, 16 + 4 * media.len(), |body| {
            body.word(sender.0);
            body.word(0);
            body.bytes(b"REMB");
            body.word((media.len() as u32) << 24 | exponent << 18 | mantissa);
            for ssrc in media {
                body.word(ssrc.0);
            }
        })
    }

    fn packet(&mut self, count: u8, kind: u8, body_len: usize, fill: impl FnOnce(&mut Body<'_>)) -> bool {
        let end = self.len + 4 + body_len;
        let Some(packet) = self.out.get_mut(self.len..end) else { return false };
        packet[..4].copy_from_slice(&header(count, kind, body_len));
        packet[4..].fill(0);
        fill(&mut Body { out: &mut packet[4..], at: 0 });
        self.len = end;
        true
    }
}

/// Header and SSRCs of a feedback packet whose payload of `fci_len` bytes (a multiple of 4) follows.
pub fn write_feedback_header(kind: u8, format: u8, sender: Ssrc, media: Ssrc, fci_len: usize) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&header(format, kind, 8 + fci_len));
    out[4..8].copy_from_slice(&sender.0.to_be_bytes());
    out[8..].copy_from_slice(&media.0.to_be_bytes());
    out
}

fn header(count: u8, kind: u8, body_len: usize) -> [u8; 4] {
    debug_assert_eq!(body_len % 4, 0);
    let [high, low] = ((body_len / 4) as u16).to_be_bytes();
    [0x80 | count, kind, high, low]
}

struct Body<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Body<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn blocks(&mut self, blocks: &[ReportBlock]) {
        for block in blocks {
            self.word(block.ssrc);
            let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
            self.word(u32::from(block.fraction_lost) << 24 | lost);
            self.word(block.highest_sequence);
            self.word(block.jitter);
            self.word(block.last_sr);
            self.word(block.delay_since_last_sr);
        }
    }
}
