//! What is said of a participant, and what it may do, changed from outside.

use livekit_protocol::UpdateParticipantRequest;

use super::{Answer, ApiError};
use crate::livekit::metadata::{Change, ChangeError};
use crate::livekit::output::Clock;
use crate::livekit::room::Room;

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> ApiError {
        match error {
            ChangeError::Reserved(name) => ApiError::Reserved(name),
            ChangeError::TooLong { what, got, limit } => ApiError::TooLong { what, got, limit },
            ChangeError::Policy(error) => ApiError::Policy(error),
        }
    }
}

impl Room {
    /// What is empty stays as it is; an attribute set to nothing is removed; permissions are replaced as a whole. The client
    /// gets a token that says the same, for its next join.
    pub(super) fn update_participant(
        &mut self,
        clock: Clock,
        request: UpdateParticipantRequest,
    ) -> Result<Answer, ApiError> {
        let seat = self.seat_named(&request.identity)?;
        let UpdateParticipantRequest { name, metadata, attributes, permission, .. } = request;
        let change = Change { name, metadata, attributes };
        if !change.is_empty() {
            self.change(clock, seat, change)?;
        }
        if let Some(permission) = permission {
            self.change_rights(clock, seat, permission);
        }
        self.refresh_token(clock, seat);
        let who = self.people.get(&seat).ok_or(ApiError::NoParticipant)?;
        Ok(Answer::Participant(Box::new(self.info(who))))
    }
}
