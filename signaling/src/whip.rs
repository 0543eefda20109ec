//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03): into the rooms of the client protocol by one offer over HTTP.
//!
//! To its room a session is one more client of v1 that sends frames: [`Exchange`] makes them of HTTP requests, and HTTP
//! answers of what the room says. [`request`] tells which request is which and who may make it; [`fragment`] reads and
//! writes the SDP fragments of trickle ICE and ICE restarts (RFC 8840).
//!
//! Always: a session exists from the room's answer until the room lets it go; its entity-tag names its ICE session and
//! changes with each restart. Not here: bodies, headers and limits of HTTP (the server), what is published and watched
//! ([`Room`](crate::livekit::Room)).

mod error;
mod exchange;
pub mod fragment;
mod offer;
pub mod request;

pub use error::WhipError;
pub use exchange::{Created, Exchange, Patched, Progress};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The client sends.
    Whip,
    /// The client gets.
    Whep,
}

impl Protocol {
    /// Both.
    pub const ALL: [Protocol; 2] = [Protocol::Whip, Protocol::Whep];

    /// In lower case, as in paths and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Whip => "whip",
            Protocol::Whep => "whep",
        }
    }
}

#[cfg(test)]
mod tests;
