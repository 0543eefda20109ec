//! Everything that decides how much one subscriber gets, behind one set of verbs.
//!
//! The order of use, per subscriber transport: [`Controller::on_sent`] for every packet that leaves;
//! [`Controller::on_feedback`] (or REMB and receiver reports) for what comes back; then, if
//! [`Controller::allocation_due`], [`Controller::allocate`]; then `pacer.follow(now, controller.pacing())`.
//! [`Controller::next_timeout`] says when to come back without news.
//! Always: silence is not read as congestion, but freezes the target, and after a while stops video; a
//! client that never sends transport-wide feedback is served by its receiver reports.

use std::time::{Duration, Instant};

use super::PacketClass;
use super::allocate::{self, Allocation, Track, UP_MARGIN};
use super::burst::BurstMeter;
use super::ccfb::{CcfbError, Streams};
use super::contest::{Contest, Evidence};
use super::delay::{DelayDetector, Queue};
use super::loss::{LossObserver, LossVerdict};
use super::pacer::Pacing;
use super::probe::{ClusterId, Conditions, Prober};
use super::rate::RateMeter;
use super::reorder::ReorderMeter;
use super::restraint::Share;
use super::target::{CALM, Cause, Estimator, Facts, TEST};
use super::twcc::{Acked, SentLog, TwccError};
use crate::ahead::look;
use crate::forward::repair;
use crate::forward::sent::Reported;
use crate::ids::{LayerId, Ssrc};
use crate::stats::{FeedbackRefusal, FeedbackRefusals};
use crate::units::{Bitrate, DataSize};

/// Round trip before any is known.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// No probe this soon after a cut.
const AFTER_CUT: Duration = Duration::from_secs(1);
/// Silence that freezes the target and stops probes, plus what three round trips need…
const SILENT: Duration = Duration::from_millis(500);
/// …and that takes video to its lowest step: a busy phone may well be late by half a second, a path in use is not.
const MUTE: Duration = Duration::from_secs(1);
/// Silence that stops video.
const OUTAGE: Duration = Duration::from_millis(1500);
/// A client that was reached over another path may report over the old one for longer: libwebrtc leaves it when nothing came
/// over it for 3.5 s, if it has no other reason to.
const UNHEARD: Duration = Duration::from_millis(2500);
/// While video is stopped by an outage, one small packet this often: a controller that waits for evidence
/// before it sends waits for ever.
const OUTAGE_KEEPALIVE: Duration = Duration::from_millis(100);
/// The same while a queue drains, where reports must go on.
const DRAIN_KEEPALIVE: Duration = Duration::from_millis(20);
/// A client that negotiated transport-wide feedback and sent none for this long does not send any.
const NEVER_REPORTS: Duration = Duration::from_secs(3);
/// The target changed by this much since the last allocation.
const FELL: f64 = 0.95;
const ROSE: f64 = 1.10;
/// Allocations are renewed this often: prices change.
const RENEW: Duration = Duration::from_secs(1);
/// Headroom of the pacer over the target, usual and at most while a keyframe is queued.
const PACE: f64 = 1.25;
const PACE_KEYFRAME: f64 = 2.5;
/// The same where more waits than the usual rate sends in time.
const CATCH_UP: f64 = 1.6;
/// Where more than this is lost, our bursts may be the reason: a small buffer drops them at any rate.
const BURSTS_LOST: f64 = 0.05;
/// For this long after a cut there is no headroom: the target is near what the path carries, or above it.
const RESTRAINED: Duration = Duration::from_secs(2);
/// Share of the target kept for retransmission.
const RTX_MIN: f64 = 0.02;
const RTX_MAX: f64 = 0.25;

/// How the subscriber reports; the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedbackKind {
    /// REMB and receiver reports only.
    ReceiverSide,
    /// Feedback by stream was negotiated (RFC 8888).
    PerStream,
    /// Transport-wide feedback was negotiated.
    TransportWide,
}

