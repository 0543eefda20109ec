//! One data channel: where it stands, and how much of what we sent on it is not yet acknowledged.

use std::collections::VecDeque;

use super::StreamId;
use crate::command::Reliability;
use crate::transport::dcep::Open;

/// Messages of one channel that may wait for acknowledgement, beside the limit in bytes: a message of one byte
/// costs some 150 in the library.
const MAX_BACKLOG_MESSAGES: usize = 8192;

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Ours: DATA_CHANNEL_OPEN is out. Messages may follow it at once, but in order (RFC 8832 §6).
    Opening,
    /// Both sides know of it.
    Open,
    /// We have reset our direction and wait for the peer's.
    Closing,
}

/// A stream that is a channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) stream: StreamId,
    pub(super) phase: Phase,
    pub(super) open: Open,
    backlog: Backlog,
}

impl Channel {
    pub(super) fn new(stream: StreamId, phase: Phase, open: Open) -> Channel {
        Channel { stream, phase, open, backlog: Backlog::default() }
    }

    pub(super) fn reliability(&self) -> Reliability {
        self.open.reliability()
    }

    /// Whether a message of `len` bytes may join `buffered` unacknowledged ones, of at most `limit` in all.
    pub(super) fn has_room(&mut self, buffered: usize, len: usize, limit: usize) -> bool {
        self.backlog.settle(buffered);
        buffered + len <= limit && self.backlog.lens.len() < MAX_BACKLOG_MESSAGES
    }

    /// A message of `len` bytes was handed to the library.
    pub(super) fn sent(&mut self, len: usize) {
        self.backlog.lens.push_back(len as u32);
        self.backlog.total += len;
    }
}

/// The lengths of messages not yet acknowledged, oldest first. The library tells only their sum, so those
/// acknowledged are taken to be the oldest.
#[derive(Debug, Default)]
struct Backlog {
    lens: VecDeque<u32>,
    total: usize,
}

impl Backlog {
    /// Drops the oldest messages that cannot be among the `buffered` bytes.
    fn settle(&mut self, buffered: usize) {
        while let Some(&oldest) = self.lens.front() {
            let without = self.total - oldest as usize;
            if without < buffered {
                break;
            }
            self.total = without;
            self.lens.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlog_is_bounded_in_bytes_and_in_messages() {
        let open = Open::new("_reliable", Reliability::Reliable);
        let mut channel = Channel::new(StreamId(1), Phase::Open, open);
        let mut buffered = 0;
        while channel.has_room(buffered, 1, 1 << 20) {
            channel.sent(1);
            buffered += 1;
        }
        assert_eq!(buffered, MAX_BACKLOG_MESSAGES);
        assert!(channel.has_room(buffered - 1, 1, 1 << 20), "one was acknowledged");
        assert!(!channel.has_room(1000, 1, 1000));
        assert!(channel.has_room(999, 1, 1000));
        assert!(channel.has_room(0, 1000, 1000));
        assert_eq!(channel.backlog.total, 0);
    }
}
