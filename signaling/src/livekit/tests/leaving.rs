use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State;
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{
    DisconnectReason, LeaveRequest, SimulateScenario, UpdateParticipantMetadata, UpdateTrackSettings,
};
use sfu::command::PeerEnd;

use super::script::*;
use super::*;
use crate::livekit::{SocketEnd, frame};

/// How and why bob saw alice go.
fn departure(script: &mut Script, bob: SessionId) -> Option<DisconnectReason> {
    let gone =
        updates(&script.take(bob)).into_iter().find(|info| info.state == State::Disconnected as i32)?;
    assert_eq!(gone.identity, "alice");
    Some(DisconnectReason::try_from(gone.disconnect_reason).unwrap())
}

fn two() -> (Script, SessionId, SessionId) {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    script.take(alice);
    script.take(bob);
    script.take_commands();
    (script, alice, bob)
}

#[test]
fn a_leave_is_acted_on_at_once() {
    let (mut script, alice, bob) = two();
    let peer = script.publisher(alice);
    script.request(alice, Request::Leave(LeaveRequest::default()));
    assert!(script.closed.contains(&alice));
    assert!(matches!(script.take_commands()[..], [Command::RemovePeer { peer: gone }] if gone == peer));
    assert!(script.take(alice).is_empty(), "it knows");
    script.advance(Duration::from_millis(500));
    assert_eq!(departure(&mut script, bob), Some(DisconnectReason::ClientInitiated));
    script.request(alice, Request::AddTrack(camera("late")));
    script.media(Event::Connected { peer });
    assert!(script.take(alice).is_empty(), "what crosses is ignored");
}

#[test]
fn a_publishers_leave_is_told_without_delay() {
    let (mut script, alice, bob) = two();
    script.publish(alice, "0", camera("cam"));
    script.take(bob);
    script.request(alice, Request::Leave(LeaveRequest::default()));
    assert_eq!(departure(&mut script, bob), Some(DisconnectReason::ClientInitiated));
    assert!(script.room.tracks.is_empty() && script.room.by_track_sid.is_empty());
}

#[test]
fn a_killed_client_is_gone_within_twenty_seconds() {
    let (mut script, alice, bob) = two();
    script.close_socket(alice);
    script.advance(Duration::from_secs(15));
    script.lose(alice);
    script.advance(Duration::from_secs(2));
    assert_eq!(departure(&mut script, bob), None, "it may come back");
    script.advance(Duration::from_millis(1500));
    assert_eq!(departure(&mut script, bob), Some(DisconnectReason::SignalClose));
}

#[test]
fn a_client_whose_cable_is_cut_has_time_to_come_back() {
    for socket_first in [true, false] {
        let (mut script, alice, bob) = two();
        script.advance(Duration::from_secs(14));
        if socket_first {
            script.room.socket_closed(script.clock, alice, SocketEnd::Silent(Duration::from_secs(14)));
        }
        script.advance(Duration::from_secs(1));
        // Where the socket is not silent for long enough yet, this takes it away.
        script.lose(alice);
        // 45 s after all has ended.
        script.advance(Duration::from_millis(29_500));
        assert_eq!(departure(&mut script, bob), None, "{socket_first}");
        script.advance(Duration::from_secs(1));
        assert_eq!(departure(&mut script, bob), Some(DisconnectReason::SignalClose), "{socket_first}");
    }
}

#[test]
fn a_client_that_is_killed_once_its_cable_holds_again_is_gone_within_twenty_seconds() {
    let (mut script, alice, bob) = two();
    script.advance(Duration::from_secs(15));
    script.lose(alice);
    script.advance(Duration::from_secs(10));
    script.connected(alice);
    let again = script.resume(alice, admission("alice"));
    script.close_socket(again);
    script.advance(Duration::from_secs(15));
    script.lose(again);
    script.advance(Duration::from_secs(4));
    assert_eq!(departure(&mut script, bob), Some(DisconnectReason::SignalClose));
}

