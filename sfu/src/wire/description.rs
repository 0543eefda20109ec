//! What forwarding needs to know of one media packet, whatever its codec.

use super::dependency_descriptor::{Descriptor, Entry};

/// A codec that is forwarded with knowledge of its payload format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// RFC 7587
    Opus,
    /// G.711, µ-law (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711, A-law.
    Pcma,
    /// Redundant audio over Opus, RFC 2198.
    Red,
    /// RFC 7741
    Vp8,
    /// RFC 9628
    Vp9,
    /// RFC 6184
    H264,
    /// RTP payload format for AV1, AOM, v1.0.0.
    Av1,
}

/// Where a VP8 payload descriptor has the numbers that must stay continuous over a switch (RFC 7741 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8Numbers {
    /// The picture id, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// Whether it has 15 bits on the wire.
    pub wide_picture_id: bool,
    /// Byte offset of the picture id in the payload.
    pub picture_id_at: u8,
    /// TL0PICIDX, the running number of base-layer frames.
    pub tl0_pic_idx: Option<u8>,
    /// Its byte offset in the payload.
    pub tl0_pic_idx_at: u8,
}

/// One packet's place in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; most combinations occur")]
pub struct PacketDescription {
    /// First packet of a frame (with spatial layers in one stream: of one layer's frame).
    pub frame_start: bool,
    /// Last packet of a frame (likewise).
    pub frame_end: bool,
    /// Last packet of the picture in all its layers: the marker bit.
    pub picture_end: bool,
    /// The packet belongs to a frame that needs no earlier one; with `frame_start`, a decoder may begin here.
    pub keyframe: bool,
    /// Spatial layer inside the stream (SVC); 0 for simulcast.
    pub spatial: u8,
    /// Temporal layer, 0 the base.
    pub temporal: u8,
    /// A subscriber that got only lower temporal layers may get this one from here on.
    pub temporal_sync: bool,
    /// VP8's numbers; `None` for other codecs.
    pub vp8: Option<Vp8Numbers>,
    /// Picture size in pixels, where the packet says it (keyframes).
    pub size: Option<(u16, u16)>,
    /// Frame number of the dependency descriptor, where there is one.
    pub frame_number: Option<u16>,
}

/// Describes a packet's payload by its codec; `None` if it cannot be read.
pub fn describe(codec: Codec, payload: &[u8], marker: bool) -> Option<PacketDescription> {
    let description = match codec {
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Red => PacketDescription {
            frame_start: true,
            frame_end: true,
            keyframe: true,
            ..PacketDescription::default()
        },
        Codec::Vp8 => super::vp8::describe(payload, marker)?,
        Codec::Vp9 => super::vp9::describe(payload, marker)?,
        Codec::H264 => super::h264::describe(payload, marker)?,
        Codec::Av1 => super::av1::describe(payload, marker)?,
    };
    Some(PacketDescription { picture_end: marker, ..description })
}

/// The same for a payload that is encrypted end to end. Payload descriptors and the heads of NAL units stay readable then;
/// those of OBUs do not.
pub fn describe_encrypted(codec: Codec, payload: &[u8], marker: bool) -> Option<PacketDescription> {
    match codec {
        Codec::Av1 => {
            let description = super::av1::describe_encrypted(payload, marker)?;
            Some(PacketDescription { picture_end: marker, ..description })
        }
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Red | Codec::Vp8 | Codec::Vp9 | Codec::H264 => {
            describe(codec, payload, marker)
        }
    }
}

impl PacketDescription {
    /// Takes over what the dependency descriptor knows better than the payload.
    pub fn apply(&mut self, descriptor: &Descriptor) {
        self.frame_start = descriptor.first_packet;
        self.frame_end = descriptor.last_packet;
        self.keyframe = descriptor.entry == Entry::Keyframe;
        self.spatial = descriptor.layer.spatial;
        self.temporal = descriptor.layer.temporal;
        self.temporal_sync = descriptor.entry != Entry::None || descriptor.layer.temporal == 0;
        self.size = descriptor.size.or(self.size);
        self.frame_number = Some(descriptor.frame_number);
    }
}