impl FeedbackKind {
    /// As `a=rtcp-fb` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            FeedbackKind::TransportWide => "transport-cc",
            FeedbackKind::PerStream => "ccfb",
            FeedbackKind::ReceiverSide => "goog-remb",
        }
    }
}

/// Bounds of one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Target before anything is known.
    pub start: Bitrate,
    /// Least target.
    pub min: Bitrate,
    /// Largest target: the operator's or the subscriber's cap.
    pub max: Bitrate,
    /// How the subscriber reports.
    pub feedback: FeedbackKind,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            start: Bitrate::kbps(600),
            min: Bitrate::kbps(30),
            max: Bitrate::kbps(50_000),
            feedback: FeedbackKind::TransportWide,
        }
    }
}

/// What an operator may want to read of one subscriber.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Snapshot {
    /// The target.
    pub target: Bitrate,
    /// Why it is what it is.
    pub cause: Cause,
    /// Delivered rate of the last 300 ms, if known.
    pub delivered: Option<Bitrate>,
    /// State of the path's queue.
    pub queue: Queue,
    /// Lower envelope of the queueing delay.
    pub queue_delay: Duration,
    /// Loss ratio, 0 to 1.
    pub loss: f64,
    /// Loss ratio held to be the path's own.
    pub inherent_loss: f64,
    /// Round trip.
    pub rtt: Duration,
    /// Feedback is overdue.
    pub silent: bool,
    /// It is so long overdue that only the least is sent.
    pub muted: bool,
    /// A probe is under way.
    pub probing: bool,
    /// The target at which the next step would fit.
    pub unmet: Option<Bitrate>,
    /// Our own time bounds video, and not the path.
    pub held_back: bool,
}

/// How the target was divided last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// For first transmissions of video.
    pub media: Bitrate,
    /// All sound, redundancy included.
    pub audio: Bitrate,
    /// Share of the rest that is kept for retransmission.
    pub rtx_share: f64,
    /// What the chosen layers cost.
    pub used: Bitrate,
    /// The target at which all that is asked for would fit.
    pub wanted: Bitrate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Silence {
    None,
    Overdue,
    Long,
    Outage,
}

/// Congestion control of one subscriber transport.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Controller {
    config: Config,
    log: SentLog,
    streams: Streams,
    acked: Vec<Acked>, // reused
    rate: RateMeter,
    delay: DelayDetector,
    burst: BurstMeter,
    reorder: ReorderMeter,
    loss: LossObserver,
    contest: Contest,
    target: Estimator,
    prober: Prober,
    rtt: Duration,
    rtt_reported: bool,
    remb: bool,
    frugal: bool,
    share: Share,
    held_back: bool,             // by it, in the last allocation
    feedback: Option<Instant>,   // when the last report came
    unanswered: Option<Instant>, // when the first packet left that no report has come after
    silence: Silence,
    unheard: bool, // nothing was reported yet of a path that took over from another
    allocation: Allocation,
    allocated: Option<(Instant, Bitrate)>,
    media: Bitrate,        // divided by the last allocation
    audio: Bitrate,        // taken out before
    next: Option<Bitrate>, // target at which the next step fits
    wanted: Bitrate,       // target at which everything fits
    least: Bitrate,        // target at which the lowest step of everything fits
}

impl Controller {
    /// A controller that knows nothing.
    pub fn new(now: Instant, config: Config) -> Controller {
        let target = Estimator::new(config.start, config.min, config.max);
        Controller {
            config,
            log: SentLog::new(),
            streams: Streams::default(),
            acked: Vec::new(),
            rate: RateMeter::new(now),
            delay: DelayDetector::new(now),
            burst: BurstMeter::default(),
            reorder: ReorderMeter::default(),
            loss: LossObserver::new(),
            contest: Contest::default(),
            prober: Prober::new(target.target()),
            target,
            rtt: INITIAL_RTT,
            rtt_reported: false,
            remb: false,
            frugal: false,
            share: Share::WHOLE,
            held_back: false,
            feedback: None,
            unanswered: None,
            silence: Silence::None,
            unheard: false,
            allocation: Allocation::default(),
            allocated: None,
            media: Bitrate::ZERO,
            audio: Bitrate::ZERO,
            next: None,
            wanted: Bitrate::ZERO,
            least: Bitrate::ZERO,
        }
    }

