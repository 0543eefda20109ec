use livekit_protocol as lk;
use livekit_protocol::data_packet::Value;
use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::rpc_response;
use livekit_protocol::{DataPacket, DisconnectReason, ParticipantPermission, RoomConfiguration};
use prost::Message as _;

use super::script::*;
use super::*;
use crate::access;
use crate::livekit::DataRefusal;
use crate::livekit::api::{Answer, ApiError, Code, RoomCall};
use crate::livekit::fallback::NETWORK;

fn named(identity: &str) -> String {
    identity.to_owned()
}

fn everything() -> ParticipantPermission {
    ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        ..ParticipantPermission::default()
    }
}

fn update(identity: &str) -> lk::UpdateParticipantRequest {
    lk::UpdateParticipantRequest { identity: identity.into(), ..Default::default() }
}

fn permit(identity: &str, permission: ParticipantPermission) -> RoomCall {
    let permission = Some(permission);
    RoomCall::UpdateParticipant(Box::new(lk::UpdateParticipantRequest { permission, ..update(identity) }))
}

fn refusal(answer: Result<Answer, ApiError>) -> (Code, String) {
    let error = answer.expect_err("refused");
    (error.code(), error.to_string())
}

fn room(answer: Result<Answer, ApiError>) -> lk::Room {
    match answer {
        Ok(Answer::Room(room)) => *room,
        other => panic!("{other:?}"),
    }
}

fn participant(answer: Result<Answer, ApiError>) -> lk::ParticipantInfo {
    match answer {
        Ok(Answer::Participant(info)) => *info,
        other => panic!("{other:?}"),
    }
}

/// Alice publishes a camera and a microphone, and Bob gets both.
fn two() -> (Script, SessionId, SessionId, [(TrackId, TrackInfo); 2]) {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(v0("bob"));
    let tracks = [script.publish(alice, "0", camera("cam")), script.publish(alice, "1", microphone("mic"))];
    script.advance(Duration::from_secs(1));
    for session in [alice, bob] {
        script.take(session);
    }
    script.take_commands();
    (script, alice, bob, tracks)
}

fn refreshed(messages: &[Response]) -> Option<access::Claims> {
    let token = messages.iter().find_map(|message| match message {
        Response::RefreshToken(token) => Some(token.clone()),
        _ => None,
    })?;
    Some(access::verify(&settings().keys, &token, START_MS / 1000).unwrap())
}

#[test]
fn a_room_takes_over_what_is_set_and_stays_the_same_room() {
    let mut script = Script::new();
    let first = room(script.call(RoomCall::Describe));
    assert_eq!((first.max_participants, first.empty_timeout), (1000, 300));
    script.advance(Duration::from_secs(200));
    let config = RoomConfiguration {
        empty_timeout: 30,
        departure_timeout: 7,
        max_participants: 1,
        metadata: "m".into(),
        ..RoomConfiguration::default()
    };
    let second = room(script.call(RoomCall::Configure(Box::new(config))));
    assert_eq!(second.sid, first.sid);
    assert_eq!((second.empty_timeout, second.departure_timeout, second.max_participants), (30, 7, 1));
    assert_eq!(second.metadata, "m");
    let third = room(script.call(RoomCall::Configure(Box::default())));
    assert_eq!(third, second, "what is not set stays");
    script.advance(Duration::from_secs(29));
    assert!(!script.ended, "it waits anew");
    let alice = script.join(admission("alice"));
    assert!(matches!(script.try_join(admission("bob")), Err(JoinError::Full { limit: 1 })));
    let config = RoomConfiguration { metadata: "n".into(), ..RoomConfiguration::default() };
    script.take(alice);
    script.call(RoomCall::Configure(Box::new(config))).unwrap();
    let told = script.take(alice);
    assert!(
        matches!(&told[..], [Response::RoomUpdate(update)] if update.room.as_ref().unwrap().metadata == "n"),
        "{told:?}"
    );
    script.request(alice, Request::Leave(lk::LeaveRequest::default()));
    script.advance(Duration::from_secs(6));
    script.call(RoomCall::Configure(Box::default())).unwrap();
    script.advance(Duration::from_secs(6));
    assert!(!script.ended, "again");
    script.advance(Duration::from_secs(2));
    assert!(script.ended);
    assert_eq!(script.call_soon(RoomCall::Describe), None, "an ended room says nothing");
}

