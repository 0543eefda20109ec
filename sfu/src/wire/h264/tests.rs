use proptest::prelude::*;

use super::*;
use crate::wire::bits::BitWriter;

/// Constrained baseline 640x480, without the NAL header, as an encoder of a browser makes it.
const SPS_VGA: [u8; 13] = [0x42, 0xc0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a];
/// High 1920x1080: 68 rows of macroblocks, eight lines cropped.
const SPS_FULL_HD: [u8; 11] = [0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0];

fn stap(units: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![0x78];
    for unit in units {
        packet.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        packet.extend_from_slice(unit);
    }
    packet
}

#[test]
fn sizes_of_baseline_and_high() {
    assert_eq!(sps::picture_size(&SPS_VGA), Some((640, 480)));
    assert_eq!(sps::picture_size(&SPS_FULL_HD), Some((1920, 1080)));
    for len in 0..8 {
        assert_eq!(sps::picture_size(&SPS_VGA[..len]), None, "{len} bytes");
    }
    let escaped = [&[0x42, 0x00, 0x00, 0x03][..], &SPS_VGA[3..]].concat();
    assert_eq!(sps::picture_size(&escaped), Some((640, 480)), "the 3 after two zeros is not data");
}

#[test]
fn a_keyframe_in_one_aggregate() {
    let sps = [&[0x67][..], &SPS_VGA].concat();
    let packet = stap(&[&sps, &[0x68, 0xce, 0x3c, 0x80], &[0x65, 0x88, 0x84]]);
    let description = describe(&packet, true).unwrap();
    let expected = PacketDescription {
        frame_start: true,
        frame_end: true,
        keyframe: true,
        temporal_sync: true,
        size: Some((640, 480)),
        ..PacketDescription::default()
    };
    assert_eq!(description, expected);
    for len in [1, 2, packet.len() - 1] {
        assert_eq!(describe(&packet[..len], true), None, "{len} bytes of an aggregate");
    }
}

#[test]
fn fragments_of_an_idr_slice_belong_to_a_keyframe_and_the_first_starts_it() {
    let [first, middle, last] = [0x85, 0x05, 0x45].map(|fu| describe(&[0x7c, fu, 0x88], false).unwrap());
    assert!(first.keyframe && middle.keyframe && last.keyframe);
    assert_eq!([first, middle, last].map(|packet| packet.frame_start), [true, false, false]);
    assert_eq!(describe(&[0x7c], false), None);
}

#[test]
fn slices_start_a_frame_at_its_first_macroblock_only() {
    let first = describe(&[0x61, 0x9a, 0x24], false).unwrap();
    let second = describe(&[0x61, 0x4a, 0x24], true).unwrap();
    assert!(first.frame_start && !first.keyframe && !first.frame_end);
    assert!(!second.frame_start && second.frame_end);
    assert!(!describe(&[0x7c, 0x81, 0x4a], false).unwrap().frame_start, "a fragmented second slice");
}

#[test]
fn an_sps_of_its_own_opens_a_keyframe() {
    let description = describe(&[&[0x67][..], &SPS_FULL_HD].concat(), false).unwrap();
    assert!(description.keyframe && description.frame_start);
    assert_eq!(description.size, Some((1920, 1080)));
    let pps = describe(&[0x68, 0xce, 0x3c, 0x80], false).unwrap();
    assert!(!pps.keyframe && pps.frame_start);
}

#[test]
fn packets_of_the_interleaved_mode_are_unreadable() {
    for kind in [0, 25, 26, 27, 29, 30, 31] {
        assert_eq!(describe(&[0x60 | kind, 0, 1, 0x61], true), None, "type {kind}");
    }
    assert_eq!(describe(&[], true), None);
}

fn ue(bits: &mut BitWriter, value: u32) -> &mut BitWriter {
    let code = u64::from(value) + 1;
    let len = 64 - code.leading_zeros();
    bits.put(0, len - 1).put(code, len)
}

fn se(bits: &mut BitWriter, value: i32) -> &mut BitWriter {
    ue(bits, if value > 0 { 2 * value as u32 - 1 } else { 2 * value.unsigned_abs() })
}

/// As §7.4.1 has it: no two zeros and a byte below 4 follow each other.
fn escape(bytes: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::new();
    let mut zeros = 0;
    for &byte in bytes {
        if zeros == 2 && byte <= 3 {
            escaped.push(3);
            zeros = 0;
        }
        escaped.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    escaped
}

proptest! {
    #[test]
    fn sizes_survive_scaling_lists_fields_and_cropping(
        chroma in 0u32..4, lists: bool, deltas in proptest::collection::vec(-128i32..=127, 480), poc in 0u32..3,
        width in 1u32..512, height in 1u32..512, frames_only: bool, crop in proptest::option::of((0u32..4, 0u32..4)),
    ) {
        let mut bits = BitWriter::default();
        bits.put(100, 8).put(0, 8).put(31, 8);
        ue(ue(&mut bits, 0), chroma);
        if chroma == 3 {
            bits.put(0, 1);
        }
        ue(ue(&mut bits, 0), 0).put(0, 1).put(u64::from(lists), 1);
        if lists {
            let mut deltas = deltas.into_iter();
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                bits.put(1, 1);
                let mut scale = 8i32;
                for _ in 0..if list < 6 { 16 } else { 64 } {
                    let delta = deltas.next().unwrap();
                    se(&mut bits, delta);
                    scale = (scale + delta).rem_euclid(256);
                    if scale == 0 {
                        break;
                    }
                }
            }
        }
        ue(ue(&mut bits, 0), poc);
        match poc {
            0 => { ue(&mut bits, 4); }
            1 => { se(se(ue(se(se(bits.put(0, 1), -5), 7), 2), 1), -1); }
            _ => {}
        }
        ue(ue(ue(&mut bits, 1).put(0, 1), width - 1), height - 1).put(u64::from(frames_only), 1);
        if !frames_only {
            bits.put(0, 1);
        }
        bits.put(1, 1).put(u64::from(crop.is_some()), 1);
        if let Some((x, y)) = crop {
            ue(ue(ue(ue(&mut bits, 0), x), y), 0);
        }
        bits.put(1, 1);
        let (unit_x, unit_y) = [(1, 1), (2, 2), (2, 1), (1, 1)][chroma as usize];
        let fields = if frames_only { 1 } else { 2 };
        let (x, y) = crop.unwrap_or_default();
        let size = ((width * 16 - x * unit_x) as u16, (height * 16 * fields - y * unit_y * fields) as u16);
        prop_assert_eq!(sps::picture_size(&escape(&bits.bytes())), Some(size));
    }

    #[test]
    fn any_sps_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
        sps::picture_size(&body);
        let high = [&[100, 0, 31][..], &body].concat();
        sps::picture_size(&high);
    }

    #[test]
    fn any_payload_is_read_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..80), marker: bool) {
        describe(&payload, marker);
        describe(&[&[0x78][..], &payload].concat(), marker);
    }
}
