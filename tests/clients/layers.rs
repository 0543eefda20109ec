//! A viewer chooses the simulcast layer.

use std::time::Duration;

use crate::harness::{Browser, Camera, Kind, Mode, Server, alone, eventually, observe};

/// How soon the new size must be on screen. The promise is a second; the rest is for the viewer's jitter buffer and
/// for two cores that encode and decode at the same time.
const SWITCH: f64 = 1000.0 + 250.0;

#[test]
fn a_viewer_gets_the_layer_it_asks_for() {
    let _turn = alone();
    let server = Server::start("layers");
    let browser = Browser::start();
    let [sender, viewer] = ["sender", "viewer"].map(|name| browser.participant(name));
    for person in [&sender, &viewer] {
        person.join(&server, "garden", Mode::V1);
    }
    sender.publish_camera(&Camera::HD);
    let look = |width| {
        move |track: crate::harness::Received| match track.seen.width == width {
            true => Ok(track),
            false => Err(format!("{track:?}; {:?}", "sender")),
        }
    };
    // The rate grows from its first guess until there is room for the top layer.
    eventually(Duration::from_secs(25), || {
        viewer
            .track(&sender, Kind::Video)
            .and_then(look(1280))
            .map_err(|error| format!("{error}; {:?}", sender.sent()))
    });

    let tour = [("LOW", 320), ("HIGH", 1280), ("MEDIUM", 640), ("LOW", 320), ("MEDIUM", 640), ("HIGH", 1280)];
    for (quality, width) in tour {
        let before = viewer.track(&sender, Kind::Video).expect("still there");
        viewer.restart();
        let asked = viewer.set_quality(&sender, quality);
        eventually(Duration::from_secs(5), || viewer.track(&sender, Kind::Video).and_then(look(width)));
        observe(Duration::from_secs(1));

        let after = viewer.track(&sender, Kind::Video).expect("still there");
        let switch =
            after.seen.sizes.iter().find(|size| size.at > asked && size.width == width).expect("it was seen");
        assert!(switch.at - asked <= SWITCH, "{quality} took {} ms", switch.at - asked);
        assert_eq!(after.seen.width, width, "{quality} did not last: {after:?}");
        assert!(after.seen.longest_gap <= 300.0, "{quality} froze for {} ms", after.seen.longest_gap);
        assert_eq!(after.stats.freeze_count, before.stats.freeze_count, "{quality} froze");
        // A decoder that got what it cannot decode asks for a keyframe.
        assert_eq!(after.stats.pli_count, before.stats.pli_count, "{quality} was not decodable");
    }
    assert!(server.metric("sluice_layer_switches_total", &["up"]) >= 3.0);
    assert!(server.metric("sluice_layer_switches_total", &["down"]) >= 3.0);
}
