//! Whatever is sent to the server API: an answer or an error of Twirp's, and never a fault of ours.
//!
//! `PROPTEST_CASES` says how many calls; sixty thousand take some twenty seconds.

use livekit_protocol as lk;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::header;
use serde_json::{Map, Value, json};
use signaling::livekit::api::{Code, Method};

use super::*;

/// Fields that requests have, so that what is in them is read and not only that they are there.
const FIELDS: [&str; 32] = [
    "room",
    "name",
    "names",
    "identity",
    "metadata",
    "attributes",
    "permission",
    "canPublish",
    "can_publish_sources",
    "trackSid",
    "track_sids",
    "participantTracks",
    "muted",
    "subscribe",
    "data",
    "kind",
    "topic",
    "nonce",
    "destination_identities",
    "destinationSids",
    "destinationRoom",
    "destination_identity",
    "method",
    "payload",
    "response_timeout_ms",
    "emptyTimeout",
    "max_participants",
    "agents",
    "agent_name",
    "dispatch_id",
    "egress",
    "deployment",
];

/// Texts of which some are right somewhere.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("garden".to_owned()),
        2 => Just("ada".to_owned()),
        2 => prop::sample::select(vec!["", "CAMERA", "TR_x", "AAAAAAAAAAAAAAAAAAAAAA==", "-1", "NaN"]).prop_map(str::to_owned),
        2 => ".{0,20}",
        1 => (250_usize..600).prop_map(|length| "é".repeat(length)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0_u32..100).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from), fields(inner, 0..6)]
    })
}

fn fields(
    value: impl Strategy<Value = Value> + 'static,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        8 => prop::sample::select(FIELDS.as_slice()).prop_map(str::to_owned),
        1 => ".{0,8}",
    ];
    prop::collection::vec((name, value), count)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>()))
}

/// One field of a protobuf message, by wire type, or its truth about its length.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let varint = |number: u64| {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(number, &mut bytes);
        bytes
    };
    let payload = prop_oneof![
        any::<u64>().prop_map(move |number| (0_u64, varint(number))),
        (0_u64..4).prop_map(move |number| (0, varint(number))),
        any::<[u8; 8]>().prop_map(|bytes| (1, bytes.to_vec())),
        prop_oneof![text().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..24)]
            .prop_map(move |bytes| (2, [varint(bytes.len() as u64), bytes].concat())),
        any::<[u8; 4]>().prop_map(|bytes| (5, bytes.to_vec())),
        (any::<u64>(), 3_u64..8).prop_map(move |(length, wire)| (wire, varint(length))),
    ];
    (1_u64..18, payload)
        .prop_map(move |(number, (wire, payload))| [varint(number << 3 | wire), payload].concat())
}

/// A content type and a body.
fn body() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let about_garden = fields(value(), 0..8).prop_map(|mut body| {
        for name in ["room", "name"] {
            body[name] = json!("garden");
        }
        body
    });
    let json = prop_oneof![4 => about_garden, 2 => fields(value(), 0..8), 1 => value()];
    let protobuf = || prop::collection::vec(field(), 0..8).prop_map(|fields| fields.concat());
    let in_garden = protobuf().prop_map(|fields| {
        let room = lk::DeleteRoomRequest { room: "garden".into() };
        [room.encode_to_vec(), fields].concat()
    });
    prop_oneof![
        4 => json.prop_map(|json| ("application/json", json.to_string().into_bytes())),
        2 => in_garden.prop_map(|bytes| ("application/protobuf", bytes)),
        1 => protobuf().prop_map(|bytes| ("application/protobuf", bytes)),
        1 => (
            prop::sample::select(vec!["application/json", "application/protobuf", "text/plain", ""]),
            prop::collection::vec(any::<u8>(), 0..64)
        ),
    ]
}

/// A method that there is, mostly.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => prop::sample::select(Method::ALL.as_slice()).prop_map(Method::path),
        1 => "/twirp/(livekit\\.)?(RoomService|Egress|SIP|[a-z]{0,5})/[A-Za-z]{0,12}",
    ]
}

fn good_token() -> String {
    let grant = VideoGrant {
        room_create: true,
        room_list: true,
        room_admin: true,
        room: "garden".into(),
        destination_room: "garden".into(),
        ..VideoGrant::default()
    };
    token_of(grant, "")
}

/// Whether an answer is one that Twirp knows.
fn judge(status: u16, content_type: &str, body: &[u8]) -> Result<(), String> {
    if status == 200 {
        let is_json = content_type == "application/json" && serde_json::from_slice::<Value>(body).is_ok();
        return if is_json || content_type == "application/protobuf" {
            Ok(())
        } else {
            Err("not an answer".into())
        };
    }
    let error: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let code = Code::ALL.into_iter().find(|code| error["code"] == code.name()).ok_or("no code of Twirp's")?;
    if code == Code::Internal || code.status() != status || content_type != "application/json" {
        return Err(format!("{status} {content_type} with {}", code.name()));
    }
    if error["msg"].as_str().is_none_or(str::is_empty) { Err("no words".into()) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_server_api_is_sent_it_answers_as_twirp_does() {
    let mut settings = Settings::test();
    settings.limits.rooms = Some(8);
    let server = start(settings).await;
    let client = reqwest::Client::new();
    let token = good_token();
    // Somebody to be asked for; an API call may send her away, and others go on without.
    let _ada = server.join("garden", "ada").await;
    let asked = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    let handle = tokio::runtime::Handle::current();
    let told = std::env::var("PROPTEST_CASES").ok();
    let cases = told.map_or(1500, |cases| cases.parse().expect("a number"));
    // Calls of methods that nobody answers are left out, however many.
    let config = Config { cases, max_global_rejects: cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    tokio::task::block_in_place(|| {
        let result = runner.run(&(path(), body()), |(path, (content_type, body))| {
            // Nobody answers there, and the call would wait for that.
            let waits = path.ends_with("PerformRpc") && body.windows(3).any(|part| part == b"ada");
            prop_assume!(!waits);
            let request = client
                .post(server.url(&path))
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, content_type)
                .body(body);
            let (status, content_type, body) = handle.block_on(async {
                let response = request.send().await.unwrap();
                let kind = response
                    .headers()
                    .get(header::CONTENT_TYPE)
                    .map(|kind| kind.to_str().unwrap().to_owned());
                (response.status().as_u16(), kind.unwrap_or_default(), response.bytes().await.unwrap())
            });
            *asked.borrow_mut().entry(status.to_string()).or_default() += 1;
            judge(status, &content_type, &body)
                .map_err(|why| TestCaseError::fail(format!("{why}: {}", String::from_utf8_lossy(&body))))
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    });
    // It was more than refused.
    let asked = asked.into_inner();
    assert!(asked["200"] > 50 && asked["400"] > 50 && asked.contains_key("403"), "{asked:?}");
    assert_eq!(server.get("/livez").await, (200, "OK".into()));
    server.stop().await;
}
