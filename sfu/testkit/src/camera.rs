//! Scripted senders: a simulcast VP8 camera, and a microphone.
//!
//! The payloads are noise behind valid descriptors; sizes, timing and numbers are those of a real encoder.
//! Always: layers have the same frame times; each layer has its own sequence numbers, timestamp offset and
//! picture ids; a keyframe comes 60 to 200 ms after it is asked for, and asks in between change nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sfu::ids::{Mid, Rid, Ssrc};
use sfu::units::{Bitrate, DataSize, RtpTime};

use crate::rtp::{ExtensionIds, RtpPacket, Vp8, red};

/// Payload bytes of a packet at most, descriptor included.
const MAX_PAYLOAD: usize = 1130;
/// A keyframe is this much larger than the mean frame of its layer.
const KEYFRAME_WEIGHT: f64 = 6.0;
/// Standard deviation of the logarithm of frame sizes.
const SIZE_SIGMA: f64 = 0.3;
/// Pacing of a camera that takes care of shallow buffers.
pub const PACING: f64 = 2.5;
/// Packets kept for retransmission per layer.
const HISTORY: usize = 1024;

/// One simulcast encoding.
#[derive(Clone, Debug)]
pub struct CameraLayer {
    /// Its name; `None` for a stream that is told by SSRC alone.
    pub rid: Option<Rid>,
    /// Its stream.
    pub ssrc: Ssrc,
    /// Stream of its retransmissions.
    pub rtx: Option<Ssrc>,
    /// Picture size in pixels.
    pub size: (u16, u16),
    /// Mean rate of payload.
    pub rate: Bitrate,
}

/// What a camera sends.
#[derive(Clone, Debug)]
pub struct CameraConfig {
    /// Smallest first.
    pub layers: Vec<CameraLayer>,
    /// Media section.
    pub mid: Option<Mid>,
    /// Payload type of VP8…
    pub payload_type: u8,
    /// …and of its RTX.
    pub rtx_payload_type: u8,
    /// Frames per second.
    pub fps: u32,
    /// Temporal layers, 1 to 3.
    pub temporal_layers: u8,
    /// Rate at which a frame's packets leave, as a multiple of the layer's; `None`: all at once, as browsers send.
    pub pacing: Option<f64>,
    /// Ids of header extensions.
    pub extensions: ExtensionIds,
}

impl CameraConfig {
    /// LiveKit's three 720p encodings `q`, `h` and `f` at 160, 450 and 1700 kbit/s, three temporal layers,
    /// 30 fps, payload type 96 and RTX 97. SSRCs count from `ssrc`, media and RTX in turn.
    pub fn simulcast(ssrc: u32, mid: &str, extensions: ExtensionIds) -> CameraConfig {
        let layer = |index: u32, rid: &str, size, kbps| CameraLayer {
            rid: Rid::parse(rid),
            ssrc: Ssrc(ssrc + 2 * index),
            rtx: Some(Ssrc(ssrc + 2 * index + 1)),
            size,
            rate: Bitrate::kbps(kbps),
        };
        CameraConfig {
            layers: vec![
                layer(0, "q", (320, 180), 160),
                layer(1, "h", (640, 360), 450),
                layer(2, "f", (1280, 720), 1700),
            ],
            mid: Mid::parse(mid),
            payload_type: 96,
            rtx_payload_type: 97,
            fps: 30,
            temporal_layers: 3,
            pacing: Some(PACING),
            extensions,
        }
    }

    /// One encoding of 320x180 at 250 kbit/s and 30 fps without temporal layers, told by its SSRC.
    pub fn small(ssrc: u32, mid: &str, extensions: ExtensionIds) -> CameraConfig {
        let mut config = CameraConfig::simulcast(ssrc, mid, extensions);
        config.layers.truncate(1);
        config.layers[0].rid = None;
        config.layers[0].rate = Bitrate::kbps(250);
        CameraConfig { temporal_layers: 1, ..config }
    }
}

#[derive(Debug)]
struct Encoder {
    layer: CameraLayer,
    active: bool,
    sequence: u16,
    rtx_sequence: u16,
    timestamp_offset: u32,
    picture_id: u16,
    tl0_pic_idx: u8,
    position: usize, // in the temporal pattern
    keyframe_at: Option<Instant>,
    history: VecDeque<RtpPacket>,
    free_at: Option<Instant>,
}

/// A camera with one encoder per layer.
#[derive(Debug)]
pub struct Camera {
    config: CameraConfig,
    rng: fastrand::Rng,
    start: Instant,
    frame: u64,
    encoders: Vec<Encoder>,
    outbox: Vec<(Instant, RtpPacket)>, // sorted by time
    keyframes: u64,
    muted: bool,
}

