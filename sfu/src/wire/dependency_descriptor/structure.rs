//! The template dependency structure (AV1 RTP specification, A.4.1): what all frames of a sequence have in common.

use super::DescriptorError;
use crate::ids::LayerId;
use crate::wire::bits::BitReader;

/// Most decode targets, and most chains, that a structure can have: a count of five bits.
pub const MAX_TARGETS: usize = 32;
/// Template ids have six bits.
const MAX_TEMPLATES: usize = 64;
/// A codec has at most four spatial and eight temporal layers (AV1 §6.2.3).
const MAX_SPATIAL: u8 = 4;
const MAX_TEMPORAL: u8 = 8;

/// What a frame is to a decode target (Table A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indication {
    /// Not part of it: need not be sent.
    NotPresent,
    /// Part of it, and nothing of the target builds on it.
    Discardable,
    /// Part of it; who can decode this frame can decode the target from here on.
    Switch,
    /// Part of it, and needed by later frames.
    Required,
}

/// What a frame is to each of up to 32 decode targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indications(u64); // two bits a target, target 0 the lowest

impl Indications {
    pub(super) fn read(bits: &mut BitReader<'_>, targets: u32) -> Option<Indications> {
        let mut packed = 0;
        for target in 0..targets {
            packed |= u64::from(bits.bits(2)?) << (2 * target);
        }
        Some(Indications(packed))
    }

    /// What it is to one target; [`Indication::NotPresent`] for one that the structure does not have.
    pub fn of(self, target: u8) -> Indication {
        match self.0.checked_shr(2 * u32::from(target)).unwrap_or(0) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }
}

/// What frames with one template id have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) layer: LayerId,
    pub(super) indications: Indications,
    /// Refers to no other frame.
    pub(super) independent: bool,
    pub(super) chain_diffs: [u8; MAX_TARGETS],
}

/// The layers of a stream and how they build on each other. Came with a keyframe, holds until the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    frame_number: u16,
    template_id_offset: u8,
    /// At most 64; allocated once a structure, which comes with keyframes alone.
    templates: Vec<Template>,
    /// The layer of each decode target; `None` beyond the count, and for one that no template is part of.
    targets: [Option<LayerId>; MAX_TARGETS],
    target_count: u8,
    /// The chain that protects each target; meaningless without chains.
    protecting_chain: [u8; MAX_TARGETS],
    chain_count: u8,
    resolutions: [Option<(u16, u16)>; MAX_SPATIAL as usize],
}

impl Structure {
    /// Reads a structure that came with the frame `frame_number`.
    pub(super) fn read(bits: &mut BitReader<'_>, frame_number: u16) -> Result<Structure, DescriptorError> {
        let truncated = DescriptorError::Truncated;
        let template_id_offset = bits.small(6).ok_or(truncated)?;
        let target_count = bits.small(5).ok_or(truncated)? + 1;
        let mut structure = Structure {
            frame_number,
            template_id_offset,
            templates: read_layers(bits)?,
            targets: [None; MAX_TARGETS],
            target_count,
            protecting_chain: [0; MAX_TARGETS],
            chain_count: 0,
            resolutions: [None; MAX_SPATIAL as usize],
        };
        structure.read_rest(bits).ok_or(truncated)?;
        structure.targets = std::array::from_fn(|target| structure.layer_of(target as u8));
        Ok(structure)
    }

    fn read_rest(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let target_count = u32::from(self.target_count);
        for template in &mut self.templates {
            template.indications = Indications::read(bits, target_count)?;
        }
        for template in &mut self.templates {
            while bits.flag()? {
                bits.skip(4)?; // fdiff_minus_one
                template.independent = false;
            }
        }
        self.chain_count = bits.below(target_count + 1)? as u8;
        if self.chain_count > 0 {
            for chain in &mut self.protecting_chain[..usize::from(self.target_count)] {
                *chain = bits.below(u32::from(self.chain_count))? as u8;
            }
            for template in &mut self.templates {
                for diff in &mut template.chain_diffs[..usize::from(self.chain_count)] {
                    *diff = bits.small(4)?;
                }
            }
        }
        if bits.flag()? {
            let layers = self.templates.last().map_or(0, |template| template.layer.spatial) + 1;
            for resolution in &mut self.resolutions[..usize::from(layers)] {
                let mut pixels = || Some((bits.bits(16)? as u16).saturating_add(1));
                *resolution = Some((pixels()?, pixels()?));
            }
        }
        Some(())
    }

