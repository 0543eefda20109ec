//! Subscribing: what each participant gets, by its own wish and its publishers' permission.
//!
//! Every change of wish, permission or tracks ends in [`Room::reconcile`], which compares what should be with
//! what is; so repeated and crossing requests do no harm.

use std::time::{Duration, Instant};

use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    StreamState, StreamStateInfo, StreamStateUpdate, SubscriptionError, SubscriptionPermission,
    SubscriptionPermissionUpdate, SubscriptionResponse, TrackSource, TrackSubscribed, UpdateSubscription,
    UpdateTrackSettings, VideoQuality,
};
use sfu::command::{Command, Demand, MediaKind};
use sfu::ids::{PeerId, TrackId};

use super::output::{Clock, Limit, Notice};
use super::participant::{Preference, Seat, Subscription};
use super::permission::Allowance;
use super::room::{Room, is_sid};
use super::track::Track;

/// How long a track that is asked for may be missing (the reference server's time).
const MISSING_TIMEOUT: Duration = Duration::from_mins(1);

impl Room {
    /// Brings one participant's subscription to one track to what it should be.
    pub(super) fn reconcile(&mut self, clock: Clock, seat: Seat, id: TrackId) {
        let (Some(who), Some(track)) = (self.people.get(&seat), self.tracks.get(&id)) else { return };
        let Some(owner) = self.people.get(&track.owner) else { return };
        if track.owner == seat || !track.is_published() || who.feeds.is_some() {
            return;
        }
        let preference = who.preferences.get(&track.info.sid).copied().unwrap_or_default();
        let granted = who.permission.can_subscribe;
        // Clients drop tracks of somebody they do not know. Who may not subscribe hears of that for what it asks for, no more.
        let wants = !owner.is_hidden() && preference.subscribe.unwrap_or(who.auto_subscribe && granted);
        let listed = who.recorder || owner.allowance.allows(&who.sid, &who.identity, &track.info.sid);
        let allowed = granted && listed;
        let has = who.subscriptions.contains_key(&id);
        let demand = preference.demand.unwrap_or_else(|| initial_demand(track, who.adaptive_stream));
        let demand = Demand { screen_share: is_screen_share(track), ..demand };
        let (peer, kind) = (who.link.subscriber(), track.kind);
        let (stream_id, label) = (format!("{}|{}", owner.sid, track.info.sid), track.info.sid.clone());
        let permission_update = |allowed| {
            let (participant_sid, track_sid) = (owner.sid.clone(), track.info.sid.clone());
            Response::SubscriptionPermissionUpdate(SubscriptionPermissionUpdate {
                participant_sid,
                track_sid,
                allowed,
            })
        };
        let was_denied = who.denied.contains(&id);
        let news = match (wants && !allowed, was_denied) {
            (true, false) => Some(permission_update(false)),
            (false, true) if allowed => Some(permission_update(true)),
            _ => None,
        };

        let Some(who) = self.people.get_mut(&seat) else { return };
        // Who is away is told when it is back.
        if who.session.is_some() || !wants {
            if wants && !allowed {
                who.denied.insert(id);
            } else {
                who.denied.remove(&id);
            }
        }
        let limit = self.settings.limits.subscriptions_per_participant;
        match (wants && allowed, has) {
            (true, false) if who.subscriptions.len() >= limit => {
                self.notice(Notice::LimitHit(Limit::Subscriptions));
                self.subscription_failed(seat, label, SubscriptionError::SeUnknown);
            }
            (true, false) => {
                who.subscriptions.insert(id, Subscription::new(id, demand));
                if let Some(news) = news {
                    self.send(seat, news);
                }
                self.command(Command::Subscribe { peer, track: id, stream_id, label, demand });
                self.carry(seat, id);
                self.notice(Notice::Subscribed { kind });
                self.demand_changed(clock, id, None, Some(&demand));
            }
            (false, true) => {
                let gone = who.subscriptions.remove(&id);
                if let Some(news) = news {
                    self.send(seat, news);
                }
                self.command(Command::Unsubscribe { peer, track: id });
                self.notice(Notice::Unsubscribed { kind });
                self.demand_changed(clock, id, gone.as_ref().map(|gone| &gone.demand), None);
                // Who is not heard any more must not seem to speak on.
                self.tell_loudness(seat);
            }
            (true, true) | (false, false) => {
                if let Some(news) = news {
                    self.send(seat, news);
                }
            }
        }
    }

