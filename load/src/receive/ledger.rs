//! The sequence numbers of one stream as they come: what is missing, late or there twice.

/// Numbers below the highest that are remembered: seconds of any stream.
const WINDOW: u64 = 4096;

/// How a packet stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Above all before it.
    Newest,
    /// Below the highest, and not seen before.
    Late,
    /// Seen before.
    Duplicate,
    /// Too far below the highest to be known.
    Ancient,
}

/// Numbers are extended to 64 bits and never wrap; the first lies in the second cycle, so that what was sent before
/// it has a number too.
#[derive(Default)]
pub(crate) struct Ledger {
    highest: Option<u64>,
    /// The lowest seen.
    lowest: u64,
    /// Which of the last [`WINDOW`] are there, by number modulo the window.
    seen: Vec<u64>,
    counts: Counts,
}

/// Sums of what ledgers saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Numbers from the lowest to the highest.
    pub(crate) expected: u64,
    /// Of these, those that came by themselves.
    pub(crate) received: u64,
    /// Those that came again, as a repair.
    pub(crate) repaired: u64,
    /// Those that came after a higher one.
    pub(crate) reordered: u64,
    /// Packets whose number was there already.
    pub(crate) duplicates: u64,
}

impl Counts {
    /// Numbers that did not come by themselves.
    pub(crate) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    /// Numbers that did not come at all.
    pub(crate) fn missing(&self) -> u64 {
        self.lost().saturating_sub(self.repaired)
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.expected += other.expected;
        self.received += other.received;
        self.repaired += other.repaired;
        self.reordered += other.reordered;
        self.duplicates += other.duplicates;
    }
}

impl Ledger {
    /// The number nearest to the highest that ends in `wire`.
    pub(crate) fn extend(&self, wire: u16) -> u64 {
        match self.highest {
            None => 1 << 16 | u64::from(wire),
            Some(highest) => highest.wrapping_add_signed(i64::from(wire.wrapping_sub(highest as u16) as i16)),
        }
    }

    /// A packet came under its own number.
    pub(crate) fn arrived(&mut self, number: u64) -> Arrival {
        let Some(highest) = self.highest else {
            self.seen = vec![0; (WINDOW / 64) as usize];
            (self.highest, self.lowest) = (Some(number), number);
            self.mark(number);
            self.counts = Counts { expected: 1, received: 1, ..Counts::default() };
            return Arrival::Newest;
        };
        if number > highest {
            for skipped in highest.max(number.saturating_sub(WINDOW)) + 1..number {
                self.unmark(skipped);
            }
            self.mark(number);
            self.highest = Some(number);
            self.counts.expected += number - highest;
            self.counts.received += 1;
            return Arrival::Newest;
        }
        if highest - number >= WINDOW {
            return Arrival::Ancient;
        }
        if number >= self.lowest && self.is_seen(number) {
            self.counts.duplicates += 1;
            return Arrival::Duplicate;
        }
        self.lower_to(number);
        self.mark(number);
        self.counts.received += 1;
        self.counts.reordered += 1;
        Arrival::Late
    }

    /// A repair of that number came. Whether it was missing.
    pub(crate) fn repaired(&mut self, number: u64) -> bool {
        let Some(highest) = self.highest else { return false };
        if number > highest || number < self.lowest || highest - number >= WINDOW || self.is_seen(number) {
            return false;
        }
        self.mark(number);
        self.counts.repaired += 1;
        true
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Packets from before the first seen were lost to no one until one of them comes.
    fn lower_to(&mut self, number: u64) {
        if number < self.lowest {
            for between in number..self.lowest {
                self.unmark(between);
            }
            self.counts.expected += self.lowest - number;
            self.lowest = number;
        }
    }

    fn mark(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.seen[word] |= bit;
    }

    fn unmark(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.seen[word] &= !bit;
    }

    fn is_seen(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen[word] & bit != 0
    }
}

fn place(number: u64) -> (usize, u64) {
    let index = number % WINDOW;
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds wire numbers; what became of each.
    fn feed(ledger: &mut Ledger, numbers: impl IntoIterator<Item = u16>) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        for number in numbers {
            let number = ledger.extend(number);
            arrivals.push(ledger.arrived(number));
        }
        arrivals
    }