#[test]
fn metadata_of_the_room_reaches_everybody_at_once() {
    let (mut script, alice, bob, _) = two();
    let metadata = "from the server".to_owned();
    let told = room(script.call(RoomCall::UpdateMetadata { metadata: metadata.clone() }));
    assert_eq!(told.metadata, metadata);
    for session in [alice, bob] {
        let got = script.take(session);
        let Some(Response::RoomUpdate(update)) = got.first() else { panic!("{got:?}") };
        assert_eq!(update.room.as_ref().unwrap().metadata, metadata);
    }
    assert_eq!(room(script.call(RoomCall::UpdateMetadata { metadata: String::new() })).metadata, "");
}

#[test]
fn people_are_listed_with_their_tracks_the_hidden_too() {
    let (mut script, ..) = two();
    let mut ghost = admission("ghost");
    ghost.permission.hidden = true;
    script.join(ghost);
    let Ok(Answer::Participants(people)) = script.call(RoomCall::ListParticipants) else { panic!() };
    let seen: Vec<_> =
        people.iter().map(|info| (info.identity.as_str(), info.state, info.tracks.len())).collect();
    let (active, joined) = (State::Active as i32, State::Joined as i32);
    assert_eq!(seen, [("alice", active, 2), ("bob", active, 0), ("ghost", joined, 0)]);
    let alice = participant(script.call(RoomCall::GetParticipant { identity: named("alice") }));
    assert_eq!(alice, people[0]);
    assert_eq!(room(script.call(RoomCall::Describe)).num_participants, 2, "the hidden are not counted");
    for call in [
        RoomCall::GetParticipant { identity: named("nobody") },
        RoomCall::RemoveParticipant { identity: String::new() },
        RoomCall::UpdateParticipant(Box::new(update("nobody"))),
        RoomCall::MuteTrack(lk::MuteRoomTrackRequest::default()),
        RoomCall::UpdateSubscriptions(lk::UpdateSubscriptionsRequest::default()),
        RoomCall::PerformRpc(lk::PerformRpcRequest::default()),
    ] {
        let wanted = (Code::NotFound, "participant does not exist".to_owned());
        assert_eq!(refusal(script.call(call.clone())), wanted, "{call:?}");
        let (code, _) = call.without_room().map(|_| ()).map_err(|error| (error.code(), error)).unwrap_err();
        assert_eq!(code, Code::NotFound);
    }
    assert_eq!(RoomCall::ListParticipants.without_room(), Ok(Answer::Participants(vec![])));
}

fn leaves(messages: &[Response]) -> Vec<(i32, i32)> {
    let of = |message: &Response| match message {
        Response::Leave(leave) => Some((leave.reason, leave.action)),
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

#[test]
fn somebody_removed_is_told_so_and_is_gone_for_the_others() {
    let (mut script, alice, bob, _) = two();
    assert_eq!(script.call(RoomCall::RemoveParticipant { identity: named("alice") }), Ok(Answer::Done));
    let reason = DisconnectReason::ParticipantRemoved as i32;
    assert_eq!(leaves(&script.take(alice)), [(reason, Action::Disconnect as i32)]);
    assert!(script.closed.contains(&alice));
    let gone = updates(&script.take(bob));
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].state, gone[0].disconnect_reason), (State::Disconnected as i32, reason));
    let peer = script.publisher(alice);
    assert!(
        script
            .take_commands()
            .iter()
            .any(|c| matches!(c, Command::RemovePeer { peer: gone } if *gone == peer))
    );
    // It may come again, unless the application gives it no token.
    script.join(admission("alice"));
}

