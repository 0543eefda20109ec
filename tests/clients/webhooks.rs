//! Webhooks of a call, as the receivers of the stock server SDKs take them.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Api, Camera, Hooks, Mode, Sdk, Server, alone, artefact, eventually};
use crate::meeting::{hears, sees};

#[test]
fn pythons_receiver_takes_a_calls_events_in_order() {
    takes_a_calls_events("python", Hooks::python);
}

#[test]
fn nodes_receiver_takes_a_calls_events_in_order() {
    takes_a_calls_events("node", Hooks::node);
}

/// A server whose events go to `hooks`; its queue is new.
fn server(test: &str, hooks: &Hooks) -> Server {
    let queue = artefact(&format!("{test}.redb"));
    let _ = std::fs::remove_file(&queue);
    let queue = queue.to_str().expect("a path of ours");
    let url = hooks.url();
    Server::start_with(
        test,
        Ipv4Addr::LOCALHOST,
        &[("SLUICE_WEBHOOKS__URLS", url.as_str()), ("SLUICE_WEBHOOKS__PATH", queue)],
    )
}

fn takes_a_calls_events(sdk: &str, start: fn(&str) -> Hooks) {
    let _turn = alone();
    let hooks = start("secret");
    let server = server(&format!("webhooks-{sdk}"), &hooks);
    let api = Api::python(&server);
    let made = api.done("createRoom", &json!([{ "name": "garden", "metadata": "roses" }]));

    let people = Sdk::start();
    let ada = people.participant("ada");
    ada.join(&server, "garden", Mode::V1);
    arrives(&hooks, "participant_joined");
    ada.publish_camera(&Camera::SMALL);
    arrives(&hooks, "track_published");
    let grace = people.participant("grace");
    grace.join(&server, "garden", Mode::V0);
    eventually(Duration::from_secs(20), || sees(&grace, &ada));
    grace.publish_microphone(440.0);
    eventually(Duration::from_secs(20), || hears(&ada, &grace, 440.0));
    api.done("removeParticipant", &json!(["garden", "ada"]));
    api.done("deleteRoom", &json!(["garden"]));

    arrives(&hooks, "room_finished");
    let events = hooks.events();
    let story: Vec<String> = events.iter().map(line).collect();
    assert_eq!(
        story,
        [
            "room_started",
            "participant_joined ada",
            "track_published ada CAMERA",
            "participant_joined grace",
            "track_published grace MICROPHONE",
            "track_unpublished ada CAMERA",
            "participant_left ada",
            "track_unpublished grace MICROPHONE",
            "participant_left grace",
            "room_finished",
        ],
        "{events:#?}"
    );
    for event in &events {
        assert_eq!((&event["room"]["sid"], &event["room"]["name"]), (&made["sid"], &json!("garden")));
        assert_eq!(event["room"]["metadata"], "roses");
        assert_eq!(event["content_type"], "application/webhook+json");
        assert!(event["id"].as_str().is_some_and(|id| id.starts_with("EV_")), "{event}");
        assert!(event["created_at"].as_str().is_some_and(|at| at.parse::<u64>().is_ok()), "{event}");
    }
    let sid = |at: usize| &events[at]["participant"]["sid"];
    assert!(sid(1) == sid(2) && sid(1) == sid(6) && sid(1) != sid(3), "{events:#?}");
    assert_eq!(events[6]["participant"]["disconnect_reason"], "PARTICIPANT_REMOVED");
    let published = |at: usize| &events[at]["track"]["sid"];
    assert!(published(2) == published(5) && published(4) == published(7), "{events:#?}");
    assert_eq!(server.metric("sluice_webhook_delivered_total", &[]), 10);
    assert_eq!(server.metric("sluice_webhook_dropped_total", &[]), 0);
}

#[test]
fn receivers_with_another_secret_take_nothing() {
    let _turn = alone();
    for (sdk, start) in [("python", Hooks::python as fn(&str) -> Hooks), ("node", Hooks::node)] {
        let hooks = start("guessed");
        let server = server(&format!("webhooks-wrong-{sdk}"), &hooks);
        Api::python(&server).done("createRoom", &json!([{ "name": "garden" }]));
        eventually(Duration::from_secs(10), || match hooks.events().first() {
            Some(event) if event["error"].is_string() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        eventually(Duration::from_secs(10), || {
            match server.metric("sluice_webhook_attempts_failed_total", &["status"]) {
                0 => Err("no failure yet".to_owned()),
                _ => Ok(()),
            }
        });
    }
}

/// An event in short: kind, who, and the source of the track.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    // A receiver leaves out what is the first of its kind.
    let parts = [&event["event"], &event["participant"]["identity"], &event["track"]["source"]].map(text);
    parts.join(" ").trim_end().to_owned()
}

fn arrives(hooks: &Hooks, event: &str) {
    eventually(Duration::from_secs(20), || {
        let events = hooks.events();
        let there = events.iter().any(|one| one["event"] == event);
        if there { Ok(()) } else { Err(format!("no {event} in {events:#?}")) }
    });
}
