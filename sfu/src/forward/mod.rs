//! Forwarding: which packets of one track a subscriber gets, and under which numbers (RFC 7667 §3.7).
//!
//! A packet passes `select` (is it in the chosen layer?), waits in the subscriber's pacer, and gets its numbers from
//! `rewrite` when it leaves; `cache` has its bytes, once for all subscribers; `sent` remembers what left, to answer
//! NACKs, within what `repair` has for it; `playout` has receivers wait for repairs where much is lost; `redundancy` gives audio its earlier payloads along. Always: a gap in output sequence numbers is a packet lost
//! upstream; timestamps never fall while they rise; spatial layers change at keyframes only.
//! Not here: the choice of layer (`congestion::allocate`), encryption (`transport::srtp`).

pub mod cache;
pub mod keyframe;
pub mod playout;
pub mod redundancy;
pub mod repair;
pub mod rewrite;
pub mod select;
pub mod sent;

#[cfg(test)]
mod tests;
