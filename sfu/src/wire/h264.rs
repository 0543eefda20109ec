//! The H.264 payload format (RFC 6184): single NAL units, STAP-A and FU-A.

use super::description::PacketDescription;

const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

/// Describes one packet; `None` if it is cut or of a packetization that WebRTC does not use.
///
/// A packet knows its NAL unit only, not the access unit: `frame_start` says that it may begin a frame, and
/// whoever follows the stream knows by the timestamp whether it does. `keyframe` is set from the SPS or the
/// first part of an IDR slice.
pub fn describe(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let first = *payload.first()?;
    let (mut start, mut keyframe, mut size) = (true, false, None);
    match first & 0x1f {
        NAL_STAP_A => {
            let mut rest = &payload[1..];
            while let Some((len, tail)) = rest.split_first_chunk::<2>() {
                let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
                inspect(unit, &mut keyframe, &mut size);
                rest = tail;
            }
        }
        NAL_FU_A => {
            let header = *payload.get(1)?;
            start = header & 0x80 != 0;
            keyframe = start && header & 0x1f == NAL_IDR;
        }
        1..=23 => inspect(payload, &mut keyframe, &mut size),
        _ => return None,
    }
    Some(PacketDescription {
        frame_start: start,
        frame_end: marker,
        keyframe,
        temporal_sync: true,
        size,
        ..PacketDescription::default()
    })
}

fn inspect(unit: &[u8], keyframe: &mut bool, size: &mut Option<(u16, u16)>) {
    match unit.first().map(|byte| byte & 0x1f) {
        Some(NAL_IDR) => *keyframe = true,
        Some(NAL_SPS) => {
            *keyframe = true;
            *size = picture_size(&unit[1..]).or(*size);
        }
        _ => {}
    }
}

/// Width and height from a sequence parameter set (H.264 §7.3.2.1.1), cropping taken off.
fn picture_size(sps: &[u8]) -> Option<(u16, u16)> {
    let profile = *sps.first()?;
    let mut bits = Bits { bytes: sps, at: 24, zeros: 0 };
    bits.ue()?; // seq_parameter_set_id
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.ue()?;
        if chroma == 3 {
            bits.bit()?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
        if bits.bit()? {
            return None; // scaling matrices: no WebRTC encoder sends them
        }
    }
    bits.ue()?; // log2_max_frame_num_minus4
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.bit()?;
            bits.ue()?;
            bits.ue()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.ue()?;
            }
        }
        _ => {}
    }
    bits.ue()?; // max_num_ref_frames
    bits.bit()?;
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let height_units = bits.ue()?.checked_add(1)?;
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.bit()?;
    }
    let height = height_units.checked_mul(if frames_only { 16 } else { 32 })?;
    bits.bit()?; // direct_8x8_inference_flag
    let mut crop = [0_u32; 4];
    if bits.bit()? {
        for side in &mut crop {
            *side = bits.ue()?;
        }
    }
    let across: u32 = if chroma == 1 || chroma == 2 { 2 } else { 1 };
    let down: u32 = (if chroma == 1 { 2 } else { 1 }) * (if frames_only { 1 } else { 2 });
    let width = width.checked_sub(crop[0].checked_add(crop[1])?.checked_mul(across)?)?;
    let height = height.checked_sub(crop[2].checked_add(crop[3])?.checked_mul(down)?)?;
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// Reads bits, most significant first, leaving out emulation prevention bytes (H.264 §7.4.1).
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    zeros: u8,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<bool> {
        if self.at.is_multiple_of(8) {
            let byte = *self.bytes.get(self.at / 8)?;
            if self.zeros >= 2 && byte == 3 {
                self.at += 8;
                self.zeros = 0;
            }
            let byte = *self.bytes.get(self.at / 8)?;
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
        }
        let byte = *self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// Unsigned exp-Golomb code (§9.1), at most 32 bits.
    fn ue(&mut self) -> Option<u32> {
        let mut leading = 0;
        while !self.bit()? {
            leading += 1;
            if leading > 31 {
                return None;
            }
        }
        let mut value = 1_u32;
        for _ in 0..leading {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Constrained baseline, level 3.1, 640 x 360 (23 macroblock rows, 8 lines cropped).
    const SPS: [u8; 12] = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0x80, 0x00, 0x00];

    #[test]
    fn an_idr_is_a_keyframe_in_every_packetization() {
        assert!(describe(&[0x65, 0x88], true).unwrap().keyframe);
        assert!(describe(&[0x7c, 0x85, 0x88], false).unwrap().keyframe);
        let middle = describe(&[0x7c, 0x05, 0x88], false).unwrap();
        assert!(!middle.keyframe && !middle.frame_start);
        assert!(describe(&[0x78, 0, 2, 0x68, 0xce, 0, 2, 0x65, 0x88], false).unwrap().keyframe);
        assert!(!describe(&[0x61, 0x9a], true).unwrap().keyframe);
    }

    #[test]
    fn a_size_comes_from_the_sps() {
        assert_eq!(describe(&SPS, false).unwrap().size, Some((640, 360)));
    }

    #[test]
    fn cut_or_foreign_packets_are_none() {
        assert_eq!(describe(&[], false), None);
        assert_eq!(describe(&[0x7c], false), None);
        assert_eq!(describe(&[0x78, 0, 9, 0x65], false), None);
        assert_eq!(describe(&[0x7e, 0], false), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_described_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
            let _ = describe(&bytes, false);
            bytes[0] = 0x67;
            let _ = describe(&bytes, false);
        }
    }
}
