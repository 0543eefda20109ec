//! Why a request over HTTP gets no session, or changes none.

use super::fragment::FragmentError;
use crate::livekit::connect::{ConnectError, Refusal};

/// What a body must be that makes a session.
pub(super) const SDP: &str = "application/sdp";
/// What a body must be that changes one (RFC 8840 §9).
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// One variant for each thing that somebody could do differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhipError {
    /// The token, or what it says.
    #[error(transparent)]
    Token(#[from] ConnectError),
    /// The token does not let its bearer publish.
    #[error("permission denied: the token has canPublish false")]
    CannotPublish,
    /// The token does not let its bearer subscribe.
    #[error("permission denied: the token has canSubscribe false")]
    CannotSubscribe,
    /// The room does not let it publish something that it offers.
    #[error("permission denied: {0}; see canPublishSources in the token, or offer less")]
    NotPermitted(String),
    /// More tracks than a participant may have.
    #[error("{0}")]
    TooMuch(String),
    /// The body is something else.
    #[error("Content-Type must be {wanted}")]
    ContentType {
        /// What it must be.
        wanted: &'static str,
    },
    /// The body is no text.
    #[error("the body is not UTF-8")]
    NotText,
    /// The body is too long.
    #[error("a body of more than {limit} bytes; the limit is whip.max-body of the server's configuration")]
    TooLong {
        /// Bytes.
        limit: usize,
    },
    /// The body did not arrive.
    #[error("the body did not arrive")]
    BodyLost,
    /// There is nothing to be published or watched in the offer.
    #[error("the offer has no audio or video section that {0}")]
    Nothing(&'static str),
    /// The media core does not take the offer.
    #[error("the offer cannot be answered: {0}")]
    Offer(String),
    /// A section in codecs that are not forwarded.
    #[error("m-line {m_line} has no codec that is forwarded: Opus, PCMU, PCMA, VP8, VP9, H264 and AV1 are")]
    NoCodec {
        /// Counted from 0.
        m_line: usize,
    },
    /// A fragment that cannot be read.
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    /// RFC 9725 §4.3.1: a change must say what it changes.
    #[error("If-Match is required: the entity-tag of the session, or * to restart ICE")]
    NoPrecondition,
    /// The ICE session is another by now.
    #[error("If-Match does not have the session's present entity-tag; it was changed by an ICE restart")]
    Stale,
    /// Credentials of another ICE session, where the entity-tag of the present one was given.
    #[error("other ICE credentials than the session's: send If-Match: * to restart ICE")]
    NotARestart,
    /// A restart is not over yet.
    #[error("an ICE restart is under way; try again when it is answered")]
    Busy,
    /// Nobody has that session.
    #[error("no such session: it has ended, or never was")]
    NoSession,
    /// The session belongs to somebody else.
    #[error("the session was made with another token")]
    NotYours,
    /// A method that neither protocol has here.
    #[error("method not allowed; allowed is {0}")]
    Method(&'static str),
    /// The server's switch.
    #[error("WHIP and WHEP are switched off on this server (whip.enabled)")]
    Off,
    /// The room, or the directory of rooms.
    #[error("{}", .0.body)]
    Refused(Refusal),
    /// The server is full.
    #[error("{0}")]
    Unavailable(String),
}

impl WhipError {
    /// The answer to give.
    pub fn refusal(&self) -> Refusal {
        let status = match self {
            WhipError::Token(error) => return error.refusal(),
            WhipError::Refused(refusal) => return refusal.clone(),
            WhipError::CannotPublish
            | WhipError::CannotSubscribe
            | WhipError::NotPermitted(_)
            | WhipError::NotYours => 403,
            WhipError::NoSession | WhipError::Off => 404,
            WhipError::Method(_) => 405,
            WhipError::Busy => 409,
            WhipError::Stale => 412,
            WhipError::TooLong { .. } => 413,
            WhipError::ContentType { .. } => 415,
            WhipError::NoCodec { .. } => 422,
            WhipError::NoPrecondition => 428,
            WhipError::Unavailable(_) => 503,
            WhipError::TooMuch(_)
            | WhipError::NotText
            | WhipError::BodyLost
            | WhipError::Nothing(_)
            | WhipError::Offer(_)
            | WhipError::Fragment(_)
            | WhipError::NotARestart => 400,
        };
        Refusal { status, body: self.to_string() }
    }
}
