//! Why a call fails, as Twirp says it: a code, the HTTP status that belongs to it, and a sentence for people.

use super::method::Needs;
use super::rpc::RpcFault;
use crate::access::TokenError;
use crate::livekit::frame::Encoding;
use crate::livekit::policy::PolicyError;

/// Codes of the Twirp specification (version 7) that are given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The called side took too long.
    Canceled,
    /// Can never work, whatever the state of the room.
    InvalidArgument,
    /// The body cannot be read.
    Malformed,
    /// A room, participant or track that is not there.
    NotFound,
    /// No such method, or not a call at all.
    BadRoute,
    /// A good token, for something else.
    PermissionDenied,
    /// No token, or a bad one.
    Unauthenticated,
    /// A limit of this server; later it may work.
    ResourceExhausted,
    /// Not in this state, or not as the server is configured.
    FailedPrecondition,
    /// Not part of this server.
    Unimplemented,
    /// An application's method failed.
    Internal,
    /// The server, or the participant, is on its way out.
    Unavailable,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 12] = [
        Code::Canceled,
        Code::InvalidArgument,
        Code::Malformed,
        Code::NotFound,
        Code::BadRoute,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Code::Canceled => "canceled",
            Code::InvalidArgument => "invalid_argument",
            Code::Malformed => "malformed",
            Code::NotFound => "not_found",
            Code::BadRoute => "bad_route",
            Code::PermissionDenied => "permission_denied",
            Code::Unauthenticated => "unauthenticated",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
        }
    }

    /// The HTTP status that it comes with.
    pub const fn status(self) -> u16 {
        match self {
            Code::InvalidArgument | Code::Malformed => 400,
            Code::Unauthenticated => 401,
            Code::PermissionDenied => 403,
            Code::NotFound | Code::BadRoute => 404,
            Code::Canceled => 408,
            Code::FailedPrecondition => 412,
            Code::ResourceExhausted => 429,
            Code::Internal => 500,
            Code::Unimplemented => 501,
            Code::Unavailable => 503,
        }
    }
}

