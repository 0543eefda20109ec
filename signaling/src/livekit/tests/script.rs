//! The script: sessions by number, what each was sent, what the core was told, time at will.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::participant_info::Kind;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, JoinResponse, ParticipantInfo, ParticipantPermission, RoomConfiguration,
    SessionDescription, SignalRequest, TrackInfo, TrackSource, TrackType, WebhookEvent,
};
use sfu::command::{Command, Event, MediaKind, NegotiationRole, RemoteSection};
use sfu::ids::{Mid, PeerId, Rid, TrackId};

use crate::access::{Claims, Keys};
use crate::agents::Order;
use crate::livekit::api::{Answer, ApiError, RoomCall};
use crate::livekit::connect::{Admission, Mode, Resume, Signalling};
use crate::livekit::explain::Report;
use crate::livekit::{Clock, JoinError, Notice, Output, Room, SessionId, Settings, SocketEnd};

pub(super) const START_MS: i64 = 1_800_000_000_000;

pub(super) struct Script {
    pub(super) room: Room,
    pub(super) clock: Clock,
    start: Instant,
    sessions: u64,
    /// Everything in order, for claims about order.
    pub(super) log: Vec<Output>,
    pub(super) inbox: BTreeMap<SessionId, Vec<Response>>,
    pub(super) commands: Vec<Command>,
    pub(super) notices: Vec<Notice>,
    pub(super) webhooks: Vec<WebhookEvent>,
    /// For the pool of agents.
    pub(super) orders: Vec<Order>,
    pub(super) reports: Vec<(u64, Box<Report>)>,
    pub(super) answers: Vec<(u64, Result<Answer, ApiError>)>,
    pub(super) closed: BTreeSet<SessionId>,
    pub(super) ended: bool,
    /// Peers of a session: publisher and subscriber, the same in v1.
    peers: HashMap<SessionId, (PeerId, PeerId)>,
}

pub(super) fn admission(identity: &str) -> Admission {
    Admission {
        room: "lobby".into(),
        identity: identity.into(),
        name: identity.to_uppercase(),
        metadata: String::new(),
        attributes: HashMap::new(),
        kind: Kind::Standard,
        permission: ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            can_update_metadata: true,
            ..ParticipantPermission::default()
        },
        recorder: false,
        client: ClientInfo { protocol: 17, client_protocol: 2, ..ClientInfo::default() },
        mode: Mode::Single,
        signalling: Signalling::WebSocket,
        auto_subscribe: true,
        auto_subscribe_data: false,
        adaptive_stream: false,
        publisher_offer: None,
        add_track_requests: vec![],
        resume: None,
        room_config: None,
        claims: Claims {
            iss: "devkey".into(),
            sub: identity.into(),
            exp: Some(START_MS / 1000 + 3600),
            ..Claims::default()
        },
    }
}

pub(super) fn v0(identity: &str) -> Admission {
    Admission { mode: Mode::Dual, ..admission(identity) }
}

pub(super) fn settings() -> Settings {
    let keys: Keys = [("devkey".to_owned(), "secret".to_owned())].into_iter().collect();
    Settings { keys, node_id: "ND_test".into(), region: "here".into(), simulate: true, ..Settings::default() }
}

pub(super) fn offer(id: u32) -> SessionDescription {
    SessionDescription { r#type: "offer".into(), sdp: "v=0".into(), id, ..SessionDescription::default() }
}

pub(super) fn camera(cid: &str) -> AddTrackRequest {
    AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        ..AddTrackRequest::default()
    }
}

pub(super) fn microphone(cid: &str) -> AddTrackRequest {
    AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..AddTrackRequest::default()
    }
}

pub(super) fn mid(text: &str) -> Mid {
    Mid::parse(text).unwrap()
}

pub(super) fn section(at: &str, kind: MediaKind, track_id: &str) -> RemoteSection {
    RemoteSection {
        mid: mid(at),
        kind,
        sending: true,
        stream_id: Some("s".into()),
        track_id: Some(track_id.into()),
        rids: vec![],
    }
}

pub(super) fn with_rids(mut section: RemoteSection, rids: &[&str]) -> RemoteSection {
    section.rids = rids.iter().map(|rid| Rid::parse(rid).unwrap()).collect();
    section
}

pub(super) fn silent(mut section: RemoteSection) -> RemoteSection {
    section.sending = false;
    section
}

impl Script {
    pub(super) fn new() -> Script {
        Script::with(settings())
    }

