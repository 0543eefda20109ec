//! Parse and write what goes over the wire; no state but where a format itself has it.
//!
//! Nothing here trusts its input: every parser returns an error for what it cannot read and never panics.

pub mod description;
pub mod extension;
pub mod rtcp;
pub mod rtp;
