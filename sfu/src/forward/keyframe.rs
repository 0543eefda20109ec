//! Asks a publisher for keyframes of one encoding: many subscribers, one request (RFC 4585 §6.3.1).

use std::time::{Duration, Instant};

use crate::stats::KeyframeRefusal;
use crate::units::{Bitrate, DataSize};

/// Keyframes of one encoding take at most this share of its rate…
const SHARE: f64 = 0.2;
/// …so that requests which were answered are this far apart, by what a keyframe costs.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// Those who want a better picture than they have wait this long for others of their kind…
const BATCH: Duration = Duration::from_millis(200);
/// …and this long after a keyframe, which those who watch had to pay for.
const BETWEEN_UPGRADES: Duration = Duration::from_secs(2);
/// A request is repeated after two round trips, each time after twice as long, within these bounds.
const REPEAT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Who asks this soon after a keyframe began asked before it came, and is served by it.
const FRESH: Duration = Duration::from_millis(100);
/// All encodings of a track are asked for keyframes this seldom, whoever waits for them…
const TRACK_PACE: Duration = Duration::from_millis(1250);
/// …after so many that may follow each other.
const TRACK_BURST: u32 = 3;
/// One subscriber is heard once in this time…
const REQUEST_PAUSE: Duration = Duration::from_secs(1);
/// …and after so many seconds in which it asked more often…
const FLOOD: u64 = 10;
/// …once in this.
const FLOOD_PAUSE: Duration = Duration::from_secs(10);

/// See the module's page.
#[derive(Debug)]
pub struct KeyframeGate {
    wanted: bool,
    upgrade_at: Option<Instant>,
    asked: Option<Instant>,
    arrived: Option<Instant>,
    /// Requests since the last keyframe.
    unanswered: u32,
    interval: Duration,
}

impl Default for KeyframeGate {
    fn default() -> Self {
        let interval = INTERVAL.0;
        KeyframeGate { wanted: false, upgrade_at: None, asked: None, arrived: None, unanswered: 0, interval }
    }
}

impl KeyframeGate {
    /// Somebody waits for a keyframe, and the last one did not serve.
    pub fn need(&mut self) {
        self.wanted = true;
    }

    /// The same at once, whenever the last one was asked for: what it was asked for is lost, with all that was under way.
    pub fn need_again(&mut self) {
        self.wanted = true;
        self.asked = None;
    }

    /// Somebody who has a picture waits for a better one, which others watch: that can wait a little.
    pub fn need_upgrade(&mut self, now: Instant) {
        let after = self.arrived.max(self.asked).map_or(now, |at| at + BETWEEN_UPGRADES);
        self.upgrade_at.get_or_insert(after.max(now + BATCH));
    }

    /// A decoder asks for a keyframe.
    pub fn want(&mut self, now: Instant) {
        if self.arrived.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            self.wanted = true;
        }
    }

    /// The encoding stopped: who waited for it is served from another, and it begins again with a keyframe.
    pub fn give_up(&mut self) {
        self.wanted = false;
        self.upgrade_at = None;
        self.unanswered = 0;
    }

    /// A keyframe began.
    pub fn handle_keyframe(&mut self, now: Instant) {
        self.wanted = false;
        self.upgrade_at = None;
        self.unanswered = 0;
        self.arrived = Some(now);
    }

    /// The last keyframe had `size` so far, in an encoding of this rate.
    pub fn set_cost(&mut self, size: DataSize, rate: Bitrate) {
        let interval = rate.scale(SHARE).time_for(size).unwrap_or(INTERVAL.0);
        self.interval = interval.clamp(INTERVAL.0, INTERVAL.1);
    }

    /// Whether to send a PLI now; it counts as sent then. `rtt` is the publisher's round trip.
    pub fn poll(&mut self, now: Instant, rtt: Duration) -> bool {
        if self.upgrade_at.is_some_and(|at| at <= now) {
            self.upgrade_at = None;
            self.wanted = true;
        }
        let due = self.due(rtt).is_some_and(|at| at <= now);
        if due || (self.wanted && self.asked.is_none()) {
            self.asked = Some(now);
            self.unanswered = self.unanswered.saturating_add(1);
            return true;
        }
        false
    }

    /// Whether the first request is still to be made.
    pub fn begins(&self) -> bool {
        self.wanted && self.asked.is_none()
    }

    /// When the next request is due; `None` while nobody waits, or before the first, which is due at once.
    pub fn due(&self, rtt: Duration) -> Option<Instant> {
        let wanted = self.asked.filter(|_| self.wanted).map(|asked| {
            let answered = self.arrived.is_some_and(|at| at >= asked);
            let doubled = 1 << self.unanswered.saturating_sub(1).min(4);
            let repeat = (rtt * 2).max(REPEAT.0).saturating_mul(doubled).min(REPEAT.1);
            asked + if answered { self.interval } else { repeat }
        });
        wanted.into_iter().chain(self.upgrade_at).min()
    }
}

