//! One job: where it is, and what its state says.

use std::time::{Duration, Instant};

use livekit_protocol::{AvailabilityResponse, Job, JobState, JobStatus, JobType, ParticipantPermission};

use super::WorkerId;
use super::worker::Trade;
use crate::access::{Claims, VideoGrant};
use crate::livekit::{Clock, grant};

/// Where the framework's clients look up which agent somebody is.
const AGENT_NAME: &str = "lk.agent_name";
/// An agent has this long to join; the room refreshes its token afterwards.
pub(super) const TOKEN_TTL: Duration = Duration::from_hours(1);

/// A job for which somebody is sought.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) job: Job,
    /// Who does not want it.
    pub(super) refused_by: Vec<WorkerId>,
}

impl Offer {
    pub(super) fn new(job: Job) -> Offer {
        Offer { job, refused_by: Vec::new() }
    }

    pub(super) fn trade(&self) -> Trade {
        Trade {
            agent_name: self.job.agent_name.clone(),
            deployment: self.job.deployment.clone(),
            kind: JobType::try_from(self.job.r#type).unwrap_or(JobType::JtRoom),
        }
    }

    /// A room stays, so its job may wait; who publishes or joins is of interest at that moment.
    pub(super) fn can_wait(&self) -> bool {
        self.job.r#type == JobType::JtRoom as i32
    }
}

/// Where a job is that a worker was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No answer yet.
    Asked {
        worker: WorkerId,
        /// Then the next is asked.
        until: Instant,
    },
    /// A worker has it; `None` when its socket was lost, until it comes back and says so.
    Running { worker: Option<WorkerId> },
    /// The agent has left, and the worker may still say how the job ended.
    Ending { worker: Option<WorkerId>, until: Instant },
}

/// A job that a worker was asked about, and its way from there.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) job: Job,
    pub(super) stage: Stage,
    /// As in [`Offer`], should it be offered again.
    pub(super) refused_by: Vec<WorkerId>,
}

impl Errand {
    /// The worker that is asked sees it as its own, running from now on.
    pub(super) fn asked(offer: Offer, clock: Clock, worker: WorkerId, sid: &str, until: Instant) -> Errand {
        let Offer { mut job, refused_by } = offer;
        let now = unix_ns(clock);
        job.state = Some(JobState {
            status: JobStatus::JsRunning as i32,
            started_at: now,
            updated_at: now,
            worker_id: sid.to_owned(),
            ..JobState::default()
        });
        Errand { job, stage: Stage::Asked { worker, until }, refused_by }
    }

    /// The worker that was asked does not take it.
    pub(super) fn offered_again(self) -> Offer {
        let Errand { mut job, refused_by, .. } = self;
        job.state = None;
        Offer { job, refused_by }
    }

    /// Whoever has it, or was asked.
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self.stage {
            Stage::Asked { worker, .. } => Some(worker),
            Stage::Running { worker } | Stage::Ending { worker, .. } => worker,
        }
    }

    /// Whether somebody has it.
    pub(super) fn is_assigned(&self) -> bool {
        matches!(self.stage, Stage::Running { .. } | Stage::Ending { .. })
    }

    /// When something is due for it.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Asked { until, .. } | Stage::Ending { until, .. } => Some(until),
            Stage::Running { .. } => None,
        }
    }

    /// What became of it.
    pub(super) fn change(&mut self, clock: Clock, status: JobStatus, error: &str) {
        let now = unix_ns(clock);
        let state = self.job.state.get_or_insert_default();
        state.status = status as i32;
        error.clone_into(&mut state.error);
        state.updated_at = now;
        if is_end(status) {
            state.ended_at = now;
        }
    }
}

/// Nanoseconds since the Unix epoch, in which the protocol tells the times of jobs and dispatches.
pub(crate) fn unix_ns(clock: Clock) -> i64 {
    clock.unix_ms.saturating_mul(1_000_000)
}

pub(super) fn is_end(status: JobStatus) -> bool {
    matches!(status, JobStatus::JsSuccess | JobStatus::JsFailed)
}

/// What the agent's token says: the identity and the texts that the worker chose, and what it may do at most.
pub(super) fn claims(job: &Job, answer: AvailabilityResponse, permission: &ParticipantPermission) -> Claims {
    let mut granted = VideoGrant::default();
    grant(&mut granted, permission);
    let mut claims = Claims {
        sub: answer.participant_identity,
        name: answer.participant_name,
        kind: "agent".to_owned(),
        metadata: answer.participant_metadata,
        attributes: answer.participant_attributes.into_iter().collect(),
        video: Some(VideoGrant {
            room_join: true,
            room: job.room.as_ref().map_or_else(String::new, |room| room.name.clone()),
            agent: true,
            recorder: false,
            ..granted
        }),
        ..Claims::default()
    };
    claims.attributes.insert(AGENT_NAME.to_owned(), job.agent_name.clone());
    claims
}
