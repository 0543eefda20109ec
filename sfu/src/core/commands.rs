//! What signalling orders: peers, tracks and subscriptions come, change and go.

use std::time::Instant;

use bytes::Bytes;

use super::{SPEAKER_WINDOW, Sfu};
use crate::command::{AddPeer, AnnouncedLayer, Demand, DownlinkPolicy, Event, MediaKind, NegotiationRole};
use crate::ids::{Mid, PeerId, TrackId};
use crate::peer::Peer;
use crate::peer::subscription::Subscription;
use crate::stats::ByKind;
use crate::track::Track;
use crate::transport::sctp::SendError;
use crate::wire::description::Codec;

impl Sfu {
    pub(super) fn add_peer(&mut self, now: Instant, add: AddPeer) {
        if self.peer_ids.contains_key(&add.peer) {
            return;
        }
        let (id, room) = (add.peer, add.room);
        let peer = Box::new(Peer::new(now, self.ticks(), add, &self.ice, &mut self.rng));
        let index = insert(&mut self.peers, peer);
        if let Some(peer) = &mut self.peers[index] {
            peer.downlink.controller.restrain(self.restraint.share(index));
        }
        self.peer_ids.insert(id, index);
        self.rooms.entry(room).or_default().peers.push(index);
        self.register_ufrags(index);
        self.count_members();
        self.reschedule(now, index);
    }

    pub(super) fn register_ufrags(&mut self, index: usize) {
        if let Some(peer) = &self.peers[index] {
            for ufrag in peer.connection.ice.local_ufrags() {
                self.by_ufrag.insert(ufrag.to_owned(), index);
            }
        }
    }

