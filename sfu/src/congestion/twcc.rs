//! Transport-wide feedback: what we sent, and what the other side says became of it.
//!
//! [`parse`] reads one report (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1) without allocating;
//! [`SentLog`] matches it with what was sent and gives one [`Acked`] per packet whose fate is known.
//! Always: a report costs no more than its length; one for numbers never sent, already reported or
//! forgotten changes nothing but a counter; a number is reported as arrived or as lost once, except that a
//! loss is taken back when a later report has the packet after all; a report that was lost itself is no loss
//! of what it reported on.
//! Not here: writing reports ([`super::feedback`]), what they mean ([`super::delay`], [`super::loss`]).

mod report;

use std::time::{Duration, Instant};

pub(super) use self::report::DELTA_US;
pub use self::report::{Received, TwccError, TwccReport, parse};
use super::PacketClass;
use super::probe::ClusterId;
use super::wire_clock::WireClock;
use crate::ahead::look;
use crate::forward::sent::Reported;
use crate::history::{Extent, History, Remembered};
use crate::ids::SeqNo;
use crate::stats::{FeedbackRefusal, FeedbackRefusals};
use crate::units::DataSize;

/// Feedback on older packets says nothing about now.
pub(super) const MAX_AGE: Duration = Duration::from_secs(5);
/// Packets remembered at most.
const LOG_LEN: usize = 8192;
/// At its most, 5 s at 15 Mbit/s.
const EXTENT: Extent = Extent { least: 32, most: LOG_LEN, time: MAX_AGE };
/// A gap is a loss after this many further reports…
const LOSS_REPORTS: u32 = 2;
/// …or this much time: before, it may be reordering.
const LOSS_AGE: Duration = Duration::from_millis(250);

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

    /// Whether that is at most `time`: cheaper to ask, where it is asked of each packet.
    pub fn is_within(self, time: Duration, earlier: Arrival) -> bool {
        self.0.saturating_sub(earlier.0) <= time.as_micros() as i64
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
    /// It was for a report to tell that did not come.
    Untold,
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

impl Remembered for Entry {
    fn number(&self) -> u64 {
        self.number
    }

    fn since(&self) -> Instant {
        self.sent
    }
}

/// What was sent lately over one transport, by transport-wide number.
#[derive(Debug)]
pub struct SentLog {
    entries: History<Entry>,
    next: SeqNo,
    first: u64,   // oldest number whose fate may still change from unknown
    highest: u64, // one past the highest number reported as received
    covered: u64, // one past the highest number that a report was about
    reports: u32,
    report_count: Option<u8>, // of the newest report
    clock: WireClock,
    refused: FeedbackRefusals,
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
            entries: History::new(EXTENT),
            next,
            first: next.value(),
            highest: next.value(),
            covered: next.value(),
            reports: 0,
            report_count: None,
            clock: WireClock::reference_time(),
            refused: FeedbackRefusals::default(),
        }
    }

    /// The number that [`SentLog::on_sent`] will give.
    pub fn next_number(&self) -> u16 {
        self.next.wire()
    }

    /// The same, without the wrap.
    pub(super) fn next(&self) -> u64 {
        self.next.value()
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
        self.entries.insert(now, entry);
        self.next = number.plus(1);
        self.first = self.first.max(self.oldest());
        number.wire()
    }

    /// Reads ahead what the next packet needs.
    pub(super) fn ahead(&self) {
        self.entries.ahead(self.next.value());
    }

    /// Reads ahead what a report needs.
    pub(super) fn ahead_of_report(&self) {
        look(&self.reports);
        // It is about what was sent since the one before, some lines from here on.
        for step in 0..4 {
            self.entries.ahead(self.covered + 2 * step);
        }
    }

    /// What was not believed since the last call.
    pub fn take_refused(&mut self) -> FeedbackRefusals {
        std::mem::take(&mut self.refused)
    }

    /// Whether anything sent is still without an answer.
    pub fn in_flight(&self) -> bool {
        self.highest < self.next.value()
    }

    /// What the reports say of the packet with this number; nothing is known of one forgotten.
    pub fn reported(&self, number: u16) -> Reported {
        let number = self.next.extend(number).value();
        match self.entries.get(number).map(|entry| entry.fate) {
            Some(Fate::Received) => Reported::Arrived,
            Some(Fate::Missing(..) | Fate::Lost) => Reported::Missing,
            Some(Fate::Unknown | Fate::Untold) | None => Reported::Unknown,
        }
    }

    /// What has no answer yet went over a path that is no more: it is not missed, though it counts if it arrived.
    pub fn pardon(&mut self) {
        for number in self.first..self.next.value() {
            if let Some(entry) = self.entry_mut(number)
                && matches!(entry.fate, Fate::Unknown | Fate::Missing(..))
            {
                entry.fate = Fate::Untold;
            }
        }
        self.first = self.next.value();
    }

    /// Bytes of what the last reports went past without having it: lost, most likely.
    pub fn missing(&self) -> DataSize {
        let missing = |number: u64| {
            let entry = self.entries.get(number)?;
            matches!(entry.fate, Fate::Missing(..)).then_some(entry.size)
        };
        (self.first..self.highest).filter_map(missing).fold(DataSize::ZERO, |sum, size| sum + size)
    }

    /// Resolves what the report `fci` (see [`parse`]) tells, oldest arrival first, then losses, into `sink`,
    /// which is cleared first and may be reused.
    ///
    /// # Errors
    /// As [`parse`], and [`TwccError::NotSent`]; the log is unchanged then.
    pub fn on_feedback(&mut self, now: Instant, fci: &[u8], sink: &mut Vec<Acked>) -> Result<(), TwccError> {
        sink.clear();
        let report = parse(fci).inspect_err(|_| self.refuse(FeedbackRefusal::Malformed))?;
        let base = self.next.extend(report.base).value();
        if usize::from(report.count) > LOG_LEN || base + u64::from(report.count) > self.next.value() {
            self.refuse(FeedbackRefusal::NotSent);
            return Err(TwccError::NotSent);
        }
        let reference = self.clock.unwrap(now, report.reference);
        if reference.jumped {
            self.refuse(FeedbackRefusal::ClockJump);
        }
        self.begin_report();
        self.cover(&report, base);
        for (offset, time) in report.received() {
            let arrival = Arrival(reference.micros + time);
            self.receive(now, base + u64::from(offset), Some(arrival), sink);
        }
        self.conclude(now, sink);
        Ok(())
    }

    /// One more report is read.
    pub(super) fn begin_report(&mut self) {
        self.reports = self.reports.wrapping_add(1);
    }

    /// The report tells that a packet came: unless that is no news it goes into `sink`, or nowhere if nobody knows when.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        number: u64,
        arrival: Option<Arrival>,
        sink: &mut Vec<Acked>,
    ) {
        match self.received(now, number, arrival) {
            Ok(acked) if arrival.is_some() => sink.push(acked),
            Ok(_) => {}
            Err(reason) => self.refuse(reason),
        }
    }

    /// Nothing more is in the report.
    pub(super) fn conclude(&mut self, now: Instant, sink: &mut Vec<Acked>) {
        sink.sort_unstable_by_key(|acked| (acked.arrival, acked.number));
        self.settle_losses(now, sink);
    }

    /// Notes what the report is about, and what a report before it would have been about that did not come.
    fn cover(&mut self, report: &TwccReport<'_>, base: u64) {
        let step = self.report_count.map_or(1, |last| report.feedback_count.wrapping_sub(last));
        if (1..128).contains(&step) {
            self.report_count = Some(report.feedback_count);
        }
        if step > 1 {
            self.leave_untold(self.covered, base);
        }
        self.covered = self.covered.max(base + u64::from(report.count));
    }

    /// A report on the numbers from `first` to before `end` did not come: they are not missed.
    pub(super) fn leave_untold(&mut self, first: u64, end: u64) {
        for number in first.max(self.first)..end.min(self.next.value()) {
            if let Some(entry) = self.entry_mut(number).filter(|entry| entry.fate == Fate::Unknown) {
                entry.fate = Fate::Untold;
            }
        }
    }

    fn received(
        &mut self,
        now: Instant,
        number: u64,
        arrival: Option<Arrival>,
    ) -> Result<Acked, FeedbackRefusal> {
        let entry = self.entry_mut(number).ok_or(FeedbackRefusal::Old)?;
        if now.saturating_duration_since(entry.sent) > MAX_AGE {
            return Err(FeedbackRefusal::Old);
        }
        if entry.fate == Fate::Received {
            return Err(FeedbackRefusal::Repeated);
        }
        let late = entry.fate == Fate::Lost;
        entry.fate = Fate::Received;
        let acked = acked(entry, arrival, late);
        self.highest = self.highest.max(number + 1);
        Ok(acked)
    }

    /// Walks over what lies before the highest number received and is not settled.
    fn settle_losses(&mut self, now: Instant, sink: &mut Vec<Acked>) {
        let (reports, highest) = (self.reports, self.highest);
        let mut all_settled = true;
        for number in self.first..highest {
            let Some(entry) = self.entry_mut(number) else { continue };
            match entry.fate {
                Fate::Received | Fate::Lost | Fate::Untold => {}
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

    /// Counts what is not believed.
    pub(super) fn refuse(&mut self, reason: FeedbackRefusal) {
        self.refused[reason as usize] += 1;
    }

    fn oldest(&self) -> u64 {
        self.next.value() - self.entries.span()
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(number)
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
