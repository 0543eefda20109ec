//! Packets of data tracks from one client to another, under the handles that each of them was told.

use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as ToClient;
use livekit_protocol::{
    DataPacket, DataTrackInfo, PublishDataTrackRequest, UnpublishDataTrackRequest, UpdateDataSubscription,
    UserPacket, data_packet, update_data_subscription,
};

use super::client::{Client, in_both_modes, start_server};
use super::journal::Journal;
use super::peer::LOSSY;

/// A packet with that payload: handle, and a sequence number that is its frame's, too.
fn packet(handle: u32, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x18, 0];
    packet.extend((handle as u16).to_be_bytes());
    packet.extend([number.to_be_bytes(), number.to_be_bytes()].concat());
    packet.extend([1, 2, 3, 4]);
    packet.extend(payload);
    packet
}

async fn publish(client: &Client, pub_handle: u32, name: &str) -> DataTrackInfo {
    let request = PublishDataTrackRequest { pub_handle, name: name.into(), ..Default::default() };
    client.send(ToServer::PublishDataTrackRequest(request));
    let answer = |journal: &Journal| {
        journal.signals.iter().find_map(|signal| match signal {
            ToClient::PublishDataTrackResponse(answer) => {
                answer.info.clone().filter(|info| info.pub_handle == pub_handle)
            }
            _ => None,
        })
    };
    client.until("the data track's number", answer).await
}

fn update(client: &Client, info: &DataTrackInfo, subscribe: bool) {
    let track_sid = info.sid.clone();
    let updates = vec![update_data_subscription::Update { track_sid, subscribe, options: None }];
    client.send(ToServer::UpdateDataSubscription(UpdateDataSubscription { updates }));
}

/// The handles that the client was last told for a track: one, or none.
fn handles_of(journal: &Journal, info: &DataTrackInfo) -> Option<Vec<u32>> {
    journal.signals.iter().rev().find_map(|signal| match signal {
        ToClient::DataTrackSubscriberHandles(map) => {
            let found = map.sub_handles.iter().filter(|(_, track)| track.track_sid == info.sid);
            Some(found.map(|(handle, _)| *handle).collect())
        }
        _ => None,
    })
}

async fn subscribe(client: &Client, info: &DataTrackInfo) -> u32 {
    update(client, info, true);
    client.until("a handle", |journal| handles_of(journal, info)?.pop()).await
}

/// Waits until the first `count` packets are there, and gives all that are.
async fn arrived(client: &Client, count: usize) -> Vec<Vec<u8>> {
    let enough =
        |journal: &Journal| (journal.data_tracks.len() >= count).then(|| journal.data_tracks.clone());
    client.until("packets of data tracks", enough).await
}

#[tokio::test]
async fn packets_arrive_whole_under_the_handle_that_the_subscriber_was_told() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;
        let (first, second) = (publish(&alice, 500, "first").await, publish(&alice, 501, "second").await);
        let shown = |journal: &Journal| {
            let tracks = &journal.latest_of("alice")?.data_tracks;
            (tracks.len() == 2).then(|| tracks.clone())
        };
        assert_eq!(bob.until("data tracks", shown).await, [first.clone(), second.clone()], "{mode:?}");
        let handles = [subscribe(&bob, &first).await, subscribe(&bob, &second).await];
        assert_ne!(handles[0], handles[1], "{mode:?}");

        let large: Vec<u8> = (0..15_988_u32).map(|at| (at * 7) as u8).collect();
        let sent = [(0, &b""[..]), (1, b"small"), (0, &large), (1, &large), (0, b"last")];
        for (count, (track, payload)) in (0_u16..).zip(sent) {
            alice.send_data_track(&packet(500 + track, count, payload)).await;
            let got = arrived(&bob, usize::from(count) + 1).await;
            let expected = packet(handles[track as usize], count, payload);
            assert!(got[usize::from(count)] == expected, "{mode:?}: packet {count}");
        }
        assert!(alice.read(|journal| journal.data_tracks.is_empty()), "{mode:?}: nothing comes back");
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_cannot_send_on_a_track_of_somebody_elses() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;
        let (of_alice, of_bob) = (publish(&alice, 5, "of alice").await, publish(&bob, 6, "of bob").await);
        let at_bob = subscribe(&bob, &of_alice).await;
        let at_alice = subscribe(&alice, &of_bob).await;
        // Alice's handle, the one that Bob has it under, his own at Alice, and no packets at all.
        for forged in [5, at_bob, at_alice, 0, 77] {
            bob.send_data_track(&packet(forged, 1, b"forged")).await;
        }
        bob.send_data_track(b"no packet").await;
        bob.send_data_track(&packet(6, 2, b"true")).await;
        assert_eq!(arrived(&alice, 1).await, [packet(at_alice, 2, b"true")], "{mode:?}");
        assert!(bob.read(|journal| journal.data_tracks.is_empty()), "{mode:?}");
        server.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_unsubscribed_and_what_was_unpublished_gets_and_gives_nothing_more() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;
        let info = publish(&alice, 1, "place").await;
        let handle = subscribe(&bob, &info).await;
        alice.send_data_track(&packet(1, 1, b"first")).await;
        assert_eq!(arrived(&bob, 1).await, [packet(handle, 1, b"first")], "{mode:?}");

        update(&bob, &info, false);
        bob.until("no handle", |journal| handles_of(journal, &info)?.is_empty().then_some(())).await;
        alice.send_data_track(&packet(1, 2, b"unwanted")).await;
        fence(&alice, &bob, 1).await;
        let again = subscribe(&bob, &info).await;
        assert_ne!(again, handle, "{mode:?}: what is on its way may still carry the old one");
        alice.send_data_track(&packet(1, 3, b"wanted")).await;
        assert_eq!(arrived(&bob, 2).await[1], packet(again, 3, b"wanted"), "{mode:?}");

        alice.send(ToServer::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: 1 }));
        let ended = |journal: &Journal| {
            let is_end = |signal: &ToClient| matches!(signal, ToClient::UnpublishDataTrackResponse(_));
            journal.signals.iter().any(is_end).then_some(())
        };
        alice.until("the end", ended).await;
        alice.send_data_track(&packet(1, 4, b"too late")).await;
        fence(&alice, &bob, 2).await;
        assert_eq!(bob.read(|journal| journal.data_tracks.len()), 2, "{mode:?}");
        let gone = |journal: &Journal| journal.latest_of("alice")?.data_tracks.is_empty().then_some(());
        bob.until("the track's end", gone).await;
        server.stop().await;
    })
    .await;
}

/// Sends a message after what was sent before, and waits for it.
async fn fence(from: &Client, to: &Client, count: usize) {
    let user = UserPacket { payload: b"fence".to_vec(), ..UserPacket::default() };
    let value = Some(data_packet::Value::User(user));
    from.send_data(LOSSY, &DataPacket { value, ..DataPacket::default() }).await;
    to.until("a message", |journal| (journal.data.len() >= count).then_some(())).await;
}
