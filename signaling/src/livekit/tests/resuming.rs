use bytes::Bytes;
use livekit_protocol::data_packet::Value;
use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{
    DataChannelReceiveState, DataPacket, DisconnectReason, LeaveRequest, ReconnectResponse, SimulateScenario,
    StreamState, SubscriptionPermission, SyncState, TrackPublishedResponse, UpdateSubscription, UserPacket,
};
use prost::Message as _;

use super::script::*;
use super::*;
use crate::livekit::connect::Resume;

const GRACE: Duration = Duration::from_secs(18);

fn two(alice: Admission) -> (Script, SessionId, SessionId) {
    let mut script = Script::new();
    let alice = script.active(alice);
    let bob = script.active(admission("bob"));
    script.take(alice);
    script.take(bob);
    script.take_commands();
    (script, alice, bob)
}

fn reconnect(messages: &[Response]) -> ReconnectResponse {
    match messages.first() {
        Some(Response::Reconnect(reconnect)) => reconnect.clone(),
        other => panic!("first: {other:?}"),
    }
}

fn data(sequence: u32) -> Bytes {
    let value = Some(Value::User(UserPacket { payload: vec![1; 8], ..UserPacket::default() }));
    DataPacket { sequence, value, ..DataPacket::default() }.encode_to_vec().into()
}

impl Script {
    fn says(&mut self, from: SessionId, sequence: u32) {
        let peer = self.publisher(from);
        let payload = data(sequence);
        self.media(Event::Data { peer, label: "_reliable".into(), binary: true, payload });
    }

    fn sid_of(&self, identity: &str) -> String {
        self.room.people[&self.room.by_identity[identity]].sid.clone()
    }
}

fn is_refusal(messages: &[Response]) -> bool {
    matches!(messages, [Response::Leave(leave)]
        if leave.reason == DisconnectReason::StateMismatch as i32 && leave.action == Action::Reconnect as i32)
}

#[test]
fn a_lost_socket_is_replaced_and_the_others_notice_nothing() {
    for alice_is in [admission("alice"), v0("alice")] {
        let (mut script, alice, bob) = two(alice_is.clone());
        let (track, _) = script.publish(alice, "0", camera("cam"));
        let sid = script.sid_of("alice");
        script.take(bob);
        script.take_commands();
        script.close_socket(alice);
        script.advance(Duration::from_mins(5));
        assert_eq!(script.room.participants(), 2, "its media lives");
        script.take(bob);

        let again = script.resume(alice, alice_is);
        let messages = script.take(again);
        let mut wanted = vec!["reconnect", "update", "room_update", "refresh_token", "speakers_changed"];
        wanted.push("subscribed_quality_update");
        assert_eq!(names(&messages), wanted);
        reconnect(&messages);
        let people = updates(&messages);
        assert_eq!(people.len(), 2);
        let own = people.iter().find(|info| info.identity == "alice").unwrap();
        assert_eq!((&own.sid, own.tracks.len()), (&sid, 1));
        let subscriber = script.subscriber(again);
        assert!(
            matches!(script.take_commands()[..], [Command::RestartIce { peer }] if peer == subscriber),
            "the connections stay"
        );
        assert!(matches!(script.notices.last(), Some(Notice::Resumed { after }) if after.as_secs() == 300));
        assert!(script.room.tracks.contains_key(&track));
        script.advance(Duration::from_mins(1));
        assert_eq!(updates(&script.take(bob)), []);
        script.request(again, Request::AddTrack(microphone("mic")));
        assert_eq!(names(&script.take(again))[..1], ["track_published"], "it is heard");
    }
}

#[test]
fn a_new_socket_takes_the_place_of_one_that_seems_alive() {
    let (mut script, alice, bob) = two(admission("alice"));
    let again = script.resume(alice, admission("alice"));
    assert!(script.closed.contains(&alice));
    assert!(script.take(alice).is_empty(), "closed without a word");
    reconnect(&script.take(again));
    script.request(alice, Request::Leave(LeaveRequest::default()));
    script.close_socket(alice);
    script.advance(GRACE * 2);
    assert_eq!((script.room.participants(), updates(&script.take(bob))), (2, vec![]), "old news are ignored");
}

