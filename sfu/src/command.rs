//! What the core is told, and what it tells: the whole vocabulary between signalling and media.
//!
//! Signalling speaks of participants, names and permissions; the core of peers (one peer connection each),
//! tracks and subscriptions. Ids are chosen by signalling. Every command for an id that is not (or no
//! longer) there is ignored: signalling and media run on different threads and may cross.

pub mod explanation;

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use self::explanation::Explanation;
use crate::ids::{DataHandle, Mid, PeerId, Rid, RoomId, Ssrc, TrackId};
use crate::units::Bitrate;
use crate::wire::description::Codec;

/// Sound or picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    /// `m=audio`
    Audio,
    /// `m=video`
    Video,
}

/// Who makes the offers on a peer connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiationRole {
    /// The client offers: LiveKit v1, and the publisher connection of v0.
    Answerer,
    /// We offer: the subscriber connection of v0.
    Offerer,
}

/// How a data channel delivers (RFC 8832 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reliability {
    /// Ordered, resent until delivered.
    Reliable,
    /// Unordered, never resent.
    Lossy,
}

/// A data channel that we open in-band once SCTP is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSpec {
    /// The channel's label, such as `_reliable`.
    pub label: String,
    /// Its delivery.
    pub reliability: Reliability,
}

/// A new peer connection.
#[derive(Clone, Debug)]
pub struct AddPeer {
    /// The connection's id, never used before.
    pub peer: PeerId,
    /// The room it belongs to; made if it is the first.
    pub room: RoomId,
    /// Who makes the offers.
    pub role: NegotiationRole,
    /// Channels that we open; empty where the client opens them.
    pub channels: Vec<ChannelSpec>,
}

/// What signalling knows of a media section before the offer arrives; shapes the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishHint {
    /// The `msid` track id, or another id that the client may use for it.
    pub cid: String,
    /// Answer `stereo=1` for Opus.
    pub stereo: bool,
    /// Answer `usedtx=1` for Opus.
    pub dtx: bool,
    /// Accept RED for Opus.
    pub red: bool,
    /// The codec that the client means to send, to be put first in the answer; `None`: in its own order.
    pub codec: Option<Codec>,
}

/// What a subscriber wants of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// `false`: stay negotiated, send nothing.
    pub enabled: bool,
    /// The largest picture that is of use, width and height in pixels; `None` for no bound by size.
    pub size: Option<(u32, u32)>,
    /// The highest quality rank wanted, counted as [`LayerId::spatial`](crate::ids::LayerId); used when `size` is `None`.
    pub max_spatial: u8,
    /// The highest frame rate that is of use; `None` for no bound.
    pub fps: Option<u32>,
    /// Above 0, the usual: goes before others' when the link is narrow, and before shared screens and speakers.
    pub priority: u32,
    /// A screen share, which goes before cameras.
    pub screen_share: bool,
}

impl Default for Demand {
    fn default() -> Self {
        Demand {
            enabled: true,
            size: None,
            max_spatial: u8::MAX,
            fps: None,
            priority: 0,
            screen_share: false,
        }
    }
}

/// How much a connection's client wants to get at all, whatever its link could carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownlinkPolicy {
    /// All bytes per second to it, IP headers included; `None` for no bound.
    pub max: Option<Bitrate>,
    /// Half the frame rate where the encodings allow it, and no probing for more.
    pub data_saver: bool,
    /// Nobody looks: sound only, and no probing.
    pub background: bool,
}

