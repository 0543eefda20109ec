//! Dynacast: which qualities of a video its publisher is asked to send (`SubscribedQualityUpdate`).
//!
//! A quality is wanted while some subscriber asks for it or for a better one: whoever watches the best picture needs
//! the lower ones to fall back on. What counts is what is asked, never what a link carries at the moment, or a
//! subscriber on a bad one would stop the layers that it is to climb back to. A rise is told at once, a fall when it
//! has lasted for [`LINGER`], and nothing twice. A client that does not know the message skips it.
//!
//! Each codec of a track is asked for by itself: `codecs` says who gets which.
//!
//! A muted track loses no quality: viewers hide what is muted, and unmuting must not wait for them.

use std::time::{Duration, Instant};

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    SubscribedAudioCodec, SubscribedAudioCodecUpdate, SubscribedCodec, SubscribedQuality,
    SubscribedQualityUpdate, VideoQuality,
};
use sfu::command::{AnnouncedLayer, Demand, MediaKind};
use sfu::congestion::allocate::ceiling_for;
use sfu::ids::TrackId;
use sfu::units::Bitrate;

use super::codecs::Pick;
use super::output::Clock;
use super::participant::Seat;
use super::room::Room;
use super::track::Track;

/// How long a quality is sent on after the last who asked for it: viewers scroll back and forth. What nobody watches
/// is to stop within five seconds, and the path and the encoder need their part of them.
const LINGER: Duration = Duration::from_secs(4);

/// How far up a track is wanted. All below is wanted, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// Nobody wants any of it.
    Nothing,
    /// Up to `LOW`.
    Low,
    /// Up to `MEDIUM`.
    Medium,
    /// All of it.
    High,
}

impl Reach {
    fn qualities(self) -> Vec<SubscribedQuality> {
        [
            (VideoQuality::Low, Reach::Low),
            (VideoQuality::Medium, Reach::Medium),
            (VideoQuality::High, Reach::High),
        ]
        .map(|(quality, needed)| SubscribedQuality { quality: quality as i32, enabled: self >= needed })
        .into()
    }
}

/// Whether a quality is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Now,
    Until(Instant),
    No,
}

/// What is asked of one video, and what its publisher was told.
#[derive(Clone, Debug)]
pub(super) struct Dynacast {
    /// Smallest first, one for each stream.
    encodings: Vec<AnnouncedLayer>,
    /// The furthest that somebody wants now.
    pub(super) reach: Reach,
    /// `LOW`, `MEDIUM` and `HIGH`; one is never longer wanted than those before it.
    wanted: [Wanted; 3],
    pub(super) told: Reach,
}

impl Dynacast {
    /// Clients begin with all that they have.
    pub(super) fn new(encodings: Vec<AnnouncedLayer>) -> Dynacast {
        Dynacast { encodings, reach: Reach::High, wanted: [Wanted::Now; 3], told: Reach::High }
    }

    /// Of a codec that is not sent and that nobody asks for.
    pub(super) fn idle() -> Dynacast {
        let (reach, told) = (Reach::Nothing, Reach::Nothing);
        Dynacast { encodings: Vec::new(), reach, wanted: [Wanted::No; 3], told }
    }

    /// It is sent now, in these encodings. What was asked of it stands.
    pub(super) fn publish(&mut self, encodings: Vec<AnnouncedLayer>) {
        self.encodings = encodings;
    }

    /// The media core has seen how many streams there are. Says whether that is news.
    pub(super) fn learn(&mut self, streams: usize) -> bool {
        let known = self.encodings.len();
        self.encodings.resize(streams, AnnouncedLayer { rid: None, size: (0, 0), bitrate: Bitrate::ZERO });
        known != streams
    }

    /// How far up a demand goes.
    pub(super) fn reach_of(&self, demand: &Demand) -> Reach {
        if !demand.enabled {
            return Reach::Nothing;
        }
        let top = self.encodings.len().saturating_sub(1);
        let sizes: Vec<(u32, u32)> = self.encodings.iter().map(|layer| layer.size).collect();
        let index = match demand.size {
            // As in the core: until sizes are known, everything may be needed.
            Some(_) if sizes.contains(&(0, 0)) => top,
            Some(size) => usize::from(ceiling_for(&sizes, size)),
            None => usize::from(demand.max_spatial),
        };
        // What clients call the best or the only encoding differs: a single one is `LOW` to JS, though it was
        // announced as `HIGH`. So it goes by all names. One stream with layers inside is stopped as a whole, too.
        if index >= top {
            return Reach::High;
        }
        let by_place = if index == 0 { Reach::Low } else { Reach::Medium };
        match self.encodings[index].rid.as_ref().map(sfu::ids::Rid::as_str) {
            Some("q") => Reach::Low,
            Some("h") => Reach::Medium,
            _ => by_place,
        }
    }

