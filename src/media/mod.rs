//! Media I/O: one thread per core, each with its UDP port, its `sfu::Sfu` and nothing shared.
//!
//! `kernel` has the system calls, `worker` the loop, `tcp` the clients that cannot use UDP, `ledger` finds the room of an
//! event, `stats` is what is counted, `pressure` what follows when there is no time left, `load`
//! what is told of that.

pub mod kernel;
mod ledger;
pub mod load;
pub mod pressure;
pub mod stats;
pub mod tcp;
pub mod worker;
