//! Transport-wide feedback for publishers: which of their packets arrived, and when.
//!
//! Written as draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1 has it: one whole RTCP packet per
//! report, every 50 ms (100 ms at low rates), at once when many packets are missing.
//! Always: reports follow each other without a gap in numbers, so that the publisher learns of every loss; a
//! packet that comes late is reported again with its neighbours; memory and report size are bounded
//! whatever numbers arrive.
//! Not here: reading reports ([`super::twcc`]), those by stream ([`super::ccfb`]), NACK (`uplink`).

use std::time::{Duration, Instant};

use super::twcc::DELTA_US;
use crate::ids::{SeqNo, Ssrc};
use crate::wire::rtcp::{FMT_TRANSPORT_CC, PT_RTPFB, write_feedback_header};

/// Numbers remembered; a power of two. A publisher at 20 Mbit/s sends about 210 packets in 100 ms.
const SPAN: u64 = 4096;
/// A packet this much older than the newest is not worth a report.
const LATE: i64 = SPAN as i64 / 2;
/// Time between reports.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);
/// The same at less than [`SLOW_BYTES`] per [`INTERVAL`].
pub(super) const SLOW_INTERVAL: Duration = Duration::from_millis(100);
/// 300 kbit/s.
pub(super) const SLOW_BYTES: u64 = 300_000 / 8 / 20;
/// A jump of more numbers than this is reported at once: it may be loss.
pub(super) const GAP: i64 = 10;
/// RTCP header and the two SSRCs (RFC 4585 §6.1), then the fixed part of the report.
const HEADER: usize = 12 + 8;
/// Symbols of a vector chunk with two bits each (§3.1.4).
const VECTOR: usize = 7;
/// Longest run of a run-length chunk (§3.1.3).
const LONGEST_RUN: usize = 0x1fff;
/// Least buffer: header, one chunk, one delta, and room.
const MIN_BUFFER: usize = 64;
/// No arrival.
const NEVER: u32 = u32::MAX;

const NOT_RECEIVED: u8 = 0;
const SMALL_DELTA: u8 = 1;
const LARGE_DELTA: u8 = 2;

/// Records what arrived from one publisher transport.
#[derive(Debug)]
pub struct FeedbackRecorder {
    origin: Instant,
    arrivals: Vec<u32>, // ring over the SPAN numbers before `end`: ticks of 250 us after origin, modulo 2^32
    symbols: Vec<u8>,   // of the report being written; reused
    base: SeqNo,        // first number of the next report
    end: SeqNo,         // one past the highest received
    unreported: u32,
    bytes: u64, // since the last report
    reported: Option<Instant>,
    urgent: bool,
    count: u8,
}

impl FeedbackRecorder {
    /// Nothing received. `now` only has to be no later than the first arrival.
    pub fn new(now: Instant) -> FeedbackRecorder {
        FeedbackRecorder {
            origin: now,
            arrivals: Vec::new(),
            symbols: Vec::new(),
            base: SeqNo::first(0),
            end: SeqNo::first(0),
            unreported: 0,
            bytes: 0,
            reported: None,
            urgent: false,
            count: 0,
        }
    }

    /// A packet with transport-wide number `number` and `size` bytes arrived. Duplicates and packets more
    /// than 2048 numbers late are ignored.
    pub fn on_received(&mut self, now: Instant, number: u16, size: usize) {
        self.bytes = self.bytes.saturating_add(size as u64);
        let number = if self.arrivals.is_empty() {
            self.arrivals.resize(SPAN as usize, NEVER);
            self.symbols.reserve(SPAN as usize);
            self.reported = Some(now);
            let number = SeqNo::first(number);
            (self.base, self.end) = (number, number);
            number
        } else {
            self.end.extend(number)
        };
        let ahead = number.distance(self.end);
        if ahead >= LATE {
            // A new life of the publisher, or an attack: start over from here.
            self.arrivals.fill(NEVER);
            self.unreported = 0;
            (self.base, self.end) = (number, number.plus(1));
        } else if ahead >= 0 {
            self.urgent |= ahead > GAP;
            for step in 0..=ahead as u64 {
                self.arrivals[slot(self.end.plus(step))] = NEVER;
            }
            self.end = number.plus(1);
        } else if ahead < -LATE {
            return;
        }
        let span = self.end.distance(self.base);
        if span > LATE {
            self.base = self.base.plus((span - LATE) as u64);
        }
        if self.arrivals[slot(number)] != NEVER {
            return;
        }
        let ticks = now.saturating_duration_since(self.origin).as_micros() as i64 / DELTA_US;
        self.arrivals[slot(number)] = if ticks as u32 == NEVER { 0 } else { ticks as u32 };
        self.unreported += 1;
        if number < self.base {
            self.base = number;
        }
    }

