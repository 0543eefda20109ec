//! The HTTP side of a connection: from path, query and headers to an [`Admission`], or to a status and a text.
//!
//! `/rtc` (v0: two peer connections, parameters one by one) and `/rtc/v1` (one peer connection, everything in
//! `join_request`) default differently and share no defaulting code: an absent `auto_subscribe` is true in v0,
//! while an absent `connection_settings` is protobuf's false in v1. Data tracks are to be asked for one by one in both.
//! Always: an `Admission` has a room, an identity and names within the limits, from a token that was verified.
//! Clients look at both status and text: a 404 would silently send them from v1 to v0, so none is given here.
//! Not here: whether the room has space ([`Room::join`](super::Room::join)), the upgrade, CORS.

mod join_request;
mod query;

use std::collections::HashMap;

use livekit_protocol::participant_info::Kind;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionSettings, JoinRequest, ParticipantPermission, RoomConfiguration,
    SessionDescription, TrackSource,
};

pub use self::join_request::{JoinRequestError, MAX_INFLATED, decode_join_request};
use self::query::Query;
use super::limits::{RoomLimits, attributes_bytes};
use super::policy::{PolicyError, policy};
use crate::access::{self, Claims, Keys, TokenError, VideoGrant};

/// Which way of connecting a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/rtc`
    V0,
    /// `/rtc/v1`
    V1,
}

/// What is wanted of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A WebSocket.
    Connect,
    /// The reason why a WebSocket failed; `200 success` if it would not.
    Validate,
}

/// The signalling endpoint at `path`, if it is one. A doubled leading slash, which clients make of a base URL
/// with a trailing slash, is forgiven.
pub fn route(path: &str) -> Option<(Endpoint, Purpose)> {
    match path.trim_start_matches('/').trim_end_matches('/') {
        "rtc" => Some((Endpoint::V0, Purpose::Connect)),
        "rtc/validate" => Some((Endpoint::V0, Purpose::Validate)),
        "rtc/v1" => Some((Endpoint::V1, Purpose::Connect)),
        "rtc/v1/validate" => Some((Endpoint::V1, Purpose::Validate)),
        _ => None,
    }
}

/// One HTTP request, as far as admission needs it; all untrusted.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The query string without `?`, percent-encoded as it came. Holds the token: do not log it.
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
}

/// How many peer connections the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One to publish, where the client offers, and one to subscribe, where we offer (v0).
    Dual,
    /// One for both, where the client offers (v1).
    Single,
}

/// How a participant talks with its room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Signalling {
    /// In this protocol, on a WebSocket that may be lost and come back.
    #[default]
    WebSocket,
    /// By one offer over HTTP. What it sends is published as it is, since nothing is announced; with its path it is gone.
    Publish,
    /// The same, to get what others send. Its sections stay and what is in them changes.
    Watch {
        /// The identity of the participant to watch; `None`: whoever speaks.
        participant: Option<String>,
    },
}

/// A client that wants its old place back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The sid it had.
    pub participant_sid: String,
    /// Its reason, a `ReconnectReason`.
    pub reason: i32,
}

/// Somebody who may come in, and how.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, from the token and the request")]
pub struct Admission {
    /// The room's name.
    pub room: String,
    /// Who it is; unique in the room.
    pub identity: String,
    /// Name to show.
    pub name: String,
    /// The application's text.
    pub metadata: String,
    /// The application's pairs.
    pub attributes: HashMap<String, String>,
    /// What sort of participant it is.
    pub kind: Kind,
    /// What it may do, with the defaults filled in.
    pub permission: ParticipantPermission,
    /// A recorder, exempt from subscription permissions.
    pub recorder: bool,
    /// What it says of its program and device.
    pub client: ClientInfo,
    /// How many peer connections it has.
    pub mode: Mode,
    /// How it talks with its room.
    pub signalling: Signalling,
    /// Subscribe to everything unless told otherwise.
    pub auto_subscribe: bool,
    /// The same for data tracks.
    pub auto_subscribe_data: bool,
    /// It will say how large each picture is shown; begin with small ones.
    pub adaptive_stream: bool,
    /// Its offer, if it came along (v1).
    pub publisher_offer: Option<SessionDescription>,
    /// Tracks that it publishes from the start (v1).
    pub add_track_requests: Vec<AddTrackRequest>,
    /// It wants its old place back.
    pub resume: Option<Resume>,
    /// Seeds the room if this join makes it.
    pub room_config: Option<RoomConfiguration>,
    /// The claims of its token, from which refreshed ones are made.
    pub claims: Claims,
}

impl Admission {
    /// The level of the protocol that the client speaks.
    pub fn protocol(&self) -> i32 {
        self.client.protocol
    }
}