#[test]
fn a_resume_of_nobody_of_another_or_of_another_kind_is_refused_by_a_message() {
    let (mut script, alice, bob) = two(admission("alice"));
    script.close_socket(alice);
    let resume = |participant_sid: String| Some(Resume { participant_sid, reason: 0 });
    let sid = script.sid_of("alice");
    for who in [
        Admission { resume: resume(sid.clone()), ..admission("bob") },
        Admission { resume: resume(sid.clone()), ..admission("carol") },
        Admission { resume: resume("PA_nobody".into()), ..admission("alice") },
        Admission { resume: resume(sid.clone()), ..v0("alice") },
    ] {
        let session = script.join(who);
        assert!(is_refusal(&script.take(session)) && script.closed.contains(&session));
    }
    assert!(!script.closed.contains(&bob));
    let again = script.join(Admission { resume: resume(String::new()), ..admission("alice") });
    reconnect(&script.take(again));
    script.request(again, Request::Leave(LeaveRequest::default()));
    let late = script.join(Admission { resume: resume(sid), ..admission("alice") });
    assert!(is_refusal(&script.take(late)), "it has left");
}

#[test]
fn the_same_identity_without_the_flag_is_still_a_double() {
    let (mut script, alice, _) = two(admission("alice"));
    let sid = script.sid_of("alice");
    script.join(admission("alice"));
    assert!(matches!(script.take(alice).last(), Some(Response::Leave(leave))
        if leave.reason == DisconnectReason::DuplicateIdentity as i32));
    assert_ne!(script.sid_of("alice"), sid);
}

#[test]
fn who_left_meanwhile_is_told_before_who_is_there() {
    let (mut script, alice, bob) = two(admission("alice"));
    let carol = script.active(admission("carol"));
    let dave = script.active(admission("dave"));
    script.close_socket(alice);
    for gone in [bob, carol] {
        script.request(gone, Request::Leave(LeaveRequest::default()));
    }
    let carol_sid = script.sid_of("dave");
    let carol = script.active(admission("carol"));
    script.publish(dave, "0", camera("cam"));
    let again = script.resume(alice, admission("alice"));
    let messages = script.take(again);
    assert_eq!(names(&messages)[..2], ["reconnect", "update"]);
    let people: Vec<_> = updates(&messages[..2])
        .into_iter()
        .map(|info| (info.identity, info.state, info.tracks.len()))
        .collect();
    let (gone, there) = (State::Disconnected as i32, State::Active as i32);
    let wanted = [("bob", gone, 0), ("alice", there, 0), ("dave", there, 1), ("carol", there, 0)];
    assert_eq!(people, wanted.map(|(name, state, tracks)| (name.to_owned(), state, tracks)));
    assert_ne!(script.sid_of("carol"), carol_sid);
    script.request(carol, Request::Leave(LeaveRequest::default()));
}

#[test]
fn a_resume_that_never_arrived_makes_the_next_tell_all_again() {
    let (mut script, alice, bob) = two(admission("alice"));
    script.close_socket(alice);
    script.request(bob, Request::Leave(LeaveRequest::default()));
    script.advance(Duration::from_mins(10));
    let lost = script.resume(alice, admission("alice"));
    script.close_socket(lost);
    script.advance(Duration::from_mins(2));
    let again = script.resume(lost, admission("alice"));
    assert_eq!(updates(&script.take(again)).len(), 2, "bob's end and itself");
    script.request(again, Request::SyncState(SyncState::default()));
    script.advance(Duration::from_mins(2));
    let third = script.resume(again, admission("alice"));
    assert_eq!(updates(&script.take(third)).len(), 1, "it knows");
}

#[test]
fn somebody_who_missed_more_than_is_known_joins_anew() {
    let (mut script, alice, _) = two(admission("alice"));
    script.close_socket(alice);
    for _ in 0..1100 {
        let guest = script.join(admission("guest"));
        script.request(guest, Request::Leave(LeaveRequest::default()));
    }
    let resume = Some(Resume { participant_sid: script.sid_of("alice"), reason: 0 });
    let again = script.join(Admission { resume, ..admission("alice") });
    assert!(is_refusal(&script.take(again)));
}

