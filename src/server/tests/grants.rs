//! Nobody gets what its token does not grant, over HTTP: every door, and every token that does not open it.

use axum::http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};
use signaling::livekit::api;

use super::*;

const OFFER: &str = include_str!("../../../fuzz/seeds/sdp_offer/simulcast");
const HOUR_S: i64 = 3600;

/// A way in.
struct Door {
    name: &'static str,
    method: Method,
    path: String,
    /// `Content-Type`, or `Upgrade` for WebSockets.
    kind: Kind,
    body: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Body(&'static str),
    WebSocket,
}

fn door(name: &'static str, method: Method, path: &str, body: impl Into<String>) -> Door {
    let body = body.into();
    let kind = if body.starts_with("v=0") { "application/sdp" } else { "application/json" };
    Door { name, method, path: path.to_owned(), kind: Kind::Body(kind), body }
}

fn socket(name: &'static str, path: &str) -> Door {
    Door { name, method: Method::GET, path: path.to_owned(), kind: Kind::WebSocket, body: String::new() }
}

/// All that is not open to everybody. The room is the garden, and Ada is in it.
fn doors() -> Vec<Door> {
    let mut doors = vec![
        socket("join", "/rtc?protocol=16"),
        socket("join v1", "/rtc/v1?join_request=AA"),
        door("validate", Method::GET, "/rtc/validate", ""),
        door("whip", Method::POST, "/whip", OFFER),
        door("whep", Method::POST, "/whep", viewing()),
        door("whip session", Method::DELETE, "/whip/nosuchsession", ""),
        door("report", Method::GET, "/debug/rooms/garden/participants/ada", ""),
        door("failed webhooks", Method::GET, "/webhooks/failed", ""),
        door("replay of webhooks", Method::POST, "/webhooks/failed/replay", ""),
        socket("agent", "/agent"),
    ];
    let body = json!({
        "room": "garden", "name": "garden", "identity": "ada", "destination_identity": "ada", "method": "m",
        "destination_room": "cellar", "metadata": "taken over",
    });
    doors.extend(
        api::Method::ALL
            .iter()
            .map(|method| door(method.name(), Method::POST, &method.path(), body.to_string())),
    );
    doors
}

/// A browser's offer to receive.
fn viewing() -> String {
    OFFER.replace("a=sendonly", "a=recvonly").replace("a=simulcast", "a=x").replace("a=rid", "a=x")
}

impl RunningServer {
    async fn knock(&self, door: &Door, token: &str) -> (u16, String) {
        let mut request = reqwest::Client::new().request(door.method.clone(), self.url(&door.path));
        if !token.is_empty() {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request = match door.kind {
            Kind::Body(kind) => request.header("Content-Type", kind),
            Kind::WebSocket => request
                .header("Connection", "upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Version", "13")
                .header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        };
        let response = request.body(door.body.clone()).send().await.unwrap();
        let status = response.status();
        let text = if status == StatusCode::SWITCHING_PROTOCOLS {
            String::new()
        } else {
            response.text().await.unwrap()
        };
        (status.as_u16(), text)
    }

    /// What is there that a call could have made or changed.
    async fn state(&self) -> Value {
        let grant =
            VideoGrant { room_list: true, room_admin: true, room: "garden".into(), ..VideoGrant::default() };
        let token = token_of(grant, "");
        let mut state = Vec::new();
        for (method, body) in [
            (api::Method::ListRooms, json!({})),
            (api::Method::ListParticipants, json!({"room": "garden"})),
            (api::Method::ListDispatch, json!({"room": "garden"})),
        ] {
            let door = door("state", Method::POST, &method.path(), body.to_string());
            let (status, text) = self.knock(&door, &token).await;
            assert_eq!(status, 200, "{text}");
            state.push(serde_json::from_str(&text).unwrap());
        }
        Value::Array(state)
    }
}

/// With every grant there is, signed by `key` with `secret`, good for a minute from `now_s` on.
fn signed(key: &str, secret: &str, now_s: i64) -> String {
    let video = VideoGrant {
        room_create: true,
        room_list: true,
        room_admin: true,
        room_join: true,
        room: "garden".into(),
        destination_room: "cellar".into(),
        agent: true,
        ..VideoGrant::default()
    };
    let claims = Claims { sub: "mallory".into(), video: Some(video), ..Claims::default() };
    access::mint(key, secret, claims, Duration::from_mins(1), now_s).unwrap()
}

/// The same token with another header, and so with a signature that is none.
fn with_header(header: &str, signature: bool) -> String {
    let good = signed(DEV_KEY.0, DEV_KEY.1, bridge::unix_ms() / 1000);
    let mut parts = good.split('.').skip(1);
    let (claims, signed) = (parts.next().unwrap(), parts.next().unwrap());
    format!("{header}.{claims}.{}", if signature { signed } else { "" })
}

async fn garden() -> (RunningServer, Client, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let settings = Settings::test_with_webhooks("http://127.0.0.1:9/", &folder.path().join("queue.redb"));
    let server = Server::start(settings).await.unwrap_or_else(|error| panic!("{error}"));
    let mut ada = server.join("garden", "ada").await;
    ada.until(|message| matches!(message, ToClient::Join(_))).await;
    (server, ada, folder)
}

#[tokio::test]
async fn no_door_opens_to_a_token_that_is_not_good() {
    let (server, _ada, _folder) = garden().await;
    let before = server.state().await;
    let now = bridge::unix_ms() / 1000;
    let (key, secret) = DEV_KEY;
    let tokens = [
        ("none", String::new()),
        ("garbage", "garbage".to_owned()),
        ("expired", signed(key, secret, now - HOUR_S)),
        ("not valid yet", signed(key, secret, now + HOUR_S)),
        ("another secret", signed(key, "secrets", now)),
        ("unknown key", signed("otherkey", secret, now)),
        // {"alg":"none","typ":"JWT"} and {"alg":"HS512"}, in base64url.
        ("alg none", with_header("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", false)),
        ("alg none, signed", with_header("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", true)),
        ("another algorithm", with_header("eyJhbGciOiJIUzUxMiJ9", true)),
    ];
    for door in doors() {
        for (what, token) in &tokens {
            let (status, text) = server.knock(&door, token).await;
            assert_eq!(status, 401, "{} with a token that is {what}: {text}", door.name);
            assert!(!text.is_empty(), "{} with a token that is {what}", door.name);
            if door.path.starts_with("/twirp/") {
                let body: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(body["code"], "unauthenticated", "{}: {text}", door.name);
            }
        }
    }
    assert_eq!(server.state().await, before, "and nothing has happened");
    server.stop().await;
}

#[tokio::test]
async fn no_door_opens_to_a_token_for_something_else() {
    let (server, _ada, _folder) = garden().await;
    let before = server.state().await;
    let none = VideoGrant::default;
    let join = || VideoGrant { room_join: true, room: "garden".into(), ..none() };
    let admin_of = |room: &str| VideoGrant { room_admin: true, room: room.into(), ..none() };
    let grants: [(&str, VideoGrant); 12] = [
        ("nothing", none()),
        ("a room without a right", VideoGrant { room: "garden".into(), ..none() }),
        ("join", join()),
        ("join without publishing", VideoGrant { can_publish: Some(false), ..join() }),
        ("join without subscribing", VideoGrant { can_subscribe: Some(false), ..join() }),
        ("join of no room", VideoGrant { room: String::new(), ..join() }),
        ("administration of it", admin_of("garden")),
        ("administration of another", admin_of("cellar")),
        ("administration of no room", admin_of("")),
        ("making rooms", VideoGrant { room_create: true, ..none() }),
        ("listing rooms", VideoGrant { room_list: true, ..none() }),
        ("an agent's work", VideoGrant { agent: true, ..none() }),
    ];
    // Who may, and what the others are told.
    let opens: &[(&str, &[&str], &[u16])] = &[
        ("join", &["join", "join without publishing", "join without subscribing"], &[400, 401]),
        ("validate", &["join", "join without publishing", "join without subscribing"], &[400, 401]),
        ("whip", &["join", "join without subscribing"], &[400, 401, 403]),
        ("whep", &["join", "join without publishing"], &[400, 401, 403]),
        ("report", &["administration of it"], &[403]),
        (
            "failed webhooks",
            &["administration of it", "administration of another", "administration of no room"],
            &[403],
        ),
        (
            "replay of webhooks",
            &["administration of it", "administration of another", "administration of no room"],
            &[403],
        ),
        ("agent", &["an agent's work"], &[401]),
        ("CreateRoom", &["making rooms"], &[403]),
        ("DeleteRoom", &["making rooms"], &[403]),
        ("ListRooms", &["listing rooms"], &[403]),
    ];
    for door in doors() {
        let row = opens.iter().find(|(name, ..)| *name == door.name);
        let (may, refused): (&[&str], &[u16]) = match row {
            Some((_, may, refused)) => (may, refused),
            None if door.path.contains("/ForwardParticipant") || door.path.contains("/MoveParticipant") => {
                (&[], &[403])
            }
            None if door.path.starts_with("/twirp/") => (&["administration of it"], &[403]),
            // What they ask for is not there, or cannot be read.
            None => continue,
        };
        for (what, grant) in &grants {
            if may.contains(what) {
                continue;
            }
            let (status, text) = server.knock(&door, &token_of(grant.clone(), "mallory")).await;
            assert!(refused.contains(&status), "{} with {what}: {status} {text}", door.name);
            assert!(!text.is_empty(), "{} with {what}", door.name);
            if door.path.starts_with("/twirp/") {
                let body: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(body["code"], "permission_denied", "{} with {what}: {text}", door.name);
            }
        }
    }
    assert_eq!(server.state().await, before, "and nothing has happened");
    // Those who may can. What ends or changes what is there comes last.
    let mut doors = doors();
    doors.sort_by_key(|door| match door.name {
        "RemoveParticipant" => 1,
        "DeleteRoom" => 2,
        _ => 0,
    });
    for door in &doors {
        let Some((name, may, _)) = opens.iter().find(|(name, ..)| *name == door.name) else { continue };
        for what in *may {
            let (_, grant) = grants.iter().find(|(grant, _)| grant == what).unwrap();
            let (status, text) = server.knock(door, &token_of(grant.clone(), "mallory")).await;
            let good = matches!(status, 101 | 200 | 201 | 404 | 503) || (*name == "whip" && status == 400);
            assert!(good, "{name} with {what}: {status} {text}");
        }
    }
    server.stop().await;
}
