//! Watching: one stream of sound and one of pictures, of a participant who was named or of whoever speaks (WHEP).
//!
//! Who watches has a feed of each kind, negotiated once; what is in a feed is chosen anew whenever tracks, rights or the
//! floor change. Always: who watches is hidden and gets nothing but its feeds; a feed has a track in it only while its
//! owner is visible, lets it be had and has not muted it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use livekit_protocol::TrackSource;
use sfu::command::{Command, Demand, MediaKind};
use sfu::ids::TrackId;

use super::connect::Signalling;
use super::output::{Clock, Notice};
use super::participant::{Participant, Seat, Subscription};
use super::room::Room;
use super::subscribe::is_screen_share;
use super::track::Track;

/// Louder by so many eighths, twice in a row, than who has the floor: then the floor passes though both speak.
const LOUDER: u8 = 2;

/// What is shown to somebody who watches.
#[derive(Clone, Debug)]
pub(super) struct Feeds {
    audio: Feed,
    video: Feed,
    /// Tracks whose codec its client does not take.
    unsupported: BTreeSet<TrackId>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    /// The core's name for it.
    pub(super) id: TrackId,
    /// What is in it.
    track: Option<TrackId>,
}

impl Feeds {
    pub(super) fn of(&mut self, kind: MediaKind) -> &mut Feed {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }
}

/// Who watches, and whom.
#[derive(Debug, Default)]
pub(super) struct Stage {
    watchers: BTreeSet<Seat>,
    /// Who spoke last.
    floor: Option<Seat>,
    /// Somebody louder, at the last look.
    challenger: Option<Seat>,
    /// Something changed since feeds were filled.
    stale: bool,
    /// A track has a new codec, which those who watch may take.
    recoded: BTreeSet<TrackId>,
}

impl Stage {
    /// What there is to be watched may be another than before.
    pub(super) fn changed(&mut self) {
        self.stale = true;
    }

    /// A track comes in another codec.
    pub(super) fn changed_codec(&mut self, track: TrackId) {
        if !self.watchers.is_empty() {
            self.recoded.insert(track);
            self.stale = true;
        }
    }

    /// Somebody is gone.
    pub(super) fn left(&mut self, seat: Seat) {
        self.watchers.remove(&seat);
        if self.floor == Some(seat) {
            self.floor = None;
        }
        self.stale = true;
    }
}

impl Room {
    /// Gives somebody who watches its feeds, before its offer is answered.
    pub(super) fn open_feeds(&mut self, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        let Signalling::Watch { .. } = who.signalling else { return };
        let peer = who.link.subscriber();
        let mut feed = || Feed { id: TrackId(self.rng.u64(..)), track: None };
        let (audio, video) = (feed(), feed());
        who.feeds = Some(Feeds { audio, video, unsupported: BTreeSet::new() });
        self.stage.watchers.insert(seat);
        self.stage.stale = true;
        for (kind, feed, label) in [(MediaKind::Audio, audio, "audio"), (MediaKind::Video, video, "video")] {
            let (stream_id, label) = (self.sid.clone(), label.to_owned());
            self.command(Command::OpenFeed { peer, feed: feed.id, kind, stream_id, label });
        }
    }

    /// The client of somebody who watches has no decoder for what is in its feed.
    pub(super) fn cannot_watch(&mut self, seat: Seat, track: TrackId) {
        if let Some(feeds) = self.people.get_mut(&seat).and_then(|who| who.feeds.as_mut()) {
            feeds.unsupported.insert(track);
            self.stage.stale = true;
        }
    }

    /// Loudness was measured: the floor is with who speaks, and stays with who spoke last.
    pub(super) fn pass_floor(&mut self) {
        let heard = |seat: &Seat| self.people.get(seat).is_some_and(|who| !who.is_hidden());
        let levels = || self.loudness.iter().filter(|(seat, _)| heard(seat));
        // Of equals the one who was there first.
        let Some((&loudest, &level)) = levels().max_by_key(|(seat, level)| (**level, Reverse(**seat))) else {
            return;
        };
        let held = self.stage.floor.and_then(|seat| self.loudness.get(&seat)).copied();
        let challenges = held.is_some_and(|held| level >= held.saturating_add(LOUDER));
        let passes = held.is_none() || (challenges && self.stage.challenger == Some(loudest));
        self.stage.challenger = (challenges && !passes).then_some(loudest);
        if passes && self.stage.floor != Some(loudest) {
            self.stage.floor = Some(loudest);
            self.stage.stale = true;
        }
    }

