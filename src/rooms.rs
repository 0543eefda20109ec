//! Rooms: the directory of names, and one task for each room.
//!
//! A room's task owns its `signaling::livekit::Room` and stands between three queues: its mailbox (sessions put in),
//! its events (its worker puts in), and each session's outgoing messages (it puts in). All are bounded.
//! Always: a room's task never waits for a session; one that does not take its messages is cut off. It does wait
//! for its worker, which never waits for a room. A name is in the directory exactly while its task runs.
//! Not here: sockets (`http::websocket`), what messages mean (`signaling`).

mod actor;
mod api;
mod calls;
mod questions;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use livekit_protocol::{Job, RoomConfiguration, SignalRequest, SignalResponse};
use signaling::livekit::api::RoomCall;
use signaling::livekit::connect::{Admission, Refusal};
use signaling::livekit::explain::{ReadError, Report};
use signaling::livekit::frame::FrameError;
use signaling::livekit::{JoinError, SessionId, SocketEnd, refuse_resume};
use tokio::sync::{mpsc, oneshot, watch};

use self::questions::AskError;
use crate::agents::Agents;
use crate::bridge;
use crate::config::Settings;
use crate::handover::hand_over;
use crate::media::worker::WorkerClient;
use crate::metrics::Metrics;
use crate::webhooks::Webhooks;

/// Messages of all sessions that wait for a room.
const MAILBOX: usize = 256;
/// How long a join may wait for its room. Clients wait a little longer for the answer.
const JOIN_PATIENCE: Duration = Duration::from_secs(4);
/// How long a report may take: a turn of the room's task and one of its worker's.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// How often a join begins anew since the room ended at that moment.
const JOIN_ATTEMPTS: usize = 5;

/// All rooms of the server. Clones share them.
#[derive(Clone)]
pub struct Rooms {
    shared: Arc<Shared>,
}

struct Shared {
    directory: DashMap<String, Handle>,
    workers: Vec<WorkerClient>,
    room_settings: Arc<signaling::livekit::Settings>,
    auto_create: bool,
    max_rooms: Option<usize>,
    max_participants: Option<usize>,
    session_queue: NonZeroUsize,
    metrics: Metrics,
    webhooks: Option<Webhooks>,
    agents: Agents,
    participants: AtomicUsize,
    next_id: AtomicU64,
    /// Becomes true when the server stops.
    closing: watch::Sender<bool>,
    /// Every room's task holds a clone until it is over.
    alive: std::sync::Mutex<Option<mpsc::Sender<()>>>,
    all_gone: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

/// The way to a room's task.
#[derive(Clone)]
struct Handle {
    mailbox: mpsc::Sender<ToRoom>,
    worker: WorkerClient,
    /// Tells rooms of one name apart.
    generation: u64,
}

/// A session's outgoing messages, as the room sees them. In boxes: a queue has places for 32 of them from the start, which would
/// be most of what somebody costs who says nothing.
type Outbox = mpsc::Sender<Box<SignalResponse>>;

/// What sessions tell a room.
#[expect(clippy::large_enum_variant, reason = "frames are the usual case, and a box would be made for each")]
enum ToRoom {
    Join {
        session: SessionId,
        admission: Box<Admission>,
        outgoing: Outbox,
        answer: oneshot::Sender<Result<(), JoinError>>,
    },
    FromClient(SessionId, FromClient),
    Closed(SessionId, SocketEnd),
    Explain {
        identity: String,
        history: u16,
        answer: questions::Answer,
    },
    /// What became of a job of an agent.
    Job(Box<Job>),
    /// By the server API.
    Call {
        call: Box<RoomCall>,
        answer: oneshot::Sender<calls::Outcome>,
    },
}

/// The way back into a room for what becomes of its jobs.
#[derive(Clone)]
pub struct JobMailbox(mpsc::WeakSender<ToRoom>);

impl JobMailbox {
    /// Never waits; a room that has ended wants no news.
    pub fn put(&self, job: Box<Job>) {
        if let Some(mailbox) = self.0.upgrade() {
            hand_over(&mailbox, ToRoom::Job(job));
        }
    }
}

/// One frame of a client's.
#[expect(clippy::large_enum_variant, reason = "readable frames are the usual case")]
#[derive(Debug)]
pub enum FromClient {
    /// It could be read.
    Request(SignalRequest),
    /// It could not.
    Unreadable(FrameError),
}

/// One client's place at its room: what a WebSocket needs. Dropping it tells the room that the socket is gone.
pub struct Session {
    outgoing: mpsc::Receiver<Box<SignalResponse>>,
    seat: Option<Seat>,
    end: SocketEnd,
}

/// A session's way to its room.
struct Seat {
    id: SessionId,
    mailbox: mpsc::Sender<ToRoom>,
}

impl Session {
    /// The next message to write; `None` when the room wants the socket closed, all before being written.
    pub async fn next(&mut self) -> Option<SignalResponse> {
        self.outgoing.recv().await.map(|message| *message)
    }

    /// The socket is gone.
    pub fn close(mut self, end: SocketEnd) {
        self.end = end;
    }

