//! Publishing without announcement: each section that the client sends in is a track (RFC 9725).

use livekit_protocol::{AddTrackRequest, TrackSource, TrackType, VideoLayer, VideoQuality};
use sfu::command::{MediaKind, RemoteSection};
use sfu::ids::Mid;

use super::connect::Signalling;
use super::output::Clock;
use super::participant::Seat;
use super::room::Room;
use super::track::{Track, smallest_first};

impl Room {
    /// Announces what a client sends that cannot announce it. What it may not publish is refused as an announcement is.
    pub(super) fn announce_sections(&mut self, clock: Clock, seat: Seat) {
        let Some(who) = self.people.get(&seat).filter(|who| who.signalling == Signalling::Publish) else {
            return;
        };
        let own = who.tracks.iter().filter_map(|id| self.tracks.get(id));
        let bound: Vec<Mid> = own.flat_map(Track::mids).collect();
        let fresh = |section: &&RemoteSection| section.sending && !bound.contains(&section.mid);
        let requests: Vec<AddTrackRequest> = who.sections.iter().filter(fresh).map(announcement).collect();
        for request in requests {
            self.add_track(clock, seat, request);
        }
    }
}

/// What a client would have said of a section.
fn announcement(section: &RemoteSection) -> AddTrackRequest {
    let (r#type, source) = match section.kind {
        MediaKind::Audio => (TrackType::Audio, TrackSource::Microphone),
        MediaKind::Video => (TrackType::Video, TrackSource::Camera),
    };
    let qualities = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
    let layers = smallest_first(&section.rids).into_iter().zip(qualities).map(|(rid, quality)| VideoLayer {
        quality: quality as i32,
        rid: rid.as_str().to_owned(),
        ..VideoLayer::default()
    });
    AddTrackRequest {
        // In another form than ids have, for clients that name nothing or two things alike.
        cid: format!("mid:{}", section.mid.as_str()),
        r#type: r#type as i32,
        source: source as i32,
        layers: layers.collect(),
        ..AddTrackRequest::default()
    }
}