    #[test]
    fn in_order_over_the_wrap_nothing_is_lost() {
        let mut ledger = Ledger::default();
        let arrivals = feed(&mut ledger, (65_000..=65_535).chain(0..500));
        assert!(arrivals.iter().all(|arrival| *arrival == Arrival::Newest));
        let counts = ledger.counts();
        assert_eq!((counts.expected, counts.received, counts.lost()), (1036, 1036, 0));
        assert_eq!((counts.reordered, counts.duplicates), (0, 0));
    }

    #[test]
    fn late_packets_are_reordered_and_not_lost() {
        let mut ledger = Ledger::default();
        let arrivals = feed(&mut ledger, [10, 12, 13, 11, 11, 14]);
        assert_eq!(arrivals[3..5], [Arrival::Late, Arrival::Duplicate]);
        let counts = ledger.counts();
        assert_eq!((counts.lost(), counts.reordered, counts.duplicates), (0, 1, 1));
    }

    #[test]
    fn what_came_before_the_first_is_expected_only_when_it_shows_up() {
        let mut ledger = Ledger::default();
        let arrivals = feed(&mut ledger, [2, 0, 65_535, 3]);
        assert_eq!(arrivals, [Arrival::Newest, Arrival::Late, Arrival::Late, Arrival::Newest]);
        let counts = ledger.counts();
        assert_eq!((counts.expected, counts.received, counts.lost()), (5, 4, 1)); // 1 is missing
    }

    #[test]
    fn repairs_fill_gaps_once() {
        let mut ledger = Ledger::default();
        feed(&mut ledger, [100, 103]);
        let (missing, other) = (ledger.extend(101), ledger.extend(100));
        assert!(ledger.repaired(missing));
        assert!(!ledger.repaired(missing) && !ledger.repaired(other));
        let counts = ledger.counts();
        assert_eq!((counts.lost(), counts.repaired, counts.missing()), (2, 1, 1));
    }

    #[test]
    fn long_gaps_are_counted_whole_and_forget_what_lay_before() {
        let mut ledger = Ledger::default();
        feed(&mut ledger, [0, 1, 10_000]);
        assert_eq!(ledger.counts().lost(), 9_998);
        let old = ledger.extend(1);
        assert_eq!(ledger.arrived(old), Arrival::Ancient);
        let recent = ledger.extend(9_000);
        assert_eq!(ledger.arrived(recent), Arrival::Late);
        assert_eq!(ledger.counts().lost(), 9_997);
    }

    #[test]
    fn random_losses_and_swaps_add_up() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut sent: Vec<u64> = (0..20_000).collect();
            for index in (0..19_990).step_by(10) {
                if random.u8(..) < 40 {
                    sent.swap(index, index + random.usize(1..5));
                }
            }
            let kept: Vec<u64> = sent.iter().copied().filter(|_| random.u8(..) >= 10).collect();
            let mut ledger = Ledger::default();
            feed(&mut ledger, kept.iter().map(|number| *number as u16));
            let (low, high) = (*kept.iter().min().unwrap(), *kept.iter().max().unwrap());
            let counts = ledger.counts();
            assert_eq!(counts.received, kept.len() as u64, "seed {seed}");
            assert_eq!(counts.lost(), high - low + 1 - kept.len() as u64, "seed {seed}");
            let mut top = 0;
            let late = kept.iter().filter(|number| {
                let late = **number < top;
                top = top.max(**number);
                late
            });
            assert_eq!(counts.reordered, late.count() as u64, "seed {seed}");
            assert_eq!(counts.duplicates, 0, "seed {seed}");
        }
    }
}
