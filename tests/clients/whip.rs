//! WHIP and WHEP with clients of others: a browser library, FFmpeg's muxer, aiortc and GStreamer, in rooms with
//! livekit-client.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Browser, Camera, Kind, Mode, OverHttp, Participant, Received, Server, alone, eventually, observe,
    own_address,
};

const RED: [u8; 3] = [200, 40, 60];
const GREEN: [u8; 3] = [30, 170, 90];
const BLUE: [u8; 3] = [40, 60, 200];
/// Full-range BT.709 read as something else is off by so much.
const OFF: f64 = 45.0;
const PATIENCE: Duration = Duration::from_secs(20);

fn url(server: &Server, path: &str) -> String {
    format!("{}{}", server.page().trim_end_matches('/'), path)
}

/// What a publisher sends: one colour and a tone.
fn film(rgb: [u8; 3], hertz: f64) -> Value {
    json!({ "width": 640, "height": 360, "fps": 20, "rgb": rgb, "hertz": hertz })
}

/// Where it publishes, as whom, and what.
fn publication(server: &Server, identity: &str, film: &Value) -> Value {
    json!([url(server, "/whip"), server.token("studio", identity), film])
}

fn has_colour(track: &Received, rgb: [u8; 3]) -> bool {
    let near = |mean: [f64; 3]| mean.iter().zip(rgb).all(|(have, want)| (have - f64::from(want)).abs() < OFF);
    track.seen.frames >= 5 && track.seen.mean.is_some_and(near)
}

/// A participant on livekit-client sees and hears a publisher.
fn meets(viewer: &Participant<'_>, of: &Participant<'_>, rgb: [u8; 3], hertz: f64) -> Result<(), String> {
    let (video, audio) = (viewer.track(of, Kind::Video)?, viewer.track(of, Kind::Audio)?);
    shows(&[video, audio], rgb, hertz)
}

/// A viewer over HTTP is shown that.
fn is_shown(
    viewer: &Participant<'_>,
    function: &str,
    arguments: &Value,
    rgb: [u8; 3],
    hertz: f64,
) -> Result<(), String> {
    shows(&viewer.over_http::<Vec<Received>>(function, arguments), rgb, hertz)
}

fn shows(tracks: &[Received], rgb: [u8; 3], hertz: f64) -> Result<(), String> {
    let seen = tracks.iter().any(|track| track.kind == Kind::Video && has_colour(track, rgb));
    let in_tune = |track: &&Received| (track.seen.hertz - hertz).abs() < 12.0 && track.seen.rms > 0.02;
    let heard = tracks.iter().filter(|track| track.kind == Kind::Audio).any(|track| in_tune(&track));
    if seen && heard { Ok(()) } else { Err(format!("{rgb:?} {seen}, {hertz} Hz {heard}: {tracks:?}")) }
}

fn sees_leave(viewer: &Participant<'_>, whom: &str) {
    eventually(Duration::from_secs(5), || match viewer.others() {
        others if others.iter().any(|other| other == whom) => Err(format!("{others:?}")),
        _ => Ok(()),
    });
}

#[test]
fn a_browser_library_publishes_and_watches() {
    let _turn = alone();
    // With one candidate: the library puts several into one line when it restarts ICE.
    let server = Server::start_at("whip-browser", Ipv4Addr::LOCALHOST);
    let browser = Browser::start();
    let [ada, encoder, tv] = ["ada", "encoder", "tv"].map(|name| browser.participant(name));
    // Before anybody is there: answered, and filled later.
    let any = json!(["tv", url(&server, "/whep"), server.token("studio", "tv")]);
    tv.over_http::<Value>("whepWatch", &any);
    let shown = json!(["tv"]);
    let negotiated: String = tv.over_http("whepDescriptions", &shown);

    ada.join(&server, "studio", Mode::V1);
    assert!(ada.others().is_empty(), "a viewer is hidden");
    let mut film = film(GREEN, 880.0);
    film["rids"] = json!(["q", "h"]);
    let publication = publication(&server, "encoder", &film);
    encoder.over_http::<Value>(
        "whipPublish",
        &json!(["encoder", publication[0], publication[1], publication[2]]),
    );
    eventually(PATIENCE, || meets(&ada, &encoder, GREEN, 880.0));
    eventually(PATIENCE, || is_shown(&tv, "whepReceived", &shown, GREEN, 880.0));
    eventually(PATIENCE, || match ada.track(&encoder, Kind::Video)? {
        track if track.seen.width == 640 => Ok(()),
        track => Err(format!("the high layer does not come: {track:?}")),
    });
    ada.set_quality(&encoder, "LOW");
    eventually(PATIENCE, || match ada.track(&encoder, Kind::Video)? {
        track if track.seen.width == 320 => Ok(()),
        track => Err(format!("the low layer does not come: {track:?}")),
    });

    // New ICE credentials on both sides; what is seen goes on.
    for (who, name) in [(&encoder, "encoder"), (&tv, "tv")] {
        let restarted: Value = who.over_http("whipRestart", &json!([name]));
        assert_ne!(restarted["before"], restarted["after"], "{restarted}");
    }
    ada.restart();
    observe(Duration::from_secs(3));
    let track = ada.track(&encoder, Kind::Video).expect("still there");
    assert!(track.seen.longest_gap < 1500.0, "the restart was noticed: {track:?}");
    eventually(PATIENCE, || is_shown(&tv, "whepReceived", &shown, GREEN, 880.0));

    // Of a participant on an SDK, by name; and of whoever is left.
    ada.publish_camera(&Camera::SMALL.coloured(RED));
    ada.publish_microphone(440.0);
    let wall = browser.participant("wall");
    let named = json!(["wall", url(&server, "/whep?participant=ada"), server.token("studio", "wall")]);
    wall.over_http::<Value>("whepWatch", &named);
    eventually(PATIENCE, || is_shown(&wall, "whepReceived", &json!(["wall"]), RED, 440.0));
    encoder.over_http::<Value>("whipStop", &json!(["encoder"]));
    sees_leave(&ada, "encoder");
    eventually(PATIENCE, || is_shown(&tv, "whepReceived", &shown, RED, 440.0));
    let after: String = tv.over_http("whepDescriptions", &shown);
    let sections = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!((sections(&negotiated), sections(&after)), (2, 2));
    assert_eq!(server.metric("sluice_whip_sessions", &["protocol=\"whep\""]), 2);
    assert_eq!(server.metric("sluice_whip_sessions", &["protocol=\"whip\""]), 0);
}

