//! Why a participant gets what it gets, for people: who may read that, and the report.
//!
//! The room asks the core once and puts names to the answer; it keeps nothing in between. Written as JSON by whoever
//! serves it: what the fields mean is in `docs/debug.md`.
//! Always: a report is of one participant's downlink, for its room's administrators and for itself.

use livekit_protocol::participant_info::State;
use serde::Serialize;
use sfu::command::explanation::{Explanation, Quality, TrackExplanation};
use sfu::command::{Command, MediaKind};
use sfu::congestion::explain::Sample;
use sfu::ids::PeerId;
use sfu::units::Bitrate;

use super::connect::{Mode, Refusal, given_token};
use super::output::{Clock, Output};
use super::participant::Participant;
use super::room::Room;
use crate::access::{self, Keys, TokenError};

/// Why a report is not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is good for something else.
    #[error(
        "permission denied: needs a token with roomAdmin for this room, or the participant's own join token"
    )]
    NotAllowed,
    /// The same, where only administrators may go.
    #[error("permission denied: needs a token with roomAdmin")]
    NotAdmin,
    /// Nobody of that name is in the room, or there is no such room.
    #[error("no participant of this identity is in this room")]
    NoParticipant,
}

impl ReadError {
    /// The answer to give.
    pub fn refusal(&self) -> Refusal {
        let status = match self {
            ReadError::Token(error) => error.status(),
            ReadError::NotAllowed | ReadError::NotAdmin => 403,
            ReadError::NoParticipant => 404,
        };
        Refusal { status, body: self.to_string() }
    }
}

/// Whether whoever asks may read the report on `identity` in `room`. `query` and `authorization` are those of the HTTP
/// request, untrusted.
///
/// # Errors
/// [`ReadError::Token`] or [`ReadError::NotAllowed`]: says nothing of what there is.
pub fn may_read(
    (query, authorization): (&str, Option<&str>),
    keys: &Keys,
    (room, identity): (&str, &str),
    unix_ms: i64,
) -> Result<(), ReadError> {
    let token = given_token(query, authorization);
    let claims = access::verify(keys, &token, unix_ms.div_euclid(1000))?;
    let grant = claims.video.as_ref().filter(|grant| grant.room == room).ok_or(ReadError::NotAllowed)?;
    let own = grant.room_join && !identity.is_empty() && claims.identity() == identity;
    if grant.room_admin || own { Ok(()) } else { Err(ReadError::NotAllowed) }
}

/// The room that whoever asks may administer; `None` for all rooms, when the token is for no particular one.
///
/// # Errors
/// As [`may_read`].
pub fn administered_room(
    (query, authorization): (&str, Option<&str>),
    keys: &Keys,
    unix_ms: i64,
) -> Result<Option<String>, ReadError> {
    let token = given_token(query, authorization);
    let claims = access::verify(keys, &token, unix_ms.div_euclid(1000))?;
    let grant = claims.video.filter(|grant| grant.room_admin).ok_or(ReadError::NotAdmin)?;
    Ok((!grant.room.is_empty()).then_some(grant.room))
}

