//! When not even sound gets through.

use livekit_protocol::data_packet::Value;
use livekit_protocol::request_response::Reason;
use livekit_protocol::{ConnectionQuality, DataPacket, ParticipantPermission, UpdateParticipantMetadata};
use prost::Message as _;
use serde_json::json;
use sfu::command::{VoiceFault, Way};

use super::script::*;
use super::*;

impl Script {
    fn voice(&mut self, peer: PeerId, way: Way, fault: Option<VoiceFault>) {
        self.media(Event::Voice { peer, way, fault });
    }

    /// Messages on our topic since the last look: receivers and what they say.
    fn fallbacks(&mut self) -> Vec<(Vec<PeerId>, serde_json::Value)> {
        let sent = |command| match command {
            Command::SendData { to, label, binary, payload } => Some((to, label, binary, payload)),
            _ => None,
        };
        let packets = self.take_commands().into_iter().filter_map(sent);
        let read = packets.map(|(to, label, binary, payload)| {
            assert_eq!((label.as_str(), binary), ("_reliable", true));
            let packet = DataPacket::decode(&payload[..]).unwrap();
            assert_eq!(packet.participant_identity, "", "from the server");
            let Some(Value::User(user)) = packet.value else { panic!("not a user's packet") };
            assert_eq!(user.topic.as_deref(), Some("sluice.fallback"));
            (to.to_vec(), serde_json::from_slice(&user.payload).unwrap())
        });
        read.collect()
    }

    fn set(
        &mut self,
        session: SessionId,
        key: &str,
        value: &str,
    ) -> Option<livekit_protocol::RequestResponse> {
        self.take(session);
        let attributes = [(key.to_owned(), value.to_owned())].into_iter().collect();
        let request_id = 5;
        let update = UpdateParticipantMetadata { attributes, request_id, ..Default::default() };
        self.request(session, Request::UpdateMetadata(update));
        self.take(session).into_iter().find_map(|message| match message {
            Response::RequestResponse(answer) => Some(answer),
            _ => None,
        })
    }
}

/// The attribute as the last update about `sid` has it, empty if it is absent; `None` without an update.
fn network(messages: &[Response], sid: &str) -> Option<String> {
    let last = updates(messages).into_iter().rfind(|info| info.sid == sid)?;
    Some(last.attributes.get("sluice.network").cloned().unwrap_or_default())
}

fn quality(messages: &[Response], sid: &str) -> Option<ConnectionQuality> {
    let lists = messages.iter().filter_map(|message| match message {
        Response::ConnectionQuality(changed) => Some(changed.updates.clone()),
        _ => None,
    });
    let last = lists.flatten().rfind(|one| one.participant_sid == sid)?;
    ConnectionQuality::try_from(last.quality).ok()
}

#[test]
fn both_sides_are_told_that_sound_does_not_get_through_and_when_it_does_again() {
    for join in [admission, v0] {
        let mut script = Script::new();
        let (alice, bob) = (script.active(join("alice")), script.active(join("bob")));
        script.publish(alice, "0", microphone("mic"));
        let sid = script.join_response(alice).participant.unwrap().sid;
        let (down, up) = (script.subscriber(alice), script.publisher(alice));
        let everybody = vec![down, script.subscriber(bob)];
        script.take_commands();
        script.take(bob);

        script.voice(down, Way::Down, Some(VoiceFault::Loss));
        let told = |mode, up: Option<&str>, down: Option<&str>| {
            let json = json!({"identity": "alice", "sid": sid, "mode": mode, "up": up, "down": down});
            vec![(everybody.clone(), json)]
        };
        assert_eq!(script.fallbacks(), told("text", None, Some("loss")));
        script.advance(Duration::from_secs(6));
        for session in [alice, bob] {
            let messages = script.take(session);
            assert_eq!(network(&messages, &sid), Some("text".to_owned()));
            assert_eq!(quality(&messages, &sid), Some(ConnectionQuality::Poor));
        }
        script.voice(down, Way::Down, Some(VoiceFault::Loss));
        assert_eq!(script.fallbacks(), [], "told once");

        script.voice(up, Way::Up, Some(VoiceFault::Bandwidth));
        assert_eq!(script.fallbacks(), told("text", Some("bandwidth"), Some("loss")));
        script.voice(down, Way::Down, None);
        assert_eq!(script.fallbacks(), told("text", Some("bandwidth"), None));
        script.advance(Duration::from_secs(6));
        assert_eq!(network(&script.take(bob), &sid), None, "it is as bad as before");

        script.voice(up, Way::Up, None);
        assert_eq!(script.fallbacks(), told("voice", None, None));
        script.advance(Duration::from_secs(6));
        assert_eq!(network(&script.take(bob), &sid), Some(String::new()));
    }
}

#[test]
fn a_path_that_is_gone_is_lost_for_the_others() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    script.publish(alice, "0", microphone("mic"));
    let sid = script.join_response(alice).participant.unwrap().sid;
    let peer = script.subscriber(alice);
    script.voice(peer, Way::Down, Some(VoiceFault::Outage));
    assert_eq!(quality(&script.take(bob), &sid), Some(ConnectionQuality::Lost), "at once");
    assert_eq!(quality(&script.take(alice), &sid), Some(ConnectionQuality::Poor));
}

#[test]
fn who_comes_later_sees_it_and_a_token_does_not_keep_it() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let peer = script.subscriber(alice);
    script.voice(peer, Way::Down, Some(VoiceFault::Delay));
    let bob = script.active(admission("bob"));
    let others = script.join_response(bob).other_participants;
    assert_eq!(others[0].attributes["sluice.network"], "text");
    script.take(alice);
    script.advance(Duration::from_mins(6));
    let token = script.take(alice).into_iter().find_map(|message| match message {
        Response::RefreshToken(token) => Some(token),
        _ => None,
    });
    let keys = settings().keys;
    let claims = crate::access::verify(&keys, &token.expect("one each five minutes"), START_MS / 1000 + 360);
    assert!(claims.unwrap().attributes.is_empty());
}

#[test]
fn clients_cannot_say_it_of_themselves() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let sid = script.join_response(alice).participant.unwrap().sid;
    let refused = script.set(alice, "sluice.network", "text").unwrap();
    assert_eq!(refused.reason, Reason::NotAllowed as i32);
    assert!(refused.message.contains("sluice.network"), "{refused:?}");

    let peer = script.subscriber(alice);
    script.voice(peer, Way::Down, Some(VoiceFault::Loss));
    assert_eq!(script.set(alice, "sluice.network", "").unwrap().reason, Reason::NotAllowed as i32);
    let echoed = script.set(alice, "sluice.network", "text").unwrap();
    assert_eq!(echoed.reason, Reason::Ok as i32, "apps send back what they were told");
    script.voice(peer, Way::Down, None);
    script.advance(Duration::from_secs(6));
    assert_eq!(network(&script.take(alice), &sid), Some(String::new()), "the echo was not kept");
}

#[test]
fn of_hidden_participants_others_hear_nothing() {
    let mut script = Script::new();
    let permission = ParticipantPermission { hidden: true, ..admission("x").permission };
    let ghost = script.active(Admission { permission, ..admission("ghost") });
    script.active(admission("bob"));
    script.take_commands();
    let peer = script.subscriber(ghost);
    script.voice(peer, Way::Down, Some(VoiceFault::Loss));
    let told = script.fallbacks();
    assert_eq!(told.iter().map(|(to, _)| to.clone()).collect::<Vec<_>>(), [vec![peer]]);
}