#[test]
fn a_deleted_room_tells_everybody_and_ends() {
    let (mut script, alice, bob, _) = two();
    assert_eq!(script.call(RoomCall::Delete), Ok(Answer::Done));
    for session in [alice, bob] {
        let told = leaves(&script.take(session));
        assert_eq!(told, [(DisconnectReason::RoomDeleted as i32, Action::Disconnect as i32)]);
        assert!(script.closed.contains(&session));
    }
    assert!(script.ended);
}

#[test]
fn a_track_muted_from_outside_is_muted_for_all() {
    let (mut script, alice, bob, [_, (mic, info)]) = two();
    let mute = |muted, sid: &str| {
        RoomCall::MuteTrack(lk::MuteRoomTrackRequest {
            identity: named("alice"),
            track_sid: sid.to_owned(),
            muted,
            ..Default::default()
        })
    };
    let Ok(Answer::Muted(track)) = script.call(mute(true, &info.sid)) else { panic!() };
    assert!(track.muted && track.sid == info.sid);
    let own = script.take(alice);
    assert!(
        own.iter().any(|m| matches!(m, Response::Mute(mute) if mute.muted && mute.sid == info.sid)),
        "{own:?}"
    );
    let seen = updates(&script.take(bob));
    assert!(seen[0].tracks.iter().any(|track| track.sid == info.sid && track.muted));
    assert!(
        script
            .take_commands()
            .iter()
            .any(|c| matches!(c, Command::MuteTrack { track, muted: true } if *track == mic))
    );
    // Its client does as it is told, and says so.
    script.request(alice, Request::Mute(lk::MuteTrackRequest { sid: info.sid.clone(), muted: true }));
    assert_eq!(updates(&script.take(bob)), []);
    let Ok(Answer::Muted(again)) = script.call(mute(true, &info.sid)) else { panic!() };
    assert_eq!(again, track);

    let (code, text) = refusal(script.call(mute(false, &info.sid)));
    assert!(code == Code::FailedPrecondition && text.contains("remote unmute not enabled"), "{text}");
    assert_eq!(refusal(script.call(mute(true, "TR_nothing"))).0, Code::NotFound);
    let other = RoomCall::MuteTrack(lk::MuteRoomTrackRequest {
        identity: named("bob"),
        track_sid: info.sid.clone(),
        muted: true,
        ..Default::default()
    });
    assert_eq!(refusal(script.call(other)), (Code::NotFound, "track is not found".to_owned()), "not bob's");

    let mut script = Script::with(crate::livekit::Settings { remote_unmute: true, ..settings() });
    let alice = script.active(admission("alice"));
    let (_, info) = script.publish(alice, "0", AddTrackRequest { muted: true, ..microphone("mic") });
    let Ok(Answer::Muted(track)) = script.call(mute(false, &info.sid)) else { panic!() };
    assert!(!track.muted);
}

