use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use livekit_protocol::WrappedJoinRequest;
use livekit_protocol::client_info::Sdk;
use prost::Message as _;

use super::*;
use crate::access::mint;

const NOW_MS: i64 = 1_800_000_000_500;

fn keys() -> Keys {
    [("devkey".to_owned(), "secret".to_owned())].into_iter().collect()
}

fn grant() -> VideoGrant {
    VideoGrant { room_join: true, room: "lobby".into(), ..VideoGrant::default() }
}

fn token(video: Option<VideoGrant>) -> String {
    token_for(Claims { sub: "alice".into(), metadata: "token's".into(), video, ..Claims::default() })
}

fn token_for(claims: Claims) -> String {
    mint("devkey", "secret", claims, Duration::from_mins(1), NOW_MS / 1000).unwrap()
}

fn ask(endpoint: Endpoint, query: &str, authorization: Option<&str>) -> Result<Admission, ConnectError> {
    let request = HttpRequest { endpoint, query, authorization, user_agent: Some("Chrome/1 Safari/1") };
    admit(&request, &keys(), &RoomLimits::default(), NOW_MS)
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn wrap(compression: i32, join_request: Vec<u8>) -> Vec<u8> {
    WrappedJoinRequest { compression, join_request }.encode_to_vec()
}

fn join_request() -> JoinRequest {
    JoinRequest {
        client_info: Some(ClientInfo { sdk: Sdk::Js as i32, protocol: 17, ..ClientInfo::default() }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            ..ConnectionSettings::default()
        }),
        publisher_offer: Some(SessionDescription {
            sdp: "v=0".into(),
            id: 1,
            ..SessionDescription::default()
        }),
        metadata: "own".into(),
        ..JoinRequest::default()
    }
}

#[test]
fn paths_are_recognised_with_doubled_slashes() {
    assert_eq!(route("/rtc"), Some((Endpoint::V0, Purpose::Connect)));
    assert_eq!(route("//rtc/v1"), Some((Endpoint::V1, Purpose::Connect)));
    assert_eq!(route("/rtc/v1/validate"), Some((Endpoint::V1, Purpose::Validate)));
    assert_eq!(route("/rtc/validate"), Some((Endpoint::V0, Purpose::Validate)));
    assert_eq!(route("/rtc/v2"), None);
    assert_eq!(route("/"), None);
}

#[test]
fn v1_reads_every_form_of_join_request() {
    let plain = join_request().encode_to_vec();
    let none = wrap(0, plain.clone());
    let zipped = wrap(1, gzip(&plain));
    let percent = URL_SAFE.encode(&zipped).replace('=', "%3D");
    for text in [
        URL_SAFE.encode(&none),
        URL_SAFE_NO_PAD.encode(&none),
        URL_SAFE.encode(&zipped),
        STANDARD.encode(&zipped),
        percent,
    ] {
        let query = format!("access_token={}&join_request={text}", token(Some(grant())));
        let admission = ask(Endpoint::V1, &query, None).expect(&text);
        assert_eq!((admission.room.as_str(), admission.identity.as_str()), ("lobby", "alice"));
        assert_eq!(admission.mode, Mode::Single);
        assert_eq!(admission.protocol(), 17);
        assert!(admission.auto_subscribe && !admission.adaptive_stream);
        assert_eq!(admission.publisher_offer.unwrap().id, 1);
        assert_eq!(admission.client.browser, "chrome");
        assert_eq!(admission.metadata, "token's", "metadata needs canUpdateOwnMetadata");
    }
}

