use livekit_protocol::participant_info::State;
use livekit_protocol::{DisconnectReason, LeaveRequest, RoomEndReason, WebhookEvent};

use super::script::*;
use super::*;
use crate::livekit::Settings;
use crate::livekit::api::RoomCall;

fn script() -> Script {
    Script::with(Settings { webhooks: true, ..settings() })
}

/// Who or what each event is about.
fn story(events: &[WebhookEvent]) -> Vec<String> {
    let line = |event: &WebhookEvent| {
        let who = event.participant.as_ref().map_or("", |who| who.identity.as_str());
        let track = event.track.as_ref().map_or("", |track| &track.sid[..5]);
        format!("{} {who} {track}", event.event).trim_end().to_owned()
    };
    events.iter().map(line).collect()
}

#[test]
fn a_call_is_told_from_its_start_to_its_end() {
    let mut script = script();
    let alice = script.active(admission("alice"));
    script.publish(alice, "0", camera("cam"));
    let bob = script.active(v0("bob"));
    script.publish(bob, "0", microphone("mic"));
    script.request(alice, Request::Leave(LeaveRequest::default()));
    script.request(bob, Request::Leave(LeaveRequest::default()));
    script.advance(Duration::from_mins(1));
    assert!(script.ended);
    assert_eq!(
        story(&script.webhooks),
        [
            "room_started",
            "participant_joined alice",
            "track_published alice TR_VC",
            "participant_joined bob",
            "track_published bob TR_AM",
            "track_unpublished alice TR_VC",
            "participant_left alice",
            "track_unpublished bob TR_AM",
            "participant_left bob",
            "room_finished",
        ]
    );
    for event in &script.webhooks {
        let room = event.room.as_ref().expect("every event names its room");
        assert_eq!((room.name.as_str(), &room.sid), ("lobby", &script.room.sid));
        assert!(event.id.starts_with("EV_") && event.created_at >= START_MS / 1000);
    }
    let mut ids: Vec<&str> = script.webhooks.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), script.webhooks.len(), "ids are unique");
    let joined = script.webhooks[1].participant.as_ref().unwrap();
    assert_eq!((joined.state, joined.name.as_str()), (State::Active as i32, "ALICE"));
    let left = script.webhooks[6].participant.as_ref().unwrap();
    assert_eq!(left.state, State::Disconnected as i32);
    assert_eq!(left.disconnect_reason, DisconnectReason::ClientInitiated as i32);
    assert_eq!(left.sid, joined.sid);
    assert_eq!(script.webhooks[9].room_end_reason, RoomEndReason::RoomEndIdleTimeout as i32);
    assert_eq!(script.webhooks[9].room.as_ref().unwrap().num_participants, 0);
}

#[test]
fn who_was_never_active_was_not_there() {
    let mut script = script();
    let alice = script.join(admission("alice"));
    script.publish(alice, "0", camera("cam"));
    script.close_socket(alice);
    assert_eq!(story(&script.webhooks), ["room_started", "participant_connection_aborted alice"]);
}

#[test]
fn what_was_published_before_is_told_once_its_publisher_is_there() {
    let mut script = script();
    let alice = script.join(admission("alice"));
    script.publish(alice, "0", camera("cam"));
    assert_eq!(story(&script.webhooks), ["room_started"]);
    script.connected(alice);
    let told = ["room_started", "participant_joined alice", "track_published alice TR_VC"];
    assert_eq!(story(&script.webhooks), told);
    // An end of the track alone, and nothing that is told twice.
    script.sections(alice, vec![silent(section("0", MediaKind::Video, "cam"))]);
    script.connected(alice);
    assert_eq!(story(&script.webhooks)[3..], ["track_unpublished alice TR_VC"]);
}

#[test]
fn one_that_takes_anothers_place_comes_after_it() {
    let mut script = script();
    script.active(admission("alice"));
    script.active(admission("alice"));
    let told = story(&script.webhooks);
    let names =
        ["room_started", "participant_joined alice", "participant_left alice", "participant_joined alice"];
    assert_eq!(told, names);
    let sid = |at: usize| script.webhooks[at].participant.as_ref().unwrap().sid.clone();
    assert!(sid(1) == sid(2) && sid(2) != sid(3));
}

#[test]
fn a_resume_is_nobodys_business() {
    let mut script = script();
    let alice = script.active(admission("alice"));
    script.close_socket(alice);
    script.resume(alice, admission("alice"));
    assert_eq!(story(&script.webhooks), ["room_started", "participant_joined alice"]);
}

#[test]
fn a_room_says_why_it_ends() {
    for (end, reason) in [
        (Script::shutdown as fn(&mut Script), RoomEndReason::RoomEndServerShutdown),
        (|script| drop(script.call_soon(RoomCall::Delete)), RoomEndReason::RoomEndApiDelete),
        (Script::abandon, RoomEndReason::RoomEndSuperseded),
    ] {
        let mut script = script();
        script.active(admission("alice"));
        end(&mut script);
        let told = story(&script.webhooks);
        assert_eq!(told[2..], ["participant_left alice", "room_finished"], "{reason:?}");
        assert_eq!(script.webhooks[3].room_end_reason, reason as i32);
        end(&mut script);
        assert_eq!(script.webhooks.len(), 4, "told once");
    }
}

#[test]
fn nothing_is_made_that_nobody_asked_for() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.publish(alice, "0", camera("cam"));
    script.shutdown();
    assert!(script.webhooks.is_empty());
}