#[test]
fn what_is_said_of_somebody_changes_for_all_and_in_its_token() {
    let (mut script, alice, bob, _) = two();
    let before = participant(script.call(RoomCall::GetParticipant { identity: named("alice") }));
    let request = lk::UpdateParticipantRequest {
        name: "Alice L.".into(),
        metadata: "chair".into(),
        attributes: [("hand".to_owned(), "up".to_owned())].into(),
        ..update("alice")
    };
    let info = participant(script.call(RoomCall::UpdateParticipant(Box::new(request))));
    assert_eq!(
        (info.name.as_str(), info.metadata.as_str(), &info.attributes["hand"][..]),
        ("Alice L.", "chair", "up")
    );
    assert!(info.version > before.version);
    assert_eq!(info.permission, before.permission);
    assert_eq!(updates(&script.take(bob)), [info]);
    let own = script.take(alice);
    assert_eq!(names(&own), ["update", "refresh_token"], "and no answer to what it did not ask");
    let claims = refreshed(&own).unwrap();
    assert_eq!((claims.name.as_str(), claims.metadata.as_str()), ("Alice L.", "chair"));
    let request = lk::UpdateParticipantRequest {
        attributes: [("hand".to_owned(), String::new())].into(),
        ..update("alice")
    };
    let info = participant(script.call(RoomCall::UpdateParticipant(Box::new(request))));
    assert_eq!((info.name.as_str(), info.attributes.len()), ("Alice L.", 0), "removed, and the rest stays");

    let limits = settings().limits;
    let long = |bytes: usize| "x".repeat(bytes + 1);
    let attribute = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    for (request, part) in [
        (
            lk::UpdateParticipantRequest { name: long(limits.name_bytes), ..update("alice") },
            "name exceeds limits",
        ),
        (
            lk::UpdateParticipantRequest { metadata: long(limits.metadata_bytes), ..update("alice") },
            "metadata exceeds limits",
        ),
        (
            lk::UpdateParticipantRequest {
                attributes: attribute("k", &long(limits.attributes_bytes)),
                // Not even a part of a call that fails is done.
                permission: Some(ParticipantPermission::default()),
                ..update("alice")
            },
            "attributes exceeds limits",
        ),
        (
            lk::UpdateParticipantRequest { attributes: attribute(NETWORK, "text"), ..update("alice") },
            "the server's",
        ),
        (
            lk::UpdateParticipantRequest { attributes: attribute("sluice.max_kbps", "x"), ..update("alice") },
            "sluice.max_kbps",
        ),
    ] {
        let (code, text) = refusal(script.call(RoomCall::UpdateParticipant(Box::new(request))));
        assert!(code == Code::InvalidArgument && text.contains(part), "{text}");
    }
    let after = participant(script.call(RoomCall::GetParticipant { identity: named("alice") }));
    assert_eq!(after, info);
}

#[test]
fn revoking_the_permission_to_publish_ends_tracks_at_once() {
    let (mut script, alice, bob, [(cam, _), (mic, sound)]) = two();
    script.request(alice, Request::AddTrack(camera("cam")));
    script.request(alice, Request::AddTrack(camera("waits")));
    let only_sound = ParticipantPermission {
        can_publish_sources: vec![TrackSource::Microphone as i32, 99, 98],
        ..everything()
    };
    script.take(alice);
    let info = participant(script.call(permit("alice", only_sound)));
    assert_eq!(info.tracks.iter().map(|track| &track.sid).collect::<Vec<_>>(), [&sound.sid]);
    let commands = script.take_commands();
    assert!(commands.iter().any(|c| matches!(c, Command::RemoveTrack { track } if *track == cam)));
    assert!(!commands.iter().any(|c| matches!(c, Command::RemoveTrack { track } if *track == mic)));
    assert_eq!(script.room.tracks.len(), 1, "those announced or waiting are gone, too");
    let own = script.take(alice);
    let unpublished = own.iter().filter(|m| matches!(m, Response::TrackUnpublished(_))).count();
    assert_eq!(unpublished, 3, "{own:?}");
    assert!(!own.iter().any(|m| matches!(m, Response::TrackPublished(_))), "none takes another's place");
    let seen = updates(&script.take(bob));
    assert_eq!(seen.last().unwrap(), &info);
    let claims = refreshed(&own).unwrap().video.unwrap();
    assert_eq!(claims.can_publish_sources, ["unknown", "microphone"]);
    script.request(alice, Request::AddTrack(camera("again")));
    assert_eq!(names(&script.take(alice)), ["request_response"], "refused");

    let nothing = ParticipantPermission { can_publish: false, ..everything() };
    let info = participant(script.call(permit("alice", nothing)));
    assert!(info.tracks.is_empty() && !info.is_publisher);
    assert_eq!(refreshed(&script.take(alice)).unwrap().video.unwrap().can_publish, Some(false));
    assert!(
        script.take_commands().iter().any(|c| matches!(c, Command::RemoveTrack { track } if *track == mic))
    );
    // And back again.
    script.call(permit("alice", everything())).unwrap();
    script.publish(alice, "2", camera("cam"));
    let seen = updates(&script.take(bob));
    assert_eq!(seen.last().unwrap().tracks.len(), 1);
}

