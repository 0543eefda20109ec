//! Lost packets and broken pictures.

use std::time::{Duration, Instant};

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::rtp;

use super::client::{Client, Mode, in_both_modes, start_server};
use super::journal::Journal;
use super::source::{CAMERA_SSRC, PLAIN, RTX_PAYLOAD_TYPE, camera, keyframe_size, video_number};

/// Requests to a publisher that does not answer are at least this far apart (`sfu::forward::keyframe`).
const REPEAT: Duration = Duration::from_millis(250);

#[tokio::test]
async fn what_is_lost_on_either_way_is_sent_again() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (mut alice, bob) = Client::two(&server, mode).await;
        let _camera = camera(&mut alice, PLAIN).await;
        bob.until("a picture", |journal| (journal.media.len() > 10).then_some(())).await;

        alice.lose_outgoing();
        let lost = alice.until("a loss", |journal| journal.lost.first().cloned()).await;
        bob.until("the resent packet", |journal| whole(journal, &lost)).await;
        alice.read(|journal| {
            assert!(asked_for(journal, &lost), "{mode:?}");
            assert!(is_resent(&journal.sent, &lost), "{mode:?}");
        });

        bob.lose_incoming();
        let lost = bob.until("a loss", |journal| journal.lost.first().cloned()).await;
        bob.until("the resent packet", |journal| whole(journal, &lost)).await;
        bob.read(|journal| assert!(is_resent(&journal.received, &lost), "{mode:?}"));
        alice.read(|journal| {
            let original = journal.sent.iter().find(|packet| video_number(packet) == video_number(&lost));
            let original = original.expect("it was sent");
            assert!(!asked_for(journal, original), "{mode:?}: the server had it");
        });
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn many_keyframe_requests_are_one_to_the_publisher() {
    let server = start_server().await;
    let (mut alice, bob) = Client::two(&server, Mode::V1).await;
    let _camera = camera(&mut alice, PLAIN).await;
    bob.until("a picture that is some time old", |journal| {
        let keyframe = journal.media.iter().rposition(|packet| keyframe_size(packet).is_some())?;
        (journal.media.len() > keyframe + 40).then_some(())
    })
    .await;
    let keyframes = |journal: &Journal| journal.media.iter().filter(|p| keyframe_size(p).is_some()).count();
    let requests = |journal: &Journal| {
        journal.feedback_of::<PictureLossIndication>().filter(|pli| pli.media_ssrc == CAMERA_SSRC).count()
    };
    let (track, media_ssrc) = bob.read(|journal| (journal.tracks[0].clone(), journal.media[0].header.ssrc));
    let (shown, asked) = (bob.read(keyframes), alice.read(requests));

    let start = Instant::now();
    for _ in 0..20 {
        let request = PictureLossIndication { sender_ssrc: 1, media_ssrc };
        track.write_rtcp(vec![Box::new(request)]).await.expect("open");
    }
    bob.until("another keyframe", |journal| (keyframes(journal) > shown).then_some(())).await;
    let requests = alice.read(requests) - asked;
    // One, but for a machine so slow that the server has to ask again.
    let most = 1 + (start.elapsed().as_millis() / REPEAT.as_millis()) as usize;
    assert!((1..=most).contains(&requests), "{requests} of 20 passed on, at most {most} were due");
    server.stop().await;
}

/// Whether what the camera sent as `lost` was given to the application, and all around it, under numbers without
/// a gap.
fn whole(journal: &Journal, lost: &rtp::Packet) -> Option<()> {
    let mut packets: Vec<(u32, u16)> =
        journal.media.iter().map(|packet| (video_number(packet), packet.header.sequence_number)).collect();
    packets.sort_unstable();
    packets.dedup();
    let at = packets.binary_search_by_key(&video_number(lost), |(number, _)| *number).ok()?;
    let around = packets.get(at - 1..=at + 1)?;
    let steps = around.windows(2).all(|pair| {
        let [(before, sequence), (after, next)] = [pair[0], pair[1]];
        after == before + 1 && next == sequence.wrapping_add(1)
    });
    steps.then_some(())
}

/// Whether the server asked for `lost` again.
fn asked_for(journal: &Journal, lost: &rtp::Packet) -> bool {
    let nacks =
        journal.feedback_of::<TransportLayerNack>().filter(|nack| nack.media_ssrc == lost.header.ssrc);
    nacks.flat_map(|nack| &nack.nacks).any(|pair| pair.packet_list().contains(&lost.header.sequence_number))
}

/// Whether an RTX packet carries `lost` (RFC 4588 §4).
fn is_resent(packets: &[rtp::Packet], lost: &rtp::Packet) -> bool {
    let original = lost.header.sequence_number.to_be_bytes();
    let mut rtx = packets.iter().filter(|packet| packet.header.payload_type == RTX_PAYLOAD_TYPE);
    rtx.any(|packet| packet.payload.starts_with(&original))
}
