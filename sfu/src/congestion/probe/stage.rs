//! One stage of a probe: what was sent, what came back, and what that shows.

use std::time::{Duration, Instant};

use super::{MIN_PACKETS, ProbePlan};
use crate::congestion::twcc::{Acked, Arrival};
use crate::units::{Bitrate, DataSize};

/// Resolution of the delay over a soak, and how many of them; coarser over long ones.
const SLICE: Duration = Duration::from_millis(50);
const SLICES: usize = 25;
/// So many packets in a row tell that more is lost than is usual, and by how much.
const LOSS_PACKETS: u32 = 30;
const LOSES: f64 = 0.08;
/// Growth of the least delay over a soak that means a queue…
const QUEUE_GROWTH: i64 = 15_000;
/// …and that ends it early: more than a busy receiver's threads make.
const ENDING_GROWTH: i64 = 50_000;
/// Reports of a soak that are later than this beyond a round trip mean a queue, too.
const OVERDUE: Duration = Duration::from_millis(200);
/// Reports older than this are not coming.
const REPORT_WAIT: Duration = Duration::from_millis(600);

/// What a stage shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    /// Too little was sent or reported.
    Unproven,
    /// The path delivers only this.
    Saturated(Bitrate),
    /// All of it came through at this rate.
    Passed(Bitrate),
}

/// One stage under way and what is known of its packets.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) plan: ProbePlan,
    started: Instant,
    sent: DataSize,
    sent_packets: u32,
    last_sent: Instant,
    received: DataSize,
    received_packets: u32,
    lost_packets: u32,
    lately: (u32, u32),                                 // of the last packets, all and lost…
    most_lost: u32,                                     // …of so many at most
    send_span: Option<(Instant, Instant, DataSize)>,    // first, last, size of the last
    arrival_span: Option<(Arrival, DataSize, Arrival)>, // first, its size, last
    least_delay: [Option<i64>; SLICES],                 // by time of sending; only differences mean something
}

impl Stage {
    pub(super) fn new(now: Instant, plan: ProbePlan) -> Stage {
        Stage {
            plan,
            started: now,
            sent: DataSize::ZERO,
            sent_packets: 0,
            last_sent: now,
            received: DataSize::ZERO,
            received_packets: 0,
            lost_packets: 0,
            lately: (0, 0),
            most_lost: 0,
            send_span: None,
            arrival_span: None,
            least_delay: [None; SLICES],
        }
    }

    pub(super) fn on_acked(&mut self, acked: &Acked) {
        self.resolve(acked.arrival.is_none());
        let Some(arrival) = acked.arrival else {
            self.lost_packets += 1;
            return;
        };
        self.received += acked.size;
        self.received_packets += 1;
        let offset = acked.sent.saturating_duration_since(self.started);
        let delay = arrival.as_micros().saturating_sub(offset.as_micros() as i64);
        let slice = (offset.as_micros() / self.slice().as_micros()) as usize;
        let least = &mut self.least_delay[slice.min(SLICES - 1)];
        *least = Some(least.map_or(delay, |least| least.min(delay)));
        let (first, last, size) = self.send_span.unwrap_or((acked.sent, acked.sent, acked.size));
        self.send_span = Some(if acked.sent >= last {
            (first, acked.sent, acked.size)
        } else {
            (first.min(acked.sent), last, size)
        });
        let (first, size, last) = self.arrival_span.unwrap_or((arrival, acked.size, arrival));
        self.arrival_span = Some(if arrival < first {
            (arrival, acked.size, last)
        } else {
            (first, size, last.max(arrival))
        });
    }

    /// Its packet left.
    pub(super) fn on_sent(&mut self, now: Instant, size: DataSize) {
        self.sent += size;
        self.sent_packets += 1;
        self.last_sent = now;
    }

    /// When it is over at the latest, if no report comes before.
    pub(super) fn deadline(&self, rtt: Duration) -> Instant {
        let end = if self.complete() { self.last_sent } else { self.started + self.plan.duration() * 2 };
        if self.reported() { end } else { end.max(self.last_sent + REPORT_WAIT + rtt * 2) }
    }

    pub(super) fn over(&self, now: Instant, rtt: Duration) -> bool {
        now >= self.deadline(rtt)
    }

    fn complete(&self) -> bool {
        self.sent >= self.plan.size && self.sent_packets >= self.plan.min_packets
    }

    fn reported(&self) -> bool {
        self.received_packets + self.lost_packets >= self.sent_packets
    }