    pub(super) fn tell_denied(&mut self, seat: Seat, id: TrackId) {
        let Some(track) = self.tracks.get(&id) else { return };
        let Some(owner) = self.people.get(&track.owner) else { return };
        let update = SubscriptionPermissionUpdate {
            participant_sid: owner.sid.clone(),
            track_sid: track.info.sid.clone(),
            allowed: false,
        };
        self.send(seat, Response::SubscriptionPermissionUpdate(update));
    }

    /// The same for all tracks, data tracks included.
    pub(super) fn reconcile_all(&mut self, clock: Clock, seat: Seat) {
        let tracks: Vec<TrackId> = self.tracks.keys().copied().collect();
        for track in tracks {
            self.reconcile(clock, seat, track);
        }
        self.reconcile_all_data(seat);
    }

    pub(super) fn update_subscription(&mut self, clock: Clock, seat: Seat, request: UpdateSubscription) {
        let subscribe = request.subscribe;
        let listed = request.participant_tracks.into_iter().flat_map(|tracks| tracks.track_sids);
        let limit = self.settings.limits.preferences_per_participant;
        for sid in request.track_sids.into_iter().chain(listed).take(limit) {
            let Some(preference) = self.preference(seat, &sid) else {
                self.subscription_failed(seat, sid, SubscriptionError::SeUnknown);
                continue;
            };
            preference.subscribe = Some(subscribe);
            match self.by_track_sid.get(&sid).copied() {
                Some(track) => self.reconcile(clock, seat, track),
                None => self.await_track(clock.now, seat, &sid),
            }
        }
    }

    /// The place for what a participant says of a track; `None` if it has said too much, or names nonsense.
    pub(super) fn preference(&mut self, seat: Seat, sid: &str) -> Option<&mut Preference> {
        let limit = self.settings.limits.preferences_per_participant;
        let who = self.people.get(&seat)?;
        let is_new = !who.preferences.contains_key(sid);
        if is_new && !is_sid(sid) {
            return None;
        }
        if is_new && who.preferences.len() >= limit {
            self.notice(Notice::LimitHit(Limit::Wishes));
            return None;
        }
        Some(self.people.get_mut(&seat)?.preferences.entry(sid.to_owned()).or_default())
    }

