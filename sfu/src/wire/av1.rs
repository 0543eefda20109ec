//! AV1: the aggregation header and the OBUs behind it (RTP payload format for AV1, v1.0.0, §4.4, §4.5).
//!
//! Every packet of a frame but the first may be the middle of an OBU, which says nothing of itself. What this
//! module cannot tell, `dependency_descriptor` can.

use super::bits::BitReader;
use super::description::PacketDescription;

/// OBU types (AV1 §6.2.2).
mod obu {
    pub(super) const SEQUENCE_HEADER: u8 = 1;
    pub(super) const TEMPORAL_DELIMITER: u8 = 2;
    pub(super) const FRAME_HEADER: u8 = 3;
    pub(super) const METADATA: u8 = 5;
    pub(super) const FRAME: u8 = 6;
}

/// Reads one packet; `marker` is that of the RTP header. `None` for a packet without OBUs or with an element
/// that is longer than what is left.
///
/// `keyframe` is the N bit, which only the first packet of a coded video sequence has; a sequence header counts as
/// well, since not every sender sets the bit. `size` is the largest that the header allows, over all layers. The layer is that of the first OBU that begins
/// here and names one, else 0. `frame_start` is true for a packet that begins with the head of a frame or
/// what comes before one; `frame_end` is the end of the picture, all its spatial layers included.
pub fn describe(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let (&aggregation, mut rest) = payload.split_first()?;
    let continues = aggregation & 0x80 != 0;
    let element_count = usize::from(aggregation >> 4 & 0x03); // 0: every element has its length
    let mut description = PacketDescription {
        frame_end: marker,
        keyframe: aggregation & 0x08 != 0,
        ..PacketDescription::default()
    };
    let mut layer = None;
    let mut index = 0; // of elements, from 1
    while !rest.is_empty() {
        index += 1;
        let element = if element_count != 0 && index == element_count {
            std::mem::take(&mut rest)
        } else {
            let len = take_leb128(&mut rest)?;
            let (element, after) = rest.split_at_checked(len)?;
            rest = after;
            element
        };
        if index == 1 && continues {
            continue;
        }
        let Some(unit) = Obu::parse(element) else { continue };
        if index == 1 {
            description.frame_start = unit.may_begin_frame();
        }
        layer = layer.or(unit.layer);
        if unit.kind == obu::SEQUENCE_HEADER {
            description.keyframe = true;
            description.size = sequence_size(unit.body).or(description.size);
        }
    }
    if index == 0 {
        return None;
    }
    (description.temporal, description.spatial) = layer.unwrap_or_default();
    description.temporal_sync = description.temporal == 0 || description.keyframe;
    Some(description)
}

/// The same for a packet whose OBUs are encrypted end to end: what the aggregation header says, which the RTP stack writes
/// after that. `None` for an empty packet.
pub fn describe_encrypted(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let aggregation = payload.first()?;
    Some(PacketDescription {
        frame_start: aggregation & 0x80 == 0,
        frame_end: marker,
        keyframe: aggregation & 0x08 != 0,
        temporal_sync: true,
        ..PacketDescription::default()
    })
}

/// The start of an OBU.
struct Obu<'a> {
    kind: u8,
    /// Temporal and spatial id.
    layer: Option<(u8, u8)>,
    body: &'a [u8],
}

impl<'a> Obu<'a> {
    /// AV1 §5.3. `None` for an element too short or with the forbidden bit.
    fn parse(element: &'a [u8]) -> Option<Obu<'a>> {
        let (&header, mut body) = element.split_first()?;
        if header & 0x80 != 0 {
            return None;
        }
        let mut layer = None;
        if header & 0x04 != 0 {
            let (&extension, after) = body.split_first()?;
            layer = Some((extension >> 5, extension >> 3 & 0x03));
            body = after;
        }
        if header & 0x02 != 0 {
            // Senders should leave the size out; the rest of the element may belong to a later packet.
            let len = take_leb128(&mut body)?;
            body = body.get(..len).unwrap_or(body);
        }
        Some(Obu { kind: header >> 3 & 0x0f, layer, body })
    }

    fn may_begin_frame(&self) -> bool {
        matches!(
            self.kind,
            obu::SEQUENCE_HEADER | obu::TEMPORAL_DELIMITER | obu::FRAME_HEADER | obu::METADATA | obu::FRAME
        )
    }
}

/// Seven bits a byte, least significant first, at most 8 bytes and 32 bits (AV1 §4.10.5).
fn take_leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for at in 0..8 {
        let byte = *bytes.get(at)?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return u32::try_from(value).ok().map(|value| value as usize);
        }
    }
    None
}

