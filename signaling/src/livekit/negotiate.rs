//! Descriptions and candidates, in both directions.
//!
//! The core's descriptions hold all our candidates, so no candidate of ours is trickled. In v1 we never offer:
//! what we need, we ask for (`media_sections_requirement`).

use std::collections::HashMap;
use std::time::Duration;

use livekit_protocol::client_info::Sdk;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    MediaSectionsRequirement, SessionDescription, SignalTarget, TrickleRequest, request_response::Reason,
};
use sfu::command::{Command, NegotiationRole};
use sfu::ids::{Mid, PeerId, TrackId};

use super::connect::Mode;
use super::output::{Clock, Notice};
use super::participant::{Link, Seat};
use super::room::Room;

/// A client that does not answer our offer by then builds everything anew (the reference server's time).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the answer to an offer that came with a join waits for the Go SDK.
const EARLY_OFFER: Duration = Duration::from_millis(200);

/// Bytes of SDP that are passed on; browsers' largest offers are below a tenth of it.
const MAX_SDP: usize = 256 << 10;

/// Bytes of a trickled candidate with its JSON.
const MAX_CANDIDATE: usize = 4 << 10;

/// Bytes of the core's explanation that a client is told.
const MAX_REASON: usize = 512;

impl Room {
    /// An offer that came with the join. The Go SDK (2.19) reads on before it has set that offer itself, and cannot take an answer
    /// that comes sooner. Once it has, it trickles: then it is answered.
    pub(super) fn client_offers_early(&mut self, clock: Clock, seat: Seat, offer: SessionDescription) {
        match self.people.get_mut(&seat) {
            Some(who) if who.client.sdk == Sdk::Go as i32 => {
                who.early_offer = Some((offer, clock.now + EARLY_OFFER));
            }
            _ => self.client_offers(seat, offer),
        }
    }

    /// Goes on with the offer that came with the join, if it waits.
    pub(super) fn take_early_offer(&mut self, seat: Seat) {
        let early = self.people.get_mut(&seat).and_then(|who| who.early_offer.take());
        if let Some((offer, _)) = early {
            self.client_offers(seat, offer);
        }
    }

    pub(super) fn client_offers(&mut self, seat: Seat, offer: SessionDescription) {
        if !self.sdp_fits(seat, &offer) {
            return;
        }
        let Some(who) = self.people.get_mut(&seat) else { return };
        who.has_offered = true;
        who.early_offer = None;
        let peer = match &mut who.link {
            Link::Single(peer) | Link::Dual { publisher: Some(peer), .. } => *peer,
            Link::Dual { publisher: gone @ None, .. } => {
                let peer = PeerId(self.rng.u64(..));
                *gone = Some(peer);
                self.by_peer.insert(peer, seat);
                self.add_peer(peer, NegotiationRole::Answerer);
                self.bind_data_tracks(seat);
                peer
            }
        };
        let who = &self.people[&seat];
        let tracks = who.tracks.iter().filter_map(|track| self.tracks.get(track));
        let hints = tracks.flat_map(super::track::Track::hints).collect();
        self.command(Command::Offer { peer, id: offer.id, sdp: offer.sdp, hints });
    }

    pub(super) fn client_answers(&mut self, seat: Seat, answer: SessionDescription) {
        if !self.sdp_fits(seat, &answer) {
            return;
        }
        let Some(who) = self.people.get_mut(&seat) else { return };
        // In v1 there is no offer of ours to answer.
        let Link::Dual { subscriber, .. } = who.link else { return };
        who.answer_by = None;
        self.command(Command::Answer { peer: subscriber, id: answer.id, sdp: answer.sdp });
    }

    fn sdp_fits(&mut self, seat: Seat, description: &SessionDescription) -> bool {
        let got = description.sdp.len();
        if got <= MAX_SDP {
            return true;
        }
        self.notice(Notice::DescriptionRefused);
        self.refuse(seat, Reason::InvalidRequest, format!("SDP of {got} bytes, limit {MAX_SDP}"), None);
        false
    }

    /// Candidates that cannot be read are skipped: the connection comes up without them or not at all.
    pub(super) fn client_trickles(&mut self, seat: Seat, trickle: &TrickleRequest) {
        #[derive(serde::Deserialize)]
        struct CandidateInit {
            #[serde(default)]
            candidate: Option<String>,
        }

        self.take_early_offer(seat);
        let Some(who) = self.people.get(&seat) else { return };
        let Ok(target) = SignalTarget::try_from(trickle.target) else { return };
        let Some(peer) = who.link.target(target) else { return };
        if trickle.candidate_init.len() > MAX_CANDIDATE {
            return;
        }
        let Ok(init) = serde_json::from_str::<CandidateInit>(&trickle.candidate_init) else { return };
        let Some(candidate) = init.candidate else { return };
        self.command(Command::RemoteCandidate { peer, candidate });
    }

    pub(super) fn core_answers(&mut self, peer: PeerId, id: u32, sdp: String, tracks: &[(Mid, TrackId)]) {
        let Some(seat) = self.seat_of(peer) else { return };
        let answer = self.description("answer", id, sdp, tracks);
        self.send(seat, Response::Answer(answer));
    }

    pub(super) fn core_offers(
        &mut self,
        clock: Clock,
        peer: PeerId,
        id: u32,
        sdp: String,
        tracks: &[(Mid, TrackId)],
    ) {
        let Some(seat) = self.seat_of(peer) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        if who.link.mode() == Mode::Single {
            tracing::error!("the core offered where the client does");
            return;
        }
        // Who is away is offered anew when it is back.
        who.answer_by = who.session.map(|_| clock.now + ANSWER_TIMEOUT);
        let offer = self.description("offer", id, sdp, tracks);
        self.send(seat, Response::Offer(offer));
    }

    /// Names all our tracks by section, the old ones too: a section that is used again must be stated again.
    fn description(
        &self,
        r#type: &str,
        id: u32,
        sdp: String,
        tracks: &[(Mid, TrackId)],
    ) -> SessionDescription {
        let sid = |track: &TrackId| self.tracks.get(track).map(|track| track.info.sid.clone());
        let named = tracks.iter().filter_map(|(mid, track)| Some((mid.as_str().to_owned(), sid(track)?)));
        let mid_to_track_id: HashMap<String, String> = named.collect();
        SessionDescription { r#type: r#type.to_owned(), sdp, id, mid_to_track_id }
    }

    /// The client is told why. What it offered can be offered better; an answer of ours that is none leaves both
    /// sides without an agreement, so it begins anew.
    pub(super) fn description_refused(&mut self, clock: Clock, peer: PeerId, reason: &str) {
        let Some(seat) = self.seat_of(peer) else { return };
        self.notice(Notice::DescriptionRefused);
        let mut message = reason.to_owned();
        message.truncate(message.floor_char_boundary(MAX_REASON));
        self.refuse(seat, Reason::InvalidRequest, message, None);
        if self.people.get(&seat).is_some_and(|who| who.link.publisher() != Some(peer)) {
            self.agreement_failed(clock, seat);
        }
    }

    pub(super) fn sections_needed(&mut self, peer: PeerId, audio: u32, video: u32) {
        let Some(seat) = self.seat_of(peer) else { return };
        let needed = MediaSectionsRequirement { num_audios: audio, num_videos: video };
        self.send(seat, Response::MediaSectionsRequirement(needed));
    }
}
