//! The values that go into a negotiation and come out of it.

use std::net::SocketAddr;

use super::candidate::RemoteCandidate;
use super::codec::{FeedbackSet, Format, Payload, TrackCodec};
use super::media::{Media, Offered};
use crate::command::MediaKind;
use crate::ids::{Mid, Rid, Ssrc, TrackId};

/// Our side of the transport. With new `ufrag` and `pwd` a description restarts ICE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTransport {
    /// `a=ice-ufrag`, 4 to 256 characters (RFC 8839 §5.4).
    pub ufrag: String,
    /// `a=ice-pwd`, 22 to 256 characters.
    pub pwd: String,
    /// SHA-256 of our certificate as `AA:BB:…`.
    pub fingerprint: String,
    /// Host candidates on UDP, best first.
    pub candidates: Vec<SocketAddr>,
    /// The same on TCP: passive, the client connects (RFC 6544).
    pub tcp_candidates: Vec<SocketAddr>,
    /// Whether we say that we are a lite agent.
    pub ice_lite: bool,
    /// How often ICE was restarted.
    pub restarts: u32,
}

/// A track that the client is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendTrack {
    /// The track.
    pub track: TrackId,
    /// Its kind.
    pub kind: MediaKind,
    /// First half of `a=msid`.
    pub stream_id: String,
    /// Second half of `a=msid`.
    pub label: String,
    /// `a=ssrc:… cname:…`, the same for tracks to be played in sync (RFC 3550 §6.5.1).
    pub cname: String,
    /// What the publisher sends; `None` for a feed, which may come to carry any codec that the section takes.
    pub codec: Option<TrackCodec>,
    /// Names the stream toward this client.
    pub ssrc: Ssrc,
    /// Names its retransmissions.
    pub rtx_ssrc: Ssrc,
}

/// Which end of the DTLS handshake we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// We wait for the ClientHello: `a=setup:passive`.
    Server,
    /// We begin: `a=setup:active`.
    Client,
}

/// A hash of the client's certificate (RFC 8122 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The hash function in lower case, such as `sha-256`.
    pub hash: String,
    /// The value in upper case, `AA:BB:…`.
    pub value: String,
}

/// The client's side of the transport, as its latest description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteTransport {
    /// `a=ice-ufrag`, at most 256 characters.
    pub ufrag: String,
    /// `a=ice-pwd`, at most 256 characters.
    pub pwd: String,
    /// At least one; the certificate must match one whose hash we know.
    pub fingerprints: Vec<Fingerprint>,
    /// What *we* are.
    pub setup: Setup,
    /// Those in the description, at most 64. More may trickle in.
    pub candidates: Vec<RemoteCandidate>,
    /// The credentials differ from those of the description before (RFC 8445 §9).
    pub ice_restarted: bool,
}

/// What a description that was accepted comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The client's transport.
    pub remote: RemoteTransport,
    /// All audio and video sections that were not rejected, in SDP order.
    pub sections: Vec<Section>,
    /// Our answer; `None` after an answer of the client's.
    pub answer: Option<String>,
    /// Which track goes in which section: all of them, not only the new, in SDP order.
    pub placed: Vec<(Mid, TrackId)>,
    /// Tracks for which there is no section.
    pub unplaced: Vec<TrackId>,
    /// Tracks whose codec the client does not take.
    pub unsupported: Vec<TrackId>,
    /// The data section, if there is one.
    pub data: Option<DataSection>,
}

/// One negotiated audio or video section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub mid: Mid,
    /// Its kind.
    pub kind: MediaKind,
    /// `Some` when the client may send in it.
    pub receive: Option<ReceiveSection>,
    /// `Some` when we may.
    pub send: Option<SendSection>,
}

/// What the client may send in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveSection {
    /// First half of `a=msid`, at most 512 bytes.
    pub stream_id: Option<String>,
    /// Second half of `a=msid`, at most 512 bytes.
    pub track_id: Option<String>,
    /// The encodings announced by `a=simulcast`, in its order; at most 8.
    pub rids: Vec<Rid>,
    /// The payload types agreed on, in the client's order; never empty.
    pub payloads: Vec<Payload>,
    /// The client takes NACKs (RFC 4585 §4.2) for some of the payload types.
    pub nacks: bool,
    /// Ids and URIs of the header extensions agreed on, see [`extension`](super::extension).
    pub extensions: Vec<(u8, &'static str)>,
    /// All that have an `a=ssrc`, in SDP order; at most 64.
    pub ssrcs: Vec<Ssrc>,
    /// `a=ssrc-group:FID`: a media stream and its retransmissions; at most 32.
    pub rtx_ssrcs: Vec<(Ssrc, Ssrc)>,
    /// `a=ssrc-group:SIM`: encodings of one source, smallest first; empty without.
    pub simulcast_ssrcs: Vec<Ssrc>,
}

/// How we may send a track in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendSection {
    /// The track.
    pub track: TrackId,
    /// The payload type for the track's codec.
    pub pt: u8,
    /// That of its retransmissions; without it there are none.
    pub rtx_pt: Option<u8>,
    /// That of RED around it; without it RED has to be unwrapped.
    pub red_pt: Option<u8>,
    /// Ids and URIs of the header extensions that packets may carry.
    pub extensions: Vec<(u8, &'static str)>,
    /// What the client may send back.
    pub feedback: FeedbackSet,
    /// All that was agreed on for the section.
    pub payloads: Vec<SendPayload>,
}

/// A payload type in which we may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendPayload {
    pub(super) format: Format,
    pt: u8,
    rtx_pt: Option<u8>,
    red_pt: Option<u8>,
    feedback: FeedbackSet,
}

impl SendPayload {
    /// What `media` has of it. RED only where the section as a whole has it.
    pub(super) fn new(media: &Media, offered: &Offered, format: Format, red: bool) -> SendPayload {
        SendPayload {
            format,
            pt: offered.pt,
            rtx_pt: media.rtx_of(offered.pt),
            red_pt: media.red_of(offered.pt).filter(|_| red),
            feedback: offered.feedback,
        }
    }
}

impl SendSection {
    /// How a track of that codec would be sent in this section without another negotiation; `None` if it cannot be.
    pub fn carrying(&self, kind: MediaKind, codec: &TrackCodec) -> Option<SendSection> {
        let track = Format::of_track(kind, codec)?;
        let fits = self.payloads.iter().filter_map(|payload| Some((track.fit(payload.format)?, payload)));
        let (_, best) = fits.min_by_key(|(rank, _)| *rank)?;
        let (pt, rtx_pt, red_pt, feedback) = (best.pt, best.rtx_pt, best.red_pt, best.feedback);
        Some(SendSection { pt, rtx_pt, red_pt, feedback, ..self.clone() })
    }
}

/// The section of data channels (RFC 8841).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSection {
    /// The client's SCTP port.
    pub sctp_port: u16,
    /// The largest message that the client takes, in bytes; `usize::MAX` for any.
    pub max_message_size: usize,
}

/// An offer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalOffer {
    /// The text.
    pub sdp: String,
    /// Which track goes in which section, in SDP order. A track that is not here was refused by the client
    /// before, or found no room below the limit of m-lines.
    pub tracks: Vec<(Mid, TrackId)>,
}
