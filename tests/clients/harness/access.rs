//! Access to the network with a rate, a queue, distance and loss: the link of the simulations, in real time, between two
//! interfaces. The kernel alone has neither delay nor a queue that can be looked into.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sfu::units::{Bitrate, DataSize};
use sfu_testkit::link::{Link, LinkConfig, Loss};

/// A queue that a packet or two make is empty.
const EMPTY: Duration = Duration::from_millis(40);

/// What a client's access is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access {
    /// Toward the client, kilobits a second, with 200 ms of queue.
    pub(crate) kbit: u64,
    /// There and back, milliseconds.
    pub(crate) rtt: u64,
    /// Toward the client, percent.
    pub(crate) loss: u32,
}

impl Access {
    /// Without loss.
    pub(crate) const fn new(kbit: u64, rtt: u64) -> Access {
        Access { kbit, rtt, loss: 0 }
    }

    /// Down and up, where there is room for what clients report.
    fn links(self) -> [LinkConfig; 2] {
        let loss = if self.loss == 0 { Loss::Never } else { Loss::Random(f64::from(self.loss) / 100.0) };
        [(self.kbit, loss), (self.kbit.max(1000), Loss::Never)].map(|(kbit, loss)| LinkConfig {
            rate: Some(Bitrate::kbps(kbit)),
            bucket: DataSize::bytes(3000),
            delay: Duration::from_millis(self.rtt) / 2,
            loss,
            ..LinkConfig::fiber()
        })
    }
}

/// The way between this machine and a namespace; ends when dropped.
pub(crate) struct AccessLink {
    down: Arc<Way>,
    up: Arc<Way>,
}

/// One direction.
struct Way {
    state: Mutex<State>,
    news: Condvar,
}

struct State {
    link: Link<Vec<u8>>,
    entered: Vec<Entered>,
    ended: bool,
}

/// A packet that came to the link.
#[derive(Clone, Copy)]
struct Entered {
    at: Instant,
    bytes: usize,
    /// How long it had to wait there.
    queue: Duration,
}

impl AccessLink {
    /// Between an interface here and one in a namespace.
    pub(super) fn between(here: File, there: File, access: Access) -> AccessLink {
        static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let seed = SEED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let [down, up] = access.links().map(|link| Way::new(link, seed));
        let (here, there) = (Arc::new(here), Arc::new(there));
        for (way, from, to) in [(&down, &here, &there), (&up, &there, &here)] {
            let (way_in, way_out) = (Arc::clone(way), Arc::clone(way));
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            std::thread::spawn(move || way_in.take(&from));
            std::thread::spawn(move || way_out.deliver(&to));
        }
        AccessLink { down, up }
    }

    /// Changes it from now on; what is queued leaves at the new rate.
    pub(crate) fn change(&self, access: Access) {
        let [down, up] = access.links();
        self.down.change(down);
        self.up.change(up);
    }

    /// Nothing passes any more, in either direction, until the next change.
    pub(crate) fn black_out(&self) {
        for way in [&self.down, &self.up] {
            let now = way.state().link.config();
            way.change(LinkConfig { loss: Loss::Random(1.0), ..now });
        }
    }

    /// 95th percentile of the time that packets waited toward the client.
    pub(crate) fn queueing(&self, since: Instant) -> Duration {
        self.down.state().link.wait_p95(since)
    }

    /// When the queue toward the client was empty again after it had filled; since `from`.
    pub(crate) fn empty(&self, from: Instant) -> Option<Duration> {
        let state = self.down.state();
        let mut after = state.entered.iter().filter(|entered| entered.at >= from);
        if after.find(|entered| entered.queue > EMPTY).is_none() {
            return Some(Duration::ZERO);
        }
        after.find(|entered| entered.queue <= EMPTY).map(|entered| entered.at - from)
    }

    /// When no more than `kbit` kilobits a second were sent toward the client, over half a second from then on; since `from`.
    pub(crate) fn below(&self, from: Instant, kbit: u64) -> Option<Duration> {
        const WINDOW: Duration = Duration::from_millis(500);
        let state = self.down.state();
        let entered = &state.entered;
        let bytes = |since: Instant| -> usize {
            let within = entered.iter().filter(|entered| (since..since + WINDOW).contains(&entered.at));
            within.map(|entered| entered.bytes).sum()
        };
        let starts = (0..).map(|step| from + Duration::from_millis(50) * step);
        let last = entered.last()?.at;
        let mut starts = starts.take_while(|start| *start + WINDOW <= last);
        let found =
            starts.find(|start| bytes(*start) as f64 * 8.0 <= kbit as f64 * WINDOW.as_secs_f64() * 1000.0);
        found.map(|start| start - from)
    }

    /// Packets lost toward the client, by chance and in the queue.
    pub(crate) fn lost(&self) -> [u64; 2] {
        let stats = self.down.state().link.stats();
        [stats.lost, stats.queue_drops]
    }
}

impl Drop for AccessLink {
    fn drop(&mut self) {
        for way in [&self.down, &self.up] {
            way.state().ended = true;
            way.news.notify_all();
        }
    }
}

impl Way {
    fn new(link: LinkConfig, seed: u64) -> Arc<Way> {
        let link = Link::new(Instant::now(), link, seed);
        let state = State { link, entered: Vec::new(), ended: false };
        Arc::new(Way { state: Mutex::new(state), news: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody failed with it")
    }

    fn change(&self, link: LinkConfig) {
        self.state().link.reconfigure(Instant::now(), link);
        self.news.notify_all();
    }

    /// Takes packets in until the interface is gone.
    fn take(&self, mut from: &File) {
        let mut packet = vec![0; 1 << 16];
        while let Ok(bytes) = from.read(&mut packet) {
            let mut state = self.state();
            if state.ended {
                return;
            }
            let (at, queue) = (Instant::now(), state.link.queue_delay());
            state.entered.push(Entered { at, bytes, queue });
            state.link.send(at, DataSize::bytes(bytes as u64), packet[..bytes].to_vec());
            self.news.notify_all();
        }
    }

    /// Hands packets out when their time has come.
    fn deliver(&self, mut to: &File) {
        let mut state = self.state();
        while !state.ended {
            if let Some(packet) = state.link.poll(Instant::now()) {
                drop(state);
                // An interface that is down takes nothing.
                let _ = to.write(&packet);
                state = self.state();
                continue;
            }
            let next = state.link.next_timeout().map(|at| at.saturating_duration_since(Instant::now()));
            state = match next {
                Some(wait) => self.news.wait_timeout(state, wait).expect("nobody failed with it").0,
                None => self.news.wait(state).expect("nobody failed with it"),
            };
        }
    }
}
