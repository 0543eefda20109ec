//! The whole server on loopback, with a media core that says nothing.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as ToClient;
use livekit_protocol::{DisconnectReason, LeaveRequest, Ping, SignalRequest, SignalResponse};
use prost::Message as _;
use sfu::command::{Command, Event, Path};
use sfu::congestion::restraint::Restraint;
use sfu::stats::Stats;
use sfu::ticks::Ticks;
use signaling::access::{self, Claims, VideoGrant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::*;
use crate::media::kernel::Outgoing;

mod api;
mod arbitrary;
mod grants;
mod overload;
mod webhooks;
mod whip;

/// Takes everything and says nothing; `panics` at the first command, as a bug would.
#[derive(Default)]
struct Silent {
    stats: Stats,
    panics: bool,
}

impl MediaCore for Silent {
    fn handle_datagram(&mut self, _: Instant, _: Path, _: &mut [u8]) {}
    fn handle_command(&mut self, _: Instant, _: Command) {
        assert!(!self.panics, "as a bug would");
    }
    fn settle(&mut self, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn ticks(&self) -> Ticks {
        Ticks::since(Instant::now()) // nothing ever leaves
    }
    fn next_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_event(&mut self) -> Option<Event> {
        None
    }
    fn knows(&self, _: Path) -> bool {
        false
    }
    fn handle_backlog(&mut self, _: Path, _: bool) {}
    fn restrain(&mut self, _: Instant, _: Restraint) {}
    fn egress(&self) -> impl Iterator<Item = Outgoing<'_>> {
        std::iter::empty()
    }
    fn clear_egress(&mut self) {}
    fn stats(&self) -> &Stats {
        &self.stats
    }
}

async fn start(settings: Settings) -> RunningServer {
    Server::start_with(settings, |_, _| Silent::default()).await.unwrap_or_else(|error| panic!("{error}"))
}

impl RunningServer {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http_addr)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(self.url(path)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// What the server answers to these bytes.
    async fn raw(&self, request: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = TcpStream::connect(self.http_addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let length = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    async fn try_connect(&self, path: &str) -> Result<Client, (u16, String)> {
        let url = format!("ws://{}{path}", self.http_addr);
        match tokio_tungstenite::connect_async(url).await {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn join(&self, room: &str, identity: &str) -> Client {
        let token = token(room, identity);
        self.try_connect(&format!("/rtc?access_token={token}&protocol=16")).await.unwrap()
    }

    /// Waits until a metric has this value; it is written by tasks that the test does not see.
    async fn until_metric(&self, line: &str) {
        for _ in 0..500 {
            if String::from_utf8(self.metrics.render()).unwrap().lines().any(|have| have == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{line} not in\n{}", String::from_utf8(self.metrics.render()).unwrap());
    }
}

fn token_of(grant: VideoGrant, identity: &str) -> String {
    let claims = Claims { sub: identity.to_owned(), video: Some(grant), ..Claims::default() };
    let now = bridge::unix_ms() / 1000;
    access::mint(DEV_KEY.0, DEV_KEY.1, claims, Duration::from_mins(1), now).unwrap()
}

fn token(room: &str, identity: &str) -> String {
    token_of(VideoGrant { room_join: true, room: room.to_owned(), ..VideoGrant::default() }, identity)
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    async fn frame(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), self.socket.next());
            match next.await.expect("the server says something or closes") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(message)) => return Some(message),
            }
        }
    }

    /// The next message; `None` when the server has closed.
    async fn next(&mut self) -> Option<ToClient> {
        let frame = self.frame().await?;
        SignalResponse::decode(frame.into_data()).expect("a protobuf").message
    }

    async fn until(&mut self, wanted: impl Fn(&ToClient) -> bool) -> ToClient {
        loop {
            let message = self.next().await.expect("the message comes before the close");
            if wanted(&message) {
                return message;
            }
        }
    }

    async fn send(&mut self, message: ToServer) {
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        self.socket.send(Message::Binary(bytes.into())).await.unwrap();
    }

    async fn leave(mut self) {
        let leave = LeaveRequest {
            can_reconnect: false,
            reason: DisconnectReason::ClientInitiated as i32,
            action: Action::Disconnect as i32,
            regions: None,
        };
        self.send(ToServer::Leave(leave)).await;
        while self.next().await.is_some() {}
    }
}

#[tokio::test]
async fn paths_without_a_token() {
    let server = start(Settings::test()).await;
    assert_eq!(server.get("/").await, (200, "OK".into()));
    assert_eq!(server.get("/livez").await, (200, "OK".into()));
    assert_eq!(server.get("/readyz").await, (200, "OK".into()));
    assert_eq!(server.get("/nothing/here").await.0, 404);
    let (status, text) = server.get("/metrics").await;
    assert!(status == 200 && text.contains("sluice_build_info{"), "{text}");

    let client = reqwest::Client::new();
    let head = client.head(server.url("/")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let page = client.get(server.url("/")).header("Accept", "text/html,*/*;q=0.8").send().await.unwrap();
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert!(page.text().await.unwrap().contains("Sluice"), "the page, or how to build it");
    server.stop().await;
}

#[tokio::test]
async fn validate_says_why_and_browsers_may_read_it() {
    let server = start(Settings::test()).await;
    let good = token("r", "i");
    let no_join = token_of(VideoGrant { room: "r".into(), ..VideoGrant::default() }, "i");
    for (path, status, part) in [
        ("/rtc/validate".to_owned(), 401, "no access token"),
        ("/rtc/v1/validate?access_token=garbage".to_owned(), 401, "malformed"),
        (format!("/rtc/validate?access_token={no_join}"), 401, "roomJoin"),
        (format!("/rtc/v1/validate?access_token={good}"), 400, "join_request is required"),
        (format!("/rtc/v1/validate?access_token={good}&join_request=%21"), 400, "join_request"),
        (format!("/rtc/validate?access_token={good}"), 200, "success"),
        (format!("//rtc/validate?access_token={good}"), 200, "success"),
    ] {
        let response = reqwest::Client::new().get(server.url(&path)).header("Origin", "https://app.example");
        let response = response.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
        let body = response.text().await.unwrap();
        assert!(body.contains(part), "{path}: {body}");
    }
    let bearer = reqwest::Client::new().get(server.url("/rtc/validate"));
    let bearer = bearer.header("Authorization", format!("Bearer {good}")).send().await.unwrap();
    assert_eq!(bearer.status(), 200);

    let preflight = reqwest::Client::new()
        .request(reqwest::Method::OPTIONS, server.url("/rtc/validate"))
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), 200);
    assert_eq!(preflight.headers()["access-control-max-age"], "86400");
    assert_eq!(preflight.headers()["access-control-allow-headers"], "authorization");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_websocket_is_not_found_and_says_nothing_of_rooms() {
    let server = start(Settings::test()).await;
    for path in ["/rtc", "/rtc/v1"] {
        let (status, body) = server.get(path).await;
        assert_eq!(status, 404);
        assert!(!body.contains("requested room"), "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn long_requests_are_read_and_longer_ones_refused_by_name() {
    let server = start(Settings::test()).await;
    let token = token("r", "i");
    let path = |length: usize| {
        let path = format!("/rtc/v1/validate?access_token={token}&join_request=");
        let rest = length - path.len();
        format!("{path}{}", "A".repeat(rest))
    };
    let (status, body) = server.get(&path(65_000)).await;
    assert_eq!(status, 400);
    assert!(body.contains("join_request"), "it was read to the end: {body}");
    // By hand: the client refuses to send these itself.
    let long_path = format!("GET {} HTTP/1.1\r\nHost: h\r\n\r\n", path(70_000));
    assert!(server.raw(&long_path).await.starts_with("HTTP/1.1 414 "));
    let long_head = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Large: {}", "x".repeat(512 << 10));
    assert!(server.raw(&long_head).await.starts_with("HTTP/1.1 431 "));
    assert_eq!(server.get("/livez").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn tokens_for_the_asking_exist_in_development_only() {
    let server = start(Settings::test()).await;
    let (status, body) = server.get("/dev/token?room=r&identity=i&name=N").await;
    assert_eq!(status, 200);
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["url"], format!("ws://{}", server.http_addr));
    let path = format!("/rtc/validate?access_token={}", answer["token"].as_str().unwrap());
    assert_eq!(server.get(&path).await, (200, "success".into()));
    let (status, body) = server.get("/dev/token?room=r").await;
    assert!(status == 400 && body.contains("identity"), "{body}");
    server.stop().await;

    let mut settings = Settings::test();
    settings.dev = false;
    let server = start(settings).await;
    assert_eq!(server.get("/dev/token?room=r&identity=i").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn who_may_read_why_a_participant_gets_what_it_gets() {
    let core = |seed, now| bridge::media_core(seed, now);
    let server = Server::start_with(Settings::test(), core).await.unwrap_or_else(|error| panic!("{error}"));
    let path = "/debug/rooms/my%20room/participants/a%2Fb";
    let of = |room: &str| VideoGrant { room: room.into(), ..VideoGrant::default() };
    let admin = token_of(VideoGrant { room_admin: true, ..of("my room") }, "operator");
    let own = token("my room", "a/b");
    let ask = async |path: &str, token: &str| {
        let request =
            reqwest::Client::new().get(server.url(path)).header("Authorization", format!("Bearer {token}"));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, body) = ask(path, &admin).await;
    assert!(status == 404 && body.contains("no participant"), "no such room: {body}");

    for version in ["/rtc?", "/rtc/v1?join_request=EgA&"] {
        let Ok(mut client) = server.try_connect(&format!("{version}access_token={own}&protocol=16")).await
        else {
            panic!("not let in: {version}");
        };
        assert!(matches!(client.next().await, Some(ToClient::Join(_))));
        for token in [&admin, &own] {
            let (status, body) = ask(path, token).await;
            assert_eq!(status, 200, "{body}");
            let report: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (report["room"].as_str(), report["identity"].as_str()),
                (Some("my room"), Some("a/b"))
            );
            assert_eq!(report["connected"], false, "signalling alone");
            assert!(report["estimate"]["target_bps"].as_u64() > Some(0), "{report}");
        }
        client.leave().await;
    }
    let mut client = server.try_connect(&format!("/rtc?access_token={own}&protocol=16")).await.ok().unwrap();
    assert!(matches!(client.next().await, Some(ToClient::Join(_))));
    let (status, _) = server.get(&format!("{path}?history=3&access_token={own}")).await;
    assert_eq!(status, 200);
    for (path, token, status, part) in [
        (path, "", 401, "no access token"),
        (path, "garbage", 401, "malformed"),
        (path, &token("my room", "c"), 403, "roomAdmin"),
        (path, &token("r", "a/b"), 403, "roomAdmin"),
        (path, &token_of(VideoGrant { room_admin: true, ..of("r") }, "operator"), 403, "roomAdmin"),
        ("/debug/rooms/none/participants/a%2Fb", &admin, 403, "roomAdmin"),
        ("/debug/rooms/my%20room/participants/c", &admin, 404, "no participant"),
    ] {
        let (got, body) = ask(path, token).await;
        assert!(got == status && body.contains(part), "{path}: {got} {body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_report_that_no_worker_gives_is_given_up() {
    let server = start(Settings::test()).await;
    let mut client = server.join("r", "i").await;
    assert!(matches!(client.next().await, Some(ToClient::Join(_))));
    let path = format!("/debug/rooms/r/participants/i?access_token={}", token("r", "i"));
    let (status, body) = server.get(&path).await;
    assert!(status == 503 && body.contains("in time"), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn the_first_message_is_join_and_others_hear_of_it() {
    let server = start(Settings::test()).await;
    let mut alice = server.join("r", "alice").await;
    let Some(ToClient::Join(join)) = alice.next().await else { panic!("not a join") };
    assert!(join.other_participants.is_empty());
    let mut bob = server.join("r", "bob").await;
    let Some(ToClient::Join(join)) = bob.next().await else { panic!("not a join") };
    assert_eq!(join.other_participants[0].identity, "alice");
    alice
        .until(|m| matches!(m, ToClient::Update(u) if u.participants.iter().any(|p| p.identity == "bob")))
        .await;
    server.until_metric("sluice_participants 2").await;
    server.until_metric("sluice_websocket_connections 2").await;
    server.until_metric("sluice_rooms 1").await;
    bob.leave().await;
    server.until_metric("sluice_participants 1").await;
    server.until_metric("sluice_websocket_connections 1").await;
    server.stop().await;
}

#[tokio::test]
async fn pings_are_answered_in_the_encoding_of_the_client() {
    let server = start(Settings::test()).await;
    let mut client = server.join("r", "i").await;
    client.send(ToServer::PingReq(Ping { timestamp: 7, rtt: 0 })).await;
    let pong = client.until(|m| matches!(m, ToClient::PongResp(_))).await;
    assert!(matches!(pong, ToClient::PongResp(pong) if pong.last_ping_timestamp == 7));
    client.socket.send(Message::Text(r#"{"ping":"5"}"#.into())).await.unwrap();
    loop {
        if let Message::Text(text) = client.frame().await.expect("a pong") {
            assert!(text.contains("\"pong\""), "{text}");
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unreadable_frame_ends_its_own_session_with_a_leave() {
    let server = start(Settings::test()).await;
    let mut good = server.join("r", "good").await;
    let mut bad = server.join("r", "bad").await;
    bad.socket.send(Message::Binary(vec![0xff; 40].into())).await.unwrap();
    bad.until(|m| matches!(m, ToClient::Leave(_))).await;
    assert_eq!(bad.next().await, None, "closed");
    good.send(ToServer::Ping(1)).await;
    good.until(|m| matches!(m, ToClient::Pong(_))).await;
    server.stop().await;
}

#[tokio::test]
async fn a_resume_is_answered_on_its_socket_and_makes_no_room() {
    let server = start(Settings::test()).await;
    let path = format!("/rtc?access_token={}&reconnect=1&sid=PA_x", token("r", "i"));
    let mut client = server.try_connect(&path).await.unwrap();
    let Some(ToClient::Leave(leave)) = client.next().await else { panic!("not a leave") };
    assert_eq!(leave.action, Action::Reconnect as i32);
    assert_eq!(client.next().await, None);
    assert!(server.rooms.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_resume_swaps_the_socket_under_its_participant() {
    let server = start(Settings::test()).await;
    let mut old = server.join("r", "i").await;
    let ToClient::Join(join) = old.until(|m| matches!(m, ToClient::Join(_))).await else { unreachable!() };
    let sid = join.participant.unwrap().sid;
    let path = format!("/rtc?access_token={}&protocol=16&reconnect=1&sid={sid}", token("r", "i"));
    let mut new = server.try_connect(&path).await.unwrap();
    assert!(matches!(new.next().await, Some(ToClient::Reconnect(_))), "before all else");
    let ToClient::Update(update) = new.next().await.unwrap() else { panic!("not an update") };
    assert_eq!(update.participants[0].sid, sid);
    while let Some(message) = old.next().await {
        assert!(!matches!(message, ToClient::Leave(_)), "closed without a word");
    }
    new.send(ToServer::Ping(1)).await;
    new.until(|m| matches!(m, ToClient::Pong(_))).await;
    server.until_metric("sluice_resumes_total{outcome=\"resumed\"} 1").await;
    server.until_metric("sluice_participants 1").await;
    let stranger = format!("/rtc?access_token={}&protocol=16&reconnect=1&sid={sid}", token("r", "other"));
    let mut stranger = server.try_connect(&stranger).await.unwrap();
    assert!(matches!(stranger.next().await, Some(ToClient::Leave(_))), "another's token");
    new.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn limits_are_answered_before_the_upgrade() {
    let mut settings = Settings::test();
    settings.limits.participants = Some(1);
    let server = start(settings).await;
    let _first = server.join("r", "a").await;
    server.until_metric("sluice_participants 1").await;
    let path = format!("/rtc?access_token={}", token("r", "b"));
    let (status, body) = server.try_connect(&path).await.err().expect("refused");
    assert!(status == 503 && body.contains("full"), "{body}");
    server.until_metric("sluice_joins_refused_total{status=\"503\"} 1").await;
    server.stop().await;

    let mut settings = Settings::test();
    settings.rooms.auto_create = false;
    let server = start(settings).await;
    let refused = server.try_connect(&path).await.err().expect("refused");
    assert_eq!(refused, (404, "requested room does not exist".to_owned()));
    server.stop().await;

    let mut settings = Settings::test();
    settings.rooms.max_participants = Some(1);
    let server = start(settings).await;
    let _first = server.join("r", "a").await;
    let (status, body) = server.try_connect(&path).await.err().expect("refused");
    assert!(status == 503 && body.contains("full"), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_left_of_five_hundred_joins() {
    let mut settings = Settings::test();
    settings.rooms.departure_timeout = Duration::ZERO;
    let server = start(settings).await;
    for i in 0..500 {
        let mut client = server.join(&format!("room-{}", i % 7), &format!("p{i}")).await;
        assert!(matches!(client.next().await, Some(ToClient::Join(_))), "join {i}");
        // Half leave in order, half vanish.
        if i % 2 == 0 {
            client.leave().await;
        }
    }
    server.until_metric("sluice_rooms 0").await;
    server.until_metric("sluice_participants 0").await;
    server.until_metric("sluice_websocket_connections 0").await;
    assert!(server.rooms.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn stopping_tells_clients_and_refuses_joins() {
    let server = start(Settings::test()).await;
    let mut client = server.join("r", "i").await;
    client.until(|m| matches!(m, ToClient::Join(_))).await;
    let (address, path) = (server.http_addr, format!("/rtc/validate?access_token={}", token("r", "j")));
    let begin = Instant::now();
    let stopping = tokio::spawn(server.stop());
    let leave = client.until(|m| matches!(m, ToClient::Leave(_))).await;
    assert!(
        matches!(leave, ToClient::Leave(leave) if leave.reason == DisconnectReason::ServerShutdown as i32)
    );
    assert_eq!(client.next().await, None, "closed after that");
    // Refused by the server or, later, by the kernel.
    if let Ok(response) = reqwest::get(format!("http://{address}{path}")).await {
        assert_eq!(response.status(), 503);
    }
    stopping.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "it need not wait for its deadline");
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_client_that_stays() {
    let mut settings = Settings::test();
    settings.limits.shutdown_timeout = Duration::from_millis(300);
    let server = start(settings).await;
    // Never reads, so it never answers the close.
    let _client = server.join("r", "i").await;
    let begin = Instant::now();
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let mut settings = Settings::test();
    settings.limits.idle_timeout = Duration::from_millis(200);
    let server = start(settings).await;
    let mut client = server.join("r", "i").await;
    while client.next().await.is_some() {}
    server.until_metric("sluice_websocket_connections 0").await;
    server.stop().await;
}

#[tokio::test]
async fn a_dead_worker_is_reported_and_its_clients_join_anew() {
    let core = |_, _| Silent { panics: true, ..Silent::default() };
    let server = Server::start_with(Settings::test(), core).await.unwrap_or_else(|error| panic!("{error}"));
    let mut client = server.join("r", "i").await;
    let leave = client.until(|m| matches!(m, ToClient::Leave(_))).await;
    assert!(matches!(leave, ToClient::Leave(leave) if leave.action == Action::Reconnect as i32));
    assert_eq!(client.next().await, None);
    assert_eq!(server.get("/livez").await.0, 500);
    assert_eq!(server.get("/readyz").await.0, 503);
    server.until_metric("sluice_rooms 0").await;
    server.until_metric("sluice_participants 0").await;
    server.stop().await;
}

#[tokio::test]
async fn https_serves_the_configured_certificate() {
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let dir = std::env::temp_dir().join(format!("sluice-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = crate::config::TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut settings = Settings::test();
    settings.http.tls = Some(files);
    let server = start(settings).await;
    std::fs::remove_dir_all(&dir).unwrap();

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(server.http_addr).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.expect("a handshake");
    let request = format!("ws://localhost/rtc?access_token={}", token("r", "i"));
    let request = request.into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("an upgrade");
    let first = socket.next().await.unwrap().unwrap();
    let first = SignalResponse::decode(first.into_data()).unwrap();
    assert!(matches!(first.message, Some(ToClient::Join(_))));
    server.stop().await;
}

#[tokio::test]
async fn starts_that_cannot_work_name_the_key() {
    let mut settings = Settings::test();
    let files = crate::config::TlsFiles { cert: "no/cert.pem".into(), key: "no/key.pem".into() };
    settings.http.tls = Some(files);
    let error = Server::start(settings).await.err().expect("no certificate").to_string();
    assert!(error.contains("http.tls-cert") && error.contains("no/cert.pem"), "{error}");

    let first = start(Settings::test()).await;
    let mut settings = Settings::test();
    settings.http.listen = first.http_addr;
    let error = Server::start(settings).await.err().expect("port in use").to_string();
    assert!(error.contains("http.listen"), "{error}");
    let mut settings = Settings::test();
    settings.media.first_port = first.udp_ports[0];
    let error = Server::start(settings).await.err().expect("port in use").to_string();
    assert!(error.contains("media.udp-port-start"), "{error}");
    let mut settings = Settings::test();
    settings.media.tcp_port = first.tcp_port;
    let error = Server::start(settings).await.err().expect("port in use").to_string();
    assert!(error.contains("media.tcp-port"), "{error}");
    first.stop().await;
}

#[test]
fn announced_addresses_are_those_bound_or_named() {
    let mut media = Settings::dev().media;
    let text = |media: &crate::config::MediaSettings| {
        announced_ips(media).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(text(&media), "127.0.0.1 ::1");
    media.node_ips = vec!["192.0.2.7".parse().unwrap()];
    assert_eq!(text(&media), "192.0.2.7");
    media.node_ips.clear();
    (media.bind_v4, media.bind_v6) = (Some("192.0.2.8".parse().unwrap()), None);
    assert_eq!(text(&media), "192.0.2.8");
}

#[tokio::test]
async fn one_connection_above_the_limit_is_closed_and_counted() {
    let mut settings = Settings::test();
    settings.http.limits.connections = 2;
    let server = start(settings).await;
    // WebSockets keep their places, though HTTP is done with them.
    let ada = server.join("garden", "ada").await;
    let _grace = server.join("garden", "grace").await;
    let third = reqwest::Client::new().get(server.url("/livez")).send().await;
    assert!(third.is_err(), "{third:?}");
    server.until_metric("sluice_limit_hits_total{limit=\"http_connections\"} 1").await;
    ada.leave().await;
    server.until_metric("sluice_websocket_connections 1").await;
    let mut answered = false;
    // The place is given back right after that is counted.
    for _ in 0..500 {
        answered = reqwest::Client::new().get(server.url("/livez")).send().await.is_ok();
        if answered {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answered, "the place is free again");
    server.stop().await;
}

#[tokio::test]
async fn what_the_server_is_full_of_is_counted() {
    let mut settings = Settings::test();
    settings.limits.rooms = Some(1);
    settings.rooms.max_participants = Some(2);
    let server = start(settings).await;
    let mut sockets = vec![server.join("garden", "ada").await];
    let refused = async |room: &str, identity: &str| {
        let path = format!("/rtc?access_token={}", token(room, identity));
        server.try_connect(&path).await.err().expect("refused").0
    };
    assert_eq!(refused("cellar", "alan").await, 503);
    sockets.push(server.join("garden", "grace").await);
    assert_eq!(refused("garden", "alan").await, 503);
    let metrics = String::from_utf8(server.metrics.render()).unwrap();
    for limit in ["rooms", "room_participants"] {
        let line = format!("sluice_limit_hits_total{{limit=\"{limit}\"}} 1");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    drop(sockets);
    server.stop().await;
}
