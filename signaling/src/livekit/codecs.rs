//! Further codecs of a track (backup codecs, multi-codec simulcast): which subscriber gets which, and how they come and go.
//!
//! A publisher says beforehand in which codecs it could send a track. It sends the first; a further one it begins when it
//! is asked for it (`subscribed_quality_update`), in a section of its own, announced under the track's sid. To the media
//! core that is a track of its own, which takes the place of the first in the subscriptions of those who need it
//! ([`Command::ReplaceTrack`]); to everybody else it is the same track.
//!
//! Always: a subscriber gets the first codec that its descriptions do not show to be beyond it. Who waits for a codec that
//! is to come is told of no error.

use std::collections::BTreeSet;

use livekit_protocol::{
    AddTrackRequest, BackupCodecPolicy, SimulcastCodecInfo,
    request_response::{Reason, Request},
};
use sfu::command::{Command, MediaKind, RemoteSection, TrackMedia};
use sfu::ids::{Mid, TrackId};

use super::dynacast::Dynacast;
use super::output::Clock;
use super::participant::Seat;
use super::room::Room;
use super::track::{self, AnnouncementError, Track, Waiting, announced_layers, fill_codec, streams};

/// In rooms of fewer people a publisher that prefers regression sends one codec to all, and not two (the reference
/// server's number): its processor counts for more there than a link here and there.
const REGRESSES_BELOW: usize = 5;

/// A further codec of a track.
#[derive(Clone, Debug)]
pub(super) struct Alternative {
    /// The core's name for it, another each time it is published.
    pub(super) id: TrackId,
    /// What is asked of it, sent or not.
    pub(super) dynacast: Dynacast,
    mime: String,
    /// The client's name for it; empty where it is not known yet.
    cid: String,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Can be had.
    Declared,
    /// Announced; its section has not come.
    Pending,
    Published {
        mid: Mid,
        sdp_id: Option<String>,
    },
}

/// Which codec of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// The first.
    Own,
    /// The further one in that place, whether it is there yet or not.
    Alternative(usize),
}

impl Alternative {
    fn new(id: TrackId, mime: String, cid: String) -> Alternative {
        Alternative { id, dynacast: Dynacast::idle(), mime, cid, stage: Stage::Declared }
    }

    /// Its section, once published.
    pub(super) fn mid(&self) -> Option<Mid> {
        match self.stage {
            Stage::Published { mid, .. } => Some(mid),
            Stage::Declared | Stage::Pending => None,
        }
    }

    /// The codec as it was announced, such as `video/vp8`.
    pub(super) fn mime(&self) -> &str {
        &self.mime
    }

    /// The same as `vp8`.
    pub(super) fn name(&self) -> String {
        track::name_of(&self.mime)
    }

    /// Whether it waits for a section of that name.
    pub(super) fn awaits(&self, name: &str) -> bool {
        self.stage == Stage::Pending && self.cid == name
    }

    /// What the client may call it in its SDP.
    pub(super) fn sdp_names(&self) -> impl Iterator<Item = &str> {
        let sdp_id = match &self.stage {
            Stage::Published { sdp_id, .. } => sdp_id.as_ref(),
            Stage::Declared | Stage::Pending => None,
        };
        let cid = Some(&self.cid).filter(|cid| !cid.is_empty());
        let other = sdp_id.filter(|id| Some(*id) != cid);
        cid.into_iter().chain(other).map(String::as_str)
    }
}

impl Track {
    /// Takes note of the codecs after the first that it was announced with.
    pub(super) fn declare_alternatives(&mut self, rng: &mut fastrand::Rng) {
        let further = self.info.codecs.iter().skip(1);
        let declared =
            |codec: &SimulcastCodecInfo, id| Alternative::new(id, codec.mime_type.clone(), codec.cid.clone());
        self.alternatives = further.map(|codec| declared(codec, TrackId(rng.u64(..)))).collect();
    }

