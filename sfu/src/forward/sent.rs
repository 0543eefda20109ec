//! What was sent to one subscriber on one track, to answer its NACKs (RFC 4585 §6.2.1).

use std::time::{Duration, Instant};

use super::rewrite::Numbers;
use crate::command::MediaKind;
use crate::history::{Extent, History, Remembered};
use crate::ids::SeqNo;

/// The same packet is resent this often at most: as often as libwebrtc asks.
const MAX_RESENDS: u8 = 10;
/// A packet asked for later than this helps nobody.
const MAX_AGE: Duration = Duration::from_secs(1);
/// A second of 8 Mbit/s at most; no fewer than probes choose from.
const VIDEO: Extent = Extent { least: 128, most: 1024, time: MAX_AGE };
/// A second of 20 ms packets; of 10 ms packets at most.
const AUDIO: Extent = Extent { least: 64, most: 128, time: MAX_AGE };

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Under which numbers.
    pub numbers: Numbers,
    /// The encoding…
    pub encoding: u8,
    /// …and its number there: where the bytes are.
    pub source: SeqNo,
    /// The marker bit it had.
    pub marker: bool,
    at: Instant,
    resends: u8,
}

/// What to do about a NACK.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Resend it; it is counted as resent now.
    Resend(Sent),
    /// It was resent less than a round trip ago.
    TooSoon,
    /// It was resent often enough, or is too old.
    Hopeless,
    /// It was never sent, or is forgotten.
    Unknown,
}

/// See the module's page.
#[derive(Debug)]
pub struct SentLog {
    packets: History<Sent>,
    latest: Option<SeqNo>,
    obsolete: Option<SeqNo>, // up to it
}

impl Remembered for Sent {
    fn number(&self) -> u64 {
        self.numbers.seq.value()
    }

    fn since(&self) -> Instant {
        self.at
    }
}

impl SentLog {
    /// An empty log for a track of this kind.
    pub fn new(kind: MediaKind) -> SentLog {
        let extent = match kind {
            MediaKind::Audio => AUDIO,
            MediaKind::Video => VIDEO,
        };
        SentLog { packets: History::new(extent), latest: None, obsolete: None }
    }

    /// Remembers a packet that leaves now.
    pub fn insert(&mut self, now: Instant, numbers: Numbers, encoding: u8, source: SeqNo, marker: bool) {
        let sent = Sent { numbers, encoding, source, marker, at: now, resends: 0 };
        self.packets.insert(now, sent);
        if self.latest.is_none_or(|latest| numbers.seq.distance(latest) > 0) {
            self.latest = Some(numbers.seq);
        }
    }

    /// The subscriber misses number `wire`.
    pub fn handle_nack(&mut self, now: Instant, rtt: Duration, wire: u16) -> Answer {
        let Some(latest) = self.latest else { return Answer::Unknown };
        let seq = latest.extend(wire);
        if self.obsolete.is_some_and(|obsolete| seq <= obsolete) {
            return Answer::Hopeless;
        }
        let Some(sent) = self.packets.get_mut(seq.value()) else { return Answer::Unknown };
        let since = now.saturating_duration_since(sent.at);
        if sent.resends > 0 && since < rtt.mul_f64(0.8) {
            return Answer::TooSoon;
        }
        if sent.resends >= MAX_RESENDS || (sent.resends == 0 && since > MAX_AGE) {
            return Answer::Hopeless;
        }
        sent.resends += 1;
        sent.at = now;
        Answer::Resend(*sent)
    }

    /// Nothing of what was sent so far is resent from now on.
    pub fn forget(&mut self) {
        self.obsolete = self.latest;
    }

    /// The packet sent under number `wire`, if it is remembered.
    pub fn get(&self, wire: u16) -> Option<&Sent> {
        self.packets.get(self.latest?.extend(wire).value())
    }

    /// The last packets sent, newest first: what a probe can be made of.
    pub fn recent(&self) -> impl Iterator<Item = &Sent> {
        let latest = self.latest.map_or(0, SeqNo::value);
        (0..self.packets.span()).filter_map(move |back| self.packets.get(latest.checked_sub(back)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::RtpTime;

    #[test]
    fn what_a_switch_made_useless_is_not_resent() {
        let now = sfu_testkit::clock::start();
        let mut log = SentLog::new(MediaKind::Video);
        let numbers =
            |wire| Numbers { seq: SeqNo::first(wire), timestamp: RtpTime(0), picture_id: 0, tl0_pic_idx: 0 };
        let send = |log: &mut SentLog, wire| log.insert(now, numbers(wire), 0, SeqNo::first(wire), false);
        send(&mut log, 10);
        send(&mut log, 11);
        log.forget();
        send(&mut log, 12);
        let mut asks = |wire| matches!(log.handle_nack(now, Duration::ZERO, wire), Answer::Resend(_));
        assert_eq!([10, 11, 12].map(&mut asks), [false, false, true]);
    }
}
