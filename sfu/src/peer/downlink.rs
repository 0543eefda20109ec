//! What a client gets: its subscriptions, one pacer and one congestion control for all of them.

mod explain;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::connection::Connection;
use super::subscription::{Stamp, Subscription};
use crate::ahead::look;
use crate::command::{Demand, DownlinkPolicy, MediaKind};
use crate::congestion::allocate::Reason;
use crate::congestion::explain::History;
use crate::congestion::voice::{self, Tally, Voice};
use crate::congestion::{
    self, Config, Controller, Departure, Enqueued, FeedbackKind, Frame, Pacer, PacerEvent, PacketClass,
    PerTrack, Priority, Step, TrackSlot, ceiling_for,
};
use crate::core::speakers::{Speakers, Standing};
use crate::egress::{Egress, MAX_DATAGRAM};
use crate::forward::keyframe::Request;
use crate::forward::playout::PlayoutDelay;
use crate::forward::redundancy;
use crate::forward::repair::{Gap, Repairs, Verdict};
use crate::forward::select::Layout;
use crate::forward::sent::{Answer, Reported};
use crate::ids::{LayerId, SeqNo, Ssrc, TrackId};
use crate::stats::{DropReason, NackRefusal, Stats};
use crate::ticks::Ticks;
use crate::track::{Ingested, Track};
use crate::units::{Bitrate, DataSize, NtpTime, WallClock};
use crate::uplink::meter::LayerMeter;
use crate::wire::description::Codec;
use crate::wire::rtcp::ReportBlock;
use crate::wire::rtp;

/// IPv4 and UDP headers; IPv6 has 20 more, which nobody misses in an estimate.
const IP_UDP: usize = 28;
/// Subscriptions of one client at most, that of the pacer's slots.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// With so many videos or more the recent speakers' go first where not all fit, and the main speaker, as well as who has
/// been given priority, …
const CROWD: usize = 25;
/// …is seen in a middle size before others are seen at all.
const MAIN_SPEAKER: u8 = 1;
/// Packets of sound that a receiver report stands for: a second of it.
const REPORTED: u32 = 50;
/// Numbers taken from one NACK.
const MAX_NACKS: usize = 512;

/// A packet waiting in the pacer: where to find it when its turn comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    slot: u16,
    encoding: u8,
    serial: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Media {
        seq: SeqNo,
        marker: bool,
        switch: bool,
    },
    Resend {
        number: u16,
    },
    /// Nothing: it closes a number that was kept free.
    Filler {
        number: SeqNo,
    },
}

/// What a filler takes of the pacer.
const FILLER: DataSize = DataSize::bytes(80);

const fn filler(slot: u16, serial: u32, number: SeqNo) -> Item {
    Item { slot, encoding: 0, serial, what: What::Filler { number } }
}

/// What became of a packet that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// The subscription has no use for it.
    Declined,
    /// It is on its way.
    Taken,
    /// The same, and with it another encoding starts.
    Switched,
}

/// What the allocator changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing of this track goes any more; that something does again is found out by [`Downlink::poll_resumed`].
    Paused(TrackId),
    /// A keyframe of this track's encoding is needed.
    Keyframe(usize, u8),
}

/// See the module's page.
pub(crate) struct Downlink {
    pub(crate) subscriptions: Vec<Option<Box<Subscription>>>,
    by_ssrc: HashMap<Ssrc, (u16, bool)>,
    pub(crate) controller: Controller,
    redundancy: redundancy::Level,
    /// Whether sound gets to the client.
    pub(crate) voice: Voice,
    /// What sound costs now.
    audio: Bitrate,
    repairs: Repairs,
    playout: PlayoutDelay,
    pacer: Pacer<Item>,
    feedback: FeedbackKind,
    policy: DownlinkPolicy,
    /// For people to read; made with the first subscription, since a connection may be for publishing alone.
    history: Option<History>,
    serial: u32,
    /// The caller's mark that this downlink is in its list of those to be flushed.
    pub(crate) queued: bool,
    /// Probing with old packets: how many back in the log the next one is.
    probe_at: usize,
    pub(crate) sent_media: bool,
    /// Tracks that were paused and of which a packet left.
    resumed: SmallVec<[TrackId; 4]>,
}

impl Downlink {
    pub(crate) fn new(now: Instant, ticks: Ticks) -> Self {
        let controller = Controller::new(now, Config::default());
        let pacer = Pacer::new(now, ticks, controller.pacing(now));
        Downlink {
            subscriptions: Vec::new(),
            by_ssrc: HashMap::new(),
            controller,
            redundancy: redundancy::Level::default(),
            voice: Voice::default(),
            audio: Bitrate::ZERO,
            repairs: Repairs::default(),
            playout: PlayoutDelay::default(),
            pacer,
            feedback: FeedbackKind::TransportWide,
            policy: DownlinkPolicy::default(),
            history: None,
            serial: 0,
            queued: false,
            probe_at: 0,
            sent_media: false,
            resumed: SmallVec::new(),
        }
    }

