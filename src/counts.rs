//! Places for so many of each: sessions of a room, connections of an address; and so many a second.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// How many there are of each.
#[derive(Debug)]
pub(crate) struct Counts<K: Eq + Hash>(Arc<DashMap<K, usize>>);

impl<K: Eq + Hash> Default for Counts<K> {
    fn default() -> Counts<K> {
        Counts(Arc::new(DashMap::new()))
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    /// One more of `key`, until what is given is dropped; `None` at the limit.
    pub(crate) fn take(&self, key: K, limit: usize) -> Option<Counted<K>> {
        let mut count = self.0.entry(key.clone()).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(count);
        Some(Counted { counts: Arc::clone(&self.0), key })
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Counted<K: Eq + Hash> {
    counts: Arc<DashMap<K, usize>>,
    key: K,
}

impl<K: Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        self.counts.remove_if_mut(&self.key, |_, count| {
            *count = count.saturating_sub(1);
            *count == 0
        });
    }
}

/// What began within a second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PerSecond {
    since: Option<Instant>,
    begun: u32,
}

impl PerSecond {
    /// Counts one more, unless there were `limit` within this second; tells whether it may begin.
    pub(crate) fn begin(&mut self, now: Instant, limit: u32) -> bool {
        let current =
            self.since.filter(|since| now.saturating_duration_since(*since) < Duration::from_secs(1));
        let begun = if current.is_some() { self.begun } else { 0 };
        let may = begun < limit;
        if may {
            *self = PerSecond { since: current.or(Some(now)), begun: begun + 1 };
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stop_at_the_limit_and_leave_nothing_behind() {
        let counts = Counts::default();
        let first = counts.take("room", 2).expect("a place");
        let second = counts.take("room", 2).expect("a place");
        assert!(counts.take("room", 2).is_none());
        assert!(counts.take("other", 2).is_some(), "each has its own");
        drop(first);
        assert!(counts.take("room", 2).is_some());
        drop(second);
        assert!(counts.0.is_empty());
        assert!(counts.take("room", 0).is_none());
    }
}
