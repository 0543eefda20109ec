//! A participant, wherever it lives: what it can be told to do and what it reports.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::remote::Remote;
use super::{Server, Wire};

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `/rtc/v1`, one peer connection: what web and Python use by default.
    V1,
    /// `/rtc`, two peer connections: Android, Flutter and Swift.
    V0,
}

/// What to film.
#[derive(Clone, Debug)]
pub(crate) struct Camera {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) fps: u32,
    /// One even colour; without it, moving bands under noise, which cost an encoder its whole rate.
    pub(crate) rgb: Option<[u8; 3]>,
    /// `vp8`, `h264`, `vp9` or `av1`.
    pub(crate) codec: &'static str,
    pub(crate) simulcast: bool,
    /// Send a second codec beside the first, rather than in its place.
    pub(crate) both_codecs: bool,
}

impl Camera {
    /// 1280x720 at 24 fps, VP8 in three layers: 320, 640 and 1280 wide.
    pub(crate) const HD: Camera = Camera {
        width: 1280,
        height: 720,
        fps: 24,
        rgb: None,
        codec: "vp8",
        simulcast: true,
        both_codecs: false,
    };
    /// 640x360 at 20 fps, VP8 in two layers.
    pub(crate) const SMALL: Camera = Camera { width: 640, height: 360, fps: 20, ..Camera::HD };

    pub(crate) fn coloured(self, rgb: [u8; 3]) -> Camera {
        Camera { rgb: Some(rgb), ..self }
    }
}

/// One step of a `ConnectionCheck`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Finding {
    /// Of the check's class.
    pub(crate) name: String,
    /// `success`, `failed` or `skipped`.
    pub(crate) outcome: String,
    /// Its log.
    pub(crate) said: Vec<String>,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Audio,
    Video,
}

/// A remote track at one moment.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Received {
    /// The publisher's identity.
    pub(crate) from: String,
    pub(crate) kind: Kind,
    /// What the client counts since the track began.
    #[serde(default)]
    pub(crate) stats: Stats,
    /// What arrived since the last `restart`.
    pub(crate) seen: Seen,
}

/// Of W3C webrtc-stats, `inbound-rtp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Stats {
    /// MIME type.
    pub(crate) codec: String,
    pub(crate) frames_decoded: u64,
    /// Payload alone, that of retransmissions included, of which some are probes.
    pub(crate) bytes_received: u64,
    pub(crate) retransmitted_bytes_received: u64,
    /// Seconds.
    pub(crate) total_freezes_duration: f64,
    pub(crate) freeze_count: u64,
    /// Keyframes that the decoder had to ask for.
    pub(crate) pli_count: u64,
    pub(crate) nack_count: u64,
    // For whoever reads a failure.
    frames_received: u64,
    frames_dropped: u64,
    key_frames_decoded: u64,
    packets_received: u64,
    packets_discarded: u64,
    retransmitted_packets_received: u64,
    /// Seconds, over all frames or samples that came out.
    jitter_buffer_delay: f64,
    jitter_buffer_target_delay: f64,
    jitter_buffer_emitted_count: u64,
    total_decode_time: f64,
    total_processing_delay: f64,
    pub(crate) total_audio_energy: f64,
    /// Samples made up for lost ones, of all.
    pub(crate) concealed_samples: u64,
    pub(crate) silent_concealed_samples: u64,
    pub(crate) total_samples_received: u64,
}

/// Frames and sound as they came out of the decoder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Seen {
    pub(crate) frames: u64,
    pub(crate) width: u32,
    /// Milliseconds without a new frame or without sound, the longest.
    pub(crate) longest_gap: f64,
    /// When that ended, in milliseconds since the Unix epoch; now, if it has not.
    pub(crate) gap_ended: f64,
    /// Every size since the track began, and when it was first seen.
    pub(crate) sizes: Vec<Size>,
    /// Mean colour of the last picture, 0 to 255.
    pub(crate) mean: Option<[f64; 3]>,
    /// How much the picture changed over time, 0 to 255; 0 for a frozen one.
    pub(crate) change: f64,
    /// The loudest frequency of the last second or less.
    pub(crate) hertz: f64,
    /// Loudness, root mean square of samples within -1 and 1.
    pub(crate) rms: f64,
}

/// A picture size and when it was first seen.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Size {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: f64,
    pub(crate) width: u32,
}

