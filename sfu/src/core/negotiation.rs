//! Descriptions in and out: what they agree on is put to work.

use std::time::Instant;

use super::Sfu;
use crate::command::{Event, MediaKind, NegotiationRole, PublishHint, RemoteSection};
use crate::ids::PeerId;
use crate::peer::subscription::{SendFormat, Subscription};
use crate::sdp::{Accepted, LocalTransport, SendTrack, Setup};
use crate::track::Track;
use crate::transport::certificate::Fingerprint;
use crate::transport::ice::RemoteCredentials;
use crate::transport::srtp::DtlsRole;
use crate::wire::description::Codec;

impl Sfu {
    pub(super) fn handle_offer(
        &mut self,
        now: Instant,
        id: PeerId,
        number: u32,
        sdp: &str,
        hints: &[PublishHint],
    ) {
        let Some(&index) = self.peer_ids.get(&id) else { return };
        let Some(peer) = self.peers[index].as_mut() else { return };
        if peer.agreement.negotiation.restarts_ice(sdp) {
            peer.connection.ice.restart(&mut self.rng);
            self.register_ufrags(index);
        }
        let (local, send) = (self.local_transport(index), self.send_tracks(index));
        self.note_codecs(index);
        let Some(peer) = self.peers[index].as_mut() else { return };
        match peer.agreement.negotiation.accept_offer(sdp, &local, hints, &send) {
            Ok(accepted) => self.apply(now, index, number, accepted),
            Err(error) => self.refuse(id, number, &error.to_string()),
        }
    }

    pub(super) fn handle_answer(&mut self, now: Instant, id: PeerId, number: u32, sdp: &str) {
        let Some(&index) = self.peer_ids.get(&id) else { return };
        let Some(peer) = self.peers[index].as_mut() else { return };
        if number != 0 && number != peer.agreement.offer {
            return; // of an offer that was replaced
        }
        match peer.agreement.negotiation.accept_answer(sdp) {
            Ok(accepted) => self.apply(now, index, number, accepted),
            Err(error) => self.refuse(id, number, &error.to_string()),
        }
    }

    fn refuse(&mut self, peer: PeerId, id: u32, reason: &str) {
        tracing::info!(?peer, id, reason, "description refused");
        self.events.push_back(Event::DescriptionRefused { peer, id, reason: reason.to_owned() });
    }

    /// Begins a round: offers, or asks the client to.
    pub(super) fn begin_round(&mut self, _now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_ref() else { return };
        let id = peer.id;
        match peer.agreement.role {
            NegotiationRole::Answerer => {
                let missing = |kind| {
                    self.homeless(index, kind).saturating_sub(peer.agreement.negotiation.free_sections(kind))
                        as u32
                };
                let (audio, video) = (missing(MediaKind::Audio), missing(MediaKind::Video));
                self.events.push_back(Event::SectionsNeeded { peer: id, audio, video });
            }
            NegotiationRole::Offerer => {
                let (local, send) = (self.local_transport(index), self.send_tracks(index));
                self.note_codecs(index);
                let Some(peer) = self.peers[index].as_mut() else { return };
                let data = peer.agreement.data_channels;
                let offer = peer.agreement.negotiation.create_offer(&local, &send, data);
                peer.agreement.offer += 1;
                let number = peer.agreement.offer;
                self.events.push_back(Event::Offer {
                    peer: id,
                    id: number,
                    sdp: offer.sdp,
                    tracks: offer.tracks,
                });
            }
        }
    }

    fn local_transport(&self, index: usize) -> LocalTransport {
        let ice = &self.peers[index].as_ref().expect("the caller has the peer").connection.ice;
        let credentials = ice.local_credentials();
        LocalTransport {
            ufrag: credentials.ufrag().to_owned(),
            pwd: credentials.pwd().to_owned(),
            fingerprint: self.fingerprint.clone(),
            candidates: self.announced.clone(),
            tcp_candidates: self.announced_tcp.clone(),
            ice_lite: true,
            restarts: ice.restarts(),
        }
    }

    fn send_tracks(&self, index: usize) -> Vec<SendTrack> {
        let Some(peer) = &self.peers[index] else { return Vec::new() };
        let of = |s: &Subscription| {
            let codec = match &s.feed {
                Some(_) => None,
                None => Some(self.tracks.get(s.track)?.as_ref()?.codec.clone()),
            };
            Some(SendTrack {
                track: s.name,
                kind: s.kind,
                stream_id: s.stream_id.clone(),
                label: s.label.clone(),
                cname: s.cname().to_owned(),
                codec,
                ssrc: s.ssrc,
                rtx_ssrc: s.rtx_ssrc,
            })
        };
        peer.downlink.iter().filter_map(of).collect()
    }

