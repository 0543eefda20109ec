//! What a run does.

use std::time::Duration;

use crate::script::camera::Layer;

/// See the command line (`sluice-load --help`), which has a flag for each.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the server is: `ws://host:port`, or `wss`.
    pub url: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// API key that signs the tokens.
    pub api_key: String,
    /// Its secret.
    pub api_secret: String,
    /// Room that everybody joins; VideoRoom has one number for all.
    pub room: String,
    /// Participants that publish.
    pub publishers: u16,
    /// Participants that only watch.
    pub subscribers: u16,
    /// Publishers watch each other, too.
    pub meeting: bool,
    /// From the first join to the last packet.
    pub duration: Duration,
    /// What a camera sends.
    pub video: Video,
    /// Whether publishers have a microphone.
    pub audio: bool,
    /// How many of them, the first to come.
    pub speakers: u16,
    /// After the last join, until things are taken for steady.
    pub warm_up: Duration,
    /// New participants a second.
    pub joins_per_second: f64,
    /// Who has no media by then has failed.
    pub join_timeout: Duration,
    /// What watchers ask for; `None`: they do not say, and get the largest that fits.
    pub quality: Option<Quality>,
    /// Process whose CPU time and memory are measured.
    pub server_pid: Option<i32>,
    /// Of the streams' random numbers and the participants' names.
    pub seed: u64,
}

/// The signalling protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// LiveKit's, `/rtc/v1`.
    Livekit,
    /// Janus's VideoRoom over its WebSocket.
    Videoroom,
}

/// What a camera sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    /// Nothing.
    Off,
    /// One encoding of so many bits per second.
    Single(u64),
    /// Three encodings, as LiveKit's SDKs do at 720p.
    Simulcast,
}

/// A picture's size, as a subscriber asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Quality {
    /// The smallest.
    Low,
    /// The middle one.
    Medium,
    /// The largest.
    High,
}

/// Pictures a second.
pub(crate) const FPS: u32 = 30;

/// Rates and sizes that the JavaScript SDK has for a 720p camera.
const SIMULCAST: [Layer; 3] = [
    Layer { rid: Some("q"), size: (320, 180), rate: 160_000, temporal_layers: 3 },
    Layer { rid: Some("h"), size: (640, 360), rate: 450_000, temporal_layers: 3 },
    Layer { rid: Some("f"), size: (1280, 720), rate: 1_700_000, temporal_layers: 3 },
];

impl Video {
    /// Smallest picture first.
    pub(crate) fn layers(self) -> Vec<Layer> {
        match self {
            Video::Off => Vec::new(),
            Video::Single(rate) => vec![Layer { rid: None, size: (960, 540), rate, temporal_layers: 1 }],
            Video::Simulcast => SIMULCAST.to_vec(),
        }
    }

    pub(crate) fn is_on(self) -> bool {
        self != Video::Off
    }
}