    /// A track was spoken of that is not there (yet).
    fn await_track(&mut self, now: Instant, seat: Seat, sid: &str) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        if let Some(preference) = who.preferences.get_mut(sid) {
            preference.missing_since.get_or_insert(now);
            who.missing_until.get_or_insert(now + MISSING_TIMEOUT);
        }
    }

    /// Gives up on tracks that have not come, and says so for those that were wanted.
    pub(super) fn give_up_missing(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        let mut failed = Vec::new();
        let mut next = None;
        who.preferences.retain(|sid, preference| {
            let Some(since) = preference.missing_since else { return true };
            if self.by_track_sid.contains_key(sid) {
                preference.missing_since = None;
                return true;
            }
            let until = since + MISSING_TIMEOUT;
            if until > clock.now {
                next = Some(next.map_or(until, |next: Instant| next.min(until)));
                return true;
            }
            if preference.subscribe == Some(true) {
                failed.push(sid.clone());
            }
            false
        });
        who.missing_until = next;
        failed.sort();
        for sid in failed {
            self.subscription_failed(seat, sid, SubscriptionError::SeTrackNotfound);
        }
    }

    fn subscription_failed(&mut self, seat: Seat, track_sid: String, error: SubscriptionError) {
        let response = SubscriptionResponse { track_sid, err: error as i32 };
        self.send(seat, Response::SubscriptionResponse(response));
    }

    pub(super) fn update_track_settings(&mut self, clock: Clock, seat: Seat, request: &UpdateTrackSettings) {
        let limit = self.settings.limits.preferences_per_participant;
        let wanted = demand(request);
        for sid in request.track_sids.iter().take(limit) {
            self.set_demand(clock, seat, sid, wanted);
        }
    }

    /// Takes note of what somebody wants of a track, there or not.
    pub(super) fn set_demand(&mut self, clock: Clock, seat: Seat, sid: &str, wanted: Demand) {
        let Some(preference) = self.preference(seat, sid) else { return };
        preference.demand = Some(wanted);
        let Some(&id) = self.by_track_sid.get(sid) else {
            return self.await_track(clock.now, seat, sid);
        };
        let Some(track) = self.tracks.get(&id) else { return };
        let wanted = Demand { screen_share: is_screen_share(track), ..wanted };
        let Some(who) = self.people.get_mut(&seat) else { return };
        let peer = who.link.subscriber();
        if let Some(subscription) = who.subscriptions.get_mut(&id)
            && subscription.demand != wanted
        {
            let before = std::mem::replace(&mut subscription.demand, wanted);
            self.command(Command::Adjust { peer, track: id, demand: wanted });
            self.demand_changed(clock, id, Some(&before), Some(&wanted));
        }
    }

    /// A publisher says who may subscribe.
    pub(super) fn update_allowance(&mut self, clock: Clock, seat: Seat, list: SubscriptionPermission) {
        let allowance = match Allowance::new(list, self.settings.limits.permission_entries) {
            Ok(allowance) => allowance,
            Err(error) => {
                self.notice(Notice::LimitHit(Limit::PermissionEntries));
                return self.refuse(seat, Reason::LimitExceeded, error.to_string(), None);
            }
        };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if who.allowance == allowance {
            return;
        }
        who.allowance = allowance;
        self.stage.changed();
        let tracks = self.people.get(&seat).map(|who| who.tracks.clone()).unwrap_or_default();
        for other in self.others(seat) {
            for track in &tracks {
                self.reconcile(clock, other, *track);
            }
        }
        self.reconcile_data_viewers(seat);
    }

    /// A subscription was negotiated. The publisher learns that somebody gets its track, once.
    pub(super) fn subscription_bound(&mut self, clock: Clock, peer: PeerId, carried: TrackId) {
        let id = self.track_of(carried);
        let Some(seat) = self.subscription_of(peer, id) else { return };
        if self.people.get_mut(&seat).is_some_and(|who| who.undecodable.remove(&carried)) {
            self.settle_qualities(clock, id);
        }
        let Some(track) = self.tracks.get_mut(&id) else { return };
        if std::mem::replace(&mut track.told_subscribed, true) {
            return;
        }
        let (owner, track_sid) = (track.owner, track.info.sid.clone());
        self.send(owner, Response::TrackSubscribed(TrackSubscribed { track_sid }));
    }

    /// Its client cannot decode what it was to get. If there is another codec, it gets that, or waits for it.
    pub(super) fn subscription_unsupported(&mut self, clock: Clock, peer: PeerId, carried: TrackId) {
        let id = self.track_of(carried);
        let Some(seat) = self.subscription_of(peer, id) else { return };
        let (Some(who), Some(track)) = (self.people.get_mut(&seat), self.tracks.get(&id)) else { return };
        let news = who.undecodable.insert(carried);
        let sid = track.info.sid.clone();
        let has_other = track.pick(&who.undecodable).is_some();
        if news {
            self.settle_qualities(clock, id);
        }
        if has_other {
            return self.carry(seat, id);
        }
        self.cannot_watch(seat, id);
        self.subscription_failed(seat, sid, SubscriptionError::SeCodecUnsupported);
    }

    pub(super) fn subscription_paused(&mut self, peer: PeerId, carried: TrackId, paused: bool) {
        let id = self.track_of(carried);
        let Some(seat) = self.subscription_of(peer, id) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if let Some(subscription) = who.subscriptions.get_mut(&id) {
            subscription.paused = paused;
        }
        self.tell_stream_states(seat, &[id]);
    }

    pub(super) fn tell_stream_states(&mut self, seat: Seat, tracks: &[TrackId]) {
        let Some(who) = self.people.get(&seat) else { return };
        let state = |id: &TrackId| {
            let (track, subscription) = (self.tracks.get(id)?, who.subscriptions.get(id)?);
            let state = if subscription.paused { StreamState::Paused } else { StreamState::Active };
            Some(StreamStateInfo {
                participant_sid: self.people.get(&track.owner)?.sid.clone(),
                track_sid: track.info.sid.clone(),
                state: state as i32,
            })
        };
        let stream_states: Vec<StreamStateInfo> = tracks.iter().filter_map(state).collect();
        if !stream_states.is_empty() {
            self.send(seat, Response::StreamStateUpdate(StreamStateUpdate { stream_states }));
        }
    }

    /// Who is subscribed to the track over that connection; `None` when it no longer is.
    fn subscription_of(&self, peer: PeerId, id: TrackId) -> Option<Seat> {
        let seat = self.seat_of(peer)?;
        let who = self.people.get(&seat)?;
        (who.link.subscriber() == peer && who.subscriptions.contains_key(&id)).then_some(seat)
    }
}

