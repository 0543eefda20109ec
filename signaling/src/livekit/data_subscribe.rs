//! Subscribing to data tracks: who gets which, and under which handle.
//!
//! As with other tracks, every change of wish, permission or tracks ends in a comparison of what should be with what is. What a
//! client has is told as a whole, as a map from the handles that its packets carry; handles are given in turn, so that one is
//! not soon another track's.
//! Clients have no place for a refusal, and ask once: who may not have a track now gets it when it may.

use std::collections::{BTreeMap, HashSet};

use livekit_protocol::data_track_subscriber_handles::PublishedDataTrack;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{DataTrackSubscriberHandles, UpdateDataSubscription};
use sfu::command::Command;
use sfu::ids::{DataHandle, TrackId};

use super::participant::{Participant, Seat};
use super::room::Room;

/// As many as there are handles.
const MAX_SUBSCRIPTIONS: usize = u16::MAX as usize;

/// A data track that is forwarded to a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DataSubscription {
    handle: DataHandle,
    /// Frames a second that are of use; `None` for all.
    fps: Option<u32>,
}

/// What a participant said of a data track.
#[derive(Clone, Copy, Debug)]
struct DataWish {
    subscribe: bool,
    fps: Option<u32>,
}

/// The data tracks that a participant gets, and those that it spoke of. Both have only tracks that are there.
#[derive(Debug)]
pub(super) struct DataDownlink {
    /// All of them unless told otherwise.
    auto_subscribe: bool,
    subscriptions: BTreeMap<TrackId, DataSubscription>,
    wishes: BTreeMap<TrackId, DataWish>,
    /// The handles of its subscriptions.
    taken: HashSet<DataHandle>,
    /// Where the search for a free one begins.
    next: DataHandle,
}

impl DataDownlink {
    pub(super) fn new(auto_subscribe: bool) -> DataDownlink {
        let next = DataHandle::new(1).expect("1 is a handle");
        DataDownlink {
            auto_subscribe,
            subscriptions: BTreeMap::new(),
            wishes: BTreeMap::new(),
            taken: HashSet::new(),
            next,
        }
    }

    /// A track is over. Tells whether it was subscribed to.
    pub(super) fn forget(&mut self, id: TrackId) -> bool {
        self.wishes.remove(&id);
        self.end(id)
    }

    /// Tells whether there was a subscription.
    fn end(&mut self, id: TrackId) -> bool {
        let ended = self.subscriptions.remove(&id);
        ended.is_some_and(|subscription| self.taken.remove(&subscription.handle))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// The tracks subscribed to, and those spoken of.
    #[cfg(test)]
    pub(super) fn known(&self) -> impl Iterator<Item = TrackId> {
        self.subscriptions.keys().chain(self.wishes.keys()).copied()
    }

    /// Takes a handle that no subscription has. There are more handles than subscriptions.
    fn take_handle(&mut self) -> DataHandle {
        while !self.taken.insert(self.next) {
            self.next = self.next.next();
        }
        let free = self.next;
        self.next = free.next();
        free
    }
}

impl Participant {
    /// What the core must know of its subscription to a data track, if it has one.
    pub(super) fn data_subscription(&self, track: TrackId) -> Option<Command> {
        let DataSubscription { handle, fps } = *self.data_downlink.subscriptions.get(&track)?;
        Some(Command::SubscribeDataTrack { peer: self.link.subscriber(), track, handle, fps })
    }
}

impl Room {
    pub(super) fn update_data_subscription(&mut self, seat: Seat, request: UpdateDataSubscription) {
        let mut to_tell = false;
        for update in request.updates.into_iter().take(self.settings.limits.preferences_per_participant) {
            // One that is unknown has ended, which the client is told or will be.
            let Some(&id) = self.by_data_track_sid.get(&update.track_sid) else { continue };
            if self.data_tracks.get(&id).is_none_or(|track| track.owner == seat) {
                continue;
            }
            let Some(who) = self.people.get_mut(&seat) else { return };
            let fps = update.options.and_then(|options| options.target_fps).filter(|fps| *fps > 0);
            who.data_downlink.wishes.insert(id, DataWish { subscribe: update.subscribe, fps });
            let changed = self.reconcile_data(seat, id);
            // Who asks waits for an answer, also for what it has already.
            let has = self.people.get(&seat).is_some_and(|who| who.data_subscription(id).is_some());
            to_tell |= changed || has;
        }
        if to_tell {
            self.tell_data_handles(seat);
        }
    }

