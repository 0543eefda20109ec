//! One peer connection of the `webrtc` crate, set up as a LiveKit client's.

use std::sync::Arc;

use livekit_protocol::{DataPacket, SignalTarget};
use prost::Message as _;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
    Registry, SettingEngineBuilder, Slot, configure_nack, configure_rtcp_reports,
    configure_simulcast_extension_headers, configure_twcc,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::journal::Shared;
use super::source::keyframe_size;
use super::tap::{Losses, Tap};

/// Labels of LiveKit's channels.
pub(crate) const RELIABLE: &str = "_reliable";
pub(crate) const LOSSY: &str = "_lossy";
pub(crate) const DATA_TRACK: &str = "_data_track";

/// A keyframe is asked for again after so many packets.
const UNDECODED: u32 = 30;

/// Nothing of the crate's own is nearer to the wire.
const TAP: usize = 1;

/// Writes what happens on a connection into the journal.
struct Observer {
    target: SignalTarget,
    journal: Shared,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Observer {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.journal.write(|journal| journal.connected.push(self.target));
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        tokio::spawn(watch_channel(channel, self.target, self.journal.clone()));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let journal = self.journal.clone();
        journal.write(|journal| journal.tracks.push(Arc::clone(&track)));
        tokio::spawn(async move {
            let mut decodes = track.kind().await == RtpCodecKind::Audio;
            let mut undecoded = 0_u32;
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    decodes |= keyframe_size(&packet).is_some();
                    // As a decoder does that has not got the beginning: the crate drops what comes before its track.
                    if !decodes && undecoded.is_multiple_of(UNDECODED) {
                        let request =
                            PictureLossIndication { sender_ssrc: 1, media_ssrc: packet.header.ssrc };
                        track.write_rtcp(vec![Box::new(request)]).await.expect("open");
                    }
                    undecoded += u32::from(!decodes);
                    journal.write(|journal| journal.media.push(packet));
                }
            }
        });
    }
}

/// What a peer connection tells and is told, beside its descriptions.
pub(crate) struct Hooks {
    pub(crate) journal: Shared,
    pub(crate) losses: Arc<Losses>,
    pub(crate) keyframes: mpsc::UnboundedSender<u32>,
}

/// A connection with the crate's default codecs, NACK both ways, reports and transport-wide feedback.
pub(crate) async fn connection(target: SignalTarget, hooks: Hooks) -> Arc<dyn PeerConnection> {
    let mut media = MediaEngine::default();
    media.register_default_codecs().expect("codecs");
    configure_simulcast_extension_headers(&mut media).expect("extensions");
    let registry = configure_nack(Registry::new(), &mut media);
    let registry = configure_twcc(registry, &mut media).expect("feedback");
    let tap = Tap::new(hooks.journal.clone(), hooks.losses, hooks.keyframes);
    let registry = configure_rtcp_reports(registry).with(Slot::Custom(TAP), tap);
    // An ICE restart takes new ports, as after a change of network.
    let settings = SettingEngineBuilder::new().with_discard_local_candidates_during_ice_restart(true).build();
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_setting_engine(settings)
        .with_handler(Arc::new(Observer { target, journal: hooks.journal }))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build();
    // Boxed, for it is 20 KB.
    Arc::new(Box::pin(connection).await.expect("a peer connection"))
}

/// Places for media from the server, as v1 clients offer them.
pub(crate) async fn offer_to_receive(connection: &dyn PeerConnection, kind: RtpCodecKind, count: u32) {
    for _ in 0..count {
        let init =
            RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        connection.add_transceiver_from_kind(kind, Some(init)).await.expect("a transceiver");
    }
}

/// The client's own channels.
pub(crate) async fn make_channels(
    connection: &dyn PeerConnection,
    journal: &Shared,
) -> Vec<Arc<dyn DataChannel>> {
    let mut channels = Vec::new();
    let kinds = [(RELIABLE, true, None), (LOSSY, false, Some(0)), (DATA_TRACK, false, Some(0))];
    for (label, ordered, max_retransmits) in kinds {
        let init = RTCDataChannelInit { ordered, max_retransmits, ..RTCDataChannelInit::default() };
        let channel = connection.create_data_channel(label, Some(init)).await.expect("a channel");
        tokio::spawn(watch_channel(Arc::clone(&channel), SignalTarget::Publisher, journal.clone()));
        channels.push(channel);
    }
    channels
}

async fn watch_channel(channel: Arc<dyn DataChannel>, target: SignalTarget, journal: Shared) {
    let label = channel.label().await.expect("the channel is there");
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => {
                journal.write(|journal| journal.open_channels.push((target, label.clone())));
            }
            DataChannelEvent::OnMessage(message) if label == DATA_TRACK => {
                journal.write(|journal| journal.data_tracks.push(message.data.to_vec()));
            }
            DataChannelEvent::OnMessage(message) => {
                let packet = DataPacket::decode(message.data).expect("a protobuf");
                journal.write(|journal| journal.data.push((label.clone(), packet)));
            }
            _ => {}
        }
    }
}
