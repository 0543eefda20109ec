//! Calls as they come over HTTP, before any room hears of them.

use std::time::Duration;

use livekit_protocol as lk;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::access::{self, Claims, Keys, VideoGrant};
use crate::livekit::frame::Encoding;
use crate::livekit::limits::RoomLimits;

const NOW_MS: i64 = 1_800_000_000_000;

fn keys() -> Keys {
    [("devkey".to_owned(), "secret".to_owned())].into_iter().collect()
}

fn bearer(grant: VideoGrant) -> String {
    let claims = Claims { video: Some(grant), ..Claims::default() };
    let token = access::mint("devkey", "secret", claims, Duration::from_mins(1), NOW_MS / 1000).unwrap();
    format!("Bearer {token}")
}

fn everything() -> VideoGrant {
    VideoGrant {
        room_create: true,
        room_list: true,
        room_admin: true,
        room: "garden".into(),
        destination_room: "cellar".into(),
        ..VideoGrant::default()
    }
}

fn head<'a>(path: &'a str, content_type: &'a str, authorization: &'a str) -> Head<'a> {
    let (content_type, authorization) = (Some(content_type), Some(authorization));
    Head { post: true, path, query: "", content_type, authorization }
}

fn read(method: Method, grant: VideoGrant, content_type: &str, body: &[u8]) -> Result<Request, ApiError> {
    let (path, bearer) = (method.path(), bearer(grant));
    open(&head(&path, content_type, &bearer), &keys(), NOW_MS)?.read(body, &RoomLimits::default())
}

fn ask(method: Method, body: &Value) -> Result<Request, ApiError> {
    read(method, everything(), "application/json", body.to_string().as_bytes())
}

/// A body that every method takes, as far as its names are known to it.
fn any_body() -> Value {
    json!({
        "room": "garden", "name": "garden", "identity": "ada", "destination_identity": "ada", "method": "greet",
        "track_sid": "TR_x", "destination_room": "cellar",
    })
}

#[test]
fn only_calls_by_post_with_a_known_encoding_and_token_are_opened() {
    let good = bearer(everything());
    let path = "/twirp/livekit.RoomService/ListRooms";
    let code =
        |head: Head<'_>| open(&head, &keys(), NOW_MS).err().map(|error| (error.code(), error.to_string()));
    for (content_type, slashes) in [
        ("application/json", "/"),
        ("application/json; charset=utf-8", "/"),
        ("Application/JSON", "//"),
        ("application/protobuf", "///"),
    ] {
        let path = format!("{slashes}{}", &path[1..]);
        assert!(is_call(&path) && method(&path) == Some(Method::ListRooms));
        assert_eq!(code(head(&path, content_type, &good)), None, "{content_type}");
    }
    assert!(!is_call("/twirp") && !is_call("/rtc/twirp/"));
    for (path, content_type) in [
        ("/twirp/livekit.RoomService/Levitate", "application/json"),
        ("/twirp/livekit.RoomService/listrooms", "application/json"),
        ("/twirp/livekit.RoomService/", "application/json"),
        ("/twirp/livekit.RoomService", "application/json"),
        ("/twirp/livekit.Other/ListRooms", "application/json"),
        ("/twirp/", "application/json"),
        (path, "text/plain"),
        (path, ""),
    ] {
        let (got, _) = code(head(path, content_type, &good)).unwrap();
        assert_eq!((got, got.status()), (Code::BadRoute, 404), "{path} {content_type}");
    }
    let get = Head { post: false, ..head(path, "application/json", &good) };
    assert!(matches!(code(get), Some((Code::BadRoute, text)) if text.contains("POST")));
    for token in ["", "Bearer ", "Bearer garbage", "Basic x"] {
        assert_eq!(code(head(path, "application/json", token)).unwrap().0, Code::Unauthenticated, "{token}");
    }
    let later = open(&head(path, "application/json", &good), &keys(), NOW_MS + 3_600_000);
    assert_eq!(later.err().map(|error| error.code()), Some(Code::Unauthenticated), "expired");
    let query = format!("access_token={}", &good["Bearer ".len()..]);
    let by_query = Head { authorization: None, query: &query, ..head(path, "application/json", "") };
    assert_eq!(code(by_query), None);
}

