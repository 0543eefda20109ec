//! What a row is played on: a sender with a good network, and one viewer whose access is bad.

use std::time::{Duration, Instant, SystemTime};

use crate::harness::namespace::Namespace;
use crate::harness::{
    Access, AccessLink, Browser, Camera, Kind, Mode, Participant, Received, Sdk, Server, Stats, alone,
    artefact, eventually, http, observe,
};

/// What the viewer runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// livekit-client.
    Chromium,
    /// The SDK whose core is that of the native ones.
    Python,
}

/// A call of two, of whom the viewer is not there yet. The sender is on the Python SDK: 720p in three layers, and a tone.
pub(super) struct Stage<'a> {
    server: &'a Server,
    namespace: &'a Namespace,
    pub(super) link: &'a AccessLink,
    pub(super) sender: Participant<'a>,
    pub(super) viewer: Participant<'a>,
}

/// A moment on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    /// Milliseconds since the Unix epoch.
    pub(super) unix: f64,
}

impl Moment {
    pub(super) fn now() -> Moment {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        Moment { at: Instant::now(), unix: unix.as_secs_f64() * 1000.0 }
    }
}

/// What passed in a stretch of time.
pub(super) struct Passed {
    pub(super) time: Duration,
    /// The sender's, bits per second of payload, the lowest first.
    pub(super) layers: Vec<f64>,
    /// Of the viewer's video, likewise; without retransmissions.
    pub(super) video: f64,
    /// Of its sound.
    pub(super) audio: f64,
    /// Share of the time, percent.
    pub(super) frozen: f64,
    pub(super) frames: f64,
    /// Share of the samples, percent.
    pub(super) concealed: f64,
}

