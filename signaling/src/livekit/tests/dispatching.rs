//! Which agents a room sends for, and what agents' coming and going means to it.

use livekit_protocol as lk;
use livekit_protocol::{
    DisconnectReason, Job, JobState, JobStatus, JobType, RoomAgentDispatch, RoomConfiguration,
};

use super::script::*;
use super::*;
use crate::agents::Order;
use crate::livekit::api::{Answer, ApiError, RoomCall};

fn agent(identity: &str) -> Admission {
    Admission { kind: Kind::Agent, ..admission(identity) }
}

fn wanted(agent_name: &str) -> RoomAgentDispatch {
    RoomAgentDispatch { agent_name: agent_name.into(), metadata: "be kind".into(), ..Default::default() }
}

fn create(agent_name: &str) -> RoomCall {
    RoomCall::CreateDispatch(Box::new(wanted(agent_name)))
}

impl Script {
    /// The jobs of the orders since the last look.
    fn launched(&mut self) -> Vec<Job> {
        let orders = std::mem::take(&mut self.orders).into_iter();
        let launched = orders.filter_map(|order| match order {
            Order::Launch(job) => Some(*job),
            _ => None,
        });
        launched.collect()
    }

    fn kinds(&mut self) -> Vec<(JobType, String)> {
        let who = |job: &Job| job.participant.as_ref().map(|info| info.identity.clone()).unwrap_or_default();
        self.launched().iter().map(|job| (JobType::try_from(job.r#type).unwrap(), who(job))).collect()
    }

    fn dispatch(&mut self, call: RoomCall) -> lk::AgentDispatch {
        match self.call(call) {
            Ok(Answer::Dispatch(dispatch)) => *dispatch,
            other => panic!("{other:?}"),
        }
    }

    fn dispatches(&mut self, id: &str) -> Vec<lk::AgentDispatch> {
        match self.call(RoomCall::ListDispatches { id: id.into() }) {
            Ok(Answer::Dispatches(list)) => list,
            other => panic!("{other:?}"),
        }
    }

    /// The pool says that somebody has the job.
    fn runs(&mut self, job: &Job, identity: &str, status: JobStatus) {
        let state =
            JobState { status: status as i32, participant_identity: identity.into(), ..Default::default() };
        self.room.job_changed(Job { state: Some(state), ..job.clone() });
        self.drain();
    }
}

#[test]
fn a_room_sends_for_agents_without_a_name_unless_it_is_told_otherwise() {
    let mut script = Script::new();
    script.drain();
    let jobs = script.launched();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].agent_name.as_str(), jobs[0].r#type), ("", JobType::JtRoom as i32));
    let room = jobs[0].room.as_ref().unwrap();
    assert_eq!((room.name.as_str(), room.sid.as_str()), ("lobby", script.room.sid()));

    let config = RoomConfiguration { agents: vec![wanted("a"), wanted("b")], ..Default::default() };
    let mut script = Script::configured(settings(), Some(&config));
    script.drain();
    let names: Vec<_> = script.launched().into_iter().map(|job| (job.agent_name, job.metadata)).collect();
    assert_eq!(names, [("a".into(), "be kind".into()), ("b".into(), "be kind".into())]);
}

#[test]
fn each_who_joins_or_begins_to_publish_is_of_interest_once_and_agents_never() {
    let mut script = Script::new();
    script.drain();
    script.launched();
    let alice = script.active(admission("alice"));
    assert_eq!(script.kinds(), [(JobType::JtParticipant, named("alice"))]);
    script.publish(alice, "0", microphone("mic"));
    script.publish(alice, "1", camera("cam"));
    assert_eq!(script.kinds(), [(JobType::JtPublisher, named("alice"))]);
    let robot = script.active(agent("robot"));
    script.publish(robot, "0", microphone("voice"));
    assert_eq!(script.kinds(), []);
}

fn named(identity: &str) -> String {
    identity.to_owned()
}

#[test]
fn a_dispatch_is_made_listed_and_taken_back() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.publish(alice, "0", microphone("mic"));
    script.active(admission("bob"));
    script.launched();

    let made = script.dispatch(create("echo"));
    assert!(made.id.starts_with("AD_"));
    assert_eq!((made.room.as_str(), made.metadata.as_str()), ("lobby", "be kind"));
    let jobs = script.launched();
    let kinds: Vec<_> = jobs.iter().map(|job| job.r#type).collect();
    let (room, each, publisher) =
        (JobType::JtRoom as i32, JobType::JtParticipant as i32, JobType::JtPublisher as i32);
    assert_eq!(kinds, [room, each, publisher, each]);
    assert!(jobs.iter().all(|job| job.dispatch_id == made.id && job.agent_name == "echo"));

    script.runs(&jobs[0], "robot", JobStatus::JsRunning);
    let listed = script.dispatches(&made.id);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state.as_ref().unwrap().jobs.len(), 1);
    assert_eq!(script.dispatches("").len(), 2, "with the one that every room has");
    assert_eq!(script.dispatches("AD_none").len(), 0);

    let robot = script.active(agent("robot"));
    script.orders.clear();
    let gone = script.dispatch(RoomCall::DeleteDispatch { id: made.id.clone() });
    assert!(gone.state.unwrap().deleted_at > 0);
    assert_eq!(script.orders, [Order::EndDispatch { dispatch: made.id.clone() }]);
    let again = script.call(RoomCall::DeleteDispatch { id: made.id });
    assert_eq!(again, Err(ApiError::NoDispatch));
    assert!(!script.closed.contains(&robot), "it has a moment to leave by itself");
    script.advance(Duration::from_secs(3));
    assert!(script.closed.contains(&robot));
}

#[test]
fn the_pool_hears_when_an_agent_leaves_and_not_when_it_comes_back() {
    let mut script = Script::new();
    script.active(admission("alice"));
    let job = script.launched().remove(0);
    script.runs(&job, "robot", JobStatus::JsRunning);
    script.active(agent("robot"));
    let robot = script.active(agent("robot"));
    assert_eq!(script.orders, [], "replaced by itself");
    script.request(robot, Request::Leave(lk::LeaveRequest::default()));
    assert_eq!(script.orders, [Order::AgentLeft { job: job.id.clone() }]);

    script.orders.clear();
    script.runs(&job, "robot", JobStatus::JsSuccess);
    let robot = script.active(agent("robot"));
    script.request(robot, Request::Leave(lk::LeaveRequest::default()));
    assert_eq!(script.orders, [], "that job is over");
}

#[test]
fn a_room_with_nobody_but_agents_ends_and_sends_them_away() {
    let mut script = Script::new();
    let robot = script.active(agent("robot"));
    let alice = script.active(admission("alice"));
    script.advance(Duration::from_mins(10));
    assert!(!script.ended);
    script.request(alice, Request::Leave(lk::LeaveRequest::default()));
    script.advance(Duration::from_secs(19));
    assert!(!script.ended);
    script.take(robot);
    script.orders.clear();
    script.advance(Duration::from_secs(2));
    assert!(script.ended);
    let told = script.take(robot).into_iter().find_map(|message| match message {
        Response::Leave(leave) => Some(leave.reason),
        _ => None,
    });
    assert_eq!(told, Some(DisconnectReason::RoomClosed as i32));
    assert_eq!(script.orders, [Order::EndRoom { room: script.room.sid().to_owned() }]);
}

#[test]
fn an_agent_alone_does_not_lengthen_the_wait_for_the_first_person() {
    let mut script = Script::new();
    script.advance(Duration::from_mins(4));
    script.active(agent("robot"));
    script.advance(Duration::from_secs(58));
    assert!(!script.ended);
    script.advance(Duration::from_secs(2));
    assert!(script.ended, "five minutes since it was made");
}

#[test]
fn agents_take_no_place_of_a_persons() {
    let config = RoomConfiguration { max_participants: 1, ..Default::default() };
    let mut script = Script::configured(settings(), Some(&config));
    script.active(agent("robot"));
    script.active(admission("alice"));
    script.active(agent("second"));
    assert_eq!(script.try_join(admission("bob")), Err(JoinError::Full { limit: 1 }));
}

#[test]
fn a_room_sends_for_so_many_agents_and_no_more() {
    let mut script = Script::new();
    for number in 1..100 {
        script.dispatch(create(&format!("agent {number}")));
    }
    assert_eq!(script.call(create("one more")), Err(ApiError::TooManyDispatches { limit: 100 }));
    let id = script.room.list_dispatches("")[5].id.clone();
    script.dispatch(RoomCall::DeleteDispatch { id });
    script.dispatch(create("one more"));
}
