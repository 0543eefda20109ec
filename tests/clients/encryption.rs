//! What the SDK encrypts end to end passes through, though nobody here can read it. AV1 it does not encrypt.

use std::time::Duration;

use crate::harness::{Browser, Camera, Kind, Sdk, Server, alone, eventually, observe};
use crate::layers::with_width;
use crate::meeting::{hears, sees};

const TONE: f64 = 440.0;

#[test]
fn what_is_encrypted_end_to_end_arrives() {
    let _turn = alone();
    let server = Server::start("encryption");
    let browser = Browser::start();
    for (codec, mime) in [("vp8", "video/VP8"), ("h264", "video/H264"), ("vp9", "video/VP9")] {
        let [sender, viewer, stranger] =
            ["sender", "viewer", "stranger"].map(|name| browser.participant(&format!("{codec}-{name}")));
        viewer.join_encrypted(&server, codec, "open sesame");
        sender.join_encrypted(&server, codec, "open sesame");
        stranger.join_encrypted(&server, codec, "open barley");
        sender.publish_camera(&Camera { codec, ..Camera::SMALL });
        sender.publish_microphone(TONE);

        let first = eventually(Duration::from_secs(20), || sees(&viewer, &sender));
        assert_eq!(first.stats.codec, mime, "{first:?}");
        let heard = eventually(Duration::from_secs(10), || hears(&viewer, &sender, TONE));
        assert_eq!(heard.stats.codec, "audio/opus", "{heard:?}");
        viewer.restart();
        let window = Duration::from_secs(2);
        observe(window);
        let track = sees(&viewer, &sender).unwrap_or_else(|error| panic!("{codec}: {error}"));
        assert!(track.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{codec}: {track:?}");

        // It comes through here, and means nothing without the key.
        let blind = stranger.track(&sender, Kind::Video).expect("it is subscribed");
        assert!(blind.stats.bytes_received > 0 && blind.stats.frames_decoded == 0, "{codec}: {blind:?}");
        assert!(hears(&stranger, &sender, TONE).is_err(), "{codec}");

        if codec == "vp8" {
            for (quality, width) in [("LOW", 320), ("HIGH", 640)] {
                viewer.set_quality(&sender, quality);
                eventually(Duration::from_secs(10), || with_width(&viewer, &sender, |now| now == width));
            }
            let fingerprint = sender.send(2_000, true, "secret").expect("it fits");
            eventually(Duration::from_secs(5), || match viewer.messages().last() {
                Some(message) if message.fingerprint == fingerprint => Ok(()),
                last => Err(format!("{last:?}")),
            });
            assert!(stranger.messages().is_empty(), "{:?}", stranger.messages());
        }
        for person in [sender, viewer, stranger] {
            person.close();
        }
    }
}

/// They make one key of one passphrase, and frames of one form.
#[test]
#[ignore = "a quarter of a minute, and what is encrypted is forwarded alike whoever sends it"]
fn python_node_and_chromium_decrypt_each_other() {
    let _turn = alone();
    let server = Server::start("encryption-sdk");
    let (browser, python, node) = (Browser::start(), Sdk::start(), Sdk::start_node());
    let people = [browser.participant("ada"), python.participant("alan"), node.participant("kurt")];
    let stranger = browser.participant("stranger");
    let voices = [440.0, 660.0, 880.0];
    for person in &people {
        person.join_encrypted(&server, "garden", "open sesame");
    }
    stranger.join_encrypted(&server, "garden", "open barley");
    for (person, hertz) in people.iter().zip(voices) {
        person.publish_camera(&Camera { fps: 12, ..Camera::SMALL });
        person.publish_microphone(hertz);
    }
    for (speaker, hertz) in people.iter().zip(voices) {
        for listener in people.iter().filter(|one| one.name() != speaker.name()) {
            eventually(Duration::from_secs(20), || sees(listener, speaker));
            eventually(Duration::from_secs(10), || hears(listener, speaker, hertz));
        }
        let fingerprint = speaker.send(2_000, true, "secret").expect("it fits");
        for listener in people.iter().filter(|one| one.name() != speaker.name()) {
            eventually(Duration::from_secs(5), || {
                let messages = listener.messages();
                let got = messages.iter().any(|message| message.fingerprint == fingerprint);
                if got { Ok(()) } else { Err(format!("{}: {messages:?}", listener.name())) }
            });
        }
        assert!(hears(&stranger, speaker, hertz).is_err(), "{}", speaker.name());
        let blind = stranger.track(speaker, Kind::Video).expect("it is subscribed");
        assert!(blind.stats.bytes_received > 0 && blind.stats.frames_decoded == 0, "{blind:?}");
    }
    assert!(stranger.messages().is_empty(), "{:?}", stranger.messages());
}

/// livekit-client's worker gives AV1 up (`FrameCryptor.getUnencryptedBytes`), and with it the track: nothing leaves the browser.
/// Once it does, this fails, and AV1 belongs into the list above.
#[test]
fn av1_is_not_encrypted_and_does_not_leave_the_browser() {
    let _turn = alone();
    let server = Server::start("encryption-av1");
    let browser = Browser::start();
    let [sender, viewer] = ["sender", "viewer"].map(|name| browser.participant(name));
    for person in [&sender, &viewer] {
        person.join_encrypted(&server, "garden", "open sesame");
    }
    sender.publish_camera(&Camera { codec: "av1", ..Camera::SMALL });
    sender.publish_microphone(TONE);
    eventually(Duration::from_secs(20), || {
        let events = sender.events();
        let refused = events.iter().any(|event| event.contains("av1 is not yet supported for end to end"));
        if refused { Ok(()) } else { Err(format!("{events:?}")) }
    });
    eventually(Duration::from_secs(20), || hears(&viewer, &sender, TONE));
    assert_eq!(server.metric("sluice_media_packets_total", &["direction=\"in\"", "kind=\"video\""]), 0);
    assert!(sender.sent().iter().all(|layer| layer.bytes == 0), "{:?}", sender.sent());
}