    /// Takes a free slot; `None` at the cap.
    pub(crate) fn insert(&mut self, now: Instant, make: impl FnOnce(u32) -> Subscription) -> Option<u16> {
        let slot = match self.subscriptions.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.subscriptions.len() < MAX_SUBSCRIPTIONS => {
                self.subscriptions.push(None);
                self.subscriptions.len() - 1
            }
            None => return None,
        };
        self.history.get_or_insert_with(|| History::new(now));
        self.serial = self.serial.wrapping_add(1);
        let subscription = make(self.serial);
        self.by_ssrc.insert(subscription.ssrc, (slot as u16, false));
        self.by_ssrc.insert(subscription.rtx_ssrc, (slot as u16, true));
        self.subscriptions[slot] = Some(Box::new(subscription));
        Some(slot as u16)
    }

    /// The slot of a track: of the one that was subscribed to, or of the one that is carried in its place.
    pub(crate) fn find(&self, track: TrackId) -> Option<u16> {
        let same = |s: &Subscription| s.track_id == track || (s.feed.is_none() && s.name == track);
        self.position(same)
    }

    /// The slot of a feed.
    pub(crate) fn find_feed(&self, feed: TrackId) -> Option<u16> {
        self.position(|s| s.feed.is_some() && s.name == feed)
    }

    fn position(&self, is: impl Fn(&Subscription) -> bool) -> Option<u16> {
        let at = self.subscriptions.iter().position(|slot| slot.as_deref().is_some_and(&is));
        at.map(|slot| slot as u16)
    }

    pub(crate) fn get_mut(&mut self, slot: u16) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(usize::from(slot))?.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, slot: u16) -> Option<Box<Subscription>> {
        let gone = self.subscriptions.get_mut(usize::from(slot))?.take()?;
        self.by_ssrc.remove(&gone.ssrc);
        self.by_ssrc.remove(&gone.rtx_ssrc);
        self.pacer.clear_track(TrackSlot(slot));
        Some(gone)
    }

    /// Puts a track into a feed, or nothing. `false`: there is no feed in this slot.
    pub(crate) fn refill(&mut self, slot: u16, track: Option<(usize, &Track)>, demand: Demand) -> bool {
        let serial = self.serial.wrapping_add(1);
        let subscription = self.get_mut(slot).filter(|subscription| subscription.feed.is_some());
        let Some(subscription) = subscription else { return false };
        subscription.refill(serial, track, demand);
        self.serial = serial;
        self.pacer.clear_track(TrackSlot(slot));
        true
    }

    /// Puts another track into the place of a subscription's.
    pub(crate) fn replace(&mut self, slot: u16, index: usize, track: &Track) {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        if let Some(subscription) = self.get_mut(slot) {
            subscription.replace(serial, index, track);
            self.pacer.clear_track(TrackSlot(slot));
        }
    }

    /// Elements in all queues and maps.
    #[cfg(feature = "null-cipher")]
    pub(crate) fn held(&self) -> usize {
        self.subscriptions.len() + self.by_ssrc.len() + self.pacer.queued()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().flatten().map(AsRef::as_ref)
    }

    /// Whether it has a video.
    pub(crate) fn has_video(&self) -> bool {
        self.iter().any(|subscription| subscription.kind == MediaKind::Video)
    }

    /// Whether it has more than one video to divide among.
    pub(crate) fn has_videos(&self) -> bool {
        self.iter().filter(|subscription| subscription.kind == MediaKind::Video).nth(1).is_some()
    }

    /// The subscription that an SSRC of ours belongs to.
    pub(crate) fn by_ssrc(&mut self, ssrc: Ssrc) -> Option<&mut Subscription> {
        let (slot, _) = *self.by_ssrc.get(&ssrc)?;
        self.get_mut(slot)
    }

    /// How the client reports on what it gets.
    pub(crate) fn set_feedback(&mut self, now: Instant, kind: FeedbackKind) {
        if self.feedback != kind {
            self.feedback = kind;
            let share = self.controller.share();
            self.controller = Controller::new(now, Config { feedback: kind, ..Config::default() });
            self.controller.restrain(share);
            self.set_policy(now, self.policy);
        }
    }

    /// How much the client wants at all.
    pub(crate) fn set_policy(&mut self, now: Instant, policy: DownlinkPolicy) {
        self.policy = policy;
        let frugal = policy.data_saver || policy.background;
        self.controller.limit(now, policy.max.unwrap_or(Config::default().max), frugal);
        if policy.background {
            let videos = self.subscriptions.iter().enumerate();
            let slots: SmallVec<[u16; 32]> = videos
                .filter(|(_, s)| s.as_ref().is_some_and(|s| s.kind == MediaKind::Video))
                .map(|(slot, _)| slot as u16)
                .collect();
            slots.into_iter().for_each(|slot| self.clear(slot));
        }
    }

    /// Reads ahead what [`Downlink::offer`] needs.
    pub(crate) fn ahead_of_offer(&self, slot: u16) {
        look(&self.queued);
        self.pacer.ahead();
        if let Some(subscription) = self.subscriptions.get(usize::from(slot)).and_then(Option::as_ref) {
            subscription.ahead_of_choice();
        }
    }

    /// Reads ahead what [`Downlink::flush`] needs for what is next in the pacer.
    pub(crate) fn ahead_of_flush(&self, connection: &Connection) {
        look(&self.sent_media);
        self.controller.ahead();
        for item in self.pacer.fronts() {
            let subscription = self.subscriptions.get(usize::from(item.slot)).and_then(Option::as_ref);
            if let Some(subscription) = subscription {
                subscription.ahead_of_departure();
                connection.ahead(subscription.ssrc);
            }
        }
    }

    /// Queues padding for tracks that are silent from the start: see [`Subscription::herald`].
    pub(crate) fn herald(&mut self, now: Instant) {
        for (slot, subscription) in (0..).zip(&mut self.subscriptions) {
            if let Some(subscription) = subscription
                && let Some(number) = subscription.herald()
            {
                self.pacer.enqueue(
                    now,
                    PacketClass::VideoRtx,
                    filler(slot, subscription.serial, number),
                    FILLER,
                );
            }
        }
    }

    /// Queues a packet that has just come, if the subscription takes it.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        slot: u16,
        track: &Track,
        encoding: u8,
        packet: &Ingested,
        stats: &mut Stats,
    ) -> Offered {
        let Some(subscription) = self.subscriptions.get_mut(usize::from(slot)).and_then(Option::as_mut)
        else {
            return Offered::Declined;
        };
        if !subscription.flows() {
            return Offered::Declined;
        }
        let before = subscription.layer();
        let selected = subscription.select(encoding, packet);
        if packet.late
            && let Some(number) = subscription.settle_late(packet.seq, selected.is_some())
        {
            self.pacer.enqueue(now, PacketClass::VideoRtx, filler(slot, subscription.serial, number), FILLER);
        }
        let Some((marker, switch)) = selected else { return Offered::Declined };
        let what = What::Media { seq: packet.seq, marker, switch };
        let item = Item { slot, encoding, serial: subscription.serial, what };
        let queued = match subscription.kind {
            MediaKind::Audio => {
                let more = if subscription.takes_redundancy(track) {
                    packet.payload_size().as_bytes() * u64::from(self.redundancy.get())
                } else {
                    0
                };
                self.pacer.enqueue(now, PacketClass::Audio, item, packet.size + DataSize::bytes(more))
            }
            MediaKind::Video => {
                let description = &packet.meta.description;
                let frame = Frame {
                    time: packet.meta.timestamp,
                    keyframe: description.keyframe || switch,
                    temporal: description.temporal,
                };
                self.pacer.enqueue_video(now, TrackSlot(slot), item, packet.size, frame)
            }
        };
        if queued == Enqueued::Dropped {
            stats.drop(DropReason::Pacer);
        }
        if switch && subscription.kind == MediaKind::Video {
            let after = subscription.layer().unwrap_or_default();
            let way = before.map(|before| after.spatial.cmp(&before.spatial));
            stats.switches.0 += u64::from(way == Some(Ordering::Greater));
            stats.switches.1 += u64::from(way == Some(Ordering::Less));
            // A picture that begins anew needs nothing of what was lost before it; nor does one on a link that has become narrow,
            // which has no room for more.
            if matches!(way, None | Some(Ordering::Less)) {
                subscription.sent.forget();
                self.forget_repairs(slot);
            }
        }
        if switch { Offered::Switched } else { Offered::Taken }
    }

    /// Queues packets that came before, as if they came now.
    pub(crate) fn offer_cached(
        &mut self,
        now: Instant,
        slot: u16,
        track: &Track,
        encoding: u8,
        numbers: impl Iterator<Item = SeqNo>,
        stats: &mut Stats,
    ) {
        let Some(source) = track.encodings.get(usize::from(encoding)) else { return };
        for cached in numbers.filter_map(|seq| source.cache.get(seq)) {
            if !cached.payload.is_empty() {
                self.offer(now, slot, track, encoding, &Ingested::again(&cached), stats);
            }
        }
    }

    /// A NACK of the client: queues what it misses, or if that would take too long begins the picture anew. Says whether it
    /// does, and so waits for a keyframe.
    pub(crate) fn handle_nack(
        &mut self,
        now: Instant,
        media: Ssrc,
        lost: impl Iterator<Item = u16>,
        tracks: &[Option<Box<Track>>],
        stats: &mut Stats,
    ) -> bool {
        let Some(&(slot, false)) = self.by_ssrc.get(&media) else { return false };
        let rtt = self.controller.rtt();
        let Some(subscription) = self.subscriptions[usize::from(slot)].as_deref_mut() else { return false };
        if subscription.format.as_ref().is_none_or(|format| format.rtx_payload_type.is_none()) {
            return false; // a plain repetition would look like a replay to SRTP
        }
        let (serial, reordering) = (subscription.serial, self.controller.reordering(now));
        let mut gap = Gap::default();
        for number in lost.take(MAX_NACKS) {
            stats.nacks.0 += 1;
            let reported = |copy| self.controller.reported(copy);
            if let Some((size, late)) = subscription.sent.missed(now, rtt, number, reported) {
                gap.add(size, late);
            }
            match subscription.sent.handle_nack(now, rtt, number, reported) {
                Answer::Refuse(reason) => stats.refuse_nack(reason),
                Answer::Accept { first } => {
                    if !self.repairs.hold(now, (slot, serial, number), first, reordering) {
                        subscription.sent.release(now, number, false);
                        stats.refuse_nack(NackRefusal::Budget);
                    }
                }
            }
        }
        let anew = subscription.kind == MediaKind::Video
            && subscription.layer().is_some()
            && gap.hopeless(self.controller.target(), subscription.keyframe_size(tracks))
            && subscription.requests.handle_request(now) == Request::Passed;
        if anew {
            subscription.sent.forget();
            self.forget_repairs(slot);
            self.clear(slot);
        }
        self.release_repairs(now, stats);
        anew
    }

    /// What waits to be resent on a track is not needed any more.
    fn forget_repairs(&mut self, slot: u16) {
        let resend = |item: &Item| matches!(item.what, What::Resend { .. });
        self.pacer.retain_repairs(|item| item.slot != slot || !resend(item));
    }

    /// Queues those packets asked for that need to wait no longer, and forgets those that came.
    fn release_repairs(&mut self, now: Instant, stats: &mut Stats) {
        let mut held = self.repairs.take_held(now);
        held.retain(|held| {
            let subscription = self.subscriptions.get_mut(usize::from(held.slot)).and_then(Option::as_mut);
            let Some(subscription) = subscription.filter(|s| s.serial == held.serial) else { return false };
            let Some(sent) = subscription.sent.get(held.number).copied() else { return false };
            let reported = sent.reported(|copy| self.controller.reported(copy));
            let size = DataSize::bytes(sent.size.into());
            let verdict = self.repairs.judge(now, held, (size, sent.transport()), reported);
            match verdict {
                Verdict::Wait => return true,
                Verdict::Arrived => stats.refuse_nack(NackRefusal::Arrived),
                Verdict::TooDear => stats.refuse_nack(NackRefusal::Budget),
                Verdict::Resend => {
                    let class = match subscription.kind {
                        MediaKind::Audio => PacketClass::AudioRtx,
                        MediaKind::Video => PacketClass::VideoRtx,
                    };
                    let what = What::Resend { number: held.number };
                    let item = Item { slot: held.slot, encoding: sent.encoding, serial: held.serial, what };
                    self.pacer.enqueue(now, class, item, size);
                    // A picture has waited for two round trips already, and stands if this is lost, too.
                    if sent.is_overdue() && self.repairs.pay_again(size) {
                        self.pacer.enqueue(now, class, item, size);
                    }
                }
            }
            subscription.sent.release(now, held.number, verdict == Verdict::Resend);
            false
        });
        self.repairs.put_held(held);
    }

    /// A report block on one of our streams.
    pub(crate) fn handle_report_block(&mut self, now: Instant, block: &ReportBlock, ntp: NtpTime) {
        let Some(&(slot, false)) = self.by_ssrc.get(&Ssrc(block.ssrc)) else { return };
        let fraction = f64::from(block.fraction_lost) / 256.0;
        let kind = self.get_mut(slot).map(|subscription| subscription.kind);
        if self.feedback == FeedbackKind::ReceiverSide && kind == Some(MediaKind::Audio) {
            self.redundancy.on_report(now, fraction);
            let packets = |share: f64| (share * f64::from(REPORTED)).round() as u32;
            let missed = fraction.powi(1 + i32::from(self.redundancy.get()));
            self.voice.count(Tally { sent: REPORTED, lost: packets(fraction), missed: packets(missed) });
        }
        let rtt = (block.last_sr != 0)
            .then(|| ntp.middle().wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr))
            .filter(|units| *units < 10 << 16)
            .map(|units| Duration::from_micros(u64::from(units) * 1_000_000 / 65_536));
        self.controller.on_receiver_report(now, fraction, rtt);
    }

    /// A transport-wide report. One that cannot be read changes nothing; the next comes soon.
    pub(crate) fn handle_transport_feedback(&mut self, now: Instant, fci: &[u8], stats: &mut Stats) {
        let read = self.controller.on_feedback(now, fci).is_ok();
        self.handle_acked(now, read, stats);
    }

    /// The same by stream.
    pub(crate) fn handle_stream_feedback(&mut self, now: Instant, body: &[u8], stats: &mut Stats) {
        let read = self.controller.on_stream_feedback(now, body).is_ok();
        self.handle_acked(now, read, stats);
    }

    fn handle_acked(&mut self, now: Instant, read: bool, stats: &mut Stats) {
        stats.refuse_feedback(self.controller.take_refused());
        if read {
            let path = self.controller.repair_path();
            self.repairs.handle_report(now, &path, |copy| self.controller.reported(copy));
            self.release_repairs(now, stats);
            let snapshot = self.controller.snapshot();
            let path = redundancy::Path { queue: snapshot.queue, delay: snapshot.queue_delay };
            self.redundancy.on_acked(now, self.controller.last_acked(), path);
            let (queue, rtt) = (snapshot.queue_delay, snapshot.rtt);
            self.playout.on_acked(now, self.controller.last_acked(), queue, rtt);
            let copies = self.redundancy.get();
            for acked in self.controller.last_acked() {
                match (acked.class, acked.arrival) {
                    (PacketClass::Audio, Some(_)) if acked.late => self.voice.repaired(),
                    (PacketClass::Audio, Some(_)) => self.voice.arrived(),
                    (PacketClass::Audio, None) => self.voice.lost(acked.sent, copies),
                    (PacketClass::AudioRtx, Some(_)) => self.voice.repaired(),
                    (
                        PacketClass::AudioRtx
                        | PacketClass::VideoRtx
                        | PacketClass::Video
                        | PacketClass::Padding,
                        _,
                    ) => {}
                }
            }
        }
        self.follow(now);
    }

    /// Ends a second of the sound that the client gets. Says whether what is to be said of it changed.
    pub(crate) fn judge_voice(&mut self) -> bool {
        let snapshot = self.controller.snapshot();
        self.voice.close_second(&voice::Conditions {
            sounds: self.audio > Bitrate::ZERO,
            rtt: snapshot.rtt,
            queue: snapshot.queue_delay,
            short: snapshot.target < self.audio,
            outage: self.controller.outage(),
        })
    }

    /// Divides what may be sent over the video tracks.
    pub(crate) fn allocate(
        &mut self,
        now: Instant,
        tracks: &[Option<Box<Track>>],
        speakers: &Speakers,
        changes: &mut Vec<Change>,
    ) {
        let (mut audio, mut block, mut expected) = (Bitrate::ZERO, Bitrate::ZERO, Bitrate::ZERO);
        let mut video = false;
        let mut asked: PerTrack<Asked> = SmallVec::new();
        for subscription in self.subscriptions.iter().flatten() {
            let Some(track) = tracks.get(subscription.track).and_then(Option::as_ref) else { continue };
            if !subscription.flows() || track.muted {
                continue;
            }
            match subscription.kind {
                MediaKind::Audio if track.alive(now) => {
                    audio = audio + track.price(0, 0);
                    if subscription.takes_redundancy(track) {
                        block = block + track.block_price();
                    }
                }
                MediaKind::Audio => {}
                MediaKind::Video => {
                    video |= !subscription.paused;
                    let demand = &subscription.demand;
                    let standing = speakers.standing(track.owner);
                    let priority = match (demand, standing) {
                        _ if self.policy.background => Priority::Hidden,
                        (d, _) if d.screen_share => Priority::Screen,
                        (d, _) if d.priority > 0 => Priority::Pinned,
                        (_, Standing::Main | Standing::Speaker) => Priority::Speaker,
                        (_, Standing::Listener(_)) => Priority::Visible,
                    };
                    let ceiling = self.policy_ceiling(track, demand);
                    expected = expected + track.expected(ceiling.spatial);
                    let steps = steps(now, track, ceiling.temporal);
                    asked.push(Asked { id: track.id, priority, standing, ceiling, steps });
                }
            }
        }
        self.audio = audio;
        let (target, rtt) = (self.controller.target(), self.controller.rtt());
        self.redundancy.update(now, &redundancy::Conditions { audio, block, target, video, rtt });
        let audio = audio + block.scale(f64::from(self.redundancy.get()));
        let crowd = asked.len() >= CROWD;
        let wanted: PerTrack<congestion::Track<'_>> = asked.iter().map(|asked| asked.wanted(crowd)).collect();
        let allocation = self.controller.allocate(now, audio, &wanted, expected);
        for choice in &allocation.choices {
            let same = |s: &&mut Box<Subscription>| s.track_id == choice.track;
            let Some(subscription) = self.subscriptions.iter_mut().flatten().find(same) else { continue };
            let short = matches!(choice.reason, Reason::Budget | Reason::Settling);
            if choice.layer.is_some() || short || self.policy.background {
                subscription.selector.set_target(choice.layer);
            }
            subscription.paused = choice.paused || (choice.layer.is_none() && self.policy.background);
            if subscription.paused && !std::mem::replace(&mut subscription.told_paused, true) {
                changes.push(Change::Paused(choice.track));
            }
        }
        self.pacer.follow(now, self.controller.pacing(now));
        self.wanted_keyframes(tracks, changes);
    }

    /// The best layer that the subscriber has a use for, and its client wants to pay for.
    fn policy_ceiling(&self, track: &Track, demand: &Demand) -> LayerId {
        let mut ceiling = ceiling(track, demand);
        if self.policy.data_saver {
            ceiling.temporal = ceiling.temporal.min(half_rate(track));
        }
        ceiling
    }

    /// Which encodings some subscription waits for.
    pub(crate) fn wanted_keyframes(&self, tracks: &[Option<Box<Track>>], changes: &mut Vec<Change>) {
        for subscription in self.subscriptions.iter().flatten() {
            let muted =
                tracks.get(subscription.track).and_then(Option::as_ref).is_none_or(|track| track.muted);
            if subscription.flows()
                && !muted
                && subscription.kind == MediaKind::Video
                && let Some(encoding) = subscription.selector.wants_keyframe()
            {
                changes.push(Change::Keyframe(subscription.track, encoding));
            }
        }
    }

    /// Share of the wanted video steps that is being sent.
    pub(crate) fn served(&self) -> f32 {
        let allocation = self.controller.allocation();
        if allocation.wanted == Bitrate::ZERO {
            return 1.0;
        }
        (allocation.total.as_bps() as f32 / allocation.wanted.as_bps() as f32).min(1.0)
    }

    /// A track that was told to be paused, and flows again.
    pub(crate) fn poll_resumed(&mut self) -> Option<TrackId> {
        self.resumed.pop()
    }

    /// Forgets what waits of a track: it is disabled, muted or switched off.
    pub(crate) fn clear(&mut self, slot: u16) {
        self.pacer.clear_track(TrackSlot(slot));
        if let Some(subscription) = self.get_mut(slot) {
            subscription.interrupt();
        }
    }

    /// The same for all that waits, sound and repairs included.
    pub(crate) fn clear_all(&mut self) {
        self.pacer.clear();
        self.subscriptions.iter_mut().flatten().for_each(|subscription| subscription.interrupt());
    }

    /// What is sent from now on goes over another path. Where what was under way is lost, pictures begin anew.
    pub(crate) fn handle_path_change(&mut self, now: Instant) {
        if !self.controller.on_path_change(now) {
            return;
        }
        for slot in 0..self.subscriptions.len() {
            if self.subscriptions[slot].as_ref().is_some_and(|s| s.kind == MediaKind::Video) {
                self.clear(slot as u16);
            }
        }
    }

    /// What was sent waits for the network, or does no longer.
    pub(crate) fn handle_backlog(&mut self, waits: bool) {
        self.pacer.stop_video(waits);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, stats: &mut Stats) {
        self.controller.handle_timeout(now);
        self.release_repairs(now, stats);
        self.pacer.follow(now, self.controller.pacing(now));
    }

    /// The controller learned something: the pacer follows.
    pub(crate) fn follow(&mut self, now: Instant) {
        self.pacer.follow(now, self.controller.pacing(now));
    }

    /// When to call [`Downlink::handle_timeout`].
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.controller.next_timeout(), self.repairs.next_timeout()].into_iter().flatten().min()
    }

    /// When to call [`Downlink::flush`].
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.pacer.next_timeout()
    }

    /// Whether its deadline takes into account already that something is under way: what leaves does not change it.
    pub(crate) fn expects_news(&self) -> bool {
        self.controller.awaits_report() && !self.pacer.probing()
    }

    /// Sends what may leave now. Says whether the allocator must run: the pacer could not keep up.
    pub(crate) fn flush(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        tracks: &[Option<Box<Track>>],
        wall: &WallClock,
        egress: &mut Egress,
        stats: &mut Stats,
    ) -> bool {
        let Some(path) = connection.path() else { return false };
        let ntp = wall.ntp(now);
        while let Some(departure) = self.pacer.next(now) {
            match departure {
                Departure::Packet { item, class, size: _, cluster } => {
                    let run = egress.open_run(path);
                    let out = egress.space();
                    if let Some(len) =
                        self.build(now, item, class, cluster, run, connection, tracks, ntp, out, stats)
                    {
                        egress.commit(path, len);
                    }
                }
                Departure::Padding { size, cluster } => {
                    let out = egress.space();
                    let made = self.build_padding(now, size, cluster, connection, tracks, ntp, out);
                    let len = made.unwrap_or(0);
                    let wire = if len == 0 { 0 } else { len + IP_UDP };
                    self.pacer.padding_made(size, DataSize::bytes(wire as u64));
                    if len > 0 {
                        stats.padding.count(len);
                        egress.commit(path, len);
                    }
                }
            }
        }
        let mut overshoot = false;
        while let Some(event) = self.pacer.poll_event() {
            overshoot = true;
            if let PacerEvent::Flushed(TrackSlot(slot)) = event
                && let Some(subscription) = self.get_mut(slot)
            {
                subscription.interrupt();
            }
        }
        overshoot
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one peer, borrowed apart")]
    fn build(
        &mut self,
        now: Instant,
        item: Item,
        class: PacketClass,
        cluster: Option<congestion::ClusterId>,
        run: Option<usize>,
        connection: &mut Connection,
        tracks: &[Option<Box<Track>>],
        ntp: NtpTime,
        out: &mut [u8; MAX_DATAGRAM],
        stats: &mut Stats,
    ) -> Option<usize> {
        let subscription = self.subscriptions.get_mut(usize::from(item.slot))?.as_deref_mut()?;
        if subscription.serial != item.serial {
            return None;
        }
        let track = tracks.get(subscription.track)?.as_deref()?;
        let encoding = track.encodings.get(usize::from(item.encoding));
        let numbered = subscription.format.as_ref()?.numbered();
        let next = numbered.then(|| self.controller.peek_number());
        let playout = match subscription.kind {
            MediaKind::Video => self.playout.value(now),
            MediaKind::Audio => None,
        };
        let stamp = Stamp { transport_cc: next, ntp, playout };
        let plain = match item.what {
            What::Media { seq, marker, switch } => {
                let encoding = encoding?;
                let Some(packet) = encoding.cache.get(seq) else {
                    stats.drop(DropReason::Evicted);
                    return None;
                };
                let numbers = subscription.number(track, item.encoding, &packet, switch)?;
                let red = packet.meta.payload_type != 0 && track.is_red(packet.meta.payload_type);
                let codec = if red { Codec::Red } else { track.codec.codec };
                let level = self.redundancy.get();
                let earlier = subscription.earlier(track, &encoding.cache, &packet, level);
                let len = subscription.write(out, &packet, &earlier, codec, &numbers, marker, stamp)?;
                stats.redundant += u64::from(!earlier.blocks().is_empty());
                let size = (len + IP_UDP) as u16;
                subscription.sent.insert(now, numbers, item.encoding, seq, marker, size, next);
                stats.observe_delay(now.saturating_duration_since(packet.meta.arrival));
                if subscription.told_paused && !subscription.paused {
                    subscription.told_paused = false;
                    self.resumed.push(subscription.track_id);
                }
                len
            }
            What::Resend { number } => {
                let sent = *subscription.sent.get(number)?;
                if sent.reported(|copy| self.controller.reported(copy)) == Reported::Arrived {
                    stats.refuse_nack(NackRefusal::Arrived);
                    return None; // while it waited here
                }
                let Some(packet) = encoding?.cache.get(sent.source) else {
                    stats.drop(DropReason::Evicted);
                    return None;
                };
                stats.retransmissions.1 += 1;
                subscription.sent.resent(now, number, next);
                subscription.write_retransmission(out, &packet, &sent.numbers, sent.marker, stamp)?
            }
            What::Filler { number } => subscription.write_filler(out, number, stamp)?,
        };
        let kind = subscription.kind;
        let plain = match kind {
            MediaKind::Video => equalise(out, plain, run, connection.rtp_overhead()),
            MediaKind::Audio => plain,
        };
        let len = connection.protect_rtp(out, plain)?;
        stats.sent.of(kind).count(len);
        self.sent_media = true;
        self.record(now, &out[..len], class, cluster, numbered);
        Some(len)
    }

    /// An old packet sent again, or padding: something to probe with.
    #[expect(clippy::too_many_arguments, reason = "the parts of one peer, borrowed apart")]
    fn build_padding(
        &mut self,
        now: Instant,
        size: DataSize,
        cluster: Option<congestion::ClusterId>,
        connection: &mut Connection,
        tracks: &[Option<Box<Track>>],
        ntp: NtpTime,
        out: &mut [u8; MAX_DATAGRAM],
    ) -> Option<usize> {
        let stamp = Stamp { transport_cc: Some(self.controller.peek_number()), ntp, playout: None };
        let usable = |s: &&mut Box<Subscription>| {
            s.kind == MediaKind::Video
                && s.format.as_ref().is_some_and(|f| f.numbered() && f.rtx_payload_type.is_some())
        };
        let subscription = self.subscriptions.iter_mut().flatten().find(usable)?;
        let track = tracks.get(subscription.track)?.as_deref()?;
        // Large packets probe best: small ones would need too many. But what only keeps reports coming must be small, or it
        // fills the queue that video waits for to drain.
        let most = (size.as_bytes() as usize).saturating_sub(IP_UDP);
        let fits = most / 2..=most;
        let skip = self.probe_at;
        let candidate = subscription.sent.recent().skip(skip).take(32).enumerate().find_map(|(at, sent)| {
            let packet = track.encodings.get(usize::from(sent.encoding))?.cache.get(sent.source)?;
            fits.contains(&packet.payload.len()).then_some((at, *sent, packet))
        });
        let plain = if let Some((at, sent, packet)) = candidate {
            self.probe_at = (skip + at + 1) % 128;
            subscription.write_retransmission(out, &packet, &sent.numbers, sent.marker, stamp)?
        } else {
            self.probe_at = 0;
            subscription.write_padding(out, size.as_bytes() as usize, stamp)?
        };
        let len = connection.protect_rtp(out, plain)?;
        self.record(now, &out[..len], PacketClass::Padding, cluster, true);
        Some(len)
    }

    fn record(
        &mut self,
        now: Instant,
        packet: &[u8],
        class: PacketClass,
        cluster: Option<congestion::ClusterId>,
        numbered: bool,
    ) {
        let size = DataSize::bytes((packet.len() + IP_UDP) as u64);
        if matches!(class, PacketClass::Audio | PacketClass::Video) {
            self.repairs.earn(size);
        }
        if numbered {
            if let Some(name) = rtp::name(packet) {
                self.controller.name_next(now, name);
            }
            self.controller.on_sent(now, size, class, cluster);
        } else {
            self.controller.on_sent_unnumbered(now, size);
        }
    }
}

