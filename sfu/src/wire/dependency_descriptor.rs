//! The dependency descriptor (RTP payload format for AV1, appendix A): which frame a packet belongs to, its
//! layer, and who needs it, without a look at the payload.
//!
//! Templates come with keyframes and hold until the next structure; a reader is the state of one stream.

/// Templates of one structure (6 bits count them).
const MAX_TEMPLATES: usize = 64;
/// Decode targets (5 bits).
const MAX_TARGETS: usize = 32;

/// What a frame is to one decode target (A.3, `decode_target_indications`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it; nothing refers to it.
    Discardable,
    /// A switch to the target may happen here.
    Switch,
    /// Part of it and referred to.
    Required,
}

impl Indication {
    fn from_bits(bits: u32) -> Indication {
        match bits & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Template {
    spatial: u8,
    temporal: u8,
    references: bool,
    indications: [Indication; MAX_TARGETS],
}

/// What one packet's descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// First packet of its frame.
    pub frame_start: bool,
    /// Last packet of its frame.
    pub frame_end: bool,
    /// Number of the frame, modulo 2^16.
    pub frame_number: u16,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// The packet brings a structure and its frame refers to none: a decoder may start here.
    pub keyframe: bool,
    /// Some decode target may be switched to at this frame.
    pub switch: bool,
    /// Largest picture of the structure, when this packet brings one with sizes.
    pub size: Option<(u16, u16)>,
}

/// Reads the descriptors of one stream.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    offset: u8,
    targets: u8,
    templates: Vec<Template>, // at most MAX_TEMPLATES; filled at keyframes only
}

impl Reader {
    /// Reads one descriptor; `None` if it is cut, or refers to a structure that never came.
    pub fn read(&mut self, bytes: &[u8]) -> Option<Descriptor> {
        let mut bits = Bits { bytes, at: 0 };
        let frame_start = bits.take(1)? == 1;
        let frame_end = bits.take(1)? == 1;
        let template_id = bits.take(6)? as u8;
        let frame_number = bits.take(16)? as u16;
        let (mut structure, mut size) = (false, None);
        let mut own_indications = None;
        let mut own_references = None;
        if bytes.len() > 3 {
            structure = bits.take(1)? == 1;
            let active_targets = bits.take(1)? == 1;
            let custom_dtis = bits.take(1)? == 1;
            let custom_fdiffs = bits.take(1)? == 1;
            let _custom_chains = bits.take(1)?;
            if structure {
                size = self.read_structure(&mut bits)?;
            }
            if active_targets {
                bits.take(u32::from(self.targets))?;
            }
            if custom_dtis {
                own_indications = Some(read_indications(&mut bits, self.targets)?);
            }
            if custom_fdiffs {
                let mut any = false;
                // frame_fdiffs: two bits of length in nibbles, zero ends the list.
                loop {
                    let nibbles = bits.take(2)?;
                    if nibbles == 0 {
                        break;
                    }
                    bits.take(4 * nibbles)?;
                    any = true;
                }
                own_references = Some(any);
            }
        }
        let index = usize::from(template_id.wrapping_sub(self.offset) & 0x3f);
        let template = self.templates.get(index)?;
        let indications = own_indications.unwrap_or(template.indications);
        let references = own_references.unwrap_or(template.references);
        Some(Descriptor {
            frame_start,
            frame_end,
            frame_number,
            spatial: template.spatial,
            temporal: template.temporal,
            keyframe: structure && !references,
            switch: indications[..usize::from(self.targets)].contains(&Indication::Switch),
            size,
        })
    }

    /// `template_dependency_structure`: replaces what was known; keeps it if the new one is cut.
    fn read_structure(&mut self, bits: &mut Bits<'_>) -> Option<Option<(u16, u16)>> {
        let offset = bits.take(6)? as u8;
        let targets = bits.take(5)? as u8 + 1;
        let mut templates: Vec<Template> = Vec::with_capacity(8);
        let (mut spatial, mut temporal) = (0_u8, 0_u8);
        loop {
            if templates.len() == MAX_TEMPLATES {
                return None;
            }
            let indications = [Indication::NotPresent; MAX_TARGETS];
            templates.push(Template { spatial, temporal, references: false, indications });
            match bits.take(2)? {
                0 => {}
                1 => temporal = temporal.checked_add(1)?,
                2 => {
                    temporal = 0;
                    spatial = spatial.checked_add(1)?;
                }
                _ => break,
            }
        }
        for template in &mut templates {
            template.indications = read_indications(bits, targets)?;
        }
        for template in &mut templates {
            while bits.take(1)? == 1 {
                bits.take(4)?;
                template.references = true;
            }
        }
        let chains = bits.non_symmetric(u32::from(targets) + 1)?;
        if chains > 0 {
            for _ in 0..targets {
                bits.non_symmetric(chains)?;
            }
            for _ in 0..templates.len() {
                for _ in 0..chains {
                    bits.take(4)?;
                }
            }
        }
        let mut size = None;
        if bits.take(1)? == 1 {
            for _ in 0..=spatial {
                let width = bits.take(16)?.wrapping_add(1);
                let height = bits.take(16)?.wrapping_add(1);
                size = Some((width as u16, height as u16));
            }
        }
        self.offset = offset;
        self.targets = targets;
        self.templates = templates;
        Some(size)
    }
}

