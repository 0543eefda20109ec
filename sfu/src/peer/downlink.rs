//! What a client gets: its subscriptions, one pacer and one congestion control for all of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::connection::Connection;
use super::subscription::{Stamp, Subscription};
use crate::command::{DownlinkPolicy, MediaKind};
use crate::congestion::allocate::Reason;
use crate::congestion::{
    self, Config, Controller, Departure, Enqueued, FeedbackKind, Frame, Pacer, PacerEvent, PacketClass,
    PerTrack, Priority, Step, TrackSlot, ceiling_for,
};
use crate::egress::{Egress, MAX_DATAGRAM};
use crate::forward::redundancy;
use crate::forward::select::Layout;
use crate::forward::sent::Answer;
use crate::ids::{LayerId, SeqNo, Ssrc, TrackId};
use crate::stats::{DropReason, Stats};
use crate::track::{Ingested, Track};
use crate::units::{Bitrate, DataSize, NtpTime, WallClock};
use crate::uplink::meter::LayerMeter;
use crate::wire::description::Codec;
use crate::wire::rtcp::ReportBlock;

/// IPv4 and UDP headers; IPv6 has 20 more, which nobody misses in an estimate.
const IP_UDP: usize = 28;
/// Subscriptions of one client at most, that of the pacer's slots.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 1024;

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

/// What the allocator changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Paused(TrackId, bool),
    /// A keyframe of this track's encoding is needed.
    Keyframe(usize, u8),
}

/// See the module's page.
pub(crate) struct Downlink {
    pub(crate) subscriptions: Vec<Option<Box<Subscription>>>,
    by_ssrc: HashMap<Ssrc, (u16, bool)>,
    pub(crate) controller: Controller,
    redundancy: redundancy::Level,
    pacer: Pacer<Item>,
    feedback: FeedbackKind,
    policy: DownlinkPolicy,
    serial: u32,
    /// The caller's mark that this downlink is in its list of those to be flushed.
    pub(crate) queued: bool,
    /// Probing with old packets: how many back in the log the next one is.
    probe_at: usize,
    pub(crate) sent_media: bool,
}

impl Downlink {
    pub(crate) fn new(now: Instant) -> Self {
        let controller = Controller::new(now, Config::default());
        let pacer = Pacer::new(now, controller.pacing(now));
        Downlink {
            subscriptions: Vec::new(),
            by_ssrc: HashMap::new(),
            controller,
            redundancy: redundancy::Level::default(),
            pacer,
            feedback: FeedbackKind::TransportWide,
            policy: DownlinkPolicy::default(),
            serial: 0,
            queued: false,
            probe_at: 0,
            sent_media: false,
        }
    }

    /// Takes a free slot; `None` at the cap.
    pub(crate) fn insert(&mut self, make: impl FnOnce(u32) -> Subscription) -> Option<u16> {
        let slot = match self.subscriptions.iter().position(Option::is_none) {
            Some(slot) => slot,
            None if self.subscriptions.len() < MAX_SUBSCRIPTIONS => {
                self.subscriptions.push(None);
                self.subscriptions.len() - 1
            }
            None => return None,
        };
        self.serial = self.serial.wrapping_add(1);
        let subscription = make(self.serial);
        self.by_ssrc.insert(subscription.ssrc, (slot as u16, false));
        self.by_ssrc.insert(subscription.rtx_ssrc, (slot as u16, true));
        self.subscriptions[slot] = Some(Box::new(subscription));
        Some(slot as u16)
    }