/// The answer to a request that is not let in: a status and a plain text, which clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Plain text body.
    pub body: String,
}

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is for something other than rooms.
    #[error("permission denied: the token has no video grant")]
    NoVideoGrant,
    /// The token does not allow joining.
    #[error("permission denied: the token has no roomJoin grant")]
    NoRoomJoin,
    /// The token names no room.
    #[error("the token names no room")]
    NoRoom,
    /// The token names nobody.
    #[error("identity cannot be empty")]
    NoIdentity,
    /// v1 without its parameter.
    #[error("join_request is required")]
    NoJoinRequest,
    /// v1 with a parameter that cannot be read.
    #[error("cannot decode join_request: {0}")]
    JoinRequest(#[from] JoinRequestError),
    /// An attribute of ours with a wrong value.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// v0 `attributes` that cannot be read.
    #[error("cannot decode attributes: not base64url of a JSON map of strings")]
    Attributes,
    /// Something is longer than the server allows.
    #[error("{what} of {got} bytes, limit {limit}")]
    TooLong {
        /// Which: `room name`, `identity`, `name`, `metadata` or `attributes`.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The limit.
        limit: usize,
    },
}

impl ConnectError {
    /// The answer to give.
    pub fn refusal(&self) -> Refusal {
        let status = match self {
            ConnectError::Token(error) => error.status(),
            ConnectError::NoVideoGrant | ConnectError::NoRoomJoin => 401,
            ConnectError::NoRoom
            | ConnectError::NoIdentity
            | ConnectError::NoJoinRequest
            | ConnectError::JoinRequest(_)
            | ConnectError::Attributes
            | ConnectError::Policy(_)
            | ConnectError::TooLong { .. } => 400,
        };
        Refusal { status, body: self.to_string() }
    }
}

/// Checks a request. `unix_ms` is the wall clock in milliseconds since the Unix epoch.
///
/// # Errors
/// [`ConnectError`], whose [`ConnectError::refusal`] is the HTTP answer. Never panics.
pub fn admit(
    request: &HttpRequest<'_>,
    keys: &Keys,
    limits: &RoomLimits,
    unix_ms: i64,
) -> Result<Admission, ConnectError> {
    let query = Query::parse(request.query);
    let token = token(&query, request.authorization);
    let claims = access::verify(keys, token, unix_ms.div_euclid(1000))?;
    let grant = claims.video.as_ref().ok_or(ConnectError::NoVideoGrant)?;
    if !grant.room_join {
        return Err(ConnectError::NoRoomJoin);
    }
    let wish = match (query.get("join_request"), request.endpoint) {
        (Some(wrapped), _) if !wrapped.is_empty() => Wish::v1(decode_join_request(wrapped)?),
        (_, Endpoint::V1) => return Err(ConnectError::NoJoinRequest),
        (_, Endpoint::V0) => Wish::v0(&query)?,
    };
    let mut admission = Admission {
        room: grant.room.clone(),
        identity: claims.identity().to_owned(),
        name: claims.name.clone(),
        metadata: claims.metadata.clone(),
        attributes: claims.attributes.clone().into_iter().collect(),
        kind: kind(&claims.kind, grant),
        permission: permission(grant),
        recorder: grant.recorder,
        client: wish.client,
        mode: wish.mode,
        signalling: Signalling::WebSocket,
        auto_subscribe: wish.auto_subscribe,
        auto_subscribe_data: wish.auto_subscribe_data,
        adaptive_stream: wish.adaptive_stream,
        publisher_offer: wish.publisher_offer,
        add_track_requests: wish.add_track_requests,
        resume: wish.resume,
        room_config: claims.room_config.clone().and_then(|json| serde_json::from_value(json).ok()),
        claims: Claims::default(),
    };
    if grant.can_update_own_metadata() {
        if !wish.metadata.is_empty() {
            admission.metadata = wish.metadata;
        }
        admission.attributes.extend(wish.attributes);
    }
    if admission.client.browser.is_empty() {
        request.user_agent.map_or("", query::browser).clone_into(&mut admission.client.browser);
    }
    admission.claims = claims;
    check_sizes(&admission, limits)?;
    Ok(admission)
}

fn check_sizes(admission: &Admission, limits: &RoomLimits) -> Result<(), ConnectError> {
    if admission.room.is_empty() {
        return Err(ConnectError::NoRoom);
    }
    if admission.identity.is_empty() {
        return Err(ConnectError::NoIdentity);
    }
    for (what, got, limit) in [
        ("room name", admission.room.len(), limits.name_bytes),
        ("identity", admission.identity.len(), limits.name_bytes),
        ("name", admission.name.len(), limits.name_bytes),
        ("metadata", admission.metadata.len(), limits.metadata_bytes),
        ("attributes", attributes_bytes(&admission.attributes), limits.attributes_bytes),
    ] {
        if got > limit {
            return Err(ConnectError::TooLong { what, got, limit });
        }
    }
    policy(&admission.attributes)?;
    Ok(())
}

