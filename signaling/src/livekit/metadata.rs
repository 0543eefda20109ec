//! What participants say of themselves while they are there.

use std::collections::HashMap;

use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{RequestResponse, UpdateParticipantMetadata};

use super::fallback::{NETWORK, TEXT};
use super::limits::attributes_bytes;
use super::output::{Clock, Limit, Notice};
use super::participant::Seat;
use super::policy::{PolicyError, policy};
use super::room::Room;

/// The level from which clients expect an answer on success, too.
const EXPECTS_SUCCESS: i32 = 15;

/// What is to be said of a participant from now on. An empty name or metadata stays as it is; an attribute set to nothing
/// is removed.
pub(super) struct Change {
    pub(super) name: String,
    pub(super) metadata: String,
    pub(super) attributes: HashMap<String, String>,
}

impl Change {
    /// Whether nothing is to be changed.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_empty() && self.metadata.is_empty() && self.attributes.is_empty()
    }
}

/// Why something cannot be said of a participant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChangeError {
    /// An attribute that the server alone sets.
    #[error("attribute {0} is the server's to set")]
    Reserved(&'static str),
    /// It is longer than the server keeps.
    #[error("{what} of {got} bytes, limit {limit}")]
    TooLong {
        /// `name`, `metadata` or `attributes`.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// An attribute of ours with a wrong value.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Room {
    /// A client changes what is said of it.
    pub(super) fn update_metadata(
        &mut self,
        clock: Clock,
        seat: Seat,
        mut request: UpdateParticipantMetadata,
    ) {
        let Some(who) = self.people.get(&seat) else { return };
        let answer_success = who.protocol() >= EXPECTS_SUCCESS;
        if !who.permission.can_update_metadata {
            let why = "the token has no canUpdateOwnMetadata grant".to_owned();
            return self.answer_metadata(seat, Reason::NotAllowed, why, request);
        }
        let change = Change {
            name: request.name.clone(),
            metadata: request.metadata.clone(),
            attributes: request.attributes.clone(),
        };
        if let Err(error) = self.change(clock, seat, change) {
            if matches!(error, ChangeError::TooLong { .. }) {
                self.notice(Notice::LimitHit(Limit::Metadata));
            }
            let reason = match error {
                ChangeError::Reserved(name) => {
                    request.attributes.remove(name);
                    Reason::NotAllowed
                }
                ChangeError::TooLong { .. } | ChangeError::Policy(_) => Reason::LimitExceeded,
            };
            return self.answer_metadata(seat, reason, error.to_string(), request);
        }
        if answer_success {
            let ok = RequestResponse { request_id: request.request_id, ..RequestResponse::default() };
            self.send(seat, Response::RequestResponse(ok));
        }
        self.refresh_token(clock, seat);
    }

    /// Changes what is said of a participant, and tells everybody. The caller refreshes its token.
    pub(super) fn change(&mut self, clock: Clock, seat: Seat, mut change: Change) -> Result<(), ChangeError> {
        let limits = &self.settings.limits;
        let Some(who) = self.people.get_mut(&seat) else { return Ok(()) };
        // An app may send back what it was told.
        let own = if who.has_voice() { "" } else { TEXT };
        let claimed = change.attributes.remove(NETWORK);
        if claimed.is_some_and(|claimed| claimed != own) {
            return Err(ChangeError::Reserved(NETWORK));
        }
        let mut attributes = who.attributes.clone();
        for (key, value) in change.attributes {
            if value.is_empty() {
                attributes.remove(&key);
            } else {
                attributes.insert(key, value);
            }
        }
        for (what, got, limit) in [
            ("name", change.name.len(), limits.name_bytes),
            ("metadata", change.metadata.len(), limits.metadata_bytes),
            ("attributes", attributes_bytes(&attributes), limits.attributes_bytes),
        ] {
            if got > limit {
                return Err(ChangeError::TooLong { what, got, limit });
            }
        }
        policy(&attributes)?;
        who.attributes = attributes;
        if !change.name.is_empty() {
            who.name = change.name;
        }
        if !change.metadata.is_empty() {
            who.metadata = change.metadata;
        }
        self.announce_news(clock, seat);
        self.follow_policy(seat);
        Ok(())
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
