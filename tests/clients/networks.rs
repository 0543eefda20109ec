//! Networks that are narrow, lossy or gone. Only the client that suffers is in Chromium; the others are on the Python
//! SDK, outside the bad network.

use std::time::{Duration, Instant, SystemTime};

use crate::harness::namespace::Namespace;
use crate::harness::{
    Browser, Camera, Kind, Mode, Participant, Received, Sdk, Server, alone, eventually, observe,
};
use crate::layers::with_width;
use crate::meeting::{hears, sees};

#[test]
fn a_narrow_downlink_gets_a_lower_layer_and_nobody_else_notices() {
    a_downlink_becomes_narrow(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what the core does in the same way over one connection"]
fn a_narrow_downlink_gets_a_lower_layer_and_nobody_else_notices_over_two_connections() {
    a_downlink_becomes_narrow(Mode::V0);
}

fn a_downlink_becomes_narrow(mode: Mode) {
    let _turn = alone();
    let namespace = Namespace::new();
    let server = Server::start_at(&format!("narrow-{mode:?}"), namespace.outside());
    let (sending, viewing, browser) = (Sdk::start(), Sdk::start(), Browser::start_in(&namespace));
    let (sender, other, narrow) =
        (sending.participant("sender"), viewing.participant("other"), browser.participant("narrow"));
    for person in [&sender, &other, &narrow] {
        person.join(&server, "garden", mode);
    }
    sender.publish_camera(&Camera::HD);
    sender.publish_microphone(440.0);
    for viewer in [&other, &narrow] {
        eventually(Duration::from_secs(30), || settled_at(1280, viewer, &sender));
    }
    other.restart();
    let (before, frames_sent) = (unix_ms(), top_frames(&sender));

    namespace.limit_downlink(500);
    eventually(Duration::from_secs(3), || with_width(&narrow, &sender, |width| width < 1280));
    let window = Duration::from_secs(8);
    let filmed = most_frames(&sender);
    narrow.restart();
    observe(window);
    let limited = narrow.track(&sender, Kind::Video).expect("still there");
    assert_rate(12.0, window, &limited, most_frames(&sender) - filmed);
    assert!(limited.seen.width < 1280, "{limited:?}");
    hears(&narrow, &sender, 440.0).expect("sound goes on");

    namespace.lift_limit();
    eventually(Duration::from_secs(15), || with_width(&narrow, &sender, |width| width == 1280));

    // All this time, from before the limit until after it.
    let undisturbed = other.track(&sender, Kind::Video).expect("still there");
    assert!(undisturbed.seen.longest_gap < 500.0, "the other viewer froze: {undisturbed:?}");
    let frames_sent = top_frames(&sender) - frames_sent;
    let changes: Vec<_> = undisturbed.seen.sizes.iter().filter(|size| size.at > before).collect();
    let since = Duration::from_secs_f64((unix_ms() - before) / 1000.0);
    assert!(
        changes.is_empty() && frames_sent as f64 > 15.0 * since.as_secs_f64(),
        "in {since:?} the sender sent {frames_sent} frames of its top layer, and the other viewer had {changes:?}"
    );
}

#[test]
fn five_percent_loss_is_repaired() {
    five_percent_are_lost(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what the core does in the same way over one connection"]
fn five_percent_loss_is_repaired_over_two_connections() {
    five_percent_are_lost(Mode::V0);
}

fn five_percent_are_lost(mode: Mode) {
    let _turn = alone();
    let namespace = Namespace::new();
    let server = Server::start_at(&format!("loss-{mode:?}"), namespace.outside());
    let (sdk, browser) = (Sdk::start(), Browser::start_in(&namespace));
    let (outside, lossy) = (sdk.participant("outside"), browser.participant("lossy"));
    for (person, hertz) in [(&outside, 440.0), (&lossy, 660.0)] {
        person.join(&server, "garden", mode);
        person.publish_camera(&Camera::SMALL);
        person.publish_microphone(hertz);
    }
    eventually(Duration::from_secs(20), || sees(&lossy, &outside));
    eventually(Duration::from_secs(20), || sees(&outside, &lossy));

    namespace.lose(5);
    let filmed = [&outside, &lossy].map(most_frames);
    for person in [&outside, &lossy] {
        person.restart();
    }
    let window = Duration::from_secs(10);
    observe(window);
    let directions = [(&lossy, &outside, 440.0), (&outside, &lossy, 660.0)];
    for ((viewer, sender, hertz), filmed) in directions.into_iter().zip(filmed) {
        let video = sees(viewer, sender).expect("the picture goes on");
        assert_rate(10.0, window, &video, most_frames(sender) - filmed);
        assert!(video.seen.longest_gap < 1500.0, "frozen: {video:?}");
        hears(viewer, sender, hertz).expect("sound goes on");
    }
    // Of 50 packets of sound a second, 5 % are lost and concealed; little more may be.
    let sound = lossy.track(&outside, Kind::Audio).expect("still there").stats;
    let concealed = sound.concealed_samples.saturating_sub(sound.silent_concealed_samples) as f64;
    assert!(concealed < 0.15 * sound.total_samples_received as f64, "{sound:?}");
    let [down, up] = namespace.lost();
    assert!(down > 20 && up > 20, "the network lost nothing: {down} down, {up} up");
    let repairs = ["sluice_media_nacks_total", "sluice_media_retransmissions_total"].map(|family| {
        ["in", "out"].map(|direction| server.metric(family, &[&format!("direction=\"{direction}\"")]))
    });
    assert!(
        repairs.as_flattened().iter().all(|count| *count > 0),
        "NACKs and repairs, in and out: {repairs:?}"
    );
}

#[test]
fn a_client_whose_cable_is_cut_has_time_to_come_back_and_is_gone_after_that() {
    let _turn = alone();
    let namespace = Namespace::new();
    let patience = [("SLUICE_ROOMS__OUTAGE_TIMEOUT", "25s")];
    let server = Server::start_with("cut", namespace.outside(), &patience);
    let (outside, inside) = (Sdk::start(), Sdk::start_in(&namespace));
    let (stays, cut_off) = (outside.participant("stays"), inside.participant("cut-off"));
    for person in [&stays, &cut_off] {
        person.join(&server, "garden", Mode::V1);
        person.publish_microphone(440.0);
    }
    eventually(Duration::from_secs(20), || hears(&stays, &cut_off, 440.0));

    namespace.cut();
    let since = Instant::now();
    observe(Duration::from_secs(20));
    assert_eq!(stays.others(), ["cut-off"], "longer than one whose process was killed");
    eventually(Duration::from_secs(8), || match stays.others() {
        others if others.is_empty() => Ok(()),
        others => Err(format!("still there: {others:?}")),
    });
    println!("noticed after {:?}", since.elapsed());
}

/// The width has been the same for three seconds: the estimate of a new connection has come to rest.
fn settled_at(width: u32, viewer: &Participant<'_>, of: &Participant<'_>) -> Result<(), String> {
    let track = with_width(viewer, of, |now| now == width)?;
    match track.seen.sizes.last() {
        Some(last) if last.at < unix_ms() - 3000.0 => Ok(()),
        _ => Err(format!("{} has only just got there: {track:?}", viewer.name())),
    }
}

fn unix_ms() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    since.as_secs_f64() * 1000.0
}

/// At least `least` frames a second. `filmed` is what the sender's encoder made in the same time, to tell a slow
/// network from a slow machine.
#[track_caller]
fn assert_rate(least: f64, window: Duration, track: &Received, filmed: u64) {
    let [seen, filmed] = [track.seen.frames, filmed].map(|frames| frames as f64 / window.as_secs_f64());
    println!("{seen} of {filmed} frames a second");
    assert!(filmed > least, "this machine is too slow or too busy to film: {filmed} frames a second");
    assert!(seen >= least, "{seen} of {filmed} frames a second: {track:?}");
}

/// Frames of the layer that has sent most.
fn most_frames(sender: &Participant<'_>) -> u64 {
    sender.sent().iter().map(|layer| layer.frames).max().unwrap_or(0)
}

fn top_frames(sender: &Participant<'_>) -> u64 {
    sender.sent().iter().filter(|layer| layer.frame_width == 1280).map(|layer| layer.frames).sum()
}