/// What an encoder sends of one layer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Sent {
    pub(crate) rid: String,
    pub(crate) active: bool,
    #[serde(rename = "bytesSent")]
    pub(crate) bytes: u64,
    #[serde(rename = "framesSent")]
    pub(crate) frames: u64,
    pub(crate) frame_width: u32,
    // For whoever reads a failure.
    nack_count: u64,
    pli_count: u64,
    quality_limitation_reason: String,
    /// The sender's estimate of the way to the server, bits per second.
    available_bitrate: f64,
}

/// Something that happened to a connection.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Happening {
    /// Milliseconds since the Unix epoch.
    pub(crate) at: f64,
    pub(crate) what: String,
}

/// A data message that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Message {
    pub(crate) from: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) reliable: bool,
    pub(crate) bytes: usize,
    pub(crate) fingerprint: u32,
}

/// A stream of text or bytes that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Stream {
    pub(crate) from: String,
    /// `words` or `file`.
    pub(crate) topic: String,
    /// An attribute of the stream.
    pub(crate) note: Option<String>,
    pub(crate) bytes: usize,
    pub(crate) fingerprint: u32,
}

/// A frame of a data track that arrived.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct DataFrame {
    pub(crate) from: String,
    /// The track's name.
    pub(crate) track: String,
    pub(crate) bytes: usize,
    pub(crate) fingerprint: u32,
}

/// Somebody in a room, or not yet.
pub(crate) struct Participant<'a> {
    pub(super) remote: &'a Remote,
    pub(super) name: String,
}

