//! Redundant audio: the primary block and those before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::red::Red;

fuzz_target!(|payload: &[u8]| {
    if let Some(red) = Red::parse(payload) {
        let blocks: usize = red.blocks().map(|block| block.size()).sum();
        assert!(red.payload_type < 128 && payload.ends_with(red.primary));
        assert_eq!(blocks + 1 + red.primary.len(), payload.len());
    }
});