/// Why a call fails. Texts that LiveKit's server has, too, are its own: applications look at them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No method at this path.
    #[error("there is no method of the server API at this path")]
    BadRoute,
    /// Twirp knows POST only.
    #[error("methods of the server API are called with POST")]
    NotPost,
    /// Neither encoding.
    #[error("Content-Type must be application/json or application/protobuf")]
    ContentType,
    /// A service that LiveKit runs in processes of its own.
    #[error("{service} is not part of this server: {instead}")]
    NotHere {
        /// Its name.
        service: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Only LiveKit's cloud does it.
    #[error("participants cannot be forwarded or moved to another room; let the client join that room")]
    StaysInItsRoom,
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is good for something else.
    #[error("permission denied: needs a token with {0}")]
    NotAllowed(Needs),
    /// The body is not that of the method.
    #[error("the body is not the {} of a {message}: {reason}", match .encoding {
        Encoding::Json => "JSON",
        Encoding::Protobuf => "protobuf",
    })]
    Malformed {
        /// By the content type.
        encoding: Encoding,
        /// What was expected.
        message: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It did not arrive.
    #[error("the body did not arrive")]
    BodyLost,
    /// It is longer than any right one.
    #[error("the body is longer than {limit} bytes")]
    BodyTooLarge {
        /// Bytes.
        limit: usize,
    },
    /// Something that must be there.
    #[error("{0} cannot be empty")]
    Empty(&'static str),
    /// Something is longer than the server allows.
    #[error("{what} exceeds limits: {got} bytes, limit {limit}")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// An attribute of ours with a wrong value.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An attribute that the server alone sets.
    #[error("attribute {0} is the server's to set")]
    Reserved(&'static str),
    /// Presets are of LiveKit's cloud.
    #[error("there is no room preset of this name")]
    NoPreset,
    /// It is to be moved to where it is.
    #[error("destination room cannot be the same as source room")]
    SameRoom,
    /// A nonce is a UUID.
    #[error("nonce should be 16-bytes or not present, got: {got} bytes")]
    Nonce {
        /// Its size.
        got: usize,
    },
    /// A call that would wait too long.
    #[error("response_timeout_ms is above the limit of {limit_ms}")]
    RpcTimeout {
        /// Milliseconds.
        limit_ms: u64,
    },
    /// No such room.
    #[error("requested room does not exist")]
    NoRoom,
    /// Nobody of that identity is in the room.
    #[error("participant does not exist")]
    NoParticipant,
    /// The room has no dispatch of that id.
    #[error("dispatch ID not found")]
    NoDispatch,
    /// The room wants as many agents as it may.
    #[error("{limit} dispatches of agents are in this room already")]
    TooManyDispatches {
        /// The limit.
        limit: usize,
    },
    /// The name of a deployment.
    #[error("deployment must be at most 64 bytes without underscores, blanks and control characters")]
    Deployment,
    /// The participant has no track of that sid.
    #[error("track is not found")]
    NoTrack,
    /// People switch their microphones on themselves.
    #[error("remote unmute not enabled: set rooms.remote-unmute to let the API unmute tracks")]
    RemoteUnmute,
    /// A call of a participant's method failed.
    #[error(transparent)]
    Rpc(#[from] RpcFault),
    /// More calls wait for participants than the server keeps.
    #[error("{limit} calls of methods of participants wait in this room already")]
    TooManyCalls {
        /// The limit.
        limit: usize,
    },
    /// The server has as many rooms as it may.
    #[error("server is full: room limit reached")]
    TooManyRooms,
    /// No media worker is left.
    #[error("no media worker is running")]
    NoWorker,
    /// No media worker has time for another room.
    #[error("server is overloaded: no more rooms for now; try again later")]
    Overloaded,
    /// It takes nothing more.
    #[error("server is shutting down")]
    ShuttingDown,
    /// A room is too busy.
    #[error("the room did not answer in time")]
    NoAnswer,
}

impl ApiError {
    /// The code to answer with.
    pub const fn code(&self) -> Code {
        match self {
            ApiError::BadRoute | ApiError::NotPost | ApiError::ContentType => Code::BadRoute,
            ApiError::NotHere { .. } | ApiError::StaysInItsRoom => Code::Unimplemented,
            ApiError::Token(_) => Code::Unauthenticated,
            ApiError::NotAllowed(_) => Code::PermissionDenied,
            ApiError::Malformed { .. } | ApiError::BodyLost | ApiError::BodyTooLarge { .. } => {
                Code::Malformed
            }
            ApiError::Empty(_)
            | ApiError::TooLong { .. }
            | ApiError::Policy(_)
            | ApiError::Reserved(_)
            | ApiError::NoPreset
            | ApiError::SameRoom
            | ApiError::Nonce { .. }
            | ApiError::Deployment
            | ApiError::RpcTimeout { .. } => Code::InvalidArgument,
            ApiError::NoRoom | ApiError::NoParticipant | ApiError::NoTrack | ApiError::NoDispatch => {
                Code::NotFound
            }
            ApiError::RemoteUnmute => Code::FailedPrecondition,
            ApiError::Rpc(fault) => fault.code(),
            ApiError::TooManyCalls { .. } | ApiError::TooManyRooms | ApiError::TooManyDispatches { .. } => {
                Code::ResourceExhausted
            }
            ApiError::NoWorker | ApiError::Overloaded | ApiError::ShuttingDown | ApiError::NoAnswer => {
                Code::Unavailable
            }
        }
    }

    /// The JSON to answer with, whatever the encoding of the call.
    pub fn body(&self) -> Vec<u8> {
        serde_json::json!({ "code": self.code().name(), "msg": self.to_string() }).to_string().into_bytes()
    }
}
