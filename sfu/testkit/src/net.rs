//! A network of nodes on one virtual clock.
//!
//! A [`Node`] is anything with datagrams in, datagrams out and a deadline: the server, a client. Between each
//! ordered pair of nodes runs one [`Link`], their own or another pair's.
//! Always: time jumps to the earliest deadline of all nodes and links, and never back; among equal deadlines
//! links deliver first, then nodes wake in the order they were added; one seed is one whole run.

use std::any::Any;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::units::DataSize;

use crate::clock;
use crate::link::{Link, LinkConfig};

/// Bytes of IPv4 and UDP headers, which links count.
const OVERHEAD: u64 = 28;
/// Wake-ups within one instant after which a node is held to be spinning.
const SPIN: u32 = 100_000;

/// A datagram on its way out of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The node's own address that it leaves from.
    pub source: SocketAddr,
    /// Where it goes; nobody there: it vanishes.
    pub destination: SocketAddr,
    /// The payload of UDP.
    pub data: Vec<u8>,
}

/// A machine on the network, sans-IO.
pub trait Node: Any {
    /// A datagram arrived at `local` from `source`.
    fn handle_datagram(&mut self, now: Instant, source: SocketAddr, local: SocketAddr, data: &mut [u8]);
    /// The deadline of `next_timeout` is reached.
    fn handle_timeout(&mut self, now: Instant);
    /// When to be woken; `None`: only by datagrams.
    fn next_timeout(&self) -> Option<Instant>;
    /// The next datagram to send; called until `None` after each of the above.
    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit>;
}

/// Names a node of one [`Net`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

type Packet = (SocketAddr, SocketAddr, Vec<u8>); // source, destination, payload

/// All nodes, the links between them, and the time.
pub struct Net {
    now: Instant,
    rng: fastrand::Rng,
    nodes: Vec<Box<dyn Node>>,
    addresses: HashMap<SocketAddr, NodeId>,
    links: Vec<Link<Packet>>,
    shared: HashMap<(NodeId, NodeId), (NodeId, NodeId)>,
    ends: HashMap<(NodeId, NodeId), usize>,
    // Deadlines of nodes and links, so that not all are asked at each event.
    node_due: Vec<Option<Instant>>,
    link_due: Vec<Option<Instant>>,
    spinning: u32,
}

impl Net {
    /// No nodes; `seed` decides every chance in the links.
    pub fn new(seed: u64) -> Net {
        Net {
            now: clock::start(),
            rng: fastrand::Rng::with_seed(seed),
            nodes: Vec::new(),
            addresses: HashMap::new(),
            links: Vec::new(),
            shared: HashMap::new(),
            ends: HashMap::new(),
            node_due: Vec::new(),
            link_due: Vec::new(),
            spinning: 0,
        }
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A seed for a part of the same run.
    pub fn seed(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// Puts a node on the network.
    ///
    /// # Panics
    /// If one of its addresses is taken.
    pub fn add(&mut self, addresses: &[SocketAddr], node: impl Node) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Box::new(node));
        self.node_due.push(None);
        for &address in addresses {
            assert!(self.addresses.insert(address, id).is_none(), "{address} is taken");
        }
        self.flush(id);
        id
    }

    /// Gives a node another address, as a phone that changes networks. What is on its way to the old one is lost.
    pub fn move_address(&mut self, node: NodeId, old: SocketAddr, new: SocketAddr) {
        self.addresses.remove(&old);
        self.addresses.insert(new, node);
    }

    /// The node itself, for commands and questions; what it wants to send then leaves at once.
    ///
    /// # Panics
    /// If it is not a `T`.
    pub fn with<T: Node, R>(&mut self, id: NodeId, act: impl FnOnce(Instant, &mut T) -> R) -> R {
        let node: &mut dyn Any = self.nodes[id.0].as_mut();
        let result = act(self.now, node.downcast_mut().expect("the caller names its type"));
        self.flush(id);
        result
    }

