//! How large a room and what its people say of themselves may grow.

use std::time::Duration;

/// Limits and times of a room; an operator can change them. The defaults are LiveKit's where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// People in a room at once. A smaller limit of the room's own goes first.
    pub participants: usize,
    /// Tracks of one participant, those announced and not yet sent included.
    pub tracks_per_participant: usize,
    /// Data tracks of one participant.
    pub data_tracks_per_participant: usize,
    /// Tracks that one participant gets at once. The media core takes 1024.
    pub subscriptions_per_participant: usize,
    /// Tracks about which one participant may have said what it wants, subscribed or not.
    pub preferences_per_participant: usize,
    /// Entries in a publisher's list of who may subscribe, track sids included.
    pub permission_entries: usize,
    /// Dispatches of agents.
    pub dispatches: usize,
    /// Bytes of an identity, a name or a room's name.
    pub name_bytes: usize,
    /// Bytes of a participant's metadata.
    pub metadata_bytes: usize,
    /// Bytes of a participant's attributes, keys and values together.
    pub attributes_bytes: usize,
    /// Bytes of data messages that one participant may send in a second, and at once after a second of silence.
    pub data_rate: u32,
    /// How long a room waits for the first to join.
    pub empty_timeout: Duration,
    /// How long a room stays after the last has left.
    pub departure_timeout: Duration,
    /// How long somebody stays whose side closed its socket, and whose media is not heard.
    pub resume_timeout: Duration,
    /// How long somebody stays of whom neither socket nor media has been heard, and who closed nothing; no less than the other.
    pub outage_timeout: Duration,
}

impl Default for RoomLimits {
    fn default() -> RoomLimits {
        RoomLimits {
            participants: 1000,
            tracks_per_participant: 32,
            data_tracks_per_participant: 32,
            subscriptions_per_participant: 1000,
            preferences_per_participant: 4096,
            permission_entries: 8192,
            dispatches: 100,
            name_bytes: 256,
            metadata_bytes: 512 << 10,
            attributes_bytes: 64 << 10,
            // 134 Mbit/s: no application's data, but a client that floods all others.
            data_rate: 16 << 20,
            empty_timeout: Duration::from_mins(5),
            departure_timeout: Duration::from_secs(20),
            // Others must see a killed client gone within 20 s.
            resume_timeout: Duration::from_secs(18),
            // Half a minute in a tunnel, and the clients' next attempt, which is up to 7 s away.
            outage_timeout: Duration::from_secs(45),
        }
    }
}

/// Bytes of all keys and values of a set of attributes.
pub(super) fn attributes_bytes<'a>(attributes: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    attributes.into_iter().map(|(key, value)| key.len() + value.len()).sum()
}