    /// Takes what is wanted now; `hold` lets nothing fall. Gives what the publisher must be told, if anything.
    fn update(&mut self, now: Instant, reach: Reach, hold: bool) -> Option<Reach> {
        self.reach = reach;
        let mut sent = Reach::Nothing;
        for (wanted, of) in self.wanted.iter_mut().zip([Reach::Low, Reach::Medium, Reach::High]) {
            *wanted = match *wanted {
                _ if of <= reach => Wanted::Now,
                Wanted::Now | Wanted::Until(_) if hold => Wanted::Now,
                Wanted::Now => Wanted::Until(now + LINGER),
                Wanted::Until(at) if at <= now => Wanted::No,
                other => other,
            };
            if *wanted != Wanted::No {
                sent = of;
            }
        }
        (std::mem::replace(&mut self.told, sent) != sent).then_some(sent)
    }

    /// When a quality falls.
    fn next_timeout(&self) -> Option<Instant> {
        let at = |wanted: &Wanted| match wanted {
            Wanted::Until(at) => Some(*at),
            Wanted::Now | Wanted::No => None,
        };
        self.wanted.iter().filter_map(at).min()
    }
}

/// What a publisher does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    News,
    /// What it was told may not have arrived.
    Everything,
}

impl Room {
    /// What one participant wants of a track has changed; `None`: it is not subscribed.
    pub(super) fn demand_changed(
        &mut self,
        clock: Clock,
        id: TrackId,
        before: Option<&Demand>,
        after: Option<&Demand>,
    ) {
        let Some(track) = self.tracks.get(&id) else { return };
        if !track.alternatives.is_empty() {
            return self.settle_qualities(clock, id);
        }
        let Some(dynacast) = &track.dynacast else { return };
        let reach = |demand: Option<&Demand>| demand.map_or(Reach::Nothing, |it| dynacast.reach_of(it));
        let (before, after) = (reach(before), reach(after));
        // Who is not foremost decides nothing: in large rooms nearly nobody.
        if after > dynacast.reach || (before > after && before == dynacast.reach) {
            self.settle_qualities(clock, id);
        }
    }

    /// Brings what a publisher is asked to send to what is wanted.
    pub(super) fn settle_qualities(&mut self, clock: Clock, id: TrackId) {
        self.settle(clock, id, Telling::News);
    }

    fn settle(&mut self, clock: Clock, id: TrackId, telling: Telling) {
        let Some(track) = self.tracks.get(&id) else { return };
        let is_judged = track.dynacast.is_some() || !track.alternatives.is_empty();
        // Who cannot be told now is told when it is back.
        let is_there = self.people.get(&track.owner).is_some_and(|owner| owner.session.is_some());
        if !is_judged || !track.is_published() || !is_there {
            return;
        }
        let (reach, further) = self.reaches(track);
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let (owner, muted) = (track.owner, track.info.muted);
        let own = track.dynacast.iter_mut().map(|dynacast| (dynacast, reach));
        let further = track.alternatives.iter_mut().map(|it| &mut it.dynacast).zip(further);
        let mut news = telling == Telling::Everything;
        for (dynacast, reach) in own.chain(further) {
            news |= dynacast.update(clock.now, reach, muted).is_some();
            if let Some(at) = dynacast.next_timeout() {
                self.qualities_at = Some(self.qualities_at.map_or(at, |soonest| soonest.min(at)));
            }
        }
        if news {
            let update = update_for(track);
            self.send(owner, update);
        }
    }

    /// How far up a track's own codec is wanted, and its further ones.
    fn reaches(&self, track: &Track) -> (Reach, Vec<Reach>) {
        let (mut own, mut further) = (Reach::Nothing, vec![Reach::Nothing; track.alternatives.len()]);
        for who in self.people.values() {
            let Some(subscription) = who.subscriptions.get(&track.id) else { continue };
            let demand = &subscription.demand;
            match track.pick(&who.undecodable) {
                Some(Pick::Own) => {
                    let reach = |dynacast: &Dynacast| dynacast.reach_of(demand);
                    own = own.max(track.dynacast.as_ref().map_or(Reach::High, reach));
                }
                Some(Pick::Alternative(at)) => {
                    further[at] = further[at].max(track.alternatives[at].dynacast.reach_of(demand));
                }
                None => {}
            }
            if own == Reach::High && further.is_empty() {
                break;
            }
        }
        (own, further)
    }

    /// A further codec has begun: its client begins with all of it.
    pub(super) fn retell_codecs(&mut self, clock: Clock, id: TrackId) {
        self.settle(clock, id, Telling::Everything);
    }

    /// Tells a publisher again what is asked of its videos.
    pub(super) fn retell_qualities(&mut self, clock: Clock, owner: Seat) {
        let Some(who) = self.people.get(&owner) else { return };
        for id in who.tracks.clone() {
            self.settle(clock, id, Telling::Everything);
        }
    }

    /// Some quality may have lingered long enough.
    pub(super) fn qualities_due(&mut self, clock: Clock) {
        self.qualities_at = None;
        let falling = |track: &&Track| {
            let further = track.alternatives.iter().map(|alternative| &alternative.dynacast);
            track.dynacast.iter().chain(further).any(|dynacast| dynacast.next_timeout().is_some())
        };
        let tracks: Vec<TrackId> = self.tracks.values().filter(falling).map(|track| track.id).collect();
        for id in tracks {
            self.settle_qualities(clock, id);
        }
    }
}

