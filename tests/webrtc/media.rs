//! Media from one client to another.

use std::collections::BTreeSet;

use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::{UpdateTrackSettings, VideoQuality};
use rtc::rtp;
use sfu_testkit::rtp::Vp8;

use super::client::{Client, Mode, in_both_modes, start_server};
use super::source::{
    MICROPHONE_SSRC, SIMULCAST, camera, keyframe_size, microphone, opus, opus_number, sequence_of,
    silent_microphone,
};

#[tokio::test]
async fn audio_arrives_whole_and_in_order_under_numbers_of_its_own() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;
        let _microphone = microphone(&alice).await;

        let heard = bob.until("fifty packets", |journal| journal.media.get(..50).map(<[_]>::to_vec)).await;
        let first = opus_number(&heard[0].payload);
        for (number, packet) in (first..).zip(&heard) {
            assert_eq!(packet.payload, opus(number), "{mode:?}");
        }
        for pair in heard.windows(2) {
            let [before, after] = [&pair[0].header, &pair[1].header];
            assert_eq!(after.sequence_number, before.sequence_number.wrapping_add(1), "{mode:?}");
            assert_eq!(after.timestamp, before.timestamp.wrapping_add(960), "{mode:?}");
            assert_eq!(after.ssrc, before.ssrc, "{mode:?}");
        }
        let header = &heard[0].header;
        assert_ne!(header.ssrc, MICROPHONE_SSRC, "{mode:?}");
        assert_ne!(header.sequence_number, sequence_of(first), "{mode:?}");
        server.stop().await;
    })
    .await;
}

/// Pion, and what was made after it, tells of a track with its first packet: a muted one would not be there.
#[tokio::test]
async fn of_a_silent_track_there_is_padding() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;
        let _silent = silent_microphone(&alice).await;
        bob.until("the track", |journal| journal.tracks.first().map(|_| ())).await;
        let empty = |packet: &rtp::Packet| packet.payload.is_empty();
        assert!(bob.read(|journal| journal.received.iter().all(empty)), "{mode:?}");
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn three_encodings_become_one_stream_through_every_change() {
    let server = start_server().await;
    let (mut alice, bob) = Client::two(&server, Mode::V1).await;
    let _camera = camera(&mut alice, SIMULCAST).await;

    let track = bob.until("the track's announcement", |journal| journal.track_of("alice")).await;
    for (quality, size) in [
        (VideoQuality::Low, (320, 180)),
        (VideoQuality::High, (1280, 720)),
        (VideoQuality::Medium, (640, 360)),
    ] {
        bob.send(ToServer::TrackSetting(UpdateTrackSettings {
            track_sids: vec![track.sid.clone()],
            quality: quality as i32,
            ..UpdateTrackSettings::default()
        }));
        bob.until(&format!("a picture of {size:?}"), |journal| {
            let latest = playable(&journal.media).into_iter().rev().find_map(keyframe_size);
            (latest == Some(size)).then_some(())
        })
        .await;
    }

    let media = bob.read(|journal| journal.media.clone());
    let streams: BTreeSet<u32> = media.iter().map(|packet| packet.header.ssrc).collect();
    assert_eq!(streams.len(), 1, "{streams:?}");
    let shown = playable(&media);
    for pair in shown.windows(2) {
        let [before, after] = [pair[0], pair[1]].map(|packet| Vp8::read(&packet.payload).expect("VP8"));
        let ticks = pair[1].header.timestamp.wrapping_sub(pair[0].header.timestamp) as i32;
        let frames = u16::from(ticks != 0);
        assert!(ticks >= 0, "the clock never goes back");
        assert_eq!(after.picture_id, (before.picture_id + frames) & 0x7fff, "after {ticks} ticks");
        // Where encodings are sent side by side a keyframe may cut off the last frame before it, which nobody needs.
        let whole = pair[0].header.marker == (ticks != 0) || after.keyframe.is_some();
        assert!(whole, "frames are whole");
    }
    let sent: BTreeSet<u32> = alice.read(|journal| journal.sent.iter().map(|p| p.header.ssrc).collect());
    assert!(sent.len() >= 3, "{sent:?}");
    server.stop().await;
}

/// What can be decoded: by number, up to the first that is missing; each once.
fn playable(media: &[rtp::Packet]) -> Vec<&rtp::Packet> {
    let mut packets: Vec<&rtp::Packet> = media.iter().collect();
    // A server's numbers begin in the lower half, and a test is short.
    packets.sort_by_key(|packet| packet.header.sequence_number);
    packets.dedup_by_key(|packet| packet.header.sequence_number);
    let Some(first) = packets.first().map(|packet| packet.header.sequence_number) else { return packets };
    let whole = packets.iter().zip(first..).take_while(|(p, number)| p.header.sequence_number == *number);
    let count = whole.count();
    packets.truncate(count);
    packets
}
