//! Data tracks: who publishes which under which handle, and who gets it under which.
//!
//! Always: an id names one track, and so does a handle of one connection; who gets a track gets it once. A connection that is
//! gone is in no track's list, and its own tracks are gone with it.
//! Not here: the packets' way (`core::data_tracks`), who may do what (`signaling`).

mod thinning;

use std::collections::HashMap;
use std::time::Instant;

use self::thinning::Thinning;
use crate::ids::{DataHandle, TrackId};

/// One connection that gets a track.
pub(crate) struct DataSubscriber {
    /// Its number in the core.
    pub(crate) peer: usize,
    /// What its packets carry.
    pub(crate) handle: DataHandle,
    fps: Option<u32>,
    thinning: Option<Thinning>,
}

impl DataSubscriber {
    /// Whether it gets the packets of that frame, of which one is here.
    pub(crate) fn takes(&mut self, now: Instant, frame: u16) -> bool {
        self.thinning.as_mut().is_none_or(|thinning| thinning.takes(now, frame))
    }

    fn set_fps(&mut self, fps: Option<u32>) {
        if self.fps != fps {
            self.fps = fps;
            self.thinning = fps.and_then(Thinning::to);
        }
    }
}

struct DataTrack {
    id: TrackId,
    subscribers: Vec<DataSubscriber>,
}

/// All data tracks of a worker, by the number of the publisher's connection and its handle.
#[derive(Default)]
pub(crate) struct DataTracks {
    tracks: HashMap<(usize, DataHandle), DataTrack>,
    by_id: HashMap<TrackId, (usize, DataHandle)>,
}

impl DataTracks {
    /// Begins a track. An id or a handle that is in use stays what it is.
    pub(crate) fn bind(&mut self, owner: usize, handle: DataHandle, id: TrackId) {
        let key = (owner, handle);
        if !self.by_id.contains_key(&id) && !self.tracks.contains_key(&key) {
            self.by_id.insert(id, key);
            self.tracks.insert(key, DataTrack { id, subscribers: Vec::new() });
        }
    }

    pub(crate) fn remove(&mut self, id: TrackId) {
        if let Some(key) = self.by_id.remove(&id) {
            self.tracks.remove(&key);
        }
    }

    /// Lets somebody have a track, or changes how it has it.
    pub(crate) fn subscribe(&mut self, id: TrackId, peer: usize, handle: DataHandle, fps: Option<u32>) {
        let Some(track) = self.get_mut(id) else { return };
        let at = track.subscribers.iter().position(|known| known.peer == peer).unwrap_or_else(|| {
            track.subscribers.push(DataSubscriber { peer, handle, fps: None, thinning: None });
            track.subscribers.len() - 1
        });
        let subscriber = &mut track.subscribers[at];
        subscriber.handle = handle;
        subscriber.set_fps(fps);
    }

    pub(crate) fn unsubscribe(&mut self, id: TrackId, peer: usize) {
        if let Some(track) = self.get_mut(id) {
            track.subscribers.retain(|known| known.peer != peer);
        }
    }

    /// A connection is gone, with its tracks and subscriptions.
    pub(crate) fn forget(&mut self, peer: usize) {
        let by_id = &mut self.by_id;
        self.tracks.retain(|(owner, _), track| {
            let stays = *owner != peer;
            if stays {
                track.subscribers.retain(|known| known.peer != peer);
            } else {
                by_id.remove(&track.id);
            }
            stays
        });
    }

    /// Who gets what comes from there under that handle; `None` if it is no track.
    pub(crate) fn subscribers(&mut self, owner: usize, handle: DataHandle) -> Option<&mut [DataSubscriber]> {
        Some(&mut self.tracks.get_mut(&(owner, handle))?.subscribers)
    }

    fn get_mut(&mut self, id: TrackId) -> Option<&mut DataTrack> {
        self.tracks.get_mut(self.by_id.get(&id)?)
    }

    /// Tracks and subscriptions, for tests and simulations.
    #[cfg(any(test, feature = "null-cipher"))]
    pub(crate) fn held(&self) -> usize {
        self.by_id.len() + self.tracks.values().map(|track| 1 + track.subscribers.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(number: u32) -> DataHandle {
        DataHandle::new(number).unwrap()
    }

    fn receivers(tracks: &mut DataTracks, owner: usize, number: u32) -> Option<Vec<(usize, u16)>> {
        let subscribers = tracks.subscribers(owner, handle(number))?;
        Some(subscribers.iter().map(|subscriber| (subscriber.peer, subscriber.handle.wire())).collect())
    }

    #[test]
    fn a_handle_means_a_track_of_its_own_connection_only() {
        let mut tracks = DataTracks::default();
        tracks.bind(0, handle(1), TrackId(10));
        tracks.bind(1, handle(1), TrackId(11));
        tracks.subscribe(TrackId(10), 1, handle(5), None);
        tracks.subscribe(TrackId(11), 0, handle(6), None);
        assert_eq!(receivers(&mut tracks, 0, 1), Some(vec![(1, 5)]));
        assert_eq!(receivers(&mut tracks, 1, 1), Some(vec![(0, 6)]));
        assert_eq!(receivers(&mut tracks, 1, 2), None);
    }

    #[test]
    fn what_is_in_use_is_not_taken_over() {
        let mut tracks = DataTracks::default();
        tracks.bind(0, handle(1), TrackId(10));
        tracks.subscribe(TrackId(10), 2, handle(5), None);
        tracks.bind(0, handle(1), TrackId(11));
        tracks.bind(1, handle(3), TrackId(10));
        tracks.subscribe(TrackId(11), 2, handle(6), None);
        assert_eq!(receivers(&mut tracks, 0, 1), Some(vec![(2, 5)]));
        assert_eq!(receivers(&mut tracks, 1, 3), None);
    }

    #[test]
    fn a_second_subscription_changes_the_first() {
        let mut tracks = DataTracks::default();
        tracks.bind(0, handle(1), TrackId(10));
        tracks.subscribe(TrackId(10), 2, handle(5), Some(1));
        tracks.subscribe(TrackId(10), 2, handle(6), None);
        assert_eq!(receivers(&mut tracks, 0, 1), Some(vec![(2, 6)]));
        let now = crate::test_time();
        let subscriber = &mut tracks.subscribers(0, handle(1)).unwrap()[0];
        assert!((0..100).all(|frame| subscriber.takes(now, frame)), "no longer bounded");
    }

    #[test]
    fn nothing_is_left_of_tracks_and_connections_that_are_gone() {
        let mut tracks = DataTracks::default();
        for owner in [0, 1] {
            tracks.bind(owner, handle(1), TrackId(owner as u64));
            tracks.bind(owner, handle(2), TrackId(2 + owner as u64));
        }
        for id in 0..4 {
            tracks.subscribe(TrackId(id), 2, handle(9), None);
            tracks.subscribe(TrackId(id), 1 - (id as usize & 1), handle(9), None);
        }
        tracks.forget(0);
        assert_eq!((receivers(&mut tracks, 0, 1), receivers(&mut tracks, 1, 1)), (None, Some(vec![(2, 9)])));
        tracks.unsubscribe(TrackId(1), 2);
        assert_eq!(receivers(&mut tracks, 1, 1), Some(vec![]));
        tracks.remove(TrackId(1));
        tracks.remove(TrackId(3));
        tracks.remove(TrackId(3));
        assert_eq!(tracks.held(), 0);
        tracks.bind(0, handle(1), TrackId(0));
        assert_eq!(receivers(&mut tracks, 0, 1), Some(vec![]), "its id and handle are free again");
    }
}
