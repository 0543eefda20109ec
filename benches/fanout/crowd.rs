//! All of one run: the server, the publisher, the subscribers, and the loop that plays the clients.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sfu::command::{AddPeer, Command, Demand, NegotiationRole};
use sfu::ids::{Mid, PeerId, TrackId};
use sfu::units::WallClock;
use sluice::media::kernel::{Poller, Ready};

use crate::connection::{AUDIO_MID, Batches, Connection, Identity, VIDEO_MID};
use crate::publisher::Publisher;
use crate::server::{ROOM, Server};
use crate::subscriber::Subscriber;
use crate::{Counts, Result};

const PUBLISHER: u64 = 0;
const TRACKS: [(TrackId, &str); 2] = [(TrackId(1), AUDIO_MID), (TrackId(2), VIDEO_MID)];
/// Time in which all must be connected, and then again for everybody to get everything.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often subscribers look at their timers: a tenth of what feedback waits.
const TICK: Duration = Duration::from_millis(5);
/// How often clients look at their sockets. They sleep in between rather than wait to be woken, which would be the
/// server's cost here, within its system call, and is not over a network.
const LOOK: Duration = Duration::from_millis(1);
/// Share of what is published that everybody must get in a second for the warm-up to be over. What is under
/// way at its ends is missing.
const EVERYTHING: f64 = 0.95;

pub(crate) struct Crowd {
    pub(crate) server: Server,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    poller: Poller,
    ready: Ready,
    batches: Batches,
    tick_due: Instant,
}

impl Crowd {
    /// Everybody exchanges descriptions with a new server.
    pub(crate) fn join(subscribers: u16) -> Result<Crowd> {
        let now = Instant::now();
        let mut server = Server::start(1)?;
        let identity = Identity::generate()?;
        let publisher = join(now, &mut server, &identity, PUBLISHER, "sendonly")?;
        for (track, mid) in TRACKS {
            let mid = Mid::parse(mid).ok_or("not a mid")?;
            server.command(Command::BindTrack {
                peer: PeerId(PUBLISHER),
                mid,
                track,
                layers: Vec::new(),
                encrypted: false,
            })?;
        }
        let poller = Poller::new()?;
        poller.add(&publisher, PUBLISHER)?;
        let mut all = Vec::new();
        for id in 1..=u64::from(subscribers) {
            let connection = join(now, &mut server, &identity, id, "recvonly")?;
            poller.add(&connection, id)?;
            all.push(Subscriber::new(now, connection));
        }
        let wall = WallClock { instant: now, unix: SystemTime::now().duration_since(UNIX_EPOCH)? };
        let publisher = Publisher::new(publisher, wall);
        let (ready, batches) = (Ready::new(), Batches::new());
        Ok(Crowd { server, publisher, subscribers: all, poller, ready, batches, tick_due: now })
    }

    /// Everybody's ICE and DTLS.
    pub(crate) fn connect(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.publisher.connection.is_up() || !self.subscribers.iter().all(|s| s.connection.is_up()) {
            if self.turn(end)? >= end {
                let up = self.subscribers.iter().filter(|s| s.connection.is_up()).count();
                return Err(format!("{up} of {} subscribers could connect", self.subscribers.len()).into());
            }
        }
        Ok(())
    }

    /// Camera and microphone on.
    pub(crate) fn publish(&mut self, rate: f64) {
        self.publisher.begin(Instant::now(), rate);
    }

    /// Lets `least` go by, and then time until everybody gets everything.
    pub(crate) fn warm_up(&mut self, least: Duration) -> Result<()> {
        self.run(least)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let (published, before) = (self.publisher.sent, self.received());
            self.run(Duration::from_secs(1))?;
            let published = self.publisher.sent.since(published).total() as f64;
            let received = self.received().into_iter().zip(before);
            let worst = received.map(|(now, before)| now.since(before).total()).min().unwrap_or(0) as f64;
            if worst >= published * EVERYTHING {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(format!("of {published} packets a second somebody gets {worst}").into());
            }
        }
    }

    /// Plays the clients for `time`; says how long it really was.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Duration> {
        let start = Instant::now();
        let end = start + time;
        while self.turn(end)? < end {}
        Ok(start.elapsed())
    }

    pub(crate) fn received(&self) -> Vec<Counts> {
        self.subscribers.iter().map(Subscriber::received).collect()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.subscribers.iter().map(Subscriber::lost).sum()
    }

    /// Waits for something to do until `end` at most, and does it. Says what time it is.
    fn turn(&mut self, end: Instant) -> Result<Instant> {
        let begin = Instant::now();
        let due = [self.publisher.next_timeout(), Some(self.tick_due), Some(begin + LOOK), Some(end)];
        let due = due.into_iter().flatten().min().unwrap_or(end);
        std::thread::sleep(due.saturating_duration_since(begin));
        let now = Instant::now();
        loop {
            self.poller.wait(&mut self.ready, Some(Duration::ZERO))?;
            let mut some = false;
            for token in self.ready.tokens() {
                some = true;
                if token == PUBLISHER {
                    self.publisher.connection.read(&mut self.batches)?;
                    self.publisher.receive(now)?;
                } else {
                    let subscriber = &mut self.subscribers[token as usize - 1];
                    subscriber.connection.read(&mut self.batches)?;
                    subscriber.receive(now)?;
                    subscriber.connection.flush(&mut self.batches);
                }
            }
            if !some {
                break;
            }
        }
        self.publisher.handle_timeout(now)?;
        if self.tick_due <= now {
            self.tick_due = now + TICK;
            self.publisher.connection.handle_timeout(now)?;
            for subscriber in &mut self.subscribers {
                subscriber.handle_timeout(now)?;
                subscriber.connection.flush(&mut self.batches);
            }
            self.server.drain_events()?;
        }
        self.publisher.connection.flush(&mut self.batches);
        Ok(now)
    }
}

/// One client's signalling. A subscriber's wishes are there before its offer, so that one round is enough.
fn join(
    now: Instant,
    server: &mut Server,
    identity: &Identity,
    id: u64,
    direction: &str,
) -> Result<Connection> {
    let peer = PeerId(id);
    let role = NegotiationRole::Answerer;
    server.command(Command::AddPeer(AddPeer { peer, room: ROOM, role, channels: Vec::new() }))?;
    if id != PUBLISHER {
        for (track, label) in TRACKS {
            let (stream_id, label) = ("publisher".to_owned(), label.to_owned());
            let demand = Demand::default();
            server.command(Command::Subscribe { peer, track, stream_id, label, demand })?;
        }
    }
    let ufrag = format!("client{id:04}");
    let answer = server.offer(peer, identity.offer(&ufrag, direction))?;
    Connection::new(now, server.address(), identity, ufrag, &answer)
}
