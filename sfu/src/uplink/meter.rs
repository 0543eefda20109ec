//! What an encoding costs and whether it flows: rate, temporal shares, frame rate, picture size.

use std::time::{Duration, Instant};

use crate::units::{Bitrate, DataSize, RtpTime};
use crate::wire::description::PacketDescription;

/// Rates are measured over this.
const WINDOW: Duration = Duration::from_millis(500);
/// Temporal layers told apart.
pub const MAX_TEMPORAL: usize = 4;
/// A price looks back over this many windows, so that quiet moments do not make a layer cheap.
const WINDOWS: usize = 6;
/// As many windows tell a stream from its opening keyframe.
const SETTLED: usize = 3;
/// A layer of at least [`LIVELY`] frames a second is stopped after three frame times, but not sooner…
const STOPPED_AFTER: Duration = Duration::from_millis(200);
/// …and any other after this.
const STILL_AFTER: Duration = Duration::from_secs(2);
const LIVELY: f64 = 10.0;
/// Fewer frames a second do not look like motion; a temporal layer that had enough may come down to the second.
const LEAST_FPS: (f64, f64) = (14.0, 12.0);

/// See the module's page.
#[derive(Debug)]
pub struct LayerMeter {
    window_start: Option<Instant>,
    bytes: [u64; MAX_TEMPORAL],
    history: [[u64; MAX_TEMPORAL]; WINDOWS], // bits/s, cumulative over temporal layers
    filled: usize,
    /// Prices before the layer stopped for long; zero until it has.
    former: [Bitrate; MAX_TEMPORAL],
    frames: u32,
    frame: Option<RtpTime>,
    fps: f64,
    highest_temporal: u8,
    least_temporal: Option<u8>,
    size: Option<(u16, u16)>,
    last: Option<Instant>,
    keyframes: bool,
}

impl Default for LayerMeter {
    fn default() -> Self {
        LayerMeter {
            window_start: None,
            bytes: [0; MAX_TEMPORAL],
            history: [[0; MAX_TEMPORAL]; WINDOWS],
            filled: 0,
            former: [Bitrate::ZERO; MAX_TEMPORAL],
            frames: 0,
            frame: None,
            fps: 0.0,
            highest_temporal: 0,
            least_temporal: None,
            size: None,
            last: None,
            keyframes: false,
        }
    }
}