/// What one participant gets and why. Rates are bits per second on the wire.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    room: String,
    identity: String,
    sid: String,
    state: &'static str,
    peer_connections: u8,
    connected: bool,
    unix_ms: i64,
    estimate: Estimate,
    budget: Budget,
    client: Bounds,
    tracks: Vec<Track>,
    history: Vec<Second>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Estimate {
    target_bps: u64,
    cause: &'static str,
    delivered_bps: Option<u64>,
    queue: &'static str,
    queue_delay_ms: u64,
    rtt_ms: u64,
    loss: f64,
    inherent_loss: f64,
    feedback: &'static str,
    reports: &'static str,
    probing: bool,
    next_step_bps: Option<u64>,
    red_level: u8,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Budget {
    media_bps: u64,
    used_bps: u64,
    audio_bps: u64,
    retransmission_share: f64,
    wanted_bps: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Bounds {
    max_bps: Option<u64>,
    data_saver: bool,
    background: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Track {
    sid: String,
    publisher: String,
    kind: &'static str,
    source: String,
    codec: String,
    muted: bool,
    enabled: bool,
    why: &'static str,
    gets: Option<Layer>,
    granted: Option<Layer>,
    wanted: Option<Layer>,
    next: Option<Layer>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Layer {
    spatial: u8,
    temporal: u8,
    width: Option<u32>,
    height: Option<u32>,
    fps: Option<f64>,
    bps: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Second {
    unix_ms: i64,
    target_bps: u64,
    delivered_bps: Option<u64>,
    queue_delay_ms: u64,
    loss: f64,
    cause: &'static str,
    pictures: [u8; 5],
}

impl Report {
    /// Whose report it is.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

impl Room {
    /// Asks the core what a participant gets, with so many seconds of history. The answer is an [`Output::Report`] with
    /// the same number, unless the participant leaves before it.
    ///
    /// # Errors
    /// [`ReadError::NoParticipant`]
    pub fn explain(&mut self, identity: &str, question: u64, history: u16) -> Result<(), ReadError> {
        let seat = self.by_identity.get(identity).ok_or(ReadError::NoParticipant)?;
        let who = self.people.get(seat).ok_or(ReadError::NoParticipant)?;
        let peer = who.link.subscriber();
        self.command(Command::Explain { peer, question, history });
        Ok(())
    }

    /// The core has answered.
    pub(super) fn explained(&mut self, clock: Clock, peer: PeerId, question: u64, told: &Explanation) {
        let who = self.seat_of(peer).and_then(|seat| self.people.get(&seat));
        let Some(who) = who.filter(|who| who.link.subscriber() == peer) else { return };
        let report = Box::new(self.report(clock, who, told));
        self.outbox.push_back(Output::Report { question, report });
    }

    fn report(&self, clock: Clock, who: &Participant, told: &Explanation) -> Report {
        let (estimate, budget, policy) = (&told.estimate, &told.budget, told.policy);
        let history = told.history.as_ref().map(|history| {
            let age = |at| clock.now.saturating_duration_since(at).as_millis() as i64;
            history.iter().map(|(at, sample)| second(clock.unix_ms - age(at), sample)).collect()
        });
        Report {
            room: self.name.clone(),
            identity: who.identity.clone(),
            sid: who.sid.clone(),
            state: match who.state {
                State::Joining => "joining",
                State::Joined => "joined",
                State::Active => "active",
                State::Disconnected => "disconnected",
            },
            peer_connections: match who.link.mode() {
                Mode::Single => 1,
                Mode::Dual => 2,
            },
            connected: told.connected,
            unix_ms: clock.unix_ms,
            estimate: Estimate {
                target_bps: estimate.target.as_bps(),
                cause: estimate.cause.as_str(),
                delivered_bps: estimate.delivered.map(Bitrate::as_bps),
                queue: estimate.queue.as_str(),
                queue_delay_ms: estimate.queue_delay.as_millis() as u64,
                rtt_ms: estimate.rtt.as_millis() as u64,
                loss: rounded(estimate.loss, 10_000.0),
                inherent_loss: rounded(estimate.inherent_loss, 10_000.0),
                feedback: match (estimate.muted, estimate.silent) {
                    (true, _) => "missing",
                    (false, true) => "overdue",
                    (false, false) => "flows",
                },
                reports: told.feedback.as_str(),
                probing: estimate.probing,
                next_step_bps: estimate.unmet.map(Bitrate::as_bps),
                red_level: told.redundancy,
            },
            budget: Budget {
                media_bps: budget.media.as_bps(),
                used_bps: budget.used.as_bps(),
                audio_bps: budget.audio.as_bps(),
                retransmission_share: rounded(budget.rtx_share, 10_000.0),
                wanted_bps: budget.wanted.as_bps(),
            },
            client: Bounds {
                max_bps: policy.max.map(Bitrate::as_bps),
                data_saver: policy.data_saver,
                background: policy.background,
            },
            tracks: told.tracks.iter().filter_map(|track| self.track_report(track)).collect(),
            history: history.unwrap_or_default(),
        }
    }

    /// `None` for one that was unpublished meanwhile.
    fn track_report(&self, told: &TrackExplanation) -> Option<Track> {
        let track = self.tracks.get(&self.track_of(told.track))?;
        Some(Track {
            sid: track.info.sid.clone(),
            publisher: self.people.get(&track.owner)?.identity.clone(),
            kind: match told.kind {
                MediaKind::Audio => "audio",
                MediaKind::Video => "video",
            },
            source: track.source().as_str_name().to_ascii_lowercase(),
            codec: told.mime.clone(),
            muted: told.muted,
            enabled: told.enabled,
            why: told.why.as_str(),
            gets: told.gets.map(layer),
            granted: told.granted.map(layer),
            wanted: told.wanted.map(layer),
            next: told.next.map(layer),
        })
    }
}

fn layer(quality: Quality) -> Layer {
    Layer {
        spatial: quality.layer.spatial,
        temporal: quality.layer.temporal,
        width: quality.size.map(|(width, _)| width),
        height: quality.size.map(|(_, height)| height),
        fps: quality.fps.map(|fps| rounded(fps, 10.0)),
        bps: quality.rate.as_bps(),
    }
}

fn second(unix_ms: i64, sample: &Sample) -> Second {
    Second {
        unix_ms,
        target_bps: sample.target().as_bps(),
        delivered_bps: sample.delivered().map(Bitrate::as_bps),
        queue_delay_ms: sample.queue_delay().as_millis() as u64,
        loss: rounded(sample.loss(), 10_000.0),
        cause: sample.cause().as_str(),
        pictures: sample.pictures(),
    }
}

/// With as many places as `parts` has zeros.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}
