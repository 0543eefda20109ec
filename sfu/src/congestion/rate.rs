//! Delivered and sent rates, of the same packets.
//!
//! Always: memory is bounded; what counts as proven is never above what was sent over a comparable time, so a
//! forged report in which everything arrives at once gains nothing.
//! Not here: what follows from them ([`super::target`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::twcc::{Acked, Arrival};
use crate::ahead::look;
use crate::units::{Bitrate, DataSize};

/// Window of the delivered rate in general…
pub const WINDOW: Duration = Duration::from_millis(300);
/// …and where a cliff must be seen at once.
pub const SHORT_WINDOW: Duration = Duration::from_millis(150);
/// Samples kept; at 1200 bytes, 300 ms of 65 Mbit/s. Above, the window is shorter.
const SAMPLES: usize = 2048;
/// How long the highest delivered rate is remembered as proven.
const PROVEN_FOR: Duration = Duration::from_secs(30);
/// How long it bounds the growth of the target.
const RECENT_FOR: Duration = Duration::from_secs(5);
/// Window of what we send.
const SENT_WINDOW: Duration = Duration::from_millis(500);
/// Below this share of the target over the window, the application limits the rate, not the path.
const APPLICATION_LIMITED: f64 = 0.80;

#[derive(Clone, Copy, Debug)]
struct Sample {
    sent: u64, // microseconds since the meter's beginning
    arrival: Arrival,
    size: DataSize,
}

/// A rate measured over one window, on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// By arrival time.
    pub delivered: Bitrate,
    /// The same packets by send time.
    pub sent: Bitrate,
}

impl Measured {
    /// What the path has shown to carry: no more than was sent, whatever the arrival times say.
    pub fn proven(self) -> Bitrate {
        self.delivered.min(self.sent)
    }
}

/// Meters of one transport.
#[derive(Debug)]
pub struct RateMeter {
    origin: Instant,
    samples: VecDeque<Sample>,
    measured: Option<Measured>,
    short: Option<Measured>,
    first: Option<Arrival>,
    recent: MaxOver,
    proven: MaxOver,
    sending: SentMeter,
    padding: SentMeter, // its part of it
}

impl RateMeter {
    /// Nothing measured yet.
    pub fn new(now: Instant) -> RateMeter {
        RateMeter {
            origin: now,
            samples: VecDeque::new(),
            measured: None,
            short: None,
            first: None,
            recent: MaxOver::new(now, RECENT_FOR),
            proven: MaxOver::new(now, PROVEN_FOR),
            sending: SentMeter::new(now),
            padding: SentMeter::new(now),
        }
    }

    /// A packet left.
    pub fn on_sent(&mut self, now: Instant, size: DataSize) {
        self.sending.add(now, size);
    }

    /// Reads ahead what the next packet needs.
    pub(super) fn ahead(&self) {
        look(&self.sending.current);
        look(&self.sending.buckets[(self.sending.current % 10) as usize]);
    }

