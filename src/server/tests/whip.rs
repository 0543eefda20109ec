//! WHIP and WHEP over HTTP, with a real media core and nobody at the other end of the offer's ICE.

use reqwest::{Method, Response, header};

use super::*;

const OFFER: &str = include_str!("../../../fuzz/seeds/sdp_offer/simulcast");
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
const SDP: &str = "application/sdp";

/// A browser's offer to receive.
fn viewing() -> String {
    OFFER.replace("a=sendonly", "a=recvonly").replace("a=simulcast", "a=x").replace("a=rid", "a=x")
}

fn token(identity: &str) -> String {
    token_of(VideoGrant { room_join: true, room: "studio".into(), ..VideoGrant::default() }, identity)
}

async fn live(change: impl FnOnce(&mut Settings)) -> RunningServer {
    let mut settings = Settings::test();
    change(&mut settings);
    Server::start(settings).await.unwrap_or_else(|error| panic!("{error}"))
}

struct Ask<'a> {
    method: Method,
    path: &'a str,
    token: &'a str,
    content_type: &'a str,
    if_match: Option<&'a str>,
    body: String,
}

impl Ask<'_> {
    const POST: Ask<'static> = Ask {
        method: Method::POST,
        path: "/whip",
        token: "",
        content_type: SDP,
        if_match: None,
        body: String::new(),
    };
}

impl RunningServer {
    async fn http(&self, ask: Ask<'_>) -> Response {
        let mut request = reqwest::Client::new().request(ask.method, self.url(ask.path));
        request = request
            .header(header::CONTENT_TYPE, ask.content_type)
            .header(header::ORIGIN, "https://a.example");
        if !ask.token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", ask.token));
        }
        if let Some(tag) = ask.if_match {
            request = request.header(header::IF_MATCH, tag);
        }
        request.body(ask.body).send().await.unwrap()
    }

    async fn offer(&self, path: &str, token: &str, body: String) -> Response {
        self.http(Ask { path, token, body, ..Ask::POST }).await
    }

    /// Publishes, and gives the session's path and entity-tag.
    async fn publish(&self, token: &str) -> (String, String) {
        let made = self.offer("/whip", token, OFFER.to_owned()).await;
        assert_eq!(made.status(), 201, "{}", made.text().await.unwrap());
        (of(&made, &header::LOCATION), of(&made, &header::ETAG))
    }
}

