//! Agents: one task, which owns the pool of workers and stands between their sockets and the rooms.
//!
//! Always: the task waits for nobody. What goes to a worker that does not read is a reason to cut it off; what goes to a room
//! waits outside, if it must. Workers and rooms wait for the task, in one bounded queue.
//! Not here: sockets (`http::agent`), what messages mean (`signaling::agents`).

mod metrics;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use livekit_protocol::{ServerMessage, WorkerMessage};
use signaling::agents::{Notice, Order, Output, Pool, PoolFull, WorkerId};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::metrics::AgentMetrics;
use crate::bridge;
use crate::handover::hand_over;
use crate::rooms::JobMailbox;

/// What waits for the task.
const INBOX: usize = 1024;
/// Messages that wait for one slow worker before it is cut off.
const WORKER_QUEUE: usize = 1024;

/// The way to the task. Clones share it.
#[derive(Clone)]
pub struct Agents {
    inbox: mpsc::Sender<ToPool>,
    next_id: Arc<AtomicU64>,
}

enum ToPool {
    Connect {
        worker: WorkerId,
        key: String,
        outgoing: mpsc::Sender<ToWorker>,
        answer: oneshot::Sender<Result<(), PoolFull>>,
    },
    Message(WorkerId, Box<WorkerMessage>),
    Unreadable(WorkerId),
    Disconnected(WorkerId),
    Order(Order, JobMailbox),
}

/// What a worker's socket is to do.
#[derive(Debug)]
pub enum ToWorker {
    /// Write this.
    Message(Box<ServerMessage>),
    /// Close, and say why.
    Close(&'static str),
}

/// Why a worker cannot connect now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A limit.
    #[error(transparent)]
    Full(#[from] PoolFull),
    /// The server takes nothing more.
    #[error("server is shutting down")]
    Closing,
}

/// One worker's place in the pool: what a WebSocket needs. Dropping it tells the pool that the socket is gone.
pub struct WorkerSeat {
    outgoing: mpsc::Receiver<ToWorker>,
    way: WorkerWay,
}

/// A worker's way into the pool.
pub struct WorkerWay {
    id: WorkerId,
    inbox: mpsc::Sender<ToPool>,
}

impl WorkerSeat {
    /// Both directions at once, for a loop that waits for either.
    pub fn split(&mut self) -> (&mut mpsc::Receiver<ToWorker>, &WorkerWay) {
        (&mut self.outgoing, &self.way)
    }
}

impl WorkerWay {
    /// A message of the worker's; `None` if it could not be read.
    pub async fn put(&self, message: Option<WorkerMessage>) {
        let message = match message {
            Some(message) => ToPool::Message(self.id, Box::new(message)),
            None => ToPool::Unreadable(self.id),
        };
        // Without a task the outgoing queue is closed, which the socket sees.
        let _ = self.inbox.send(message).await;
    }
}

impl Drop for WorkerWay {
    fn drop(&mut self) {
        // A drop cannot wait, and the pool must hear of it.
        hand_over(&self.inbox, ToPool::Disconnected(self.id));
    }
}

impl Agents {
    /// Starts the task, which ends when `closing` becomes true.
    pub fn start(pool: Pool, metrics: AgentMetrics, closing: watch::Receiver<bool>) -> Agents {
        let (inbox, messages) = mpsc::channel(INBOX);
        let actor = Actor { pool, metrics, workers: HashMap::new(), rooms: HashMap::new() };
        tokio::spawn(actor.run(messages, closing));
        Agents { inbox, next_id: Arc::default() }
    }

    /// Lets a worker in that has a token of `key`'s.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(&self, key: String) -> Result<WorkerSeat, ConnectError> {
        let worker = WorkerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (outgoing, messages) = mpsc::channel(WORKER_QUEUE);
        let (answer, answered) = oneshot::channel();
        let connect = ToPool::Connect { worker, key, outgoing, answer };
        self.inbox.send(connect).await.map_err(|_| ConnectError::Closing)?;
        answered.await.map_err(|_| ConnectError::Closing)??;
        Ok(WorkerSeat { outgoing: messages, way: WorkerWay { id: worker, inbox: self.inbox.clone() } })
    }

    /// What a room wants; `way_back` is for what becomes of it.
    pub async fn order(&self, order: Order, way_back: &JobMailbox) {
        // Without a task the server is stopping, and the room, too.
        let _ = self.inbox.send(ToPool::Order(order, way_back.clone())).await;
    }
}

struct Actor {
    pool: Pool,
    metrics: AgentMetrics,
    workers: HashMap<WorkerId, mpsc::Sender<ToWorker>>,
    /// By sid: those that have sent for somebody.
    rooms: HashMap<String, JobMailbox>,
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<ToPool>, mut closing: watch::Receiver<bool>) {
        loop {
            let timeout = self.pool.next_timeout();
            let timer = async {
                match timeout {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                () = timer => self.pool.handle_timeout(bridge::clock()),
                _ = closing.wait_for(|&closing| closing) => return,
            }
            self.drain();
        }
    }

    fn handle(&mut self, message: ToPool) {
        let clock = bridge::clock();
        match message {
            ToPool::Connect { worker, key, outgoing, answer } => {
                let connected = self.pool.connect(clock, worker, key);
                if connected.is_ok() {
                    self.workers.insert(worker, outgoing);
                }
                if answer.send(connected).is_err() {
                    self.disconnect(worker);
                }
            }
            ToPool::Message(worker, message) => self.pool.message(clock, worker, *message),
            ToPool::Unreadable(worker) => self.pool.bad_message(clock, worker),
            ToPool::Disconnected(worker) => self.disconnect(worker),
            ToPool::Order(order, way_back) => {
                match &order {
                    Order::Launch(job) => {
                        if let Some(room) = &job.room {
                            self.rooms.insert(room.sid.clone(), way_back);
                        }
                    }
                    Order::EndRoom { room } => drop(self.rooms.remove(room)),
                    Order::AgentLeft { .. } | Order::EndDispatch { .. } => {}
                }
                self.pool.order(clock, order);
            }
        }
    }

    fn disconnect(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
        self.pool.disconnected(bridge::clock(), worker);
    }

    fn drain(&mut self) {
        while let Some(output) = self.pool.poll_output() {
            match output {
                Output::Send { worker, message } => self.send(worker, ToWorker::Message(message)),
                Output::Close { worker, reason } => {
                    self.send(worker, ToWorker::Close(reason));
                    self.workers.remove(&worker);
                }
                Output::Job(job) => {
                    let room = job.room.as_ref().and_then(|room| self.rooms.get(&room.sid));
                    if let Some(room) = room {
                        room.put(job);
                    }
                }
                Output::Notice(notice) => {
                    if notice == Notice::TooManyWaiting {
                        tracing::warn!("a job for an agent is given up: agents.waiting-jobs wait already");
                    }
                    tracing::debug!(?notice, "agents");
                    self.metrics.notice(notice);
                }
            }
        }
        self.metrics.measure(&self.pool);
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        let Some(queue) = self.workers.get(&worker) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(message) {
            tracing::warn!("agent worker does not read its messages and is disconnected");
            self.metrics.slow.inc();
            self.disconnect(worker);
        }
    }
}