    /// A target reaches as high as the highest layers that are part of it.
    fn layer_of(&self, target: u8) -> Option<LayerId> {
        let parts = self
            .templates
            .iter()
            .filter(|template| template.indications.of(target) != Indication::NotPresent);
        parts.map(|template| template.layer).reduce(|a, b| LayerId {
            spatial: a.spatial.max(b.spatial),
            temporal: a.temporal.max(b.temporal),
        })
    }

    pub(super) fn template(&self, id: u8) -> Option<&Template> {
        let index = id.wrapping_sub(self.template_id_offset) & 0x3f;
        self.templates.get(usize::from(index))
    }

    pub(super) fn target_count(&self) -> u32 {
        u32::from(self.target_count)
    }

    pub(super) fn chain_count(&self) -> usize {
        usize::from(self.chain_count)
    }

    /// A bit for each target.
    pub(super) fn all_targets(&self) -> u32 {
        u32::MAX >> (32 - self.target_count())
    }

    /// The frame it came with.
    pub fn frame_number(&self) -> u16 {
        self.frame_number
    }

    /// The decode targets and the layer that each reaches, by index. A target that nothing is sent for is left out.
    pub fn targets(&self) -> impl Iterator<Item = (u8, LayerId)> + '_ {
        (0u8..).zip(&self.targets).filter_map(|(target, layer)| Some((target, (*layer)?)))
    }

    /// The highest decode target that reaches no further than `wanted` in size nor in rate; size counts more.
    pub fn target_for(&self, wanted: LayerId) -> Option<u8> {
        self.targets()
            .filter(|(_, layer)| layer.spatial <= wanted.spatial && layer.temporal <= wanted.temporal)
            .max_by_key(|(_, layer)| *layer)
            .map(|(target, _)| target)
    }

    /// The chain whose frames a decode target cannot do without; `None` without chains.
    pub fn chain_of(&self, target: u8) -> Option<u8> {
        (self.chain_count > 0 && target < self.target_count)
            .then(|| self.protecting_chain[usize::from(target)])
    }

    /// Largest width and height of a spatial layer, where the structure says it.
    pub fn resolution(&self, spatial: u8) -> Option<(u16, u16)> {
        *self.resolutions.get(usize::from(spatial))?
    }

    /// That of the highest spatial layer.
    pub(super) fn largest(&self) -> Option<(u16, u16)> {
        self.resolutions.iter().rev().find_map(|resolution| *resolution)
    }
}

/// The layer of each template, in order; the rest of them still to be read.
fn read_layers(bits: &mut BitReader<'_>) -> Result<Vec<Template>, DescriptorError> {
    let mut templates = Vec::new();
    let mut layer = LayerId::default();
    loop {
        if templates.len() == MAX_TEMPLATES {
            return Err(DescriptorError::InvalidStructure);
        }
        templates.push(Template {
            layer,
            indications: Indications::default(),
            independent: true,
            chain_diffs: [0; MAX_TARGETS],
        });
        match bits.bits(2).ok_or(DescriptorError::Truncated)? {
            0 => {}
            1 => layer.temporal += 1,
            2 => layer = LayerId { spatial: layer.spatial + 1, temporal: 0 },
            _ => return Ok(templates),
        }
        if layer.spatial >= MAX_SPATIAL || layer.temporal >= MAX_TEMPORAL {
            return Err(DescriptorError::InvalidStructure);
        }
    }
}
