//! Nobody gets what its token does not grant: each permission, what needs it, and what becomes of that without it.
//!
//! Every row is played three times: by somebody who may, when it must have its effect; by somebody whose token never said
//! so; and by somebody from whom it was taken during the call.

use livekit_protocol as lk;
use livekit_protocol::data_packet::Value;
use livekit_protocol::request_response::Reason;
use livekit_protocol::{DataPacket, ParticipantPermission, UpdateParticipantMetadata};
use prost::Message as _;

use super::script::*;
use super::*;
use crate::livekit::DataRefusal;
use crate::livekit::api::RoomCall;
use crate::livekit::connect::Signalling;

/// Alice publishes a camera and a data track; Mallory does what the row says; Bob is told of it, if anybody is.
struct Call {
    script: Script,
    alice: SessionId,
    mallory: SessionId,
    bob: SessionId,
    camera: String,
    data_track: String,
}

/// What an act comes to.
#[derive(Debug, PartialEq)]
enum Refused {
    /// An answer with this reason, which SDKs make an error of.
    Answered(Reason),
    /// Dropped and counted: a channel has no way back.
    Dropped(DataRefusal),
    /// `subscription_permission_update`, which SDKs show as "not allowed".
    Denied,
    /// Nothing: the client asked for nothing, or the protocol has no answer.
    Silently,
}

struct Row {
    permission: &'static str,
    /// Takes it away.
    without: fn(&mut ParticipantPermission),
    what: &'static str,
    how: fn(Admission) -> Admission,
    act: fn(&mut Call),
    refused: Refused,
}

fn everything() -> ParticipantPermission {
    ParticipantPermission {
        can_subscribe_metrics: true,
        can_publish_sources: [1, 2, 3, 4].to_vec(),
        ..admission("any").permission
    }
}

fn no_publish(permission: &mut ParticipantPermission) {
    permission.can_publish = false;
}

fn no_data(permission: &mut ParticipantPermission) {
    permission.can_publish_data = false;
}

fn no_subscribe(permission: &mut ParticipantPermission) {
    permission.can_subscribe = false;
}

fn no_own_metadata(permission: &mut ParticipantPermission) {
    permission.can_update_metadata = false;
}

fn no_metrics(permission: &mut ParticipantPermission) {
    permission.can_subscribe_metrics = false;
}

fn but(source: TrackSource, permission: &mut ParticipantPermission) {
    permission.can_publish_sources.retain(|granted| *granted != source as i32);
}

fn asking(mut admission: Admission) -> Admission {
    (admission.auto_subscribe, admission.auto_subscribe_data) = (false, false);
    admission
}

fn over_http(admission: Admission) -> Admission {
    Admission { signalling: Signalling::Publish, ..admission }
}

fn watching(admission: Admission) -> Admission {
    let signalling = Signalling::Watch { participant: Some("alice".into()) };
    Admission { signalling, publisher_offer: Some(offer(1)), ..asking(admission) }
}

impl Call {
    fn begin(mallory: Admission) -> Call {
        let mut script = Script::new();
        let alice = script.active(admission("alice"));
        let bob = script.active(admission("bob"));
        let (_, camera) = script.publish(alice, "0", camera("alice's"));
        let request = lk::PublishDataTrackRequest { pub_handle: 1, name: "d".into(), ..Default::default() };
        script.request(alice, Request::PublishDataTrackRequest(request));
        let data_track = script.room.by_data_track_sid.keys().next().unwrap().clone();
        let mallory = script.active(mallory);
        Call { script, alice, mallory, bob, camera: camera.sid, data_track }
    }

    fn request(&mut self, request: Request) {
        self.script.request(self.mallory, request);
    }

    fn announce(&mut self, request: AddTrackRequest) {
        let kind =
            if request.r#type == TrackType::Audio as i32 { MediaKind::Audio } else { MediaKind::Video };
        let cid = request.cid.clone();
        self.request(Request::AddTrack(request));
        // What it sends all the same.
        self.script.sections(self.mallory, vec![section("0", kind, &cid)]);
    }

    fn packet(&mut self, label: &str) {
        let packet =
            DataPacket { value: Some(Value::User(lk::UserPacket::default())), ..DataPacket::default() };
        self.script.data(self.mallory, label, packet.encode_to_vec());
    }