    /// Brings one participant's subscription to one data track to what it should be. Tells whether its handles have changed.
    fn reconcile_data(&mut self, seat: Seat, id: TrackId) -> bool {
        let (Some(who), Some(track)) = (self.people.get(&seat), self.data_tracks.get(&id)) else {
            return false;
        };
        let Some(owner) = self.people.get(&track.owner) else { return false };
        // Over HTTP there are no data channels.
        if track.owner == seat || who.feeds.is_some() {
            return false;
        }
        let downlink = &who.data_downlink;
        let wish = downlink.wishes.get(&id).copied();
        // Clients know no tracks of somebody they do not know.
        let may_want = who.permission.can_subscribe && !owner.is_hidden();
        let wants = may_want && wish.map_or(downlink.auto_subscribe, |wish| wish.subscribe);
        let fps = wish.and_then(|wish| wish.fps);
        let allowed = who.recorder || owner.allowance.allows(&who.sid, &who.identity, &track.info.sid);
        let had = downlink.subscriptions.get(&id).copied();
        let has_room = had.is_some() || downlink.subscriptions.len() < MAX_SUBSCRIPTIONS;
        let peer = who.link.subscriber();

        let Some(who) = self.people.get_mut(&seat) else { return false };
        let downlink = &mut who.data_downlink;
        match (wants && allowed && has_room, had) {
            (true, had) => {
                let handle = had.map_or_else(|| downlink.take_handle(), |had| had.handle);
                let has = DataSubscription { handle, fps };
                downlink.subscriptions.insert(id, has);
                if had != Some(has) {
                    self.command(Command::SubscribeDataTrack { peer, track: id, handle, fps });
                }
                had.is_none()
            }
            (false, Some(_)) => {
                downlink.end(id);
                self.command(Command::UnsubscribeDataTrack { peer, track: id });
                true
            }
            (false, None) => false,
        }
    }

    /// The same for all data tracks, and tells the client if anything has changed for it.
    pub(super) fn reconcile_all_data(&mut self, seat: Seat) {
        let tracks: Vec<TrackId> = self.data_tracks.keys().copied().collect();
        self.reconcile_data_tracks(seat, &tracks);
    }

    /// The same for everybody else and the data tracks of one participant.
    pub(super) fn reconcile_data_viewers(&mut self, seat: Seat) {
        let tracks = self.people.get(&seat).map(|who| who.data_tracks.clone()).unwrap_or_default();
        if tracks.is_empty() {
            return;
        }
        for other in self.others(seat) {
            self.reconcile_data_tracks(other, &tracks);
        }
    }

    fn reconcile_data_tracks(&mut self, seat: Seat, tracks: &[TrackId]) {
        let mut changed = false;
        for track in tracks {
            changed |= self.reconcile_data(seat, *track);
        }
        if changed {
            self.tell_data_handles(seat);
        }
    }

    /// Tells a client under which handle it has which track.
    pub(super) fn tell_data_handles(&mut self, seat: Seat) {
        let Some(who) = self.people.get(&seat) else { return };
        let published = |(id, subscription): (&TrackId, &DataSubscription)| {
            let track = self.data_tracks.get(id)?;
            let owner = self.people.get(&track.owner)?;
            let published = PublishedDataTrack {
                publisher_identity: owner.identity.clone(),
                publisher_sid: owner.sid.clone(),
                track_sid: track.info.sid.clone(),
            };
            Some((u32::from(subscription.handle.wire()), published))
        };
        let sub_handles = who.data_downlink.subscriptions.iter().filter_map(published).collect();
        self.send(seat, Response::DataTrackSubscriberHandles(DataTrackSubscriberHandles { sub_handles }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_free_again_last_and_never_two_tracks() {
        let mut downlink = DataDownlink::new(false);
        let take = |downlink: &mut DataDownlink, id| {
            let handle = downlink.take_handle();
            downlink.subscriptions.insert(TrackId(id), DataSubscription { handle, fps: None });
            handle.wire()
        };
        assert_eq!([1, 2, 3].map(|id| take(&mut downlink, id)), [1, 2, 3]);
        assert!(downlink.forget(TrackId(1)) && !downlink.forget(TrackId(1)));
        assert_eq!(take(&mut downlink, 4), 4, "1 may still be on its way");
        downlink.next = DataHandle::new(65_535).unwrap();
        assert_eq!(
            [5, 6, 7].map(|id| take(&mut downlink, id)),
            [65_535, 1, 5],
            "after the last comes the first"
        );
        assert_eq!(downlink.taken.len(), downlink.subscriptions.len());
    }
}
