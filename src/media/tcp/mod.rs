//! Media over TCP, for clients whose network lets no UDP through: frames in a stream that the client opens (RFC 6544).
//!
//! All workers share one port. `door` accepts, reads the first frame, which is a signed STUN request, and brings the connection
//! to the worker that the request's username fragment names; there `streams` reads and writes it beside the UDP sockets,
//! and the media core sees datagrams and a path like any other. `places` counts connections against their caps.
//! Always: a connection that the core knows nobody by is closed after [`UNKNOWN_TIMEOUT`]; one that takes nothing of what is
//! sent to it after [`STALL_TIMEOUT`]; what waits for one is bounded by [`QUEUE_LIMIT`], and while something waits the core is
//! told, which keeps video back.
//! Not here: frames (`sfu::transport::framing`), and who may speak (`sfu::transport::ice`).

mod door;
mod places;
mod streams;

#[cfg(test)]
mod tests;

pub use door::Door;
pub use places::{Place, Places, Refused, TcpStats};
pub use streams::{Arrival, Streams};

use std::time::Duration;

/// How long a connection may be of nobody: at first, until a signed request comes, and after its client was lost.
pub const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of what waits for it.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that wait for one connection, at most. Video is kept back as soon as there are any; this is for sound, control and
/// data beside it: some seconds.
pub const QUEUE_LIMIT: usize = 128 << 10;
/// Bytes that the kernel may hold and has not sent yet. More would wait where nothing can go before it.
pub const UNSENT_LIMIT: u32 = 16 << 10;
