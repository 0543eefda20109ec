//! Parse and write what goes over the wire; no state but where a format itself has it.
//!
//! Nothing here trusts its input: every parser returns an error for what it cannot read and never panics.

pub mod av1;
mod bits;
pub mod data_track;
pub mod dependency_descriptor;
pub mod description;
pub mod extension;
pub mod h264;
pub mod red;
pub mod rtcp;
pub mod rtp;
pub mod vp8;
pub mod vp9;

/// A big-endian number at byte `at`.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}
