//! The VP8 payload descriptor (RFC 7741 §4.2) and as much of the frame header as tells a keyframe (§4.3).

use super::description::{PacketDescription, Vp8Numbers};

/// Describes one packet; `None` if its descriptor is cut or nothing follows it.
///
/// `keyframe` is set on a frame's first packet only: later packets of VP8 do not say.
pub fn describe(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let first = *payload.first()?;
    let mut numbers = Vp8Numbers::default();
    let (mut temporal, mut sync) = (0, false);
    let mut at = 1;
    if first & 0x80 != 0 {
        let bits = *payload.get(at)?;
        at += 1;
        if bits & 0x80 != 0 {
            let high = *payload.get(at)?;
            numbers.picture_id_at = at as u8;
            numbers.wide_picture_id = high & 0x80 != 0;
            numbers.picture_id = Some(if numbers.wide_picture_id {
                u16::from(high & 0x7f) << 8 | u16::from(*payload.get(at + 1)?)
            } else {
                u16::from(high)
            });
            at += 1 + usize::from(numbers.wide_picture_id);
        }
        if bits & 0x40 != 0 {
            numbers.tl0_pic_idx = Some(*payload.get(at)?);
            numbers.tl0_pic_idx_at = at as u8;
            at += 1;
        }
        if bits & 0x30 != 0 {
            let byte = *payload.get(at)?;
            if bits & 0x20 != 0 {
                temporal = byte >> 6;
                sync = byte & 0x20 != 0;
            }
            at += 1;
        }
    }
    let frame = payload.get(at..).filter(|frame| !frame.is_empty())?;
    // S and partition index 0: the packet begins the frame, and the frame header stands at its head.
    let frame_start = first & 0x10 != 0 && first.trailing_zeros() >= 3;
    let keyframe = frame_start && frame[0] & 0x01 == 0;
    Some(PacketDescription {
        frame_start,
        frame_end: marker,
        keyframe,
        temporal,
        temporal_sync: sync || temporal == 0 || keyframe,
        vp8: Some(numbers),
        size: keyframe.then(|| picture_size(frame)).flatten(),
        ..PacketDescription::default()
    })
}

/// Width and height behind the start code of a keyframe (RFC 6386 §9.1), scaling bits left out.
fn picture_size(frame: &[u8]) -> Option<(u16, u16)> {
    let head = frame.get(3..10)?;
    if head[..3] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    let side = |low: u8, high: u8| u16::from_le_bytes([low, high]) & 0x3fff;
    Some((side(head[3], head[4]), side(head[5], head[6])))
}

/// Writes other numbers into a descriptor, in place and in the width that it has.
pub fn rewrite(payload: &mut [u8], numbers: &Vp8Numbers, picture_id: u16, tl0_pic_idx: u8) {
    if numbers.picture_id.is_some() {
        let at = usize::from(numbers.picture_id_at);
        if numbers.wide_picture_id {
            if let Some(bytes) = payload.get_mut(at..at + 2) {
                bytes.copy_from_slice(&(picture_id | 0x8000).to_be_bytes());
            }
        } else if let Some(byte) = payload.get_mut(at) {
            *byte = picture_id as u8 & 0x7f;
        }
    }
    if numbers.tl0_pic_idx.is_some()
        && let Some(byte) = payload.get_mut(usize::from(numbers.tl0_pic_idx_at))
    {
        *byte = tl0_pic_idx;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// X, S; I, L, T; 15-bit id 0x1234; TL0 9; TID 2 with Y; keyframe of 640 x 360.
    const KEYFRAME: [u8; 16] =
        [0x90, 0xe0, 0x92, 0x34, 9, 0xa0, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];

    #[test]
    fn a_full_descriptor_is_read() {
        let read = describe(&KEYFRAME, false).unwrap();
        assert!(read.frame_start && read.keyframe && read.temporal_sync && !read.frame_end);
        assert_eq!((read.temporal, read.size), (2, Some((640, 360))));
        let numbers = read.vp8.unwrap();
        assert_eq!((numbers.picture_id, numbers.tl0_pic_idx), (Some(0x1234), Some(9)));
    }

    #[test]
    fn later_packets_and_delta_frames_are_no_keyframes() {
        let second_partition = [0x11, 0x00];
        let delta = [0x10, 0x01];
        assert!(!describe(&second_partition, true).unwrap().frame_start);
        let delta = describe(&delta, true).unwrap();
        assert!(delta.frame_start && !delta.keyframe && delta.frame_end);
    }

    #[test]
    fn only_the_first_packet_of_the_first_partition_starts_a_frame() {
        for (first, starts) in [(0x10, true), (0x00, false), (0x11, false), (0x30, true)] {
            let read = describe(&[first, 0x00, 0, 0], false).unwrap();
            assert_eq!((read.frame_start, read.keyframe), (starts, starts), "{first:#x}");
            assert_eq!(read.vp8, Some(Vp8Numbers::default()), "a descriptor of one byte has no numbers");
            assert_eq!(read.size, None);
        }
    }

    #[test]
    fn a_key_index_without_temporal_layers_is_passed_over() {
        // X, S; K alone: the byte is there, TID and Y in it mean nothing.
        let read = describe(&[0x90, 0x10, 0xff, 0x01], false).unwrap();
        assert_eq!((read.temporal, read.keyframe), (0, false));
        // X, S; T without Y.
        assert!(!describe(&[0x90, 0x20, 0x80, 0x01], false).unwrap().temporal_sync);
    }

    #[test]
    fn numbers_are_rewritten_in_their_width() {
        let mut wide = KEYFRAME;
        let numbers = describe(&wide, false).unwrap().vp8.unwrap();
        rewrite(&mut wide, &numbers, 0x7fff, 200);
        let again = describe(&wide, false).unwrap().vp8.unwrap();
        assert_eq!((again.picture_id, again.tl0_pic_idx), (Some(0x7fff), Some(200)));

        let mut narrow = [0x90, 0x80, 0x05, 0x00];
        let numbers = describe(&narrow, false).unwrap().vp8.unwrap();
        rewrite(&mut narrow, &numbers, 0x1ff, 0);
        assert_eq!(narrow, [0x90, 0x80, 0x7f, 0x00]);
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        for len in 0..7 {
            assert_eq!(describe(&KEYFRAME[..len], false).is_some(), len == 7, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(before) = describe(&bytes, true) {
                let mut copy = bytes.clone();
                let numbers = before.vp8.unwrap();
                rewrite(&mut copy, &numbers, 0x1281, 7);
                let narrow = if numbers.wide_picture_id { 0x7fff } else { 0x7f };
                let expected = Vp8Numbers {
                    picture_id: numbers.picture_id.map(|_| 0x1281 & narrow),
                    tl0_pic_idx: numbers.tl0_pic_idx.map(|_| 7),
                    ..numbers
                };
                prop_assert_eq!(describe(&copy, true), Some(PacketDescription { vp8: Some(expected), ..before }));
                rewrite(&mut copy[..1], &numbers, 0x1281, 7); // numbers of another packet do no harm
            }
        }
    }
}
