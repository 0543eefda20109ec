//! The one place that changes the target: all bytes per second to one subscriber.
//!
//! Facts come in (queue, rates, loss, probe results), one rule decides, and its name is kept.
//! Always: the target stays within the configured bounds; it is lowered by evidence of congestion only,
//! never because little was sent; it rises past twice what was lately delivered only if a probe proved it.
//! Not here: the evidence ([`super::delay`], [`super::loss`], [`super::rate`]), probing ([`super::probe`]).

use std::time::{Duration, Instant};

use super::delay::Queue;
use super::loss::LossVerdict;
use super::probe::Outcome;
use super::rate::{Measured, SHORT_WINDOW};
use crate::units::{Bitrate, DataSize};

/// Share of the delivered rate after a cut: between draining the queue and using the path (Carlucci 2016).
const CUT: f64 = 0.85;
/// Delivered at least this share of what was sent: no queue of ours, whatever the delay says.
const DELIVERS_ALL: f64 = 0.92;
/// A cliff: less than this share of what was sent arrives.
const CLIFF: f64 = 0.6;
/// A cut with a longer queue than this drains it before video goes on.
const DRAIN_ABOVE: Duration = Duration::from_millis(100);
/// The queue is empty enough.
const DRAINED_BELOW: Duration = Duration::from_millis(25);
const DRAIN_MIN: Duration = Duration::from_millis(300);
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Growth per second while the capacity is unknown (draft-ietf-rmcat-gcc-02 §5.5).
const GROWTH: f64 = 0.08;
/// Growth near the known capacity: half a packet per response time, and at least this per second.
const HALF_PACKET_BITS: f64 = 600.0 * 8.0;
const SLOWEST_GROWTH: f64 = 4000.0;
/// What the path carried at a cut is remembered for so long, unless a probe proves more by this factor: a bucket that was
/// full cannot explain that.
const CARRIED_FOR: Duration = Duration::from_mins(5);
const BUCKET: f64 = 1.25;
/// Growth does not exceed what is delivered by more than this.
const GROWTH_BOUND: f64 = 1.5;
const GROWTH_SLACK: Bitrate = Bitrate::kbps(10);
/// Share of the rate left during a loss test (low enough that a step goes at once)…
pub(super) const TEST: f64 = 0.80;
/// …and kept if the test blames the rate.
const BLAMED: f64 = 0.95;
/// No queue stands below this queueing delay: no probe begins above it, and what arrives above it proves nothing.
pub(super) const CALM: Duration = Duration::from_millis(15);
/// What a cut does to a standing queue is seen this much later: after a round trip and the envelope's window.
const STANDING_SPACING: Duration = Duration::from_millis(450);
/// A standing queue that did not move by more than this while we halved is a longer route.
const ROUTE_TOLERANCE: Duration = Duration::from_millis(5);
/// Target after an outage, short and long.
const AFTER_OUTAGE: f64 = 0.7;
const AFTER_LONG_OUTAGE: f64 = 0.5;
const LONG_OUTAGE: Duration = Duration::from_secs(5);

/// Why the target last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It did not yet.
    Start,
    /// It was used and nothing spoke against more.
    Growth,
    /// A probe proved more.
    Probe,
    /// The first probe found less.
    NarrowPath,
    /// A growing queue.
    QueueRising,
    /// A queue that stays.
    QueueStanding,
    /// Suddenly little arrives, and late.
    Cliff,
    /// Loss together with a queue, or of most packets.
    Loss,
    /// A test whether loss depends on the rate runs, or blamed it.
    LossTest,
    /// The test cleared the rate.
    LossTestCleared,
    /// A longer route had looked like a queue.
    RouteChange,
    /// The queue is somebody else's: what a TCP flow would have.
    Contested,
    /// Feedback came back after an outage.
    Outage,
    /// The client is reached over another path.
    NewPath,
    /// The client's own bound.
    Limit,
    /// The receiver's own estimate (REMB), or its loss reports without any other evidence.
    Receiver,
}

