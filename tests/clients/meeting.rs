//! Three people on livekit-client: each sees and hears the two others.

use std::time::Duration;

use crate::harness::{
    Browser, Camera, Kind, Mode, Participant, Received, Server, alone, eventually, observe,
};

#[test]
fn three_people_meet_over_one_connection_each() {
    three_people_meet(Mode::V1);
}

#[test]
fn three_people_meet_over_two_connections_each() {
    three_people_meet(Mode::V0);
}

fn three_people_meet(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("meeting-{mode:?}"));
    let browser = Browser::start();
    let people = ["ada", "grace", "alan"].map(|name| browser.participant(name));
    let voices = [440.0, 660.0, 880.0];
    let cameras = [Camera::HD, Camera::SMALL, Camera::SMALL];
    for ((person, voice), camera) in people.iter().zip(voices).zip(&cameras) {
        person.join(&server, "garden", mode);
        person.publish_camera(camera);
        person.publish_microphone(voice);
    }

    for listener in &people {
        for (speaker, voice) in
            people.iter().zip(voices).filter(|(speaker, _)| speaker.name() != listener.name())
        {
            eventually(Duration::from_secs(20), || sees(listener, speaker));
            eventually(Duration::from_secs(10), || hears(listener, speaker, voice));
        }
    }
    for person in &people {
        person.restart();
    }
    let window = Duration::from_secs(4);
    observe(window);
    for listener in &people {
        for (speaker, voice) in
            people.iter().zip(voices).filter(|(speaker, _)| speaker.name() != listener.name())
        {
            let video = sees(listener, speaker).expect("still seen");
            assert!(video.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{video:?}");
            assert!(video.seen.longest_gap < 1000.0, "frozen: {video:?}");
            assert_eq!(video.stats.codec, "video/VP8", "{video:?}");
            let audio = hears(listener, speaker, voice).expect("still heard");
            assert_eq!(audio.stats.codec, "audio/opus", "{audio:?}");
        }
    }
    for person in &people {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
    assert_eq!(server.metric("sluice_participants", &[]), 3.0);
    assert_eq!(server.metric("sluice_published_tracks", &["video"]), 3.0);
    assert_eq!(server.metric("sluice_subscribed_tracks", &["audio"]), 6.0);

    people[2].leave();
    eventually(Duration::from_secs(5), || match people[0].others() {
        others if others == ["grace"] => Ok(()),
        others => Err(format!("{others:?}")),
    });
}

/// The picture moves and is neither black nor of one colour.
pub(crate) fn sees(viewer: &Participant<'_>, of: &Participant<'_>) -> Result<Received, String> {
    let track = viewer.track(of, Kind::Video)?;
    let bright = track.seen.mean.is_some_and(|mean| mean.iter().sum::<f64>() > 90.0);
    if track.seen.frames >= 10 && track.seen.change > 1.0 && bright {
        Ok(track)
    } else {
        Err(format!("{} does not see {}: {track:?}", viewer.name(), of.name()))
    }
}

/// The voice of that pitch, clearly.
pub(crate) fn hears(
    listener: &Participant<'_>,
    speaker: &Participant<'_>,
    hertz: f64,
) -> Result<Received, String> {
    let track = listener.track(speaker, Kind::Audio)?;
    // The browser's analyser has a resolution of 3 Hz.
    if (track.seen.hertz - hertz).abs() <= 6.0 && track.seen.rms > 0.05 {
        Ok(track)
    } else {
        Err(format!("{} does not hear {hertz} Hz of {}: {track:?}", listener.name(), speaker.name()))
    }
}
