//! Fewer frames for who wants fewer: which of a data track's go to one subscriber.
//!
//! Whole frames go or do not, whatever the order in which their packets come. At most two go at once, and after that no more than
//! the rate asked for.

use std::time::{Duration, Instant};

/// Frames of which it is remembered whether they go. One that is this far behind is no latecomer: its sender counts anew.
const REMEMBERED: u16 = 32;

/// See the module's page.
pub(super) struct Thinning {
    interval: Duration,
    /// When the next frame would go at an even pace; `None` before the first.
    due: Option<Instant>,
    /// The newest frame that was seen, and what was decided: of itself in the lowest bit, of those before it in the next.
    latest: Option<(u16, u32)>,
}

impl Thinning {
    /// To that many frames a second; `None` for 0, which bounds nothing.
    pub(super) fn to(fps: u32) -> Option<Thinning> {
        let interval = Duration::from_secs(1).checked_div(fps)?;
        Some(Thinning { interval, due: None, latest: None })
    }

    /// Whether the packets of that frame go, of which one is here.
    pub(super) fn takes(&mut self, now: Instant, frame: u16) -> bool {
        if let Some((latest, decided)) = self.latest {
            let behind = latest.wrapping_sub(frame);
            if behind < REMEMBERED {
                return decided >> behind & 1 == 1;
            }
        }
        let goes = self.has_room(now);
        let before = self.latest.map_or(0, |(latest, decided)| {
            decided.checked_shl(u32::from(frame.wrapping_sub(latest))).unwrap_or(0)
        });
        self.latest = Some((frame, before | u32::from(goes)));
        goes
    }

    fn has_room(&mut self, now: Instant) -> bool {
        let due = self.due.unwrap_or(now);
        // A frame that comes a little early by jitter is not given up: the one after it waits longer.
        let goes = now + self.interval >= due;
        if goes {
            self.due = Some(due.max(now) + self.interval);
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FPS: u64 = 30;

    /// Frames that go of ten seconds at 30 frames a second, each up to `jitter` early or late.
    fn taken(fps: u32, jitter: Duration, seed: u64) -> usize {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut thinning = Thinning::to(fps).unwrap();
        let start = crate::test_time();
        (0..10 * FPS)
            .filter(|frame| {
                let now = start + Duration::from_millis(1000 * frame / FPS) + jitter.mul_f64(2.0 * rng.f64());
                thinning.takes(now, *frame as u16)
            })
            .count()
    }

    #[test]
    fn as_many_frames_go_as_are_asked_for() {
        for seed in 0..20 {
            for jitter in [0, 10].map(Duration::from_millis) {
                for fps in [1, 2, 5, 10, 15] {
                    let (got, wanted) = (taken(fps, jitter, seed), 10 * fps as usize);
                    assert!((wanted..=wanted + 2).contains(&got), "{got} at {fps} fps, seed {seed}");
                }
                for fps in [30, 31, 1000, u32::MAX] {
                    assert_eq!(taken(fps, jitter, seed), 300, "{fps} fps of 30 are all, seed {seed}");
                }
            }
        }
        assert!(Thinning::to(0).is_none());
    }

    #[test]
    fn all_packets_of_a_frame_share_its_fate_in_whatever_order() {
        let now = crate::test_time();
        let mut thinning = Thinning::to(1).unwrap();
        let first = [9, 8, 7, 9, 8, 7, 6].map(|frame| thinning.takes(now, frame));
        // 8 and 7 were behind when they came, and were not decided upon before.
        assert_eq!(first, [true, false, false, true, false, false, false]);
        assert!(thinning.takes(now, 10), "two at once");
        assert!(!thinning.takes(now, 12));
        let later = now + Duration::from_secs(1);
        assert_eq!([12, 11, 10, 9].map(|frame| thinning.takes(later, frame)), [false, false, true, true]);
        assert!(thinning.takes(later, 13));
    }

    #[test]
    fn numbers_wrap_and_a_sender_may_count_anew() {
        let mut now = crate::test_time();
        let mut thinning = Thinning::to(10).unwrap();
        for frame in [65_534, 65_535, 0, 1, 40_000, 2] {
            assert!(thinning.takes(now, frame), "{frame}");
            now += Duration::from_millis(100);
        }
    }
}
