//! ICE as the lite side of one peer connection: who may speak to us, and where we may send (RFC 8445 §2.5).
//!
//! The client finds and nominates paths; we answer. An address enters only with a binding request that is
//! signed with our password, so that nothing else in the core ever sees a datagram from elsewhere.
//!
//! **Knowing the password is not owning the address.** A client could sign requests with somebody else's source
//! address and turn us against it. So a new path may get at most three times the bytes that came over it
//! ([`AntiAmplification`]; our STUN answers and DTLS flights count alike) and no media, until it is *validated*:
//! the client shows that it receives what we send there. A second request would not show it, since it can be
//! sent blindly. Three things do:
//!
//! * We answer each request on an unvalidated path also with a binding request of our own, whose transaction
//!   id is unguessable; the signed response to it, over the same path, validates. A full agent must respond to
//!   checks whatever it takes us for (RFC 8445 §7.3; Chromium 156 does, seen on loopback), and RFC 7675 §5.1 uses
//!   the same proof for consent. RFC 8445 §2.5 has lite agents send no checks; this departure serves no pairing,
//!   only the proof. It costs one round trip, so an ICE restart or a NAT rebinding moves media one round trip
//!   after its first request.
//! * The path is a TCP connection: its handshake has shown it before the first request.
//! * The DTLS handshake completes while all its flights went over this one path
//!   ([`IceLite::handle_handshake_complete`]), since the client's Finished depends on what we sent.
//!
//! A path once validated stays so while requests arrive on it. Not proven again is that the address did not
//! change hands meanwhile; consent is the signed requests that we receive (every few seconds with all known
//! clients) instead of answers to requests of ours.
//!
//! Always: [`IceLite::selected`] is validated; at most [`IceConfig::max_paths`] paths are kept; a path that is
//! not kept gets nothing but a STUN answer no larger than three times the request.
//! Not here: candidates (we never look at the client's), routing of datagrams to peers (`stun::peek_local_ufrag`).

mod credentials;
mod paths;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use credentials::{BadCredentials, IceSecret, LocalCredentials, MAX_CORES, RemoteCredentials, core_of};
pub use paths::AntiAmplification;
use paths::{PathState, Paths};

use crate::command::{Path, Protocol};
use crate::transport::stun::{
    self, BindingRequest, BindingSuccess, IceRole, Refusal, StunError, StunMessage, TransactionId,
};

/// Silence after which a client no longer consents to being sent to. RFC 7675 §5.1 has 30 s; half of it, so that
/// others see within 20 s that somebody vanished. Clients check every 2.5 s (libwebrtc) or more often.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Clients pair few of our candidates with several of theirs; 16 leaves room for two networks.
pub const MAX_PATHS: usize = 16;
/// So many requests over another path, and nothing over the selected one in between: libwebrtc sends them 50 to 130 ms
/// apart, and a client that receives media reports about it as often.
const LEFT: u8 = 2;
/// That of a peer-reflexive candidate of the first component (RFC 8445 §5.1.2.1). Orders nothing here.
const CHECK_PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// What all peers of a process share.
#[derive(Clone)]
pub struct IceConfig {
    /// Where passwords come from.
    pub secret: IceSecret,
    /// Which core of the process this is; username fragments tell it ([`core_of`]).
    pub core: u16,
    /// Time without a signed request on the selected path after which consent is gone.
    pub consent_timeout: Duration,
    /// Paths kept for one peer; 2 at least, whatever it says.
    pub max_paths: usize,
}

impl IceConfig {
    /// The usual values.
    pub fn new(secret: IceSecret) -> IceConfig {
        IceConfig { secret, core: 0, consent_timeout: CONSENT_TIMEOUT, max_paths: MAX_PATHS }
    }
}

/// What became of a STUN datagram. There is something in `reply` to send back over the same path with
/// [`Answered`](IceOutcome::Answered) and [`Refused`](IceOutcome::Refused), and with these only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceOutcome {
    /// A signed request.
    Answered,
    /// A request that is not as it should be.
    Refused(Refusal),
    /// The response to a check of ours: the path is validated.
    Validated,
    /// Nothing to answer.
    Dropped(IceDropReason),
}