/// One video of a subscriber, before all are divided over.
struct Asked {
    id: TrackId,
    priority: Priority,
    standing: Standing,
    ceiling: LayerId,
    steps: Steps,
}

impl Asked {
    /// In a crowd it matters who speaks and who spoke.
    fn wanted(&self, crowd: bool) -> congestion::Track<'_> {
        let rank = match (self.priority, self.standing) {
            (Priority::Visible, Standing::Listener(rank)) if crowd => rank,
            _ => 0,
        };
        let main = match self.priority {
            Priority::Pinned => crowd,
            Priority::Speaker => crowd && self.standing == Standing::Main,
            Priority::Screen | Priority::Visible | Priority::Hidden => false,
        };
        let middle = |step: &&Step| main && step.layer.spatial == MAIN_SPEAKER;
        let base = self.steps.iter().find(middle).map_or(LayerId::default(), |step| step.layer);
        congestion::Track {
            id: self.id,
            priority: self.priority,
            rank,
            base,
            ceiling: self.ceiling,
            steps: &self.steps,
        }
    }
}

/// Brings a packet to the size of those before it in its run, so that it can go along with them and others with it, or
/// to one that the next can have too: the packets of a frame differ by a byte or an extension. Costs 2 % at most.
fn equalise(out: &mut [u8], plain: usize, run: Option<usize>, overhead: usize) -> usize {
    const STEP: usize = 8;
    let most = plain / 50;
    let wanted = match run.and_then(|segment| segment.checked_sub(overhead)) {
        Some(wanted) if wanted >= plain => wanted,
        Some(_) | None => (plain + overhead).next_multiple_of(STEP) - overhead,
    };
    if wanted - plain <= most { rtp::pad(out, plain, wanted) } else { plain }
}