    pub(super) fn remove_peer(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        peer.connection.close(now, &mut self.egress);
        let tracks = peer.uplink.tracks.clone();
        for track in tracks {
            self.remove_track(now, track);
        }
        let Some(peer) = self.peers[index].take() else { return };
        for subscription in peer.downlink.iter() {
            if let Some(track) = self.tracks.get_mut(subscription.track).and_then(Option::as_mut) {
                track.subscribers.retain(|(subscriber, _)| *subscriber != index);
            }
        }
        self.peer_ids.remove(&peer.id);
        self.by_ufrag.retain(|_, owner| *owner != index);
        self.by_path.retain(|_, owner| *owner != index);
        self.claims.retain(|_, owner| *owner != index);
        self.dirty.retain(|other| *other != index);
        self.data_tracks.forget(index);
        self.data_packets.forget(index);
        self.timers.set(index, None);
        self.flushes.set(index, None);
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.peers.retain(|other| *other != index);
            room.speakers.forget(index);
            if room.peers.is_empty() {
                self.rooms.remove(&peer.room);
            }
        }
        self.count_members();
    }

    pub(super) fn bind_track(
        &mut self,
        now: Instant,
        peer: PeerId,
        mid: Mid,
        id: TrackId,
        layers: &[AnnouncedLayer],
        encrypted: bool,
    ) {
        let Some(&owner) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[owner].as_mut() else { return };
        let Some(at) = peer.uplink.section(mid) else { return };
        if self.track_ids.contains_key(&id) {
            return;
        }
        let section = &peer.uplink.sections[at];
        if let Some(old) = section.track {
            self.remove_track(now, old);
        }
        let Some(peer) = self.peers[owner].as_mut() else { return };
        let section = &peer.uplink.sections[at];
        let payloads = &section.receive.payloads;
        let red = payloads.iter().find(|payload| payload.codec == Codec::Red).map(|payload| payload.pt);
        let Some(main) = payloads.iter().find(|payload| payload.codec != Codec::Red) else { return };
        let codec = main.track_codec(section.kind, !encrypted);
        let rids = &section.receive.rids;
        let streams = section.receive.simulcast_ssrcs.len();
        let mut track = Track::new(id, owner, mid, section.kind, codec, rids, streams, layers);
        track.red_payload_type = red;
        // Of video a client that resends nothing has to be asked for a keyframe, which follows from asking in vain.
        track.nacks = section.kind == MediaKind::Video || section.receive.nacks;
        track.encrypted = encrypted;
        let room = peer.room;
        let index = insert(&mut self.tracks, Box::new(track));
        let Some(peer) = self.peers[owner].as_mut() else { return };
        peer.uplink.sections[at].track = Some(index);
        peer.uplink.tracks.push(index);
        self.track_ids.insert(id, index);
        if let Some(room) = self.rooms.get_mut(&room) {
            room.tracks.push(index);
        }
        self.speakers_due.get_or_insert(now + SPEAKER_WINDOW);
        self.count_members();
    }

    pub(super) fn remove_track(&mut self, now: Instant, index: usize) {
        let Some(track) = self.tracks[index].take() else { return };
        self.track_ids.remove(&track.id);
        for (subscriber, slot) in &track.subscribers {
            if let Some(peer) = self.peers[*subscriber].as_mut() {
                if !peer.downlink.refill(*slot, None, Demand::default()) {
                    peer.downlink.remove(*slot);
                    peer.agreement.want(now);
                }
                self.reschedule(now, *subscriber);
            }
        }
        if let Some(peer) = self.peers[track.owner].as_mut() {
            peer.uplink.unbind(index);
            if let Some(room) = self.rooms.get_mut(&peer.room) {
                room.tracks.retain(|other| *other != index);
            }
        }
        self.count_members();
    }

    pub(super) fn mute_track(&mut self, now: Instant, id: TrackId, muted: bool) {
        let Some(&index) = self.track_ids.get(&id) else { return };
        let Some(track) = self.tracks[index].as_mut() else { return };
        if track.muted == muted {
            return;
        }
        track.muted = muted;
        for (subscriber, slot) in track.subscribers.clone() {
            if let Some(peer) = self.peers[subscriber].as_mut() {
                peer.downlink.clear(slot);
                self.allocate(now, subscriber);
            }
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        peer: PeerId,
        id: TrackId,
        stream_id: String,
        label: String,
        demand: Demand,
    ) {
        let (Some(&subscriber), Some(&index)) = (self.peer_ids.get(&peer), self.track_ids.get(&id)) else {
            return;
        };
        let Some(track) = self.tracks[index].as_mut() else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        if peer.downlink.find(id).is_some() {
            return;
        }
        let rng = &mut self.rng;
        let made = peer
            .downlink
            .insert(now, |serial| Subscription::new(serial, index, track, (stream_id, label), demand, rng));
        let Some(slot) = made else { return };
        track.subscribers.push((subscriber, slot));
        peer.agreement.want(now);
        self.count_members();
        self.reschedule(now, subscriber);
    }

    pub(super) fn unsubscribe(&mut self, now: Instant, peer: PeerId, id: TrackId) {
        let Some(&subscriber) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        let Some(slot) = peer.downlink.find(id) else { return };
        if let Some(gone) = peer.downlink.remove(slot)
            && let Some(track) = self.tracks.get_mut(gone.track).and_then(Option::as_mut)
        {
            track.subscribers.retain(|other| *other != (subscriber, slot));
        }
        peer.agreement.want(now);
        self.count_members();
        self.allocate(now, subscriber);
        self.reschedule(now, subscriber);
    }

    pub(super) fn replace_track(
        &mut self,
        now: Instant,
        peer: PeerId,
        subscription: TrackId,
        track: TrackId,
    ) {
        let (Some(&subscriber), Some(&index)) = (self.peer_ids.get(&peer), self.track_ids.get(&track)) else {
            return;
        };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        let Some(slot) = peer.downlink.find(subscription) else { return };
        let Some(replaced) = peer.downlink.get_mut(slot) else { return };
        let (old, kind) = (replaced.track, replaced.kind);
        let Some(new) = self.tracks[index].as_mut() else { return };
        if replaced.feed.is_some() || old == index || new.kind != kind {
            return;
        }
        peer.downlink.replace(slot, index, new);
        new.subscribers.push((subscriber, slot));
        if let Some(old) = self.tracks.get_mut(old).and_then(Option::as_mut) {
            old.subscribers.retain(|other| *other != (subscriber, slot));
        }
        peer.agreement.want(now);
        self.allocate(now, subscriber);
        self.reschedule(now, subscriber);
    }

    pub(super) fn adjust(&mut self, now: Instant, peer: PeerId, id: TrackId, demand: Demand) {
        let Some(&subscriber) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        let Some(slot) = peer.downlink.find(id) else { return };
        let Some(subscription) = peer.downlink.get_mut(slot) else { return };
        let before = std::mem::replace(&mut subscription.demand, demand);
        if before.enabled != demand.enabled {
            peer.downlink.clear(slot);
        }
        self.allocate(now, subscriber);
    }

    pub(super) fn limit(&mut self, now: Instant, peer: PeerId, policy: DownlinkPolicy) {
        let Some(&subscriber) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        peer.downlink.set_policy(now, policy);
        self.allocate(now, subscriber);
        self.reschedule(now, subscriber);
    }

    pub(super) fn explain(&mut self, now: Instant, peer: PeerId, question: u64, history: u16) {
        let Some(&index) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[index].as_ref() else { return };
        let connected = peer.connection.is_up();
        let explanation = peer.downlink.explain(now, connected, &self.tracks, usize::from(history));
        let explanation = Box::new(explanation);
        self.events.push_back(Event::Explained { peer: peer.id, question, explanation });
    }

    pub(super) fn send_data(
        &mut self,
        now: Instant,
        peer: PeerId,
        label: &str,
        binary: bool,
        payload: &Bytes,
    ) {
        let Some(&index) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[index].as_mut() else { return };
        let sent = match &mut peer.connection.data {
            Some(data) => data.send(label, binary, payload),
            None => Err(SendError::NotOpen),
        };
        match sent {
            Ok(()) => peer.connection.pump(now, &mut self.egress),
            Err(SendError::NotOpen) => peer.pending_data.push(now, label, binary, payload),
            // A receiver that does not keep up loses messages, not the others' time.
            Err(SendError::TooLarge { .. } | SendError::Backlogged) => {
                tracing::debug!(peer = ?peer.id, label, bytes = payload.len(), "message not delivered");
            }
        }
        self.drain_connection(now, index);
    }

    pub(super) fn restart_ice(&mut self, now: Instant, peer: PeerId) {
        let Some(&index) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[index].as_mut() else { return };
        if peer.agreement.role == NegotiationRole::Offerer {
            peer.connection.ice.restart(&mut self.rng);
        }
        peer.agreement.renew(now);
        self.register_ufrags(index);
        self.reschedule(now, index);
    }

    /// Sets the counts of what there is now.
    pub(super) fn count_members(&mut self) {
        self.stats.rooms = self.rooms.len() as u64;
        self.stats.peers = self.peer_ids.len() as u64;
        self.stats.tracks = ByKind::default();
        self.stats.subscriptions = ByKind::default();
        for track in self.tracks.iter().flatten() {
            *self.stats.tracks.of(track.kind) += 1;
            *self.stats.subscriptions.of(track.kind) += track.subscribers.len() as u64;
        }
    }

    /// Tells once that packets cross a connection.
    pub(super) fn tell_first_media(&mut self, index: usize) {
        if let Some(peer) = self.peers[index].as_mut()
            && !std::mem::replace(&mut peer.first_media_told, true)
        {
            self.events.push_back(Event::FirstMedia { peer: peer.id });
        }
    }

    /// How many tracks of this kind have no section yet at an answerer.
    pub(super) fn homeless(&self, index: usize, kind: MediaKind) -> usize {
        let Some(peer) = &self.peers[index] else { return 0 };
        let waits = |s: &&Subscription| s.kind == kind && s.format.is_none() && !s.unsupported;
        let waiting = peer.downlink.iter().filter(waits);
        waiting.filter(|s| !peer.agreement.negotiation.has_section(s.name)).count()
    }
}

/// Puts a value into the first free place.
fn insert<T>(slots: &mut Vec<Option<T>>, value: T) -> usize {
    let index = slots.iter().position(Option::is_none).unwrap_or(slots.len());
    if index == slots.len() {
        slots.push(None);
    }
    slots[index] = Some(value);
    index
}
