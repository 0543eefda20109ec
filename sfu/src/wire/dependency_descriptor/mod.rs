//! The dependency descriptor: which frames need which, told outside the payload (AV1 RTP specification, appendix A).
//!
//! A descriptor refers to a structure that an earlier packet of the stream carried, so there is one
//! [`Reader`] a stream. `structure` reads that structure.
//! Always: a descriptor that cannot be read changes nothing in the reader.
//! Not here: which decode target a subscriber gets (`forward`).

mod structure;

#[cfg(test)]
mod tests;

pub use structure::{Indication, Indications, MAX_TARGETS, Structure};

use super::bits::BitReader;
use crate::ids::{LayerId, SeqNo};

/// Length of a descriptor that has its mandatory fields alone.
const MANDATORY_LEN: usize = 3;

/// Why a descriptor was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// It ends before what it announces.
    #[error("the dependency descriptor is cut short")]
    Truncated,
    /// The keyframe with the structure has not arrived, or was lost.
    #[error("no dependency structure yet")]
    NoStructure,
    /// Its template is not in the structure: the packet with a newer structure is still missing.
    #[error("template {0} is not in the dependency structure")]
    UnknownTemplate(u8),
    /// A structure with more templates than there are ids, or with layers that no codec has.
    #[error("the dependency structure breaks its bounds")]
    InvalidStructure,
}

/// What a descriptor says of its packet's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The packet is the first of its frame.
    pub first_packet: bool,
    /// The packet is the last of its frame.
    pub last_packet: bool,
    /// Runs over all layers in decoding order and wraps.
    pub frame_number: u16,
    /// The frame's own layer.
    pub layer: LayerId,
    /// What the frame is to each decode target.
    pub indications: Indications,
    /// The decode targets that the sender produces now, a bit each, target 0 the lowest bit.
    pub active_targets: u32,
    /// For each chain how many frames before this one its last frame is; 0: the chain starts here. Beyond the
    /// structure's chains all 0.
    pub chain_diffs: [u8; MAX_TARGETS],
    /// What the frame is to a decoder that holds less than its layer.
    pub entry: Entry,
    /// Largest picture of the structure, over all its layers, when the packet begins the frame that brought it.
    pub size: Option<(u16, u16)>,
}

/// Whether decoding may be taken up, or extended, at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It needs no earlier frame and came with a structure: the start of a coded video sequence.
    Keyframe,
    /// A decoder that got the frame's spatial layer in the lowest temporal layer alone can take the frame's
    /// temporal layer from here on.
    TemporalSync,
    /// Neither, as far as is known.
    None,
}

/// Reads the descriptors of one stream, in the order of its packets. A few packets out of order do no harm: they
/// are read with the newest structure, and are never a [`Entry::TemporalSync`].
///
/// Whether a frame is missing is told by frame numbers and by sequence numbers, either of which may have gaps of its
/// own: libwebrtc counts frames over all simulcast encodings, and padding takes sequence numbers.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    structure: Option<Structure>,
    active_targets: u32,
    newest: Option<NewestFrame>,
    /// Decode targets, a bit each, that a decoder of the lowest temporal layer can enter with the next frame of theirs.
    open_targets: u32,
}

#[derive(Clone, Copy, Debug)]
struct NewestFrame {
    number: u16,
    /// It was a point of temporal sync.
    sync: bool,
    /// The last of its packets that came.
    packet: SeqNo,
}

impl Reader {
    /// A reader that waits for the first structure.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// The structure that came last.
    pub fn structure(&self) -> Option<&Structure> {
        self.structure.as_ref()
    }

    /// Reads the value of one packet's header extension; `packet` is the packet's number in its stream.
    ///
    /// # Errors
    /// [`DescriptorError`]; the reader is then as before.
    pub fn read(&mut self, packet: SeqNo, descriptor: &[u8]) -> Result<Descriptor, DescriptorError> {
        let mut bits = BitReader::new(descriptor);
        let fields = Fields::read(&mut bits, descriptor.len()).ok_or(DescriptorError::Truncated)?;
        let attached =
            if fields.has_structure { Some(Structure::read(&mut bits, fields.frame_number)?) } else { None };
        let structure = attached.as_ref().or(self.structure.as_ref()).ok_or(DescriptorError::NoStructure)?;
        let mut active_targets =
            if attached.is_some() { structure.all_targets() } else { self.active_targets };
        if fields.has_active_targets {
            active_targets = bits.bits(structure.target_count()).ok_or(DescriptorError::Truncated)?;
        }
        let frame = read_frame(&mut bits, &fields, structure, active_targets)?;
        if attached.is_some() {
            // A new sequence may count its frames from anywhere.
            self.structure = attached;
            self.newest = None;
            self.open_targets = 0;
        }
        self.active_targets = active_targets;
        Ok(self.with_temporal_sync(packet, frame))
    }