    /// What the core knows of its further codecs.
    pub(super) fn published_alternatives(&self) -> impl Iterator<Item = TrackId> {
        self.alternatives.iter().filter(|it| it.mid().is_some()).map(|it| it.id)
    }

    /// Those of its further codecs that wait for a section. One that was not announced yet goes by its name only.
    pub(super) fn waiting_alternatives(&self) -> impl Iterator<Item = Waiting<'_>> {
        let waiting = |alternative: &&Alternative| match alternative.stage {
            Stage::Declared => !alternative.cid.is_empty(),
            Stage::Pending => true,
            Stage::Published { .. } => false,
        };
        self.alternatives.iter().filter(waiting).map(|alternative| Waiting {
            track: alternative.id,
            kind: self.kind,
            cids: std::slice::from_ref(&alternative.cid),
            by_kind: alternative.stage == Stage::Pending,
        })
    }

    /// The codec that is for somebody who cannot decode some; `None`: there is none.
    pub(super) fn pick(&self, undecodable: &BTreeSet<TrackId>) -> Option<Pick> {
        let own = (!undecodable.contains(&self.id)).then_some(Pick::Own);
        let further = self.alternatives.iter().position(|it| !undecodable.contains(&it.id));
        let further = further.map(Pick::Alternative);
        if self.regressed { further.or(own) } else { own.or(further) }
    }

    /// What the core is to send to somebody; `None`: there is no use in a change.
    fn carried_by(&self, undecodable: &BTreeSet<TrackId>) -> Option<TrackId> {
        match self.pick(undecodable)? {
            Pick::Alternative(at) if self.alternatives[at].mid().is_some() => Some(self.alternatives[at].id),
            Pick::Alternative(_) | Pick::Own => Some(self.id),
        }
    }

    fn alternative_mut(&mut self, id: TrackId) -> Option<(usize, &mut Alternative)> {
        self.alternatives.iter_mut().enumerate().find(|(_, it)| it.id == id)
    }
}

impl Room {
    /// The track that a name of the core's belongs to: its own, or one of a further codec.
    pub(super) fn track_of(&self, id: TrackId) -> TrackId {
        self.by_alternative.get(&id).copied().unwrap_or(id)
    }

    /// A further codec of a track is announced: an `AddTrackRequest` with that track's sid. What else it says of the track
    /// is not looked at, since SDKs leave it out.
    pub(super) fn add_codec(&mut self, clock: Clock, seat: Seat, request: AddTrackRequest) {
        if let Err(error) = track::check_sizes(&request) {
            let request = Some(Request::AddTrack(request));
            return self.refuse(seat, Reason::LimitExceeded, error.to_string(), request);
        }
        let Some(track) = self.own_track(seat, &request.sid).map(|track| track.id) else {
            let why = "there is no such track".to_owned();
            return self.refuse(seat, Reason::NotFound, why, Some(Request::AddTrack(request)));
        };
        let Some(alternative) = self.announced_codec(track, &request) else {
            let why = AnnouncementError::Unsupported("this further codec").to_string();
            return self.refuse(seat, Reason::UnsupportedType, why, Some(Request::AddTrack(request)));
        };
        let cid = request.simulcast_codecs.first().map(|codec| &codec.cid).filter(|cid| !cid.is_empty());
        let cid = cid.unwrap_or(&request.cid).clone();
        let replaced = self.tracks.get(&track).is_some_and(|track| {
            let it = &track.alternatives[alternative];
            it.mid().is_some() && it.cid != cid
        });
        if replaced {
            self.end_codec(clock, track, alternative);
        }
        let Some(known) = self.tracks.get_mut(&track) else { return };
        let it = &mut known.alternatives[alternative];
        if it.mid().is_none() {
            it.stage = Stage::Pending;
            it.cid.clone_from(&cid);
            if let Some(info) = known.info.codecs.get_mut(1 + alternative) {
                info.cid = cid;
                let named = request.simulcast_codecs.first().map(|codec| &codec.layers);
                if let Some(layers) = named.into_iter().chain([&request.layers]).find(|it| !it.is_empty()) {
                    info.layers = track::known_layers(layers.clone());
                }
            }
        }
        self.tell_published_as(seat, track, request.cid);
        self.match_waiting(clock, seat);
    }

