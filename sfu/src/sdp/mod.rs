//! Offers and answers: what one peer connection has agreed on (RFC 3264, RFC 8829, RFC 9143).
//!
//! [`Negotiation`] turns a client's description and the list of tracks that the client is to get into our
//! description and into plain values: the client's transport, and for each section what may be received and
//! sent there under which numbers. `read` and `media` parse and bound, `write` prints, `answer` and `offer` are the two
//! roles, `codec` and `extension` know what we forward.
//!
//! Always: one transport for all sections (BUNDLE and rtcp-mux are required); in answers payload types and
//! extension ids are the client's; a track keeps its section while it is subscribed; a section that lost its
//! track is inactive in one finished negotiation before another track gets it, since browsers announce a
//! remote track only when a section becomes active; a payload type has the same `a=fmtp` in all sections of a
//! description of ours; a description that is refused changes nothing.
//!
//! Not here: ICE and DTLS (`transport`), which client gets which track (`room`), when to negotiate (`peer`).

mod answer;
mod candidate;
mod codec;
mod error;
pub mod extension;
mod media;
mod offer;
mod read;
mod section;
#[cfg(test)]
mod tests;
mod write;

pub use candidate::{CandidateHost, CandidateKind, RemoteCandidate, candidate_lines, parse_candidate};
pub use codec::{Feedback, FeedbackSet, Payload, TrackCodec};
pub use error::{DescriptionError, Excerpt};
pub use read::{MAX_DESCRIPTION, MAX_MEDIA_LINES};
pub use section::{
    Accepted, DataSection, Fingerprint, LocalOffer, LocalTransport, ReceiveSection, RemoteTransport, Section,
    SendPayload, SendSection, SendTrack, Setup,
};
pub use write::MAX_MESSAGE_SIZE;

use crate::command::{MediaKind, NegotiationRole, PublishHint};
use crate::ids::TrackId;
use read::{Remote, RemoteSetup};

/// The negotiation of one peer connection, from its first description to its end.
#[derive(Debug)]
pub struct Negotiation {
    role: NegotiationRole,
    session_id: u64,
    /// Of the latest description of ours; grows with each (RFC 8829 §5.2.2).
    version: u64,
    /// The client's transport, once there was a description.
    remote: Option<RemoteTransport>,
    /// Answerer: the sections of the latest offer.
    answered: Vec<answer::Line>,
    /// Offerer: the sections of our latest offer.
    offered: offer::Lines,
}

/// Which kind of the client's description is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Offer,
    Answer,
}

impl Negotiation {
    /// Nothing agreed yet. `session_id` should be random; its upper two bits are not used, since some clients
    /// read it as a signed number (RFC 8829 §5.2.1).
    pub fn new(role: NegotiationRole, session_id: u64) -> Negotiation {
        Negotiation {
            role,
            session_id: session_id & (u64::MAX >> 2),
            version: 0,
            remote: None,
            answered: Vec::new(),
            offered: offer::Lines::default(),
        }
    }

    /// Whether `offer` asks for an ICE restart, so that its answer needs new local credentials (RFC 8839
    /// §4.4.1.1). `false` for offers that [`accept_offer`](Self::accept_offer) would refuse for their transport.
    pub fn restarts_ice(&self, offer: &str) -> bool {
        let Ok(remote) = Remote::parse(offer) else { return false };
        let used = answer::used_sections(&remote);
        let tagged = remote.tagged(|i| used[i]);
        self.transport_of(&remote, tagged, Side::Offer).is_ok_and(|transport| transport.ice_restarted)
    }

    /// Answers the client's offer (answerers only). `send` is all that the client is to get, in order of
    /// importance; tracks are put where the client receives and, as long as there are such sections, does not
    /// send. `hints` shape the sections that the client sends in and are remembered, so that they need not be
    /// repeated.
    ///
    /// # Errors
    /// When the offer cannot be answered; then nothing has changed.
    pub fn accept_offer(
        &mut self,
        offer: &str,
        local: &LocalTransport,
        hints: &[PublishHint],
        send: &[SendTrack],
    ) -> Result<Accepted, DescriptionError> {
        if self.role != NegotiationRole::Answerer {
            return Err(DescriptionError::OutOfTurn);
        }
        let mut remote = Remote::parse(offer)?;
        if remote.media.len() < self.answered.len() {
            let (got, had) = (remote.media.len(), self.answered.len());
            return Err(DescriptionError::MediaLinesMissing { got, had });
        }
        let used = answer::used_sections(&remote);
        remote.check(|i| used[i])?;
        let tagged = remote.tagged(|i| used[i]);
        let transport = self.transport_of(&remote, tagged, Side::Offer)?;
        // From here on nothing fails.
        self.version += 1;
        let session = write::Session {
            id: self.session_id,
            version: self.version,
            local,
            setup: match transport.setup {
                Setup::Server => "passive",
                Setup::Client => "active",
            },
            bundle: answer::bundle(&remote, &used),
            tagged: tagged.and_then(|i| remote.media[i].mid),
            allow_mixed: remote.allow_mixed,
        };
        self.remote = Some(transport.clone());
        Ok(answer::answer(&mut self.answered, &mut remote, &used, transport, &session, hints, send))
    }

