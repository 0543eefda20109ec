//! Plain counters of the core, copied out by its owner once a second.

use std::time::Duration;

use crate::command::{MediaKind, PeerEnd};

/// Why a packet was not forwarded. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DropReason {
    /// From an address that never authenticated itself, or of no known protocol.
    UnknownSource,
    /// The authentication tag did not match, or the packet was a replay.
    Unauthentic,
    /// Not readable as RTP or RTCP.
    Malformed,
    /// Of a stream or section that no track is bound to.
    UnknownStream,
    /// Of a muted track.
    Muted,
    /// Of a codec or layout that is not forwarded.
    Unreadable,
    /// The subscriber's pacer gave its frame up.
    Pacer,
    /// The packet had left the cache before its turn.
    Evicted,
    /// An ICE request with wrong credentials, or too many paths.
    Stun,
    /// More than the handshake's bounds allow.
    Dtls,
}

impl DropReason {
    /// All of them, in the order of their numbers.
    pub const ALL: [DropReason; 10] = [
        DropReason::UnknownSource,
        DropReason::Unauthentic,
        DropReason::Malformed,
        DropReason::UnknownStream,
        DropReason::Muted,
        DropReason::Unreadable,
        DropReason::Pacer,
        DropReason::Evicted,
        DropReason::Stun,
        DropReason::Dtls,
    ];

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            DropReason::UnknownSource => "unknown_source",
            DropReason::Unauthentic => "unauthentic",
            DropReason::Malformed => "malformed",
            DropReason::UnknownStream => "unknown_stream",
            DropReason::Muted => "muted",
            DropReason::Unreadable => "unreadable",
            DropReason::Pacer => "pacer",
            DropReason::Evicted => "evicted",
            DropReason::Stun => "stun",
            DropReason::Dtls => "dtls",
        }
    }
}

/// Why a packet that a subscriber asked for again was not resent. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum NackRefusal {
    /// It was reported as received.
    Arrived,
    /// It was resent less than a round trip ago, or is about to be.
    TooSoon,
    /// It was resent often enough.
    TooOften,
    /// It was sent so long ago that it helps nobody.
    TooOld,
    /// It was never sent, or is forgotten.
    Unknown,
    /// More was asked for than the share of the rate that repairs have.
    Budget,
}

impl NackRefusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [NackRefusal; 6] = [
        NackRefusal::Arrived,
        NackRefusal::TooSoon,
        NackRefusal::TooOften,
        NackRefusal::TooOld,
        NackRefusal::Unknown,
        NackRefusal::Budget,
    ];

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            NackRefusal::Arrived => "arrived",
            NackRefusal::TooSoon => "too_soon",
            NackRefusal::TooOften => "too_often",
            NackRefusal::TooOld => "too_old",
            NackRefusal::Unknown => "unknown",
            NackRefusal::Budget => "budget",
        }
    }
}

/// Why a subscriber's keyframe request was not heeded. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum KeyframeRefusal {
    /// It asked less than a second ago.
    TooSoon,
    /// It has asked more than once a second for ten seconds.
    Flood,
    /// For a stream that it does not get.
    Unknown,
}

impl KeyframeRefusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [KeyframeRefusal; 3] =
        [KeyframeRefusal::TooSoon, KeyframeRefusal::Flood, KeyframeRefusal::Unknown];

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            KeyframeRefusal::TooSoon => "too_soon",
            KeyframeRefusal::Flood => "flood",
            KeyframeRefusal::Unknown => "unknown",
        }
    }
}

/// Why a report for congestion control, or what it says of one packet, was not believed. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum FeedbackRefusal {
    /// A report that ends before what it announces, or uses what is reserved.
    Malformed,
    /// A report on numbers that were never sent, or on more than are remembered.
    NotSent,
    /// A report whose time is seconds away from what the one before it lets expect. It is read: clocks are set, too.
    ClockJump,
    /// A packet that was reported as received before. Honest clients do that, a little; reports by stream may overlap.
    Repeated,
    /// A packet sent so long ago that it is forgotten or says nothing.
    Old,
}

