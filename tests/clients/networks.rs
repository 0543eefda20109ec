//! Networks that are narrow, lossy or gone. Only the client that suffers is in Chromium; the others are on the Python
//! SDK, outside the bad network.

use std::time::Duration;

use crate::harness::namespace::Namespace;
use crate::harness::{Browser, Camera, Kind, Mode, Participant, Sdk, Server, alone, eventually, observe};
use crate::layers::with_width;
use crate::meeting::{hears, sees};

#[test]
fn a_narrow_downlink_gets_a_lower_layer_and_nobody_else_notices() {
    let _turn = alone();
    let namespace = Namespace::new();
    let server = Server::start_at("narrow", namespace.outside());
    let (sending, viewing, browser) = (Sdk::start(), Sdk::start(), Browser::start_in(&namespace));
    let (sender, other, narrow) =
        (sending.participant("sender"), viewing.participant("other"), browser.participant("narrow"));
    for person in [&sender, &other, &narrow] {
        person.join(&server, "garden", Mode::V1);
    }
    sender.publish_camera(&Camera::HD);
    sender.publish_microphone(440.0);
    for viewer in [&other, &narrow] {
        eventually(Duration::from_secs(25), || with_width(viewer, &sender, |width| width == 1280));
    }
    other.restart();
    let frames_sent = top_frames(&sender);

    namespace.limit_downlink(500);
    eventually(Duration::from_secs(3), || with_width(&narrow, &sender, |width| width < 1280));
    let window = Duration::from_secs(8);
    narrow.restart();
    observe(window);
    let limited = narrow.track(&sender, Kind::Video).expect("still there");
    let rate = limited.seen.frames as f64 / window.as_secs_f64();
    assert!(rate >= 12.0, "{rate} frames a second: {limited:?}");
    assert!(limited.seen.width < 1280, "{limited:?}");
    hears(&narrow, &sender, 440.0).expect("sound goes on");

    namespace.lift_limit();
    eventually(Duration::from_secs(15), || with_width(&narrow, &sender, |width| width == 1280));

    // All this time, from before the limit until after it.
    let undisturbed = other.track(&sender, Kind::Video).expect("still there");
    assert!(undisturbed.seen.longest_gap < 500.0, "the other viewer froze: {undisturbed:?}");
    let after_first = undisturbed.seen.sizes.iter().skip_while(|size| size.width < 1280);
    assert!(
        after_first.clone().all(|size| size.width == 1280),
        "the other viewer's layer changed: {undisturbed:?}"
    );
    assert!(top_frames(&sender) > frames_sent + 100, "the sender stopped its top layer: {:?}", sender.sent());
}

#[test]
fn five_percent_loss_is_repaired_and_a_cut_cable_is_noticed() {
    let _turn = alone();
    let namespace = Namespace::new();
    let server = Server::start_at("loss", namespace.outside());
    let (sdk, browser) = (Sdk::start(), Browser::start_in(&namespace));
    let (outside, lossy) = (sdk.participant("outside"), browser.participant("lossy"));
    for (person, hertz) in [(&outside, 440.0), (&lossy, 660.0)] {
        person.join(&server, "garden", Mode::V1);
        person.publish_camera(&Camera::SMALL);
        person.publish_microphone(hertz);
    }
    eventually(Duration::from_secs(20), || sees(&lossy, &outside));
    eventually(Duration::from_secs(20), || sees(&outside, &lossy));

    namespace.lose(5);
    for person in [&outside, &lossy] {
        person.restart();
    }
    let window = Duration::from_secs(10);
    observe(window);
    for (viewer, sender, hertz) in [(&lossy, &outside, 440.0), (&outside, &lossy, 660.0)] {
        let video = sees(viewer, sender).expect("the picture goes on");
        let rate = video.seen.frames as f64 / window.as_secs_f64();
        assert!(rate >= 10.0, "{rate} frames a second: {video:?}");
        assert!(video.seen.longest_gap < 1500.0, "frozen: {video:?}");
        hears(viewer, sender, hertz).expect("sound goes on");
    }
    // Of 50 packets of sound a second, 5 % are lost and concealed; little more may be.
    let sound = lossy.track(&outside, Kind::Audio).expect("still there").stats;
    let concealed = sound.concealed_samples.saturating_sub(sound.silent_concealed_samples) as f64;
    assert!(concealed < 0.15 * sound.total_samples_received as f64, "{sound:?}");
    let [down, up] = namespace.lost();
    assert!(down > 20 && up > 20, "the network lost nothing: {down} down, {up} up");
    for direction in ["direction=\"in\"", "direction=\"out\""] {
        assert!(server.metric("sluice_media_nacks_total", &[direction]) > 0.0, "no NACK {direction}");
        assert!(server.metric("sluice_media_retransmissions_total", &[direction]) > 0.0, "none {direction}");
    }

    namespace.cut();
    eventually(Duration::from_secs(20), || match outside.others() {
        others if others.is_empty() => Ok(()),
        others => Err(format!("still there: {others:?}")),
    });
}

fn top_frames(sender: &Participant<'_>) -> u64 {
    sender.sent().iter().filter(|layer| layer.frame_width == 1280).map(|layer| layer.frames_sent).sum()
}
