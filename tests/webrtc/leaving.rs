//! A client that goes.

use livekit_protocol::DisconnectReason;
use livekit_protocol::participant_info::State;
use livekit_protocol::signal_response::Message as ToClient;

use super::client::{Client, in_both_modes, start_server};
use super::source::microphone;

#[tokio::test]
async fn the_others_are_told_who_left_and_newcomers_do_not_hear_of_it() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;
        let microphone = microphone(&alice).await;
        bob.until("sound", |journal| journal.media.first().cloned()).await;

        drop(microphone);
        alice.leave().await;
        let gone = bob.until("the news", |journal| {
            let told = journal.latest_of("alice")?;
            (told.state() == State::Disconnected).then(|| told.clone())
        });
        assert_eq!(gone.await.disconnect_reason(), DisconnectReason::ClientInitiated, "{mode:?}");

        let carol = Client::join(&server, mode, "carol").await;
        let others = carol.read(|journal| match &journal.signals[0] {
            ToClient::Join(join) => {
                join.other_participants.iter().map(|p| p.identity.clone()).collect::<Vec<_>>()
            }
            other => panic!("not a join: {other:?}"),
        });
        assert_eq!(others, ["bob"], "{mode:?}");
        server.stop().await;
    })
    .await;
}
