//! When what came is played: a buffer that is as deep as the delays of late ask for.
//!
//! As libwebrtc has it (m14x), simplified. Video: the delay follows the 95th percentile of what frames lately needed, by
//! at most 100 ms a second, and falls slowly (`VCMTiming`). Audio: a frame that is not there when its turn comes is
//! concealed; if it comes after all, and no later one has, playout goes on with it and is late by as much from then on;
//! the excess is played a little faster (NetEq's expand, accelerate and preemptive expand).

use std::collections::VecDeque;
use std::time::Duration;

use super::AudioArrival;

/// Frames of video whose delays are remembered: ten seconds.
const RECENT: usize = 300;
/// The percentile is taken anew each time that so many came.
const RENEW: u32 = 10;
/// Share of time by which the delay may change: what eyes and ears do not notice.
const SLEW: f64 = 0.1;
/// The wanted delay of video falls by this a second.
const FALL: f64 = 0.01;
/// Length of an audio frame.
const FRAME: Duration = Duration::from_millis(20);
/// Least delay of audio, one frame that is being played and one behind it.
const LEAST_AUDIO: f64 = 0.04;
/// The longest delay of each half second is noted, and the past forgotten by this factor then (NetEq's
/// `resample_interval_ms` and `forget_factor`).
const INTERVAL: f64 = 0.5;
const FORGET: f64 = 0.983;
/// Resolution and extent of the histogram of audio delays.
const BIN: f64 = 0.02;
const BINS: usize = 100;

/// The buffer of one video stream.
#[derive(Debug, Default)]
pub(super) struct Playout {
    recent: VecDeque<f64>, // arrival minus media time, seconds
    count: u32,
    media: Option<(u32, f64)>, // the last frame's timestamp and time
    base: f64,                 // the least delay
    wanted: f64,               // on top of it
    delay: f64,                // on its way there
    last: f64,
}

impl Playout {
    /// When a frame is shown that could be decoded at `ready`, and how much later that is than at the fastest.
    pub(super) fn show(&mut self, ready: Duration, timestamp: u32) -> (Duration, Duration) {
        let ready = ready.as_secs_f64();
        let step = |last: u32| f64::from(timestamp.wrapping_sub(last) as i32) / 90_000.0;
        let (media, since) =
            self.media.map_or((ready, 0.0), |(last, time)| (time + step(last), step(last).max(0.0)));
        self.media = Some((timestamp, media));
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(ready - media);
        if self.count.is_multiple_of(RENEW) || ready - media < self.base {
            let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
            sorted.sort_by(f64::total_cmp);
            self.base = sorted[0];
            let high = sorted[sorted.len() * 95 / 100];
            self.wanted = (high - self.base).max(self.wanted);
        }
        self.count += 1;
        self.wanted *= 1.0 - (FALL * since).min(1.0);
        self.delay += (self.wanted - self.delay).clamp(-SLEW * since, SLEW * since);
        self.last = ready.max(media + self.base + self.delay).max(self.last);
        let delay = (self.last - media - self.base).max(0.0);
        (Duration::from_secs_f64(self.last), Duration::from_secs_f64(delay))
    }
}

/// How audio was played.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Played {
    /// Time that there was something to play.
    pub time: Duration,
    /// Of it, what was concealed.
    pub concealed: Duration,
    /// Longest time concealed in one go.
    pub longest: Duration,
    /// Mean depth of the buffer.
    pub delay: Duration,
}

impl Played {
    /// That of several streams together; the buffer's depth is left out.
    pub fn sum(all: impl Iterator<Item = Played>) -> Played {
        let add = |sum: Played, one: Played| Played {
            time: sum.time + one.time,
            concealed: sum.concealed + one.concealed,
            longest: sum.longest.max(one.longest),
            delay: Duration::ZERO,
        };
        all.fold(Played::default(), add)
    }

    /// Share of time that was concealed, 0 to 1.
    pub fn missed(&self) -> f64 {
        self.concealed.as_secs_f64() / self.time.as_secs_f64().max(0.02)
    }
}

