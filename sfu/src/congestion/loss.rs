//! Loss as a brake: evidence of congestion only together with something else.
//!
//! Loss that is always there (a bad radio) becomes the inherent loss `p0` and slows nothing. Loss beyond it
//! means congestion if a queue stands; without a queue it is put to the test: send less for a moment, and
//! see whether it falls (a policer, a tiny buffer) or not (the radio got worse). Much loss that came as the rate rose was
//! tested by that. What loss is compared with is measured
//! after it drew attention: of observations that were chosen for being high, the next ones are lower by chance alone.
//! Always: counted by transport-wide numbers of our own path, never by receiver reports, which contain the
//! publisher's losses.
//! Not here: the target itself ([`super::target`]).

use std::time::{Duration, Instant};

use super::twcc::Acked;
use crate::units::{Bitrate, DataSize};

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
/// So many observations in a row must exceed…
const SUSTAINED: u32 = 3;
/// …and the mean of so many after them, by this.
const COMPARED: u32 = 2;
const STILL: f64 = 0.04;
/// A queue this long makes excess loss congestion.
const CONGESTED_ENVELOPE: Duration = Duration::from_millis(40);
/// Below this envelope loss is inherent.
const CALM_ENVELOPE: Duration = Duration::from_millis(15);
/// Length of a test, plus a round trip.
const TEST: Duration = Duration::from_millis(600);
/// Fewest packets of a test: at 20 % loss, 60 of them tell it from 12 % most of the time.
const TEST_PACKETS: u32 = 60;
/// Loss must fall to this share for the test to blame the rate…
const BLAMED: f64 = 0.6;
/// …and between these shares of it chance is ruled out first, by this many packets.
const PLAIN: f64 = 0.25;
const PLAINLY_NOT: f64 = 0.8;
const SURE_PACKETS: u32 = 180;
/// Pause between tests, and after one that cleared the rate.
const BETWEEN_TESTS: Duration = Duration::from_secs(5);
const AFTER_CLEARED: Duration = Duration::from_mins(1);
/// Above this loss nothing else matters.
const OUTRAGEOUS: f64 = 0.50;
/// Loss beyond the inherent that needs no test if it came with the rate: so much of it, …
const STRIKING: f64 = 0.20;
/// …in so many observations in a row, …
const STRIKES: u32 = 2;
/// …at so many times the rate that was clean…
const FASTER: f64 = 1.3;
/// …on average over so many observations and more, with one between that is not for each two, until this long ago.
const CLEAN: u32 = 4;
const CLEAN_FOR: Duration = Duration::from_secs(10);
const CLEAN_STEP: f64 = 0.15;

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
    /// Much is lost since the rate rose: something on the path drops what is beyond its own.
    CameWithRate,
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

impl Test {
    fn ratio(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.total.max(1))
    }

    /// Whether it is the rate's fault, once that is known.
    fn result(&self) -> Option<bool> {
        let share = self.ratio() / self.before;
        let certain = share <= PLAIN || share >= PLAINLY_NOT || self.total >= SURE_PACKETS;
        certain.then_some(share <= BLAMED)
    }
}

/// Observations in which no more than the usual was lost.
#[derive(Clone, Copy, Debug)]
struct Clean {
    until: Instant,
    rate: Bitrate, // mean
    count: u32,    // less two for each that was not
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
    compared: f64, // sum of the ratios after the first [`SUSTAINED`] that exceed
    test: Option<Test>,
    no_test_before: Option<Instant>,
    clean: Option<Clean>,
    strikes: u32,
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
            compared: 0.0,
            test: None,
            no_test_before: None,
            clean: None,
            strikes: 0,
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

    /// Whether it looks as if the rate were too high for the path.
    pub fn suspects_rate(&self) -> bool {
        self.strikes > 0
    }

