//! Publishing: from the announcement of a track to the section that carries it, and its end.

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, MuteTrackRequest, TrackPublishedResponse, TrackSource, TrackType,
    TrackUnpublishedResponse, UpdateLocalAudioTrack, UpdateLocalVideoTrack,
    request_response::{Reason, Request},
};
use sfu::command::{Command, RemoteSection, TrackMedia};
use sfu::ids::{Mid, PeerId, TrackId};

use super::output::{Clock, Limit, Notice};
use super::participant::Seat;
use super::rights::may_publish;
use super::room::Room;
use super::sid;
use super::track::{self, AnnouncementError, Learned, Stage, Track, Waiting, all_known, match_sections};

/// The level from which clients know `track_unpublished`.
const KNOWS_UNPUBLISHED: i32 = 7;

impl Room {
    /// Answers at once, with `track_published` or with a refusal: clients wait for it before they send media.
    pub(super) fn add_track(&mut self, clock: Clock, seat: Seat, request: AddTrackRequest) {
        if !request.sid.is_empty() {
            return self.add_codec(clock, seat, request);
        }
        let Some(who) = self.people.get(&seat) else { return };
        if !may_publish(&who.permission, request.source, request.r#type) {
            let why = "publishing this is not permitted".to_owned();
            return self.refuse(seat, Reason::NotAllowed, why, Some(Request::AddTrack(request)));
        }
        let kind = match track::check(&request) {
            Ok(kind) => kind,
            Err(error) => {
                let reason = match error {
                    AnnouncementError::Unsupported(_) => Reason::UnsupportedType,
                    AnnouncementError::Size(_) => Reason::LimitExceeded,
                };
                return self.refuse(seat, reason, error.to_string(), Some(Request::AddTrack(request)));
            }
        };
        let of_cid = |stage: fn(&Stage) -> bool| {
            who.tracks
                .iter()
                .filter_map(|id| self.tracks.get(id))
                .find(|track| track.cids.first() == Some(&request.cid) && stage(&track.stage))
        };
        if let Some(known) = of_cid(|stage| matches!(stage, Stage::Pending)) {
            let known = known.id;
            return self.tell_published(seat, known);
        }
        if of_cid(|stage| matches!(stage, Stage::Queued)).is_some() {
            return;
        }
        let queued = of_cid(|stage| matches!(stage, Stage::Published { .. })).is_some();
        let limit = self.settings.limits.tracks_per_participant;
        if who.tracks.len() >= limit {
            self.notice(Notice::LimitHit(Limit::Tracks));
            let why = format!("a participant may have {limit} tracks");
            return self.refuse(seat, Reason::LimitExceeded, why, Some(Request::AddTrack(request)));
        }

        let id = TrackId(self.rng.u64(..));
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let r#type = TrackType::try_from(request.r#type).unwrap_or(TrackType::Video);
        let sid = sid::track(r#type, source, &mut self.rng);
        let mut track = Track::new(id, seat, sid.clone(), kind, request, clock.unix_ms);
        if queued {
            track.stage = Stage::Queued;
        }
        track.declare_alternatives(&mut self.rng);
        self.by_track_sid.insert(sid, id);
        self.tracks.insert(id, track);
        if let Some(who) = self.people.get_mut(&seat) {
            who.tracks.push(id);
        }
        if !queued {
            self.tell_published(seat, id);
            self.match_waiting(clock, seat);
        }
    }

    fn tell_published(&mut self, seat: Seat, id: TrackId) {
        let Some(track) = self.tracks.get(&id) else { return };
        let cid = track.cids.first().cloned().unwrap_or_default();
        self.tell_published_as(seat, id, cid);
    }

    /// The answer to an announcement under that name.
    pub(super) fn tell_published_as(&mut self, seat: Seat, id: TrackId, cid: String) {
        let Some(track) = self.tracks.get(&id) else { return };
        let told = TrackPublishedResponse { cid, track: Some(track.info.clone()) };
        self.send(seat, Response::TrackPublished(told));
    }

    /// The sections of an accepted offer: some tracks have ended by it, others have begun.
    pub(super) fn sections_arrived(&mut self, clock: Clock, peer: PeerId, sections: Vec<RemoteSection>) {
        let Some(seat) = self.seat_of(peer) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if who.link.publisher() != Some(peer) {
            return;
        }
        let still = |(mid, id): &(Mid, Option<String>)| {
            sections.iter().any(|section| section.mid == *mid && section.sending && section.track_id == *id)
        };
        who.revoked.retain(still);
        who.sections = sections;
        let who = &self.people[&seat];
        let ended: Vec<TrackId> = who.tracks.iter().copied().filter(|id| self.has_ended(seat, *id)).collect();
        let mut changed = !ended.is_empty();
        for id in ended {
            self.unpublish(clock, seat, id);
        }
        changed |= self.end_codecs(clock, seat);
        if changed {
            self.announce_now(seat);
        }
        self.announce_sections(clock, seat);
        self.match_waiting(clock, seat);
    }

    /// Whether the latest offer no longer carries a published track: its section does not send, or sends another
    /// track that was announced.
    fn has_ended(&self, seat: Seat, id: TrackId) -> bool {
        match self.tracks.get(&id).map(|track| &track.stage) {
            Some(Stage::Published { mid, sdp_id }) => self.section_ended(seat, *mid, sdp_id.as_ref()),
            Some(Stage::Pending | Stage::Queued) | None => false,
        }
    }

    /// The same by the section and what the SDP called the track in it.
    pub(super) fn section_ended(&self, seat: Seat, mid: Mid, sdp_id: Option<&String>) -> bool {
        let Some(who) = self.people.get(&seat) else { return false };
        let Some(section) = who.sections.iter().find(|section| section.mid == mid) else { return true };
        let is_announced = |name: &String| {
            who.tracks.iter().filter_map(|id| self.tracks.get(id)).any(|other| {
                let itself =
                    matches!(other.stage, Stage::Pending | Stage::Queued) && other.cids.first() == Some(name);
                itself || other.alternatives.iter().any(|alternative| alternative.awaits(name))
            })
        };
        !section.sending
            || (section.track_id.as_ref() != sdp_id && section.track_id.as_ref().is_some_and(is_announced))
    }

    /// Ties announced tracks to sections, in whichever order they came, and tells the world of each pair.
    pub(super) fn match_waiting(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get(&seat) else { return };
        let Some(peer) = who.link.publisher() else { return };
        let own = || who.tracks.iter().filter_map(|id| self.tracks.get(id));
        let bound: Vec<Mid> = own().flat_map(Track::mids).collect();
        let is_revoked = |section: &RemoteSection| {
            who.revoked.iter().any(|(mid, id)| *mid == section.mid && *id == section.track_id)
        };
        let is_free = |section: &&RemoteSection| {
            section.sending && !bound.contains(&section.mid) && !is_revoked(section)
        };
        let free: Vec<&RemoteSection> = who.sections.iter().filter(is_free).collect();
        let waiting: Vec<Waiting<'_>> = own()
            .filter(|track| track.stage == Stage::Pending)
            .map(|track| Waiting { track: track.id, kind: track.kind, cids: &track.cids, by_kind: true })
            .chain(own().flat_map(Track::waiting_alternatives))
            .collect();
        let pairs: Vec<(TrackId, RemoteSection)> = match_sections(&free, &waiting)
            .into_iter()
            .filter_map(|(track, mid)| {
                Some((track, (**free.iter().find(|section| section.mid == mid)?).clone()))
            })
            .collect();
        if pairs.is_empty() {
            return;
        }

        for (id, section) in &pairs {
            let Some(track) = self.tracks.get_mut(id) else {
                self.publish_codec(clock, seat, *id, section);
                continue;
            };
            let (kind, muted, encrypted) = (track.kind, track.info.muted, track.is_encrypted());
            let layers = track.publish(section, clock.unix_ms);
            self.command(Command::BindTrack { peer, mid: section.mid, track: *id, layers, encrypted });
            if muted {
                self.command(Command::MuteTrack { track: *id, muted });
            }
            self.notice(Notice::TrackPublished { kind });
            self.report_published(clock, seat, *id);
            self.send_for_publisher_agents(seat);
        }
        self.stage.changed();
        self.announce_now(seat);
        self.counts_changed(clock);
        for other in self.others(seat) {
            // The others follow when they become active.
            if self.people.get(&other).is_some_and(super::participant::Participant::is_active) {
                for (id, _) in &pairs {
                    self.reconcile(clock, other, *id);
                }
            }
        }
        for (id, _) in &pairs {
            self.settle_qualities(clock, *id);
        }
    }

    /// Ends a track. The caller announces.
    pub(super) fn unpublish(&mut self, clock: Clock, seat: Seat, id: TrackId) {
        let Some(track) = self.tracks.get(&id) else { return };
        let (sid, cid) = (track.info.sid.clone(), track.cids.first().cloned());
        for alternative in track.published_alternatives().collect::<Vec<_>>() {
            self.command(Command::RemoveTrack { track: alternative });
        }
        self.command(Command::RemoveTrack { track: id });
        self.report_unpublished(clock, seat, id);
        self.forget_track(id);
        self.silence(seat);
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.tracks.retain(|track| *track != id);
        let knows = who.protocol() >= KNOWS_UNPUBLISHED;
        let next = who.tracks.iter().copied().find(|id| {
            self.tracks
                .get(id)
                .is_some_and(|track| track.stage == Stage::Queued && track.cids.first() == cid.as_ref())
        });
        if knows {
            self.send(seat, Response::TrackUnpublished(TrackUnpublishedResponse { track_sid: sid }));
        }
        self.counts_changed(clock);
        if let Some(next) = next {
            if let Some(track) = self.tracks.get_mut(&next) {
                track.stage = Stage::Pending;
            }
            self.tell_published(seat, next);
        }
    }

    /// Removes a track from everybody's books. The core is told by the caller, or ends it with its connection.
    pub(super) fn forget_track(&mut self, id: TrackId) {
        let Some(track) = self.tracks.remove(&id) else { return };
        self.by_track_sid.remove(&track.info.sid);
        for alternative in &track.alternatives {
            self.forget_alternative(alternative.id);
        }
        self.stage.changed();
        if track.is_published() {
            self.notice(Notice::TrackUnpublished { kind: track.kind });
        }
        let mut ended = 0;
        for who in self.people.values_mut() {
            who.preferences.remove(&track.info.sid);
            who.denied.remove(&id);
            who.undecodable.remove(&id);
            ended += usize::from(who.subscriptions.remove(&id).is_some());
        }
        for _ in 0..ended {
            self.notice(Notice::Unsubscribed { kind: track.kind });
        }
    }

    pub(super) fn track_media(&mut self, clock: Clock, id: TrackId, media: &TrackMedia) {
        if !self.tracks.contains_key(&id) {
            return self.codec_media(clock, id, media);
        }
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let owner = track.owner;
        let reshaped = track.dynacast.as_mut().is_some_and(|dynacast| dynacast.learn(media.layers.len()));
        match track.learn(media, clock.unix_ms) {
            Learned::Nothing => {}
            Learned::Details => self.announce_soon(clock, owner),
            Learned::Codec => {
                self.stage.changed_codec(id);
                self.announce_now(owner);
            }
        }
        if reshaped {
            self.settle_qualities(clock, id);
        }
    }

    /// The client's own track of that sid.
    pub(super) fn own_track(&mut self, seat: Seat, sid: &str) -> Option<&mut Track> {
        let id = self.by_track_sid.get(sid)?;
        self.tracks.get_mut(id).filter(|track| track.owner == seat)
    }

    pub(super) fn mute(&mut self, clock: Clock, seat: Seat, request: &MuteTrackRequest) {
        let Some(track) = self.own_track(seat, &request.sid) else { return };
        if track.info.muted == request.muted {
            return;
        }
        track.info.muted = request.muted;
        track.info.version = Some(track::version(clock.unix_ms));
        let (id, published) = (track.id, track.is_published());
        let alternatives: Vec<TrackId> = track.published_alternatives().collect();
        self.stage.changed();
        if published {
            self.command(Command::MuteTrack { track: id, muted: request.muted });
            for track in alternatives {
                self.command(Command::MuteTrack { track, muted: request.muted });
            }
            self.announce_now(seat);
            if request.muted {
                self.silence(seat);
            }
            self.settle_qualities(clock, id);
        }
    }

    pub(super) fn update_audio_track(&mut self, clock: Clock, seat: Seat, request: UpdateLocalAudioTrack) {
        let Some(track) = self.own_track(seat, &request.track_sid) else {
            return self.refuse(
                seat,
                Reason::NotFound,
                String::new(),
                Some(Request::UpdateAudioTrack(request)),
            );
        };
        if request.features.len() > 16 {
            return self.refuse(
                seat,
                Reason::LimitExceeded,
                String::new(),
                Some(Request::UpdateAudioTrack(request)),
            );
        }
        let features = all_known::<AudioTrackFeature>(request.features);
        if track.info.audio_features != features {
            track.info.audio_features = features;
            track.info.version = Some(track::version(clock.unix_ms));
            self.announce_soon(clock, seat);
        }
    }

    pub(super) fn update_video_track(&mut self, clock: Clock, seat: Seat, request: &UpdateLocalVideoTrack) {
        let Some(track) = self.own_track(seat, &request.track_sid) else {
            let request = Some(Request::UpdateVideoTrack(request.clone()));
            return self.refuse(seat, Reason::NotFound, String::new(), request);
        };
        if (track.info.width, track.info.height) != (request.width, request.height) {
            (track.info.width, track.info.height) = (request.width, request.height);
            track.info.version = Some(track::version(clock.unix_ms));
            self.announce_soon(clock, seat);
        }
    }
}
