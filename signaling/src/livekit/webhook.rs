//! What an application's server is told of a room: LiveKit's webhook events (`livekit_webhook.proto`).
//!
//! Always: nothing is made unless [`Settings::webhooks`](super::Settings::webhooks) asks for it; a room's first event is
//! `room_started` and its last `room_finished`; who was never active has one event, `participant_connection_aborted`, and
//! nothing is said of its tracks; of everybody else `participant_joined` comes first and `participant_left` last.
//! Not here: the way to the receiver.

use livekit_protocol::{ParticipantInfo, RoomEndReason, TrackInfo, WebhookEvent};
use sfu::ids::TrackId;

use super::output::{Clock, Output};
use super::participant::Seat;
use super::room::Room;
use super::sid;

impl Room {
    pub(super) fn report_started(&mut self, clock: Clock) {
        self.push_webhook(clock, "room_started", None, None, RoomEndReason::RoomEndUnknown);
    }

    pub(super) fn report_finished(&mut self, clock: Clock, reason: RoomEndReason) {
        self.push_webhook(clock, "room_finished", None, None, reason);
    }

    /// Somebody is active, with what it has published until then.
    pub(super) fn report_joined(&mut self, clock: Clock, seat: Seat) {
        if !self.settings.webhooks {
            return;
        }
        let Some(who) = self.people.get(&seat) else { return };
        let (info, tracks) = (self.info(who), who.tracks.clone());
        self.push_webhook(clock, "participant_joined", Some(info), None, RoomEndReason::RoomEndUnknown);
        for track in tracks {
            self.report_published(clock, seat, track);
        }
    }

    /// Somebody is gone. `info` is as others are told of that.
    pub(super) fn report_left(&mut self, clock: Clock, was_active: bool, info: ParticipantInfo) {
        let event = if was_active { "participant_left" } else { "participant_connection_aborted" };
        self.push_webhook(clock, event, Some(info), None, RoomEndReason::RoomEndUnknown);
    }

    pub(super) fn report_published(&mut self, clock: Clock, seat: Seat, id: TrackId) {
        self.report_track(clock, "track_published", seat, id);
    }

    /// While the track is still in the books.
    pub(super) fn report_unpublished(&mut self, clock: Clock, seat: Seat, id: TrackId) {
        self.report_track(clock, "track_unpublished", seat, id);
    }

    fn report_track(&mut self, clock: Clock, event: &str, seat: Seat, id: TrackId) {
        if !self.settings.webhooks {
            return;
        }
        let who = self.people.get(&seat).filter(|who| who.is_active());
        let track = self.tracks.get(&id).filter(|track| track.is_published());
        let (Some(who), Some(track)) = (who, track) else { return };
        // The track stands beside, so its publisher is named without all the others.
        let (publisher, track) = (who.info(Vec::new(), Vec::new()), track.info.clone());
        self.push_webhook(clock, event, Some(publisher), Some(track), RoomEndReason::RoomEndUnknown);
    }

    fn push_webhook(
        &mut self,
        clock: Clock,
        event: &str,
        participant: Option<ParticipantInfo>,
        track: Option<TrackInfo>,
        end: RoomEndReason,
    ) {
        if !self.settings.webhooks {
            return;
        }
        let mut room = self.room_info();
        // The same in every event, and of no use to a server.
        room.enabled_codecs.clear();
        let event = WebhookEvent {
            event: event.to_owned(),
            room: Some(room),
            participant,
            track,
            id: sid::event(&mut self.rng),
            created_at: clock.unix_ms.div_euclid(1000),
            room_end_reason: end as i32,
            ..WebhookEvent::default()
        };
        self.outbox.push_back(Output::Webhook(Box::new(event)));
    }
}