impl FeedbackRefusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [FeedbackRefusal; 5] = [
        FeedbackRefusal::Malformed,
        FeedbackRefusal::NotSent,
        FeedbackRefusal::ClockJump,
        FeedbackRefusal::Repeated,
        FeedbackRefusal::Old,
    ];

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            FeedbackRefusal::Malformed => "malformed",
            FeedbackRefusal::NotSent => "not_sent",
            FeedbackRefusal::ClockJump => "clock_jump",
            FeedbackRefusal::Repeated => "repeated",
            FeedbackRefusal::Old => "old",
        }
    }
}

/// Why a packet of a data track was not forwarded, or not to one of its subscribers. A closed list: it labels a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DataTrackDrop {
    /// Not readable as a packet of a data track.
    Malformed,
    /// Of a handle that no track of its sender has.
    Unknown,
    /// Above what is forwarded, or what the subscriber takes.
    TooLarge,
    /// The subscriber did not keep up, and newer ones took its place.
    Overflow,
    /// It waited so long for the subscriber that it is out of date.
    Late,
}

impl DataTrackDrop {
    /// All of them, in the order of their numbers.
    pub const ALL: [DataTrackDrop; 5] = [
        DataTrackDrop::Malformed,
        DataTrackDrop::Unknown,
        DataTrackDrop::TooLarge,
        DataTrackDrop::Overflow,
        DataTrackDrop::Late,
    ];

    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            DataTrackDrop::Malformed => "malformed",
            DataTrackDrop::Unknown => "unknown",
            DataTrackDrop::TooLarge => "too_large",
            DataTrackDrop::Overflow => "overflow",
            DataTrackDrop::Late => "late",
        }
    }
}

/// What was not believed, by [`FeedbackRefusal`].
pub type FeedbackRefusals = [u64; FeedbackRefusal::ALL.len()];

/// Packets and bytes (UDP payload) of one kind in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// One for audio, one for video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind<T> {
    /// Audio's.
    pub audio: T,
    /// Video's.
    pub video: T,
}

impl<T> ByKind<T> {
    /// The one for `kind`.
    pub fn of(&mut self, kind: MediaKind) -> &mut T {
        match kind {
            MediaKind::Audio => &mut self.audio,
            MediaKind::Video => &mut self.video,
        }
    }
}

/// Counts of values below ascending bounds, for a histogram metric.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<const N: usize> {
    /// Upper bounds, ascending.
    pub bounds: [f64; N],
    /// How many fell at or below each bound but above the one before.
    pub counts: [u64; N],
    /// How many were above the last bound.
    pub above: u64,
    /// Sum of all values.
    pub sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// Nothing counted.
    pub const fn new(bounds: [f64; N]) -> Self {
        Histogram { bounds, counts: [0; N], above: 0, sum: 0.0 }
    }

    /// Counts one value.
    pub fn observe(&mut self, value: f64) {
        self.sum += value;
        match self.bounds.iter().position(|bound| value <= *bound) {
            Some(index) => self.counts[index] += 1,
            None => self.above += 1,
        }
    }
}

