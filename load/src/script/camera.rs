//! A camera with one encoding or several: frames in VP8 descriptors, keyframes when they are asked for, packets
//! spread within a frame's time as a client's pacer spreads them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Packet;
use crate::stamp::Stamp;
use crate::vp8::Descriptor;

/// Bytes of a packet's payload at most: with headers and the tag it fits everywhere.
const MAX_PAYLOAD: usize = 1100;
/// Of the frame before a keyframe; encoders in calls are told not to send more than that.
const KEYFRAME_FACTOR: f64 = 3.0;
/// Frames differ from their average by this share of it, either way.
const NOISE: f64 = 0.2;
/// A frame's packets leave within this share of the time between frames: clients pace at 2.5 times their rate.
const SPREAD: f64 = 0.4;
/// At 90 kHz.
const CLOCK: u32 = 90_000;

/// One encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Layer {
    /// Its name in simulcast.
    pub(crate) rid: Option<&'static str>,
    /// Width and height.
    pub(crate) size: (u16, u16),
    /// Bits per second.
    pub(crate) rate: u64,
    /// 1, or 3 in the order 0 2 1 2 that browsers use in simulcast.
    pub(crate) temporal_layers: u8,
}

/// Temporal layer of each frame, and whether it refers to the base layer only.
const PATTERN: [(u8, bool); 4] = [(0, false), (2, true), (1, true), (2, false)];

struct Encoding {
    layer: Layer,
    active: bool,
    wants_keyframe: bool,
    /// Since the last keyframe.
    frame: usize,
    picture_id: u16,
    tl0: u8,
}

pub(crate) struct Camera {
    encodings: Vec<Encoding>,
    interval: Duration,
    ticks: u32,
    frame_due: Instant,
    timestamp: u32,
    /// Packets of frames that have begun, by the time when they are due.
    queue: VecDeque<(Instant, Packet)>,
    random: fastrand::Rng,
}

impl Camera {
    /// On from `now` on, with keyframes first. `layers` has the smallest picture first.
    pub(crate) fn new(now: Instant, layers: &[Layer], fps: u32, seed: u64) -> Camera {
        let mut random = fastrand::Rng::with_seed(seed);
        let encodings = layers.iter().map(|layer| Encoding {
            layer: *layer,
            active: true,
            wants_keyframe: true,
            frame: 0,
            picture_id: random.u16(..) & 0x7FFF,
            tl0: random.u8(..),
        });
        let encodings = encodings.collect();
        let interval = Duration::from_secs(1) / fps;
        Camera {
            encodings,
            interval,
            ticks: CLOCK / fps,
            // Cameras of one room are not in step.
            frame_due: now + interval.mul_f64(random.f64()),
            timestamp: random.u32(..),
            queue: VecDeque::new(),
            random,
        }
    }

    /// The next frame of that encoding is a keyframe.
    pub(crate) fn request_keyframe(&mut self, layer: usize) {
        if let Some(encoding) = self.encodings.get_mut(layer) {
            encoding.wants_keyframe = true;
        }
    }

    /// Stops an encoding that nobody watches, or starts it again, with a keyframe.
    pub(crate) fn set_active(&mut self, layer: usize, active: bool) {
        if let Some(encoding) = self.encodings.get_mut(layer) {
            encoding.wants_keyframe |= active && !encoding.active;
            encoding.active = active;
        }
    }

    pub(crate) fn next_timeout(&self) -> Instant {
        self.queue.front().map_or(self.frame_due, |(due, _)| (*due).min(self.frame_due))
    }

    /// The next packet, if one is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Packet> {
        while self.frame_due <= now {
            self.take_picture();
        }
        let (due, _) = self.queue.front()?;
        if *due > now {
            return None;
        }
        self.queue.pop_front().map(|(_, packet)| packet)
    }

    fn take_picture(&mut self) {
        let spread = self.interval.mul_f64(SPREAD);
        for layer in 0..self.encodings.len() {
            let noise = 1.0 + NOISE * (2.0 * self.random.f64() - 1.0);
            let encoding = &mut self.encodings[layer];
            if !encoding.active {
                continue;
            }
            let payloads = encoding.encode(self.interval, noise);
            let count = payloads.len();
            for (index, payload) in payloads.into_iter().enumerate() {
                let due = self.frame_due + spread.mul_f64(index as f64 / count as f64);
                let marker = index + 1 == count;
                self.queue.push_back((due, Packet { layer, timestamp: self.timestamp, marker, payload }));
            }
        }
        self.queue.make_contiguous().sort_by_key(|(due, _)| *due); // keeps the order of an encoding's packets
        self.frame_due += self.interval;
        self.timestamp = self.timestamp.wrapping_add(self.ticks);
    }
}