/// One encoding that a publisher announced, smallest picture first in a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnouncedLayer {
    /// The `rid` when the encodings are told apart by it.
    pub rid: Option<Rid>,
    /// Width and height in pixels, 0 when unknown.
    pub size: (u32, u32),
    /// Target bitrate, zero when unknown.
    pub bitrate: Bitrate,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make a peer connection. It answers STUN once a description was exchanged.
    AddPeer(AddPeer),
    /// End a peer connection and all that hangs on it, its published tracks included.
    RemovePeer {
        /// Which.
        peer: PeerId,
    },
    /// The client's offer. Leads to [`Event::RemoteSections`] and [`Event::Answer`], or to [`Event::OfferRefused`].
    Offer {
        /// The connection.
        peer: PeerId,
        /// The client's number for the offer, echoed in the answer.
        id: u32,
        /// The SDP text, untrusted.
        sdp: String,
        /// What is known of the sections to be published.
        hints: Vec<PublishHint>,
    },
    /// The client's answer to our offer `id` (0 where the client does not echo it).
    Answer {
        /// The connection.
        peer: PeerId,
        /// The number of the offer that it answers.
        id: u32,
        /// The SDP text, untrusted.
        sdp: String,
    },
    /// A candidate of the client, as in `a=candidate`; may be empty (end of candidates) or an mDNS name.
    RemoteCandidate {
        /// The connection.
        peer: PeerId,
        /// The attribute's value.
        candidate: String,
    },
    /// The client is back on a new signal connection, and may have missed what was last said on the old one. Where we
    /// offer: offer new ICE credentials at once, also in the place of an offer that has no answer. Where the client
    /// offers: ask for an offer again, if one is owed.
    RestartIce {
        /// The connection.
        peer: PeerId,
    },
    /// The media of section `mid` is the track `track`. May come before or after media flows; packets of a
    /// section that is not bound are counted and dropped.
    BindTrack {
        /// The publisher's connection.
        peer: PeerId,
        /// The section.
        mid: Mid,
        /// The track's id, new.
        track: TrackId,
        /// Announced encodings, smallest first; may be empty.
        layers: Vec<AnnouncedLayer>,
        /// Its payloads are encrypted end to end, so that nothing can be read from them or put beside them.
        encrypted: bool,
    },
    /// The track is no more; subscriptions to it end.
    RemoveTrack {
        /// Which.
        track: TrackId,
    },
    /// A muted track is not forwarded even if packets come.
    MuteTrack {
        /// Which.
        track: TrackId,
        /// Whether it is muted now.
        muted: bool,
    },
    /// Forward a track to a connection. Idempotent.
    Subscribe {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// First half of `a=msid`, for LiveKit `PA_…|TR_…`.
        stream_id: String,
        /// Second half of `a=msid`, for LiveKit the track's sid.
        label: String,
        /// What is wanted at first.
        demand: Demand,
    },
    /// Send the client one more stream, which is no track's but is fed one track after another ([`Command::Feed`]), without
    /// a negotiation for each. It has its section from the client's next offer on (answerers only).
    OpenFeed {
        /// The subscriber's connection.
        peer: PeerId,
        /// The feed's name, new and no track's.
        feed: TrackId,
        /// Its kind.
        kind: MediaKind,
        /// First half of `a=msid`.
        stream_id: String,
        /// Second half of `a=msid`.
        label: String,
    },
    /// Put a track into a feed, in the place of the one that is in it. When the track ends the feed is empty. Events name
    /// the track, not the feed.
    Feed {
        /// The subscriber's connection.
        peer: PeerId,
        /// The feed.
        feed: TrackId,
        /// The track, of the feed's kind; `None`: nothing.
        track: Option<TrackId>,
        /// What is wanted of it.
        demand: Demand,
    },
    /// Send a subscriber another track in the place of one, in the same section and stream: the same pictures in another
    /// codec. Commands go on to name the subscription by the track that was subscribed to, events name the track that is in
    /// it. It ends with the latter.
    ReplaceTrack {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track that was subscribed to.
        subscription: TrackId,
        /// The track that is sent from now on, of the same kind; maybe the same again.
        track: TrackId,
    },
    /// Forward it no longer. Idempotent.
    Unsubscribe {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
    },
    /// Change what is wanted of a subscribed track.
    Adjust {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// What is wanted from now on.
        demand: Demand,
    },
    /// Bound what the connection gets.
    Limit {
        /// The subscriber's connection.
        peer: PeerId,
        /// From now on.
        policy: DownlinkPolicy,
    },
    /// Tell what the connection gets and why, for people to read. Leads to [`Event::Explained`].
    Explain {
        /// The subscriber's connection.
        peer: PeerId,
        /// The caller's number for the question, echoed.
        question: u64,
        /// How many seconds of history are wanted.
        history: u16,
    },
    /// Send one message on the channel `label` of each of these connections. Where the channel is not open
    /// yet the message waits up to two seconds for it.
    SendData {
        /// The receivers; shared, since one message goes to a whole room.
        to: Arc<[PeerId]>,
        /// The channel.
        label: String,
        /// `true` for the binary payload protocol, `false` for text (RFC 8831 §6.6).
        binary: bool,
        /// The message.
        payload: Bytes,
    },
    /// Packets that come on a connection's channel of data tracks ([`CHANNEL`](crate::wire::data_track::CHANNEL)) under this
    /// handle are the data track `track`. It ends with the connection.
    BindDataTrack {
        /// The publisher's connection.
        peer: PeerId,
        /// Its own number for the track, which no other track of this connection has.
        handle: DataHandle,
        /// The track's id, new.
        track: TrackId,
    },
    /// The data track is no more; subscriptions to it end.
    RemoveDataTrack {
        /// Which.
        track: TrackId,
    },
    /// Forward a data track to a connection, on its channel of data tracks. Of one that is forwarded already, change the
    /// handle and the rate.
    SubscribeDataTrack {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// What the packets carry in the place of the publisher's handle; no other track has it on this connection.
        handle: DataHandle,
        /// Frames a second that are of use; `None` for all.
        fps: Option<u32>,
    },
    /// Forward it no longer. Idempotent.
    UnsubscribeDataTrack {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
    },
}