    /// Reads ahead what a report needs.
    pub(super) fn ahead_of_report(&self) {
        look(&self.measured.is_some());
        look(&self.recent.current);
        look(&self.proven.current);
        if let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) {
            look(&first.arrival);
            look(&last.arrival);
        }
    }

    /// The same packet was sent to probe with, and for nothing else.
    pub fn on_padding(&mut self, now: Instant, size: DataSize) {
        self.padding.add(now, size);
    }

    /// What is being sent now.
    pub fn sending(&mut self, now: Instant) -> Bitrate {
        self.sending.rate(now)
    }

    /// Whether so much less than `target` is sent that the path is not asked for it.
    pub fn application_limited(&mut self, now: Instant, target: Bitrate) -> bool {
        self.sending(now) < target.scale(APPLICATION_LIMITED)
    }

    /// Whether it would be, but for what probes add.
    pub fn padded(&mut self, now: Instant, target: Bitrate) -> bool {
        self.sending(now).saturating_sub(self.padding.rate(now)) < target.scale(APPLICATION_LIMITED)
    }

    /// Packets of one report, in order of arrival; `calm`: no queue stands, so what arrives is proven.
    pub fn on_acked(&mut self, now: Instant, acked: &[Acked], calm: bool) {
        for acked in acked {
            let Some(arrival) = acked.arrival else { continue };
            self.first.get_or_insert(arrival);
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            let sent = acked.sent.saturating_duration_since(self.origin).as_micros() as u64;
            self.samples.push_back(Sample { sent, arrival, size: acked.size });
        }
        let Some(latest) = self.samples.back().map(|sample| sample.arrival) else { return };
        // A receiver whose clock jumped back would keep old samples for ever.
        let stale = |sample: &Sample| !latest.is_within(WINDOW, sample.arrival) || sample.arrival > latest;
        while self.samples.front().is_some_and(stale) {
            self.samples.pop_front();
        }
        (self.short, self.measured) = self.measure();
        if let Some(measured) = self.measured {
            self.recent.add(now, measured.proven());
            if calm {
                self.proven.add(now, measured.proven());
            }
        }
    }

    /// Rates over the last [`WINDOW`] of arrivals; `None` before one window has passed.
    pub fn measured(&self) -> Option<Measured> {
        self.measured
    }

    /// The same over [`SHORT_WINDOW`].
    pub fn measured_lately(&self) -> Option<Measured> {
        self.short
    }

    /// Rates over the last [`SHORT_WINDOW`] and over the last [`WINDOW`] of arrivals, once so much time has passed.
    fn measure(&self) -> (Option<Measured>, Option<Measured>) {
        let (Some(latest), Some(begun)) = (self.samples.back().map(|sample| sample.arrival), self.first)
        else {
            return (None, None);
        };
        let mut short = None;
        let mut sum = Sum { size: DataSize::ZERO, first: u64::MAX, last: 0 };
        // By arrival, but for what overtook the report before.
        for sample in self.samples.iter().rev() {
            if short.is_none() && !latest.is_within(SHORT_WINDOW, sample.arrival) {
                short = Some(sum);
            }
            if !latest.is_within(WINDOW, sample.arrival) {
                break;
            }
            sum.size += sample.size;
            (sum.first, sum.last) = (sum.first.min(sample.sent), sum.last.max(sample.sent));
        }
        let over = |sum: Sum, window: Duration| (latest.since(begun) >= window).then(|| sum.over(window));
        (over(short.unwrap_or(sum), SHORT_WINDOW), over(sum, WINDOW))
    }

    /// Highest delivered rate of the last 5 s.
    pub fn recent_max(&self, now: Instant) -> Bitrate {
        self.recent.get(now)
    }

    /// Highest rate of the last 30 s that was delivered without a queue.
    pub fn proven(&self, now: Instant) -> Bitrate {
        self.proven.get(now)
    }

    /// A probe proved `rate`.
    pub fn prove(&mut self, now: Instant, rate: Bitrate) {
        self.proven.add(now, rate);
        self.recent.add(now, rate);
    }

    /// The path got narrower: what was proven before is not any more.
    pub fn disprove(&mut self, now: Instant) {
        self.proven = MaxOver::new(now, PROVEN_FOR);
    }
}

/// Samples taken together, one at least.
#[derive(Clone, Copy)]
struct Sum {
    size: DataSize,
    first: u64, // sent, microseconds since the meter's beginning
    last: u64,
}

impl Sum {
    fn over(self, window: Duration) -> Measured {
        let sent = Duration::from_micros(self.last.saturating_sub(self.first)).max(window / 4);
        Measured { delivered: Bitrate::of(self.size, window), sent: Bitrate::of(self.size, sent) }
    }
}

/// Maximum over a sliding time, in eight buckets.
#[derive(Debug)]
struct MaxOver {
    bucket: Duration,
    origin: Instant,
    current: u64,
    buckets: [Bitrate; 8],
}

impl MaxOver {
    fn new(now: Instant, time: Duration) -> MaxOver {
        MaxOver { bucket: time / 8, origin: now, current: 0, buckets: [Bitrate::ZERO; 8] }
    }

    fn index(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.origin).as_micros() / self.bucket.as_micros().max(1)) as u64
    }

    fn add(&mut self, now: Instant, rate: Bitrate) {
        let index = self.index(now).max(self.current);
        let passed = (index - self.current).min(8);
        for step in 0..passed {
            self.buckets[((index - step) % 8) as usize] = Bitrate::ZERO;
        }
        self.current = index;
        let bucket = &mut self.buckets[(index % 8) as usize];
        *bucket = rate.max(*bucket);
    }

    fn get(&self, now: Instant) -> Bitrate {
        let passed = self.index(now).saturating_sub(self.current);
        let kept = (0..8_u64.saturating_sub(passed)).map(|age| {
            let index = self.current.checked_sub(age)?;
            Some(self.buckets[(index % 8) as usize])
        });
        kept.flatten().max().unwrap_or(Bitrate::ZERO)
    }
}

