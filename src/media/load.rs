//! What a worker tells others of how much it has to do: where rooms go, and whether somebody is let in.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// Workers whose loads differ by less, in thousandths, are told apart by their participants: what somebody who has just come will
/// cost does not show yet.
const ALIKE: u32 = 100;

/// Shared by a worker, which writes, its rooms, which count, and whoever chooses.
#[derive(Debug)]
pub struct Load {
    participants: AtomicUsize,
    busy: AtomicU32, // thousandths
    admits: AtomicBool,
}

impl Default for Load {
    fn default() -> Load {
        Load { participants: AtomicUsize::new(0), busy: AtomicU32::new(0), admits: AtomicBool::new(true) }
    }
}

impl Load {
    /// Participants on this worker, as its rooms count them.
    pub fn participants(&self) -> &AtomicUsize {
        &self.participants
    }

    /// Whether it has time for more of them.
    pub fn admits(&self) -> bool {
        self.admits.load(Ordering::Relaxed)
    }

    /// The less, the better for a new room.
    pub fn rank(&self) -> impl Ord + use<> {
        let busy = self.busy.load(Ordering::Relaxed) / ALIKE;
        (!self.admits(), busy, self.participants.load(Ordering::Relaxed))
    }

    /// What the worker uses of the time that it could use, 0 to 1.
    pub fn tell(&self, busy: f64) {
        self.busy.store((busy * 1000.0) as u32, Ordering::Relaxed);
    }

    /// See [`Load::admits`].
    pub fn admit(&self, admits: bool) {
        self.admits.store(admits, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_go_where_somebody_is_let_in_then_where_time_is_left_then_where_few_are() {
        let load = |busy, admits, participants| {
            let load = Load::default();
            load.tell(busy);
            load.admit(admits);
            load.participants().store(participants, Ordering::Relaxed);
            load
        };
        let best_first = [load(0.12, true, 3), load(0.11, true, 4), load(0.3, true, 0), load(0.1, false, 0)];
        assert!(best_first.windows(2).all(|pair| pair[0].rank() < pair[1].rank()));
    }
}