/// Why a STUN datagram had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IceDropReason {
    /// Not a well-formed message, or not about bindings.
    Malformed,
    /// A response that belongs to no check of ours, or is not signed as it should be.
    UnexpectedResponse,
    /// The answer would have been more than three times the request.
    OverBudget,
}

/// What the peer has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IceEvent {
    /// Send media over this path from now on.
    Selected(Path),
    /// No request on the selected path for the consent time: nothing may be sent (RFC 7675 §5.1) until a path is selected
    /// again.
    ConsentExpired,
    /// Nobody is known by this username fragment any more: it may be forgotten where datagrams are routed.
    UfragRetired(String),
    /// The path is not kept any more: it may be forgotten where datagrams are routed.
    PathForgotten(Path),
}

/// The credentials of one description of ours and of the client's.
struct Generation {
    number: u32,
    local: LocalCredentials,
    remote: Option<RemoteCredentials>,
}

/// Which paths the DTLS flights went over.
#[derive(Clone, Copy, PartialEq)]
enum SentTo {
    Nobody,
    Only(Path),
    Several,
}

/// The ICE state of one peer connection. See the module's page for what it guarantees.
///
/// We are lite and the client is full, so we are controlled for good (RFC 8445 §6.1.1). A client that claims to be
/// controlled too is always told 487: RFC 8445 §7.3.1.1 makes the side with the larger tie-breaker controlling, and
/// ours, as in every check that we send, is 0. The one exception there, that we become controlling when both are
/// equal, is not open to a lite agent.
pub struct IceLite {
    config: IceConfig,
    current: Generation,
    /// The credentials in use when a restart began; gone when it succeeds.
    previous: Option<Generation>,
    paths: Paths,
    nominated: Option<(Path, u32)>,
    selected: Option<Path>,
    /// Where the latest datagram came from that was not STUN, as long as nothing is selected, or nothing that was checked
    /// with the credentials of a restart.
    data_from: Option<Path>,
    /// Datagrams over the selected path during restarts.
    heard: u32,
    handshake: SentTo,
    checks: u64,
    events: VecDeque<IceEvent>,
}

impl IceLite {
    /// Makes the local credentials; nothing is known of the client.
    pub fn new(config: &IceConfig, rng: &mut fastrand::Rng) -> IceLite {
        let local = LocalCredentials::generate(&config.secret, config.core, rng);
        IceLite {
            current: Generation { number: 0, local, remote: None },
            previous: None,
            paths: Paths::new(config.max_paths),
            nominated: None,
            selected: None,
            data_from: None,
            heard: 0,
            handshake: SentTo::Nobody,
            checks: 0,
            events: VecDeque::new(),
            config: config.clone(),
        }
    }

    /// What goes into our next description.
    pub fn local_credentials(&self) -> &LocalCredentials {
        &self.current.local
    }

    /// How often new ones were made.
    pub fn restarts(&self) -> u32 {
        self.current.number
    }

    /// Whether a path is still to be selected that was checked with the latest of them.
    pub fn is_restarting(&self) -> bool {
        self.previous.is_some()
    }

