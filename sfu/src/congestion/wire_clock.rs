//! The clock of who writes reports, which wraps: its readings unwrapped.
//!
//! Always: a reading is the one nearest to what the last one and our own clock let expect; whatever is read, no sum of
//! readings overflows.

use std::time::{Duration, Instant};

/// A time this far from what is expected is of another clock, or a lie.
const JUMP: Duration = Duration::from_secs(3);

/// How a clock counts: so many ticks in so many microseconds, modulo two to the power of its bits.
#[derive(Clone, Copy, Debug)]
struct Scale {
    bits: u32,
    ticks: i64,
    micros: i64,
    /// Readings beyond this, of either sign, are counted anew. Over a hundred years.
    most: i64,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub(super) struct WireClock {
    scale: Scale,
    last: Option<(i64, Instant)>, // in ticks, and when it came
}

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// After any fixed moment.
    pub(super) micros: i64,
    /// It is seconds away from what was expected.
    pub(super) jumped: bool,
}

impl WireClock {
    /// The reference time of transport-wide reports (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): 24 bits,
    /// units of 64 ms. Wraps after 12 days.
    pub(super) const fn reference_time() -> WireClock {
        WireClock { scale: Scale { bits: 24, ticks: 1, micros: 64_000, most: 1 << 40 }, last: None }
    }

    /// The middle 32 bits of an NTP time (RFC 3550 §4): units of 1/65536 s. Wraps after 18 hours.
    pub(super) const fn compact_ntp() -> WireClock {
        WireClock { scale: Scale { bits: 32, ticks: 1024, micros: 15_625, most: 1 << 48 }, last: None }
    }

    /// Takes what a report that came at `now` says.
    pub(super) fn unwrap(&mut self, now: Instant, wire: u32) -> Reading {
        let Scale { bits, most, .. } = self.scale;
        let mut ticks = i64::from(wire);
        let mut jumped = false;
        if let Some((last, at)) = self.last {
            let expected = last.saturating_add(self.ticks(now.saturating_duration_since(at)));
            let unused = 32 - bits;
            let step = i64::from((wire.wrapping_sub(expected as u32) << unused) as i32 >> unused);
            jumped = step.abs() > self.ticks(JUMP);
            let reading = expected.saturating_add(step);
            if reading.abs() < most {
                ticks = reading;
            }
        }
        self.last = Some((ticks, now));
        Reading { micros: ticks * self.scale.micros / self.scale.ticks, jumped }
    }

    fn ticks(&self, time: Duration) -> i64 {
        (time.as_micros() as i64).saturating_mul(self.scale.ticks) / self.scale.micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_testkit::clock;

    const CLOCKS: [WireClock; 2] = [WireClock::reference_time(), WireClock::compact_ntp()];

    #[test]
    fn a_clock_that_leaps_is_noticed_and_overflows_nothing() {
        for mut of in CLOCKS {
            let Scale { bits, most, .. } = of.scale;
            let mut now = clock::start();
            let mut wire = 5_u32;
            // As far ahead as can be told from going back, as often as it takes to come here.
            of.last = Some((most - (1 << bits), now));
            let mut jumps = 0;
            for round in 0..8 {
                let reading = of.unwrap(now, wire);
                jumps += u32::from(reading.jumped);
                assert!(reading.micros.checked_mul(64).is_some(), "round {round}: {reading:?}");
                wire = wire.wrapping_add((1 << (bits - 1)) - 1) & u32::MAX >> (32 - bits);
                now += Duration::from_millis(64);
            }
            assert!(jumps >= 7, "{of:?}");
        }
    }

    /// Honest clocks are late or early by less, also after long silence, and wrap.
    #[test]
    fn an_honest_clock_goes_on() {
        for mut of in CLOCKS {
            let bits = of.scale.bits;
            let (start, mut now) = (clock::start(), clock::start());
            let first = of.unwrap(now, (u32::MAX >> (32 - bits)) - 3).micros;
            for pause in [0, 64, 6400, 640_000, 64_000_000, 3_200_000_000_u64] {
                now += Duration::from_millis(pause);
                let ticks = of.ticks(now - start) - 3 + (1 << bits);
                let wire = (ticks - 1) as u32 & u32::MAX >> (32 - bits);
                let reading = of.unwrap(now, wire);
                let passed = i64::try_from((now - start).as_micros()).expect("a month");
                assert!(
                    !reading.jumped && (reading.micros - first - passed).abs() < 200_000,
                    "{pause}: {reading:?}"
                );
            }
        }
    }
}