/// Requests for all encodings of one track together: less than one a second in the long run, some at once.
#[derive(Debug, Default)]
pub struct TrackBudget {
    /// When all that was asked for will have been paid, at [`TRACK_PACE`] each.
    paid: Option<Instant>,
}

impl TrackBudget {
    /// When the next request may leave; `None`: at any time.
    pub fn opens(&self) -> Option<Instant> {
        self.paid?.checked_sub(TRACK_PACE * TRACK_BURST)
    }

    /// Whether a request may leave now.
    pub fn allows(&self, now: Instant) -> bool {
        self.opens().is_none_or(|at| at <= now)
    }

    /// A request leaves.
    pub fn spend(&mut self, now: Instant) {
        self.paid = Some(self.paid.map_or(now, |at| at.max(now)) + TRACK_PACE);
    }
}

/// What becomes of a subscriber's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The gate hears of it.
    Passed,
    /// It is one too many.
    Refused(KeyframeRefusal),
}

/// What one subscriber may ask of one track: a keyframe a second, and of one that goes on asking more often hardly any.
#[derive(Debug, Default)]
pub struct RequestLimit {
    passed: Option<Instant>,
    /// Begin of the present second of asking, and how often it has asked in it.
    second: Option<(Instant, u32)>,
    /// Seconds in which it asked more than once, less those in which it did not.
    floods: u64,
}