#[test]
fn tracks_of_the_meantime_are_offered_once_somebody_is_back() {
    let (mut script, alice, bob) = two(v0("alice"));
    script.close_socket(alice);
    let (_, info) = script.publish(bob, "0", camera("cam"));
    let subscriber = script.subscriber(alice);
    let offer = |id| Event::Offer { peer: subscriber, id, sdp: "v=0".into(), tracks: vec![] };
    script.media(offer(2));
    script.advance(Duration::from_secs(30));
    assert_eq!(script.room.participants(), 2, "an offer that nobody got needs no answer");
    let again = script.resume(alice, v0("alice"));
    script.media(offer(3));
    let messages = script.take(again);
    let update = updates(&messages[..2]);
    assert!(update.iter().any(|info_of| info_of.tracks.iter().any(|track| track.sid == info.sid)));
    assert_eq!(names(&messages).last(), Some(&"offer"));
    script.advance(Duration::from_secs(16));
    assert!(script.closed.contains(&again), "this one does");
}

#[test]
fn lost_media_asks_for_a_resume_and_waits_for_it() {
    let (mut script, alice, bob) = two(admission("alice"));
    script.lose(alice);
    let told = script.take(alice);
    assert!(matches!(&told[..], [Response::Leave(leave)] if leave.action == Action::Resume as i32));
    assert!(script.closed.contains(&alice));
    script.advance(Duration::from_secs(2));
    let again = script.resume(alice, admission("alice"));
    script.advance(Duration::from_secs(10));
    script.media(Event::Connected { peer: script.publisher(alice) });
    script.advance(GRACE * 3);
    assert!(script.room.participants() == 2 && !script.closed.contains(&again));
    assert_eq!(updates(&script.take(bob)), []);

    // The path does not come back.
    script.lose(again);
    let third = script.resume(again, admission("alice"));
    script.take(third);
    script.advance(GRACE + Duration::from_secs(1));
    assert!(matches!(script.take(third).last(), Some(Response::Leave(leave))
        if leave.action == Action::Reconnect as i32));
    assert_eq!(script.room.participants(), 1);
}

#[test]
fn a_path_that_comes_back_ends_the_wait() {
    let (mut script, alice, _) = two(v0("alice"));
    script.close_socket(alice);
    script.lose(alice);
    script.connected(alice);
    script.advance(GRACE * 3);
    assert_eq!(script.room.participants(), 2);
}

#[test]
fn sync_state_brings_subscriptions_up_to_date() {
    for auto_subscribe in [true, false] {
        let bobs = Admission { auto_subscribe, ..admission("bob") };
        let mut script = Script::new();
        let alice = script.active(admission("alice"));
        let bob = script.active(bobs.clone());
        let tracks = ["0", "1", "2"].map(|at| script.publish(alice, at, camera(at)));
        let sid = |index: usize| tracks[index].1.sid.clone();
        let wish = |sids: Vec<String>, subscribe| UpdateSubscription {
            track_sids: sids,
            subscribe,
            participant_tracks: vec![],
        };
        // What the server knows is stale: 0 was asked for otherwise, which the client took back in vain.
        script.request(bob, Request::Subscription(wish(vec![sid(0)], !auto_subscribe)));
        let again = script.resume(bob, bobs);
        script.take_commands();
        let state = SyncState {
            subscription: Some(wish(vec![sid(1)], !auto_subscribe)),
            track_sids_disabled: vec![sid(2)],
            ..SyncState::default()
        };
        script.request(again, Request::SyncState(state));
        let seat = script.room.by_identity["bob"];
        let has = |index: usize| script.room.people[&seat].subscriptions.contains_key(&tracks[index].0);
        assert_eq!([has(0), has(1), has(2)], [auto_subscribe, !auto_subscribe, auto_subscribe]);
        if auto_subscribe {
            assert!(!script.room.people[&seat].subscriptions[&tracks[2].0].demand.enabled);
        }
    }
}

#[test]
fn a_published_track_that_is_no_more_makes_the_client_build_everything_anew() {
    let (mut script, alice, _) = two(admission("alice"));
    let (_, info) = script.publish(alice, "0", camera("cam"));
    let again = script.resume(alice, admission("alice"));
    let state = |sid: &str| {
        let track = Some(TrackInfo { sid: sid.into(), ..TrackInfo::default() });
        SyncState {
            publish_tracks: vec![TrackPublishedResponse { cid: "cam".into(), track }],
            ..SyncState::default()
        }
    };
    script.take(again);
    script.request(again, Request::SyncState(state(&info.sid)));
    assert!(script.take(again).is_empty());
    script.request(again, Request::SyncState(state("TR_gone")));
    assert!(is_refusal(&script.take(again)) && script.closed.contains(&again));
}

