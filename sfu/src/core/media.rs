//! Media and its control: from one client's packet to the others' pacers.

use std::time::Instant;

use smallvec::SmallVec;

use super::{REST, Sfu};
use crate::ahead;
use crate::command::{Event, LinkQuality, MediaKind, Path, TrackMedia, Way};
use crate::forward::keyframe::{KeyframeGate, Request};
use crate::ids::{LayerId, Ssrc};
use crate::peer::QUALITY_INTERVAL;
use crate::peer::downlink::{Change, Offered};
use crate::peer::subscription::Subscription;
use crate::peer::uplink::{PayloadKind, Stream};
use crate::stats::{DropReason, KeyframeRefusal};
use crate::track::Ingested;
use crate::wire::description::Codec;
use crate::wire::extension::Extensions;
use crate::wire::rtcp::{self, Packet};
use crate::wire::rtp::{RtpHeader, split_retransmission};

impl Sfu {
    pub(super) fn handle_rtp(&mut self, now: Instant, index: usize, path: Path, bytes: &mut [u8]) {
        if let Err(reason) = self.receive(now, index, path, bytes) {
            self.stats.drop(reason);
        }
    }

    fn receive(
        &mut self,
        now: Instant,
        index: usize,
        path: Path,
        bytes: &mut [u8],
    ) -> Result<(), DropReason> {
        let on_wire = bytes.len();
        let peer = self.peers[index].as_mut().ok_or(DropReason::UnknownSource)?;
        let len = peer.connection.unprotect_rtp(path, bytes)?;
        let packet = &bytes[..len];
        let header = RtpHeader::parse(packet).map_err(|_| DropReason::Malformed)?;
        let extensions = match &header.extension {
            Some((profile, body)) => {
                Extensions::read(&peer.uplink.extensions, *profile, &packet[body.clone()])
            }
            None => Extensions::default(),
        };
        if peer.uplink.feedback.on_received(now, &header, extensions.transport_cc, on_wire)
            && let Some(at) = peer.uplink.feedback.next_timeout()
        {
            self.timers.at_latest(index, at.max(now + REST));
        }
        peer.uplink.packets += 1;
        let (stream, kind, new) = peer.uplink.route(&header, &extensions, &self.tracks)?;
        let payload = &packet[header.payload()];
        let (codec, wire, payload, resent) = match kind {
            PayloadKind::Media(codec) => {
                peer.uplink.media_ssrc = header.ssrc;
                (codec, header.sequence_number, payload, false)
            }
            PayloadKind::Retransmission(codec) => match split_retransmission(payload) {
                Some((original, payload)) => {
                    self.stats.retransmissions.0 += 1;
                    (codec, original, payload, true)
                }
                // Padding on the retransmission stream: the publisher probes.
                None => return Ok(()),
            },
        };
        let track = self.tracks[stream.track].as_mut().ok_or(DropReason::UnknownStream)?;
        self.stats.received.of(track.kind).count(on_wire);
        if !resent && codec != track.codec.codec && codec != Codec::Red {
            self.change_codec(now, stream, header.payload_type);
        }
        if new && !resent {
            self.introduce(stream, header.ssrc);
        }
        let Some(track) = self.tracks[stream.track].as_mut() else { return Ok(()) };
        let ingested = track.ingest(now, stream.encoding, codec, &header, &extensions, wire, payload, resent);
        if let Some(encoding) = track.encodings.get(usize::from(stream.encoding))
            && let Some(at) = encoding.nack.next_timeout()
        {
            self.timers.at_latest(index, at.max(now + REST));
        }
        let Some(packet) = ingested else { return Ok(()) };
        let recovered = track.take_recovered();
        if track.muted {
            return Err(DropReason::Muted);
        }
        if track.encodings.len() > 1 && track.take_stop(now) {
            for (subscriber, _) in track.subscribers.clone() {
                self.allocate(now, subscriber);
            }
        }
        for (seq, late) in recovered.into_iter().flatten() {
            let track = self.tracks[stream.track].as_ref();
            let cache =
                track.and_then(|track| Some(&track.encodings.get(usize::from(stream.encoding))?.cache));
            let cached = cache.and_then(|cache| cache.get(seq));
            if let Some(earlier) = cached.map(|cached| Ingested { late, ..Ingested::again(&cached) }) {
                self.stats.recovered += 1;
                self.forward(now, stream, &earlier);
            }
        }
        if packet.reshaped {
            // Before it is forwarded: it may begin the keyframe that somebody waits for.
            self.allocate_for(now, stream.track);
        }
        self.forward(now, stream, &packet);
        self.tell_first_media(index);
        Ok(())
    }

