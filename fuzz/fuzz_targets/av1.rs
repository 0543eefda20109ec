//! AV1 packets: the aggregation header and the OBUs behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::av1;

fuzz_target!(|payload: &[u8]| {
    if let Some(description) = av1::describe(payload, false) {
        assert!(description.spatial < 4 && description.temporal < 8);
    }
    // Straight to the sequence header: one element, new sequence, no size field.
    let sequence = [&[0x18, 0x08][..], payload].concat();
    assert!(av1::describe(&sequence, true).is_some_and(|description| description.keyframe));
});
