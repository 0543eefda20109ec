//! Publishing data tracks. There is no section to wait for: a track is there once it was announced and the answer was given.
//!
//! A client takes one answer to each of its requests and is confused by a second one, so none is ever repeated. What a lost
//! socket swallowed shows in what the client says on its next one ([`Room::sync_data_tracks`]).

use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DataTrackInfo, PublishDataTrackRequest, PublishDataTrackResponse, UnpublishDataTrackRequest,
    UnpublishDataTrackResponse,
};
use sfu::command::Command;
use sfu::ids::{DataHandle, TrackId};

use super::data_track::{self, DataTrack, DataTrackError};
use super::output::{Clock, Limit, Notice};
use super::participant::{Participant, Seat};
use super::room::Room;
use super::sid;

impl Room {
    /// Answers at once, with `publish_data_track_response` or with a refusal.
    pub(super) fn publish_data_track(&mut self, clock: Clock, seat: Seat, request: PublishDataTrackRequest) {
        let Some(who) = self.people.get(&seat) else { return };
        let handle = match self.may_publish_data_track(who, &request) {
            Ok(handle) => handle,
            Err(error) => return self.refuse_data_track(seat, &error, request),
        };
        let id = TrackId(self.rng.u64(..));
        let info = data_track::info(sid::data_track(&mut self.rng), request);
        self.by_data_track_sid.insert(info.sid.clone(), id);
        self.data_tracks.insert(id, DataTrack { id, owner: seat, handle, info: info.clone() });
        if let Some(who) = self.people.get_mut(&seat) {
            who.data_tracks.push(id);
        }
        // First, for packets may follow the answer at once.
        self.bind_data_track(id);
        self.send(seat, Response::PublishDataTrackResponse(PublishDataTrackResponse { info: Some(info) }));
        self.announce_now(seat);
        self.counts_changed(clock);
        self.reconcile_data_viewers(seat);
    }

    fn may_publish_data_track(
        &self,
        who: &Participant,
        request: &PublishDataTrackRequest,
    ) -> Result<DataHandle, DataTrackError> {
        if !who.permission.can_publish_data {
            return Err(DataTrackError::NotAllowed);
        }
        let handle = data_track::check(request)?;
        let mut own = who.data_tracks.iter().filter_map(|id| self.data_tracks.get(id));
        if own.clone().any(|track| track.handle == handle) {
            return Err(DataTrackError::DuplicateHandle(request.pub_handle));
        }
        if own.any(|track| track.info.name == request.name) {
            return Err(DataTrackError::DuplicateName);
        }
        let limit = self.settings.limits.data_tracks_per_participant;
        if who.data_tracks.len() >= limit { Err(DataTrackError::TooMany(limit)) } else { Ok(handle) }
    }

    /// A client finds its request again by the handle; what is too long is too long for the way back, too.
    fn refuse_data_track(&mut self, seat: Seat, error: &DataTrackError, request: PublishDataTrackRequest) {
        if matches!(error, DataTrackError::TooMany(_)) {
            self.notice(Notice::LimitHit(Limit::DataTracks));
        }
        let (pub_handle, encryption) = (request.pub_handle, request.encryption);
        let request = if matches!(error, DataTrackError::Name(_) | DataTrackError::Length { .. }) {
            PublishDataTrackRequest { pub_handle, encryption, ..PublishDataTrackRequest::default() }
        } else {
            request
        };
        self.refuse(seat, error.reason(), error.to_string(), Some(Request::PublishDataTrack(request)));
    }

    pub(super) fn unpublish_data_track(
        &mut self,
        clock: Clock,
        seat: Seat,
        request: UnpublishDataTrackRequest,
    ) {
        let Some(track) = self.own_data_track(seat, request.pub_handle) else {
            let why = format!("no data track of yours has pub_handle {}", request.pub_handle);
            return self.refuse(seat, Reason::NotFound, why, Some(Request::UnpublishDataTrack(request)));
        };
        let id = track.id;
        self.end_data_track(seat, id);
        self.announce_now(seat);
        self.counts_changed(clock);
    }

