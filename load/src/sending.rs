//! What one participant sends: the scripts' packets, numbered, stamped and given to the connection.

use std::time::Instant;

use str0m::media::{Mid, Pt, Rid};
use str0m::rtp::{ExtensionValues, RtpWrite};
use str0m::{Event, RtcError};

use crate::connection::Connection;
use crate::receive::Kind;
use crate::script::Packet;
use crate::script::camera::{Camera, Layer};
use crate::script::microphone::Microphone;
use crate::settings::FPS;
use crate::stamp::{Stamp, WallNanos};

/// Of speech, in dBov (RFC 6464 §3).
const LOUDNESS: i8 = -30;
/// First sequence numbers lie below this, so that a start with losses does not wrap before the keys agree (RFC 3711
/// §3.3.1).
const FIRST_SEQUENCE: u64 = 1 << 15;

/// Payload types of a codec and of its repairs.
type PayloadTypes = Option<(Pt, Option<Pt>)>;

/// See the module's page.
pub(crate) struct Sending {
    publisher: u16,
    seed: u64,
    audio: PayloadTypes,
    video: PayloadTypes,
    microphone: Option<(Mid, Line<Microphone>)>,
    camera: Option<(Mid, Vec<Layer>, Line<Camera>)>,
    sent: u64,
}

/// A script, once it runs, and the next sequence number of each encoding.
struct Line<T> {
    script: Option<T>,
    sequences: Vec<u64>,
}

impl<T> Line<T> {
    fn new(random: &mut fastrand::Rng, encodings: usize) -> Line<T> {
        let sequences = (0..encodings).map(|_| random.u64(0..FIRST_SEQUENCE)).collect();
        Line { script: None, sequences }
    }
}

impl Sending {
    pub(crate) fn new(publisher: u16, seed: u64) -> Sending {
        Sending { publisher, seed, audio: None, video: None, microphone: None, camera: None, sent: 0 }
    }

    /// There is a microphone, whose section is `mid`.
    pub(crate) fn microphone_in(&mut self, mid: Mid) {
        let mut random = fastrand::Rng::with_seed(self.seed);
        self.microphone = Some((mid, Line::new(&mut random, 1)));
    }

    /// The same with a camera.
    pub(crate) fn camera_in(&mut self, mid: Mid, layers: &[Layer]) {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 1);
        self.camera = Some((mid, layers.to_vec(), Line::new(&mut random, layers.len())));
    }

    pub(crate) fn knows_codecs(&self) -> bool {
        self.audio.is_some() && self.video.is_some()
    }

    pub(crate) fn set_codecs(&mut self, audio: PayloadTypes, video: PayloadTypes) {
        (self.audio, self.video) = (audio, video);
    }

    /// What a payload type is of; `None`: repairs, or nothing that was agreed on.
    pub(crate) fn kind(&self, payload_type: u8) -> Option<Kind> {
        let is = |types: PayloadTypes| types.is_some_and(|(pt, _)| *pt == payload_type);
        match (is(self.audio), is(self.video)) {
            (true, _) => Some(Kind::Audio),
            (_, true) => Some(Kind::Video),
            _ => None,
        }
    }

    /// Everything is switched on.
    pub(crate) fn begin(&mut self, now: Instant) {
        if let Some((_, line)) = &mut self.microphone {
            line.script.get_or_insert_with(|| Microphone::new(now, self.seed));
        }
        if let Some((_, layers, line)) = &mut self.camera {
            line.script.get_or_insert_with(|| Camera::new(now, layers, FPS, self.seed));
        }
    }

    /// Everything is switched off.
    pub(crate) fn stop(&mut self) {
        (self.microphone, self.camera) = (None, None);
    }

    pub(crate) fn keyframe(&mut self, rid: Option<Rid>) {
        let Some((_, layers, Line { script: Some(camera), .. })) = &mut self.camera else { return };
        for (index, layer) in layers.iter().enumerate() {
            if rid.is_none_or(|rid| layer.rid.is_some_and(|own| Rid::from(own) == rid)) {
                camera.request_keyframe(index);
            }
        }
    }

    /// Which qualities somebody wants, as numbers of `VideoQuality`. Those that are not named stay as they are.
    pub(crate) fn set_demand(&mut self, qualities: impl Iterator<Item = (i32, bool)>) {
        let Some((_, layers, Line { script: Some(camera), .. })) = &mut self.camera else { return };
        if let [_] = layers[..] {
            let mut wanted = None;
            for (_, enabled) in qualities {
                wanted = Some(wanted.unwrap_or(false) || enabled);
            }
            if let Some(wanted) = wanted {
                camera.set_active(0, wanted);
            }
            return;
        }
        for (quality, enabled) in qualities {
            if let Ok(layer) = usize::try_from(quality) {
                camera.set_active(layer, enabled);
            }
        }
    }

    /// Packets given to the network, over all encodings.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let microphone = self.microphone.as_ref().and_then(|(_, line)| line.script.as_ref());
        let camera = self.camera.as_ref().and_then(|(_, _, line)| line.script.as_ref());
        let due = [microphone.map(Microphone::next_timeout), camera.map(Camera::next_timeout)];
        due.into_iter().flatten().min()
    }

    /// Queues what is due. Whether there was something.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        events: &mut Vec<Event>,
    ) -> Result<bool, RtcError> {
        let before = self.sent;
        if let (Some((mid, line)), Some((pt, _))) = (&mut self.microphone, self.audio) {
            while let Some(packet) = line.script.as_mut().and_then(|script| script.poll(now)) {
                let extensions = ExtensionValues {
                    audio_level: Some(LOUDNESS),
                    voice_activity: Some(true),
                    ..ExtensionValues::default()
                };
                let sequence = &mut line.sequences[0];
                let packet = stamped(packet, self.publisher, now, pt, sequence).ext_vals(extensions);
                connection.send(*mid, None, packet, events)?;
                self.sent += 1;
            }
        }
        if let (Some((mid, layers, line)), Some((pt, _))) = (&mut self.camera, self.video) {
            while let Some(packet) = line.script.as_mut().and_then(|script| script.poll(now)) {
                let rid = layers[packet.layer].rid.map(Rid::from);
                let sequence = &mut line.sequences[packet.layer];
                let packet = stamped(packet, self.publisher, now, pt, sequence).nackable(true);
                connection.send(*mid, rid, packet, events)?;
                self.sent += 1;
            }
        }
        Ok(self.sent > before)
    }
}

fn stamped(mut packet: Packet, publisher: u16, now: Instant, pt: Pt, sequence: &mut u64) -> RtpWrite {
    let stamp = Stamp { publisher, layer: packet.layer as u8, sent: WallNanos::now() };
    stamp.write(&mut packet.payload);
    let number = *sequence;
    *sequence += 1;
    RtpWrite::new(pt, number.into(), packet.timestamp, now, packet.payload).marker(packet.marker)
}
