//! The kernel: epoll, eventfd, UDP in batches, network interfaces, a thread's CPU time. The only module with `unsafe`.
//!
//! Always: what leaves this module is safe to use in any order; every `unsafe` block says why it is sound.
//! A socket answers from the address that a packet was sent to, also on a host with many addresses.
//! Not here: what the datagrams mean, and when to send them (`media::worker`).
#![expect(unsafe_code, reason = "system calls; nothing else in the project needs it")]

mod batch;
mod clock;
mod interfaces;
mod poll;
mod udp;
mod watched;

#[cfg(test)]
mod tests;

pub use batch::{Outgoing, ReceiveBatch, SendBatch, SendReport};
pub use clock::thread_cpu_time;
pub use interfaces::interface_addresses;
pub use poll::{Poller, Ready, Wakeup, raise_open_file_limit};
pub use udp::{BufferSizes, UdpSocket};
pub use watched::WatchedSocket;

use std::io;

/// Turns the C convention (-1 and `errno`) into a `Result`.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
