//! What one connection gets and why, as [`Event::Explained`](super::Event::Explained) tells it.

use super::{DownlinkPolicy, MediaKind};
use crate::congestion::FeedbackKind;
use crate::congestion::controller::{Budget, Snapshot};
use crate::congestion::explain::{Recent, Why};
use crate::ids::{LayerId, TrackId};
use crate::units::Bitrate;

/// The state of one connection's downlink.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// ICE and DTLS are up. Before that nothing is sent, and nothing below means much.
    pub connected: bool,
    /// How much fits, and how that is known.
    pub estimate: Snapshot,
    /// By which reports.
    pub feedback: FeedbackKind,
    /// What is made of it.
    pub budget: Budget,
    /// What the client bounded itself to.
    pub policy: DownlinkPolicy,
    /// Earlier payloads in each packet of redundant audio (RFC 2198).
    pub redundancy: u8,
    /// What is subscribed to.
    pub tracks: Vec<TrackExplanation>,
    /// How the estimate went; `None` for a connection that never subscribed.
    pub history: Option<Recent>,
}

/// One quality of a track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Its layer; 0 of both for sound.
    pub layer: LayerId,
    /// Width and height in pixels, where known.
    pub size: Option<(u32, u32)>,
    /// Frames a second; `None` for sound, and for what does not come at present.
    pub fps: Option<f64>,
    /// What it costs on the wire, measured or assumed, without retransmission.
    pub rate: Bitrate,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackExplanation {
    /// The track.
    pub track: TrackId,
    /// Its kind.
    pub kind: MediaKind,
    /// As in `a=rtpmap`, such as `video/VP8`.
    pub mime: String,
    /// What leaves now; `None` if nothing does.
    pub gets: Option<Quality>,
    /// What the allocator granted; another than `gets` until the next keyframe.
    pub granted: Option<Quality>,
    /// The best of what was announced that the client has a use for; `None` if it has none.
    pub wanted: Option<Quality>,
    /// The next step above what is granted.
    pub next: Option<Quality>,
    /// Why not more.
    pub why: Why,
    /// The publisher muted it.
    pub muted: bool,
    /// The client wants it sent.
    pub enabled: bool,
}