    /// Our next offer (offerers only). `send` is all that the client is to get; its order is that of new
    /// sections. `data_channels` adds the section of data channels, which then stays; ask for it in the first
    /// offer, so that it comes first. An offer that was not answered is replaced.
    pub fn create_offer(
        &mut self,
        local: &LocalTransport,
        send: &[SendTrack],
        data_channels: bool,
    ) -> LocalOffer {
        debug_assert_eq!(self.role, NegotiationRole::Offerer, "the client makes the offers here");
        self.version += 1;
        self.offered.plan(send, data_channels);
        let session = write::Session {
            id: self.session_id,
            version: self.version,
            local,
            setup: "actpass",
            bundle: Some(self.offered.bundle()),
            tagged: self.offered.bundle().first().copied(),
            allow_mixed: true,
        };
        self.offered.write(&session, send)
    }

    /// The client's answer to our offer (offerers only).
    ///
    /// # Errors
    /// When the answer cannot be used; then nothing has changed, and the offer is still outstanding.
    pub fn accept_answer(&mut self, answer: &str) -> Result<Accepted, DescriptionError> {
        if self.role != NegotiationRole::Offerer || !self.offered.is_outstanding() {
            return Err(DescriptionError::OutOfTurn);
        }
        let remote = Remote::parse(answer)?;
        self.offered.check(&remote)?;
        let used = |i: usize| !remote.media[i].rejected;
        remote.check(used)?;
        let transport = self.transport_of(&remote, remote.tagged(used), Side::Answer)?;
        self.remote = Some(transport.clone());
        Ok(self.offered.settle(&remote, transport))
    }

    /// How many sections of the client's latest offer wait for a track (answerers only): those that are
    /// received and not sent in, and that have no track. Those that lost theirs with the latest answer count
    /// too, as they can be used with the next.
    pub fn free_sections(&self, kind: MediaKind) -> usize {
        self.answered.iter().filter(|line| line.is_free(kind)).count()
    }

    /// Whether the client's latest offer has a section in which the track goes, in whichever codec (answerers only).
    pub fn has_section(&self, track: TrackId) -> bool {
        self.answered.iter().any(|line| line.has(track))
    }

    /// The client's transport as the section `tagged` or else the session level has it.
    fn transport_of(
        &self,
        remote: &Remote,
        tagged: Option<usize>,
        side: Side,
    ) -> Result<RemoteTransport, DescriptionError> {
        let section = tagged.map(|i| &remote.media[i].transport);
        let session = &remote.transport;
        if let (None, Some(known)) = (section, &self.remote) {
            // All sections are rejected: the transport stays as it is.
            return Ok(RemoteTransport { ice_restarted: false, ..known.clone() });
        }
        let ufrag = section.and_then(|t| t.ufrag.as_ref()).or(session.ufrag.as_ref());
        let pwd = section.and_then(|t| t.pwd.as_ref()).or(session.pwd.as_ref());
        let (Some(ufrag), Some(pwd)) = (ufrag, pwd) else {
            return Err(DescriptionError::NoIceCredentials);
        };
        let own_fingerprints = section.map(|t| &t.fingerprints).filter(|list| !list.is_empty());
        let fingerprints = own_fingerprints.unwrap_or(&session.fingerprints);
        if fingerprints.is_empty() {
            return Err(DescriptionError::NoFingerprint);
        }
        let known = self.remote.as_ref();
        let said = section.and_then(|t| t.setup).or(session.setup);
        let setup = match (said, side) {
            // RFC 4145 §4: active is the default.
            (None | Some(RemoteSetup::Active), _) => Setup::Server,
            (Some(RemoteSetup::Passive), _) => Setup::Client,
            (Some(RemoteSetup::ActPass), Side::Offer) => known.map_or(Setup::Server, |known| known.setup),
            (Some(RemoteSetup::ActPass), Side::Answer) | (Some(RemoteSetup::Other), _) => {
                return Err(DescriptionError::WrongSetup);
            }
        };
        if known.is_some_and(|known| known.setup != setup) {
            return Err(DescriptionError::WrongSetup);
        }
        Ok(RemoteTransport {
            ufrag: ufrag.clone(),
            pwd: pwd.clone(),
            fingerprints: fingerprints.clone(),
            setup,
            candidates: section.unwrap_or(session).candidates.clone(),
            ice_restarted: known.is_some_and(|known| known.ufrag != *ufrag || known.pwd != *pwd),
        })
    }
}
