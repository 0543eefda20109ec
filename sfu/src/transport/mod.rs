//! One peer's packets.

pub mod dcep;
pub mod sctp;
pub mod srtp;
