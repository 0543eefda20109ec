use livekit_protocol::client_info::Sdk;
use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::{DisconnectReason, RoomConfiguration, TrickleRequest};
use sfu::command::{ChannelSpec, PeerEnd, Reliability};

use super::script::*;
use super::*;
use crate::access;
use crate::livekit::connect::Resume;
use crate::livekit::participant::Participant;

#[test]
fn v1_join_is_answered_in_the_protocols_order() {
    let mut script = Script::new();
    let alice = script.join(Admission {
        publisher_offer: Some(offer(1)),
        add_track_requests: vec![microphone("mic")],
        ..admission("alice")
    });
    let peer = script.publisher(alice);
    script.sections(alice, vec![section("0", MediaKind::Audio, "mic")]);
    script.media(Event::Answer { peer, id: 1, sdp: "v=0 answer".into(), tracks: vec![] });
    let messages = script.take(alice);
    assert_eq!(names(&messages), ["join", "track_published", "refresh_token", "update", "answer"]);
    let Some(Response::Answer(answer)) = messages.last() else { panic!() };
    assert_eq!((answer.r#type.as_str(), answer.id), ("answer", 1), "JS drops an answer of another id");
    let commands = script.take_commands();
    assert!(matches!(&commands[0], Command::AddPeer(add)
        if add.role == NegotiationRole::Answerer && add.channels.is_empty() && add.room == script.room.id()));
    let Command::Offer { id: 1, hints, .. } = &commands[1] else { panic!("{commands:?}") };
    assert_eq!(hints[0].cid, "mic");
    assert!(hints[0].dtx && hints[0].red && !hints[0].stereo);
    assert!(matches!(commands[2], Command::BindTrack { .. }));
}

/// It reads our answer before it has set its own offer, and then has none.
#[test]
fn the_go_sdk_is_answered_once_it_trickles() {
    let mut script = Script::new();
    let gopher = |identity: &str| {
        let mut admission = Admission { publisher_offer: Some(offer(1)), ..admission(identity) };
        admission.client.sdk = Sdk::Go as i32;
        admission
    };
    let offered =
        |commands: &[Command]| commands.iter().any(|command| matches!(command, Command::Offer { .. }));

    let quick = script.join(gopher("quick"));
    assert!(!offered(&script.take_commands()));
    let candidate_init = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host"}"#.to_owned();
    script.request(quick, Request::Trickle(TrickleRequest { candidate_init, ..TrickleRequest::default() }));
    let commands = script.take_commands();
    assert!(
        matches!(&commands[..], [Command::Offer { id: 1, .. }, Command::RemoteCandidate { .. }]),
        "{commands:?}"
    );

    script.join(gopher("slow"));
    script.take_commands();
    script.advance(Duration::from_millis(199));
    assert!(!offered(&script.take_commands()));
    script.advance(Duration::from_millis(1));
    assert!(offered(&script.take_commands()), "without candidates it is answered all the same");
    script.advance(Duration::from_secs(1));
    assert!(!offered(&script.take_commands()), "once");
}

#[test]
fn join_response_has_every_field_that_clients_read() {
    let mut script = Script::new();
    let bob = script.active(admission("bob"));
    script.publish(bob, "0", camera("cam"));
    let alice = script.join(admission("alice"));
    let join = script.join_response(alice);
    let room = join.room.unwrap();
    assert!(room.sid.starts_with("RM_"));
    assert_eq!((room.name.as_str(), room.num_participants, room.num_publishers), ("lobby", 2, 1));
    assert_eq!(room.creation_time_ms, START_MS);
    let own = join.participant.unwrap();
    assert!(own.sid.starts_with("PA_"));
    assert_eq!((own.identity.as_str(), own.name.as_str()), ("alice", "ALICE"));
    assert!(own.version > 0 && own.joined_at > 0 && own.permission.unwrap().can_publish);
    let [other] = &join.other_participants[..] else { panic!() };
    assert_eq!(other.identity, "bob");
    assert!(other.is_publisher && other.tracks[0].sid.starts_with("TR_VC"));
    let server = join.server_info.unwrap();
    for version in [&server.version, &join.server_version] {
        assert_eq!(version.split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3, "{version}");
    }
    assert!(server.protocol > 0 && server.node_id == "ND_test" && server.region == "here");
    assert_eq!((join.ping_interval, join.ping_timeout), (5, 15));
    assert!(!join.subscriber_primary, "never in v1");
    assert!(join.fast_publish && !join.sif_trailer.is_empty());
    assert_eq!(join.enabled_publish_codecs[0].mime, "video/VP8");
    assert!(join.client_configuration.is_some());
}

#[test]
fn v0_join_makes_two_connections_and_passes_the_offer_on() {
    let mut script = Script::new();
    let alice = script.join(v0("alice"));
    assert!(script.join_response(alice).subscriber_primary);
    let commands = script.take_commands();
    let [Command::AddPeer(subscriber), Command::AddPeer(publisher)] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert_eq!((subscriber.role, publisher.role), (NegotiationRole::Offerer, NegotiationRole::Answerer));
    let channel = |label: &str, reliability| ChannelSpec { label: label.into(), reliability };
    let wanted = [
        channel("_reliable", Reliability::Reliable),
        channel("_lossy", Reliability::Lossy),
        channel("_data_track", Reliability::Lossy),
    ];
    assert_eq!(subscriber.channels, wanted);
    let (publisher, subscriber) = (publisher.peer, subscriber.peer);

    script.media(Event::Offer { peer: subscriber, id: 3, sdp: "v=0".into(), tracks: vec![] });
    let messages = script.take(alice);
    assert_eq!(names(&messages), ["join", "refresh_token", "offer"]);
    assert!(matches!(messages.last(), Some(Response::Offer(offer)) if offer.id == 3));
    let answer = SessionDescription { r#type: "answer".into(), id: 3, sdp: "v=0".into(), ..offer(3) };
    script.request(alice, Request::Answer(answer));
    assert!(
        matches!(script.take_commands()[..], [Command::Answer { peer, id: 3, .. }] if peer == subscriber)
    );
    script.request(alice, Request::Offer(offer(1)));
    assert!(matches!(script.take_commands()[..], [Command::Offer { peer, id: 1, .. }] if peer == publisher));

    script.media(Event::Connected { peer: publisher });
    assert!(!script.room.people.values().any(Participant::is_active), "the subscriber is primary");
    script.media(Event::Connected { peer: subscriber });
    assert!(script.room.people.values().all(Participant::is_active));
}

#[test]
fn v0_without_subscribing_is_active_with_its_publisher() {
    let mut script = Script::new();
    let mut admission = v0("alice");
    admission.permission.can_subscribe = false;
    let alice = script.join(admission);
    assert!(!script.join_response(alice).subscriber_primary);
    script.media(Event::Connected { peer: script.publisher(alice) });
    assert!(script.room.people.values().all(Participant::is_active));
}

#[test]
fn v1_never_gets_an_offer() {
    let mut script = Script::new();
    let alice = script.join(admission("alice"));
    let peer = script.publisher(alice);
    script.media(Event::Offer { peer, id: 1, sdp: "v=0".into(), tracks: vec![] });
    assert!(!names(&script.take(alice)).contains(&"offer"));
}

#[test]
fn v0_offer_without_an_answer_makes_the_client_begin_anew() {
    let mut script = Script::new();
    let alice = script.active(v0("alice"));
    script.media(Event::Offer { peer: script.subscriber(alice), id: 1, sdp: "v=0".into(), tracks: vec![] });
    script.advance(Duration::from_secs(14));
    assert!(script.closed.is_empty());
    script.advance(Duration::from_secs(2));
    let messages = script.take(alice);
    assert!(
        matches!(messages.last(), Some(Response::Leave(leave)) if leave.action == Action::Reconnect as i32)
    );
    assert!(script.closed.contains(&alice));
}

#[test]
fn a_v0_publisher_that_never_offered_may_end_and_is_made_again() {
    let mut script = Script::new();
    let alice = script.active(v0("alice"));
    let old = script.publisher(alice);
    script.media(Event::Ended { peer: old, reason: PeerEnd::NeverConnected });
    assert!(script.closed.is_empty());
    script.take_commands();
    script.request(alice, Request::Offer(offer(1)));
    let commands = script.take_commands();
    let [Command::AddPeer(add), Command::Offer { peer, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(add.peer, *peer);
    assert_ne!(*peer, old);
}

#[test]
fn others_learn_of_joining_and_of_becoming_active() {
    let mut script = Script::new();
    let bob = script.active(admission("bob"));
    script.take(bob);
    let alice = script.join(admission("alice"));
    script.advance(Duration::from_millis(400));
    let joined = updates(&script.take(bob));
    assert_eq!(
        joined.iter().map(|info| (info.identity.as_str(), info.state)).collect::<Vec<_>>(),
        [("alice", State::Joined as i32)]
    );
    script.connected(alice);
    script.advance(Duration::from_millis(400));
    let active = updates(&script.take(bob));
    assert_eq!(active[0].state, State::Active as i32);
    assert!(active[0].version > joined[0].version, "clients drop what is not newer");
    assert!(
        script
            .notices
            .iter()
            .any(|n| matches!(n, Notice::ParticipantActive { after } if after.as_millis() == 400))
    );
}

#[test]
fn two_connections_of_one_participant_have_one_first_media() {
    let mut script = Script::new();
    let alice = script.active(v0("alice"));
    for peer in [script.subscriber(alice), script.publisher(alice)] {
        script.media(Event::FirstMedia { peer });
    }
    let told = script.notices.iter().filter(|notice| matches!(notice, Notice::FirstMedia { .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn hidden_ones_are_shown_to_nobody_but_themselves() {
    let mut script = Script::new();
    let bob = script.active(admission("bob"));
    script.take(bob);
    let mut hidden = admission("ghost");
    hidden.permission.hidden = true;
    let ghost = script.active(hidden);
    assert!(updates(&script.take(ghost)).iter().any(|info| info.identity == "ghost"));
    script.publish(ghost, "0", camera("cam"));
    assert_eq!(updates(&script.take(bob)), []);
    assert!(!script.commands.iter().any(|command| matches!(command, Command::Subscribe { .. })));
    let carol = script.join(admission("carol"));
    let join = script.join_response(carol);
    assert!(join.other_participants.iter().all(|other| other.identity != "ghost"));
    assert_eq!(join.room.unwrap().num_participants, 2);
    script.request(ghost, Request::Leave(livekit_protocol::LeaveRequest::default()));
    script.advance(Duration::from_secs(1));
    assert!(updates(&script.take(bob)).iter().all(|info| info.identity != "ghost"));
}

#[test]
fn the_same_identity_replaces_its_older_self() {
    let mut script = Script::new();
    let old_client = script.active(Admission {
        client: ClientInfo { protocol: 9, ..ClientInfo::default() },
        ..admission("old client")
    });
    let bob = script.active(admission("bob"));
    let first = script.active(admission("alice"));
    let first_sid = script.join_response(first).participant.unwrap().sid;
    script.publish(first, "0", camera("cam"));
    for session in [first, bob, old_client] {
        script.take(session);
    }
    let second = script.join(admission("alice"));
    let told = script.take(first);
    let [Response::Leave(leave)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(leave.reason, DisconnectReason::DuplicateIdentity as i32);
    assert_eq!((leave.action, leave.can_reconnect), (Action::Disconnect as i32, false));
    assert!(script.closed.contains(&first));
    let closed =
        script.log.iter().position(|o| matches!(o, Output::Close { session } if *session == first)).unwrap();
    let joined = script
        .log
        .iter()
        .position(|o| matches!(o, Output::Send { session, .. } if *session == second))
        .unwrap();
    assert!(closed < joined, "out before in");
    let second_sid = script.join_response(second).participant.unwrap().sid;
    assert_ne!(first_sid, second_sid);
    let seen = updates(&script.take(bob));
    assert_eq!(
        seen.iter().map(|info| &info.sid).collect::<Vec<_>>(),
        [&second_sid],
        "replaced, not disconnected"
    );
    let seen = updates(&script.take(old_client));
    assert_eq!(seen.iter().map(|info| &info.sid).collect::<Vec<_>>(), [&first_sid, &second_sid]);
    assert_eq!(seen[0].state, State::Disconnected as i32);
    assert_eq!(script.room.participants(), 3);
    script.close_socket(first);
    assert_eq!(script.room.participants(), 3, "the old socket's end concerns nobody");
}

#[test]
fn a_resume_is_answered_by_one_message_that_makes_the_client_join_anew() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.close_socket(alice);
    let resume = Some(Resume { participant_sid: "PA_x".into(), reason: 1 });
    let again = script.join(Admission { resume, ..admission("alice") });
    let messages = script.take(again);
    let [Response::Leave(leave)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(
        (leave.reason, leave.action),
        (DisconnectReason::StateMismatch as i32, Action::Reconnect as i32)
    );
    assert!(leave.can_reconnect && script.closed.contains(&again));
    let anew = script.join(admission("alice"));
    assert_eq!(script.room.participants(), 1);
    assert!(script.join_response(anew).other_participants.is_empty());
}

#[test]
fn tokens_are_refreshed_at_once_and_every_five_minutes() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let tokens = |messages: &[Response]| -> Vec<String> {
        let of = |message: &Response| match message {
            Response::RefreshToken(token) => Some(token.clone()),
            _ => None,
        };
        messages.iter().filter_map(of).collect()
    };
    let first = tokens(&script.take(alice));
    let keys = settings().keys;
    let claims = access::verify(&keys, &first[0], START_MS / 1000).unwrap();
    assert_eq!(claims.exp, Some(START_MS / 1000 + 3600), "what the original had left");
    assert_eq!(claims.identity(), "alice");
    script.advance(Duration::from_hours(1));
    let later = tokens(&script.take(alice));
    assert_eq!(later.len(), 12);
    let now_s = script.clock.unix_ms / 1000;
    let claims = access::verify(&keys, later.last().unwrap(), now_s).unwrap();
    assert!(claims.exp.unwrap() >= now_s + 590, "ten minutes at least, when the original has run out");
}

#[test]
fn whoever_never_connects_is_removed_after_a_minute() {
    let mut script = Script::new();
    let alice = script.join(admission("alice"));
    script.advance(Duration::from_secs(59));
    assert!(script.closed.is_empty());
    script.advance(Duration::from_secs(2));
    let messages = script.take(alice);
    assert!(matches!(messages.last(), Some(Response::Leave(leave))
        if leave.reason == DisconnectReason::JoinFailure as i32));
    assert!(script.closed.contains(&alice));
    assert_eq!(script.room.participants(), 0);
}

#[test]
fn a_full_room_refuses_and_still_lets_a_known_identity_back() {
    let mut settings = settings();
    settings.limits.participants = 2;
    let mut script = Script::with(settings);
    script.active(admission("alice"));
    script.active(admission("bob"));
    let error = script.try_join(admission("carol")).unwrap_err();
    assert_eq!(error, JoinError::Full { limit: 2 });
    assert_eq!(error.refusal().status, 503);
    assert!(script.try_join(admission("bob")).is_ok());
}

#[test]
fn the_tokens_room_configuration_seeds_the_room() {
    let config = RoomConfiguration {
        max_participants: 1,
        metadata: "m".into(),
        departure_timeout: 2,
        ..RoomConfiguration::default()
    };
    let mut script = Script::new();
    let rng = fastrand::Rng::with_seed(1);
    script.room = Room::new(script.clock, Arc::new(settings()), "lobby".into(), Some(&config), rng);
    let alice = script.active(admission("alice"));
    let room = script.join_response(alice).room.unwrap();
    assert_eq!((room.metadata.as_str(), room.max_participants, room.departure_timeout), ("m", 1, 2));
    assert_eq!(script.try_join(admission("bob")), Err(JoinError::Full { limit: 1 }));
}

#[test]
fn candidates_reach_the_connection_they_are_for() {
    let mut script = Script::new();
    let dual = script.join(v0("alice"));
    let single = script.join(admission("bob"));
    script.take_commands();
    let trickle = |target, json: &str| {
        Request::Trickle(TrickleRequest { candidate_init: json.into(), target, r#final: false })
    };
    let good = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"u"}"#;
    for (session, target) in [(dual, 0), (dual, 1), (single, 0), (single, 1)] {
        script.request(session, trickle(target, good));
    }
    let commands = script.take_commands();
    let peers: Vec<PeerId> = commands
        .iter()
        .map(|command| match command {
            Command::RemoteCandidate { peer, candidate } if candidate.starts_with("candidate:1") => *peer,
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted =
        [script.publisher(dual), script.subscriber(dual), script.publisher(single), script.publisher(single)];
    assert_eq!(peers, wanted);
    script.request(single, trickle(0, r#"{"candidate":""}"#));
    assert_eq!(script.take_commands().len(), 1, "end of candidates");
    for bad in
        ["", "null", "[]", "{", r#"{"candidate":7}"#, &format!(r#"{{"candidate":"{}"}}"#, "x".repeat(5000))]
    {
        script.request(single, trickle(0, bad));
    }
    script.request(single, trickle(9, good));
    assert!(script.take_commands().is_empty(), "what cannot be read is skipped");
}

#[test]
fn an_oversized_offer_is_refused_with_words() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.take(alice);
    script.take_commands();
    script.request(alice, Request::Offer(SessionDescription { sdp: "x".repeat(1 << 20), ..offer(2) }));
    let messages = script.take(alice);
    assert!(
        matches!(&messages[..], [Response::RequestResponse(refusal)] if refusal.message.contains("1048576"))
    );
    assert!(script.take_commands().is_empty());
    let peer = script.publisher(alice);
    script.media(Event::DescriptionRefused { peer, id: 2, reason: "ü".repeat(5000) });
    let messages = script.take(alice);
    assert!(matches!(&messages[..], [Response::RequestResponse(refusal)] if refusal.message.len() <= 512));
    assert!(script.closed.is_empty(), "the session goes on");
}

#[test]
fn sections_that_the_core_needs_are_asked_for() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.take(alice);
    let peer = script.publisher(alice);
    script.media(Event::SectionsNeeded { peer, audio: 1, video: 2 });
    script.media(Event::SectionsNeeded { peer, audio: 0, video: 0 });
    let asked: Vec<(u32, u32)> = script
        .take(alice)
        .iter()
        .map(|message| match message {
            Response::MediaSectionsRequirement(needed) => (needed.num_audios, needed.num_videos),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [(1, 2), (0, 0)], "(0, 0) is \"offer again\", and is sent");
}
