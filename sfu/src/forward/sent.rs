//! What was sent to one subscriber on one track, to answer its NACKs (RFC 4585 §6.2.1).

use std::time::{Duration, Instant};

use super::rewrite::Numbers;
use crate::command::MediaKind;
use crate::history::{Extent, History, Remembered};
use crate::ids::SeqNo;
use crate::stats::NackRefusal;
use crate::units::DataSize;

/// The same packet is resent this often at most…
const MAX_RESENDS: u8 = 4;
/// …and this often, which is as often as libwebrtc asks, if the reports say that all of them were lost.
const MAX_CONFIRMED: u8 = 10;
/// A packet asked for later than this helps nobody.
const MAX_AGE: Duration = Duration::from_secs(1);
/// A packet is not resent again before this share of a round trip has passed: the answer is on its way.
const PATIENCE: f64 = 0.8;
/// A second of 8 Mbit/s at most; no fewer than probes choose from.
const VIDEO: Extent = Extent { least: 128, most: 1024, time: MAX_AGE };
/// A second of 20 ms packets; of 10 ms packets at most.
const AUDIO: Extent = Extent { least: 64, most: 128, time: MAX_AGE };

/// What the client's transport-wide reports say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// Nothing, or not yet.
    Unknown,
    /// It came.
    Arrived,
    /// Later ones came, it did not.
    Missing,
}

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
    /// Bytes on the wire.
    pub size: u16,
    /// When it left first, and when it was resent last.
    first: Instant,
    at: Instant,
    resends: u8,
    /// Transport-wide numbers of its first and its last copy.
    copies: [Option<u16>; 2],
    /// A request for it was accepted and waits.
    held: bool,
}

impl Sent {
    /// What is known of it: that one copy came, or that all did not.
    pub fn reported(&self, reported: impl Fn(u16) -> Reported) -> Reported {
        let [first, last] = self.copies.map(|copy| copy.map_or(Reported::Unknown, &reported));
        if first == Reported::Arrived { first } else { last }
    }

    /// It was resent before, and lost again.
    pub fn is_overdue(&self) -> bool {
        self.resends > 0
    }

    /// Transport-wide number of the last copy.
    pub fn transport(&self) -> Option<u16> {
        self.copies[1]
    }
}

