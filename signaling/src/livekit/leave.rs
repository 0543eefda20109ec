//! Going: by the client's wish, by ours, by a lost socket or transport; and the end of the room.

use std::collections::BTreeSet;

use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DisconnectReason, LeaveRequest, RequestResponse, RoomEndReason, SignalResponse, request_response,
};
use sfu::command::{Command, PeerEnd};
use sfu::ids::PeerId;

use super::connect::Signalling;
use super::frame::FrameError;
use super::output::{Clock, Limit, Notice, Output, SessionId, SocketEnd};
use super::participant::{Link, Participant, Seat};
use super::room::{Phase, Room};
use super::track::Track;

/// From this level on clients take a new sid under a known identity for a replacement by themselves.
pub(super) const REPLACES_BY_IDENTITY: i32 = 12;

/// How somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Why, for the others and the client.
    pub(super) reason: DisconnectReason,
    /// What the client shall do; `None`: it is not told anything.
    pub(super) action: Option<Action>,
    /// Somebody of the same identity follows at once.
    pub(super) replaced: bool,
}

impl Leaving {
    /// Somebody of the same identity comes in.
    pub(super) const REPLACED: Leaving = Leaving {
        reason: DisconnectReason::DuplicateIdentity,
        action: Some(Action::Disconnect),
        replaced: true,
    };

    /// The application wants it gone.
    pub(super) const REMOVED: Leaving =
        Leaving::told(DisconnectReason::ParticipantRemoved, Action::Disconnect);

    pub(super) const fn silent(reason: DisconnectReason) -> Leaving {
        Leaving { reason, action: None, replaced: false }
    }

    pub(super) const fn told(reason: DisconnectReason, action: Action) -> Leaving {
        Leaving { reason, action: Some(action), replaced: false }
    }
}

/// What a client that wants to resume is told when its participant is not there: the first and only message on
/// the new socket, never an HTTP status (JS would take that for a server without v1). All SDKs join anew.
pub fn refuse_resume() -> SignalResponse {
    SignalResponse {
        message: Some(Response::Leave(leave_request(DisconnectReason::StateMismatch, Action::Reconnect))),
    }
}

/// `can_reconnect` is what clients below level 13 look at.
pub(super) fn leave_request(reason: DisconnectReason, action: Action) -> LeaveRequest {
    LeaveRequest {
        can_reconnect: action != Action::Disconnect,
        reason: reason as i32,
        action: action as i32,
        regions: None,
    }
}

impl Room {
    /// The socket is gone. Its participant stays as long as its transport lives and a moment longer, if that ever was up.
    pub fn socket_closed(&mut self, clock: Clock, session: SessionId, end: SocketEnd) {
        let Some(&seat) = self.by_session.get(&session) else { return };
        let Some(who) = self.people.get(&seat) else { return };
        // One that is gone from HTTP does not come back.
        if who.is_active() && who.signalling == Signalling::WebSocket {
            self.detach(clock, seat, end);
        } else {
            self.by_session.remove(&session);
            if let Some(who) = self.people.get_mut(&seat) {
                who.session = None;
            }
            self.depart(clock, seat, Leaving::silent(DisconnectReason::SignalClose));
        }
        self.follow(clock);
    }

    /// A frame could not be read: the client is told why, and this one session ends.
    pub fn bad_frame(&mut self, clock: Clock, session: SessionId, error: FrameError) {
        let Some(&seat) = self.by_session.get(&session) else { return };
        self.notice(match error {
            FrameError::TooLarge { .. } => Notice::LimitHit(Limit::Frame),
            FrameError::Protobuf | FrameError::Json => Notice::BadFrame,
        });
        self.refuse(seat, request_response::Reason::InvalidRequest, error.to_string(), None);
        self.depart(clock, seat, Leaving::told(DisconnectReason::StateMismatch, Action::Disconnect));
    }

    /// Sends everybody away and ends the room.
    pub fn shutdown(&mut self, clock: Clock) {
        self.close(clock, DisconnectReason::ServerShutdown, RoomEndReason::RoomEndServerShutdown);
    }

    /// The same for a room that cannot go on where it is: everybody comes back to a new one.
    pub fn abandon(&mut self, clock: Clock) {
        self.close(clock, DisconnectReason::StateMismatch, RoomEndReason::RoomEndSuperseded);
    }

    /// The same, for any reason.
    pub(super) fn close(&mut self, clock: Clock, reason: DisconnectReason, end: RoomEndReason) {
        let seats: Vec<Seat> = self.people.keys().copied().collect();
        for seat in seats {
            self.depart(clock, seat, Leaving::told(reason, Action::Disconnect));
        }
        self.end(clock, end);
    }

    pub(super) fn refuse_resume_of(&mut self, session: SessionId) {
        self.outbox.push_back(Output::Send { session, response: refuse_resume() });
        self.outbox.push_back(Output::Close { session });
        self.notice(Notice::ResumeRefused);
    }

    pub(super) fn client_leaves(&mut self, clock: Clock, seat: Seat) {
        self.depart(clock, seat, Leaving::silent(DisconnectReason::ClientInitiated));
    }

    pub(super) fn join_timed_out(&mut self, clock: Clock, seat: Seat) {
        self.depart(clock, seat, Leaving::told(DisconnectReason::JoinFailure, Action::Disconnect));
    }

    /// What was lost did not come back in time.
    pub(super) fn stayed_away(&mut self, clock: Clock, seat: Seat) {
        let has_socket = self.people.get(&seat).is_some_and(|who| who.session.is_some());
        self.depart(
            clock,
            seat,
            if has_socket {
                Leaving::told(DisconnectReason::ConnectionTimeout, Action::Reconnect)
            } else {
                Leaving::silent(DisconnectReason::SignalClose)
            },
        );
    }

