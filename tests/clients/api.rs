//! The server API by way of the stock server SDKs, with people in the room: every effect is seen by a client.

use std::time::Duration;

use livekit_protocol::DisconnectReason;
use serde_json::{Value, json};

use crate::harness::{
    Api, Browser, Camera, Kind, Mode, Participant, Sdk, Server, alone, eventually, observe,
};
use crate::meeting::{hears, sees};

/// Time for news to reach a client.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn python_administers_a_room() {
    administers("python", Api::python, OnWeb::Grace);
}

#[test]
fn node_administers_a_room() {
    administers("node", Api::node, OnWeb::Ada);
}

/// Who is in a browser; the other one is on the Python SDK.
#[derive(Clone, Copy)]
enum OnWeb {
    Ada,
    Grace,
}

fn administers(sdk: &str, start: fn(&Server) -> Api, web: OnWeb) {
    let _turn = alone();
    let server = Server::start(&format!("api-{sdk}"));
    let api = start(&server);
    let made = room_is_made(&api);

    let (python, browser) = (Sdk::start(), Browser::start());
    let (ada, grace) = match web {
        OnWeb::Ada => (browser.participant("ada"), python.participant("grace")),
        OnWeb::Grace => (python.participant("ada"), browser.participant("grace")),
    };
    for (person, mode) in [(&ada, Mode::V1), (&grace, Mode::V0)] {
        person.join(&server, "garden", mode);
    }
    ada.publish_camera(&Camera::SMALL);
    ada.publish_microphone(440.0);
    eventually(Duration::from_secs(20), || sees(&grace, &ada));
    eventually(Duration::from_secs(20), || hears(&grace, &ada, 440.0));

    let listed = api.done("listRooms", &json!([["garden", "nowhere"]]));
    assert_eq!((&listed[0]["sid"], listed.as_array().map(Vec::len)), (&made["sid"], Some(1)));
    let everybody = api.done("listParticipants", &json!(["garden"]));
    let identities: Vec<&Value> = everybody.as_array().unwrap().iter().map(|one| &one["identity"]).collect();
    assert_eq!(identities, ["ada", "grace"]);

    words_reach_clients(&api, &ada, &grace);
    microphone_is_muted(&api, &ada, &grace);
    messages_arrive_once(&api, &ada, &grace);
    methods_are_called(&api, &grace);
    subscriptions_change(&api, &ada, &grace);
    permissions_act_at_once(&api, &ada, &grace);
    errors_are_told(&api);

    for person in [&ada, &grace] {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
    api.done("removeParticipant", &json!(["garden", "ada"]));
    eventually(SOON, || ended(&ada, DisconnectReason::ParticipantRemoved));
    eventually(SOON, || if grace.departures() == ["ada"] { Ok(()) } else { Err("still there".to_owned()) });
    api.done("deleteRoom", &json!(["garden"]));
    eventually(SOON, || ended(&grace, DisconnectReason::RoomDeleted));
    assert_eq!(api.done("listRooms", &json!([[]])), json!([]));
    assert_eq!(api.done("listParticipants", &json!(["garden"])), json!([]));
}

#[test]
fn a_wrong_secret_opens_nothing() {
    let _turn = alone();
    let server = Server::start("api-wrong-secret");
    let api = Api::with_secret(&server, "guessed");
    let refused = api.call("listRooms", &json!([[]]));
    assert!(refused.as_ref().is_err_and(|error| error.starts_with("unauthenticated: ")), "{refused:?}");
}

fn room_is_made(api: &Api) -> Value {
    let options =
        json!({ "name": "garden", "empty_timeout": 60, "max_participants": 2, "metadata": "roses" });
    let made = api.done("createRoom", &json!([options]));
    assert_eq!((&made["metadata"], &made["max_participants"]), (&json!("roses"), &json!(2)));
    let again = api.done("createRoom", &json!([{ "name": "garden" }]));
    assert_eq!((&again["sid"], &again["metadata"]), (&made["sid"], &json!("roses")));
    made
}

/// What is said of somebody and of the room.
fn words_reach_clients(api: &Api, ada: &Participant<'_>, grace: &Participant<'_>) {
    let told = api.done("updateRoomMetadata", &json!(["garden", "tulips"]));
    assert_eq!(told["metadata"], "tulips");
    let options = json!({ "name": "Ada L.", "metadata": "chair", "attributes": { "handRaised": "yes" } });
    let changed = api.done("updateParticipant", &json!(["garden", "ada", options]));
    assert_eq!((&changed["name"], &changed["attributes"]["handRaised"]), (&json!("Ada L."), &json!("yes")));
    for person in [ada, grace] {
        eventually(SOON, || {
            let seen = &person.people()["ada"];
            let right = seen["name"] == "Ada L."
                && seen["metadata"] == "chair"
                && seen["attributes"]["handRaised"] == "yes"
                && person.room_metadata() == "tulips";
            if right { Ok(()) } else { Err(format!("{}: {seen}", person.name())) }
        });
    }
}

fn microphone_is_muted(api: &Api, ada: &Participant<'_>, grace: &Participant<'_>) {
    let known = api.done("getParticipant", &json!(["garden", "ada"]));
    let tracks = known["tracks"].as_array().expect("tracks");
    let microphone = tracks.iter().find(|track| track["source"] == "MICROPHONE").expect("a microphone");
    let muted = api.done("mutePublishedTrack", &json!(["garden", "ada", microphone["sid"], true]));
    assert_eq!((&muted["sid"], &muted["muted"]), (&microphone["sid"], &json!(true)));
    for person in [ada, grace] {
        eventually(SOON, || {
            let seen = person.people();
            let muted = seen["ada"]["muted"] == json!(["SOURCE_MICROPHONE"]);
            if muted { Ok(()) } else { Err(format!("{}: {seen}", person.name())) }
        });
    }
    let refused = api.call("mutePublishedTrack", &json!(["garden", "ada", microphone["sid"], false]));
    let text = refused.expect_err("nobody is unmuted from outside");
    assert!(text.starts_with("failed_precondition: remote unmute not enabled"), "{text}");
}

fn messages_arrive_once(api: &Api, ada: &Participant<'_>, grace: &Participant<'_>) {
    for (reliable, to, topic) in [(true, json!([]), "to-all"), (true, json!(["grace"]), "to-grace")] {
        api.done("sendData", &json!(["garden", "hello", reliable, to, topic]));
    }
    let count = |person: &Participant<'_>, topic: &str| {
        let of_topic = |message: &&crate::harness::Message| message.topic.as_deref() == Some(topic);
        let messages = person.messages();
        messages
            .iter()
            .filter(of_topic)
            .inspect(|message| assert_eq!((message.bytes, &message.from), (5, &None)))
            .count()
    };
    eventually(SOON, || match (count(grace, "to-all"), count(grace, "to-grace"), count(ada, "to-all")) {
        (1, 1, 1) => Ok(()),
        counts => Err(format!("{counts:?}")),
    });
    assert_eq!(count(ada, "to-grace"), 0);
}

