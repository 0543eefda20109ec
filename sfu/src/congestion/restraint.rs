//! How much of the video that is asked for may leave while the machine is short of time.
//!
//! Each step takes a fifth of what the one before left; the last takes it all. It bounds what a subscriber asks for, not what its path
//! carries, which may be more by far; what goes first within that is the allocator's affair ([`super::allocate`]). Each
//! subscriber has a place within every step, so that between one step and the next some follow and not everybody.
//! Not here: who decides that time is short. It is outside of this crate, where there is a clock.

use crate::units::Bitrate;

/// What a step leaves of the one before.
const RATIO: f64 = 0.8;
/// Turns a subscriber's number into its place: neighbours lie far apart, and any run of them is spread evenly (the golden
/// ratio's fraction).
const SPREAD: f64 = 0.618_033_988_749_895;

/// Steps by which video is held back, from none to all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Restraint(u8);

impl Restraint {
    /// Nothing is held back.
    pub const NONE: Restraint = Restraint(0);
    /// No video at all. The step before leaves 4 %, less than the smallest of three encodings.
    pub const ALL: Restraint = Restraint(16);

    /// So many steps more.
    #[must_use]
    pub fn more(self, steps: u8) -> Restraint {
        Restraint(self.0.saturating_add(steps).min(Restraint::ALL.0))
    }

    /// So many steps fewer.
    #[must_use]
    pub fn less(self, steps: u8) -> Restraint {
        Restraint(self.0.saturating_sub(steps))
    }

    /// How many there are.
    pub fn steps(self) -> u8 {
        self.0
    }

    /// What subscriber `number` is left.
    pub fn share(self, number: usize) -> Share {
        match self {
            Restraint::NONE => Share::WHOLE,
            Restraint::ALL => Share(0.0),
            Restraint(steps) => {
                let place = ((number + 1) as f64 * SPREAD).fract();
                Share(RATIO.powf(f64::from(steps - 1) + place))
            }
        }
    }

    /// By how many steps less something that took `used` would come to take `most`, if all of it were video.
    pub fn steps_between(used: f64, most: f64) -> u8 {
        if used <= 0.0 {
            return Restraint::ALL.0;
        }
        (most / used).log(1.0 / RATIO).clamp(0.0, f64::from(Restraint::ALL.0)) as u8
    }
}

/// What one subscriber is left of the video that it asks for: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share(1.0);

    /// What `affordable` comes down to, for one that asks for `wanted`.
    pub fn bound(self, affordable: Bitrate, wanted: Bitrate) -> Bitrate {
        if self == Share::WHOLE { affordable } else { affordable.min(wanted.scale(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_take_more_and_more_and_the_last_takes_all() {
        let wanted = Bitrate::kbps(1000);
        for number in 0..50 {
            let mut before = Share::WHOLE.bound(Bitrate::kbps(5000), wanted);
            assert_eq!(before, Bitrate::kbps(5000), "the path's affair");
            for steps in 1..Restraint::ALL.steps() {
                let left = Restraint::NONE.more(steps).share(number).bound(Bitrate::kbps(5000), wanted);
                assert!(left < before.max(wanted), "{number}: {steps}");
                before = left;
            }
            assert!(before > Bitrate::ZERO);
            assert_eq!(Restraint::ALL.share(number).bound(wanted, wanted), Bitrate::ZERO);
        }
        let narrow = Restraint::NONE.more(1).share(0).bound(Bitrate::kbps(100), wanted);
        assert_eq!(narrow, Bitrate::kbps(100), "the path carries less than that");
    }

    #[test]
    fn subscribers_are_spread_over_a_step() {
        let shares = |steps| (0..20).map(move |number| Restraint::NONE.more(steps).share(number).0);
        let (least, most) = (shares(3).fold(1.0, f64::min), shares(3).fold(0.0, f64::max));
        assert!(most < 0.65 && most > 0.6 && least > 0.51 && least < 0.55, "{least} to {most}");
        assert!(shares(4).all(|share| share <= RATIO.powi(3)));
    }

    #[test]
    fn as_many_steps_fewer_as_there_is_room_for() {
        let room = Restraint::steps_between;
        assert_eq!((room(0.7, 0.85), room(0.65, 0.85), room(0.3, 0.85)), (0, 1, 4));
        assert_eq!((room(0.0, 0.85), room(0.9, 0.85)), (Restraint::ALL.steps(), 0));
        assert_eq!(Restraint::NONE.less(3), Restraint::NONE);
        assert_eq!(Restraint::NONE.more(100), Restraint::ALL);
    }
}
