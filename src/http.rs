//! HTTP: signalling WebSockets, the web page, health and metrics, on one port.
//!
//! `serve` accepts connections (TLS where configured) with the limits that long join requests need, `router` says which
//! path is what, `websocket` runs one client's signalling, `agent` one worker's (`socket` is what they have in common), `twirp` serves the server API, `page` has the embedded web page,
//! `debug` tells why a participant gets what it gets.

mod agent;
mod debug;
pub mod page;
pub mod places;
pub mod router;
pub mod serve;
mod socket;
mod twirp;
mod webhooks;
pub mod websocket;
mod whip;
