//! Transport-wide feedback: what we sent, and what the other side says became of it.
//!
//! [`parse`] reads one report (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1) without allocating;
//! [`SentLog`] matches it with what was sent and gives one [`Acked`] per packet whose fate is known.
//! Always: a report costs no more than its length; one for numbers never sent, already reported or
//! forgotten changes nothing but a counter; a number is reported as arrived or as lost once, except that a
//! loss is taken back when a later report has the packet after all.
//! Not here: writing reports ([`super::feedback`]), what they mean ([`super::delay`], [`super::loss`]).

use std::time::{Duration, Instant};

use super::PacketClass;
use super::probe::ClusterId;
use crate::ids::SeqNo;
use crate::units::DataSize;

/// Packets remembered; a power of two. At 8192 packets, 5 s at 15 Mbit/s.
const LOG_LEN: usize = 8192;
/// Feedback on older packets says nothing about now.
const MAX_AGE: Duration = Duration::from_secs(5);
/// A gap is a loss after this many further reports…
const LOSS_REPORTS: u32 = 2;
/// …or this much time: before, it may be reordering.
const LOSS_AGE: Duration = Duration::from_millis(250);
/// Microseconds per tick of a receive delta (§3.1.5).
pub(super) const DELTA_US: i64 = 250;
/// Microseconds per tick of the reference time (§3.1).
pub(super) const REFERENCE_US: i64 = 64_000;

/// Why a report was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwccError {
    /// It ends before the last status or delta that it announces.
    #[error("report ends before its last delta")]
    Truncated,
    /// It reports on no packet, or uses the reserved status symbol (§3.1.1).
    #[error("report is empty or uses a reserved symbol")]
    Malformed,
    /// It reports on more packets than were in flight, or on numbers that were never sent.
    #[error("report on packets that were not sent")]
    NotSent,
}

/// One report, checked: iterating it cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwccReport<'a> {
    /// Transport-wide number of the first packet reported on.
    pub base: u16,
    /// Packets reported on, 1 to 65 535.
    pub count: u16,
    /// Units of 64 ms, modulo 2^24.
    pub reference: u32,
    /// Counts reports, modulo 256.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// Decodes one transport-wide feedback report (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
///
/// `fci` is what follows the 12 bytes of RTCP header; untrusted. The report has one entry per sequence
/// number from its base on; [`TwccReport::received`] gives those that arrived. Costs one pass over the
/// chunks, of which there is one per 2 bytes.
///
/// # Errors
/// [`TwccError::Truncated`] if `fci` ends before the last delta it announces, [`TwccError::Malformed`] if it
/// announces no packet or uses the reserved symbol. Never panics.
pub fn parse(fci: &[u8]) -> Result<TwccReport<'_>, TwccError> {
    let (header, rest) = fci.split_first_chunk::<8>().ok_or(TwccError::Truncated)?;
    let base = u16::from_be_bytes([header[0], header[1]]);
    let count = u16::from_be_bytes([header[2], header[3]]);
    let reference = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    if count == 0 {
        return Err(TwccError::Malformed);
    }
    let mut left = usize::from(count);
    let mut delta_len = 0;
    let mut chunk_len = 0;
    while left > 0 {
        let chunk = rest.get(chunk_len..chunk_len + 2).ok_or(TwccError::Truncated)?;
        chunk_len += 2;
        let chunk = Chunk(u16::from_be_bytes([chunk[0], chunk[1]]));
        let covered = chunk.len().min(left);
        delta_len += chunk.delta_len(covered).ok_or(TwccError::Malformed)?;
        left -= covered;
    }
    let (chunks, deltas) = rest.split_at(chunk_len);
    let deltas = deltas.get(..delta_len).ok_or(TwccError::Truncated)?;
    Ok(TwccReport { base, count, reference, feedback_count: header[7], chunks, deltas })
}

impl<'a> TwccReport<'a> {
    /// The packets that arrived, by number: offset from `base`, and arrival in microseconds after the
    /// reference time (which may be negative: packets may be reordered). Runs of lost ones cost nothing.
    pub fn received(&self) -> Received<'a> {
        Received {
            chunks: self.chunks,
            deltas: self.deltas,
            left: usize::from(self.count),
            chunk: Chunk(0),
            at: 0,
            len: 0,
            offset: 0,
            time: 0,
        }
    }
}

/// One status chunk (§3.1.3, §3.1.4).
#[derive(Clone, Copy, Debug)]
struct Chunk(u16);

/// Status symbols (§3.1.1).
const NOT_RECEIVED: u16 = 0;
const SMALL_DELTA: u16 = 1;
const LARGE_DELTA: u16 = 2;

impl Chunk {
    fn is_run(self) -> bool {
        self.0 & 0x8000 == 0
    }

