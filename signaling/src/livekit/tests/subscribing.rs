use livekit_protocol::{
    ParticipantTracks, StreamState, SubscriptionError, SubscriptionPermission, TrackPermission,
    UpdateSubscription, UpdateTrackSettings, VideoQuality,
};
use sfu::command::Demand;

use super::script::*;
use super::*;

fn subscription(sids: &[&str], subscribe: bool) -> Request {
    let track_sids = sids.iter().map(ToString::to_string).collect();
    Request::Subscription(UpdateSubscription { track_sids, subscribe, participant_tracks: vec![] })
}

/// Alice publishes a camera; bob is there, with `admission`.
fn pair(admission: Admission) -> (Script, SessionId, SessionId, TrackId, TrackInfo) {
    let mut script = Script::new();
    let alice = script.active(super::script::admission("alice"));
    let bob = script.active(admission);
    let (id, info) = script.publish(alice, "3", camera("cam"));
    script.take(alice);
    script.take(bob);
    (script, alice, bob, id, info)
}

#[test]
fn subscribing_and_unsubscribing_is_idempotent_and_reads_both_lists() {
    let (mut script, _, bob, id, info) = pair(admission("bob"));
    script.take_commands();
    script.request(bob, subscription(&[&info.sid], true));
    assert!(script.take_commands().is_empty(), "it has it already");
    let listed = ParticipantTracks { participant_sid: String::new(), track_sids: vec![info.sid.clone()] };
    let request =
        UpdateSubscription { subscribe: false, participant_tracks: vec![listed], ..Default::default() };
    script.request(bob, Request::Subscription(request.clone()));
    script.request(bob, Request::Subscription(request));
    let peer = script.subscriber(bob);
    assert!(
        matches!(script.take_commands()[..], [Command::Unsubscribe { peer: from, track }] if from == peer && track == id)
    );
    script.request(bob, subscription(&[&info.sid], true));
    assert!(matches!(script.take_commands()[..], [Command::Subscribe { track, .. }] if track == id));
}

#[test]
fn without_auto_subscribe_only_what_is_asked_for_comes() {
    let (mut script, _, bob, id, info) = pair(Admission { auto_subscribe: false, ..admission("bob") });
    assert!(!script.take_commands().iter().any(|command| matches!(command, Command::Subscribe { .. })));
    script.request(bob, subscription(&[&info.sid], true));
    assert!(matches!(script.take_commands()[..], [Command::Subscribe { track, .. }] if track == id));
}

#[test]
fn whoever_may_not_subscribe_gets_nothing() {
    let mut deaf = admission("bob");
    deaf.permission.can_subscribe = false;
    let (mut script, _, bob, _, info) = pair(deaf);
    script.request(bob, subscription(&[&info.sid], true));
    assert!(!script.take_commands().iter().any(|command| matches!(command, Command::Subscribe { .. })));
}

#[test]
fn a_track_may_be_asked_for_before_it_is_there() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(Admission { auto_subscribe: false, ..admission("bob") });
    script.request(alice, Request::AddTrack(camera("cam")));
    let sid = script.room.tracks.values().next().unwrap().info.sid.clone();
    script.take(bob);
    script.request(bob, subscription(&[&sid, "TR_nowhere"], true));
    script.sections(alice, vec![section("3", MediaKind::Video, "cam")]);
    assert!(script.take_commands().iter().any(|command| matches!(command, Command::Subscribe { .. })));
    script.advance(Duration::from_secs(59));
    assert!(!names(&script.take(bob)).contains(&"subscription_response"));
    script.advance(Duration::from_secs(2));
    let messages = script.take(bob);
    let failed: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            Response::SubscriptionResponse(failed) => Some((failed.track_sid.as_str(), failed.err)),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [("TR_nowhere", SubscriptionError::SeTrackNotfound as i32)]);
    assert!(script.room.people.values().all(|who| who.missing_until.is_none()));
}

#[test]
fn wishes_are_kept_up_to_a_limit() {
    let mut settings = settings();
    settings.limits.preferences_per_participant = 3;
    let mut script = Script::with(settings);
    let bob = script.active(admission("bob"));
    script.take(bob);
    script.request(bob, subscription(&["TR_1", "TR_2"], true));
    script.request(bob, subscription(&["TR_3", "TR_4", &"x".repeat(100)], true));
    assert_eq!(names(&script.take(bob)), ["subscription_response"; 2]);
    let many =
        UpdateTrackSettings { track_sids: vec!["TR_9".into(); 100_000], ..UpdateTrackSettings::default() };
    script.request(bob, Request::TrackSetting(many));
    assert_eq!(script.room.people.values().next().unwrap().preferences.len(), 3);
}

