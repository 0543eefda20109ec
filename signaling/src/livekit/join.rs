//! Coming in: the join response, the tokens that follow, and the moment when the media transport is up.

use std::time::Duration;

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ClientConfigSetting, ClientConfiguration, Codec, IceServer, JoinResponse, ServerInfo,
    server_info::Edition,
};
use sfu::command::{AddPeer, ChannelSpec, Command, DownlinkPolicy, NegotiationRole, Reliability};
use sfu::ids::PeerId;

use super::connect::{Admission, Mode, Refusal};
use super::data_rate::DataBudget;
use super::data_subscribe::DataDownlink;
use super::leave::Leaving;
use super::output::{Clock, Notice, SessionId};
use super::participant::{Link, Participant, Seat, is_dependent};
use super::permission::Allowance;
use super::room::{Phase, Room};
use super::{data, sid};
use crate::access;
use crate::agents::AGENT_PROTOCOL;

/// The version of LiveKit's server whose behaviour clients may count on. They refuse what is not strict semver
/// and switch features by it, so our own version must not stand here. From 1.13.6 on JS would use SVC in
/// simulcast slots.
pub const SERVER_VERSION: &str = "1.13.5";

/// The level of the client protocol that the server speaks.
const PROTOCOL: i32 = 17;

/// Seconds between a client's pings. Zero would end Rust clients.
const PING_INTERVAL_S: i32 = 5;
/// Seconds without an answer after which a client takes the connection for lost.
const PING_TIMEOUT_S: i32 = 15;

/// A participant whose transport is not up by then is removed (the reference server's time).
const JOIN_TIMEOUT: Duration = Duration::from_mins(1);

/// Between two refreshed tokens, as in the reference server.
const REFRESH_INTERVAL: Duration = Duration::from_mins(5);
/// The least that a refreshed token is good for, twice the interval.
const REFRESH_TTL_S: i64 = 600;

/// What may be published, in order of preference. JS takes the first when the application's choice is missing.
const PUBLISH_CODECS: [&str; 6] =
    ["video/VP8", "video/H264", "video/VP9", "video/AV1", "audio/opus", "audio/red"];

/// Why somebody with a good token cannot come in now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// As many as it may hold are in it.
    #[error("room is full: {limit} participants")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// It ended meanwhile: make a new one and join that.
    #[error("room has ended")]
    Ended,
}

impl JoinError {
    /// The HTTP answer, for a join before the upgrade.
    pub fn refusal(&self) -> Refusal {
        let status = match self {
            JoinError::Full { .. } | JoinError::Ended => 503,
        };
        Refusal { status, body: self.to_string() }
    }
}

impl Room {
    /// Lets somebody in. The first output for `session` is its `join`, or, when it asked to resume, its `reconnect` or the `leave`
    /// that makes it join anew; an older participant of the same identity is sent
    /// away. `session` must be new.
    ///
    /// # Errors
    /// [`JoinError`]; then nothing has changed and nothing is sent.
    pub fn join(&mut self, clock: Clock, session: SessionId, admission: Admission) -> Result<(), JoinError> {
        if self.phase == Phase::Ended {
            return Err(JoinError::Ended);
        }
        if admission.resume.is_some() {
            self.resume(clock, session, admission);
            return Ok(());
        }
        let double = self.by_identity.get(&admission.identity).copied();
        self.check_space(&admission, double)?;
        if let Some(double) = double {
            self.depart(clock, double, Leaving::REPLACED);
        }

        let (offer, requests) = (admission.publisher_offer.clone(), admission.add_track_requests.clone());
        let seat = self.take_seat(clock, session, admission);
        let join = self.join_response(clock, seat);
        self.send(seat, Response::Join(join));
        self.notice(Notice::ParticipantJoined);
        self.make_peers(seat);
        self.open_feeds(seat);
        self.follow_policy(seat);
        self.set_state(seat, State::Joined);
        // One that takes another's place is shown at once, or others would miss it for a moment.
        if double.is_some() {
            self.announce_now(seat);
        } else {
            self.announce_soon(clock, seat);
        }
        self.counts_changed(clock);
        if self.quality_at.is_none() {
            self.quality_at = Some(clock.now + super::status::QUALITY_INTERVAL);
        }

        self.send_for_participant_agents(seat);
        self.reconcile_all(clock, seat);
        for request in requests {
            self.add_track(clock, seat, request);
        }
        self.follow(clock);
        if let Some(offer) = offer {
            self.client_offers_early(clock, seat, offer);
        }
        self.refresh_token(clock, seat);
        Ok(())
    }

