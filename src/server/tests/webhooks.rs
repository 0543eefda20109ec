//! Webhooks of a whole server: what arrives, what is listed when it does not, and who may see that.

use std::collections::VecDeque;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A receiver: gives these answers, then 200 to all.
struct Receiver {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answers: VecDeque<u16>,
    events: Vec<Value>,
}

impl Receiver {
    async fn start(answers: impl IntoIterator<Item = u16>) -> Receiver {
        let state =
            Arc::new(Mutex::new(State { answers: answers.into_iter().collect(), ..State::default() }));
        let shared = Arc::clone(&state);
        let take = move |_: HeaderMap, body: String| {
            let mut state = shared.lock().unwrap();
            let status = state.answers.pop_front().unwrap_or(200);
            if status == 200 {
                state.events.push(serde_json::from_str(&body).unwrap());
            }
            std::future::ready(StatusCode::from_u16(status).unwrap())
        };
        let router = axum::Router::new().fallback(take);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks", listener.local_addr().unwrap());
        let (never, closing) = watch::channel(false);
        tokio::spawn(async move {
            let (places, metrics) =
                (HttpPlaces::new(Settings::test().http.limits), Metrics::new(Vec::new()).unwrap());
            serve::serve(listener, None, router, places, metrics, closing).await;
            drop(never);
        });
        Receiver { url, state }
    }

    fn story(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let line = |event: &Value| {
            let who = event["participant"]["identity"].as_str().unwrap_or_default();
            format!("{} {who}", event["event"].as_str().unwrap()).trim_end().to_owned()
        };
        state.events.iter().map(line).collect()
    }

