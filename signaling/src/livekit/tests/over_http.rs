//! Publishing and watching over HTTP: what a room makes of clients that only offer.

use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{LeaveRequest, MuteTrackRequest, TrackInfo, TrackSource};
use sfu::command::{Command, Event, MediaKind, SpeakerLevel};
use sfu::ids::{PeerId, TrackId};

use super::script::*;
use crate::livekit::SessionId;
use crate::livekit::connect::{Admission, Signalling};

fn publisher(identity: &str) -> Admission {
    Admission { signalling: Signalling::Publish, auto_subscribe: false, ..admission(identity) }
}

fn viewer(identity: &str, participant: Option<&str>) -> Admission {
    let mut admission = admission(identity);
    admission.signalling = Signalling::Watch { participant: participant.map(str::to_owned) };
    admission.auto_subscribe = false;
    admission.permission.hidden = true;
    admission.publisher_offer = Some(offer(1));
    admission
}

/// Names of a viewer's feeds.
fn feeds(script: &Script, peer: PeerId) -> (TrackId, TrackId) {
    let of = |wanted: MediaKind| {
        let opened = script.commands.iter().find_map(|command| match command {
            Command::OpenFeed { peer: of, feed, kind, .. } if *of == peer && *kind == wanted => Some(*feed),
            _ => None,
        });
        opened.expect("a feed")
    };
    (of(MediaKind::Audio), of(MediaKind::Video))
}

/// What a feed was last told to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fed {
    /// It was told nothing.
    Never,
    Nothing,
    Track(TrackId),
}

impl Fed {
    fn track(self) -> Option<TrackId> {
        match self {
            Fed::Track(track) => Some(track),
            Fed::Never | Fed::Nothing => None,
        }
    }
}

fn fed(script: &Script, feed: TrackId) -> Fed {
    let told = script.commands.iter().rev().find_map(|command| match command {
        Command::Feed { feed: of, track, .. } if *of == feed => Some(track.map_or(Fed::Nothing, Fed::Track)),
        _ => None,
    });
    told.unwrap_or(Fed::Never)
}

fn speaks(script: &mut Script, levels: &[(TrackId, f32)]) {
    let room = script.room.id();
    let levels = levels.iter().map(|(track, level)| SpeakerLevel { track: *track, level: *level }).collect();
    script.media(Event::Speakers { room, levels });
}

#[test]
fn every_section_that_sends_is_published_with_its_source() {
    let mut script = Script::new();
    let watcher = script.active(admission("ada"));
    let encoder = script.active(publisher("encoder"));
    script.take(watcher);
    let camera = with_rids(section("1", MediaKind::Video, "v"), &["f", "q", "h"]);
    script.sections(
        encoder,
        vec![section("0", MediaKind::Audio, "a"), camera, silent(section("2", MediaKind::Video, "w"))],
    );

    let told = updates(&script.take(watcher));
    let tracks = &told.last().expect("an update").tracks;
    let sources: Vec<_> = tracks.iter().map(TrackInfo::source).collect();
    assert_eq!(sources, [TrackSource::Microphone, TrackSource::Camera]);
    #[expect(deprecated, reason = "older clients read it")]
    let rids: Vec<_> = tracks[1].layers.iter().map(|layer| layer.rid.as_str()).collect();
    assert_eq!(rids, ["q", "h", "f"], "smallest first");
    assert_eq!(names(&script.take(encoder)).iter().filter(|name| **name == "track_published").count(), 2);
    let bound = script.commands.iter().filter(|command| matches!(command, Command::BindTrack { .. })).count();
    let subscribed =
        script.commands.iter().filter(|command| matches!(command, Command::Subscribe { .. })).count();
    assert_eq!((bound, subscribed), (2, 2));

    // The same offer again, as for an ICE restart, publishes nothing twice.
    let again = script.known_sections(encoder);
    script.sections(encoder, again);
    assert_eq!(script.commands.iter().filter(|c| matches!(c, Command::BindTrack { .. })).count(), 2);
}

#[test]
fn what_may_not_be_published_is_refused_in_words() {
    let mut script = Script::new();
    let mut admission = publisher("encoder");
    admission.permission.can_publish_sources = vec![TrackSource::Microphone as i32];
    let encoder = script.active(admission);
    script.take(encoder);
    script.sections(encoder, vec![section("0", MediaKind::Audio, "a"), section("1", MediaKind::Video, "v")]);
    let told = script.take(encoder);
    assert!(told.iter().any(|message| matches!(message, Response::RequestResponse(_))), "{:?}", names(&told));
    assert_eq!(script.commands.iter().filter(|c| matches!(c, Command::BindTrack { .. })).count(), 1);
}

#[test]
fn over_http_nobody_comes_back() {
    for how in ["path", "socket"] {
        let mut script = Script::new();
        let encoder = script.active(publisher("encoder"));
        let before = script.room.participants();
        match how {
            "path" => script.lose(encoder),
            _ => script.close_socket(encoder),
        }
        assert_eq!((before, script.room.participants()), (1, 0), "{how}");
        assert!(script.closed.contains(&encoder) || how == "socket", "{how}");
    }
}

struct Talk {
    script: Script,
    sessions: [SessionId; 2],
    mics: [TrackId; 2],
    cameras: [TrackId; 2],
}

