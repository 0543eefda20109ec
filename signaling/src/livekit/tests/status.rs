use livekit_protocol::{ConnectionQuality, MuteTrackRequest, UpdateSubscription};
use sfu::command::{LinkQuality, SpeakerLevel};

use super::script::*;
use super::*;

fn speakers(messages: &[Response]) -> Vec<(String, f32, bool)> {
    let lists = messages.iter().filter_map(|message| match message {
        Response::SpeakersChanged(changed) => Some(changed.speakers.clone()),
        _ => None,
    });
    lists.flatten().map(|speaker| (speaker.sid, speaker.level, speaker.active)).collect()
}

fn qualities(messages: &[Response]) -> Vec<(String, ConnectionQuality)> {
    let lists = messages.iter().filter_map(|message| match message {
        Response::ConnectionQuality(changed) => Some(changed.updates.clone()),
        _ => None,
    });
    lists
        .flatten()
        .map(|one| (one.participant_sid, ConnectionQuality::try_from(one.quality).unwrap()))
        .collect()
}

fn good() -> LinkQuality {
    LinkQuality { uplink_loss: 0.0, downlink_loss: 0.0, rtt: None, estimate: None, served: 1.0, active: true }
}

impl Script {
    fn loud(&mut self, levels: &[(TrackId, f32)]) {
        let levels =
            levels.iter().map(|(track, level)| SpeakerLevel { track: *track, level: *level }).collect();
        let room = self.room.id();
        self.media(Event::Speakers { room, levels });
    }

    fn sid(&self, session: SessionId) -> String {
        self.room.people[&self.room.by_session[&session]].sid.clone()
    }

    /// One interval of quality, with these figures for one session and perfect ones for the rest.
    fn quality(&mut self, session: SessionId, quality: LinkQuality) {
        let others: Vec<PeerId> = self.room.by_peer.keys().copied().collect();
        let (publisher, subscriber) = (self.publisher(session), self.subscriber(session));
        for peer in others {
            let quality = if peer == publisher || peer == subscriber { quality } else { good() };
            self.media(Event::Quality { peer, quality });
        }
        self.advance(Duration::from_secs(5));
    }
}

#[test]
fn speakers_are_told_to_those_who_hear_them_and_only_when_changed() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let deaf = script.active(Admission { auto_subscribe: false, ..admission("deaf") });
    let (id, info) = script.publish(alice, "0", microphone("mic"));
    let sid = script.sid(alice);
    for session in [alice, bob, deaf] {
        script.take(session);
    }
    script.loud(&[(id, 0.51)]);
    for session in [alice, bob] {
        assert_eq!(speakers(&script.take(session)), [(sid.clone(), 0.625, true)]);
    }
    assert_eq!(speakers(&script.take(deaf)), [], "not subscribed");
    script.loud(&[(id, 0.6)]);
    assert_eq!(speakers(&script.take(bob)), [], "the same eighth");
    script.loud(&[]);
    assert_eq!(speakers(&script.take(bob)), [(sid.clone(), 0.0, false)], "the stop is told");
    script.loud(&[]);
    assert_eq!(speakers(&script.take(bob)), []);

    script.loud(&[(id, 1.0)]);
    script.take(bob);
    let track_sids = vec![info.sid.clone()];
    let request = UpdateSubscription { track_sids, subscribe: false, participant_tracks: vec![] };
    script.request(bob, Request::Subscription(request));
    assert_eq!(speakers(&script.take(bob)), [(sid.clone(), 0.0, false)], "told on unsubscribing, too");
    script.take(alice);
    script.request(alice, Request::Mute(MuteTrackRequest { sid: info.sid, muted: true }));
    assert_eq!(speakers(&script.take(alice)), [(sid, 0.0, false)], "and on muting");
}

#[test]
fn quality_is_told_when_it_changes_to_those_concerned() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    script.publish(alice, "0", camera("cam"));
    let (alice_sid, bob_sid) = (script.sid(alice), script.sid(bob));
    script.take(bob);
    script.quality(alice, good());
    let mut seen = qualities(&script.take(bob));
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let mut wanted =
        vec![(alice_sid.clone(), ConnectionQuality::Excellent), (bob_sid, ConnectionQuality::Excellent)];
    wanted.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(seen, wanted);
    script.quality(alice, good());
    assert_eq!(qualities(&script.take(bob)), [], "unchanged");
    script.quality(alice, LinkQuality { uplink_loss: 0.08, ..good() });
    assert_eq!(qualities(&script.take(bob)), [(alice_sid.clone(), ConnectionQuality::Good)]);
    script.take(alice);
    script.quality(alice, LinkQuality { uplink_loss: 0.3, ..good() });
    assert_eq!(qualities(&script.take(alice)), [(alice_sid, ConnectionQuality::Poor)], "oneself, too");
}

#[test]
fn lost_is_said_of_silent_publishers_only_and_never_to_themselves() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let old = script.active(Admission {
        client: ClientInfo { protocol: 9, ..ClientInfo::default() },
        ..admission("old")
    });
    let idle = LinkQuality { active: false, ..good() };
    let (alice_sid, bob_sid) = (script.sid(alice), script.sid(bob));
    for _ in 0..4 {
        script.quality(bob, idle);
    }
    assert!(
        qualities(&script.take(bob)).contains(&(bob_sid, ConnectionQuality::Excellent)),
        "a mere listener"
    );
    script.publish(alice, "0", camera("cam"));
    script.quality(alice, good());
    for session in [alice, bob, old] {
        script.take(session);
    }
    script.quality(alice, idle);
    assert_eq!(qualities(&script.take(bob)), [], "once may be chance");
    script.quality(alice, idle);
    assert_eq!(qualities(&script.take(bob)), [(alice_sid.clone(), ConnectionQuality::Lost)]);
    assert_eq!(qualities(&script.take(old)), [(alice_sid.clone(), ConnectionQuality::Poor)]);
    assert_eq!(qualities(&script.take(alice)), [(alice_sid, ConnectionQuality::Poor)]);
}

#[test]
fn counts_are_told_at_most_every_five_seconds() {
    let mut script = Script::new();
    let bob = script.active(admission("bob"));
    script.take(bob);
    for name in ["a", "b", "c", "d"] {
        script.join(admission(name));
        script.advance(Duration::from_millis(500));
    }
    let counts = |messages: Vec<Response>| -> Vec<u32> {
        let count = |message: &Response| match message {
            Response::RoomUpdate(update) => {
                Some(update.room.as_ref().expect("Rust unwraps it").num_participants)
            }
            _ => None,
        };
        messages.iter().filter_map(count).collect()
    };
    assert_eq!(counts(script.take(bob)), Vec::<u32>::new(), "bob's own join was told less than 5 s ago");
    script.advance(Duration::from_secs(5));
    assert_eq!(counts(script.take(bob)), [5]);
}
