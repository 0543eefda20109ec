//! Which event goes to a receiver next, and when: sans-IO, for one URL.
//!
//! Events of one room stand in a lane, in order; the first of a lane is under way, waits for its next attempt, or is ready;
//! the others wait behind it. A receiver that fails again and again is asked by one lane at a time, with pauses, until it answers.
//! Always: of one lane one event is under way at most, and none before those that came before it are delivered or given up.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Pause between attempts on a receiver that answers nobody, at most: how late a backlog begins to flow.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often and how long is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Pause after the first failure. It doubles with every further one.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// Age at which an event is given up when it fails; counted from when it was queued.
    pub max_age: Duration,
    /// Failures after which it is given up; `None` for any number.
    pub max_attempts: Option<u32>,
    /// Attempts at the same time.
    pub concurrency: usize,
}

/// An event, by its number in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Names its room; two rooms that share one are merely slower.
    pub(super) lane: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) queued_ms: i64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Send it, and say what came of it: [`Schedule::delivered`] or [`Schedule::failed`].
    Attempt(Entry),
    /// Too old, and the receiver does not answer: it is out of the schedule, after so many attempts.
    GiveUp(Entry, u32),
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It will be tried again.
    Again,
    /// It is out of the schedule, after so many attempts.
    GivenUp(u32),
}

#[derive(Default)]
struct Lane {
    entries: VecDeque<(u64, i64)>,
    /// Failures of the first entry.
    failures: u32,
}

/// See the module's page.
pub(super) struct Schedule {
    patience: Patience,
    rng: fastrand::Rng,
    lanes: HashMap<u64, Lane>,
    ready: VecDeque<u64>,
    waiting: BTreeSet<(Instant, u64)>,
    under_way: usize,
    /// Failures without a success between them.
    failures: u32,
    /// The receiver is left alone until then.
    pause: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(patience: Patience, rng: fastrand::Rng) -> Schedule {
        Schedule {
            patience,
            rng,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            under_way: 0,
            failures: 0,
            pause: None,
        }
    }

    /// One more event. Numbers of a lane rise.
    pub(super) fn push(&mut self, entry: Entry) {
        let lane = self.lanes.entry(entry.lane).or_default();
        lane.entries.push_back((entry.number, entry.queued_ms));
        if lane.entries.len() == 1 {
            self.ready.push_back(entry.lane);
        }
    }

    /// What to do now; `None`: nothing before [`Schedule::next_timeout`], another event or the end of an attempt.
    pub(super) fn next(&mut self, now: Instant, unix_ms: i64) -> Option<Job> {
        while let Some(&(at, lane)) = self.waiting.first().filter(|(at, _)| *at <= now) {
            self.waiting.remove(&(at, lane));
            self.ready.push_back(lane);
        }
        let mute = self.is_mute();
        if self.under_way >= self.limit() || self.pause.is_some_and(|until| until > now) {
            return None;
        }
        let lane = self.ready.pop_front()?;
        let state = self.lanes.get(&lane).expect("a lane that is ready has entries");
        let (&(number, queued_ms), failures) =
            (state.entries.front().expect("a lane that is ready has entries"), state.failures);
        let entry = Entry { number, lane, queued_ms };
        if mute && self.is_old(queued_ms, unix_ms) {
            self.advance(lane);
            return Some(Job::GiveUp(entry, failures));
        }
        self.under_way += 1;
        Some(Job::Attempt(entry))
    }