impl Camera {
    /// A camera whose first frame, a keyframe of every layer, is due at `start`.
    pub fn new(start: Instant, config: CameraConfig, seed: u64) -> Camera {
        let mut rng = fastrand::Rng::with_seed(seed);
        let encoders = config.layers.iter().map(|layer| Encoder {
            layer: layer.clone(),
            active: true,
            sequence: rng.u16(..),
            rtx_sequence: rng.u16(..),
            timestamp_offset: rng.u32(..),
            picture_id: rng.u16(..0x8000),
            tl0_pic_idx: rng.u8(..),
            position: 0,
            keyframe_at: Some(start),
            history: VecDeque::new(),
            free_at: None,
        });
        let encoders = encoders.collect();
        Camera { config, rng, start, frame: 0, encoders, outbox: Vec::new(), keyframes: 0, muted: false }
    }

    /// What it sends.
    pub fn config(&self) -> &CameraConfig {
        &self.config
    }

    /// A PLI or FIR for one of its streams arrived.
    pub fn request_keyframe(&mut self, now: Instant, ssrc: Ssrc) {
        let lag = Duration::from_millis(self.rng.u64(60..=200));
        if let Some(encoder) = self.encoders.iter_mut().find(|encoder| encoder.layer.ssrc == ssrc) {
            encoder.keyframe_at.get_or_insert(now + lag);
        }
    }

    /// Starts or stops one layer, as dynacast does. A layer that starts begins with a keyframe.
    pub fn set_active(&mut self, now: Instant, rid: Rid, active: bool) {
        let lag = Duration::from_millis(self.rng.u64(200..=500));
        let named = self.encoders.iter_mut().find(|encoder| encoder.layer.rid == Some(rid));
        if let Some(encoder) = named
            && encoder.active != active
        {
            encoder.active = active;
            encoder.keyframe_at = active.then_some(now + lag);
            encoder.position = usize::MAX; // nothing before that keyframe
        }
    }

    /// Stops capture, and starts it again with a keyframe of each active layer. No number is used up meanwhile.
    pub fn set_muted(&mut self, now: Instant, muted: bool) {
        self.muted = muted;
        for encoder in self.encoders.iter_mut().filter(|encoder| encoder.active) {
            encoder.keyframe_at = Some(now);
        }
    }

    /// A NACK for one packet: the retransmission, on the RTX stream if there is one (RFC 4588 §4).
    pub fn retransmit(&mut self, ssrc: Ssrc, sequence: u16) -> Option<RtpPacket> {
        let encoder = self.encoders.iter_mut().find(|encoder| encoder.layer.ssrc == ssrc)?;
        let mut packet = encoder.history.iter().rev().find(|packet| packet.sequence == sequence)?.clone();
        if let Some(rtx) = encoder.layer.rtx {
            packet.payload.splice(0..0, sequence.to_be_bytes());
            packet.ssrc = rtx;
            packet.payload_type = self.config.rtx_payload_type;
            packet.sequence = encoder.rtx_sequence;
            packet.repaired_rid = packet.rid.take();
            encoder.rtx_sequence = encoder.rtx_sequence.wrapping_add(1);
        }
        Some(packet)
    }

    /// The media time of `now` on a layer's clock, for a sender report.
    pub fn media_time(&self, now: Instant, ssrc: Ssrc) -> Option<RtpTime> {
        let encoder = self.encoders.iter().find(|encoder| encoder.layer.ssrc == ssrc)?;
        // The first frame has the time of one frame, not of none.
        let since = now.saturating_duration_since(self.start) + Duration::from_secs(1) / self.config.fps;
        let ticks = (since.as_micros() * 9 / 100) as u32;
        Some(RtpTime(encoder.timestamp_offset.wrapping_add(ticks)))
    }

    /// Keyframes sent so far, all layers.
    pub fn keyframes(&self) -> u64 {
        self.keyframes
    }