#[test]
fn services_that_are_not_here_say_so_to_those_with_a_token() {
    let good = bearer(everything());
    for path in [
        "/twirp/livekit.Egress/StartRoomCompositeEgress",
        "/twirp/livekit.Ingress/CreateIngress",
        "/twirp/livekit.SIP/CreateSIPParticipant",
    ] {
        let error = open(&head(path, "application/protobuf", &good), &keys(), NOW_MS).err().unwrap();
        assert_eq!((error.code(), error.code().status()), (Code::Unimplemented, 501));
        assert!(error.to_string().contains("is not part of this server"), "{error}");
        let stranger = open(&head(path, "application/protobuf", ""), &keys(), NOW_MS).err().unwrap();
        assert_eq!(stranger.code(), Code::Unauthenticated);
    }
}

#[test]
fn every_method_needs_each_of_its_grants_and_no_other() {
    type Remove = fn(&mut VideoGrant);
    let without: [(&str, Remove); 5] = [
        ("roomCreate", |grant| grant.room_create = false),
        ("roomList", |grant| grant.room_list = false),
        ("roomAdmin", |grant| grant.room_admin = false),
        ("room", |grant| grant.room = "other".into()),
        ("destinationRoom", |grant| grant.destination_room = String::new()),
    ];
    let admin = ["roomAdmin", "room"];
    for method in Method::ALL {
        let needs: &[&str] = match method {
            Method::CreateRoom | Method::DeleteRoom => &["roomCreate"],
            Method::ListRooms => &["roomList"],
            Method::ForwardParticipant | Method::MoveParticipant => &["roomAdmin", "room", "destinationRoom"],
            _ => &admin,
        };
        let body = any_body().to_string();
        let permitted = |grant: VideoGrant| {
            let answer = read(method, grant, "application/json", body.as_bytes());
            !matches!(answer.map_err(|error| error.code()), Err(Code::PermissionDenied))
        };
        assert!(permitted(everything()), "{method:?}");
        for (name, remove) in without {
            let mut grant = everything();
            remove(&mut grant);
            assert_eq!(permitted(grant), !needs.contains(&name), "{method:?} without {name}");
        }
        let join = VideoGrant { room_join: true, room: "garden".into(), ..VideoGrant::default() };
        assert!(!permitted(join), "{method:?} with a join token");
    }
    let error = read(Method::ListRooms, VideoGrant::default(), "application/json", b"{}").unwrap_err();
    assert_eq!(error.code().status(), 403);
    let body: Value = serde_json::from_slice(&error.body()).unwrap();
    assert_eq!(
        body,
        json!({"code": "permission_denied", "msg": "permission denied: needs a token with roomList"})
    );
    // No video grant at all.
    let claims = Claims::default();
    let token = access::mint("devkey", "secret", claims, Duration::from_mins(1), NOW_MS / 1000).unwrap();
    let authorization = format!("Bearer {token}");
    let path = "/twirp/livekit.RoomService/ListRooms";
    let call = open(&head(path, "application/json", &authorization), &keys(), NOW_MS).unwrap();
    let error = call.read(b"{}", &RoomLimits::default()).unwrap_err();
    assert_eq!(error, ApiError::NotAllowed(Needs::List));
}

