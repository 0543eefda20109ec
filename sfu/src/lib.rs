//! The media core of Sluice, sans-IO: bytes and time in; bytes, events and a deadline out.
#![forbid(unsafe_code)]

mod ahead;
pub mod command;
pub mod congestion;
mod core;
mod data_track;
pub mod egress;
pub mod forward;
mod history;
pub mod ids;
mod peer;
pub mod sdp;
pub mod stats;
pub mod ticks;
mod timers;
mod track;
pub mod transport;
pub mod units;
pub mod uplink;
pub mod wire;

pub use crate::core::{Sfu, SfuConfig, SfuError};
pub use crate::peer::downlink::MAX_SUBSCRIPTIONS;

/// A moment to count from, for tests: only they may look at a clock, and once.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time needs one real moment to start from")]
pub(crate) fn test_time() -> std::time::Instant {
    std::time::Instant::now()
}
