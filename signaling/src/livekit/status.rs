//! The room's state as clients show it: who speaks, how good each connection is, how many are there.
//!
//! Each receiver is told only of itself and of those it is subscribed to, and only what it has not been told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, RoomUpdate, SpeakerInfo,
    SpeakersChanged,
};
use sfu::command::{LinkQuality, MediaKind, SpeakerLevel, VoiceFault};
use sfu::ids::{PeerId, TrackId};

use super::join::publish_codecs;
use super::output::Clock;
use super::participant::{Participant, Seat};
use super::room::Room;
use super::track::Track;

/// Between two rounds of connection quality, as often as the core measures it.
pub(super) const QUALITY_INTERVAL: Duration = Duration::from_secs(5);

/// Counts are told at most this often.
const ROOM_UPDATE_INTERVAL: Duration = Duration::from_secs(5);

/// Changes of a count come in groups.
const ROOM_UPDATE_DELAY: Duration = Duration::from_millis(300);

/// The level from which clients know the quality LOST.
const KNOWS_LOST: i32 = 11;

impl Room {
    /// The core's measure of who is loud, complete: who is absent is silent.
    pub(super) fn speakers(&mut self, levels: &[SpeakerLevel]) {
        self.loudness.clear();
        for level in levels {
            let Some(track) = self.tracks.get(&self.track_of(level.track)) else { continue };
            let eighths = eighths(level.level);
            if track.info.muted || eighths == 0 {
                continue;
            }
            let loudest = self.loudness.entry(track.owner).or_default();
            *loudest = eighths.max(*loudest);
        }
        self.add_simulated_speech();
        self.pass_floor();
        self.tell_everybody_loudness();
    }

    pub(super) fn tell_everybody_loudness(&mut self) {
        let everybody: Vec<Seat> = self.people.keys().copied().collect();
        for seat in everybody {
            self.tell_loudness(seat);
        }
    }

    /// Somebody's sound may have ended: quiet until the core hears it again, 400 ms at most.
    pub(super) fn silence(&mut self, speaker: Seat) {
        if self.loudness.remove(&speaker).is_some() {
            self.tell_everybody_loudness();
        }
    }

    /// Tells one participant what it does not know of whom it hears; those no longer heard are silent.
    pub(super) fn tell_loudness(&mut self, seat: Seat) {
        let Some(who) = self.people.get(&seat).filter(|who| !who.policy.background) else { return };
        let is_simulated = |speaker| self.people.get(&speaker).is_some_and(|who| who.speaks_until.is_some());
        let hears = |speaker: Seat| {
            speaker == seat
                || self.is_subscribed(who, speaker, Some(MediaKind::Audio))
                || is_simulated(speaker)
        };
        let heard: BTreeMap<Seat, u8> = self
            .loudness
            .iter()
            .filter(|(speaker, _)| hears(**speaker))
            .map(|(who, level)| (*who, *level))
            .collect();
        let stopped =
            who.heard.keys().filter(|speaker| !heard.contains_key(speaker)).map(|speaker| (*speaker, 0));
        let louder = heard.iter().filter(|(speaker, level)| who.heard.get(speaker) != Some(level));
        let changed: Vec<(Seat, u8)> =
            stopped.chain(louder.map(|(speaker, level)| (*speaker, *level))).collect();
        if changed.is_empty() {
            return;
        }
        let speakers = changed.into_iter().filter_map(|(speaker, level)| {
            let sid = self.people.get(&speaker)?.sid.clone();
            Some(SpeakerInfo { sid, level: f32::from(level) / 8.0, active: level > 0 })
        });
        let changed = SpeakersChanged { speakers: speakers.collect() };
        if let Some(who) = self.people.get_mut(&seat) {
            who.heard = heard;
        }
        self.send(seat, Response::SpeakersChanged(changed));
    }

