//! Who may subscribe to a publisher's tracks, as the publisher says (`SubscriptionPermission`).

use std::collections::{HashMap, HashSet};

use livekit_protocol::SubscriptionPermission;

/// A publisher's list of who may subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// Everybody, to everything; how a publisher begins.
    Everyone,
    /// Those listed, by sid or by identity.
    Listed {
        /// By participant sid.
        sids: HashMap<String, Tracks>,
        /// By identity.
        identities: HashMap<String, Tracks>,
    },
}

/// The tracks open to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tracks {
    /// All of them.
    All,
    /// These, by sid.
    Only(HashSet<String>),
}

/// More entries than the server keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} entries of subscription permission, limit {limit}")]
pub(super) struct TooManyEntries {
    got: usize,
    limit: usize,
}

impl Allowance {
    /// Takes a publisher's list. `limit` bounds entries and track sids together.
    pub(super) fn new(list: SubscriptionPermission, limit: usize) -> Result<Allowance, TooManyEntries> {
        if list.all_participants {
            return Ok(Allowance::Everyone);
        }
        let got = list.track_permissions.iter().map(|entry| 1 + entry.track_sids.len()).sum();
        if got > limit {
            return Err(TooManyEntries { got, limit });
        }
        let (mut sids, mut identities) = (HashMap::new(), HashMap::new());
        for entry in list.track_permissions {
            let tracks = if entry.all_tracks {
                Tracks::All
            } else {
                Tracks::Only(entry.track_sids.into_iter().collect())
            };
            // The identity is the newer field and goes first when both are given.
            if !entry.participant_identity.is_empty() {
                identities.insert(entry.participant_identity, tracks);
            } else if !entry.participant_sid.is_empty() {
                sids.insert(entry.participant_sid, tracks);
            }
        }
        Ok(Allowance::Listed { sids, identities })
    }

    /// Whether the participant of that sid and identity may subscribe to the track.
    pub(super) fn allows(&self, participant_sid: &str, identity: &str, track_sid: &str) -> bool {
        match self {
            Allowance::Everyone => true,
            Allowance::Listed { sids, identities } => [sids.get(participant_sid), identities.get(identity)]
                .into_iter()
                .flatten()
                .any(|tracks| match tracks {
                    Tracks::All => true,
                    Tracks::Only(sids) => sids.contains(track_sid),
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::TrackPermission;

    use super::*;

    #[test]
    fn only_those_listed_may_subscribe() {
        let entry = |sid: &str, identity: &str, all, tracks: &[&str]| TrackPermission {
            participant_sid: sid.into(),
            participant_identity: identity.into(),
            all_tracks: all,
            track_sids: tracks.iter().map(ToString::to_string).collect(),
        };
        let list =
            |all, track_permissions| SubscriptionPermission { all_participants: all, track_permissions };
        let allowance = Allowance::new(
            list(false, vec![entry("PA_a", "", true, &[]), entry("", "bob", false, &["TR_1"])]),
            8,
        )
        .unwrap();
        assert!(allowance.allows("PA_a", "x", "TR_9"));
        assert!(allowance.allows("PA_b", "bob", "TR_1"));
        assert!(!allowance.allows("PA_b", "bob", "TR_2"));
        assert!(!allowance.allows("PA_c", "carol", "TR_1"));
        assert_eq!(Allowance::new(list(true, vec![]), 8), Ok(Allowance::Everyone));
        let nobody = Allowance::new(list(false, vec![]), 8).unwrap();
        assert!(!nobody.allows("PA_a", "a", "TR_1"));
        let long = list(false, vec![entry("PA_a", "", false, &["TR_1"; 8])]);
        assert_eq!(Allowance::new(long, 8), Err(TooManyEntries { got: 9, limit: 8 }));
    }
}
