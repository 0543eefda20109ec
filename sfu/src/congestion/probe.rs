//! Asking the path whether more fits: when, how much, and what the answer was.
//!
//! Two stages. A cluster of 15 to 20 ms costs little and says no quickly; but radio aggregation and token
//! buckets let a short burst through at any rate, and jitter stretches one at random, so a cluster that
//! passes only earns soaks: 300 ms each, in steps from the target up to the wanted rate, judged by whether
//! the fastest packets took longer at the end than at the beginning. Only a soak raises the target, but for one case: while
//! somebody who joins sees nothing at all, a longer cluster is believed for the first step, and the soak is made of the first
//! picture and what follows it.
//! A bucket that was full lets a short soak through, too, somewhat above the link's rate. What was given on its word then
//! makes a queue; from then on soaks are longer, until one of those has passed: the path is wider now. A policer makes no
//! queue, and has larger buckets: beyond what one lets through, soaks last until such a bucket must be empty.
//! Always: at most one stage at a time; nothing while the path is congested or silent, and nothing when
//! everything wanted already fits; each failure waits longer, up to a bound.
//! Not here: sending ([`super::pacer`]), the target itself ([`super::target`]).

mod stage;

use std::time::{Duration, Instant};

use self::stage::{Stage, Verdict};
use super::twcc::Acked;
use crate::units::{Bitrate, DataSize};

/// Length of a cluster; longer at low rates, which need the time for enough packets.
const CLUSTER: Duration = Duration::from_millis(15);
const SLOW_CLUSTER: Duration = Duration::from_millis(20);
const SLOW: Bitrate = Bitrate::kbps(1000);
/// Length of one that is believed without a soak: more than what buckets of 3 kB let through is in it.
const FIRST_CLUSTER: Duration = Duration::from_millis(50);
/// A cluster may queue at most this much of the believed rate.
const MAX_EXCESS: Duration = Duration::from_millis(50);
const SHORTEST_CLUSTER: Duration = Duration::from_millis(8);
/// Length of a soak; twice as long for each that was wrong and none that passed since, up to so many.
const SOAK: Duration = Duration::from_millis(300);
const MOST_WRONG: u32 = 1;
/// A soak beyond what a policer lets through lasts until a bucket of this size is empty, at first and after proofs that
/// were wrong, but no longer than that.
const POLICER_BUCKET: [DataSize; 2] = [DataSize::bytes(64_000), DataSize::bytes(256_000)];
const LONGEST_SOAK: Duration = Duration::from_secs(4);
/// A proof is wrong if the target is cut within this time, although the path delivers so much of what was proven that it
/// has not become another; and right if it is not.
const BORNE_OUT: Duration = Duration::from_secs(10);
const SAME_PATH: f64 = 0.5;
/// A soak exceeds what is believed by this factor at most: the queue it may leave on a narrow path before the first
/// reports return is about that much of its time. Least after a failure or where clusters cannot be read, more with
/// each soak that passed, most while joining, when nothing is known.
const SOAK_STEPS: [f64; 3] = [1.25, 1.5, 2.0];
/// A probe for a step goes on to this share of it, so that the step's own noise does not ask again.
const BEYOND: f64 = 1.12;
/// Delay variation between neighbouring groups above which a cluster is hard to read.
const RESTLESS: Duration = Duration::from_millis(4);
/// At low rates a cluster takes longer rather than shrink to a packet or two.
const SMALLEST_CLUSTER: DataSize = DataSize::bytes(1500);
/// Fewest packets of a cluster.
const MIN_PACKETS: u32 = 5;
/// Pause between demand probes; grows by half with each failure.
const INTERVAL: Duration = Duration::from_millis(1500);
/// Longest pause. Short enough that a link that recovered is used within a few seconds.
const MAX_INTERVAL: Duration = Duration::from_secs(3);
/// The same where a policer dropped what was sent before: it costs packets to ask, and policers stay.
const MAX_POLICED_INTERVAL: Duration = Duration::from_secs(30);
/// For this long after the first demand a probe may also lower the target: nothing else is known yet.
const JOIN: Duration = Duration::from_secs(3);
/// What a join probes for: this share of all that may be wanted, and no more than this multiple of the start.
const JOIN_BEYOND: f64 = 1.25;
const JOIN_MOST: f64 = 8.0;
const JOIN_RETRY: Duration = Duration::from_millis(100);
/// A cluster that says no is asked once more after this: one late thread on the way stretches 15 ms as a narrow link does.
const SECOND_OPINION: Duration = Duration::from_millis(150);

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
    /// Not even the lowest step of any video goes.
    pub bare: bool,
    /// Whether a new probe may start: no queue, no recent cut, feedback arrives.
    pub calm: bool,
    /// A queue is building: a running soak must stop.
    pub queue: bool,
    /// Round trip.
    pub rtt: Duration,
    /// Loss ratio that is nobody's fault.
    pub inherent_loss: f64,
    /// What a policer lets through, if there is one.
    pub policed: Option<Bitrate>,
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