    /// Whether there is a place for one more, who takes that of `double`. Agents and recorders take none of those that the room was
    /// made with, or they could not come to a room that is full.
    fn check_space(&self, admission: &Admission, double: Option<Seat>) -> Result<(), JoinError> {
        let others = || self.people.values().filter(|who| Some(who.seat) != double);
        let (count, limit) = if is_dependent(admission.kind, admission.recorder) {
            (others().count(), self.settings.limits.participants)
        } else {
            (others().filter(|who| !who.is_dependent()).count(), self.max_participants)
        };
        if count < limit { Ok(()) } else { Err(JoinError::Full { limit }) }
    }

    fn take_seat(&mut self, clock: Clock, session: SessionId, admission: Admission) -> Seat {
        let seat = Seat(self.next_seat);
        self.next_seat += 1;
        let mut peer = || PeerId(self.rng.u64(..));
        let link = match admission.mode {
            Mode::Single => Link::Single(peer()),
            Mode::Dual => Link::Dual { publisher: Some(peer()), subscriber: peer() },
        };
        for peer in link.peers() {
            self.by_peer.insert(peer, seat);
        }
        self.by_session.insert(session, seat);
        self.by_identity.insert(admission.identity.clone(), seat);
        let subscriber_primary = link.mode() == Mode::Dual && admission.permission.can_subscribe;
        let participant = Participant {
            seat,
            session: Some(session),
            sid: sid::participant(&mut self.rng),
            identity: admission.identity,
            name: admission.name,
            metadata: admission.metadata,
            attributes: admission.attributes,
            kind: admission.kind,
            permission: admission.permission,
            recorder: admission.recorder,
            client: admission.client,
            policy: DownlinkPolicy::default(),
            claims: admission.claims,
            link,
            signalling: admission.signalling,
            feeds: None,
            subscriber_primary,
            auto_subscribe: admission.auto_subscribe,
            adaptive_stream: admission.adaptive_stream,
            state: State::Joining,
            version: 1,
            joined_at: clock.now,
            joined_unix_ms: clock.unix_ms,
            has_media: false,
            active_by: Some(clock.now + JOIN_TIMEOUT),
            unsure_since: None,
            away: None,
            lost: std::collections::BTreeMap::new(),
            gone_at: None,
            simulated: None,
            answer_by: None,
            early_offer: None,
            speaks_until: None,
            simulated_max: None,
            refresh_at: clock.now + REFRESH_INTERVAL,
            sections: Vec::new(),
            revoked: Vec::new(),
            has_offered: false,
            tracks: Vec::new(),
            data_tracks: Vec::new(),
            allowance: Allowance::Everyone,
            data_budget: DataBudget::new(clock.now, self.settings.limits.data_rate),
            last_reliable: 0,
            subscriptions: std::collections::BTreeMap::new(),
            preferences: std::collections::HashMap::new(),
            missing_until: None,
            denied: std::collections::BTreeSet::new(),
            undecodable: std::collections::BTreeSet::new(),
            data_downlink: DataDownlink::new(admission.auto_subscribe_data),
            heard: std::collections::BTreeMap::new(),
            told_quality: std::collections::BTreeMap::new(),
            link_quality: std::collections::BTreeMap::new(),
            silent_reports: 0,
            voice_faults: std::collections::BTreeMap::new(),
            untold: std::collections::BTreeSet::new(),
            news_at: None,
        };
        if !participant.is_dependent() {
            self.phase = Phase::Open;
            self.was_used = true;
        }
        self.people.insert(seat, participant);
        seat
    }

    fn make_peers(&mut self, seat: Seat) {
        let Some(link) = self.people.get(&seat).map(|who| who.link) else { return };
        match link {
            Link::Single(peer) => self.add_peer(peer, NegotiationRole::Answerer),
            Link::Dual { publisher, subscriber } => {
                // The subscriber first: its offer is what the client waits for.
                self.add_peer(subscriber, NegotiationRole::Offerer);
                if let Some(publisher) = publisher {
                    self.add_peer(publisher, NegotiationRole::Answerer);
                }
            }
        }
    }

    /// Makes a connection in the core. Only an offerer opens channels: its first offer must have a section for
    /// them, or mobile SDKs never get data.
    pub(super) fn add_peer(&mut self, peer: PeerId, role: NegotiationRole) {
        let channel = |label: &str, reliability| ChannelSpec { label: label.to_owned(), reliability };
        let channels = match role {
            NegotiationRole::Answerer => Vec::new(),
            NegotiationRole::Offerer => vec![
                channel(data::RELIABLE, Reliability::Reliable),
                channel(data::LOSSY, Reliability::Lossy),
                channel(data::TRACKS, Reliability::Lossy),
            ],
        };
        self.command(Command::AddPeer(AddPeer { peer, room: self.id, role, channels }));
    }