#[test]
fn reliable_packets_that_did_not_arrive_are_sent_again() {
    let (mut script, alice, bob) = two(admission("alice"));
    script.says(bob, 1);
    script.close_socket(alice);
    script.says(bob, 2);
    script.says(alice, 7);
    let again = script.resume(alice, admission("alice"));
    assert_eq!(reconnect(&script.take(again)).last_message_seq, 7);
    script.take_commands();
    let publisher_sid = script.sid_of("bob");
    let state = |last_seq| SyncState {
        datachannel_receive_states: vec![DataChannelReceiveState {
            publisher_sid: publisher_sid.clone(),
            last_seq,
        }],
        ..SyncState::default()
    };
    script.request(again, Request::SyncState(state(1)));
    let sent: Vec<_> = script
        .take_commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::SendData { to, payload, .. } => {
                Some((to.to_vec(), DataPacket::decode(payload).unwrap()))
            }
            _ => None,
        })
        .collect();
    let [(to, packet)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&to[..], packet.sequence), (&[script.subscriber(again)][..], 2));
    assert_eq!(packet.participant_sid, publisher_sid);
    script.request(again, Request::SyncState(state(2)));
    script.request(again, Request::SyncState(SyncState::default()));
    assert!(script.take_commands().is_empty(), "it has all, or does not count");
    script.says(alice, 7);
    assert!(script.take_commands().is_empty(), "what the client sends again came before");
}

#[test]
fn what_changed_for_somebody_away_is_told_when_it_is_back() {
    let (mut script, alice, bob) = two(admission("alice"));
    let (camera_id, _) = script.publish(bob, "0", camera("cam"));
    let peer = script.subscriber(alice);
    script.close_socket(alice);
    script.media(Event::SubscriptionPaused { peer, track: camera_id, paused: true });
    let again = script.resume(alice, admission("alice"));
    let states: Vec<i32> = script
        .take(again)
        .iter()
        .filter_map(|message| match message {
            Response::StreamStateUpdate(update) => Some(update.stream_states[0].state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [StreamState::Paused as i32]);

    let allow = |all| SubscriptionPermission { all_participants: all, ..SubscriptionPermission::default() };
    let news = |script: &mut Script, session| -> Vec<bool> {
        let messages = script.take(session);
        let of = |message: &Response| match message {
            Response::SubscriptionPermissionUpdate(update) => Some(update.allowed),
            _ => None,
        };
        messages.iter().filter_map(of).collect()
    };
    script.close_socket(again);
    script.request(bob, Request::SubscriptionPermission(allow(false)));
    let third = script.resume(again, admission("alice"));
    assert_eq!(news(&mut script, third), [false]);
    script.close_socket(third);
    let fourth = script.resume(third, admission("alice"));
    assert_eq!(news(&mut script, fourth), [false], "the first may not have arrived");
    script.close_socket(fourth);
    script.request(bob, Request::SubscriptionPermission(allow(true)));
    let fifth = script.resume(fourth, admission("alice"));
    assert_eq!(news(&mut script, fifth), [true]);
}

#[test]
fn simulated_accidents_of_a_resume() {
    let simulate = |scenario| Request::Simulate(SimulateScenario { scenario: Some(scenario) });
    let (mut script, alice, bob) = two(admission("alice"));
    script.request(alice, simulate(Scenario::Migration(true)));
    assert!(
        matches!(script.take(alice)[..], [Response::Leave(ref leave)] if leave.action == Action::Resume as i32)
    );
    let again = script.resume(alice, admission("alice"));
    script.request(again, simulate(Scenario::DisconnectSignalOnResumeNoMessages(true)));
    let silent = script.resume(again, admission("alice"));
    assert!(script.take(silent).is_empty() && script.closed.contains(&silent));
    let again = script.resume(silent, admission("alice"));
    script.request(again, simulate(Scenario::DisconnectSignalOnResume(true)));
    let dropped = script.resume(again, admission("alice"));
    assert_eq!(names(&script.take(dropped))[..2], ["reconnect", "update"]);
    assert!(script.closed.contains(&dropped));
    let last = script.resume(dropped, admission("alice"));
    script.advance(GRACE * 2);
    assert!(!script.closed.contains(&last) && updates(&script.take(bob)).is_empty());
}