/// A probe under way.
#[derive(Debug)]
struct Running {
    stage: Stage,
    goal: Bitrate,
    soaks: usize, // passed
}

/// Decides on probes for one transport and judges them.
#[derive(Debug)]
pub struct Prober {
    start: Bitrate,
    running: Option<Running>,
    last_number: u32,
    interval: Duration,
    not_before: Option<Instant>,
    asked: Option<Bitrate>,            // the demand behind the last probe…
    failed: Option<Bitrate>,           // …and behind the last one that failed
    refused: Option<Bitrate>,          // what the last cluster found, if that was a first no
    proof: Option<(Instant, Bitrate)>, // the last one, until it is known to be right or wrong
    wrong: u32,                        // proofs
    bucket: DataSize,                  // of a policer, if there is one
    joined: Option<Instant>,           // when something was first sent to probe with
}

impl Prober {
    /// `start` is the rate believed before anything is known.
    pub fn new(start: Bitrate) -> Prober {
        Prober {
            start,
            running: None,
            last_number: 0,
            interval: INTERVAL,
            not_before: None,
            asked: None,
            failed: None,
            refused: None,
            proof: None,
            wrong: 0,
            bucket: POLICER_BUCKET[0],
            joined: None,
        }
    }

    /// The plan to carry out now.
    pub fn plan(&self) -> Option<ProbePlan> {
        self.running.as_ref().map(|running| running.stage.plan)
    }

    /// Whether the very first probes are still to come or under way.
    pub fn joining(&self, now: Instant) -> bool {
        self.joined.is_none_or(|at| now < at + JOIN)
    }

    /// A packet left as part of `cluster`.
    pub fn on_sent(&mut self, now: Instant, cluster: ClusterId, size: DataSize) {
        self.joined.get_or_insert(now);
        if let Some(Running { stage, .. }) = &mut self.running
            && stage.plan.cluster == cluster
        {
            stage.on_sent(now, size);
        }
    }

    /// A packet of `cluster` was reported.
    pub fn on_acked(&mut self, cluster: ClusterId, acked: &Acked) {
        if let Some(Running { stage, .. }) = &mut self.running
            && stage.plan.cluster == cluster
        {
            stage.on_acked(acked);
        }
    }

    /// The path was lost or cut: whatever runs is void.
    pub fn abort(&mut self, now: Instant) {
        if self.running.take().is_some() {
            self.back_off(now);
        }
    }

    /// The target was cut, and the path delivered this.
    pub fn on_cut(&mut self, now: Instant, delivered: Bitrate) {
        let Some((at, rate)) = self.proof.take() else { return };
        let soon = now.saturating_duration_since(at) < BORNE_OUT;
        if soon && delivered < rate && delivered >= rate.scale(SAME_PATH) {
            self.wrong = (self.wrong + 1).min(MOST_WRONG);
            self.bucket = (self.bucket + self.bucket).min(POLICER_BUCKET[1]);
        }
    }

    /// Begins afresh, as on a new path.
    pub fn restart(&mut self) {
        let last_number = self.last_number;
        *self = Prober { last_number, ..Prober::new(self.start) };
    }

    /// When to call [`Prober::update`] though nothing was reported.
    pub fn next_timeout(&self, rtt: Duration) -> Option<Instant> {
        let Some(Running { stage, .. }) = &self.running else { return self.not_before };
        Some(stage.deadline(rtt))
    }

