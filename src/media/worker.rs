//! One worker: a thread, its sockets, its media core, and the loop between them.
//!
//! Datagrams are read in batches and given to the core; what it wants sent goes out in as few system calls as can be.
//! Rooms, which are tokio tasks, reach a worker through one bounded queue and an eventfd; each room gets its events
//! through a bounded queue of its own.
//! While little comes, datagrams wake the worker. When they would wake it too often it looks at its sockets at the
//! core's ticks instead, when video may leave, and all that came meanwhile costs one wake-up and few calls.
//! The kernel notes when a datagram came, so that nobody takes the wait for the network's.
//! Clients over TCP have connections of their own (`tcp::streams`), which come by the queue and are looked at after the sockets.
//!
//! Always: the loop blocks on epoll alone. A room that does not take its events cannot hold up the others: above
//! three quarters of its queue messages of data channels are dropped and counted (signalling needs the rest), and
//! when the queue is full the room is closed, its connections removed, which the room sees as the end of its queue.
//! No allocation per packet: batches and their buffers are made once.
//! The loop measures how much of its time it needs; what follows from that is `pressure`'s affair.
//! Not here: what packets mean (`sfu`), and what events mean (`rooms`).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sfu::command::{Command, Event, Path, Protocol};
use sfu::congestion::restraint::Restraint;
use sfu::ids::RoomId;
use sfu::stats::Stats;
use sfu::ticks::{FAST_TICK, TICK, Ticks};
use tokio::sync::mpsc;

use super::kernel::{Outgoing, Poller, Ready, ReceiveBatch, SendBatch, UdpSocket, Wakeup, thread_cpu_time};
use super::ledger::Ledger;
use super::load::Load;
use super::pressure::{Limits, Meter, Pressure};
use super::stats::MediaStats;
use super::tcp::{Arrival, Streams};

/// Messages that wait for a worker. Rooms wait when it is full; it never is for longer than a loop's turn.
const QUEUE: usize = 4096;
/// Events that wait for one room: some seconds of a busy room's signalling.
pub const EVENT_QUEUE: usize = 1024;
/// Places in a room's queue that messages of data channels may not take.
const EVENT_RESERVE: usize = EVENT_QUEUE / 4;
/// Messages handled before the sockets are looked at again.
const COMMANDS_A_TURN: usize = 256;
/// Batches read from one socket before the other work is looked at again.
const BATCHES_A_TURN: usize = 8;
/// Time over which it is seen how often datagrams come.
const BUSY_WINDOW: Duration = Duration::from_millis(100);
/// So many turns with datagrams within it, of the 20 that ticks make, and they wake the worker no more…
const BUSY: u32 = 15;
/// …until there are fewer than this.
const QUIET: u32 = 12;
/// Bytes read from TCP connections before what they caused is sent.
const FRAMES_A_FLUSH: usize = 64 << 10;
/// How often counts are copied out, and TCP connections looked through.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker needs of the media core; `sfu::Sfu`, or a script in tests.
pub trait MediaCore {
    /// A datagram came in. May change `bytes` (decryption is in place).
    fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]);
    /// A datagram that came this way is given to it soon, after others: it may look at what that needs.
    fn expect_datagram(&self, _path: Path) {}
    /// Signalling wants something.
    fn handle_command(&mut self, now: Instant, command: Command);
    /// A batch of datagrams or commands is over: what they caused may leave.
    fn settle(&mut self, now: Instant);
    /// The time given by `next_timeout` has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The times at which it likes to send.
    fn ticks(&self) -> Ticks;
    /// When `handle_timeout` is due; `None`: only news can change anything.
    fn next_timeout(&self) -> Option<Instant>;
    /// The next event; `None` when there are no more.
    fn poll_event(&mut self) -> Option<Event>;
    /// Whether somebody has signed a request on this path.
    fn knows(&self, path: Path) -> bool;
    /// What was sent over this path waits on our side of the network, or does no longer.
    fn handle_backlog(&mut self, path: Path, waits: bool);
    /// So much video is held back from now on.
    fn restrain(&mut self, now: Instant, restraint: Restraint);
    /// What is to be sent, in order.
    fn egress(&self) -> impl Iterator<Item = Outgoing<'_>>;
    /// It was sent.
    fn clear_egress(&mut self);
    /// What it has counted.
    fn stats(&self) -> &Stats;
}

/// What a room tells its worker.
#[derive(Debug)]
pub enum ToWorker {
    /// A room begins; its events go to `events`.
    Open {
        /// The room.
        room: RoomId,
        /// Made with a capacity of [`EVENT_QUEUE`].
        events: mpsc::Sender<Event>,
    },
    /// A client has connected over TCP, and its first request is for this worker's core.
    Connection(Box<Arrival>),
    /// A command to the core. Its room must be open.
    Media(Command),
    /// A room ends; connections that it still has are removed.
    Close {
        /// The room.
        room: RoomId,
    },
    /// The worker ends, after what was sent before this.
    Stop,
}

