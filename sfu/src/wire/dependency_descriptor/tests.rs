use proptest::prelude::*;

use super::*;
use crate::wire::bits::BitWriter;
use crate::wire::description::PacketDescription;

/// Two temporal layers, bit by bit after A.4.1; three templates (keyframe, base, upper), two targets, one chain,
/// 320x180:
/// 10000 000000 00001 | 00 01 11 | 1010 1010 0001 | 0 100010 100000 | 10 | 0000 0010 0001 | 1 and the size.
const L1T2_KEYFRAME: [u8; 15] =
    [0x80, 0x00, 0x01, 0x80, 0x01, 0x1e, 0xa8, 0x51, 0x41, 0x01, 0x0c, 0x04, 0xfc, 0x02, 0xcc];

/// Reads a descriptor of a packet that follows no other: only frame numbers tell what is missing.
fn read(reader: &mut Reader, descriptor: &[u8]) -> Result<Descriptor, DescriptorError> {
    let number = descriptor.get(1..3).map_or(0, |number| u64::from(number[0]) << 8 | u64::from(number[1]));
    reader.read(SeqNo::first(0).plus(10 * number), descriptor)
}

/// A descriptor of three bytes, for a frame in one packet.
fn plain(template: u8, frame_number: u16) -> [u8; 3] {
    let [high, low] = frame_number.to_be_bytes();
    [0xc0 | template, high, low]
}

#[test]
fn a_structure_is_read_bit_by_bit() {
    let mut reader = Reader::default();
    let frame = read(&mut reader, &L1T2_KEYFRAME).unwrap();
    assert!(frame.first_packet && !frame.last_packet);
    assert_eq!((frame.frame_number, frame.layer, frame.entry), (1, LayerId::default(), Entry::Keyframe));
    assert_eq!((frame.size, frame.active_targets), (Some((320, 180)), 0b11));
    assert_eq!(
        [0, 1, 2].map(|target| frame.indications.of(target)),
        [Indication::Switch, Indication::Switch, Indication::NotPresent]
    );
    let structure = reader.structure().unwrap();
    let upper = LayerId { spatial: 0, temporal: 1 };
    assert_eq!(structure.targets().collect::<Vec<_>>(), [(0, LayerId::default()), (1, upper)]);
    assert_eq!(structure.target_for(LayerId { spatial: 2, temporal: 7 }), Some(1));
    assert_eq!(structure.target_for(LayerId { spatial: 2, temporal: 0 }), Some(0));
    assert_eq!((structure.chain_of(1), structure.chain_of(2)), (Some(0), None));

    let frame = read(&mut reader, &plain(2, 2)).unwrap();
    assert_eq!((frame.layer, frame.entry, frame.chain_diffs[0]), (upper, Entry::TemporalSync, 1));
    assert_eq!(frame.indications.of(0), Indication::NotPresent);
    assert_eq!(frame.indications.of(1), Indication::Discardable);
}

#[test]
fn later_packets_of_a_keyframe_are_a_keyframe_too() {
    let mut reader = Reader::default();
    read(&mut reader, &L1T2_KEYFRAME).unwrap();
    let mut description = PacketDescription { frame_start: true, ..PacketDescription::default() };
    description.apply(&read(&mut reader, &[0x40, 0, 1]).unwrap());
    let expected = PacketDescription {
        frame_end: true,
        keyframe: true,
        temporal_sync: true,
        frame_number: Some(1),
        ..PacketDescription::default()
    };
    assert_eq!(description, expected);
    let other = read(&mut reader, &plain(0, 2)).unwrap();
    assert_ne!(other.entry, Entry::Keyframe, "no structure came with it");
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let mut reader = Reader::default();
    assert_eq!(read(&mut reader, &plain(0, 1)), Err(DescriptorError::NoStructure));
    for len in 4..L1T2_KEYFRAME.len() {
        assert_eq!(read(&mut reader, &L1T2_KEYFRAME[..len]), Err(DescriptorError::Truncated), "{len} bytes");
        assert!(reader.structure().is_none());
    }
    assert_eq!(read(&mut reader, &[0x80, 0]), Err(DescriptorError::Truncated));
    read(&mut reader, &L1T2_KEYFRAME).unwrap();
    assert_eq!(read(&mut reader, &plain(3, 2)), Err(DescriptorError::UnknownTemplate(3)));
    assert!(read(&mut reader, &plain(1, 2)).is_ok());
}