    pub(crate) fn find(&self, track: TrackId) -> Option<u16> {
        let same = |s: &Option<Box<Subscription>>| s.as_ref().is_some_and(|s| s.track_id == track);
        self.subscriptions.iter().position(same).map(|slot| slot as u16)
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

    /// Elements in all queues and maps.
    #[cfg(feature = "null-cipher")]
    pub(crate) fn held(&self) -> usize {
        self.subscriptions.len() + self.by_ssrc.len() + self.pacer.queued()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().flatten().map(AsRef::as_ref)
    }

    /// The subscription that an SSRC of ours belongs to.
    pub(crate) fn by_ssrc(&mut self, ssrc: Ssrc) -> Option<&mut Subscription> {
        let (slot, _) = *self.by_ssrc.get(&ssrc)?;
        self.get_mut(slot)
    }

    /// Whether the client reports on what it gets packet by packet.
    pub(crate) fn set_feedback(&mut self, now: Instant, kind: FeedbackKind) {
        if self.feedback != kind {
            self.feedback = kind;
            self.controller = Controller::new(now, Config { feedback: kind, ..Config::default() });
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

    /// Queues a packet that has just come, if the subscription takes it. Says whether that starts another encoding.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        slot: u16,
        track: &Track,
        encoding: u8,
        packet: &Ingested,
        stats: &mut Stats,
    ) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(usize::from(slot)).and_then(Option::as_mut)
        else {
            return false;
        };
        if !subscription.flows() {
            return false;
        }
        let before = subscription.layer();
        let selected = subscription.select(encoding, packet);
        if packet.late
            && let Some(number) = subscription.settle_late(packet.seq, selected.is_some())
        {
            let item = Item { slot, encoding, serial: subscription.serial, what: What::Filler { number } };
            self.pacer.enqueue(now, PacketClass::VideoRtx, item, DataSize::bytes(80));
        }
        let Some((marker, switch)) = selected else { return false };
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
        if switch && let Some(before) = before {
            let after = subscription.layer().unwrap_or_default();
            match after.spatial.cmp(&before.spatial) {
                std::cmp::Ordering::Greater => stats.switches.0 += 1,
                std::cmp::Ordering::Less => {
                    stats.switches.1 += 1;
                    // The link is narrow, and the keyframe needs nothing of what was lost before it.
                    subscription.sent.forget();
                    let resend = |item: &Item| matches!(item.what, What::Resend { .. });
                    self.pacer.retain_repairs(|item| item.slot != slot || !resend(item));
                }
                std::cmp::Ordering::Equal => {}
            }
        }
        switch
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

    /// A NACK of the client: queues what it misses.
    pub(crate) fn handle_nack(
        &mut self,
        now: Instant,
        media: Ssrc,
        lost: impl Iterator<Item = u16>,
        stats: &mut Stats,
    ) {
        let Some(&(slot, false)) = self.by_ssrc.get(&media) else { return };
        let rtt = self.controller.rtt();
        let Some(subscription) = self.subscriptions[usize::from(slot)].as_deref_mut() else { return };
        if subscription.format.as_ref().is_none_or(|format| format.rtx_payload_type.is_none()) {
            return; // a plain repetition would look like a replay to SRTP
        }
        let class = match subscription.kind {
            MediaKind::Audio => PacketClass::AudioRtx,
            MediaKind::Video => PacketClass::VideoRtx,
        };
        for number in lost.take(512) {
            stats.nacks.0 += 1;
            if let Answer::Resend(sent) = subscription.sent.handle_nack(now, rtt, number) {
                let what = What::Resend { number };
                let item = Item { slot, encoding: sent.encoding, serial: subscription.serial, what };
                self.pacer.enqueue(now, class, item, DataSize::bytes(1200));
            }
        }
    }

    /// A report block on one of our streams.
    pub(crate) fn handle_report_block(&mut self, now: Instant, block: &ReportBlock, ntp: NtpTime) {
        let Some(&(slot, false)) = self.by_ssrc.get(&Ssrc(block.ssrc)) else { return };
        let fraction = f64::from(block.fraction_lost) / 256.0;
        let kind = self.get_mut(slot).map(|subscription| subscription.kind);
        if self.feedback == FeedbackKind::ReceiverSide && kind == Some(MediaKind::Audio) {
            self.redundancy.on_report(now, fraction);
        }
        let rtt = (block.last_sr != 0)
            .then(|| ntp.middle().wrapping_sub(block.last_sr).wrapping_sub(block.delay_since_last_sr))
            .filter(|units| *units < 10 << 16)
            .map(|units| Duration::from_micros(u64::from(units) * 1_000_000 / 65_536));
        self.controller.on_receiver_report(now, fraction, rtt);
    }

    /// A transport-wide report. One that cannot be read changes nothing; the next comes soon.
    pub(crate) fn handle_transport_feedback(&mut self, now: Instant, fci: &[u8]) {
        if self.controller.on_feedback(now, fci).is_ok() {
            let snapshot = self.controller.snapshot();
            let path = redundancy::Path { queue: snapshot.queue, delay: snapshot.queue_delay };
            self.redundancy.on_acked(now, self.controller.last_acked(), path);
        }
        self.follow(now);
    }

    /// Divides what may be sent over the video tracks.
    pub(crate) fn allocate(
        &mut self,
        now: Instant,
        tracks: &[Option<Box<Track>>],
        changes: &mut Vec<Change>,
    ) {
        let (mut audio, mut block, mut expected) = (Bitrate::ZERO, Bitrate::ZERO, Bitrate::ZERO);
        let mut video = false;
        let mut asked: PerTrack<(TrackId, Priority, LayerId, Steps)> = SmallVec::new();
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
                    let priority = match demand {
                        _ if self.policy.background => Priority::Hidden,
                        d if d.screen_share => Priority::Screen,
                        d if d.priority > 0 => Priority::Speaker,
                        _ => Priority::Visible,
                    };
                    let mut ceiling = ceiling(track, demand);
                    if self.policy.data_saver {
                        ceiling.temporal = ceiling.temporal.min(half_rate(track));
                    }
                    expected = expected + track.expected(ceiling.spatial);
                    asked.push((track.id, priority, ceiling, steps(now, track, ceiling.temporal)));
                }
            }
        }
        let (target, rtt) = (self.controller.target(), self.controller.rtt());
        self.redundancy.update(now, &redundancy::Conditions { audio, block, target, video, rtt });
        let audio = audio + block.scale(f64::from(self.redundancy.get()));
        let wanted: PerTrack<congestion::Track<'_>> = asked
            .iter()
            .map(|(id, priority, ceiling, steps)| congestion::Track {
                id: *id,
                priority: *priority,
                ceiling: *ceiling,
                steps,
            })
            .collect();
        let allocation = self.controller.allocate(now, audio, &wanted, expected);
        for choice in &allocation.choices {
            let same = |s: &&mut Box<Subscription>| s.track_id == choice.track;
            let Some(subscription) = self.subscriptions.iter_mut().flatten().find(same) else { continue };
            let short = matches!(choice.reason, Reason::Budget | Reason::Settling);
            let paused = choice.layer.is_none() && (short || self.policy.background);
            if choice.layer.is_some() || paused {
                subscription.selector.set_target(choice.layer);
            }
            if paused != subscription.paused {
                subscription.paused = paused;
                changes.push(Change::Paused(choice.track, paused));
            }
        }
        self.pacer.follow(now, self.controller.pacing(now));
        self.wanted_keyframes(tracks, changes);
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

