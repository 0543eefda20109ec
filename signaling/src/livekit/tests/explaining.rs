//! Reports on what a participant gets.

use serde_json::Value;
use sfu::command::DownlinkPolicy;
use sfu::command::explanation::{Explanation, Quality, TrackExplanation};
use sfu::congestion::controller::{Config, Controller};
use sfu::congestion::explain::{History, Why};
use sfu::ids::LayerId;
use sfu::units::Bitrate;

use super::script::*;
use super::*;
use crate::access::{self, Claims, TokenError, VideoGrant};
use crate::livekit::explain::{ReadError, may_read};

fn quality(spatial: u8, size: (u32, u32), kbps: u64) -> Quality {
    Quality {
        layer: LayerId { spatial, temporal: 1 },
        size: Some(size),
        fps: Some(29.97),
        rate: Bitrate::kbps(kbps),
    }
}

impl Script {
    fn explain(&mut self, identity: &str, question: u64) -> Result<(), ReadError> {
        let result = self.room.explain(identity, question, 600);
        self.drain();
        result
    }

    /// What the core might answer: of `track` the middle size goes, since no more fits.
    fn explanation(&self, track: TrackId) -> Box<Explanation> {
        let now = self.clock.now;
        let controller = Controller::new(now, Config::default());
        let mut history = History::new(now);
        for second in [4, 5] {
            history.take(now + Duration::from_secs(second), &controller.snapshot(), [0, 0, 1, 0, 0]);
        }
        Box::new(Explanation {
            connected: true,
            estimate: controller.snapshot(),
            feedback: controller.feedback(now),
            budget: controller.budget(),
            policy: DownlinkPolicy { max: Some(Bitrate::kbps(900)), ..DownlinkPolicy::default() },
            redundancy: 1,
            tracks: vec![TrackExplanation {
                track,
                kind: MediaKind::Video,
                mime: "video/VP8".into(),
                gets: Some(quality(1, (640, 360), 450)),
                granted: Some(quality(1, (640, 360), 450)),
                wanted: Some(quality(2, (1280, 720), 1700)),
                next: Some(quality(2, (1280, 720), 1700)),
                why: Why::Budget,
                muted: false,
                enabled: true,
            }],
            history: Some(history.recent(600)),
        })
    }
}

fn asked(commands: &[Command]) -> Vec<(PeerId, u64)> {
    let ask = |command: &Command| match command {
        Command::Explain { peer, question, .. } => Some((*peer, *question)),
        _ => None,
    };
    commands.iter().filter_map(ask).collect()
}

#[test]
fn the_core_is_asked_about_the_connection_that_others_tracks_go_out_on() {
    for who in [admission("bob"), v0("bob")] {
        let mut script = Script::new();
        let bob = script.active(who);
        script.take_commands();
        script.explain("bob", 7).unwrap();
        assert_eq!(asked(&script.take_commands()), [(script.subscriber(bob), 7)]);
        assert_eq!(script.explain("nobody", 8), Err(ReadError::NoParticipant));
        assert!(script.take_commands().is_empty());
    }
}