    pub(super) fn with(settings: Settings) -> Script {
        Script::configured(settings, None)
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    pub(super) fn configured(settings: Settings, config: Option<&RoomConfiguration>) -> Script {
        let start = Instant::now();
        let clock = Clock { now: start, unix_ms: START_MS };
        Script {
            room: Room::new(clock, Arc::new(settings), "lobby".into(), config, fastrand::Rng::with_seed(7)),
            clock,
            start,
            sessions: 0,
            log: vec![],
            inbox: BTreeMap::new(),
            commands: vec![],
            notices: vec![],
            webhooks: vec![],
            orders: vec![],
            reports: vec![],
            answers: vec![],
            closed: BTreeSet::new(),
            ended: false,
            peers: HashMap::new(),
        }
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.room.poll_output() {
            assert!(!self.ended, "output after the end: {output:?}");
            match output.clone() {
                Output::Send { session, response } => {
                    assert!(!self.closed.contains(&session), "sent after close: {response:?}");
                    let message = response.message.expect("an empty response");
                    if !self.inbox.contains_key(&session) {
                        assert!(
                            matches!(
                                message,
                                Response::Join(_) | Response::Reconnect(_) | Response::Leave(_)
                            ),
                            "first: {message:?}"
                        );
                    }
                    self.inbox.entry(session).or_default().push(message);
                }
                Output::Close { session } => assert!(self.closed.insert(session), "closed twice"),
                Output::Media(command) => self.commands.push(command),
                Output::Report { question, report } => self.reports.push((question, report)),
                Output::Answer { question, answer } => self.answers.push((question, answer)),
                Output::Notice(notice) => self.notices.push(notice),
                Output::Agents(order) => self.orders.push(order),
                Output::Webhook(ref event) => self.webhooks.push((**event).clone()),
                Output::Ended => self.ended = true,
            }
            self.log.push(output);
        }
    }

    pub(super) fn try_join(&mut self, admission: Admission) -> Result<SessionId, JoinError> {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let before = self.commands.len();
        let result = self.room.join(self.clock, session, admission);
        self.drain();
        let made: Vec<_> = self.commands[before..]
            .iter()
            .filter_map(|command| match command {
                Command::AddPeer(add) => Some((add.role, add.peer)),
                _ => None,
            })
            .collect();
        match made[..] {
            [(NegotiationRole::Answerer, peer)] => {
                self.peers.insert(session, (peer, peer));
            }
            [(NegotiationRole::Offerer, subscriber), (NegotiationRole::Answerer, publisher)] => {
                self.peers.insert(session, (publisher, subscriber));
            }
            _ => {}
        }
        result.map(|()| session)
    }

    /// Joined, and its transport not up yet.
    pub(super) fn join(&mut self, admission: Admission) -> SessionId {
        self.try_join(admission).unwrap()
    }

    /// Joined, active, and everybody told.
    pub(super) fn active(&mut self, admission: Admission) -> SessionId {
        let session = self.join(admission);
        self.connected(session);
        self.advance(Duration::from_secs(1));
        session
    }

    pub(super) fn publisher(&self, session: SessionId) -> PeerId {
        self.peers[&session].0
    }

    pub(super) fn subscriber(&self, session: SessionId) -> PeerId {
        self.peers[&session].1
    }

    pub(super) fn connected(&mut self, session: SessionId) {
        for peer in [self.publisher(session), self.subscriber(session)] {
            self.media(Event::Connected { peer });
        }
    }

    pub(super) fn request(&mut self, session: SessionId, message: Request) {
        self.room.frame(self.clock, session, SignalRequest { message: Some(message) });
        self.drain();
    }

    pub(super) fn media(&mut self, event: Event) {
        self.room.media(self.clock, event);
        self.drain();
    }

    pub(super) fn sections(&mut self, session: SessionId, sections: Vec<RemoteSection>) {
        let peer = self.publisher(session);
        self.media(Event::RemoteSections { peer, sections });
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn advance(&mut self, time: Duration) {
        let until = self.clock.now + time;
        for _ in 0..10_000 {
            match self.room.next_timeout() {
                Some(at) if at <= until => {
                    self.at(at.max(self.clock.now));
                    self.room.handle_timeout(self.clock);
                    self.drain();
                }
                _ => {
                    self.at(until);
                    return;
                }
            }
        }
        panic!("deadlines that never pass");
    }

    fn at(&mut self, now: Instant) {
        let since = i64::try_from((now - self.start).as_millis()).unwrap();
        self.clock = Clock { now, unix_ms: START_MS + since };
    }

    pub(super) fn close_socket(&mut self, session: SessionId) {
        self.room.socket_closed(self.clock, session, SocketEnd::Closed);
        self.drain();
    }

    /// What a call of the server API is answered with, if it is at once.
    pub(super) fn call_soon(&mut self, call: RoomCall) -> Option<Result<Answer, ApiError>> {
        let question = 1000 + self.log.len() as u64;
        self.room.call(self.clock, question, call);
        self.drain();
        self.answer_to(question)
    }

    /// The same, for a call that is.
    pub(super) fn call(&mut self, call: RoomCall) -> Result<Answer, ApiError> {
        self.call_soon(call).expect("answered at once")
    }

    pub(super) fn answer_to(&mut self, question: u64) -> Option<Result<Answer, ApiError>> {
        let at = self.answers.iter().position(|(number, _)| *number == question)?;
        Some(self.answers.remove(at).1)
    }

    pub(super) fn abandon(&mut self) {
        self.room.abandon(self.clock);
        self.drain();
    }

    pub(super) fn shutdown(&mut self) {
        self.room.shutdown(self.clock);
        self.drain();
    }

    pub(super) fn bad_frame(&mut self, session: SessionId) {
        self.room.bad_frame(self.clock, session, crate::livekit::frame::FrameError::Protobuf);
        self.drain();
    }

    /// Resumes on a new socket, which then has the connections of the old one.
    pub(super) fn resume(&mut self, old: SessionId, admission: Admission) -> SessionId {
        let seat = self.room.by_identity[&admission.identity];
        let participant_sid = self.room.people[&seat].sid.clone();
        let resume = Some(Resume { participant_sid, reason: 1 });
        let session = self.join(Admission { resume, ..admission });
        self.peers.insert(session, self.peers[&old]);
        session
    }

    /// The core hears nothing on any connection of a session's for as long as consent lasts.
    pub(super) fn lose(&mut self, session: SessionId) {
        let mut peers = vec![self.publisher(session), self.subscriber(session)];
        peers.dedup();
        for peer in peers {
            self.media(Event::Lost { peer, silence: Duration::from_secs(15) });
        }
    }

    /// What a session was sent since the last look.
    pub(super) fn take(&mut self, session: SessionId) -> Vec<Response> {
        self.inbox.get_mut(&session).map(std::mem::take).unwrap_or_default()
    }

    /// The commands since the last look.
    pub(super) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    pub(super) fn join_response(&mut self, session: SessionId) -> JoinResponse {
        match self.inbox[&session].first() {
            Some(Response::Join(join)) => join.clone(),
            other => panic!("no join: {other:?}"),
        }
    }

    /// Announces and negotiates a track, and gives it as the room knows it.
    pub(super) fn publish(
        &mut self,
        session: SessionId,
        at: &str,
        request: AddTrackRequest,
    ) -> (TrackId, TrackInfo) {
        let kind =
            if request.r#type == TrackType::Audio as i32 { MediaKind::Audio } else { MediaKind::Video };
        let mut sections = self.known_sections(session);
        sections.push(section(at, kind, &request.cid));
        self.request(session, Request::AddTrack(request));
        self.sections(session, sections);
        let id = bound(self.commands.iter().rev()).expect("no track was bound");
        (id, self.room.tracks[&id].info.clone())
    }

    pub(super) fn known_sections(&self, session: SessionId) -> Vec<RemoteSection> {
        let seat = self.room.by_session[&session];
        self.room.people[&seat].sections.clone()
    }
}

/// The first track that these commands bind.
pub(super) fn bound<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Option<TrackId> {
    commands.into_iter().find_map(|command| match command {
        Command::BindTrack { track, .. } => Some(*track),
        _ => None,
    })
}

/// All participants of all updates, in order.
pub(super) fn updates(messages: &[Response]) -> Vec<ParticipantInfo> {
    let lists = messages.iter().filter_map(|message| match message {
        Response::Update(update) => Some(update.participants.clone()),
        _ => None,
    });
    lists.flatten().collect()
}

/// A word for each message, for transcripts.
pub(super) fn names(messages: &[Response]) -> Vec<&'static str> {
    messages
        .iter()
        .map(|message| match message {
            Response::Join(_) => "join",
            Response::Reconnect(_) => "reconnect",
            Response::Answer(_) => "answer",
            Response::Offer(_) => "offer",
            Response::Update(_) => "update",
            Response::TrackPublished(_) => "track_published",
            Response::TrackUnpublished(_) => "track_unpublished",
            Response::TrackSubscribed(_) => "track_subscribed",
            Response::RefreshToken(_) => "refresh_token",
            Response::Leave(_) => "leave",
            Response::RoomUpdate(_) => "room_update",
            Response::RequestResponse(_) => "request_response",
            Response::SpeakersChanged(_) => "speakers_changed",
            Response::ConnectionQuality(_) => "connection_quality",
            Response::MediaSectionsRequirement(_) => "media_sections_requirement",
            Response::SubscriptionResponse(_) => "subscription_response",
            Response::SubscriptionPermissionUpdate(_) => "subscription_permission_update",
            Response::StreamStateUpdate(_) => "stream_state_update",
            Response::SubscribedQualityUpdate(_) => "subscribed_quality_update",
            Response::SubscribedAudioCodecUpdate(_) => "subscribed_audio_codec_update",
            Response::PublishDataTrackResponse(_) => "publish_data_track_response",
            Response::UnpublishDataTrackResponse(_) => "unpublish_data_track_response",
            Response::DataTrackSubscriberHandles(_) => "data_track_subscriber_handles",
            other => panic!("never sent: {other:?}"),
        })
        .collect()
}
