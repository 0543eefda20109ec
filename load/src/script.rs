//! What publishers send: packets at their times, without a socket and without an encoder.
//!
//! Time is an argument and randomness is seeded, so that one seed is one stream.

pub(crate) mod camera;
pub(crate) mod microphone;

/// A packet that is due. Its payload ends with room for a [`crate::stamp::Stamp`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Index of the encoding, smallest picture first; 0 for sound.
    pub(crate) layer: usize,
    /// RTP timestamp, in units of the codec's clock.
    pub(crate) timestamp: u32,
    /// Last of its frame.
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}
