//! When to offer, or to ask for an offer: changes are gathered for a moment, one round is out at a time.

use std::time::{Duration, Instant};

use crate::command::NegotiationRole;
use crate::sdp::Negotiation;

/// Changes are gathered this long before the first round…
const FIRST: Duration = Duration::from_millis(10);
/// …and before later ones, since tracks come in groups.
const LATER: Duration = Duration::from_millis(100);

/// See the module's page.
pub(crate) struct Agreement {
    pub(crate) role: NegotiationRole,
    pub(crate) negotiation: Negotiation,
    /// We open data channels, so that our offers have a section for them.
    pub(crate) data_channels: bool,
    /// Number of our latest offer.
    pub(crate) offer: u32,
    /// A round is out: our offer is not answered, or the client was asked for one.
    pub(crate) outstanding: bool,
    due: Option<Instant>,
    rounds: u32,
}

impl Agreement {
    pub(crate) fn new(role: NegotiationRole, session_id: u64) -> Self {
        Agreement {
            role,
            negotiation: Negotiation::new(role, session_id),
            data_channels: false,
            offer: 0,
            outstanding: false,
            due: None,
            rounds: 0,
        }
    }

    /// Something changed that the client must agree to.
    pub(crate) fn want(&mut self, now: Instant) {
        // Before the client's first offer there is nothing to renew.
        if self.role == NegotiationRole::Answerer && self.rounds == 0 {
            return;
        }
        let pause = if self.rounds == 0 { FIRST } else { LATER };
        self.due.get_or_insert(now + pause);
    }

    /// The client may have missed the round that is out: it is begun again, at once.
    pub(crate) fn renew(&mut self, now: Instant) {
        if self.role == NegotiationRole::Offerer || self.outstanding {
            self.outstanding = false;
            self.due = Some(now);
        }
    }

    /// A description of the client's was agreed to.
    pub(crate) fn settle(&mut self) {
        self.rounds = self.rounds.saturating_add(1);
        self.outstanding = false;
        if self.role == NegotiationRole::Answerer {
            // The answer took everything in.
            self.due = None;
        }
    }

    /// Whether a round is to begin now; it counts as out then.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        if self.outstanding || self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        self.outstanding = true;
        true
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.due.filter(|_| !self.outstanding)
    }
}
