//! The server API over HTTP, in both encodings, with clients in the rooms.

use livekit_protocol as lk;
use livekit_protocol::RoomConfiguration;
use reqwest::header;
use serde_json::{Value, json};
use signaling::livekit::api::{MAX_BODY, Method};

use super::*;

const ROOM: &str = "/twirp/livekit.RoomService/";

/// What came back.
struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        assert_eq!(self.content_type, "application/json", "{:?}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).unwrap()
    }

    fn error(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{body}");
        (self.status, body["code"].as_str().expect("a code").to_owned())
    }
}

fn all_grants() -> VideoGrant {
    VideoGrant {
        room_create: true,
        room_list: true,
        room_admin: true,
        room: "garden".into(),
        ..VideoGrant::default()
    }
}

impl RunningServer {
    async fn post(&self, path: &str, token: &str, content_type: &str, body: Vec<u8>) -> Reply {
        let request = reqwest::Client::new()
            .post(self.url(path))
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, content_type);
        let response = request.body(body).send().await.unwrap();
        let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        Reply { status, content_type, body: response.bytes().await.unwrap().to_vec() }
    }

    /// In JSON, by somebody who may do everything in the room `garden`.
    async fn ask(&self, method: &str, body: Value) -> Reply {
        let token = token_of(all_grants(), "");
        self.post(&format!("{ROOM}{method}"), &token, "application/json", body.to_string().into_bytes()).await
    }

    /// The same, with an answer that is no error.
    async fn done(&self, method: &str, body: Value) -> Value {
        let reply = self.ask(method, body).await;
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    /// In protobuf.
    async fn proto<A: prost::Message + Default>(&self, method: &str, body: impl prost::Message) -> A {
        let token = token_of(all_grants(), "");
        let body = body.encode_to_vec();
        let reply = self.post(&format!("{ROOM}{method}"), &token, "application/protobuf", body).await;
        assert_eq!((reply.status, reply.content_type.as_str()), (200, "application/protobuf"));
        A::decode(&reply.body[..]).unwrap()
    }
}