#[test]
fn a_frame_may_differ_from_its_template() {
    let mut reader = Reader::default();
    read(&mut reader, &L1T2_KEYFRAME).unwrap();
    let mut bits = BitWriter::default();
    bits.put(0b11, 2).put(1, 6).put(2, 16).put(0b0_1111, 5);
    bits.put(0b01, 2); // only target 0 is active... bit 0
    bits.put(0b11_10, 4); // required for target 0, a switch to target 1
    bits.put(0b01_0001, 6).put(0b11_0000_0000_0111, 14).put(0, 2); // two references
    bits.put(200, 8); // chain
    let frame = read(&mut reader, &bits.bytes()).unwrap();
    assert_eq!(frame.active_targets, 0b01);
    assert_eq!([0, 1].map(|target| frame.indications.of(target)), [Indication::Required, Indication::Switch]);
    assert_eq!(frame.chain_diffs[0], 200);
    assert_eq!(read(&mut reader, &plain(2, 3)).unwrap().active_targets, 0b01, "holds until it is said anew");
    let bytes = bits.bytes();
    assert_eq!(read(&mut reader, &bytes[..bytes.len() - 1]), Err(DescriptorError::Truncated));
}

/// Templates of a structure without chains and sizes, each a layer, its indications and its references.
fn structure(template_id_offset: u8, targets: usize, templates: &[(LayerId, &str, &[u8])]) -> BitWriter {
    let mut bits = BitWriter::default();
    bits.put(u64::from(template_id_offset), 6).put(targets as u64 - 1, 5);
    for pair in templates.windows(2) {
        let (a, b) = (pair[0].0, pair[1].0);
        bits.put(
            if a == b {
                0
            } else if a.spatial == b.spatial {
                1
            } else {
                2
            },
            2,
        );
    }
    bits.put(3, 2);
    for (_, indications, _) in templates {
        assert_eq!(indications.len(), targets);
        for symbol in indications.chars() {
            bits.put("-DSR".find(symbol).unwrap() as u64, 2);
        }
    }
    for (_, _, references) in templates {
        for diff in *references {
            bits.put(1, 1).put(u64::from(diff - 1), 4);
        }
        bits.put(0, 1);
    }
    // No chains: 0 in ns(targets + 1), then no resolutions.
    bits.put(0, (targets + 1).ilog2()).put(0, 1);
    bits
}

fn keyframe(template: u8, frame_number: u16, structure: &BitWriter) -> Vec<u8> {
    let mut bytes = plain(template, frame_number).to_vec();
    let mut bits = BitWriter::default();
    bits.put(0b1_0000, 5).append(structure);
    bytes.extend_from_slice(&bits.bytes());
    bytes
}

const fn layer(spatial: u8, temporal: u8) -> LayerId {
    LayerId { spatial, temporal }
}

#[test]
fn three_temporal_layers_are_entered_where_only_the_base_is_needed() {
    let structure = structure(
        60,
        3,
        &[
            (layer(0, 0), "SSS", &[]),  // 60: keyframe
            (layer(0, 0), "SSS", &[4]), // 61
            (layer(0, 1), "-DS", &[2]), // 62
            (layer(0, 2), "--D", &[1]), // 63: after the base
            (layer(0, 2), "--D", &[1]), // 0: after the middle layer; ids wrap at 64
        ],
    );
    let mut reader = Reader::default();
    assert_eq!(read(&mut reader, &keyframe(60, 65534, &structure)).unwrap().entry, Entry::Keyframe);
    let entries: Vec<_> = [(63, 65535), (62, 0), (0, 1), (61, 2), (63, 3)]
        .map(|(template, number)| read(&mut reader, &plain(template, number)).unwrap().entry)
        .to_vec();
    let (sync, none) = (Entry::TemporalSync, Entry::None);
    assert_eq!(entries, [sync, sync, none, sync, sync], "the frame after the middle layer needs that layer");

    assert_eq!(read(&mut reader, &plain(63, 3)).unwrap().entry, sync, "another packet of the same frame");
    assert_eq!(read(&mut reader, &plain(62, 0)).unwrap().entry, none, "a late one");
    assert_eq!(
        read(&mut reader, &plain(62, 5)).unwrap().entry,
        none,
        "one frame is missing, and may have been needed"
    );
    assert_eq!(read(&mut reader, &plain(61, 6)).unwrap().entry, sync);
    assert_eq!(read(&mut reader, &plain(63, 7)).unwrap().entry, sync, "the base opens the way again");
}