fn methods_are_called(api: &Api, grace: &Participant<'_>) {
    let call = |method: &str, payload: &str| {
        api.call("performRpc", &json!(["garden", "grace", method, payload, 5000]))
    };
    grace.register_greeting("greet");
    assert_eq!(call("greet", "ada"), Ok(json!("hello ada")));
    let refused = call("greet", "nobody").expect_err("the method refuses");
    assert_eq!(refused, "internal: RpcError 7: there is nobody: look again");
    let unknown = call("levitate", "").expect_err("not registered");
    assert!(unknown.starts_with("invalid_argument: RpcError 1400"), "{unknown}");
}

fn subscriptions_change(api: &Api, ada: &Participant<'_>, grace: &Participant<'_>) {
    let known = api.done("getParticipant", &json!(["garden", "ada"]));
    let tracks = known["tracks"].as_array().expect("tracks");
    let camera = tracks.iter().find(|track| track["source"] == "CAMERA").expect("a camera");
    api.done("updateSubscriptions", &json!(["garden", "grace", [camera["sid"]], false]));
    eventually(SOON, || no_picture(grace, ada));
    api.done("updateSubscriptions", &json!(["garden", "grace", [camera["sid"]], true]));
    eventually(Duration::from_secs(10), || sees(grace, ada));
}

fn permissions_act_at_once(api: &Api, ada: &Participant<'_>, grace: &Participant<'_>) {
    let permit = |who: &str, subscribe: bool, publish: bool| {
        let permission =
            json!({ "can_subscribe": subscribe, "can_publish": publish, "can_publish_data": true });
        api.done("updateParticipant", &json!(["garden", who, { "permission": permission }]))
    };
    let changed = permit("grace", false, true);
    assert_ne!(changed["permission"]["can_subscribe"], json!(true));
    eventually(SOON, || no_picture(grace, ada));
    permit("grace", true, true);
    eventually(Duration::from_secs(10), || sees(grace, ada));

    let changed = permit("ada", true, false);
    assert_eq!(changed.get("tracks").and_then(Value::as_array).map_or(0, Vec::len), 0);
    eventually(SOON, || match grace.track(ada, Kind::Video) {
        Err(_) => Ok(()),
        Ok(track) => Err(format!("{track:?}")),
    });
    permit("ada", true, true);
    ada.publish_camera(&Camera::SMALL);
    eventually(Duration::from_secs(10), || sees(grace, ada));
}

fn errors_are_told(api: &Api) {
    for (function, arguments, error) in [
        ("getParticipant", json!(["garden", "nobody"]), "not_found: participant does not exist"),
        ("getParticipant", json!(["nowhere", "ada"]), "not_found: participant does not exist"),
        ("deleteRoom", json!(["nowhere"]), "not_found: requested room does not exist"),
        ("updateRoomMetadata", json!(["nowhere", ""]), "not_found: requested room does not exist"),
        ("createRoom", json!([{ "name": "" }]), "invalid_argument: room name cannot be empty"),
        ("updateRoomMetadata", json!(["garden", "x".repeat(600_000)]), "invalid_argument: metadata exceeds"),
        ("moveParticipant", json!(["garden", "ada", "cellar"]), "unimplemented: participants cannot be"),
        ("listEgress", json!([]), "unimplemented: Egress is not part of this server"),
    ] {
        let got = api.call(function, &arguments).expect_err(function);
        assert!(got.starts_with(error), "{function}: {got}");
    }
}

/// No picture comes any more. The SDK keeps a track that the server has unsubscribed.
fn no_picture(viewer: &Participant<'_>, of: &Participant<'_>) -> Result<(), String> {
    viewer.restart();
    observe(Duration::from_millis(500));
    match viewer.track(of, Kind::Video) {
        Ok(track) if track.seen.frames > 0 => Err(format!("{track:?}")),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn ended(who: &Participant<'_>, reason: DisconnectReason) -> Result<(), String> {
    let events = who.events();
    let wanted = format!("disconnected: {}", reason as i32);
    if events.last() == Some(&wanted) { Ok(()) } else { Err(format!("{events:?}")) }
}
