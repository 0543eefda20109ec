//! Any bytes as the body of a call of the server API: the first byte picks method and encoding.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use signaling::access::{self, Claims, Keys, VideoGrant};
use signaling::livekit::RoomLimits;
use signaling::livekit::api::{self, Head, Method};

static KEYS: LazyLock<Keys> =
    LazyLock::new(|| [("key".to_owned(), "secret".to_owned())].into_iter().collect());

static AUTHORIZATION: LazyLock<String> = LazyLock::new(|| {
    let video = VideoGrant { room_create: true, room_list: true, room_admin: true, ..VideoGrant::default() };
    let claims = Claims { video: Some(video), ..Claims::default() };
    let token = access::mint("key", "secret", claims, Duration::from_mins(1), 0).expect("a secret");
    format!("Bearer {token}")
});

fuzz_target!(|data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let method = Method::ALL[usize::from(first >> 1) % Method::ALL.len()];
    let path = format!("/twirp/livekit.RoomService/{}", method.name());
    let content_type = if first & 1 == 0 { "application/json" } else { "application/protobuf" };
    let (content_type, authorization) = (Some(content_type), Some(AUTHORIZATION.as_str()));
    let head = Head { post: true, path: &path, query: "", content_type, authorization };
    let call = api::open(&head, &KEYS, 0).expect("a good head");
    let _ = call.read(body, &RoomLimits::default());
});