#[test]
fn a_socket_lost_before_the_transport_was_up_ends_the_participant() {
    let mut script = Script::new();
    let alice = script.join(admission("alice"));
    script.close_socket(alice);
    assert_eq!(script.room.participants(), 0);
}

#[test]
fn a_lost_transport_makes_the_client_build_everything_anew() {
    for (reason, wanted) in [
        (PeerEnd::ConsentExpired, DisconnectReason::ConnectionTimeout),
        (PeerEnd::HandshakeFailed, DisconnectReason::MediaFailure),
        (PeerEnd::ClosedByPeer, DisconnectReason::ClientInitiated),
    ] {
        let (mut script, alice, bob) = two();
        let peer = script.publisher(alice);
        script.media(Event::Ended { peer, reason });
        let told = script.take(alice);
        assert!(matches!(&told[..], [Response::Leave(leave)]
            if leave.action == Action::Reconnect as i32 && leave.can_reconnect));
        assert!(script.closed.contains(&alice));
        script.advance(Duration::from_secs(1));
        assert_eq!(departure(&mut script, bob), Some(wanted));
    }
}

#[test]
fn a_room_ends_after_its_timeouts() {
    let mut script = Script::new();
    script.advance(Duration::from_secs(299));
    assert!(!script.ended);
    script.advance(Duration::from_secs(1));
    assert!(script.ended && script.room.is_ended(), "nobody ever came");
    assert_eq!(script.room.next_timeout(), None);
    assert_eq!(script.try_join(admission("late")), Err(JoinError::Ended));

    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.advance(Duration::from_mins(10));
    script.request(alice, Request::Leave(LeaveRequest::default()));
    script.advance(Duration::from_secs(19));
    assert!(!script.ended);
    let again = script.active(admission("alice"));
    script.advance(Duration::from_mins(1));
    assert!(!script.ended, "somebody came back");
    script.request(again, Request::Leave(LeaveRequest::default()));
    script.advance(Duration::from_secs(21));
    assert!(script.ended);
    let room = &script.room;
    assert!(room.people.is_empty() && room.by_session.is_empty() && room.by_identity.is_empty());
    assert!(room.by_peer.is_empty() && room.tracks.is_empty() && room.loudness.is_empty());
}

#[test]
fn shutting_down_tells_everybody_and_ends_the_room() {
    let (mut script, alice, bob) = two();
    script.shutdown();
    for session in [alice, bob] {
        let told = script.take(session);
        assert!(matches!(told.last(), Some(Response::Leave(leave))
            if leave.reason == DisconnectReason::ServerShutdown as i32));
        assert!(script.closed.contains(&session));
    }
    assert_eq!(script.take_commands().len(), 2);
    assert!(script.ended);
}

#[test]
fn a_bad_frame_ends_its_session_with_words_and_no_other() {
    let (mut script, alice, bob) = two();
    script.bad_frame(alice);
    assert_eq!(names(&script.take(alice)), ["request_response", "leave"]);
    assert_eq!(script.closed.iter().collect::<Vec<_>>(), [&alice]);
    script.publish(bob, "0", camera("cam"));
}

#[test]
fn leaving_and_coming_back_at_once_does_not_remove_the_new_one() {
    let (mut script, alice, bob) = two();
    script.request(alice, Request::Leave(LeaveRequest::default()));
    let again = script.join(admission("alice"));
    script.connected(again);
    script.publish(again, "0", camera("cam"));
    script.advance(Duration::from_secs(1));
    let seen = updates(&script.take(bob));
    let last_end = seen.iter().rposition(|info| info.state == State::Disconnected as i32).unwrap();
    let new_sid = script.join_response(again).participant.unwrap().sid;
    let first_news = seen.iter().position(|info| info.sid == new_sid).unwrap();
    assert!(last_end < first_news, "clients remove by identity: {seen:?}");
}

