//! Whether a worker has time left, and what follows when it has not.
//!
//! [`Meter`] takes what the loop sees of itself, as it goes: when it slept, and how long datagrams had waited for it.
//! [`Pressure`] turns a window of that into two answers: how much video is held back, and whether somebody new is let in.
//! The order is that nobody more comes first, then that pictures shrink; sound is never touched.
//! What counts is the CPU time that the loop used, of what it could have used: the time for which others had the processor is
//! neither. A machine that is busy with other things makes the loop late, and less video would not make it earlier as long as it comes to sleep.
//! One that never does so since it gets too little holds video back for the sake of sound; joins it refuses only when it is what takes the core.
//! Always: a single moment at which the machine stands still changes nothing; what is held back is given back by what it
//! would cost, and later each time that this was a mistake.
//! Not here: reading clocks (`worker`), what goes first of a subscriber's video (`sfu::congestion`).

use std::time::{Duration, Instant};

use sfu::congestion::restraint::Restraint;

/// Time over which load is measured: some tens of ticks.
const WINDOW: Duration = Duration::from_millis(200);
/// Datagrams that waited longer than this waited for us: at most they wait for a tick and for what the loop does then.
const LATE: Duration = Duration::from_millis(25);
/// Above this sound is late by what is heard. Longer waits are not told apart (`kernel::ReceiveBatch`).
const BEHIND: Duration = Duration::from_millis(50);
/// Steps at once, by how far behind we are: busy, late, behind.
const DOWN: [u8; 3] = [1, 2, 4];
/// Between two steps down: subscribers' allocations follow at once, keyframes of the lower layers after a round trip. Who is behind
/// does not wait for those.
const SETTLE: Duration = Duration::from_millis(600);
const SETTLE_BEHIND: Duration = Duration::from_millis(400);
/// Steps that are given back at once at most.
const UP: u8 = 4;
/// Before steps are given back, and then before somebody is let in.
const HOLD: Duration = Duration::from_secs(4);
/// A step down so soon after one up says that that was a mistake: viewers take up what they are given within some seconds, those whose
/// path must be asked first later. From then on a step to where it was made waits longer, twice as long each time, up to the second,
/// and is taken alone; one that lasts for so long says that it is none any more.
const SOON: Duration = Duration::from_secs(30);
const LONGEST_HOLD: Duration = Duration::from_mins(2);
/// Where the load is below this share of what it was before the mistake, it is another load, and what was learnt of the old one is forgotten.
const LIGHTER: f64 = 0.75;
/// What the load must fall below the limit until people are let in again.
const REOPEN: f64 = 0.1;
/// Load is smoothed over this time before anything is given back or anybody let in.
const SMOOTH: Duration = Duration::from_secs(1);
/// See [`Limits`].
const OWN: f64 = 0.25;
const LITTLE: f64 = 0.0625;

/// When a worker acts. All are shares, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Of its time: above it nobody more is let in. When half of the rest is gone too, video is held back.
    pub most: f64,
    /// Of its core: who has less refuses nobody, as it is others who take the core.
    pub own: f64,
    /// Of its core: who uses less has little to do, however little time it gets for that, and holds nothing back.
    pub little: f64,
}

impl Limits {
    /// `most` as configured.
    pub const fn of(most: f64) -> Limits {
        Limits { most, own: OWN, little: LITTLE }
    }
}

/// What a worker saw of itself for some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its length.
    pub length: Duration,
    /// CPU time of the thread.
    pub used: Duration,
    /// For so long it slept, until something came or was due.
    pub idle: Duration,
    /// The longest that a datagram had waited in the kernel.
    pub waited: Duration,
}

impl Window {
    /// What it used of the time that it could have used, 0 to 1.
    pub fn load(&self) -> f64 {
        share(self.used, self.used + self.idle)
    }

    /// What it used of its core, 0 to 1.
    fn core(&self) -> f64 {
        share(self.used, self.length)
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { (part.as_secs_f64() / whole.as_secs_f64()).min(1.0) }
}

/// Collects windows.
#[derive(Debug)]
pub struct Meter {
    since: Instant,
    used: Duration, // CPU time then
    idle: Duration,
    waited: Duration,
}

impl Meter {
    /// Begins now, when the thread has used so much CPU time.
    pub fn new(now: Instant, used: Duration) -> Meter {
        Meter { since: now, used, idle: Duration::ZERO, waited: Duration::ZERO }
    }

    /// The loop slept for so long, until something came or was due.
    pub fn slept(&mut self, time: Duration) {
        self.idle += time;
    }

    /// A datagram had waited so long when it was read.
    pub fn waited(&mut self, time: Duration) {
        self.waited = self.waited.max(time);
    }

