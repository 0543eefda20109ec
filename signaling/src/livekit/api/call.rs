//! A call, from its HTTP request to what is to be done, as far as that can be told without the room.

use std::time::Duration;

use livekit_protocol as lk;
use livekit_protocol::RoomConfiguration;
use prost::Message;
use serde::de::DeserializeOwned;

use super::method::{Method, Needs, Place, below_prefix, place};
use super::{Answer, ApiError, rpc};
use crate::access::{self, Claims, Keys};
use crate::agents::is_deployment;
use crate::livekit::connect::given_token;
use crate::livekit::data::MAX_MESSAGE;
use crate::livekit::frame::Encoding;
use crate::livekit::limits::{RoomLimits, attributes_bytes};

/// The longest body that is read, in bytes. The largest right one sets a participant's metadata and attributes, where JSON
/// may take six bytes for one.
pub const MAX_BODY: usize = 4 << 20;

/// How long a room may take over a call that it can answer at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether a path belongs to the server API.
pub fn is_call(path: &str) -> bool {
    below_prefix(path).is_some()
}

/// The method at a path, if there is one.
pub fn method(path: &str) -> Option<Method> {
    match place(path) {
        Ok(Place::Method(method)) => Some(method),
        Ok(Place::Elsewhere { .. }) | Err(_) => None,
    }
}

/// One HTTP request without its body; all untrusted.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Its method is POST.
    pub post: bool,
    /// The path.
    pub path: &'a str,
    /// The query string without `?`. May hold the token: do not log it.
    pub query: &'a str,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
}

/// A call by somebody we know. Whether the token is good enough is seen when the body is read, which names the room.
pub struct Call {
    method: Method,
    encoding: Encoding,
    claims: Claims,
}

/// Checks what can be checked before the body is read, so that nobody unknown makes us read one.
///
/// # Errors
/// [`ApiError`]: the path, the content type or the token.
pub fn open(head: &Head<'_>, keys: &Keys, unix_ms: i64) -> Result<Call, ApiError> {
    let place = place(head.path)?;
    if !head.post {
        return Err(ApiError::NotPost);
    }
    let media_type = head.content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    let encoding = match media_type.trim().to_ascii_lowercase().as_str() {
        "application/json" => Encoding::Json,
        "application/protobuf" => Encoding::Protobuf,
        _ => return Err(ApiError::ContentType),
    };
    let token = given_token(head.query, head.authorization);
    let claims = access::verify(keys, &token, unix_ms.div_euclid(1000))?;
    match place {
        Place::Method(method) => Ok(Call { method, encoding, claims }),
        Place::Elsewhere { service, instead } => Err(ApiError::NotHere { service, instead }),
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Make a room, or change the one of that name.
    CreateRoom {
        /// Its name.
        name: String,
        /// What is said of it.
        config: Box<RoomConfiguration>,
    },
    /// Tell of rooms.
    ListRooms {
        /// Which; empty for all.
        names: Vec<String>,
    },
    /// Send for an agent, and make the room if it is not there.
    Dispatch {
        /// The room's name.
        room: String,
        /// Which agent, and what it is told.
        agent: Box<lk::RoomAgentDispatch>,
    },
    /// Something in one room.
    InRoom {
        /// Its name.
        name: String,
        /// What.
        call: RoomCall,
    },
}

/// What is to be done in a room.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomCall {
    /// Take over what is set in it, and tell of the room.
    Configure(Box<RoomConfiguration>),
    /// Tell of the room.
    Describe,
    /// Send everybody away and end.
    Delete,
    /// Tell of everybody, the hidden included.
    ListParticipants,
    /// Tell of one.
    GetParticipant {
        /// Who.
        identity: String,
    },
    /// Send one away.
    RemoveParticipant {
        /// Who.
        identity: String,
    },
    /// Mute a track.
    MuteTrack(lk::MuteRoomTrackRequest),
    /// Change what is said of a participant, and what it may do.
    UpdateParticipant(Box<lk::UpdateParticipantRequest>),
    /// Subscribe a participant to tracks, or unsubscribe it.
    UpdateSubscriptions(lk::UpdateSubscriptionsRequest),
    /// Send a data message.
    SendData(Box<lk::SendDataRequest>),
    /// Change the room's metadata.
    UpdateMetadata {
        /// To this.
        metadata: String,
    },
    /// Call a method of a participant's.
    PerformRpc(lk::PerformRpcRequest),
    /// Send for an agent.
    CreateDispatch(Box<lk::RoomAgentDispatch>),
    /// Take back what sent for an agent.
    DeleteDispatch {
        /// Its id.
        id: String,
    },
    /// Tell of what sent for agents.
    ListDispatches {
        /// Of one by its id; empty for all.
        id: String,
    },
}

