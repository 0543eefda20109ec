//! One room: the people in it, their tracks, and who gets what.
//!
//! Always: a client's first message is `join` (of a resume `reconnect`, or the `leave` that refuses it); a participant is announced
//! before any description that carries its tracks; a track is announced before anybody is subscribed to it; sids
//! and versions never go back. Every map that a client can grow has a limit in [`RoomLimits`](super::RoomLimits).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DisconnectReason, ParticipantInfo, RoomConfiguration, RoomEndReason, SignalRequest, SignalResponse,
};
use sfu::command::{Command, Event};
use sfu::ids::{PeerId, RoomId, TrackId};
use turn_config::IceServerList;

use super::api::Waiting;
use super::data_track::DataTrack;
use super::dispatch::Dispatches;
use super::follow::Stage;
use super::limits::RoomLimits;
use super::missed::{Departures, Replay};
use super::nonces::Nonces;
use super::output::{Clock, Notice, Output, SessionId};
use super::participant::{Participant, Seat};
use super::sid;
use super::track::Track;
use crate::access::Keys;
use crate::agents::Order;

/// What all rooms of a server have in common.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For refreshed tokens.
    pub keys: Keys,
    /// For every join.
    pub ice_servers: IceServerList,
    /// This node's name, such as `ND_…`, for the logs of clients.
    pub node_id: String,
    /// This node's region; may be empty.
    pub region: String,
    /// How large a room may grow.
    pub limits: RoomLimits,
    /// Do to clients what they ask to have simulated, as test suites of SDKs do. For development.
    pub simulate: bool,
    /// Let the server API unmute tracks, and not only mute them.
    pub remote_unmute: bool,
    /// Make events for the application's server ([`Output::Webhook`]).
    pub webhooks: bool,
}

/// One room's state machine. After every input drain [`Room::poll_output`], then see [`Room::next_timeout`].
#[derive(Debug)]
pub struct Room {
    pub(super) settings: Arc<Settings>,
    pub(super) rng: fastrand::Rng,
    pub(super) id: RoomId,
    pub(super) sid: String,
    pub(super) name: String,
    pub(super) metadata: String,
    pub(super) max_participants: usize,
    pub(super) empty_timeout: Duration,
    pub(super) departure_timeout: Duration,
    pub(super) created_unix_ms: i64,
    /// Ends every frame that the server makes, so that receivers of encrypted media can tell.
    pub(super) sif_trailer: Vec<u8>,

    pub(super) phase: Phase,
    /// Somebody was in it for whose sake it is there.
    pub(super) was_used: bool,
    pub(super) next_seat: u64,
    pub(super) people: BTreeMap<Seat, Participant>,
    pub(super) by_session: HashMap<SessionId, Seat>,
    pub(super) by_identity: HashMap<String, Seat>,
    pub(super) by_peer: HashMap<PeerId, Seat>,
    pub(super) tracks: BTreeMap<TrackId, Track>,
    pub(super) by_track_sid: HashMap<String, TrackId>,
    /// The track of each further codec that is published.
    pub(super) by_alternative: HashMap<TrackId, TrackId>,
    pub(super) data_tracks: BTreeMap<TrackId, DataTrack>,
    pub(super) by_data_track_sid: HashMap<String, TrackId>,

    /// Changed in a way that may wait for `announce_at`.
    pub(super) changed: BTreeSet<Seat>,
    /// Gone without having published; told with the next announcement.
    pub(super) departed: Vec<ParticipantInfo>,
    /// For those who are away.
    pub(super) departures: Departures,
    /// The same.
    pub(super) replay: Replay,
    pub(super) announce_at: Option<Instant>,
    pub(super) counts_at: Option<Instant>,
    pub(super) counts_told_at: Option<Instant>,
    pub(super) quality_at: Option<Instant>,
    /// When publishers may have to be told that a quality is no longer wanted.
    pub(super) qualities_at: Option<Instant>,
    /// How loud each speaker is, in eighths, never 0.
    pub(super) loudness: BTreeMap<Seat, u8>,
    /// Identities that are told to take the relay, for tests.
    pub(super) relayed: BTreeSet<String>,
    /// Who watches, whom, and whether that may have changed.
    pub(super) stage: Stage,
    /// Numbers of messages that must not be sent twice.
    pub(super) nonces: Nonces,
    /// Calls of participants' methods that wait, by the name of each.
    pub(super) rpcs: HashMap<String, Waiting>,
    /// Agents that it wants.
    pub(super) dispatches: Dispatches,