/// Bytes sent in the last 500 ms, in ten buckets.
#[derive(Debug)]
struct SentMeter {
    origin: Instant,
    current: u64,
    buckets: [DataSize; 10],
}

impl SentMeter {
    fn new(now: Instant) -> SentMeter {
        SentMeter { origin: now, current: 0, buckets: [DataSize::ZERO; 10] }
    }

    fn advance(&mut self, now: Instant) {
        let index = (now.saturating_duration_since(self.origin).as_millis() / 50) as u64;
        let passed = index.saturating_sub(self.current).min(10);
        for step in 0..passed {
            self.buckets[((index - step) % 10) as usize] = DataSize::ZERO;
        }
        self.current = self.current.max(index);
    }

    fn add(&mut self, now: Instant, size: DataSize) {
        self.advance(now);
        self.buckets[(self.current % 10) as usize] += size;
    }

    fn rate(&mut self, now: Instant) -> Bitrate {
        self.advance(now);
        let total = self.buckets.iter().fold(DataSize::ZERO, |sum, &size| sum + size);
        Bitrate::of(total, SENT_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::PacketClass;
    use crate::ids::SeqNo;

    fn acked(start: Instant, sent_ms: u64, arrival_ms: i64, bytes: u64) -> Acked {
        Acked {
            number: SeqNo::first(1),
            sent: start + Duration::from_millis(sent_ms),
            arrival: Some(Arrival::micros(arrival_ms * 1000)),
            late: false,
            size: DataSize::bytes(bytes),
            class: PacketClass::Video,
            cluster: None,
        }
    }

    #[test]
    fn a_slower_path_shows_in_the_difference_of_sent_and_delivered() {
        let start = sfu_testkit::clock::start();
        let mut meter = RateMeter::new(start);
        // 1000 bytes each 4 ms = 2 Mbit/s, drawn out to 8 ms each = 1 Mbit/s.
        let acks: Vec<Acked> = (0..200).map(|i| acked(start, i * 4, i as i64 * 8, 1000)).collect();
        meter.on_acked(start, &acks, true);
        let measured = meter.measured().expect("1.6 s of arrivals");
        assert!((950_000..1_080_000).contains(&measured.delivered.as_bps()), "{measured:?}");
        assert!((1_900_000..2_200_000).contains(&measured.sent.as_bps()), "{measured:?}");
        assert_eq!(meter.proven(start), measured.delivered);
        assert_eq!(meter.proven(start + Duration::from_secs(40)), Bitrate::ZERO, "forgotten after 30 s");
    }

    /// A lie, or a path that hesitated: neither proves that it carries more than was tried.
    #[test]
    fn what_comes_faster_than_it_was_sent_proves_what_was_sent() {
        let start = sfu_testkit::clock::start();
        for compressed in [0, 1, 4] {
            let mut meter = RateMeter::new(start);
            // 1000 bytes each 8 ms = 1 Mbit/s, then within half of the time or less.
            let at = |i: u64| if i < 100 { i * 8 } else { 800 + (i - 100) * compressed };
            let acks: Vec<Acked> = (0..400).map(|i| acked(start, i * 8, at(i) as i64, 1000)).collect();
            for acks in acks.chunks(10) {
                meter.on_acked(start, acks, true);
            }
            let proven = meter.proven(start).as_bps().max(meter.recent_max(start).as_bps());
            assert!((950_000..1_100_000).contains(&proven), "{compressed}: {proven}");
        }
    }

    #[test]
    fn sending_little_is_the_applications_limit() {
        let start = sfu_testkit::clock::start();
        let mut meter = RateMeter::new(start);
        let mut now = start;
        for _ in 0..100 {
            meter.on_sent(now, DataSize::bytes(1250)); // 1 Mbit/s
            now += Duration::from_millis(10);
        }
        assert!(meter.application_limited(now, Bitrate::kbps(1500)));
        assert!(!meter.application_limited(now, Bitrate::kbps(1100)));
        assert_eq!(meter.sending(now + Duration::from_secs(1)), Bitrate::ZERO);
    }
}
