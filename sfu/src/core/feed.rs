//! Feeds: streams to a client that carry one track after another, without a negotiation for each.
//!
//! Always: to the client a feed is one stream; its SSRC and numbers go on whatever it carries. A track that ends leaves its
//! feeds empty. A feed of video begins a track with a keyframe.

use std::time::Instant;

use super::Sfu;
use crate::command::{Demand, Event, MediaKind};
use crate::ids::{PeerId, TrackId};
use crate::peer::subscription::Subscription;

impl Sfu {
    pub(super) fn open_feed(
        &mut self,
        now: Instant,
        peer: PeerId,
        id: TrackId,
        kind: MediaKind,
        names: (String, String),
    ) {
        let Some(&subscriber) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        if peer.downlink.find_feed(id).is_some() {
            return;
        }
        let rng = &mut self.rng;
        peer.downlink.insert(now, |serial| Subscription::feed(serial, id, kind, names, rng));
        peer.agreement.want(now);
        self.reschedule(now, subscriber);
    }

    pub(super) fn feed(
        &mut self,
        now: Instant,
        peer: PeerId,
        feed: TrackId,
        track: Option<TrackId>,
        demand: Demand,
    ) {
        let Some(&subscriber) = self.peer_ids.get(&peer) else { return };
        let Some(peer) = self.peers[subscriber].as_mut() else { return };
        let Some(slot) = peer.downlink.find_feed(feed) else { return };
        let Some(subscription) = peer.downlink.get_mut(slot) else { return };
        let kind = subscription.kind;
        if let Some(old) = self.tracks.get_mut(subscription.track).and_then(Option::as_mut) {
            old.subscribers.retain(|other| *other != (subscriber, slot));
        }
        let new = track.and_then(|id| self.track_ids.get(&id).copied());
        let new = new.and_then(|index| Some((index, self.tracks.get(index)?.as_deref()?)));
        let new = new.filter(|(_, track)| track.kind == kind);
        peer.downlink.refill(slot, new, demand);
        if let Some((index, _)) = new
            && let Some(track) = self.tracks[index].as_mut()
        {
            track.subscribers.push((subscriber, slot));
            let fate = peer.downlink.get_mut(slot).map(|feed| (feed.format.is_some(), feed.unsupported));
            let (peer, track) = (peer.id, track.id);
            match fate {
                Some((true, _)) => self.events.push_back(Event::SubscriptionBound { peer, track }),
                Some((_, true)) => self.events.push_back(Event::SubscriptionUnsupported { peer, track }),
                // There is no section yet: it is told with that.
                Some((false, false)) | None => {}
            }
        }
        self.count_members();
        self.allocate(now, subscriber);
        self.reschedule(now, subscriber);
    }
}