#[test]
fn settings_reach_the_core_once() {
    let (mut script, _, bob, id, info) = pair(admission("bob"));
    script.take_commands();
    let low = UpdateTrackSettings {
        track_sids: vec![info.sid],
        quality: VideoQuality::Low as i32,
        ..Default::default()
    };
    script.request(bob, Request::TrackSetting(low.clone()));
    script.request(bob, Request::TrackSetting(low.clone()));
    let commands = script.take_commands();
    let [Command::Adjust { track, demand, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((*track, demand.max_spatial, demand.enabled), (id, 0, true));
    script.request(bob, Request::TrackSetting(UpdateTrackSettings { disabled: true, ..low }));
    assert!(matches!(
        script.take_commands()[..],
        [Command::Adjust { demand: Demand { enabled: false, .. }, .. }]
    ));
}

#[test]
fn adaptive_clients_begin_with_the_smallest_picture() {
    for (adaptive_stream, wanted) in [(true, 0), (false, u8::MAX)] {
        let (script, ..) = pair(Admission { adaptive_stream, ..admission("bob") });
        let demand = script.commands.iter().find_map(|command| match command {
            Command::Subscribe { demand, .. } => Some(demand.max_spatial),
            _ => None,
        });
        assert_eq!(demand, Some(wanted));
    }
}

#[test]
fn a_screen_share_is_marked_as_one() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.active(admission("bob"));
    script.publish(
        alice,
        "3",
        AddTrackRequest { source: TrackSource::ScreenShare as i32, ..camera("share") },
    );
    assert!(script.commands.iter().any(|command| {
        matches!(command, Command::Subscribe { demand: Demand { screen_share: true, .. }, .. })
    }));
}

#[test]
fn a_publisher_is_told_once_that_somebody_gets_its_track() {
    let (mut script, alice, bob, id, info) = pair(admission("bob"));
    let peer = script.subscriber(bob);
    script.media(Event::SubscriptionBound { peer, track: id });
    script.media(Event::SubscriptionBound { peer, track: id });
    let messages = script.take(alice);
    assert!(matches!(&messages[..], [Response::TrackSubscribed(told)] if told.track_sid == info.sid));
}

#[test]
fn an_allocator_that_pauses_is_shown_and_a_codec_that_is_missing_named() {
    let (mut script, _, bob, id, info) = pair(admission("bob"));
    let peer = script.subscriber(bob);
    for paused in [true, false] {
        script.media(Event::SubscriptionPaused { peer, track: id, paused });
    }
    script.media(Event::SubscriptionUnsupported { peer, track: id });
    let messages = script.take(bob);
    let [
        Response::StreamStateUpdate(first),
        Response::StreamStateUpdate(second),
        Response::SubscriptionResponse(last),
    ] = &messages[..]
    else {
        panic!("{messages:?}")
    };
    assert_eq!(first.stream_states[0].state, StreamState::Paused as i32);
    assert_eq!(second.stream_states[0].state, StreamState::Active as i32);
    assert_eq!((&first.stream_states[0].track_sid, &last.track_sid), (&info.sid, &info.sid));
    assert_eq!(last.err, SubscriptionError::SeCodecUnsupported as i32);
}

#[test]
fn a_publishers_list_decides_who_gets_its_tracks() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let recorder = script.active(Admission { recorder: true, ..admission("recorder") });
    let (_, info) = script.publish(alice, "3", camera("cam"));
    let alice_sid = script.join_response(alice).participant.unwrap().sid;
    script.take(bob);
    script.take_commands();
    let list = |entries| SubscriptionPermission { all_participants: false, track_permissions: entries };
    script.request(alice, Request::SubscriptionPermission(list(vec![])));
    let messages = script.take(bob);
    let [Response::SubscriptionPermissionUpdate(told)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&told.participant_sid, &told.track_sid, told.allowed), (&alice_sid, &info.sid, false));
    let peer = script.subscriber(bob);
    assert!(
        matches!(script.take_commands()[..], [Command::Unsubscribe { peer: from, .. }] if from == peer),
        "recorders are exempt"
    );
    script.request(bob, subscription(&[&info.sid], true));
    assert!(script.take_commands().is_empty(), "asking does not help");

    let entry = TrackPermission {
        participant_identity: "bob".into(),
        track_sids: vec![info.sid.clone()],
        ..TrackPermission::default()
    };
    script.request(alice, Request::SubscriptionPermission(list(vec![entry])));
    let messages = script.take(bob);
    assert!(matches!(&messages[..], [Response::SubscriptionPermissionUpdate(told)] if told.allowed));
    assert!(matches!(script.take_commands()[..], [Command::Subscribe { peer: to, .. }] if to == peer));
    script.take(bob);
    script.publish(alice, "4", microphone("mic"));
    let messages = script.take(bob);
    assert_eq!(
        names(&messages),
        ["update", "subscription_permission_update"],
        "a new track is closed to bob"
    );
    let everybody = SubscriptionPermission { all_participants: true, track_permissions: vec![] };
    script.request(alice, Request::SubscriptionPermission(everybody));
    assert_eq!(names(&script.take(bob)), ["subscription_permission_update"]);
    let _ = recorder;
}