#[test]
fn a_report_has_names_for_what_the_core_knows_by_number() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(v0("bob")));
    let (track, info) = script.publish(alice, "0", camera("cam"));
    let explanation = script.explanation(track);
    script.advance(Duration::from_secs(6));
    let peer = script.subscriber(bob);
    script.explain("bob", 7).unwrap();
    script.media(Event::Explained { peer, question: 7, explanation });
    let [(7, report)] = &script.reports[..] else { panic!("{:?}", script.reports) };
    let report = serde_json::to_value(report).unwrap();
    for (at, value) in [
        ("/room", Value::from("lobby")),
        ("/identity", "bob".into()),
        ("/state", "active".into()),
        ("/peer_connections", 2.into()),
        ("/estimate/target_bps", 600_000.into()),
        ("/estimate/cause", "start".into()),
        ("/estimate/feedback", "flows".into()),
        ("/estimate/reports", "transport-cc".into()),
        ("/estimate/red_level", 1.into()),
        ("/client/max_bps", 900_000.into()),
        ("/tracks/0/sid", info.sid.as_str().into()),
        ("/tracks/0/publisher", "alice".into()),
        ("/tracks/0/kind", "video".into()),
        ("/tracks/0/source", "camera".into()),
        ("/tracks/0/codec", "video/VP8".into()),
        ("/tracks/0/why", "budget".into()),
        ("/tracks/0/gets/width", 640.into()),
        ("/tracks/0/gets/fps", 30.0.into()),
        ("/tracks/0/wanted/spatial", 2.into()),
        ("/tracks/0/next/bps", 1_700_000.into()),
        // Taken two seconds and one before.
        ("/history/0/unix_ms", (script.clock.unix_ms - 2000).into()),
        ("/history/1/unix_ms", (script.clock.unix_ms - 1000).into()),
        ("/history/1/pictures", vec![0, 0, 1, 0, 0].into()),
    ] {
        assert_eq!(report.pointer(at), Some(&value), "{at} in {report:#}");
    }
}

#[test]
fn answers_that_come_too_late_or_from_another_connection_are_dropped() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(v0("bob")));
    let (track, _) = script.publish(alice, "0", camera("cam"));
    let explanation = script.explanation(track);
    let publisher = script.publisher(bob);
    script.media(Event::Explained { peer: publisher, question: 1, explanation: explanation.clone() });
    script.media(Event::Explained { peer: PeerId(0), question: 2, explanation: explanation.clone() });
    assert!(script.reports.is_empty());
    // The track goes while the answer is under way: the rest is told.
    script.sections(alice, vec![silent(section("0", MediaKind::Video, "cam"))]);
    let peer = script.subscriber(bob);
    script.media(Event::Explained { peer, question: 3, explanation });
    let report = serde_json::to_value(&script.reports[0].1).unwrap();
    assert_eq!(report["tracks"], Value::from(Vec::<Value>::new()));
}

#[test]
fn reports_are_for_administrators_of_the_room_and_for_oneself() {
    let keys = settings().keys;
    let token = |identity: &str, grant: VideoGrant| {
        let claims = Claims { sub: identity.into(), video: Some(grant), ..Claims::default() };
        access::mint("devkey", "secret", claims, Duration::from_mins(1), START_MS / 1000).unwrap()
    };
    let of = |room: &str| VideoGrant { room: room.into(), ..VideoGrant::default() };
    let admin = |room: &str| VideoGrant { room_admin: true, ..of(room) };
    let join = |room: &str| VideoGrant { room_join: true, ..of(room) };
    let read = |token: &str| {
        let query = format!("history=3&access_token={token}");
        may_read((&query, None), &keys, ("lobby", "bob"), START_MS)
    };
    assert_eq!(read(&token("operator", admin("lobby"))), Ok(()));
    assert_eq!(read(&token("", admin("lobby"))), Ok(()));
    assert_eq!(read(&token("bob", join("lobby"))), Ok(()));
    for other in [
        token("operator", admin("cellar")),
        token("operator", admin("")),
        token("alice", join("lobby")),
        token("bob", join("cellar")),
        token("bob", of("lobby")),
    ] {
        assert_eq!(read(&other), Err(ReadError::NotAllowed));
    }
    assert_eq!(read(""), Err(ReadError::Token(TokenError::Missing)));
    let header = format!("Bearer {}", token("bob", join("lobby")));
    assert_eq!(may_read(("", Some(&header)), &keys, ("lobby", "bob"), START_MS), Ok(()));
    let nobody = token("", join("lobby"));
    assert_eq!(
        may_read(("", Some(&nobody)), &keys, ("lobby", ""), START_MS),
        Err(ReadError::Token(TokenError::Missing))
    );
    let nobody = format!("bearer {nobody}");
    assert_eq!(may_read(("", Some(&nobody)), &keys, ("lobby", ""), START_MS), Err(ReadError::NotAllowed));
}