    /// Fills the feeds of all who watch with what belongs there now. Costs nothing while nothing changed.
    pub(super) fn follow(&mut self, clock: Clock) {
        if !std::mem::take(&mut self.stage.stale) {
            return;
        }
        let recoded = std::mem::take(&mut self.stage.recoded);
        let watchers: Vec<Seat> = self.stage.watchers.iter().copied().collect();
        for seat in watchers {
            if let Some(feeds) = self.people.get_mut(&seat).and_then(|who| who.feeds.as_mut()) {
                let tracks = &self.tracks;
                feeds.unsupported.retain(|id| tracks.contains_key(id) && !recoded.contains(id));
            }
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let track = self.people.get(&seat).and_then(|who| self.watched_by(who, kind));
                self.fill(clock, seat, kind, track);
            }
        }
    }

    /// What somebody who watches is to get of a kind.
    fn watched_by(&self, who: &Participant, kind: MediaKind) -> Option<TrackId> {
        let feeds = who.feeds.as_ref()?;
        let Signalling::Watch { participant } = &who.signalling else { return None };
        if !who.permission.can_subscribe {
            return None;
        }
        let of = |seat: Seat| {
            let owner = self.people.get(&seat).filter(|owner| !owner.is_hidden())?;
            let may_have = |track: &&Track| {
                who.recorder || owner.allowance.allows(&who.sid, &who.identity, &track.info.sid)
            };
            let tracks = owner.tracks.iter().filter_map(|id| self.tracks.get(id));
            tracks
                .filter(|track| track.kind == kind && track.is_published() && !track.info.muted)
                .filter(|track| !feeds.unsupported.contains(&track.id))
                .filter(may_have)
                .min_by_key(|track| rank(track.source()))
                .map(|track| track.id)
        };
        if let Some(identity) = participant {
            return of(*self.by_identity.get(identity)?);
        }
        let now = match kind {
            MediaKind::Audio => feeds.audio.track,
            MediaKind::Video => feeds.video.track,
        };
        let shown = now.and_then(|id| self.tracks.get(&id)).map(|track| track.owner);
        // Who spoke last; else it stays as it is; else somebody.
        let order = self.stage.floor.into_iter().chain(shown).chain(self.people.keys().copied());
        order.into_iter().find_map(of)
    }

    fn fill(&mut self, clock: Clock, seat: Seat, kind: MediaKind, track: Option<TrackId>) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        let peer = who.link.subscriber();
        let Some(feed) = who.feeds.as_mut().map(|feeds| feeds.of(kind)) else { return };
        if feed.track == track {
            return;
        }
        let old = std::mem::replace(&mut feed.track, track);
        let id = feed.id;
        let gone = old.and_then(|old| Some((old, who.subscriptions.remove(&old)?)));
        let demand = track.and_then(|id| self.tracks.get(&id)).map_or_else(Demand::default, |track| Demand {
            screen_share: is_screen_share(track),
            ..Demand::default()
        });
        if let Some(track) = track {
            who.subscriptions.insert(track, Subscription::new(track, demand));
        }
        self.command(Command::Feed { peer, feed: id, track, demand });
        if let Some(track) = track {
            self.carry(seat, track);
        }
        if let Some((old, subscription)) = gone {
            self.notice(Notice::Unsubscribed { kind });
            self.demand_changed(clock, old, Some(&subscription.demand), None);
        }
        if let Some(track) = track {
            self.notice(Notice::Subscribed { kind });
            self.demand_changed(clock, track, None, Some(&demand));
        }
    }
}

/// Which of somebody's tracks of a kind goes first.
fn rank(source: TrackSource) -> u8 {
    match source {
        TrackSource::ScreenShare | TrackSource::Microphone => 0,
        TrackSource::Camera => 1,
        TrackSource::Unknown => 2,
        TrackSource::ScreenShareAudio => 3,
    }
}