    /// Offers a packet to every subscriber of its track.
    fn forward(&mut self, now: Instant, stream: Stream, packet: &Ingested) {
        let Some(track) = self.tracks[stream.track].as_ref() else { return };
        let mut watched = false;
        for (at, &(subscriber, slot)) in track.subscribers.iter().enumerate() {
            if at.is_multiple_of(ahead::GROUP) {
                for &(subscriber, slot) in track.subscribers[at..].iter().take(ahead::GROUP) {
                    if let Some(peer) = &self.peers[subscriber] {
                        peer.downlink.ahead_of_offer(slot);
                    }
                }
            }
            let Some(peer) = self.peers[subscriber].as_mut() else { continue };
            let offered = peer.downlink.offer(now, slot, track, stream.encoding, packet, &mut self.stats);
            watched |= offered != Offered::Declined;
            if offered == Offered::Switched {
                // Of a keyframe whose first packet came late, the rest is here already.
                let encoding = &track.encodings[usize::from(stream.encoding)];
                let highest = encoding.reception.highest().unwrap_or(packet.seq);
                let rest =
                    (1..=highest.distance(packet.seq).clamp(0, 512) as u64).map(|step| packet.seq.plus(step));
                peer.downlink.offer_cached(now, slot, track, stream.encoding, rest, &mut self.stats);
            }
            if !std::mem::replace(&mut peer.downlink.queued, true) {
                self.dirty.push(subscriber);
            }
        }
        let track = self.tracks[stream.track].as_mut().filter(|_| watched);
        if let Some(encoding) = track.and_then(|t| t.encodings.get_mut(usize::from(stream.encoding))) {
            encoding.watched = Some(now);
        }
    }

    /// What can be had of a track is another now: its subscribers choose anew.
    fn allocate_for(&mut self, now: Instant, track: usize) {
        let mut at = 0;
        while let Some(&(subscriber, _)) = self.tracks[track].as_ref().and_then(|t| t.subscribers.get(at)) {
            self.allocate(now, subscriber);
            at += 1;
        }
    }

    /// The client sends another codec than the first of its section: subscribers must agree to that one.
    fn change_codec(&mut self, now: Instant, stream: Stream, payload_type: u8) {
        let Some(track) = self.tracks[stream.track].as_mut() else { return };
        let Some(owner) = self.peers[track.owner].as_ref() else { return };
        let payloads = &owner.uplink.sections[stream.section].receive.payloads;
        let Some(payload) = payloads.iter().find(|payload| payload.pt == payload_type) else { return };
        track.set_codec(payload.track_codec(track.kind, track.codec.red));
        let (layout, codec) = (track.layout, track.codec.clone());
        for (subscriber, slot) in track.subscribers.clone() {
            if let Some(peer) = self.peers[subscriber].as_mut() {
                if let Some(subscription) = peer.downlink.get_mut(slot) {
                    subscription.selector.set_layout(layout);
                    subscription.format = subscription.fed_format(&codec);
                }
                peer.downlink.clear(slot);
                peer.agreement.want(now);
                self.reschedule(now, subscriber);
            }
        }
    }

