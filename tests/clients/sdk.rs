//! The Python SDK, whose core is that of the other native SDKs: with itself and with Chromium. And Node's, which has that core too.

use std::time::Duration;

use crate::harness::{Browser, Camera, Kind, Mode, Participant, Received, Sdk, Server, alone, eventually};
use crate::layers::with_width;
use crate::meeting::{hears, sees};

const RED: [u8; 3] = [200, 40, 60];
const GREEN: [u8; 3] = [30, 170, 90];

#[test]
fn python_meets_python_and_chromium_over_one_connection_each() {
    python_meets_python_and_chromium(Mode::V1);
}

#[test]
fn python_meets_python_and_chromium_over_two_connections_each() {
    python_meets_python_and_chromium(Mode::V0);
}

fn python_meets_python_and_chromium(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("sdk-{mode:?}"));
    let sdk = Sdk::start();
    let [ada, grace] = ["ada", "grace"].map(|name| sdk.participant(name));
    for person in [&ada, &grace] {
        person.join(&server, "garden", mode);
    }
    ada.publish_camera(&Camera::HD);
    ada.publish_microphone(440.0);
    grace.publish_camera(&Camera::SMALL.coloured(RED));
    grace.publish_microphone(660.0);

    eventually(Duration::from_secs(20), || sees(&grace, &ada));
    eventually(Duration::from_secs(20), || sees_colour(&ada, &grace, RED, 16.0));
    eventually(Duration::from_secs(10), || hears(&grace, &ada, 440.0));
    eventually(Duration::from_secs(10), || hears(&ada, &grace, 660.0));
    // Without our feedback an encoder stays at its first guess of the rate, which is too little for the top layer.
    eventually(Duration::from_secs(20), || {
        let sent = ada.sent();
        let top = sent.iter().find(|layer| layer.rid == "f").map_or(0, |layer| layer.bytes);
        if top > 0 { Ok(()) } else { Err(format!("{sent:?}")) }
    });
    eventually(Duration::from_secs(20), || match grace.track(&ada, Kind::Video)? {
        track if track.seen.width == 1280 => Ok(()),
        track => Err(format!("{track:?}")),
    });
    // Asked for in the same way over two.
    let layers = if mode == Mode::V1 { &[("LOW", 320), ("HIGH", 1280)][..] } else { &[] };
    for &(quality, width) in layers {
        grace.set_quality(&ada, quality);
        eventually(Duration::from_secs(10), || with_width(&grace, &ada, |now| now == width));
    }

    // The other way of connecting, to show that the two ways meet.
    let browser = Browser::start();
    let alan = browser.participant("alan");
    alan.join(&server, "garden", if mode == Mode::V1 { Mode::V0 } else { Mode::V1 });
    alan.publish_camera(&Camera::SMALL.coloured(GREEN));
    alan.publish_microphone(880.0);
    eventually(Duration::from_secs(20), || sees(&alan, &ada));
    eventually(Duration::from_secs(20), || sees_colour(&alan, &grace, RED, 16.0));
    // Chromium sends full-range BT.709 and says so in a header extension, which the Python SDK does not read.
    eventually(Duration::from_secs(20), || sees_colour(&ada, &alan, GREEN, 40.0));
    eventually(Duration::from_secs(10), || hears(&alan, &ada, 440.0));
    eventually(Duration::from_secs(10), || hears(&alan, &grace, 660.0));
    eventually(Duration::from_secs(10), || hears(&grace, &alan, 880.0));
    for person in [&ada, &grace, &alan] {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
}

#[test]
fn node_meets_node_and_chromium() {
    let _turn = alone();
    let server = Server::start("sdk-node");
    let (node, browser) = (Sdk::start_node(), Browser::start());
    let people = [node.participant("ada"), node.participant("grace"), browser.participant("alan")];
    let voices = [440.0, 660.0, 880.0];
    for (person, hertz) in people.iter().zip(voices) {
        person.join(&server, "garden", Mode::V1);
        person.publish_camera(&Camera { fps: 12, ..Camera::SMALL });
        person.publish_microphone(hertz);
    }
    for (speaker, hertz) in people.iter().zip(voices) {
        let fingerprint = speaker.send(2000, true, speaker.name()).expect("it fits");
        for listener in people.iter().filter(|one| one.name() != speaker.name()) {
            eventually(Duration::from_secs(20), || sees(listener, speaker));
            eventually(Duration::from_secs(10), || hears(listener, speaker, hertz));
            eventually(Duration::from_secs(5), || {
                let messages = listener.messages();
                match messages.iter().filter(|message| message.fingerprint == fingerprint).count() {
                    1 => Ok(()),
                    count => Err(format!("{count} in {messages:?}")),
                }
            });
        }
    }
    for person in &people {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
}

/// The picture has that colour, give or take what coding and conversion do to each part of it.
fn sees_colour(
    viewer: &Participant<'_>,
    of: &Participant<'_>,
    rgb: [u8; 3],
    tolerance: f64,
) -> Result<Received, String> {
    let track = viewer.track(of, Kind::Video)?;
    let is = |mean: [f64; 3]| {
        mean.iter().zip(rgb).all(|(part, wanted)| (part - f64::from(wanted)).abs() < tolerance)
    };
    if track.seen.mean.is_some_and(is) {
        Ok(track)
    } else {
        Err(format!("{} does not see {} in {rgb:?}: {track:?}", viewer.name(), of.name()))
    }
}