/// The best layer that the subscriber has a use for.
fn ceiling(track: &Track, demand: &Demand) -> LayerId {
    let spatial = match (track.layout, demand.size) {
        (Layout::Simulcast, Some(size)) => {
            let sizes: SmallVec<[(u32, u32); 4]> =
                track.encodings.iter().map(crate::track::Encoding::size).collect();
            // Until sizes are known, the ranks stand for themselves.
            if sizes.contains(&(0, 0)) { u8::MAX } else { ceiling_for(&sizes, size) }
        }
        (_, Some(_)) => u8::MAX,
        // Ranks count from the lowest of three; with fewer encodings the highest rank is still the best.
        (Layout::Simulcast | Layout::Svc, None) => demand.max_spatial,
    };
    let temporal = match demand.fps {
        Some(fps) => {
            let full = track.encodings.last().map_or(0.0, |encoding| encoding.meter.fps());
            let mut temporal = track.encodings.last().map_or(0, |encoding| encoding.meter.highest_temporal());
            let mut rate = full;
            while temporal > 0 && rate / 2.0 >= f64::from(fps) {
                rate /= 2.0;
                temporal -= 1;
            }
            temporal
        }
        None => u8::MAX,
    };
    LayerId { spatial, temporal }
}

/// As many as three encodings of three temporal layers have.
type Steps = SmallVec<[Step; 9]>;

