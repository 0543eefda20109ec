//! One worker: how it comes in, what it is for, and how busy it is.

use std::collections::HashSet;

use livekit_protocol::{
    JobType, ParticipantPermission, RegisterWorkerRequest, UpdateWorkerStatus, WorkerStatus,
};

use crate::access::{self, Keys, TokenError};
use crate::livekit::connect::given_token;

/// Bytes of a deployment's name, as in LiveKit's server.
const MAX_DEPLOYMENT: usize = 64;

/// Why somebody cannot be a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedWorker {
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A good token, for something else.
    #[error("permission denied: needs a token with the grant agent")]
    NoAgentGrant,
}

impl RefusedWorker {
    /// The HTTP status to answer with; the text is that of `Display`.
    pub const fn status(self) -> u16 {
        401
    }
}

/// Checks the request of a worker that wants to connect; gives the name of its API key. `unix_ms` is the wall clock.
///
/// # Errors
/// [`RefusedWorker`]
pub fn admit(
    query: &str,
    authorization: Option<&str>,
    keys: &Keys,
    unix_ms: i64,
) -> Result<String, RefusedWorker> {
    let token = given_token(query, authorization);
    let claims = access::verify(keys, &token, unix_ms.div_euclid(1000))?;
    if claims.video.as_ref().is_some_and(|grant| grant.agent) {
        Ok(claims.iss)
    } else {
        Err(RefusedWorker::NoAgentGrant)
    }
}

/// Which jobs a worker is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Trade {
    pub(super) agent_name: String,
    pub(super) deployment: String,
    pub(super) kind: JobType,
}

/// What it said when it registered.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) trade: Trade,
    /// What its agents may do in a room.
    pub(super) permission: ParticipantPermission,
}

impl Registration {
    /// Reads a request to register; `Err` is for the worker's log.
    pub(super) fn read(
        request: RegisterWorkerRequest,
        name_bytes: usize,
    ) -> Result<Registration, &'static str> {
        let kind = JobType::try_from(request.r#type).map_err(|_| "register.type is no type of job")?;
        if request.agent_name.len() > name_bytes {
            return Err("register.agent_name is too long");
        }
        if !is_deployment(&request.deployment) {
            return Err(
                "register.deployment must be at most 64 bytes without underscores, blanks and control characters",
            );
        }
        let permission = request.allowed_permissions.unwrap_or_else(|| ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            can_update_metadata: true,
            ..ParticipantPermission::default()
        });
        let trade = Trade { agent_name: request.agent_name, deployment: request.deployment, kind };
        Ok(Registration { trade, permission })
    }
}

/// Whether a deployment may have that name: one that fits between the underscores of LiveKit's topics.
pub(crate) fn is_deployment(name: &str) -> bool {
    let fits = |byte: u8| byte != b'_' && byte > b' ' && byte != 0x7f;
    name.len() <= MAX_DEPLOYMENT && name.bytes().all(fits)
}

/// A worker's socket and what is known of it.
#[derive(Debug)]
pub(super) struct Worker {
    /// Told to it, such as `AW_…`.
    pub(super) sid: String,
    /// Its API key, which signs the tokens of its agents.
    pub(super) key: String,
    /// `None` until it has said it.
    pub(super) registration: Option<Registration>,
    /// 0 to 1, by its own measure.
    load: f32,
    is_full: bool,
    is_draining: bool,
    status_seq: u64,
    /// Jobs that are with it, those included that it was asked about.
    pub(super) jobs: HashSet<String>,
}

impl Worker {
    pub(super) fn new(sid: String, key: String) -> Worker {
        Worker {
            sid,
            key,
            registration: None,
            load: 0.0,
            is_full: false,
            is_draining: false,
            status_seq: 0,
            jobs: HashSet::new(),
        }
    }

    /// Whether it may be asked about a job of that trade.
    pub(super) fn takes(&self, trade: &Trade) -> bool {
        self.takes_jobs()
            && self.registration.as_ref().is_some_and(|registration| registration.trade == *trade)
    }

    fn takes_jobs(&self) -> bool {
        !self.is_full && !self.is_draining
    }

    /// How much of it is free, above 0: the share of new jobs that it is to get among others.
    pub(super) fn room_left(&self) -> f32 {
        (1.0 - self.load).clamp(0.01, 1.0)
    }

    /// Takes over what it says of itself. Whether it takes jobs that it would not have taken before.
    pub(super) fn update(&mut self, status: &UpdateWorkerStatus) -> bool {
        if status.seq != 0 {
            if status.seq <= self.status_seq {
                return false;
            }
            self.status_seq = status.seq;
        }
        self.load = if status.load.is_finite() { status.load } else { 1.0 };
        let took_jobs = self.takes_jobs();
        if let Some(status) = status.status {
            self.is_full = status == WorkerStatus::WsFull as i32;
        }
        self.is_draining = status.draining;
        self.takes_jobs() && !took_jobs
    }
}
