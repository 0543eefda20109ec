//! A seeded virtual network and clock, scripted cameras and receivers, for tests of the media core.
//!
//! Nothing here waits: [`net::Net`] jumps from deadline to deadline, and one seed is one whole run.
#![forbid(unsafe_code)]

pub mod clock;
pub mod link;