/// Plays one stream. Counts what was sent from `from` to `to`, in the time of the arrivals; what never came in after the
/// last that did counts as concealed.
pub fn play(arrivals: &[AudioArrival], from: Duration, to: Duration) -> Played {
    let mut frames: Vec<&AudioArrival> = arrivals.iter().collect();
    frames.sort_by_key(|frame| frame.number);
    let delay_of = |frame: &AudioArrival| frame.at.as_secs_f64() - frame.media.as_secs_f64();
    let base = frames.iter().map(|frame| delay_of(frame)).fold(f64::INFINITY, f64::min);
    let mut histogram = [0.0; BINS];
    histogram[0] = 1.0;
    let mut played = Played::default();
    let (mut delay, mut delays, mut run) = (LEAST_AUDIO, 0.0, 0.0);
    let (mut most, mut noted, mut wanted): (f64, f64, f64) = (0.0, 0.0, LEAST_AUDIO);
    for (index, frame) in frames.iter().enumerate() {
        let media = frame.media.as_secs_f64();
        let own = delay_of(frame) - base;
        let before = index.checked_sub(1).map(|before| frames[before]);
        let skipped = before.map_or(0, |before| frame.number.distance(before.number).max(1) as u32 - 1);
        let gap = before.map_or(0.0, |before| media - before.media.as_secs_f64());
        // A later frame has come before this one's turn: it takes its place.
        let overtaken = frames.get(index + 1).is_some_and(|next| next.at < frame.at);
        let late = (own - delay).max(0.0);
        let missing = if late > 0.0 && overtaken { FRAME.as_secs_f64() } else { late };
        // After silence (DTX) nobody knows when the next frame should have come.
        let missing = if skipped == 0 && gap > 1.5 * FRAME.as_secs_f64() { 0.0 } else { missing };
        let lost = f64::from(skipped) * FRAME.as_secs_f64();
        let sent = base + media;
        if sent >= from.as_secs_f64() && sent < to.as_secs_f64() {
            played.time += FRAME + Duration::from_secs_f64(lost);
            let concealed = missing + lost;
            played.concealed += Duration::from_secs_f64(concealed);
            run = if concealed > 0.0 { run + concealed } else { 0.0 };
            played.longest = played.longest.max(Duration::from_secs_f64(run));
            delays += delay * FRAME.as_secs_f64();
        }
        if late > 0.0 && !overtaken {
            delay = own;
        }
        most = most.max(own);
        if media - noted >= INTERVAL {
            wanted = note(&mut histogram, most).max(LEAST_AUDIO);
            (most, noted) = (0.0, media);
        }
        let step = SLEW * FRAME.as_secs_f64();
        delay += (wanted - delay).clamp(-step, step);
    }
    if let Some(last) = frames.last() {
        let silent = to.as_secs_f64() - (base + last.media.as_secs_f64()).max(from.as_secs_f64()) - 0.5;
        if silent > 0.0 {
            let silent = Duration::from_secs_f64(silent);
            played.time += silent;
            played.concealed += silent;
            played.longest = played.longest.max(silent);
        }
    }
    played.delay = Duration::from_secs_f64(delays / played.time.as_secs_f64().max(0.02));
    played
}

/// Takes one delay into the histogram; its 95th percentile.
fn note(histogram: &mut [f64; BINS], delay: f64) -> f64 {
    for bin in histogram.iter_mut() {
        *bin *= FORGET;
    }
    histogram[((delay / BIN) as usize).min(BINS - 1)] += 1.0 - FORGET;
    let mut sum = 0.0;
    let high = histogram.iter().position(|bin| {
        sum += bin;
        sum >= 0.95
    });
    high.map_or(BINS, |bin| bin + 1) as f64 * BIN
}

#[cfg(test)]
mod tests {
    use sfu::ids::SeqNo;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Frames of 20 ms that need 30 ms and these times more; `None` never come.
    fn arrivals(more: impl Iterator<Item = Option<u64>>) -> Vec<AudioArrival> {
        let frames = more.enumerate().filter_map(|(index, more)| {
            let media = FRAME * index as u32;
            Some(AudioArrival {
                at: media + ms(30 + more?),
                number: SeqNo::first(7).plus(index as u64),
                media,
            })
        });
        frames.collect()
    }

    #[test]
    fn audio_in_time_is_played_and_what_is_lost_is_concealed() {
        let all = arrivals((0..1000).map(|_| Some(0)));
        assert_eq!(play(&all, Duration::ZERO, ms(20_000)).concealed, Duration::ZERO);
        let most = arrivals((0..1000).map(|index| (index % 10 != 5).then_some(0)));
        let missed = play(&most, Duration::ZERO, ms(20_000)).missed();
        assert!((missed - 0.1).abs() < 0.002, "{missed}");
    }

    #[test]
    fn a_delay_that_grows_is_concealed_once_and_then_awaited() {
        let all = arrivals((0..1000).map(|index| Some(if index < 500 { 0 } else { 200 })));
        let played = play(&all, Duration::ZERO, ms(20_000));
        // Until the growth is known it is tried a few times to get away with less.
        assert!((ms(140)..ms(400)).contains(&played.concealed), "{played:?}");
        // Every tenth frame is late by 100 ms: the first ones are missed.
        let all = arrivals((0..1000).map(|index| Some(if index % 10 == 9 { 100 } else { 0 })));
        let played = play(&all, Duration::ZERO, ms(20_000));
        assert!(played.missed() < 0.03 && played.delay > ms(80), "{played:?}");
    }

    #[test]
    fn video_is_shown_when_it_can_be_at_first_and_evenly_later() {
        let mut playout = Playout::default();
        let mut last = Duration::ZERO;
        for frame in 0..900 {
            // Every fifth frame needs 60 ms more.
            let late = if frame % 5 == 0 { 60 } else { 0 };
            let ready = ms(frame * 1000 / 30 + late);
            let (shown, _) = playout.show(ready, (frame * 3000) as u32);
            assert!(shown >= ready, "frame {frame}");
            let gap = shown.saturating_sub(last);
            assert!(frame < 100 || (ms(28)..ms(40)).contains(&gap), "frame {frame}: {gap:?}");
            last = shown;
        }
    }
}