    /// How much longer the fastest packets took at the end than at the beginning (100 ms each), and the time
    /// between the two; `None` before there is an end.
    fn growth(&self) -> Option<(i64, Duration)> {
        let filled = self.least_delay.iter().rposition(Option::is_some)? + 1;
        if filled < 4 {
            return None;
        }
        let first = self.least_delay[..2].iter().flatten().min()?;
        let last = self.least_delay[filled - 2..filled].iter().flatten().min()?;
        Some((last - first, self.slice() * (filled as u32 - 2)))
    }

    /// Sending may take twice as long as planned.
    fn slice(&self) -> Duration {
        SLICE.max(self.plan.duration() * 2 / SLICES as u32)
    }

    /// A soak of which much is dropped by now: no need to go on.
    pub(super) fn loses(&self, inherent_loss: f64) -> bool {
        f64::from(self.most_lost) > (1.5 * inherent_loss + LOSES) * f64::from(LOSS_PACKETS)
    }

    /// A packet's fate is known.
    fn resolve(&mut self, lost: bool) {
        self.lately.0 += 1;
        self.lately.1 += u32::from(lost);
        if self.lately.0 >= LOSS_PACKETS {
            self.most_lost = self.most_lost.max(self.lately.1);
            self.lately = (0, 0);
        }
    }

    /// A soak has left a queue: no need to go on.
    pub(super) fn queues(&self, now: Instant, rtt: Duration) -> bool {
        let newest = self.send_span.map_or(self.started, |(_, last, _)| last);
        let sending = now.min(self.last_sent + OVERDUE);
        sending > newest + rtt + OVERDUE || self.growth().is_some_and(|(growth, _)| growth > ENDING_GROWTH)
    }

    /// Judges a soak by its lower envelope, which jitter does not move.
    pub(super) fn soak_verdict(&self, inherent_loss: f64) -> Verdict {
        let Some((growth, time)) = self.growth() else { return Verdict::Unproven };
        let Some((first, last, last_size)) = self.send_span else { return Verdict::Unproven };
        let resolved = self.received_packets + self.lost_packets;
        let loss = f64::from(self.lost_packets) / f64::from(resolved.max(1));
        let sent = Bitrate::of(self.received - last_size, last.saturating_duration_since(first))
            .scale(1.0 / (1.0 - loss).max(0.5));
        if resolved < 2 * MIN_PACKETS || loss > 1.5 * inherent_loss + 0.05 || sent < self.plan.rate.scale(0.6)
        {
            return Verdict::Unproven;
        }
        let sent = sent.min(self.plan.rate);
        if growth < QUEUE_GROWTH {
            // A few per cent below the plan is rounding of ticks and packets.
            Verdict::Passed(if sent > self.plan.rate.scale(0.9) { self.plan.rate } else { sent })
        } else {
            let stretched = 1.0 + growth as f64 / time.as_micros().max(1) as f64;
            Verdict::Saturated(sent.scale(0.95 / stretched))
        }
    }

    /// Receive rate without the first size, send rate without the last (the usual packet-train estimate).
    pub(super) fn verdict(&self, inherent_loss: f64) -> Verdict {
        let (Some((sent_first, sent_last, last_size)), Some((arrived_first, first_size, arrived_last))) =
            (self.send_span, self.arrival_span)
        else {
            return Verdict::Unproven;
        };
        let enough = 0.8 * (1.0 - inherent_loss.clamp(0.0, 0.5));
        if self.received_packets < self.plan.min_packets.min(4)
            || (self.received.as_bytes() as f64) < enough * self.sent.as_bytes() as f64
            || (self.sent.as_bytes() as f64) < 0.6 * self.plan.size.as_bytes() as f64
        {
            return Verdict::Unproven;
        }
        let sent = Bitrate::of(self.received - last_size, sent_last.saturating_duration_since(sent_first));
        let received = Bitrate::of(self.received - first_size, arrived_last.since(arrived_first));
        let ratio = received.as_bps() as f64 / sent.as_bps().max(1) as f64;
        // Impossible, or our own sending was too slow: it proves nothing.
        let too_slow = sent < self.plan.rate.scale(0.6);
        if sent.as_bps() == 0 || received.as_bps() == 0 || ratio > 2.0 || too_slow {
            Verdict::Unproven
        } else if ratio < 0.9 {
            Verdict::Saturated(received.scale(0.95))
        } else {
            Verdict::Passed(sent.min(received).min(self.plan.rate))
        }
    }
}
