//! The Python SDK, whose core is that of the other native SDKs: with itself and with Chromium.

use std::time::Duration;

use crate::harness::{Browser, Camera, Kind, Mode, Participant, Received, Sdk, Server, alone, eventually};
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
    eventually(Duration::from_secs(20), || sees_colour(&ada, &grace, RED));
    eventually(Duration::from_secs(10), || hears(&grace, &ada, 440.0));
    eventually(Duration::from_secs(10), || hears(&ada, &grace, 660.0));
    // Without our feedback an encoder stays at its first guess of the rate, which is too little for the top layer.
    eventually(Duration::from_secs(20), || {
        let sent = ada.sent();
        let top = sent.iter().find(|layer| layer.rid == "f").map_or(0, |layer| layer.bytes_sent);
        if top > 0 { Ok(()) } else { Err(format!("{sent:?}")) }
    });
    eventually(Duration::from_secs(20), || match grace.track(&ada, Kind::Video)? {
        track if track.seen.width == 1280 => Ok(()),
        track => Err(format!("{track:?}")),
    });

    // The other way of connecting, to show that the two ways meet.
    let browser = Browser::start();
    let alan = browser.participant("alan");
    alan.join(&server, "garden", if mode == Mode::V1 { Mode::V0 } else { Mode::V1 });
    alan.publish_camera(&Camera::SMALL.coloured(GREEN));
    alan.publish_microphone(880.0);
    eventually(Duration::from_secs(20), || sees(&alan, &ada));
    eventually(Duration::from_secs(20), || sees_colour(&alan, &grace, RED));
    eventually(Duration::from_secs(20), || sees_colour(&ada, &alan, GREEN));
    eventually(Duration::from_secs(10), || hears(&alan, &ada, 440.0));
    eventually(Duration::from_secs(10), || hears(&alan, &grace, 660.0));
    eventually(Duration::from_secs(10), || hears(&grace, &alan, 880.0));
    for person in [&ada, &grace, &alan] {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
}

/// The picture has that colour, but for what coding and conversion change.
fn sees_colour(viewer: &Participant<'_>, of: &Participant<'_>, rgb: [u8; 3]) -> Result<Received, String> {
    const TOLERANCE: f64 = 16.0;
    let track = viewer.track(of, Kind::Video)?;
    let is = |mean: [f64; 3]| {
        mean.iter().zip(rgb).all(|(part, wanted)| (part - f64::from(wanted)).abs() < TOLERANCE)
    };
    if track.seen.mean.is_some_and(is) {
        Ok(track)
    } else {
        Err(format!("{} does not see {} in {rgb:?}: {track:?}", viewer.name(), of.name()))
    }
}
