//! Asking the path whether more fits: when, how much, and what the answer was.
//!
//! Two stages. A cluster of 15 to 20 ms costs little and says no quickly; but radio aggregation and token
//! buckets let a short burst through at any rate, and jitter stretches one at random, so a cluster that
//! passes only earns soaks: 300 ms each, in steps from the target up to the wanted rate, judged by whether
//! the fastest packets took longer at the end than at the beginning. Only a soak raises the target.
//! Always: at most one stage at a time; nothing while the path is congested or silent, and nothing when
//! everything wanted already fits; each failure waits longer, up to a bound.
//! Not here: sending ([`super::pacer`]), the target itself ([`super::target`]).

use std::time::{Duration, Instant};

use super::twcc::{Acked, Arrival};
use crate::units::{Bitrate, DataSize};

/// Length of a cluster; longer at low rates, which need the time for enough packets.
const CLUSTER: Duration = Duration::from_millis(15);
const SLOW_CLUSTER: Duration = Duration::from_millis(20);
const SLOW: Bitrate = Bitrate::kbps(1000);
/// A cluster may queue at most this much of the believed rate.
const MAX_EXCESS: Duration = Duration::from_millis(50);
const SHORTEST_CLUSTER: Duration = Duration::from_millis(8);
/// Length of a soak.
const SOAK: Duration = Duration::from_millis(300);
/// A soak exceeds what is believed by this factor at most: the queue it may leave on a narrow path before
/// the first reports return is then about half of that time. More while joining, when nothing is known.
const SOAK_STEP: f64 = 1.5;
const SOAK_STEP_JOINING: f64 = 2.0;
/// The same where a cluster said no, but on a path so restless that it cannot say.
const SOAK_STEP_DOUBTFUL: f64 = 1.25;
/// Delay variation between neighbouring groups above which a cluster is hard to read.
const RESTLESS: Duration = Duration::from_millis(4);
/// Resolution of the delay over a soak, and how many of them.
const SLICE: Duration = Duration::from_millis(50);
const SLICES: usize = 13;
/// Growth of the least delay over a soak that means a queue; twice that ends it early.
const QUEUE_GROWTH: i64 = 15_000;
/// Reports of a soak that are later than this beyond a round trip mean a queue, too.
const OVERDUE: Duration = Duration::from_millis(150);
/// At low rates a cluster takes longer rather than shrink to a packet or two.
const SMALLEST_CLUSTER: DataSize = DataSize::bytes(1500);
/// Fewest packets of a cluster.
const MIN_PACKETS: u32 = 5;
/// Pause between demand probes; grows by half with each failure.
const INTERVAL: Duration = Duration::from_millis(1500);
/// Longest pause. Short enough that a link that recovered is used within a few seconds.
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// For this long after the first demand a probe may also lower the target: nothing else is known yet.
const JOIN: Duration = Duration::from_secs(3);
const JOIN_RETRY: Duration = Duration::from_millis(100);
/// Reports older than this are not coming.
const REPORT_WAIT: Duration = Duration::from_millis(600);

/// The two stages of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// A short burst; its packets say nothing about queues.
    Cluster,
    /// A sustained rate, watched for queues.
    Soak,
}

/// Names one stage of one probe of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId {
    /// Counts from 1, over both kinds.
    pub number: u32,
    /// The stage.
    pub kind: ProbeKind,
}

/// What the pacer is to send; media that is due counts, padding fills the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// Tag of every packet of it.
    pub cluster: ClusterId,
    /// Rate to send at.
    pub rate: Bitrate,
    /// Bytes after which it is complete…
    pub size: DataSize,
    /// …provided that this many packets were sent.
    pub min_packets: u32,
    /// Size of a padding packet.
    pub packet: DataSize,
}

impl ProbePlan {
    /// How long it should take.
    pub fn duration(&self) -> Duration {
        self.rate.time_for(self.size).unwrap_or(SOAK)
    }
}

/// What the prober is told of the rest.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The target now.
    pub target: Bitrate,
    /// The rate at which the next step fits; `None`: nothing is missing.
    pub next: Option<Bitrate>,
    /// The rate at which everything fits.
    pub wanted: Bitrate,
    /// Whether a new probe may start: no queue, no recent cut, feedback arrives.
    pub calm: bool,
    /// A queue is building: a running soak must stop.
    pub queue: bool,
    /// Round trip.
    pub rtt: Duration,
    /// Loss ratio that is nobody's fault.
    pub inherent_loss: f64,
    /// How much the delay differs from one group to the next.
    pub jitter: Duration,
}