    /// Records a packet at the moment it is taken from the pacer, and returns the transport-wide number to
    /// write into it. `now` is the time of the flush, equal for all packets of one batch; `size` counts IP,
    /// UDP and tag; `cluster` comes from the pacer's departure. Call it for padding and retransmissions
    /// too, and for packets without the extension's room not at all.
    pub fn on_sent(
        &mut self,
        now: Instant,
        size: DataSize,
        class: PacketClass,
        cluster: Option<ClusterId>,
    ) -> u16 {
        self.unanswered.get_or_insert(now);
        self.rate.on_sent(now, size);
        if class == PacketClass::Padding {
            self.rate.on_padding(now, size);
        }
        if let Some(cluster) = cluster {
            self.prober.on_sent(now, cluster, size);
        }
        self.log.on_sent(now, size, class, cluster)
    }

    /// Reads ahead what packets that leave need.
    pub(crate) fn ahead(&self) {
        look(&self.unanswered);
        self.log.ahead();
        self.rate.ahead();
    }

    /// Reads ahead what a report needs.
    pub(crate) fn ahead_of_report(&self) {
        self.log.ahead_of_report();
        self.rate.ahead_of_report();
        self.delay.ahead_of_report();
        look(&self.burst.most());
        look(&self.target.target());
        look(&self.loss.ratio());
        look(&self.rtt);
        look(&self.allocation.revisit.is_some());
        look(&self.next);
    }

    /// Names the packet that [`Controller::on_sent`] records next, for reports by stream: its SSRC and sequence number.
    pub fn name_next(&mut self, now: Instant, packet: (Ssrc, u16)) {
        if self.config.feedback == FeedbackKind::PerStream {
            self.streams.on_sent(now, packet, &self.log);
        }
    }

    /// The number that the next [`Controller::on_sent`] will return: a packet is built before it is known to leave.
    pub fn peek_number(&self) -> u16 {
        self.log.next_number()
    }

    /// Records a packet that bears no transport-wide number (none was negotiated).
    pub fn on_sent_unnumbered(&mut self, now: Instant, size: DataSize) {
        self.rate.on_sent(now, size);
    }

    /// Takes the payload of one transport-wide feedback packet: what follows the 12 bytes of header and SSRCs.
    ///
    /// # Errors
    /// As [`SentLog::on_feedback`]; nothing changed then.
    pub fn on_feedback(&mut self, now: Instant, fci: &[u8]) -> Result<(), TwccError> {
        if self.config.feedback == FeedbackKind::PerStream {
            self.log.refuse(FeedbackRefusal::NotSent); // no number was on the wire
            return Err(TwccError::NotSent);
        }
        let mut acked = std::mem::take(&mut self.acked);
        let result = self.log.on_feedback(now, fci, &mut acked);
        if result.is_ok() {
            self.on_acked(now, &acked);
        }
        self.acked = acked;
        result
    }

    /// Takes one packet of feedback by stream: what follows its sender's SSRC.
    ///
    /// # Errors
    /// As [`Streams::on_report`]; nothing changed then.
    pub fn on_stream_feedback(&mut self, now: Instant, body: &[u8]) -> Result<(), CcfbError> {
        let mut acked = std::mem::take(&mut self.acked);
        let result = self.streams.on_report(now, &mut self.log, body, &mut acked);
        // Unlike a transport-wide one it may come though nothing arrived: silence goes on then.
        if !acked.is_empty() {
            self.on_acked(now, &acked);
        }
        self.acked = acked;
        result
    }

