//! The methods of the server API: their paths, and what a token must grant for each.

use std::fmt;

use super::ApiError;
use crate::access::VideoGrant;

/// A method of `livekit.RoomService` or `livekit.AgentDispatchService`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the protocol's names")]
pub enum Method {
    CreateRoom,
    ListRooms,
    DeleteRoom,
    ListParticipants,
    GetParticipant,
    RemoveParticipant,
    MutePublishedTrack,
    UpdateParticipant,
    UpdateSubscriptions,
    SendData,
    UpdateRoomMetadata,
    ForwardParticipant,
    MoveParticipant,
    PerformRpc,
    CreateDispatch,
    DeleteDispatch,
    ListDispatch,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 17] = [
        Method::CreateRoom,
        Method::ListRooms,
        Method::DeleteRoom,
        Method::ListParticipants,
        Method::GetParticipant,
        Method::RemoveParticipant,
        Method::MutePublishedTrack,
        Method::UpdateParticipant,
        Method::UpdateSubscriptions,
        Method::SendData,
        Method::UpdateRoomMetadata,
        Method::ForwardParticipant,
        Method::MoveParticipant,
        Method::PerformRpc,
        Method::CreateDispatch,
        Method::DeleteDispatch,
        Method::ListDispatch,
    ];

    /// The last part of its path.
    pub const fn name(self) -> &'static str {
        match self {
            Method::CreateRoom => "CreateRoom",
            Method::ListRooms => "ListRooms",
            Method::DeleteRoom => "DeleteRoom",
            Method::ListParticipants => "ListParticipants",
            Method::GetParticipant => "GetParticipant",
            Method::RemoveParticipant => "RemoveParticipant",
            Method::MutePublishedTrack => "MutePublishedTrack",
            Method::UpdateParticipant => "UpdateParticipant",
            Method::UpdateSubscriptions => "UpdateSubscriptions",
            Method::SendData => "SendData",
            Method::UpdateRoomMetadata => "UpdateRoomMetadata",
            Method::ForwardParticipant => "ForwardParticipant",
            Method::MoveParticipant => "MoveParticipant",
            Method::PerformRpc => "PerformRpc",
            Method::CreateDispatch => "CreateDispatch",
            Method::DeleteDispatch => "DeleteDispatch",
            Method::ListDispatch => "ListDispatch",
        }
    }

    /// Where it is called.
    pub fn path(self) -> String {
        format!("/twirp/{}/{}", self.service(), self.name())
    }

    const fn service(self) -> &'static str {
        match self {
            Method::CreateDispatch | Method::DeleteDispatch | Method::ListDispatch => {
                "livekit.AgentDispatchService"
            }
            Method::CreateRoom
            | Method::ListRooms
            | Method::DeleteRoom
            | Method::ListParticipants
            | Method::GetParticipant
            | Method::RemoveParticipant
            | Method::MutePublishedTrack
            | Method::UpdateParticipant
            | Method::UpdateSubscriptions
            | Method::SendData
            | Method::UpdateRoomMetadata
            | Method::ForwardParticipant
            | Method::MoveParticipant
            | Method::PerformRpc => "livekit.RoomService",
        }
    }

    /// What a token must grant.
    pub const fn needs(self) -> Needs {
        match self {
            Method::CreateRoom | Method::DeleteRoom => Needs::Create,
            Method::ListRooms => Needs::List,
            Method::ListParticipants
            | Method::GetParticipant
            | Method::RemoveParticipant
            | Method::MutePublishedTrack
            | Method::UpdateParticipant
            | Method::UpdateSubscriptions
            | Method::SendData
            | Method::UpdateRoomMetadata
            | Method::PerformRpc
            | Method::CreateDispatch
            | Method::DeleteDispatch
            | Method::ListDispatch => Needs::Admin,
            Method::ForwardParticipant | Method::MoveParticipant => Needs::AdminOfBoth,
        }
    }
}

/// What a token must grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Needs {
    /// `roomCreate`, for any room.
    Create,
    /// `roomList`
    List,
    /// `roomAdmin`, and `room` that is the call's.
    Admin,
    /// The same, and `destinationRoom` that is the call's.
    AdminOfBoth,
}

impl Needs {
    /// Whether a grant is enough for a call about `room`, and `destination` where there is one.
    pub(super) fn are_met(self, grant: &VideoGrant, room: &str, destination: &str) -> bool {
        let admin = grant.room_admin && grant.room == room;
        match self {
            Needs::Create => grant.room_create,
            Needs::List => grant.room_list,
            Needs::Admin => admin,
            Needs::AdminOfBoth => admin && grant.destination_room == destination,
        }
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Needs::Create => "roomCreate",
            Needs::List => "roomList",
            Needs::Admin => "roomAdmin for this room",
            Needs::AdminOfBoth => "roomAdmin for this room and destinationRoom for the other",
        })
    }
}

/// Where a path below `/twirp/` leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Method(Method),
    /// A method of a service that is known and not here.
    Elsewhere {
        service: &'static str,
        instead: &'static str,
    },
}

/// Services that LiveKit has, and what to do without.
const ELSEWHERE: [(&str, &str, &str); 3] = [
    (
        "livekit.Egress",
        "Egress",
        "nothing records or streams here; a recorder can join the room as a participant",
    ),
    ("livekit.Ingress", "Ingress", "media comes from participants alone; a bridge can join the room as one"),
    ("livekit.SIP", "SIP", "there are no telephone lines here; a gateway can join the room as a participant"),
];

/// The part of a path that belongs to the server API: `livekit.RoomService/CreateRoom`. A doubled leading slash, which SDKs
/// make of a base URL with a trailing one, is forgiven.
pub(super) fn below_prefix(path: &str) -> Option<&str> {
    path.trim_start_matches('/').strip_prefix("twirp/")
}

pub(super) fn place(path: &str) -> Result<Place, ApiError> {
    let (service, name) =
        below_prefix(path).and_then(|rest| rest.split_once('/')).ok_or(ApiError::BadRoute)?;
    if let Some(method) =
        Method::ALL.into_iter().find(|method| method.service() == service && method.name() == name)
    {
        return Ok(Place::Method(method));
    }
    let known = ELSEWHERE.into_iter().find(|(path, ..)| *path == service);
    known.map(|(_, service, instead)| Place::Elsewhere { service, instead }).ok_or(ApiError::BadRoute)
}