    /// When the next packet is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let packet = self.outbox.first().map(|(at, _)| *at);
        Some(packet.map_or(self.frame_at(), |at| at.min(self.frame_at())))
    }

    /// The next packet due by `now`. Its transport-wide number is the caller's to set.
    pub fn poll(&mut self, now: Instant) -> Option<RtpPacket> {
        while self.frame_at() <= now {
            self.encode();
        }
        if self.outbox.first().is_none_or(|(at, _)| *at > now) {
            return None;
        }
        Some(self.outbox.remove(0).1)
    }

    fn frame_at(&self) -> Instant {
        self.start + Duration::from_secs(1) * self.frame as u32 / self.config.fps
    }

    fn encode(&mut self) {
        let at = self.frame_at();
        self.frame += 1;
        let timestamp = (self.frame * 90_000 / u64::from(self.config.fps)) as u32;
        for index in 0..self.encoders.len() {
            if self.encoders[index].active && !self.muted {
                self.encode_layer(at, timestamp, index);
            }
        }
        self.outbox.sort_by_key(|(at, _)| *at); // stable: packets of one layer keep their order
    }

    fn encode_layer(&mut self, at: Instant, timestamp: u32, index: usize) {
        // Temporal layer, size relative to the mean, refers to the base alone (RFC 7741 §4.2, Y).
        let pattern: &[(u8, f64, bool)] = match self.config.temporal_layers {
            0 | 1 => &[(0, 1.0, false)],
            2 => &[(0, 1.2, false), (1, 0.8, true)],
            _ => &[(0, 1.5, false), (2, 0.7, true), (1, 1.1, true), (2, 0.7, false)],
        };
        let encoder = &mut self.encoders[index];
        let keyframe = encoder.keyframe_at.is_some_and(|due| due <= at);
        if keyframe {
            encoder.keyframe_at = None;
            encoder.position = 0;
            self.keyframes += 1;
        } else if encoder.position == usize::MAX {
            return;
        }
        let (temporal, weight, sync) = pattern[encoder.position % pattern.len()];
        encoder.position += 1;
        encoder.picture_id = (encoder.picture_id + 1) & 0x7fff;
        if temporal == 0 {
            encoder.tl0_pic_idx = encoder.tl0_pic_idx.wrapping_add(1);
        }
        let weight = if keyframe { KEYFRAME_WEIGHT } else { weight };
        let mean = encoder.layer.rate.as_bps() as f64 / 8.0 / f64::from(self.config.fps);
        let size = (mean * weight * (SIZE_SIGMA * normal(&mut self.rng)).exp()) as usize;
        let count = size.div_ceil(MAX_PAYLOAD).max(1);
        let packet = DataSize::bytes(MAX_PAYLOAD as u64);
        let spacing = self.config.pacing.and_then(|pace| encoder.layer.rate.scale(pace).time_for(packet));
        let mut due = encoder.free_at.map_or(at, |free| free.max(at));
        for part in 0..count {
            let vp8 = Vp8 {
                start: part == 0,
                disposable: temporal > 0 && temporal + 1 == self.config.temporal_layers,
                picture_id: encoder.picture_id,
                tl0_pic_idx: encoder.tl0_pic_idx,
                temporal,
                sync,
                keyframe: (keyframe && part == 0).then_some(encoder.layer.size),
            };
            let mut payload = vp8.write();
            let len = (size / count + usize::from(part < size % count)).max(payload.len() + 1);
            payload.resize(len, part as u8);
            let mut packet = RtpPacket::new(
                encoder.layer.ssrc,
                self.config.payload_type,
                encoder.sequence,
                timestamp.wrapping_add(encoder.timestamp_offset),
                payload,
            );
            packet.marker = part + 1 == count;
            packet.mid = self.config.mid;
            packet.rid = encoder.layer.rid;
            encoder.sequence = encoder.sequence.wrapping_add(1);
            if encoder.history.len() == HISTORY {
                encoder.history.pop_front();
            }
            encoder.history.push_back(packet.clone());
            self.outbox.push((due, packet));
            due += spacing.unwrap_or(Duration::ZERO);
        }
        encoder.free_at = Some(due);
    }
}

/// A microphone that sends Opus-like packets of 20 ms.
#[derive(Debug)]
pub struct Microphone {
    ssrc: Ssrc,
    mid: Option<Mid>,
    payload_type: u8,
    rng: fastrand::Rng,
    start: Instant,
    sent: u64,
    sequence: u16,
    speaking: bool,
    discontinuous: bool,
    muted: bool,
    redundant: Option<u8>,
    /// The last packet's time and payload.
    last: Option<(u32, Vec<u8>)>,
}

impl Microphone {
    /// A silent microphone whose first packet is due at `start`.
    pub fn new(start: Instant, ssrc: Ssrc, mid: &str, payload_type: u8, seed: u64) -> Microphone {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sequence = rng.u16(..);
        Microphone {
            ssrc,
            mid: Mid::parse(mid),
            payload_type,
            rng,
            start,
            sent: 0,
            sequence,
            speaking: false,
            discontinuous: false,
            muted: false,
            redundant: None,
            last: None,
        }
    }

    /// Somebody begins or ends to speak: level about -25 or -90 dBov.
    pub fn set_speaking(&mut self, speaking: bool) {
        self.speaking = speaking;
    }

    /// While it is silent only every 20th packet is sent, as Opus does on request (DTX).
    pub fn set_discontinuous(&mut self, discontinuous: bool) {
        self.discontinuous = discontinuous;
    }

