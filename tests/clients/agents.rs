//! Agents: the stock framework registers, is sent into rooms, hears and answers.

use std::time::Duration;

use serde_json::json;

use crate::harness::{AgentWorker, Api, Kind, Mode, Participant, Sdk, Server, alone, eventually};

/// The framework starts a process for its workers and one for each job, and imports much.
const START: Duration = Duration::from_secs(40);
const SOON: Duration = Duration::from_secs(10);

/// The agent that somebody sees.
fn agent_seen_by(who: &Participant<'_>) -> Result<String, String> {
    let others = who.others();
    others.iter().find(|name| name.starts_with("echo-")).cloned().ok_or_else(|| format!("others: {others:?}"))
}

fn gone(who: &Participant<'_>, name: &str) -> Result<(), String> {
    let others = who.others();
    if others.iter().any(|other| other == name) { Err(format!("others: {others:?}")) } else { Ok(()) }
}

fn says_back(who: &Participant<'_>, agent: &str, hertz: f64) -> Result<(), String> {
    let all = who.received();
    let heard = all.iter().any(|track| {
        track.from == agent
            && track.kind == Kind::Audio
            && (track.seen.hertz - hertz).abs() <= 6.0
            && track.seen.rms > 0.05
    });
    if heard { Ok(()) } else { Err(format!("no {hertz} Hz of {agent}: {all:?}")) }
}

#[test]
fn a_stock_agent_is_sent_into_every_room_hears_and_answers() {
    let _turn = alone();
    let server = Server::start("agents");
    let _worker = AgentWorker::start(&server, "");
    let people = Sdk::start();
    let ada = people.participant("ada");
    ada.join(&server, "lounge", Mode::V1);
    let agent = eventually(START, || agent_seen_by(&ada));

    ada.publish_microphone(440.0);
    eventually(SOON, || says_back(&ada, &agent, 440.0));
    let sent = ada.send(1000, true, "question").expect("sent");
    eventually(SOON, || {
        let messages = ada.messages();
        let answered = messages.iter().any(|message| {
            message.from.as_deref() == Some(&agent)
                && message.topic.as_deref() == Some("echo")
                && message.fingerprint == sent
        });
        if answered { Ok(()) } else { Err(format!("{messages:?}")) }
    });
    assert_eq!(ada.events(), [""; 0], "the connection was in trouble");

    // With the last person the room ends, and the agent's job with it.
    ada.leave();
    eventually(SOON, || match server.metric("sluice_agent_jobs", &[]) {
        0 => Ok(()),
        jobs => Err(format!("{jobs} jobs")),
    });
    assert_eq!(server.metric("sluice_rooms", &[]), 0);
    assert_eq!(server.metric("sluice_agent_jobs_total", &["succeeded"]), 1);
    assert_eq!(server.metric("sluice_agent_workers", &[]), 1, "it waits for the next");
}

#[test]
fn an_agent_is_sent_for_by_name_before_it_is_there_and_taken_back() {
    let _turn = alone();
    let server = Server::start("agents-by-name");
    let (python, node) = (Api::python(&server), Api::node(&server));
    let people = Sdk::start();
    let ada = people.participant("ada");
    ada.join(&server, "lounge", Mode::V0);
    let made = python.done("createDispatch", &json!(["lounge", "helper", "be kind"]));
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!((&made["agent_name"], &made["room"]), (&json!("helper"), &json!("lounge")));

    let _worker = AgentWorker::start(&server, "helper");
    let agent = eventually(START, || agent_seen_by(&ada));
    ada.publish_microphone(660.0);
    eventually(SOON, || says_back(&ada, &agent, 660.0));

    let listed = python.done("listDispatch", &json!(["lounge"]));
    let dispatch = listed.as_array().and_then(|list| list.iter().find(|one| one["id"] == made["id"]));
    let job = &dispatch.expect("it is listed")["state"]["jobs"][0];
    assert_eq!((&job["state"]["status"], &job["metadata"]), (&json!("JS_RUNNING"), &json!("be kind")));
    assert_eq!(job["state"]["participant_identity"], json!(agent));
    let info = python.done("getParticipant", &json!(["lounge", agent]));
    assert_eq!((&info["kind"], &info["name"]), (&json!("AGENT"), &json!("Echo")));
    let attributes = &info["attributes"];
    assert_eq!((&attributes["lk.agent_name"], &attributes["job"]), (&json!("helper"), &json!("be kind")));

    node.done("deleteDispatch", &json!([id, "lounge"]));
    eventually(SOON, || gone(&ada, &agent));
    let left = node.done("listDispatch", &json!(["lounge"]));
    assert!(left.as_array().is_some_and(|list| list.iter().all(|one| one["id"] != made["id"])), "{left}");
    let again = node.call("deleteDispatch", &json!([id, "lounge"]));
    assert!(again.as_ref().is_err_and(|error| error.contains("not_found")), "{again:?}");
}