    /// What was not believed of the reports since the last call.
    pub fn take_refused(&mut self) -> FeedbackRefusals {
        self.log.take_refused()
    }

    /// What the last report resolved, for retransmission rules: valid until the next report.
    pub fn last_acked(&self) -> &[Acked] {
        &self.acked
    }

    /// How the subscriber reports, as far as was negotiated and seen.
    pub fn feedback(&self, now: Instant) -> FeedbackKind {
        if self.receiver_side(now) { FeedbackKind::ReceiverSide } else { self.config.feedback }
    }

    /// What the reports say of a packet, by its transport-wide number.
    pub fn reported(&self, number: u16) -> Reported {
        self.log.reported(number)
    }

    /// What retransmission must know of the path.
    pub fn repair_path(&self) -> repair::Path {
        let loss = self.loss.ratio().max(self.loss.inherent());
        repair::Path { loss: self.feedback.map(|_| loss), target: self.target() }
    }

    /// How the path reorders.
    pub fn reordering(&self, now: Instant) -> repair::Reordering {
        repair::Reordering { extent: self.reorder.extent(now), late: self.reorder.late(now) }
    }

    /// The receiver's estimate. Ignored once transport-wide feedback has come.
    pub fn on_remb(&mut self, now: Instant, rate: Bitrate) {
        if self.receiver_side(now) {
            self.remb = true;
            self.target.on_remb(now, rate);
        }
    }

    /// One report block about what we send: the share lost, 0 to 1 (counts the publisher's losses too, and so
    /// only used where there is nothing better), and the round trip if the report allows to compute it.
    pub fn on_receiver_report(&mut self, now: Instant, loss: f64, rtt: Option<Duration>) {
        if let Some(rtt) = rtt {
            let rtt = rtt.clamp(Duration::from_millis(1), Duration::from_secs(3));
            self.rtt = if self.rtt_reported { (self.rtt * 7 + rtt) / 8 } else { rtt };
            self.rtt_reported = true;
        }
        if self.receiver_side(now) && loss.is_finite() {
            let ceiling =
                if self.remb { Bitrate::ZERO } else { self.wanted.scale(1.25).max(self.config.start) };
            self.target.on_receiver_loss(now, loss, ceiling);
        }
    }

    /// The path changed (ICE restart, new address): what was learned is void, and so is the silence of the old one. Says
    /// whether what was under way is lost, as the old path was silent. If so, media begins with half of the target, and with
    /// the lowest steps until the first report: their keyframes are small, so that there is a picture at once.
    pub fn on_path_change(&mut self, now: Instant) -> bool {
        let lost = self.silence != Silence::None;
        if lost {
            self.silence = Silence::None;
            self.unheard = true;
            self.allocated = None;
            self.target.on_new_path(now);
        }
        self.log.pardon();
        self.unanswered = None;
        self.prober.abort(now);
        self.prober.restart();
        self.delay = DelayDetector::new(now);
        self.burst = BurstMeter::default();
        self.loss = LossObserver::new();
        self.contest = Contest::default();
        self.rate.disprove(now);
        lost
    }

    /// Never more than `max` from now on; `frugal`: no probes, which cost bytes.
    pub fn limit(&mut self, now: Instant, max: Bitrate, frugal: bool) {
        let freed = max > self.config.max || (self.frugal && !frugal);
        self.config.max = max;
        self.target.set_max(now, max);
        self.frugal = frugal;
        if frugal {
            self.prober.abort(now);
        } else if freed {
            // What the path carries was not asked meanwhile: find out as after a join.
            self.prober.restart();
        }
        self.allocated = None;
    }

    /// How much of the video that is asked for may go, from the next [`Controller::allocate`] on.
    pub fn restrain(&mut self, share: Share) {
        self.share = share;
    }

