//! Whether a queue builds on the path, from how long packets take.
//!
//! Packets that left within 5 ms are one group, and the group's delay is that of its **fastest** packet: the
//! first of a run meets the queue of the past, the last one also its own siblings. Of the groups' delays
//! the lower envelope counts: jitter lifts some packets, a queue lifts all. The trend is GCC's (least
//! squares, adaptive threshold; draft-ietf-rmcat-gcc-02 §5.4), and means nothing without the envelope.
//! Where delays swing without our doing, only what is beyond that is a queue.
//! Always: a single late packet changes no state; probe clusters give no sample; memory is fixed.
//! Not here: what is done about it ([`super::target`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::probe::ProbeKind;
use super::twcc::{Acked, Arrival};
use crate::ahead::look;

/// Packets sent within this time of the first are one group (draft-ietf-rmcat-gcc-02 §5.2).
const GROUP: Duration = Duration::from_millis(5);
/// Runs this soon after a probe cluster still meet its queue.
const AFTER_CLUSTER: Duration = Duration::from_millis(40);
/// The base delay is the least of this many seconds, so that clock drift ages out.
const BASE_SECONDS: usize = 30;
/// The envelope is the least of this time, and of this many groups at least.
const ENVELOPE: Duration = Duration::from_millis(300);
const ENVELOPE_GROUPS: u64 = 8;
/// Groups of the envelope at most: they are [`GROUP`] apart.
const LOWS: usize = 64;
/// Groups kept.
const GROUPS: usize = 128;
/// Groups in the trend line, and smoothing of its input (libwebrtc).
const TREND_GROUPS: usize = 20;
const SMOOTHING: f64 = 0.9;
/// Gain of the trend against the threshold (libwebrtc): with 60 groups, 12.5 is 52 ms of delay per second.
const GAIN: f64 = 4.0;
const GAIN_GROUPS: usize = 60;
/// Threshold and its speed (draft-ietf-rmcat-gcc-02 §5.4): slow down, so that a TCP flow does not starve us.
const THRESHOLD: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;
const K_UP: f64 = 0.01;
const K_DOWN: f64 = 0.00018;
/// A trend further above the threshold than this does not adapt it.
const OUTLIER: f64 = 15.0;
/// The trend must be over for this long.
const OVER_FOR: Duration = Duration::from_millis(10);
/// No queue below this envelope, whatever the trend.
const RISING_ENVELOPE: i64 = 15_000;
/// Delays that are up for a while and come down below this, without that we sent less, are the path's own swing…
const SWUNG_BACK: i64 = 25_000;
/// …believed up to this, and forgotten by half in some 30 such swings or seconds.
const SWING_MAX: i64 = 60_000;
const SWING_FORGOTTEN: i64 = 40;
/// No queue that grows below this share of the swing, none that stands, and no cliff below so much of it, in percent.
const RISING_SWING: i64 = 60;
const STANDING_SWING: i64 = 80;
const CLIFF_SWING: i64 = 120;
/// A queue that stands: this envelope for this long.
const STANDING_ENVELOPE: i64 = 60_000;
const STANDING_FOR: Duration = Duration::from_millis(500);
/// A group this late, several times in a row, is part of a cliff.
const CLIFF_DELAY: i64 = 50_000;
const CLIFF_GROUPS: usize = 3;
/// Such a jump is a new clock, not a queue.
const CLOCK_JUMP: i64 = 3_000_000;

/// What the delays say about the path's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// No queue, or one that does not grow.
    Normal,
    /// It grows.
    Rising,
    /// It does not grow, and does not go away either.
    Standing,
    /// It shrinks.
    Draining,
}

