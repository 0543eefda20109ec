//! What the thread's tasks share: the protocol's state, the sockets, and the ways between them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sfu::command::Path;
use turn::{Action, AllocationId, Client, Clock, Transport};

use super::media_map::{Lane, MediaMap};
use super::outbox::{Outbox, Socket};
use super::relay::Relay;
use super::stats::{Refused, SharedStats, TurnStats};
use super::stream::Queue;
use crate::bridge;
use crate::config::TurnLimits;
use crate::counts::{Counted, Counts, PerSecond};
use crate::media::kernel::{ReceiveBatch, UdpSocket, WatchedSocket};

/// Batches read from one socket before the others have their turn.
const BATCHES_A_TURN: usize = 8;
/// How often allocations are looked through and counts copied out.
const TICK: Duration = Duration::from_secs(1);

/// All that tasks share. Borrowed for one packet or one batch, never over an `await`.
pub(super) struct Service {
    pub(super) media: MediaMap,
    pub(super) limits: TurnLimits,
    server: RefCell<turn::Server>,
    relays: RefCell<HashMap<AllocationId, Relay>>,
    listeners: Vec<Socket>,
    streams: RefCell<HashMap<Client, Rc<Queue>>>,
    /// Connections by client address.
    addresses: Counts<IpAddr>,
    receive: RefCell<Box<ReceiveBatch>>,
    outbox: RefCell<Outbox>,
    /// For one answer.
    scratch: RefCell<Vec<u8>>,
    stats: RefCell<TurnStats>,
    shared: SharedStats,
    /// TLS handshakes.
    handshakes: RefCell<PerSecond>,
}

