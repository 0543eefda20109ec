//! How long a receiver shall hold its pictures back: libwebrtc's playout-delay extension.
//!
//! libwebrtc's jitter buffer does not wait for retransmissions (m156: frames that had one are left out of its estimate): it
//! shows what is whole. Where every other frame misses a packet at first, pictures stand and jump. So while much is lost
//! the receiver is asked to wait for two repairs of the same packet.
//! Always: nothing is asked for on a path that loses little, or loses since it queues; never more than [`MOST`], since
//! sound waits along. What was asked for is taken back, as receivers keep it.
//! Not here: repairs themselves ([`super::repair`]).

use std::time::{Duration, Instant};

use crate::congestion::twcc::Acked;

/// Loss is judged over this time, and so many packets.
const WINDOW: Duration = Duration::from_secs(1);
const PACKETS: u32 = 50;
/// From this share on the receiver is asked to wait…
const LOSSY: f64 = 0.10;
/// …until less than this was lost for so long.
const HOLDS: f64 = 0.06;
const HELD_FOR: Duration = Duration::from_secs(15);
/// With a queue this long loss is our own doing.
const QUEUE: Duration = Duration::from_millis(40);
/// Repairs to wait for, and what each takes beside a round trip: libwebrtc looks for what is missing every 20 ms, our pacer
/// has its tick.
const REPAIRS: u32 = 2;
const REPAIR_SLACK: Duration = Duration::from_millis(30);
/// More would hurt a talk more than a picture that stands.
const MOST: Duration = Duration::from_millis(300);
/// A change by less is none.
const STEP: Duration = Duration::from_millis(40);
/// For so long it is said that there is nothing to wait for any more.
const TAKEN_BACK_FOR: Duration = Duration::from_secs(5);
/// The receiver's own upper bound, which the extension cannot leave out (libwebrtc, `kMaxVideoDelayMs`).
const UPPER: Duration = Duration::from_secs(10);

/// See the module's page.
#[derive(Debug, Default)]
pub struct PlayoutDelay {
    since: Option<Instant>,
    lost: u32,
    total: u32,
    /// Zero: nothing is asked for.
    delay: Duration,
    /// When that was last called for.
    lossy: Option<Instant>,
    taken_back: Option<Instant>,
}

impl PlayoutDelay {
    /// The packets of one report, and the path's queueing delay and round trip.
    pub fn on_acked(&mut self, now: Instant, acked: &[Acked], queue: Duration, rtt: Duration) {
        for acked in acked {
            let lost = u32::from(acked.arrival.is_none());
            if acked.late {
                self.lost = self.lost.saturating_sub(1);
            } else {
                self.total += 1;
                self.lost += lost;
            }
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) < WINDOW || self.total < PACKETS {
            return;
        }
        let share = f64::from(self.lost) / f64::from(self.total);
        (self.since, self.lost, self.total) = (Some(now), 0, 0);
        let asks = self.delay > Duration::ZERO;
        if share >= if asks { HOLDS } else { LOSSY } {
            if queue >= QUEUE {
                return;
            }
            self.lossy = Some(now);
            let wanted = ((rtt + REPAIR_SLACK) * REPAIRS).min(MOST);
            if wanted.abs_diff(self.delay) >= STEP {
                self.delay = wanted;
            }
        } else if asks && self.lossy.is_none_or(|at| now.saturating_duration_since(at) >= HELD_FOR) {
            self.delay = Duration::ZERO;
            self.taken_back = Some(now);
        }
    }

    /// What to write into a packet of video that leaves now: least and largest delay in units of 10 ms, 12 bits each.
    pub fn value(&self, now: Instant) -> Option<[u8; 3]> {
        let said = |at: Instant| now.saturating_duration_since(at) < TAKEN_BACK_FOR;
        if self.delay == Duration::ZERO && !self.taken_back.is_some_and(said) {
            return None;
        }
        let units =
            |time: Duration| u32::try_from(time.as_millis() / 10).map_or(0xfff, |units| units.min(0xfff));
        let [_, high, middle, low] = (units(self.delay) << 12 | units(UPPER)).to_be_bytes();
        Some([high, middle, low])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::PacketClass;
    use crate::congestion::twcc::Arrival;
    use crate::units::DataSize;

    const RTT: Duration = Duration::from_millis(80);

    /// Reports of 50 ms for `seconds`, with every `nth` packet lost; what is written at their end.
    fn report(
        delay: &mut PlayoutDelay,
        now: &mut Instant,
        seconds: u64,
        nth: u32,
        queue: Duration,
    ) -> Option<[u8; 3]> {
        let mut count = 0;
        for _ in 0..seconds * 20 {
            let acked: Vec<Acked> = (0..10)
                .map(|_| {
                    count += 1;
                    let arrival = (nth == 0 || count % nth != 0).then_some(Arrival::micros(0));
                    Acked {
                        number: crate::ids::SeqNo::first(0),
                        sent: *now,
                        size: DataSize::bytes(1200),
                        class: PacketClass::Video,
                        cluster: None,
                        arrival,
                        late: false,
                    }
                })
                .collect();
            *now += Duration::from_millis(50);
            delay.on_acked(*now, &acked, queue, RTT);
        }
        delay.value(*now)
    }

    #[test]
    fn much_loss_asks_for_two_round_trips_and_its_end_takes_that_back() {
        let (mut delay, mut now) = (PlayoutDelay::default(), sfu_testkit::clock::start());
        assert_eq!(report(&mut delay, &mut now, 5, 20, Duration::ZERO), None, "5 %");
        // 220 ms, 10 s.
        assert_eq!(report(&mut delay, &mut now, 3, 5, Duration::ZERO), Some([0x01, 0x63, 0xe8]), "20 %");
        assert_eq!(
            report(&mut delay, &mut now, 10, 0, Duration::ZERO),
            Some([0x01, 0x63, 0xe8]),
            "it may return"
        );
        assert_eq!(report(&mut delay, &mut now, 7, 0, Duration::ZERO), Some([0, 0x03, 0xe8]), "taken back");
        assert_eq!(report(&mut delay, &mut now, 7, 0, Duration::ZERO), None);
    }

    #[test]
    fn loss_of_our_own_making_asks_for_nothing() {
        let (mut delay, mut now) = (PlayoutDelay::default(), sfu_testkit::clock::start());
        assert_eq!(report(&mut delay, &mut now, 5, 5, QUEUE), None);
    }
}
