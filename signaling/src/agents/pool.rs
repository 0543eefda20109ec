//! All workers, all jobs, and which goes where.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol as lk;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use livekit_protocol::{Job, JobStatus, JobType, ServerMessage, WorkerMessage};

use super::job::{Errand, Offer, Stage, TOKEN_TTL, claims, is_end};
use super::worker::{Registration, Worker};
use super::{Notice, Order, Output, WorkerId};
use crate::access;
use crate::livekit::{Clock, Settings, server_info, sid};

/// How long a worker may take to register, and to say whether it takes a job (LiveKit's times).
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a worker may take to say how a job ended whose agent is gone.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How much the pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connected workers.
    pub workers: usize,
    /// Jobs that wait for a worker.
    pub waiting: usize,
}

/// As many workers are connected as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("agent worker limit reached: {limit} (agents.workers)")]
pub struct PoolFull {
    /// The limit.
    pub limit: usize,
}

/// The state machine. After every input drain [`Pool::poll_output`], then see [`Pool::next_timeout`].
#[derive(Debug)]
pub struct Pool {
    settings: Arc<Settings>,
    limits: PoolLimits,
    rng: fastrand::Rng,
    workers: BTreeMap<WorkerId, Worker>,
    /// Workers that have not said what they are for, and until when they may wait with that.
    strangers: BTreeMap<WorkerId, Instant>,
    /// Jobs that a worker was asked about, by id.
    errands: HashMap<String, Errand>,
    /// Those for which nobody is there, the oldest first.
    waiting: VecDeque<Offer>,
    outbox: VecDeque<Output>,
}

