//! Carrying out calls in a room.

use std::time::Duration;

use livekit_protocol as lk;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DisconnectReason, MuteTrackRequest, RoomConfiguration, RoomEndReason, UpdateSubscription,
};

use super::{Answer, ApiError, RoomCall};
use crate::livekit::leave::Leaving;
use crate::livekit::output::{Clock, Output};
use crate::livekit::participant::{Participant, Seat};
use crate::livekit::room::{Phase, Room};

impl Room {
    /// Carries out a call of the server API. The answer is an [`Output::Answer`] with the same number: after everything
    /// that the call leads to, and for a call of a participant's method some time later. A room that has ended does not
    /// answer.
    pub fn call(&mut self, clock: Clock, question: u64, call: RoomCall) {
        if self.is_ended() {
            return;
        }
        let done = |()| Answer::Done;
        let result = match call {
            RoomCall::Configure(config) => {
                self.configure(clock, &config);
                Ok(Answer::Room(Box::new(self.room_info())))
            }
            RoomCall::Describe => Ok(Answer::Room(Box::new(self.room_info()))),
            RoomCall::Delete => {
                self.answer(question, Ok(Answer::Done));
                return self.close(clock, DisconnectReason::RoomDeleted, RoomEndReason::RoomEndApiDelete);
            }
            RoomCall::ListParticipants => {
                Ok(Answer::Participants(self.people.values().map(|who| self.info(who)).collect()))
            }
            RoomCall::GetParticipant { identity } => self.participant_named(&identity),
            RoomCall::RemoveParticipant { identity } => self.remove_named(clock, &identity).map(done),
            RoomCall::MuteTrack(request) => self.mute_for(clock, &request),
            RoomCall::UpdateParticipant(request) => self.update_participant(clock, *request),
            RoomCall::UpdateSubscriptions(request) => self.subscribe_for(clock, request).map(done),
            RoomCall::SendData(request) => {
                self.send_data(*request);
                Ok(Answer::Done)
            }
            RoomCall::UpdateMetadata { metadata } => {
                self.metadata = metadata;
                self.send_room_update(clock);
                Ok(Answer::Room(Box::new(self.room_info())))
            }
            RoomCall::CreateDispatch(agent) => {
                let created = self.create_dispatch(clock, *agent);
                created.map(|dispatch| Answer::Dispatch(Box::new(dispatch)))
            }
            RoomCall::DeleteDispatch { id } => {
                self.delete_dispatch(clock, &id).map(|dispatch| Answer::Dispatch(Box::new(dispatch)))
            }
            RoomCall::ListDispatches { id } => Ok(Answer::Dispatches(self.list_dispatches(&id))),
            RoomCall::PerformRpc(request) => match self.perform_rpc(clock, question, request) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
        };
        self.follow(clock);
        self.answer(question, result);
    }

    pub(super) fn answer(&mut self, question: u64, answer: Result<Answer, ApiError>) {
        self.outbox.push_back(Output::Answer { question, answer });
    }

    /// Who has that identity.
    pub(super) fn seat_named(&self, identity: &str) -> Result<Seat, ApiError> {
        self.by_identity.get(identity).copied().ok_or(ApiError::NoParticipant)
    }

    fn participant_named(&self, identity: &str) -> Result<Answer, ApiError> {
        let seat = self.seat_named(identity)?;
        let who: &Participant = self.people.get(&seat).ok_or(ApiError::NoParticipant)?;
        Ok(Answer::Participant(Box::new(self.info(who))))
    }

    fn remove_named(&mut self, clock: Clock, identity: &str) -> Result<(), ApiError> {
        let seat = self.seat_named(identity)?;
        self.depart(clock, seat, Leaving::REMOVED);
        Ok(())
    }

    /// What is zero or empty stays as it is. A room in which nobody is begins to wait anew.
    fn configure(&mut self, clock: Clock, config: &RoomConfiguration) {
        let seconds = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
        if let Some(timeout) = seconds(config.empty_timeout) {
            self.empty_timeout = timeout;
        }
        if let Some(timeout) = seconds(config.departure_timeout) {
            self.departure_timeout = timeout;
        }
        let changes_limit = config.max_participants > 0;
        if changes_limit {
            let own = usize::try_from(config.max_participants).unwrap_or(usize::MAX);
            self.max_participants = self.settings.limits.participants.min(own);
        }
        let changes_metadata = !config.metadata.is_empty() && config.metadata != self.metadata;
        if changes_metadata {
            self.metadata.clone_from(&config.metadata);
        }
        if let Phase::Empty { .. } = self.phase {
            let wait = if self.was_used { self.departure_timeout } else { self.empty_timeout };
            self.phase = Phase::Empty { until: clock.now + wait };
        }
        if changes_metadata {
            self.send_room_update(clock);
        }
    }

    /// The publisher's client mutes its track, too; nobody can be made to send.
    fn mute_for(&mut self, clock: Clock, request: &lk::MuteRoomTrackRequest) -> Result<Answer, ApiError> {
        let seat = self.seat_named(&request.identity)?;
        if !request.muted && !self.settings.remote_unmute {
            return Err(ApiError::RemoteUnmute);
        }
        let mute = MuteTrackRequest { sid: request.track_sid.clone(), muted: request.muted };
        self.own_track(seat, &mute.sid).ok_or(ApiError::NoTrack)?;
        self.send(seat, Response::Mute(mute.clone()));
        self.mute(clock, seat, &mute);
        let track = self.own_track(seat, &mute.sid).ok_or(ApiError::NoTrack)?;
        Ok(Answer::Muted(Box::new(track.info.clone())))
    }

    fn subscribe_for(
        &mut self,
        clock: Clock,
        request: lk::UpdateSubscriptionsRequest,
    ) -> Result<(), ApiError> {
        let seat = self.seat_named(&request.identity)?;
        let lk::UpdateSubscriptionsRequest { track_sids, subscribe, participant_tracks, .. } = request;
        self.update_subscription(
            clock,
            seat,
            UpdateSubscription { track_sids, subscribe, participant_tracks },
        );
        Ok(())
    }
}
