//! Losing a socket or a path and coming back: the participant stays, its sid, tracks and subscriptions with it, and
//! the others notice nothing.
//!
//! Always: a new socket's first message is `reconnect`; what the client may have missed on the old one is said again
//! before anything new. Somebody without a socket stays while its primary connection is heard, and for some time after
//! neither was: `resume_timeout` if it was its side that closed the socket, as happens to a process that is killed, and
//! `outage_timeout` if nobody did, as when a network is cut.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    DataChannelReceiveState, DisconnectReason, ParticipantInfo, ParticipantUpdate, ReconnectResponse,
    SyncState, UpdateSubscription,
};
use sfu::command::Command;
use sfu::ids::{PeerId, TrackId};

use super::announce::chunks;
use super::connect::{Admission, Resume, Signalling};
use super::data;
use super::join::{ice_servers, server_info};
use super::leave::{REPLACES_BY_IDENTITY, leave_request};
use super::output::{Clock, Notice, Output, SessionId, SocketEnd};
use super::participant::{DropSignal, Participant, Seat};
use super::room::Room;

/// What was written to a socket within this time before it was found dead may not have arrived.
const UNSURE: Duration = Duration::from_mins(1);

/// A client that is asked to resume has this long to open a socket, however long its media was silent before.
const RETURN: Duration = Duration::from_secs(3);

impl Room {
    /// Gives somebody its place back, on a new socket; or refuses.
    pub(super) fn resume(&mut self, clock: Clock, session: SessionId, admission: Admission) {
        let place = admission.resume.as_ref().and_then(|resume| self.place_of(clock, &admission, resume));
        let Some((seat, gone)) = place else { return self.refuse_resume_of(session) };
        let Some(who) = self.people.get_mut(&seat) else { return };
        let simulated = who.simulated.take();
        if simulated == Some(DropSignal::AtOnce) {
            self.outbox.push_back(Output::Close { session });
            return;
        }
        let after = who.away.map_or(Duration::ZERO, |away| clock.now.saturating_duration_since(away.since));
        if let Some(old) = who.session.replace(session) {
            self.by_session.remove(&old);
            self.outbox.push_back(Output::Close { session: old });
        }
        self.by_session.insert(session, seat);
        who.unsure_since = Some(who.unsure(clock.now));
        who.away = None;
        (who.answer_by, who.gone_at) = (None, None);
        who.told_quality.clear();
        let subscriber = who.link.subscriber();
        self.notice(Notice::Resumed { after });
        self.reckon(clock, seat);

        let reconnect = self.reconnect_response(clock, seat);
        self.send(seat, Response::Reconnect(reconnect));
        self.tell_people(seat, gone);
        self.send_room_update_to(seat);
        self.refresh_token(clock, seat);
        self.retell_subscriptions(clock, seat);
        self.retell_loudness(seat);
        self.retell_qualities(clock, seat);
        self.command(Command::RestartIce { peer: subscriber });
        for request in admission.add_track_requests {
            self.add_track(clock, seat, request);
        }
        if let Some(offer) = admission.publisher_offer {
            self.client_offers(seat, offer);
        }
        if simulated == Some(DropSignal::Afterwards) {
            self.outbox.push_back(Output::Close { session });
            self.detach(clock, seat, SocketEnd::Closed);
        }
    }

    /// Who asks, and who left while it may not have heard of it. `None`: it is not there, was somebody else, has
    /// another number of connections, or has missed more than is known.
    fn place_of(
        &self,
        clock: Clock,
        admission: &Admission,
        resume: &Resume,
    ) -> Option<(Seat, Vec<ParticipantInfo>)> {
        let seat = *self.by_identity.get(&admission.identity)?;
        let who = self.people.get(&seat)?;
        // Without a sid the identity alone must do, as with the reference server.
        let is_same = resume.participant_sid.is_empty() || resume.participant_sid == who.sid;
        if !is_same || who.link.mode() != admission.mode {
            return None;
        }
        let gone = self.departures.since(who.unsure(clock.now))?;
        // Clients remove by identity: one that is there again must not be removed.
        let is_gone = |info: &&ParticipantInfo| {
            who.protocol() < REPLACES_BY_IDENTITY || !self.by_identity.contains_key(&info.identity)
        };
        Some((seat, gone.filter(is_gone).cloned().collect()))
    }

