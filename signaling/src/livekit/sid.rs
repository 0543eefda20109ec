//! Sids: names that clients see. Their prefixes are part of the contract; some SDKs end the process on a wrong one.

use livekit_protocol::{TrackSource, TrackType};

/// Letters and digits after a prefix: 62^12 is far beyond what one node makes in its life.
const LENGTH: usize = 12;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn random(prefix: &str, rng: &mut fastrand::Rng) -> String {
    let mut sid = String::with_capacity(prefix.len() + LENGTH);
    sid.push_str(prefix);
    sid.extend((0..LENGTH).map(|_| char::from(ALPHABET[rng.usize(..ALPHABET.len())])));
    sid
}

/// `PA_…`
pub(super) fn participant(rng: &mut fastrand::Rng) -> String {
    random("PA_", rng)
}

/// `RM_…`
pub(super) fn room(rng: &mut fastrand::Rng) -> String {
    random("RM_", rng)
}

/// `EV_…`, for an event of which an application's server is told.
pub(super) fn event(rng: &mut fastrand::Rng) -> String {
    random("EV_", rng)
}

/// `RPC_…`, for a call of a participant's method.
pub(super) fn rpc(rng: &mut fastrand::Rng) -> String {
    random("RPC_", rng)
}

/// `AD_…`, for a dispatch of agents.
pub(super) fn dispatch(rng: &mut fastrand::Rng) -> String {
    random("AD_", rng)
}

/// `AJ_…`, for a job of an agent.
pub(crate) fn job(rng: &mut fastrand::Rng) -> String {
    random("AJ_", rng)
}

/// `AW_…`, for a worker that runs agents.
pub(crate) fn worker(rng: &mut fastrand::Rng) -> String {
    random("AW_", rng)
}

/// `DTR_…`
pub(super) fn data_track(rng: &mut fastrand::Rng) -> String {
    random("DTR_", rng)
}

/// `TR_…`, with letters for type and source: `TR_VC…` is a camera.
pub(super) fn track(kind: TrackType, source: TrackSource, rng: &mut fastrand::Rng) -> String {
    let prefix = match (kind, source) {
        (TrackType::Video, TrackSource::Camera) => "TR_VC",
        (TrackType::Video, TrackSource::ScreenShare) => "TR_VS",
        (TrackType::Video, _) => "TR_V",
        (TrackType::Audio, TrackSource::Microphone) => "TR_AM",
        (TrackType::Audio, TrackSource::ScreenShareAudio) => "TR_As",
        (TrackType::Audio, _) => "TR_A",
        (TrackType::Data, _) => "TR_D",
    };
    random(prefix, rng)
}
