//! One participant's stay in a room: who it is, how it is connected, what it wants and what it was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use livekit_protocol::client_info::Capability;
use livekit_protocol::participant_info::{Kind, State};
use livekit_protocol::{
    ClientInfo, ConnectionQuality, DisconnectReason, ParticipantInfo, ParticipantPermission,
    SessionDescription, SignalTarget,
};
use sfu::command::{Demand, DownlinkPolicy, LinkQuality, RemoteSection, VoiceFault, Way};
use sfu::ids::{Mid, PeerId, TrackId};
use sfu::units::Bitrate;

use super::connect::{Mode, Signalling};
use super::data_rate::DataBudget;
use super::data_subscribe::DataDownlink;
use super::fallback::{NETWORK, TEXT};
use super::follow::Feeds;
use super::output::SessionId;
use super::permission::Allowance;
use super::resume::Away;
use super::track::all_known;
use crate::access::Claims;

/// Names one stay; never used twice in a room. Ordered by time of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Seat(pub(super) u64);

/// The peer connections of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// v1: one for both directions, where the client offers.
    Single(PeerId),
    /// v0: one a direction.
    Dual {
        /// Where the client offers. `None` after it ended without ever having been offered anything.
        publisher: Option<PeerId>,
        /// Where we offer.
        subscriber: PeerId,
    },
}

impl Link {
    pub(super) fn mode(self) -> Mode {
        match self {
            Link::Single(_) => Mode::Single,
            Link::Dual { .. } => Mode::Dual,
        }
    }

    /// The connection that the client's tracks and data come on.
    pub(super) fn publisher(self) -> Option<PeerId> {
        match self {
            Link::Single(peer) => Some(peer),
            Link::Dual { publisher, .. } => publisher,
        }
    }

    /// The connection that others' tracks and data go out on.
    pub(super) fn subscriber(self) -> PeerId {
        match self {
            Link::Single(peer) => peer,
            Link::Dual { subscriber, .. } => subscriber,
        }
    }

    /// The connection that a trickled candidate is for. In v1 there is but one, whatever the client writes.
    pub(super) fn target(self, target: SignalTarget) -> Option<PeerId> {
        match target {
            SignalTarget::Publisher => self.publisher(),
            SignalTarget::Subscriber => Some(self.subscriber()),
        }
    }

    /// All of them.
    pub(super) fn peers(self) -> impl Iterator<Item = PeerId> {
        let first = self.publisher();
        let second = Some(self.subscriber()).filter(|peer| Some(*peer) != first);
        [first, second].into_iter().flatten()
    }
}

/// A simulated accident of a resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DropSignal {
    /// The new socket closes before a word was said.
    AtOnce,
    /// It closes after all that belongs to a resume was said.
    Afterwards,
}

/// A track that is forwarded to a participant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Subscription {
    pub(super) demand: Demand,
    /// The core's name for the codec of the track that it carries.
    pub(super) carried: TrackId,
    /// For lack of bandwidth.
    pub(super) paused: bool,
}

impl Subscription {
    pub(super) fn new(track: TrackId, demand: Demand) -> Subscription {
        Subscription { demand, carried: track, paused: false }
    }
}

/// What a participant said of a track, subscribed or not, there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Preference {
    /// Subscribe or not; `None`: as the participant does with all tracks.
    pub(super) subscribe: Option<bool>,
    /// What is wanted of it.
    pub(super) demand: Option<Demand>,
    /// Since when it was asked for and is not there.
    pub(super) missing_since: Option<Instant>,
}

/// One participant.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, three of them from the token or the request"
)]
pub(super) struct Participant {
    pub(super) seat: Seat,
    /// `None` after the socket was lost, until the participant is taken for gone.
    pub(super) session: Option<SessionId>,
    pub(super) sid: String,
    pub(super) identity: String,
    pub(super) name: String,
    pub(super) metadata: String,
    pub(super) attributes: HashMap<String, String>,
    pub(super) kind: Kind,
    pub(super) permission: ParticipantPermission,
    pub(super) recorder: bool,
    pub(super) client: ClientInfo,
    /// By its attributes, as the core was told.
    pub(super) policy: DownlinkPolicy,
    pub(super) claims: Claims,
    pub(super) link: Link,
    pub(super) signalling: Signalling,
    /// Of one that watches: what is shown to it.
    pub(super) feeds: Option<Feeds>,
    /// As told to the client when it joined: the subscriber's connection is the one that counts. Never in v1, which has but one.
    pub(super) subscriber_primary: bool,
    pub(super) auto_subscribe: bool,
    pub(super) adaptive_stream: bool,

    pub(super) state: State,
    /// Grows with every change that others see.
    pub(super) version: u32,
    pub(super) joined_at: Instant,
    pub(super) joined_unix_ms: i64,
    /// The first packet of media went through one of its connections.
    pub(super) has_media: bool,

