//! Why a subscriber gets what it gets, for people: the reason for a layer, and how the estimate went.
//!
//! A reason is derived from separate facts when somebody asks, so that one cannot hide another: a track that its publisher
//! mutes while the budget has it paused is muted. The history is a ring of fixed size, made once for a subscriber.
//! Nothing here decides anything; nothing reads what is kept here but a report.

use std::time::{Duration, Instant};

use super::allocate::Reason;
use super::controller::Snapshot;
use super::target::Cause;
use crate::ids::LayerId;
use crate::units::Bitrate;

/// Why a subscriber gets no higher layer of a track than it does. A closed list: programs read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// There is nothing higher.
    None,
    /// Its client offers no codec that the track is sent in.
    Unsupported,
    /// Its connection is not up, or the track not agreed on yet.
    Connecting,
    /// Its client switched the track off.
    Disabled,
    /// The publisher muted it.
    Muted,
    /// Its client is in the background, and gets sound alone.
    Background,
    /// Nothing of the track comes from the publisher.
    PublisherPaused,
    /// More is granted; it begins with the next keyframe.
    WaitingForKeyframe,
    /// Its client has not reported for a second: only the least is sent.
    NoFeedback,
    /// The next step does not fit what the server has time for.
    Overload,
    /// The next step does not fit what the path carries.
    Budget,
    /// The next step exceeds what the client bounded itself to.
    ClientLimit,
    /// The next step fits, and waits for its dwell time.
    Settling,
    /// The client saves data: half of the frames.
    DataSaver,
    /// The client asked for no larger picture.
    AskedSize,
    /// The client asked for no more frames.
    AskedFps,
    /// The publisher sends no higher layer.
    LayerNotSent,
}

impl Why {
    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::None => "none",
            Why::Unsupported => "unsupported",
            Why::Connecting => "connecting",
            Why::Disabled => "disabled",
            Why::Muted => "muted",
            Why::Background => "background",
            Why::PublisherPaused => "publisher_paused",
            Why::WaitingForKeyframe => "waiting_for_keyframe",
            Why::NoFeedback => "no_feedback",
            Why::Overload => "overload",
            Why::Budget => "budget",
            Why::ClientLimit => "client_limit",
            Why::Settling => "settling",
            Why::DataSaver => "data_saver",
            Why::AskedSize => "asked_size",
            Why::AskedFps => "asked_fps",
            Why::LayerNotSent => "layer_not_sent",
        }
    }
}

/// Whether a track can be sent at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// It can.
    Yes,
    /// Not yet.
    Pending,
    /// The client has no codec for it.
    Unsupported,
}

/// What is known of one subscription, each fact by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct Facts {
    /// Connection and description.
    pub agreed: Agreed,
    /// The client wants it.
    pub enabled: bool,
    /// The publisher muted it.
    pub muted: bool,
    /// Something of it came lately.
    pub alive: bool,
    /// Its client's reports are long overdue.
    pub silent: bool,
    /// What the allocator says; `None` for sound, which it does not divide.
    pub reason: Option<Reason>,
    /// The layer that leaves, and the one that is meant to.
    pub layers: (Option<LayerId>, Option<LayerId>),
    /// A keyframe of another encoding is waited for.
    pub awaits_keyframe: bool,
    /// Its client is in the background; of video only.
    pub background: bool,
    /// The server's time bounds video, and not the path.
    pub held_back: bool,
    /// The next step exceeds the client's own bound.
    pub limited: bool,
    /// The highest temporal layer that saving data leaves.
    pub saver: Option<u8>,
    /// What the client asked for at most.
    pub asked: LayerId,
    /// The highest of what the publisher sends.
    pub sent: LayerId,
    /// The highest of what it announced.
    pub announced: LayerId,
}

impl Facts {
    /// The first thing that would have to change.
    pub fn why(&self) -> Why {
        match self.agreed {
            Agreed::Unsupported => return Why::Unsupported,
            Agreed::Pending => return Why::Connecting,
            Agreed::Yes => {}
        }
        let (leaves, meant) = self.layers;
        match self.reason {
            _ if !self.enabled => Why::Disabled,
            _ if self.muted => Why::Muted,
            _ if self.background => Why::Background,
            _ if !self.alive => Why::PublisherPaused,
            None => Why::None,
            Some(_) if self.awaits_keyframe && leaves < meant => Why::WaitingForKeyframe,
            Some(_) if self.silent => Why::NoFeedback,
            Some(Reason::Budget) if self.held_back => Why::Overload,
            Some(Reason::Budget) if self.limited => Why::ClientLimit,
            Some(Reason::Budget) => Why::Budget,
            Some(Reason::Settling) => Why::Settling,
            Some(Reason::Off) => Why::PublisherPaused,
            Some(Reason::Satisfied) => self.ceiling(),
        }
    }