    fn reconnect_response(&self, clock: Clock, seat: Seat) -> ReconnectResponse {
        let who = self.people.get(&seat);
        let ice_servers = who.map_or(Vec::new(), |who| ice_servers(&self.settings, &who.identity, clock));
        ReconnectResponse {
            client_configuration: who.map(|who| self.client_configuration(who, &ice_servers)),
            ice_servers,
            server_info: Some(server_info(&self.settings)),
            last_message_seq: who.map_or(0, |who| who.last_reliable),
        }
    }

    /// Who left, then who is there, itself included.
    fn tell_people(&mut self, seat: Seat, mut infos: Vec<ParticipantInfo>) {
        let visible = |who: &&Participant| who.seat == seat || !who.is_hidden();
        infos.extend(self.people.values().filter(visible).map(|who| self.info(who)));
        for participants in chunks(infos) {
            self.send(seat, Response::Update(ParticipantUpdate { participants }));
        }
    }

    fn retell_subscriptions(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get(&seat) else { return };
        let told = who.denied.clone();
        self.reconcile_all(clock, seat);
        let Some(who) = self.people.get(&seat) else { return };
        let subscribed: Vec<TrackId> = who.subscriptions.keys().copied().collect();
        let has_data = !who.data_downlink.is_empty();
        for track in told.intersection(&who.denied.clone()) {
            self.tell_denied(seat, *track);
        }
        self.tell_stream_states(seat, &subscribed);
        if has_data {
            self.tell_data_handles(seat);
        }
    }

    /// What the client believes, after a resume.
    pub(super) fn sync(&mut self, clock: Clock, seat: Seat, state: SyncState) {
        let Some(who) = self.people.get(&seat) else { return };
        let is_own = |sid: &str| self.by_track_sid.get(sid).is_some_and(|id| who.tracks.contains(id));
        let published = state.publish_tracks.iter().filter_map(|published| published.track.as_ref());
        if published.clone().any(|track| !is_own(&track.sid)) {
            return self.agreement_failed(clock, seat);
        }
        if let Some(subscription) = state.subscription {
            self.sync_subscriptions(clock, seat, subscription);
        }
        self.sync_disabled(clock, seat, &state.track_sids_disabled);
        self.sync_data_tracks(seat, state.publish_data_tracks);
        if let Some(subscription) = state.data_subscription {
            self.update_data_subscription(seat, subscription);
        }
        self.replay_to(clock, seat, &state.datachannel_receive_states);
    }

