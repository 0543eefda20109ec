//! Dispatches: which agents a room wants (`livekit_agent_dispatch.proto`), and the jobs that come of that.
//!
//! A dispatch asks for one agent for the room, one for each that joins, and one for each that begins to publish; which of these
//! there will be is for the workers, each of which takes one kind. A room for which nothing else was said wants the agents without
//! a name. Always: nobody who is an agent or a recorder is of interest to agents; a dispatch keeps its latest jobs.
//! Not here: who takes a job (`agents`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use livekit_protocol as lk;
use livekit_protocol::{AgentDispatch, AgentDispatchState, Job, JobStatus, JobType, RoomAgentDispatch};

use super::api::{ApiError, check_agent};
use super::leave::Leaving;
use super::output::{Clock, Output};
use super::participant::Seat;
use super::room::{Room, is_due};
use super::sid;
use crate::agents::{Order, unix_ns};

/// Jobs that a dispatch remembers; the oldest that are over go first.
const MAX_JOBS: usize = 1000;
/// How long an agent may take to leave when its dispatch was taken back, before it is sent away (LiveKit's time).
const FAREWELL: Duration = Duration::from_secs(3);

/// What a room wants agents for.
#[derive(Debug, Default)]
pub(super) struct Dispatches {
    list: Vec<AgentDispatch>,
    /// Who has published, and so been of interest.
    published: BTreeSet<Seat>,
    /// Agents that are to leave, and when they are sent away.
    leaving: Vec<(Instant, String)>,
}

impl Dispatches {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.leaving.iter().map(|(at, _)| *at).min()
    }
}

impl Room {
    /// The dispatches that a room begins with.
    pub(super) fn begin_dispatches(&mut self, clock: Clock, wanted: &[RoomAgentDispatch]) {
        let anybody = [RoomAgentDispatch::default()];
        let wanted = if wanted.is_empty() { &anybody[..] } else { wanted };
        for agent in wanted.iter().take(self.settings.limits.dispatches) {
            if let Err(error) = check_agent(agent, &self.settings.limits) {
                tracing::warn!(room = self.name, %error, "agent of the room's configuration is passed over");
                continue;
            }
            self.add_dispatch(clock, agent.clone());
        }
    }

    /// Asks for an agent, on behalf of the server API.
    pub(super) fn create_dispatch(
        &mut self,
        clock: Clock,
        agent: RoomAgentDispatch,
    ) -> Result<AgentDispatch, ApiError> {
        let limit = self.settings.limits.dispatches;
        if self.dispatches.list.len() >= limit {
            return Err(ApiError::TooManyDispatches { limit });
        }
        let index = self.add_dispatch(clock, agent);
        let people: Vec<Seat> = self.people.keys().copied().collect();
        for seat in people {
            self.launch_for(index, seat, JobType::JtParticipant);
            if self.dispatches.published.contains(&seat) {
                self.launch_for(index, seat, JobType::JtPublisher);
            }
        }
        Ok(self.dispatches.list[index].clone())
    }

    /// Takes an agent back, on behalf of the server API.
    pub(super) fn delete_dispatch(&mut self, clock: Clock, id: &str) -> Result<AgentDispatch, ApiError> {
        let list = &mut self.dispatches.list;
        let index = list.iter().position(|one| one.id == id).ok_or(ApiError::NoDispatch)?;
        let mut dispatch = list.remove(index);
        let state = dispatch.state.get_or_insert_default();
        state.deleted_at = unix_ns(clock);
        let running = state.jobs.iter().filter(|job| is_running(job));
        let agents =
            running.filter_map(|job| job.state.as_ref()).map(|state| state.participant_identity.clone());
        self.dispatches.leaving.extend(agents.map(|identity| (clock.now + FAREWELL, identity)));
        self.order(Order::EndDispatch { dispatch: id.to_owned() });
        Ok(dispatch)
    }

    /// The dispatches, or the one of that id; empty for all.
    pub(super) fn list_dispatches(&self, id: &str) -> Vec<AgentDispatch> {
        let list = self.dispatches.list.iter();
        list.filter(|dispatch| id.is_empty() || dispatch.id == id).cloned().collect()
    }

