//! Who wants to be woken when: one deadline for each peer, kept in order.

use std::collections::BTreeSet;
use std::time::Instant;

/// Deadlines of numbered peers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, usize)>,
    scheduled: Vec<Option<Instant>>,
}

impl Timers {
    /// Wakes `who` at `at` at the latest; an earlier deadline stays.
    pub(crate) fn at_latest(&mut self, who: usize, at: Instant) {
        if self.scheduled.get(who).copied().flatten().is_none_or(|old| at < old) {
            self.set(who, Some(at));
        }
    }

    /// Replaces the deadline of `who`.
    pub(crate) fn set(&mut self, who: usize, at: Option<Instant>) {
        if who >= self.scheduled.len() {
            self.scheduled.resize(who + 1, None);
        }
        if let Some(old) = self.scheduled[who] {
            self.order.remove(&(old, who));
        }
        self.scheduled[who] = at;
        if let Some(at) = at {
            self.order.insert((at, who));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes out somebody whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        let (at, who) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.set(who, None);
        Some(who)
    }
}