/// The token of a request: that of its `Authorization` header, else its parameter; empty if there is none.
pub(crate) fn given_token(query: &str, authorization: Option<&str>) -> String {
    token(&Query::parse(query), authorization).to_owned()
}

/// One parameter of a query string, decoded.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    Query::parse(query).get(name).map(str::to_owned)
}

fn token<'a>(query: &'a Query<'_>, authorization: Option<&'a str>) -> &'a str {
    let header = authorization.and_then(bearer).filter(|token| !token.is_empty());
    header.or(query.get("access_token")).unwrap_or_default()
}

/// The token of an `Authorization: Bearer …` header (RFC 6750 §2.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn kind(name: &str, grant: &VideoGrant) -> Kind {
    match name {
        "ingress" => Kind::Ingress,
        "egress" => Kind::Egress,
        "sip" => Kind::Sip,
        "agent" => Kind::Agent,
        "connector" => Kind::Connector,
        "bridge" => Kind::Bridge,
        _ if grant.agent => Kind::Agent,
        _ if grant.recorder => Kind::Egress,
        _ => Kind::Standard,
    }
}

fn permission(grant: &VideoGrant) -> ParticipantPermission {
    let source = |name: &String| match name.to_ascii_lowercase().as_str() {
        "camera" => TrackSource::Camera,
        "microphone" => TrackSource::Microphone,
        "screen_share" => TrackSource::ScreenShare,
        "screen_share_audio" => TrackSource::ScreenShareAudio,
        _ => TrackSource::Unknown,
    };
    #[expect(deprecated, reason = "older clients read the deprecated fields")]
    ParticipantPermission {
        can_subscribe: grant.can_subscribe(),
        can_publish: grant.can_publish(),
        can_publish_data: grant.can_publish_data(),
        can_publish_sources: grant.can_publish_sources.iter().map(|name| source(name) as i32).collect(),
        hidden: grant.hidden,
        recorder: grant.recorder,
        can_update_metadata: grant.can_update_own_metadata(),
        agent: grant.agent,
        can_subscribe_metrics: grant.can_subscribe_metrics(),
        can_manage_agent_session: false,
    }
}

/// What the client asks for, on either path.
struct Wish {
    client: ClientInfo,
    mode: Mode,
    auto_subscribe: bool,
    auto_subscribe_data: bool,
    adaptive_stream: bool,
    metadata: String,
    attributes: HashMap<String, String>,
    publisher_offer: Option<SessionDescription>,
    add_track_requests: Vec<AddTrackRequest>,
    resume: Option<Resume>,
}

impl Wish {
    fn v0(query: &Query<'_>) -> Result<Wish, ConnectError> {
        let flag = |name, absent| query.get(name).map_or(absent, |value| matches!(value, "1" | "true"));
        let attributes = match query.get("attributes") {
            None | Some("") => HashMap::new(),
            Some(text) => join_request::base64_any(text)
                .and_then(|json| serde_json::from_slice(&json).ok())
                .ok_or(ConnectError::Attributes)?,
        };
        Ok(Wish {
            client: query.client_info(),
            mode: Mode::Dual,
            auto_subscribe: flag("auto_subscribe", true),
            auto_subscribe_data: flag("auto_subscribe_data_track", false),
            adaptive_stream: flag("adaptive_stream", false),
            metadata: String::new(),
            attributes,
            publisher_offer: None,
            add_track_requests: Vec::new(),
            resume: flag("reconnect", false).then(|| Resume {
                participant_sid: query.get("sid").unwrap_or_default().to_owned(),
                reason: query
                    .get("reconnect_reason")
                    .and_then(|reason| reason.parse().ok())
                    .unwrap_or_default(),
            }),
        })
    }

    fn v1(request: JoinRequest) -> Wish {
        let settings = request.connection_settings.unwrap_or(ConnectionSettings {
            auto_subscribe: false,
            adaptive_stream: false,
            subscriber_allow_pause: None,
            disable_ice_lite: false,
            auto_subscribe_data_track: None,
        });
        Wish {
            client: request.client_info.unwrap_or_default(),
            mode: Mode::Single,
            auto_subscribe: settings.auto_subscribe,
            auto_subscribe_data: settings.auto_subscribe_data_track.unwrap_or(false),
            adaptive_stream: settings.adaptive_stream,
            metadata: request.metadata,
            attributes: request.participant_attributes,
            publisher_offer: request.publisher_offer,
            add_track_requests: request.add_track_requests,
            resume: request.reconnect.then_some(Resume {
                participant_sid: request.participant_sid,
                reason: request.reconnect_reason,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