#[test]
fn auto_subscribe_defaults_differ_between_the_paths() {
    let bearer = format!("Bearer {}", token(Some(grant())));
    let empty = URL_SAFE.encode(wrap(0, Vec::new()));
    // A WrappedJoinRequest without anything is zero bytes, so give it one field.
    let some = if empty.is_empty() {
        URL_SAFE
            .encode(wrap(0, JoinRequest { metadata: "x".into(), ..JoinRequest::default() }.encode_to_vec()))
    } else {
        empty
    };
    let v1 = ask(Endpoint::V1, &format!("join_request={some}"), Some(&bearer)).unwrap();
    assert!(!v1.auto_subscribe, "proto3: absent settings are false");
    let v0 = ask(Endpoint::V0, "", Some(&bearer)).unwrap();
    assert!(v0.auto_subscribe, "absent parameter is true");
    assert!(!v0.auto_subscribe_data && !v1.auto_subscribe_data, "SDKs ask for each data track");
    let all = ask(Endpoint::V0, "auto_subscribe_data_track=1", Some(&bearer)).unwrap();
    assert!(all.auto_subscribe_data);
    let connection_settings =
        Some(ConnectionSettings { auto_subscribe_data_track: Some(true), ..ConnectionSettings::default() });
    let request = JoinRequest { connection_settings, ..JoinRequest::default() };
    let wrapped = URL_SAFE.encode(wrap(0, request.encode_to_vec()));
    let all = ask(Endpoint::V1, &format!("join_request={wrapped}"), Some(&bearer)).unwrap();
    assert!(all.auto_subscribe_data && !all.auto_subscribe);
    assert_eq!(v0.mode, Mode::Dual);
    let switched = ask(Endpoint::V0, &format!("join_request={some}"), Some(&bearer)).unwrap();
    assert_eq!(switched.mode, Mode::Single, "join_request switches, whatever the path");
}