    /// The node itself, to look at.
    ///
    /// # Panics
    /// If it is not a `T`.
    pub fn node<T: Node>(&self, id: NodeId) -> &T {
        let node: &dyn Any = self.nodes[id.0].as_ref();
        node.downcast_ref().expect("the caller names its type")
    }

    /// Sets what the path from one node to another is like, from now on. Paths not set are fiber.
    pub fn set_link(&mut self, from: NodeId, to: NodeId, config: LinkConfig) {
        let (now, index) = (self.now, self.link_index(from, to));
        self.links[index].reconfigure(now, config);
        self.link_due[index] = self.links[index].next_timeout();
    }

    /// What goes between the nodes of `guest`, both ways, takes the links between those of `host` from now on.
    pub fn share_path(&mut self, guest: (NodeId, NodeId), host: (NodeId, NodeId)) {
        self.shared.insert(guest, host);
        self.shared.insert((guest.1, guest.0), (host.1, host.0));
    }

    /// The path from one node to another.
    pub fn link(&mut self, from: NodeId, to: NodeId) -> &Link<Packet> {
        let index = self.link_index(from, to);
        &self.links[index]
    }

    fn link_index(&mut self, from: NodeId, to: NodeId) -> usize {
        let ends = self.shared.get(&(from, to)).copied().unwrap_or((from, to));
        if let Some(&index) = self.ends.get(&ends) {
            return index;
        }
        self.ends.insert(ends, self.links.len());
        self.links.push(Link::new(self.now, LinkConfig::fiber(), self.rng.u64(..)));
        self.link_due.push(None);
        self.links.len() - 1
    }

    /// Lets `time` pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until `done` says so, and returns how long that took; `None` after `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Net) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start + limit;
        while !done(self) {
            if !self.step(end) {
                self.now = end;
                return None;
            }
        }
        Some(self.now - start)
    }

    /// Goes to the next event before `end`; false if there is none.
    fn step(&mut self, end: Instant) -> bool {
        let due = self.node_due.iter().chain(&self.link_due);
        let Some(at) = due.copied().flatten().min().filter(|&at| at <= end) else {
            return false;
        };
        self.spinning = if at > self.now { 0 } else { self.spinning + 1 };
        assert!(self.spinning < SPIN, "somebody asks to be woken at {at:?} again and again");
        self.now = self.now.max(at);
        let now = self.now;
        let is_due = |due: Option<Instant>| due.is_some_and(|at| at <= now);
        for index in 0..self.links.len() {
            if !is_due(self.link_due[index]) {
                continue;
            }
            while let Some((source, local, mut data)) = self.links[index].poll(now) {
                // Another than the link's end where it is shared; nobody, if the address was given up meanwhile.
                if let Some(&to) = self.addresses.get(&local) {
                    self.nodes[to.0].handle_datagram(now, source, local, &mut data);
                    self.flush(to);
                }
            }
            self.link_due[index] = self.links[index].next_timeout();
        }
        for index in 0..self.nodes.len() {
            if is_due(self.node_due[index]) {
                self.nodes[index].handle_timeout(now);
                self.flush(NodeId(index));
            }
        }
        true
    }

    fn flush(&mut self, from: NodeId) {
        let now = self.now;
        while let Some(transmit) = self.nodes[from.0].poll_transmit(now) {
            let Some(&to) = self.addresses.get(&transmit.destination) else { continue };
            let size = DataSize::bytes(transmit.data.len() as u64 + OVERHEAD);
            let index = self.link_index(from, to);
            let link = &mut self.links[index];
            let protected = link.config().parity.is_some_and(|parity| parity.protects(&transmit.data));
            let packet = (transmit.source, transmit.destination, transmit.data);
            if protected {
                link.send_protected(now, size, packet);
            } else {
                link.send(now, size, packet);
            }
            self.link_due[index] = self.links[index].next_timeout();
        }
        self.node_due[from.0] = self.nodes[from.0].next_timeout();
    }
}
