//! The pool with scripted workers and rooms, on a virtual clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol as lk;
use livekit_protocol::server_message::Message as ToWorker;
use livekit_protocol::worker_message::Message as FromWorker;
use livekit_protocol::{Job, JobStatus, JobType, WorkerMessage};
use proptest::prelude::*;

use super::*;
use crate::access::{self, Claims, Keys, VideoGrant};
use crate::livekit::{Clock, Settings};

const START_MS: i64 = 1_800_000_000_000;

struct Script {
    pool: Pool,
    clock: Clock,
    inbox: HashMap<WorkerId, Vec<ToWorker>>,
    closed: HashMap<WorkerId, &'static str>,
    jobs: Vec<Job>,
    notices: Vec<Notice>,
}

fn settings() -> Settings {
    let keys: Keys = [("devkey".to_owned(), "secret".to_owned())].into_iter().collect();
    Settings { keys, ..Settings::default() }
}

fn job(id: &str, kind: JobType) -> Job {
    Job {
        id: id.into(),
        dispatch_id: "AD_1".into(),
        r#type: kind as i32,
        room: Some(lk::Room { sid: "RM_1".into(), name: "lobby".into(), ..Default::default() }),
        metadata: "for you".into(),
        ..Default::default()
    }
}

fn registration(agent_name: &str, kind: JobType) -> FromWorker {
    let agent_name = agent_name.to_owned();
    FromWorker::Register(lk::RegisterWorkerRequest { r#type: kind as i32, agent_name, ..Default::default() })
}

fn yes(job: &str) -> FromWorker {
    FromWorker::Availability(lk::AvailabilityResponse {
        job_id: job.into(),
        available: true,
        participant_identity: "echo".into(),
        participant_name: "Echo".into(),
        participant_attributes: [("mood".to_owned(), "fine".to_owned())].into(),
        ..Default::default()
    })
}

fn no(job: &str) -> FromWorker {
    FromWorker::Availability(lk::AvailabilityResponse { job_id: job.into(), ..Default::default() })
}

fn ended(job: &str, status: JobStatus) -> FromWorker {
    let (job_id, status) = (job.to_owned(), status as i32);
    FromWorker::UpdateJob(lk::UpdateJobStatus { job_id, status, error: String::new() })
}

fn status(status: lk::WorkerStatus, load: f32, seq: u64) -> FromWorker {
    let status = Some(status as i32);
    FromWorker::UpdateWorker(lk::UpdateWorkerStatus { status, load, seq, ..Default::default() })
}

impl Script {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn new() -> Script {
        let limits = PoolLimits { workers: 3, waiting: 2 };
        Script {
            pool: Pool::new(Arc::new(settings()), limits, fastrand::Rng::with_seed(7)),
            clock: Clock { now: Instant::now(), unix_ms: START_MS },
            inbox: HashMap::new(),
            closed: HashMap::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.pool.poll_output() {
            match output {
                Output::Send { worker, message } => {
                    assert!(!self.closed.contains_key(&worker), "sent after close: {message:?}");
                    self.inbox.entry(worker).or_default().push(message.message.expect("an empty message"));
                }
                Output::Close { worker, reason } => {
                    assert_eq!(self.closed.insert(worker, reason), None, "closed twice");
                }
                Output::Job(job) => self.jobs.push(*job),
                Output::Notice(notice) => self.notices.push(notice),
            }
        }
    }

    fn connect(&mut self, id: u64) -> WorkerId {
        let worker = WorkerId(id);
        self.pool.connect(self.clock, worker, "devkey".into()).unwrap();
        worker
    }

    fn worker(&mut self, id: u64, agent_name: &str, kind: JobType) -> WorkerId {
        let worker = self.connect(id);
        self.say(worker, registration(agent_name, kind));
        match &self.take(worker)[0] {
            ToWorker::Register(response) => assert!(response.worker_id.starts_with("AW_")),
            other => panic!("{other:?}"),
        }
        worker
    }

    fn say(&mut self, worker: WorkerId, message: FromWorker) {
        self.pool.message(self.clock, worker, WorkerMessage { message: Some(message) });
        self.drain();
    }

    fn order(&mut self, order: Order) {
        self.pool.order(self.clock, order);
        self.drain();
    }

    fn launch(&mut self, job: Job) {
        self.order(Order::Launch(Box::new(job)));
    }

    fn advance(&mut self, time: Duration) {
        self.clock.now += time;
        self.clock.unix_ms += i64::try_from(time.as_millis()).unwrap();
        self.pool.handle_timeout(self.clock);
        self.drain();
    }

    fn leave(&mut self, worker: WorkerId) {
        self.pool.disconnected(self.clock, worker);
        self.drain();
    }

    fn take(&mut self, worker: WorkerId) -> Vec<ToWorker> {
        self.inbox.remove(&worker).unwrap_or_default()
    }

    /// The jobs that a worker was asked about since the last look.
    fn asked(&mut self, worker: WorkerId) -> Vec<String> {
        let messages = self.take(worker).into_iter();
        messages
            .map(|message| match message {
                ToWorker::Availability(request) => request.job.unwrap().id,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn assigned(&mut self, worker: WorkerId) -> lk::JobAssignment {
        match self.take(worker).pop() {
            Some(ToWorker::Assignment(assignment)) => assignment,
            other => panic!("{other:?}"),
        }
    }

    fn last_status(&self) -> JobStatus {
        JobStatus::try_from(self.jobs.last().unwrap().state.as_ref().unwrap().status).unwrap()
    }
}

#[test]
fn a_worker_that_takes_a_job_gets_a_token_for_its_room() {
    let mut script = Script::new();
    let worker = script.connect(1);
    let permission = lk::ParticipantPermission { can_subscribe: true, hidden: true, ..Default::default() };
    script.say(
        worker,
        FromWorker::Register(lk::RegisterWorkerRequest {
            agent_name: "echo".into(),
            allowed_permissions: Some(permission),
            ..Default::default()
        }),
    );
    script.take(worker);
    script.launch(Job { agent_name: "echo".into(), ..job("AJ_1", JobType::JtRoom) });
    assert_eq!(script.asked(worker), ["AJ_1"]);
    assert!(script.jobs.is_empty(), "nobody has it yet");
    script.say(worker, yes("AJ_1"));

    let assignment = script.assigned(worker);
    let state = assignment.job.unwrap().state.unwrap();
    assert_eq!((state.status, state.participant_identity.as_str()), (JobStatus::JsRunning as i32, "echo"));
    assert_eq!(state.started_at, START_MS * 1_000_000);
    let claims = access::verify(&settings().keys, &assignment.token, START_MS / 1000).unwrap();
    assert_eq!((claims.sub.as_str(), claims.name.as_str(), claims.kind.as_str()), ("echo", "Echo", "agent"));
    assert_eq!(claims.attributes["mood"], "fine");
    assert_eq!(claims.attributes["lk.agent_name"], "echo");
    assert_eq!(claims.exp, Some(START_MS / 1000 + 3600));
    let grant = claims.video.unwrap();
    assert!(grant.room_join && grant.agent && grant.hidden && grant.can_subscribe());
    assert_eq!(grant.room, "lobby");
    assert!(!grant.can_publish() && !grant.can_publish_data() && !grant.room_admin && !grant.room_create);

    let told = script.jobs.pop().unwrap();
    assert_eq!((told.id.as_str(), told.state.unwrap().participant_identity.as_str()), ("AJ_1", "echo"));
    script.say(worker, ended("AJ_1", JobStatus::JsSuccess));
    assert_eq!(script.last_status(), JobStatus::JsSuccess);
    assert_eq!((script.pool.jobs(), script.pool.waiting()), (0, 0));
}

#[test]
fn jobs_go_to_workers_of_their_name_deployment_and_kind_alone() {
    let mut script = Script::new();
    let others = [script.worker(1, "", JobType::JtRoom), script.worker(2, "echo", JobType::JtPublisher)];
    script.launch(Job { agent_name: "echo".into(), ..job("AJ_1", JobType::JtRoom) });
    script.launch(Job { deployment: "blue".into(), ..job("AJ_2", JobType::JtRoom) });
    for other in others {
        assert!(script.asked(other).is_empty());
    }
    assert_eq!(script.pool.waiting(), 2);
    let worker = script.worker(3, "echo", JobType::JtRoom);
    assert_eq!(script.pool.waiting(), 1, "the newcomer was asked");
    script.say(worker, yes("AJ_1"));
    assert_eq!(script.notices.last(), Some(&Notice::Assigned));
}

#[test]
fn a_rooms_job_waits_for_a_worker_and_a_participants_is_given_up() {
    let mut script = Script::new();
    script.launch(job("AJ_1", JobType::JtRoom));
    script.launch(job("AJ_2", JobType::JtParticipant));
    assert_eq!(script.notices, [Notice::Unwanted]);
    script.launch(job("AJ_3", JobType::JtRoom));
    script.launch(job("AJ_4", JobType::JtRoom));
    assert_eq!(script.notices, [Notice::Unwanted, Notice::TooManyWaiting]);
    let worker = script.connect(1);
    script.say(worker, registration("", JobType::JtRoom));
    script.take(worker).remove(0);
    script.say(worker, yes("AJ_1"));
    script.say(worker, yes("AJ_3"));
    script.say(worker, yes("AJ_4"));
    let ids: Vec<&str> = script.jobs.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["AJ_1", "AJ_3"]);
}

#[test]
fn who_refuses_or_says_nothing_is_not_asked_again_until_it_was_full() {
    let mut script = Script::new();
    let first = script.worker(1, "", JobType::JtRoom);
    script.launch(job("AJ_1", JobType::JtRoom));
    assert_eq!(script.asked(first), ["AJ_1"]);
    script.say(first, no("AJ_1"));
    assert!(script.asked(first).is_empty());
    assert_eq!(script.pool.waiting(), 1);

    let second = script.worker(2, "", JobType::JtRoom);
    // Registered and asked at once, which `worker` has taken out.
    script.advance(Duration::from_secs(10));
    assert_eq!(script.pool.waiting(), 1, "no answer in time");
    script.say(second, yes("AJ_1"));
    assert!(script.take(second).is_empty(), "too late");

    script.say(first, status(lk::WorkerStatus::WsFull, 1.0, 1));
    assert!(script.asked(first).is_empty());
    script.say(first, status(lk::WorkerStatus::WsAvailable, 0.1, 2));
    assert_eq!(script.asked(first), ["AJ_1"], "it may have been full");
    script.say(first, yes("AJ_1"));
    script.assigned(first);
}

#[test]
fn a_full_worker_is_not_asked_and_an_old_status_does_not_count() {
    let mut script = Script::new();
    let worker = script.worker(1, "", JobType::JtRoom);
    script.say(worker, status(lk::WorkerStatus::WsFull, 1.0, 2));
    script.say(worker, status(lk::WorkerStatus::WsAvailable, 0.0, 1));
    script.launch(job("AJ_1", JobType::JtRoom));
    assert!(script.asked(worker).is_empty());
}

#[test]
fn a_worker_that_no_longer_drains_is_asked_again_though_it_says_nothing_of_being_full() {
    let mut script = Script::new();
    let worker = script.worker(1, "", JobType::JtRoom);
    let drains =
        |draining| FromWorker::UpdateWorker(lk::UpdateWorkerStatus { draining, ..Default::default() });
    script.say(worker, drains(true));
    script.launch(job("AJ_1", JobType::JtRoom));
    assert!(script.asked(worker).is_empty());
    script.say(worker, drains(false));
    assert_eq!(script.asked(worker), ["AJ_1"]);
}

#[test]
fn the_less_busy_worker_gets_more_jobs() {
    let mut script = Script::new();
    let (busy, idle) = (script.worker(1, "", JobType::JtRoom), script.worker(2, "", JobType::JtRoom));
    script.say(busy, status(lk::WorkerStatus::WsAvailable, 0.9, 0));
    script.say(idle, status(lk::WorkerStatus::WsAvailable, 0.1, 0));
    for number in 0..400 {
        script.launch(job(&format!("AJ_{number}"), JobType::JtRoom));
    }
    let (busy, idle) = (script.asked(busy).len(), script.asked(idle).len());
    assert_eq!(busy + idle, 400);
    assert!((20..80).contains(&busy), "a tenth of them, about: {busy}");
}

#[test]
fn what_a_lost_worker_was_asked_goes_to_the_next_and_what_it_does_is_taken_up_again() {
    let mut script = Script::new();
    let first = script.worker(1, "", JobType::JtRoom);
    script.launch(job("AJ_1", JobType::JtRoom));
    script.say(first, yes("AJ_1"));
    script.launch(job("AJ_2", JobType::JtRoom));
    script.leave(first);
    assert_eq!((script.pool.jobs(), script.pool.waiting()), (1, 1));

    let second = script.connect(2);
    script.say(second, registration("", JobType::JtRoom));
    script.take(second).remove(0);
    script.say(second, no("AJ_2"));
    script.say(
        second,
        FromWorker::MigrateJob(lk::MigrateJobRequest { job_ids: vec!["AJ_1".into(), "AJ_2".into()] }),
    );
    script.say(second, ended("AJ_1", JobStatus::JsFailed));
    assert_eq!(script.last_status(), JobStatus::JsFailed);
    assert_eq!((script.pool.jobs(), script.pool.waiting()), (0, 1));
}

#[test]
fn a_job_whose_agent_left_is_ended_and_its_worker_has_the_last_word() {
    for says in [Some(JobStatus::JsSuccess), None] {
        let mut script = Script::new();
        let worker = script.worker(1, "", JobType::JtRoom);
        script.launch(job("AJ_1", JobType::JtRoom));
        script.say(worker, yes("AJ_1"));
        script.take(worker);
        script.order(Order::AgentLeft { job: "AJ_1".into() });
        assert!(matches!(&script.take(worker)[..], [ToWorker::Termination(end)] if end.job_id == "AJ_1"));
        script.order(Order::AgentLeft { job: "AJ_1".into() });
        assert!(script.take(worker).is_empty(), "said once");
        if let Some(status) = says {
            script.say(worker, ended("AJ_1", status));
        }
        script.advance(Duration::from_secs(10));
        assert_eq!(script.last_status(), says.unwrap_or(JobStatus::JsFailed));
        let ends = script.notices.iter().filter(|notice| matches!(notice, Notice::Ended(_)));
        assert_eq!(ends.count(), 1);
        assert_eq!(script.pool.jobs(), 0);
    }
}

#[test]
fn the_end_of_a_room_or_a_dispatch_ends_its_jobs_whatever_their_stage() {
    for order in [Order::EndRoom { room: "RM_1".into() }, Order::EndDispatch { dispatch: "AD_1".into() }] {
        let mut script = Script::new();
        let worker = script.worker(1, "", JobType::JtRoom);
        script.launch(job("AJ_running", JobType::JtRoom));
        script.say(worker, yes("AJ_running"));
        script.launch(job("AJ_asked", JobType::JtRoom));
        script.launch(Job { agent_name: "absent".into(), ..job("AJ_waiting", JobType::JtRoom) });
        let other = lk::Room { sid: "RM_2".into(), ..Default::default() };
        script.launch(Job {
            dispatch_id: "AD_2".into(),
            room: Some(other),
            ..job("AJ_other", JobType::JtRoom)
        });
        script.take(worker);
        script.order(order);
        assert!(
            matches!(&script.take(worker)[..], [ToWorker::Termination(end)] if end.job_id == "AJ_running")
        );
        assert_eq!((script.pool.jobs(), script.pool.waiting()), (1, 0), "the other room's");
        script.say(worker, yes("AJ_asked"));
        assert!(script.take(worker).is_empty(), "it is no longer wanted");
    }
}

#[test]
fn a_worker_may_turn_a_job_down_for_everybody() {
    let mut script = Script::new();
    let first = script.worker(1, "", JobType::JtRoom);
    let second = script.worker(2, "", JobType::JtRoom);
    script.launch(job("AJ_1", JobType::JtRoom));
    let asked = if script.asked(first).is_empty() { second } else { first };
    script.take(second);
    let answer = lk::AvailabilityResponse { job_id: "AJ_1".into(), terminate: true, ..Default::default() };
    script.say(asked, FromWorker::Availability(answer));
    assert_eq!((script.pool.jobs(), script.pool.waiting()), (0, 0));
    assert_eq!(script.last_status(), JobStatus::JsSuccess);
}

#[test]
fn who_breaks_the_protocol_is_told_why_and_gone() {
    let cases: [(&str, Vec<FromWorker>); 5] = [
        ("the first message must be register", vec![no("AJ_1")]),
        ("already registered", vec![registration("", JobType::JtRoom), registration("", JobType::JtRoom)]),
        (
            "register.type is no type of job",
            vec![FromWorker::Register(lk::RegisterWorkerRequest { r#type: 9, ..Default::default() })],
        ),
        ("register.agent_name is too long", vec![registration(&"x".repeat(257), JobType::JtRoom)]),
        (
            "register.deployment must be at most 64 bytes without underscores, blanks and control characters",
            vec![FromWorker::Register(lk::RegisterWorkerRequest {
                deployment: "blue_green".into(),
                ..Default::default()
            })],
        ),
    ];
    for (reason, messages) in cases {
        let mut script = Script::new();
        let worker = script.connect(1);
        for message in messages {
            script.say(worker, message);
        }
        assert_eq!(script.closed.get(&worker), Some(&reason));
        assert_eq!(script.pool.workers(), 0);
    }
    let mut script = Script::new();
    let worker = script.connect(1);
    script.advance(Duration::from_secs(10));
    assert_eq!(script.closed.get(&worker), Some(&"no register message in 10 s"));
    let worker = script.connect(2);
    script.pool.bad_message(script.clock, worker);
    script.drain();
    assert_eq!(script.closed.get(&worker), Some(&"the message is not a WorkerMessage"));
}

#[test]
fn pings_are_answered_before_and_after_registering() {
    let mut script = Script::new();
    let worker = script.connect(1);
    script.say(worker, FromWorker::Ping(lk::WorkerPing { timestamp: 5 }));
    script.say(worker, registration("", JobType::JtRoom));
    script.say(worker, FromWorker::Ping(lk::WorkerPing { timestamp: 6 }));
    let pongs = script.take(worker).into_iter().filter_map(|message| match message {
        ToWorker::Pong(pong) => Some((pong.last_timestamp, pong.timestamp)),
        _ => None,
    });
    assert_eq!(pongs.collect::<Vec<_>>(), [(5, START_MS), (6, START_MS)]);
}

#[test]
fn a_worker_above_the_limit_is_refused() {
    let mut script = Script::new();
    for id in 0..3 {
        script.connect(id);
    }
    let refused = script.pool.connect(script.clock, WorkerId(4), "devkey".into());
    assert_eq!(refused, Err(PoolFull { limit: 3 }));
}

#[test]
fn a_worker_under_development_gets_the_job_that_it_asks_for() {
    let mut script = Script::new();
    let worker = script.worker(1, "echo", JobType::JtRoom);
    let room = Some(lk::Room { name: "lobby".into(), ..Default::default() });
    script.say(worker, FromWorker::SimulateJob(lk::SimulateJobRequest { room, ..Default::default() }));
    let asked = script.asked(worker);
    script.say(worker, yes(&asked[0]));
    assert_eq!(script.assigned(worker).job.unwrap().room.unwrap().name, "lobby");
}

#[test]
fn only_the_grant_agent_makes_a_worker() {
    let token = |agent| {
        let video = Some(VideoGrant { agent, room_join: true, ..VideoGrant::default() });
        let claims = Claims { video, ..Claims::default() };
        access::mint("devkey", "secret", claims, Duration::from_mins(1), START_MS / 1000).unwrap()
    };
    let keys = settings().keys;
    let bearer = format!("Bearer {}", token(true));
    assert_eq!(admit("", Some(&bearer), &keys, START_MS), Ok("devkey".to_owned()));
    assert_eq!(
        admit(&format!("access_token={}", token(true)), None, &keys, START_MS),
        Ok("devkey".to_owned())
    );
    let bearer = format!("Bearer {}", token(false));
    assert_eq!(admit("", Some(&bearer), &keys, START_MS), Err(RefusedWorker::NoAgentGrant));
    assert!(matches!(admit("", None, &keys, START_MS), Err(RefusedWorker::Token(_))));
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few dozen at a time")]
enum Step {
    Connect(u64),
    Say(u64, FromWorker),
    Leave(u64),
    Order(Order),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || (0_u64..6).prop_map(|number| format!("AJ_{number}"));
    let kind = || prop::sample::select(vec![JobType::JtRoom, JobType::JtParticipant]);
    let status = prop::sample::select(vec![JobStatus::JsRunning, JobStatus::JsSuccess, JobStatus::JsFailed]);
    let free = prop::sample::select(vec![lk::WorkerStatus::WsAvailable, lk::WorkerStatus::WsFull]);
    let message = prop_oneof![
        kind().prop_map(|kind| registration("", kind)),
        id().prop_map(|id| yes(&id)),
        id().prop_map(|id| no(&id)),
        (id(), status).prop_map(|(id, status)| ended(&id, status)),
        (free, 0.0_f32..2.0, 0_u64..9).prop_map(|(free, load, seq)| self::status(free, load, seq)),
        id().prop_map(|id| FromWorker::MigrateJob(lk::MigrateJobRequest { job_ids: vec![id] })),
    ];
    let order = prop_oneof![
        3 => (id(), kind()).prop_map(|(id, kind)| Order::Launch(Box::new(job(&id, kind)))),
        1 => id().prop_map(|job| Order::AgentLeft { job }),
        1 => Just(Order::EndDispatch { dispatch: "AD_1".into() }),
        1 => Just(Order::EndRoom { room: "RM_1".into() }),
    ];
    prop_oneof![
        (0_u64..5).prop_map(Step::Connect),
        (0_u64..5, message).prop_map(|(worker, message)| Step::Say(worker, message)),
        (0_u64..5).prop_map(Step::Leave),
        order.prop_map(Step::Order),
        (0_u64..12).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever comes, a job is with one worker at a time, ends once for each launch, and nothing is left behind.
    #[test]
    fn jobs_are_neither_doubled_nor_lost(steps in prop::collection::vec(step(), 0..80)) {
        let mut script = Script::new();
        let mut launched = 0;
        let mut names = HashMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            // A socket's number is never used twice.
            let fresh = 100 + number as u64;
            match step {
                Step::Connect(name) => {
                    if script.pool.connect(script.clock, WorkerId(fresh), "devkey".into()).is_ok()
                        && let Some(old) = names.insert(name, WorkerId(fresh))
                    {
                        script.leave(old);
                    }
                }
                Step::Say(name, message) => {
                    if let Some(worker) = names.get(&name) {
                        script.say(*worker, message);
                    }
                }
                Step::Leave(name) => {
                    if let Some(worker) = names.remove(&name) {
                        script.leave(worker);
                    }
                }
                Step::Order(Order::Launch(mut job)) => {
                    launched += 1;
                    job.id = format!("AJ_{launched}");
                    script.launch(*job);
                }
                Step::Order(order) => script.order(order),
                Step::Wait(seconds) => script.advance(Duration::from_secs(seconds)),
            }
            script.drain();
            prop_assert!(script.pool.waiting() <= 2 && script.pool.workers() <= 3);
            prop_assert!(script.pool.next_timeout().is_none_or(|at| at >= script.clock.now));
        }
        let assigned = script.notices.iter().filter(|notice| **notice == Notice::Assigned).count();
        let ended = script.notices.iter().filter(|notice| matches!(notice, Notice::Ended(_))).count();
        prop_assert!(ended <= launched);
        prop_assert!(assigned <= launched);
        script.order(Order::EndRoom { room: "RM_1".into() });
        prop_assert_eq!((script.pool.jobs(), script.pool.waiting()), (0, 0));
        prop_assert!(script.pool.next_timeout().is_none_or(|_| script.pool.workers() > 0));
    }
}