/// Largest width and height in a sequence header (AV1 §5.5.1).
fn sequence_size(body: &[u8]) -> Option<(u16, u16)> {
    let mut bits = BitReader::new(body);
    bits.skip(3 + 1)?; // seq_profile, still_picture
    if bits.flag()? {
        bits.skip(5)?; // reduced_still_picture_header: the level alone
    } else {
        let mut delay_bits = None;
        if bits.flag()? {
            bits.skip(32 + 32)?; // num_units_in_display_tick, time_scale
            if bits.flag()? {
                bits.exp_golomb()?; // num_ticks_per_picture_minus_1
            }
            if bits.flag()? {
                delay_bits = Some(bits.bits(5)? + 1);
                bits.skip(32 + 5 + 5)?; // the rest of decoder_model_info
            }
        }
        skip_operating_points(&mut bits, delay_bits)?;
    }
    let width_bits = bits.bits(4)? + 1;
    let height_bits = bits.bits(4)? + 1;
    let mut pixels = |count| u16::try_from(bits.bits(count)? + 1).ok();
    Some((pixels(width_bits)?, pixels(height_bits)?))
}

fn skip_operating_points(bits: &mut BitReader<'_>, delay_bits: Option<u32>) -> Option<()> {
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.bits(5)? {
        bits.skip(12)?; // operating_point_idc
        let level = bits.bits(5)?;
        if level > 7 {
            bits.skip(1)?; // seq_tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(delay_bits + delay_bits + 1)?; // decoder and encoder delay, low_delay_mode_flag
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?; // initial_display_delay_minus_1
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Profile 0 and one operating point: 24 zero bits. Then level 8, tier 0, widths of 10 and heights of 9 bits, and
    /// 640x360 less one each: 01000 0 1001 1000 1001111111 101100111.
    const SEQUENCE_HEADER: [u8; 8] = [0, 0, 0, 0x42, 0x62, 0x7f, 0xb3, 0x80];

    #[test]
    fn a_new_sequence_says_its_size() {
        // W = 2, N; sequence header with length, then a frame to the end of the packet.
        let mut payload = vec![0x28, 9, 0x08];
        payload.extend_from_slice(&SEQUENCE_HEADER);
        payload.extend_from_slice(&[0x30, 0xaa, 0xbb]);
        let description = describe(&payload, false).unwrap();
        let expected = PacketDescription {
            frame_start: true,
            keyframe: true,
            temporal_sync: true,
            size: Some((640, 360)),
            ..PacketDescription::default()
        };
        assert_eq!(description, expected);
    }

    #[test]
    fn of_encrypted_units_the_aggregation_header_is_read_alone() {
        // N, then what is no OBU; the continuation of that; and what would be a sequence header.
        let [first, rest, next] = [&[0x08, 0xff][..], &[0x80, 0xff], &[0x10, 0x08, 0x00]]
            .map(|payload| describe_encrypted(payload, false).unwrap());
        assert!(first.keyframe && first.frame_start);
        assert!(!rest.keyframe && !rest.frame_start);
        assert!(!next.keyframe && next.frame_start);
        assert_eq!(describe_encrypted(&[], true), None);
    }

    #[test]
    fn layers_come_from_the_first_unit_that_begins_here() {
        // W = 0: lengths everywhere. Z: the first element is the end of an older one; then a frame of T2 S1.
        let payload = [0x80, 2, 0x34, 0xff, 4, 0x34, 0x48, 0xaa, 0xbb];
        let description = describe(&payload, true).unwrap();
        assert_eq!((description.temporal, description.spatial), (2, 1));
        assert!(!description.temporal_sync, "the payload does not tell");
        assert!(!description.frame_start, "it begins in the middle of an OBU");
        assert!(description.frame_end);
    }

    #[test]
    fn a_sequence_header_makes_a_keyframe_without_the_n_bit() {
        assert!(describe(&[0x20, 2, 0x08, 0x00, 0x30, 0x11], false).unwrap().keyframe);
        assert!(!describe(&[0x90, 0x08, 0x00], true).unwrap().keyframe, "the middle of something else");
    }

    #[test]
    fn a_packet_that_begins_with_a_tile_group_does_not_start_a_frame() {
        assert!(!describe(&[0x10, 4 << 3, 0xaa], false).unwrap().frame_start);
        assert!(describe(&[0x10, 3 << 3, 0xaa], false).unwrap().frame_start);
        assert!(!describe(&[0x90, 3 << 3, 0xaa], false).unwrap().frame_start, "Z: not the start of anything");
    }

    #[test]
    fn broken_packets_are_unreadable() {
        assert_eq!(describe(&[], false), None);
        assert_eq!(describe(&[0x10], false), None, "no OBU");
        assert_eq!(describe(&[0x00, 3, 0x30, 0xaa], false), None, "a length past the end");
        assert_eq!(
            describe(&[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], false),
            None,
            "no length"
        );
        let long = [&[0x00][..], &[1, 0x78].repeat(600)].concat();
        assert!(describe(&long, false).is_some(), "any number of elements");
    }

    #[test]
    fn a_sequence_header_cut_short_has_no_size() {
        assert_eq!(sequence_size(&SEQUENCE_HEADER), Some((640, 360)));
        for len in 0..8 {
            assert_eq!(sequence_size(&SEQUENCE_HEADER[..len]), None, "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..80), marker: bool) {
            if let Some(description) = describe(&payload, marker) {
                prop_assert!(description.spatial < 4 && description.temporal < 8);
            }
        }

        #[test]
        fn any_sequence_header_is_read_without_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            sequence_size(&body);
        }
    }
}