impl LayerMeter {
    /// A media packet came; `size` as it will be on a subscriber's wire.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        size: DataSize,
        timestamp: RtpTime,
        description: &PacketDescription,
    ) {
        self.roll(now);
        self.last = Some(now);
        let temporal = usize::from(description.temporal).min(MAX_TEMPORAL - 1);
        self.bytes[temporal] += size.as_bytes();
        self.highest_temporal = self.highest_temporal.max(temporal as u8);
        if self.frame.is_none_or(|frame| frame != timestamp) {
            self.frame = Some(timestamp);
            self.frames += 1;
        }
        self.keyframes |= description.keyframe;
        if description.size.is_some() {
            self.size = description.size;
        }
    }

    /// A packet without media came: the encoder rests, but the layer lives.
    pub fn handle_padding(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// What it costs to forward temporal layers up to `temporal`; zero before the first half second.
    pub fn price(&self, temporal: u8) -> Bitrate {
        let temporal = usize::from(temporal).min(MAX_TEMPORAL - 1);
        let windows = &self.history[..self.filled.min(WINDOWS)];
        // The second highest: one window with a keyframe in it is no sign of what the layer costs.
        let (mut highest, mut second) = (0, 0);
        for rate in windows.iter().map(|w| w[temporal]) {
            if rate > highest {
                (highest, second) = (rate, highest);
            } else {
                second = second.max(rate);
            }
        }
        let mean = windows.iter().map(|w| w[temporal]).sum::<u64>() / windows.len().max(1) as u64;
        Bitrate::bps((second * 8 / 10).max(mean))
    }

    /// What it cost before it stopped for long and began anew; zero if it never did.
    pub fn former_price(&self, temporal: u8) -> Bitrate {
        self.former[usize::from(temporal).min(MAX_TEMPORAL - 1)]
    }

    /// Whether prices are those of the stream and not of its opening.
    pub fn settled(&self) -> bool {
        self.filled >= SETTLED
    }

    fn judge_motion(&mut self) {
        // Each layer doubles the rate of the ones below it, in every pattern that libwebrtc has.
        let fps = |temporal: u8| self.fps / 2_f64.powi(i32::from(self.highest_temporal - temporal));
        let (enough, still) = LEAST_FPS;
        let held = self.least_temporal();
        let least = |fewest: f64| {
            (0..self.highest_temporal).find(|at| fps(*at) >= fewest).unwrap_or(self.highest_temporal)
        };
        self.least_temporal = Some(held.clamp(least(still), least(enough)));
    }

    /// Frames a second, of all temporal layers.
    pub fn fps(&self) -> f64 {
        self.fps
    }

    /// The highest temporal layer seen.
    pub fn highest_temporal(&self) -> u8 {
        self.highest_temporal
    }

    /// The lowest temporal layer that still looks like motion; below it a smaller picture is better.
    pub fn least_temporal(&self) -> u8 {
        self.least_temporal.unwrap_or(self.highest_temporal).min(self.highest_temporal)
    }

    /// Picture size by the last keyframe that told.
    pub fn size(&self) -> Option<(u16, u16)> {
        self.size
    }

    /// Whether packets come as they should.
    pub fn alive(&self, now: Instant) -> bool {
        let Some(last) = self.last else { return false };
        let patience = if self.fps >= LIVELY {
            Duration::from_secs_f64(3.0 / self.fps).max(STOPPED_AFTER)
        } else {
            STILL_AFTER
        };
        now.saturating_duration_since(last) <= patience
    }

    fn roll(&mut self, now: Instant) {
        let start = *self.window_start.get_or_insert(now);
        let since = now.saturating_duration_since(start);
        if since < WINDOW {
            return;
        }
        let mut sum = 0;
        let mut cumulative = [0; MAX_TEMPORAL];
        for (bits, bytes) in cumulative.iter_mut().zip(self.bytes) {
            sum += bytes;
            *bits = Bitrate::of(DataSize::bytes(sum), since).as_bps();
        }
        // A layer that was stopped for long starts its history anew.
        if since > WINDOW * 4 {
            if self.settled() {
                self.former = std::array::from_fn(|temporal| self.price(temporal as u8));
            }
            self.filled = 0;
        } else {
            self.history[self.filled % WINDOWS] = cumulative;
            self.filled = if self.filled + 1 >= 2 * WINDOWS { WINDOWS } else { self.filled + 1 };
            let fps = f64::from(self.frames) / since.as_secs_f64();
            self.fps = if self.fps == 0.0 { fps } else { self.fps * 0.5 + fps * 0.5 };
        }
        self.bytes = [0; MAX_TEMPORAL];
        self.frames = 0;
        self.window_start = Some(now);
        self.judge_motion();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_frames_are_measured_by_temporal_layer_and_a_stop_is_noticed() {
        let start = crate::test_time();
        let mut meter = LayerMeter::default();
        let mut now = start;
        for n in 0..90_u32 {
            now = start + Duration::from_micros(33_333) * n;
            let temporal = (n % 2) as u8;
            let description = PacketDescription { temporal, frame_start: true, ..Default::default() };
            meter.handle_packet(now, DataSize::bytes(1000), RtpTime(n * 3000), &description);
        }
        let (half, full) = (meter.price(0).as_bps(), meter.price(1).as_bps());
        assert!((220_000..260_000).contains(&full), "{full}");
        assert!((105_000..135_000).contains(&half), "{half}");
        assert!((27.0..33.0).contains(&meter.fps()), "{}", meter.fps());
        assert!(meter.alive(now + Duration::from_millis(190)));
        assert!(!meter.alive(now + Duration::from_millis(300)));
    }

    #[test]
    fn a_rate_that_wavers_does_not_change_which_temporal_layers_look_like_motion() {
        let mut meter = LayerMeter { highest_temporal: 2, ..Default::default() };
        let mut after = |fps: f64| {
            meter.fps = fps;
            meter.judge_motion();
            meter.least_temporal()
        };
        assert_eq!([30.0, 28.5, 27.5, 24.5, 28.0].map(&mut after), [1; 5]);
        assert_eq!([23.0, 27.0, 28.5].map(&mut after), [2, 2, 1]);
        assert_eq!(after(60.0), 0);
    }

    #[test]
    fn a_layer_that_starts_again_costs_what_it_cost() {
        let start = crate::test_time();
        let mut meter = LayerMeter::default();
        let description = PacketDescription { frame_start: true, ..Default::default() };
        let mut run = |from: u32, to: u32, size: u64| {
            for n in from..to {
                let now = start + Duration::from_micros(33_333) * n;
                meter.handle_packet(now, DataSize::bytes(size), RtpTime(n * 3000), &description);
            }
            (meter.settled(), meter.price(0), meter.former_price(0))
        };
        let (settled, live, former) = run(0, 150, 4167);
        assert!(settled && former == Bitrate::ZERO);
        // Stopped for ten seconds, then the small pictures of an encoder that starts.
        let (settled, _, former) = run(450, 460, 500);
        assert!(!settled);
        assert_eq!(former, live);
        let (settled, price, _) = run(460, 600, 4167);
        assert!(settled && price.as_bps().abs_diff(live.as_bps()) < 100_000, "{price:?}, {live:?}");
    }

    #[test]
    fn a_keyframe_does_not_make_a_layer_dear() {
        let start = crate::test_time();
        let mut meter = LayerMeter::default();
        for n in 0..150_u32 {
            let now = start + Duration::from_micros(33_333) * n;
            // 1 Mbit/s, and one keyframe of 60 kB.
            let size = if n == 90 { 60_000 } else { 4_167 };
            let description = PacketDescription { frame_start: true, ..Default::default() };
            meter.handle_packet(now, DataSize::bytes(size), RtpTime(n * 3000), &description);
        }
        let price = meter.price(0).as_bps();
        assert!((950_000..1_250_000).contains(&price), "{price}");
    }
}
