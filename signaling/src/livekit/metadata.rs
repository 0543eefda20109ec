//! What participants say of themselves while they are there.

use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{RequestResponse, UpdateParticipantMetadata};

use super::fallback::{NETWORK, TEXT};
use super::limits::attributes_bytes;
use super::output::Clock;
use super::participant::Seat;
use super::policy::policy;
use super::room::Room;

/// The level from which clients expect an answer on success, too.
const EXPECTS_SUCCESS: i32 = 15;

impl Room {
    /// An empty name or metadata stays as it is; an attribute set to nothing is removed.
    pub(super) fn update_metadata(
        &mut self,
        clock: Clock,
        seat: Seat,
        mut request: UpdateParticipantMetadata,
    ) {
        let limits = self.settings.limits.clone();
        let Some(who) = self.people.get_mut(&seat) else { return };
        if !who.permission.can_update_metadata {
            let why = "the token has no canUpdateOwnMetadata grant".to_owned();
            return self.answer_metadata(seat, Reason::NotAllowed, why, request);
        }
        // An app may send back what it was told.
        let own = if who.has_voice() { "" } else { TEXT };
        let claimed = request.attributes.remove(NETWORK);
        if claimed.is_some_and(|claimed| claimed != own) {
            let why = format!("attribute {NETWORK} is the server's to set");
            return self.answer_metadata(seat, Reason::NotAllowed, why, request);
        }
        let mut attributes = who.attributes.clone();
        for (key, value) in &request.attributes {
            if value.is_empty() {
                attributes.remove(key);
            } else {
                attributes.insert(key.clone(), value.clone());
            }
        }
        for (what, got, limit) in [
            ("name", request.name.len(), limits.name_bytes),
            ("metadata", request.metadata.len(), limits.metadata_bytes),
            ("attributes", attributes_bytes(&attributes), limits.attributes_bytes),
        ] {
            if got > limit {
                let why = format!("{what} of {got} bytes, limit {limit}");
                return self.answer_metadata(seat, Reason::LimitExceeded, why, request);
            }
        }
        if let Err(error) = policy(&attributes) {
            return self.answer_metadata(seat, Reason::LimitExceeded, error.to_string(), request);
        }
        who.attributes = attributes;
        if !request.name.is_empty() {
            who.name.clone_from(&request.name);
        }
        if !request.metadata.is_empty() {
            who.metadata.clone_from(&request.metadata);
        }
        let answer_success = who.protocol() >= EXPECTS_SUCCESS;
        self.announce_news(clock, seat);
        self.follow_policy(seat);
        if answer_success {
            let ok = RequestResponse { request_id: request.request_id, ..RequestResponse::default() };
            self.send(seat, Response::RequestResponse(ok));
        }
        self.refresh_token(clock, seat);
    }

    /// A refusal does not carry the request's texts back: what was too long is too long for the way back, too.
    fn answer_metadata(
        &mut self,
        seat: Seat,
        reason: Reason,
        message: String,
        request: UpdateParticipantMetadata,
    ) {
        let request_id = request.request_id;
        let request = match reason {
            Reason::LimitExceeded => UpdateParticipantMetadata { request_id, ..Default::default() },
            _ => request,
        };
        let request = Some(Request::UpdateMetadata(request));
        self.send(
            seat,
            Response::RequestResponse(RequestResponse {
                request_id,
                reason: reason as i32,
                message,
                request,
            }),
        );
    }
}