#[test]
fn what_is_published_after_a_revocation_is_not_taken_for_what_was_revoked() {
    let (mut script, alice, _, [(old, _), _]) = two();
    script.call(permit("alice", ParticipantPermission { can_publish: false, ..everything() })).unwrap();
    script.call(permit("alice", everything())).unwrap();
    script.take_commands();
    let bound_to = |script: &mut Script| {
        let commands = script.take_commands().into_iter();
        let of = |command| match command {
            Command::BindTrack { mid, track, .. } => Some((mid, track)),
            _ => None,
        };
        commands.filter_map(of).collect::<Vec<_>>()
    };
    // Native SDKs leave the old section as it was, and announce the new track before they offer it.
    script.request(alice, Request::AddTrack(camera("new")));
    assert_eq!(bound_to(&mut script), []);
    let mut sections = script.known_sections(alice);
    sections.push(section("2", MediaKind::Video, "renamed"));
    script.sections(alice, sections.clone());
    let bound = bound_to(&mut script);
    assert!(matches!(bound[..], [(at, track)] if at == mid("2") && track != old), "{bound:?}");
    // A section that has been given up and is used again is as good as any.
    sections[0] = silent(section("0", MediaKind::Video, "cam"));
    script.sections(alice, sections.clone());
    script.request(alice, Request::AddTrack(camera("third")));
    sections[0] = section("0", MediaKind::Video, "cam");
    script.sections(alice, sections);
    let bound = bound_to(&mut script);
    assert!(matches!(bound[..], [(at, _)] if at == mid("0")), "{bound:?}");
}

#[test]
fn revoking_the_permission_to_subscribe_ends_media_at_once_and_giving_it_brings_it_back() {
    let (mut script, alice, bob, [(cam, _), (mic, _)]) = two();
    let peer = script.subscriber(bob);
    script.take(bob);
    script.call(permit("bob", ParticipantPermission { can_subscribe: false, ..everything() })).unwrap();
    let ended: Vec<TrackId> = script
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Unsubscribe { peer: of, track } if of == peer => Some(track),
            _ => None,
        })
        .collect();
    let mut wanted = [cam, mic];
    wanted.sort_unstable();
    assert_eq!(ended, wanted);
    assert_eq!(updates(&script.take(alice))[0].identity, "bob");
    // Which of its connections counts was told at the join, and stays.
    let seat = script.room.by_identity["bob"];
    assert_eq!(script.room.people[&seat].primary(), Some(peer));
    script.publish(alice, "2", camera("second"));
    assert!(!script.take_commands().iter().any(|c| matches!(c, Command::Subscribe { .. })));
    script.call(permit("bob", everything())).unwrap();
    let begun = script.take_commands().iter().filter(|c| matches!(c, Command::Subscribe { .. })).count();
    assert_eq!(begun, 3);
    script.take(bob);
    script.call(permit("bob", everything())).unwrap();
    assert_eq!(names(&script.take(bob)), ["refresh_token"], "nothing has changed");
}

#[test]
fn revoking_the_permission_to_send_data_ends_messages() {
    let (mut script, alice, ..) = two();
    let packet = DataPacket { value: Some(Value::User(lk::UserPacket::default())), ..Default::default() };
    script.data(alice, "_lossy", packet.encode_to_vec());
    assert_eq!(script.forwarded().len(), 1);
    script.call(permit("alice", ParticipantPermission { can_publish_data: false, ..everything() })).unwrap();
    script.data(alice, "_lossy", packet.encode_to_vec());
    assert_eq!(script.refusals(), [DataRefusal::NotAllowed]);
}