impl Queue {
    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Queue::Normal => "normal",
            Queue::Rising => "rising",
            Queue::Standing => "standing",
            Queue::Draining => "draining",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct OpenGroup {
    first_sent: Instant,
    delay: i64,
    arrival: Arrival,
    usable: bool,
}

/// A group with the least delay since it was closed.
#[derive(Clone, Copy, Debug)]
struct Low {
    number: u64,
    arrival: Arrival,
    delay: i64,
}

/// Delay detector of one transport.
#[derive(Debug)]
pub struct DelayDetector {
    origin: Instant,
    open: Option<OpenGroup>,
    excluded_until: Option<Instant>,
    base: [i64; BASE_SECONDS],
    base_at: u64,
    least: i64, // of `base`; `i64::MAX` before the first group
    envelope: i64,
    groups: VecDeque<(Arrival, i64)>, // delay, not yet less the base
    closed: u64,                      // groups so far
    lows: VecDeque<Low>,              // of the envelope's groups; rising, so that the first is the least
    trend: VecDeque<(f64, f64)>,      // arrival and smoothed delay, ms
    trend_start: Option<(Arrival, i64)>,
    smoothed: f64,
    slope: f64,
    threshold: f64,
    count: usize,
    over_since: Option<(Arrival, u32)>,
    standing_since: Option<Arrival>,
    updated: Option<Arrival>,
    jitter: i64,
    peak: Option<i64>, // of the delays since the last low one; `None`: we had a part in it
    swing: i64,
    state: Queue,
}

impl DelayDetector {
    /// Reads ahead what a report needs.
    pub(super) fn ahead_of_report(&self) {
        look(&self.open.is_some());
        look(&self.base_at);
        look(&self.base[(self.base_at % BASE_SECONDS as u64) as usize]);
        look(&self.threshold);
        look(&self.swing);
        if let (Some((arrival, _)), Some((at, _))) = (self.groups.back(), self.trend.back()) {
            look(arrival);
            look(at);
        }
    }

    /// Nothing known.
    pub fn new(now: Instant) -> DelayDetector {
        DelayDetector {
            origin: now,
            open: None,
            excluded_until: None,
            base: [i64::MAX; BASE_SECONDS],
            base_at: 0,
            least: i64::MAX,
            envelope: 0,
            groups: VecDeque::with_capacity(GROUPS),
            closed: 0,
            lows: VecDeque::with_capacity(LOWS),
            trend: VecDeque::with_capacity(TREND_GROUPS),
            trend_start: None,
            smoothed: 0.0,
            slope: 0.0,
            threshold: THRESHOLD,
            count: 0,
            over_since: None,
            standing_since: None,
            updated: None,
            jitter: 0,
            peak: None,
            swing: 0,
            state: Queue::Normal,
        }
    }

    /// The packets of one report, in order of arrival.
    pub fn on_acked(&mut self, acked: &[Acked]) {
        for acked in acked {
            let Some(arrival) = acked.arrival.filter(|_| !acked.late) else { continue };
            let cluster = acked.cluster.is_some_and(|cluster| cluster.kind == ProbeKind::Cluster);
            if cluster {
                self.excluded_until = self.excluded_until.max(Some(acked.sent + AFTER_CLUSTER));
            }
            let usable = !cluster && self.excluded_until.is_none_or(|until| acked.sent > until);
            let sent = acked.sent.saturating_duration_since(self.origin).as_micros() as i64;
            // Far beyond any clock, and no sum of two of them overflows.
            let arrival = Arrival::micros(arrival.as_micros().clamp(-(1 << 60), 1 << 60));
            self.add(acked.sent, arrival, arrival.as_micros() - sent, usable);
        }
    }

    /// The state after the last report.
    pub fn state(&self) -> Queue {
        self.state
    }

    /// The lower envelope of the queueing delay; zero while nothing is known.
    pub fn envelope(&self) -> Duration {
        micros(self.envelope)
    }

    /// The envelope, if the path's swing alone does not explain it; else zero.
    pub fn standing(&self) -> Duration {
        if self.envelope > self.swing * STANDING_SWING / 100 { self.envelope() } else { Duration::ZERO }
    }

    /// Mean difference between neighbouring groups (smoothed as in RFC 3550 §6.4.1).
    pub fn jitter(&self) -> Duration {
        micros(self.jitter)
    }

    /// Queueing delay that the newest packets met.
    pub fn latest(&self) -> Duration {
        let newest = self.groups.iter().rev().take(CLIFF_GROUPS).map(|&(_, delay)| delay).max();
        micros(newest.map_or(0, |delay| delay - self.base_delay()))
    }

