//! The Sluice server as a library: what the binary runs, and what tests and benches start in-process.
//!
//! This package is the only code that opens sockets and files, starts threads and reads a clock. Workers ([`media`])
//! own the packet path, one thread each; tokio serves signalling ([`http`], [`rooms`]); bounded queues join them.
//! What media and messages mean is in the packages `sfu` and `signaling`, which [`bridge`] connects.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let server = sluice::Server::start(sluice::Settings::test()).await?;
//! println!("http://{}, media on UDP {:?}", server.http_addr, server.udp_ports);
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod agents;
pub mod bridge;
pub mod cli;
pub mod config;
mod counts;
mod handover;
pub mod http;
mod listen;
pub mod media;
pub mod metrics;
pub mod rooms;
pub mod server;
pub mod turn;
pub mod webhooks;
pub mod whip;

pub use config::Settings;
pub use server::{RunningServer, Server, StartError};
