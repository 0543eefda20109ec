//! The VP9 payload descriptor (RFC 9628 §4.2).

use super::description::PacketDescription;

/// Describes one packet; `None` if its descriptor is cut or nothing follows it.
pub fn describe(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let mut rest = payload;
    let first = take(&mut rest)?;
    let has = |bit: u8| first & bit != 0;
    let (inter, layered, flexible) = (has(0x40), has(0x20), has(0x10));
    let (begin, end, structure) = (has(0x08), has(0x04), has(0x02));
    if has(0x80) && take(&mut rest)? & 0x80 != 0 {
        take(&mut rest)?; // second byte of a 15-bit picture id
    }
    let (mut spatial, mut temporal, mut up, mut depends) = (0, 0, false, false);
    if layered {
        let byte = take(&mut rest)?;
        temporal = byte >> 5;
        up = byte & 0x10 != 0;
        spatial = byte >> 1 & 0x07;
        depends = byte & 0x01 != 0;
        if !flexible {
            take(&mut rest)?; // TL0PICIDX
        }
    }
    if flexible && inter {
        // At most three reference differences, N says that another follows.
        let mut left = 3;
        while take(&mut rest)? & 0x01 != 0 {
            left -= 1;
            if left == 0 {
                return None;
            }
        }
    }
    let size = if structure { largest_picture(&mut rest)? } else { None };
    if rest.is_empty() {
        return None;
    }
    // A frame that refers to nothing in time and to no lower layer starts a decoder.
    let keyframe = !inter && !depends;
    Some(PacketDescription {
        frame_start: begin,
        frame_end: end || marker,
        keyframe,
        spatial,
        temporal,
        temporal_sync: up || temporal == 0 || !inter,
        size,
        ..PacketDescription::default()
    })
}

/// The scalability structure (§4.2.1): the size of its highest layer, if it has sizes.
#[expect(clippy::option_option, reason = "cut, or without sizes")]
fn largest_picture(rest: &mut &[u8]) -> Option<Option<(u16, u16)>> {
    let head = take(rest)?;
    let layers = (head >> 5) + 1;
    let mut size = None;
    if head & 0x10 != 0 {
        for _ in 0..layers {
            let (sides, tail) = rest.split_first_chunk::<4>()?;
            *rest = tail;
            size = Some((u16::from_be_bytes([sides[0], sides[1]]), u16::from_be_bytes([sides[2], sides[3]])));
        }
    }
    if head & 0x08 != 0 {
        // The picture group: layers of each picture, and what it refers to.
        for _ in 0..take(rest)? {
            let references = usize::from(take(rest)? >> 2 & 0x03);
            *rest = rest.get(references..)?;
        }
    }
    Some(size)
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, tail) = rest.split_first()?;
    *rest = tail;
    Some(byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_keyframe_with_its_structure_is_read() {
        // I, L, B, V; 15-bit id; TID 0, SID 0; TL0; two layers with sizes.
        let payload =
            [0xaa, 0x81, 0x23, 0x00, 0x05, 0x30, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68, 0xff];
        let read = describe(&payload, false).unwrap();
        assert!(read.frame_start && read.keyframe && !read.frame_end);
        assert_eq!((read.spatial, read.temporal, read.size), (0, 0, Some((640, 360))));
    }

    #[test]
    fn layers_and_switch_points_are_read() {
        // I, P, L, E; 7-bit id; TID 1, U, SID 1, D; TL0.
        let read = describe(&[0xe4, 0x11, 0x33, 0x05, 0xff], false).unwrap();
        assert_eq!((read.spatial, read.temporal), (1, 1));
        assert!(read.temporal_sync && read.frame_end && !read.keyframe && !read.frame_start);
        let inter_layer = describe(&[0xa8, 0x11, 0x03, 0x05, 0xff], false).unwrap();
        assert!(!inter_layer.keyframe, "it needs the lower spatial layer");
    }

    #[test]
    fn a_picture_group_is_passed_over() {
        // I, L, B, V; 15-bit id; TID 0, U, SID 0; TL0; two layers with sizes, G; two pictures, the second of TID 1
        // with one reference.
        let payload = [0xaa, 0x81, 2, 0x10, 7, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x00, 0x24, 1, 0xaa];
        let read = describe(&payload, false).unwrap();
        assert!(read.frame_start && read.keyframe && read.temporal_sync);
        assert_eq!(read.size, Some((640, 360)));
        for len in 0..payload.len() {
            assert_eq!(describe(&payload[..len], false), None, "{len} bytes");
        }
    }

    #[test]
    fn flexible_mode_has_up_to_three_references() {
        // I, P, L, F, E; TID 2, U, SID 1, D; no TL0; two references.
        let read = describe(&[0xf4, 5, 0x53, 0x03, 0x04, 0xaa], true).unwrap();
        assert_eq!((read.spatial, read.temporal, read.temporal_sync), (1, 2, true));
        assert!(describe(&[0x50, 0x03, 0x03, 0x02, 0xaa], true).is_some());
        assert_eq!(describe(&[0x50, 0x03, 0x03, 0x03, 0x02, 0xaa], true), None, "a fourth");
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        assert_eq!(describe(&[], false), None);
        assert_eq!(describe(&[0xa2, 0x81], false), None);
        assert_eq!(describe(&[0x02, 0x10, 1, 2], false), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = describe(&bytes, false);
        }
    }
}
