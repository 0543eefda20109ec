//! The AV1 aggregation header and the OBU headers behind it (RTP payload format for AV1, §4).
//!
//! Layers and references come from the dependency descriptor where there is one.

use super::description::PacketDescription;

const OBU_SEQUENCE_HEADER: u8 = 1;

/// Describes one packet; `None` if it is empty.
pub fn describe(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let (&aggregation, body) = payload.split_first()?;
    let continues = aggregation & 0x80 != 0;
    let elements = aggregation >> 4 & 0x03;
    let new_sequence = aggregation & 0x08 != 0;
    if body.is_empty() {
        return None;
    }
    let first = if elements == 1 { body } else { sized(body)? };
    let header = *first.first()?;
    let (mut spatial, mut temporal) = (0, 0);
    if !continues && header & 0x04 != 0 {
        let extension = *first.get(1)?;
        temporal = extension >> 5;
        spatial = extension >> 3 & 0x03;
    }
    let sequence_header = !continues && header >> 3 & 0x0f == OBU_SEQUENCE_HEADER;
    Some(PacketDescription {
        frame_start: !continues,
        frame_end: marker,
        keyframe: new_sequence || sequence_header,
        spatial,
        temporal,
        temporal_sync: temporal == 0,
        ..PacketDescription::default()
    })
}

/// The first element, behind its length (leb128, at most 4 bytes for what fits a packet).
fn sized(body: &[u8]) -> Option<&[u8]> {
    let mut len = 0_usize;
    for (index, byte) in body.iter().take(4).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return body.get(index + 1..index + 1 + len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_coded_sequence_is_a_keyframe() {
        // N set, two elements: sequence header of 2 bytes, then a frame.
        let read = describe(&[0x28, 0x02, 0x08, 0x00, 0x30, 0x11], false).unwrap();
        assert!(read.keyframe && read.frame_start && !read.frame_end);
    }

    #[test]
    fn a_continuation_starts_nothing() {
        let read = describe(&[0x90, 0x11, 0x22], true).unwrap();
        assert!(!read.frame_start && !read.keyframe && read.frame_end);
    }

    #[test]
    fn the_obu_extension_tells_the_layer() {
        let read = describe(&[0x10, 0x34, 0x48, 0x00], false).unwrap();
        assert_eq!((read.temporal, read.spatial), (2, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = describe(&bytes, false);
        }
    }
}