/// Everything the core counts since it was made.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Rooms now.
    pub rooms: u64,
    /// Peer connections now.
    pub peers: u64,
    /// Published tracks now.
    pub tracks: ByKind<u64>,
    /// Subscriptions now.
    pub subscriptions: ByKind<u64>,
    /// Media packets received.
    pub received: ByKind<Traffic>,
    /// Media packets sent, retransmissions included.
    pub sent: ByKind<Traffic>,
    /// RTCP packets received and sent.
    pub rtcp: (Traffic, Traffic),
    /// Packets dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Sequence numbers that receivers asked us to resend, and that we asked publishers to.
    pub nacks: (u64, u64),
    /// Of those that receivers asked for, what was not resent, by [`NackRefusal`].
    pub nacks_refused: [u64; NackRefusal::ALL.len()],
    /// Reports for congestion control that were not believed, in whole or in part.
    pub feedback_refused: FeedbackRefusals,
    /// Keyframe requests (PLI and FIR) received and sent.
    pub plis: (u64, u64),
    /// Of those received, what was not heeded, by [`KeyframeRefusal`].
    pub plis_refused: [u64; KeyframeRefusal::ALL.len()],
    /// Packets that publishers resent, and that we resent.
    pub retransmissions: (u64, u64),
    /// Audio packets sent with earlier ones in them.
    pub redundant: u64,
    /// Audio packets that publishers' redundancy brought back.
    pub recovered: u64,
    /// Spatial layer switches up and down.
    pub switches: (u64, u64),
    /// Padding sent to probe.
    pub padding: Traffic,
    /// Packets of data tracks received and handed over for sending, their bytes without what carries them.
    pub data_tracks: (Traffic, Traffic),
    /// Of them, what was dropped, by [`DataTrackDrop`].
    pub data_tracks_dropped: [u64; DataTrackDrop::ALL.len()],
    /// Connections that ended, by reason; those whose consent expired, each time, though they may come back.
    pub ended: [u64; 5],
    /// Socket read to hand-over for sending, in seconds: see [`Stats::observe_delay`].
    pub forward_delay: Histogram<10>,
    /// What subscribers may be sent, in bit/s, observed every 5 s for each.
    pub estimate: Histogram<8>,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            rooms: 0,
            peers: 0,
            tracks: ByKind::default(),
            subscriptions: ByKind::default(),
            received: ByKind::default(),
            sent: ByKind::default(),
            rtcp: Default::default(),
            dropped: [0; DropReason::ALL.len()],
            nacks: (0, 0),
            nacks_refused: [0; NackRefusal::ALL.len()],
            feedback_refused: FeedbackRefusals::default(),
            plis: (0, 0),
            plis_refused: [0; KeyframeRefusal::ALL.len()],
            retransmissions: (0, 0),
            redundant: 0,
            recovered: 0,
            switches: (0, 0),
            padding: Traffic::default(),
            data_tracks: Default::default(),
            data_tracks_dropped: [0; DataTrackDrop::ALL.len()],
            ended: [0; 5],
            forward_delay: Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0]),
            estimate: Histogram::new([1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 2.5e7]),
        }
    }
}

/// The reasons of [`Stats::ended`], in its order, as label values.
pub const ENDS: [(PeerEnd, &str); 5] = [
    (PeerEnd::ConsentExpired, "consent_expired"),
    (PeerEnd::NeverConnected, "never_connected"),
    (PeerEnd::FingerprintMismatch, "fingerprint_mismatch"),
    (PeerEnd::HandshakeFailed, "handshake_failed"),
    (PeerEnd::ClosedByPeer, "closed_by_peer"),
];

impl Stats {
    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    pub(crate) fn refuse_nack(&mut self, reason: NackRefusal) {
        self.nacks_refused[reason as usize] += 1;
    }

    pub(crate) fn refuse_feedback(&mut self, refused: FeedbackRefusals) {
        for (count, more) in self.feedback_refused.iter_mut().zip(refused) {
            *count += more;
        }
    }

    pub(crate) fn refuse_pli(&mut self, reason: KeyframeRefusal) {
        self.plis_refused[reason as usize] += 1;
    }

    pub(crate) fn drop_data(&mut self, reason: DataTrackDrop, packets: usize) {
        self.data_tracks_dropped[reason as usize] += packets as u64;
    }

    pub(crate) fn count_end(&mut self, reason: PeerEnd) {
        let index = ENDS.iter().position(|(end, _)| *end == reason).expect("ENDS lists every reason");
        self.ended[index] += 1;
    }

    pub(crate) fn observe_delay(&mut self, delay: Duration) {
        self.forward_delay.observe(delay.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_numbers() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
        for (index, reason) in NackRefusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
        for (index, reason) in KeyframeRefusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
        for (index, reason) in FeedbackRefusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
        for (index, reason) in DataTrackDrop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.as_str());
        }
    }

    #[test]
    fn a_value_is_counted_once_at_its_bound() {
        let mut histogram = Histogram::new([1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0] {
            histogram.observe(value);
        }
        assert_eq!((histogram.counts, histogram.above), ([2, 1], 1));
        assert!((histogram.sum - 12.0).abs() < 1e-9);
    }
}
