//! Who wants to be woken when: one deadline for each peer, kept in order.
//!
//! Deadlines move with almost every packet, so they lie in a binary heap that knows everybody's place: to move one
//! allocates nothing.

use std::time::Instant;

#[derive(Clone, Copy, Debug)]
struct Scheduled {
    at: Instant,
    /// Where in the heap.
    place: usize,
}

/// Deadlines of numbered peers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// A binary heap: nobody is due before the one above.
    heap: Vec<usize>,
    scheduled: Vec<Option<Scheduled>>,
}

impl Timers {
    /// Wakes `who` at `at` at the latest; an earlier deadline stays.
    pub(crate) fn at_latest(&mut self, who: usize, at: Instant) {
        if self.scheduled.get(who).copied().flatten().is_none_or(|old| at < old.at) {
            self.set(who, Some(at));
        }
    }

    /// Replaces the deadline of `who`.
    pub(crate) fn set(&mut self, who: usize, at: Option<Instant>) {
        if who >= self.scheduled.len() {
            self.scheduled.resize(who + 1, None);
        }
        match (&mut self.scheduled[who], at) {
            (None, None) => {}
            (None, Some(at)) => {
                let place = self.heap.len();
                self.scheduled[who] = Some(Scheduled { at, place });
                self.heap.push(who);
                self.settle(place);
            }
            (Some(old), Some(at)) => {
                old.at = at;
                let place = old.place;
                self.settle(place);
            }
            (Some(old), None) => {
                let place = old.place;
                self.heap.swap_remove(place);
                self.scheduled[who] = None;
                if place < self.heap.len() {
                    self.note(place);
                    self.settle(place);
                }
            }
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        (!self.heap.is_empty()).then(|| self.at(0).0)
    }

    /// Takes out somebody whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        if self.next()? > now {
            return None;
        }
        let who = self.heap[0];
        self.set(who, None);
        Some(who)
    }

    /// The deadline at a place; among equal ones the lowest number is first.
    fn at(&self, place: usize) -> (Instant, usize) {
        let who = self.heap[place];
        (self.scheduled[who].expect("the heap has only who is scheduled").at, who)
    }

    /// Moves up or down what is at `place` until the order holds.
    fn settle(&mut self, mut place: usize) {
        while place > 0 && self.at(place) < self.at((place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
        let below = |place: usize, len: usize| 2 * place + 1..len.min(2 * place + 3);
        while let Some(first) = below(place, self.heap.len()).min_by_key(|below| self.at(*below))
            && self.at(first) < self.at(place)
        {
            self.swap(place, first);
            place = first;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note(a);
        self.note(b);
    }

    /// Remembers the place of who is there.
    fn note(&mut self, place: usize) {
        if let Some(scheduled) = &mut self.scheduled[self.heap[place]] {
            scheduled.place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_time;

    #[test]
    fn whoever_is_due_first_is_woken_first_however_deadlines_moved() {
        let start = test_time();
        for seed in 1..=20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut timers, mut wanted) = (Timers::default(), vec![None; 50]);
            for _ in 0..2000 {
                let who = rng.usize(..50);
                let at = start + Duration::from_millis(rng.u64(..100));
                match rng.u8(..4) {
                    0 => {
                        timers.set(who, None);
                        wanted[who] = None;
                    }
                    1 => {
                        timers.at_latest(who, at);
                        wanted[who] = Some(wanted[who].map_or(at, |old: Instant| old.min(at)));
                    }
                    2 => {
                        timers.set(who, Some(at));
                        wanted[who] = Some(at);
                    }
                    _ => {
                        let first = wanted.iter().zip(0..).filter_map(|(at, who)| Some(((*at)?, who))).min();
                        assert_eq!(timers.next(), first.map(|(at, _)| at), "seed {seed}");
                        let due = first.filter(|(due, _)| *due <= at).map(|(_, who)| who);
                        assert_eq!(timers.pop_due(at), due, "seed {seed}");
                        if let Some(who) = due {
                            wanted[who] = None;
                        }
                    }
                }
            }
        }
    }
}