impl Encoding {
    /// The payloads of its next frame.
    fn encode(&mut self, interval: Duration, noise: f64) -> Vec<Vec<u8>> {
        let keyframe = std::mem::take(&mut self.wants_keyframe);
        self.frame = if keyframe { 0 } else { self.frame + 1 };
        let (temporal, sync) = match self.layer.temporal_layers {
            1 => (0, false),
            _ => PATTERN[self.frame % PATTERN.len()],
        };
        self.picture_id = (self.picture_id + 1) & 0x7FFF;
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let factor = if keyframe { KEYFRAME_FACTOR } else { noise };
        let bytes = self.layer.rate as f64 * interval.as_secs_f64() / 8.0 * factor;
        let count = (bytes / MAX_PAYLOAD as f64).ceil().max(1.0);
        let size = ((bytes / count) as usize).clamp(2 * Stamp::LEN, MAX_PAYLOAD);
        let has_temporal = self.layer.temporal_layers > 1;
        let payload = |index: usize| {
            let descriptor = Descriptor {
                start: index == 0,
                picture_id: Some(self.picture_id),
                tl0: has_temporal.then_some(self.tl0),
                temporal: has_temporal.then_some((temporal, sync)),
                keyframe: keyframe && index == 0,
            };
            let mut payload = Vec::with_capacity(size);
            descriptor.write(self.layer.size, &mut payload);
            payload.resize(size.max(payload.len() + Stamp::LEN), 0);
            payload
        };
        (0..count as usize).map(payload).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [Layer; 2] = [
        Layer { rid: Some("q"), size: (320, 180), rate: 160_000, temporal_layers: 3 },
        Layer { rid: Some("f"), size: (1280, 720), rate: 1_700_000, temporal_layers: 3 },
    ];

    /// What is due in each of `milliseconds` from `from` on.
    fn film(camera: &mut Camera, start: Instant, milliseconds: std::ops::Range<u64>) -> Vec<Packet> {
        let mut packets = Vec::new();
        for millisecond in milliseconds {
            while let Some(packet) = camera.poll(start + Duration::from_millis(millisecond)) {
                packets.push(packet);
            }
        }
        packets
    }

    fn frames(packets: &[Packet], layer: usize) -> Vec<Descriptor> {
        let own = packets.iter().filter(|packet| packet.layer == layer);
        let read = own.map(|packet| Descriptor::read(&packet.payload).expect("VP8"));
        read.filter(|descriptor| descriptor.start).collect()
    }

    #[test]
    fn rates_are_kept_and_packets_fit() {
        for seed in 0..5 {
            let start = Instant::now();
            let mut camera = Camera::new(start, &LAYERS, 30, seed);
            let packets = film(&mut camera, start, 0..10_000);
            for (index, layer) in LAYERS.iter().enumerate() {
                let own = packets.iter().filter(|packet| packet.layer == index);
                let bits: u64 = own.map(|packet| packet.payload.len() as u64 * 8).sum();
                let rate = bits as f64 / 10.0;
                let wanted = layer.rate as f64;
                assert!((rate / wanted - 1.0).abs() < 0.05, "seed {seed}: {rate} of {wanted}");
            }
            assert!(packets.iter().all(|packet| packet.payload.len() <= MAX_PAYLOAD));
            let ends = packets.iter().filter(|packet| packet.layer == 1 && packet.marker).count();
            assert!((299..=300).contains(&ends), "seed {seed}: {ends} frames");
        }
    }

    #[test]
    fn begins_with_a_keyframe_and_sends_others_on_request_only() {
        let start = Instant::now();
        let mut camera = Camera::new(start, &LAYERS, 30, 1);
        let before = film(&mut camera, start, 0..2_000);
        for layer in 0..2 {
            let frames = frames(&before, layer);
            assert!(frames[0].keyframe && frames[1..].iter().all(|frame| !frame.keyframe), "layer {layer}");
        }
        camera.request_keyframe(1);
        let after = film(&mut camera, start, 2_000..3_000);
        assert!(frames(&after, 0).iter().all(|frame| !frame.keyframe));
        assert_eq!(frames(&after, 1).iter().filter(|frame| frame.keyframe).count(), 1);
        assert!(frames(&after, 1)[..2].iter().any(|frame| frame.keyframe), "the very next frame");
    }

    #[test]
    fn pictures_are_numbered_without_gaps_and_layers_follow_the_pattern() {
        let start = Instant::now();
        let mut camera = Camera::new(start, &LAYERS, 30, 3);
        let packets = film(&mut camera, start, 0..2_000);
        let frames = frames(&packets, 1);
        for (index, pair) in frames.windows(2).enumerate() {
            let step = pair[1].picture_id.unwrap().wrapping_sub(pair[0].picture_id.unwrap()) & 0x7FFF;
            assert_eq!(step, 1);
            let base = u8::from(pair[1].temporal.unwrap().0 == 0);
            assert_eq!(pair[1].tl0.unwrap().wrapping_sub(pair[0].tl0.unwrap()), base);
            assert_eq!(pair[0].temporal, Some(PATTERN[index % 4]));
        }
    }

    #[test]
    fn an_encoding_that_is_off_sends_nothing_and_comes_back_with_a_keyframe() {
        let start = Instant::now();
        let mut camera = Camera::new(start, &LAYERS, 30, 4);
        film(&mut camera, start, 0..1_000);
        camera.set_active(1, false);
        film(&mut camera, start, 1_000..1_050); // what was already queued
        let off = film(&mut camera, start, 1_050..2_000);
        assert!(off.iter().all(|packet| packet.layer == 0) && !off.is_empty());
        camera.set_active(1, true);
        let on = film(&mut camera, start, 2_000..3_000);
        assert!(frames(&on, 1)[0].keyframe);
        assert!(frames(&on, 0).iter().all(|frame| !frame.keyframe));
    }

    #[test]
    fn packets_of_a_frame_are_spread_and_done_before_the_next() {
        let start = Instant::now();
        let mut camera = Camera::new(start, &LAYERS[1..], 30, 5);
        let mut times: Vec<(u32, Instant)> = Vec::new();
        for tenth in 0..10_000 {
            let now = start + Duration::from_micros(tenth * 100);
            while let Some(packet) = camera.poll(now) {
                times.push((packet.timestamp, now));
            }
        }
        for pair in times.windows(2) {
            assert!(pair[0].1 <= pair[1].1);
        }
        let second = times.iter().position(|(timestamp, _)| *timestamp != times[0].0).unwrap();
        let took = times[second - 1].1 - times[0].1;
        assert!(took > Duration::from_millis(8) && took < Duration::from_millis(14), "{took:?}");
    }
}
