//! H.264 packets, and the sequence parameter sets in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::h264;

fuzz_target!(|payload: &[u8]| {
    if let Some(description) = h264::describe(payload, false) {
        assert!(description.size.is_none() || description.keyframe, "a size comes with an SPS");
    }
    // Straight to the SPS, which random bytes rarely are.
    let sps = [&[0x67][..], payload].concat();
    assert!(h264::describe(&sps, true).is_some_and(|description| description.keyframe));
});
