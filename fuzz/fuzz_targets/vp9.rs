//! VP9 descriptor.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::vp9;

fuzz_target!(|payload: &[u8]| {
    if let Some(description) = vp9::describe(payload, false) {
        assert!(description.spatial < 8 && description.temporal < 8);
    }
});
