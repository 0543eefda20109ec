//! Firefox and Chromium with livekit-client in one room. Firefox's ICE is not libwebrtc's, and talks to a lite agent as it is.

use std::time::Duration;

use crate::harness::{Browser, Camera, Mode, Server, alone, eventually, observe, own_address};
use crate::meeting::{hears, sees};

#[test]
fn firefox_and_chromium_meet_over_one_connection_each() {
    firefox_and_chromium_meet(Mode::V1);
}

#[test]
fn firefox_and_chromium_meet_over_two_connections_each() {
    firefox_and_chromium_meet(Mode::V0);
}

fn firefox_and_chromium_meet(mode: Mode) {
    let _turn = alone();
    // Firefox has no candidates on loopback.
    let server = Server::start_at(&format!("firefox-{mode:?}"), own_address());
    let (firefox, chromium) = (Browser::start_firefox(), Browser::start());
    let (fox, crow) = (firefox.participant("fox"), chromium.participant("crow"));
    for (person, hertz) in [(&fox, 440.0), (&crow, 660.0)] {
        person.join(&server, "garden", mode);
        person.publish_camera(&Camera::SMALL);
        person.publish_microphone(hertz);
    }
    let ways = [(&fox, &crow, 660.0), (&crow, &fox, 440.0)];
    for (viewer, of, hertz) in ways {
        eventually(Duration::from_secs(30), || sees(viewer, of));
        eventually(Duration::from_secs(10), || hears(viewer, of, hertz));
    }
    fox.restart();
    crow.restart();
    // Firefox's consent lasts for 30 s (RFC 7675 §5.1): what it gets of a lite agent must renew it.
    let window = Duration::from_secs(35);
    observe(window);
    for (viewer, of, hertz) in ways {
        let video = sees(viewer, of).expect("still seen");
        assert!(video.seen.frames as f64 > 6.0 * window.as_secs_f64(), "{video:?}");
        assert_eq!(video.stats.codec, "video/VP8", "{video:?}");
        let audio = hears(viewer, of, hertz).expect("still heard");
        assert!(audio.stats.total_audio_energy > 0.0 || audio.seen.rms > 0.05, "{audio:?}");
    }
    for person in [&fox, &crow] {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
    assert_eq!(server.metric("sluice_ice_failures_total", &[]), 0);
}
