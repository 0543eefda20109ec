//! Messages that were sent twice on purpose, told by the random number in them.

use std::collections::VecDeque;

/// Numbers that a room remembers, as many as the reference server: repetitions come within seconds.
const REMEMBERED: usize = 100;

/// The last numbers of a room, oldest first.
#[derive(Debug, Default)]
pub(super) struct Nonces(VecDeque<[u8; 16]>);

impl Nonces {
    /// Whether the number came before. It is remembered if not.
    pub(super) fn is_repeated(&mut self, nonce: [u8; 16]) -> bool {
        if self.0.contains(&nonce) {
            return true;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(nonce);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_known_for_a_while() {
        let mut nonces = Nonces::default();
        let nonce = |n: usize| (n as u128).to_be_bytes();
        assert!(!nonces.is_repeated(nonce(0)) && nonces.is_repeated(nonce(0)));
        for n in 1..REMEMBERED {
            assert!(!nonces.is_repeated(nonce(n)));
        }
        assert!(nonces.is_repeated(nonce(0)));
        assert!(!nonces.is_repeated(nonce(REMEMBERED)));
        assert_eq!(nonces.0.len(), REMEMBERED);
        assert!(!nonces.is_repeated(nonce(0)), "forgotten");
    }
}