    /// Whether the last groups were all late and not getting better: together with a fallen delivery rate
    /// this is a cliff.
    pub fn all_late(&self) -> bool {
        let base = self.base_delay();
        let limit = CLIFF_DELAY.max(self.swing * CLIFF_SWING / 100);
        let late = |&&(_, delay): &&(Arrival, i64)| delay - base > limit;
        let last = self.groups.iter().rev().take(CLIFF_GROUPS);
        let (newest, oldest) = (self.groups.back(), self.groups.iter().rev().nth(CLIFF_GROUPS - 1));
        let falling = newest.zip(oldest).is_none_or(|(newest, oldest)| newest.1 + 5_000 < oldest.1);
        last.filter(late).count() == CLIFF_GROUPS && !falling
    }

    /// Takes the present delay for the path's own: the route is longer than it was.
    pub fn rebase(&mut self) {
        let now = self.groups.iter().rev().take(ENVELOPE_GROUPS as usize).map(|&(_, delay)| delay).min();
        self.base = [i64::MAX; BASE_SECONDS];
        if let Some(delay) = now {
            self.base[(self.base_at % BASE_SECONDS as u64) as usize] = delay;
        }
        self.least = now.unwrap_or(i64::MAX);
        self.envelope = self.find_envelope();
        self.forget_trend();
    }

    /// We send less: what delays do next is our doing.
    pub fn on_cut(&mut self) {
        self.peak = None;
    }

    fn update_swing(&mut self, delay: i64) {
        match &mut self.peak {
            Some(peak) if delay >= SWUNG_BACK => *peak = delay.max(*peak),
            Some(peak) if *peak > SWUNG_BACK => {
                let peak = std::mem::take(peak).min(SWING_MAX);
                self.swing = peak.max(self.swing - self.swing / SWING_FORGOTTEN);
            }
            None if delay < SWUNG_BACK => self.peak = Some(0),
            Some(_) | None => {}
        }
    }

    fn add(&mut self, sent: Instant, arrival: Arrival, delay: i64, usable: bool) {
        match &mut self.open {
            Some(group) if sent < group.first_sent => {} // of a group already closed: reordered
            Some(group) if sent - group.first_sent < GROUP => {
                group.delay = group.delay.min(delay);
                group.arrival = group.arrival.max(arrival);
                group.usable &= usable;
            }
            open => {
                let new = OpenGroup { first_sent: sent, delay, arrival, usable };
                if let Some(group) = open.replace(new)
                    && group.usable
                {
                    self.close(group);
                }
            }
        }
    }

    fn close(&mut self, group: OpenGroup) {
        let jumped = self.groups.back().is_some_and(|&(_, last)| (group.delay - last).abs() > CLOCK_JUMP);
        if jumped {
            self.groups.clear();
            self.lows.clear();
            self.base = [i64::MAX; BASE_SECONDS];
            self.least = i64::MAX;
            self.forget_trend();
        }
        if let Some(&(_, last)) = self.groups.back() {
            self.jitter += ((group.delay - last).abs() - self.jitter) / 16;
        }
        if self.groups.len() == GROUPS {
            self.groups.pop_front();
        }
        self.groups.push_back((group.arrival, group.delay));
        self.add_low(group);
        self.update_base(group);
        self.update_swing(group.delay - self.base_delay());
        self.envelope = self.find_envelope();
        self.update_trend(group);
        self.update_state(group.arrival);
    }

    fn update_base(&mut self, group: OpenGroup) {
        let second = group.first_sent.saturating_duration_since(self.origin).as_secs();
        let passed = second.saturating_sub(self.base_at).min(BASE_SECONDS as u64);
        for step in 0..passed {
            self.swing -= self.swing / SWING_FORGOTTEN;
            self.base[((second - step) % BASE_SECONDS as u64) as usize] = i64::MAX;
        }
        self.base_at = self.base_at.max(second);
        let bucket = &mut self.base[(self.base_at % BASE_SECONDS as u64) as usize];
        *bucket = group.delay.min(*bucket);
        self.least = match passed {
            0 => self.least.min(group.delay),
            _ => self.base.iter().copied().min().unwrap_or(i64::MAX),
        };
    }