    /// Remembers which codecs a round is about.
    fn note_codecs(&mut self, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        for subscription in peer.downlink.subscriptions.iter_mut().flatten() {
            subscription.negotiated = codec_of(&self.tracks, subscription);
        }
    }

    fn apply(&mut self, now: Instant, index: usize, number: u32, accepted: Accepted) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        let id = peer.id;
        let remote = &accepted.remote;
        let Ok(credentials) = RemoteCredentials::parse(&remote.ufrag, &remote.pwd) else {
            self.refuse(id, number, "a=ice-ufrag or a=ice-pwd is outside its bounds (RFC 8839 §5.4)");
            return;
        };
        let known = remote.fingerprints.iter().find_map(|f| Fingerprint::parse(&f.hash, &f.value).ok());
        let Some(fingerprint) = known else {
            self.refuse(id, number, "no a=fingerprint with sha-256, sha-384 or sha-512");
            return;
        };
        let role = match remote.setup {
            Setup::Server => DtlsRole::Server,
            Setup::Client => DtlsRole::Client,
        };
        if let Some(data) = &accepted.data {
            peer.connection.set_max_message_size(data.max_message_size);
        }
        peer.connection.agree(now, credentials, fingerprint, role, &self.dtls, &mut self.egress);
        peer.uplink.agree(now, &accepted.sections);
        peer.agreement.settle();

        // What was placed before and is no longer has no format; what is now gets one.
        let (mut bound, mut unsupported) = (Vec::new(), Vec::new());
        let mut feedback = None;
        for slot in 0..peer.downlink.subscriptions.len() {
            let Some(subscription) = peer.downlink.get_mut(slot as u16) else { continue };
            // While our offer was out its codec changed: there will be another.
            let outdated = subscription.feed.is_none()
                && subscription.negotiated != codec_of(&self.tracks, subscription);
            let name = subscription.name;
            let found = accepted.sections.iter().filter(|_| !outdated).find_map(|section| {
                let send = section.send.as_ref().filter(|send| send.track == name)?;
                Some((section.mid, send))
            });
            subscription.unsupported = !outdated && accepted.unsupported.contains(&name);
            if subscription.unsupported {
                unsupported.push(if subscription.feed.is_some() { name } else { subscription.track_id });
            }
            let format = found.map(|(mid, send)| SendFormat::new(mid, send));
            if let Some(format) = &format {
                feedback = feedback.max(Some(format.feedback));
                if !std::mem::replace(&mut subscription.announced, true) {
                    bound.push(subscription.track_id);
                }
            }
            subscription.format = format;
            if subscription.feed.is_some() {
                let track = self.tracks.get(subscription.track).and_then(Option::as_deref);
                subscription.open(found, track);
            }
        }
        if let Some(feedback) = feedback {
            peer.downlink.set_feedback(now, feedback);
        }

        let sections = accepted
            .sections
            .iter()
            .map(|section| RemoteSection {
                mid: section.mid,
                kind: section.kind,
                sending: section.receive.is_some(),
                stream_id: section.receive.as_ref().and_then(|receive| receive.stream_id.clone()),
                track_id: section.receive.as_ref().and_then(|receive| receive.track_id.clone()),
                rids: section.receive.as_ref().map(|receive| receive.rids.clone()).unwrap_or_default(),
            })
            .collect();
        if let Some(sdp) = accepted.answer {
            self.events.push_back(Event::RemoteSections { peer: id, sections });
            self.events.push_back(Event::Answer { peer: id, id: number, sdp, tracks: accepted.placed });
        }
        for track in unsupported {
            self.events.push_back(Event::SubscriptionUnsupported { peer: id, track });
        }
        for track in bound {
            self.events.push_back(Event::SubscriptionBound { peer: id, track });
        }
        if !accepted.unplaced.is_empty()
            && let Some(peer) = self.peers[index].as_mut()
        {
            peer.agreement.want(now);
        }
        self.allocate(now, index);
        self.drain_connection(now, index);
    }
}

/// The codec of what is in a subscription.
fn codec_of(tracks: &[Option<Box<Track>>], subscription: &Subscription) -> Option<Codec> {
    Some(tracks.get(subscription.track)?.as_deref()?.codec.codec)
}
