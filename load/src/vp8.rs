//! VP8 payload descriptors and as much of a frame's header as tells a keyframe (RFC 7741 §4.2, RFC 6386 §9.1).

/// Of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// A frame begins here.
    pub(crate) start: bool,
    /// 15 bits.
    pub(crate) picture_id: Option<u16>,
    /// Number of the latest frame of the base layer.
    pub(crate) tl0: Option<u8>,
    /// Temporal layer, and whether it refers to the base layer only (Y).
    pub(crate) temporal: Option<(u8, bool)>,
    /// Of a frame that begins here.
    pub(crate) keyframe: bool,
}

impl Descriptor {
    /// Appends it and, where a frame begins, its header; `size` is a keyframe's width and height.
    pub(crate) fn write(&self, size: (u16, u16), out: &mut Vec<u8>) {
        let has_extensions = self.picture_id.is_some() || self.tl0.is_some() || self.temporal.is_some();
        out.push(u8::from(has_extensions) << 7 | u8::from(self.start) << 4);
        if has_extensions {
            out.push(
                u8::from(self.picture_id.is_some()) << 7
                    | u8::from(self.tl0.is_some()) << 6
                    | u8::from(self.temporal.is_some()) << 5,
            );
        }
        if let Some(id) = self.picture_id {
            out.extend((0x8000 | id).to_be_bytes());
        }
        out.extend(self.tl0);
        if let Some((layer, sync)) = self.temporal {
            out.push(layer << 6 | u8::from(sync) << 5);
        }
        if self.start {
            // Bit 0 is the inverse of "keyframe"; shown; the first partition's length is nobody's affair here.
            out.extend([u8::from(!self.keyframe) | 1 << 4, 0, 0]);
            if self.keyframe {
                out.extend([0x9D, 0x01, 0x2A]);
                out.extend((size.0 & 0x3FFF).to_le_bytes());
                out.extend((size.1 & 0x3FFF).to_le_bytes());
            }
        }
    }

    /// `None` if the payload ends within it.
    pub(crate) fn read(payload: &[u8]) -> Option<Descriptor> {
        let mut rest = payload.iter().copied();
        let first = rest.next()?;
        let mut this = Descriptor {
            start: first & 0x17 == 0x10, // S, and partition 0
            picture_id: None,
            tl0: None,
            temporal: None,
            keyframe: false,
        };
        if first & 0x80 != 0 {
            let flags = rest.next()?;
            if flags & 0x80 != 0 {
                let high = rest.next()?;
                this.picture_id = Some(match high & 0x80 {
                    0 => u16::from(high),
                    _ => u16::from_be_bytes([high & 0x7F, rest.next()?]),
                });
            }
            if flags & 0x40 != 0 {
                this.tl0 = Some(rest.next()?);
            }
            if flags & 0x30 != 0 {
                let byte = rest.next()?;
                this.temporal = (flags & 0x20 != 0).then_some((byte >> 6, byte & 0x20 != 0));
            }
        }
        this.keyframe = this.start && rest.next()? & 1 == 0;
        Some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_read_as_they_were_written() {
        let temporals = [None, Some((0, false)), Some((2, true))];
        for (picture_id, temporal) in [None, Some(0), Some(0x7FFF)].into_iter().zip(temporals) {
            for (start, keyframe) in [(true, true), (true, false), (false, false)] {
                let tl0 = temporal.map(|_| 200);
                let descriptor = Descriptor { start, picture_id, tl0, temporal, keyframe };
                let mut payload = Vec::new();
                descriptor.write((640, 360), &mut payload);
                payload.push(0);
                assert_eq!(Descriptor::read(&payload), Some(descriptor));
            }
        }
    }

    #[test]
    fn bytes_are_those_of_the_rfc() {
        let descriptor = Descriptor {
            start: true,
            picture_id: Some(0x1234),
            tl0: Some(7),
            temporal: Some((1, true)),
            keyframe: true,
        };
        let mut payload = Vec::new();
        descriptor.write((640, 360), &mut payload);
        let expected =
            [0x90, 0xE0, 0x92, 0x34, 7, 0x60, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01];
        assert_eq!(payload, expected);
        assert_eq!(Descriptor::read(&expected[..4]), None);
        assert_eq!(Descriptor::read(&[]), None);
        let short_id = [0x80, 0x80, 0x11, 0x01];
        assert_eq!(Descriptor::read(&short_id).unwrap().picture_id, Some(0x11));
    }
}
