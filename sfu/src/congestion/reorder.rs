//! How a path reorders: how late packets come that later ones overtook, and how many of those missing come at all.
//!
//! Always: by the receiver's own clock, so that the path of its reports does not matter; memory is fixed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::twcc::{Acked, Arrival};
use crate::ids::SeqNo;

/// Numbers that came before all higher ones, newest last: what tells when a packet was overtaken.
const AHEAD: usize = 128;
/// What is later than this is as good as lost.
const MOST: Duration = Duration::from_millis(20);
/// The extent falls by this with each late packet that is less late…
const DECAY: f64 = 0.95;
/// …and is forgotten after this long without one.
const FORGET: Duration = Duration::from_secs(10);
/// Weight of one packet in the share of late ones.
const WEIGHT: f64 = 1.0 / 32.0;

/// See the module's page.
#[derive(Debug, Default)]
pub struct ReorderMeter {
    ahead: VecDeque<(SeqNo, Arrival)>,
    extent: Duration,
    late: f64,
    seen: Option<Instant>,
}

impl ReorderMeter {
    /// The packets of one report, in order of arrival.
    pub fn on_acked(&mut self, now: Instant, acked: &[Acked]) {
        for acked in acked {
            let Some(arrival) = acked.arrival else {
                self.late -= WEIGHT * self.late;
                continue;
            };
            if self.ahead.back().is_none_or(|(highest, _)| acked.number.distance(*highest) > 0) {
                if self.ahead.len() == AHEAD {
                    self.ahead.pop_front();
                }
                self.ahead.push_back((acked.number, arrival));
                continue;
            }
            self.late += WEIGHT * (1.0 - self.late);
            self.seen = Some(now);
            let overtaken = self.ahead.iter().find(|(number, _)| number.distance(acked.number) > 0);
            let by = overtaken.map_or(MOST, |(_, at)| arrival.since(*at));
            self.extent = by.max(self.extent.mul_f64(DECAY)).min(MOST);
        }
    }

    /// How late packets come that others overtake, at most 20 ms; zero on a path that keeps the order.
    pub fn extent(&self, now: Instant) -> Duration {
        if self.lately(now) { self.extent } else { Duration::ZERO }
    }

    /// Of the packets that were missing at their turn, the share that came later: 0 to 1.
    pub fn late(&self, now: Instant) -> f64 {
        if self.lately(now) { self.late } else { 0.0 }
    }

    fn lately(&self, now: Instant) -> bool {
        self.seen.is_some_and(|at| now.saturating_duration_since(at) < FORGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::PacketClass;
    use crate::units::DataSize;
    use sfu_testkit::clock;

    fn acked(number: u64, arrival_ms: Option<i64>) -> Acked {
        Acked {
            number: SeqNo::first(0).plus(number),
            sent: clock::start(),
            arrival: arrival_ms.map(|ms| Arrival::micros(ms * 1000)),
            late: false,
            size: DataSize::bytes(1200),
            class: PacketClass::Video,
            cluster: None,
        }
    }

    #[test]
    fn a_packet_is_as_late_as_the_first_that_overtook_it_is_early() {
        let now = clock::start();
        let mut meter = ReorderMeter::default();
        meter.on_acked(now, &[acked(1, Some(0)), acked(3, Some(10)), acked(4, Some(12))]);
        assert_eq!((meter.extent(now), meter.late(now)), (Duration::ZERO, 0.0));
        // In the next report, as it came.
        meter.on_acked(now, &[acked(2, Some(18)), acked(5, Some(20))]);
        assert_eq!(meter.extent(now), Duration::from_millis(8));
        meter.on_acked(now, &[acked(8, Some(30)), acked(6, Some(90))]);
        assert_eq!(meter.extent(now), MOST, "what is later is not waited for");
        let later = now + FORGET;
        assert_eq!((meter.extent(later), meter.late(later)), (Duration::ZERO, 0.0));
    }

    #[test]
    fn lost_packets_and_late_ones_are_told_apart() {
        let now = clock::start();
        let mut meter = ReorderMeter::default();
        for n in (0..400).step_by(2) {
            meter.on_acked(now, &[acked(n + 1, Some(n as i64)), acked(n, Some(n as i64 + 5))]);
        }
        assert!(meter.late(now) > 0.95, "{}", meter.late(now));
        for _ in 0..100 {
            meter.on_acked(now, &[acked(0, None)]);
        }
        assert!(meter.late(now) < 0.05, "{}", meter.late(now));
    }
}