    pub(super) outbox: VecDeque<Output>,
}

/// Where a room is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Somebody is in it.
    Open,
    /// Nobody is; it ends then.
    Empty {
        /// The end.
        until: Instant,
    },
    /// It is over.
    Ended,
}

impl Room {
    /// An empty room, which waits for its first participant. `config` is that of the token that makes it.
    pub fn new(
        clock: Clock,
        settings: Arc<Settings>,
        name: String,
        config: Option<&RoomConfiguration>,
        mut rng: fastrand::Rng,
    ) -> Room {
        let limits = &settings.limits;
        let seconds = |configured: Option<u32>, default| match configured {
            None | Some(0) => default,
            Some(seconds) => Duration::from_secs(u64::from(seconds)),
        };
        let empty_timeout = seconds(config.map(|config| config.empty_timeout), limits.empty_timeout);
        let departure_timeout =
            seconds(config.map(|config| config.departure_timeout), limits.departure_timeout);
        let max_participants = match config.map(|config| config.max_participants) {
            None | Some(0) => limits.participants,
            Some(own) => limits.participants.min(usize::try_from(own).unwrap_or(usize::MAX)),
        };
        let metadata = config.map_or("", |config| config.metadata.as_str());
        let mut room = Room {
            id: RoomId(rng.u64(..)),
            sid: sid::room(&mut rng),
            name,
            metadata: if metadata.len() <= limits.metadata_bytes {
                metadata.to_owned()
            } else {
                String::new()
            },
            max_participants,
            empty_timeout,
            departure_timeout,
            created_unix_ms: clock.unix_ms,
            sif_trailer: (0..16).map(|_| rng.u8(..)).collect(),
            phase: Phase::Empty { until: clock.now + empty_timeout },
            was_used: false,
            next_seat: 0,
            people: BTreeMap::new(),
            by_session: HashMap::new(),
            by_identity: HashMap::new(),
            by_peer: HashMap::new(),
            tracks: BTreeMap::new(),
            by_track_sid: HashMap::new(),
            by_alternative: HashMap::new(),
            data_tracks: BTreeMap::new(),
            by_data_track_sid: HashMap::new(),
            changed: BTreeSet::new(),
            departed: Vec::new(),
            departures: Departures::default(),
            replay: Replay::default(),
            announce_at: None,
            counts_at: None,
            counts_told_at: None,
            quality_at: None,
            qualities_at: None,
            loudness: BTreeMap::new(),
            relayed: BTreeSet::new(),
            stage: Stage::default(),
            nonces: Nonces::default(),
            rpcs: HashMap::new(),
            dispatches: Dispatches::default(),
            outbox: VecDeque::new(),
            settings,
            rng,
        };
        room.report_started(clock);
        room.begin_dispatches(clock, config.map_or(&[], |config| &config.agents));
        room
    }

    /// The room's id in the media core.
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// The room's sid, `RM_…`; new each time a room of a name is made.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// People in it, those who lost their socket and may come back included.
    pub fn participants(&self) -> usize {
        self.people.len()
    }

