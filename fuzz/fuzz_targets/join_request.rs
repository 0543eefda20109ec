//! Any text as a `join_request`, and any bytes as what is inside one, plain or gzipped.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use libfuzzer_sys::fuzz_target;
use livekit_protocol::WrappedJoinRequest;
use prost::Message as _;
use signaling::livekit::connect::decode_join_request;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = decode_join_request(text);
    }
    let _ = decode_join_request(&URL_SAFE.encode(data));
    for compression in 0..3 {
        let wrapped = WrappedJoinRequest { compression, join_request: data.to_vec() };
        let _ = decode_join_request(&URL_SAFE.encode(wrapped.encode_to_vec()));
    }
});