    /// A job was given to an agent, or has changed ([`agents::Output::Job`](crate::agents::Output::Job)).
    pub fn job_changed(&mut self, job: Job) {
        let Some(dispatch) = self.dispatches.list.iter_mut().find(|one| one.id == job.dispatch_id) else {
            return;
        };
        let jobs = &mut dispatch.state.get_or_insert_default().jobs;
        if let Some(known) = jobs.iter_mut().find(|known| known.id == job.id) {
            return *known = job;
        }
        if jobs.len() >= MAX_JOBS {
            let oldest = jobs.iter().position(|job| !is_running(job)).unwrap_or(0);
            jobs.remove(oldest);
        }
        jobs.push(job);
    }

    /// Somebody has joined.
    pub(super) fn send_for_participant_agents(&mut self, seat: Seat) {
        for index in 0..self.dispatches.list.len() {
            self.launch_for(index, seat, JobType::JtParticipant);
        }
    }

    /// Somebody has published a track.
    pub(super) fn send_for_publisher_agents(&mut self, seat: Seat) {
        if !self.dispatches.published.insert(seat) {
            return;
        }
        for index in 0..self.dispatches.list.len() {
            self.launch_for(index, seat, JobType::JtPublisher);
        }
    }

    /// Somebody is gone; `replaced`, if somebody of the same identity follows at once.
    pub(super) fn agent_may_have_left(&mut self, seat: Seat, identity: &str, replaced: bool) {
        self.dispatches.published.remove(&seat);
        if replaced {
            return;
        }
        let jobs = self.dispatches.list.iter().filter_map(|dispatch| dispatch.state.as_ref());
        let jobs = jobs.flat_map(|state| &state.jobs).filter(|job| is_running(job));
        let is_its =
            |job: &&Job| job.state.as_ref().is_some_and(|state| state.participant_identity == identity);
        let left: Vec<String> = jobs.filter(is_its).map(|job| job.id.clone()).collect();
        for job in left {
            self.order(Order::AgentLeft { job });
        }
    }

    /// Sends agents away that did not leave though their dispatch was taken back.
    pub(super) fn send_agents_away(&mut self, clock: Clock) {
        let due = |(at, _): &mut (Instant, String)| is_due(Some(*at), clock.now);
        let due: Vec<_> = self.dispatches.leaving.extract_if(.., due).collect();
        for (_, identity) in due {
            if let Some(seat) = self.by_identity.get(&identity).copied() {
                self.depart(clock, seat, Leaving::REMOVED);
            }
        }
    }

    pub(super) fn order(&mut self, order: Order) {
        self.outbox.push_back(Output::Agents(order));
    }

    /// Gives its place in the list.
    fn add_dispatch(&mut self, clock: Clock, agent: RoomAgentDispatch) -> usize {
        let RoomAgentDispatch { agent_name, metadata, restart_policy, deployment, attributes } = agent;
        self.dispatches.list.push(AgentDispatch {
            id: sid::dispatch(&mut self.rng),
            agent_name,
            room: self.name.clone(),
            metadata,
            state: Some(AgentDispatchState { created_at: unix_ns(clock), ..AgentDispatchState::default() }),
            restart_policy,
            deployment,
            attributes,
        });
        let index = self.dispatches.list.len() - 1;
        self.launch(index, JobType::JtRoom, None);
        index
    }

    fn launch_for(&mut self, index: usize, seat: Seat, kind: JobType) {
        let Some(who) = self.people.get(&seat).filter(|who| !who.is_dependent()) else { return };
        let info = self.info(who);
        self.launch(index, kind, Some(info));
    }

    fn launch(&mut self, index: usize, kind: JobType, participant: Option<lk::ParticipantInfo>) {
        let mut room = self.room_info();
        // The same for every room, and of no use to an agent.
        room.enabled_codecs.clear();
        let id = sid::job(&mut self.rng);
        let Some(dispatch) = self.dispatches.list.get(index) else { return };
        let job = Job {
            id,
            dispatch_id: dispatch.id.clone(),
            r#type: kind as i32,
            room: Some(room),
            participant,
            metadata: dispatch.metadata.clone(),
            agent_name: dispatch.agent_name.clone(),
            deployment: dispatch.deployment.clone(),
            attributes: dispatch.attributes.clone(),
            ..Job::default()
        };
        self.order(Order::Launch(Box::new(job)));
    }
}

fn is_running(job: &Job) -> bool {
    job.state.as_ref().is_some_and(|state| state.status == JobStatus::JsRunning as i32)
}