impl Participant<'_> {
    /// Its name, which is its identity in rooms.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn try_call(&self, function: &str, arguments: &Value) -> Result<Value, String> {
        self.remote.request(json!({ "op": "call", "name": self.name, "fn": function, "args": arguments }))
    }

    #[track_caller]
    fn call<T: DeserializeOwned>(&self, function: &str, arguments: &Value) -> T {
        let answer = match self.try_call(function, arguments) {
            Ok(answer) => answer,
            Err(error) => panic!("{}.{function}{arguments}: {error}", self.name),
        };
        let text = answer.to_string();
        serde_json::from_value(answer)
            .unwrap_or_else(|error| panic!("{}.{function}: {error}: {text}", self.name))
    }

    #[track_caller]
    pub(crate) fn join(&self, server: &Server, room: &str, mode: Mode) {
        self.join_with(server, room, &json!({ "v0": mode == Mode::V0 }));
    }

    /// Joins, and stops the layers that nobody watches.
    #[track_caller]
    pub(crate) fn join_with_dynacast(&self, server: &Server, room: &str, mode: Mode) {
        self.join_with(server, room, &json!({ "v0": mode == Mode::V0, "dynacast": true }));
    }

    /// Joins in a browser that cannot decode this codec, such as `VP9`.
    #[track_caller]
    pub(crate) fn join_without(&self, server: &Server, room: &str, mode: Mode, codec: &str) {
        self.join_with(server, room, &json!({ "v0": mode == Mode::V0, "without": codec }));
    }

    /// Joins; media goes by way of a TURN server and no other.
    #[track_caller]
    pub(crate) fn join_relayed(&self, server: &Server, room: &str, mode: Mode) {
        self.join_with(server, room, &json!({ "v0": mode == Mode::V0, "relay": true }));
    }

    /// Joins over one connection, with media and data encrypted end to end.
    #[track_caller]
    pub(crate) fn join_encrypted(&self, server: &Server, room: &str, passphrase: &str) {
        self.join_with(server, room, &json!({ "passphrase": passphrase }));
    }

    /// Joins by way of `wire`; media takes its own way.
    #[track_caller]
    pub(crate) fn join_over(&self, wire: &Wire, server: &Server, room: &str, mode: Mode) {
        let options = json!({ "v0": mode == Mode::V0 });
        self.call::<Value>("join", &json!([wire.url(), server.token(room, &self.name), options]));
    }

    #[track_caller]
    fn join_with(&self, server: &Server, room: &str, options: &Value) {
        self.call::<Value>("join", &json!([server.url(), server.token(room, &self.name), options]));
    }

    #[track_caller]
    pub(crate) fn publish_camera(&self, camera: &Camera) {
        let mut options = json!({
            "width": camera.width,
            "height": camera.height,
            "fps": camera.fps,
            "codec": camera.codec,
            "simulcast": camera.simulcast,
            // PREFER_REGRESSION is what livekit-client says by default.
            "backupCodecPolicy": i32::from(camera.both_codecs),
        });
        if let Some(rgb) = camera.rgb {
            options["rgb"] = json!(rgb);
        }
        self.call::<Value>("publishCamera", &json!([options]));
    }

    #[track_caller]
    pub(crate) fn publish_microphone(&self, hertz: f64) {
        self.call::<Value>("publishMicrophone", &json!([hertz]));
    }

    /// Identities of the others, sorted.
    #[track_caller]
    pub(crate) fn others(&self) -> Vec<String> {
        self.call("others", &json!([]))
    }

    /// All remote tracks.
    #[track_caller]
    pub(crate) fn received(&self) -> Vec<Received> {
        self.call("received", &json!([]))
    }

    /// The remote track of `from`, if it is there.
    #[track_caller]
    pub(crate) fn track(&self, from: &Participant<'_>, kind: Kind) -> Result<Received, String> {
        let all = self.received();
        let found = all.iter().find(|track| track.from == from.name && track.kind == kind);
        found.cloned().ok_or_else(|| format!("{} has no {kind:?} of {}: {all:?}", self.name, from.name))
    }

    /// Begins a new window of measurement.
    #[track_caller]
    pub(crate) fn restart(&self) {
        self.restart_at();
    }

    /// The same; gives when, in milliseconds since the Unix epoch.
    #[track_caller]
    pub(crate) fn restart_at(&self) -> f64 {
        self.call("restart", &json!([]))
    }

    /// Asks for a layer: `LOW`, `MEDIUM` or `HIGH`. Gives when, in milliseconds since the Unix epoch.
    #[track_caller]
    pub(crate) fn set_quality(&self, of: &Participant<'_>, quality: &str) -> f64 {
        self.call("setQuality", &json!([of.name, quality]))
    }

    /// Subscribes to all of somebody's tracks, or to none. Gives when, in milliseconds since the Unix epoch.
    #[track_caller]
    pub(crate) fn subscribe(&self, to: &Participant<'_>, wanted: bool) -> f64 {
        self.call("subscribe", &json!([to.name, wanted]))
    }

    /// What its camera's encoder sends, one entry for each layer.
    #[track_caller]
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.call("sent", &json!([]))
    }

    /// Sends a message; gives its fingerprint.
    ///
    /// # Errors
    /// What the SDK says.
    pub(crate) fn send(&self, bytes: usize, reliable: bool, topic: &str) -> Result<u32, String> {
        let sent = self.try_call("send", &json!([bytes, reliable, topic]))?;
        fingerprint(&sent)
    }

    /// From now on sends a small reliable message every `interval` milliseconds.
    #[track_caller]
    pub(crate) fn begin_talk(&self, topic: &str, interval: u32) {
        self.call::<Value>("beginTalk", &json!([topic, interval]));
    }

    /// Ends that; gives the fingerprints of all that was sent, in order.
    #[track_caller]
    pub(crate) fn end_talk(&self) -> Vec<u32> {
        self.call("endTalk", &json!([]))
    }

    /// Sends a text of that many letters as a stream to everybody; gives its fingerprint.
    #[track_caller]
    pub(crate) fn send_words(&self, letters: usize, note: &str) -> u32 {
        fingerprint(&self.call("sendWords", &json!([letters, note]))).expect("a fingerprint")
    }

    /// Sends that many bytes as a stream to everybody; gives their fingerprint.
    #[track_caller]
    pub(crate) fn send_file(&self, bytes: usize, note: &str) -> u32 {
        fingerprint(&self.call("sendFile", &json!([bytes, note]))).expect("a fingerprint")
    }

    /// All streams so far that came to their end.
    #[track_caller]
    pub(crate) fn streams(&self) -> Vec<Stream> {
        self.call("streams", &json!([]))
    }

    /// Gives itself a name, metadata and an attribute.
    #[track_caller]
    pub(crate) fn introduce(&self, name: &str, metadata: &str, attribute: (&str, &str)) {
        self.call::<Value>("introduce", &json!([name, metadata, { attribute.0: attribute.1 }]));
    }

    /// Calls a method that somebody registered; gives its answer, or `error CODE: MESSAGE`.
    #[track_caller]
    pub(crate) fn call_method(&self, of: &Participant<'_>, method: &str, payload: &str) -> String {
        self.call("callMethod", &json!([of.name, method, payload]))
    }

    /// All messages so far, oldest first.
    #[track_caller]
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.call("messages", &json!([]))
    }

    /// Publishes a data track. Everybody subscribes to the data tracks of everybody else.
    ///
    /// # Errors
    /// What the SDK says.
    pub(crate) fn publish_data_track(&self, name: &str) -> Result<(), String> {
        self.try_call("publishDataTrack", &json!([name])).map(drop)
    }

    /// Sends `count` frames of `bytes` bytes on a data track of its own, one every `interval` milliseconds; gives their
    /// fingerprints.
    #[track_caller]
    pub(crate) fn push_frames(
        &self,
        track: &str,
        topic: &str,
        count: usize,
        bytes: usize,
        interval: u32,
    ) -> Vec<u32> {
        self.call("pushFrames", &json!([track, topic, count, bytes, interval]))
    }

    /// Returns when the server has confirmed it in a browser, at once with the Python SDK.
    #[track_caller]
    pub(crate) fn unpublish_data_track(&self, name: &str) {
        self.call::<Value>("unpublishDataTrack", &json!([name]));
    }

    /// All frames of others' data tracks so far, oldest first.
    #[track_caller]
    pub(crate) fn data_frames(&self) -> Vec<DataFrame> {
        self.call("dataFrames", &json!([]))
    }

    /// Names of others' data tracks that have ended, as it was told.
    #[track_caller]
    pub(crate) fn ended_data_tracks(&self) -> Vec<String> {
        self.call("endedDataTracks", &json!([]))
    }

    /// What went wrong with the connection so far.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<String> {
        self.call("events", &json!([]))
    }

    /// Closes its tab: leaves, and takes camera and microphone along.
    #[track_caller]
    pub(crate) fn close(self) {
        self.remote.request(json!({ "op": "close", "name": self.name })).expect("a tab");
    }

    /// The same with the time of each, in milliseconds since the Unix epoch.
    #[track_caller]
    pub(crate) fn history(&self) -> Vec<Happening> {
        self.call("history", &json!([]))
    }

    /// The sid that the server gave it.
    #[track_caller]
    pub(crate) fn sid(&self) -> String {
        self.call("sid", &json!([]))
    }

    /// Who left, as it was told.
    #[track_caller]
    pub(crate) fn departures(&self) -> Vec<String> {
        self.call("departures", &json!([]))
    }

    /// Has the SDK do or ask for one of its scenarios, such as `signal-reconnect`.
    #[track_caller]
    pub(crate) fn simulate(&self, scenario: &str) {
        self.call::<Value>("simulate", &json!([scenario]));
    }

    /// What livekit-client's `ConnectionCheck` finds, in a browser only.
    #[track_caller]
    pub(crate) fn examine(&self, server: &Server, room: &str, mode: Mode) -> Vec<Finding> {
        let options = json!({ "v0": mode == Mode::V0 });
        self.call("examine", &json!([server.url(), server.token(room, &self.name), options]))
    }

    /// What its SDK knows of itself and the others by identity: `name`, `metadata`, `attributes`, and `muted`, the sources of
    /// muted tracks.
    #[track_caller]
    pub(crate) fn people(&self) -> Value {
        self.call("people", &json!([]))
    }

    /// The room's metadata as its SDK knows it; not with Node's.
    #[track_caller]
    pub(crate) fn room_metadata(&self) -> String {
        self.call("roomMetadata", &json!([]))
    }

    /// Registers a method that greets whoever is named in its payload, and refuses `nobody`.
    #[track_caller]
    pub(crate) fn register_greeting(&self, method: &str) {
        self.call::<Value>("registerGreeting", &json!([method]));
    }

    /// Calls a function of `whip.ts`, or of `whip.py`.
    #[track_caller]
    pub(crate) fn over_http<T: DeserializeOwned>(&self, function: &str, arguments: &Value) -> T {
        self.call(function, arguments)
    }

    #[track_caller]
    pub(crate) fn leave(&self) {
        self.call::<Value>("leave", &json!([]));
    }
}

fn fingerprint(sent: &Value) -> Result<u32, String> {
    let number = sent["fingerprint"].as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| sent.to_string())
}
