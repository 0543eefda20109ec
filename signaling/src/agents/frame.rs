//! Messages of workers on their WebSocket: each is one protobuf (binary) or one protobuf-JSON (text). They are written as
//! those to clients are ([`livekit::frame::encode`](crate::livekit::frame::encode)).

use livekit_protocol::WorkerMessage;
use prost::Message as _;

use crate::livekit::frame::Encoding;

/// Reads one message; untrusted. `None`: it is no `WorkerMessage`. One of a kind that we do not know is empty.
pub fn decode(encoding: Encoding, frame: &[u8]) -> Option<WorkerMessage> {
    match encoding {
        Encoding::Protobuf => WorkerMessage::decode(frame).ok(),
        Encoding::Json => serde_json::from_slice(frame).ok(),
    }
}