    /// Finds whether a frame of a higher temporal layer can be the first of its layer for a decoder.
    ///
    /// A target is open for that when the last frame of the lowest temporal layer was a switch point to it (A.4.4),
    /// and nothing that a decoder of that layer skips has belonged to it since. Only frames of the target's
    /// own spatial layer are looked at, for the layers below advance in the same pictures.
    fn with_temporal_sync(&mut self, packet: SeqNo, mut frame: Descriptor) -> Descriptor {
        let number = frame.frame_number;
        let step = self.newest.map(|newest| number.wrapping_sub(newest.number) as i16);
        let sync = match (step, &mut self.newest) {
            (Some(0), Some(newest)) => {
                newest.packet = newest.packet.max(packet);
                newest.sync
            }
            (Some(..0), _) => false,
            (_, newest) => {
                let follows = newest.is_some_and(|newest| newest.packet.plus(1) == packet);
                if step != Some(1) && !follows {
                    self.open_targets = 0; // what is missing may have belonged to any of them
                }
                let sync = self.enter(&frame);
                self.newest = Some(NewestFrame { number, sync, packet });
                sync
            }
        };
        if sync && frame.entry == Entry::None {
            frame.entry = Entry::TemporalSync;
        }
        frame
    }

    /// Takes account of a new frame; whether it is a point of temporal sync.
    fn enter(&mut self, frame: &Descriptor) -> bool {
        let Some(structure) = &self.structure else { return false };
        let mut sync = false;
        for (target, layer) in structure.targets() {
            if layer.spatial != frame.layer.spatial {
                continue;
            }
            let bit = 1 << target;
            let indication = frame.indications.of(target);
            if layer == frame.layer {
                let base_switch = frame.layer.temporal == 0 && indication == Indication::Switch;
                sync = base_switch || self.open_targets & bit != 0;
            }
            match indication {
                Indication::NotPresent => {}
                Indication::Switch if frame.layer.temporal == 0 => self.open_targets |= bit,
                Indication::Switch | Indication::Discardable | Indication::Required => {
                    self.open_targets &= !bit;
                }
            }
        }
        sync
    }
}

/// The mandatory fields, and the flags of the extended ones (A.4.1).
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent bits of the wire, read in this order")]
struct Fields {
    first_packet: bool,
    last_packet: bool,
    template_id: u8,
    frame_number: u16,
    has_structure: bool,
    has_active_targets: bool,
    custom_indications: bool,
    custom_references: bool,
    custom_chains: bool,
}

impl Fields {
    fn read(bits: &mut BitReader<'_>, len: usize) -> Option<Fields> {
        let mut fields = Fields {
            first_packet: bits.flag()?,
            last_packet: bits.flag()?,
            template_id: bits.small(6)?,
            frame_number: bits.bits(16)? as u16,
            has_structure: false,
            has_active_targets: false,
            custom_indications: false,
            custom_references: false,
            custom_chains: false,
        };
        if len > MANDATORY_LEN {
            fields.has_structure = bits.flag()?;
            fields.has_active_targets = bits.flag()?;
            fields.custom_indications = bits.flag()?;
            fields.custom_references = bits.flag()?;
            fields.custom_chains = bits.flag()?;
        }
        Some(fields)
    }
}

/// The frame dependency definition: a template, and what differs from it.
fn read_frame(
    bits: &mut BitReader<'_>,
    fields: &Fields,
    structure: &Structure,
    active_targets: u32,
) -> Result<Descriptor, DescriptorError> {
    let template =
        structure.template(fields.template_id).ok_or(DescriptorError::UnknownTemplate(fields.template_id))?;
    let mut indications = template.indications;
    let mut independent = template.independent;
    let mut chain_diffs = template.chain_diffs;
    let mut custom = || {
        if fields.custom_indications {
            indications = Indications::read(bits, structure.target_count())?;
        }
        if fields.custom_references {
            independent = skip_references(bits)?;
        }
        if fields.custom_chains {
            for diff in &mut chain_diffs[..structure.chain_count()] {
                *diff = bits.small(8)?;
            }
        }
        Some(())
    };
    custom().ok_or(DescriptorError::Truncated)?;
    let fresh = structure.frame_number() == fields.frame_number;
    let keyframe = independent && fresh;
    Ok(Descriptor {
        first_packet: fields.first_packet,
        last_packet: fields.last_packet,
        frame_number: fields.frame_number,
        layer: template.layer,
        indications,
        active_targets,
        chain_diffs,
        entry: if keyframe { Entry::Keyframe } else { Entry::None },
        size: if fields.first_packet && fresh { structure.largest() } else { None },
    })
}

/// Passes over a frame's own list of references, of 4, 8 or 12 bits each; whether it is empty.
fn skip_references(bits: &mut BitReader<'_>) -> Option<bool> {
    let mut empty = true;
    loop {
        match bits.bits(2)? {
            0 => return Some(empty),
            size => {
                bits.skip(4 * size)?;
                empty = false;
            }
        }
    }
}
