//! A run of dependency descriptors of one stream, each with its length before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::dependency_descriptor::Reader;
use sfu::wire::description::PacketDescription;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::default();
    let mut rest = data;
    while let Some((len, after)) = rest.split_first() {
        let (descriptor, after) = after.split_at(after.len().min(usize::from(*len)));
        rest = after;
        if let Some(frame) = reader.read(descriptor) {
            let mut description = PacketDescription::default();
            description.apply(&frame);
            assert_eq!(description.frame_number, Some(frame.frame_number));
        }
    }
});