/// What is asked of each codec of a track.
fn update_for(track: &Track) -> Response {
    let own = track.dynacast.as_ref().map_or(Reach::High, |dynacast| dynacast.told);
    let further = track.alternatives.iter().map(|it| (it.name(), it.dynacast.told));
    let codecs = [(track.codec_name(), own)].into_iter().chain(further);
    let track_sid = track.info.sid.clone();
    match track.kind {
        MediaKind::Video => Response::SubscribedQualityUpdate(quality_update(track_sid, own, codecs)),
        MediaKind::Audio => Response::SubscribedAudioCodecUpdate(SubscribedAudioCodecUpdate {
            track_sid,
            subscribed_audio_codecs: codecs
                .map(|(codec, reach)| SubscribedAudioCodec { codec, enabled: reach > Reach::Nothing })
                .collect(),
        }),
    }
}

/// The codecs of the track, and for clients that know of none its own without the name.
#[expect(deprecated, reason = "older clients read the deprecated field")]
fn quality_update(
    track_sid: String,
    own: Reach,
    codecs: impl Iterator<Item = (String, Reach)>,
) -> SubscribedQualityUpdate {
    SubscribedQualityUpdate {
        track_sid,
        subscribed_qualities: own.qualities(),
        subscribed_codecs: codecs
            .map(|(codec, reach)| SubscribedCodec { codec, qualities: reach.qualities() })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use sfu::ids::Rid;

    use super::*;

    fn encodings(layers: &[(&str, u32)]) -> Dynacast {
        let layer = |(rid, width): &(&str, u32)| AnnouncedLayer {
            rid: Rid::parse(rid),
            size: (*width, width * 9 / 16),
            bitrate: Bitrate::ZERO,
        };
        Dynacast::new(layers.iter().map(layer).collect())
    }

    fn ranks(of: &Dynacast) -> [Reach; 3] {
        [0, 1, u8::MAX].map(|max_spatial| of.reach_of(&Demand { max_spatial, ..Demand::default() }))
    }

    fn sizes<const N: usize>(of: &Dynacast, widths: [u32; N]) -> [Reach; N] {
        widths.map(|width| of.reach_of(&Demand { size: Some((width, width / 2)), ..Demand::default() }))
    }

    #[test]
    fn a_demand_reaches_as_far_as_the_encoding_that_it_needs() {
        use Reach::{High, Low, Medium, Nothing};
        let three = encodings(&[("q", 320), ("h", 640), ("f", 1280)]);
        assert_eq!(ranks(&three), [Low, Medium, High]);
        assert_eq!(sizes(&three, [100, 320, 321, 640, 1280, 4000]), [Low, Low, Medium, Medium, High, High]);
        assert_eq!(three.reach_of(&Demand { enabled: false, ..Demand::default() }), Nothing);
        let other_names = encodings(&[("2", 320), ("1", 640), ("0", 1280)]);
        assert_eq!(ranks(&other_names), [Low, Medium, High]);
        let two = encodings(&[("q", 320), ("h", 640)]);
        assert_eq!((ranks(&two), sizes(&two, [320, 640])), ([Low, High, High], [Low, High]));
        let upper_two = encodings(&[("h", 640), ("f", 1280)]);
        assert_eq!(ranks(&upper_two), [Medium, High, High], "clients know encodings by their rids");
        let sizeless = encodings(&[("q", 0), ("h", 0), ("f", 0)]);
        assert_eq!((ranks(&sizeless), sizes(&sizeless, [100])), ([Low, Medium, High], [High]));
        for single in [encodings(&[("f", 1280)]), encodings(&[])] {
            assert_eq!(ranks(&single), [High; 3], "the only encoding has all names");
        }
    }

    #[test]
    fn a_quality_lingers_since_it_was_wanted_last() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut dynacast = encodings(&[("q", 320), ("h", 640), ("f", 1280)]);
        assert_eq!(dynacast.update(at(0), Reach::Medium, false), None);
        assert_eq!(dynacast.update(at(3), Reach::Low, false), None);
        assert_eq!(dynacast.next_timeout(), Some(at(4)));
        assert_eq!(dynacast.update(at(4), Reach::Low, false), Some(Reach::Medium));
        assert_eq!(dynacast.next_timeout(), Some(at(7)));
        assert_eq!(dynacast.update(at(5), Reach::Medium, false), None, "it was not gone yet");
        assert_eq!(dynacast.update(at(6), Reach::Nothing, false), None);
        assert_eq!(dynacast.update(at(9), Reach::Nothing, true), None, "held");
        assert_eq!(dynacast.next_timeout(), None);
        assert_eq!(dynacast.update(at(20), Reach::High, true), Some(Reach::High), "rises are never held");
        assert_eq!(dynacast.update(at(30), Reach::Nothing, false), None);
        assert_eq!(dynacast.update(at(34), Reach::Nothing, false), Some(Reach::Nothing));
        assert_eq!(dynacast.next_timeout(), None);
    }
}
