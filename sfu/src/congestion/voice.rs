//! Whether a talk is possible in one direction of a path: does sound get through, and soon enough?
//!
//! Once a second the last two are judged: bad, good, or neither. Four bad verdicts in a row are a fault, eight good ones
//! its end.
//! Always: between two changes lie four seconds at least; what is neither good nor bad changes nothing; a path that
//! carries no sound is not judged, and a fault that nothing is known of any more is over.
//! Not here: redundancy (`forward::redundancy`), which lessens what is missed; who is told (the signalling).

use std::time::{Duration, Instant};

use crate::command::VoiceFault;

/// Seconds judged together.
const WINDOW: usize = 2;
/// Fewer packets in the window tell nothing: a microphone that is silent (DTX) sends three a second.
const LEAST: u32 = 20;
/// Share of sound that is missing after repair: from here on words are lost (beyond it no concealment of Opus, nor
/// ITU-T G.107 for any codec, gives a usable call), and below this they are not.
const MISSED: (f64, f64) = (0.15, 0.08);
/// Share that is lost before repair: with more, redundancy lives on luck, and signalling and consent go the same way.
const LOST: (f64, f64) = (0.33, 0.25);
/// Round trip or queue with which people talk at the same time (ITU-T G.114 has 400 ms one way as the limit; with twice
/// that, a talk by turns is still possible).
const LAG: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_secs(1));
/// A target below what sound costs means something only if this queue, or loss, shows it.
const QUEUE: Duration = Duration::from_millis(250);
/// Verdicts in a row that begin and end a fault, and seconds without any that end it, too.
const BAD: u32 = 4;
const GOOD: u32 = 8;
const UNKNOWN: u32 = 15;
/// A microphone's packets, as browsers send them.
const PACKET: Duration = Duration::from_millis(20);

/// Packets of sound, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All.
    pub sent: u32,
    /// Those that did not come.
    pub lost: u32,
    /// Those that could not be made good from others either.
    pub missed: u32,
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally {
            sent: self.sent.saturating_add(other.sent),
            lost: self.lost.saturating_add(other.lost),
            missed: self.missed.saturating_add(other.missed),
        }
    }

    fn share(self, of: u32) -> f64 {
        f64::from(of) / f64::from(self.sent.max(1))
    }
}

/// What else there is to know of the path, each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Somebody's sound is being sent.
    pub sounds: bool,
    /// Round trip.
    pub rtt: Duration,
    /// Queueing delay.
    pub queue: Duration,
    /// The target is below what the sound costs.
    pub short: bool,
    /// Nothing at all gets through.
    pub outage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Bad(VoiceFault),
    Good,
    Neither,
    Unknown,
}

/// One direction of one path.
#[derive(Debug, Default)]
pub struct Voice {
    now: Tally,
    before: [Tally; WINDOW - 1],
    /// Of lost packets in a row, how many so far, and when the last one left.
    run: (u32, Option<Instant>),
    bad: u32,
    good: u32,
    unknown: u32,
    fault: Option<VoiceFault>,
}

impl Voice {
    /// Counts packets whose fate is known.
    pub fn count(&mut self, tally: Tally) {
        self.now = self.now.plus(tally);
    }

    /// A packet arrived.
    pub fn arrived(&mut self) {
        self.now.sent = self.now.sent.saturating_add(1);
    }

    /// A packet that left at `sent` is lost; the `copies` packets after it (of its track) have a copy of it. Losses
    /// come in the order of sending.
    pub fn lost(&mut self, sent: Instant, copies: u8) {
        // Packets of all tracks are one sequence here; redundancy works within a track.
        let second = self.before[0].sent.max(50);
        let spacing = Duration::from_secs(1) / second;
        let tracks = (PACKET.as_secs_f64() / spacing.as_secs_f64()).round().max(1.0) as u32;
        let follows = self.run.1.is_some_and(|last| sent.saturating_duration_since(last) <= spacing * 3 / 2);
        let run = if follows { self.run.0.saturating_add(1) } else { 1 };
        self.run = (run, Some(sent));
        let missed = u32::from(run > u32::from(copies) * tracks);
        self.count(Tally { sent: 1, lost: 1, missed });
    }

    /// One that was counted as lost came after all, or was sent again.
    pub fn repaired(&mut self) {
        self.now.lost = self.now.lost.saturating_sub(1);
        self.now.missed = self.now.missed.saturating_sub(1);
    }

    /// Why no talk is possible, as last told.
    pub fn fault(&self) -> Option<VoiceFault> {
        self.fault
    }

    /// Ends a second. Says whether [`Voice::fault`] changed.
    pub fn close_second(&mut self, conditions: &Conditions) -> bool {
        let verdict = self.judge(conditions);
        self.before.rotate_right(1);
        self.before[0] = std::mem::take(&mut self.now);
        let streak =
            |count: &mut u32, goes_on: bool| *count = if goes_on { count.saturating_add(1) } else { 0 };
        streak(&mut self.bad, matches!(verdict, Verdict::Bad(_)));
        streak(&mut self.unknown, verdict == Verdict::Unknown);
        // A pause in the talk proves nothing, and does not undo what was proven.
        if verdict != Verdict::Unknown {
            streak(&mut self.good, verdict == Verdict::Good);
        }
        match (self.fault, verdict) {
            (None, Verdict::Bad(fault)) if self.bad >= BAD => {
                (self.fault, self.good) = (Some(fault), 0);
                true
            }
            (Some(_), _) if self.good >= GOOD || self.unknown >= UNKNOWN => {
                (self.fault, self.bad) = (None, 0);
                true
            }
            _ => false,
        }
    }