impl Cause {
    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Growth => "growth",
            Cause::Probe => "probe",
            Cause::NarrowPath => "narrow_path",
            Cause::QueueRising => "queue_rising",
            Cause::QueueStanding => "queue_standing",
            Cause::Cliff => "cliff",
            Cause::Loss => "loss",
            Cause::LossTest => "loss_test",
            Cause::LossTestCleared => "loss_test_cleared",
            Cause::RouteChange => "route_change",
            Cause::Contested => "contested",
            Cause::Outage => "outage",
            Cause::NewPath => "new_path",
            Cause::Limit => "limit",
            Cause::Receiver => "receiver",
        }
    }
}

/// What is known after a report.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Facts {
    /// State of the path's queue.
    pub queue: Queue,
    /// Lower envelope of the queueing delay.
    pub envelope: Duration,
    /// Queueing delay of the newest packets.
    pub latest_delay: Duration,
    /// All of the last groups were late.
    pub all_late: bool,
    /// Rates of the last 300 ms.
    pub measured: Option<Measured>,
    /// Rates of the last 150 ms.
    pub short: Option<Measured>,
    /// What was sent in about the time of `short` and has not arrived, though later packets have.
    pub missing: DataSize,
    /// The application sends less than it may.
    pub application_limited: bool,
    /// It would, were it not for what probes add.
    pub padded: bool,
    /// What is being sent.
    pub sending: Bitrate,
    /// Highest delivered rate of the last 5 s.
    pub recent_max: Bitrate,
    /// What loss asks for.
    pub loss: LossVerdict,
    /// There is more of it than is usual, for some time now.
    pub loss_persists: bool,
    /// The lowest steps of everything: a test of loss does not take the last picture away.
    pub least: Bitrate,
    /// The queue is somebody else's, and a TCP flow would have this rate.
    pub fair: Option<Bitrate>,
    /// Round trip.
    pub rtt: Duration,
}

/// Delivered rate at past cuts: around it growth is slow.
#[derive(Clone, Copy, Debug)]
struct NearMax {
    mean_kbps: f64,
    variance: f64, // normalised by the mean, kbit/s
}

impl NearMax {
    fn bounds(self) -> (f64, f64) {
        let deviation = (self.variance * self.mean_kbps).sqrt();
        (self.mean_kbps - 3.0 * deviation, self.mean_kbps + 3.0 * deviation)
    }

    fn learn(old: Option<NearMax>, rate: Bitrate) -> NearMax {
        let kbps = rate.as_bps() as f64 / 1000.0;
        let Some(old) = old else { return NearMax { mean_kbps: kbps, variance: 0.4 } };
        let error = kbps - old.mean_kbps;
        let mean_kbps = old.mean_kbps + 0.05 * error;
        let variance = 0.95 * old.variance + 0.05 * error * error / mean_kbps.max(1.0);
        NearMax { mean_kbps, variance: variance.clamp(0.4, 2.5) }
    }
}

/// What the path delivered at the last cut.
#[derive(Clone, Copy, Debug)]
struct Carried {
    at: Instant,
    rate: Bitrate,
    /// What is beyond it is dropped rather than queued: by a policer, or a tiny buffer.
    policed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    target: Bitrate,
    envelope: Duration,
}

/// The target of one transport and its memory.
#[derive(Debug)]
pub struct Estimator {
    min: Bitrate,
    max: Bitrate,
    start: Bitrate,
    target: Bitrate,
    proven: Bitrate, // by the last probe that raised the target
    cause: Cause,
    last_cut: Option<Instant>,
    last_update: Option<Instant>,
    drain_until: Option<Instant>,
    near_max: Option<NearMax>,
    carried: Option<Carried>,
    before_test: Option<Bitrate>,
    standing: Option<Standing>,
    route_changed: bool,
}

impl Estimator {
    /// Begins at `start`; all later values lie between `min` (at least 10 kbit/s) and `max`.
    pub fn new(start: Bitrate, min: Bitrate, max: Bitrate) -> Estimator {
        let min = min.max(Bitrate::kbps(10));
        let max = max.max(min);
        let start = start.clamp(min, max);
        Estimator {
            min,
            max,
            start,
            target: start,
            proven: Bitrate::ZERO,
            cause: Cause::Start,
            last_cut: None,
            last_update: None,
            drain_until: None,
            near_max: None,
            carried: None,
            before_test: None,
            standing: None,
            route_changed: false,
        }
    }

