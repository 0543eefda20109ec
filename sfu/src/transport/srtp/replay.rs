//! Which packet indexes of one stream have been seen (RFC 3711 §3.3.2).

use super::SrtpError;

/// A sliding window over the last `64 * WORDS` indexes.
///
/// A ring of bits: the bit of an index is its value modulo the window's size. Bits of the window's indexes
/// are true exactly for those accepted.
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: Option<u64>,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        ReplayWindow { highest: None, seen: [0; WORDS] }
    }
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    const SIZE: u64 = 64 * WORDS as u64;

    /// The highest index accepted so far.
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Whether `index` is new.
    ///
    /// # Errors
    /// [`SrtpError::Replayed`], or [`SrtpError::TooOld`] if the window has moved past it.
    pub(super) fn check(&self, index: u64) -> Result<(), SrtpError> {
        match self.highest {
            Some(highest) if index <= highest => {
                if highest - index >= Self::SIZE {
                    return Err(SrtpError::TooOld);
                }
                let (word, bit) = Self::place(index);
                if self.seen[word] & bit == 0 { Ok(()) } else { Err(SrtpError::Replayed) }
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Marks as seen an index that passed [`Self::check`], once the packet proved genuine.
    pub(super) fn accept(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) if index - highest < Self::SIZE => {
                for skipped in highest + 1..index {
                    let (word, bit) = Self::place(skipped);
                    self.seen[word] &= !bit;
                }
                self.highest = Some(index);
            }
            Some(_) | None => {
                self.seen = [0; WORDS];
                self.highest = Some(index);
            }
        }
        let (word, bit) = Self::place(index);
        self.seen[word] |= bit;
    }

    fn place(index: u64) -> (usize, u64) {
        let slot = index % Self::SIZE;
        ((slot / 64) as usize, 1 << (slot % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn agrees_with_a_set_over_random_walks() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut window = ReplayWindow::<2>::default();
            let mut seen = HashSet::new();
            let mut highest = 0;
            let mut at = 1000u64;
            for _ in 0..2000 {
                at = match rng.u8(..20) {
                    0 => at + rng.u64(..400),
                    _ => at + rng.u64(..3),
                };
                let index = at - rng.u64(..160);
                let expected = if !seen.is_empty() && index + 128 <= highest {
                    Err(SrtpError::TooOld)
                } else if seen.contains(&index) {
                    Err(SrtpError::Replayed)
                } else {
                    Ok(())
                };
                assert_eq!(window.check(index), expected, "seed {seed}, {index} with {highest}");
                if expected.is_ok() {
                    window.accept(index);
                    seen.insert(index);
                    highest = highest.max(index);
                }
            }
        }
    }
}