impl RequestLimit {
    /// A request came.
    pub fn handle_request(&mut self, now: Instant) -> Request {
        let (begin, count) = self.second.unwrap_or((now, 0));
        let seconds = now.saturating_duration_since(begin).as_secs();
        if seconds == 0 {
            self.second = Some((begin, count.saturating_add(1)));
        } else {
            let quiet = if count > 1 {
                self.floods = (self.floods + 1).min(FLOOD);
                seconds - 1
            } else {
                seconds
            };
            self.floods = self.floods.saturating_sub(quiet);
            self.second = Some((begin + Duration::from_secs(seconds), 1));
        }
        let flood = self.floods >= FLOOD;
        // Whose decoder waits cannot know that it asks in vain: now and then it is heard.
        let pause = if flood { FLOOD_PAUSE } else { REQUEST_PAUSE };
        if self.passed.is_some_and(|at| now.saturating_duration_since(at) < pause) {
            return Request::Refused(if flood { KeyframeRefusal::Flood } else { KeyframeRefusal::TooSoon });
        }
        self.passed = Some(now);
        Request::Passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    #[test]
    fn an_encoding_that_stopped_is_not_asked() {
        let start = crate::test_time();
        let mut gate = KeyframeGate::default();
        gate.want(start);
        assert!(gate.poll(start, RTT));
        gate.give_up();
        assert_eq!(gate.due(RTT), None);
        gate.need();
        assert!(gate.due(RTT).is_some(), "who waits for it later is heard");
    }

    #[test]
    fn two_hundred_subscribers_cause_one_request_and_silence_repeats_it() {
        let start = crate::test_time();
        let mut gate = KeyframeGate::default();
        let mut sent = 0;
        for _ in 0..200 {
            gate.want(start);
            sent += u32::from(gate.poll(start, RTT));
        }
        assert_eq!(sent, 1);
        assert!(!gate.poll(start + Duration::from_millis(200), RTT));
        assert!(gate.poll(start + Duration::from_millis(250), RTT), "nothing came");
        let again = gate.due(RTT).expect("somebody waits");
        assert_eq!(again, start + Duration::from_millis(750), "a deaf publisher is not shouted at");
        gate.handle_keyframe(start + Duration::from_millis(300));
        assert_eq!(gate.due(RTT), None);
        gate.want(start + Duration::from_millis(350));
        assert_eq!(gate.due(RTT), None, "the keyframe that just began serves");
    }

    #[test]
    fn a_track_is_asked_once_a_second_in_the_long_run() {
        let start = crate::test_time();
        let mut budget = TrackBudget::default();
        let mut sent = Vec::new();
        for ms in (0..20_000).step_by(10) {
            let now = start + Duration::from_millis(ms);
            if budget.allows(now) {
                budget.spend(now);
                sent.push(ms);
            }
        }
        assert_eq!(sent[..6], [0, 10, 20, 30, 1250, 2500], "some at once");
        assert_eq!(sent.len(), 19, "in 20 s");
    }

    #[test]
    fn a_request_after_a_keyframe_keeps_its_distance() {
        let start = crate::test_time();
        let mut gate = KeyframeGate::default();
        gate.want(start);
        assert!(gate.poll(start, RTT));
        gate.handle_keyframe(start + Duration::from_millis(50));
        let later = start + Duration::from_millis(200);
        gate.want(later);
        assert!(!gate.poll(later, RTT));
        assert!(gate.poll(start + Duration::from_millis(500), RTT));
    }

    #[test]
    fn the_dearer_a_keyframe_the_longer_the_pause() {
        let start = crate::test_time();
        let pause = |kilobytes: u64, kbps: u64| {
            let mut gate = KeyframeGate::default();
            gate.set_cost(DataSize::bytes(kilobytes * 1000), Bitrate::kbps(kbps));
            gate.want(start);
            assert!(gate.poll(start, RTT));
            gate.handle_keyframe(start + Duration::from_millis(50));
            gate.want(start + Duration::from_millis(200));
            gate.due(RTT).expect("somebody waits") - start
        };
        assert_eq!(pause(5, 160), Duration::from_millis(1250));
        assert_eq!(pause(5, 1600), INTERVAL.0);
        assert_eq!(pause(500, 1600), INTERVAL.1);
        assert_eq!(pause(500, 0), INTERVAL.0, "nothing is known");
    }

    #[test]
    fn who_wants_a_better_picture_waits_for_others() {
        let start = crate::test_time();
        let at = |ms| start + Duration::from_millis(ms);
        let mut gate = KeyframeGate::default();
        let mut asked = Vec::new();
        // Every 50 ms for 5 s somebody else wants up, and each keyframe comes 100 ms after it was asked for.
        for time in (0..5000).step_by(50) {
            gate.need_upgrade(at(time));
            if gate.poll(at(time), RTT) {
                asked.push(time);
                gate.handle_keyframe(at(time + 100));
            }
        }
        assert_eq!(asked, [200, 2300, 4400]);
        let mut gate = KeyframeGate::default();
        gate.need_upgrade(start);
        gate.want(start);
        assert!(gate.poll(start, RTT), "who has lost the picture does not wait");
        gate.handle_keyframe(at(100));
        assert_eq!(gate.due(RTT), None, "and the others are served, too");
    }

    /// How many requests pass in each of some stretches of time with so many requests a second.
    fn passed(stretches: &[(u64, u64)]) -> Vec<u32> {
        let mut limit = RequestLimit::default();
        let mut now = crate::test_time();
        let mut passed = Vec::new();
        for (seconds, per_second) in stretches {
            let mut count = 0;
            for _ in 0..seconds * per_second {
                count += u32::from(limit.handle_request(now) == Request::Passed);
                now += Duration::from_micros(1_000_000 / per_second);
            }
            passed.push(count);
        }
        passed
    }

    #[test]
    fn one_request_a_second_passes_and_a_flood_hardly_ever() {
        assert_eq!(passed(&[(60, 1)]), [60]);
        assert_eq!(passed(&[(10, 500), (50, 500)]), [10, 5]);
        // Three seconds of waiting for a first picture, as browsers do, are no flood; quiet seconds are forgiven.
        assert_eq!(passed(&[(3, 5), (10, 1), (5, 5)]), [3, 10, 5]);
        assert_eq!(passed(&[(12, 5), (12, 1), (5, 5)]), [10, 11, 5]);
    }
}
