//! Messages for a data channel that is not open yet: they wait for it a little.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// How long a message waits: the time from joining to the channel's opening on a slow network.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that wait for one client at most; what comes later is dropped.
const MAX_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Message {
    until: Instant,
    label: String,
    binary: bool,
    payload: Bytes,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct PendingData {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl PendingData {
    pub(crate) fn push(&mut self, now: Instant, label: &str, binary: bool, payload: &Bytes) {
        // A message of no bytes still takes room.
        let size = payload.len() + 64;
        if self.bytes + size <= MAX_BYTES {
            self.bytes += size;
            let payload = payload.clone();
            self.messages.push_back(Message {
                until: now + PATIENCE,
                label: label.to_owned(),
                binary,
                payload,
            });
        }
    }

    /// Takes out what waited for this channel, in order.
    pub(crate) fn take(&mut self, label: &str) -> Vec<(bool, Bytes)> {
        let (taken, left) = std::mem::take(&mut self.messages).into_iter().partition(|m| m.label == label);
        self.messages = left;
        self.count();
        VecDeque::into_iter(taken).map(|message| (message.binary, message.payload)).collect()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.messages.retain(|message| message.until > now);
        self.count();
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.messages.front().map(|message| message.until)
    }

    fn count(&mut self) {
        self.bytes = self.messages.iter().map(|message| message.payload.len() + 64).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_for_their_channel_but_not_for_ever_nor_without_bound() {
        let start = crate::test_time();
        let mut pending = PendingData::default();
        let payload = Bytes::from_static(&[0; 1000]);
        for n in 0..2000 {
            pending.push(start, if n % 2 == 0 { "a" } else { "b" }, true, &payload);
        }
        let waiting = pending.take("a").len();
        assert!((400..=500).contains(&waiting), "{waiting}");
        assert_eq!(pending.next_timeout(), Some(start + PATIENCE));
        pending.handle_timeout(start + PATIENCE);
        assert!(pending.take("b").is_empty());
        assert_eq!(pending.bytes, 0);
    }
}