    /// Sends each packet again in the next one, under this payload type (RFC 2198).
    pub fn set_redundant(&mut self, payload_type: Option<u8>) {
        self.redundant = payload_type;
        self.last = None;
    }

    /// Sends nothing while it is muted; its clock runs on.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// The media time of `now`, for a sender report.
    pub fn media_time(&self, now: Instant) -> RtpTime {
        RtpTime((now.saturating_duration_since(self.start).as_micros() * 48 / 1000) as u32)
    }

    /// Its stream.
    pub fn ssrc(&self) -> Ssrc {
        self.ssrc
    }

    /// When the next packet is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        Some(self.start + Duration::from_millis(20) * self.sent as u32)
    }

    /// Whether there is no packet at its next time.
    fn rests(&self) -> bool {
        self.muted || (self.discontinuous && !self.speaking && !self.sent.is_multiple_of(20))
    }

    /// The next packet due by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<RtpPacket> {
        while self.rests() && self.next_timeout().is_some_and(|at| at <= now) {
            self.sent += 1;
        }
        self.next_timeout().filter(|&at| at <= now)?;
        let len = self.rng.usize(if self.speaking { 50..=90 } else { 20..=40 });
        let timestamp = (self.sent * 960) as u32;
        let mut payload = vec![0; len];
        payload[0] = 0x78; // one CELT frame of 20 ms (RFC 6716 §3.1)
        let mut packet = RtpPacket::new(self.ssrc, self.payload_type, self.sequence, timestamp, payload);
        if let Some(payload_type) = self.redundant {
            let payload = std::mem::take(&mut packet.payload);
            let last = self.last.replace((timestamp, payload.clone()));
            let last = last.map(|(time, last)| (timestamp.wrapping_sub(time) as u16, last));
            packet.payload_type = payload_type;
            packet.payload = red::write(self.payload_type, last, &payload);
        }
        let level = if self.speaking { self.rng.u8(20..=32) } else { self.rng.u8(80..=100) };
        packet.audio_level = Some((self.speaking, level));
        packet.mid = self.mid;
        packet.marker = self.sent == 0;
        self.sequence = self.sequence.wrapping_add(1);
        self.sent += 1;
        Some(packet)
    }
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_their_rates_and_a_keyframe_comes_when_asked() {
        let start = crate::clock::start();
        let mut camera = Camera::new(start, CameraConfig::simulcast(100, "v", ExtensionIds::default()), 1);
        let mut bytes = [0_usize; 3];
        let mut keyframe = None;
        while let Some(now) = camera.next_timeout().filter(|&at| at < start + Duration::from_secs(20)) {
            if now == start + Duration::from_secs(10) {
                camera.request_keyframe(now, Ssrc(104));
            }
            while let Some(packet) = camera.poll(now) {
                bytes[(packet.ssrc.0 as usize - 100) / 2] += packet.payload.len();
                assert!(packet.payload.len() <= MAX_PAYLOAD);
                let vp8 = Vp8::read(&packet.payload).expect("VP8");
                if vp8.keyframe == Some((1280, 720)) && now > start + Duration::from_secs(1) {
                    keyframe.get_or_insert(now - start);
                }
            }
        }
        for (sent, kbps) in bytes.into_iter().zip([160.0, 450.0, 1700.0]) {
            let rate = sent as f64 * 8.0 / 20_000.0;
            assert!((rate / kbps - 1.0).abs() < 0.15, "{rate} of {kbps}");
        }
        let keyframe = keyframe.expect("asked for").as_millis();
        assert!((10_060..10_240).contains(&keyframe), "{keyframe}");
        assert_eq!(camera.keyframes(), 4);
    }

    #[test]
    fn a_stopped_layer_is_silent_and_starts_with_a_keyframe() {
        let start = crate::clock::start();
        let mut camera = Camera::new(start, CameraConfig::simulcast(100, "v", ExtensionIds::default()), 1);
        let rid = Rid::parse("f").expect("a rid");
        let mut first = None;
        while let Some(now) = camera.next_timeout().filter(|&at| at < start + Duration::from_secs(6)) {
            let time = now - start;
            if time == Duration::from_secs(2) || time == Duration::from_secs(4) {
                camera.set_active(now, rid, time == Duration::from_secs(4));
            }
            while let Some(packet) = camera.poll(now) {
                let stopped = time > Duration::from_millis(2200) && time < Duration::from_secs(4);
                assert!(!(stopped && packet.rid == Some(rid)), "at {time:?}");
                if packet.rid == Some(rid) && time >= Duration::from_secs(4) {
                    first.get_or_insert_with(|| Vp8::read(&packet.payload).expect("VP8"));
                }
            }
        }
        assert!(first.expect("it starts again").keyframe.is_some());
    }
}
