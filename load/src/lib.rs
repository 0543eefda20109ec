//! Load for servers that speak the LiveKit protocol: many publishers and subscribers in one process. For comparison it
//! also joins the VideoRoom of Janus (`videoroom`).
//!
//! Everybody is played on one thread, on a WebRTC stack that is not the server's (`str0m`), so that neither tests
//! itself. Publishers send what a script says (`script`), at the level of RTP: nothing is encoded. Each payload
//! ends with the time at which it was sent (`stamp`), so that receivers, who have the same clock, tell delays;
//! sequence numbers tell loss and order, codec descriptors whether pictures could be shown (`receive`).
//!
//! Not here: browsers and SDKs, whose behaviour is more than media (`tests/clients`); bad networks (`sfu/testkit`).

mod connection;
mod crypto;
mod failure;
mod histogram;
mod net;
mod offer;
mod participant;
mod process;
mod receive;
mod report;
mod run;
mod script;
mod sending;
mod settings;
mod signalling;
mod stamp;
mod token;
mod videoroom;
mod vp8;

pub use failure::JoinFailure;
pub use report::{FrameCounts, Generator, Joins, Quantiles, Received, Second, Server, Sound, Summary};
pub use run::{RunError, run};
pub use settings::{Protocol, Quality, Settings, Video};