    fn say(&mut self, change: UpdateParticipantMetadata) {
        self.request(Request::UpdateMetadata(change));
    }

    /// Forgets all that has happened.
    fn look_away(&mut self) {
        self.script.advance(Duration::from_secs(1));
        for session in [self.alice, self.mallory, self.bob] {
            self.script.take(session);
        }
        self.script.take_commands();
        self.script.notices.clear();
    }

    /// What the act has done: to Mallory's own connections, or to anybody else.
    fn effects(&mut self) -> Vec<String> {
        let own = [self.script.publisher(self.mallory), self.script.subscriber(self.mallory)];
        let mut effects = Vec::new();
        for command in self.script.take_commands() {
            let concerns = match &command {
                Command::BindTrack { peer, .. }
                | Command::BindDataTrack { peer, .. }
                | Command::Subscribe { peer, .. }
                | Command::Adjust { peer, .. }
                | Command::SubscribeDataTrack { peer, .. }
                | Command::Feed { peer, track: Some(_), .. } => own.contains(peer),
                Command::SendData { to, .. } => !to.is_empty(),
                Command::MuteTrack { .. } | Command::RemoveTrack { .. } | Command::RemoveDataTrack { .. } => {
                    true
                }
                _ => false,
            };
            if concerns {
                effects.push(format!("{command:?}"));
            }
        }
        self.script.advance(Duration::from_secs(1));
        let told = updates(&self.script.take(self.bob));
        effects.extend(told.iter().filter(|who| who.identity == "mallory").map(|who| format!("{who:?}")));
        effects
    }

    fn refusals(&mut self) -> Vec<Refused> {
        let dropped = self.script.refusals().into_iter().map(Refused::Dropped);
        let mut refusals: Vec<Refused> = dropped.collect();
        for message in self.script.take(self.mallory) {
            match message {
                Response::RequestResponse(answer) if answer.reason() != Reason::Ok => {
                    assert!(!answer.message.is_empty(), "{answer:?}");
                    assert!(answer.request.is_some(), "SDKs find their promise by it: {answer:?}");
                    refusals.push(Refused::Answered(answer.reason()));
                }
                Response::SubscriptionPermissionUpdate(update) if !update.allowed => {
                    refusals.push(Refused::Denied);
                }
                Response::TrackPublished(told) => panic!("{told:?}"),
                _ => {}
            }
        }
        if refusals.is_empty() { vec![Refused::Silently] } else { refusals }
    }
}