    /// The place of the codec that a request names among a track's further ones, a new one if it was not announced
    /// before; `None` for what cannot be one. A track's codecs are bounded by there being few.
    fn announced_codec(&mut self, id: TrackId, request: &AddTrackRequest) -> Option<usize> {
        let track = self.tracks.get_mut(&id)?;
        let mime = known_mime(track.kind, &request.simulcast_codecs.first()?.codec)?;
        if let Some(at) = track.alternatives.iter().position(|it| it.mime == mime) {
            return Some(at);
        }
        if track::name_of(&mime) == track.codec_name() {
            return None;
        }
        if track.info.codecs.is_empty() {
            let own = track.own_codec();
            track.info.codecs.push(own);
        }
        track
            .info
            .codecs
            .push(SimulcastCodecInfo { mime_type: mime.clone(), ..SimulcastCodecInfo::default() });
        track.alternatives.push(Alternative::new(TrackId(self.rng.u64(..)), mime, String::new()));
        Some(track.alternatives.len() - 1)
    }

    /// The section of a further codec has come.
    pub(super) fn publish_codec(&mut self, clock: Clock, seat: Seat, id: TrackId, section: &RemoteSection) {
        let Some(peer) = self.people.get(&seat).and_then(|who| who.link.publisher()) else { return };
        let own = |track: &&mut Track| track.owner == seat && track.alternatives.iter().any(|it| it.id == id);
        let Some(track) = self.tracks.values_mut().find(own) else { return };
        let (main, muted, encrypted) = (track.id, track.info.muted, track.is_encrypted());
        let Some((at, alternative)) = track.alternative_mut(id) else { return };
        alternative.stage = Stage::Published { mid: section.mid, sdp_id: section.track_id.clone() };
        let mime = alternative.mime.clone();
        let Some(info) = track.info.codecs.get_mut(1 + at) else { return };
        section.mid.as_str().clone_into(&mut info.mid);
        section.track_id.clone().unwrap_or_default().clone_into(&mut info.sdp_cid);
        let mut sorted = info.layers.clone();
        sorted.sort_by_key(track::rank);
        let layers = announced_layers(&sorted, &section.rids);
        track.alternatives[at].dynacast.publish(streams(&layers, section, &mime));
        track.info.version = Some(track::version(clock.unix_ms));
        self.by_alternative.insert(id, main);
        self.command(Command::BindTrack { peer, mid: section.mid, track: id, layers, encrypted });
        if muted {
            self.command(Command::MuteTrack { track: id, muted });
        }
        self.regress(main);
        for viewer in self.others(seat) {
            self.carry(viewer, main);
        }
        self.retell_codecs(clock, main);
    }

    /// A further codec has begun since somebody needed it: the others get it, too, if the publisher wants to send but one.
    fn regress(&mut self, id: TrackId) {
        let few = self.people.len() < REGRESSES_BELOW;
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let regresses = match BackupCodecPolicy::try_from(track.info.backup_codec_policy) {
            Ok(BackupCodecPolicy::PreferRegression) => few,
            Ok(BackupCodecPolicy::Regression) => true,
            Ok(BackupCodecPolicy::Simulcast) | Err(_) => false,
        };
        // Sound in a second codec costs nobody much.
        track.regressed |= regresses && track.kind == MediaKind::Video;
    }