    fn len(self) -> usize {
        if self.is_run() {
            usize::from(self.0 & 0x1fff)
        } else if self.0 & 0x4000 == 0 {
            14
        } else {
            7
        }
    }

    fn symbol(self, index: usize) -> u16 {
        if self.is_run() {
            (self.0 >> 13) & 3
        } else if self.0 & 0x4000 == 0 {
            (self.0 >> (13 - index)) & 1
        } else {
            (self.0 >> (12 - 2 * index)) & 3
        }
    }

    /// Bytes of deltas that the first `covered` symbols need; `None` for the reserved symbol and for a run
    /// of no packets, which would let a report grow without covering anything.
    fn delta_len(self, covered: usize) -> Option<usize> {
        if covered == 0 {
            return None;
        }
        if self.is_run() {
            return delta_len(self.symbol(0)).map(|len| len * covered);
        }
        (0..covered).map(|index| delta_len(self.symbol(index))).sum()
    }
}

fn delta_len(symbol: u16) -> Option<usize> {
    match symbol {
        NOT_RECEIVED => Some(0),
        SMALL_DELTA => Some(1),
        LARGE_DELTA => Some(2),
        _ => None,
    }
}

/// Iterator of [`TwccReport::received`].
#[derive(Clone, Debug)]
pub struct Received<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    left: usize, // packets not yet in `chunk`
    chunk: Chunk,
    at: usize,
    len: usize, // symbols of `chunk` that count
    offset: u16,
    time: i64,
}

impl Iterator for Received<'_> {
    type Item = (u16, i64);

    fn next(&mut self) -> Option<(u16, i64)> {
        loop {
            if self.at == self.len {
                if self.left == 0 {
                    return None;
                }
                let (bytes, rest) = self.chunks.split_first_chunk::<2>()?;
                self.chunks = rest;
                self.chunk = Chunk(u16::from_be_bytes(*bytes));
                self.len = self.chunk.len().min(self.left);
                self.left -= self.len;
                self.at = 0;
            }
            if self.chunk.is_run() && self.chunk.symbol(0) == NOT_RECEIVED {
                self.offset = self.offset.wrapping_add((self.len - self.at) as u16);
                self.at = self.len;
                continue;
            }
            let symbol = self.chunk.symbol(self.at);
            let offset = self.offset;
            self.at += 1;
            self.offset = self.offset.wrapping_add(1);
            let delta = match symbol {
                SMALL_DELTA => {
                    let (byte, rest) = self.deltas.split_first()?;
                    self.deltas = rest;
                    i64::from(*byte)
                }
                LARGE_DELTA => {
                    let (bytes, rest) = self.deltas.split_first_chunk::<2>()?;
                    self.deltas = rest;
                    i64::from(i16::from_be_bytes(*bytes))
                }
                _ => continue,
            };
            self.time += delta * DELTA_US;
            return Some((offset, self.time));
        }
    }
}

/// When a packet arrived, on the receiver's own clock: only differences mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival(i64);

impl Arrival {
    /// From microseconds after any fixed moment.
    pub const fn micros(micros: i64) -> Arrival {
        Arrival(micros)
    }

    /// Microseconds after that moment.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The time since `earlier`, or zero if that is later.
    pub fn since(self, earlier: Arrival) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

/// One packet whose fate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Its transport-wide number.
    pub number: SeqNo,
    /// When it left.
    pub sent: Instant,
    /// When it arrived; `None` if it is lost.
    pub arrival: Option<Arrival>,
    /// It had been reported lost before.
    pub late: bool,
    /// Its size on the wire.
    pub size: DataSize,
    /// What it was.
    pub class: PacketClass,
    /// The probe it was part of.
    pub cluster: Option<ClusterId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// Not in a report that went past it: since when, and the count of reports then.
    Missing(Instant, u32),
    Received,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: u64,
    sent: Instant,
    size: DataSize,
    class: PacketClass,
    cluster: Option<ClusterId>,
    fate: Fate,
}

/// What was sent lately over one transport, by transport-wide number.
#[derive(Debug)]
pub struct SentLog {
    entries: Vec<Entry>, // ring, grows to LOG_LEN once
    next: SeqNo,
    first: u64,   // oldest number whose fate may still change from unknown
    highest: u64, // one past the highest number reported as received
    reports: u32,
    reference: Option<i64>, // of the last report, unwrapped, in units of 64 ms
    ignored: u64,
}

impl Default for SentLog {
    fn default() -> Self {
        SentLog::new()
    }
}

impl SentLog {
    /// An empty log; the first number is 1.
    pub fn new() -> SentLog {
        let next = SeqNo::first(1);
        SentLog {
            entries: Vec::new(),
            next,
            first: next.value(),
            highest: next.value(),
            reports: 0,
            reference: None,
            ignored: 0,
        }
    }

    /// The number that [`SentLog::on_sent`] will give.
    pub fn next_number(&self) -> u16 {
        self.next.wire()
    }