    /// Tells one participant how loud each is whom it hears, those included who are silent.
    pub(super) fn retell_loudness(&mut self, seat: Seat) {
        let Some(who) = self.people.get(&seat).filter(|who| !who.policy.background) else { return };
        let owners = who.subscriptions.keys().filter_map(|id| self.tracks.get(id));
        let mut heard: BTreeMap<Seat, u8> = owners
            .filter(|track| track.kind == MediaKind::Audio)
            .map(|track| (track.owner, self.loudness.get(&track.owner).copied().unwrap_or(0)))
            .collect();
        heard.insert(seat, self.loudness.get(&seat).copied().unwrap_or(0));
        let speakers = heard.iter().filter_map(|(speaker, level)| {
            let sid = self.people.get(speaker)?.sid.clone();
            Some(SpeakerInfo { sid, level: f32::from(*level) / 8.0, active: *level > 0 })
        });
        let told = SpeakersChanged { speakers: speakers.collect() };
        heard.retain(|_, level| *level > 0);
        if let Some(who) = self.people.get_mut(&seat) {
            who.heard = heard;
        }
        self.send(seat, Response::SpeakersChanged(told));
    }

    /// Whether one participant gets a track of another's, of that kind or of any.
    fn is_subscribed(&self, who: &Participant, owner: Seat, kind: Option<MediaKind>) -> bool {
        self.people.get(&owner).is_some_and(|owner| {
            owner.tracks.iter().any(|id| {
                who.subscriptions.contains_key(id)
                    && kind.is_none_or(|kind| self.tracks.get(id).is_some_and(|track| track.kind == kind))
            })
        })
    }

    pub(super) fn quality_arrived(&mut self, peer: PeerId, quality: LinkQuality) {
        let Some(who) = self.seat_of(peer).and_then(|seat| self.people.get_mut(&seat)) else { return };
        who.link_quality.insert(peer, quality);
    }

    /// A round of connection quality.
    pub(super) fn send_quality(&mut self, clock: Clock) {
        self.quality_at = Some(clock.now + QUALITY_INTERVAL);
        let tracks = &self.tracks;
        for who in self.people.values_mut().filter(|who| !who.link_quality.is_empty()) {
            let silent = publishes(tracks, who) && !who.link_quality.values().any(|quality| quality.active);
            who.silent_reports = if silent { who.silent_reports.saturating_add(1) } else { 0 };
        }
        self.judge_quality();
    }

    /// Judges everybody's connection and tells those concerned what changed.
    pub(super) fn judge_quality(&mut self) {
        let mut judged: BTreeMap<Seat, (ConnectionQuality, f32)> = BTreeMap::new();
        for who in self.people.values().filter(|who| !who.link_quality.is_empty() || !who.has_voice()) {
            // One report without a packet may be chance; two in a row are ten seconds.
            let lost = who.silent_reports >= 2 || who.voice_faults.values().any(|f| *f == VoiceFault::Outage);
            let score = if lost || !who.has_voice() { 1.0 } else { score(who, publishes(&self.tracks, who)) };
            judged.insert(who.seat, (if lost { ConnectionQuality::Lost } else { rank(score) }, score));
        }
        let seats: Vec<Seat> = self.people.keys().copied().collect();
        for seat in seats {
            self.tell_quality(seat, &judged);
        }
    }

    fn tell_quality(&mut self, seat: Seat, judged: &BTreeMap<Seat, (ConnectionQuality, f32)>) {
        let Some(who) = self.people.get(&seat).filter(|who| !who.policy.background) else { return };
        let mut told = Vec::new();
        let mut updates = Vec::new();
        for (about, (quality, score)) in judged {
            let Some(subject) = self.people.get(about) else { continue };
            if *about != seat && !self.is_subscribed(who, *about, None) {
                continue;
            }
            // One that reads this is not lost; JS would tear everything down after ten seconds of it.
            let quality = match quality {
                ConnectionQuality::Lost if *about == seat || who.protocol() < KNOWS_LOST => {
                    ConnectionQuality::Poor
                }
                other => *other,
            };
            if who.told_quality.get(about) != Some(&quality) {
                told.push((*about, quality));
                updates.push(ConnectionQualityInfo {
                    participant_sid: subject.sid.clone(),
                    quality: quality as i32,
                    score: *score,
                });
            }
        }
        if updates.is_empty() {
            return;
        }
        if let Some(who) = self.people.get_mut(&seat) {
            who.told_quality.extend(told);
        }
        self.send(seat, Response::ConnectionQuality(ConnectionQualityUpdate { updates }));
    }

