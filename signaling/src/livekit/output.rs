//! What goes into a room with every input, and what comes out.

use std::time::{Duration, Instant};

use livekit_protocol::{DisconnectReason, SignalResponse, WebhookEvent};
use sfu::command::{Command, MediaKind};

use super::api::{Answer, ApiError};
use super::explain::Report;
use crate::agents::Order;

/// The time of an input, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// For deadlines.
    pub now: Instant,
    /// For what clients are told: milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// One WebSocket. Chosen by whoever owns the sockets; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// How a client's socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEnd {
    /// Its side closed it: a process that is killed has that done by its kernel.
    Closed,
    /// Nobody did, and nothing had come over it for so long: a network that is cut says nothing.
    Silent(Duration),
}

/// What the caller must do next.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "most outputs are of the large kind, and none is kept")]
pub enum Output {
    /// Write this to the socket, in this order.
    Send {
        /// The socket.
        session: SessionId,
        /// The message.
        response: SignalResponse,
    },
    /// Close the socket once all before it was written. The room knows it no more.
    Close {
        /// The socket.
        session: SessionId,
    },
    /// Tell the media core.
    Media(Command),
    /// The answer to [`Room::explain`](super::Room::explain).
    Report {
        /// The number of the question.
        question: u64,
        /// The answer.
        report: Box<Report>,
    },
    /// The answer to [`Room::call`](super::Room::call).
    Answer {
        /// The number of the question.
        question: u64,
        /// The answer. To be given when all outputs before it have been seen to.
        answer: Result<Answer, ApiError>,
    },
    /// Something worth counting or logging.
    Notice(Notice),
    /// Something that the pool of agents is to do. A room that ends has said so there.
    Agents(Order),
    /// Something that an application's server is told, in this order; only if [`Settings::webhooks`](super::Settings::webhooks)
    /// asks for it.
    Webhook(Box<WebhookEvent>),
    /// The room is over: no input is of use any more. Comes once, last.
    Ended,
}

/// Something worth counting or logging. Names and texts of clients are left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody came in.
    ParticipantJoined,
    /// Somebody's media transport is up.
    ParticipantActive {
        /// Since the join.
        after: Duration,
    },
    /// Somebody's first media packet crossed.
    FirstMedia {
        /// Since the join.
        after: Duration,
    },
    /// Somebody is gone.
    ParticipantLeft {
        /// Why.
        reason: DisconnectReason,
        /// How long the stay was.
        after: Duration,
    },
    /// A track can be subscribed to.
    TrackPublished {
        /// Its kind.
        kind: MediaKind,
    },
    /// It no longer can.
    TrackUnpublished {
        /// Its kind.
        kind: MediaKind,
    },
    /// A subscription began.
    Subscribed {
        /// The track's kind.
        kind: MediaKind,
    },
    /// A subscription ended.
    Unsubscribed {
        /// The track's kind.
        kind: MediaKind,
    },
    /// Somebody came back on a new socket.
    Resumed {
        /// Since the old one was lost; zero if that was not noticed.
        after: Duration,
    },
    /// A resume was refused; the client will join anew.
    ResumeRefused,
    /// A client sent a frame that could not be read.
    BadFrame,
    /// A description of a client's was refused.
    DescriptionRefused,
    /// A data message was not forwarded.
    DataRefused(DataRefusal),
    /// Something was refused since there is enough of it.
    LimitHit(Limit),
}

/// Of what a participant has as much as it may. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Its tracks, those included that it has only announced.
    Tracks,
    /// Its data tracks.
    DataTracks,
    /// Tracks that it gets.
    Subscriptions,
    /// Tracks of which it has said something.
    Wishes,
    /// Entries in its list of who may subscribe.
    PermissionEntries,
    /// Bytes of its name, metadata or attributes.
    Metadata,
    /// Bytes of a message.
    Frame,
}

impl Limit {
    /// As a label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Limit::Tracks => "tracks",
            Limit::DataTracks => "data_tracks",
            Limit::Subscriptions => "subscriptions",
            Limit::Wishes => "wishes",
            Limit::PermissionEntries => "permission_entries",
            Limit::Metadata => "metadata",
            Limit::Frame => "frame",
        }
    }
}

/// Why a data message was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataRefusal {
    /// The sender may not send data.
    NotAllowed,
    /// Not a `DataPacket`.
    Malformed,
    /// Above the size that channels carry.
    TooLarge,
    /// More in a second than one may send.
    TooFast,
    /// A reliable packet that came before.
    Repeated,
    /// A kind of packet that only agents may send, or a channel that is not forwarded.
    Unsupported,
}

impl DataRefusal {
    /// As a label's value.
    pub const fn name(self) -> &'static str {
        match self {
            DataRefusal::NotAllowed => "not_allowed",
            DataRefusal::Malformed => "malformed",
            DataRefusal::TooLarge => "too_large",
            DataRefusal::TooFast => "too_fast",
            DataRefusal::Repeated => "repeated",
            DataRefusal::Unsupported => "unsupported",
        }
    }
}