    fn base_delay(&self) -> i64 {
        if self.least == i64::MAX { 0 } else { self.least }
    }

    fn add_low(&mut self, OpenGroup { arrival, delay, .. }: OpenGroup) {
        self.closed += 1;
        while self.lows.back().is_some_and(|low| low.delay >= delay) {
            self.lows.pop_back();
        }
        if self.lows.len() == LOWS {
            self.lows.pop_front();
        }
        self.lows.push_back(Low { number: self.closed, arrival, delay });
        let old = |low: &Low| {
            self.closed - low.number >= ENVELOPE_GROUPS && !arrival.is_within(ENVELOPE, low.arrival)
        };
        while self.lows.front().is_some_and(old) {
            self.lows.pop_front();
        }
    }

    fn find_envelope(&self) -> i64 {
        self.lows.front().map_or(0, |low| (low.delay - self.base_delay()).max(0))
    }

    fn forget_trend(&mut self) {
        self.trend.clear();
        self.trend_start = None;
        self.smoothed = 0.0;
        self.slope = 0.0;
        self.count = 0;
        self.over_since = None;
        self.standing_since = None;
        self.state = Queue::Normal;
    }

    fn update_trend(&mut self, group: OpenGroup) {
        let (start, first) = *self.trend_start.get_or_insert((group.arrival, group.delay));
        self.count += 1;
        let delay = (group.delay - first) as f64 / 1000.0;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * delay;
        if self.trend.len() == TREND_GROUPS {
            self.trend.pop_front();
        }
        let at = (group.arrival.as_micros() - start.as_micros()) as f64 / 1000.0;
        self.trend.push_back((at, self.smoothed));
    }

    fn update_state(&mut self, arrival: Arrival) {
        let before = self.slope;
        if self.trend.len() == TREND_GROUPS {
            self.slope = slope(&self.trend).unwrap_or(self.slope);
        }
        let trend = self.slope * self.count.min(GAIN_GROUPS) as f64 * GAIN;
        let envelope = self.envelope;

        let mut rising = false;
        if trend > self.threshold {
            let (since, times) = self.over_since.unwrap_or((arrival, 0));
            self.over_since = Some((since, times + 1));
            rising = arrival.since(since) > OVER_FOR && times >= 1 && self.slope >= before;
        } else {
            self.over_since = None;
        }
        if envelope > STANDING_ENVELOPE && trend > -self.threshold {
            self.standing_since.get_or_insert(arrival);
        } else {
            self.standing_since = None;
        }
        let standing = self.standing_since.is_some_and(|since| arrival.since(since) >= STANDING_FOR);
        self.state = if rising && envelope >= RISING_ENVELOPE.max(self.swing * RISING_SWING / 100) {
            Queue::Rising
        } else if standing {
            Queue::Standing
        } else if trend < -self.threshold {
            Queue::Draining
        } else {
            Queue::Normal
        };
        self.adapt_threshold(trend, arrival);
    }

    fn adapt_threshold(&mut self, trend: f64, arrival: Arrival) {
        let elapsed =
            self.updated.replace(arrival).map_or(0.0, |last| arrival.since(last).as_micros() as f64);
        let size = trend.abs();
        if size > self.threshold + OUTLIER {
            return;
        }
        let k = if size < self.threshold { K_DOWN } else { K_UP };
        self.threshold += k * (size - self.threshold) * (elapsed / 1000.0).min(100.0);
        self.threshold = self.threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }
}

/// Least squares; `None` if all points share one time.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let (over, under) = points.iter().fold((0.0, 0.0), |(over, under), p| {
        let (x, y) = (p.0 - mean_x, p.1 - mean_y);
        (over + x * y, under + x * x)
    });
    (under > f64::EPSILON).then(|| over / under)
}

fn micros(value: i64) -> Duration {
    Duration::from_micros(value.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests;