/// What a finished stage means for the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The path carried this rate.
    Proven(Bitrate),
    /// The path, met for the first time, carries only this.
    Narrow(Bitrate),
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// Too little was sent or reported.
    Unproven,
    /// The path delivers only this.
    Saturated(Bitrate),
    /// All of it came through at this rate.
    Passed(Bitrate),
}

/// One stage under way and what is known of its packets.
#[derive(Clone, Copy, Debug)]
struct Stage {
    plan: ProbePlan,
    started: Instant,
    sent: DataSize,
    sent_packets: u32,
    last_sent: Instant,
    received: DataSize,
    received_packets: u32,
    lost_packets: u32,
    send_span: Option<(Instant, Instant, DataSize)>, // first, last, size of the last
    arrival_span: Option<(Arrival, DataSize, Arrival)>, // first, its size, last
    least_delay: [Option<i64>; SLICES],              // by time of sending; only differences mean something
}

impl Stage {
    fn new(now: Instant, plan: ProbePlan) -> Stage {
        Stage {
            plan,
            started: now,
            sent: DataSize::ZERO,
            sent_packets: 0,
            last_sent: now,
            received: DataSize::ZERO,
            received_packets: 0,
            lost_packets: 0,
            send_span: None,
            arrival_span: None,
            least_delay: [None; SLICES],
        }
    }