    /// No consent any more, and no way to come back (RFC 9725 §4.3.3).
    pub(super) fn path_lost(&mut self, clock: Clock, seat: Seat) {
        self.depart(clock, seat, Leaving::told(DisconnectReason::ConnectionTimeout, Action::Disconnect));
    }

    pub(super) fn answer_timed_out(&mut self, clock: Clock, seat: Seat) {
        self.depart(clock, seat, Leaving::told(DisconnectReason::ConnectionTimeout, Action::Reconnect));
    }

    pub(super) fn agreement_failed(&mut self, clock: Clock, seat: Seat) {
        self.depart(clock, seat, Leaving::told(DisconnectReason::StateMismatch, Action::Reconnect));
    }

    /// The core gave a connection up. The client, if it still has a socket, builds everything anew.
    pub(super) fn peer_ended(&mut self, clock: Clock, peer: PeerId, why: PeerEnd) {
        let Some(seat) = self.seat_of(peer) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if let Link::Dual { publisher, .. } = &mut who.link
            && *publisher == Some(peer)
            && !who.has_offered
        {
            // It never had anything to connect for. The first offer makes a new one.
            *publisher = None;
            who.lost.remove(&peer);
            self.by_peer.remove(&peer);
            return;
        }
        let was_active = who.is_active();
        let leaving = match why {
            PeerEnd::NeverConnected if !was_active => {
                Leaving::told(DisconnectReason::JoinFailure, Action::Disconnect)
            }
            PeerEnd::ConsentExpired => Leaving::told(DisconnectReason::ConnectionTimeout, Action::Reconnect),
            PeerEnd::NeverConnected | PeerEnd::FingerprintMismatch | PeerEnd::HandshakeFailed => {
                Leaving::told(DisconnectReason::MediaFailure, Action::Reconnect)
            }
            PeerEnd::ClosedByPeer => Leaving::told(DisconnectReason::ClientInitiated, Action::Reconnect),
        };
        self.depart(clock, seat, leaving);
    }

    /// Removes a participant and all that hangs on it, and tells those who must know.
    pub(super) fn depart(&mut self, clock: Clock, seat: Seat, leaving: Leaving) {
        if let Some(action) = leaving.action {
            self.send(seat, Response::Leave(leave_request(leaving.reason, action)));
        }
        for track in self.people.get(&seat).map(|who| who.tracks.clone()).unwrap_or_default() {
            self.report_unpublished(clock, seat, track);
        }
        let Some(mut who) = self.people.remove(&seat) else { return };
        if let Some(session) = who.session {
            self.by_session.remove(&session);
            self.outbox.push_back(Output::Close { session });
        }
        self.by_identity.remove(&who.identity);
        for peer in who.link.peers() {
            self.by_peer.remove(&peer);
            self.command(Command::RemovePeer { peer });
        }
        for (id, subscription) in &who.subscriptions {
            if let Some(track) = self.tracks.get(id) {
                self.outbox.push_back(Output::Notice(Notice::Unsubscribed { kind: track.kind }));
                self.demand_changed(clock, *id, Some(&subscription.demand), None);
            }
        }
        let was_publisher = !who.data_tracks.is_empty()
            || who.tracks.iter().any(|id| self.tracks.get(id).is_some_and(Track::is_published));
        for track in std::mem::take(&mut who.tracks) {
            self.forget_track(track);
        }
        let data_tracks = std::mem::take(&mut who.data_tracks).into_iter();
        let had_data: BTreeSet<Seat> = data_tracks
            .filter_map(|track| self.forget_data_track(track))
            .flat_map(|(_, had_it)| had_it)
            .collect();
        self.rpcs_gone(seat);
        self.stage.left(seat);
        self.changed.remove(&seat);
        self.loudness.remove(&seat);
        for other in self.people.values_mut() {
            other.heard.remove(&seat);
            other.told_quality.remove(&seat);
            other.untold.remove(&seat);
        }
        self.notice(Notice::ParticipantLeft { reason: leaving.reason, after: who.stay(clock.now) });

        let was_active = who.is_active();
        who.state = State::Disconnected;
        who.version += 1;
        let mut info = who.info(Vec::new(), Vec::new());
        info.disconnect_reason = leaving.reason as i32;
        self.report_left(clock, was_active, info.clone());
        if !who.is_hidden() {
            self.departures.push(clock.now, &info);
            if leaving.replaced {
                self.tell_of_departure(&[info], |level| level < REPLACES_BY_IDENTITY);
            } else if was_publisher {
                self.tell_of_departure(&[info], |_| true);
            } else {
                self.announce_departure_soon(clock, info);
            }
        }
        for other in had_data {
            self.tell_data_handles(other);
        }
        self.counts_changed(clock);
        self.agent_may_have_left(seat, &who.identity, leaving.replaced);
        if self.phase == Phase::Open && self.people.values().all(Participant::is_dependent) {
            self.phase = Phase::Empty { until: clock.now + self.departure_timeout };
        }
        if self.people.is_empty() {
            // Nobody is there to be told anything.
            self.departed.clear();
            (self.announce_at, self.counts_at) = (None, None);
            (self.quality_at, self.qualities_at) = (None, None);
        }
    }

    /// Refuses one request, with the request copied in so that the client can tell which.
    pub(super) fn refuse(
        &mut self,
        seat: Seat,
        reason: request_response::Reason,
        message: String,
        request: Option<request_response::Request>,
    ) {
        let refusal = RequestResponse { request_id: 0, reason: reason as i32, message, request };
        self.send(seat, Response::RequestResponse(refusal));
    }
}