/// libwebrtc gives one count of frames to all encodings of a simulcast.
#[test]
fn gaps_in_frame_numbers_are_no_losses_where_the_packets_follow_each_other() {
    let structure =
        structure(0, 2, &[(layer(0, 0), "SS", &[]), (layer(0, 0), "SS", &[6]), (layer(0, 1), "-D", &[3])]);
    let mut reader = Reader::default();
    let packet = |step| SeqNo::first(9).plus(step);
    reader.read(packet(0), &keyframe(0, 10, &structure)).unwrap();
    let mut entry =
        |step, template, number| reader.read(packet(step), &plain(template, number)).unwrap().entry;
    assert_eq!(entry(1, 2, 13), Entry::TemporalSync);
    assert_eq!(entry(2, 1, 16), Entry::TemporalSync);
    assert_eq!(entry(4, 2, 19), Entry::None, "a packet is missing as well");
    assert_eq!(entry(5, 1, 22), Entry::TemporalSync);
    assert_eq!(entry(6, 2, 25), Entry::TemporalSync);
    // The encoder starts anew, with lower numbers.
    reader.read(packet(7), &keyframe(0, 3, &structure)).unwrap();
    assert_eq!(reader.read(packet(8), &plain(2, 6)).unwrap().entry, Entry::TemporalSync);
}

#[test]
fn spatial_layers_advance_side_by_side() {
    // Targets (0,0) (0,1) (1,0) (1,1).
    let structure = structure(
        0,
        4,
        &[
            (layer(0, 0), "SSSS", &[]),
            (layer(0, 0), "SSRR", &[4]),
            (layer(0, 1), "-D-R", &[2]),
            (layer(1, 0), "--SS", &[1]),
            (layer(1, 0), "--SS", &[4, 1]),
            (layer(1, 1), "---D", &[2, 1]),
        ],
    );
    let mut reader = Reader::default();
    read(&mut reader, &keyframe(0, 10, &structure)).unwrap();
    assert_eq!(reader.structure().unwrap().target_for(layer(1, 0)), Some(2));
    let upper = read(&mut reader, &plain(3, 11)).unwrap();
    assert_eq!(
        (upper.entry, upper.layer),
        (Entry::TemporalSync, layer(1, 0)),
        "not a keyframe: it builds on one"
    );
    for (template, number) in [(2, 12), (5, 13), (1, 14), (4, 15), (2, 16), (5, 17)] {
        assert_eq!(
            read(&mut reader, &plain(template, number)).unwrap().entry,
            Entry::TemporalSync,
            "frame {number}"
        );
    }
}

#[test]
fn structures_beyond_their_bounds_are_refused() {
    let same = [(layer(0, 0), "S", &[][..]); 65];
    let mut reader = Reader::default();
    assert!(read(&mut reader, &keyframe(0, 1, &structure(0, 1, &same[..64]))).is_ok());
    assert_eq!(
        read(&mut reader, &keyframe(0, 1, &structure(0, 1, &same))),
        Err(DescriptorError::InvalidStructure)
    );
    for step in [1, 2] {
        let mut bits = BitWriter::default();
        bits.put(0, 6).put(0, 5);
        (0..8).for_each(|_| _ = bits.put(step, 2));
        bits.put(3, 2).put(0, 64);
        assert_eq!(
            read(&mut reader, &keyframe(0, 1, &bits)),
            Err(DescriptorError::InvalidStructure),
            "step {step}"
        );
    }
}

proptest! {
    #[test]
    fn any_sequence_of_descriptors_is_read_without_panic(
        descriptors in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..8),
    ) {
        let mut reader = Reader::default();
        for mut descriptor in descriptors {
            for attach in [false, true] {
                if attach && let Some(flags) = descriptor.get_mut(3) {
                    *flags |= 0x80;
                }
                if let Ok(frame) = read(&mut reader, &descriptor) {
                    PacketDescription::default().apply(&frame);
                    prop_assert!(frame.layer.spatial < 4 && frame.layer.temporal < 8);
                    prop_assert!(reader.structure().unwrap().targets().count() <= MAX_TARGETS);
                }
            }
        }
    }
}