impl Service {
    /// On the thread that will run it.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn new(
        udp: Vec<UdpSocket>,
        media: MediaMap,
        secret: turn_config::Secret,
        limits: TurnLimits,
        shared: SharedStats,
    ) -> io::Result<Service> {
        let listeners: io::Result<Vec<Socket>> =
            udp.into_iter().map(|socket| Ok(Rc::new(WatchedSocket::watch(socket)?))).collect();
        let config = turn::Config {
            secret,
            nonce_key: bridge::secret(),
            seed: bridge::random(),
            limits: limits.protocol,
            media: media.told(),
        };
        Ok(Service {
            media,
            limits,
            server: RefCell::new(turn::Server::new(config)),
            relays: RefCell::default(),
            listeners: listeners?,
            streams: RefCell::default(),
            addresses: Counts::default(),
            receive: RefCell::new(ReceiveBatch::new()),
            outbox: RefCell::new(Outbox::new()),
            scratch: RefCell::default(),
            stats: RefCell::default(),
            shared,
            handshakes: RefCell::default(),
        })
    }

    /// Starts reading the UDP sockets, and the clock.
    pub(super) fn spawn_listeners(self: &Rc<Service>) {
        for socket in &self.listeners {
            tokio::task::spawn_local(read(Rc::clone(self), Rc::clone(socket)));
        }
        let service = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                service.tick();
            }
        });
    }

    /// Reads datagrams of clients. Says whether there may be more.
    fn receive_from_clients(self: &Rc<Service>, socket: &Socket) -> io::Result<bool> {
        let mut receive = self.receive.borrow_mut();
        for _ in 0..BATCHES_A_TURN {
            let got = socket.get_ref().receive(&mut receive)?;
            let local = socket.get_ref().local_addr();
            receive.for_each(Instant::now(), local, |_, path, bytes| {
                let client = Client { transport: Transport::Udp, local: path.local, remote: path.remote };
                self.handle_client(client, bytes);
            });
            self.flush();
            if got < ReceiveBatch::SLOTS {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads datagrams of media for one allocation. Says whether there may be more.
    pub(super) fn receive_from_media(
        &self,
        socket: &Socket,
        id: AllocationId,
        lane: Lane,
    ) -> io::Result<bool> {
        let mut receive = self.receive.borrow_mut();
        let got = socket.get_ref().receive(&mut receive)?;
        let (now, local) = (Instant::now(), socket.get_ref().local_addr());
        receive.for_each(now, local, |_, path, payload| {
            let Some(peer) = self.media.outside(lane, path.remote) else {
                self.stats.borrow_mut().strangers += 1;
                return;
            };
            let mut out = self.scratch.borrow_mut();
            let client = self.server.borrow_mut().handle_peer(now, id, peer, payload, &mut out);
            if let Some(client) = client {
                self.deliver(client, &out);
            }
        });
        self.flush();
        Ok(got == ReceiveBatch::SLOTS)
    }

    /// One packet of a client's. What it leads to waits for [`Service::flush`].
    pub(super) fn handle_client(self: &Rc<Service>, client: Client, bytes: &[u8]) {
        let mut out = self.scratch.borrow_mut();
        let mut server = self.server.borrow_mut();
        match server.handle_client(clock(), client, bytes, &mut out) {
            Action::Nothing => {}
            Action::Reply => self.deliver(client, &out),
            Action::Bind { allocation, is_v4, even } => {
                let opened = Relay::open(self, allocation, is_v4, even);
                let relayed = opened.as_ref().ok().map(|(_, relayed)| *relayed);
                match opened {
                    Ok((relay, _)) => drop(self.relays.borrow_mut().insert(allocation, relay)),
                    Err(error) => tracing::warn!(%error, "no socket for a TURN allocation"),
                }
                server.bound(allocation, relayed, &mut out);
                self.deliver(client, &out);
            }
            Action::Relay { allocation, peer, payload } => self.relay(allocation, peer, payload),
        }
        while let Some(ended) = server.poll_closed() {
            self.relays.borrow_mut().remove(&ended);
        }
    }

    fn relay(self: &Rc<Service>, id: AllocationId, peer: std::net::SocketAddr, payload: &[u8]) {
        let mut relays = self.relays.borrow_mut();
        let (Some(inside), Some(relay)) = (self.media.inside(peer), relays.get_mut(&id)) else { return };
        match relay.socket(self, id, inside.lane) {
            Ok(socket) => {
                let local = socket.get_ref().local_addr();
                let path = Path::udp(local, inside.address);
                self.outbox.borrow_mut().push(&socket, path, payload);
            }
            Err(error) => {
                tracing::debug!(%error, "no further socket for a TURN allocation");
                self.stats.borrow_mut().not_sent += 1;
            }
        }
    }

    /// To a client, by the way it came.
    fn deliver(&self, client: Client, bytes: &[u8]) {
        if client.transport == Transport::Udp {
            let of_family =
                |socket: &&Socket| socket.get_ref().local_addr().is_ipv4() == client.remote.is_ipv4();
            if let Some(socket) = self.listeners.iter().find(of_family) {
                let path = Path::udp(client.local, client.remote);
                self.outbox.borrow_mut().push(socket, path, bytes);
            }
        } else if let Some(queue) = self.streams.borrow().get(&client)
            && !queue.push(bytes)
        {
            self.stats.borrow_mut().queue_full += 1;
        }
    }

    /// Sends what was collected.
    pub(super) fn flush(&self) {
        let lost = self.outbox.borrow_mut().flush();
        self.stats.borrow_mut().not_sent += lost;
    }

    fn tick(&self) {
        let mut server = self.server.borrow_mut();
        server.handle_timeout(Instant::now());
        while let Some(ended) = server.poll_closed() {
            self.relays.borrow_mut().remove(&ended);
        }
        let mut stats = self.stats.borrow_mut();
        stats.protocol.clone_from(server.stats());
        // A scrape that panicked has changed nothing: it only reads.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&stats);
    }

    /// Lets a connection in, if there is room.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn admit(self: &Rc<Service>, client: IpAddr, tls: bool) -> Result<Place, Refused> {
        let now = Instant::now();
        let mut stats = self.stats.borrow_mut();
        let total: u64 = stats.connections.iter().sum();
        if total >= self.limits.connections as u64 {
            return Err(Refused::Total);
        }
        let of_address = self.limits.connections_per_address;
        let counted = self.addresses.take(client, of_address).ok_or(Refused::Address)?;
        if tls && !self.handshakes.borrow_mut().begin(now, self.limits.handshakes_per_second) {
            return Err(Refused::HandshakeRate);
        }
        stats.connections[usize::from(tls)] += 1;
        Ok(Place { service: Rc::clone(self), tls, _of_address: counted })
    }

    /// Counts a connection that was refused or closed.
    pub(super) fn refused(&self, why: Refused) {
        self.stats.borrow_mut().refused[why as usize] += 1;
    }

    /// Where answers to a connection go.
    pub(super) fn connected(&self, client: Client, queue: Rc<Queue>) {
        self.streams.borrow_mut().insert(client, queue);
    }

    /// It is gone, and its allocation with it (RFC 8656 §7.3).
    pub(super) fn disconnected(&self, client: &Client) {
        self.streams.borrow_mut().remove(client);
        let mut server = self.server.borrow_mut();
        server.disconnected(client);
        while let Some(ended) = server.poll_closed() {
            self.relays.borrow_mut().remove(&ended);
        }
    }

    /// Whether it has an allocation.
    pub(super) fn has_allocation(&self, client: &Client) -> bool {
        self.server.borrow().has_allocation(client)
    }
}

/// A connection's place among those that there may be; given back when dropped.
pub(super) struct Place {
    service: Rc<Service>,
    tls: bool,
    _of_address: Counted<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.service.stats.borrow_mut().connections[usize::from(self.tls)] -= 1;
    }
}

fn clock() -> Clock {
    let unix_s = bridge::unix_ms().div_euclid(1000).max(0).unsigned_abs();
    Clock { now: Instant::now(), unix_s }
}

async fn read(service: Rc<Service>, socket: Socket) {
    while let Ok(mut ready) = socket.readable().await {
        match service.receive_from_clients(&socket) {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => ready.clear_ready(),
            Err(error) => {
                tracing::debug!(%error, "TURN socket");
                ready.clear_ready();
            }
        }
    }
}
