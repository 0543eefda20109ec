//! The core as a node.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::command::{Command, Event, Path};
use sfu::congestion::restraint::Restraint;
use sfu::ids::PeerId;
use sfu::units::WallClock;
use sfu::{Sfu, SfuConfig};

use super::capture::Capture;
use crate::net::{Node, Transmit};

/// Time since 1970 when virtual time begins.
pub(super) const EPOCH: Duration = Duration::from_hours(500_000);

/// See the module's page.
pub struct Server {
    sfu: Sfu,
    start: Instant,
    local: SocketAddr,
    outbox: VecDeque<Transmit>,
    events: Vec<Event>,
    notices: Vec<(Duration, Event)>,
    trace: DefaultHasher,
    traces: BTreeMap<SocketAddr, DefaultHasher>,
    capture: Option<Capture>,
}

impl Server {
    pub(super) fn new(start: Instant, local: SocketAddr, seed: u64) -> Server {
        let config = SfuConfig {
            announced: vec![local],
            announced_tcp: Vec::new(),
            number: 0,
            wall: WallClock { instant: start, unix: EPOCH },
            seed,
            secret: [1; 32],
        };
        let sfu = Sfu::new(config).expect("nothing in the settings depends on the test");
        Server {
            sfu,
            start,
            local,
            outbox: VecDeque::new(),
            events: Vec::new(),
            notices: Vec::new(),
            trace: DefaultHasher::new(),
            traces: BTreeMap::new(),
            capture: Capture::wanted(),
        }
    }

    /// The core, to look at.
    pub fn sfu(&self) -> &Sfu {
        &self.sfu
    }

    /// What was told of pauses and of sound that does not get through, and when, since the start.
    pub fn notices(&self) -> &[(Duration, Event)] {
        &self.notices
    }

    /// All that was sent, when and to whom, as one number.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// The same of what was sent to one client.
    pub fn trace_of(&self, remote: SocketAddr) -> u64 {
        self.traces.get(&remote).map_or(0, DefaultHasher::finish)
    }

    /// Carries out a command.
    pub fn command(&mut self, now: Instant, command: Command) {
        self.sfu.handle_command(now, command);
        self.collect(now);
    }

    /// Its machine is short of time by so much.
    pub(super) fn restrain(&mut self, now: Instant, restraint: Restraint) {
        self.sfu.restrain(now, restraint);
        self.collect(now);
    }

    /// What happened and nobody asked for.
    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Media of `peer` comes from and goes to `remote` from now on.
    pub(super) fn connect(&mut self, now: Instant, peer: PeerId, remote: SocketAddr) {
        self.sfu.connect_plain(now, peer, Path::udp(self.local, remote));
    }

    /// Takes out the first event that `choose` turns into something; others stay.
    pub(super) fn take_event<T>(&mut self, mut choose: impl FnMut(&Event) -> Option<T>) -> Option<T> {
        let (index, chosen) = self.events.iter().enumerate().find_map(|(i, e)| Some((i, choose(e)?)))?;
        self.events.remove(index);
        Some(chosen)
    }

    // What `cargo xtask cost` counts, by these names: the core's own work, without what is simulated around it. Something
    // must follow its call, or there would be a jump in its place, which callgrind takes for the function's end.

    #[inline(never)]
    fn core_takes(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        self.sfu.handle_datagram(now, path, data);
        black_box(());
    }

    #[inline(never)]
    fn core_wakes(&mut self, now: Instant) {
        self.sfu.handle_timeout(now);
        black_box(());
    }

    #[inline(never)]
    fn core_flushes(&mut self, now: Instant) {
        self.sfu.flush(now);
        black_box(());
    }

    /// Reports, levels and qualities come all the time; a call asks for what it waits for.
    fn collect(&mut self, now: Instant) {
        while let Some(event) = self.sfu.poll_event() {
            match event {
                Event::Speakers { .. } | Event::Quality { .. } | Event::FirstMedia { .. } => {}
                Event::SubscriptionPaused { .. } | Event::Voice { .. } => {
                    self.notices.push((now - self.start, event));
                }
                event => self.events.push(event),
            }
        }
    }
}

impl Node for Server {
    fn handle_datagram(&mut self, now: Instant, source: SocketAddr, local: SocketAddr, data: &mut [u8]) {
        self.core_takes(now, Path::udp(local, source), data);
        self.collect(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.core_wakes(now);
        self.collect(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.sfu.next_timeout()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.outbox.is_empty() {
            self.core_flushes(now);
            self.collect(now);
            let egress = self.sfu.egress();
            for run in egress.runs() {
                for data in egress.slab()[run.range.clone()].chunks(usize::from(run.segment)) {
                    let sent = ((now - self.start).as_micros(), run.path.remote, data);
                    sent.hash(&mut self.trace);
                    sent.hash(self.traces.entry(run.path.remote).or_default());
                    let (source, destination) = (run.path.local, run.path.remote);
                    if let Some(capture) = &mut self.capture {
                        capture.datagram(now - self.start, source, destination, data);
                    }
                    self.outbox.push_back(Transmit { source, destination, data: data.to_vec() });
                }
            }
            egress.clear();
        }
        self.outbox.pop_front()
    }
}