    /// Whether the room has given the last message already, so that what is left is to be written soon.
    pub fn is_ending(&self) -> bool {
        self.outgoing.is_closed()
    }

    /// Both directions at once, for a loop that waits for either.
    pub fn split(&mut self) -> (&mut mpsc::Receiver<Box<SignalResponse>>, Option<Mailbox<'_>>) {
        (&mut self.outgoing, self.seat.as_ref().map(Mailbox))
    }
}

/// A session's way into its room's mailbox.
pub struct Mailbox<'a>(&'a Seat);

impl Mailbox<'_> {
    /// Waits for a place in the room's mailbox and puts the front of `queue` there. Nothing is lost when this is
    /// dropped before its end. Gives `false` when the room is gone.
    pub async fn put(&self, queue: &mut std::collections::VecDeque<FromClient>) -> bool {
        let Ok(place) = self.0.mailbox.reserve().await else { return false };
        if let Some(front) = queue.pop_front() {
            place.send(ToRoom::FromClient(self.0.id, front));
        }
        true
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        // A drop cannot wait, and the room must hear of it.
        hand_over(&seat.mailbox, ToRoom::Closed(seat.id, self.end));
    }
}

/// Why a join is refused though the token is good.
fn refusal(status: u16, body: &str) -> Refusal {
    Refusal { status, body: body.to_owned() }
}

/// The text that clients look for: any other 404 means to them that the server has no v1.
const NO_SUCH_ROOM: &str = "requested room does not exist";

impl Rooms {
    /// No rooms yet; they will be on these workers, of which there is at least one.
    pub fn new(
        settings: &Settings,
        workers: Vec<WorkerClient>,
        metrics: Metrics,
        webhooks: Option<Webhooks>,
    ) -> Rooms {
        let (alive, all_gone) = mpsc::channel(1);
        let (closing, closed) = watch::channel(false);
        let room_settings = bridge::room_settings(settings);
        let pool = bridge::agent_pool(settings, &room_settings);
        Rooms {
            shared: Arc::new(Shared {
                directory: DashMap::new(),
                workers,
                room_settings,
                agents: Agents::start(pool, metrics.agents.clone(), closed),
                auto_create: settings.rooms.auto_create,
                max_rooms: settings.limits.rooms,
                max_participants: settings.limits.participants,
                session_queue: settings.limits.session_queue,
                metrics,
                webhooks,
                participants: AtomicUsize::new(0),
                next_id: AtomicU64::new(1),
                closing,
                alive: std::sync::Mutex::new(Some(alive)),
                all_gone: tokio::sync::Mutex::new(all_gone),
            }),
        }
    }

    /// What rooms have in common: the keys that tokens are checked with, and the limits of names.
    pub fn settings(&self) -> &signaling::livekit::Settings {
        &self.shared.room_settings
    }

    /// The agents that are sent into rooms.
    pub fn agents(&self) -> &Agents {
        &self.shared.agents
    }

    /// Rooms at present.
    pub fn len(&self) -> usize {
        self.shared.directory.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shared.directory.is_empty()
    }

    /// Whether a join would be refused for a reason that has nothing to do with its token.
    ///
    /// # Errors
    /// The HTTP answer.
    pub fn check(&self, admission: &Admission) -> Result<(), Refusal> {
        let shared = &*self.shared;
        if *shared.closing.borrow() {
            return Err(refusal(503, "server is shutting down"));
        }
        // A resume is answered on its socket, always: SDKs take an HTTP error for something else.
        if admission.resume.is_some() {
            return Ok(());
        }
        if shared.max_participants.is_some_and(|limit| shared.participants.load(Ordering::Relaxed) >= limit) {
            shared.metrics.limit_hit("participants");
            return Err(refusal(503, "server is full: participant limit reached"));
        }
        if !shared.directory.contains_key(&admission.room) {
            if !shared.auto_create {
                return Err(refusal(404, NO_SUCH_ROOM));
            }
            if shared.max_rooms.is_some_and(|limit| shared.directory.len() >= limit) {
                shared.metrics.limit_hit("rooms");
                return Err(refusal(503, "server is full: room limit reached"));
            }
        }
        if !shared.workers.iter().any(WorkerClient::is_alive) {
            return Err(refusal(503, "no media worker is running"));
        }
        let handle = self.named(&admission.room);
        let has_time = handle.map_or_else(|| self.has_time(), |handle| handle.worker.load().admits());
        if !has_time {
            shared.metrics.limit_hit("load");
            return Err(refusal(503, "server is overloaded: nobody more is let in for now; try again later"));
        }
        Ok(())
    }

    /// Whether some worker has time for another room.
    fn has_time(&self) -> bool {
        self.shared.workers.iter().any(|worker| worker.is_alive() && worker.load().admits())
    }

    /// Lets somebody in, into a new room if there is none of that name. The room's first message is there when
    /// this returns.
    ///
    /// # Errors
    /// The HTTP answer. Nothing is left of the attempt.
    pub async fn join(&self, admission: Admission) -> Result<Session, Refusal> {
        match tokio::time::timeout(JOIN_PATIENCE, self.try_join(admission)).await {
            Ok(result) => result,
            Err(_) => Err(refusal(503, "the room did not answer in time")),
        }
    }