pub(super) fn is_screen_share(track: &Track) -> bool {
    match track.source() {
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => true,
        TrackSource::Unknown | TrackSource::Camera | TrackSource::Microphone => false,
    }
}

/// Before a client says anything of a track: one that will tell how large it shows pictures begins with the
/// smallest.
fn initial_demand(track: &Track, adaptive_stream: bool) -> Demand {
    match track.kind {
        MediaKind::Video if adaptive_stream => Demand { max_spatial: 0, ..Demand::default() },
        MediaKind::Video | MediaKind::Audio => Demand::default(),
    }
}

/// What a client's settings ask of the core. A size goes before a quality.
fn demand(request: &UpdateTrackSettings) -> Demand {
    let quality = VideoQuality::try_from(request.quality).unwrap_or(VideoQuality::High);
    Demand {
        enabled: !request.disabled && quality != VideoQuality::Off,
        size: (request.width > 0 && request.height > 0).then_some((request.width, request.height)),
        max_spatial: match quality {
            VideoQuality::Low => 0,
            VideoQuality::Medium => 1,
            VideoQuality::High | VideoQuality::Off => u8::MAX,
        },
        fps: (request.fps > 0).then_some(request.fps),
        priority: request.priority,
        screen_share: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_a_demand() {
        let settings =
            |quality: VideoQuality| UpdateTrackSettings { quality: quality as i32, ..Default::default() };
        assert_eq!(demand(&settings(VideoQuality::Low)).max_spatial, 0);
        assert_eq!(demand(&settings(VideoQuality::Medium)).max_spatial, 1);
        assert_eq!(demand(&settings(VideoQuality::High)), Demand::default());
        assert!(!demand(&settings(VideoQuality::Off)).enabled);
        let sized = UpdateTrackSettings {
            width: 640,
            height: 360,
            fps: 15,
            priority: 2,
            ..settings(VideoQuality::Low)
        };
        let got = demand(&sized);
        assert_eq!((got.size, got.fps, got.priority), (Some((640, 360)), Some(15), 2));
        assert!(!demand(&UpdateTrackSettings { disabled: true, ..sized }).enabled);
    }
}