#[test]
fn somebody_can_be_hidden_and_shown_again() {
    let (mut script, alice, bob, _) = two();
    script.call(permit("alice", ParticipantPermission { hidden: true, ..everything() })).unwrap();
    let told = updates(&script.take(bob));
    let [gone] = &told[..] else { panic!("{told:?}") };
    assert_eq!((gone.identity.as_str(), gone.state), ("alice", State::Disconnected as i32));
    let own = updates(&script.take(alice));
    assert_eq!(own.last().unwrap().state, State::Active as i32, "it is there for itself");
    let ended = script.take_commands().iter().filter(|c| matches!(c, Command::Unsubscribe { .. })).count();
    assert_eq!(ended, 2);
    script.log.clear();
    script.call(permit("alice", everything())).unwrap();
    let told = updates(&script.take(bob));
    assert_eq!((told[0].state, told[0].tracks.len()), (State::Active as i32, 2));
    assert!(told[0].version > gone.version);
    let at = |wanted: fn(&Output) -> bool| script.log.iter().position(wanted).unwrap();
    let shown = at(
        |o| matches!(o, Output::Send { response, .. } if matches!(response.message, Some(Response::Update(_)))),
    );
    let sent = at(|o| matches!(o, Output::Media(Command::Subscribe { .. })));
    assert!(shown < sent, "known before its tracks come");
}

#[test]
fn subscriptions_are_changed_from_outside() {
    let (mut script, _, bob, [(cam, info), _]) = two();
    let ask = |subscribe, track_sids, participant_tracks| {
        RoomCall::UpdateSubscriptions(lk::UpdateSubscriptionsRequest {
            identity: named("bob"),
            subscribe,
            track_sids,
            participant_tracks,
            ..Default::default()
        })
    };
    let peer = script.subscriber(bob);
    assert_eq!(script.call(ask(false, vec![info.sid.clone()], vec![])), Ok(Answer::Done));
    let ended = script.take_commands();
    assert!(
        ended
            .iter()
            .any(|c| matches!(c, Command::Unsubscribe { peer: of, track } if *of == peer && *track == cam))
    );
    let tracks = lk::ParticipantTracks { participant_sid: String::new(), track_sids: vec![info.sid] };
    script.call(ask(true, vec![], vec![tracks])).unwrap();
    let begun = script.take_commands();
    assert!(
        begun
            .iter()
            .any(|c| matches!(c, Command::Subscribe { peer: of, track, .. } if *of == peer && *track == cam))
    );
}