    /// When the next report is due; `None` while nothing is to be reported.
    pub fn next_timeout(&self) -> Option<Instant> {
        let last = self.reported.filter(|_| self.unreported > 0)?;
        if self.urgent || i64::from(self.unreported) > LATE / 2 {
            return Some(last);
        }
        Some(last + if self.bytes < SLOW_BYTES { SLOW_INTERVAL } else { INTERVAL })
    }

    /// Writes one RTCP packet (PT 205, FMT 15) into `buf` if a report is due, and returns its length.
    ///
    /// `sender` is our own SSRC, `media` any of the publisher's. A report that does not fit `buf` (which
    /// should have 1200 bytes, and must have 64) is cut, and its rest due at once: call until `None`.
    pub fn write(&mut self, now: Instant, buf: &mut [u8], sender: Ssrc, media: Ssrc) -> Option<usize> {
        if self.next_timeout().is_none_or(|at| at > now) || buf.len() < MIN_BUFFER {
            return None;
        }
        let base = self.base;
        let total = self.end.distance(base).clamp(0, LATE + 1) as u64;
        let first = (0..total).map(|i| self.arrivals[slot(base.plus(i))]).find(|&ticks| ticks != NEVER)?;
        let reference = first >> 8; // 256 ticks of 250 us are 64 ms, and 32 bits become 24
        self.choose_symbols(base, total, reference, buf.len());

        let mut at = HEADER;
        let mut rest = &self.symbols[..];
        while let Some(&symbol) = rest.first() {
            let run = rest.iter().take_while(|&&other| other == symbol).count().min(LONGEST_RUN);
            let (chunk, covered) = if run >= VECTOR || run == rest.len() {
                (u16::from(symbol) << 13 | run as u16, run)
            } else {
                let covered = rest.len().min(VECTOR);
                let bits = rest[..covered].iter().enumerate();
                (bits.fold(0xc000, |chunk, (i, &s)| chunk | u16::from(s) << (12 - 2 * i)), covered)
            };
            buf[at..at + 2].copy_from_slice(&chunk.to_be_bytes());
            at += 2;
            rest = &rest[covered..];
        }
        let mut last = reference << 8;
        for (offset, &symbol) in self.symbols.iter().enumerate() {
            if symbol == NOT_RECEIVED {
                continue;
            }
            let ticks = self.arrivals[slot(base.plus(offset as u64))];
            let delta = ticks.wrapping_sub(last) as i32;
            last = ticks;
            if symbol == SMALL_DELTA {
                buf[at] = delta as u8;
                at += 1;
            } else {
                buf[at..at + 2].copy_from_slice(&(delta as i16).to_be_bytes());
                at += 2;
            }
        }
        let covered = self.symbols.len() as u64;
        let padding = at.wrapping_neg() % 4;
        let len = at + padding;
        buf[at..len].fill(0);
        if padding > 0 {
            buf[len - 1] = padding as u8; // RFC 3550 §6.4.1: the last byte counts the padding
        }
        let header = write_feedback_header(PT_RTPFB, FMT_TRANSPORT_CC, sender, media, len - 12);
        buf[..12].copy_from_slice(&header);
        if padding > 0 {
            buf[0] |= 0x20;
        }
        buf[12..14].copy_from_slice(&base.wire().to_be_bytes());
        buf[14..16].copy_from_slice(&(covered as u16).to_be_bytes());
        buf[16..20].copy_from_slice(&(reference << 8 | u32::from(self.count)).to_be_bytes());

        self.count = self.count.wrapping_add(1);
        self.base = base.plus(covered);
        let left = self.end.distance(self.base).max(0) as u64;
        let left = (0..left).filter(|&i| self.arrivals[slot(self.base.plus(i))] != NEVER).count();
        self.unreported = left as u32;
        self.urgent = left > 0;
        self.bytes = 0;
        self.reported = Some(now);
        Some(len)
    }

    /// Fills `symbols` with as many numbers as fit, up to the last one received.
    fn choose_symbols(&mut self, base: SeqNo, total: u64, reference: u32, room: usize) {
        self.symbols.clear();
        let mut last = reference << 8;
        let mut deltas = 0;
        for offset in 0..total {
            let ticks = self.arrivals[slot(base.plus(offset))];
            let delta = ticks.wrapping_sub(last) as i32;
            let symbol = match delta {
                _ if ticks == NEVER => NOT_RECEIVED,
                0..=255 => SMALL_DELTA,
                _ if i16::try_from(delta).is_ok() => LARGE_DELTA,
                _ => break, // more than 8 s apart: the next report has its own reference
            };
            // Worst case of the chunks: none of them a run. Three bytes of padding may follow.
            let chunks = (self.symbols.len() + 1).div_ceil(VECTOR) * 2;
            if HEADER + chunks + deltas + usize::from(symbol) + 3 > room {
                break;
            }
            deltas += usize::from(symbol);
            self.symbols.push(symbol);
            if symbol != NOT_RECEIVED {
                last = ticks;
            }
        }
    }
}

fn slot(number: SeqNo) -> usize {
    (number.value() & (SPAN - 1)) as usize
}

#[cfg(test)]
mod tests;