/// A media section of the client's, as its latest description has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSection {
    /// The section.
    pub mid: Mid,
    /// Its kind.
    pub kind: MediaKind,
    /// The client means to send in it.
    pub sending: bool,
    /// `a=msid`: stream id, if given.
    pub stream_id: Option<String>,
    /// `a=msid`: track id, if given.
    pub track_id: Option<String>,
    /// The encodings it announces by `a=simulcast`, in the order of the SDP.
    pub rids: Vec<Rid>,
}

/// What a publisher's track turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackMedia {
    /// The section it came in.
    pub mid: Mid,
    /// Its kind.
    pub kind: MediaKind,
    /// As in `a=rtpmap`, such as `video/VP8`.
    pub mime: String,
    /// The encodings seen or announced, smallest first.
    pub layers: Vec<(Option<Rid>, Option<Ssrc>)>,
}

/// Why a peer connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerEnd {
    /// No authenticated STUN for the consent time (RFC 7675 §5.1), and none since: see [`Event::Lost`].
    ConsentExpired,
    /// The client never became reachable in the time allowed.
    NeverConnected,
    /// The certificate did not match `a=fingerprint` (RFC 8122 §5).
    FingerprintMismatch,
    /// The DTLS handshake failed otherwise.
    HandshakeFailed,
    /// The client closed DTLS (close_notify).
    ClosedByPeer,
}

/// How well one connection does, over the last interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkQuality {
    /// Share of the client's packets that never arrived and were not repaired, 0 to 1.
    pub uplink_loss: f32,
    /// Share of our packets that its feedback reports lost, 0 to 1.
    pub downlink_loss: f32,
    /// Round trip, when known.
    pub rtt: Option<Duration>,
    /// What we think we may send.
    pub estimate: Option<Bitrate>,
    /// Share of the wanted video layers that is being sent, 0 to 1; 1 with no video wanted.
    pub served: f32,
    /// Packets moved in either direction in the interval.
    pub active: bool,
}

/// A direction of a connection's media, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// What the client sends.
    Up,
    /// What it gets.
    Down,
}

/// Why no talk is possible over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoiceFault {
    /// More of the sound is lost than can be made good.
    Loss,
    /// It comes so late that people talk at the same time.
    Delay,
    /// The path carries less than the sound needs.
    Bandwidth,
    /// Nothing gets through at all.
    Outage,
}

/// One speaker's measure (RFC 6464): loudness over the last window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeakerLevel {
    /// The audio track.
    pub track: TrackId,
    /// Smoothed loudness, 0 (silent) to 1.
    pub level: f32,
}