#[test]
fn both_encodings_and_both_spellings_say_the_same() {
    let wanted = lk::UpdateSubscriptionsRequest {
        room: "garden".into(),
        identity: "ada".into(),
        track_sids: vec!["TR_a".into()],
        subscribe: true,
        participant_tracks: vec![lk::ParticipantTracks {
            participant_sid: "PA_b".into(),
            track_sids: vec!["TR_b".into()],
        }],
    };
    let request =
        Request::InRoom { name: "garden".into(), call: RoomCall::UpdateSubscriptions(wanted.clone()) };
    let method = Method::UpdateSubscriptions;
    let protobuf = read(method, everything(), "application/protobuf", &wanted.encode_to_vec());
    assert_eq!(protobuf.as_ref(), Ok(&request));
    for body in [
        json!({
            "room": "garden", "identity": "ada", "subscribe": true, "track_sids": ["TR_a"],
            "participant_tracks": [{"participant_sid": "PA_b", "track_sids": ["TR_b"]}],
        }),
        json!({
            "room": "garden", "identity": "ada", "subscribe": true, "trackSids": ["TR_a"], "ofTheFuture": {"x": 1},
            "participantTracks": [{"participantSid": "PA_b", "trackSids": ["TR_b"], "more": null}],
        }),
    ] {
        assert_eq!(ask(method, &body).as_ref(), Ok(&request));
    }
    // Bytes are base64, 64 bits may be text or a number, nothing may be null.
    let body =
        json!({"room": "garden", "data": "aGk=", "kind": "LOSSY", "topic": null, "destinationSids": null});
    let Ok(Request::InRoom { call: RoomCall::SendData(sent), .. }) = ask(Method::SendData, &body) else {
        panic!("not read");
    };
    assert_eq!((sent.data.as_slice(), sent.kind, &sent.topic), (&b"hi"[..], 1, &None));
    for revoke in [json!("5"), json!(5)] {
        let body = json!({"room": "garden", "identity": "ada", "revoke_token_ts": revoke});
        let removed = RoomCall::RemoveParticipant { identity: "ada".into() };
        assert_eq!(
            ask(Method::RemoveParticipant, &body),
            Ok(Request::InRoom { name: "garden".into(), call: removed })
        );
    }
}