fn rows() -> Vec<Row> {
    use Refused::{Answered, Denied, Dropped, Silently};
    let row = |permission, without, what, act, refused| {
        let how: fn(Admission) -> Admission = |admission| admission;
        Row { permission, without, what, how, act, refused }
    };
    let not_allowed = || Answered(Reason::NotAllowed);
    vec![
        row("canPublish", no_publish, "camera", |call| call.announce(camera("c")), not_allowed()),
        row("canPublish", no_publish, "microphone", |call| call.announce(microphone("m")), not_allowed()),
        row(
            "canPublish",
            no_publish,
            "sent before it is announced",
            |call| {
                call.script.sections(call.mallory, vec![section("0", MediaKind::Video, "c")]);
                call.request(Request::AddTrack(camera("c")));
            },
            not_allowed(),
        ),
        Row {
            how: over_http,
            ..row(
                "canPublish",
                no_publish,
                "over HTTP",
                |call| call.script.sections(call.mallory, vec![section("0", MediaKind::Video, "c")]),
                not_allowed(),
            )
        },
        row(
            "canPublishSources",
            |permission| but(TrackSource::Camera, permission),
            "camera",
            |call| call.announce(camera("c")),
            not_allowed(),
        ),
        row(
            "canPublishSources",
            |permission| but(TrackSource::Microphone, permission),
            "microphone",
            |call| call.announce(microphone("m")),
            not_allowed(),
        ),
        row(
            "canPublishSources",
            |permission| but(TrackSource::ScreenShare, permission),
            "screen",
            |call| {
                call.announce(AddTrackRequest { source: TrackSource::ScreenShare as i32, ..camera("s") });
            },
            not_allowed(),
        ),
        row(
            "canPublishSources",
            |permission| but(TrackSource::ScreenShareAudio, permission),
            "sound of the screen",
            |call| {
                let source = TrackSource::ScreenShareAudio as i32;
                call.announce(AddTrackRequest { source, ..microphone("s") });
            },
            not_allowed(),
        ),
        Row {
            how: over_http,
            ..row(
                "canPublishSources",
                |permission| but(TrackSource::Microphone, permission),
                "microphone over HTTP",
                |call| call.script.sections(call.mallory, vec![section("0", MediaKind::Audio, "c")]),
                not_allowed(),
            )
        },
        row(
            "canPublishData",
            no_data,
            "reliable message",
            |call| call.packet("_reliable"),
            Dropped(DataRefusal::NotAllowed),
        ),
        row(
            "canPublishData",
            no_data,
            "lossy message",
            |call| call.packet("_lossy"),
            Dropped(DataRefusal::NotAllowed),
        ),
        row(
            "canPublishData",
            no_data,
            "message on a channel of its own",
            |call| call.script.data(call.mallory, "game", "x"),
            Dropped(DataRefusal::NotAllowed),
        ),
        row(
            "canPublishData",
            no_data,
            "data track",
            |call| {
                let request =
                    lk::PublishDataTrackRequest { pub_handle: 7, name: "m".into(), ..Default::default() };
                call.request(Request::PublishDataTrackRequest(request));
            },
            not_allowed(),
        ),
        row(
            "canSubscribe",
            no_subscribe,
            "all tracks, unasked",
            |call| {
                call.script.publish(call.alice, "1", microphone("m"));
            },
            Silently,
        ),
        Row {
            how: asking,
            ..row(
                "canSubscribe",
                no_subscribe,
                "one track",
                |call| {
                    let track_sids = vec![call.camera.clone()];
                    let request =
                        lk::UpdateSubscription { track_sids, subscribe: true, ..Default::default() };
                    call.request(Request::Subscription(request));
                },
                Denied,
            )
        },
        Row {
            how: asking,
            ..row(
                "canSubscribe",
                no_subscribe,
                "one track, as if it had had it before",
                |call| {
                    let track_sids = vec![call.camera.clone()];
                    let list = lk::UpdateSubscription { track_sids, subscribe: true, ..Default::default() };
                    let state = lk::SyncState { subscription: Some(list), ..Default::default() };
                    call.request(Request::SyncState(state));
                },
                Denied,
            )
        },
        Row {
            how: asking,
            ..row(
                "canSubscribe",
                no_subscribe,
                "data track",
                |call| {
                    let track_sid = call.data_track.clone();
                    let update =
                        lk::update_data_subscription::Update { track_sid, subscribe: true, options: None };
                    let updates = vec![update];
                    call.request(Request::UpdateDataSubscription(lk::UpdateDataSubscription { updates }));
                },
                // Clients have no place for a refusal.
                Silently,
            )
        },
        Row {
            how: watching,
            ..row(
                "canSubscribe",
                no_subscribe,
                "what is watched over HTTP",
                |call| {
                    call.script.publish(call.alice, "1", microphone("m"));
                },
                Silently,
            )
        },
        row(
            "canUpdateOwnMetadata",
            no_own_metadata,
            "name",
            |call| call.say(UpdateParticipantMetadata { name: "Alice".into(), ..Default::default() }),
            not_allowed(),
        ),
        row(
            "canUpdateOwnMetadata",
            no_own_metadata,
            "metadata",
            |call| call.say(UpdateParticipantMetadata { metadata: "chair".into(), ..Default::default() }),
            not_allowed(),
        ),
        row(
            "canUpdateOwnMetadata",
            no_own_metadata,
            "attributes",
            |call| {
                let attributes = [("role".to_owned(), "chair".to_owned())].into_iter().collect();
                call.say(UpdateParticipantMetadata { attributes, ..Default::default() });
            },
            not_allowed(),
        ),
        row(
            "canSubscribeMetrics",
            no_metrics,
            "others' metrics",
            |call| {
                let value = Some(Value::Metrics(lk::MetricsBatch::default()));
                let packet = DataPacket {
                    value,
                    destination_identities: vec!["mallory".into()],
                    ..DataPacket::default()
                };
                call.script.data(call.alice, "_lossy", packet.encode_to_vec());
            },
            Silently,
        ),
    ]
}