    /// Removed if not active by then; `None` once it is.
    pub(super) active_by: Option<Instant>,
    /// What it was told from then on may not have arrived; `None` while it has a socket that a request came over.
    pub(super) unsure_since: Option<Instant>,
    /// `None` while it has a socket.
    pub(super) away: Option<Away>,
    /// Its connections that the core has lost, and when each was last heard.
    pub(super) lost: BTreeMap<PeerId, Instant>,
    /// Removed then, unless what was lost comes back.
    pub(super) gone_at: Option<Instant>,
    /// What the next resume runs into.
    pub(super) simulated: Option<DropSignal>,
    /// It is said to speak until then, whatever is heard of it.
    pub(super) speaks_until: Option<Instant>,
    /// What its link is said to carry.
    pub(super) simulated_max: Option<Bitrate>,
    /// Our offer must be answered by then; `None` while none is out.
    pub(super) answer_by: Option<Instant>,
    /// When the next token is due.
    pub(super) refresh_at: Instant,

    /// The sections of its latest offer.
    pub(super) sections: Vec<RemoteSection>,
    /// Sections whose track it may no longer publish, and that track's name in the SDP: as long as the client leaves them so, they
    /// are no other track's.
    pub(super) revoked: Vec<(Mid, Option<String>)>,
    /// The offer that came with its join, if it is not answered yet, and when it will be at the latest.
    pub(super) early_offer: Option<(SessionDescription, Instant)>,
    /// It made an offer at some time.
    pub(super) has_offered: bool,
    /// Its tracks, in order of announcement.
    pub(super) tracks: Vec<TrackId>,
    /// Its data tracks, in order of announcement.
    pub(super) data_tracks: Vec<TrackId>,
    /// Who may subscribe to them all.
    pub(super) allowance: Allowance,
    /// What it may send as data messages.
    pub(super) data_budget: DataBudget,
    /// The number of its last reliable data packet.
    pub(super) last_reliable: u32,

    pub(super) subscriptions: BTreeMap<TrackId, Subscription>,
    /// By track sid.
    pub(super) preferences: HashMap<String, Preference>,
    /// When the next preference has waited long enough for its track.
    pub(super) missing_until: Option<Instant>,
    /// Wanted tracks that its own permission or their publishers do not let it have, and it was told so.
    pub(super) denied: BTreeSet<TrackId>,
    /// Others' tracks, or further codecs of them, that its descriptions showed it cannot decode.
    pub(super) undecodable: BTreeSet<TrackId>,
    /// Others' data tracks that it gets.
    pub(super) data_downlink: DataDownlink,

    /// The loudness that it was last told of others, in eighths.
    pub(super) heard: BTreeMap<Seat, u8>,
    /// The quality that it was last told of others and itself.
    pub(super) told_quality: BTreeMap<Seat, ConnectionQuality>,
    /// The last figures of its connections.
    pub(super) link_quality: BTreeMap<PeerId, LinkQuality>,
    /// Reports in a row in which an unmuted publisher moved no packet at all.
    pub(super) silent_reports: u32,
    /// Where sound does not get through.
    pub(super) voice_faults: BTreeMap<(PeerId, Way), VoiceFault>,
    /// Others of whom it has not been told the news, being in the background…
    pub(super) untold: BTreeSet<Seat>,
    /// …and when it will be.
    pub(super) news_at: Option<Instant>,
}

impl Participant {
    /// Whether others know of it.
    pub(super) fn is_hidden(&self) -> bool {
        self.permission.hidden
    }

    /// Whether it is there for others' sake: an agent or a recorder, for which alone no room stays open.
    pub(super) fn is_dependent(&self) -> bool {
        is_dependent(self.kind, self.recorder)
    }

    pub(super) fn is_active(&self) -> bool {
        self.state == State::Active
    }

    /// The level of the protocol that its client speaks.
    pub(super) fn protocol(&self) -> i32 {
        self.client.protocol
    }

    /// The connection whose coming up makes it active.
    pub(super) fn primary(&self) -> Option<PeerId> {
        if self.subscriber_primary { Some(self.link.subscriber()) } else { self.link.publisher() }
    }

    /// When the offer that came with its join is answered at the latest, if it waits.
    pub(super) fn early_offer_until(&self) -> Option<Instant> {
        self.early_offer.as_ref().map(|(_, until)| *until)
    }

    /// Seconds and milliseconds as clients read them, and how long ago that was.
    pub(super) fn stay(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.joined_at)
    }

    /// What others are told of it. `tracks` and `data_tracks` are those that are published.
    pub(super) fn info(
        &self,
        tracks: Vec<livekit_protocol::TrackInfo>,
        data_tracks: Vec<livekit_protocol::DataTrackInfo>,
    ) -> ParticipantInfo {
        let mut attributes = self.attributes.clone();
        if !self.has_voice() {
            attributes.insert(NETWORK.to_owned(), TEXT.to_owned());
        }
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            state: self.state as i32,
            is_publisher: !tracks.is_empty() || !data_tracks.is_empty(),
            tracks,
            metadata: self.metadata.clone(),
            joined_at: self.joined_unix_ms.div_euclid(1000),
            joined_at_ms: self.joined_unix_ms,
            name: self.name.clone(),
            version: self.version,
            permission: Some(self.permission.clone()),
            region: String::new(),
            kind: self.kind as i32,
            attributes,
            disconnect_reason: DisconnectReason::UnknownReason as i32,
            kind_details: Vec::new(),
            data_tracks,
            client_protocol: self.client.client_protocol,
            capabilities: all_known::<Capability>(self.client.capabilities.clone()),
        }
    }
}

/// Whether somebody of that kind is there for others' sake.
pub(super) fn is_dependent(kind: Kind, recorder: bool) -> bool {
    matches!(kind, Kind::Agent | Kind::Egress) || recorder
}
