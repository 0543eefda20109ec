//! The LiveKit client protocol, v0 and v1.
//!
//! A client's way in: [`connect`] checks the HTTP request, [`Room::join`] lets it into its room, [`frame`]
//! carries its signal messages, and the room turns them into commands to the media core and back.

pub mod connect;
pub mod frame;
mod limits;

pub use self::limits::RoomLimits;