    async fn try_join(&self, admission: Admission) -> Result<Session, Refusal> {
        for _ in 0..JOIN_ATTEMPTS {
            self.check(&admission)?;
            let (outgoing, responses) = mpsc::channel(self.shared.session_queue.get());
            let Some(handle) = self.room_for(&admission) else {
                // Nothing to resume: no room is made for that.
                let _ = outgoing.try_send(Box::new(refuse_resume()));
                return Ok(Session { outgoing: responses, seat: None, end: SocketEnd::Closed });
            };
            let id = SessionId(self.shared.next_id.fetch_add(1, Ordering::Relaxed));
            let (answer, answered) = oneshot::channel();
            let admission = Box::new(admission.clone());
            let mailbox = handle.mailbox.clone();
            // From here on the room may know the session, so a drop of this future must tell it.
            let seat = Some(Seat { id, mailbox });
            let session = Session { outgoing: responses, seat, end: SocketEnd::Closed };
            let join = ToRoom::Join { session: id, admission, outgoing, answer };
            if handle.mailbox.send(join).await.is_ok() {
                match answered.await {
                    Ok(Ok(())) => return Ok(session),
                    Ok(Err(error @ JoinError::Full { .. })) => {
                        self.shared.metrics.limit_hit("room_participants");
                        let Refusal { status, body } = error.refusal();
                        return Err(Refusal { status, body });
                    }
                    Ok(Err(JoinError::Ended)) | Err(_) => {}
                }
            }
            // The room ended just now; if its task has not taken its name out, it was killed by a bug.
        }
        Err(refusal(503, "the room keeps ending; try again"))
    }

    /// The room that somebody joins, made if need be; `None` for a resume without a room.
    fn room_for(&self, admission: &Admission) -> Option<Handle> {
        if admission.resume.is_none() {
            return self.make(&admission.room, admission.room_config.as_ref());
        }
        self.named(&admission.room)
    }

    /// The room of that name, if there is one.
    fn named(&self, name: &str) -> Option<Handle> {
        let handle = self.shared.directory.get(name).map(|entry| entry.clone());
        // A mailbox that is closed belongs to a task that is about to take its name out.
        handle.filter(|handle| !handle.mailbox.is_closed())
    }

    /// The room of that name, made with `config` if it is not there; `None` when the server stops.
    fn make(&self, name: &str, config: Option<&RoomConfiguration>) -> Option<Handle> {
        match self.shared.directory.entry(name.to_owned()) {
            Entry::Occupied(entry) if !entry.get().mailbox.is_closed() => Some(entry.get().clone()),
            Entry::Occupied(mut entry) => {
                let handle = self.open(name, config)?;
                entry.insert(handle.clone());
                Some(handle)
            }
            Entry::Vacant(entry) => {
                let handle = self.open(name, config)?;
                entry.insert(handle.clone());
                Some(handle)
            }
        }
    }

    /// Starts a room's task on the worker with most time left.
    fn open(&self, name: &str, config: Option<&RoomConfiguration>) -> Option<Handle> {
        let alive = self.shared.alive.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()?;
        let workers = self.shared.workers.iter().filter(|worker| worker.is_alive());
        let worker = workers.min_by_key(|worker| worker.load().rank())?.clone();
        let generation = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (mailbox, messages) = mpsc::channel(MAILBOX);
        let room = bridge::room(&self.shared.room_settings, name, config);
        let way_back = JobMailbox(mailbox.downgrade());
        let shared = Arc::clone(&self.shared);
        let actor = actor::Actor::new(shared, room, generation, worker.clone(), messages, way_back);
        tokio::spawn(async move {
            actor.run().await;
            drop(alive);
        });
        Some(Handle { mailbox, worker, generation })
    }

    /// Why a participant gets what it gets, with so many seconds of history. Whoever asks may know it.
    ///
    /// # Errors
    /// The HTTP answer.
    pub async fn explain(&self, room: &str, identity: String, history: u16) -> Result<Box<Report>, Refusal> {
        let handle = self.named(room).ok_or_else(|| ReadError::NoParticipant.refusal())?;
        let (answer, answered) = oneshot::channel();
        let asking = async {
            handle.mailbox.send(ToRoom::Explain { identity, history, answer }).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(REPORT_PATIENCE, asking).await {
            Ok(Some(Ok(report))) => Ok(report),
            Ok(Some(Err(AskError::Read(error)))) => Err(error.refusal()),
            Ok(Some(Err(error @ AskError::TooMany))) => Err(refusal(429, &error.to_string())),
            // The room ended just now.
            Ok(None) => Err(ReadError::NoParticipant.refusal()),
            Err(_) => Err(refusal(503, "the room did not answer in time")),
        }
    }

    /// Refuses joins from now on, sends everybody away, and waits until the last room has ended.
    pub async fn shut_down(&self) {
        self.shared.closing.send_replace(true);
        drop(self.shared.alive.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let mut all_gone = self.shared.all_gone.lock().await;
        while all_gone.recv().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