#[test]
fn data_reaches_those_named_once() {
    let (mut script, alice, bob, _) = two();
    let carol = script.active(admission("carol"));
    let carol_sid = script.join_response(carol).participant.unwrap().sid;
    script.take_commands();
    let send = |request: lk::SendDataRequest| RoomCall::SendData(Box::new(request));
    let hello =
        || lk::SendDataRequest { data: b"hello".to_vec(), topic: Some("t".into()), ..Default::default() };
    let [alice, bob, carol] = [alice, bob, carol].map(|session| script.subscriber(session));

    script.call(send(hello())).unwrap();
    let sent = script.forwarded();
    let [(to, label, payload)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&to[..], label.as_str()), (&[alice, bob, carol][..], "_reliable"));
    let packet = DataPacket::decode(&payload[..]).unwrap();
    assert_eq!(
        (packet.participant_identity.as_str(), packet.participant_sid.as_str()),
        ("", ""),
        "from nobody"
    );
    let Some(Value::User(user)) = packet.value else { panic!() };
    assert_eq!((user.payload, user.topic.as_deref()), (b"hello".to_vec(), Some("t")));

    #[expect(deprecated, reason = "applications still use it")]
    let named = lk::SendDataRequest {
        kind: lk::data_packet::Kind::Lossy as i32,
        destination_identities: vec!["bob".into(), "bob".into(), "nobody".into()],
        destination_sids: vec![carol_sid],
        ..hello()
    };
    script.call(send(named)).unwrap();
    let sent = script.forwarded();
    assert_eq!((&sent[0].0[..], sent[0].1.as_str()), (&[bob, carol][..], "_lossy"));
    script
        .call(send(lk::SendDataRequest { destination_identities: vec!["nobody".into()], ..hello() }))
        .unwrap();
    assert_eq!(script.forwarded(), []);

    let once = || lk::SendDataRequest { nonce: vec![7; 16], ..hello() };
    assert_eq!(script.call(send(once())), Ok(Answer::Done));
    assert_eq!(script.call(send(once())), Ok(Answer::Done), "it is done");
    assert_eq!(script.forwarded().len(), 1);
    assert_eq!(script.call(send(lk::SendDataRequest { nonce: vec![8; 16], ..hello() })), Ok(Answer::Done));
    assert_eq!(script.forwarded().len(), 1);
}

#[test]
fn a_message_that_a_client_sends_twice_is_forwarded_once() {
    let (mut script, alice, ..) = two();
    let packet = |nonce: u8| {
        let user = lk::UserPacket { nonce: vec![nonce; 16], ..Default::default() };
        DataPacket { value: Some(Value::User(user)), ..Default::default() }.encode_to_vec()
    };
    for nonce in [1, 1, 2] {
        script.data(alice, "_reliable", packet(nonce));
    }
    assert_eq!(script.forwarded().len(), 2);
    assert_eq!(script.refusals(), [DataRefusal::Repeated]);
}

fn rpc(timeout_ms: u32) -> RoomCall {
    RoomCall::PerformRpc(lk::PerformRpcRequest {
        destination_identity: named("bob"),
        method: "greet".into(),
        payload: "ada".into(),
        response_timeout_ms: timeout_ms,
        ..Default::default()
    })
}

