//! VP8 descriptor: read, renumbered in place, read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::vp8;

fuzz_target!(|payload: &[u8]| {
    let Some(before) = vp8::describe(payload, false) else { return };
    let numbers = before.vp8.expect("every VP8 packet has them");
    let mut copy = payload.to_vec();
    vp8::rewrite(&mut copy, &numbers, 0x2aaa, 0x55);
    let after = vp8::describe(&copy, false).expect("renumbering keeps the layout");
    assert_eq!(
        (after.frame_start, after.keyframe, after.temporal),
        (before.frame_start, before.keyframe, before.temporal)
    );
    assert_eq!(after.vp8.and_then(|numbers| numbers.tl0_pic_idx), numbers.tl0_pic_idx.map(|_| 0x55));
});
