//! A publisher sends what somebody watches, and nothing else.

use std::time::Duration;

use crate::harness::{Browser, Camera, Kind, Mode, Participant, Server, alone, eventually, observe};
use crate::layers::with_width;

/// How soon a layer that nobody watches has stopped.
const STOPPED: Duration = Duration::from_secs(5);
/// How soon a layer is on screen that had stopped, in milliseconds.
const STARTED: f64 = 2000.0;

#[test]
fn layers_stop_when_nobody_watches_and_start_on_demand() {
    layers_stop_and_start(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what the core does in the same way over one connection"]
fn layers_stop_when_nobody_watches_and_start_on_demand_over_two_connections() {
    layers_stop_and_start(Mode::V0);
}

fn layers_stop_and_start(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("dynacast-{mode:?}"));
    let browser = Browser::start();
    let [sender, viewer] = ["sender", "viewer"].map(|name| browser.participant(name));
    sender.join_with_dynacast(&server, "garden", mode);
    viewer.join(&server, "garden", mode);
    sender.publish_camera(&Camera::HD);
    let on_screen = |wanted: u32| with_width(&viewer, &sender, |width| width == wanted);
    // The rate grows from its first guess until there is room for the top layer.
    eventually(Duration::from_secs(25), || on_screen(1280));
    observe(Duration::from_secs(6));
    assert_eq!(active(&sender), ["f", "h", "q"], "all are wanted");

    viewer.set_quality(&sender, "LOW");
    sends_only(&sender, &["q"]);
    eventually(Duration::from_secs(1), || on_screen(320));

    let asked = viewer.set_quality(&sender, "HIGH");
    eventually(STOPPED, || on_screen(1280));
    let after = shown_after(&viewer, &sender, asked, 1280);
    println!("HIGH, which had stopped: {after:.0} ms");
    assert!(after <= STARTED, "HIGH took {after} ms");

    viewer.subscribe(&sender, false);
    sends_only(&sender, &[]);

    let asked = viewer.subscribe(&sender, true);
    eventually(Duration::from_secs(10), || on_screen(1280));
    let after = shown_after(&viewer, &sender, asked, 1280);
    println!("subscribed again: {after:.0} ms");
}

/// The rids of the encodings that are on, sorted.
fn active(sender: &Participant<'_>) -> Vec<String> {
    let on = sender.sent().into_iter().filter(|layer| layer.active);
    let mut rids: Vec<String> = on.map(|layer| layer.rid).collect();
    rids.sort();
    rids
}

/// Soon these encodings are on and no other sends anything.
fn sends_only(sender: &Participant<'_>, rids: &[&str]) {
    eventually(STOPPED, || {
        let on = active(sender);
        if on == rids { Ok(()) } else { Err(format!("{:?}", sender.sent())) }
    });
    // What was being encoded leaves.
    observe(Duration::from_millis(200));
    let before = sender.sent();
    observe(Duration::from_secs(2));
    for (before, after) in before.iter().zip(sender.sent()) {
        let wanted = rids.contains(&after.rid.as_str());
        assert_eq!(after.frames > before.frames, wanted, "{rids:?} are wanted: {before:?}, then {after:?}");
    }
}

/// How long after `asked` the picture first had that width, in milliseconds.
fn shown_after(viewer: &Participant<'_>, of: &Participant<'_>, asked: f64, width: u32) -> f64 {
    let track = viewer.track(of, Kind::Video).expect("it is there");
    let size = track.seen.sizes.iter().find(|size| size.at > asked && size.width == width);
    size.expect("it was seen").at - asked
}