#[tokio::test]
async fn a_room_is_made_once_found_and_deleted() {
    let server = start(Settings::test()).await;
    let nothing = server.done("ListRooms", json!({})).await;
    assert_eq!(nothing, json!({"rooms": []}));
    let config = json!({"name": "garden", "emptyTimeout": 60, "max_participants": 2, "metadata": "roses"});
    let made = server.done("CreateRoom", config).await;
    assert!(made["sid"].as_str().unwrap().starts_with("RM_"));
    assert_eq!(
        (&made["name"], &made["empty_timeout"], &made["departure_timeout"], &made["max_participants"]),
        (&json!("garden"), &json!(60), &json!(20), &json!(2))
    );
    assert!(made["creation_time"].as_str().unwrap().parse::<i64>().unwrap() > 1_700_000_000);

    let again: lk::Room = server
        .proto("CreateRoom", lk::CreateRoomRequest { name: "garden".into(), ..Default::default() })
        .await;
    assert_eq!((again.sid.as_str(), again.metadata.as_str()), (made["sid"].as_str().unwrap(), "roses"));
    let mut client = server.join("garden", "ada").await;
    let ToClient::Join(join) = client.until(|m| matches!(m, ToClient::Join(_))).await else { unreachable!() };
    assert_eq!(join.room.unwrap().sid, again.sid, "clients join the room that was made");
    let _second = server.join("garden", "grace").await;
    let path = format!("/rtc?access_token={}", token("garden", "alan"));
    let (status, body) = server.try_connect(&path).await.err().expect("full");
    assert!(status == 503 && body.contains("full"), "{body}");

    let _other = server.join("cellar", "alan").await;
    let listed: lk::ListRoomsResponse = server.proto("ListRooms", lk::ListRoomsRequest::default()).await;
    let names: Vec<_> = listed.rooms.iter().map(|room| (room.name.as_str(), room.num_participants)).collect();
    assert_eq!(names, [("cellar", 1), ("garden", 2)]);
    let some = server.done("ListRooms", json!({"names": ["garden", "nowhere", "garden"]})).await;
    assert_eq!(some["rooms"].as_array().unwrap().len(), 1);
    assert_eq!(some["rooms"][0]["num_participants"], 2);

    assert_eq!(server.done("DeleteRoom", json!({"room": "garden"})).await, json!({}));
    let leave = client.until(|m| matches!(m, ToClient::Leave(_))).await;
    let ToClient::Leave(leave) = leave else { unreachable!() };
    assert_eq!(
        (leave.reason, leave.action),
        (DisconnectReason::RoomDeleted as i32, Action::Disconnect as i32)
    );
    assert_eq!(client.next().await, None, "closed after that");
    // The answer comes when the room is gone: the next has a new sid.
    let new = server.done("CreateRoom", json!({"name": "garden"})).await;
    assert_ne!(new["sid"], made["sid"]);
    assert_eq!(new["metadata"], "");
    let gone = server.ask("DeleteRoom", json!({"room": "nowhere"})).await;
    assert_eq!(gone.error(), (404, "not_found".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_room_made_by_the_api_waits_for_its_first_participant_only_so_long() {
    let mut settings = Settings::test();
    settings.rooms.auto_create = false;
    let server = start(settings).await;
    let path = format!("/rtc?access_token={}", token("garden", "ada"));
    assert_eq!(server.try_connect(&path).await.err().expect("refused").0, 404);
    server.done("CreateRoom", json!({"name": "garden", "empty_timeout": 1})).await;
    assert!(server.try_connect(&path).await.is_ok(), "a room that was made can be joined");
    server.done("DeleteRoom", json!({"room": "garden"})).await;
    server.done("CreateRoom", json!({"name": "garden", "empty_timeout": 1})).await;
    server.until_metric("sluice_rooms 0").await;
    assert_eq!(server.done("ListRooms", json!({})).await, json!({"rooms": []}));
    server.stop().await;
}

#[tokio::test]
async fn each_method_refuses_a_token_without_each_of_its_grants() {
    let server = start(Settings::test()).await;
    let body = json!({
        "room": "garden", "name": "garden", "identity": "ada", "destination_identity": "ada", "method": "m",
        "destination_room": "cellar",
    });
    let grants = || VideoGrant { destination_room: "cellar".into(), ..all_grants() };
    let without: [(&str, VideoGrant); 5] = [
        ("roomCreate", VideoGrant { room_create: false, ..grants() }),
        ("roomList", VideoGrant { room_list: false, ..grants() }),
        ("roomAdmin", VideoGrant { room_admin: false, ..grants() }),
        ("room", VideoGrant { room: "cellar".into(), ..grants() }),
        ("destinationRoom", VideoGrant { destination_room: String::new(), ..grants() }),
    ];
    for method in Method::ALL {
        let needs: &[&str] = match method {
            Method::CreateRoom | Method::DeleteRoom => &["roomCreate"],
            Method::ListRooms => &["roomList"],
            Method::ForwardParticipant | Method::MoveParticipant => &["roomAdmin", "room", "destinationRoom"],
            _ => &["roomAdmin", "room"],
        };
        let ask = async |token: &str| {
            server.post(&method.path(), token, "application/json", body.to_string().into_bytes()).await
        };
        for (name, grant) in &without {
            let reply = ask(&token_of(grant.clone(), "")).await;
            let refused = reply.status == 403;
            assert_eq!(refused, needs.contains(name), "{method:?} without {name}: {}", reply.status);
            if refused {
                assert_eq!(reply.error().1, "permission_denied");
            }
        }
        for token in ["", "garbage", &token_of(grants(), "")[1..]] {
            assert_eq!(ask(token).await.error(), (401, "unauthenticated".into()), "{method:?}");
        }
        assert_eq!(ask(&token("garden", "ada")).await.error().0, 403, "{method:?} with a join token");
    }
    // A dispatch makes the room that it is for.
    server.done("DeleteRoom", json!({"room": "garden"})).await;
    assert_eq!(server.done("ListRooms", json!({})).await["rooms"].as_array().unwrap().len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_call_is_an_error_of_twirps() {
    let server = start(Settings::test()).await;
    let good = token_of(all_grants(), "");
    let json_type = "application/json";
    for (path, content_type, status, code) in [
        ("/twirp/livekit.RoomService/Levitate", json_type, 404, "bad_route"),
        ("/twirp/nothing", json_type, 404, "bad_route"),
        ("/twirp/livekit.RoomService/ListRooms", "text/plain", 404, "bad_route"),
        ("/twirp/livekit.RoomService/ListRooms", "application/protobuf", 400, "malformed"),
        ("/twirp/livekit.Egress/ListEgress", json_type, 501, "unimplemented"),
        ("/twirp/livekit.Ingress/ListIngress", "application/protobuf", 501, "unimplemented"),
        ("/twirp/livekit.SIP/ListSIPTrunk", json_type, 501, "unimplemented"),
        ("/twirp/livekit.AgentDispatchService/ListDispatch", json_type, 400, "malformed"),
        ("/twirp/livekit.AgentDispatchService/ListRooms", json_type, 404, "bad_route"),
        ("//twirp/livekit.RoomService/ListRooms", json_type, 400, "malformed"),
    ] {
        let reply = server.post(path, &good, content_type, b"not a message".to_vec()).await;
        assert_eq!(reply.error(), (status, code.to_owned()), "{path}");
    }
    let response = reqwest::get(server.url("/twirp/livekit.RoomService/ListRooms")).await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(response.text().await.unwrap().contains("\"bad_route\""));
    let long = vec![b' '; MAX_BODY + 1];
    let reply = server.post(&format!("{ROOM}ListRooms"), &good, json_type, long).await;
    assert_eq!(reply.error(), (400, "malformed".into()));
    assert!(reply.json()["msg"].as_str().unwrap().contains("longer than"));
    server.until_metric("sluice_api_requests_total{code=\"bad_route\",method=\"none\"} 3").await;
    server.until_metric("sluice_api_requests_total{code=\"malformed\",method=\"ListRooms\"} 3").await;
    // Browsers may call, too.
    let preflight = reqwest::Client::new()
        .request(reqwest::Method::OPTIONS, server.url(&format!("{ROOM}ListRooms")))
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.headers()["access-control-allow-headers"], "authorization,content-type");
    server.stop().await;
}

#[tokio::test]
async fn participants_are_seen_changed_and_removed() {
    let server = start(Settings::test()).await;
    let in_garden = |more: Value| {
        let mut body = json!({"room": "garden", "identity": "ada"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(server.done("ListParticipants", in_garden(json!({}))).await, json!({"participants": []}));
    assert_eq!(server.ask("GetParticipant", in_garden(json!({}))).await.error(), (404, "not_found".into()));
    let mut ada = server.join("garden", "ada").await;
    let mut grace = server.join("garden", "grace").await;
    for client in [&mut ada, &mut grace] {
        client.until(|m| matches!(m, ToClient::Join(_))).await;
    }
    let people = server.done("ListParticipants", in_garden(json!({}))).await;
    let identities: Vec<_> =
        people["participants"].as_array().unwrap().iter().map(|p| &p["identity"]).collect();
    assert_eq!(identities, ["ada", "grace"]);
    let one = server.done("GetParticipant", in_garden(json!({}))).await;
    assert_eq!((&one["state"], &one["permission"]["can_publish"]), (&json!("JOINED"), &json!(true)));

    let change = json!({
        "name": "Ada L.", "metadata": "chair", "attributes": {"handRaised": "yes"},
        "permission": {"canSubscribe": true, "canPublish": true, "canPublishData": true, "canPublishSources": ["MICROPHONE"]},
    });
    let changed = server.done("UpdateParticipant", in_garden(change)).await;
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("Ada L."), &json!("chair")));
    assert_eq!(changed["attributes"], json!({"handRaised": "yes"}));
    assert_eq!(changed["permission"]["can_publish_sources"], json!(["MICROPHONE"]));
    let seen = |m: &ToClient| matches!(m, ToClient::Update(u) if u.participants.iter().any(|p| p.metadata == "chair" && p.name == "Ada L."));
    grace.until(seen).await;
    let camera = lk::AddTrackRequest { cid: "c".into(), r#type: 1, source: 1, ..Default::default() };
    ada.send(ToServer::AddTrack(camera)).await;
    ada.until(|m| matches!(m, ToClient::RequestResponse(r) if r.reason != 0)).await;

    let told = server.done("UpdateRoomMetadata", json!({"room": "garden", "metadata": "roses"})).await;
    assert_eq!(told["metadata"], "roses");
    for client in [&mut ada, &mut grace] {
        client
            .until(|m| matches!(m, ToClient::RoomUpdate(u) if u.room.as_ref().unwrap().metadata == "roses"))
            .await;
    }
    let long = "x".repeat((512 << 10) + 1);
    let reply = server.ask("UpdateParticipant", in_garden(json!({"metadata": long}))).await;
    assert_eq!(reply.error(), (400, "invalid_argument".into()));
    let mute = json!({"trackSid": "TR_nothing", "muted": true});
    assert_eq!(server.ask("MutePublishedTrack", in_garden(mute)).await.error(), (404, "not_found".into()));
    let mute = json!({"trackSid": "TR_nothing", "muted": false});
    let reply = server.ask("MutePublishedTrack", in_garden(mute)).await;
    assert_eq!(reply.error(), (412, "failed_precondition".into()));
    assert_eq!(server.done("UpdateSubscriptions", in_garden(json!({}))).await, json!({}));
    assert_eq!(server.done("SendData", in_garden(json!({"data": "aGk="}))).await, json!({}));
    assert_eq!(server.ask("SendData", json!({"room": "cellar"})).await.error().0, 403);

    let _: lk::RemoveParticipantResponse = server
        .proto(
            "RemoveParticipant",
            lk::RoomParticipantIdentity {
                room: "garden".into(),
                identity: "ada".into(),
                ..Default::default()
            },
        )
        .await;
    let leave = ada.until(|m| matches!(m, ToClient::Leave(_))).await;
    let ToClient::Leave(leave) = leave else { unreachable!() };
    assert_eq!(leave.reason, DisconnectReason::ParticipantRemoved as i32);
    assert_eq!(ada.next().await, None);
    assert_eq!(
        server.ask("RemoveParticipant", in_garden(json!({}))).await.error(),
        (404, "not_found".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn a_method_that_nobody_answers_times_out_and_one_of_somebody_who_leaves_ends() {
    let server = start(Settings::test()).await;
    let _ada = server.join("garden", "ada").await;
    let grace = server.join("garden", "grace").await;
    let call = |who: &str, timeout: u32| json!({"room": "garden", "destinationIdentity": who, "method": "m", "responseTimeoutMs": timeout});
    let reply = server.ask("PerformRpc", call("ada", 50)).await;
    assert_eq!(reply.error(), (408, "canceled".into()));
    assert_eq!(reply.json()["msg"], "RpcError 1502: Response timeout");
    assert_eq!(server.ask("PerformRpc", call("nobody", 50)).await.error().0, 404);
    let (reply, ()) = tokio::join!(server.ask("PerformRpc", call("grace", 60_000)), grace.leave());
    // Gone before it was asked, or after.
    let (status, code) = reply.error();
    assert!(matches!((status, code.as_str()), (503, "unavailable") | (404, "not_found")), "{status} {code}");
    server.stop().await;
}

#[tokio::test]
async fn limits_and_the_end_of_the_server_are_told() {
    let mut settings = Settings::test();
    settings.limits.rooms = Some(1);
    let server = start(settings).await;
    server.done("CreateRoom", json!({"name": "garden"})).await;
    let reply = server.ask("CreateRoom", json!({"name": "cellar"})).await;
    assert_eq!(reply.error(), (429, "resource_exhausted".into()));
    server.done("CreateRoom", json!({"name": "garden"})).await;
    let rooms = server.rooms.clone();
    server.stop().await;
    let config = Box::new(RoomConfiguration::default());
    let request = signaling::livekit::api::Request::CreateRoom { name: "garden".into(), config };
    let error = rooms.call(request).await.unwrap_err();
    assert_eq!(error.code().status(), 503);
}

#[tokio::test]
async fn calls_that_cross_the_end_of_their_room_are_answered() {
    let mut settings = Settings::test();
    settings.rooms.departure_timeout = Duration::ZERO;
    let server = start(settings).await;
    for i in 0..100 {
        let client = server.join("garden", &format!("p{i}")).await;
        let body = json!({"room": "garden", "metadata": "m"});
        let (reply, made, ()) = tokio::join!(
            server.ask("UpdateRoomMetadata", body),
            server.ask("CreateRoom", json!({"name": "garden"})),
            client.leave()
        );
        assert!(reply.status == 200 || reply.error() == (404, "not_found".into()), "{i}: {}", reply.status);
        assert_eq!(made.status, 200, "{i}");
    }
    server.stop().await;
}
