//! H.264: NAL units in a packet (RFC 6184 §5), as far as a keyframe and its size can be told.
//!
//! Single NAL units, STAP-A and FU-A are read, which is all that packetization modes 0 and 1 have.
//! `sps` reads the size.

mod sps;

#[cfg(test)]
mod tests;

use super::description::PacketDescription;
use super::u16_at;

/// NAL unit types (H.264 §7.4.1, RFC 6184 §5.2).
mod nal {
    pub(super) const IDR_SLICE: u8 = 5;
    pub(super) const SPS: u8 = 7;
    pub(super) const STAP_A: u8 = 24;
    pub(super) const FU_A: u8 = 28;
}

/// Reads one packet; `marker` is that of the RTP header. `None` for a packet that is empty, has a broken
/// aggregate, or a type of the interleaved mode, which we never agree to.
///
/// The format has no mark for the first packet of a frame. `frame_start` is true wherever a frame may start as
/// far as the packet alone can tell: with a NAL unit that opens an access unit (H.264 §7.4.1.2.3), or with a slice that
/// begins at the first macroblock. So every frame's first packet has it, but a frame whose parameter sets travel in
/// packets of their own has it more than once: the timestamp tells. `keyframe` is true on a packet with an IDR
/// slice, or a part of one, or with an SPS. No layers are read.
pub fn describe(payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let mut description =
        PacketDescription { frame_end: marker, temporal_sync: true, ..PacketDescription::default() };
    let header = *payload.first()?;
    match header & 0x1f {
        1..=23 => add_unit(&mut description, payload),
        nal::STAP_A => {
            let mut rest = payload.get(1..).filter(|rest| !rest.is_empty())?;
            while !rest.is_empty() {
                let len = usize::from(u16_at(rest, 0)?);
                let (unit, after) = rest[2..].split_at_checked(len)?;
                add_unit(&mut description, unit);
                rest = after;
            }
        }
        nal::FU_A => {
            let [_, fu, fragment @ ..] = payload else { return None };
            let kind = fu & 0x1f;
            if fu & 0x80 != 0 {
                description.frame_start = starts_frame(kind, fragment);
            }
            description.keyframe = matches!(kind, nal::IDR_SLICE | nal::SPS);
        }
        _ => return None,
    }
    Some(description)
}

/// Takes account of a whole NAL unit.
fn add_unit(description: &mut PacketDescription, unit: &[u8]) {
    let Some((header, body)) = unit.split_first() else { return };
    let kind = header & 0x1f;
    description.frame_start |= starts_frame(kind, body);
    description.keyframe |= matches!(kind, nal::IDR_SLICE | nal::SPS);
    if kind == nal::SPS {
        description.size = sps::picture_size(body).or(description.size);
    }
}

/// Whether an access unit may begin with this NAL unit; `body` is what follows its header.
fn starts_frame(kind: u8, body: &[u8]) -> bool {
    match kind {
        // Slices begin with `first_mb_in_slice`; an Exp-Golomb zero is a single set bit.
        1 | 2 | nal::IDR_SLICE => body.first().is_some_and(|byte| byte & 0x80 != 0),
        // SEI, SPS, PPS, access unit delimiter; 14 to 18 are prefix, subset SPS and reserved.
        6..=9 | 14..=18 => true,
        _ => false,
    }
}