    /// Whether [`Output::Ended`] was given, or waits to be.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// One message of a client's, as [`frame::decode`](super::frame::decode) gave it. From a session that is
    /// not (or no longer) in the room it is ignored.
    #[expect(deprecated, reason = "a full match names the deprecated request, too")]
    pub fn frame(&mut self, clock: Clock, session: SessionId, request: SignalRequest) {
        let Some(&seat) = self.by_session.get(&session) else { return };
        if let Some(who) = self.people.get_mut(&seat) {
            who.unsure_since = None;
        }
        // An unknown kind of request, skipped as the protocol asks.
        let Some(message) = request.message else { return };
        match message {
            Request::Offer(offer) => self.client_offers(seat, offer),
            Request::Answer(answer) => self.client_answers(seat, answer),
            Request::Trickle(trickle) => self.client_trickles(seat, &trickle),
            Request::AddTrack(request) => self.add_track(clock, seat, request),
            Request::Mute(request) => self.mute(clock, seat, &request),
            Request::Subscription(request) => self.update_subscription(clock, seat, request),
            Request::TrackSetting(request) => self.update_track_settings(clock, seat, &request),
            Request::Leave(_) => self.client_leaves(clock, seat),
            Request::SubscriptionPermission(list) => self.update_allowance(clock, seat, list),
            Request::SyncState(state) => self.sync(clock, seat, state),
            Request::Simulate(scenario) => self.simulate(clock, seat, &scenario),
            Request::UpdateMetadata(request) => self.update_metadata(clock, seat, request),
            Request::UpdateAudioTrack(request) => self.update_audio_track(clock, seat, request),
            Request::UpdateVideoTrack(request) => self.update_video_track(clock, seat, &request),
            Request::PublishDataTrackRequest(request) => self.publish_data_track(clock, seat, request),
            Request::UnpublishDataTrackRequest(request) => self.unpublish_data_track(clock, seat, request),
            Request::UpdateDataSubscription(request) => self.update_data_subscription(seat, request),
            // Answered by the socket (`pong_for`), of no use here (update_layers is deprecated), or asking for what has not been built.
            Request::UpdateLayers(_)
            | Request::Ping(_)
            | Request::PingReq(_)
            | Request::StoreDataBlobRequest(_)
            | Request::GetDataBlobRequest(_) => {}
        }
        self.follow(clock);
    }

    /// An event of the media core. One for a peer or track that is no more is ignored.
    pub fn media(&mut self, clock: Clock, event: Event) {
        match event {
            Event::RemoteSections { peer, sections } => self.sections_arrived(clock, peer, sections),
            Event::Answer { peer, id, sdp, tracks } => self.core_answers(peer, id, sdp, &tracks),
            Event::DescriptionRefused { peer, id: _, reason } => {
                self.description_refused(clock, peer, &reason);
            }
            Event::Offer { peer, id, sdp, tracks } => self.core_offers(clock, peer, id, sdp, &tracks),
            Event::SectionsNeeded { peer, audio, video } => self.sections_needed(peer, audio, video),
            Event::Connected { peer } => self.peer_connected(clock, peer),
            Event::Ended { peer, reason } => self.peer_ended(clock, peer, reason),
            Event::TrackMedia { track, media } => self.track_media(clock, track, &media),
            Event::SubscriptionBound { peer, track } => self.subscription_bound(clock, peer, track),
            Event::SubscriptionUnsupported { peer, track } => {
                self.subscription_unsupported(clock, peer, track);
            }
            Event::SubscriptionPaused { peer, track, paused } => {
                self.subscription_paused(peer, track, paused);
            }
            Event::Lost { peer, silence } => self.peer_lost(clock, peer, silence),
            Event::Data { peer, label, binary, payload } => {
                self.data_arrived(clock, peer, label, binary, payload);
            }
            Event::Speakers { room: _, levels } => self.speakers(&levels),
            Event::Quality { peer, quality } => self.quality_arrived(peer, quality),
            Event::Voice { peer, way, fault } => self.voice_changed(clock, peer, way, fault),
            Event::Explained { peer, question, explanation } => {
                self.explained(clock, peer, question, &explanation);
            }
            Event::FirstMedia { peer } => self.first_media(clock, peer),
        }
        self.follow(clock);
    }

    /// Time has come to [`Room::next_timeout`]; early and late calls do no harm.
    pub fn handle_timeout(&mut self, clock: Clock) {
        let seats: Vec<Seat> = self.people.keys().copied().collect();
        for seat in seats {
            self.participant_timeout(clock, seat);
        }
        if is_due(self.announce_at, clock.now) {
            self.announce();
        }
        if is_due(self.counts_at, clock.now) {
            self.send_room_update(clock);
        }
        if is_due(self.quality_at, clock.now) {
            self.send_quality(clock);
        }
        if is_due(self.qualities_at, clock.now) {
            self.qualities_due(clock);
        }
        self.rpcs_due(clock);
        self.send_agents_away(clock);
        self.follow(clock);
        if let Phase::Empty { until } = self.phase
            && until <= clock.now
        {
            self.close(clock, DisconnectReason::RoomClosed, RoomEndReason::RoomEndIdleTimeout);
        }
    }