    /// All that was asked for is given: what bounds that. More frames of the same size come before a larger picture.
    fn ceiling(&self) -> Why {
        let frames = self.asked.temporal.min(self.sent.temporal);
        if self.saver.is_some_and(|saver| saver < frames) {
            Why::DataSaver
        } else if self.asked.temporal < self.sent.temporal {
            Why::AskedFps
        } else if self.asked.spatial < self.announced.spatial {
            Why::AskedSize
        } else if self.sent.spatial < self.announced.spatial {
            Why::LayerNotSent
        } else {
            Why::None
        }
    }
}

/// How many of a subscriber's videos get which size: none at all, then by spatial layer, the last one and what is above.
pub type Pictures = [u8; 5];

/// One second of a downlink. Small on purpose: every subscriber has [`HISTORY`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    at: u32,        // since the history's start, in tenths of a second: enough for 13 years
    target: u32,    // bit/s
    delivered: u32, // bit/s; u32::MAX if unknown
    delay: u16,     // ms
    loss: u16,      // in parts of 65 535
    cause: Cause,
    pictures: Pictures,
}

impl Sample {
    /// The target.
    pub fn target(&self) -> Bitrate {
        Bitrate::bps(self.target.into())
    }

    /// What arrived, if it is known.
    pub fn delivered(&self) -> Option<Bitrate> {
        (self.delivered != u32::MAX).then_some(Bitrate::bps(self.delivered.into()))
    }

    /// Lower envelope of the queueing delay, to the millisecond.
    pub fn queue_delay(&self) -> Duration {
        Duration::from_millis(self.delay.into())
    }

    /// Loss ratio, 0 to 1.
    pub fn loss(&self) -> f64 {
        f64::from(self.loss) / f64::from(u16::MAX)
    }

    /// Why the target was what it was.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Who got what.
    pub fn pictures(&self) -> Pictures {
        self.pictures
    }
}

/// Samples kept: ten minutes of one a second.
pub const HISTORY: usize = 600;

/// The last ten minutes of one downlink.
#[derive(Debug)]
pub struct History {
    start: Instant,
    ring: Box<[Sample]>,
    /// Samples ever taken.
    taken: usize,
}

impl History {
    /// An empty one, at its full size: it never allocates again.
    pub fn new(now: Instant) -> History {
        let nothing = Sample {
            at: 0,
            target: 0,
            delivered: u32::MAX,
            delay: 0,
            loss: 0,
            cause: Cause::Start,
            pictures: Pictures::default(),
        };
        History { start: now, ring: vec![nothing; HISTORY].into_boxed_slice(), taken: 0 }
    }

    /// Keeps how things are now. To be called once a second.
    pub fn take(&mut self, now: Instant, snapshot: &Snapshot, pictures: Pictures) {
        let tenths = now.saturating_duration_since(self.start).as_millis() / 100;
        let bits = |rate: Bitrate| u32::try_from(rate.as_bps()).unwrap_or(u32::MAX).min(u32::MAX - 1);
        self.ring[self.taken % HISTORY] = Sample {
            at: u32::try_from(tenths).unwrap_or(u32::MAX),
            target: bits(snapshot.target),
            delivered: snapshot.delivered.map_or(u32::MAX, bits),
            delay: u16::try_from(snapshot.queue_delay.as_millis()).unwrap_or(u16::MAX),
            loss: (snapshot.loss.clamp(0.0, 1.0) * f64::from(u16::MAX)) as u16,
            cause: snapshot.cause,
            pictures,
        };
        self.taken += 1;
    }

    /// The newest `count` samples, oldest first.
    pub fn recent(&self, count: usize) -> Recent {
        let first = self.taken - count.min(HISTORY).min(self.taken);
        let samples = (first..self.taken).map(|at| self.ring[at % HISTORY]).collect();
        Recent { start: self.start, samples }
    }
}

/// A part of a [`History`], oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    start: Instant,
    samples: Vec<Sample>,
}

impl Recent {
    /// When each sample was taken, to a tenth of a second, and what it is.
    pub fn iter(&self) -> impl Iterator<Item = (Instant, &Sample)> {
        let at = |sample: &Sample| self.start + Duration::from_millis(u64::from(sample.at) * 100);
        self.samples.iter().map(move |sample| (at(sample), sample))
    }
}

#[cfg(test)]
mod tests;