/// A room's speakers; more than four at once are seldom.
pub type SpeakerLevels = SmallVec<[SpeakerLevel; 4]>;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The sections of an offer that was accepted; precedes its [`Event::Answer`].
    RemoteSections {
        /// The connection.
        peer: PeerId,
        /// All media sections, in SDP order.
        sections: Vec<RemoteSection>,
    },
    /// Our answer to the client's offer.
    Answer {
        /// The connection.
        peer: PeerId,
        /// The number of the offer.
        id: u32,
        /// The SDP text.
        sdp: String,
        /// Which of our tracks goes in which section: all of them, not only the new.
        tracks: Vec<(Mid, TrackId)>,
    },
    /// The client's description cannot be used; the connection stays as it was.
    DescriptionRefused {
        /// The connection.
        peer: PeerId,
        /// The number of the offer or answer.
        id: u32,
        /// For the log and the client, in one sentence.
        reason: String,
    },
    /// Our offer (offerers only); at most one is outstanding.
    Offer {
        /// The connection.
        peer: PeerId,
        /// Its number, to be echoed.
        id: u32,
        /// The SDP text.
        sdp: String,
        /// Which of our tracks goes in which section.
        tracks: Vec<(Mid, TrackId)>,
    },
    /// The client must offer again (answerers only), with this many sections more than it has;
    /// `(0, 0)` means just again. What was asked for and not yet got is already taken off.
    SectionsNeeded {
        /// The connection.
        peer: PeerId,
        /// Further audio sections.
        audio: u32,
        /// Further video sections.
        video: u32,
    },
    /// ICE and DTLS are up, for the first time or after [`Event::Lost`].
    Connected {
        /// The connection.
        peer: PeerId,
    },
    /// No authenticated STUN for the consent time (RFC 7675 §5.1): nothing is sent until the client is heard again, over
    /// whichever path, and then it goes on where it stopped. Signalling removes what it does not want to wait for.
    Lost {
        /// The connection.
        peer: PeerId,
        /// For how long nothing had come.
        silence: Duration,
    },
    /// The connection is over and already removed.
    Ended {
        /// The connection.
        peer: PeerId,
        /// Why.
        reason: PeerEnd,
    },
    /// The first packets of a bound track arrived, or what is known of its encodings changed.
    TrackMedia {
        /// The track.
        track: TrackId,
        /// What it is.
        media: TrackMedia,
    },
    /// A subscription was negotiated: its packets can flow from now on.
    SubscriptionBound {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
    },
    /// The subscriber's client offers no codec that the track is sent in.
    SubscriptionUnsupported {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
    },
    /// A video does not go any more, for lack of bandwidth or because nobody looks; or its first packet went again.
    SubscriptionPaused {
        /// The subscriber's connection.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// Paused now?
        paused: bool,
    },
    /// One message of the client on a data channel, that of data tracks excepted.
    Data {
        /// The connection it came on.
        peer: PeerId,
        /// The channel's label.
        label: String,
        /// Binary or text (RFC 8831 §6.6).
        binary: bool,
        /// The message.
        payload: Bytes,
    },
    /// The room's audio levels, every 400 ms while anybody's changed; silent tracks are absent.
    Speakers {
        /// The room.
        room: RoomId,
        /// Loudest first.
        levels: SpeakerLevels,
    },
    /// A connection's quality, every 5 s.
    Quality {
        /// The connection.
        peer: PeerId,
        /// The figures.
        quality: LinkQuality,
    },
    /// Sound does not get through a connection any more, or does again. Never sooner than four seconds after the last.
    Voice {
        /// The connection.
        peer: PeerId,
        /// The direction.
        way: Way,
        /// Why it does not; `None`: it does again.
        fault: Option<VoiceFault>,
    },
    /// What the connection gets and why.
    Explained {
        /// The connection.
        peer: PeerId,
        /// The number of the question.
        question: u64,
        /// The answer.
        explanation: Box<Explanation>,
    },
    /// The first media packet in either direction crossed this connection.
    FirstMedia {
        /// The connection.
        peer: PeerId,
    },
}

/// What carries datagrams between us and a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Each as it is.
    Udp,
    /// In frames of a byte stream that the client opened (RFC 6544).
    Tcp,
}

/// Where a packet came from or goes to: our address and the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Both protocols have ports of their own, so the same numbers may stand for two ways.
    pub protocol: Protocol,
    /// Our address, as the packet had it.
    pub local: SocketAddr,
    /// The client's.
    pub remote: SocketAddr,
}

impl Path {
    /// Over UDP.
    pub const fn udp(local: SocketAddr, remote: SocketAddr) -> Path {
        Path { protocol: Protocol::Udp, local, remote }
    }

    /// Over TCP.
    pub const fn tcp(local: SocketAddr, remote: SocketAddr) -> Path {
        Path { protocol: Protocol::Tcp, local, remote }
    }
}

impl Hash for Path {
    /// Without the protocol: each packet is found by its path, and seldom do two differ in that alone.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.local.hash(state);
        self.remote.hash(state);
    }
}