    /// Moves on: judges a finished stage, starts a probe if one is due.
    pub fn update(&mut self, now: Instant, conditions: Conditions) -> Option<Outcome> {
        if let Some(running) = self.running.take() {
            return self.watch(now, running, conditions);
        }
        self.start_if_due(now, conditions);
        None
    }

    fn start_if_due(&mut self, now: Instant, c: Conditions) {
        let Some(next) = self.demand(now, c).filter(|_| c.calm) else {
            self.not_before = self.not_before.filter(|&at| at > now);
            return;
        };
        // A demand smaller than what failed is another question, and may be asked at once.
        if c.policed.is_none() && self.failed.is_some_and(|failed| next < failed.scale(0.8)) {
            self.not_before = None;
            self.interval = INTERVAL;
        }
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.not_before = None;
        self.asked = Some(next);
        let first = self.joined.is_none();
        let goal = if first || (self.joining(now) && c.target >= self.start) {
            c.wanted.scale(JOIN_BEYOND).min(self.start.scale(JOIN_MOST)).max(next)
        } else {
            next.scale(BEYOND).min(c.target.scale(3.0))
        };
        let bare = self.is_bare(now, c);
        let rate = if bare {
            next.scale(BEYOND)
        } else if first {
            goal.min(self.start.scale(3.0))
        } else {
            goal
        };
        self.begin_cluster(now, rate.min(c.target.scale(3.0)), goal, c.target, bare);
    }

    /// The rate that is missing: for the next step, and while joining for all that may be wanted, so that a picture
    /// does not fall back as soon as its encoder is warm.
    fn demand(&self, now: Instant, c: Conditions) -> Option<Bitrate> {
        let all = c.wanted.min(self.start.scale(JOIN_MOST));
        c.next.or(self.joining(now).then_some(all)).filter(|&next| next > c.target)
    }

    fn watch(&mut self, now: Instant, running: Running, c: Conditions) -> Option<Outcome> {
        let Running { stage, goal, soaks } = &running;
        let gone = self.demand(now, c).is_none();
        match stage.plan.cluster.kind {
            // No longer wanted: neither success nor failure.
            ProbeKind::Soak if gone && !c.queue => None,
            ProbeKind::Soak if stage.loses(c.inherent_loss) => {
                self.fail(now);
                if c.policed.is_some() {
                    self.interval = (self.interval * 2).min(MAX_POLICED_INTERVAL);
                    self.not_before = Some(now + self.interval);
                }
                None
            }
            ProbeKind::Soak if c.queue || stage.queues(now, c.rtt) || stage.over(now, c.rtt) => {
                self.after_soak(now, stage, *goal, *soaks, c)
            }
            ProbeKind::Cluster if c.queue => {
                self.fail(now);
                None
            }
            ProbeKind::Cluster if stage.over(now, c.rtt) => self.after_cluster(now, stage, *goal, c),
            ProbeKind::Soak | ProbeKind::Cluster => {
                self.running = Some(running);
                None
            }
        }
    }

