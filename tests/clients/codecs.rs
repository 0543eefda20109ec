//! Every video codec that browsers send, as livekit-client sends it by default: VP8 and H.264 in simulcast, VP9 and
//! AV1 as one scalable stream; the same of the Python SDK. And two codecs of one camera, for who cannot decode the first.

use std::time::{Duration, Instant};

use crate::harness::{Browser, Camera, Mode, Participant, Received, Sdk, Server, alone, eventually, observe};
use crate::meeting::sees;

/// By the name that SDKs have for a codec, that of SDP.
const CODECS: [(&str, &str); 4] =
    [("vp8", "video/VP8"), ("h264", "video/H264"), ("vp9", "video/VP9"), ("av1", "video/AV1")];

#[test]
fn every_video_codec_arrives() {
    every_codec_arrives(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what the tests of joining show of VP8"]
fn every_video_codec_arrives_over_two_connections() {
    every_codec_arrives(Mode::V0);
}

fn every_codec_arrives(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("codecs-{mode:?}"));
    let browser = Browser::start();
    for (codec, mime) in CODECS {
        // New tabs for each: a tab's camera films until the tab is closed.
        let sender = browser.participant(&format!("{codec}-sender"));
        let viewer = browser.participant(&format!("{codec}-viewer"));
        viewer.join(&server, codec, mode);
        sender.join(&server, codec, mode);
        sender.publish_camera(&Camera { codec, ..Camera::SMALL });

        let first = eventually(Duration::from_secs(20), || sees(&viewer, &sender));
        assert_eq!(first.stats.codec, mime, "{first:?}");
        viewer.restart();
        let window = Duration::from_secs(3);
        observe(window);
        let track = sees(&viewer, &sender).unwrap_or_else(|error| panic!("{codec}: {error}"));
        assert!(track.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{codec}: {track:?}");
        assert!(track.seen.longest_gap < 1000.0, "{codec} froze: {track:?}");
        assert_eq!(track.stats.codec, mime);
        sender.close();
        viewer.close();
    }
}

#[test]
#[ignore = "a quarter of a minute, for what browsers show of each codec"]
fn every_video_codec_of_the_python_sdk_arrives() {
    let _turn = alone();
    let server = Server::start("codecs-sdk");
    let (python, browser) = (Sdk::start(), Browser::start());
    for (codec, mime) in CODECS {
        let name = |who: &str| format!("{codec}-{who}");
        let [sender, viewer] = ["sender", "viewer"].map(|who| python.participant(&name(who)));
        let judge = browser.participant(&name("judge"));
        for person in [&sender, &viewer, &judge] {
            person.join(&server, codec, Mode::V1);
        }
        sender.publish_camera(&Camera { codec, fps: 15, ..Camera::SMALL });
        eventually(Duration::from_secs(20), || sees_in(&judge, &sender, mime));
        eventually(Duration::from_secs(10), || sees(&viewer, &sender));
        for person in [sender, viewer, judge] {
            person.close();
        }
    }
}

/// Who cannot decode VP9 sees the camera in VP8, which the publisher begins to send for it. Whether who can keeps VP9 is
/// the publisher's choice.
#[test]
fn who_cannot_decode_the_first_codec_sees_the_second() {
    let _turn = alone();
    let server = Server::start("backup");
    let browser = Browser::start();
    for (mode, both_codecs) in [(Mode::V1, true), (Mode::V0, true), (Mode::V1, false), (Mode::V0, false)] {
        let room = format!("{mode:?}-{both_codecs}");
        let join = |name: &str| browser.participant(&format!("{name}-{room}"));
        let (sender, modern, old) = (join("sender"), join("modern"), join("old"));
        modern.join(&server, &room, mode);
        sender.join(&server, &room, mode);
        sender.publish_camera(&Camera { codec: "vp9", both_codecs, ..Camera::SMALL });
        eventually(Duration::from_secs(20), || sees_in(&modern, &sender, "video/VP9"));
        old.join_without(&server, &room, mode, "VP9");
        let joined = Instant::now();
        eventually(Duration::from_secs(20), || sees_in(&old, &sender, "video/VP8"));
        println!("{room}: ten pictures of VP8 after {} ms", joined.elapsed().as_millis());
        let to_modern = if both_codecs { "video/VP9" } else { "video/VP8" };
        eventually(Duration::from_secs(10), || sees_in(&modern, &sender, to_modern));
        // What nobody watches any more stops after four seconds, and whatever is amiss shows by then.
        observe(Duration::from_secs(6));
        for viewer in [&modern, &old] {
            viewer.restart();
        }
        let window = Duration::from_secs(3);
        observe(window);
        for (viewer, mime) in [(&modern, to_modern), (&old, "video/VP8")] {
            let track = sees_in(viewer, &sender, mime).unwrap_or_else(|error| panic!("{room}: {error}"));
            assert!(track.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{room}: {track:?}");
            assert!(track.seen.longest_gap < 1000.0, "{room} froze: {track:?}");
            let failures = viewer.history().into_iter().filter(|one| one.what.contains("failed"));
            assert_eq!(failures.count(), 0, "{room}: {:?}", viewer.history());
        }
        let first = sender.sent().iter().any(|layer| layer.active);
        assert_eq!(first, both_codecs, "{room}: {:?}", sender.sent());
        for participant in [sender, modern, old] {
            participant.close();
        }
    }
}

fn sees_in(viewer: &Participant<'_>, of: &Participant<'_>, mime: &str) -> Result<Received, String> {
    let track = sees(viewer, of)?;
    if track.stats.codec == mime { Ok(track) } else { Err(format!("not in {mime}: {track:?}")) }
}