fn of(response: &Response, name: &header::HeaderName) -> String {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

/// Status and text of an error.
async fn error(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert!(of(&response, &header::CONTENT_TYPE).starts_with("text/plain"));
    assert_eq!(of(&response, &header::ACCESS_CONTROL_ALLOW_ORIGIN), "*", "or a browser cannot read it");
    (status, response.text().await.unwrap())
}

fn restart(ufrag: &str) -> String {
    format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n")
}

#[tokio::test]
async fn a_publisher_comes_restarts_and_goes() {
    let servers = serde_json::json!([{ "urls": ["stun:stun.example.org"] }]);
    let server = live(|settings| settings.ice_servers = serde_json::from_value(servers).unwrap()).await;
    let (name, path) = (token("encoder"), "/whip/v1");
    let made = server.offer(path, &name, OFFER.to_owned()).await;
    assert_eq!(made.status(), 201);
    assert_eq!(of(&made, &header::CONTENT_TYPE), SDP);
    assert_eq!(of(&made, &header::HeaderName::from_static("accept-patch")), FRAGMENT);
    assert_eq!(of(&made, &header::LINK), "<stun:stun.example.org>; rel=\"ice-server\"");
    let exposed = of(&made, &header::ACCESS_CONTROL_EXPOSE_HEADERS);
    for header in ["location", "etag", "link"] {
        assert!(exposed.contains(header), "{exposed}");
    }
    let (session, tag) = (of(&made, &header::LOCATION), of(&made, &header::ETAG));
    assert!(session.starts_with("/whip/v1/") && session.len() > 40, "{session}");
    let answer = made.text().await.unwrap();
    assert!(answer.contains("a=simulcast:recv q;h;f") && answer.contains("a=candidate:"), "{answer}");

    let patch = |if_match, body: String, content_type| {
        server.http(Ask { method: Method::PATCH, path: &session, token: &name, content_type, if_match, body })
    };
    let same = "a=ice-ufrag:UHQA\r\na=ice-pwd:UHQAlw2vV0XJXYNzyZKZF63p\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let trickled = patch(Some(tag.as_str()), same.to_owned(), FRAGMENT).await;
    assert_eq!((trickled.status().as_u16(), trickled.headers().get(header::ETAG)), (204, None));
    assert_eq!(error(patch(None, same.to_owned(), FRAGMENT).await).await.0, 428);
    assert_eq!(error(patch(Some("\"x\""), same.to_owned(), FRAGMENT).await).await.0, 412);
    assert_eq!(error(patch(Some("*"), same.to_owned(), SDP).await).await.0, 415);
    assert_eq!(error(patch(Some("*"), "nonsense".to_owned(), FRAGMENT).await).await.0, 400);
    assert_eq!(error(patch(Some("*"), "a=candidate:1\n".repeat(9000), FRAGMENT).await).await.0, 413);

    let restarted = patch(Some("*"), restart("fresh"), FRAGMENT).await;
    assert_eq!(restarted.status(), 200);
    let fresh = of(&restarted, &header::ETAG);
    assert_ne!(fresh, tag);
    let told = restarted.text().await.unwrap();
    let ufrag = |sdp: &str| sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:").map(str::to_owned));
    assert!(ufrag(&told).is_some() && ufrag(&told) != ufrag(&answer), "{told}");
    assert!(told.contains("a=candidate:"), "{told}");
    assert_eq!(error(patch(Some(tag.as_str()), same.to_owned(), FRAGMENT).await).await.0, 412);

    let end = || server.http(Ask { method: Method::DELETE, path: &session, token: &name, ..Ask::POST });
    assert_eq!(end().await.status(), 200);
    assert_eq!(error(end().await).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_viewer_is_answered_in_an_empty_room() {
    let server = live(|_| {}).await;
    let made = server.offer("/whep?participant=bob", &token("tv"), viewing()).await;
    assert_eq!(made.status(), 201);
    assert!(of(&made, &header::LOCATION).starts_with("/whep/"));
    let answer = made.text().await.unwrap();
    let sections: Vec<&str> = answer.split("\r\nm=").skip(1).collect();
    assert!(sections[0].starts_with("audio") && sections[0].contains("a=sendonly"), "{answer}");
    assert!(sections[1].starts_with("video") && sections[1].contains("a=sendonly"), "{answer}");
    assert!(
        sections[1].contains("VP8/90000") && sections[1].contains("H264/90000"),
        "whatever comes: {answer}"
    );
    assert!(sections[2].contains("a=inactive"), "the second picture: {answer}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = live(|settings| settings.whip.max_body = 8192).await;
    let good = token("encoder");
    let good = good.as_str();
    let grants = |change: fn(&mut VideoGrant)| {
        let mut grant = VideoGrant { room_join: true, room: "studio".into(), ..VideoGrant::default() };
        change(&mut grant);
        token_of(grant, "encoder")
    };
    for (path, token, body, want, says) in [
        ("/whip", "", OFFER.to_owned(), 401, "no access token"),
        ("/whip", "garbage", OFFER.to_owned(), 401, "malformed"),
        ("/whip", grants(|grant| grant.room_join = false).as_str(), OFFER.to_owned(), 401, "roomJoin"),
        (
            "/whip",
            grants(|grant| grant.can_publish = Some(false)).as_str(),
            OFFER.to_owned(),
            403,
            "canPublish",
        ),
        ("/whep", grants(|grant| grant.can_subscribe = Some(false)).as_str(), viewing(), 403, "canSubscribe"),
        (
            "/whip",
            grants(|grant| grant.can_publish_sources = vec!["microphone".into()]).as_str(),
            OFFER.to_owned(),
            403,
            "canPublishSources",
        ),
        ("/whip", good, String::new(), 400, "no audio or video"),
        ("/whip", good, "garbage\r\nm=video 9 X 0".to_owned(), 400, "cannot be answered"),
        ("/whip", good, OFFER.replace("a=group", "a=x"), 400, "BUNDLE"),
        ("/whip", good, OFFER.replace("opus/48000/2", "G722/8000"), 422, "m-line 0"),
        (
            "/whep",
            good,
            OFFER.replace("a=recvonly", "a=sendonly").replace("a=mid:3", "a=mid:3\r\na=inactive"),
            400,
            "receives",
        ),
        ("/whip", good, "x".repeat(1 << 20), 413, "8192"),
    ] {
        let (status, text) = error(server.offer(path, token, body.clone()).await).await;
        assert!(status == want && text.contains(says), "{path} {status} {text}, wanted {want} {says}");
    }
    for content_type in ["", "application/json", FRAGMENT] {
        let ask = Ask { token: good, content_type, body: OFFER.to_owned(), ..Ask::POST };
        assert_eq!(error(server.http(ask).await).await.0, 415);
    }
    for (method, path) in
        [(Method::GET, "/whip"), (Method::PUT, "/whep"), (Method::PATCH, "/whip"), (Method::GET, "/whip/x")]
    {
        let response = server.http(Ask { method, path, token: good, ..Ask::POST }).await;
        assert!(of(&response, &header::ALLOW).contains("OPTIONS"));
        assert_eq!(error(response).await.0, 405);
    }
    for method in [Method::PATCH, Method::DELETE] {
        let ask =
            |token| server.http(Ask { method: method.clone(), path: "/whip/nobody", token, ..Ask::POST });
        assert_eq!(error(ask(good).await).await.0, 404);
        assert_eq!(error(ask("").await).await.0, 401, "whoever has no token learns nothing");
    }
    // The room has seen to all that came before.
    assert!(server.rooms.explain("studio", "encoder".to_owned(), 1).await.is_err(), "nobody stays");
    assert_eq!(server.rooms.len(), 1, "made for the offers that were refused");
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_its_makers() {
    let server = live(|_| {}).await;
    let (session, tag) = server.publish(&token("encoder")).await;
    let end = |token: String| {
        let (server, session) = (&server, &session);
        async move { server.http(Ask { method: Method::DELETE, path: session, token: &token, ..Ask::POST }).await }
    };
    assert_eq!(error(end(token("mallory")).await).await.0, 403);
    assert_eq!(error(end(String::new()).await).await.0, 401);
    let whep = session.replace("whip", "whep");
    let other =
        server.http(Ask { method: Method::DELETE, path: &whep, token: &token("encoder"), ..Ask::POST }).await;
    assert_eq!(error(other).await.0, 404, "of the other protocol");

    // The same identity again takes the place: the first session is gone.
    let (second, second_tag) = server.publish(&token("encoder")).await;
    assert_ne!((&session, &tag), (&second, &second_tag));
    assert_eq!(error(end(token("encoder")).await).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_bounded_and_a_flood_leaves_nothing() {
    let server = live(|settings| settings.whip.sessions_per_room = 3).await;
    let tokens: Vec<String> = (0..12).map(|number| token(&format!("encoder-{number}"))).collect();
    let mut made = Vec::new();
    for token in &tokens {
        let response = server.offer("/whip", token, OFFER.to_owned()).await;
        match response.status().as_u16() {
            201 => made.push((of(&response, &header::LOCATION), token)),
            503 => {
                assert_eq!(of(&response, &header::RETRY_AFTER), "5");
                assert!(error(response).await.1.contains("sessions-per-room"));
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(made.len(), 3);
    for (path, token) in &made {
        let ended = server.http(Ask { method: Method::DELETE, path, token, ..Ask::POST }).await;
        assert_eq!(ended.status(), 200);
    }
    // Many at once, over and over.
    let floods = (0..60).map(|number| server.offer("/whep", &tokens[number % 12], viewing()));
    let statuses: Vec<u16> =
        futures_util::future::join_all(floods).await.iter().map(|r| r.status().as_u16()).collect();
    assert!(statuses.iter().all(|status| [201, 503].contains(status)), "{statuses:?}");
    let metrics = String::from_utf8(server.metrics.render()).unwrap();
    let sessions =
        metrics.lines().find_map(|line| line.strip_prefix("sluice_whip_sessions{protocol=\"whep\"} "));
    assert!(sessions.is_some_and(|count| count.parse::<u32>().unwrap() <= 3), "{metrics}");
    assert!(
        metrics.contains("sluice_whip_requests_total{method=\"POST\",protocol=\"whip\",status=\"503\"} 9"),
        "{metrics}"
    );
    server.stop().await;
}

#[tokio::test]
async fn browsers_may_ask_from_other_origins() {
    let server = live(|_| {}).await;
    for (path, name, value) in [("/whip", "accept-post", SDP), ("/whep/some", "accept-patch", FRAGMENT)] {
        let request = reqwest::Client::new()
            .request(Method::OPTIONS, server.url(path))
            .header(header::ORIGIN, "https://a.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PATCH")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type,if-match");
        let response = request.send().await.unwrap();
        assert!(response.status().is_success());
        assert_eq!(response.headers()[name], value);
        assert_eq!(of(&response, &header::ACCESS_CONTROL_ALLOW_METHODS), "PATCH");
        assert!(of(&response, &header::ACCESS_CONTROL_ALLOW_HEADERS).contains("if-match"));
    }
    server.stop().await;
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let server = live(|settings| settings.whip.enabled = false).await;
    let (status, text) = error(server.offer("/whip", &token("encoder"), OFFER.to_owned()).await).await;
    assert!(status == 404 && text.contains("whip.enabled"), "{text}");
    server.stop().await;
}
