//! The latest packets by number, as long as they may be asked for.
//!
//! A ring that doubles while it would forget what is still young, up to a bound: a slow stream takes little memory,
//! and once it has seen its stream's rate nothing is allocated.

use std::time::{Duration, Instant};

use crate::ahead::look;

/// What a history keeps.
pub(crate) trait Remembered {
    /// Never wraps.
    fn number(&self) -> u64;
    /// Since when it is kept.
    fn since(&self) -> Instant;
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Places at first, a power of two.
    pub(crate) least: usize,
    /// Places at most, a power of two.
    pub(crate) most: usize,
    /// What is older may be forgotten.
    pub(crate) time: Duration,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct History<T> {
    places: Box<[Option<T>]>, // by number modulo their count
    newest: u64,
    extent: Extent,
}

impl<T: Remembered> History<T> {
    pub(crate) fn new(extent: Extent) -> Self {
        History { places: empty(extent.least), newest: 0, extent }
    }

    /// How many numbers before the latest it can hold, itself included.
    pub(crate) fn span(&self) -> u64 {
        self.places.len() as u64
    }

    /// Keeps a packet in place of one a span older; one so late that a younger number has its place is not kept.
    pub(crate) fn insert(&mut self, now: Instant, packet: T) {
        let number = packet.number();
        if number > self.newest {
            // Looked at an eighth of a round ahead, and eight times a round only: what is replaced was written long
            // ago, and to read it takes longer than all the rest.
            let mut part = (self.span() / 8).max(1);
            let begins = number / part != self.newest / part;
            while begins
                && self.places[self.place(number + part - 1)].as_ref().is_some_and(|old| self.needs(now, old))
            {
                self.grow();
                part = self.span() / 8;
            }
            self.newest = number;
            let place = self.place(number);
            self.places[place] = Some(packet);
            return;
        }
        let place = loop {
            let place = self.place(packet.number());
            match &self.places[place] {
                Some(old) if old.number() == packet.number() => break place,
                Some(old) if self.needs(now, old) => self.grow(),
                Some(old) if old.number() > packet.number() => return,
                Some(_) | None => break place,
            }
        };
        self.places[place] = Some(packet);
    }

    /// Reads ahead the place of a number that is about to be inserted or looked for.
    pub(crate) fn ahead(&self, number: u64) {
        look(&self.places[self.place(number)].is_some());
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        self.places[self.place(number)].as_ref().filter(|packet| packet.number() == number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number);
        self.places[place].as_mut().filter(|packet| packet.number() == number)
    }

    fn needs(&self, now: Instant, packet: &T) -> bool {
        self.places.len() < self.extent.most
            && now.saturating_duration_since(packet.since()) <= self.extent.time
    }

    fn grow(&mut self) {
        let larger = empty(self.places.len() * 2);
        for packet in std::mem::replace(&mut self.places, larger).into_iter().flatten() {
            let place = self.place(packet.number());
            self.places[place] = Some(packet);
        }
    }

    fn place(&self, number: u64) -> usize {
        number as usize & (self.places.len() - 1)
    }
}

fn empty<T>(places: usize) -> Box<[Option<T>]> {
    debug_assert!(places.is_power_of_two());
    std::iter::repeat_with(|| None).take(places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_time;

    impl Remembered for (u64, Instant) {
        fn number(&self) -> u64 {
            self.0
        }

        fn since(&self) -> Instant {
            self.1
        }
    }

    /// One packet each `interval`; how many of them are remembered in the end, and the span.
    fn remembered(interval: Duration) -> (usize, u64) {
        let mut history = History::new(Extent { least: 16, most: 256, time: Duration::from_secs(1) });
        let start = test_time();
        for number in 0..10_000 {
            let now = start + interval * number;
            history.insert(now, (u64::from(number), now));
            assert!(history.get(u64::from(number)).is_some());
        }
        let count = (0..10_000).filter(|number| history.get(*number).is_some()).count();
        (count, history.span())
    }

    #[test]
    fn it_grows_until_it_holds_its_time_but_not_above_its_bound() {
        assert_eq!(remembered(Duration::from_millis(100)), (16, 16));
        assert_eq!(remembered(Duration::from_millis(10)), (128, 128));
        assert_eq!(remembered(Duration::from_millis(1)), (256, 256));
    }

    #[test]
    fn what_comes_late_finds_its_place_unless_a_younger_number_has_it() {
        let now = test_time();
        let mut history = History::new(Extent { least: 4, most: 8, time: Duration::from_secs(1) });
        for number in [20, 22, 21, 15, 12] {
            history.insert(now, (number, now));
        }
        let kept: Vec<u64> = (0..30).filter(|number| history.get_mut(*number).is_some()).collect();
        assert_eq!(kept, [15, 20, 21, 22]);
    }
}