#[test]
fn what_a_token_does_not_grant_is_refused_and_nothing_happens() {
    for Row { permission, without, what, how, act, refused } in rows() {
        let row = format!("{permission}: {what}");
        let with = |permission: ParticipantPermission| how(Admission { permission, ..admission("mallory") });
        let mut lesser = everything();
        without(&mut lesser);
        assert_ne!(lesser, everything(), "{row}");

        let mut call = Call::begin(with(everything()));
        call.look_away();
        act(&mut call);
        assert!(!call.effects().is_empty(), "{row}: those who may can do it");

        let mut call = Call::begin(with(lesser.clone()));
        call.look_away();
        act(&mut call);
        assert_eq!(call.effects(), [""; 0], "{row}");
        let refused = [refused];
        assert_eq!(call.refusals(), refused, "{row}");

        let mut call = Call::begin(with(everything()));
        let request = lk::UpdateParticipantRequest {
            identity: "mallory".into(),
            permission: Some(lesser),
            ..Default::default()
        };
        call.script.call(RoomCall::UpdateParticipant(Box::new(request))).unwrap();
        call.look_away();
        act(&mut call);
        assert_eq!(call.effects(), [""; 0], "{row}, taken away");
        assert_eq!(call.refusals(), refused, "{row}, taken away");
    }
}

