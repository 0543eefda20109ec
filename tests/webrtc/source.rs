//! What clients publish: a microphone and a camera whose packets can be told apart at the other end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::{AddTrackRequest, TrackSource, TrackType, VideoLayer};
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::shared::marshal::Unmarshal as _;
use sfu::ids::{Mid, Rid, Ssrc};
use sfu::units::Bitrate;
use sfu_testkit::camera::{Camera, CameraConfig, CameraLayer, PACING};
use sfu_testkit::rtp::{ExtensionIds, Vp8};
use tokio::task::JoinHandle;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal as _;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::rtp_transceiver::RtpSender;

use super::client::Client;

/// The crate's defaults for Opus, VP8 and its RTX.
pub(crate) const AUDIO_PAYLOAD_TYPE: u8 = 111;
pub(crate) const VIDEO_PAYLOAD_TYPE: u8 = 96;
pub(crate) const RTX_PAYLOAD_TYPE: u8 = 97;

pub(crate) const MICROPHONE_SSRC: u32 = 1000;
/// SSRCs of the camera's encodings are this and every second one after it; those between are their RTX.
pub(crate) const CAMERA_SSRC: u32 = 2000;

/// Where the microphone's sequence numbers begin. The server's begin in the lower half.
const FIRST_SEQUENCE: u16 = 50_000;

/// Sends until dropped.
pub(crate) struct Source(JoinHandle<()>);

impl Drop for Source {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Publishes Opus, of which nothing comes yet.
pub(crate) async fn silent_microphone(client: &Client) -> Arc<TrackLocalStaticRTP> {
    let codec = RTCRtpCodec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: Vec::new(),
    };
    let coding = RTCRtpCodingParameters { ssrc: Some(MICROPHONE_SSRC), ..Default::default() };
    let track = track("microphone", RtpCodecKind::Audio, &codec, [coding]);
    let request = AddTrackRequest {
        cid: "microphone".to_owned(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..AddTrackRequest::default()
    };
    client.publish(track.clone(), request).await;
    track
}

/// Publishes Opus, a packet every 20 ms.
pub(crate) async fn microphone(client: &Client) -> Source {
    let track = silent_microphone(client).await;
    Source(tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for number in 0_u32.. {
            tick.tick().await;
            let header = rtp::Header {
                version: 2,
                payload_type: AUDIO_PAYLOAD_TYPE,
                sequence_number: sequence_of(number),
                timestamp: number.wrapping_mul(960),
                ssrc: MICROPHONE_SSRC,
                ..rtp::Header::default()
            };
            let packet = rtp::Packet { header, payload: opus(number).into() };
            if track.write_rtp(packet).await.is_err() {
                return; // the connection was closed
            }
        }
    }))
}

/// The sequence number of the microphone's packet `number`.
pub(crate) fn sequence_of(number: u32) -> u16 {
    FIRST_SEQUENCE.wrapping_add(number as u16)
}

/// Its payload.
pub(crate) fn opus(number: u32) -> Vec<u8> {
    let mut payload = vec![0x78]; // one CELT frame of 20 ms (RFC 6716 §3.1)
    payload.extend(number.to_be_bytes());
    payload
}

/// The reverse of [`opus`].
pub(crate) fn opus_number(payload: &[u8]) -> u32 {
    let (_, number) = payload.split_first().expect("a payload");
    u32::from_be_bytes(number.try_into().expect("as it was sent"))
}

/// Encodings of a camera: name, picture size and rate.
pub(crate) type Encodings = &'static [(Option<&'static str>, (u16, u16), u64)];

/// One encoding that is told by its SSRC.
pub(crate) const PLAIN: Encodings = &[(None, (640, 360), 200)];
/// LiveKit's three, at rates that cost a test little.
pub(crate) const SIMULCAST: Encodings =
    &[(Some("q"), (320, 180), 60), (Some("h"), (640, 360), 150), (Some("f"), (1280, 720), 300)];