    /// As [`Controller::restrain`] was told last.
    pub fn share(&self) -> Share {
        self.share
    }

    /// All bytes per second to this subscriber.
    pub fn target(&self) -> Bitrate {
        self.target.target()
    }

    /// The round trip, measured or assumed.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Whether nothing gets through: feedback is missing for so long that video stopped.
    pub fn outage(&self) -> bool {
        self.silence == Silence::Outage
    }

    /// Whether something left that no report has come after.
    pub fn awaits_report(&self) -> bool {
        self.unanswered.is_some()
    }

    /// What the pacer must obey now.
    pub fn pacing(&self, now: Instant) -> Pacing {
        let target = self.target();
        let cut = self.target.last_cut().is_some_and(|at| now.saturating_duration_since(at) < RESTRAINED);
        let our_queue = matches!(self.delay.state(), Queue::Rising | Queue::Standing)
            && self.contest.fair_share(self.rtt).is_none();
        let restrained = cut || our_queue || self.target.policed(now).is_some();
        let lossy = self.loss.ratio().max(self.loss.inherent()) > BURSTS_LOST;
        let rate = if restrained { target } else { target.scale(PACE) };
        let burst = self.rate.proven(now).min(target.scale(PACE_KEYFRAME));
        let hold = if self.silence == Silence::Outage {
            Some(OUTAGE_KEEPALIVE)
        } else {
            self.target.draining().then_some(DRAIN_KEEPALIVE)
        };
        Pacing {
            rate,
            keyframe_rate: rate.max(burst),
            catch_up_rate: rate.max(target.scale(if restrained || lossy { PACE } else { CATCH_UP })),
            burst: if restrained || lossy { DataSize::ZERO } else { self.burst.most() },
            hold,
            probe: self.prober.plan().filter(|_| hold.is_none()),
        }
    }

    /// Whether [`Controller::allocate`] should run: the target moved, a dwell time is over, or it is a second ago.
    /// Tracks, asks and speakers that change are the caller's reason to run it too, as is a pacer's overshoot.
    pub fn allocation_due(&self, now: Instant) -> bool {
        let Some((at, target)) = self.allocated else { return true };
        let current = self.target();
        current < target.scale(FELL)
            || current > target.scale(ROSE)
            || self.allocation.revisit.is_some_and(|at| at <= now)
            || now.saturating_duration_since(at) >= RENEW
    }