/// Plays something on a new stage.
pub(super) fn on_stage<T>(
    row: &str,
    client: Client,
    access: Access,
    play: impl FnOnce(&Stage<'_>) -> T,
) -> T {
    let _turn = alone();
    let (namespace, link) = Namespace::behind(access);
    let server = Server::start_at(&format!("row-{row}"), namespace.outside());
    let sending = Sdk::start();
    let sender = sending.participant("sender");
    sender.join(&server, "garden", Mode::V1);
    sender.publish_camera(&Camera::HD);
    sender.publish_microphone(440.0);
    let (browser, sdk);
    let viewer = match client {
        Client::Chromium => {
            browser = Browser::start_in(&namespace);
            browser.participant("viewer")
        }
        Client::Python => {
            sdk = Sdk::start_in(&namespace);
            sdk.participant("viewer")
        }
    };
    let stage = Stage { server: &server, namespace: &namespace, link: &link, sender, viewer };
    // An encoder begins low.
    eventually(Duration::from_secs(30), || {
        let before = stage.sender.sent();
        observe(Duration::from_secs(1));
        let after = stage.sender.sent();
        let grown = before.iter().zip(&after).map(|(before, after)| (after.bytes - before.bytes) * 8);
        if grown.max() > Some(1_300_000) { Ok(()) } else { Err(format!("too low: {after:?}")) }
    });
    let result = play(&stage);
    // For whoever asks why a row was missed.
    let metrics = http::get(server.address(), "/metrics", &[]).expect("metrics").body;
    for (ending, text) in [("json", stage.explanation()), ("metrics", metrics)] {
        std::fs::write(artefact(&format!("row-{row}.{ending}")), text).expect("target/ can be written");
    }
    result
}

impl Stage<'_> {
    /// The viewer comes; gives when it began to.
    pub(super) fn join(&self) -> Moment {
        let asked = Moment::now();
        self.viewer.join(self.server, "garden", Mode::V1);
        asked
    }

    /// The same, and waits until it has had the top layer for three seconds.
    pub(super) fn settle(&self) {
        let asked = self.join();
        eventually(Duration::from_secs(30), || match self.video()?.seen.sizes.last() {
            Some(last) if last.width == 1280 && last.at < Moment::now().unix - 3000.0 => Ok(()),
            _ => Err(format!(
                "no top layer yet, {:.0} ms after: {:?}",
                Moment::now().unix - asked.unix,
                self.video()
            )),
        });
    }

    /// Out of the house: another network has been there for `overlap` when the first one goes. Gives the new link, and
    /// when it was.
    pub(super) fn move_to(&self, access: Access, overlap: Duration) -> (AccessLink, Moment) {
        let link = self.namespace.reach_second(access);
        observe(overlap);
        let left = Moment::now();
        self.namespace.leave_for_second();
        (link, left)
    }

    pub(super) fn video(&self) -> Result<Received, String> {
        self.viewer.track(&self.sender, Kind::Video)
    }

    /// The picture first had that width so long after, seconds; `None` if it did not within `most`.
    pub(super) fn shown_after(&self, from: Moment, width: u32, most: Duration) -> Option<Duration> {
        let deadline = from.at + most;
        loop {
            let sizes = self.video().map(|track| track.seen.sizes).unwrap_or_default();
            let found = sizes.iter().find(|size| size.at >= from.unix && size.width == width);
            match found {
                Some(size) => return Some(Duration::from_secs_f64((size.at - from.unix) / 1000.0)),
                None if Instant::now() > deadline => return None,
                None => observe(Duration::from_millis(100)),
            }
        }
    }

    /// How long after `back` the longest gap since the last `restart` ended, which has to be later than that.
    pub(super) fn resumed_after(&self, back: Moment, kind: Kind, most: Duration) -> Option<Duration> {
        let deadline = back.at + most;
        loop {
            observe(Duration::from_millis(200));
            let seen = self.viewer.track(&self.sender, kind).map(|track| track.seen).unwrap_or_default();
            // The end of one that goes on is always now.
            if (back.unix..Moment::now().unix - 500.0).contains(&seen.gap_ended) {
                return Some(Duration::from_secs_f64((seen.gap_ended - back.unix) / 1000.0));
            }
            if Instant::now() > deadline {
                return None;
            }
        }
    }

    /// How often the viewer lost its place.
    pub(super) fn lost_places(&self, sid: &str) -> usize {
        usize::from(self.viewer.sid() != sid) + self.sender.departures().len()
    }

    /// Lets the call run for `time`, and says what passed.
    pub(super) fn watch(&self, time: Duration) -> Passed {
        let take = || {
            let tracks = [Kind::Video, Kind::Audio]
                .map(|kind| self.viewer.track(&self.sender, kind).expect("it is there").stats);
            (Instant::now(), self.sender.sent(), tracks)
        };
        let (began, sent_before, [video_before, audio_before]) = take();
        observe(time);
        let (ended, sent, [video, audio]) = take();
        let time = ended - began;
        let rate = |before: u64, after: u64| (after - before) as f64 * 8.0 / time.as_secs_f64();
        let first_sent = |stats: &Stats| stats.bytes_received - stats.retransmitted_bytes_received;
        let mut layers: Vec<f64> =
            sent_before.iter().zip(&sent).map(|(before, after)| rate(before.bytes, after.bytes)).collect();
        layers.sort_by(f64::total_cmp);
        let concealed = |stats: &Stats| stats.concealed_samples - stats.silent_concealed_samples;
        let samples = audio.total_samples_received - audio_before.total_samples_received;
        Passed {
            time,
            layers,
            video: rate(first_sent(&video_before), first_sent(&video)),
            audio: rate(audio_before.bytes_received, audio.bytes_received),
            frozen: (video.total_freezes_duration - video_before.total_freezes_duration) / time.as_secs_f64()
                * 100.0,
            frames: (video.frames_decoded - video_before.frames_decoded) as f64 / time.as_secs_f64(),
            concealed: concealed(&audio).saturating_sub(concealed(&audio_before)) as f64
                / samples.max(1) as f64
                * 100.0,
        }
    }

    /// What the server says of the viewer, in JSON.
    pub(super) fn explanation(&self) -> String {
        let token = self.server.token("garden", "viewer");
        let path = format!("/debug/rooms/garden/participants/viewer?access_token={token}");
        http::get(self.server.address(), &path, &[]).expect("an answer").body
    }
}
