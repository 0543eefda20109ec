//! A worker's book: which room each peer and track belongs to, so that events find their way.
//!
//! It reads commands on their way to the core and events on their way back. Always: what belongs to a peer
//! goes with the peer, so that the book is empty when the rooms are.

use std::collections::{HashMap, HashSet};

use sfu::command::{Command, Event};
use sfu::ids::{PeerId, RoomId, TrackId};

/// The book.
#[derive(Default)]
pub(super) struct Ledger {
    peers: HashMap<PeerId, PeerEntry>,
    publishers: HashMap<TrackId, PeerId>,
    rooms: HashMap<RoomId, HashSet<PeerId>>,
}

struct PeerEntry {
    room: RoomId,
    published: HashSet<TrackId>,
}

impl Ledger {
    /// Notes what a command changes.
    pub(super) fn command(&mut self, command: &Command) {
        match command {
            Command::AddPeer(add) => {
                self.peers.insert(add.peer, PeerEntry { room: add.room, published: HashSet::new() });
                self.rooms.entry(add.room).or_default().insert(add.peer);
            }
            Command::RemovePeer { peer } => self.remove_peer(*peer),
            Command::BindTrack { peer, track, .. } => {
                if let Some(entry) = self.peers.get_mut(peer) {
                    entry.published.insert(*track);
                    self.publishers.insert(*track, *peer);
                }
            }
            Command::RemoveTrack { track } => {
                if let Some(publisher) = self.publishers.remove(track)
                    && let Some(publisher) = self.peers.get_mut(&publisher)
                {
                    publisher.published.remove(track);
                }
            }
            Command::Offer { .. }
            | Command::Answer { .. }
            | Command::RemoteCandidate { .. }
            | Command::RestartIce { .. }
            | Command::MuteTrack { .. }
            | Command::Subscribe { .. }
            | Command::OpenFeed { .. }
            | Command::Feed { .. }
            | Command::Unsubscribe { .. }
            | Command::ReplaceTrack { .. }
            | Command::Adjust { .. }
            | Command::Limit { .. }
            | Command::Explain { .. }
            | Command::SendData { .. }
            | Command::BindDataTrack { .. }
            | Command::RemoveDataTrack { .. }
            | Command::SubscribeDataTrack { .. }
            | Command::UnsubscribeDataTrack { .. } => {}
        }
    }

    /// Which room an event is for, and notes what it tells; `None` when the room is gone already.
    pub(super) fn event(&mut self, event: &Event) -> Option<RoomId> {
        match event {
            Event::Ended { peer, reason: _ } => {
                let room = self.room_of(*peer);
                self.remove_peer(*peer);
                room
            }
            Event::TrackMedia { track, .. } => self.room_of(*self.publishers.get(track)?),
            Event::Speakers { room, .. } => Some(*room),
            Event::RemoteSections { peer, .. }
            | Event::Answer { peer, .. }
            | Event::DescriptionRefused { peer, .. }
            | Event::Offer { peer, .. }
            | Event::SectionsNeeded { peer, .. }
            | Event::Connected { peer }
            | Event::Lost { peer, silence: _ }
            | Event::SubscriptionBound { peer, .. }
            | Event::SubscriptionUnsupported { peer, .. }
            | Event::SubscriptionPaused { peer, .. }
            | Event::Data { peer, .. }
            | Event::Quality { peer, .. }
            | Event::Voice { peer, .. }
            | Event::Explained { peer, .. }
            | Event::FirstMedia { peer } => self.room_of(*peer),
        }
    }

    /// The connections of a room.
    pub(super) fn peers_of(&self, room: RoomId) -> Vec<PeerId> {
        self.rooms.get(&room).into_iter().flatten().copied().collect()
    }

    fn room_of(&self, peer: PeerId) -> Option<RoomId> {
        self.peers.get(&peer).map(|entry| entry.room)
    }

    fn remove_peer(&mut self, peer: PeerId) {
        let Some(entry) = self.peers.remove(&peer) else { return };
        for track in entry.published {
            self.publishers.remove(&track);
        }
        if let Some(room) = self.rooms.get_mut(&entry.room) {
            room.remove(&peer);
            if room.is_empty() {
                self.rooms.remove(&entry.room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sfu::command::{AddPeer, MediaKind, NegotiationRole, PeerEnd, TrackMedia};
    use sfu::ids::Mid;

    use super::*;

    fn add_peer(ledger: &mut Ledger, peer: u64, room: u64) {
        ledger.command(&Command::AddPeer(AddPeer {
            peer: PeerId(peer),
            room: RoomId(room),
            role: NegotiationRole::Answerer,
            channels: Vec::new(),
        }));
    }

    fn track_media(track: u64) -> Event {
        let mid = Mid::parse("0").unwrap();
        let media = TrackMedia { mid, kind: MediaKind::Audio, mime: String::new(), layers: Vec::new() };
        Event::TrackMedia { track: TrackId(track), media }
    }

    #[test]
    fn events_of_peers_and_tracks_find_their_room() {
        let mut ledger = Ledger::default();
        add_peer(&mut ledger, 1, 10);
        add_peer(&mut ledger, 2, 20);
        let mid = Mid::parse("0").unwrap();
        ledger.command(&Command::BindTrack {
            peer: PeerId(2),
            mid,
            track: TrackId(5),
            layers: Vec::new(),
            encrypted: false,
        });
        assert_eq!(ledger.event(&Event::Connected { peer: PeerId(1) }), Some(RoomId(10)));
        assert_eq!(ledger.event(&track_media(5)), Some(RoomId(20)));
        ledger.command(&Command::RemoveTrack { track: TrackId(5) });
        assert_eq!(ledger.event(&track_media(5)), None, "gone");
    }

    #[test]
    fn nothing_is_left_of_a_room() {
        let mut ledger = Ledger::default();
        for peer in 1..=3 {
            add_peer(&mut ledger, peer, 10);
            let (mid, track) = (Mid::parse("0").unwrap(), TrackId(peer));
            ledger.command(&Command::BindTrack {
                peer: PeerId(peer),
                mid,
                track,
                layers: Vec::new(),
                encrypted: false,
            });
        }
        let end = Event::Ended { peer: PeerId(1), reason: PeerEnd::ConsentExpired };
        assert_eq!(ledger.event(&end), Some(RoomId(10)));
        let rest = ledger.peers_of(RoomId(10));
        assert_eq!(rest.len(), 2);
        for peer in rest {
            ledger.command(&Command::RemovePeer { peer });
        }
        assert!(ledger.peers.is_empty() && ledger.publishers.is_empty() && ledger.rooms.is_empty());
        assert_eq!(ledger.event(&Event::FirstMedia { peer: PeerId(2) }), None, "late events have no room");
    }
}
