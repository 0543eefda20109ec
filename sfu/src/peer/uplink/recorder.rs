//! What arrived from the client, for the congestion control at its end: in the form of reports that it takes.

use std::time::Instant;

use crate::congestion::{FeedbackRecorder, StreamRecorder};
use crate::ids::Ssrc;
use crate::units::WallClock;
use crate::wire::rtp::RtpHeader;

/// See the module's page.
#[derive(Debug)]
pub(crate) enum Recorder {
    /// Of packets that bear a transport-wide number, whether its feedback was agreed on or not.
    TransportWide(FeedbackRecorder),
    /// By stream (RFC 8888).
    PerStream(StreamRecorder),
}

impl Recorder {
    pub(crate) fn new(now: Instant) -> Recorder {
        Recorder::TransportWide(FeedbackRecorder::new(now))
    }

    /// The form that was agreed on.
    pub(crate) fn agree(&mut self, now: Instant, per_stream: bool) {
        match (&self, per_stream) {
            (Recorder::TransportWide(_), true) => *self = Recorder::PerStream(StreamRecorder::default()),
            (Recorder::PerStream(_), false) => *self = Recorder::new(now),
            (Recorder::TransportWide(_), false) | (Recorder::PerStream(_), true) => {}
        }
    }

    /// A packet of `size` bytes arrived, with this transport-wide number if any. Says whether it is reported on.
    pub(crate) fn on_received(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        number: Option<u16>,
        size: usize,
    ) -> bool {
        match (self, number) {
            (Recorder::TransportWide(recorder), Some(number)) => recorder.on_received(now, number, size),
            (Recorder::TransportWide(_), None) => return false,
            (Recorder::PerStream(recorder), _) => {
                recorder.on_received(now, header.ssrc, header.sequence_number, size);
            }
        }
        true
    }

    /// When the next report is due; `None` while nothing is to be reported.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        match self {
            Recorder::TransportWide(recorder) => recorder.next_timeout(),
            Recorder::PerStream(recorder) => recorder.next_timeout(),
        }
    }

    /// Writes one RTCP packet into `buf`, as both recorders do: call until `None`. `own` is our SSRC, `media` any of the
    /// client's.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        buf: &mut [u8],
        (own, media): (Ssrc, Ssrc),
        wall: &WallClock,
    ) -> Option<usize> {
        match self {
            Recorder::TransportWide(recorder) => recorder.write(now, buf, own, media),
            Recorder::PerStream(recorder) => recorder.write(now, buf, own, wall.ntp(now)),
        }
    }
}