#[test]
fn joins_and_leaves_leave_nothing_behind() {
    let mut script = Script::new();
    let bob = script.active(admission("bob"));
    for round in 0..500 {
        let alice = script.active(if round % 2 == 0 { admission("alice") } else { v0("alice") });
        let (_, info) = script.publish(alice, "0", camera("cam"));
        let track_sids = vec![info.sid];
        script.request(bob, Request::TrackSetting(UpdateTrackSettings { track_sids, ..Default::default() }));
        script.request(alice, Request::Leave(LeaveRequest::default()));
    }
    script.advance(Duration::from_secs(1));
    let room = &script.room;
    assert_eq!(
        (room.people.len(), room.by_peer.len(), room.by_identity.len(), room.by_session.len()),
        (1, 1, 1, 1)
    );
    assert!(room.tracks.is_empty() && room.departed.is_empty() && room.changed.is_empty());
    let who = room.people.values().next().unwrap();
    assert!(who.subscriptions.is_empty() && who.preferences.is_empty());
    assert!(who.heard.is_empty() && who.told_quality.is_empty() && who.denied.is_empty());
}

#[test]
fn own_metadata_changes_within_permission_and_limits() {
    let (mut script, alice, bob) = two();
    let update = |name: &str, pairs: &[(&str, &str)]| UpdateParticipantMetadata {
        name: name.into(),
        attributes: pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        request_id: 9,
        ..UpdateParticipantMetadata::default()
    };
    script.request(alice, Request::UpdateMetadata(update("Al", &[("a", "1"), ("b", "2")])));
    let messages = script.take(alice);
    assert_eq!(names(&messages), ["update", "request_response", "refresh_token"]);
    assert!(matches!(&messages[1], Response::RequestResponse(ok) if (ok.request_id, ok.reason) == (9, 0)));
    let seen = updates(&script.take(bob));
    assert_eq!((seen[0].name.as_str(), seen[0].attributes.len()), ("Al", 2));
    script.request(alice, Request::UpdateMetadata(update("", &[("a", "")])));
    let seen = updates(&script.take(bob));
    assert_eq!(
        (seen[0].name.as_str(), seen[0].attributes.get("a")),
        ("Al", None),
        "empty removes an attribute"
    );
    script.take(alice);
    for long in [
        update(&"x".repeat(257), &[]),
        update("", &[("k", &"x".repeat(64 << 10))]),
        UpdateParticipantMetadata { metadata: "x".repeat((512 << 10) + 1), ..update("", &[]) },
    ] {
        script.request(alice, Request::UpdateMetadata(long));
        assert_eq!(names(&script.take(alice)), ["request_response"]);
    }
    assert!(updates(&script.take(bob)).is_empty());
    let mut mute = admission("mute");
    mute.permission.can_update_metadata = false;
    let mute = script.active(mute);
    script.take(mute);
    script.request(mute, Request::UpdateMetadata(update("x", &[])));
    assert_eq!(names(&script.take(mute)), ["request_response"]);
}

#[test]
fn scenarios_concern_only_who_asks() {
    for (scenario, wanted) in [
        (Scenario::LeaveRequestFullReconnect(true), Some(Action::Reconnect)),
        (Scenario::ServerLeave(true), Some(Action::Disconnect)),
        (Scenario::NodeFailure(true), None),
    ] {
        let (mut script, alice, bob) = two();
        script.request(alice, Request::Simulate(SimulateScenario { scenario: Some(scenario) }));
        let action = script.take(alice).iter().find_map(|message| match message {
            Response::Leave(leave) => Some(leave.action),
            _ => None,
        });
        assert_eq!(action, wanted.map(|action| action as i32));
        assert!(script.closed.contains(&alice) && !script.closed.contains(&bob));
    }
}

#[test]
fn pings_are_the_sockets_business() {
    let (mut script, alice, _) = two();
    script.request(alice, Request::Ping(1));
    assert!(script.take(alice).is_empty(), "answered twice otherwise");
    assert!(frame::pong_for(&SignalRequest { message: Some(Request::Ping(1)) }, 5).is_some());
}
