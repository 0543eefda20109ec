//! One encoding as it comes from its publisher: order, loss, rate, clock, loudness.
//!
//! Not here: which track an encoding belongs to (`peer::uplink`), and what is done with its packets (`forward`).

pub mod audio;
pub mod clock;
pub mod meter;
pub mod nack;
pub mod reception;
