//! The server API: what applications' servers ask of rooms (`livekit.RoomService` and `livekit.AgentDispatchService`, over Twirp).
//!
//! [`open`] checks a request's head, [`Call::read`] its body and the token's grants; what comes out is a [`Request`].
//! What concerns the directory of rooms is for whoever keeps that; the rest is a [`RoomCall`], which
//! [`Room::call`](super::Room::call) carries out. An [`Answer`] or an [`ApiError`] goes back, in the encoding of the call.
//! Always: nothing is read from somebody without a good token, and nothing is done or told before the token's grants were
//! compared with what is asked. Effects reach clients as if the reference server had done it, and before the answer.
//! Not here: sockets, HTTP bodies, and the directory of rooms.

mod answer;
mod call;
mod error;
mod json;
mod method;
mod rpc;
mod send;
mod serve;
mod update;

pub use self::answer::Answer;
pub(super) use self::call::check_agent;
pub use self::call::{Call, Head, MAX_BODY, Request, RoomCall, is_call, method, open};
pub use self::error::{ApiError, Code};
pub use self::method::{Method, Needs};
pub use self::rpc::RpcFault;
pub(super) use self::rpc::Waiting;

#[cfg(test)]
mod tests;
