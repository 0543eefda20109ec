use bytes::Bytes;
use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, Transcription, UserPacket};
use prost::Message as _;

use super::script::*;
use super::*;
use crate::livekit::DataRefusal;

fn packet(payload: usize) -> DataPacket {
    let user = UserPacket { payload: vec![7; payload], ..UserPacket::default() };
    DataPacket {
        participant_identity: "somebody else".into(),
        participant_sid: "PA_fake".into(),
        value: Some(Value::User(user)),
        ..DataPacket::default()
    }
}

impl Script {
    pub(super) fn data(&mut self, from: SessionId, label: &str, payload: impl Into<Bytes>) {
        let peer = self.publisher(from);
        self.media(Event::Data { peer, label: label.into(), binary: true, payload: payload.into() });
    }

    /// What was forwarded since the last look: receivers, label, message.
    pub(super) fn forwarded(&mut self) -> Vec<(Vec<PeerId>, String, Bytes)> {
        let sent = |command| match command {
            Command::SendData { to, label, payload, .. } => Some((to.to_vec(), label, payload)),
            _ => None,
        };
        self.take_commands().into_iter().filter_map(sent).collect()
    }

    pub(super) fn refusals(&mut self) -> Vec<DataRefusal> {
        let notices = std::mem::take(&mut self.notices).into_iter();
        let refused = |notice| match notice {
            Notice::DataRefused(refusal) => Some(refusal),
            _ => None,
        };
        notices.filter_map(refused).collect()
    }
}

#[test]
fn packets_reach_all_others_with_the_true_senders_name() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(v0("bob"));
    let carol = script.active(admission("carol"));
    let alice_sid = script.join_response(alice).participant.unwrap().sid;
    for size in [0, 1_000, 60_000] {
        for label in ["_reliable", "_lossy"] {
            script.data(alice, label, packet(size).encode_to_vec());
            let sent = script.forwarded();
            let [(to, on, payload)] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!(*to, [script.subscriber(bob), script.subscriber(carol)]);
            assert_eq!(on, label);
            let got = DataPacket::decode(&payload[..]).unwrap();
            assert_eq!((got.participant_identity.as_str(), &got.participant_sid), ("alice", &alice_sid));
            let Some(Value::User(user)) = got.value else { panic!() };
            assert_eq!(user.payload.len(), size);
        }
    }
    script.data(bob, "_lossy", packet(1).encode_to_vec());
    assert_eq!(script.forwarded()[0].0, [script.subscriber(alice), script.subscriber(carol)]);
}

#[test]
fn named_receivers_alone_get_a_packet() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    script.active(admission("carol"));
    let to = |names: &[&str]| {
        let destination_identities = names.iter().map(ToString::to_string).collect();
        DataPacket { destination_identities, ..packet(1) }.encode_to_vec()
    };
    script.data(alice, "_reliable", to(&["bob", "nobody", "alice", "bob"]));
    assert_eq!(script.forwarded()[0].0, [script.subscriber(bob)]);
    script.data(alice, "_reliable", to(&["nobody"]));
    assert!(script.forwarded().is_empty(), "not to everybody instead");
}

#[test]
fn reliable_packets_that_came_before_are_dropped() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.active(admission("bob"));
    let mut sent = |label: &str, sequence| {
        script.data(alice, label, DataPacket { sequence, ..packet(1) }.encode_to_vec());
        script.forwarded().len()
    };
    let reliable: Vec<usize> =
        [1, 2, 2, 1, 3, 0, 0, 4].into_iter().map(|number| sent("_reliable", number)).collect();
    assert_eq!(reliable, [1, 1, 0, 0, 1, 1, 1, 1], "zero is no number");
    assert_eq!([sent("_lossy", 2), sent("_lossy", 1)], [1, 1], "lossy ones come in any order");
}

#[test]
fn what_must_not_be_sent_is_dropped_and_counted() {
    let mut script = Script::new();
    let mut mute = admission("mute");
    mute.permission.can_publish_data = false;
    let (mute, alice) = (script.active(mute), script.active(admission("alice")));
    script.notices.clear();
    script.take_commands();
    script.data(mute, "_reliable", packet(1).encode_to_vec());
    script.data(mute, "own", "x");
    assert_eq!(script.refusals(), [DataRefusal::NotAllowed; 2]);
    script.data(alice, "_reliable", vec![0xff; 30]);
    assert_eq!(script.refusals(), [DataRefusal::Malformed]);
    script.data(alice, "_reliable", packet((256 << 10) + 1).encode_to_vec());
    assert_eq!(script.refusals(), [DataRefusal::TooLarge]);
    script.data(alice, "_data_track", "x");
    script.data(alice, &"x".repeat(300), "x");
    let transcription =
        DataPacket { value: Some(Value::Transcription(Transcription::default())), ..packet(0) };
    script.data(alice, "_reliable", transcription.encode_to_vec());
    assert_eq!(script.refusals(), [DataRefusal::Unsupported; 3]);
    assert!(script.forwarded().is_empty());
    let agent = script.active(Admission { kind: Kind::Agent, ..admission("agent") });
    script.data(agent, "_reliable", transcription.encode_to_vec());
    assert_eq!(script.forwarded().len(), 1, "agents may");
}

#[test]
fn other_channels_are_passed_on_as_they_are() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let peer = script.publisher(alice);
    script.media(Event::Data { peer, label: "game".into(), binary: false, payload: "hello".into() });
    let commands = script.take_commands();
    assert!(
        commands
            .iter()
            .any(|command| matches!(command, Command::SendData { to, label, binary: false, payload }
        if to[..] == [script.subscriber(bob)] && label == "game" && payload == "hello"))
    );
}

#[test]
fn a_hidden_sender_stays_unnamed() {
    let mut script = Script::new();
    let mut ghost = admission("ghost");
    ghost.permission.hidden = true;
    let ghost = script.active(ghost);
    script.active(admission("bob"));
    script.data(ghost, "_lossy", packet(1).encode_to_vec());
    let sent = script.forwarded();
    assert_eq!(DataPacket::decode(&sent[0].2[..]).unwrap().participant_identity, "");
}
