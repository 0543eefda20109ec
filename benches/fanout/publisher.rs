//! The one who sends: a camera without simulcast and a microphone, with sender reports, NACK and PLI answered.

use std::time::{Duration, Instant};

use sfu::ids::{Mid, Ssrc};
use sfu::units::{Bitrate, RtpTime, WallClock};
use sfu::wire::rtcp::{self, Packet, SenderInfo, Writer};
use sfu_testkit::camera::{Camera, CameraConfig, CameraLayer, Microphone};
use sfu_testkit::rtp::{ExtensionIds, RtpPacket};

use crate::connection::{
    AUDIO_LEVEL_EXTENSION, AUDIO_MID, AUDIO_PAYLOAD_TYPE, Connection, MID_EXTENSION, RTX_PAYLOAD_TYPE,
    Received, TRANSPORT_CC_EXTENSION, VIDEO_MID, VIDEO_PAYLOAD_TYPE,
};
use crate::{BUFFER, Counts, Result};

const AUDIO: Ssrc = Ssrc(10);
const VIDEO: Ssrc = Ssrc(20);
const VIDEO_RTX: Ssrc = Ssrc(21);
/// Five packets a frame, 150 a second, each frame's at once as Chromium and libwebrtc send them; with the microphone's 50 about what a phone sends at 540p.
const VIDEO_RATE: Bitrate = Bitrate::kbps(1200);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(MID_EXTENSION),
    rid: None,
    repaired_rid: None,
    transport_cc: Some(TRANSPORT_CC_EXTENSION),
    audio_level: Some(AUDIO_LEVEL_EXTENSION),
};

/// What a sender report tells of a stream.
#[derive(Default)]
struct Sent {
    last: Option<(Instant, u32)>,
    packets: u32,
    octets: u32,
}

struct Media {
    camera: Camera,
    microphone: Microphone,
    report_due: Instant,
}

pub(crate) struct Publisher {
    pub(crate) connection: Connection,
    /// Packets sent so far, resent ones left out.
    pub(crate) sent: Counts,
    media: Option<Media>,
    number: u16,
    streams: [(Ssrc, u32, Sent); 2],
    wall: WallClock,
}

impl Publisher {
    pub(crate) fn new(connection: Connection, wall: WallClock) -> Publisher {
        let streams = [(AUDIO, 48_000, Sent::default()), (VIDEO, 90_000, Sent::default())];
        Publisher { connection, sent: Counts::default(), media: None, number: 0, streams, wall }
    }

    /// Camera and microphone on, the camera at `rate` times its usual bitrate.
    pub(crate) fn begin(&mut self, now: Instant, rate: f64) {
        let layer = CameraLayer {
            rid: None,
            ssrc: VIDEO,
            rtx: Some(VIDEO_RTX),
            size: (960, 540),
            rate: VIDEO_RATE.scale(rate),
        };
        let config = CameraConfig {
            layers: vec![layer],
            mid: Mid::parse(VIDEO_MID),
            payload_type: VIDEO_PAYLOAD_TYPE,
            rtx_payload_type: RTX_PAYLOAD_TYPE,
            fps: 30,
            temporal_layers: 1,
            pacing: None,
            extensions: EXTENSIONS,
        };
        let mut microphone = Microphone::new(now, AUDIO, AUDIO_MID, AUDIO_PAYLOAD_TYPE, 2);
        microphone.set_speaking(true);
        self.media = Some(Media { camera: Camera::new(now, config, 1), microphone, report_due: now });
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let media = self.media.as_ref()?;
        [media.camera.next_timeout(), media.microphone.next_timeout(), Some(media.report_due)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sends what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<()> {
        while let Some(packet) = self.media.as_mut().and_then(|media| media.microphone.poll(now)) {
            self.sent.audio += 1;
            self.send(now, packet)?;
        }
        while let Some(packet) = self.media.as_mut().and_then(|media| media.camera.poll(now)) {
            self.sent.video += 1;
            self.send(now, packet)?;
        }
        match &mut self.media {
            Some(media) if media.report_due <= now => media.report_due = now + REPORT_INTERVAL,
            Some(_) | None => return Ok(()),
        }
        for index in 0..self.streams.len() {
            let (ssrc, clock_rate, sent) = &self.streams[index];
            let Some((at, timestamp)) = sent.last else { continue };
            let ticks = (now - at).as_micros() as u64 * u64::from(*clock_rate) / 1_000_000;
            let (packets, octets) = (sent.packets, sent.octets);
            let rtp = RtpTime(timestamp).plus(ticks as i32);
            let info = SenderInfo { ntp: self.wall.ntp(now), rtp, packets, octets };
            let mut buffer = [0; BUFFER];
            let mut writer = Writer::new(&mut buffer);
            writer.sender_report(*ssrc, &info, &[]);
            let len = writer.len();
            self.connection.send_rtcp(&mut buffer, len)?;
        }
        Ok(())
    }

    fn send(&mut self, now: Instant, mut packet: RtpPacket) -> Result<()> {
        if let Some((_, _, sent)) = self.streams.iter_mut().find(|(ssrc, ..)| *ssrc == packet.ssrc) {
            sent.last = Some((now, packet.timestamp));
            sent.packets += 1;
            sent.octets = sent.octets.wrapping_add(packet.payload.len() as u32);
        }
        packet.transport_number = Some(self.number);
        self.number = self.number.wrapping_add(1);
        let mut bytes = packet.write(&EXTENSIONS);
        let len = bytes.len();
        bytes.resize(len + sfu::transport::srtp::MAX_OVERHEAD, 0);
        self.connection.send_rtp(&mut bytes, len)
    }

    /// Takes what the server sends to a publisher.
    pub(crate) fn receive(&mut self, now: Instant) -> Result<()> {
        let mut buffer = [0; BUFFER];
        while let Some(received) = self.connection.receive(now, &mut buffer)? {
            let (Received::Rtcp { len }, Some(media)) = (received, &mut self.media) else { continue };
            let mut resend = Vec::new();
            for packet in rtcp::packets(&buffer[..len]) {
                match packet? {
                    Packet::Pli(ssrc) => media.camera.request_keyframe(now, ssrc),
                    Packet::Nack(ssrc, lost) => {
                        resend.extend(lost.filter_map(|number| media.camera.retransmit(ssrc, number)));
                    }
                    _ => {}
                }
            }
            for packet in resend {
                self.send(now, packet)?;
            }
        }
        Ok(())
    }
}
