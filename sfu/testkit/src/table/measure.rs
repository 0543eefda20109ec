//! From a call to figures.

use std::time::Duration;

use sfu::ids::LayerId;
use sfu::units::DataSize;

use crate::call::{Call, Sample, Seen, SubscriberId};
use crate::receiver::playout::Played;
use crate::score::{Score, Unit};

/// Frames whose mean distance a freeze is measured against (W3C webrtc-stats, `freezeCount`).
const FREEZE_FRAMES: usize = 30;
/// What packets of video cost beyond their payload, and sound with all its headers, kbit/s.
const OVERHEAD: f64 = 1.06;
const SOUND: f64 = 55.0;
/// A queue that a packet or two make is empty.
const EMPTY: Duration = Duration::from_millis(40);

/// Steps of the camera ([`crate::camera::CameraConfig::simulcast`]): layer and kbit/s; half the frames, then all.
pub const STEPS: [((u8, u8), f64); 6] =
    [((0, 1), 104.0), ((0, 2), 160.0), ((1, 1), 292.0), ((1, 2), 450.0), ((2, 1), 1105.0), ((2, 2), 1700.0)];

/// A stretch of a call, since its start.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// From…
    pub from: Duration,
    /// …to.
    pub to: Duration,
}

impl Span {
    fn has(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }

    fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// Time without a new picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frozen {
    /// All of it.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Frozen {
    /// Of a stretch of time, percent.
    pub fn share(&self, span: Span) -> f64 {
        self.total.as_secs_f64() / span.length().as_secs_f64() * 100.0
    }
}

/// Freezes that end in a stretch of time or last beyond it (W3C: a distance of more than three times the mean of 30, and
/// of more than that mean and 150 ms).
pub fn frozen(seen: &Seen<'_>, span: Span) -> Frozen {
    let mut frozen = Frozen::default();
    let mut gaps: Vec<Duration> = Vec::new();
    let mut last: Option<Duration> = None;
    let mut judge = |gaps: &[Duration], before: Duration, at: Duration| {
        let mean = gaps.iter().sum::<Duration>() / gaps.len().max(1) as u32;
        let gap = at.saturating_sub(before);
        if !gaps.is_empty() && gap > (mean * 3).max(mean + Duration::from_millis(150)) {
            let within = at.min(span.to).saturating_sub(before.max(span.from));
            frozen.total += within;
            frozen.longest = frozen.longest.max(within);
        }
    };
    for at in seen.video().played.iter().copied().take_while(|at| *at < span.to) {
        if let Some(before) = last {
            if at > span.from {
                judge(&gaps, before, at);
            }
            gaps.push(at.saturating_sub(before));
            if gaps.len() > FREEZE_FRAMES {
                gaps.remove(0);
            }
        }
        last = Some(at);
    }
    judge(&gaps, last.unwrap_or(span.from), span.to);
    frozen
}

/// Changes of the picture's size.
pub fn switches(seen: &Seen<'_>, span: Span) -> usize {
    // The size at its beginning is no change.
    seen.sizes(span.from, span.to).len().saturating_sub(1)
}

/// Share of the best steps that fit into a link of so many kbit/s, percent: what was sent of the first camera, against it.
pub fn utilisation(samples: &[Sample], span: Span, link: f64) -> f64 {
    let room = (link * 0.95 - SOUND) / OVERHEAD;
    let best = STEPS.iter().map(|(_, rate)| *rate).filter(|rate| *rate <= room).fold(0.0, f64::max);
    let rate = |layer: Option<LayerId>| {
        let Some(layer) = layer else { return 0.0 };
        let at = |temporal: u8| STEPS.iter().find(|(of, _)| *of == (layer.spatial, temporal));
        // A quarter of the frames have 3/8 of the bytes.
        at(layer.temporal.clamp(1, 2)).map_or(0.0, |(_, rate)| *rate)
            * if layer.temporal == 0 { 0.577 } else { 1.0 }
    };
    let within = || samples.iter().filter(|sample| span.has(sample.at));
    let used: f64 = within().map(|sample| rate(sample.current[0])).sum();
    used / within().count().max(1) as f64 / best * 100.0
}

/// When the sending rate was at most that of the link (kbit/s), over half a second from then on; since `from`.
pub fn below(samples: &[Sample], from: Duration, link: f64) -> Option<Duration> {
    let window = Duration::from_millis(500);
    let after = samples.iter().filter(|sample| sample.at >= from);
    after
        .clone()
        .find(|first| {
            let until = after.clone().find(|sample| sample.at >= first.at + window);
            until.is_some_and(|until| {
                let time = until.at.saturating_sub(first.at).as_secs_f64();
                let bytes = |size: DataSize| size.as_bytes() as f64;
                (bytes(until.sent) - bytes(first.sent)) * 8.0 / time <= link * 1000.0
            })
        })
        .map(|first| first.at.saturating_sub(from))
}

/// When the link's queue was empty for the first time after it had filled; since `from`.
pub fn empty(samples: &[Sample], from: Duration) -> Option<Duration> {
    let mut after = samples.iter().filter(|sample| sample.at > from);
    // A link that suddenly is slow has what is under way at once.
    after.find(|sample| sample.queue <= EMPTY).map(|sample| sample.at.saturating_sub(from))
}

/// Quality of speech, 1 to 4.5: the E-model (ITU-T G.107) with the packet loss robustness that is usual for Opus, for the
/// delay of path and buffer.
pub fn mos(played: &Played, path: Duration) -> f64 {
    const ROBUSTNESS: f64 = 20.0;
    let delay = (played.delay + path).as_secs_f64() * 1000.0;
    let loss = played.missed() * 100.0;
    let delayed = 0.024 * delay + if delay > 177.3 { 0.11 * (delay - 177.3) } else { 0.0 };
    let rating = (93.2 - delayed - 95.0 * loss / (loss + ROBUSTNESS)).clamp(0.0, 100.0);
    1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6
}

/// What every row tells of its first camera, for those figures that it promises nothing of.
pub fn usual(call: &mut Call, viewer: SubscriberId, span: Span, link: f64, path: Duration) -> Score {
    let queueing = call.queueing(viewer, span.from).as_secs_f64() * 1000.0;
    let seen = call.seen(viewer);
    let played = seen.played(span.from, span.to);
    let minutes = span.length().as_secs_f64() / 60.0;
    let first = seen.first_frame().map_or(f64::INFINITY, |first| first.as_secs_f64());
    Score::default()
        .note("first frame", Unit::Seconds, first)
        .note("utilisation", Unit::Percent, utilisation(call.samples(viewer), span, link))
        .note("switches", Unit::PerMinute, switches(&seen, span) as f64 / minutes)
        .note("frozen", Unit::Percent, frozen(&seen, span).share(span))
        .note("longest freeze", Unit::Ms, frozen(&seen, span).longest.as_secs_f64() * 1000.0)
        .note("queueing p95", Unit::Ms, queueing)
        .note("audio concealed", Unit::Percent, played.missed() * 100.0)
        .note("MOS", Unit::Rate, mos(&played, path))
}