    /// Records a packet that leaves at `now` and returns its transport-wide number. Stamp all packets of one
    /// batch alike: they are one run.
    pub fn on_sent(
        &mut self,
        now: Instant,
        size: DataSize,
        class: PacketClass,
        cluster: Option<ClusterId>,
    ) -> u16 {
        let number = self.next;
        let entry = Entry { number: number.value(), sent: now, size, class, cluster, fate: Fate::Unknown };
        if self.entries.len() < LOG_LEN {
            self.entries.push(entry);
        } else {
            let slot = self.slot(number.value());
            self.entries[slot] = entry;
        }
        self.next = number.plus(1);
        self.first = self.first.max(self.oldest());
        number.wire()
    }

    /// Reports and packets of reports that were ignored.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Whether anything sent is still without an answer.
    pub fn in_flight(&self) -> bool {
        self.highest < self.next.value()
    }

    /// Resolves what the report `fci` (see [`parse`]) tells, oldest arrival first, then losses, into `sink`,
    /// which is cleared first and may be reused.
    ///
    /// # Errors
    /// As [`parse`], and [`TwccError::NotSent`]; the log is unchanged then.
    pub fn on_feedback(&mut self, now: Instant, fci: &[u8], sink: &mut Vec<Acked>) -> Result<(), TwccError> {
        sink.clear();
        let report = parse(fci).inspect_err(|_| self.ignored += 1)?;
        let base = self.next.extend(report.base).value();
        if usize::from(report.count) > LOG_LEN || base + u64::from(report.count) > self.next.value() {
            self.ignored += 1;
            return Err(TwccError::NotSent);
        }
        let reference = self.unwrap_reference(report.reference);
        self.reports = self.reports.wrapping_add(1);
        for (offset, time) in report.received() {
            let number = base + u64::from(offset);
            let arrival = Arrival(reference * REFERENCE_US + time);
            match self.received(now, number, arrival) {
                Some(acked) => sink.push(acked),
                None => self.ignored += 1,
            }
        }
        sink.sort_unstable_by_key(|acked| (acked.arrival, acked.number));
        self.settle_losses(now, sink);
        Ok(())
    }

    fn received(&mut self, now: Instant, number: u64, arrival: Arrival) -> Option<Acked> {
        let entry = self.entry_mut(number)?;
        let fresh = now.saturating_duration_since(entry.sent) <= MAX_AGE;
        if entry.fate == Fate::Received || !fresh {
            return None;
        }
        let late = entry.fate == Fate::Lost;
        entry.fate = Fate::Received;
        let acked = acked(entry, Some(arrival), late);
        self.highest = self.highest.max(number + 1);
        Some(acked)
    }

    /// Walks over what lies before the highest number received and is not settled.
    fn settle_losses(&mut self, now: Instant, sink: &mut Vec<Acked>) {
        let (reports, highest) = (self.reports, self.highest);
        let mut all_settled = true;
        for number in self.first..highest {
            let Some(entry) = self.entry_mut(number) else { continue };
            match entry.fate {
                Fate::Received | Fate::Lost => {}
                Fate::Unknown => {
                    entry.fate = Fate::Missing(now, reports);
                    all_settled = false;
                }
                Fate::Missing(since, then)
                    if reports.wrapping_sub(then) >= LOSS_REPORTS
                        || now.saturating_duration_since(since) >= LOSS_AGE =>
                {
                    entry.fate = Fate::Lost;
                    let acked = acked(entry, None, false);
                    sink.push(acked);
                }
                Fate::Missing(..) => all_settled = false,
            }
            if all_settled {
                self.first = number + 1;
            }
        }
    }

    /// The reference time nearest to the last one: it wraps after 12 days.
    fn unwrap_reference(&mut self, wire: u32) -> i64 {
        let reference = match self.reference {
            None => i64::from(wire),
            Some(last) => {
                let step = (wire.wrapping_sub(last as u32) << 8) as i32 >> 8;
                last + i64::from(step)
            }
        };
        self.reference = Some(reference);
        reference
    }

    fn oldest(&self) -> u64 {
        self.next.value() - self.entries.len() as u64
    }

    fn slot(&self, number: u64) -> usize {
        // The ring was filled from the first number on, so slots follow from it.
        (number.wrapping_sub(SeqNo::first(1).value()) as usize) & (LOG_LEN - 1)
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        let slot = self.slot(number);
        self.entries.get_mut(slot).filter(|entry| entry.number == number)
    }
}

fn acked(entry: &Entry, arrival: Option<Arrival>, late: bool) -> Acked {
    Acked {
        number: SeqNo::first(0).plus(entry.number - SeqNo::first(0).value()),
        sent: entry.sent,
        arrival,
        late,
        size: entry.size,
        class: entry.class,
        cluster: entry.cluster,
    }
}

#[cfg(test)]
mod tests;
