//! When packets leave: at ticks, which are the same for everybody on a worker.
//!
//! What came for one subscriber since the last tick leaves in one run, and the worker wakes once for all of them.

use std::time::{Duration, Instant};

/// Between two flushes of one subscriber's video, and between two looks at a busy socket.
pub const TICK: Duration = Duration::from_millis(5);
/// The same where 5 ms of bytes are too much for shallow buffers, and while probing, so that a probe of 15 ms has a
/// shape.
pub const FAST_TICK: Duration = Duration::from_millis(2);

/// The grid of ticks, counted from one instant.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    epoch: Instant,
}

impl Ticks {
    /// Ticks that begin at `epoch`.
    pub const fn since(epoch: Instant) -> Ticks {
        Ticks { epoch }
    }

    /// `at` on the grid's own clock; before the epoch is the epoch.
    pub fn moment(self, at: Instant) -> Moment {
        Moment(at.saturating_duration_since(self.epoch).as_nanos() as u64)
    }

    /// The other way around.
    pub fn instant(self, moment: Moment) -> Instant {
        self.epoch + Duration::from_nanos(moment.0)
    }

    /// The first at `at` or later; `tick` is how far apart they are.
    pub fn from(self, at: Instant, tick: Duration) -> Instant {
        self.instant(self.moment(at).from(tick))
    }

    /// The first later than `at`.
    pub fn after(self, at: Instant, tick: Duration) -> Instant {
        self.instant(self.moment(at).after(tick))
    }
}

/// Nanoseconds since the epoch of [`Ticks`]. To reckon with an [`Instant`] takes a call and fifty instructions each time,
/// which is much where it is done for each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The first tick then or later.
    #[must_use]
    pub fn from(self, tick: Duration) -> Moment {
        Moment(self.0.next_multiple_of(tick.as_nanos() as u64))
    }

    /// The first tick later than that.
    #[must_use]
    pub fn after(self, tick: Duration) -> Moment {
        Moment(self.0 + 1).from(tick)
    }

    /// Time passed since `earlier`; none if that is later.
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, time: Duration) -> Moment {
        Moment(self.0 + time.as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_time;

    #[test]
    fn a_tick_is_from_itself_and_after_the_one_before() {
        let epoch = test_time();
        let ticks = Ticks::since(epoch);
        for (at_us, from_us, after_us) in
            [(0, 0, 5000), (1, 5000, 5000), (4999, 5000, 5000), (5000, 5000, 10_000)]
        {
            let us = |us| epoch + Duration::from_micros(us);
            assert_eq!(ticks.from(us(at_us), TICK), us(from_us));
            assert_eq!(ticks.after(us(at_us), TICK), us(after_us));
        }
    }
}