/// Publishes VP8 at 30 frames per second, with keyframes when the server asks for them.
pub(crate) async fn camera(client: &mut Client, encodings: Encodings) -> Source {
    let codec = RTCRtpCodec {
        mime_type: "video/VP8".to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: Vec::new(),
    };
    let ssrcs = (CAMERA_SSRC..).step_by(2);
    let codings = encodings.iter().zip(ssrcs.clone()).map(|((rid, ..), ssrc)| RTCRtpCodingParameters {
        rid: rid.unwrap_or_default().to_owned(),
        ssrc: Some(ssrc),
        rtx: Some(RTCRtpRtxParameters { ssrc: ssrc + 1 }),
        fec: None,
    });
    let track = track("camera", RtpCodecKind::Video, &codec, codings);
    let (_, (width, height), _) = encodings[encodings.len() - 1];
    let layers = encodings.iter().zip(0..).map(|((_, (width, height), kbps), quality)| VideoLayer {
        quality,
        width: u32::from(*width),
        height: u32::from(*height),
        bitrate: *kbps as u32 * 1000,
        ..VideoLayer::default()
    });
    let request = AddTrackRequest {
        cid: "camera".to_owned(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        width: u32::from(width),
        height: u32::from(height),
        layers: layers.collect(),
        ..AddTrackRequest::default()
    };
    let (sender, mid) = client.publish(track.clone(), request).await;
    let extensions = extensions(&*sender).await;
    let layers = encodings.iter().zip(ssrcs).map(|((rid, size, kbps), ssrc)| CameraLayer {
        rid: rid.map(|rid| Rid::parse(rid).expect("a rid")),
        ssrc: Ssrc(ssrc),
        rtx: None, // the client's stack resends
        size: *size,
        rate: Bitrate::kbps(*kbps),
    });
    let config = CameraConfig {
        layers: layers.collect(),
        mid: Mid::parse(&mid),
        payload_type: VIDEO_PAYLOAD_TYPE,
        rtx_payload_type: RTX_PAYLOAD_TYPE,
        fps: 30,
        temporal_layers: 1,
        pacing: Some(PACING),
        extensions,
    };
    let mut keyframes = client.keyframes.take().expect("one camera a client");
    Source(tokio::spawn(async move {
        let mut camera = Camera::new(Instant::now(), config, 1);
        let mut number = 0_u32;
        loop {
            let due = camera.next_timeout().expect("a camera has no end");
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                Some(ssrc) = keyframes.recv() => camera.request_keyframe(Instant::now(), Ssrc(ssrc)),
            }
            while let Some(mut packet) = camera.poll(Instant::now()) {
                packet.payload.extend(number.to_be_bytes());
                number += 1;
                let bytes = packet.write(&extensions);
                let packet = rtp::Packet::unmarshal(&mut &bytes[..]).expect("RTP");
                if track.write_rtp(packet).await.is_err() {
                    return; // the connection was closed
                }
            }
        }
    }))
}

/// The number that the camera gave to a packet.
pub(crate) fn video_number(packet: &rtp::Packet) -> u32 {
    let number = packet.payload.last_chunk().expect("a payload as it was sent");
    u32::from_be_bytes(*number)
}

/// Width and height if a keyframe begins here.
pub(crate) fn keyframe_size(packet: &rtp::Packet) -> Option<(u16, u16)> {
    Vp8::read(&packet.payload)?.keyframe
}

fn track(
    cid: &str,
    kind: RtpCodecKind,
    codec: &RTCRtpCodec,
    codings: impl IntoIterator<Item = RTCRtpCodingParameters>,
) -> Arc<TrackLocalStaticRTP> {
    let encodings = codings.into_iter().map(|rtp_coding_parameters| RTCRtpEncodingParameters {
        rtp_coding_parameters,
        active: true,
        codec: codec.clone(),
        ..RTCRtpEncodingParameters::default()
    });
    let track = MediaStreamTrack::new("-".into(), cid.into(), cid.into(), kind, encodings.collect());
    Arc::new(TrackLocalStaticRTP::new(track))
}

async fn extensions(sender: &dyn RtpSender) -> ExtensionIds {
    let parameters = sender.get_parameters().await.expect("open").rtp_parameters;
    let id = |uri: &str| {
        let extension = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
        extension.map(|extension| extension.id as u8)
    };
    ExtensionIds {
        mid: id("urn:ietf:params:rtp-hdrext:sdes:mid"),
        rid: id("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
        repaired_rid: None,
        transport_cc: None, // the client's stack counts
        audio_level: None,
    }
}
