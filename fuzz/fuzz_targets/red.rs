//! Redundant audio: the primary block.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::red;

fuzz_target!(|payload: &[u8]| {
    if let Some((payload_type, block)) = red::primary(payload) {
        assert!(payload_type < 128 && payload.ends_with(block) && block.len() < payload.len());
    }
});