    /// How the client shall behave, who is offered these servers.
    pub(super) fn client_configuration(
        &self,
        who: &Participant,
        ice_servers: &[IceServer],
    ) -> ClientConfiguration {
        let mut urls = ice_servers.iter().flat_map(|server| &server.urls);
        let has_relay = urls.any(|url| url.starts_with("turn"));
        let force_relay = if has_relay && self.relayed.contains(&who.identity) {
            ClientConfigSetting::Enabled
        } else {
            ClientConfigSetting::Unset
        };
        ClientConfiguration {
            video: None,
            screen: None,
            resume_connection: ClientConfigSetting::Unset as i32,
            disabled_codecs: None,
            force_relay: force_relay as i32,
        }
    }

    fn join_response(&self, clock: Clock, seat: Seat) -> JoinResponse {
        let who = &self.people[&seat];
        let others = self.people.values().filter(|other| other.seat != seat && !other.is_hidden());
        let settings = &self.settings;
        let ice_servers = ice_servers(settings, &who.identity, clock);
        JoinResponse {
            room: Some(self.room_info()),
            participant: Some(self.info(who)),
            other_participants: others.map(|other| self.info(other)).collect(),
            server_version: SERVER_VERSION.to_owned(),
            client_configuration: Some(self.client_configuration(who, &ice_servers)),
            ice_servers,
            subscriber_primary: who.subscriber_primary,
            alternative_url: String::new(),
            server_region: settings.region.clone(),
            ping_timeout: PING_TIMEOUT_S,
            ping_interval: PING_INTERVAL_S,
            server_info: Some(server_info(settings)),
            sif_trailer: self.sif_trailer.clone(),
            enabled_publish_codecs: publish_codecs(),
            fast_publish: true,
        }
    }

    /// Sends a token with which the client can come back later; the next is due in [`REFRESH_INTERVAL`].
    pub(super) fn refresh_token(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.refresh_at = clock.now + REFRESH_INTERVAL;
        let Some(secret) = self.settings.keys.secret(&who.claims.iss) else { return };
        let mut claims = who.claims.clone();
        claims.name.clone_from(&who.name);
        claims.metadata.clone_from(&who.metadata);
        claims.attributes = who.attributes.clone().into_iter().collect();
        let unix_s = clock.unix_ms.div_euclid(1000);
        let left = claims.exp.unwrap_or(unix_s).saturating_sub(unix_s).max(REFRESH_TTL_S);
        let key = claims.iss.clone();
        match access::mint(&key, secret, claims, Duration::from_secs(left.unsigned_abs()), unix_s) {
            Ok(token) => self.send(seat, Response::RefreshToken(token)),
            Err(error) => tracing::error!(%error, "token not refreshed"),
        }
    }

    /// The core has a transport up; if it is the primary one, the participant is there.
    pub(super) fn peer_connected(&mut self, clock: Clock, peer: PeerId) {
        let Some(seat) = self.seat_of(peer) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if who.lost.remove(&peer).is_some() {
            return self.reckon(clock, seat);
        }
        if who.primary() != Some(peer) || who.is_active() {
            return;
        }
        who.active_by = None;
        let after = who.stay(clock.now);
        self.set_state(seat, State::Active);
        self.announce_soon(clock, seat);
        self.notice(Notice::ParticipantActive { after });
        self.report_joined(clock, seat);
        self.reconcile_all(clock, seat);
    }

    pub(super) fn first_media(&mut self, clock: Clock, peer: PeerId) {
        if let Some(who) = self.seat_of(peer).and_then(|seat| self.people.get_mut(&seat))
            && !std::mem::replace(&mut who.has_media, true)
        {
            let after = who.stay(clock.now);
            self.notice(Notice::FirstMedia { after });
        }
    }

    pub(super) fn set_state(&mut self, seat: Seat, state: State) {
        if let Some(who) = self.people.get_mut(&seat) {
            who.state = state;
        }
    }
}

/// What may be published, as `join` and `room_update` have it.
pub(super) fn publish_codecs() -> Vec<Codec> {
    PUBLISH_CODECS.iter().map(|mime| Codec { mime: (*mime).to_owned(), fmtp_line: String::new() }).collect()
}

pub(crate) fn server_info(settings: &super::Settings) -> ServerInfo {
    ServerInfo {
        edition: Edition::Standard as i32,
        version: SERVER_VERSION.to_owned(),
        protocol: PROTOCOL,
        region: settings.region.clone(),
        node_id: settings.node_id.clone(),
        debug_info: String::new(),
        agent_protocol: AGENT_PROTOCOL,
    }
}

/// With credentials of the participant's own, good from now on.
pub(super) fn ice_servers(settings: &super::Settings, identity: &str, clock: Clock) -> Vec<IceServer> {
    let unix_s = clock.unix_ms.div_euclid(1000).max(0).unsigned_abs();
    let told = settings.ice_servers.told_to(identity, unix_s).into_iter();
    told.map(|server| IceServer {
        urls: server.urls,
        username: server.username,
        credential: server.credential,
    })
    .collect()
}