    /// When to ask [`Schedule::next`] again though nothing happened.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if self.under_way >= self.limit() {
            return None;
        }
        let due = if self.ready.is_empty() { self.waiting.first().map(|(at, _)| *at) } else { self.pause };
        due.map(|due| self.pause.map_or(due, |pause| due.max(pause)))
    }

    /// The event under way in that lane has arrived.
    pub(super) fn delivered(&mut self, lane: u64) {
        self.under_way -= 1;
        (self.failures, self.pause) = (0, None);
        self.advance(lane);
    }

    /// It has not. `at_least` is what the receiver asked for.
    pub(super) fn failed(
        &mut self,
        lane: u64,
        now: Instant,
        unix_ms: i64,
        at_least: Option<Duration>,
    ) -> Failed {
        self.under_way -= 1;
        self.failures = self.failures.saturating_add(1);
        if self.is_mute() {
            let beyond = self.failures - self.tolerated();
            self.pause = Some(now + self.backoff(beyond).min(LONGEST_PAUSE));
        }
        let state = self.lanes.get_mut(&lane).expect("an attempt was under way");
        state.failures = state.failures.saturating_add(1);
        let failures = state.failures;
        let queued_ms = state.entries.front().expect("an attempt was under way").1;
        if self.is_old(queued_ms, unix_ms) || self.patience.max_attempts.is_some_and(|most| failures >= most)
        {
            self.advance(lane);
            return Failed::GivenUp(failures);
        }
        let wait = self.backoff(failures).max(at_least.unwrap_or_default().min(self.patience.longest));
        self.waiting.insert((now + wait, lane));
        Failed::Again
    }

    /// Attempts at the same time.
    fn limit(&self) -> usize {
        if self.is_mute() { 1 } else { self.patience.concurrency }
    }

    /// Failures in a row after which a receiver counts as one that answers nobody.
    fn tolerated(&self) -> u32 {
        u32::try_from(self.patience.concurrency).unwrap_or(u32::MAX).max(16)
    }

    fn is_mute(&self) -> bool {
        self.failures > self.tolerated()
    }

    fn is_old(&self, queued_ms: i64, unix_ms: i64) -> bool {
        let age = u64::try_from(unix_ms.saturating_sub(queued_ms)).unwrap_or(0);
        Duration::from_millis(age) >= self.patience.max_age
    }

    /// Between half of the pause and all of it, so that lanes that failed together do not come back together.
    fn backoff(&mut self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let pause = self.patience.first.saturating_mul(doubled).min(self.patience.longest);
        pause / 2 + pause.mul_f64(self.rng.f64() / 2.0)
    }

    fn advance(&mut self, lane: u64) {
        let state = self.lanes.get_mut(&lane).expect("a lane whose entry is done");
        state.entries.pop_front();
        state.failures = 0;
        if state.entries.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.ready.push_back(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_millis(500),
        longest: Duration::from_mins(5),
        max_age: Duration::from_hours(24),
        max_attempts: None,
        concurrency: 4,
    };

    struct Clock {
        start: Instant,
        now: Instant,
    }

    impl Clock {
        fn new() -> Clock {
            let start = Instant::now();
            Clock { start, now: start }
        }
        fn unix_ms(&self) -> i64 {
            (self.now - self.start).as_millis() as i64
        }
    }

    fn schedule(patience: Patience, seed: u64) -> Schedule {
        Schedule::new(patience, fastrand::Rng::with_seed(seed))
    }

    fn entry(number: u64, lane: u64) -> Entry {
        Entry { number, lane, queued_ms: 0 }
    }

    #[test]
    fn rooms_keep_their_order_whatever_fails_and_wait_for_no_other() {
        for seed in 1..=20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut clock = Clock::new();
            let mut schedule = schedule(PATIENCE, seed);
            let (mut under_way, mut arrived) = (Vec::new(), Vec::new());
            let mut next = 0;
            while arrived.len() < 400 {
                if next < 400 && rng.bool() {
                    schedule.push(entry(next, rng.u64(..10)));
                    next += 1;
                }
                while let Some(job) = schedule.next(clock.now, clock.unix_ms()) {
                    let Job::Attempt(entry) = job else { panic!("nothing is old: {job:?}") };
                    assert!(under_way.iter().all(|other: &Entry| other.lane != entry.lane), "seed {seed}");
                    under_way.push(entry);
                    assert!(under_way.len() <= PATIENCE.concurrency, "seed {seed}");
                }
                if under_way.is_empty() {
                    if let Some(at) = schedule.next_timeout() {
                        clock.now = clock.now.max(at);
                    }
                    continue;
                }
                let entry = under_way.swap_remove(rng.usize(..under_way.len()));
                clock.now += Duration::from_millis(rng.u64(..50));
                if rng.bool() {
                    schedule.delivered(entry.lane);
                    arrived.push(entry);
                } else {
                    let failed = schedule.failed(entry.lane, clock.now, clock.unix_ms(), None);
                    assert_eq!(failed, Failed::Again);
                }
            }
            for lane in 0..10 {
                let numbers = arrived.iter().filter(|entry| entry.lane == lane).map(|entry| entry.number);
                assert!(numbers.is_sorted(), "seed {seed}, lane {lane}");
            }
            assert!(schedule.lanes.is_empty() && schedule.next_timeout().is_none(), "seed {seed}");
        }
    }

    #[test]
    fn a_failing_event_is_tried_at_growing_intervals_and_the_room_waits() {
        let mut clock = Clock::new();
        let mut schedule = schedule(PATIENCE, 1);
        for (number, lane) in [(1, 7), (2, 7), (3, 8)] {
            schedule.push(entry(number, lane));
        }
        assert_eq!(schedule.next(clock.now, 0), Some(Job::Attempt(entry(1, 7))));
        assert_eq!(schedule.next(clock.now, 0), Some(Job::Attempt(entry(3, 8))), "another room");
        schedule.delivered(8);
        for failure in 0..14_u32 {
            assert_eq!(schedule.failed(7, clock.now, clock.unix_ms(), None), Failed::Again);
            assert_eq!(schedule.next(clock.now, clock.unix_ms()), None, "the second waits for the first");
            let pause = schedule.next_timeout().unwrap() - clock.now;
            let full = (PATIENCE.first * 2_u32.pow(failure)).min(PATIENCE.longest);
            assert!(pause >= full / 2 && pause <= full, "failure {failure}: {pause:?} of {full:?}");
            let moment = Duration::from_millis(1);
            clock.now += pause.saturating_sub(moment);
            assert_eq!(schedule.next(clock.now, clock.unix_ms()), None, "not yet");
            clock.now += moment;
            assert_eq!(schedule.next(clock.now, clock.unix_ms()), Some(Job::Attempt(entry(1, 7))));
        }
        schedule.delivered(7);
        assert_eq!(schedule.next(clock.now, clock.unix_ms()), Some(Job::Attempt(entry(2, 7))));
        // What is next has its own count.
        schedule.failed(7, clock.now, clock.unix_ms(), None);
        assert!(schedule.next_timeout().unwrap() - clock.now <= PATIENCE.first);
    }

    #[test]
    fn lanes_that_failed_together_come_back_apart() {
        let clock = Clock::new();
        let mut schedule = schedule(Patience { concurrency: 100, ..PATIENCE }, 3);
        (0..100).for_each(|lane| schedule.push(entry(lane, lane)));
        while schedule.next(clock.now, 0).is_some() {}
        for lane in 0..100 {
            assert_eq!(schedule.failed(lane, clock.now, 0, None), Failed::Again);
        }
        let due: BTreeSet<_> = schedule.waiting.iter().map(|(at, _)| (*at - clock.now).as_millis()).collect();
        assert!(due.len() > 60, "{due:?}");
        assert!(*due.first().unwrap() >= 250 && *due.last().unwrap() <= 500, "{due:?}");
    }

    #[test]
    fn an_event_is_given_up_by_number_or_age_and_the_room_goes_on() {
        let mut clock = Clock::new();
        let mut schedule = schedule(Patience { max_attempts: Some(3), ..PATIENCE }, 1);
        schedule.push(entry(1, 7));
        schedule.push(entry(2, 7));
        for attempt in 1..=3 {
            assert_eq!(schedule.next(clock.now, clock.unix_ms()), Some(Job::Attempt(entry(1, 7))));
            let failed = schedule.failed(7, clock.now, clock.unix_ms(), None);
            assert_eq!(failed, if attempt < 3 { Failed::Again } else { Failed::GivenUp(3) });
            clock.now = schedule.next_timeout().unwrap_or(clock.now);
        }
        assert_eq!(schedule.next(clock.now, clock.unix_ms()), Some(Job::Attempt(entry(2, 7))));
        clock.now += PATIENCE.max_age;
        assert_eq!(schedule.failed(7, clock.now, clock.unix_ms(), None), Failed::GivenUp(1), "too old");
        assert!(schedule.lanes.is_empty());
    }

    #[test]
    fn a_dead_receiver_is_asked_by_one_lane_at_a_time_and_a_live_one_by_all_at_once() {
        let mut clock = Clock::new();
        let mut schedule = schedule(PATIENCE, 5);
        (0..1000).for_each(|lane| schedule.push(entry(lane, lane)));
        let hour = clock.now + Duration::from_hours(1);
        let mut attempts = 0;
        while clock.now < hour {
            match schedule.next(clock.now, clock.unix_ms()) {
                Some(Job::Attempt(entry)) => {
                    attempts += 1;
                    schedule.failed(entry.lane, clock.now, clock.unix_ms(), None);
                }
                Some(job) => panic!("{job:?}"),
                None => clock.now = schedule.next_timeout().unwrap(),
            }
        }
        assert!((360..800).contains(&attempts), "{attempts} attempts in an hour");
        let Some(Job::Attempt(probe)) = schedule.next(clock.now, clock.unix_ms()) else { panic!("a probe") };
        assert_eq!(schedule.next(clock.now, clock.unix_ms()), None, "one at a time");
        schedule.delivered(probe.lane);
        let at_once = std::iter::from_fn(|| schedule.next(clock.now, clock.unix_ms())).take(10).count();
        assert_eq!(at_once, PATIENCE.concurrency);
    }

    #[test]
    fn what_is_too_old_for_a_dead_receiver_is_given_up_without_asking() {
        let mut clock = Clock::new();
        let mut schedule = schedule(PATIENCE, 5);
        (0..100).for_each(|lane| schedule.push(entry(lane, lane)));
        let mut given_up = 0;
        let end = clock.now + PATIENCE.max_age + Duration::from_mins(30);
        while clock.now < end {
            match schedule.next(clock.now, clock.unix_ms()) {
                Some(Job::Attempt(entry)) => {
                    let failed = schedule.failed(entry.lane, clock.now, clock.unix_ms(), None);
                    given_up += u32::from(failed != Failed::Again);
                }
                Some(Job::GiveUp(..)) => given_up += 1,
                None => match schedule.next_timeout() {
                    Some(at) => clock.now = at,
                    None => break,
                },
            }
        }
        assert_eq!((given_up, schedule.lanes.len()), (100, 0));
    }

    #[test]
    fn a_receiver_is_left_alone_for_as_long_as_it_asks_within_reason() {
        let clock = Clock::new();
        let mut schedule = schedule(PATIENCE, 5);
        schedule.push(entry(1, 1));
        schedule.next(clock.now, 0);
        schedule.failed(1, clock.now, 0, Some(Duration::from_secs(30)));
        assert_eq!(schedule.next_timeout(), Some(clock.now + Duration::from_secs(30)));
        schedule.next(clock.now + Duration::from_secs(30), 0);
        schedule.failed(1, clock.now, 0, Some(Duration::from_hours(30)));
        assert_eq!(schedule.next_timeout(), Some(clock.now + PATIENCE.longest));
    }
}