    /// The list has the tracks with which it is otherwise than with all tracks: subscribed with auto-subscribe off, not
    /// subscribed with it on. The others are as all.
    fn sync_subscriptions(&mut self, clock: Clock, seat: Seat, subscription: UpdateSubscription) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        if subscription.subscribe != who.auto_subscribe {
            for (sid, preference) in &mut who.preferences {
                if self.by_track_sid.contains_key(sid) {
                    preference.subscribe = None;
                }
            }
        }
        self.update_subscription(clock, seat, subscription);
        self.reconcile_all(clock, seat);
    }

    /// Some SDKs list none even if there are, so that nothing follows for those that are not in the list.
    fn sync_disabled(&mut self, clock: Clock, seat: Seat, sids: &[String]) {
        for sid in sids.iter().take(self.settings.limits.preferences_per_participant) {
            let Some(preference) = self.preference(seat, sid) else { continue };
            let mut demand = preference.demand.unwrap_or_default();
            demand.enabled = false;
            self.set_demand(clock, seat, sid, demand);
        }
    }

    /// Sends again what the client says it has not got. SDKs that do not count say nothing, and would take it twice.
    fn replay_to(&mut self, clock: Clock, seat: Seat, states: &[DataChannelReceiveState]) {
        if states.is_empty() {
            return;
        }
        let Some(who) = self.people.get(&seat) else { return };
        let peer = who.link.subscriber();
        let by_sid: HashMap<&str, Seat> =
            self.people.values().map(|other| (other.sid.as_str(), other.seat)).collect();
        let received: HashMap<Seat, u32> = states
            .iter()
            .filter_map(|state| Some((*by_sid.get(state.publisher_sid.as_str())?, state.last_seq)))
            .collect();
        for payload in self.replay.missed_by(clock.now, peer, &received) {
            let label = data::RELIABLE.to_owned();
            self.command(Command::SendData { to: [peer].into(), label, binary: true, payload });
        }
    }

    /// The core hears nothing any more on a connection. A client that has a socket is asked to come back: it then
    /// restarts ICE.
    pub(super) fn peer_lost(&mut self, clock: Clock, peer: PeerId, silence: Duration) {
        let Some(seat) = self.seat_of(peer) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if who.signalling != Signalling::WebSocket {
            return self.path_lost(clock, seat);
        }
        let heard = clock.now.checked_sub(silence).unwrap_or(clock.now);
        who.lost.insert(peer, heard);
        if who.session.is_some() {
            self.ask_to_resume(clock, seat, DisconnectReason::ConnectionTimeout, silence);
        } else {
            self.reckon(clock, seat);
        }
    }

    /// Takes the socket from a client, of which nothing was heard for `silence`, and asks it to open another.
    pub(super) fn ask_to_resume(
        &mut self,
        clock: Clock,
        seat: Seat,
        reason: DisconnectReason,
        silence: Duration,
    ) {
        self.send(seat, Response::Leave(leave_request(reason, Action::Resume)));
        if let Some(session) = self.people.get(&seat).and_then(|who| who.session) {
            self.outbox.push_back(Output::Close { session });
        }
        self.detach(clock, seat, SocketEnd::Silent(silence));
    }

    /// Somebody has no socket any more.
    pub(super) fn detach(&mut self, clock: Clock, seat: Seat, end: SocketEnd) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        if let Some(session) = who.session.take() {
            self.by_session.remove(&session);
        }
        who.unsure_since = Some(who.unsure(clock.now));
        who.away = Some(match end {
            SocketEnd::Closed => Away { since: clock.now, closed: true },
            SocketEnd::Silent(silence) => {
                Away { since: clock.now.checked_sub(silence).unwrap_or(clock.now), closed: false }
            }
        });
        // It will be offered anew.
        who.answer_by = None;
        self.reckon(clock, seat);
    }

    /// Sets the time at which somebody is taken for gone, as nothing was heard of it, or no media.
    pub(super) fn reckon(&mut self, clock: Clock, seat: Seat) {
        let (vanished, cut_off) = (self.settings.limits.resume_timeout, self.settings.limits.outage_timeout);
        let Some(who) = self.people.get_mut(&seat) else { return };
        let primary_lost = who.primary().and_then(|primary| who.lost.get(&primary).copied());
        who.gone_at = match (who.away, primary_lost) {
            (Some(away), Some(heard)) => {
                let grace = if away.closed { vanished } else { cut_off.max(vanished) };
                Some((away.since.max(heard) + grace).max(clock.now + RETURN))
            }
            // It is back and must bring its media back.
            (None, _) if !who.lost.is_empty() => who.gone_at.or(Some(clock.now + vanished)),
            (Some(_) | None, _) => None,
        };
    }
}

/// Somebody who has no socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Away {
    /// When it was last heard over the one that it had.
    since: Instant,
    /// By its side.
    closed: bool,
}

impl Participant {
    /// Since when it may have missed what it was told, if its socket is no good.
    fn unsure(&self, now: Instant) -> Instant {
        self.unsure_since.unwrap_or_else(|| now.checked_sub(UNSURE).unwrap_or(now).max(self.joined_at))
    }
}
