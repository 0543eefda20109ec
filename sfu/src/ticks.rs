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

    /// The first at `at` or later; `tick` is how far apart they are.
    pub fn from(self, at: Instant, tick: Duration) -> Instant {
        let since = at.saturating_duration_since(self.epoch).as_nanos() as u64;
        self.epoch + Duration::from_nanos(since.next_multiple_of(tick.as_nanos() as u64))
    }

    /// The first later than `at`.
    pub fn after(self, at: Instant, tick: Duration) -> Instant {
        self.from(at + Duration::from_nanos(1), tick)
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
