//! Agents: programs of an application that register as workers and are given jobs in rooms (`livekit_agent.proto`).
//!
//! A room asks for agents by its dispatches (`livekit::dispatch`), each of which makes [`Order`]s. The [`Pool`] knows the workers,
//! asks one of them after the other whether it takes a job, and gives the one that does a token with which the agent joins the
//! room as anybody does. What becomes of a job goes back to its room.
//! Always: a job is with one worker at a time, and ends once; a job for a whole room waits until somebody takes it, others are
//! given up when nobody does; nothing is promised to a worker that has not registered.
//! Not here: sockets, and what a room wants agents for.

pub mod frame;
mod job;
mod pool;
mod worker;

use livekit_protocol::{Job, JobStatus, ServerMessage};

pub use self::pool::{Pool, PoolFull, PoolLimits};
pub use self::worker::{RefusedWorker, admit};
pub(crate) use self::{job::unix_ns, worker::is_deployment};

#[cfg(test)]
mod tests;

/// The level of the workers' protocol that is spoken here.
pub const AGENT_PROTOCOL: i32 = 1;

/// The longest message of a worker that is read, in bytes. The largest right one carries a participant's metadata and attributes.
pub const MAX_WORKER_MESSAGE: usize = 2 << 20;

/// One worker's socket. Chosen by whoever owns the sockets; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u64);

/// What a room wants of the pool.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Find somebody for this job.
    Launch(Box<Job>),
    /// The agent of a running job has left its room.
    AgentLeft {
        /// The job's id.
        job: String,
    },
    /// A dispatch was taken back, with all that it led to.
    EndDispatch {
        /// Its id.
        dispatch: String,
    },
    /// The room is over, and all jobs in it.
    EndRoom {
        /// Its sid.
        room: String,
    },
}

/// What the caller must do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this to the worker's socket, in this order.
    Send {
        /// The socket.
        worker: WorkerId,
        /// The message.
        message: Box<ServerMessage>,
    },
    /// Close the socket once all before it was written.
    Close {
        /// The socket.
        worker: WorkerId,
        /// Why, for the worker's log.
        reason: &'static str,
    },
    /// A job was given to somebody, or has changed: its room wants to know.
    Job(Box<Job>),
    /// Something worth counting or logging.
    Notice(Notice),
}

/// Something worth counting or logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A worker is ready for jobs.
    Registered,
    /// A worker asks for what it must not.
    BadMessage,
    /// A worker has a job.
    Assigned,
    /// Nobody takes a job, and it is given up.
    Unwanted,
    /// As many jobs wait as may.
    TooManyWaiting,
    /// A job is over.
    Ended(JobStatus),
}