    /// A stream showed up for the first time.
    fn introduce(&mut self, stream: Stream, ssrc: Ssrc) {
        let Some(track) = self.tracks[stream.track].as_mut() else { return };
        if let Some(encoding) = track.encodings.get_mut(usize::from(stream.encoding)) {
            encoding.ssrc = Some(ssrc);
        }
        track.started = true;
        let media = TrackMedia {
            mid: track.mid,
            kind: track.kind,
            mime: track.codec.mime.clone(),
            layers: track.encodings.iter().map(|encoding| (encoding.rid, encoding.ssrc)).collect(),
        };
        self.events.push_back(Event::TrackMedia { track: track.id, media });
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, index: usize, path: Path, bytes: &mut [u8]) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        let len = match peer.connection.unprotect_rtcp(path, bytes) {
            Ok(len) => len,
            Err(reason) => {
                self.stats.drop(reason);
                return;
            }
        };
        self.stats.rtcp.0.count(bytes.len());
        let ntp = self.wall.ntp(now);
        for packet in rtcp::packets(&bytes[..len]) {
            let Some(peer) = self.peers[index].as_mut() else { return };
            match packet {
                Ok(Packet::SenderReport(ssrc, info, blocks)) => {
                    peer.uplink.handle_clock(info.ntp, ntp);
                    if let Some(stream) = peer.uplink.streams.get(&ssrc)
                        && let Some(track) = self.tracks[stream.track].as_mut()
                    {
                        track.handle_sender_report(now, stream.encoding, info.ntp, info.rtp);
                    }
                    blocks.for_each(|block| peer.downlink.handle_report_block(now, &block, ntp));
                }
                Ok(Packet::ReceiverReport(_, blocks)) => {
                    blocks.for_each(|block| peer.downlink.handle_report_block(now, &block, ntp));
                }
                Ok(Packet::Nack(media, lost)) => {
                    if peer.downlink.handle_nack(now, media, lost, &self.tracks, &mut self.stats) {
                        self.allocate(now, index);
                    }
                    self.mark_dirty(index);
                }
                Ok(Packet::Pli(media)) => self.handle_keyframe_request(now, index, media),
                Ok(Packet::Fir(entries)) => {
                    for media in entries.take(8) {
                        self.handle_keyframe_request(now, index, media);
                    }
                }
                Ok(Packet::Remb(bits)) => {
                    peer.downlink.controller.on_remb(now, crate::units::Bitrate::bps(bits));
                    peer.downlink.follow(now);
                    self.mark_dirty(index);
                }
                Ok(Packet::TransportCc(fci)) => {
                    peer.downlink.handle_transport_feedback(now, fci, &mut self.stats);
                    self.follow_report(now, index);
                }
                Ok(Packet::Ccfb(body)) => {
                    peer.downlink.handle_stream_feedback(now, body, &mut self.stats);
                    self.follow_report(now, index);
                }
                Ok(Packet::Bye(_) | Packet::Other(_)) => {}
                Err(_) => self.stats.drop(DropReason::Malformed),
            }
        }
        if let Some(at) = self.peers[index].as_ref().and_then(|peer| peer.downlink.next_timeout()) {
            self.timers.at_latest(index, at.max(now + REST));
        }
    }

    /// A subscriber's report was read: it may get something else now.
    fn follow_report(&mut self, now: Instant, index: usize) {
        let peer = self.peers[index].as_ref();
        if peer.is_some_and(|peer| peer.downlink.controller.allocation_due(now)) {
            self.allocate(now, index);
        }
        self.mark_dirty(index);
    }

    fn handle_keyframe_request(&mut self, now: Instant, index: usize, media: Ssrc) {
        self.stats.plis.0 += 1;
        let Some(peer) = self.peers[index].as_mut() else { return };
        let subscription = peer.downlink.by_ssrc(media).filter(|s| s.kind == MediaKind::Video);
        let Some(subscription) = subscription else {
            self.stats.refuse_pli(KeyframeRefusal::Unknown);
            return;
        };
        if let Request::Refused(reason) = subscription.requests.handle_request(now) {
            self.stats.refuse_pli(reason);
            return;
        }
        let Some(layer) = subscription.layer().or(subscription.selector.target()) else { return };
        let track = subscription.track;
        self.want_keyframe(now, track, self.encoding_of(track, layer));
    }

    fn encoding_of(&self, track: usize, layer: LayerId) -> u8 {
        match self.tracks[track].as_ref().map(|track| track.layout) {
            Some(crate::forward::select::Layout::Simulcast) => layer.spatial,
            _ => 0,
        }
    }

    /// A peer is about to have another path. There pictures begin with the lowest layer's keyframe, which is on its way from the
    /// publisher while the path is checked.
    pub(super) fn prepare_pictures(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_deref() else { return };
        let videos = peer.downlink.iter().filter(|s| s.kind == MediaKind::Video && s.flows());
        let tracks: SmallVec<[usize; 8]> = videos.map(|subscription| subscription.track).collect();
        for track in tracks {
            self.ask_gate(now, track, self.encoding_of(track, LayerId::default()), KeyframeGate::need);
        }
    }

    /// A peer has another path, and on the old one packets were lost in both directions. A receiver that waits for them
    /// may wait for seconds (libwebrtc: 3 s) before it asks for a keyframe.
    pub(super) fn refresh_pictures(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_deref() else { return };
        // The first path has none before it.
        let flowed = peer.downlink.sent_media || peer.uplink.packets > 0;
        if !flowed || !peer.connection.is_up() {
            return;
        }
        // What is waited for, or else what is shown.
        let needs = |subscription: &Subscription| {
            let shown = || Some(self.encoding_of(subscription.track, subscription.layer()?));
            let encoding = subscription.selector.wants_keyframe().or_else(shown)?;
            let track = self.tracks[subscription.track].as_ref()?;
            let last = track.encodings.get(usize::from(encoding))?.fresh_keyframe(now);
            // One that came just now, and of which nothing went over the old path, is as good.
            let serves = last.is_some_and(|(began, _)| subscription.sent_nothing_since(began));
            (!serves).then_some((subscription.track, encoding))
        };
        let videos = peer.downlink.iter().filter(|s| s.kind == MediaKind::Video && s.flows());
        let mut wanted: SmallVec<[(usize, u8); 8]> = videos.filter_map(needs).collect();
        let own = peer.uplink.tracks.iter().filter_map(|at| Some((*at, self.tracks[*at].as_ref()?)));
        for (at, track) in own.filter(|(_, track)| track.kind == MediaKind::Video) {
            let sent = track.encodings.iter().enumerate().filter(|(_, encoding)| encoding.ssrc.is_some());
            wanted.extend(sent.map(|(encoding, _)| (at, encoding as u8)));
        }
        for (track, encoding) in wanted {
            self.ask_gate(now, track, encoding, KeyframeGate::need_again);
        }
    }

    /// Asks the publisher for a keyframe, unless one is on its way.
    fn want_keyframe(&mut self, now: Instant, index: usize, encoding: u8) {
        self.ask_gate(now, index, encoding, |gate| gate.want(now));
    }

    fn ask_gate(&mut self, now: Instant, index: usize, encoding: u8, ask: impl FnOnce(&mut KeyframeGate)) {
        let Some(track) = self.tracks.get_mut(index).and_then(Option::as_mut) else { return };
        let owner = track.owner;
        let Some(encoding) = track.encodings.get_mut(usize::from(encoding)) else { return };
        ask(&mut encoding.gate);
        self.send_keyframe_request(now, index, owner);
    }

    /// Gives a subscriber that waits for a keyframe the last one, if it is fresh, else asks for another.
    fn need_keyframe(&mut self, now: Instant, subscriber: usize, index: usize, encoding: u8) {
        let Some(track) = self.tracks.get_mut(index).and_then(Option::as_mut) else { return };
        let owner = track.owner;
        let Some(source) = track.encodings.get_mut(usize::from(encoding)) else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        let Some(slot) = peer.downlink.find(track.id) else { return };
        let Some(subscription) = peer.downlink.get_mut(slot) else { return };
        match source.fresh_keyframe(now) {
            Some((began, numbers)) if subscription.sent_nothing_since(began) => {
                peer.downlink.offer_cached(now, slot, track, encoding, numbers, &mut self.stats);
            }
            _ => {
                // For them a keyframe is a burden; for nobody else it is.
                let upgrade = subscription.selector.wants_upgrade() && source.watched(now);
                if upgrade {
                    source.gate.need_upgrade(now);
                } else {
                    source.gate.need();
                }
                self.send_keyframe_request(now, index, owner);
            }
        }
    }

    fn send_keyframe_request(&mut self, now: Instant, index: usize, owner: usize) {
        self.send_feedback(now, owner);
        if let Some(peer) = self.peers[owner].as_mut() {
            let at = self.tracks[index].as_ref().and_then(|track| track.next_timeout(peer.rtt()));
            if let Some(at) = at {
                self.timers.at_latest(owner, at.max(now + REST));
            }
        }
    }

    /// What is due to a publisher: requests, and reports on what arrived.
    fn send_feedback(&mut self, now: Instant, owner: usize) {
        let Some(peer) = self.peers[owner].as_mut() else { return };
        let (tracks, lost) = (&mut self.tracks, &mut self.lost);
        peer.send_feedback(now, tracks, &self.wall, &mut self.egress, &mut self.stats, lost);
    }

    /// Runs the allocator of one subscriber and carries out what it says.
    pub(super) fn allocate(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        if !peer.connection.is_up() {
            return;
        }
        let Some(room) = self.rooms.get(&peer.room) else { return };
        let id = peer.id;
        let mut changes = std::mem::take(&mut self.changes);
        changes.clear();
        peer.downlink.allocate(now, &self.tracks, &room.speakers, &mut changes);
        if let Some(at) = peer.downlink.next_timeout() {
            self.timers.at_latest(index, at.max(now + REST));
        }
        for change in &changes {
            match *change {
                Change::Paused(track) => {
                    self.events.push_back(Event::SubscriptionPaused { peer: id, track, paused: true });
                }
                Change::Keyframe(track, encoding) => self.need_keyframe(now, index, track, encoding),
            }
        }
        self.changes = changes;
        self.mark_dirty(index);
    }

    pub(super) fn flush_peer(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_deref_mut() else { return };
        peer.downlink.queued = false;
        let expects = peer.downlink.expects_news();
        let overshoot = peer.downlink.flush(
            now,
            &mut peer.connection,
            &self.tracks,
            &self.wall,
            &mut self.egress,
            &mut self.stats,
        );
        while let Some(track) = peer.downlink.poll_resumed() {
            self.events.push_back(Event::SubscriptionPaused { peer: peer.id, track, paused: false });
        }
        let tick = peer.downlink.next_tick();
        self.flushes.set(index, tick.map(|at| if at > now { at } else { now + REST }));
        if !expects && let Some(at) = peer.downlink.next_timeout() {
            self.timers.at_latest(index, at.max(now + REST));
        }
        let first = peer.downlink.sent_media && !peer.first_media_told;
        if first {
            self.tell_first_media(index);
        }
        if overshoot {
            self.allocate(now, index);
        }
    }

    /// What a peer's media wants done at its time.
    pub(super) fn service_media(&mut self, now: Instant, index: usize) {
        self.send_feedback(now, index);
        let Some(peer) = self.peers[index].as_mut() else { return };
        if peer.connection.is_up() {
            peer.downlink.handle_timeout(now, &mut self.stats);
            if peer.report_due <= now {
                self.report(now, index);
                self.judge_voice(index);
            }
            let Some(peer) = self.peers[index].as_mut() else { return };
            if peer.downlink.controller.allocation_due(now) {
                self.allocate(now, index);
            }
            self.flush_peer(now, index);
        }
        self.tell_quality(now, index);
    }

    fn report(&mut self, now: Instant, index: usize) {
        // Taken out, so that the others' clocks can be looked up; nobody subscribes to itself.
        let Some(mut peer) = self.peers[index].take() else { return };
        let peers = &self.peers;
        let clock_offset = |owner: usize| peers.get(owner)?.as_ref()?.uplink.clock_offset;
        let (wall, tracks) = (&self.wall, &mut self.tracks);
        peer.send_reports(now, wall, tracks, clock_offset, &mut self.egress, &mut self.stats);
        peer.downlink.take_sample(now, &self.tracks);
        self.peers[index] = Some(peer);
    }

    /// Once a second: whether sound gets through, both ways.
    fn judge_voice(&mut self, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        let (up, down) = (peer.uplink.judge_voice(&mut self.tracks), peer.downlink.judge_voice());
        let faults =
            [(Way::Up, up, peer.uplink.voice.fault()), (Way::Down, down, peer.downlink.voice.fault())];
        for (way, _, fault) in faults.into_iter().filter(|(_, changed, _)| *changed) {
            self.events.push_back(Event::Voice { peer: peer.id, way, fault });
        }
    }

    fn tell_quality(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        if peer.quality_due > now {
            return;
        }
        peer.quality_due = now + QUALITY_INTERVAL;
        if !peer.connection.is_up() {
            return;
        }
        let snapshot = peer.downlink.controller.snapshot();
        let sent: u64 = peer.downlink.iter().map(|s| u64::from(s.packets)).sum();
        let counted = peer.uplink.packets + sent;
        let has_video = peer.downlink.iter().any(|s| s.kind == MediaKind::Video);
        let estimate = has_video.then_some(snapshot.target);
        if let Some(estimate) = estimate {
            self.stats.estimate.observe(estimate.as_bps() as f64);
        }
        let quality = LinkQuality {
            uplink_loss: peer.uplink.loss,
            downlink_loss: snapshot.loss as f32,
            rtt: Some(snapshot.rtt),
            estimate,
            served: peer.downlink.served(),
            active: counted != peer.counted,
        };
        peer.counted = counted;
        self.events.push_back(Event::Quality { peer: peer.id, quality });
    }
}
