//! What one participant receives: each stream's numbers, delays and pictures.

pub(crate) mod ledger;
pub(crate) mod picture;

use std::time::Instant;

use crate::histogram::Histogram;
use crate::stamp::{Stamp, WallNanos};
use crate::vp8::Descriptor;
use ledger::{Arrival, Counts, Ledger};
use picture::{Part, Picture};

/// Encodings of a camera at most.
pub(crate) const MAX_LAYERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Audio,
    Video,
}

/// One stream (SSRC) of one participant.
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) kind: Kind,
    ledger: Ledger,
    pub(crate) picture: Picture,
    /// Packets, by layer.
    pub(crate) layers: [u64; MAX_LAYERS],
}

/// Delays of everybody, in microseconds.
#[derive(Default)]
pub(crate) struct Delays {
    pub(crate) audio: Histogram,
    pub(crate) video: Histogram,
    /// Of both, in the second that runs, and of sound alone.
    pub(crate) recent: Histogram,
    pub(crate) recent_audio: Histogram,
}

impl Delays {
    fn record(&mut self, kind: Kind, micros: u64) {
        match kind {
            Kind::Audio => {
                self.audio.record(micros);
                self.recent_audio.record(micros);
            }
            Kind::Video => self.video.record(micros),
        }
        self.recent.record(micros);
    }
}

/// A packet of media after decryption.
pub(crate) struct Media<'a> {
    /// As the kernel stamped its arrival.
    pub(crate) arrived: WallNanos,
    pub(crate) sequence: u16,
    pub(crate) marker: bool,
    pub(crate) payload: &'a [u8],
    /// It came as a repair.
    pub(crate) repair: bool,
}

impl Stream {
    pub(crate) fn new(ssrc: u32, kind: Kind) -> Stream {
        Stream { ssrc, kind, ledger: Ledger::default(), picture: Picture::default(), layers: [0; MAX_LAYERS] }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// A datagram of this stream came, decrypted or not; its number, extended, and whether it is new.
    pub(crate) fn on_wire(&mut self, sequence: u16) -> (u64, bool) {
        let number = self.ledger.extend(sequence);
        let arrival = self.ledger.arrived(number);
        (number, matches!(arrival, Arrival::Newest | Arrival::Late))
    }

    /// The datagram of that number had no media in it.
    pub(crate) fn no_media(&mut self, now: Instant, number: u64) {
        if self.kind == Kind::Video {
            self.picture.take(now, number, None);
        }
    }

    /// What was in a datagram. Whether it was ours and new.
    pub(crate) fn media(&mut self, now: Instant, media: &Media<'_>, delays: &mut Delays) -> bool {
        let Some(stamp) = Stamp::read(media.payload) else { return false };
        let number = self.ledger.extend(media.sequence);
        if media.repair && !self.ledger.repaired(number) {
            return false;
        }
        delays.record(self.kind, media.arrived.micros_since(stamp.sent));
        if let Some(layer) = self.layers.get_mut(usize::from(stamp.layer)) {
            *layer += 1;
        }
        if self.kind == Kind::Video {
            let part =
                Descriptor::read(media.payload).map(|descriptor| Part { descriptor, marker: media.marker });
            self.picture.take(now, number, part);
        }
        true
    }
}
