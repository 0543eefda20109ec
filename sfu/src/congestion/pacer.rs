//! What leaves next, and when: one queue per class and video track, one byte budget.
//!
//! The caller enqueues references to packets and takes them out with [`Pacer::next`] until it says `None`;
//! sequence numbers, picture ids and transport-wide numbers are given **then**, so that a packet dropped
//! here leaves no gap. One instant of `next` calls is one flush, and what it returns fits one send batch.
//! From one tick to the next ([`Ticks`]) video leaves once.
//! Always: audio waits for nothing; every packet enqueued is sent, dropped or still queued
//! ([`Pacer::counters`]); video is dropped in whole frames (one that is begun is cut off at most where a keyframe
//! follows), and of those the base temporal layer only together with everything up to the next keyframe; idle time earns
//! no credit beyond two ticks, or the burst that the path bears.
//! Not here: the rate ([`super::target`]), the padding's bytes (the caller makes them), retransmission rules.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::PacketClass;
use super::probe::{ClusterId, ProbePlan};
use crate::ahead::look;
use crate::ticks::{FAST_TICK, Moment, TICK, Ticks};
use crate::units::{Bitrate, DataSize, RtpTime};

/// Above this rate [`TICK`] is too long for shallow buffers.
const FAST_RATE: Bitrate = Bitrate::kbps(8000);
/// Largest run, in bytes: 16 packets, what a GSO batch takes.
pub(super) const MAX_RUN: i64 = 16 * 1200;
/// One full packet: the least credit, else a low rate could never send one.
pub(super) const ONE_PACKET: i64 = 1200;
/// What waits shall be gone within this: frames differ in size, and the rate is their mean.
const QUEUE_LIMIT: Duration = Duration::from_millis(30);
/// Where that takes longer than this at the highest rate, droppable frames are dropped. Reckoned from bytes, not from
/// how long they waited: that we did not run for a while is no reason.
const DROP_ABOVE: Duration = Duration::from_millis(60);
/// A base-layer packet older than this empties its track: a picture that late helps nobody.
const FLUSH_LIMIT: Duration = Duration::from_millis(400);
/// The same for a keyframe, which is worth waiting for.
const KEYFRAME_FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Packets one queue holds at most; reached only if the caller never calls `next`.
const QUEUE_CAP: usize = 1024;
/// Video tracks one subscriber can have queued.
const TRACK_CAP: usize = 1024;
/// Size asked for a packet that only keeps reports coming.
const KEEPALIVE_SIZE: DataSize = DataSize::bytes(100);

/// Index of a video track within one subscriber, chosen by the caller; small and dense, at most 1023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackSlot(pub u16);

/// The frame a video packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Equal for all packets of one frame and different for its neighbours.
    pub time: RtpTime,
    /// Needs no earlier frame; it is enough to say so of its first packet.
    pub keyframe: bool,
    /// Temporal layer; 0, the base, is never dropped alone.
    pub temporal: u8,
}

/// What became of a packet given to [`Pacer::enqueue_video`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It waits for its turn.
    Queued,
    /// It belongs to a frame or a track that was given up, or the queue is full.
    Dropped,
}

/// What the sender must know about the pacer's own decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacerEvent {
    /// More video was queued than leaves in time and frames were dropped: allocate again, lower.
    Overshoot(TrackSlot),
    /// The track was emptied; nothing of it leaves before a keyframe, which somebody must ask for.
    Flushed(TrackSlot),
}

/// What the pacer obeys, from [`super::Controller::pacing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Rate of everything but audio.
    pub rate: Bitrate,
    /// The same while a keyframe is queued.
    pub keyframe_rate: Bitrate,
    /// The most, to work off a queue.
    pub catch_up_rate: Bitrate,
    /// What may leave at once after a time in which less was sent, however long that takes at the rate.
    pub burst: DataSize,
    /// `Some`: no video leaves, and a small padding packet whenever nothing left for this long.
    pub hold: Option<Duration>,
    /// The probe to carry out; the same value again continues it, `None` ends it.
    pub probe: Option<ProbePlan>,
}

