//! A run of dependency descriptors of one stream, each with its length before it and whether a packet is missing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::ids::SeqNo;
use sfu::wire::dependency_descriptor::{MAX_TARGETS, Reader};
use sfu::wire::description::PacketDescription;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::default();
    let mut packet = SeqNo::first(0);
    let mut rest = data;
    while let Some((len, after)) = rest.split_first() {
        let (descriptor, after) = after.split_at(after.len().min(usize::from(*len & 0x7f)));
        rest = after;
        let before = reader.structure().cloned();
        packet = packet.plus(u64::from(len >> 7) + 1);
        match reader.read(packet, descriptor) {
            Ok(frame) => {
                let mut description = PacketDescription::default();
                description.apply(&frame);
                assert!(description.spatial < 4 && description.temporal < 8);
                assert!(description.temporal_sync || !description.keyframe);
                let structure = reader.structure().expect("a frame was read with one");
                assert!(structure.targets().count() <= MAX_TARGETS);
                let target = structure.target_for(frame.layer);
                assert!(target.is_none_or(|target| usize::from(target) < MAX_TARGETS));
            }
            Err(_) => assert_eq!(reader.structure(), before.as_ref(), "an error changes nothing"),
        }
    }
});
