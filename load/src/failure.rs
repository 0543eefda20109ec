//! Why a participant did not get in, and what can be done about it.

/// One variant for each thing that somebody could do differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinFailure {
    /// No TCP or TLS connection.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// The server said no to the WebSocket.
    #[error("refused with HTTP status {status}: {text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The answer's body.
        text: String,
    },
    /// The WebSocket was closed, or broke.
    #[error("the WebSocket was closed: {0}")]
    Closed(String),
    /// The server sent a `leave`.
    #[error("the server sent it away: {0}")]
    SentAway(String),
    /// Our stack cannot take an answer.
    #[error("cannot take the server's answer: {0}")]
    Description(String),
    /// No answer to the offer.
    #[error("no answer to the offer in time")]
    NoAnswer,
    /// Neither ICE nor DTLS in time.
    #[error("no UDP path to the server in time")]
    NoConnection,
    /// Connected in vain.
    #[error("connected, but no media that could be shown or heard")]
    NoMedia,
    /// This machine's fault.
    #[error("no socket: {0}")]
    Local(String),
}

impl JoinFailure {
    /// A name for counting.
    pub fn label(&self) -> &'static str {
        match self {
            JoinFailure::Unreachable(_) => "unreachable",
            JoinFailure::Refused { .. } => "refused",
            JoinFailure::Closed(_) => "closed",
            JoinFailure::SentAway(_) => "sent_away",
            JoinFailure::Description(_) => "description",
            JoinFailure::NoAnswer => "no_answer",
            JoinFailure::NoConnection => "no_connection",
            JoinFailure::NoMedia => "no_media",
            JoinFailure::Local(_) => "local",
        }
    }

    /// What to look at.
    pub fn advice(&self) -> &'static str {
        match self {
            JoinFailure::Unreachable(_) => "is the server running, and is --url its HTTP address?",
            JoinFailure::Refused { status: 401, .. } => {
                "the server does not accept the token: --api-key and --api-secret must be a pair that it has in its configuration"
            }
            JoinFailure::Refused { status: 404, .. } => {
                "is this a LiveKit server with /rtc/v1, and --url without a path?"
            }
            JoinFailure::Refused { status: 503, .. } => "the server or the room is full: see its limits",
            JoinFailure::Refused { .. } => "the text above is the server's",
            JoinFailure::Closed(_) | JoinFailure::SentAway(_) => "see the server's log",
            JoinFailure::Description(_) => {
                "the SDP of both sides does not fit: run with fewer options, or report it"
            }
            JoinFailure::NoAnswer => "the server is overloaded, or --join-timeout is too short",
            JoinFailure::NoConnection => {
                "does the server announce an address that this machine reaches over UDP? is it overloaded?"
            }
            JoinFailure::NoMedia => "did the publishers join, and may these tokens subscribe?",
            JoinFailure::Local(_) => "too many open files (ulimit -n), or no route to the server's address",
        }
    }

    /// Whether everybody else will fail in the same way.
    pub(crate) fn is_for_all(&self) -> bool {
        match self {
            JoinFailure::Unreachable(_) => true,
            JoinFailure::Refused { status, .. } => *status != 503,
            JoinFailure::Closed(_)
            | JoinFailure::SentAway(_)
            | JoinFailure::Description(_)
            | JoinFailure::NoAnswer
            | JoinFailure::NoConnection
            | JoinFailure::NoMedia
            | JoinFailure::Local(_) => false,
        }
    }
}