impl RoomCall {
    /// The answer when there is no such room.
    ///
    /// # Errors
    /// [`ApiError::NoRoom`], or [`ApiError::NoParticipant`] where LiveKit's server says that. The list of a room that has ended
    /// is empty, as it was in its last moment.
    pub fn without_room(&self) -> Result<Answer, ApiError> {
        match self {
            RoomCall::ListParticipants => Ok(Answer::Participants(Vec::new())),
            RoomCall::GetParticipant { .. } | RoomCall::RemoveParticipant { .. } => {
                Err(ApiError::NoParticipant)
            }
            RoomCall::Configure(_)
            | RoomCall::Describe
            | RoomCall::Delete
            | RoomCall::MuteTrack(_)
            | RoomCall::UpdateParticipant(_)
            | RoomCall::UpdateSubscriptions(_)
            | RoomCall::SendData(_)
            | RoomCall::UpdateMetadata { .. }
            | RoomCall::PerformRpc(_)
            | RoomCall::CreateDispatch(_)
            | RoomCall::DeleteDispatch { .. }
            | RoomCall::ListDispatches { .. } => Err(ApiError::NoRoom),
        }
    }

    /// How long to wait for the room's answer.
    pub fn patience(&self) -> Duration {
        match self {
            RoomCall::PerformRpc(request) => rpc::response_timeout(request) + PATIENCE,
            _ => PATIENCE,
        }
    }
}

impl Call {
    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// How the body is written, and the answer is to be.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Reads the body, and sees whether the token is good for what it asks.
    ///
    /// # Errors
    /// [`ApiError`], the first thing found wrong: the body, the grants, then what the body asks. Never panics.
    pub fn read(&self, body: &[u8], limits: &RoomLimits) -> Result<Request, ApiError> {
        match self.method {
            Method::CreateRoom => self.create_room(self.decode(body, "CreateRoomRequest")?, limits),
            Method::ListRooms => {
                let lk::ListRoomsRequest { names } = self.decode(body, "ListRoomsRequest")?;
                self.permit("", "")?;
                Ok(Request::ListRooms { names })
            }
            Method::DeleteRoom => {
                let lk::DeleteRoomRequest { room } = self.decode(body, "DeleteRoomRequest")?;
                self.in_room(room, RoomCall::Delete)
            }
            Method::ListParticipants => {
                let lk::ListParticipantsRequest { room } = self.decode(body, "ListParticipantsRequest")?;
                self.in_room(room, RoomCall::ListParticipants)
            }
            Method::GetParticipant => {
                let lk::RoomParticipantIdentity { room, identity, .. } =
                    self.decode(body, "RoomParticipantIdentity")?;
                self.in_room(room, RoomCall::GetParticipant { identity })
            }
            Method::RemoveParticipant => {
                let lk::RoomParticipantIdentity { room, identity, .. } =
                    self.decode(body, "RoomParticipantIdentity")?;
                self.in_room(room, RoomCall::RemoveParticipant { identity })
            }
            Method::MutePublishedTrack => {
                let request: lk::MuteRoomTrackRequest = self.decode(body, "MuteRoomTrackRequest")?;
                self.in_room(request.room.clone(), RoomCall::MuteTrack(request))
            }
            Method::UpdateParticipant => {
                let request: lk::UpdateParticipantRequest = self.decode(body, "UpdateParticipantRequest")?;
                self.in_room(request.room.clone(), RoomCall::UpdateParticipant(Box::new(request)))
            }
            Method::UpdateSubscriptions => {
                let request: lk::UpdateSubscriptionsRequest =
                    self.decode(body, "UpdateSubscriptionsRequest")?;
                self.in_room(request.room.clone(), RoomCall::UpdateSubscriptions(request))
            }
            Method::SendData => self.send_data(self.decode(body, "SendDataRequest")?),
            Method::UpdateRoomMetadata => {
                let lk::UpdateRoomMetadataRequest { room, metadata } =
                    self.decode(body, "UpdateRoomMetadataRequest")?;
                let request = self.in_room(room, RoomCall::UpdateMetadata { metadata: metadata.clone() })?;
                fits("metadata", metadata.len(), limits.metadata_bytes)?;
                Ok(request)
            }
            Method::ForwardParticipant => {
                let request: lk::ForwardParticipantRequest =
                    self.decode(body, "ForwardParticipantRequest")?;
                self.refuse_to_move(&request.room, &request.destination_room)
            }
            Method::MoveParticipant => {
                let request: lk::MoveParticipantRequest = self.decode(body, "MoveParticipantRequest")?;
                self.refuse_to_move(&request.room, &request.destination_room)
            }
            Method::PerformRpc => {
                let request: lk::PerformRpcRequest = self.decode(body, "PerformRpcRequest")?;
                let call = self.in_room(request.room.clone(), RoomCall::PerformRpc(request.clone()))?;
                rpc::check(&request, limits)?;
                Ok(call)
            }
            Method::CreateDispatch => self.create_dispatch(body, limits),
            Method::DeleteDispatch => {
                let request: lk::DeleteAgentDispatchRequest =
                    self.decode(body, "DeleteAgentDispatchRequest")?;
                self.in_room(request.room, RoomCall::DeleteDispatch { id: request.dispatch_id })
            }
            Method::ListDispatch => {
                let request: lk::ListAgentDispatchRequest = self.decode(body, "ListAgentDispatchRequest")?;
                self.in_room(request.room, RoomCall::ListDispatches { id: request.dispatch_id })
            }
        }
    }