    /// Whether more is lost than is usual, for some time now.
    pub fn persists(&self) -> bool {
        self.exceeding >= SUSTAINED
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
            && let Some(blamed) = test.result()
        {
            return self.judge(now, test, blamed);
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < OBSERVATION || self.packets < MIN_PACKETS {
            return LossVerdict::Fine;
        }
        self.ratio = self.lost.as_bytes() as f64 / self.total.as_bytes().max(1) as f64;
        let packets = f64::from(self.packets);
        let rate = Bitrate::of(self.total, now.saturating_duration_since(since));
        (self.since, self.lost, self.total, self.packets) = (Some(now), DataSize::ZERO, DataSize::ZERO, 0);
        if self.test.is_none() && envelope < CALM_ENVELOPE && self.came_with_the_rate(now, rate) {
            return self.blame(now, LossVerdict::CameWithRate);
        }
        self.observe(now, packets, envelope, rtt, may_test)
    }

    /// Whether much is lost since the rate rose, and was not before: as good as a test.
    fn came_with_the_rate(&mut self, now: Instant, rate: Bitrate) -> bool {
        if self.ratio <= self.inherent + MARGIN {
            self.strikes = 0;
            let old = self.clean.filter(|clean| now < clean.until);
            // What a bucket lets through now and then weighs little.
            let mean = old.map_or(rate, |old| old.rate.scale(1.0 - CLEAN_STEP) + rate.scale(CLEAN_STEP));
            let count = old.map_or(0, |old| old.count.min(2 * CLEAN)) + 1;
            self.clean = Some(Clean { until: now + CLEAN_FOR, rate: mean, count });
            return false;
        }
        let faster =
            |clean: &Clean| now < clean.until && clean.count >= CLEAN && rate >= clean.rate.scale(FASTER);
        if self.ratio > self.inherent + STRIKING && self.clean.as_ref().is_some_and(faster) {
            self.strikes += 1;
        } else {
            self.strikes = 0;
            // A path that always loses some has few of them in a row.
            if let Some(clean) = &mut self.clean {
                clean.count = clean.count.saturating_sub(2);
            }
        }
        let enough = self.strikes >= STRIKES;
        if enough {
            self.strikes = 0;
        }
        enough
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
        let exceeds = excess > 0.0 && self.ratio >= WORTH_A_TEST;
        if self.exceeding >= SUSTAINED {
            self.exceeding += 1;
            self.compared += self.ratio;
        } else if exceeds {
            self.exceeding += 1;
        } else {
            self.exceeding = 0;
        }
        if !exceeds && envelope < CALM_ENVELOPE {
            let follow = if self.ratio > self.inherent { FOLLOW_UP } else { FOLLOW_DOWN };
            self.inherent += follow * (self.ratio - self.inherent);
            self.inherent = self.inherent.clamp(0.0, INHERENT_MAX);
        }
        if excess > 0.0 && envelope >= CONGESTED_ENVELOPE {
            self.test = None;
            return LossVerdict::Congestion;
        }
        if self.exceeding < SUSTAINED || self.test.is_some() {
            return LossVerdict::Fine;
        }
        if self.ratio > OUTRAGEOUS {
            self.forget();
            return LossVerdict::Congestion;
        }
        if self.exceeding < SUSTAINED + COMPARED {
            return LossVerdict::Fine;
        }
        // More than were waited for, if a queue or a test came between.
        let before = self.compared / f64::from(self.exceeding - SUSTAINED);
        self.forget();
        if before < self.inherent + MARGIN.max(STILL) {
            return LossVerdict::Fine;
        }
        if !may_test || self.no_test_before.is_some_and(|at| now < at) {
            return LossVerdict::Fine;
        }
        let counts_from = now + Duration::from_millis(100);
        let until = counts_from + TEST + rtt;
        self.test = Some(Test { counts_from, until, before, lost: 0, total: 0 });
        LossVerdict::TestBegins
    }

    fn forget(&mut self) {
        (self.exceeding, self.compared) = (0, 0.0);
    }

    fn blame(&mut self, now: Instant, verdict: LossVerdict) -> LossVerdict {
        self.forget();
        self.no_test_before = Some(now + BETWEEN_TESTS);
        verdict
    }

    fn judge(&mut self, now: Instant, test: Test, blamed: bool) -> LossVerdict {
        self.test = None;
        if blamed {
            return self.blame(now, LossVerdict::TestBlamesRate);
        }
        self.forget();
        self.no_test_before = Some(now + AFTER_CLEARED);
        self.inherent = self.inherent.max(test.before.midpoint(test.ratio())).min(INHERENT_MAX);
        LossVerdict::TestClearsRate
    }
}

#[cfg(test)]
mod tests;
