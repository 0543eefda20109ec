//! Which packets of a stream are missing, and when to ask for them again (RFC 4585 §6.2.1).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ids::SeqNo;

/// Asked for this often at most.
const MAX_TRIES: u8 = 10;
/// A packet is asked for again after a round trip, but not sooner.
const MIN_REPEAT: Duration = Duration::from_millis(20);
/// What a measured round trip is stretched by, since resent packets wait in the sender's pacer.
const MARGIN: f64 = 1.25;
/// Later than this, or than 2.5 round trips, nobody waits for it any more.
const GIVE_UP: Duration = Duration::from_millis(400);
/// More missing packets than this are not repaired one by one.
const MAX_MISSING: usize = 1000;
/// Longest wait for a packet that may be merely late.
const MAX_REORDER: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    /// When it was asked for last.
    asked: Option<Instant>,
    ask_at: Instant,
    tries: u8,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct NackGenerator {
    highest: Option<SeqNo>,
    missing: BTreeMap<SeqNo, Missing>,
    reorder: Duration,
    /// From asking to getting: a sender who receives nothing tells no other round trip.
    answer: Option<Duration>,
    hopeless: bool,
}

impl NackGenerator {
    /// A packet came, first hand or resent.
    pub fn handle_packet(&mut self, now: Instant, seq: SeqNo, resent: bool) {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return;
        };
        let step = seq.distance(highest);
        if step <= 0 {
            match self.missing.remove(&seq) {
                Some(missing) if !resent && missing.tries == 0 => {
                    // Merely late: wait a little longer next time.
                    let late = now.saturating_duration_since(missing.since);
                    self.reorder = late.max(self.reorder.mul_f64(0.95)).min(MAX_REORDER);
                }
                // Of a second try nobody knows which one was answered.
                Some(Missing { asked: Some(asked), tries: 1, .. }) if resent => {
                    let answer = now.saturating_duration_since(asked);
                    self.answer = Some(self.answer.map_or(answer, |old| (old * 7 + answer) / 8));
                }
                Some(_) | None => {}
            }
            return;
        }
        if step as usize > MAX_MISSING || self.missing.len() + step as usize > MAX_MISSING {
            self.missing.clear();
            self.hopeless = true;
        } else {
            for gap in 1..step as u64 {
                let missing = Missing { since: now, asked: None, ask_at: now + self.reorder, tries: 0 };
                self.missing.insert(highest.plus(gap), missing);
            }
        }
        self.highest = Some(seq);
    }

    /// A missing packet was made good from another one.
    pub fn fill(&mut self, seq: SeqNo) {
        self.missing.remove(&seq);
    }

    /// Forgets everything: the stream began anew.
    pub fn reset(&mut self) {
        *self = NackGenerator::default();
    }

    /// Adds the numbers to ask for now to `ask`, ascending. `rtt` is used until answers have told a better one.
    pub fn poll(&mut self, now: Instant, rtt: Duration, ask: &mut Vec<u16>) {
        let rtt = self.answer.map_or(rtt, |answer| answer.mul_f64(MARGIN));
        let give_up = GIVE_UP.max(rtt.mul_f64(2.5));
        let before = self.missing.len();
        self.missing.retain(|_, missing| {
            missing.tries < MAX_TRIES && now.saturating_duration_since(missing.since) < give_up
        });
        self.hopeless |= self.missing.len() < before;
        for (seq, missing) in &mut self.missing {
            if missing.ask_at <= now {
                missing.tries += 1;
                missing.asked = Some(now);
                missing.ask_at = now + rtt.max(MIN_REPEAT);
                ask.push(seq.wire());
            }
        }
    }

    /// Whether something was lost for good since the last call: only a keyframe repairs that.
    pub fn take_hopeless(&mut self) -> bool {
        std::mem::take(&mut self.hopeless)
    }

    /// When to poll.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.ask_at).min()
    }

    /// Packets that are missing now.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn poll(nack: &mut NackGenerator, now: Instant) -> Vec<u16> {
        let mut ask = Vec::new();
        nack.poll(now, RTT, &mut ask);
        ask
    }

    #[test]
    fn a_gap_is_asked_for_at_once_and_again_each_round_trip_until_it_comes() {
        let start = crate::test_time();
        let mut nack = NackGenerator::default();
        let first = SeqNo::first(65_534);
        nack.handle_packet(start, first, false);
        nack.handle_packet(start, first.plus(3), false);
        assert_eq!(poll(&mut nack, start), [65_535, 0]);
        assert!(poll(&mut nack, start + ms(49)).is_empty());
        nack.handle_packet(start + ms(49), first.plus(1), true);
        assert_eq!(poll(&mut nack, start + ms(50)), [0]);
        assert!(poll(&mut nack, start + ms(400)).is_empty(), "nobody waits that long");
        assert!(nack.take_hopeless());
        assert!(!nack.take_hopeless());
    }

    #[test]
    fn a_packet_is_asked_for_ten_times_and_no_longer_than_it_is_of_use() {
        for (rtt, tries) in [(20, 10), (100, 4), (200, 3)] {
            let start = crate::test_time();
            let mut nack = NackGenerator::default();
            nack.handle_packet(start, SeqNo::first(1), false);
            nack.handle_packet(start, SeqNo::first(3), false);
            let mut asked = Vec::new();
            for time in 0..2000 {
                nack.poll(start + ms(time), ms(rtt), &mut asked);
            }
            assert_eq!(asked, vec![2; tries], "round trip of {rtt} ms");
            assert_eq!(nack.missing(), 0);
        }
    }

    #[test]
    fn a_stream_that_reorders_is_given_time() {
        let start = crate::test_time();
        let mut nack = NackGenerator::default();
        let first = SeqNo::first(0);
        nack.handle_packet(start, first, false);
        nack.handle_packet(start, first.plus(2), false);
        nack.handle_packet(start + ms(8), first.plus(1), false);
        nack.handle_packet(start + ms(10), first.plus(4), false);
        assert!(poll(&mut nack, start + ms(10)).is_empty());
        assert_eq!(nack.next_timeout(), Some(start + ms(18)));
        nack.handle_packet(start + ms(15), first.plus(3), false);
        assert_eq!(nack.missing(), 0);
    }

    #[test]
    fn answers_tell_the_round_trip() {
        let start = crate::test_time();
        let mut nack = NackGenerator::default();
        let first = SeqNo::first(0);
        nack.handle_packet(start, first, false);
        nack.handle_packet(start, first.plus(2), false);
        assert_eq!(poll(&mut nack, start), [1]);
        nack.handle_packet(start + ms(20), first.plus(1), true);
        nack.handle_packet(start + ms(20), first.plus(4), false);
        assert_eq!(poll(&mut nack, start + ms(20)), [3]);
        assert_eq!(poll(&mut nack, start + ms(45)), [3], "sooner than the assumed round trip");
        nack.handle_packet(start + ms(145), first.plus(3), true);
        nack.handle_packet(start + ms(145), first.plus(6), false);
        assert_eq!(poll(&mut nack, start + ms(145)), [5]);
        assert_eq!(poll(&mut nack, start + ms(170)), [5], "an answer to either of two says nothing");
    }

    #[test]
    fn a_flood_of_gaps_is_bounded() {
        let start = crate::test_time();
        let mut nack = NackGenerator::default();
        for n in 0..5000 {
            nack.handle_packet(start, SeqNo::first(0).plus(n * 2), false);
            assert!(nack.missing() <= MAX_MISSING);
        }
        assert!(nack.take_hopeless());
    }
}
