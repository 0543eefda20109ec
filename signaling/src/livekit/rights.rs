//! What a participant may do, changed while it is there.
//!
//! Always: what is no longer allowed has ended when the change is announced: tracks are unpublished, subscriptions are
//! over, and who became hidden is gone for the others.

use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{ParticipantPermission, ParticipantUpdate, TrackSource, TrackType};
use sfu::ids::{Mid, TrackId};

use super::output::Clock;
use super::participant::Seat;
use super::room::Room;
use super::track::Track;
use crate::access::VideoGrant;

/// Whether a track of that source and type, as clients write them, may be published.
pub(super) fn may_publish(permission: &ParticipantPermission, source: i32, r#type: i32) -> bool {
    let sources = &permission.can_publish_sources;
    // A source is what the client calls it: what may be called a camera must not be sound.
    let carries = match TrackSource::try_from(source) {
        Ok(TrackSource::Camera | TrackSource::ScreenShare) => Some(TrackType::Video),
        Ok(TrackSource::Microphone | TrackSource::ScreenShareAudio) => Some(TrackType::Audio),
        // One that nobody knows may stand in both lists, and matches nothing.
        Ok(TrackSource::Unknown) | Err(_) => None,
    };
    let fits = carries.is_some_and(|carries| carries as i32 == r#type) && sources.contains(&source);
    permission.can_publish && (sources.is_empty() || fits)
}

/// Takes over what a participant may do, so that a token grants the same.
pub(crate) fn grant(grant: &mut VideoGrant, permission: &ParticipantPermission) {
    let name = |source: &i32| {
        let source = TrackSource::try_from(*source).unwrap_or(TrackSource::Unknown);
        source.as_str_name().to_ascii_lowercase()
    };
    grant.can_subscribe = Some(permission.can_subscribe);
    grant.can_publish = Some(permission.can_publish);
    grant.can_publish_data = Some(permission.can_publish_data);
    grant.can_publish_sources = permission.can_publish_sources.iter().map(name).collect();
    grant.can_update_own_metadata = Some(permission.can_update_metadata);
    grant.can_subscribe_metrics = Some(permission.can_subscribe_metrics);
    grant.hidden = permission.hidden;
    #[expect(deprecated, reason = "claims still have it")]
    {
        grant.recorder = permission.recorder;
        grant.agent = permission.agent;
    }
}

impl Room {
    /// Replaces all that a participant may do. The caller refreshes its token.
    pub(super) fn change_rights(&mut self, clock: Clock, seat: Seat, mut permission: ParticipantPermission) {
        let sources = &mut permission.can_publish_sources;
        // Every unknown source is the same to us, and grants nothing.
        for source in &mut *sources {
            *source = TrackSource::try_from(*source).unwrap_or_default() as i32;
        }
        sources.sort_unstable();
        sources.dedup();
        let Some(who) = self.people.get_mut(&seat).filter(|who| who.permission != permission) else { return };
        grant(who.claims.video.get_or_insert_default(), &permission);
        #[expect(deprecated, reason = "claims still have it")]
        {
            who.recorder = permission.recorder;
        }
        let was_hidden = std::mem::replace(&mut who.permission, permission).hidden;
        let is_hidden = who.is_hidden();

        self.stage.changed();
        self.unpublish_forbidden(clock, seat);
        self.end_forbidden_data_tracks(seat);
        self.reconcile_all(clock, seat);
        if is_hidden && !was_hidden {
            self.reconcile_viewers(clock, seat);
            self.vanish(clock, seat);
        }
        self.announce_now(seat);
        if was_hidden && !is_hidden {
            self.reconcile_viewers(clock, seat);
        }
        if was_hidden != is_hidden {
            self.counts_changed(clock);
        }
    }

    /// The last first: one that waits for the end of another must not take its place.
    fn unpublish_forbidden(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get(&seat) else { return };
        let forbidden = |track: &&Track| !may_publish(&who.permission, track.info.source, track.info.r#type);
        let tracks = who.tracks.iter().rev().filter_map(|id| self.tracks.get(id));
        let ended: Vec<TrackId> = tracks.filter(forbidden).map(|track| track.id).collect();
        let mids: Vec<Mid> =
            ended.iter().filter_map(|id| self.tracks.get(id)).flat_map(Track::mids).collect();
        if let Some(who) = self.people.get_mut(&seat) {
            // The client may go on sending there, or stop without a word: not what it publishes next.
            let left = who.sections.iter().filter(|section| mids.contains(&section.mid));
            who.revoked.extend(left.map(|section| (section.mid, section.track_id.clone())));
        }
        for id in ended {
            self.unpublish(clock, seat, id);
        }
    }

    /// Brings everybody else's subscriptions to somebody's tracks to what they should be.
    fn reconcile_viewers(&mut self, clock: Clock, seat: Seat) {
        let tracks = self.people.get(&seat).map(|who| who.tracks.clone()).unwrap_or_default();
        for other in self.others(seat) {
            for track in &tracks {
                self.reconcile(clock, other, *track);
            }
        }
        self.reconcile_data_viewers(seat);
    }

    /// Tells the others that somebody is gone who is not.
    fn vanish(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.version += 1;
        let mut info = who.info(Vec::new(), Vec::new());
        info.state = State::Disconnected as i32;
        self.changed.remove(&seat);
        self.departures.push(clock.now, &info);
        let update = Response::Update(ParticipantUpdate { participants: vec![info] });
        for other in self.others(seat) {
            if let Some(other) = self.people.get_mut(&other) {
                other.untold.remove(&seat);
            }
            self.send(other, update.clone());
        }
    }
}