    /// Whether the window is long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    /// The window that ends now, when the thread has used so much CPU time.
    pub fn take(&mut self, now: Instant, used: Duration) -> Window {
        let before = std::mem::replace(self, Meter::new(now, used));
        Window {
            length: now.saturating_duration_since(before.since),
            used: used.saturating_sub(before.used),
            idle: before.idle,
            waited: before.waited,
        }
    }
}

/// A step up that was too much.
#[derive(Clone, Copy, Debug)]
struct Mistake {
    /// What was held back then, too little.
    restraint: Restraint,
    /// Before the step.
    load: f64,
}

/// See the module's page.
#[derive(Debug)]
pub struct Pressure {
    limits: Limits,
    load: f64,      // smoothed
    core: f64,      // the same
    strained: bool, // in the window before
    restraint: Restraint,
    own: bool,          // what made for it was our own use of the core
    fall_from: Instant, // no step down before
    changed: Option<Instant>,
    rose: Option<(Instant, f64)>, // by a step that may be a mistake, at this load
    mistake: Option<Mistake>,
    hold: Duration, // until it is tried again
    admits: bool,
}

impl Pressure {
    /// Begins now, with nothing held back.
    pub fn new(now: Instant, limits: Limits) -> Pressure {
        Pressure {
            limits,
            load: 0.0,
            core: 0.0,
            strained: false,
            restraint: Restraint::NONE,
            own: false,
            fall_from: now,
            changed: None,
            rose: None,
            mistake: None,
            hold: HOLD,
            admits: true,
        }
    }

    /// A window ended now.
    pub fn on_window(&mut self, now: Instant, window: Window) {
        let weight = 1.0 - (-window.length.as_secs_f64() / SMOOTH.as_secs_f64()).exp();
        let load = window.load();
        self.load += (load - self.load) * weight;
        self.core += (window.core() - self.core) * weight;
        let Limits { most, own, little } = self.limits;
        let strained = load >= most.midpoint(1.0) && window.core() >= little;
        let lasts = std::mem::replace(&mut self.strained, strained) && strained;
        // Where nobody waits yet there is time to see whether it passes.
        let harms = window.waited >= LATE || self.load >= most;
        if lasts && harms && self.fall_from <= now {
            self.own = window.core() >= own;
            self.fall(now, window.waited);
        } else if !strained && self.restraint > Restraint::NONE {
            self.rise(now, self.load.max(load));
        }
        self.forgive(now);
        let open = if self.admits { most } else { most - REOPEN };
        self.admits = if self.restraint == Restraint::NONE && self.unchanged_for(now, HOLD) {
            self.load < open || self.core < own
        } else {
            !self.own
        };
    }

    /// How much video is held back.
    pub fn restraint(&self) -> Restraint {
        self.restraint
    }

    /// Whether somebody new is let in.
    pub fn admits(&self) -> bool {
        self.admits
    }

    /// What it uses of the time that it could use, 0 to 1, over the last second or so.
    pub fn load(&self) -> f64 {
        self.load
    }

    fn fall(&mut self, now: Instant, waited: Duration) {
        if let Some((_, load)) = self.rose.take() {
            let before = self.mistake.map_or(Restraint::NONE, |mistake| mistake.restraint);
            self.mistake = Some(Mistake { restraint: self.restraint.max(before), load });
            self.hold = (self.hold * 2).min(LONGEST_HOLD);
        }
        let [busy, late, behind] = DOWN;
        let (steps, settle) = match waited {
            _ if waited >= BEHIND => (behind, SETTLE_BEHIND),
            _ if waited >= LATE => (late, SETTLE),
            _ => (busy, SETTLE),
        };
        self.restraint = self.restraint.more(steps);
        (self.changed, self.fall_from) = (Some(now), now + settle);
    }

    /// As many steps as the time that is left bears, if all of the load were video; but to where that was a mistake one, and late.
    fn rise(&mut self, now: Instant, load: f64) {
        if self.mistake.is_some_and(|it| self.restraint <= it.restraint.more(1) && load < it.load * LIGHTER) {
            (self.mistake, self.hold) = (None, HOLD);
        }
        let steps = Restraint::steps_between(load, self.limits.most).min(UP);
        let wanted = self.restraint.less(steps);
        let (to, hold) = match self.mistake {
            Some(Mistake { restraint, .. }) if self.restraint <= restraint.more(1) => {
                (self.restraint.less(steps.min(1)), self.hold)
            }
            Some(Mistake { restraint, .. }) => (wanted.max(restraint.more(1)), HOLD),
            None => (wanted, HOLD),
        };
        if to < self.restraint && self.unchanged_for(now, hold) {
            self.restraint = to;
            (self.rose, self.changed) = (Some((now, load)), Some(now));
        }
    }

    fn unchanged_for(&self, now: Instant, time: Duration) -> bool {
        self.changed.is_none_or(|changed| changed + time <= now)
    }

    /// What has lasted was no mistake.
    fn forgive(&mut self, now: Instant) {
        if self.rose.is_some_and(|(rose, _)| now.saturating_duration_since(rose) >= SOON) {
            self.rose = None;
            if self.mistake.is_some_and(|mistake| self.restraint <= mistake.restraint) {
                self.mistake = None;
                self.hold = (self.hold / 2).max(HOLD);
            }
        }
    }
}

#[cfg(test)]
mod tests;
