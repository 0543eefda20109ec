//! What is counted, in plain integers.

use crate::allocation::Transport;

/// Why a request was answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: something is missing or wrong in it.
    Malformed,
    /// 401: the user name is not one of ours, or the password not its.
    WrongCredential,
    /// 401: the credential's time is over.
    Expired,
    /// 403: the peer is not one of our media addresses.
    ForbiddenPeer,
    /// 420: it wants something understood that is not.
    UnknownAttribute,
    /// 437: there is an allocation already, or none.
    Mismatch,
    /// 438: the nonce is old, or another client's. Clients come again with the new one.
    StaleNonce,
    /// 440, 443: an address family that the server or the allocation does not have.
    Family,
    /// 441: the allocation is another user's.
    WrongUser,
    /// 442: a relay over something else than UDP.
    Transport,
    /// 486: the user has too many allocations.
    UserQuota,
    /// 486: the client's address has too many allocations.
    AddressQuota,
    /// 508: there are too many allocations, permissions or channels.
    Capacity,
    /// 508: a port of the client's choice, which nobody here needs.
    Reservation,
    /// 508: no socket could be opened.
    Socket,
}

impl Refusal {
    /// All, in the order of [`Stats::refused`].
    pub const ALL: [Refusal; 15] = [
        Refusal::Malformed,
        Refusal::WrongCredential,
        Refusal::Expired,
        Refusal::ForbiddenPeer,
        Refusal::UnknownAttribute,
        Refusal::Mismatch,
        Refusal::StaleNonce,
        Refusal::Family,
        Refusal::WrongUser,
        Refusal::Transport,
        Refusal::UserQuota,
        Refusal::AddressQuota,
        Refusal::Capacity,
        Refusal::Reservation,
        Refusal::Socket,
    ];

    /// A name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::WrongCredential => "wrong_credential",
            Refusal::Expired => "expired",
            Refusal::ForbiddenPeer => "forbidden_peer",
            Refusal::UnknownAttribute => "unknown_attribute",
            Refusal::Mismatch => "mismatch",
            Refusal::StaleNonce => "stale_nonce",
            Refusal::Family => "family",
            Refusal::WrongUser => "wrong_user",
            Refusal::Transport => "transport",
            Refusal::UserQuota => "user_quota",
            Refusal::AddressQuota => "address_quota",
            Refusal::Capacity => "capacity",
            Refusal::Reservation => "reservation",
            Refusal::Socket => "socket",
        }
    }
}

/// Why a packet went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Not a packet of the protocol, or one that wants no answer and means nothing.
    Malformed,
    /// Data of somebody without an allocation.
    NoAllocation,
    /// Data for or from a peer without a permission or a channel.
    NoPermission,
    /// An answer would have been too large for who asked.
    TooLarge,
}

impl Drop {
    /// All, in the order of [`Stats::dropped`].
    pub const ALL: [Drop; 4] = [Drop::Malformed, Drop::NoAllocation, Drop::NoPermission, Drop::TooLarge];

    /// A name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Drop::Malformed => "malformed",
            Drop::NoAllocation => "no_allocation",
            Drop::NoPermission => "no_permission",
            Drop::TooLarge => "too_large",
        }
    }
}

/// Packets and their payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// Counts since the beginning, but for `allocations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// At present, in the order of [`Transport::ALL`].
    pub allocations: [u64; Transport::ALL.len()],
    /// Made.
    pub allocated: [u64; Transport::ALL.len()],
    /// Requests without a credential that were told how to bring one.
    pub challenged: u64,
    /// In the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// In the order of [`Drop::ALL`].
    pub dropped: [u64; Drop::ALL.len()],
    /// From clients to media.
    pub inward: Volume,
    /// From media to clients.
    pub outward: Volume,
}

impl Stats {
    pub(crate) fn refuse(&mut self, why: Refusal) {
        self.refused[why as usize] += 1;
    }

    pub(crate) fn drop(&mut self, why: Drop) {
        self.dropped[why as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_where_their_reasons_do() {
        assert!(Refusal::ALL.iter().enumerate().all(|(i, why)| *why as usize == i));
        assert!(Drop::ALL.iter().enumerate().all(|(i, why)| *why as usize == i));
        assert!(Transport::ALL.iter().enumerate().all(|(i, way)| *way as usize == i));
    }
}