    /// The room as `join` and `room_update` have it.
    pub(super) fn room_info(&self) -> livekit_protocol::Room {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let visible = || self.people.values().filter(|who| !who.is_hidden());
        let publishes = |who: &&Participant| {
            !who.data_tracks.is_empty()
                || who.tracks.iter().any(|id| self.tracks.get(id).is_some_and(Track::is_published))
        };
        livekit_protocol::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: seconds(self.empty_timeout),
            departure_timeout: seconds(self.departure_timeout),
            // Zero is no limit.
            max_participants: u32::try_from(self.max_participants).unwrap_or(0),
            creation_time: self.created_unix_ms.div_euclid(1000),
            creation_time_ms: self.created_unix_ms,
            turn_password: String::new(),
            enabled_codecs: publish_codecs(),
            metadata: self.metadata.clone(),
            num_participants: u32::try_from(visible().count()).unwrap_or(u32::MAX),
            num_publishers: u32::try_from(visible().filter(publishes).count()).unwrap_or(u32::MAX),
            active_recording: self.people.values().any(|who| who.recorder),
            version: None,
        }
    }

    /// Somebody came, went, or began or ended to publish: a `room_update` is due.
    pub(super) fn counts_changed(&mut self, clock: Clock) {
        let soon = clock.now + ROOM_UPDATE_DELAY;
        let at = self.counts_told_at.map_or(soon, |last: Instant| soon.max(last + ROOM_UPDATE_INTERVAL));
        self.counts_at.get_or_insert(at);
    }

    pub(super) fn send_room_update(&mut self, clock: Clock) {
        self.counts_at = None;
        self.counts_told_at = Some(clock.now);
        let update = Response::RoomUpdate(RoomUpdate { room: Some(self.room_info()) });
        let shown = self.people.values().filter(|who| !who.policy.background);
        let shown: Vec<Seat> = shown.map(|who| who.seat).collect();
        for seat in shown {
            self.send(seat, update.clone());
        }
    }

    pub(super) fn send_room_update_to(&mut self, seat: Seat) {
        let update = RoomUpdate { room: Some(self.room_info()) };
        self.send(seat, Response::RoomUpdate(update));
    }
}

/// Whether somebody means to be seen or heard.
fn publishes(tracks: &BTreeMap<TrackId, Track>, who: &Participant) -> bool {
    who.tracks.iter().filter_map(|id| tracks.get(id)).any(|track| track.is_published() && !track.info.muted)
}

/// Loudness as clients are told it: eighths, rounded up; 0 for silence and for what is no number.
fn eighths(level: f32) -> u8 {
    (level.clamp(0.0, 1.0) * 8.0).ceil() as u8
}

/// 1 (unusable) to 5 (perfect). Each figure takes something off: 5 % of lost packets a whole point, a round trip
/// of 600 ms another, half of the wanted picture layers missing three quarters of one.
fn score(who: &Participant, publishing: bool) -> f32 {
    let (mut loss, mut served, mut rtt) = (0.0_f32, 1.0_f32, Duration::ZERO);
    for (peer, quality) in &who.link_quality {
        if publishing && who.link.publisher() == Some(*peer) {
            loss = loss.max(quality.uplink_loss);
        }
        if who.link.subscriber() == *peer {
            loss = loss.max(quality.downlink_loss);
            served = served.min(quality.served);
        }
        rtt = rtt.max(quality.rtt.unwrap_or_default());
    }
    let slow = rtt.saturating_sub(Duration::from_millis(200)).as_secs_f32();
    let off = (loss * 20.0).clamp(0.0, 3.0) + (slow * 2.5).min(1.5) + ((1.0 - served) * 1.5).clamp(0.0, 1.5);
    (5.0 - off).clamp(1.0, 5.0)
}

fn rank(score: f32) -> ConnectionQuality {
    match score {
        score if score > 4.1 => ConnectionQuality::Excellent,
        score if score > 2.5 => ConnectionQuality::Good,
        _ => ConnectionQuality::Poor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loudness_is_rounded_up_to_eighths() {
        for (level, want) in
            [(0.0, 0), (0.01, 1), (0.125, 1), (0.13, 2), (1.0, 8), (9.0, 8), (-1.0, 0), (f32::NAN, 0)]
        {
            assert_eq!(eighths(level), want, "{level}");
        }
    }

    #[test]
    fn quality_is_ranked_by_score() {
        assert_eq!(rank(5.0), ConnectionQuality::Excellent);
        assert_eq!(rank(3.5), ConnectionQuality::Good);
        assert_eq!(rank(2.0), ConnectionQuality::Poor);
        assert_eq!(rank(f32::NAN), ConnectionQuality::Poor);
    }
}
