//! The side under test: one media worker as the server runs it, with signalling played by the bench.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sfu::command::{Command, Event};
use sfu::ids::{PeerId, RoomId};
use sfu::units::WallClock;
use sluice::bridge::{self, CoreSeed};
use sluice::media::kernel::{BufferSizes, UdpSocket};
use sluice::media::stats::MediaStats;
use sluice::media::worker::{EVENT_QUEUE, ToWorker, Worker};
use tokio::sync::mpsc;

use crate::{Result, allocations};

pub(crate) const ROOM: RoomId = RoomId(1);
const BUFFERS: BufferSizes = BufferSizes { receive: 4 << 20, send: 4 << 20 };
/// An answer takes microseconds; this is for a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Linux tells CPU time in these units whatever the kernel's own tick is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a thread since its start.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// To the nanosecond.
    pub(crate) total: Duration,
    /// Sampled, in steps of 10 ms: what part of the total is whose.
    pub(crate) user: Duration,
    pub(crate) kernel: Duration,
}

/// CPU time of this thread since its start, to the nanosecond.
pub(crate) fn thread_cpu() -> Result<Duration> {
    time_run(Path::new("/proc/thread-self/schedstat"))
}

fn time_run(schedstat: &Path) -> Result<Duration> {
    // The kernel's scheduler statistics: nanoseconds run are the first field.
    let run = fs::read_to_string(schedstat)?;
    Ok(Duration::from_nanos(run.split_whitespace().next().ok_or("an empty schedstat")?.parse()?))
}

pub(crate) struct Server {
    runtime: tokio::runtime::Runtime,
    worker: Worker,
    events: mpsc::Receiver<Event>,
    stat_file: PathBuf,
}

impl Server {
    /// Starts the worker with one room.
    pub(crate) fn start(seed: u64) -> Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), BUFFERS)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let wall = WallClock { instant: Instant::now(), unix };
        let announced = vec![socket.local_addr()];
        let core_seed = CoreSeed { announced, announced_tcp: Vec::new(), number: 0, wall, seed };
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let worker = Worker::start(0, vec![socket], None, move |now| {
            allocations::watch_this_thread();
            // Nobody listens only if the bench has failed already.
            let _ = tell.send(fs::read_link("/proc/thread-self"));
            bridge::media_core(core_seed, now)
        })?;
        let stat_file = PathBuf::from("/proc").join(told.recv_timeout(PATIENCE)??).join("stat");
        let (room, events) = mpsc::channel(EVENT_QUEUE);
        let server = Server { runtime, worker, events, stat_file };
        server.tell(ToWorker::Open { room: ROOM, events: room })?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.worker.local_addrs()[0]
    }

    pub(crate) fn command(&self, command: Command) -> Result<()> {
        self.tell(ToWorker::Media(command))
    }

    fn tell(&self, message: ToWorker) -> Result<()> {
        Ok(self.runtime.block_on(self.worker.client().send(message))?)
    }

    /// Gives an offer to the core and waits for the answer to it.
    pub(crate) fn offer(&mut self, peer: PeerId, sdp: String) -> Result<String> {
        self.command(Command::Offer { peer, id: 1, sdp, hints: Vec::new() })?;
        let events = &mut self.events;
        let answer = async {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Answer { peer: of, sdp, .. } if of == peer => return Ok(sdp),
                    Event::DescriptionRefused { reason, .. } => return Err(reason.into()),
                    _ => {}
                }
            }
            Err("the worker has ended".into())
        };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await })?
    }

    /// Takes the events that wait, as a room does. An error if a connection ended.
    pub(crate) fn drain_events(&mut self) -> Result<()> {
        loop {
            match self.events.try_recv() {
                Ok(Event::Ended { peer, reason }) => return Err(format!("{peer:?} ended: {reason:?}").into()),
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => return Ok(()),
                Err(mpsc::error::TryRecvError::Disconnected) => return Err("the room was closed".into()),
            }
        }
    }

    /// What its thread has used.
    pub(crate) fn cpu(&self) -> Result<Cpu> {
        let total = time_run(&self.stat_file.with_file_name("schedstat"))?;
        let stat = fs::read_to_string(&self.stat_file)?;
        // proc_pid_stat(5): the name in parentheses may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or("no thread name")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut next =
            || -> Result<Duration> { Ok(TICK * fields.next().ok_or("too few fields")?.parse::<u32>()?) };
        Ok(Cpu { total, user: next()?, kernel: next()? })
    }

    /// What it has counted, at most a second ago.
    pub(crate) fn stats(&self) -> MediaStats {
        self.worker.stats().lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stop(self) {
        self.runtime.block_on(self.worker.stop());
    }
}
