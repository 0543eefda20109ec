//! The addresses that a client proved to know our password from, and what each may be sent.

use std::time::Instant;

use crate::command::Path;
use crate::transport::stun::TransactionId;

/// What may still be sent to an address that nobody has shown to own: three times what came from it, the
/// factor of RFC 9000 §8.1. Counted in bytes of UDP payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AntiAmplification {
    left: u64,
}

impl AntiAmplification {
    const FACTOR: u64 = 3;

    /// A datagram of `bytes` came from the address.
    pub fn received(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(Self::FACTOR.saturating_mul(bytes as u64));
    }

    /// Takes `bytes` from what may be sent; `false`, and nothing is taken, when there is less.
    pub fn take(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes as u64) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// One address pair that an authenticated request came over.
#[derive(Debug)]
pub(super) struct PathState {
    pub(super) path: Path,
    /// `None` once the client has shown that it receives what we send there.
    pub(super) budget: Option<AntiAmplification>,
    /// Of the credentials that the latest request used.
    pub(super) generation: u32,
    /// Of those that the client had there: after a restart it may still have our old ones beside new ones of its own. `Err` is
    /// their fragment, as long as no description has it.
    pub(super) theirs: Result<u32, Box<str>>,
    /// What was heard over the selected path when requests began to come over this one alone, and how many have.
    pub(super) alone: (u32, u8),
    /// What a response to our check must carry.
    pub(super) check: TransactionId,
    /// A check is to be sent.
    pub(super) check_due: bool,
    pub(super) last_request: Instant,
}

impl PathState {
    pub(super) fn validated(&self) -> bool {
        self.budget.is_none()
    }
}

/// At most `capacity` of them, which is at least 2: one to keep, one to try.
#[derive(Debug)]
pub(super) struct Paths {
    list: Vec<PathState>,
    capacity: usize,
}

impl Paths {
    pub(super) fn new(capacity: usize) -> Paths {
        Paths { list: Vec::new(), capacity: capacity.max(2) }
    }

    pub(super) fn get(&self, path: Path) -> Option<&PathState> {
        self.list.iter().find(|state| state.path == path)
    }

    pub(super) fn get_mut(&mut self, path: Path) -> Option<&mut PathState> {
        self.list.iter_mut().find(|state| state.path == path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PathState> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut PathState> {
        self.list.iter_mut()
    }

    /// Adds a path that is not there yet. When there are too many, the one goes that was silent for longest,
    /// unvalidated ones first; never `keep`. Returns what went.
    pub(super) fn insert(&mut self, state: PathState, keep: Option<Path>) -> Option<Path> {
        let mut gone = None;
        if self.list.len() >= self.capacity {
            let victim = (0..self.list.len())
                .filter(|i| Some(self.list[*i].path) != keep)
                .min_by_key(|i| (self.list[*i].validated(), self.list[*i].last_request));
            if let Some(victim) = victim {
                gone = Some(self.list.swap_remove(victim).path);
            }
        }
        self.list.push(state);
        gone
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&PathState) -> bool) {
        self.list.retain(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_what_came_and_not_a_byte_more() {
        let mut budget = AntiAmplification::default();
        assert!(!budget.take(1), "nothing before anything came");
        budget.received(100);
        assert!(budget.take(299));
        assert!(!budget.take(2));
        assert!(budget.take(1), "a refusal takes nothing");
        assert!(!budget.take(1));
        budget.received(usize::MAX);
        assert!(budget.take(usize::MAX));
    }
}