    /// Forgets what waits of a track: it is disabled, muted or switched off.
    pub(crate) fn clear(&mut self, slot: u16) {
        self.pacer.clear_track(TrackSlot(slot));
        if let Some(subscription) = self.get_mut(slot) {
            subscription.interrupt();
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.controller.handle_timeout(now);
        self.pacer.follow(now, self.controller.pacing(now));
    }

    /// The controller learned something: the pacer follows.
    pub(crate) fn follow(&mut self, now: Instant) {
        self.pacer.follow(now, self.controller.pacing(now));
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.controller.next_timeout(), self.pacer.next_timeout()].into_iter().flatten().min()
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
                    let out = egress.space();
                    if let Some(len) =
                        self.build(now, item, class, cluster, connection, tracks, ntp, out, stats)
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
        let encoding = track.encodings.get(usize::from(item.encoding))?;
        let numbered = subscription.format.as_ref()?.transport_cc;
        let next = numbered.then(|| self.controller.peek_number());
        let stamp = Stamp { transport_cc: next, ntp };
        let plain = match item.what {
            What::Media { seq, marker, switch } => {
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
                subscription.sent.insert(now, numbers, item.encoding, seq, marker);
                stats.observe_delay(now.saturating_duration_since(packet.meta.arrival));
                len
            }
            What::Resend { number } => {
                let sent = *subscription.sent.get(number)?;
                let Some(packet) = encoding.cache.get(sent.source) else {
                    stats.drop(DropReason::Evicted);
                    return None;
                };
                stats.retransmissions.1 += 1;
                subscription.write_retransmission(out, &packet, &sent.numbers, sent.marker, stamp)?
            }
            What::Filler { number } => subscription.write_filler(out, number, stamp)?,
        };
        let kind = subscription.kind;
        let len = connection.protect_rtp(out, plain)?;
        stats.sent.of(kind).count(len);
        self.sent_media = true;
        self.record(now, len, class, cluster, numbered);
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
        let stamp = Stamp { transport_cc: Some(self.controller.peek_number()), ntp };
        let usable = |s: &&mut Box<Subscription>| {
            s.kind == MediaKind::Video
                && s.format.as_ref().is_some_and(|f| f.transport_cc && f.rtx_payload_type.is_some())
        };
        let subscription = self.subscriptions.iter_mut().flatten().find(usable)?;
        let track = tracks.get(subscription.track)?.as_deref()?;
        // Large packets probe best: small ones would need too many.
        let least = (size.as_bytes() as usize / 2).saturating_sub(IP_UDP);
        let skip = self.probe_at;
        let candidate = subscription.sent.recent().skip(skip).take(32).enumerate().find_map(|(at, sent)| {
            let packet = track.encodings.get(usize::from(sent.encoding))?.cache.get(sent.source)?;
            (packet.payload.len() >= least).then_some((at, *sent, packet))
        });
        let plain = if let Some((at, sent, packet)) = candidate {
            self.probe_at = (skip + at + 1) % 128;
            subscription.write_retransmission(out, &packet, &sent.numbers, sent.marker, stamp)?
        } else {
            self.probe_at = 0;
            subscription.write_padding(out, stamp)?
        };
        let len = connection.protect_rtp(out, plain)?;
        self.record(now, len, PacketClass::Padding, cluster, true);
        Some(len)
    }

    fn record(
        &mut self,
        now: Instant,
        len: usize,
        class: PacketClass,
        cluster: Option<congestion::ClusterId>,
        numbered: bool,
    ) {
        let size = DataSize::bytes((len + IP_UDP) as u64);
        if numbered {
            self.controller.on_sent(now, size, class, cluster);
        } else {
            self.controller.on_sent_unnumbered(now, size);
        }
    }
}

/// The best layer that the subscriber has a use for.
fn ceiling(track: &Track, demand: &crate::command::Demand) -> LayerId {
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
            // A spatial layer has about a third of the next one's rate.
            for spatial in 0..=track.svc_spatial {
                let share = 1.0 / 3_f64.powi(i32::from(track.svc_spatial - spatial));
                for temporal in temporal.clone() {
                    let price = track.price(0, temporal).scale(share);
                    steps.push(Step { layer: LayerId { spatial, temporal }, price });
                }
            }
        }
    }
    steps
}