impl Script {
    /// Calls a method of Bob's; gives the number of the question, and the request that his client gets.
    fn start_rpc(&mut self, question: u64, call: RoomCall) -> lk::RpcRequest {
        self.room.call(self.clock, question, call);
        self.drain();
        let sent = self.forwarded();
        let [(_, label, payload)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(label, "_reliable");
        let packet = DataPacket::decode(&payload[..]).unwrap();
        let Some(Value::RpcRequest(request)) = packet.value else { panic!() };
        assert_eq!(packet.participant_identity, request.id, "the answer is addressed to that");
        assert!(packet.participant_sid.is_empty(), "a wrong prefix ends native SDKs");
        request
    }

    fn say(&mut self, who: SessionId, value: Value) {
        let packet = DataPacket { value: Some(value), ..Default::default() };
        self.data(who, "_reliable", packet.encode_to_vec());
    }
}

fn ack(id: &str) -> Value {
    Value::RpcAck(lk::RpcAck { request_id: id.to_owned() })
}

fn response(id: &str, value: rpc_response::Value) -> Value {
    Value::RpcResponse(lk::RpcResponse { request_id: id.to_owned(), value: Some(value) })
}

fn result(id: &str, payload: &str) -> Value {
    response(id, rpc_response::Value::Payload(payload.to_owned()))
}

#[test]
fn a_method_of_a_participant_is_called() {
    let (mut script, alice, bob, _) = two();
    let request = script.start_rpc(1, rpc(0));
    assert_eq!((request.method.as_str(), request.payload.as_str(), request.version), ("greet", "ada", 1));
    assert_eq!(request.response_timeout_ms, 10_000);
    assert_eq!(script.answer_to(1), None, "not yet");
    // Others cannot answer for Bob, and their own calls pass.
    script.say(alice, result(&request.id, "forged"));
    assert_eq!(script.answer_to(1), None);
    assert_eq!(script.forwarded().len(), 1);
    script.say(bob, ack(&request.id));
    script.advance(Duration::from_secs(9));
    script.say(bob, result(&request.id, "hello ada"));
    assert_eq!(script.answer_to(1), Some(Ok(Answer::Rpc { payload: "hello ada".into() })));
    assert_eq!(script.forwarded(), [], "nobody else hears of it");
    script.say(bob, result(&request.id, "again"));
    assert_eq!(script.answer_to(1), None, "once");
    assert!(script.room.rpcs.is_empty());
}

#[test]
fn what_goes_wrong_with_a_method_is_told() {
    let (mut script, _, bob, _) = two();
    let error = |code, message: &str, data: &str| {
        rpc_response::Value::Error(lk::RpcError { code, message: message.into(), data: data.into() })
    };
    for (value, code, text) in [
        (
            error(1400, "Method not supported at destination", ""),
            Code::InvalidArgument,
            "RpcError 1400: Method not supported at destination",
        ),
        (error(42, "no time", "today"), Code::Internal, "RpcError 42: no time: today"),
        (error(1, &"é".repeat(200), ""), Code::Internal, &format!("RpcError 1: {}", "é".repeat(128))),
        (
            rpc_response::Value::Payload("x".repeat(15_361)),
            Code::Internal,
            "RpcError 1504: Response payload too large",
        ),
        (
            rpc_response::Value::CompressedPayload(vec![1]),
            Code::Unimplemented,
            "RpcError 1404: Unsupported RPC version",
        ),
    ] {
        let request = script.start_rpc(1, rpc(0));
        script.say(bob, response(&request.id, value));
        assert_eq!(refusal(script.answer_to(1).unwrap()), (code, text.to_owned()));
    }
    // Silence: no client is there, or its method takes too long.
    script.start_rpc(2, rpc(60_000));
    script.advance(Duration::from_secs(7));
    let (code, text) = refusal(script.answer_to(2).unwrap());
    assert_eq!(
        (code, code.status(), text.as_str()),
        (Code::Canceled, 408, "RpcError 1501: Connection timeout")
    );
    let request = script.start_rpc(3, rpc(8_000));
    script.say(bob, ack(&request.id));
    script.advance(Duration::from_millis(7_999));
    assert_eq!(script.answer_to(3), None);
    script.advance(Duration::from_millis(1));
    let wanted = (Code::Canceled, "RpcError 1502: Response timeout".to_owned());
    assert_eq!(refusal(script.answer_to(3).unwrap()), wanted);
    script.say(bob, result(&request.id, "late"));
    assert_eq!(script.answer_to(3), None);
    // Clients address it to the name of the call, which nobody has; this one addressed nobody.
    script.take_commands();

    script.start_rpc(4, rpc(0));
    script.request(bob, Request::Leave(lk::LeaveRequest::default()));
    let wanted = (Code::Unavailable, "RpcError 1503: Recipient disconnected".to_owned());
    assert_eq!(refusal(script.answer_to(4).unwrap()), wanted);
    assert!(script.room.rpcs.is_empty());
}

#[test]
fn so_many_calls_wait_and_no_more() {
    let (mut script, ..) = two();
    for question in 0..1000 {
        script.room.call(script.clock, question, rpc(0));
    }
    script.drain();
    assert_eq!(script.answers, []);
    script.room.call(script.clock, 1000, rpc(0));
    script.drain();
    let answer = script.answer_to(1000).unwrap();
    assert_eq!(refusal(answer).0, Code::ResourceExhausted);
    script.advance(Duration::from_secs(10));
    assert_eq!(script.answers.len(), 1000);
    script.call_soon(rpc(0));
    assert_eq!(script.room.rpcs.len(), 1);
}