/// What leaves now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure<T> {
    /// A packet given to `enqueue`.
    Packet {
        /// The caller's reference.
        item: T,
        /// The class it was enqueued with.
        class: PacketClass,
        /// The size it was enqueued with.
        size: DataSize,
        /// The probe it is part of; to be passed on to `Controller::on_sent`.
        cluster: Option<ClusterId>,
    },
    /// The caller makes a padding packet, and calls [`Pacer::padding_made`] with its true size.
    Padding {
        /// Asked size on the wire; smaller is allowed.
        size: DataSize,
        /// The probe it is part of.
        cluster: Option<ClusterId>,
    },
}

/// Packets counted since the beginning: `enqueued = sent + dropped + queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Given to `enqueue…`, also those refused.
    pub enqueued: u64,
    /// Returned by `next`, without padding.
    pub sent: u64,
    /// Refused, or dropped from a queue.
    pub dropped: u64,
    /// Padding packets asked for.
    pub padding: u64,
}

#[derive(Clone, Copy, Debug)]
struct Queued<T> {
    item: T,
    size: DataSize,
    since: Moment,
    frame: Frame,
}

impl<T> Queued<T> {
    /// What it adds to the queue that must be worked off.
    fn waiting(&self) -> DataSize {
        if self.frame.keyframe { DataSize::ZERO } else { self.size }
    }
}

#[derive(Debug)]
struct TrackQueue<T> {
    packets: VecDeque<Queued<T>>,
    /// Frame of the packet that left last: it is begun, so the rest of it must follow.
    begun: Option<RtpTime>,
    /// Frame dropped last: what still arrives of it is dropped too.
    dropped: Option<RtpTime>,
    /// An upper frame was dropped and no base frame came since: upper frames may refer to it.
    skip_upper: bool,
    /// Emptied: nothing until a keyframe.
    wants_keyframe: bool,
    /// The last keyframe: of its packets only the first tells.
    keyframe: Option<RtpTime>,
}

impl<T> TrackQueue<T> {
    fn new() -> Self {
        TrackQueue {
            packets: VecDeque::new(),
            begun: None,
            dropped: None,
            skip_upper: false,
            wants_keyframe: false,
            keyframe: None,
        }
    }
}

#[derive(Debug)]
struct ActiveProbe {
    plan: ProbePlan,
    sent: DataSize,
    packets: u32,
    until: Moment,
    padding_works: bool,
}

/// The pacer of one subscriber; `T` is the caller's reference to a packet.
#[derive(Debug)]
pub struct Pacer<T> {
    audio: VecDeque<Queued<T>>,
    audio_rtx: VecDeque<Queued<T>>,
    video_rtx: VecDeque<Queued<T>>,
    video: Vec<TrackQueue<T>>,
    next_track: usize,
    /// Bytes in the queues of video, keyframes apart, which have a rate of their own.
    waiting: DataSize,
    pacing: Pacing,
    probe: Option<ActiveProbe>,
    last_probe: Option<ClusterId>,
    hold_works: bool,
    /// What left before waits on our side of the network: sound goes on, the rest waits here.
    stopped: bool,
    budget: i64, // bytes; may be negative by what the last packet was too large
    credited: Moment,
    ticks: Ticks,
    flush: Option<Moment>,    // when video left last
    enforced: Option<Moment>, // when limits were looked at last
    departed: Moment,
    events: VecDeque<PacerEvent>,
    counters: Counters,
}