    fn create_room(&self, request: lk::CreateRoomRequest, limits: &RoomLimits) -> Result<Request, ApiError> {
        self.permit(&request.name, "")?;
        if request.name.is_empty() {
            return Err(ApiError::Empty("room name"));
        }
        fits("room name", request.name.len(), limits.name_bytes)?;
        fits("metadata", request.metadata.len(), limits.metadata_bytes)?;
        if !request.room_preset.is_empty() {
            return Err(ApiError::NoPreset);
        }
        if request.egress.is_some() {
            // Better said than a room that is never recorded.
            return Err(ApiError::NotHere { service: "Egress", instead: "create the room without it" });
        }
        for agent in &request.agents {
            check_agent(agent, limits)?;
        }
        if request.agents.len() > limits.dispatches {
            return Err(ApiError::TooManyDispatches { limit: limits.dispatches });
        }
        let config = RoomConfiguration {
            name: request.name.clone(),
            empty_timeout: request.empty_timeout,
            departure_timeout: request.departure_timeout,
            max_participants: request.max_participants,
            metadata: request.metadata,
            agents: request.agents,
            ..RoomConfiguration::default()
        };
        Ok(Request::CreateRoom { name: request.name, config: Box::new(config) })
    }

    /// A room that is not there is made, as a join would.
    fn create_dispatch(&self, body: &[u8], limits: &RoomLimits) -> Result<Request, ApiError> {
        let request: lk::CreateAgentDispatchRequest = self.decode(body, "CreateAgentDispatchRequest")?;
        let lk::CreateAgentDispatchRequest {
            agent_name,
            room,
            metadata,
            restart_policy,
            deployment,
            attributes,
        } = request;
        self.permit(&room, "")?;
        if room.is_empty() {
            return Err(ApiError::Empty("room name"));
        }
        fits("room name", room.len(), limits.name_bytes)?;
        let agent = lk::RoomAgentDispatch { agent_name, metadata, restart_policy, deployment, attributes };
        check_agent(&agent, limits)?;
        Ok(Request::Dispatch { room, agent: Box::new(agent) })
    }

    fn send_data(&self, request: lk::SendDataRequest) -> Result<Request, ApiError> {
        let (got, size) = (request.nonce.len(), request.data.len());
        let topic = request.topic.as_ref().map_or(0, String::len);
        let call = self.in_room(request.room.clone(), RoomCall::SendData(Box::new(request)))?;
        if got != 0 && got != 16 {
            return Err(ApiError::Nonce { got });
        }
        fits("data", size.saturating_add(topic), MAX_MESSAGE)?;
        Ok(call)
    }

    fn refuse_to_move(&self, room: &str, destination: &str) -> Result<Request, ApiError> {
        self.permit(room, destination)?;
        Err(if room == destination { ApiError::SameRoom } else { ApiError::StaysInItsRoom })
    }

    fn in_room(&self, name: String, call: RoomCall) -> Result<Request, ApiError> {
        self.permit(&name, "")?;
        Ok(Request::InRoom { name, call })
    }

    fn permit(&self, room: &str, destination: &str) -> Result<(), ApiError> {
        let needs: Needs = self.method.needs();
        let grant = self.claims.video.as_ref();
        let met = grant.is_some_and(|grant| needs.are_met(grant, room, destination));
        if met { Ok(()) } else { Err(ApiError::NotAllowed(needs)) }
    }

    fn decode<T: Message + Default + DeserializeOwned>(
        &self,
        body: &[u8],
        message: &'static str,
    ) -> Result<T, ApiError> {
        let malformed = |reason: String| ApiError::Malformed { encoding: self.encoding, message, reason };
        match self.encoding {
            Encoding::Protobuf => T::decode(body).map_err(|error| malformed(error.to_string())),
            Encoding::Json => {
                let read = |body| {
                    let mut value: serde_json::Value = serde_json::from_slice(body)?;
                    drop_nulls(&mut value);
                    serde_json::from_value(value)
                };
                read(body).map_err(|error: serde_json::Error| malformed(error.to_string()))
            }
        }
    }
}

/// In protobuf-JSON `null` is another way of leaving a field out.
fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Whether an agent can be sent for in these words.
///
/// # Errors
/// [`ApiError::TooLong`] and [`ApiError::Deployment`]
pub(in crate::livekit) fn check_agent(
    agent: &lk::RoomAgentDispatch,
    limits: &RoomLimits,
) -> Result<(), ApiError> {
    fits("agent_name", agent.agent_name.len(), limits.name_bytes)?;
    fits("metadata", agent.metadata.len(), limits.metadata_bytes)?;
    fits("attributes", attributes_bytes(&agent.attributes), limits.attributes_bytes)?;
    if is_deployment(&agent.deployment) { Ok(()) } else { Err(ApiError::Deployment) }
}

/// Whether something is within its limit, in bytes.
pub(super) fn fits(what: &'static str, got: usize, limit: usize) -> Result<(), ApiError> {
    if got <= limit { Ok(()) } else { Err(ApiError::TooLong { what, got, limit }) }
}
