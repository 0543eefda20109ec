//! Loss as a brake: evidence of congestion only together with something else.
//!
//! Loss that is always there (a bad radio) becomes the inherent loss `p0` and slows nothing. Loss beyond it
//! means congestion if a queue stands; without a queue it is put to the test: send less for a moment, and
//! see whether it falls (a policer, a tiny buffer) or not (the radio got worse).
//! Always: counted by transport-wide numbers of our own path, never by receiver reports, which contain the
//! publisher's losses.
//! Not here: the target itself ([`super::target`]).

use std::time::{Duration, Instant};

use super::twcc::Acked;
use crate::units::DataSize;

/// An observation has at least this length and this many packets.
const OBSERVATION: Duration = Duration::from_millis(250);
const MIN_PACKETS: u32 = 20;
/// Inherent loss at first, at most, and how fast it follows.
const INHERENT: f64 = 0.02;
const INHERENT_MAX: f64 = 0.30;
const FOLLOW_UP: f64 = 0.10;
const FOLLOW_DOWN: f64 = 0.05;
/// Loss above `p0` by less than this is noise.
const MARGIN: f64 = 0.02;
/// Below this, unexplained loss is not worth a test, which costs a step of quality.
const WORTH_A_TEST: f64 = 0.10;
/// So many observations in a row must exceed.
const SUSTAINED: u32 = 3;
/// A queue this long makes excess loss congestion.
const CONGESTED_ENVELOPE: Duration = Duration::from_millis(40);
/// Below this envelope loss is inherent.
const CALM_ENVELOPE: Duration = Duration::from_millis(15);
/// Length of a test, plus a round trip.
const TEST: Duration = Duration::from_millis(600);
/// Fewest packets of a test: at 20 % loss, 60 of them tell it from 12 % most of the time.
const TEST_PACKETS: u32 = 60;
/// Loss must fall to this share for the test to blame the rate.
const BLAMED: f64 = 0.6;
/// Pause between tests, and after one that cleared the rate.
const BETWEEN_TESTS: Duration = Duration::from_secs(5);
const AFTER_CLEARED: Duration = Duration::from_mins(1);
/// Above this loss nothing else matters.
const OUTRAGEOUS: f64 = 0.50;

/// What an observation asks of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossVerdict {
    /// Nothing.
    Fine,
    /// Cut: loss and queue agree, or half of everything is lost.
    Congestion,
    /// Send a fifth less until the test's result.
    TestBegins,
    /// Loss followed the rate: stay low.
    TestBlamesRate,
    /// It did not: restore the rate.
    TestClearsRate,
}

#[derive(Clone, Copy, Debug)]
struct Test {
    /// Packets sent before this do not show the lower rate yet.
    counts_from: Instant,
    until: Instant,
    before: f64,
    lost: u32,
    total: u32,
}

/// Loss observer of one transport.
#[derive(Debug)]
pub struct LossObserver {
    since: Option<Instant>,
    lost: DataSize,
    total: DataSize,
    packets: u32,
    ratio: f64,
    inherent: f64,
    exceeding: u32,
    exceeding_sum: f64, // of their ratios
    test: Option<Test>,
    no_test_before: Option<Instant>,
}

impl Default for LossObserver {
    fn default() -> Self {
        LossObserver::new()
    }
}

impl LossObserver {
    /// Nothing observed.
    pub fn new() -> LossObserver {
        LossObserver {
            since: None,
            lost: DataSize::ZERO,
            total: DataSize::ZERO,
            packets: 0,
            ratio: 0.0,
            inherent: INHERENT,
            exceeding: 0,
            exceeding_sum: 0.0,
            test: None,
            no_test_before: None,
        }
    }

    /// Loss ratio of the last observation, by bytes.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    /// Loss that is there whatever we send.
    pub fn inherent(&self) -> f64 {
        self.inherent
    }

    /// Whether a test runs.
    pub fn testing(&self) -> bool {
        self.test.is_some()
    }

    /// Forgets a running test: the target changed for another reason.
    pub fn end_test(&mut self) {
        self.test = None;
    }

    /// The packets of one report. `may_test`: the target is high enough and nothing else is going on.
    pub fn on_acked(
        &mut self,
        now: Instant,
        acked: &[Acked],
        envelope: Duration,
        rtt: Duration,
        may_test: bool,
    ) -> LossVerdict {
        for acked in acked {
            let lost = acked.arrival.is_none();
            if acked.late {
                self.lost = self.lost - acked.size;
                continue;
            }
            self.total += acked.size;
            self.packets += 1;
            if lost {
                self.lost += acked.size;
            }
            if let Some(test) = &mut self.test
                && acked.sent >= test.counts_from
            {
                test.total += 1;
                test.lost += u32::from(lost);
            }
        }
        if let Some(test) = self.test
            && now >= test.until
            && test.total >= TEST_PACKETS
        {
            return self.judge(now, test);
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < OBSERVATION || self.packets < MIN_PACKETS {
            return LossVerdict::Fine;
        }
        self.ratio = self.lost.as_bytes() as f64 / self.total.as_bytes().max(1) as f64;
        let packets = f64::from(self.packets);
        (self.since, self.lost, self.total, self.packets) = (Some(now), DataSize::ZERO, DataSize::ZERO, 0);
        self.observe(now, packets, envelope, rtt, may_test)
    }

    fn observe(
        &mut self,
        now: Instant,
        packets: f64,
        envelope: Duration,
        rtt: Duration,
        may_test: bool,
    ) -> LossVerdict {
        let deviation = (self.inherent * (1.0 - self.inherent) / packets).sqrt();
        let excess = self.ratio - self.inherent - MARGIN.max(2.0 * deviation);
        if excess <= 0.0 || self.ratio < WORTH_A_TEST {
            (self.exceeding, self.exceeding_sum) = (0, 0.0);
            if envelope < CALM_ENVELOPE {
                let follow = if self.ratio > self.inherent { FOLLOW_UP } else { FOLLOW_DOWN };
                self.inherent += follow * (self.ratio - self.inherent);
                self.inherent = self.inherent.clamp(0.0, INHERENT_MAX);
            }
        } else {
            self.exceeding += 1;
            self.exceeding_sum += self.ratio;
        }
        if excess > 0.0 && envelope >= CONGESTED_ENVELOPE {
            self.test = None;
            return LossVerdict::Congestion;
        }
        if self.exceeding < SUSTAINED || self.test.is_some() {
            return LossVerdict::Fine;
        }
        if self.ratio > OUTRAGEOUS {
            self.exceeding = 0;
            return LossVerdict::Congestion;
        }
        if !may_test || self.no_test_before.is_some_and(|at| now < at) {
            return LossVerdict::Fine;
        }
        let counts_from = now + Duration::from_millis(100);
        let until = counts_from + TEST + rtt;
        let before = self.exceeding_sum / f64::from(self.exceeding);
        self.test = Some(Test { counts_from, until, before, lost: 0, total: 0 });
        LossVerdict::TestBegins
    }

    fn judge(&mut self, now: Instant, test: Test) -> LossVerdict {
        self.test = None;
        (self.exceeding, self.exceeding_sum) = (0, 0.0);
        let during = f64::from(test.lost) / f64::from(test.total.max(1));
        if during <= test.before * BLAMED {
            self.no_test_before = Some(now + BETWEEN_TESTS);
            return LossVerdict::TestBlamesRate;
        }
        self.no_test_before = Some(now + AFTER_CLEARED);
        self.inherent = self.inherent.max(test.before.midpoint(during)).min(INHERENT_MAX);
        LossVerdict::TestClearsRate
    }
}

#[cfg(test)]
mod tests;
