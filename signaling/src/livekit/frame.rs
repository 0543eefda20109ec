//! Signal frames: a WebSocket message is one protobuf (binary) or one protobuf-JSON (text).
//!
//! A request of a kind that we do not know decodes to an empty [`SignalRequest`], which a room skips: that is
//! how newer clients stay compatible. Not here: the socket, and what the messages mean.

use livekit_protocol::{SignalRequest, SignalResponse};
use prost::Message as _;
use serde::Serialize;

/// The largest frame that is looked at, in bytes. Give it to the WebSocket as its message limit, too.
pub const MAX_FRAME: usize = 2 << 20;

/// How a client writes its frames. Answers go in the encoding that it used last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Binary messages: protobuf. What all current SDKs use.
    #[default]
    Protobuf,
    /// Text messages: the JSON form of protobuf.
    Json,
}

/// Why a frame cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Above [`MAX_FRAME`].
    #[error("signal frame of {got} bytes, limit {MAX_FRAME}")]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// Not a protobuf `SignalRequest`.
    #[error("signal frame is not a protobuf SignalRequest")]
    Protobuf,
    /// Not the JSON of a `SignalRequest`.
    #[error("signal frame is not a JSON SignalRequest")]
    Json,
}

/// Reads one frame of the client's; untrusted.
///
/// # Errors
/// [`FrameError`]; the session cannot go on, since nothing tells where the client stands. Give the error to
/// [`Room::bad_frame`](crate::livekit::Room::bad_frame). Never panics.
pub fn decode(encoding: Encoding, frame: &[u8]) -> Result<SignalRequest, FrameError> {
    if frame.len() > MAX_FRAME {
        return Err(FrameError::TooLarge { got: frame.len() });
    }
    match encoding {
        Encoding::Protobuf => SignalRequest::decode(frame).map_err(|_| FrameError::Protobuf),
        Encoding::Json => serde_json::from_slice(frame).map_err(|_| FrameError::Json),
    }
}

/// Writes one message for the other side: the payload of a binary message, or the UTF-8 of a text message.
pub fn encode<M: prost::Message + Serialize>(encoding: Encoding, message: &M) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => message.encode_to_vec(),
        Encoding::Json => serde_json::to_vec(message).unwrap_or_else(|error| {
            // Only an enum number outside the protocol cannot be written; we fill enums from the protocol's types.
            tracing::error!(%error, "message cannot be written as JSON");
            b"{}".to_vec()
        }),
    }
}

/// What the socket answers by itself, so that a busy room never ends a connection: `ping` and `ping_req`.
/// `unix_ms` is the wall clock in milliseconds since the Unix epoch.
pub fn pong_for(request: &SignalRequest, unix_ms: i64) -> Option<SignalResponse> {
    use livekit_protocol::{Pong, signal_request::Message as Request, signal_response::Message as Response};

    let message = match request.message.as_ref()? {
        Request::Ping(_) => Response::Pong(unix_ms),
        Request::PingReq(ping) => {
            Response::PongResp(Pong { last_ping_timestamp: ping.timestamp, timestamp: unix_ms })
        }
        _ => return None,
    };
    Some(SignalResponse { message: Some(message) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use livekit_protocol::{
        LeaveRequest, MuteTrackRequest, Ping, signal_request::Message as Request,
        signal_response::Message as Response,
    };

    fn mute() -> SignalRequest {
        SignalRequest { message: Some(Request::Mute(MuteTrackRequest { sid: "TR_x".into(), muted: true })) }
    }

    #[test]
    fn both_encodings_carry_the_same_request() {
        assert_eq!(decode(Encoding::Protobuf, &mute().encode_to_vec()), Ok(mute()));
        assert_eq!(decode(Encoding::Json, br#"{"mute":{"sid":"TR_x","muted":true}}"#), Ok(mute()));
    }

    #[test]
    fn unknown_kinds_decode_to_nothing() {
        // Field 200, length 3: a request of the future.
        let future = [0xc2, 0x0c, 0x03, 1, 2, 3];
        assert_eq!(decode(Encoding::Protobuf, &future), Ok(SignalRequest { message: None }));
        assert_eq!(
            decode(Encoding::Json, br#"{"levitate":{"height":3}}"#),
            Ok(SignalRequest { message: None })
        );
    }

    #[test]
    fn garbage_is_an_error_in_either_encoding() {
        assert_eq!(decode(Encoding::Protobuf, &[0xff; 40]), Err(FrameError::Protobuf));
        assert_eq!(decode(Encoding::Json, b"\xff{"), Err(FrameError::Json));
        assert_eq!(decode(Encoding::Json, "[".repeat(100_000).as_bytes()), Err(FrameError::Json));
        let large = vec![0; MAX_FRAME + 1];
        assert_eq!(decode(Encoding::Protobuf, &large), Err(FrameError::TooLarge { got: MAX_FRAME + 1 }));
    }

    #[test]
    fn answers_use_protobuf_json_names() {
        let leave = LeaveRequest { can_reconnect: true, reason: 6, action: 2, regions: None };
        let response = SignalResponse { message: Some(Response::Leave(leave)) };
        let json: serde_json::Value = serde_json::from_slice(&encode(Encoding::Json, &response)).unwrap();
        assert_eq!(json["leave"]["canReconnect"], true);
        assert_eq!(json["leave"]["action"], "RECONNECT");
        let bytes = encode(Encoding::Protobuf, &response);
        assert_eq!(SignalResponse::decode(&bytes[..]).unwrap(), response);
    }

    #[test]
    fn both_pings_are_answered() {
        let answer =
            |message| pong_for(&SignalRequest { message: Some(message) }, 77).and_then(|pong| pong.message);
        assert_eq!(answer(Request::Ping(5)), Some(Response::Pong(77)));
        let Some(Response::PongResp(pong)) = answer(Request::PingReq(Ping { timestamp: 5, rtt: 1 })) else {
            panic!("no pong_resp");
        };
        assert_eq!((pong.last_ping_timestamp, pong.timestamp), (5, 77));
        assert_eq!(pong_for(&mute(), 77), None);
    }
}