    /// The client's own data track of that handle.
    fn own_data_track(&self, seat: Seat, pub_handle: u32) -> Option<&DataTrack> {
        let mut own = self.people.get(&seat)?.data_tracks.iter().filter_map(|id| self.data_tracks.get(id));
        own.find(|track| u32::from(track.handle.wire()) == pub_handle)
    }

    /// Ends a data track, tells its owner, and those who had it under which handles they have the rest. The caller announces.
    fn end_data_track(&mut self, seat: Seat, id: TrackId) {
        self.command(Command::RemoveDataTrack { track: id });
        if let Some(who) = self.people.get_mut(&seat) {
            who.data_tracks.retain(|track| *track != id);
        }
        let Some((info, had_it)) = self.forget_data_track(id) else { return };
        let told = UnpublishDataTrackResponse { info: Some(info) };
        self.send(seat, Response::UnpublishDataTrackResponse(told));
        for other in had_it {
            self.tell_data_handles(other);
        }
    }

    /// Ends the data tracks of somebody who may have none any more. The caller announces.
    pub(super) fn end_forbidden_data_tracks(&mut self, seat: Seat) {
        let Some(who) = self.people.get(&seat).filter(|who| !who.permission.can_publish_data) else { return };
        for id in who.data_tracks.clone() {
            self.end_data_track(seat, id);
        }
    }

    /// Removes a data track from everybody's books; gives what it was and who had it. The core is told by the caller, or ends
    /// it with its connection.
    pub(super) fn forget_data_track(&mut self, id: TrackId) -> Option<(DataTrackInfo, Vec<Seat>)> {
        let track = self.data_tracks.remove(&id)?;
        self.by_data_track_sid.remove(&track.info.sid);
        let mut had_it = Vec::new();
        for who in self.people.values_mut() {
            if who.data_downlink.forget(id) {
                had_it.push(who.seat);
            }
        }
        Some((track.info, had_it))
    }

    /// Tells the core of a data track, as far as its owner has a connection to send on.
    fn bind_data_track(&mut self, id: TrackId) {
        let Some(track) = self.data_tracks.get(&id) else { return };
        let Some(peer) = self.people.get(&track.owner).and_then(|who| who.link.publisher()) else { return };
        self.command(Command::BindDataTrack { peer, handle: track.handle, track: id });
    }

    /// The same for all of somebody's, on a connection that is new: who had them has them again.
    pub(super) fn bind_data_tracks(&mut self, seat: Seat) {
        let tracks = self.people.get(&seat).map(|who| who.data_tracks.clone()).unwrap_or_default();
        for id in tracks {
            self.bind_data_track(id);
            let others = self.people.values();
            let again: Vec<Command> = others.filter_map(|who| who.data_subscription(id)).collect();
            for command in again {
                self.command(command);
            }
        }
    }

    /// After a resume the client lists the tracks that it takes for published. What has ended meanwhile, it was not told of.
    pub(super) fn sync_data_tracks(&mut self, seat: Seat, published: Vec<PublishDataTrackResponse>) {
        for info in published.into_iter().filter_map(|published| published.info) {
            let is_there = self.by_data_track_sid.contains_key(&info.sid);
            // One under the same handle is a new one, of which the client knows.
            if !is_there && self.own_data_track(seat, info.pub_handle).is_none() {
                let told = UnpublishDataTrackResponse { info: Some(info) };
                self.send(seat, Response::UnpublishDataTrackResponse(told));
            }
        }
    }

    /// The data tracks of a participant, as others are told of them.
    pub(super) fn data_track_infos(&self, who: &Participant) -> Vec<DataTrackInfo> {
        let tracks = who.data_tracks.iter().filter_map(|track| self.data_tracks.get(track));
        tracks.map(|track| track.info.clone()).collect()
    }
}
