//! Asks a publisher for keyframes of one encoding: many subscribers, one request (RFC 4585 §6.3.1).

use std::time::{Duration, Instant};

/// Requests for one encoding are at least this far apart: a keyframe costs as much as a second of video.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// A request is repeated after two round trips, within these bounds.
const REPEAT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Who asks this soon after a keyframe began asked before it came, and is served by it.
const FRESH: Duration = Duration::from_millis(100);

/// See the module's page.
#[derive(Debug, Default)]
pub struct KeyframeGate {
    wanted: bool,
    asked: Option<Instant>,
    arrived: Option<Instant>,
}

impl KeyframeGate {
    /// Somebody waits for a keyframe, and the last one did not serve.
    pub fn need(&mut self) {
        self.wanted = true;
    }

    /// A decoder asks for a keyframe.
    pub fn want(&mut self, now: Instant) {
        if self.arrived.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            self.wanted = true;
        }
    }

    /// A keyframe began.
    pub fn handle_keyframe(&mut self, now: Instant) {
        self.wanted = false;
        self.arrived = Some(now);
    }

    /// Nobody waits any more.
    pub fn cancel(&mut self) {
        self.wanted = false;
    }

    /// Whether to send a PLI now; it counts as sent then. `rtt` is the publisher's round trip.
    pub fn poll(&mut self, now: Instant, rtt: Duration) -> bool {
        let due = self.due(rtt).is_some_and(|at| at <= now);
        if due || (self.wanted && self.asked.is_none()) {
            self.asked = Some(now);
            return true;
        }
        false
    }

    /// When the next request is due; `None` while nobody waits, or before the first, which is due at once.
    pub fn due(&self, rtt: Duration) -> Option<Instant> {
        let asked = self.asked.filter(|_| self.wanted)?;
        let answered = self.arrived.is_some_and(|at| at >= asked);
        let pause = if answered { MIN_INTERVAL } else { (rtt * 2).clamp(REPEAT.0, REPEAT.1).max(REPEAT.0) };
        Some(asked + pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

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
        gate.handle_keyframe(start + Duration::from_millis(300));
        assert_eq!(gate.due(RTT), None);
        gate.want(start + Duration::from_millis(350));
        assert_eq!(gate.due(RTT), None, "the keyframe that just began serves");
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
}
