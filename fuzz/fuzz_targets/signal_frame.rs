//! Any bytes as a signal frame, in both encodings, given to a room with somebody in it.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use signaling::access::{self, Claims, Keys, VideoGrant};
use signaling::livekit::connect::{self, Endpoint, HttpRequest};
use signaling::livekit::frame::{self, Encoding};
use signaling::livekit::{Clock, Output, Room, SessionId, Settings};

const UNIX_MS: i64 = 1_800_000_000_000;

fuzz_target!(|data: &[u8]| {
    let keys: Keys = [("key".to_owned(), "secret".to_owned())].into_iter().collect();
    let settings = Arc::new(Settings { keys, ..Settings::default() });
    let mut clock = Clock { now: Instant::now(), unix_ms: UNIX_MS };
    let mut room = Room::new(clock, settings.clone(), "r".to_owned(), None, fastrand::Rng::with_seed(1));
    for name in ["a", "b"] {
        let session = SessionId(u64::from(name.as_bytes()[0]));
        let video = VideoGrant {
            room_join: true,
            room: "r".to_owned(),
            can_update_own_metadata: Some(true),
            ..VideoGrant::default()
        };
        let claims = Claims { sub: name.to_owned(), video: Some(video), ..Claims::default() };
        let token =
            access::mint("key", "secret", claims, Duration::from_secs(60), UNIX_MS / 1000).expect("minted");
        let header = format!("Bearer {token}");
        let request = HttpRequest {
            endpoint: Endpoint::V0,
            query: "protocol=17",
            authorization: Some(&header),
            user_agent: None,
        };
        let admission =
            connect::admit(&request, &settings.keys, &settings.limits, UNIX_MS).expect("admitted");
        room.join(clock, session, admission).expect("joined");
    }
    // The input is a row of frames: a length byte before each, and the rest as the last.
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (frame, next) = after.split_at(usize::from(length).min(after.len()));
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            if let Ok(request) = frame::decode(encoding, frame) {
                room.frame(clock, SessionId(u64::from(b'a')), request);
            }
        }
        rest = next;
    }
    if let Ok(request) = frame::decode(Encoding::Protobuf, data) {
        room.frame(clock, SessionId(u64::from(b'b')), request);
    }
    clock.now += Duration::from_secs(61);
    room.handle_timeout(clock);
    while let Some(output) = room.poll_output() {
        if let Output::Send { response, .. } = output {
            frame::encode(Encoding::Protobuf, &response);
            frame::encode(Encoding::Json, &response);
        }
    }
});
