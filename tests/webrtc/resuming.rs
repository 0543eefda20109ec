//! A client that loses its socket and its address, and resumes.

use livekit_protocol::DataPacket;
use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as ToClient;

use super::client::{Client, Mode, in_both_modes, start_server};
use super::journal::Journal;
use super::peer::RELIABLE;
use super::source::{PLAIN, camera, keyframe_size, microphone, opus_number};

#[tokio::test]
async fn a_client_resumes_over_new_ports_and_is_missed_by_nobody() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (mut alice, mut bob) = Client::two(&server, mode).await;
        let _microphones = (microphone(&alice).await, microphone(&bob).await);
        let heard = |journal: &Journal| journal.media.len();
        for client in [&alice, &bob] {
            client.until("sound", |journal| (heard(journal) > 50).then_some(())).await;
        }

        // A publisher, then a subscriber: with each the other side of the connection changes its path.
        for resuming in [&mut alice, &mut bob] {
            let (signals, media) = resuming.read(|journal| (journal.signals.len(), heard(journal)));
            resuming.lose_socket();
            resuming
                .until("sound without a socket", |journal| (heard(journal) > media + 20).then_some(()))
                .await;
            resuming.resume(&server).await;
            let first = resuming.read(|journal| journal.signals[signals].clone());
            assert!(matches!(first, ToClient::Reconnect(_)), "{mode:?}: {first:?}");
            assert!(resuming.read(|journal| journal.latest_of("alice").is_some()), "{mode:?}: told again");
        }
        let before = [&alice, &bob].map(|client| client.read(heard));
        for (client, before) in [&alice, &bob].into_iter().zip(before) {
            client.until("sound", |journal| (heard(journal) > before + 100).then_some(())).await;
            let numbers: Vec<u32> = client.read(|journal| {
                journal.media[before..].iter().map(|packet| opus_number(&packet.payload)).collect()
            });
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{mode:?}: whole: {numbers:?}");
            let told_of_ends = client.read(|journal| {
                let updates = journal.signals.iter().filter_map(|signal| match signal {
                    ToClient::Update(update) => Some(&update.participants),
                    _ => None,
                });
                updates.flatten().any(|info| info.state() == State::Disconnected)
            });
            assert!(!told_of_ends, "{mode:?}");
        }
        alice.send_data(RELIABLE, &DataPacket { sequence: 1, ..DataPacket::default() }).await;
        bob.until("data", |journal| journal.data.first().cloned()).await;
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_new_path_of_either_side_brings_a_keyframe() {
    // In v0 the crate keeps its ports when it is the server that restarts.
    let server = start_server().await;
    let (mut alice, mut bob) = Client::two(&server, Mode::V1).await;
    let _camera = camera(&mut alice, PLAIN).await;
    let shown = |journal: &Journal| journal.media.iter().filter_map(keyframe_size).count();
    bob.until("a picture", |journal| (shown(journal) > 0).then_some(())).await;

    let before = bob.read(shown);
    bob.resume(&server).await;
    bob.until("a keyframe for a viewer", |journal| (shown(journal) > before).then_some(())).await;
    let before = bob.read(shown);
    alice.resume(&server).await;
    bob.until("a keyframe of a publisher", |journal| (shown(journal) > before).then_some(())).await;
    server.stop().await;
}
