//! A viewer chooses the simulcast layer.

use std::time::Duration;

use crate::harness::{
    Browser, Camera, Kind, Mode, Participant, Received, Server, alone, eventually, observe,
};
use crate::meeting::sees;

/// How soon the new size must be on screen. The promise is a second; the rest is for the viewer's jitter buffer and
/// for two cores that encode and decode at the same time.
const SWITCH: f64 = 1000.0 + 250.0;

#[test]
fn a_viewer_gets_the_layer_it_asks_for() {
    a_viewer_asks_for_layers(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what the core does in the same way over one connection"]
fn a_viewer_gets_the_layer_it_asks_for_over_two_connections() {
    a_viewer_asks_for_layers(Mode::V0);
}

fn a_viewer_asks_for_layers(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("layers-{mode:?}"));
    let browser = Browser::start();
    let [sender, viewer] = ["sender", "viewer"].map(|name| browser.participant(name));
    for person in [&sender, &viewer] {
        person.join(&server, "garden", mode);
    }
    sender.publish_camera(&Camera::HD);
    // The rate grows from its first guess until there is room for the top layer.
    eventually(Duration::from_secs(25), || with_width(&viewer, &sender, |width| width == 1280));
    eventually(Duration::from_secs(10), || sees(&viewer, &sender));

    let tour = [("LOW", 320), ("HIGH", 1280), ("MEDIUM", 640), ("LOW", 320), ("MEDIUM", 640), ("HIGH", 1280)];
    for (quality, width) in tour {
        let before = viewer.track(&sender, Kind::Video).expect("still there");
        viewer.restart();
        let asked = viewer.set_quality(&sender, quality);
        eventually(Duration::from_secs(5), || with_width(&viewer, &sender, |now| now == width));
        observe(Duration::from_secs(1));

        let after = viewer.track(&sender, Kind::Video).expect("still there");
        let switch =
            after.seen.sizes.iter().find(|size| size.at > asked && size.width == width).expect("it was seen");
        println!("{quality}: {:.0} ms, longest gap {:.0} ms", switch.at - asked, after.seen.longest_gap);
        assert!(switch.at - asked <= SWITCH, "{quality} took {} ms", switch.at - asked);
        assert_eq!(after.seen.width, width, "{quality} did not last: {after:?}");
        assert!(after.seen.longest_gap <= 300.0, "{quality} froze for {} ms", after.seen.longest_gap);
        // A decoder that got what it cannot decode asks for a keyframe.
        assert_eq!(after.stats.pli_count, before.stats.pli_count, "{quality} was not decodable");
    }
    assert!(server.metric("sluice_layer_switches_total", &["up"]) >= 3);
    assert!(server.metric("sluice_layer_switches_total", &["down"]) >= 3);
}

/// The picture has a width that is wanted.
pub(crate) fn with_width(
    viewer: &Participant<'_>,
    of: &Participant<'_>,
    wanted: impl Fn(u32) -> bool,
) -> Result<Received, String> {
    let track = viewer.track(of, Kind::Video)?;
    if track.seen.width > 0 && wanted(track.seen.width) {
        Ok(track)
    } else {
        Err(format!("{track:?}; {:?}", of.sent()))
    }
}