/// The worker's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the media worker has ended")]
pub struct WorkerGone;

/// The way to a worker. Clones lead to the same.
#[derive(Clone, Debug)]
pub struct WorkerClient {
    queue: mpsc::Sender<ToWorker>,
    doorbell: Arc<Doorbell>,
    load: Arc<Load>,
}

/// Wakes the worker, at most once until it has looked.
#[derive(Debug)]
struct Doorbell {
    wakeup: Wakeup,
    rung: AtomicBool,
}

impl Doorbell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.wakeup.notify();
        }
    }

    /// To be called before the queue is read: what is put in after this rings again.
    fn answer(&self) {
        self.wakeup.clear();
        self.rung.store(false, Ordering::Release);
    }
}

impl WorkerClient {
    /// Puts a message in the queue, waiting for a place.
    ///
    /// # Errors
    /// [`WorkerGone`]
    pub async fn send(&self, message: ToWorker) -> Result<(), WorkerGone> {
        self.queue.send(message).await.map_err(|_| WorkerGone)?;
        self.doorbell.ring();
        Ok(())
    }

    /// Whether its thread still runs.
    pub fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    /// How much it has to do.
    pub fn load(&self) -> &Load {
        &self.load
    }
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    client: WorkerClient,
    stats: Arc<Mutex<MediaStats>>,
    local: Vec<SocketAddr>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    /// Starts a thread that owns `sockets`, at most one of each address family. `core` is called on it. Without `limits` it lets in
    /// whoever comes and holds nothing back.
    ///
    /// # Errors
    /// The process is out of threads or file descriptors.
    pub fn start<C, F>(
        index: usize,
        sockets: Vec<UdpSocket>,
        limits: Option<Limits>,
        core: F,
    ) -> io::Result<Worker>
    where
        C: MediaCore,
        F: FnOnce(Instant) -> C + Send + 'static,
    {
        let local = sockets.iter().map(UdpSocket::local_addr).collect();
        let (queue, messages) = mpsc::channel(QUEUE);
        let doorbell = Arc::new(Doorbell { wakeup: Wakeup::new()?, rung: AtomicBool::new(false) });
        let stats = Arc::new(Mutex::new(MediaStats::default()));
        let mut pollers = Pollers { all: Poller::new()?, doorbell: Poller::new()? };
        pollers.all.add(&doorbell.wakeup, DOORBELL)?;
        pollers.doorbell.add(&doorbell.wakeup, DOORBELL)?;
        for (i, socket) in sockets.iter().enumerate() {
            pollers.all.add(socket, i as u64)?;
        }
        let streams = Streams::new()?;
        pollers.all.add(streams.poller(), STREAMS)?;
        let load = Arc::new(Load::default());
        let client = WorkerClient { queue, doorbell: Arc::clone(&doorbell), load: Arc::clone(&load) };
        let shared = Arc::clone(&stats);
        let thread = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || {
            let now = Instant::now();
            let mut turn = Loop {
                core: core(now),
                sockets,
                streams,
                receive: ReceiveBatch::new(),
                send: SendBatch::new(),
                messages,
                doorbell,
                rooms: HashMap::new(),
                ledger: Ledger::default(),
                stats: MediaStats::default(),
                shared,
                stats_at: now + STATS_INTERVAL,
                told: now,
                traffic: Traffic::since(now),
                meter: Meter::new(now, Duration::ZERO),
                pressure: limits.map(|limits| Pressure::new(now, limits)),
                load,
                unread: false,
                stopping: false,
            };
            if let Err(error) = turn.run(&mut pollers) {
                tracing::error!(%error, worker = index, "media worker failed");
            }
        })?;
        Ok(Worker { client, stats, local, thread })
    }

    /// The way to it.
    pub const fn client(&self) -> &WorkerClient {
        &self.client
    }

    /// Its latest counts, at most a second old.
    pub fn stats(&self) -> Arc<Mutex<MediaStats>> {
        Arc::clone(&self.stats)
    }

    /// Where its sockets are bound.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local
    }

    /// Ends it, once what was sent to it is done, and waits for its thread.
    pub async fn stop(self) {
        // Gone already is as good.
        let _ = self.client.send(ToWorker::Stop).await;
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// The eventfd's token; sockets have their index.
const DOORBELL: u64 = u64::MAX;
/// That of all TCP connections together.
const STREAMS: u64 = u64::MAX - 1;

/// What the loop blocks on.
struct Pollers {
    /// Doorbell, sockets and TCP connections.
    all: Poller,
    /// The doorbell alone, while the sockets are looked at unasked.
    doorbell: Poller,
}

/// How often datagrams come.
struct Traffic {
    /// So often that the sockets are looked at unasked.
    busy: bool,
    window: Instant, // its begin
    turns: u32,      // within it, with datagrams
}

impl Traffic {
    const fn since(now: Instant) -> Traffic {
        Traffic { busy: false, window: now, turns: 0 }
    }

    /// The sockets were read; `some`: there was something.
    fn turn(&mut self, now: Instant, some: bool) {
        if now.saturating_duration_since(self.window) >= BUSY_WINDOW {
            self.busy &= self.turns >= QUIET;
            (self.window, self.turns) = (now, 0);
        }
        self.turns += u32::from(some);
        self.busy |= self.turns >= BUSY;
    }
}

/// The state of a worker's thread.
struct Loop<C> {
    core: C,
    sockets: Vec<UdpSocket>,
    streams: Streams,
    receive: Box<ReceiveBatch>,
    send: Box<SendBatch>,
    messages: mpsc::Receiver<ToWorker>,
    doorbell: Arc<Doorbell>,
    rooms: HashMap<RoomId, mpsc::Sender<Event>>,
    ledger: Ledger,
    stats: MediaStats,
    shared: Arc<Mutex<MediaStats>>,
    stats_at: Instant,
    /// The latest time that the core knows of.
    told: Instant,
    traffic: Traffic,
    meter: Meter,
    pressure: Option<Pressure>,
    load: Arc<Load>,
    /// There was more to read than one turn may.
    unread: bool,
    stopping: bool,
}

impl<C: MediaCore> Loop<C> {
    fn run(&mut self, pollers: &mut Pollers) -> io::Result<()> {
        let mut ready = Ready::new();
        while !self.stopping {
            let deadline = self.core.next_timeout().map_or(self.stats_at, |at| at.min(self.stats_at));
            let now = Instant::now();
            let wake = self.next_turn(now, deadline);
            let poller = if self.traffic.busy { &mut pollers.doorbell } else { &mut pollers.all };
            let begin = now;
            poller.wait(&mut ready, Some(wake.saturating_duration_since(now)))?;
            let now = Instant::now();
            self.meter.slept(now.min(wake).saturating_duration_since(begin));
            if let Some(late) = now.checked_duration_since(wake) {
                self.stats.lag.observe(late.as_secs_f64());
            }
            let unasked = self.traffic.busy || self.unread;
            let (mut datagrams, mut frames) = (unasked, unasked);
            for token in ready.tokens() {
                match token {
                    DOORBELL => self.take_messages(now),
                    STREAMS => frames = true,
                    _ => datagrams = true,
                }
            }
            self.unread = false;
            let some = (datagrams && self.take_datagrams()?) | (frames && self.take_frames()?);
            if datagrams || frames {
                self.traffic.turn(now, some);
            }
            let now = Instant::now();
            if self.core.next_timeout().is_some_and(|at| at <= now) {
                self.core.handle_timeout(now);
            }
            self.flush();
            self.deliver_events(now);
            self.look_at_the_time(now)?;
            if self.stats_at <= now {
                self.streams.sweep(now, &self.core);
                self.copy_stats();
                self.stats_at = now + STATS_INTERVAL;
            }
        }
        self.flush();
        self.copy_stats();
        Ok(())
    }

    fn take_messages(&mut self, now: Instant) {
        self.doorbell.answer();
        for _ in 0..COMMANDS_A_TURN {
            match self.messages.try_recv() {
                Ok(ToWorker::Open { room, events }) => drop(self.rooms.insert(room, events)),
                Ok(ToWorker::Connection(arrival)) => {
                    if let Err(error) = self.streams.add(now, *arrival, &mut self.core) {
                        tracing::warn!(%error, "media connection lost");
                    }
                }
                Ok(ToWorker::Media(command)) => {
                    self.ledger.command(&command);
                    self.core.handle_command(now, command);
                }
                Ok(ToWorker::Close { room }) => self.close_room(now, room),
                // Nobody can send any more: the server is gone.
                Ok(ToWorker::Stop) | Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.stopping = true;
                    return;
                }
                Err(mpsc::error::TryRecvError::Empty) => return,
            }
        }
        // There may be more: come back after the sockets had their turn.
        self.doorbell.ring();
    }

    /// When to wake unasked: when the core has something to do, at a tick, so that what many peers want at about the same
    /// time is one wake-up; and, if sockets are busy, to look at them.
    fn next_turn(&self, now: Instant, deadline: Instant) -> Instant {
        if self.unread {
            return now;
        }
        let ticks = self.core.ticks();
        let due = ticks.from(deadline, FAST_TICK);
        if self.traffic.busy { due.min(ticks.after(now, TICK)) } else { due }
    }

    /// Reads all sockets. Says whether there was something.
    fn take_datagrams(&mut self) -> io::Result<bool> {
        let mut some = false;
        for socket in 0..self.sockets.len() {
            let mut full = false;
            for _ in 0..BATCHES_A_TURN {
                let got = self.receive.receive(&self.sockets[socket])?;
                if got == 0 {
                    full = false;
                    break;
                }
                some = true;
                let now = Instant::now();
                let local = self.sockets[socket].local_addr();
                self.receive.paths(local).for_each(|path| self.core.expect_datagram(path));
                let (core, told, meter) = (&mut self.core, self.told, &mut self.meter);
                self.receive.for_each(now, local, |arrival, path, bytes| {
                    meter.waited(now.saturating_duration_since(arrival));
                    // Time never runs back for the core.
                    core.handle_datagram(arrival.max(told), path, bytes);
                });
                self.flush();
                full = got == ReceiveBatch::SLOTS;
                if !full {
                    break;
                }
            }
            self.unread |= full;
        }
        Ok(some)
    }

    /// Reads all TCP connections that are ready. Says whether there was something.
    fn take_frames(&mut self) -> io::Result<bool> {
        if self.streams.is_empty() {
            return Ok(false);
        }
        let mut ready = Ready::new();
        self.streams.ready(&mut ready)?;
        let (mut some, mut unsent) = (false, 0);
        for token in ready.tokens() {
            let now = Instant::now();
            let read = self.streams.serve(now, token, &mut self.core);
            some |= read > 0;
            unsent += read;
            if unsent >= FRAMES_A_FLUSH {
                self.flush();
                unsent = 0;
            }
        }
        self.unread |= ready.is_full();
        Ok(some)
    }

    /// Sends what the core has to send, each datagram from the socket of its family or through its connection.
    fn flush(&mut self) {
        self.told = Instant::now();
        self.core.settle(self.told);
        for socket in &mut self.sockets {
            let v4 = socket.local_addr().is_ipv4();
            let of_family = |path: &Path| path.protocol == Protocol::Udp && path.remote.is_ipv4() == v4;
            let mine = self.core.egress().filter(|run| of_family(&run.path));
            let report = self.send.send(socket, mine);
            self.stats.send_calls += report.calls;
            self.stats.send_messages += report.messages;
            self.stats.send_no_room += report.no_room;
            self.stats.send_unreachable += report.unreachable;
        }
        if self.streams.were_any() {
            self.streams.send(self.told, &mut self.core);
        }
        self.core.clear_egress();
    }

    fn deliver_events(&mut self, now: Instant) {
        while let Some(event) = self.core.poll_event() {
            let room = self.ledger.event(&event);
            let Some((room, queue)) = room.and_then(|room| Some((room, self.rooms.get(&room)?))) else {
                continue;
            };
            if matches!(event, Event::Data { .. }) && queue.capacity() <= EVENT_RESERVE {
                self.stats.data_dropped += 1;
                continue;
            }
            if let Err(refused) = queue.try_send(event) {
                if matches!(refused, mpsc::error::TrySendError::Full(_)) {
                    tracing::error!(?room, "room does not take its events and is closed");
                    self.stats.rooms_overrun += 1;
                }
                self.close_room(now, room);
            }
        }
    }

    fn close_room(&mut self, now: Instant, room: RoomId) {
        self.rooms.remove(&room);
        for peer in self.ledger.peers_of(room) {
            let command = Command::RemovePeer { peer };
            self.ledger.command(&command);
            self.core.handle_command(now, command);
        }
    }

    /// Holds video back if there is too little of it.
    fn look_at_the_time(&mut self, now: Instant) -> io::Result<()> {
        if !self.meter.is_due(now) {
            return Ok(());
        }
        let window = self.meter.take(now, thread_cpu_time()?);
        let (load, waited) = (window.load(), window.waited);
        self.stats.busy += window.length.as_secs_f64() * load;
        let Some(pressure) = &mut self.pressure else {
            self.load.tell(load);
            return Ok(());
        };
        pressure.on_window(now, window);
        self.load.tell(pressure.load());
        self.load.admit(pressure.admits());
        let (steps, before) = (pressure.restraint().steps(), self.stats.restraint);
        if steps == before {
            return Ok(());
        }
        self.core.restrain(now, pressure.restraint());
        self.stats.restraint = steps;
        match (before, steps) {
            (0, _) => tracing::warn!(load, ?waited, "no time left: video is held back"),
            (_, 0) => tracing::info!(load, "there is time again: no video is held back"),
            (_, _) => tracing::debug!(load, ?waited, steps, "another part of video is held back"),
        }
        Ok(())
    }

    fn copy_stats(&mut self) {
        self.stats.core.clone_from(self.core.stats());
        self.stats.tcp_dropped = self.streams.dropped();
        // A scrape that panicked has changed nothing: it only reads.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.stats);
    }
}

#[cfg(test)]
mod tests;