#[test]
fn aiortc_publishes_and_watches() {
    let _turn = alone();
    let server = Server::start("whip-aiortc");
    let (browser, native) = (Browser::start(), OverHttp::start());
    let ada = browser.participant("ada");
    ada.join(&server, "studio", Mode::V1);
    let [sender, tv] = ["sender", "tv"].map(|name| native.client(name));
    tv.over_http::<Value>("aiortcWatch", &json!([url(&server, "/whep"), server.token("studio", "tv")]));

    sender.over_http::<Value>("aiortcPublish", &publication(&server, "sender", &film(BLUE, 660.0)));
    eventually(PATIENCE, || meets(&ada, &sender, BLUE, 660.0));
    eventually(PATIENCE, || is_shown(&tv, "received", &json!([]), BLUE, 660.0));
    sender.over_http::<Value>("stop", &json!([]));
    sees_leave(&ada, "sender");

    // H.264 after VP8, in the section that was negotiated once.
    ada.publish_camera(&Camera { codec: "h264", ..Camera::SMALL.coloured(RED) });
    ada.publish_microphone(440.0);
    eventually(PATIENCE, || is_shown(&tv, "received", &json!([]), RED, 440.0));
    tv.over_http::<Value>("stop", &json!([]));
    assert_eq!(server.metric("sluice_whip_sessions", &[]), 0);
}

#[test]
#[ignore = "PyAV's FFmpeg is built with GnuTLS, whose DTLS reads block: before each packet that it sends it waits for one of \
            ours, two a second"]
fn ffmpeg_publishes() {
    let _turn = alone();
    let server = Server::start("whip-ffmpeg");
    let (browser, native) = (Browser::start(), OverHttp::start());
    let ada = browser.participant("ada");
    ada.join(&server, "studio", Mode::V1);
    let ffmpeg = native.client("ffmpeg");
    ffmpeg.over_http::<Value>("ffmpegPublish", &publication(&server, "ffmpeg", &film(RED, 440.0)));
    eventually(PATIENCE, || meets(&ada, &ffmpeg, RED, 440.0));
    let codec = ada.track(&ffmpeg, Kind::Video).expect("just seen").stats.codec;
    assert_eq!(codec, "video/H264");
    ffmpeg.over_http::<Value>("stop", &json!([]));
    sees_leave(&ada, "ffmpeg");
}

#[test]
#[ignore = "needs Debian's GStreamer: apt-get install gstreamer1.0-plugins-bad gstreamer1.0-plugins-good gstreamer1.0-nice \
            python3-gst-1.0 gir1.2-gst-plugins-bad-1.0"]
fn gstreamer_publishes_and_watches() {
    let _turn = alone();
    // Its ICE has no candidates on loopback, and reaches nothing there.
    let server = Server::start_at("whip-gstreamer", own_address());
    let (browser, gst) = (Browser::start(), OverHttp::start_gstreamer());
    let ada = browser.participant("ada");
    ada.join(&server, "studio", Mode::V1);
    let [sender, tv] = ["sender", "tv"].map(|name| gst.client(name));
    let token = server.token("studio", "sender");
    sender.over_http::<Value>("publish", &json!([url(&server, "/whip"), token, film(GREEN, 660.0)]));
    eventually(PATIENCE, || meets(&ada, &sender, GREEN, 660.0));

    ada.publish_camera(&Camera::SMALL.coloured(RED));
    ada.publish_microphone(440.0);
    let named = url(&server, "/whep?participant=ada");
    tv.over_http::<Value>("watch", &json!([named, server.token("studio", "tv")]));
    eventually(PATIENCE, || is_shown(&tv, "received", &json!([]), RED, 440.0));
    for who in [&sender, &tv] {
        who.over_http::<Value>("stop", &json!([]));
    }
    sees_leave(&ada, "sender");
}