    /// When to call [`Room::handle_timeout`]; `None`: only news can wake the room.
    pub fn next_timeout(&self) -> Option<Instant> {
        let room = match self.phase {
            Phase::Open => None,
            Phase::Empty { until } => Some(until),
            Phase::Ended => return None,
        };
        let own = [
            room,
            self.announce_at,
            self.counts_at,
            self.quality_at,
            self.qualities_at,
            self.dispatches.next_timeout(),
        ];
        let theirs = self.people.values().flat_map(|who| {
            let ends = [who.active_by, who.gone_at, who.answer_by, who.early_offer_until(), who.speaks_until];
            ends.into_iter().chain([Some(who.refresh_at), who.missing_until, who.news_at])
        });
        let rpcs = self.rpcs.values().map(|waiting| Some(waiting.deadline()));
        own.into_iter().chain(theirs).chain(rpcs).flatten().min()
    }

    /// What the caller must do next, in this order; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    fn participant_timeout(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get(&seat) else { return };
        let (active_by, gone_at, answer_by) = (who.active_by, who.gone_at, who.answer_by);
        let (early_offer, speaks_until) = (who.early_offer_until(), who.speaks_until);
        let (refresh_at, missing_until, news_at) = (Some(who.refresh_at), who.missing_until, who.news_at);
        if is_due(active_by, clock.now) {
            self.join_timed_out(clock, seat);
        } else if is_due(gone_at, clock.now) {
            self.stayed_away(clock, seat);
        } else if is_due(answer_by, clock.now) {
            self.answer_timed_out(clock, seat);
        } else {
            if is_due(early_offer, clock.now) {
                self.take_early_offer(seat);
            }
            if is_due(speaks_until, clock.now) {
                self.simulated_speech_ends(seat);
            }
            if is_due(refresh_at, clock.now) {
                self.refresh_token(clock, seat);
            }
            if is_due(missing_until, clock.now) {
                self.give_up_missing(clock, seat);
            }
            if is_due(news_at, clock.now) {
                self.tell_news(seat);
            }
        }
    }

    /// Sends to whoever sits there, if there is a socket.
    pub(super) fn send(&mut self, seat: Seat, message: Response) {
        if let Some(session) = self.people.get(&seat).and_then(|who| who.session) {
            self.outbox
                .push_back(Output::Send { session, response: SignalResponse { message: Some(message) } });
        }
    }

    pub(super) fn command(&mut self, command: Command) {
        self.outbox.push_back(Output::Media(command));
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.outbox.push_back(Output::Notice(notice));
    }

    /// The participant that has this connection.
    pub(super) fn seat_of(&self, peer: PeerId) -> Option<Seat> {
        self.by_peer.get(&peer).copied()
    }

    /// The published tracks of a participant, as others are told of them.
    pub(super) fn track_infos(&self, who: &Participant) -> Vec<livekit_protocol::TrackInfo> {
        let tracks = who.tracks.iter().filter_map(|track| self.tracks.get(track));
        tracks.filter(|track| track.is_published()).map(|track| track.info.clone()).collect()
    }

    /// What others are told of a participant.
    pub(super) fn info(&self, who: &Participant) -> ParticipantInfo {
        who.info(self.track_infos(who), self.data_track_infos(who))
    }

    /// Everybody else.
    pub(super) fn others(&self, seat: Seat) -> Vec<Seat> {
        self.people.keys().copied().filter(|other| *other != seat).collect()
    }

    pub(super) fn end(&mut self, clock: Clock, reason: RoomEndReason) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            self.report_finished(clock, reason);
            self.order(Order::EndRoom { room: self.sid.clone() });
            self.outbox.push_back(Output::Ended);
        }
    }
}

/// Whether that time has come.
pub(super) fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}

/// Whether a name of a client's is one of ours at all, before it is kept anywhere.
pub(super) fn is_sid(text: &str) -> bool {
    text.len() <= 64
}