    /// Stays within another bound from now on.
    pub fn set_max(&mut self, now: Instant, max: Bitrate) {
        self.max = max.max(self.min);
        self.set(now, self.target, Cause::Limit);
    }

    /// The target.
    pub fn target(&self) -> Bitrate {
        self.target
    }

    /// Why it is what it is.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// When it was last cut for congestion.
    pub fn last_cut(&self) -> Option<Instant> {
        self.last_cut
    }

    /// What a policer lets through, as far as there seems to be one: whose bucket makes short bursts pass at any rate.
    pub fn policed(&self, now: Instant) -> Option<Bitrate> {
        self.carried(now).filter(|carried| carried.policed).map(|carried| carried.rate)
    }

    fn carried(&self, now: Instant) -> Option<Carried> {
        self.carried.filter(|carried| now.saturating_duration_since(carried.at) < CARRIED_FOR)
    }

    /// Video must wait until the path's queue is gone.
    pub fn draining(&self) -> bool {
        self.drain_until.is_some()
    }

    /// Whether the delay detector must take the present delay for the path's own; resets the answer.
    pub fn take_route_change(&mut self) -> bool {
        std::mem::take(&mut self.route_changed)
    }

    /// Time passes without a report: a drain must not last for ever.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.drain_until.is_some_and(|until| now >= until) {
            self.drain_until = None;
        }
    }

    /// When to call [`Estimator::handle_timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        self.drain_until
    }

    /// Decides after a report.
    pub fn update(&mut self, now: Instant, facts: Facts) {
        let elapsed = self.last_update.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.handle_timeout(now);
        if self.draining() && facts.envelope < DRAINED_BELOW && facts.latest_delay < DRAINED_BELOW * 2 {
            self.drain_until = None;
        }
        if facts.queue != Queue::Standing {
            self.standing = None;
        }
        if let Some(carried) = &mut self.carried {
            // A policer loses nothing of what is below its rate.
            carried.policed &= !facts.loss_persists || facts.sending > carried.rate.scale(BLAMED);
        }
        if self.is_cliff(&facts) {
            let delivered = facts.short.map_or(self.target, |short| short.delivered);
            if self.may_cut(now, &facts) {
                self.set(now, delivered.scale(CUT).min(self.target), Cause::Cliff);
                self.cut(now, delivered, false);
                self.begin_drain(now, &facts);
            }
        } else if let Some(fair) = facts.fair {
            self.on_contested(now, elapsed, &facts, fair);
        } else if facts.queue == Queue::Rising {
            self.cut_to_delivered(now, &facts, Cause::QueueRising);
        } else if facts.loss == LossVerdict::Congestion {
            self.cut_to_delivered(now, &facts, Cause::Loss);
        } else if facts.queue == Queue::Standing {
            self.on_standing(now, &facts);
        } else {
            self.on_calm(now, elapsed, &facts);
        }
    }

    /// A probe was judged.
    pub fn on_probe(&mut self, now: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Proven(rate) if rate > self.target => {
                self.proven = rate;
                self.set(now, rate, Cause::Probe);
                // Where there seems to be a policer there still may be one, of a higher rate or with a larger bucket.
                self.carried = self
                    .carried
                    .filter(|carried| carried.policed || rate <= carried.rate.scale(BUCKET))
                    .map(|it| if it.policed { Carried { rate: rate.max(it.rate), ..it } } else { it });
                if self.near_max.is_some_and(|near| rate.as_bps() as f64 / 1000.0 > near.bounds().1) {
                    self.near_max = None;
                }
            }
            Outcome::Narrow(rate) if rate < self.target => self.set(now, rate, Cause::NarrowPath),
            Outcome::Proven(_) | Outcome::Narrow(_) => {}
        }
    }

    /// Feedback is back after `silence`.
    pub fn on_outage_over(&mut self, now: Instant, silence: Duration) {
        let factor = if silence < LONG_OUTAGE { AFTER_OUTAGE } else { AFTER_LONG_OUTAGE };
        self.drain_until = None;
        self.set(now, self.target.scale(factor), Cause::Outage);
    }

    /// The path is another one.
    pub fn on_new_path(&mut self, now: Instant) {
        self.drain_until = None;
        self.before_test = None;
        self.near_max = None;
        self.carried = None;
        self.proven = Bitrate::ZERO;
        self.set(now, self.target.scale(AFTER_LONG_OUTAGE), Cause::NewPath);
    }

    /// The receiver's own estimate, for paths without transport-wide feedback. Any number is survived.
    pub fn on_remb(&mut self, now: Instant, rate: Bitrate) {
        self.set(now, rate, Cause::Receiver);
    }

    /// A receiver report without transport-wide feedback: slow growth below 2 % loss, as far as `ceiling`,
    /// a brake above 10 % (draft-ietf-rmcat-gcc-02 §6, the rule from before transport-wide feedback).
    pub fn on_receiver_loss(&mut self, now: Instant, loss: f64, ceiling: Bitrate) {
        let elapsed = self.last_update.replace(now).map_or(Duration::ZERO, |last| now - last);
        let loss = loss.clamp(0.0, 1.0);
        if loss > 0.10 {
            self.set(now, self.target.scale(1.0 - loss / 2.0), Cause::Receiver);
            self.last_cut = Some(now);
        } else if loss < 0.02 && self.target < ceiling {
            let grown = self.target.scale(1.0 + GROWTH * elapsed.as_secs_f64().min(1.0));
            self.set(now, grown.min(ceiling), Cause::Receiver);
        }
    }

    fn is_cliff(&self, facts: &Facts) -> bool {
        let missing = Bitrate::of(facts.missing, SHORT_WINDOW);
        let starved = |rates: Measured| rates.delivered < (rates.sent + missing).scale(CLIFF);
        !self.draining() && facts.all_late && facts.short.is_some_and(starved)
    }

    fn cut_to_delivered(&mut self, now: Instant, facts: &Facts, cause: Cause) {
        if self.draining() || !self.may_cut(now, facts) {
            return;
        }
        let Some(measured) = facts.measured else {
            self.set(now, self.target.scale(0.5), cause);
            self.cut(now, self.target, false);
            return;
        };
        let delivers_all = measured.delivered >= measured.sent.scale(DELIVERS_ALL);
        if facts.application_limited && delivers_all {
            let lowered = self.target.scale(CUT).max(measured.delivered);
            self.set(now, lowered.min(self.target), cause);
        } else {
            self.set(now, measured.delivered.scale(CUT).min(self.target), cause);
        }
        self.cut(now, measured.delivered, cause == Cause::Loss && facts.envelope < CALM);
        if facts.envelope > DRAIN_ABOVE {
            self.begin_drain(now, facts);
        }
    }

    /// Once per round trip, unless the target is far off.
    fn may_cut(&self, now: Instant, facts: &Facts) -> bool {
        let interval = match facts.measured {
            Some(_) => facts.rtt.clamp(Duration::from_millis(10), Duration::from_millis(200)),
            None => Duration::from_millis(200),
        };
        let far_off = facts.measured.is_some_and(|measured| measured.delivered < self.target.scale(0.5));
        let waited = self.last_cut.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        waited || (far_off && !facts.application_limited)
    }

    fn cut(&mut self, now: Instant, delivered: Bitrate, policed: bool) {
        self.last_cut = Some(now);
        self.carried = Some(Carried { at: now, rate: delivered, policed });
        self.before_test = None;
        self.proven = Bitrate::ZERO;
        let kbps = delivered.as_bps() as f64 / 1000.0;
        if self.near_max.is_some_and(|near| kbps < near.bounds().0) {
            self.near_max = None;
        }
        self.near_max = Some(NearMax::learn(self.near_max, delivered));
    }

    fn begin_drain(&mut self, now: Instant, facts: &Facts) {
        let time = (facts.latest_delay * 2 + facts.rtt).clamp(DRAIN_MIN, DRAIN_MAX);
        self.drain_until = Some(now + time);
    }

    fn on_standing(&mut self, now: Instant, facts: &Facts) {
        let standing =
            *self.standing.get_or_insert(Standing { target: self.target, envelope: facts.envelope });
        let unmoved = facts.envelope.abs_diff(standing.envelope) <= ROUTE_TOLERANCE;
        if unmoved && self.target <= standing.target.scale(0.5) && facts.sending < standing.target.scale(0.6)
        {
            self.route_changed = true;
            self.standing = None;
            self.set(now, standing.target, Cause::RouteChange);
        } else if self.last_cut.is_none_or(|at| now.saturating_duration_since(at) >= STANDING_SPACING) {
            self.cut_to_delivered(now, facts, Cause::QueueStanding);
        }
    }

    /// Others fill the queue whatever we do: only losses count, as for a TCP flow.
    fn on_contested(&mut self, now: Instant, elapsed: Duration, facts: &Facts, fair: Bitrate) {
        if facts.loss != LossVerdict::Congestion {
            let by_proof = facts.recent_max.scale(2.0) + GROWTH_SLACK;
            let fair = fair.min(by_proof);
            if fair > self.target && self.before_test.is_none() {
                self.set(now, fair, Cause::Contested);
            } else {
                self.on_calm(now, elapsed, facts);
            }
        } else if self.may_cut(now, facts) {
            let delivered = facts.measured.map_or(self.target, |measured| measured.delivered);
            let lowered =
                if facts.application_limited { self.target.scale(CUT) } else { delivered.scale(CUT) };
            self.set(now, lowered.max(fair).min(self.target), Cause::Loss);
            self.cut(now, delivered, false);
        }
    }

    fn on_calm(&mut self, now: Instant, elapsed: Duration, facts: &Facts) {
        match facts.loss {
            LossVerdict::TestBegins => {
                self.before_test = Some(self.target);
                // Below what got through: a policer's rate may be far below what is sent.
                let through = facts.measured.map_or(facts.sending, |measured| measured.delivered);
                let tested = self.target.min(facts.sending).min(through).scale(TEST);
                self.set(now, tested.max(facts.least).min(self.target), Cause::LossTest);
            }
            LossVerdict::TestBlamesRate | LossVerdict::CameWithRate => {
                self.before_test = None;
                if let Some(measured) = facts.measured {
                    let lowered = measured.delivered.scale(BLAMED).max(facts.least);
                    self.set(now, lowered.min(self.target), Cause::LossTest);
                    self.cut(now, measured.delivered, facts.loss == LossVerdict::CameWithRate);
                }
            }
            LossVerdict::TestClearsRate => {
                if let Some(before) = self.before_test.take() {
                    self.set(now, before.max(self.target), Cause::LossTestCleared);
                }
            }
            LossVerdict::Fine | LossVerdict::Congestion => self.grow(now, elapsed, facts),
        }
    }

    fn grow(&mut self, now: Instant, elapsed: Duration, facts: &Facts) {
        let Some(measured) = facts.measured else { return };
        let quiet = self.draining() || self.before_test.is_some() || facts.queue == Queue::Draining;
        if quiet || facts.application_limited {
            return;
        }
        // Near what the path carried at the last cut a probe's own verdict counts: or each probe would lift the target a bit.
        // And where that is policed nothing would tell but loss.
        let carried = self.carried(now);
        if carried.is_some_and(|carried| (facts.padded || carried.policed) && self.target >= carried.rate) {
            return;
        }
        let seconds = elapsed.as_secs_f64().min(1.0);
        let delivered_kbps = measured.delivered.as_bps() as f64 / 1000.0;
        if self.near_max.is_some_and(|near| delivered_kbps > near.bounds().1) {
            self.near_max = None;
        }
        let grown = if self.near_max.is_some() {
            let response = facts.rtt.as_secs_f64() + 0.1;
            let per_second = (HALF_PACKET_BITS / response).max(SLOWEST_GROWTH);
            self.target + Bitrate::bps((per_second * seconds) as u64)
        } else {
            self.target.scale(1.0 + GROWTH * seconds)
        };
        let by_delivered = measured.proven().scale(GROWTH_BOUND) + GROWTH_SLACK;
        let by_proof = (facts.recent_max.scale(2.0) + GROWTH_SLACK).max(self.start).max(self.proven);
        let bounded = grown.min(by_delivered).min(by_proof);
        if bounded > self.target {
            self.set(now, bounded, Cause::Growth);
        }
    }

    fn set(&mut self, now: Instant, rate: Bitrate, cause: Cause) {
        let rate = rate.clamp(self.min, self.max);
        if rate != self.target {
            self.target = rate;
            self.cause = cause;
            self.last_update = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