    /// Divides the target over `tracks`, after `audio` (all of it, redundancy and headers included) and the
    /// share of retransmission are taken out. `expected` is what all that is asked for may come to cost, by what
    /// publishers announced: their encoders begin low.
    pub fn allocate(
        &mut self,
        now: Instant,
        audio: Bitrate,
        tracks: &[Track<'_>],
        expected: Bitrate,
    ) -> &Allocation {
        let affordable = self.target().saturating_sub(audio).scale(1.0 - self.rtx_share());
        let wanted = Bitrate::bps(tracks.iter().map(Track::most).sum()).max(expected);
        let media = self.share.bound(affordable, wanted);
        self.held_back = media < affordable;
        let lowest: Vec<Track<'_>>;
        let tracks = if self.silence < Silence::Long && !self.unheard {
            tracks
        } else {
            lowest = tracks.iter().map(|t| Track { ceiling: LayerId::default(), ..*t }).collect();
            &lowest
        };
        self.allocation = allocate::allocate(media, tracks, std::mem::take(&mut self.allocation), now);
        (self.media, self.audio) = (media, audio);
        let share = self.rtx_share();
        let total = |media: Bitrate| media.scale(1.0 / (1.0 - share)) + audio;
        // The path is not asked for what we have no time for.
        self.next = self.allocation.unmet.filter(|_| !self.held_back).map(total);
        self.wanted = total(self.allocation.wanted.max(expected));
        self.least = total(self.allocation.least);
        self.allocated = Some((now, self.target()));
        self.update_probe(now);
        &self.allocation
    }

    /// The last result of [`Controller::allocate`].
    pub fn allocation(&self) -> &Allocation {
        &self.allocation
    }

    /// How the target was divided by the last [`Controller::allocate`].
    pub fn budget(&self) -> Budget {
        Budget {
            media: self.media,
            audio: self.audio,
            rtx_share: self.rtx_share(),
            used: self.allocation.total,
            wanted: self.wanted,
        }
    }

    /// Share of the target that retransmission may need.
    pub fn rtx_share(&self) -> f64 {
        (1.2 * self.loss.inherent()).clamp(RTX_MIN, RTX_MAX)
    }

    /// When to call [`Controller::handle_timeout`] though nothing came.
    pub fn next_timeout(&self) -> Option<Instant> {
        let probe = self.prober.next_timeout(self.rtt).filter(|_| self.next.is_some());
        let allocation = self.allocated.map(|(at, _)| {
            let renew = at + RENEW;
            self.allocation.revisit.map_or(renew, |revisit| renew.min(revisit))
        });
        let silence = match self.silence {
            Silence::None => self.feedback_due(SILENT),
            Silence::Overdue => self.feedback_due(MUTE),
            Silence::Long => self.feedback_due(OUTAGE),
            Silence::Outage => None,
        };
        [probe, allocation, silence, self.target.next_timeout()].into_iter().flatten().min()
    }

    /// Time passed: silence is noticed, probes end or begin. Look at `allocation_due` afterwards.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.target.handle_timeout(now);
        let before = self.silence;
        let stages = [(SILENT, Silence::Overdue), (MUTE, Silence::Long), (OUTAGE, Silence::Outage)];
        for (time, stage) in stages {
            if self.feedback_due(time).is_some_and(|at| at <= now) {
                self.silence = self.silence.max(stage);
            }
        }
        if self.silence != before {
            self.prober.abort(now);
            self.allocated = None;
        }
        self.update_probe(now);
    }