    fn judge(&self, conditions: &Conditions) -> Verdict {
        let tally = self.before.iter().fold(self.now, |sum, slot| sum.plus(*slot));
        let (lost, missed) = (tally.share(tally.lost), tally.share(tally.missed));
        let known = tally.sent >= LEAST;
        let lag = conditions.rtt.max(conditions.queue);
        let short = conditions.short && (conditions.queue > QUEUE || (known && missed >= MISSED.1));
        if !conditions.sounds {
            Verdict::Unknown
        } else if conditions.outage {
            Verdict::Bad(VoiceFault::Outage)
        } else if known && (lost >= LOST.0 || missed >= MISSED.0) {
            Verdict::Bad(VoiceFault::Loss)
        } else if lag >= LAG.0 {
            Verdict::Bad(VoiceFault::Delay)
        } else if short {
            Verdict::Bad(VoiceFault::Bandwidth)
        } else if !known {
            Verdict::Unknown
        } else if lost < LOST.1 && missed < MISSED.1 && lag < LAG.1 {
            Verdict::Good
        } else {
            Verdict::Neither
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: Conditions = Conditions {
        sounds: true,
        rtt: Duration::from_millis(100),
        queue: Duration::ZERO,
        short: false,
        outage: false,
    };

    /// A second of 50 packets with so many missed.
    fn second(voice: &mut Voice, missed: u32, conditions: &Conditions) -> bool {
        voice.count(Tally { sent: 50, lost: missed, missed });
        voice.close_second(conditions)
    }

    /// Seconds until the fault changes, 60 at most.
    fn until_change(voice: &mut Voice, missed: u32, conditions: &Conditions) -> Option<u32> {
        (1..=60).find(|_| second(voice, missed, conditions))
    }

    #[test]
    fn four_bad_seconds_are_a_fault_and_eight_good_ones_its_end() {
        let mut voice = Voice::default();
        assert_eq!(until_change(&mut voice, 0, &SOUND), None);
        for _ in 0..10 {
            // Seconds are judged by two, so that two bad ones are three bad verdicts.
            for missed in [30, 30, 0, 0] {
                assert!(!second(&mut voice, missed, &SOUND));
            }
        }
        assert!(until_change(&mut voice, 30, &SOUND).is_some_and(|after| after <= 5));
        assert_eq!(voice.fault(), Some(VoiceFault::Loss));
        assert_eq!(until_change(&mut voice, 5, &SOUND), None, "10 %: neither good nor bad");
        assert!((8..=10).contains(&until_change(&mut voice, 1, &SOUND).expect("it ends")));
        assert_eq!(voice.fault(), None);
        assert_eq!(until_change(&mut voice, 5, &SOUND), None, "nor does 10 % begin one");
    }

    #[test]
    fn delay_a_target_below_sound_and_silence_of_the_path_are_faults_too() {
        let ms = Duration::from_millis;
        for (conditions, fault) in [
            (Conditions { rtt: ms(1600), ..SOUND }, Some(VoiceFault::Delay)),
            (Conditions { queue: ms(1600), ..SOUND }, Some(VoiceFault::Delay)),
            (Conditions { rtt: ms(1200), ..SOUND }, None),
            (Conditions { short: true, ..SOUND }, None),
            (Conditions { short: true, queue: ms(300), ..SOUND }, Some(VoiceFault::Bandwidth)),
            (Conditions { outage: true, ..SOUND }, Some(VoiceFault::Outage)),
            (Conditions { outage: true, sounds: false, ..SOUND }, None),
        ] {
            let mut voice = Voice::default();
            until_change(&mut voice, 0, &conditions);
            assert_eq!(voice.fault(), fault, "{conditions:?}");
        }
    }

    #[test]
    fn a_path_without_sound_is_not_judged_and_a_fault_on_it_is_forgotten() {
        let mut voice = Voice::default();
        voice.count(Tally { sent: 5, lost: 5, missed: 5 });
        assert!((0..60).all(|_| !voice.close_second(&SOUND)));
        assert!(until_change(&mut voice, 50, &SOUND).is_some());
        let over = (1..=60).find(|_| voice.close_second(&Conditions { sounds: false, ..SOUND }));
        assert_eq!(over, Some(UNKNOWN));
    }

    #[test]
    fn copies_make_good_what_is_lost_alone_and_not_a_long_burst() {
        let start = crate::test_time();
        let share = |copies: u8, burst: u32, tracks: u32| {
            let mut voice = Voice::default();
            let mut missed = 0;
            for second in 0..20 {
                for n in 0..50 * tracks {
                    let sent =
                        start + Duration::from_secs(second) + Duration::from_secs(1) / (50 * tracks) * n;
                    // A fifth is lost.
                    if n % (burst * 5) < burst { voice.lost(sent, copies) } else { voice.arrived() }
                }
                missed = voice.now.missed;
                voice.close_second(&SOUND);
            }
            f64::from(missed) / f64::from(50 * tracks)
        };
        for tracks in [1, 5] {
            assert!((share(0, tracks, tracks) - 0.2).abs() < 0.01);
            assert!(share(1, tracks, tracks) < 0.001);
            assert!((share(2, 10 * tracks, tracks) - 0.16).abs() < 0.01, "two of each ten come back");
        }
    }
}