    /// The username fragments that requests to this peer may carry: one, and two during a restart.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.previous).map(|generation| generation.local.ufrag())
    }

    /// Takes what the client's description says, for the latest local credentials. Without it requests are
    /// answered already, but no path can be validated by a check. Idempotent.
    pub fn set_remote_credentials(&mut self, remote: RemoteCredentials) {
        let number = self.current.number;
        for state in self.paths.iter_mut().filter(|state| !state.validated()) {
            if state.theirs.as_ref().is_err_and(|ufrag| **ufrag == *remote.ufrag()) {
                state.theirs = Ok(number);
            }
            state.check_due |= state.theirs == Ok(number);
        }
        self.current.remote = Some(remote);
    }

    /// Whether the client's description, with this fragment, restarts ICE (RFC 8445 §9).
    pub fn is_restart(&self, remote_ufrag: &str) -> bool {
        self.current.remote.as_ref().is_some_and(|known| known.ufrag() != remote_ufrag)
    }

    /// Makes new local credentials (RFC 8445 §9). The selected path and the credentials behind it keep working until
    /// a path is selected that was checked with the new ones; those of an earlier restart that came to nothing
    /// are dropped.
    pub fn restart(&mut self, rng: &mut fastrand::Rng) {
        let local = LocalCredentials::generate(&self.config.secret, self.config.core, rng);
        let fresh = Generation { number: self.current.number.wrapping_add(1), local, remote: None };
        let old = std::mem::replace(&mut self.current, fresh);
        match self.previous {
            None => self.previous = Some(old),
            Some(_) => self.retire(&old),
        }
    }

    /// Takes a STUN datagram that came over `path`. What goes back over `path` is written over `reply`, which is
    /// left empty otherwise. Then drain [`poll_transmit`](Self::poll_transmit) and [`poll_event`](Self::poll_event).
    ///
    /// Requests are routed here by [`stun::peek_local_ufrag`]; responses carry no name: route them by the path.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        reply: &mut Vec<u8>,
    ) -> IceOutcome {
        reply.clear();
        match stun::parse(datagram) {
            Ok(StunMessage::Request(request)) => {
                self.handle_request(now, path, datagram.len(), &request, reply)
            }
            Ok(StunMessage::Success(response)) => self.handle_success(path, &response),
            Ok(StunMessage::Error(_)) => IceOutcome::Dropped(IceDropReason::UnexpectedResponse),
            Err(StunError::BadRequest(transaction)) => {
                refuse(datagram.len(), transaction, Refusal::BadRequest, None, reply)
            }
            Err(StunError::UnknownAttribute(transaction, kind)) => {
                refuse(datagram.len(), transaction, Refusal::UnknownAttribute(kind), None, reply)
            }
            Err(StunError::Malformed | StunError::NotBinding) => {
                IceOutcome::Dropped(IceDropReason::Malformed)
            }
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        path: Path,
        bytes: usize,
        request: &BindingRequest<'_>,
        reply: &mut Vec<u8>,
    ) -> IceOutcome {
        let transaction = request.transaction;
        let generation = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|generation| generation.local.ufrag() == request.local_ufrag)
            .filter(|generation| request.signed.verify(&generation.local.key));
        let Some(generation) = generation else {
            return refuse(bytes, transaction, Refusal::Unauthenticated, None, reply);
        };
        let key = generation.local.key.clone();
        let number = generation.number;
        let is_theirs = |remote: &RemoteCredentials| remote.ufrag() == request.remote_ufrag;
        let theirs = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|generation| generation.remote.as_ref().is_some_and(is_theirs))
            .map(|generation| generation.number)
            .ok_or(request.remote_ufrag);
        if let Some(IceRole::Controlled(_)) = request.role {
            return refuse(bytes, transaction, Refusal::RoleConflict, Some(&key), reply);
        }

        stun::write_success(reply, transaction, path.remote, &key);
        let reply_len = reply.len();
        let state = self.path_state(now, path, number);
        state.last_request = now;
        state.generation = number;
        if let Some(budget) = &mut state.budget {
            budget.received(bytes);
            state.check_due = theirs.is_ok();
            state.theirs = theirs.map_err(Box::from);
            if !budget.take(reply_len) {
                reply.clear();
                return IceOutcome::Dropped(IceDropReason::OverBudget);
            }
        }
        if self.selected == Some(path) {
            self.heard = self.heard.wrapping_add(1);
        } else if self.previous.is_some() && number == self.current.number && self.left_for(path) {
            self.nominated = Some((path, number));
        }
        // The last nomination counts (RFC 8445 §8.1.1 leaves it open for clients that nominate every path they
        // try); one with older credentials does not undo one with newer.
        if request.use_candidate && self.nominated.is_none_or(|(_, by)| by <= number) {
            self.nominated = Some((path, number));
        }
        self.settle();
        IceOutcome::Answered
    }

    /// One more request came over this path, of a restart: whether the client has left the selected one. Who only receives
    /// goes over to another network without sending anything there, and libwebrtc nominates it three seconds later.
    fn left_for(&mut self, path: Path) -> bool {
        let heard = self.heard;
        let Some(state) = self.paths.get_mut(path) else { return false };
        let (since, count) = state.alone;
        state.alone = (heard, if since == heard { count.saturating_add(1) } else { 1 });
        state.alone.1 >= LEFT
    }

    fn path_state(&mut self, now: Instant, path: Path, generation: u32) -> &mut PathState {
        if self.paths.get(path).is_none() {
            self.checks = self.checks.wrapping_add(1);
            let check = self.config.secret.transaction(self.current.local.ufrag(), self.checks);
            let state = PathState {
                path,
                // Who opens a TCP connection receives what we send there.
                budget: (path.protocol == Protocol::Udp).then(AntiAmplification::default),
                generation,
                theirs: Ok(generation),
                alone: (0, 0),
                check,
                check_due: false,
                last_request: now,
            };
            let gone = self.paths.insert(state, self.selected);
            if self.nominated.is_some_and(|(path, _)| Some(path) == gone) {
                self.nominated = None;
            }
            self.events.extend(gone.map(IceEvent::PathForgotten));
        }
        self.paths.get_mut(path).expect("found or inserted")
    }

    fn handle_success(&mut self, path: Path, response: &BindingSuccess<'_>) -> IceOutcome {
        let unexpected = IceOutcome::Dropped(IceDropReason::UnexpectedResponse);
        let Some(state) = self.paths.get_mut(path) else { return unexpected };
        let remote = std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|generation| state.theirs == Ok(generation.number))
            .and_then(|generation| generation.remote.as_ref());
        let Some(remote) = remote else { return unexpected };
        let answers = !state.validated() && state.check == response.transaction;
        if !answers || !response.signed.verify(&remote.key) {
            return unexpected;
        }
        state.budget = None;
        state.check_due = false;
        self.settle();
        IceOutcome::Validated
    }

    /// Whether a signed request came over `path`.
    pub fn knows(&self, path: Path) -> bool {
        self.paths.get(path).is_some()
    }

    /// Tells that a datagram of `bytes` came over `path` that is not STUN. `false`: nobody signed a request there, so
    /// it must be dropped before any cryptography.
    pub fn admit(&mut self, path: Path, bytes: usize) -> bool {
        if self.selected == Some(path) {
            self.heard = self.heard.wrapping_add(u32::from(self.previous.is_some()));
            return true;
        }
        let Some(state) = self.paths.get_mut(path) else { return false };
        if let Some(budget) = &mut state.budget {
            budget.received(bytes);
        }
        if self.selected.is_none() || (self.previous.is_some() && state.generation == self.current.number) {
            self.data_from = Some(path);
            self.settle();
        }
        true
    }

    /// Asks to send a DTLS datagram of `bytes` over `path`; `false`: it must not be sent (now), and DTLS will repeat
    /// it. Media asks nothing: it goes over the [`selected`](Self::selected) path or nowhere.
    pub fn may_send_handshake(&mut self, path: Path, bytes: usize) -> bool {
        let Some(state) = self.paths.get_mut(path) else { return false };
        if let Some(budget) = &mut state.budget
            && !budget.take(bytes)
        {
            return false;
        }
        self.handshake = match self.handshake {
            SentTo::Nobody => SentTo::Only(path),
            SentTo::Only(other) if other == path => SentTo::Only(path),
            SentTo::Only(_) | SentTo::Several => SentTo::Several,
        };
        true
    }

    /// The DTLS handshake was completed by a datagram that came over `path`.
    pub fn handle_handshake_complete(&mut self, path: Path) {
        if self.handshake == SentTo::Only(path)
            && let Some(state) = self.paths.get_mut(path)
        {
            state.budget = None;
            self.settle();
        }
    }

    /// Where media goes, if anywhere.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Where DTLS goes, subject to [`may_send_handshake`](Self::may_send_handshake): as media, or while nothing is
    /// selected, back to where the client's DTLS came from, else to the nominated or latest checked path.
    pub fn handshake_path(&self) -> Option<Path> {
        self.selected
            .or_else(|| self.data_from.filter(|path| self.paths.get(*path).is_some()))
            .or_else(|| self.nominated.map(|(path, _)| path))
            .or_else(|| self.paths.iter().max_by_key(|state| state.last_request).map(|state| state.path))
    }

    /// Selects the nominated path once it is validated.
    ///
    /// Until the first nomination, and after a restart until the first with its credentials, the path that the client
    /// sends DTLS or media over counts as nominated: libwebrtc nominates toward a lite agent only in the check after
    /// the one that made the path writable, half a second after its first DTLS datagram, and three seconds after its
    /// media went over to another network.
    fn settle(&mut self) {
        let number = self.current.number;
        let nominated = self.nominated.filter(|(_, by)| self.data_from.is_none() || *by == number);
        let Some(path) = nominated.map(|(path, _)| path).or(self.data_from) else { return };
        let Some(state) = self.paths.get(path).filter(|state| state.validated()) else { return };
        let by = nominated.map_or(state.generation, |(_, by)| by);
        if self.selected != Some(path) {
            self.selected = Some(path);
            self.data_from = None;
            self.events.push_back(IceEvent::Selected(path));
        }
        if by == self.current.number
            && let Some(old) = self.previous.take()
        {
            self.retire(&old);
        }
    }

    /// Forgets a generation and the paths that were checked with it, except the selected one.
    fn retire(&mut self, old: &Generation) {
        let selected = self.selected;
        let keep = |state: &PathState| state.generation != old.number || Some(state.path) == selected;
        let forgotten = self.paths.iter().filter(|state| !keep(state));
        self.events.extend(forgotten.map(|state| IceEvent::PathForgotten(state.path)));
        self.paths.retain(keep);
        if self.nominated.is_some_and(|(path, by)| by == old.number && Some(path) != selected) {
            self.nominated = None;
        }
        self.events.push_back(IceEvent::UfragRetired(old.local.ufrag().to_owned()));
    }

    /// The next check of our own: written over `into`, to be sent over the path returned.
    pub fn poll_transmit(&mut self, into: &mut Vec<u8>) -> Option<Path> {
        for state in self.paths.iter_mut().filter(|state| state.check_due) {
            state.check_due = false;
            let by_number =
                |number| std::iter::once(&self.current).chain(&self.previous).find(|g| g.number == number);
            let Some(Generation { local, .. }) = by_number(state.generation) else { continue };
            let theirs = state.theirs.as_ref().ok().and_then(|number| by_number(*number));
            let Some(remote) = theirs.and_then(|theirs| theirs.remote.as_ref()) else { continue };
            let check = stun::Check {
                transaction: state.check,
                their_ufrag: remote.ufrag(),
                our_ufrag: local.ufrag(),
                priority: CHECK_PRIORITY,
                role: IceRole::Controlled(0),
                key: &remote.key,
            };
            stun::write_check(into, &check);
            if state.budget.as_mut().is_some_and(|budget| budget.take(into.len())) {
                return Some(state.path);
            }
        }
        into.clear();
        None
    }

    /// What happened; `None` when there is nothing left.
    pub fn poll_event(&mut self) -> Option<IceEvent> {
        self.events.pop_front()
    }

    /// The silence after which consent is gone.
    pub fn consent_timeout(&self) -> Duration {
        self.config.consent_timeout
    }

    /// When consent expires, if nothing comes.
    pub fn next_timeout(&self) -> Option<Instant> {
        let state = self.paths.get(self.selected?)?;
        state.last_request.checked_add(self.config.consent_timeout)
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next_timeout().is_none_or(|at| now < at) {
            return;
        }
        let silent = self.selected.take();
        self.paths.retain(|state| Some(state.path) != silent);
        self.events.extend(silent.map(IceEvent::PathForgotten));
        if self.nominated.is_some_and(|(path, _)| Some(path) == silent) {
            self.nominated = None;
        }
        self.events.push_back(IceEvent::ConsentExpired);
    }
}

/// Refuses a request from a path that may be anybody's: nothing is kept, so the threefold bound is on this one
/// datagram.
fn refuse(
    bytes: usize,
    transaction: TransactionId,
    refusal: Refusal,
    key: Option<&ring::hmac::Key>,
    reply: &mut Vec<u8>,
) -> IceOutcome {
    stun::write_refusal(reply, transaction, refusal, key);
    let mut budget = AntiAmplification::default();
    budget.received(bytes);
    if budget.take(reply.len()) {
        IceOutcome::Refused(refusal)
    } else {
        reply.clear();
        IceOutcome::Dropped(IceDropReason::OverBudget)
    }
}

#[cfg(test)]
mod tests;
