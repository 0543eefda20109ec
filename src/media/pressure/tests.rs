//! A worker whose load is known, in virtual time.

use sfu::units::Bitrate;

use super::*;

/// So much of it was used, others took so much of it, and for the rest nothing was to be done.
fn window(used: f64, taken: f64) -> Window {
    let waited = Duration::from_millis(4);
    Window { length: WINDOW, used: WINDOW.mul_f64(used), idle: WINDOW.mul_f64(1.0 - used - taken), waited }
}

/// Load that is made of sound, which stays, and of video, which follows what is held back after a second.
struct Machine {
    now: Instant,
    pressure: Pressure,
    sound: f64,
    video: f64,
    /// What was held back, oldest first, for as long as it takes to have its effect.
    told: std::collections::VecDeque<Restraint>,
    queue: f64, // seconds of work that wait
    changes: Vec<Restraint>,
    worst: f64,
}

impl Machine {
    fn new(sound: f64, video: f64) -> Machine {
        let now = Instant::now();
        Machine {
            now,
            pressure: Pressure::new(now, Limits::of(0.85)),
            sound,
            video,
            told: std::iter::repeat_n(Restraint::NONE, 5).collect(),
            queue: 0.0,
            changes: Vec::new(),
            worst: 0.0,
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 5 {
            let held = self.told.pop_front().unwrap();
            let wanted = Bitrate::kbps(1000);
            let share = |number| held.share(number).bound(wanted, wanted).as_bps() as f64 / 1e6;
            let video = self.video * (0..40).map(share).sum::<f64>() / 40.0;
            let work = (self.sound + video) * WINDOW.as_secs_f64() + self.queue;
            let done = work.min(WINDOW.as_secs_f64());
            // The kernel's queue is full after a second.
            self.queue = (work - done).min(1.0);
            self.worst = self.worst.max(self.queue);
            let waited = Duration::from_secs_f64(0.005 + self.queue).min(BEHIND);
            self.now += WINDOW;
            let before = self.pressure.restraint();
            self.pressure.on_window(self.now, Window { waited, ..window(done / WINDOW.as_secs_f64(), 0.0) });
            let after = self.pressure.restraint();
            self.told.push_back(after);
            if before != after {
                self.changes.push(after);
            }
        }
    }
}

#[test]
fn a_load_below_the_limit_changes_nothing() {
    let mut machine = Machine::new(0.1, 0.7);
    machine.run(600);
    assert_eq!(machine.changes, []);
    assert!(machine.pressure.admits());
    assert!((machine.pressure.load() - 0.8).abs() < 0.001);
}

#[test]
fn nobody_more_comes_before_pictures_shrink() {
    let mut machine = Machine::new(0.1, 0.78);
    machine.run(600);
    assert!(!machine.pressure.admits(), "88 %");
    assert_eq!(machine.changes, []);
    machine.video = 0.70; // not enough below
    machine.run(60);
    assert!(!machine.pressure.admits());
    machine.video = 0.60;
    machine.run(10);
    assert!(machine.pressure.admits());
}

#[test]
fn three_times_what_there_is_time_for_is_brought_down_and_stays_there() {
    let mut machine = Machine::new(0.1, 2.9);
    machine.run(5);
    assert!(machine.queue < 0.005, "caught up: {}", machine.queue);
    assert!(!machine.pressure.admits());
    machine.run(115); // finds where it may stay
    machine.changes.clear();
    machine.worst = 0.0;
    machine.run(600);
    let held = machine.pressure.restraint().steps();
    assert!((4..=9).contains(&held), "{held}: {:?}", machine.changes);
    assert!(machine.changes.len() <= 12, "in ten minutes: {:?}", machine.changes);
    assert!(machine.worst < 0.1, "sound is not late by more than that: {}", machine.worst);
    assert!(!machine.pressure.admits(), "as long as something is held back");
    machine.video = 0.6;
    machine.run(40);
    assert_eq!(
        machine.pressure.restraint(),
        Restraint::NONE,
        "what was learnt of another load is no hindrance"
    );
}

#[test]
fn all_is_given_back_once_the_load_has_fallen() {
    let mut machine = Machine::new(0.1, 1.9);
    machine.run(30);
    assert!(machine.pressure.restraint() > Restraint::NONE);
    machine.video = 0.6;
    machine.run(30);
    assert_eq!(machine.pressure.restraint(), Restraint::NONE);
    machine.run(20);
    assert!(machine.pressure.admits(), "once that has lasted");
    let before = machine.changes.len();
    machine.run(600);
    assert_eq!(machine.changes.len(), before);
}

#[test]
fn where_sound_alone_is_too_much_no_video_is_left_and_nobody_comes() {
    let mut machine = Machine::new(1.1, 1.0);
    machine.run(30);
    assert_eq!(machine.pressure.restraint(), Restraint::ALL);
    assert!(!machine.pressure.admits());
}

/// After minutes of windows like this one.
fn after_many(window: Window) -> Pressure {
    let now = Instant::now();
    let mut pressure = Pressure::new(now, Limits::of(0.85));
    for count in 1..1000 {
        pressure.on_window(now + WINDOW * count, window);
    }
    pressure
}

#[test]
fn a_loop_that_is_kept_waiting_and_has_little_to_do_refuses_nobody_and_holds_nothing_back() {
    for (used, taken) in [(0.1, 0.8), (0.05, 0.95), (0.5, 0.4)] {
        let pressure = after_many(Window { waited: BEHIND, ..window(used, taken) });
        let found = (pressure.restraint(), pressure.admits());
        assert_eq!(found, (Restraint::NONE, true), "{used} used, {taken} taken");
    }
}

#[test]
fn where_others_take_what_it_needs_video_goes_and_joins_are_refused_if_the_core_is_its_own() {
    for (used, admits) in [(0.1, true), (0.2, true), (0.4, false)] {
        let pressure = after_many(Window { waited: BEHIND, ..window(used, 1.0 - used) });
        assert_eq!((pressure.restraint(), pressure.admits()), (Restraint::ALL, admits), "{used} used");
    }
}

#[test]
fn a_burst_that_makes_nobody_wait_changes_nothing() {
    let now = Instant::now();
    let mut pressure = Pressure::new(now, Limits::of(0.85));
    for count in 1..1000 {
        let used = if count % 10 < 4 { 1.0 } else { 0.2 };
        pressure.on_window(now + WINDOW * count, window(used, 0.0));
        assert_eq!((pressure.restraint(), pressure.admits()), (Restraint::NONE, true));
    }
}

#[test]
fn a_moment_at_which_the_machine_stands_still_changes_nothing() {
    let mut now = Instant::now();
    let mut pressure = Pressure::new(now, Limits::of(0.85));
    for count in 1..1000 {
        let still = Duration::from_millis(700);
        // Whoever runs a virtual machine may count that as its use.
        let stands = Window { length: still, used: still, idle: Duration::ZERO, waited: still };
        let window = if count % 25 == 0 { stands } else { window(0.2, 0.0) };
        now += window.length;
        pressure.on_window(now, window);
        assert_eq!((pressure.restraint(), pressure.admits()), (Restraint::NONE, true));
    }
}

#[test]
fn a_window_is_what_was_used_and_slept_since_the_one_before() {
    let begin = Instant::now();
    let ms = Duration::from_millis;
    let mut meter = Meter::new(begin, ms(1000));
    meter.slept(ms(20));
    meter.slept(ms(10));
    meter.waited(ms(7));
    meter.waited(ms(3));
    assert!(!meter.is_due(begin + ms(199)) && meter.is_due(begin + ms(200)));
    let window = meter.take(begin + ms(200), ms(1090));
    assert_eq!(window, Window { length: ms(200), used: ms(90), idle: ms(30), waited: ms(7) });
    assert!((window.load() - 0.75).abs() < 1e-9 && (window.core() - 0.45).abs() < 1e-9);
    let next = meter.take(begin + ms(400), ms(1090));
    assert_eq!(next, Window { length: ms(200), used: ms(0), idle: ms(0), waited: ms(0) });
    assert_eq!((next.load(), next.core()), (0.0, 0.0));
}
