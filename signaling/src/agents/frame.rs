//! Messages of workers on their WebSocket: each is one protobuf (binary) or one protobuf-JSON (text).

use livekit_protocol::{ServerMessage, WorkerMessage};
use prost::Message as _;

use crate::livekit::frame::Encoding;

/// Reads one message; untrusted. `None`: it is no `WorkerMessage`. One of a kind that we do not know is empty.
pub fn decode(encoding: Encoding, frame: &[u8]) -> Option<WorkerMessage> {
    match encoding {
        Encoding::Protobuf => WorkerMessage::decode(frame).ok(),
        Encoding::Json => serde_json::from_slice(frame).ok(),
    }
}

/// Writes one message: the payload of a binary message, or the UTF-8 of a text message.
pub fn encode(encoding: Encoding, message: &ServerMessage) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => message.encode_to_vec(),
        Encoding::Json => serde_json::to_vec(message).unwrap_or_else(|error| {
            // Only an enum number outside the protocol cannot be written; rooms fill enums from the protocol's types.
            tracing::error!(%error, "message to a worker cannot be written as JSON");
            b"{}".to_vec()
        }),
    }
}