impl Pool {
    /// Nobody is there, and nothing to do.
    pub fn new(settings: Arc<Settings>, limits: PoolLimits, rng: fastrand::Rng) -> Pool {
        Pool {
            settings,
            limits,
            rng,
            workers: BTreeMap::new(),
            strangers: BTreeMap::new(),
            errands: HashMap::new(),
            waiting: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// A worker has connected with a token of `key`'s. `worker` must be new.
    ///
    /// # Errors
    /// [`PoolFull`]
    pub fn connect(&mut self, clock: Clock, worker: WorkerId, key: String) -> Result<(), PoolFull> {
        let limit = self.limits.workers;
        if self.workers.len() >= limit {
            return Err(PoolFull { limit });
        }
        self.workers.insert(worker, Worker::new(sid::worker(&mut self.rng), key));
        self.strangers.insert(worker, clock.now + PATIENCE);
        Ok(())
    }

    /// One message of a worker's. From one that is not (or no longer) there it is ignored.
    pub fn message(&mut self, clock: Clock, worker: WorkerId, message: WorkerMessage) {
        let Some(who) = self.workers.get(&worker) else { return };
        // An unknown kind of message, skipped as the protocol asks.
        let Some(message) = message.message else { return };
        match (message, who.registration.is_some()) {
            (FromWorker::Ping(ping), _) => {
                let pong = lk::WorkerPong { last_timestamp: ping.timestamp, timestamp: clock.unix_ms };
                self.send(worker, ToWorker::Pong(pong));
            }
            (FromWorker::Register(request), false) => self.register(clock, worker, request),
            (FromWorker::Register(_), true) => self.dismiss(clock, worker, "already registered"),
            (_, false) => self.dismiss(clock, worker, "the first message must be register"),
            (FromWorker::Availability(answer), true) => self.answered(clock, worker, answer),
            (FromWorker::UpdateWorker(status), true) => self.status_changed(clock, worker, &status),
            (FromWorker::UpdateJob(update), true) => self.job_changed(clock, worker, &update),
            (FromWorker::SimulateJob(request), true) => self.simulate(clock, worker, request),
            (FromWorker::MigrateJob(request), true) => self.claim(worker, &request.job_ids),
        }
    }

    /// A message of a worker's could not be read.
    pub fn bad_message(&mut self, clock: Clock, worker: WorkerId) {
        if self.workers.contains_key(&worker) {
            self.dismiss(clock, worker, "the message is not a WorkerMessage");
        }
    }

    /// The worker's socket is gone. What it was asked about goes to the next; what it has begun goes on, as its agents may.
    pub fn disconnected(&mut self, clock: Clock, worker: WorkerId) {
        self.strangers.remove(&worker);
        let Some(gone) = self.workers.remove(&worker) else { return };
        self.forget_refusals(worker);
        let mut jobs: Vec<String> = gone.jobs.into_iter().collect();
        jobs.sort_unstable();
        for id in jobs {
            let Some(errand) = self.errands.get_mut(&id) else { continue };
            match &mut errand.stage {
                Stage::Asked { .. } => self.offer_again(clock, &id),
                Stage::Running { worker } | Stage::Ending { worker, .. } => *worker = None,
            }
        }
    }

    /// What a room wants.
    pub fn order(&mut self, clock: Clock, order: Order) {
        match order {
            Order::Launch(job) => self.offer(clock, Offer::new(*job)),
            Order::AgentLeft { job } => self.agent_left(clock, &job),
            Order::EndDispatch { dispatch } => self.end_where(clock, |job| job.dispatch_id == dispatch),
            Order::EndRoom { room } => {
                self.end_where(clock, |job| job.room.as_ref().is_some_and(|its| its.sid == room));
            }
        }
    }

    /// Time has come to [`Pool::next_timeout`]; early and late calls do no harm.
    pub fn handle_timeout(&mut self, clock: Clock) {
        let late = self.strangers.iter().filter(|(_, until)| **until <= clock.now);
        for worker in late.map(|(worker, _)| *worker).collect::<Vec<_>>() {
            self.dismiss(clock, worker, "no register message in 10 s");
        }
        let due = self.errands.iter().filter(|(_, errand)| errand.due().is_some_and(|at| at <= clock.now));
        let mut due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        due.sort_unstable();
        for id in due {
            match self.errands.get(&id).map(|errand| errand.stage) {
                Some(Stage::Asked { worker, .. }) => self.refused(clock, worker, &id),
                Some(Stage::Ending { .. }) => {
                    self.end(clock, &id, JobStatus::JsFailed, "agent worker left the room");
                }
                Some(Stage::Running { .. }) | None => {}
            }
        }
    }

    /// When to call [`Pool::handle_timeout`]; `None`: only news can wake the pool.
    pub fn next_timeout(&self) -> Option<Instant> {
        let strangers = self.strangers.values().copied();
        strangers.chain(self.errands.values().filter_map(Errand::due)).min()
    }

    /// What the caller must do next, in this order; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    /// Workers that are connected.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Jobs that a worker has, or was asked about.
    pub fn jobs(&self) -> usize {
        self.errands.len()
    }

    /// Jobs for which nobody is there.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        let message = Box::new(ServerMessage { message: Some(message) });
        self.outbox.push_back(Output::Send { worker, message });
    }

    fn notice(&mut self, notice: Notice) {
        self.outbox.push_back(Output::Notice(notice));
    }

    fn tell_room(&mut self, id: &str) {
        if let Some(errand) = self.errands.get(id) {
            self.outbox.push_back(Output::Job(Box::new(errand.job.clone())));
        }
    }

    /// Ends a worker's connection by our wish.
    fn dismiss(&mut self, clock: Clock, worker: WorkerId, reason: &'static str) {
        self.notice(Notice::BadMessage);
        self.outbox.push_back(Output::Close { worker, reason });
        self.disconnected(clock, worker);
    }

    fn register(&mut self, clock: Clock, worker: WorkerId, request: lk::RegisterWorkerRequest) {
        let registration = match Registration::read(request, self.settings.limits.name_bytes) {
            Ok(registration) => registration,
            Err(reason) => return self.dismiss(clock, worker, reason),
        };
        let Some(who) = self.workers.get_mut(&worker) else { return };
        who.registration = Some(registration);
        self.strangers.remove(&worker);
        let response = lk::RegisterWorkerResponse {
            worker_id: who.sid.clone(),
            server_info: Some(server_info(&self.settings)),
            endpoint_settings: None,
        };
        self.send(worker, ToWorker::Register(response));
        self.notice(Notice::Registered);
        self.offer_waiting(clock);
    }

    fn status_changed(&mut self, clock: Clock, worker: WorkerId, status: &lk::UpdateWorkerStatus) {
        let Some(who) = self.workers.get_mut(&worker) else { return };
        if who.update(status) {
            // It may have refused for being full.
            self.forget_refusals(worker);
            self.offer_waiting(clock);
        }
    }

    /// This worker may be asked again about all that it refused.
    fn forget_refusals(&mut self, worker: WorkerId) {
        let asked = self.errands.values_mut().map(|errand| &mut errand.refused_by);
        for refused_by in asked.chain(self.waiting.iter_mut().map(|offer| &mut offer.refused_by)) {
            refused_by.retain(|refuser| *refuser != worker);
        }
    }

    fn offer_waiting(&mut self, clock: Clock) {
        for offer in std::mem::take(&mut self.waiting) {
            self.offer(clock, offer);
        }
    }

    fn offer_again(&mut self, clock: Clock, id: &str) {
        if let Some(errand) = self.errands.remove(id) {
            self.offer(clock, errand.offered_again());
        }
    }

    /// Asks the next worker, or has the job wait or given up.
    fn offer(&mut self, clock: Clock, offer: Offer) {
        if let Some(worker) = self.choose(&offer) {
            self.ask(clock, worker, offer);
        } else if !offer.can_wait() {
            self.notice(Notice::Unwanted);
        } else if self.waiting.len() >= self.limits.waiting {
            self.notice(Notice::TooManyWaiting);
        } else {
            self.waiting.push_back(offer);
        }
    }

    /// One of those that take such jobs and have not refused this one, the less busy the likelier.
    fn choose(&mut self, offer: &Offer) -> Option<WorkerId> {
        let trade = offer.trade();
        let fit =
            |(id, worker): &(&WorkerId, &Worker)| worker.takes(&trade) && !offer.refused_by.contains(id);
        let candidates: Vec<(WorkerId, f32)> =
            self.workers.iter().filter(fit).map(|(id, worker)| (*id, worker.room_left())).collect();
        let all: f32 = candidates.iter().map(|(_, room)| room).sum();
        let mut point = self.rng.f32() * all;
        for (worker, room) in &candidates {
            point -= room;
            if point <= 0.0 {
                return Some(*worker);
            }
        }
        candidates.last().map(|(worker, _)| *worker)
    }

    fn ask(&mut self, clock: Clock, worker: WorkerId, offer: Offer) {
        let Some(who) = self.workers.get_mut(&worker) else { return };
        let errand = Errand::asked(offer, clock, worker, &who.sid, clock.now + PATIENCE);
        let request = lk::AvailabilityRequest { job: Some(errand.job.clone()), resuming: false };
        who.jobs.insert(errand.job.id.clone());
        self.errands.insert(errand.job.id.clone(), errand);
        self.send(worker, ToWorker::Availability(request));
    }

    fn answered(&mut self, clock: Clock, worker: WorkerId, answer: lk::AvailabilityResponse) {
        let id = answer.job_id.clone();
        let Some(errand) = self.errands.get(&id) else { return };
        if !matches!(errand.stage, Stage::Asked { worker: asked, .. } if asked == worker) {
            return;
        }
        if answer.terminate {
            self.end(clock, &id, JobStatus::JsSuccess, "");
        } else if answer.available {
            self.assign(clock, worker, answer);
        } else {
            self.refused(clock, worker, &id);
        }
    }

    /// This worker does not take it, or does not say.
    fn refused(&mut self, clock: Clock, worker: WorkerId, id: &str) {
        if let Some(who) = self.workers.get_mut(&worker) {
            who.jobs.remove(id);
        }
        if let Some(errand) = self.errands.get_mut(id) {
            errand.refused_by.push(worker);
        }
        self.offer_again(clock, id);
    }

    fn assign(&mut self, clock: Clock, worker: WorkerId, mut answer: lk::AvailabilityResponse) {
        let id = answer.job_id.clone();
        if answer.participant_identity.is_empty() {
            answer.participant_identity = format!("agent-{id}");
        }
        let (Some(who), Some(errand)) = (self.workers.get(&worker), self.errands.get_mut(&id)) else {
            return;
        };
        let Some(registration) = &who.registration else { return };
        let identity = answer.participant_identity.clone();
        let claims = claims(&errand.job, answer, &registration.permission);
        let secret = self.settings.keys.secret(&who.key).unwrap_or_default();
        let unix_s = clock.unix_ms.div_euclid(1000);
        let token = match access::mint(&who.key, secret, claims, TOKEN_TTL, unix_s) {
            Ok(token) => token,
            Err(error) => {
                tracing::error!(%error, "no token for an agent");
                return self.refused(clock, worker, &id);
            }
        };
        errand.stage = Stage::Running { worker: Some(worker) };
        errand.job.state.get_or_insert_default().participant_identity = identity;
        let assignment = lk::JobAssignment { job: Some(errand.job.clone()), url: None, token };
        self.send(worker, ToWorker::Assignment(assignment));
        self.notice(Notice::Assigned);
        self.tell_room(&id);
    }

    fn job_changed(&mut self, clock: Clock, worker: WorkerId, update: &lk::UpdateJobStatus) {
        let Some(errand) = self.errands.get_mut(&update.job_id) else { return };
        if !errand.is_assigned() || errand.worker() != Some(worker) {
            return;
        }
        let Ok(status) = JobStatus::try_from(update.status) else { return };
        if is_end(status) {
            self.end(clock, &update.job_id, status, &update.error);
        } else {
            errand.change(clock, status, &update.error);
            self.tell_room(&update.job_id);
        }
    }

    /// A worker that comes back says what it has been doing meanwhile.
    fn claim(&mut self, worker: WorkerId, ids: &[String]) {
        let Some(who) = self.workers.get_mut(&worker) else { return };
        for id in ids {
            let Some(errand) = self.errands.get_mut(id) else { continue };
            if let Stage::Running { worker: has @ None } | Stage::Ending { worker: has @ None, .. } =
                &mut errand.stage
            {
                *has = Some(worker);
                errand.job.state.get_or_insert_default().worker_id.clone_from(&who.sid);
                who.jobs.insert(id.clone());
            }
        }
    }

    /// A worker under development asks for a job of its own making, without a dispatch.
    fn simulate(&mut self, clock: Clock, worker: WorkerId, request: lk::SimulateJobRequest) {
        let trade = self.workers.get(&worker).and_then(|who| who.registration.as_ref()).map(|its| &its.trade);
        let Some(trade) = trade else { return };
        let kind = if request.participant.is_some() { JobType::JtPublisher } else { JobType::JtRoom };
        let job = Job {
            id: sid::job(&mut self.rng),
            r#type: kind as i32,
            room: request.room,
            participant: request.participant,
            agent_name: trade.agent_name.clone(),
            deployment: trade.deployment.clone(),
            ..Job::default()
        };
        self.ask(clock, worker, Offer::new(job));
    }

    fn agent_left(&mut self, clock: Clock, id: &str) {
        let Some(errand) = self.errands.get_mut(id) else { return };
        let Stage::Running { worker } = errand.stage else { return };
        errand.stage = Stage::Ending { worker, until: clock.now + LAST_WORDS };
        if let Some(worker) = worker {
            self.send(worker, ToWorker::Termination(lk::JobTermination { job_id: id.to_owned() }));
        }
    }

    /// Ends jobs that are not wanted any more.
    fn end_where(&mut self, clock: Clock, is_meant: impl Fn(&Job) -> bool) {
        self.waiting.retain(|offer| !is_meant(&offer.job));
        let meant = self.errands.iter().filter(|(_, errand)| is_meant(&errand.job));
        let mut meant: Vec<String> = meant.map(|(id, _)| id.clone()).collect();
        meant.sort_unstable();
        for id in meant {
            let Some(stage) = self.errands.get(&id).map(|errand| errand.stage) else { continue };
            if let Stage::Running { worker: Some(worker) } = stage {
                self.send(worker, ToWorker::Termination(lk::JobTermination { job_id: id.clone() }));
            }
            match stage {
                Stage::Running { .. } | Stage::Ending { .. } => {
                    self.end(clock, &id, JobStatus::JsSuccess, "");
                }
                Stage::Asked { .. } => self.drop_errand(&id),
            }
        }
    }

    fn end(&mut self, clock: Clock, id: &str, status: JobStatus, error: &str) {
        if let Some(errand) = self.errands.get_mut(id) {
            errand.change(clock, status, error);
        }
        self.tell_room(id);
        self.notice(Notice::Ended(status));
        self.drop_errand(id);
    }

    fn drop_errand(&mut self, id: &str) {
        let Some(errand) = self.errands.remove(id) else { return };
        if let Some(who) = errand.worker().and_then(|worker| self.workers.get_mut(&worker)) {
            who.jobs.remove(id);
        }
    }
}