#[test]
fn v0_reads_the_clients_description() {
    let attributes = URL_SAFE_NO_PAD.encode(r#"{"a":"b"}"#);
    let query = format!(
        "sdk=python&os=Debian&os_version=12.0.0&device_model=Unknown&protocol=18&client_protocol=2&auto_subscribe=0\
         &adaptive_stream=true&version=1.2.0&capabilities=CAP_PACKET_TRAILER,CAP_COMPRESSION_DEFLATE_RAW,CAP_NEW\
         &reconnect=1&sid=PA_old&reconnect_reason=2&attributes={attributes}"
    );
    let grant = VideoGrant { can_update_own_metadata: Some(true), ..grant() };
    let got = ask(Endpoint::V0, &query, Some(&format!("bearer {}", token(Some(grant))))).unwrap();
    assert_eq!(got.client.sdk, Sdk::Python as i32);
    assert_eq!((got.client.protocol, got.client.client_protocol), (18, 2));
    assert_eq!(got.client.capabilities, vec![1, 2]);
    assert!(!got.auto_subscribe && got.adaptive_stream);
    assert_eq!(got.resume, Some(Resume { participant_sid: "PA_old".into(), reason: 2 }));
    assert_eq!(got.attributes["a"], "b");
}

#[test]
fn own_metadata_counts_where_the_token_allows_it() {
    let grant = VideoGrant { can_update_own_metadata: Some(true), ..grant() };
    let text = URL_SAFE.encode(wrap(1, gzip(&join_request().encode_to_vec())));
    let bearer = format!("Bearer {}", token(Some(grant)));
    let got = ask(Endpoint::V1, &format!("join_request={text}"), Some(&bearer)).unwrap();
    assert_eq!(got.metadata, "own");
}

#[test]
fn each_bad_request_has_its_own_status_and_text() {
    let good = format!("Bearer {}", token(Some(grant())));
    let refused = |endpoint, query: &str, authorization: Option<&str>| {
        let refusal = ask(endpoint, query, authorization).expect_err(query).refusal();
        (refusal.status, refusal.body)
    };
    let v1 = |query: &str| refused(Endpoint::V1, query, Some(&good));
    assert_eq!(refused(Endpoint::V0, "", None), (401, "no access token given".into()));
    assert_eq!(refused(Endpoint::V0, "", Some("Basic abc")).0, 401);
    assert_eq!(refused(Endpoint::V0, "access_token=x", None).0, 401);
    let bearer = |video| format!("Bearer {}", token(video));
    assert!(refused(Endpoint::V0, "", Some(&bearer(None))).1.contains("no video grant"));
    let denied = refused(Endpoint::V0, "", Some(&bearer(Some(VideoGrant::default()))));
    assert_eq!(denied, (401, "permission denied: the token has no roomJoin grant".into()));
    let nowhere = bearer(Some(VideoGrant { room_join: true, ..VideoGrant::default() }));
    assert_eq!(refused(Endpoint::V0, "", Some(&nowhere)).0, 400);
    let nobody = format!("Bearer {}", token_for(Claims { video: Some(grant()), ..Claims::default() }));
    assert_eq!(refused(Endpoint::V0, "", Some(&nobody)), (400, "identity cannot be empty".into()));

    assert_eq!(v1(""), (400, "join_request is required".into()));
    assert_eq!(v1("join_request=*"), (400, "cannot decode join_request: not base64".into()));
    let encoded = |bytes: Vec<u8>| format!("join_request={}", URL_SAFE.encode(bytes));
    assert!(v1(&encoded(vec![0xff; 9])).1.ends_with("not a WrappedJoinRequest"));
    assert!(v1(&encoded(wrap(7, vec![1]))).1.ends_with("unknown compression 7"));
    assert!(v1(&encoded(wrap(1, vec![1, 2, 3]))).1.ends_with("not gzip"));
    let zipped = gzip(&join_request().encode_to_vec());
    assert!(v1(&encoded(wrap(1, zipped[..zipped.len() / 2].to_vec()))).1.ends_with("not gzip"));
    assert!(v1(&encoded(wrap(0, vec![0xff; 9]))).1.ends_with("not a JoinRequest"));
    assert_eq!(refused(Endpoint::V0, "attributes=e30x", Some(&good)).0, 400);
}

#[test]
fn a_gzip_bomb_is_refused_without_being_inflated() {
    let bomb = gzip(&vec![0; 256 << 20]);
    assert!(bomb.len() < MAX_INFLATED, "small outside");
    let text = URL_SAFE.encode(wrap(1, bomb));
    assert_eq!(decode_join_request(&text), Err(JoinRequestError::TooLarge));
}

#[test]
fn overlong_names_are_refused_and_name_the_limit() {
    let long = |claims: Claims| {
        let bearer = format!("Bearer {}", token_for(Claims { video: Some(grant()), ..claims }));
        ask(Endpoint::V0, "", Some(&bearer)).expect_err("too long").refusal()
    };
    let refusal = long(Claims { sub: "x".repeat(257), ..Claims::default() });
    assert_eq!((refusal.status, refusal.body.as_str()), (400, "identity of 257 bytes, limit 256"));
    let sub = || "a".to_owned();
    assert!(long(Claims { sub: sub(), name: "x".repeat(257), ..Claims::default() }).body.starts_with("name"));
    let metadata = "x".repeat((512 << 10) + 1);
    assert!(long(Claims { sub: sub(), metadata, ..Claims::default() }).body.starts_with("metadata"));
    let attributes = [("k".to_owned(), "x".repeat(64 << 10))].into();
    assert!(long(Claims { sub: sub(), attributes, ..Claims::default() }).body.starts_with("attributes"));
}

#[test]
fn permissions_and_kind_come_from_the_grant() {
    let video = VideoGrant {
        can_publish: Some(false),
        can_publish_sources: vec!["camera".into(), "screen_share".into()],
        hidden: true,
        agent: true,
        ..grant()
    };
    let got = ask(Endpoint::V0, "", Some(&format!("Bearer {}", token(Some(video))))).unwrap();
    assert!(!got.permission.can_publish && !got.permission.can_publish_data && got.permission.can_subscribe);
    assert_eq!(got.permission.can_publish_sources, vec![1, 3]);
    assert!(got.permission.hidden);
    assert_eq!(got.kind, Kind::Agent);
}

#[test]
fn room_configuration_is_read_from_the_token() {
    let claims = Claims {
        sub: "a".into(),
        video: Some(grant()),
        room_config: Some(serde_json::json!({"maxParticipants": 2, "metadata": "m", "future": 1})),
        ..Claims::default()
    };
    let got = ask(Endpoint::V0, "", Some(&format!("Bearer {}", token_for(claims)))).unwrap();
    assert_eq!(got.room_config.unwrap().max_participants, 2);
}

proptest::proptest! {
    #[test]
    fn no_request_panics(query in "\\PC{0,200}", header in "\\PC{0,80}", junk: Vec<u8>) {
        let _ = ask(Endpoint::V0, &query, Some(&header));
        let _ = ask(Endpoint::V1, &format!("join_request={}", URL_SAFE.encode(&junk)), Some(&header));
        let _ = decode_join_request(&query);
        let _ = decode_join_request(&URL_SAFE.encode(wrap(1, gzip(&junk))));
    }
}