#[test]
fn bodies_that_cannot_be_read_are_malformed_and_say_why() {
    for (content_type, body) in [
        ("application/json", &b""[..]),
        ("application/json", b"{"),
        ("application/json", b"[1]"),
        ("application/json", b"\xff"),
        ("application/json", br#"{"name": 5}"#),
        ("application/json", br#"{"emptyTimeout": "soon"}"#),
        ("application/protobuf", b"\xff\xff\xff"),
    ] {
        let error = read(Method::CreateRoom, everything(), content_type, body).unwrap_err();
        assert_eq!((error.code(), error.code().status()), (Code::Malformed, 400), "{body:?}");
        assert!(error.to_string().contains("CreateRoomRequest: "), "{error}");
    }
    let deep = "[".repeat(100_000);
    let error = read(Method::CreateRoom, everything(), "application/json", deep.as_bytes()).unwrap_err();
    assert_eq!(error.code(), Code::Malformed);
}

#[test]
fn arguments_that_can_never_work_name_what_is_wrong() {
    let limits = RoomLimits::default();
    let long = |bytes: usize| "x".repeat(bytes + 1);
    let with = |more: Value| {
        let mut body = any_body();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (method, body, text) in [
        (Method::CreateRoom, with(json!({"name": ""})), "room name cannot be empty"),
        (Method::CreateRoom, with(json!({"name": long(limits.name_bytes)})), "room name exceeds limits: 257"),
        (
            Method::CreateRoom,
            with(json!({"metadata": long(limits.metadata_bytes)})),
            "metadata exceeds limits",
        ),
        (Method::CreateRoom, with(json!({"room_preset": "p"})), "no room preset"),
        (
            Method::UpdateRoomMetadata,
            with(json!({"metadata": long(limits.metadata_bytes)})),
            "metadata exceeds",
        ),
        (Method::SendData, with(json!({"nonce": "aGk="})), "nonce should be 16-bytes or not present, got: 2"),
        (Method::SendData, with(json!({"topic": long(256 << 10)})), "data exceeds limits"),
        (Method::MoveParticipant, with(json!({})), "unimplemented"),
        (Method::ForwardParticipant, with(json!({})), "unimplemented"),
        (
            Method::PerformRpc,
            with(json!({"destination_identity": ""})),
            "destination identity cannot be empty",
        ),
        (Method::PerformRpc, with(json!({"method": ""})), "method cannot be empty"),
        (Method::PerformRpc, with(json!({"method": long(limits.name_bytes)})), "method exceeds limits"),
        (Method::CreateDispatch, with(json!({"deployment": "blue_green"})), "deployment must be"),
        (Method::CreateDispatch, with(json!({"agentName": long(limits.name_bytes)})), "agent_name exceeds"),
        (Method::CreateDispatch, with(json!({"metadata": long(limits.metadata_bytes)})), "metadata exceeds"),
        (
            Method::CreateDispatch,
            with(json!({"attributes": {"a": long(limits.attributes_bytes)}})),
            "attributes exceeds",
        ),
        (Method::CreateRoom, with(json!({"agents": [{"deployment": "a b"}]})), "deployment must be"),
        (Method::PerformRpc, with(json!({"response_timeout_ms": 300_001})), "limit of 300000"),
    ] {
        let error = ask(method, &body).unwrap_err();
        if text == "unimplemented" {
            assert_eq!(error.code(), Code::Unimplemented);
        } else {
            assert_eq!(error.code(), Code::InvalidArgument, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
    let error = ask(Method::PerformRpc, &with(json!({"payload": long(15 << 10)}))).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::Malformed, "RpcError 1402: Request payload too large")
    );
    let same = VideoGrant { destination_room: "garden".into(), ..everything() };
    let body = with(json!({"destination_room": "garden"})).to_string();
    let error = read(Method::MoveParticipant, same, "application/json", body.as_bytes()).unwrap_err();
    assert_eq!(error, ApiError::SameRoom);
    // What would silently not happen is refused.
    let error = ask(Method::CreateRoom, &with(json!({"egress": {"tracks": {}}}))).unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[test]
fn answers_are_written_in_the_encoding_of_the_call() {
    let room = lk::Room { name: "garden".into(), empty_timeout: 300, ..lk::Room::default() };
    let json: Value =
        serde_json::from_slice(&Answer::Room(Box::new(room.clone())).write(Encoding::Json)).unwrap();
    assert_eq!(
        (&json["name"], &json["empty_timeout"], &json["metadata"]),
        (&json!("garden"), &json!(300), &json!(""))
    );
    let bytes = Answer::Rooms(vec![room.clone()]).write(Encoding::Protobuf);
    assert_eq!(lk::ListRoomsResponse::decode(&bytes[..]).unwrap().rooms, [room]);
    assert_eq!(Answer::Done.write(Encoding::Json), b"{}");
    assert_eq!(Answer::Done.write(Encoding::Protobuf), b"");
    let rpc = || Answer::Rpc { payload: "42".into() };
    assert_eq!(rpc().write(Encoding::Json), br#"{"payload":"42"}"#);
    assert_eq!(lk::PerformRpcResponse::decode(&rpc().write(Encoding::Protobuf)[..]).unwrap().payload, "42");
    let track = lk::TrackInfo { sid: "TR_x".into(), muted: true, ..Default::default() };
    let json: Value = serde_json::from_slice(&Answer::Muted(Box::new(track)).write(Encoding::Json)).unwrap();
    assert_eq!((&json["track"]["sid"], &json["track"]["muted"]), (&json!("TR_x"), &json!(true)));
}

#[test]
fn codes_have_the_statuses_of_the_specification() {
    let statuses: Vec<(&str, u16)> = Code::ALL.into_iter().map(|code| (code.name(), code.status())).collect();
    assert_eq!(
        statuses,
        [
            ("canceled", 408),
            ("invalid_argument", 400),
            ("malformed", 400),
            ("not_found", 404),
            ("bad_route", 404),
            ("permission_denied", 403),
            ("unauthenticated", 401),
            ("resource_exhausted", 429),
            ("failed_precondition", 412),
            ("unimplemented", 501),
            ("internal", 500),
            ("unavailable", 503),
        ]
    );
}

proptest::proptest! {
    #[test]
    fn no_body_breaks_anything(bytes: Vec<u8>, which in 0..Method::ALL.len(), json: bool) {
        let content_type = if json { "application/json" } else { "application/protobuf" };
        let _ = read(Method::ALL[which], everything(), content_type, &bytes);
    }
}