    /// Brings what somebody is sent of a track to the codec that is for it.
    pub(super) fn carry(&mut self, seat: Seat, id: TrackId) {
        let (Some(who), Some(track)) = (self.people.get_mut(&seat), self.tracks.get(&id)) else { return };
        let Some(carried) = track.carried_by(&who.undecodable) else { return };
        let peer = who.link.subscriber();
        let Some(subscription) = who.subscriptions.get_mut(&id) else { return };
        if std::mem::replace(&mut subscription.carried, carried) == carried {
            return;
        }
        let demand = subscription.demand;
        let command = match &mut who.feeds {
            Some(feeds) => {
                let feed = feeds.of(track.kind).id;
                Command::Feed { peer, feed, track: Some(carried), demand }
            }
            None => Command::ReplaceTrack { peer, subscription: id, track: carried },
        };
        self.command(command);
    }

    /// Ends those further codecs that the latest offer no longer carries. Says whether there were any. The caller announces.
    pub(super) fn end_codecs(&mut self, clock: Clock, seat: Seat) -> bool {
        let Some(who) = self.people.get(&seat) else { return false };
        let mut ended = Vec::new();
        for track in who.tracks.iter().filter_map(|id| self.tracks.get(id)) {
            for (at, alternative) in track.alternatives.iter().enumerate() {
                if let Stage::Published { mid, sdp_id } = &alternative.stage
                    && self.section_ended(seat, *mid, sdp_id.as_ref())
                {
                    ended.push((track.id, at));
                }
            }
        }
        for (track, at) in &ended {
            self.end_codec(clock, *track, *at);
        }
        !ended.is_empty()
    }

    /// A further codec is no longer sent. It can be had again.
    fn end_codec(&mut self, clock: Clock, id: TrackId, at: usize) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let owner = track.owner;
        let alternative = &mut track.alternatives[at];
        let fresh = Alternative::new(TrackId(self.rng.u64(..)), alternative.mime.clone(), String::new());
        let old = std::mem::replace(alternative, fresh).id;
        if let Some(info) = track.info.codecs.get_mut(1 + at) {
            info.mid.clear();
            info.cid.clear();
            info.sdp_cid.clear();
        }
        track.info.version = Some(track::version(clock.unix_ms));
        if track.published_alternatives().next().is_none() {
            track.regressed = false;
        }
        self.forget_alternative(old);
        for viewer in self.others(owner) {
            self.carry(viewer, id);
        }
        self.command(Command::RemoveTrack { track: old });
        self.settle_qualities(clock, id);
    }

    /// Removes a further codec from everybody's books.
    pub(super) fn forget_alternative(&mut self, id: TrackId) {
        self.by_alternative.remove(&id);
        for who in self.people.values_mut() {
            who.undecodable.remove(&id);
        }
    }

    /// What the core found out about a further codec.
    pub(super) fn codec_media(&mut self, clock: Clock, id: TrackId, media: &TrackMedia) {
        let main = self.track_of(id);
        let Some(track) = self.tracks.get_mut(&main) else { return };
        let owner = track.owner;
        let Some((at, alternative)) = track.alternative_mut(id) else { return };
        let reshaped = media.kind == MediaKind::Video && alternative.dynacast.learn(media.layers.len());
        if let Some(info) = track.info.codecs.get_mut(1 + at) {
            let before = info.clone();
            fill_codec(info, media);
            if before != *info {
                track.info.version = Some(track::version(clock.unix_ms));
                self.announce_soon(clock, owner);
            }
        }
        if reshaped {
            self.settle_qualities(clock, main);
        }
    }
}

/// The MIME type of a codec that can be a further one, by the name or the MIME type that clients give.
pub(super) fn known_mime(kind: MediaKind, codec: &str) -> Option<String> {
    let name = track::name_of(codec);
    match (kind, name.as_str()) {
        (MediaKind::Video, "vp8" | "h264" | "vp9" | "av1") => Some(format!("video/{name}")),
        (MediaKind::Audio, "opus" | "pcmu" | "pcma") => Some(format!("audio/{name}")),
        (MediaKind::Video | MediaKind::Audio, _) => None,
    }
}