    /// What an operator may read.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            target: self.target(),
            cause: self.target.cause(),
            delivered: self.rate.measured().map(|measured| measured.delivered),
            queue: self.delay.state(),
            queue_delay: self.delay.envelope(),
            loss: self.loss.ratio(),
            inherent_loss: self.loss.inherent(),
            rtt: self.rtt,
            silent: self.silence != Silence::None,
            muted: self.silence >= Silence::Long,
            probing: self.prober.plan().is_some(),
            unmet: self.next,
            held_back: self.held_back,
        }
    }

    /// Nothing but receiver reports to go by.
    fn receiver_side(&self, now: Instant) -> bool {
        let never = self.feedback.is_none()
            && self.unanswered.is_some_and(|at| now.saturating_duration_since(at) >= NEVER_REPORTS);
        self.config.feedback == FeedbackKind::ReceiverSide || never
    }

    /// When feedback will have been missing for `silence`; `None` while none is expected.
    fn feedback_due(&self, silence: Duration) -> Option<Instant> {
        // Silence means something only from a client that has reported before.
        let last = self.feedback?;
        let unanswered = self.unanswered?;
        let more = if self.unheard { UNHEARD } else { Duration::ZERO };
        Some(last.max(unanswered) + silence.max(self.rtt * 3) + more)
    }

    fn end_silence(&mut self, now: Instant) {
        if self.silence == Silence::Outage
            && let Some(last) = self.feedback
        {
            self.target.on_outage_over(now, now.saturating_duration_since(last));
        }
        if self.silence != Silence::None {
            self.silence = Silence::None;
            self.allocated = None;
        }
    }

    fn on_acked(&mut self, now: Instant, acked: &[Acked]) {
        self.end_silence(now);
        if std::mem::take(&mut self.unheard) {
            self.allocated = None;
        }
        self.feedback = Some(now);
        self.unanswered = self.log.in_flight().then_some(now);

        if !self.rtt_reported
            && let Some(newest) = acked.iter().filter(|a| a.arrival.is_some()).map(|a| a.sent).max()
        {
            let rtt = now.saturating_duration_since(newest).clamp(Duration::from_millis(1), INITIAL_RTT * 5);
            self.rtt = (self.rtt * 7 + rtt) / 8;
        }
        for acked in acked {
            if let Some(cluster) = acked.cluster {
                self.prober.on_acked(cluster, acked);
            }
        }
        self.delay.on_acked(acked);
        self.burst.on_acked(acked);
        self.reorder.on_acked(now, acked);
        let envelope = self.delay.envelope();
        self.rate.on_acked(now, acked, envelope < CALM);
        let may_test = !self.target.draining()
            && self.delay.state() == Queue::Normal
            && self.prober.plan().is_none()
            && self.target().min(self.rate.sending(now)).scale(TEST) > self.least.max(self.config.min);
        let loss = self.loss.on_acked(now, acked, self.delay.standing(), self.rtt, may_test);
        self.update_target(now, loss);
        let evidence = Evidence {
            envelope,
            sending: self.rate.sending(now),
            measured: self.rate.measured(),
            last_cut: self.target.last_cut(),
            rtt: self.rtt,
        };
        self.contest.on_acked(now, acked, evidence);
        self.update_probe(now);
    }

    fn update_target(&mut self, now: Instant, loss: LossVerdict) {
        let facts = Facts {
            queue: self.delay.state(),
            envelope: self.delay.envelope(),
            latest_delay: self.delay.latest(),
            all_late: self.delay.all_late(),
            measured: self.rate.measured(),
            short: self.rate.measured_lately(),
            missing: self.log.missing(),
            least: self.least.scale(UP_MARGIN),
            application_limited: self.rate.application_limited(now, self.target.target()),
            padded: self.rate.padded(now, self.target.target()),
            sending: self.rate.sending(now),
            recent_max: self.rate.recent_max(now),
            loss,
            loss_persists: self.loss.persists(),
            fair: self.contest.fair_share(self.rtt),
            rtt: self.rtt,
        };
        let cut = self.target.last_cut();
        self.target.update(now, facts);
        if self.target.take_route_change() {
            self.delay.rebase();
        }
        if self.target.last_cut() != cut {
            self.loss.end_test();
            self.delay.on_cut();
            self.rate.disprove(now);
            if let Some(measured) = facts.measured {
                self.prober.on_cut(now, measured.delivered);
            }
        }
    }

    fn update_probe(&mut self, now: Instant) {
        let since_cut = self.target.last_cut().map(|at| now.saturating_duration_since(at));
        let calm = !self.frugal
            && !self.held_back
            && self.silence == Silence::None
            && self.delay.state() == Queue::Normal
            && self.delay.envelope() < CALM
            && !self.target.draining()
            && !self.loss.testing()
            && !self.loss.suspects_rate()
            && since_cut.is_none_or(|since| since >= AFTER_CUT)
            && !self.receiver_side(now);
        let queue = self.delay.state() == Queue::Rising || self.target.draining();
        let conditions = Conditions {
            target: self.target(),
            // What the client forbids is not asked of the path.
            next: self.next.filter(|next| *next <= self.config.max),
            wanted: self.wanted.min(self.config.max),
            bare: self.allocation.total == Bitrate::ZERO,
            calm,
            queue,
            rtt: self.rtt,
            inherent_loss: self.loss.inherent(),
            policed: self.target.policed(now),
            jitter: self.delay.jitter(),
        };
        if let Some(outcome) = self.prober.update(now, conditions) {
            if let super::probe::Outcome::Proven(rate) = outcome {
                self.rate.prove(now, rate);
            }
            self.target.on_probe(now, outcome);
        }
    }
}

#[cfg(test)]
mod tests;