impl<T: Copy> Pacer<T> {
    /// An empty pacer.
    pub fn new(now: Instant, ticks: Ticks, pacing: Pacing) -> Self {
        Pacer {
            ticks,
            audio: VecDeque::new(),
            audio_rtx: VecDeque::new(),
            video_rtx: VecDeque::new(),
            video: Vec::new(),
            next_track: 0,
            waiting: DataSize::ZERO,
            pacing,
            probe: None,
            last_probe: None,
            hold_works: true,
            stopped: false,
            budget: ONE_PACKET,
            credited: ticks.moment(now),
            flush: None,
            enforced: None,
            departed: ticks.moment(now),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes over the controller's wishes. Call it after every report and timeout of the controller.
    pub fn follow(&mut self, now: Instant, pacing: Pacing) {
        let now = self.ticks.moment(now);
        self.credit(now);
        if pacing.hold.is_none() {
            self.hold_works = true;
        }
        match pacing.probe {
            None => self.probe = None,
            Some(plan) if self.last_probe == Some(plan.cluster) => {}
            Some(plan) => {
                self.last_probe = Some(plan.cluster);
                let until = now + plan.duration() * 2;
                // Credit saved up would send a small cluster at once, and measure nothing.
                self.budget = self.budget.min(signed(plan.packet));
                self.probe =
                    Some(ActiveProbe { plan, sent: DataSize::ZERO, packets: 0, until, padding_works: true });
            }
        }
        self.pacing = pacing;
    }

    /// Lets nothing but sound leave, or everything again. Nothing wakes a stopped pacer but what is enqueued.
    pub fn stop_video(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// Reads ahead what [`Pacer::enqueue_video`] and [`Pacer::next`] need.
    pub(crate) fn ahead(&self) {
        look(&self.budget);
        look(&self.pacing.rate);
        look(&self.departed);
        look(&self.counters.sent);
        look(&self.audio.len());
        if let Some(track) = self.video.first() {
            look(&track.begun);
            look(&track.packets.len());
        }
    }

    /// Queues a packet of any class but video. Returns whether it was taken; audio always is, short of 1024
    /// waiting packets.
    pub fn enqueue(&mut self, now: Instant, class: PacketClass, item: T, size: DataSize) -> Enqueued {
        let frame = Frame { time: RtpTime(0), keyframe: false, temporal: 0 };
        let queue = match class {
            PacketClass::Audio => &mut self.audio,
            PacketClass::AudioRtx => &mut self.audio_rtx,
            PacketClass::VideoRtx | PacketClass::Video | PacketClass::Padding => &mut self.video_rtx,
        };
        debug_assert!(class != PacketClass::Video, "video has frames: enqueue_video");
        self.counters.enqueued += 1;
        if queue.len() >= QUEUE_CAP {
            self.counters.dropped += 1;
            return Enqueued::Dropped;
        }
        queue.push_back(Queued { item, size, since: self.ticks.moment(now), frame });
        if !matches!(class, PacketClass::Audio | PacketClass::AudioRtx) {
            self.waiting += size;
        }
        Enqueued::Queued
    }

    /// Queues the first transmission of a video packet, behind the others of its track.
    pub fn enqueue_video(
        &mut self,
        now: Instant,
        slot: TrackSlot,
        item: T,
        size: DataSize,
        mut frame: Frame,
    ) -> Enqueued {
        self.counters.enqueued += 1;
        let index = usize::from(slot.0);
        if index >= TRACK_CAP {
            self.counters.dropped += 1;
            return Enqueued::Dropped;
        }
        if index >= self.video.len() {
            self.video.resize_with(index + 1, TrackQueue::new);
        }
        let track = &mut self.video[index];
        if frame.keyframe {
            track.wants_keyframe = false;
            track.keyframe = Some(frame.time);
        }
        frame.keyframe = track.keyframe == Some(frame.time);
        if frame.temporal == 0 {
            track.skip_upper = false;
        }
        let begun = track.begun == Some(frame.time);
        let given_up = track.dropped == Some(frame.time) || (track.skip_upper && frame.temporal > 0);
        if track.wants_keyframe || (given_up && !begun) {
            self.counters.dropped += 1;
            return Enqueued::Dropped;
        }
        if track.packets.len() >= QUEUE_CAP {
            self.counters.dropped += 1;
            self.flush_track(index);
            return Enqueued::Dropped;
        }
        let packet = Queued { item, size, since: self.ticks.moment(now), frame };
        self.waiting += packet.waiting();
        track.packets.push_back(packet);
        Enqueued::Queued
    }

    /// Forgets a track's queue: it is unsubscribed, paused, or about to switch to another layer at once.
    pub fn clear_track(&mut self, slot: TrackSlot) {
        if let Some(track) = self.video.get_mut(usize::from(slot.0)) {
            self.counters.dropped += track.packets.len() as u64;
            track.packets.drain(..).for_each(|packet| self.waiting = self.waiting - packet.waiting());
            track.begun = None;
            track.dropped = None;
            track.skip_upper = false;
            track.wants_keyframe = false;
            track.keyframe = None;
        }
    }

    /// Forgets all that waits: the way was gone, and nobody wants to hear now what was said then.
    pub fn clear(&mut self) {
        for slot in 0..self.video.len() {
            self.clear_track(TrackSlot(slot as u16));
        }
        for queue in [&mut self.audio, &mut self.audio_rtx, &mut self.video_rtx] {
            self.counters.dropped += queue.len() as u64;
            queue.clear();
        }
        self.waiting = DataSize::ZERO;
    }

    /// Forgets retransmissions of video that nobody waits for any more.
    pub fn retain_repairs(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        let before = self.video_rtx.len();
        self.video_rtx.retain(|packet| {
            let keep = wanted(&packet.item);
            if !keep {
                self.waiting = self.waiting - packet.waiting();
            }
            keep
        });
        self.counters.dropped += (before - self.video_rtx.len()) as u64;
    }

    /// What leaves at `now`; `None` when the budget or the queues are empty. Call until `None`.
    pub fn next(&mut self, now: Instant) -> Option<Departure<T>> {
        let now = self.ticks.moment(now);
        self.credit(now);
        if let Some(packet) = self.audio.pop_front() {
            return Some(self.depart(now, packet, PacketClass::Audio));
        }
        if !self.may_flush(now) {
            return None;
        }
        if let Some(packet) = self.audio_rtx.pop_front() {
            self.flush = Some(now);
            return Some(self.depart(now, packet, PacketClass::AudioRtx));
        }
        if self.stopped {
            self.enforce_limits(now);
            return None;
        }
        if let Some(interval) = self.holding() {
            if now < self.departed + interval {
                return None;
            }
            return Some(self.pad(now, KEEPALIVE_SIZE, None));
        }
        if self.enforced.replace(now) != Some(now) {
            self.enforce_limits(now);
        }
        if let Some(packet) = self.video_rtx.pop_front() {
            self.waiting = self.waiting - packet.waiting();
            self.flush = Some(now);
            return Some(self.depart(now, packet, PacketClass::VideoRtx));
        }
        if let Some(index) = self.pick_track() {
            self.next_track = index + 1;
            let track = &mut self.video[index];
            let packet = track.packets.pop_front().expect("pick_track returns a track with packets");
            track.begun = Some(packet.frame.time);
            self.waiting = self.waiting - packet.waiting();
            self.flush = Some(now);
            return Some(self.depart(now, packet, PacketClass::Video));
        }
        let probe = self.probe.as_ref().filter(|probe| probe.padding_works && now < probe.until)?;
        let (size, cluster) = (probe.plan.packet, Some(probe.plan.cluster));
        self.flush = Some(now);
        Some(self.pad(now, size, cluster))
    }

    /// The true size of the padding packet that was asked for as `asked`; zero if none could be made. After
    /// a zero, no more is asked for in this probe, and a hold lets video pass so that reports continue.
    pub fn padding_made(&mut self, asked: DataSize, actual: DataSize) {
        self.budget += signed(asked) - signed(actual);
        let failed = actual == DataSize::ZERO;
        if let Some(probe) = &mut self.probe {
            probe.sent = probe.sent - asked + actual;
            if failed {
                probe.packets = probe.packets.saturating_sub(1);
                probe.padding_works = false;
            }
            self.end_probe_if_done();
        }
        if failed && self.pacing.hold.is_some() {
            self.hold_works = false;
        }
    }

    /// Something the sender must act on; drain it after `next` and `enqueue_video`.
    pub fn poll_event(&mut self) -> Option<PacerEvent> {
        self.events.pop_front()
    }

    /// When `next` may have something; `None` while all queues are empty and nothing is to be padded.
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.audio.is_empty() {
            return Some(self.ticks.instant(self.credited));
        }
        let hold = self.holding().filter(|_| !self.stopped);
        let video = || !self.video_rtx.is_empty() || self.video.iter().any(|track| !track.packets.is_empty());
        let padding = || self.probe.as_ref().is_some_and(|probe| probe.padding_works);
        let waits = hold.is_some() || !self.audio_rtx.is_empty() || (!self.stopped && (video() || padding()));
        if !waits {
            return None;
        }
        let budget_at = self.credited + self.time_to_credit();
        let flush_at =
            self.flush.map_or(budget_at, |at| budget_at.from(self.tick()).max(at.after(self.tick())));
        let at = match hold.filter(|_| self.audio_rtx.is_empty()) {
            Some(interval) => flush_at.max(self.departed + interval),
            None => flush_at,
        };
        Some(self.ticks.instant(at))
    }

    /// Whether a probe is under way.
    pub fn probing(&self) -> bool {
        self.probe.is_some()
    }

    /// What is likely to leave first: of sound, and of one or two videos.
    pub(crate) fn fronts(&self) -> impl Iterator<Item = &T> {
        let video = self.video.iter().filter_map(|track| track.packets.front()).take(2);
        self.audio.front().into_iter().chain(video).map(|packet| &packet.item)
    }

    /// Packets counted since the beginning.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Packets that wait, all queues together.
    pub fn queued(&self) -> usize {
        let video: usize = self.video.iter().map(|track| track.packets.len()).sum();
        self.audio.len() + self.audio_rtx.len() + self.video_rtx.len() + video
    }

    /// How long the oldest video packet has waited; zero if none does.
    pub fn video_delay(&self, now: Instant) -> Duration {
        let oldest = self.video.iter().filter_map(|track| track.packets.front()).map(|packet| packet.since);
        oldest.min().map_or(Duration::ZERO, |since| self.ticks.moment(now).since(since))
    }

    fn holding(&self) -> Option<Duration> {
        self.pacing.hold.filter(|_| self.hold_works)
    }

    fn rate(&self) -> Bitrate {
        let keyframe = self.video.iter().any(|track| track.packets.front().is_some_and(|p| p.frame.keyframe));
        let rate = if keyframe { self.pacing.rate.max(self.pacing.keyframe_rate) } else { self.pacing.rate };
        let needed = Bitrate::of(self.waiting, QUEUE_LIMIT);
        let rate = rate.max(needed.min(self.pacing.catch_up_rate));
        // A probe's own rate also where it is below the usual headroom: it measures that rate.
        self.probe.as_ref().map_or(rate, |probe| probe.plan.rate)
    }

    fn tick(&self) -> Duration {
        if self.probe.is_some() || self.pacing.rate > FAST_RATE { FAST_TICK } else { TICK }
    }

    /// A flush at the same instant goes on; a new one waits for its tick. Either needs budget.
    fn may_flush(&self, now: Moment) -> bool {
        self.budget > 0 && self.flush.is_none_or(|at| at == now || at.after(self.tick()) <= now)
    }

    fn credit(&mut self, now: Moment) {
        let elapsed = now.since(self.credited);
        if elapsed.is_zero() {
            return;
        }
        let rate = self.rate();
        let earned = signed(rate.size_in(elapsed.min(Duration::from_secs(1))));
        // Two ticks, so that a late timer costs no rate; the run itself stays within MAX_RUN.
        let least = self.probe.as_ref().map_or(ONE_PACKET, |probe| signed(probe.plan.packet));
        let burst = if self.probe.is_some() { 0 } else { signed(self.pacing.burst) };
        let cap = signed(rate.size_in(self.tick() * 2)).max(burst).clamp(least.min(MAX_RUN), MAX_RUN);
        // A credit below one byte would be lost to rounding: leave the clock until there is one.
        if earned > 0 {
            self.budget = (self.budget + earned).min(cap);
            self.credited = now;
        }
        if self.probe.as_ref().is_some_and(|probe| now >= probe.until) {
            self.probe = None;
        }
    }

    fn time_to_credit(&self) -> Duration {
        if self.budget > 0 {
            return Duration::ZERO;
        }
        let missing = DataSize::bytes((1 - self.budget).unsigned_abs());
        self.rate().time_for(missing).map_or(Duration::from_secs(1), |time| time + Duration::from_micros(1))
    }

    fn depart(&mut self, now: Moment, packet: Queued<T>, class: PacketClass) -> Departure<T> {
        self.counters.sent += 1;
        let cluster = self.charge(now, class, packet.size);
        Departure::Packet { item: packet.item, class, size: packet.size, cluster }
    }

    fn pad(&mut self, now: Moment, size: DataSize, cluster: Option<ClusterId>) -> Departure<T> {
        self.counters.padding += 1;
        self.charge(now, PacketClass::Padding, size);
        Departure::Padding { size, cluster }
    }

    fn charge(&mut self, now: Moment, class: PacketClass, size: DataSize) -> Option<ClusterId> {
        self.departed = now;
        self.budget -= signed(size);
        if class == PacketClass::Audio {
            // Audio is part of the target, but a burst of it delays video by one tick at most.
            let floor = -signed(self.rate().size_in(self.tick())).max(ONE_PACKET);
            self.budget = self.budget.max(floor);
        }
        let probe = self.probe.as_mut()?;
        let cluster = probe.plan.cluster;
        probe.sent += size;
        probe.packets += 1;
        if class != PacketClass::Padding {
            self.end_probe_if_done(); // padding: once its true size is known
        }
        Some(cluster)
    }

    fn end_probe_if_done(&mut self) {
        let done =
            |probe: &ActiveProbe| probe.sent >= probe.plan.size && probe.packets >= probe.plan.min_packets;
        if self.probe.as_ref().is_some_and(done) {
            self.probe = None;
        }
    }

    /// Keyframes first, else round robin.
    fn pick_track(&self) -> Option<usize> {
        let count = self.video.len();
        let order = || (0..count).map(|step| (self.next_track + step) % count);
        let keyframe = order().find(|&i| self.video[i].packets.front().is_some_and(|p| p.frame.keyframe));
        keyframe.or_else(|| order().find(|&i| !self.video[i].packets.is_empty()))
    }

    fn enforce_limits(&mut self, now: Moment) {
        let stale = |packet: &Queued<T>| now.since(packet.since) > FLUSH_LIMIT;
        while let Some(packet) = self.video_rtx.pop_front_if(|packet| stale(packet)) {
            self.waiting = self.waiting - packet.waiting();
            self.counters.dropped += 1;
        }
        let most = self.pacing.rate.max(self.pacing.catch_up_rate);
        let too_much = most.time_for(self.waiting).is_none_or(|time| time > DROP_ABOVE);
        let hopeless = |track: &TrackQueue<T>| {
            track.packets.front().is_some_and(|front| {
                let limit = if front.frame.keyframe { KEYFRAME_FLUSH_LIMIT } else { FLUSH_LIMIT };
                now.since(front.since) > limit
            })
        };
        for index in 0..self.video.len() {
            let Some(front) = self.video[index].packets.front() else { continue };
            let late = too_much && !front.frame.keyframe;
            if hopeless(&self.video[index]) {
                self.drop_late(index, true);
                if hopeless(&self.video[index]) {
                    self.flush_track(index);
                }
            } else if late && self.drop_late(index, false) > 0 {
                self.raise(PacerEvent::Overshoot(TrackSlot(index as u16)));
            }
        }
    }

    /// Drops the frames nobody needs: those a queued keyframe replaces, and the upper temporal layers. A frame that is
    /// begun is finished, unless it may be cut off where a keyframe follows.
    fn drop_late(&mut self, index: usize, cut: bool) -> usize {
        let track = &mut self.video[index];
        let before = track.packets.len();
        let keyframe = track.packets.iter().rev().find(|p| p.frame.keyframe).map(|p| p.frame.time);
        let mut replaced = keyframe.is_some();
        let mut last_dropped = None;
        let mut skip_upper = false; // after the last packet that was looked at
        let begun = track.begun;
        track.packets.retain(|packet| {
            if Some(packet.frame.time) == keyframe {
                replaced = false;
            }
            if packet.frame.temporal == 0 {
                skip_upper = false;
            }
            let finish = begun == Some(packet.frame.time) && !(cut && replaced);
            let drop = (replaced || packet.frame.temporal > 0) && !finish;
            if drop {
                self.waiting = self.waiting - packet.waiting();
                skip_upper |= packet.frame.temporal > 0;
                last_dropped = Some(packet.frame.time);
            }
            !drop
        });
        if last_dropped.is_some() {
            track.skip_upper = skip_upper;
            track.dropped = last_dropped;
        }
        let dropped = before - track.packets.len();
        self.counters.dropped += dropped as u64;
        dropped
    }

    fn flush_track(&mut self, index: usize) {
        self.clear_track(TrackSlot(index as u16));
        self.video[index].wants_keyframe = true;
        self.raise(PacerEvent::Flushed(TrackSlot(index as u16)));
    }

    fn raise(&mut self, event: PacerEvent) {
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }
}

fn signed(size: DataSize) -> i64 {
    i64::try_from(size.as_bytes()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
