//! Data packets from one client to another.

use livekit_protocol::{DataPacket, UserPacket, data_packet};

use super::client::{Client, in_both_modes, start_server};
use super::journal::Journal;
use super::peer::{LOSSY, RELIABLE};

#[tokio::test]
async fn data_arrives_on_the_channel_of_its_kind_with_its_sender() {
    in_both_modes(async |mode| {
        let server = start_server().await;
        let (alice, bob) = Client::two(&server, mode).await;

        for number in 1..=20 {
            alice.send_data(RELIABLE, &user_packet(number, b"ordered")).await;
        }
        alice.send_data(LOSSY, &user_packet(0, b"quick")).await;
        bob.send_data(RELIABLE, &user_packet(1, b"answer")).await;

        let complete = |journal: &Journal| (on(journal, RELIABLE).len() == 20).then(|| on(journal, RELIABLE));
        let ordered = bob.until("twenty packets", complete).await;
        for (number, packet) in (1..).zip(&ordered) {
            assert_eq!((packet.sequence, payload(packet)), (number, &b"ordered"[..]), "{mode:?}");
            assert_eq!(packet.participant_identity, "alice", "{mode:?}");
        }
        let quick = bob.until("a lossy packet", |journal| on(journal, LOSSY).pop()).await;
        assert_eq!(
            (payload(&quick), quick.participant_identity.as_str()),
            (&b"quick"[..], "alice"),
            "{mode:?}"
        );
        let answer = alice.until("an answer", |journal| on(journal, RELIABLE).pop()).await;
        assert_eq!(
            (payload(&answer), answer.participant_identity.as_str()),
            (&b"answer"[..], "bob"),
            "{mode:?}"
        );
        assert_eq!(alice.read(|journal| journal.data.len()), 1, "{mode:?}: nothing comes back to its sender");
        server.stop().await;
    })
    .await;
}

fn on(journal: &Journal, label: &str) -> Vec<DataPacket> {
    journal.data.iter().filter(|(on, _)| on == label).map(|(_, packet)| packet.clone()).collect()
}

fn user_packet(sequence: u32, payload: &[u8]) -> DataPacket {
    let user = UserPacket { payload: payload.to_vec(), ..UserPacket::default() };
    DataPacket { sequence, value: Some(data_packet::Value::User(user)), ..DataPacket::default() }
}

fn payload(packet: &DataPacket) -> &[u8] {
    match &packet.value {
        Some(data_packet::Value::User(user)) => &user.payload,
        other => panic!("not a user packet: {other:?}"),
    }
}