#[test]
fn a_source_is_no_way_around_another() {
    // Sound that is called a picture, and the other way around.
    for (granted, kind) in [
        (TrackSource::Camera, TrackType::Audio),
        (TrackSource::ScreenShare, TrackType::Audio),
        (TrackSource::Microphone, TrackType::Video),
        (TrackSource::ScreenShareAudio, TrackType::Video),
    ] {
        let mut permission = everything();
        permission.can_publish_sources = vec![granted as i32];
        let mut call = Call::begin(Admission { permission, ..admission("mallory") });
        call.look_away();
        let source = granted as i32;
        call.announce(AddTrackRequest { r#type: kind as i32, source, ..camera("c") });
        assert_eq!(call.effects(), [""; 0], "{kind:?} as {granted:?}");
        assert_eq!(call.refusals(), [Refused::Answered(Reason::NotAllowed)], "{kind:?} as {granted:?}");
    }
}

#[test]
fn tracks_that_come_with_a_join_are_refused_as_others_are() {
    let add_track_requests = vec![camera("c"), microphone("m")];
    for (allowed, published) in [(true, 2), (false, 0)] {
        let mut script = Script::new();
        let mut admission = Admission {
            add_track_requests: add_track_requests.clone(),
            publisher_offer: Some(offer(1)),
            ..admission("mallory")
        };
        admission.permission.can_publish = allowed;
        let mallory = script.join(admission);
        let sections = vec![section("0", MediaKind::Video, "c"), section("1", MediaKind::Audio, "m")];
        script.sections(mallory, sections);
        let bound = script.take_commands().iter().filter(|c| matches!(c, Command::BindTrack { .. })).count();
        let refused = names(&script.take(mallory)).iter().filter(|name| **name == "request_response").count();
        assert_eq!((bound, refused), (published, 2 - published));
    }
}

#[test]
fn what_is_anothers_stays_as_it_is() {
    let mut call = Call::begin(Admission { permission: everything(), ..admission("mallory") });
    call.look_away();
    let sid = call.camera.clone();
    call.request(Request::Mute(lk::MuteTrackRequest { sid: sid.clone(), muted: true }));
    let audio = lk::UpdateLocalAudioTrack { track_sid: sid.clone(), features: vec![0] };
    call.request(Request::UpdateAudioTrack(audio));
    call.request(Request::UpdateVideoTrack(lk::UpdateLocalVideoTrack {
        track_sid: sid,
        width: 1,
        height: 1,
    }));
    call.request(Request::UnpublishDataTrackRequest(lk::UnpublishDataTrackRequest { pub_handle: 1 }));
    assert_eq!(call.effects(), [""; 0]);
    assert!(updates(&call.script.take(call.alice)).is_empty());
    assert!(!call.script.room.tracks.values().any(|track| track.info.muted));
}

#[test]
fn what_only_the_server_says_no_client_can_say() {
    let mut call = Call::begin(Admission { permission: everything(), ..admission("mallory") });
    call.look_away();
    // JS takes it for the server's word on who speaks.
    #[expect(deprecated, reason = "SDKs still read it")]
    let speaker = Value::Speaker(lk::ActiveSpeakerUpdate::default());
    for value in [speaker, Value::Transcription(lk::Transcription::default())] {
        let packet = DataPacket { value: Some(value), ..DataPacket::default() };
        call.script.data(call.mallory, "_reliable", packet.encode_to_vec());
        assert_eq!(call.effects(), [""; 0], "{packet:?}");
        assert_eq!(call.refusals(), [Refused::Dropped(DataRefusal::Unsupported)], "{packet:?}");
    }
}

#[test]
fn metrics_go_to_those_alone_who_may_have_them() {
    let mut call = Call::begin(Admission { permission: everything(), ..admission("mallory") });
    call.look_away();
    let packet =
        DataPacket { value: Some(Value::Metrics(lk::MetricsBatch::default())), ..DataPacket::default() };
    call.script.data(call.alice, "_lossy", packet.encode_to_vec());
    let sent = call.script.forwarded();
    let [(to, ..)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(*to, [call.script.subscriber(call.mallory)], "and not to Bob");
}

#[test]
fn of_somebody_hidden_nothing_is_heard_whatever_it_does() {
    let permission = ParticipantPermission { hidden: true, ..everything() };
    let mut call = Call::begin(Admission { permission, ..admission("mallory") });
    call.script.publish(call.mallory, "0", camera("c"));
    let sid = call.script.room.tracks.values().last().unwrap().info.sid.clone();
    let tracks: Vec<String> = call.script.room.by_track_sid.keys().cloned().collect();
    call.say(UpdateParticipantMetadata { metadata: "boo".into(), ..Default::default() });
    let request = lk::PublishDataTrackRequest { pub_handle: 7, name: "m".into(), ..Default::default() };
    call.request(Request::PublishDataTrackRequest(request));
    let data_tracks: Vec<String> = call.script.room.by_data_track_sid.keys().cloned().collect();
    // Bob asks for everything there is.
    let list = lk::UpdateSubscription { track_sids: tracks, subscribe: true, ..Default::default() };
    call.script.request(call.bob, Request::Subscription(list));
    let updates = data_tracks.into_iter().map(|track_sid| lk::update_data_subscription::Update {
        track_sid,
        subscribe: true,
        options: None,
    });
    let list = lk::UpdateDataSubscription { updates: updates.collect() };
    call.script.request(call.bob, Request::UpdateDataSubscription(list));
    call.packet("_reliable");
    let bob = call.script.subscriber(call.bob);
    let late = call.script.active(admission("carol"));
    call.script.request(call.mallory, Request::Leave(lk::LeaveRequest::default()));
    call.script.advance(Duration::from_secs(6));

    let commands = call.script.take_commands();
    let subscribed = |command: &&Command| matches!(command, Command::Subscribe { peer, .. } if *peer == bob);
    assert_eq!(commands.iter().filter(subscribed).count(), 1, "to Alice's");
    let of_data =
        |command: &&Command| matches!(command, Command::SubscribeDataTrack { peer, .. } if *peer == bob);
    assert_eq!(commands.iter().filter(of_data).count(), 1, "to Alice's");
    let packets: Vec<DataPacket> = commands
        .iter()
        .filter_map(|command| match command {
            Command::SendData { payload, .. } => Some(DataPacket::decode(&payload[..]).unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(packets.len(), 1);
    assert_eq!(packets[0].participant_identity, "");
    for session in [call.alice, call.bob, late] {
        for message in call.script.take(session) {
            let text = format!("{message:?}");
            assert!(!text.contains("mallory") && !text.contains("MALLORY"), "{text}");
            assert!(!text.contains(&sid), "{text}");
        }
    }
}
