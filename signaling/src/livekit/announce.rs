//! Telling people about each other (`ParticipantUpdate`).
//!
//! What a receiver of media waits for goes out at once; the coming and going of mere listeners is collected for a
//! moment, since in a large room it would cost a message for every pair.

use std::time::Duration;

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{ParticipantInfo, ParticipantUpdate};
use prost::Message as _;

use super::output::Clock;
use super::participant::Seat;
use super::room::Room;

/// How long changes are collected.
const COLLECT: Duration = Duration::from_millis(300);

/// The same for what is of no use to who does not look.
const BACKGROUND: Duration = Duration::from_secs(5);

/// An update is cut into messages of about this many bytes.
const CHUNK: usize = 128 << 10;

/// Departures are told at once when this many wait.
const MAX_DEPARTED: usize = 256;

impl Room {
    /// Tells everybody of a change that others wait for.
    pub(super) fn announce_now(&mut self, seat: Seat) {
        self.announce_except(seat, &[]);
    }

    fn announce_except(&mut self, seat: Seat, waiting: &[Seat]) {
        let Some(who) = self.people.get(&seat) else { return };
        if self.departed.iter().any(|gone| gone.identity == who.identity) {
            // Clients remove by identity: the old one's end must not come after the new one's news.
            self.announce();
        }
        self.changed.remove(&seat);
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.version += 1;
        let hidden = who.is_hidden();
        let who = &self.people[&seat];
        let update = Response::Update(ParticipantUpdate { participants: vec![self.info(who)] });
        if hidden {
            self.send(seat, update);
            return;
        }
        let everybody: Vec<Seat> = self.people.keys().copied().collect();
        for other in everybody.into_iter().filter(|other| !waiting.contains(other)) {
            if let Some(other) = self.people.get_mut(&other) {
                other.untold.remove(&seat);
            }
            self.send(other, update.clone());
        }
    }

    /// Tells everybody of a change of what a participant says of itself: at once, but in the background within
    /// [`BACKGROUND`].
    pub(super) fn announce_news(&mut self, clock: Clock, seat: Seat) {
        let waiting: Vec<Seat> = self
            .people
            .values()
            .filter(|who| who.policy.background && who.seat != seat)
            .map(|who| who.seat)
            .collect();
        let hidden = self.people.get(&seat).is_none_or(super::participant::Participant::is_hidden);
        self.announce_except(seat, &waiting);
        if hidden {
            return;
        }
        for other in waiting {
            if let Some(other) = self.people.get_mut(&other) {
                other.untold.insert(seat);
                other.news_at.get_or_insert(clock.now + BACKGROUND);
            }
        }
    }

    /// Tells a participant what was kept from it.
    pub(super) fn tell_news(&mut self, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.news_at = None;
        let untold = std::mem::take(&mut who.untold);
        let known = untold.iter().filter_map(|other| self.people.get(other));
        let infos: Vec<ParticipantInfo> = known.map(|other| self.info(other)).collect();
        for participants in chunks(infos) {
            self.send(seat, Response::Update(ParticipantUpdate { participants }));
        }
    }

    /// Tells everybody of a change within [`COLLECT`].
    pub(super) fn announce_soon(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.version += 1;
        self.changed.insert(seat);
        self.announce_at.get_or_insert(clock.now + COLLECT);
    }

    /// Tells everybody within [`COLLECT`] that somebody is gone.
    pub(super) fn announce_departure_soon(&mut self, clock: Clock, info: ParticipantInfo) {
        self.departed.push(info);
        self.announce_at.get_or_insert(clock.now + COLLECT);
        if self.departed.len() >= MAX_DEPARTED {
            self.announce();
        }
    }

    /// Tells those of a fitting protocol level that somebody is gone.
    pub(super) fn tell_of_departure(&mut self, infos: &[ParticipantInfo], level: fn(i32) -> bool) {
        let seats: Vec<Seat> =
            self.people.values().filter(|who| level(who.protocol())).map(|who| who.seat).collect();
        for seat in seats {
            self.send(seat, Response::Update(ParticipantUpdate { participants: infos.to_vec() }));
        }
    }

    /// Sends what was collected.
    pub(super) fn announce(&mut self) {
        self.announce_at = None;
        let changed = std::mem::take(&mut self.changed);
        let mut infos = std::mem::take(&mut self.departed);
        // Somebody who went and came back under the same name is there: the newer news goes last.
        let mut hidden = Vec::new();
        for seat in changed {
            let Some(who) = self.people.get(&seat) else { continue };
            if who.is_hidden() { hidden.push((seat, self.info(who))) } else { infos.push(self.info(who)) }
        }
        let everybody: Vec<Seat> = self.people.keys().copied().collect();
        for chunk in chunks(infos) {
            for seat in &everybody {
                self.send(*seat, Response::Update(ParticipantUpdate { participants: chunk.clone() }));
            }
        }
        for (seat, info) in hidden {
            self.send(seat, Response::Update(ParticipantUpdate { participants: vec![info] }));
        }
    }
}

/// Cuts a list into parts of about [`CHUNK`] bytes, each of one entry at least.
pub(super) fn chunks(infos: Vec<ParticipantInfo>) -> Vec<Vec<ParticipantInfo>> {
    let mut chunks: Vec<Vec<ParticipantInfo>> = Vec::new();
    let mut room = 0;
    for info in infos {
        let size = info.encoded_len();
        match chunks.last_mut() {
            Some(chunk) if size <= room => chunk.push(info),
            _ => {
                chunks.push(vec![info]);
                room = CHUNK;
            }
        }
        room = room.saturating_sub(size);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_update_is_cut_and_loses_nobody() {
        let info = |metadata: usize| ParticipantInfo {
            metadata: "x".repeat(metadata),
            ..ParticipantInfo::default()
        };
        let cut = chunks(vec![info(50_000), info(50_000), info(50_000), info(500_000), info(1)]);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1, 1]);
        assert!(chunks(vec![]).is_empty());
    }
}
