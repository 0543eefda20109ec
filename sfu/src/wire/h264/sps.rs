//! The picture size in a sequence parameter set (H.264 §7.3.2.1.1).

use crate::wire::bits::BitReader;

/// Bytes of an SPS that are looked at. The size is within the first 30, unless scaling lists come before it: at
/// most 480 deltas of at most 15 bits.
const MAX_LEN: usize = 1024;

/// Width and height in luma samples, cropping applied; `body` is what follows the NAL unit's header. `None` for
/// what cannot be read or is larger than 16 bits.
pub(super) fn picture_size(body: &[u8]) -> Option<(u16, u16)> {
    let mut unescaped = [0; MAX_LEN];
    let len = unescape(body, &mut unescaped);
    read(&mut BitReader::new(&unescaped[..len]))
}

/// Takes out the bytes that keep start codes from appearing in the data: the 3 of each 0 0 3 (§7.4.1).
fn unescape(body: &[u8], out: &mut [u8; MAX_LEN]) -> usize {
    let mut zeros = 0;
    let mut len = 0;
    for &byte in body {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        let Some(slot) = out.get_mut(len) else { break };
        *slot = byte;
        len += 1;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    len
}

fn read(bits: &mut BitReader<'_>) -> Option<(u16, u16)> {
    let profile = bits.small(8)?;
    bits.skip(8 + 8)?; // constraints, level
    bits.exp_golomb()?; // seq_parameter_set_id
    let chroma = if has_chroma_format(profile) { read_chroma_format(bits)? } else { Chroma::Yuv420 };
    bits.exp_golomb()?; // log2_max_frame_num_minus4
    skip_picture_order(bits)?;
    bits.exp_golomb()?; // max_num_ref_frames
    bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
    let width_in_blocks = u64::from(bits.exp_golomb()?) + 1;
    let height_in_units = u64::from(bits.exp_golomb()?) + 1;
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.skip(1)?; // mb_adaptive_frame_field_flag
    }
    bits.skip(1)?; // direct_8x8_inference_flag
    let fields = if frames_only { 1 } else { 2 };
    let (mut crop_x, mut crop_y) = (0, 0);
    if bits.flag()? {
        let (unit_x, unit_y) = chroma.crop_unit();
        let mut pair = || Some(u64::from(bits.exp_golomb()?) + u64::from(bits.exp_golomb()?));
        crop_x = unit_x * pair()?;
        crop_y = unit_y * fields * pair()?;
    }
    Some((pixels(width_in_blocks * 16, crop_x)?, pixels(height_in_units * 16 * fields, crop_y)?))
}

fn pixels(whole: u64, crop: u64) -> Option<u16> {
    u16::try_from(whole.checked_sub(crop)?).ok().filter(|size| *size > 0)
}

#[derive(Clone, Copy)]
enum Chroma {
    /// One plane, or three that are coded apart.
    Planes,
    Yuv420,
    Yuv422,
    Yuv444,
}

impl Chroma {
    /// Luma samples for one step of cropping (§7.4.2.1.1, Table 6-1).
    fn crop_unit(self) -> (u64, u64) {
        match self {
            Chroma::Planes | Chroma::Yuv444 => (1, 1),
            Chroma::Yuv420 => (2, 2),
            Chroma::Yuv422 => (2, 1),
        }
    }
}

/// The High profiles and what builds on them say their chroma format; the others have 4:2:0.
fn has_chroma_format(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

fn read_chroma_format(bits: &mut BitReader<'_>) -> Option<Chroma> {
    let format = bits.exp_golomb()?;
    let chroma = match format {
        0 => Chroma::Planes,
        1 => Chroma::Yuv420,
        2 => Chroma::Yuv422,
        3 if bits.flag()? => Chroma::Planes,
        3 => Chroma::Yuv444,
        _ => return None,
    };
    bits.exp_golomb()?; // bit_depth_luma_minus8
    bits.exp_golomb()?; // bit_depth_chroma_minus8
    bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
    if bits.flag()? {
        let lists = if format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma)
}

/// §7.3.2.1.1.1: deltas until the list is full or a scale of 0 says that the last one repeats.
fn skip_scaling_list(bits: &mut BitReader<'_>, len: u32) -> Option<()> {
    let mut scale = 8;
    for _ in 0..len {
        scale = (scale + bits.signed_exp_golomb()?).rem_euclid(256);
        if scale == 0 {
            break;
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut BitReader<'_>) -> Option<()> {
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.skip(1)?; // delta_pic_order_always_zero_flag
            bits.exp_golomb()?; // offset_for_non_ref_pic
            bits.exp_golomb()?; // offset_for_top_to_bottom_field
            for _ in 0..bits.exp_golomb().filter(|cycle| *cycle <= 255)? {
                bits.exp_golomb()?; // offset_for_ref_frame
            }
        }
        2 => {}
        _ => return None,
    }
    Some(())
}
