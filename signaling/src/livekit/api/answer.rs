//! What a call is answered with, in the encoding that it came in.

use livekit_protocol as lk;

use super::json;
use crate::livekit::frame::Encoding;

/// The answer to a call that did what it should.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A room.
    Room(Box<lk::Room>),
    /// Rooms.
    Rooms(Vec<lk::Room>),
    /// People.
    Participants(Vec<lk::ParticipantInfo>),
    /// One of them.
    Participant(Box<lk::ParticipantInfo>),
    /// A track that was muted, or the other way round.
    Muted(Box<lk::TrackInfo>),
    /// What a participant's method gave.
    Rpc {
        /// Its result.
        payload: String,
    },
    /// A dispatch of agents.
    Dispatch(Box<lk::AgentDispatch>),
    /// Dispatches.
    Dispatches(Vec<lk::AgentDispatch>),
    /// Nothing more to say.
    Done,
}

impl Answer {
    /// The body of the HTTP answer.
    pub fn write(self, encoding: Encoding) -> Vec<u8> {
        match self {
            Answer::Room(room) => written(&*room, json::ROOM, encoding),
            Answer::Rooms(rooms) => written(&lk::ListRoomsResponse { rooms }, json::ROOMS, encoding),
            Answer::Participants(participants) => {
                written(&lk::ListParticipantsResponse { participants }, json::PARTICIPANTS, encoding)
            }
            Answer::Participant(info) => written(&*info, json::PARTICIPANT, encoding),
            Answer::Muted(track) => {
                written(&lk::MuteRoomTrackResponse { track: Some(*track) }, json::MUTED, encoding)
            }
            Answer::Rpc { payload } => written(&lk::PerformRpcResponse { payload }, json::RPC, encoding),
            Answer::Dispatch(dispatch) => written(&*dispatch, json::DISPATCH, encoding),
            Answer::Dispatches(agent_dispatches) => {
                written(&lk::ListAgentDispatchResponse { agent_dispatches }, json::DISPATCHES, encoding)
            }
            // All empty messages are written the same way.
            Answer::Done => written(&lk::DeleteRoomResponse {}, json::EMPTY, encoding),
        }
    }
}

fn written<M: prost::Message + serde::Serialize>(
    message: &M,
    shape: json::Shape,
    encoding: Encoding,
) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => message.encode_to_vec(),
        Encoding::Json => json::write(message, shape).unwrap_or_else(|error| {
            // Only an enum number outside the protocol cannot be written, and none is kept (`livekit::track`).
            tracing::error!(%error, "answer cannot be written as JSON");
            b"{}".to_vec()
        }),
    }
}
