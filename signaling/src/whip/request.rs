//! Which request is which, and who may make it.

use super::error::{FRAGMENT, SDP, WhipError};
use super::{Protocol, offer};
use crate::access::Keys;
use crate::livekit::RoomLimits;
use crate::livekit::connect::{self, Admission, ConnectError, Endpoint, HttpRequest, Mode, Signalling};

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// Where sessions are made.
    Endpoint(Protocol),
    /// One session, by its name.
    Session(Protocol, &'a str),
}

impl Place<'_> {
    /// The protocol that it belongs to.
    pub const fn protocol(self) -> Protocol {
        match self {
            Place::Endpoint(protocol) | Place::Session(protocol, _) => protocol,
        }
    }

    /// Methods that it has, as in `Allow`. What others would mean is reserved (RFC 9725 §4.1).
    pub const fn methods(self) -> &'static str {
        match self {
            Place::Endpoint(_) => "POST, OPTIONS",
            Place::Session(..) => "PATCH, DELETE, OPTIONS",
        }
    }

    /// The header that tells what bodies it takes, and its value (RFC 9110 §12.5.1, RFC 5789 §3.1).
    pub const fn accepts(self) -> (&'static str, &'static str) {
        match self {
            Place::Endpoint(_) => ("accept-post", SDP),
            Place::Session(..) => ("accept-patch", FRAGMENT),
        }
    }

    /// Whether the body of a request is of the kind that belongs there.
    ///
    /// # Errors
    /// [`WhipError::ContentType`]
    pub fn check_type(self, content_type: Option<&str>) -> Result<(), WhipError> {
        let (_, wanted) = self.accepts();
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(WhipError::ContentType { wanted }) }
    }
}

/// The place at `path`, if it is one: `/whip`, LiveKit's `/whip/v1`, `/whep`, and a session's name below each.
pub fn place(path: &str) -> Option<Place<'_>> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.name() == first)?;
    let rest = match (protocol, rest.strip_prefix("v1")) {
        (Protocol::Whip, Some(after)) if after.is_empty() || after.starts_with('/') => {
            after.trim_start_matches('/')
        }
        _ => rest,
    };
    match rest {
        "" => Some(Place::Endpoint(protocol)),
        name => Some(Place::Session(protocol, name)),
    }
}

/// A request to make a session, as far as admission needs it; all untrusted.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Which.
    pub protocol: Protocol,
    /// The query string without `?`. May hold the token: do not log it.
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `User-Agent` header.
    pub user_agent: Option<&'a str>,
}

/// The token of a request: that of its `Authorization` header, else of its parameter `access_token`; empty without.
pub fn token(query: &str, authorization: Option<&str>) -> String {
    connect::given_token(query, authorization)
}

/// Checks who asks for a session. `unix_ms` is the wall clock in milliseconds since the Unix epoch.
///
/// # Errors
/// [`WhipError`], whose [`WhipError::refusal`] is the HTTP answer.
pub fn admit(
    head: &Head<'_>,
    keys: &Keys,
    limits: &RoomLimits,
    unix_ms: i64,
) -> Result<Admission, WhipError> {
    let bearer = format!("Bearer {}", token(head.query, head.authorization));
    // Parameters of the client protocol mean nothing here.
    let request = HttpRequest {
        endpoint: Endpoint::V0,
        query: "",
        authorization: Some(&bearer),
        user_agent: head.user_agent,
    };
    let mut admission = connect::admit(&request, keys, limits, unix_ms)?;
    (admission.mode, admission.auto_subscribe) = (Mode::Single, false);
    let permission = &mut admission.permission;
    admission.signalling = match head.protocol {
        Protocol::Whip if !permission.can_publish => return Err(WhipError::CannotPublish),
        Protocol::Whep if !permission.can_subscribe => return Err(WhipError::CannotSubscribe),
        Protocol::Whip => Signalling::Publish,
        Protocol::Whep => {
            permission.hidden = true;
            (permission.can_publish, permission.can_publish_data) = (false, false);
            Signalling::Watch { participant: watched(head.query, limits)? }
        }
    };
    Ok(admission)
}

/// Whom a viewer wants to watch.
fn watched(query: &str, limits: &RoomLimits) -> Result<Option<String>, WhipError> {
    let named = connect::parameter(query, "participant").filter(|identity| !identity.is_empty());
    match named {
        Some(identity) if identity.len() > limits.name_bytes => {
            Err(WhipError::Token(ConnectError::TooLong {
                what: "participant",
                got: identity.len(),
                limit: limits.name_bytes,
            }))
        }
        named => Ok(named),
    }
}

/// Checks an offer for what each protocol needs. What is in it is for the media core to judge.
///
/// # Errors
/// [`WhipError::NotText`] and [`WhipError::Nothing`]
pub fn offer(protocol: Protocol, body: &[u8]) -> Result<String, WhipError> {
    let text = std::str::from_utf8(body).map_err(|_| WhipError::NotText)?;
    let (sends, receives) = offer::directions(text);
    match protocol {
        Protocol::Whip if !sends => Err(WhipError::Nothing("sends (a=sendonly)")),
        Protocol::Whep if !receives => Err(WhipError::Nothing("receives (a=recvonly)")),
        Protocol::Whip | Protocol::Whep => Ok(text.to_owned()),
    }
}