/// The temporal layer that has half of the frames, the highest one where there are no layers.
fn half_rate(track: &Track) -> u8 {
    track
        .encodings
        .iter()
        .map(|encoding| encoding.meter.highest_temporal())
        .max()
        .map_or(0, |t| t.saturating_sub(1))
}

/// A spatial layer has about a third of the next one's rate.
fn svc_price(track: &Track, layer: LayerId) -> Bitrate {
    let below = track.svc_spatial.saturating_sub(layer.spatial);
    track.price(0, layer.temporal).scale(1.0 / 3_f64.powi(i32::from(below)))
}

/// What can be had of a track, cheapest first; `temporal` is the highest temporal layer of use, which is offered even
/// where it has fewer frames than look like motion.
fn steps(now: Instant, track: &Track, temporal: u8) -> Steps {
    let mut steps = Steps::new();
    let temporals = |meter: &LayerMeter| meter.least_temporal().min(temporal)..=meter.highest_temporal();
    let any_flows = track.encodings.iter().any(|encoding| track.flows(now, encoding));
    match track.layout {
        Layout::Simulcast => {
            for (index, encoding) in track.encodings.iter().enumerate() {
                if any_flows && !track.flows(now, encoding) {
                    continue;
                }
                for temporal in temporals(&encoding.meter) {
                    let layer = LayerId { spatial: index as u8, temporal };
                    steps.push(Step { layer, price: track.price(index as u8, temporal) });
                }
            }
        }
        Layout::Svc => {
            let temporal = track.encodings.first().map_or(0..=0, |encoding| temporals(&encoding.meter));
            for spatial in 0..=track.svc_spatial {
                for temporal in temporal.clone() {
                    let layer = LayerId { spatial, temporal };
                    steps.push(Step { layer, price: svc_price(track, layer) });
                }
            }
        }
    }
    steps
}
