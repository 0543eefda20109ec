//! Quantiles of a great many times without keeping them: buckets that are 3 % wide at most.

/// Buckets for each doubling.
const STEPS: u64 = 32;
/// Doublings above [`STEPS`]: up to 2³⁶ µs, most of a day.
const OCTAVES: usize = 31;

/// Counts of microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; STEPS as usize * (OCTAVES + 1)], total: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, micros: u64) {
        let last = self.counts.len() - 1;
        self.counts[bucket(micros).min(last)] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// The largest, exactly; `None` if there was none.
    pub(crate) fn max(&self) -> Option<u64> {
        (self.total > 0).then_some(self.max)
    }

    /// The least value such that this share of all, 0 to 1, is not above it, to 3 %; `None` if there was none.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= wanted && self.total > 0 {
                return Some(upper_bound(index).min(self.max));
            }
        }
        None
    }
}

/// Below [`STEPS`] one for each value; above, the value's leading bits.
fn bucket(value: u64) -> usize {
    let octave = (value / STEPS).checked_ilog2().map_or(0, |log| u64::from(log) + 1);
    let shift = octave.saturating_sub(1);
    // Within its octave a value has STEPS steps, which is the same as its bits below the leading one.
    (octave * STEPS + (value >> shift) % STEPS) as usize
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match octave.checked_sub(1) {
        None => step,
        Some(shift) => ((STEPS + step + 1) << shift) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_values_and_are_narrow() {
        for value in (0..5_000).chain([1_000_000, 123_456_789, 1 << 35]) {
            let bound = upper_bound(bucket(value));
            assert!(bound >= value && bound <= value + value / STEPS, "{value}: {bound}");
            assert_ne!(bucket(bound), bucket(bound + 1), "{value}");
        }
    }

    #[test]
    fn quantiles_of_a_ramp_are_its_values() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.max()), (None, None));
        for value in 1..=1000 {
            histogram.record(value * 10);
        }
        let median = histogram.quantile(0.5).unwrap();
        assert!((5000..=5160).contains(&median), "{median}");
        let tail = histogram.quantile(0.99).unwrap();
        assert!((9900..=10_000).contains(&tail), "{tail}");
        assert_eq!((histogram.quantile(1.0), histogram.max()), (Some(10_000), Some(10_000)));
        histogram.record(u64::MAX); // does not fit, and is still the largest
        assert_eq!(histogram.max(), Some(u64::MAX));
    }
}
