//! How much one participant may send as data messages: so many bytes a second, and a second's worth at once.

use std::time::{Duration, Instant};

/// What a participant may still send.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataBudget {
    /// Bytes, as of `at`.
    left: u64,
    at: Instant,
}

impl DataBudget {
    /// A second's worth. `rate` is in bytes a second.
    pub(super) fn new(now: Instant, rate: u32) -> DataBudget {
        DataBudget { left: u64::from(rate), at: now }
    }

    /// Takes so many bytes, if they are there; tells whether they were.
    pub(super) fn take(&mut self, now: Instant, rate: u32, bytes: usize) -> bool {
        let since = now.saturating_duration_since(self.at).min(Duration::from_secs(1));
        // Whole microseconds, so that nothing of a short while is lost to rounding for good.
        let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let earned = u64::from(rate).saturating_mul(micros) / 1_000_000;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(u64::from(rate));
            self.at = now;
        }
        let left = self.left.checked_sub(bytes as u64);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn a_second_gives_a_seconds_worth_and_silence_no_more() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut budget = DataBudget::new(start, 1000);
        assert!(budget.take(start, 1000, 1000));
        assert!(!budget.take(start, 1000, 1));
        assert!(!budget.take(start + ms(99), 1000, 100), "one short");
        assert!(budget.take(start + ms(100), 1000, 100));
        let later = start + Duration::from_hours(1);
        assert!(!budget.take(later, 1000, 1001), "never more than a second's");
        assert!(budget.take(later, 1000, 1000));
        // What is asked for every microsecond is not rounded away.
        let mut taken = 0;
        for micros in 0..100_000 {
            taken += u32::from(budget.take(later + Duration::from_micros(micros), 1000, 1));
        }
        assert!((99..=100).contains(&taken), "{taken}");
    }
}