fn read_indications(bits: &mut Bits<'_>, targets: u8) -> Option<[Indication; MAX_TARGETS]> {
    let mut indications = [Indication::NotPresent; MAX_TARGETS];
    for indication in indications.iter_mut().take(usize::from(targets)) {
        *indication = Indication::from_bits(bits.take(2)?);
    }
    Some(indications)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, at most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// `ns(n)`: a number below `n` in as few bits as it takes (AV1 §4.10.7).
    fn non_symmetric(&mut self, n: u32) -> Option<u32> {
        let width = 32 - n.leading_zeros();
        let short = (1_u32 << width) - n;
        let value = self.take(width.checked_sub(1)?)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1 | self.take(1)?) - short)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Out(Vec<bool>);

    impl Out {
        fn put(&mut self, value: u32, bits: u32) -> &mut Self {
            self.0.extend((0..bits).rev().map(|bit| value >> bit & 1 == 1));
            self
        }
        fn bytes(&self) -> Vec<u8> {
            self.0
                .chunks(8)
                .map(|c| c.iter().enumerate().fold(0, |b, (i, bit)| b | u8::from(*bit) << (7 - i)))
                .collect()
        }
    }

    /// L1T2: template 0 is the keyframe (no references), 1 is T0, 2 is T1; one chain; 640 x 360.
    fn keyframe() -> Vec<u8> {
        let mut out = Out(Vec::new());
        out.put(0b10, 2).put(0, 6).put(100, 16); // start of frame, template 0, number 100
        out.put(0b1_0000, 5); // structure present, nothing else
        out.put(0, 6).put(1, 5); // offset 0, two targets
        out.put(0, 2).put(1, 2).put(3, 2); // same layer, next temporal, end
        for dtis in [[2, 2], [2, 2], [0, 1]] {
            out.put(dtis[0], 2).put(dtis[1], 2);
        }
        out.put(0, 1); // template 0 refers to nothing
        out.put(1, 1).put(1, 4).put(0, 1);
        out.put(1, 1).put(0, 4).put(0, 1);
        out.put(0b10, 2); // ns(3) = 1 chain, coded in two bits
        out.put(0, 0); // ns(1) twice: no bits
        for _ in 0..3 {
            out.put(1, 4);
        }
        out.put(1, 1).put(639, 16).put(359, 16);
        out.bytes()
    }

    #[test]
    fn a_structure_gives_meaning_to_short_descriptors() {
        let mut reader = Reader::default();
        let t1 = [0b1100_0010, 0, 101];
        assert_eq!(reader.read(&t1), None, "no structure yet");
        let key = reader.read(&keyframe()).unwrap();
        assert!(key.keyframe && key.frame_start && !key.frame_end);
        assert_eq!((key.frame_number, key.size), (100, Some((640, 360))));
        let t1 = reader.read(&t1).unwrap();
        assert_eq!((t1.spatial, t1.temporal, t1.frame_number), (0, 1, 101));
        assert!(!t1.keyframe && t1.frame_end && !t1.switch);
        assert_eq!(reader.read(&[0b1100_0111, 0, 101]), None, "no such template");
    }

    #[test]
    fn a_cut_structure_leaves_the_old_one() {
        let mut reader = Reader::default();
        let whole = keyframe();
        reader.read(&whole).unwrap();
        for len in 0..whole.len() {
            let _ = reader.read(&whole[..len]);
            assert!(reader.read(&[0b1100_0010, 0, 101]).is_some(), "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            first in proptest::collection::vec(any::<u8>(), 0..80),
            second in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut reader = Reader::default();
            for bytes in [&first, &second] {
                let _ = reader.read(bytes);
                prop_assert!(reader.templates.len() <= MAX_TEMPLATES);
            }
        }
    }
}
