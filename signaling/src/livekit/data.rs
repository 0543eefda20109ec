//! Data messages: checked, signed with the true sender's name, and passed on.

use std::sync::Arc;

use bytes::Bytes;
use livekit_protocol::participant_info::Kind;
use sfu::command::Command;
use sfu::ids::PeerId;

use super::output::{Clock, DataRefusal, Notice};
use super::packet::{NotAPacket, Packet};
use super::participant::{Participant, Seat};
use super::room::Room;

/// Channel of ordered, resent packets.
pub(super) const RELIABLE: &str = "_reliable";
/// Channel of unordered packets that are never resent.
pub(super) const LOSSY: &str = "_lossy";
/// Channel of data tracks, whose packets the core forwards by itself.
pub(super) const TRACKS: &str = sfu::wire::data_track::CHANNEL;

/// The largest message that is passed on: what browsers announce in `a=max-message-size` (Chromium's 262144).
pub(super) const MAX_MESSAGE: usize = 256 << 10;
/// What a packet may grow by when it is signed: two names and their tags.
const SIGNATURE: usize = 512;
/// Bytes of an application's channel label.
const MAX_LABEL: usize = 256;

impl Room {
    pub(super) fn data_arrived(
        &mut self,
        clock: Clock,
        peer: PeerId,
        label: String,
        binary: bool,
        payload: Bytes,
    ) {
        let Some(seat) = self.seat_of(peer) else { return };
        if let Err(refusal) = self.forward(clock, seat, label, binary, payload) {
            self.notice(Notice::DataRefused(refusal));
        }
    }

    fn forward(
        &mut self,
        clock: Clock,
        seat: Seat,
        label: String,
        binary: bool,
        payload: Bytes,
    ) -> Result<(), DataRefusal> {
        let Some(who) = self.people.get_mut(&seat) else { return Ok(()) };
        if !who.permission.can_publish_data {
            return Err(DataRefusal::NotAllowed);
        }
        if payload.len() > MAX_MESSAGE {
            return Err(DataRefusal::TooLarge);
        }
        if !who.data_budget.take(clock.now, self.settings.limits.data_rate, payload.len()) {
            return Err(DataRefusal::TooFast);
        }
        let (to, binary, payload) = match label.as_str() {
            RELIABLE | LOSSY => {
                let mut packet = Packet::parse(&payload).map_err(|NotAPacket| DataRefusal::Malformed)?;
                if packet.speakers || (packet.transcription && who.kind != Kind::Agent) {
                    return Err(DataRefusal::Unsupported);
                }
                // Zero from clients that do not count; what was sent again after a reconnect came before.
                if label == RELIABLE && packet.sequence > 0 {
                    if packet.sequence <= who.last_reliable {
                        return Err(DataRefusal::Repeated);
                    }
                    who.last_reliable = packet.sequence;
                }
                if packet.nonce.is_some_and(|nonce| self.nonces.is_repeated(nonce)) {
                    return Err(DataRefusal::Repeated);
                }
                let sequence = packet.sequence;
                let identity = if who.is_hidden() { "" } else { &who.identity };
                let (identity, sid) = (identity.to_owned(), who.sid.clone());
                if packet.rpc.take().is_some_and(|part| self.rpc_arrived(seat, part)) {
                    return Ok(());
                }
                let to = if packet.destinations.is_empty() {
                    self.others(seat)
                } else {
                    self.named(seat, &packet.destinations)
                };
                let may_have = |who: &&Participant| !packet.metrics || who.permission.can_subscribe_metrics;
                let to: Arc<[PeerId]> = self.subscribers(&to, may_have);
                let signed = packet.signed(&identity, &sid);
                if signed.len() > MAX_MESSAGE + SIGNATURE {
                    return Err(DataRefusal::TooLarge);
                }
                let signed = Bytes::from(signed);
                if label == RELIABLE && sequence > 0 {
                    self.replay.push(clock.now, seat, sequence, &to, &signed);
                }
                (to, true, signed)
            }
            TRACKS => return Err(DataRefusal::Unsupported),
            _ if label.len() > MAX_LABEL => return Err(DataRefusal::Unsupported),
            _ => (self.subscribers(&self.others(seat), |_| true), binary, payload),
        };
        if !to.is_empty() {
            self.command(Command::SendData { to, label, binary, payload });
        }
        Ok(())
    }

    /// Those named; the sender is never among them, and nobody is twice.
    fn named(&self, seat: Seat, identities: &[String]) -> Vec<Seat> {
        let mut seats: Vec<Seat> = identities
            .iter()
            .filter_map(|name| self.by_identity.get(name).copied())
            .filter(|to| *to != seat)
            .collect();
        seats.sort_unstable();
        seats.dedup();
        seats
    }

    /// The connections over which they get data, but for those who may not have it.
    fn subscribers(&self, seats: &[Seat], may_have: impl Fn(&&Participant) -> bool) -> Arc<[PeerId]> {
        let people = seats.iter().filter_map(|seat| self.people.get(seat));
        people.filter(may_have).map(|who| who.link.subscriber()).collect()
    }
}
