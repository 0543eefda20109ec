//! An event as it is kept on disk: the body that is sent, and what is needed to send it.

use super::store::{Failure, Waiting};

/// Stored as protobuf, so that a later version can add to it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Record {
    /// The receiver.
    #[prost(string, tag = "1")]
    pub(super) url: String,
    /// The room's name.
    #[prost(string, tag = "2")]
    pub(super) room: String,
    /// The event's id, `EV_…`: the same at every attempt, after a restart and a replay.
    #[prost(string, tag = "3")]
    pub(super) id: String,
    /// Its kind, such as `room_started`.
    #[prost(string, tag = "4")]
    pub(super) event: String,
    /// When it was queued, or replayed: milliseconds since the Unix epoch.
    #[prost(int64, tag = "5")]
    pub(super) queued_ms: i64,
    /// JSON, byte for byte what is signed and sent.
    #[prost(bytes = "vec", tag = "6")]
    pub(super) body: Vec<u8>,
    /// Attempts until it was given up; 0 while it waits.
    #[prost(uint32, tag = "7")]
    pub(super) attempts: u32,
    /// Why it was given up.
    #[prost(string, tag = "8")]
    pub(super) reason: String,
    /// And when.
    #[prost(int64, tag = "9")]
    pub(super) failed_ms: i64,
}

impl Record {
    pub(super) fn waiting(&self, number: u64) -> Waiting {
        Waiting { number, url: self.url.clone(), room: self.room.clone(), queued_ms: self.queued_ms }
    }

    pub(super) fn failed(self, failure: &Failure) -> Record {
        Record {
            attempts: failure.attempts,
            reason: failure.reason.clone(),
            failed_ms: failure.unix_ms,
            ..self
        }
    }

    pub(super) fn replayed(self, unix_ms: i64) -> Record {
        Record { queued_ms: unix_ms, attempts: 0, reason: String::new(), failed_ms: 0, ..self }
    }
}
