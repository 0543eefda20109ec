//! The LiveKit client protocol, v0 and v1.
//!
//! A client's way in: [`connect`] checks the HTTP request, [`Room::join`] lets it into its room, [`frame`]
//! carries its signal messages, and the room turns them into commands to the media core, and the core's events
//! into signal messages.
//!
//! What a room does is spread by theme over files that each add methods to [`Room`]: `join` and `leave` for
//! who is there, `resume` for coming back, `announce` for telling the others, `publish` and `subscribe` for tracks, `unannounced` and
//! `follow` for the same over HTTP, `codecs` for those in several codecs, `dynacast` for what of them is sent, `negotiate` for SDP, `data` for messages, `data_publish` and `data_subscribe` for data tracks, `policy` for what a client bounds itself to, `fallback`
//! for when not even sound gets through, `rights` for what somebody may do, `status` for speakers, quality and counts,
//! `explain` for people who ask why somebody gets what it gets, `api` for applications' servers, `webhook` for telling them,
//! `dispatch` for the agents that they send, `simulate` for accidents that test suites ask for.

mod announce;
pub mod api;
mod codecs;
pub mod connect;
mod data;
mod data_publish;
mod data_rate;
mod data_subscribe;
mod data_track;
mod dispatch;
mod dynacast;
pub mod explain;
mod fallback;
mod follow;
pub mod frame;
mod join;
mod leave;
mod limits;
mod metadata;
mod missed;
mod negotiate;
mod nonces;
mod output;
mod packet;
mod participant;
mod permission;
mod policy;
mod publish;
mod resume;
mod rights;
mod room;
pub(crate) mod sid;
mod simulate;
mod status;
mod subscribe;
mod track;
mod unannounced;
mod webhook;

pub use self::frame::pong_for;
pub(crate) use self::join::server_info;
pub use self::join::{JoinError, SERVER_VERSION};
pub use self::leave::refuse_resume;
pub use self::limits::RoomLimits;
pub use self::output::{Clock, DataRefusal, Limit, Notice, Output, SessionId, SocketEnd};
pub(crate) use self::rights::grant;
pub use self::room::{Room, Settings};

#[cfg(test)]
mod tests;
