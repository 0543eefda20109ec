//! Wire protocols of Sluice, sans-IO: the LiveKit client protocol to the media core's commands and back.
#![forbid(unsafe_code)]

pub mod access;
pub mod livekit;