/// What to do about a NACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may be resent. `first`: for the first time.
    Accept {
        /// It was sent once so far.
        first: bool,
    },
    /// It is not to be resent.
    Refuse(NackRefusal),
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
        self.first
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

    /// Remembers a packet of `size` bytes that leaves now, under this transport-wide number.
    #[expect(clippy::too_many_arguments, reason = "one packet, as it leaves")]
    pub fn insert(
        &mut self,
        now: Instant,
        numbers: Numbers,
        encoding: u8,
        source: SeqNo,
        marker: bool,
        size: u16,
        transport: Option<u16>,
    ) {
        let sent = Sent {
            numbers,
            encoding,
            source,
            marker,
            size,
            first: now,
            at: now,
            resends: 0,
            copies: [transport; 2],
            held: false,
        };
        self.packets.insert(now, sent);
        if self.latest.is_none_or(|latest| numbers.seq.distance(latest) > 0) {
            self.latest = Some(numbers.seq);
        }
    }

    /// The subscriber misses number `wire`. What is accepted is held until [`SentLog::release`].
    pub fn handle_nack(
        &mut self,
        now: Instant,
        rtt: Duration,
        wire: u16,
        reported: impl Fn(u16) -> Reported,
    ) -> Answer {
        let unknown = Answer::Refuse(NackRefusal::Unknown);
        let Some(latest) = self.latest else { return unknown };
        let seq = latest.extend(wire);
        if self.obsolete.is_some_and(|obsolete| seq <= obsolete) {
            return Answer::Refuse(NackRefusal::TooOld);
        }
        let Some(sent) = self.packets.get_mut(seq.value()) else { return unknown };
        let since_last = now.saturating_duration_since(sent.at);
        let fate = sent.reported(reported);
        let refusal = if fate == Reported::Arrived {
            NackRefusal::Arrived
        } else if now.saturating_duration_since(sent.first) > MAX_AGE {
            NackRefusal::TooOld
        } else if sent.held || (sent.resends > 0 && since_last < rtt.mul_f64(PATIENCE)) {
            NackRefusal::TooSoon
        } else if sent.resends >= if fate == Reported::Missing { MAX_CONFIRMED } else { MAX_RESENDS } {
            NackRefusal::TooOften
        } else {
            sent.held = true;
            return Answer::Accept { first: sent.resends == 0 };
        };
        Answer::Refuse(refusal)
    }

    /// What the subscriber misses with number `wire`, as far as it can be helped at all: its size, and whether it is too late to
    /// resend it and no copy is on its way.
    pub fn missed(
        &self,
        now: Instant,
        rtt: Duration,
        wire: u16,
        reported: impl Fn(u16) -> Reported,
    ) -> Option<(DataSize, bool)> {
        let seq = self.latest?.extend(wire);
        let sent =
            self.packets.get(seq.value()).filter(|_| self.obsolete.is_none_or(|obsolete| seq > obsolete))?;
        let old = now.saturating_duration_since(sent.first) > MAX_AGE || sent.resends >= MAX_CONFIRMED;
        let under_way = now.saturating_duration_since(sent.at) <= rtt;
        (sent.reported(reported) != Reported::Arrived)
            .then(|| (DataSize::bytes(sent.size.into()), old && !under_way))
    }

    /// A request for number `wire` waits no longer; `resent`: the packet leaves again soon.
    pub fn release(&mut self, now: Instant, wire: u16, resent: bool) {
        if let Some(sent) = self.get_mut(wire) {
            sent.held = false;
            if resent {
                sent.resends += 1;
                sent.at = now;
            }
        }
    }

    /// The packet sent under number `wire` leaves again, under this transport-wide number.
    pub fn resent(&mut self, now: Instant, wire: u16, transport: Option<u16>) {
        if let Some(sent) = self.get_mut(wire) {
            sent.at = now;
            sent.copies[1] = transport;
        }
    }

    /// Nothing of what was sent so far is resent from now on.
    pub fn forget(&mut self) {
        self.obsolete = self.latest;
    }

    /// The packet sent under number `wire`, if it is remembered.
    pub fn get(&self, wire: u16) -> Option<&Sent> {
        self.packets.get(self.latest?.extend(wire).value())
    }

    fn get_mut(&mut self, wire: u16) -> Option<&mut Sent> {
        self.packets.get_mut(self.latest?.extend(wire).value())
    }

    /// Reads ahead what the next packet needs.
    pub(crate) fn ahead(&self) {
        self.packets.ahead(self.latest.map_or(0, |latest| latest.plus(1).value()));
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
        let send = |log: &mut SentLog, wire| {
            log.insert(now, numbers(wire), 0, SeqNo::first(wire), false, 1200, None);
        };
        send(&mut log, 10);
        send(&mut log, 11);
        log.forget();
        send(&mut log, 12);
        let mut asks = |wire| {
            matches!(log.handle_nack(now, Duration::ZERO, wire, |_| Reported::Unknown), Answer::Accept { .. })
        };
        assert_eq!([10, 11, 12].map(&mut asks), [false, false, true]);
    }

    #[test]
    fn what_is_missed_for_good_is_what_is_old_and_not_under_way() {
        let start = sfu_testkit::clock::start();
        let rtt = Duration::from_millis(600);
        let mut log = SentLog::new(MediaKind::Video);
        let numbers = Numbers { seq: SeqNo::first(10), timestamp: RtpTime(0), picture_id: 0, tl0_pic_idx: 0 };
        log.insert(start, numbers, 0, SeqNo::first(10), false, 1200, Some(1));
        let missed = |log: &SentLog, ms| {
            log.missed(start + Duration::from_millis(ms), rtt, 10, |_| Reported::Unknown)
                .map(|(_, late)| late)
        };
        assert_eq!(missed(&log, 700), Some(false), "it can be resent");
        log.release(start + Duration::from_millis(700), 10, true);
        assert_eq!(missed(&log, 1200), Some(false), "a copy is on its way");
        assert_eq!(missed(&log, 1400), Some(true));
        assert_eq!(log.missed(start, rtt, 11, |_| Reported::Unknown), None, "never sent");
        assert_eq!(log.missed(start, rtt, 10, |_| Reported::Arrived), None);
        log.forget();
        assert_eq!(missed(&log, 1400), None, "nothing needs it any more");
    }
}
