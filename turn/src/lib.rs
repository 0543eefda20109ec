//! A TURN server (RFC 8656) for clients behind firewalls, which relays to the media addresses of its own server and to
//! nothing else. Bytes and time in; bytes out.
//!
//! Because the peers are known, a relay's socket needs no port that the world can reach, and nobody can make it send
//! to anybody. Users prove themselves with credentials that expire (`turn_config::Secret`), nonces are a function of the
//! client's address and the time, and so nothing is kept for those who have not.
//!
//! [`Server`] is driven like this: a packet of a client's goes to [`Server::handle_client`], which says what to do with it
//! ([`Action`]); a socket is opened for [`Action::Bind`] and told by [`Server::bound`]; what it receives goes to
//! [`Server::handle_peer`]; ended allocations come out of [`Server::poll_closed`].
//!
//! Always: an answer to a datagram of somebody who has not proved himself has at most 1.5 times its bytes, or 44 bytes for 28; data
//! goes only where a permission stands, and permissions only to [`Config::media`]; all that a client can grow is capped.
//! Left out: relays over TCP (RFC 6062), mobility (RFC 8016), reserved ports, DONT-FRAGMENT, address discovery
//! for requests too short to be answered within the bound.
#![forbid(unsafe_code)]

mod allocation;
mod auth;
mod message;
mod server;
mod stats;
mod stream;
mod writer;

pub use allocation::{AllocationId, Client, Transport, subscriber};
pub use message::{
    Class, MAX_PACKET, Malformed, Message, Method, Packet, TransactionId, Unknown, kind, long_term_key,
};
pub use server::{Action, Clock, Config, Limits, Server};
pub use stats::{Drop, Refusal, Stats};
pub use stream::first_packet;
pub use writer::{MessageWriter, write_channel_data};