    fn on_acked(&mut self, acked: &Acked) {
        let Some(arrival) = acked.arrival else {
            self.lost_packets += 1;
            return;
        };
        self.received += acked.size;
        self.received_packets += 1;
        let offset = acked.sent.saturating_duration_since(self.started);
        let delay = arrival.as_micros().saturating_sub(offset.as_micros() as i64);
        let slice = (offset.as_micros() / SLICE.as_micros()) as usize;
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

    fn sending_over(&self, now: Instant) -> bool {
        let complete = self.sent >= self.plan.size && self.sent_packets >= self.plan.min_packets;
        complete || now >= self.started + self.plan.duration() * 2
    }

    fn over(&self, now: Instant, rtt: Duration) -> bool {
        let reported = self.received_packets + self.lost_packets >= self.sent_packets;
        self.sending_over(now) && (reported || now >= self.last_sent + REPORT_WAIT + rtt * 2)
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
        Some((last - first, SLICE * (filled as u32 - 2)))
    }

    /// A soak has left a queue: no need to go on.
    fn queues(&self, now: Instant, rtt: Duration) -> bool {
        let newest = self.send_span.map_or(self.started, |(_, last, _)| last);
        let sending = now.min(self.last_sent + OVERDUE);
        sending > newest + rtt + OVERDUE || self.growth().is_some_and(|(growth, _)| growth > 2 * QUEUE_GROWTH)
    }

    /// Judges a soak by its lower envelope, which jitter does not move.
    fn soak_verdict(&self, inherent_loss: f64) -> Verdict {
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
    fn verdict(&self, inherent_loss: f64) -> Verdict {
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
        if sent.as_bps() == 0 || received.as_bps() == 0 || ratio > 2.0 {
            Verdict::Unproven
        } else if sent < self.plan.rate.scale(0.6) {
            Verdict::Unproven // our own sending was too slow: it proves nothing
        } else if ratio < 0.9 {
            Verdict::Saturated(received.scale(0.95))
        } else {
            Verdict::Passed(sent.min(received).min(self.plan.rate))
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle,
    Probing { stage: Stage, goal: Bitrate },
}

/// Decides on probes for one transport and judges them.
#[derive(Debug)]
pub struct Prober {
    start: Bitrate,
    phase: Phase,
    last_number: u32,
    interval: Duration,
    not_before: Option<Instant>,
    asked: Option<Bitrate>,  // the demand behind the last probe…
    failed: Option<Bitrate>, // …and behind the last one that failed
    joined: Option<Instant>, // when something was first wanted
}

impl Prober {
    /// `start` is the rate believed before anything is known.
    pub fn new(start: Bitrate) -> Prober {
        Prober {
            start,
            phase: Phase::Idle,
            last_number: 0,
            interval: INTERVAL,
            not_before: None,
            asked: None,
            failed: None,
            joined: None,
        }
    }

    /// The plan to carry out now.
    pub fn plan(&self) -> Option<ProbePlan> {
        match self.phase {
            Phase::Idle => None,
            Phase::Probing { stage, .. } => Some(stage.plan),
        }
    }

    /// Whether the very first probes are still to come or under way.
    pub fn joining(&self, now: Instant) -> bool {
        self.joined.is_none_or(|at| now < at + JOIN)
    }

    /// A packet left as part of `cluster`.
    pub fn on_sent(&mut self, now: Instant, cluster: ClusterId, size: DataSize) {
        if let Phase::Probing { stage, .. } = &mut self.phase
            && stage.plan.cluster == cluster
        {
            stage.sent += size;
            stage.sent_packets += 1;
            stage.last_sent = now;
        }
    }

    /// A packet of `cluster` was reported.
    pub fn on_acked(&mut self, cluster: ClusterId, acked: &Acked) {
        if let Phase::Probing { stage, .. } = &mut self.phase
            && stage.plan.cluster == cluster
        {
            stage.on_acked(acked);
        }
    }

    /// The path was lost or cut: whatever runs is void.
    pub fn abort(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Probing { .. }) {
            self.phase = Phase::Idle;
            self.back_off(now);
        }
    }

    /// Begins afresh, as on a new path.
    pub fn restart(&mut self) {
        let last_number = self.last_number;
        *self = Prober { last_number, ..Prober::new(self.start) };
    }

    /// When to call [`Prober::update`] though nothing was reported.
    pub fn next_timeout(&self, rtt: Duration) -> Option<Instant> {
        match self.phase {
            Phase::Idle => self.not_before,
            Phase::Probing { stage, .. } if stage.sent < stage.plan.size => {
                Some(stage.started + stage.plan.duration() * 2)
            }
            Phase::Probing { stage, .. } => Some(stage.last_sent + REPORT_WAIT + rtt * 2),
        }
    }

    /// Moves on: judges a finished stage, starts a probe if one is due.
    pub fn update(&mut self, now: Instant, conditions: Conditions) -> Option<Outcome> {
        match self.phase {
            Phase::Idle => {
                self.start_if_due(now, conditions);
                None
            }
            Phase::Probing { stage, goal } => self.watch(now, stage, goal, conditions),
        }
    }

    fn start_if_due(&mut self, now: Instant, c: Conditions) {
        let Some(next) = c.next.filter(|&next| c.calm && next > c.target) else {
            self.not_before = self.not_before.filter(|&at| at > now);
            return;
        };
        // A demand smaller than what failed is another question, and may be asked at once.
        if self.failed.is_some_and(|failed| next < failed.scale(0.8)) {
            self.not_before = None;
            self.interval = INTERVAL;
        }
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.not_before = None;
        self.asked = Some(next);
        let first = self.joined.is_none();
        let joined = *self.joined.get_or_insert(now);
        let goal = if first || (now < joined + JOIN && c.target >= self.start) {
            c.wanted.scale(1.15).min(self.start.scale(6.0)).max(next)
        } else {
            next.scale(1.03).min(c.target.scale(3.0))
        };
        let rate = if first { goal.min(self.start.scale(3.0)) } else { goal };
        self.begin_cluster(now, rate.min(c.target.scale(3.0)), goal, c.target);
    }

    fn watch(&mut self, now: Instant, stage: Stage, goal: Bitrate, c: Conditions) -> Option<Outcome> {
        let gone = c.next.is_none_or(|next| next <= c.target);
        match stage.plan.cluster.kind {
            ProbeKind::Soak if gone && !c.queue => {
                self.phase = Phase::Idle; // no longer wanted: neither success nor failure
                None
            }
            ProbeKind::Soak if c.queue || stage.queues(now, c.rtt) || stage.over(now, c.rtt) => {
                self.after_soak(now, stage, goal, c)
            }
            ProbeKind::Cluster if c.queue => {
                self.fail(now);
                None
            }
            ProbeKind::Cluster if stage.over(now, c.rtt) => self.after_cluster(now, stage, goal, c),
            ProbeKind::Soak | ProbeKind::Cluster => None,
        }
    }

    fn after_cluster(&mut self, now: Instant, stage: Stage, goal: Bitrate, c: Conditions) -> Option<Outcome> {
        match stage.verdict(c.inherent_loss) {
            Verdict::Passed(rate) if stage.plan.rate < goal => {
                self.begin_cluster(now, goal.min(rate.scale(3.0)), goal, rate);
                None
            }
            Verdict::Passed(_) => {
                self.begin_soak(now, c.target.scale(self.soak_step(now)), goal);
                None
            }
            Verdict::Saturated(rate) if rate > c.target.scale(1.08) => {
                self.begin_soak(now, c.target.scale(self.soak_step(now)), goal.min(rate));
                None
            }
            Verdict::Saturated(_) | Verdict::Unproven if c.jitter > RESTLESS => {
                self.begin_soak(now, c.target.scale(SOAK_STEP_DOUBTFUL), goal);
                None
            }
            Verdict::Saturated(rate) => {
                let narrow = self.joining(now) && rate < c.target;
                self.fail(now);
                narrow.then_some(Outcome::Narrow(rate))
            }
            Verdict::Unproven => {
                self.fail(now);
                self.retry_soon(now);
                None
            }
        }
    }

    fn after_soak(&mut self, now: Instant, stage: Stage, goal: Bitrate, c: Conditions) -> Option<Outcome> {
        match stage.soak_verdict(c.inherent_loss) {
            Verdict::Passed(rate) if !c.queue && stage.over(now, c.rtt) => {
                if stage.plan.rate < goal {
                    self.begin_soak(now, rate.scale(self.soak_step(now)), goal);
                } else {
                    self.succeed(now);
                }
                (rate > c.target).then_some(Outcome::Proven(rate))
            }
            Verdict::Saturated(rate) if !c.queue && rate > c.target => {
                self.fail(now);
                Some(Outcome::Proven(rate))
            }
            Verdict::Passed(_) | Verdict::Saturated(_) | Verdict::Unproven => {
                self.fail(now);
                self.retry_soon(now);
                None
            }
        }
    }

    fn soak_step(&self, now: Instant) -> f64 {
        if self.joining(now) { SOAK_STEP_JOINING } else { SOAK_STEP }
    }

    fn begin_cluster(&mut self, now: Instant, rate: Bitrate, goal: Bitrate, believed: Bitrate) {
        let usual = if rate < SLOW { SLOW_CLUSTER } else { CLUSTER };
        let excess = rate.saturating_sub(believed);
        let longest = excess.time_for(believed.size_in(MAX_EXCESS)).unwrap_or(usual);
        self.begin(now, ProbeKind::Cluster, rate, goal, usual.min(longest).max(SHORTEST_CLUSTER));
    }

    fn begin_soak(&mut self, now: Instant, rate: Bitrate, goal: Bitrate) {
        self.begin(now, ProbeKind::Soak, rate.min(goal), goal, SOAK);
    }

    fn begin(&mut self, now: Instant, kind: ProbeKind, rate: Bitrate, goal: Bitrate, time: Duration) {
        self.last_number = self.last_number.wrapping_add(1);
        let cluster = ClusterId { number: self.last_number, kind };
        let size = rate.size_in(time).max(SMALLEST_CLUSTER);
        let packet = DataSize::bytes((rate.size_in(time.min(CLUSTER)).as_bytes() / 8).clamp(200, 1200));
        let plan = ProbePlan { cluster, rate, size, min_packets: MIN_PACKETS, packet };
        self.phase = Phase::Probing { stage: Stage::new(now, plan), goal };
    }

    fn succeed(&mut self, now: Instant) {
        self.phase = Phase::Idle;
        self.interval = INTERVAL;
        self.failed = None;
        self.not_before = Some(now + Duration::from_millis(200));
    }

    fn fail(&mut self, now: Instant) {
        self.phase = Phase::Idle;
        self.failed = self.asked;
        self.back_off(now);
    }

    /// While joining an answer that is not a clear no is asked for again: somebody waits for a picture.
    fn retry_soon(&mut self, now: Instant) {
        if self.joining(now) {
            self.not_before = Some(now + JOIN_RETRY);
            self.interval = INTERVAL;
        }
    }

    fn back_off(&mut self, now: Instant) {
        self.not_before = Some(now + self.interval);
        self.interval = (self.interval * 3 / 2).min(MAX_INTERVAL);
    }
}

#[cfg(test)]
mod tests;
