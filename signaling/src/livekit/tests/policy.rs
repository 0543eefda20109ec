//! Attributes that bound a downlink.

use std::time::Duration;

use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{SpeakersChanged, UpdateParticipantMetadata};
use sfu::command::{Command, DownlinkPolicy, Event, SpeakerLevel};
use sfu::units::Bitrate;

use super::script::*;

fn attributes(pairs: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn limits(commands: &[Command]) -> Vec<DownlinkPolicy> {
    let limit = |command: &Command| match command {
        Command::Limit { policy, .. } => Some(*policy),
        _ => None,
    };
    commands.iter().filter_map(limit).collect()
}

fn update(pairs: &[(&str, &str)]) -> Request {
    let attributes = attributes(pairs);
    Request::UpdateMetadata(UpdateParticipantMetadata { attributes, ..Default::default() })
}

#[test]
fn a_tokens_attributes_bound_the_subscribers_connection_from_the_join_on() {
    for mut who in [admission("alice"), v0("alice")] {
        who.attributes = attributes(&[("sluice.max_kbps", "500")]);
        let mut script = Script::new();
        let alice = script.join(who);
        let commands = script.take_commands();
        let max = Some(Bitrate::kbps(500));
        assert_eq!(limits(&commands), [DownlinkPolicy { max, ..Default::default() }]);
        let subscriber = script.subscriber(alice);
        assert!(commands.iter().any(|c| matches!(c, Command::Limit { peer, .. } if *peer == subscriber)));
    }
}

#[test]
fn attributes_take_effect_at_run_time_and_wrong_ones_are_refused_by_name() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.take_commands();
    script.request(alice, update(&[("sluice.data_saver", "on")]));
    let saver = DownlinkPolicy { data_saver: true, ..Default::default() };
    assert_eq!(limits(&script.take_commands()), [saver]);
    script.request(alice, update(&[("mood", "good")]));
    assert!(limits(&script.take_commands()).is_empty(), "told once");

    script.take(alice);
    script.request(alice, update(&[("sluice.max_kbps", "fast")]));
    assert!(limits(&script.take_commands()).is_empty());
    let answer = script.take(alice).into_iter().find_map(|message| match message {
        Response::RequestResponse(answer) => Some(answer),
        _ => None,
    });
    let answer = answer.expect("an answer");
    assert_ne!(answer.reason, Reason::Ok as i32);
    assert!(answer.message.contains("sluice.max_kbps") && answer.message.contains("fast"), "{answer:?}");

    script.request(alice, update(&[("sluice.data_saver", "")]));
    assert_eq!(limits(&script.take_commands()), [DownlinkPolicy::default()], "removed");
}

#[test]
fn in_the_background_there_is_no_talk_of_loudness_and_later_what_was_missed() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let (sound, _) = script.publish(bob, "0", microphone("mic"));
    script.request(alice, update(&[("sluice.background", "on")]));
    script.take(alice);
    let levels: sfu::command::SpeakerLevels =
        [SpeakerLevel { track: sound, level: 0.5 }].into_iter().collect();
    script.media(Event::Speakers { room: script.room.id(), levels });
    let speakers = |messages: Vec<Response>| -> Vec<SpeakersChanged> {
        let changed = |message| match message {
            Response::SpeakersChanged(changed) => Some(changed),
            _ => None,
        };
        messages.into_iter().filter_map(changed).collect()
    };
    assert!(speakers(script.take(alice)).is_empty());
    script.request(alice, update(&[("sluice.background", "off")]));
    assert_eq!(speakers(script.take(alice)).len(), 1);
}

fn names(messages: &[Response]) -> Vec<String> {
    updates(messages).into_iter().map(|info| format!("{} {}", info.identity, info.metadata)).collect()
}

fn metadata(text: &str) -> Request {
    Request::UpdateMetadata(UpdateParticipantMetadata { metadata: text.into(), ..Default::default() })
}

#[test]
fn in_the_background_news_of_others_come_in_groups_and_what_is_urgent_at_once() {
    let mut script = Script::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| script.active(admission(name)));
    script.request(alice, update(&[("sluice.background", "on")]));
    script.take(alice);
    for n in 0..10 {
        script.request(bob, metadata(&n.to_string()));
        script.request(carol, metadata(&n.to_string()));
        script.advance(Duration::from_millis(400));
    }
    assert!(names(&script.take(alice)).is_empty(), "4 s");
    assert!(names(&script.take(carol)).len() > 10, "the others know at once");
    script.advance(Duration::from_secs(1));
    let messages = script.take(alice);
    assert_eq!(names(&messages), ["bob 9", "carol 9"], "one message with the last of each");
    assert_eq!(messages.len(), 1);

    script.request(bob, metadata("news"));
    script.publish(bob, "0", microphone("mic"));
    assert_eq!(names(&script.take(alice)), ["bob news"], "a track is urgent, and brings the rest along");
    script.advance(Duration::from_secs(6));
    assert!(names(&script.take(alice)).is_empty(), "nothing twice");

    script.request(carol, metadata("bye"));
    script.request(carol, Request::Leave(livekit_protocol::LeaveRequest::default()));
    script.advance(Duration::from_secs(1));
    let told = updates(&script.take(alice));
    assert!(matches!(&told[..], [gone] if gone.identity == "carol"), "{told:?}");
    script.advance(Duration::from_secs(6));
    assert!(names(&script.take(alice)).is_empty(), "nothing of who is gone");

    script.request(bob, metadata("more"));
    script.request(alice, update(&[("sluice.background", "off")]));
    let told = names(&script.take(alice));
    assert!(told.contains(&"bob more".to_owned()), "{told:?}");
}