    async fn until(&self, story: &[&str]) {
        for _ in 0..1000 {
            if self.story() == story {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} and not {story:?}", self.story());
    }
}

fn settings(url: &str, folder: &FilePath) -> Settings {
    let mut settings = Settings::test_with_webhooks(url, &folder.join("queue.redb"));
    let webhooks = settings.webhooks.as_mut().unwrap();
    webhooks.patience.first = Duration::from_millis(20);
    webhooks.patience.longest = Duration::from_millis(100);
    settings
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn admin(room: &str) -> String {
    token_of(VideoGrant { room_admin: true, room: room.to_owned(), ..VideoGrant::default() }, "")
}

impl RunningServer {
    async fn room_is_made_and_deleted(&self, name: &str) {
        let grants = VideoGrant { room_create: true, ..VideoGrant::default() };
        for (method, body) in
            [("CreateRoom", json!({ "name": name })), ("DeleteRoom", json!({ "room": name }))]
        {
            let request =
                reqwest::Client::new().post(self.url(&format!("/twirp/livekit.RoomService/{method}")));
            let request = request.header("authorization", format!("Bearer {}", token_of(grants.clone(), "")));
            let request = request.header("content-type", "application/json").body(body.to_string());
            assert_eq!(request.send().await.unwrap().status(), 200, "{method}");
        }
    }

    /// Status and body of a request with this token.
    async fn with_token(&self, method: reqwest::Method, path: &str, token: &str, body: &str) -> (u16, Value) {
        let request = reqwest::Client::new().request(method, self.url(path)).body(body.to_owned());
        let request = request.header("authorization", format!("Bearer {token}"));
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn failed(&self, token: &str, query: &str) -> (u16, Value) {
        self.with_token(reqwest::Method::GET, &format!("/webhooks/failed{query}"), token, "").await
    }

    async fn replay(&self, token: &str, body: &str) -> (u16, Value) {
        self.with_token(reqwest::Method::POST, "/webhooks/failed/replay", token, body).await
    }
}

#[tokio::test]
async fn events_survive_a_receiver_that_fails_and_a_server_that_restarts() {
    let (folder, receiver) = (folder(), Receiver::start([500, 503, 404, 302, 500]).await);
    let server = start(settings(&receiver.url, folder.path())).await;
    server.room_is_made_and_deleted("garden").await;
    // Between rooms there is no order.
    receiver.until(&["room_started", "room_finished"]).await;
    let client = server.join("cellar", "ada").await;
    receiver.until(&["room_started", "room_finished", "room_started"]).await;
    drop(client);
    server.stop().await;
    // Whoever was in the room when the server stopped is told of, now or at the next start.
    let server = start(settings(&receiver.url, folder.path())).await;
    let all = [
        "room_started",
        "room_finished",
        "room_started",
        "participant_connection_aborted ada",
        "room_finished",
    ];
    receiver.until(&all).await;
    server.until_metric("sluice_webhook_queued 0").await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_given_up_is_listed_for_administrators_and_can_be_tried_again() {
    let (folder, receiver) = (folder(), Receiver::start([500; 12]).await);
    let mut settings = settings(&receiver.url, folder.path());
    settings.webhooks.as_mut().unwrap().patience.max_attempts = Some(3);
    let server = start(settings).await;
    server.room_is_made_and_deleted("garden").await;
    server.until_metric("sluice_webhook_given_up_total 2").await;
    server.room_is_made_and_deleted("cellar").await;
    server.until_metric("sluice_webhook_failed 4").await;

    let (status, page) = server.failed(&admin(""), "").await;
    assert_eq!(status, 200, "{page}");
    let events = page["events"].as_array().unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event["event"].as_str().unwrap(), event["room"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("room_started", "garden"),
            ("room_finished", "garden"),
            ("room_started", "cellar"),
            ("room_finished", "cellar")
        ]
    );
    assert_eq!(
        (&events[0]["attempts"], &events[0]["reason"]),
        (&json!(3), &json!("answered with status 500"))
    );
    assert_eq!(events[0]["payload"]["id"], events[0]["id"]);
    assert_eq!(page["next"], Value::Null);
    let (_, first) = server.failed(&admin(""), "?limit=3").await;
    let next = first["next"].as_u64().unwrap();
    let (_, rest) = server.failed(&admin(""), &format!("?limit=3&after={next}")).await;
    assert_eq!((first["events"].as_array().unwrap().len(), &rest["events"][0]), (3, &events[3]));

    let (_, garden) = server.failed(&admin("garden"), "").await;
    assert_eq!(
        garden["events"].as_array().unwrap()[..],
        events[..2],
        "an administrator of one room sees that room"
    );
    let join = token("garden", "ada");
    assert_eq!(server.failed(&join, "").await.0, 403);
    assert_eq!(server.replay(&join, "").await.0, 403);
    assert_eq!(server.failed("nonsense", "").await.0, 401);
    assert_eq!(server.replay("", "").await.0, 401);
    let (status, why) = server.replay(&admin(""), "{\"id\": 1}").await;
    assert!(status == 400 && why.as_str().unwrap().contains("\"ids\""), "{why}");

    let ids = json!({ "ids": [events[2]["id"], events[1]["id"]] }).to_string();
    assert_eq!(
        server.replay(&admin("garden"), &ids).await,
        (200, json!({ "replayed": 1 })),
        "the other is not its"
    );
    receiver.until(&["room_finished"]).await;
    assert_eq!(server.replay(&admin(""), "").await, (200, json!({ "replayed": 3 })));
    assert_eq!(server.failed(&admin(""), "").await.1["events"], json!([]));
    server.until_metric("sluice_webhook_delivered_total 4").await;
    let sent: Vec<Value> =
        receiver.state.lock().unwrap().events.iter().map(|event| event["id"].clone()).collect();
    let listed: Vec<Value> = events.iter().map(|event| event["id"].clone()).collect();
    assert!(listed.iter().all(|id| sent.contains(id)), "with the ids that they always had");
    assert_eq!(server.replay(&admin(""), "").await.1, json!({ "replayed": 0 }));
    server.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_no_longer_configured_keeps_its_events_in_the_list() {
    let (folder, old, new) = (folder(), Receiver::start([500; 1000]).await, Receiver::start([]).await);
    let server = start(settings(&old.url, folder.path())).await;
    server.room_is_made_and_deleted("garden").await;
    server.stop().await;
    let server = start(settings(&new.url, folder.path())).await;
    let (_, page) = server.failed(&admin("garden"), "").await;
    assert_eq!(page["events"].as_array().unwrap().len(), 2);
    assert!(page["events"][0]["reason"].as_str().unwrap().contains("webhooks.urls"), "{page}");
    assert_eq!(
        server.replay(&admin("garden"), "").await.1,
        json!({ "replayed": 0 }),
        "there is nowhere to go"
    );
    server.room_is_made_and_deleted("cellar").await;
    new.until(&["room_started", "room_finished"]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_slows_no_room() {
    let (folder, silent) = (folder(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let server = start(settings(&url, folder.path())).await;
    for number in 0..50 {
        server.room_is_made_and_deleted(&format!("room-{number}")).await;
    }
    let mut client = server.join("garden", "ada").await;
    client.until(|message| matches!(message, ToClient::Join(_))).await;
    server.until_metric("sluice_webhook_events_total 101").await;
    server.until_metric("sluice_webhook_queued 101").await;
    server.until_metric("sluice_webhook_dropped_total{reason=\"hand_over\"} 0").await;
    server.stop().await;
}

#[tokio::test]
async fn a_queue_that_another_server_has_stops_the_start_and_without_webhooks_there_is_no_list() {
    let (folder, receiver) = (folder(), Receiver::start([]).await);
    let settings = settings(&receiver.url, folder.path());
    let server = start(settings.clone()).await;
    let error =
        Server::start_with(settings, |_, _| Silent::default()).await.err().expect("refused").to_string();
    assert!(error.starts_with("webhooks.path: ") && error.contains("queue.redb"), "{error}");
    server.stop().await;
    let server = start(Settings::test()).await;
    let (status, why) = server.failed(&admin(""), "").await;
    assert!(status == 404 && why.as_str().unwrap().contains("webhooks.urls"), "{why}");
    server.stop().await;
}