/// Two who publish sound and pictures.
fn talk() -> Talk {
    let mut script = Script::new();
    let sessions = ["ada", "bob"].map(|identity| script.active(admission(identity)));
    let mics = sessions.map(|session| {
        script.commands.clear();
        script.publish(session, "0", microphone("m")).0
    });
    let cameras = sessions.map(|session| {
        script.commands.clear();
        script.publish(session, "1", camera("c")).0
    });
    Talk { script, sessions, mics, cameras }
}

#[test]
fn a_viewer_follows_who_speaks_and_stays_with_who_spoke_last() {
    let Talk { mut script, sessions, mics, cameras } = talk();
    let viewer = script.active(viewer("tv", None));
    let (audio, video) = feeds(&script, script.publisher(viewer));
    let shown = |script: &Script| (fed(script, audio).track(), fed(script, video).track());
    assert_eq!(shown(&script), (Some(mics[0]), Some(cameras[0])), "somebody, before anybody spoke");
    assert!(
        !script
            .commands
            .iter()
            .any(|c| matches!(c, Command::Subscribe { peer, .. } if *peer == script.publisher(viewer)))
    );

    speaks(&mut script, &[(mics[1], 0.5)]);
    assert_eq!(shown(&script), (Some(mics[1]), Some(cameras[1])));
    speaks(&mut script, &[]);
    assert_eq!(shown(&script), (Some(mics[1]), Some(cameras[1])), "silence changes nothing");
    let before = script.commands.len();
    speaks(&mut script, &[(mics[1], 0.5), (mics[0], 0.55)]);
    speaks(&mut script, &[(mics[1], 0.5), (mics[0], 0.55)]);
    assert_eq!(script.commands.len(), before, "who speaks is not cut off by who is about as loud");
    speaks(&mut script, &[(mics[1], 0.25), (mics[0], 0.9)]);
    assert_eq!(script.commands.len(), before, "nor by one loud moment");
    speaks(&mut script, &[(mics[1], 0.25), (mics[0], 0.9)]);
    assert_eq!(shown(&script), (Some(mics[0]), Some(cameras[0])));

    // Muted pictures are not shown; the other's are, and the sound stays.
    let camera_sid = script.room.tracks[&cameras[0]].info.sid.clone();
    script.request(sessions[0], Request::Mute(MuteTrackRequest { sid: camera_sid.clone(), muted: true }));
    assert_eq!(shown(&script), (Some(mics[0]), Some(cameras[1])));
    script.request(sessions[0], Request::Mute(MuteTrackRequest { sid: camera_sid, muted: false }));
    assert_eq!(shown(&script), (Some(mics[0]), Some(cameras[0])));
    script.close_socket(sessions[0]);
    script.lose(sessions[0]);
    script.advance(std::time::Duration::from_mins(1));
    assert_eq!(shown(&script), (Some(mics[1]), Some(cameras[1])), "who is gone is not watched");
    assert!(script.room.participants() == 2);
}

#[test]
fn a_viewer_follows_whom_it_named_and_nobody_else() {
    let Talk { mut script, sessions, mics, cameras } = talk();
    let viewer = script.active(viewer("tv", Some("bob")));
    let (audio, video) = feeds(&script, script.publisher(viewer));
    let shown = |script: &Script| (fed(script, audio).track(), fed(script, video).track());
    assert_eq!(shown(&script), (Some(mics[1]), Some(cameras[1])));
    speaks(&mut script, &[(mics[0], 1.0)]);
    assert_eq!(shown(&script), (Some(mics[1]), Some(cameras[1])));
    script.request(sessions[1], Request::Leave(LeaveRequest::default()));
    assert_eq!(shown(&script), (None, None));
    let back = script.active(admission("bob"));
    script.commands.clear();
    let (camera, _) = script.publish(back, "0", camera("c"));
    assert_eq!(fed(&script, video), Fed::Track(camera), "and finds it again when it is back");
}

#[test]
fn a_viewer_waits_in_an_empty_room() {
    let mut script = Script::new();
    let viewer = script.active(viewer("tv", None));
    let (_, video) = feeds(&script, script.publisher(viewer));
    assert!(
        script.commands.iter().any(|command| matches!(command, Command::Offer { .. })),
        "answered at once"
    );
    assert_eq!(fed(&script, video), Fed::Never);
    let ada = script.active(admission("ada"));
    assert!(updates(&script.inbox[&ada]).iter().all(|who| who.identity != "tv"), "others do not see it");
    let (camera, _) = script.publish(ada, "0", camera("c"));
    assert_eq!(fed(&script, video), Fed::Track(camera));
}

#[test]
fn what_a_viewer_may_not_have_or_cannot_decode_is_not_shown() {
    let Talk { mut script, sessions, mics, cameras } = talk();
    let tv = script.active(viewer("tv", None));
    let peer = script.publisher(tv);
    let (audio, video) = feeds(&script, peer);
    script.media(Event::SubscriptionUnsupported { peer, track: cameras[0] });
    assert_eq!(fed(&script, video), Fed::Track(cameras[1]));
    let nobody = livekit_protocol::SubscriptionPermission::default();
    script.request(sessions[1], Request::SubscriptionPermission(nobody.clone()));
    assert_eq!(fed(&script, video), Fed::Nothing);
    assert_eq!(fed(&script, audio), Fed::Track(mics[0]));
    script.request(sessions[0], Request::SubscriptionPermission(nobody));
    assert_eq!(fed(&script, audio), Fed::Nothing);
}
