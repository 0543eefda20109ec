//! A seeded virtual network and clock, scripted cameras and receivers, for tests of the media core.
//!
//! Nothing here waits: [`net::Net`] jumps from deadline to deadline, and one seed is one whole run.
//! [`link`] is what a path does to packets, [`camera`] what a sender sends, [`receiver`] what a browser would
//! make of what arrives. RTP is written and read here independently of the code under test ([`rtp`]).
//! [`tcp`] is somebody else's traffic, [`score`] what figures must keep. `call` (a feature) puts the core itself between them, `table` says what is
//! promised of such calls, in figures.
#![forbid(unsafe_code)]

#[cfg(feature = "call")]
pub mod call;
pub mod camera;
pub mod clock;
pub mod link;
pub mod net;
pub mod receiver;
pub mod rtp;
pub mod score;
#[cfg(feature = "call")]
pub mod table;
pub mod tcp;