    fn after_cluster(
        &mut self,
        now: Instant,
        stage: &Stage,
        goal: Bitrate,
        c: Conditions,
    ) -> Option<Outcome> {
        match stage.verdict(c.inherent_loss) {
            Verdict::Passed(rate) if c.next.is_some_and(|next| self.is_bare(now, c) && next <= rate) => {
                self.begin_soak(now, rate, goal, 0, c);
                Some(self.prove(now, rate))
            }
            Verdict::Passed(rate) if stage.plan.rate < goal => {
                self.begin_cluster(now, goal.min(rate.scale(3.0)), goal, rate, self.is_bare(now, c));
                None
            }
            Verdict::Passed(_) => {
                self.begin_soak(now, c.target.scale(self.soak_step(now, 0)), goal, 0, c);
                None
            }
            Verdict::Saturated(rate) if rate > c.target.scale(1.08) => {
                self.begin_soak(now, c.target.scale(self.soak_step(now, 0)), goal.min(rate), 0, c);
                None
            }
            Verdict::Saturated(_) | Verdict::Unproven if c.jitter > RESTLESS => {
                self.begin_soak(now, c.target.scale(SOAK_STEPS[0]), goal, 0, c);
                None
            }
            Verdict::Saturated(rate) => {
                let Some(first) = self.refused else {
                    self.refused = Some(rate);
                    self.not_before = Some(now + SECOND_OPINION);
                    return None;
                };
                let rate = rate.max(first);
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

    fn after_soak(
        &mut self,
        now: Instant,
        stage: &Stage,
        goal: Bitrate,
        soaks: usize,
        c: Conditions,
    ) -> Option<Outcome> {
        match stage.soak_verdict(c.inherent_loss) {
            Verdict::Passed(rate) if !c.queue && stage.over(now, c.rtt) => {
                self.wrong = self.wrong.saturating_sub(1);
                if stage.plan.rate < goal {
                    self.begin_soak(now, rate.scale(self.soak_step(now, soaks + 1)), goal, soaks + 1, c);
                } else {
                    self.succeed(now);
                }
                (rate > c.target).then(|| self.prove(now, rate))
            }
            Verdict::Saturated(rate) if !c.queue && rate > c.target => {
                self.fail(now);
                Some(self.prove(now, rate))
            }
            Verdict::Passed(_) | Verdict::Saturated(_) | Verdict::Unproven => {
                self.fail(now);
                self.retry_soon(now);
                None
            }
        }
    }

    fn prove(&mut self, now: Instant, rate: Bitrate) -> Outcome {
        self.proof = Some((now, rate));
        Outcome::Proven(rate)
    }

    fn soak_step(&self, now: Instant, passed: usize) -> f64 {
        let most = SOAK_STEPS.len() - 1;
        let first = if self.joining(now) { most } else { usize::from(self.failed.is_none()) };
        SOAK_STEPS[(first + passed).min(most)]
    }

    /// Whether somebody waits for the first picture.
    fn is_bare(&self, now: Instant, c: Conditions) -> bool {
        c.bare && self.joining(now)
    }

    fn begin_cluster(&mut self, now: Instant, rate: Bitrate, goal: Bitrate, believed: Bitrate, bare: bool) {
        if bare {
            return self.begin(now, ProbeKind::Cluster, rate, goal, FIRST_CLUSTER, 0);
        }
        let usual = if rate < SLOW { SLOW_CLUSTER } else { CLUSTER };
        let excess = rate.saturating_sub(believed);
        let longest = excess.time_for(believed.size_in(MAX_EXCESS)).unwrap_or(usual);
        self.begin(now, ProbeKind::Cluster, rate, goal, usual.min(longest).max(SHORTEST_CLUSTER), 0);
    }

    fn begin_soak(&mut self, now: Instant, rate: Bitrate, goal: Bitrate, soaks: usize, c: Conditions) {
        self.refused = None;
        if self.proof.take_if(|(at, _)| now.saturating_duration_since(*at) >= BORNE_OUT).is_some() {
            self.wrong = 0;
        }
        let rate = rate.min(goal);
        let beyond = c.policed.and_then(|policed| rate.saturating_sub(policed).time_for(self.bucket));
        let time = (SOAK * (1 << self.wrong)).max(beyond.unwrap_or_default().min(LONGEST_SOAK));
        self.begin(now, ProbeKind::Soak, rate, goal, time, soaks);
    }

    fn begin(
        &mut self,
        now: Instant,
        kind: ProbeKind,
        rate: Bitrate,
        goal: Bitrate,
        time: Duration,
        soaks: usize,
    ) {
        self.last_number = self.last_number.wrapping_add(1);
        let cluster = ClusterId { number: self.last_number, kind };
        let size = rate.size_in(time).max(SMALLEST_CLUSTER);
        let packet = DataSize::bytes((rate.size_in(time.min(CLUSTER)).as_bytes() / 8).clamp(200, 1200));
        let plan = ProbePlan { cluster, rate, size, min_packets: MIN_PACKETS, packet };
        self.running = Some(Running { stage: Stage::new(now, plan), goal, soaks });
    }

    fn succeed(&mut self, now: Instant) {
        self.interval = INTERVAL;
        self.failed = None;
        self.not_before = Some(now + Duration::from_millis(200));
    }

    fn fail(&mut self, now: Instant) {
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
        self.refused = None;
        self.not_before = Some(now + self.interval);
        self.interval = (self.interval * 3 / 2).min(MAX_INTERVAL.max(self.interval));
    }
}

#[cfg(test)]
mod tests;
