//! Whether the queue on the path is somebody else's, and what a TCP flow would get there.
//!
//! A queue of ours goes when we send clearly less than what passed a moment ago. One that stays then is filled by others,
//! who do not yield to delay: who does would be starved. So it is no longer obeyed, and the target does not fall below
//! the rate of a TCP flow with our losses (RFC 5348 §3.1), nor rise by itself beyond it. As the losses of the few packets
//! we send say little, what the path carried before we gave way bounds it too.
//! Always: what it says is undone when the queue is seen empty, or longer than others would let it become.
//! Not here: the target itself ([`super::target`]).

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::rate::Measured;
use super::twcc::Acked;
use crate::units::Bitrate;

/// Sending less than this share of what arrived at the cut must have emptied a queue of ours…
const YIELDED: f64 = 0.7;
/// …after this long…
const PATIENCE: Duration = Duration::from_millis(1500);
/// …if as much arrives as is sent…
const DELIVERS_ALL: f64 = 0.92;
/// …and this much of it still stands.
const STANDS: Duration = Duration::from_millis(25);
/// Where less than this share of what is sent arrives, the path is full of it.
const STARVED: f64 = 0.7;
/// The queue is gone, if for this long.
const EMPTY: Duration = Duration::from_millis(12);
const GONE: Duration = Duration::from_secs(2);
/// A longer queue would be one of a path without others on it, which nobody drains.
const LONGEST: Duration = Duration::from_millis(300);
/// Losses of one round trip are one event; the rate follows the last intervals between events, with the weights of
/// RFC 5348 §5.4.
const WEIGHTS: [f64; 8] = [1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2];
/// Packet of a TCP flow.
const SEGMENT_BITS: f64 = 1500.0 * 8.0;

/// What the path carried for us is remembered for so long, unless it became narrower meanwhile.
const MEMORY: Duration = Duration::from_secs(10);

/// A queue that we were cut for.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    before: Bitrate,          // what the path carried for us then
    yielded: Option<Instant>, // since when we send clearly less
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Contest {
    most: Option<(Instant, Bitrate)>, // that was carried lately
    suspect: Option<Suspect>,
    contested: bool,
    carried: Bitrate, // before we gave way
    empty_since: Option<Instant>,
    intervals: SmallVec<[f64; 9]>, // packets between loss events, newest first
    packets: u64,                  // since the last event
    last_event: Option<Instant>,
}

/// What is known after a report.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Lower envelope of the queueing delay.
    pub envelope: Duration,
    /// What is being sent.
    pub sending: Bitrate,
    /// What arrived, and at which rate the same was sent.
    pub measured: Option<Measured>,
    /// When the target was last cut.
    pub last_cut: Option<Instant>,
    /// Round trip.
    pub rtt: Duration,
}

impl Contest {
    /// The packets of one report, and what came of it.
    pub fn on_acked(&mut self, now: Instant, acked: &[Acked], evidence: Evidence) {
        self.count_losses(now, acked, evidence.rtt);
        let Evidence { envelope, sending, .. } = evidence;
        let Some(Measured { delivered, sent }) = evidence.measured else { return };
        if envelope < EMPTY {
            self.suspect = None;
            let since = *self.empty_since.get_or_insert(now);
            self.contested &= now.saturating_duration_since(since) < GONE;
        } else {
            self.empty_since = None;
        }
        let starved = delivered < sent.scale(STARVED);
        let most = self
            .most
            .filter(|&(at, most)| !starved && most > delivered && now.saturating_duration_since(at) < MEMORY);
        let (_, most) = *self.most.insert(most.unwrap_or((now, delivered)));
        self.contested &= envelope < LONGEST && !starved;
        if envelope < STANDS {
            return;
        }
        if evidence.last_cut == Some(now) {
            self.suspect.get_or_insert(Suspect { before: most, yielded: None });
        }
        let Some(suspect) = &mut self.suspect else { return };
        if starved {
            // The path has become narrower yet: all begins anew.
            *suspect = Suspect { before: suspect.before.min(delivered), yielded: None };
        }
        let yields = sending < suspect.before.scale(YIELDED);
        suspect.yielded = suspect.yielded.or(Some(now)).filter(|_| yields);
        let long = suspect.yielded.is_some_and(|since| now.saturating_duration_since(since) >= PATIENCE);
        if long && delivered >= sent.scale(DELIVERS_ALL) {
            self.contested = true;
            self.carried = suspect.before;
        }
    }

    /// The rate of a TCP flow there; `None` while the queue is held to be ours, zero before anything is lost.
    pub fn fair_share(&self, rtt: Duration) -> Option<Bitrate> {
        if !self.contested {
            return None;
        }
        if self.intervals.is_empty() {
            return Some(Bitrate::ZERO);
        }
        let mean = |intervals: &mut dyn Iterator<Item = f64>| {
            let (sum, weights) = intervals
                .zip(WEIGHTS)
                .fold((0.0, 0.0), |(sum, all), (interval, weight)| (sum + interval * weight, all + weight));
            sum / weights
        };
        let closed = mean(&mut self.intervals.iter().copied());
        let with_open = mean(&mut std::iter::once(self.packets as f64).chain(self.intervals.iter().copied()));
        let events = 1.0 / closed.max(with_open).max(1.0);
        let rtt = rtt.as_secs_f64().max(0.01);
        let flow = Bitrate::bps((SEGMENT_BITS / (rtt * (2.0 * events / 3.0).sqrt())) as u64);
        Some(flow.min(self.carried))
    }

    fn count_losses(&mut self, now: Instant, acked: &[Acked], rtt: Duration) {
        for acked in acked.iter().filter(|acked| !acked.late) {
            self.packets += 1;
            let another = self.last_event.is_none_or(|at| now.saturating_duration_since(at) > rtt);
            if acked.arrival.is_none() && another {
                self.last_event = Some(now);
                self.intervals.insert(0, self.packets as f64);
                self.intervals.truncate(WEIGHTS.len());
                self.packets = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
