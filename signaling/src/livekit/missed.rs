//! What somebody who is away must be told when it comes back: who left, and the reliable packets that it may not have
//! got. Both are kept for a while only, and within bounds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol::ParticipantInfo;
use livekit_protocol::participant_info::State;
use sfu::ids::PeerId;

use super::participant::Seat;

/// Departures that are kept; a few hundred bytes each.
const MAX_DEPARTURES: usize = 1024;

/// How long packets are kept. JS forgets after 30 s what it got from whom, and would take an older packet for new.
const KEEP: Duration = Duration::from_secs(20);
/// Bytes of a room's packets that are kept.
const MAX_BYTES: usize = 1 << 20;
/// What a packet takes beside its bytes.
const OVERHEAD: usize = 128;

/// Who left, oldest first.
#[derive(Debug, Default)]
pub(super) struct Departures {
    list: VecDeque<(Instant, ParticipantInfo)>,
    /// When the latest left of those that are no longer in the list.
    forgotten: Option<Instant>,
}

impl Departures {
    /// Somebody left, and was announced as `info`.
    pub(super) fn push(&mut self, now: Instant, info: &ParticipantInfo) {
        if self.list.len() >= MAX_DEPARTURES
            && let Some((at, _)) = self.list.pop_front()
        {
            self.forgotten = Some(at);
        }
        // As much as a client needs to remove somebody. What the application wrote may be large.
        let info = ParticipantInfo {
            sid: info.sid.clone(),
            identity: info.identity.clone(),
            state: State::Disconnected as i32,
            version: info.version,
            joined_at: info.joined_at,
            joined_at_ms: info.joined_at_ms,
            kind: info.kind,
            disconnect_reason: info.disconnect_reason,
            permission: info.permission.clone(),
            ..ParticipantInfo::default()
        };
        self.list.push_back((now, info));
    }

    /// All who left since then; `None` if some of them were forgotten.
    pub(super) fn since(&self, then: Instant) -> Option<impl Iterator<Item = &ParticipantInfo>> {
        if self.forgotten.is_some_and(|at| at >= then) {
            return None;
        }
        Some(self.list.iter().filter(move |(at, _)| *at >= then).map(|(_, info)| info))
    }
}

/// One packet as it went out.
#[derive(Debug)]
struct Sent {
    at: Instant,
    from: Seat,
    sequence: u32,
    to: Arc<[PeerId]>,
    payload: Bytes,
}

impl Sent {
    fn size(&self) -> usize {
        self.payload.len() + size_of_val(&*self.to) + OVERHEAD
    }
}

/// Numbered packets of the reliable channel, oldest first.
#[derive(Debug, Default)]
pub(super) struct Replay {
    list: VecDeque<Sent>,
    bytes: usize,
}

impl Replay {
    /// Keeps a packet that was sent to these connections.
    pub(super) fn push(
        &mut self,
        now: Instant,
        from: Seat,
        sequence: u32,
        to: &Arc<[PeerId]>,
        payload: &Bytes,
    ) {
        let sent = Sent { at: now, from, sequence, to: Arc::clone(to), payload: payload.clone() };
        self.bytes += sent.size();
        self.list.push_back(sent);
        while self.list.front().is_some_and(|sent| self.bytes > MAX_BYTES || sent.at + KEEP < now) {
            self.bytes -= self.list.pop_front().as_ref().map_or(0, Sent::size);
        }
    }

    /// What a connection was sent and has not got, by its client's own count: the last number of each sender.
    pub(super) fn missed_by(&self, now: Instant, peer: PeerId, received: &HashMap<Seat, u32>) -> Vec<Bytes> {
        let is_missed = |sent: &&Sent| {
            sent.at + KEEP >= now
                && sent.to.contains(&peer)
                && received.get(&sent.from).is_none_or(|last| sent.sequence > *last)
        };
        self.list.iter().filter(is_missed).map(|sent| sent.payload.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn departures_are_bounded_and_a_gap_is_noticed() {
        let start = start();
        let at = |second: usize| start + Duration::from_secs(second as u64);
        let mut departures = Departures::default();
        for second in 0..MAX_DEPARTURES + 10 {
            let info = ParticipantInfo { metadata: "x".repeat(100), ..ParticipantInfo::default() };
            departures.push(at(second), &info);
        }
        assert_eq!(departures.list.len(), MAX_DEPARTURES);
        assert!(departures.list.iter().all(|(_, info)| info.metadata.is_empty()));
        assert!(departures.since(at(9)).is_none());
        assert_eq!(departures.since(at(10)).map(Iterator::count), Some(MAX_DEPARTURES));
        assert_eq!(departures.since(at(MAX_DEPARTURES)).map(Iterator::count), Some(10));
    }

    #[test]
    fn packets_are_kept_within_bytes_and_time() {
        let start = start();
        let mut replay = Replay::default();
        let to: Arc<[PeerId]> = [PeerId(1)].into();
        let payload = Bytes::from(vec![0; 60_000]);
        for sequence in 1..=100 {
            replay.push(start, Seat(0), sequence, &to, &payload);
            assert!(replay.bytes <= MAX_BYTES);
        }
        let count = |now: Instant, peer: u64, last: u32| {
            replay.missed_by(now, PeerId(peer), &HashMap::from([(Seat(0), last)])).len()
        };
        assert_eq!(count(start, 1, 98), 2);
        assert_eq!(count(start, 2, 0), 0, "it was not for this one");
        assert!((15..=17).contains(&count(start, 1, 0)));
        assert_eq!(count(start + KEEP + Duration::from_secs(1), 1, 0), 0);
        replay.push(start + KEEP + Duration::from_secs(1), Seat(0), 101, &to, &payload);
        assert_eq!(replay.list.len(), 1);
    }
}
