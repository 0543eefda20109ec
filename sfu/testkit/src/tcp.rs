//! A greedy TCP flow, as somebody's download: Cubic with SACK, whole packets, nothing but its congestion control.
//!
//! Window growth is that of RFC 9438 (C 0.4, beta 0.7, fast convergence), slow start ends when the round trip grows
//! (HyStart), losses are told by time (RACK, RFC 8985), every second packet is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::net::{Node, Transmit};

const CUBIC: f64 = 0.4;
const BETA: f64 = 0.7;
/// UDP payload that makes 1500 bytes on the wire.
const FULL: usize = 1472;
const ACK: usize = 24;
const START: f64 = 10.0;
const DELAYED_ACK: Duration = Duration::from_millis(40);
const LEAST_RTO: Duration = Duration::from_millis(200);

/// The sender. It always has more to send.
#[derive(Debug)]
pub struct Tcp {
    local: SocketAddr,
    remote: SocketAddr,
    next: u64,
    acked: u64,                                // all before it arrived
    in_flight: BTreeMap<u64, (Instant, bool)>, // when sent, and whether again
    lost: BTreeSet<u64>,
    window: f64, // packets
    threshold: f64,
    largest: f64,           // window before the last loss
    epoch: Option<Instant>, // of the present growth
    recover: u64,           // losses before it are one with the last
    rtt: Option<Duration>,
    least_rtt: Duration,
    rto_at: Instant,
    backoff: u32,
}

impl Tcp {
    /// A flow that begins at `now`.
    pub fn new(now: Instant, local: SocketAddr, remote: SocketAddr) -> Tcp {
        Tcp {
            local,
            remote,
            next: 0,
            acked: 0,
            in_flight: BTreeMap::new(),
            lost: BTreeSet::new(),
            window: START,
            threshold: f64::INFINITY,
            largest: 0.0,
            epoch: None,
            recover: 0,
            rtt: None,
            least_rtt: Duration::MAX,
            rto_at: now + Duration::from_secs(1),
            backoff: 0,
        }
    }

    /// Packets that arrived.
    pub fn delivered(&self) -> u64 {
        self.acked
    }

    fn on_ack(&mut self, now: Instant, all_before: u64, number: u64) {
        let before = self.in_flight.len();
        let latest = self.in_flight.get(&number).copied();
        self.in_flight.remove(&number);
        self.in_flight = self.in_flight.split_off(&all_before);
        self.lost.remove(&number);
        self.lost = self.lost.split_off(&all_before);
        self.acked = self.acked.max(all_before);
        let Some((sent, again)) = latest else { return };
        let rtt = now - sent;
        if !again {
            self.rtt = Some(self.rtt.map_or(rtt, |smooth| (smooth * 7 + rtt) / 8));
            self.least_rtt = self.least_rtt.min(rtt);
            if self.window < self.threshold
                && rtt > self.least_rtt + (self.least_rtt / 8).max(Duration::from_millis(4))
            {
                self.threshold = self.window;
            }
        }
        self.backoff = 0;
        self.rto_at = now + self.rto();

        // Lost is what was sent clearly before something that has arrived.
        let patience = self.rtt.unwrap_or(rtt) / 4;
        let overdue = |at: Instant| at + patience < sent;
        let lost: Vec<u64> =
            self.in_flight.iter().filter(|(_, (at, _))| overdue(*at)).map(|(number, _)| *number).collect();
        for number in &lost {
            self.in_flight.remove(number);
            self.lost.insert(*number);
        }
        if lost.iter().any(|number| *number >= self.recover) {
            self.recover = self.next;
            self.epoch = None;
            let converge = if self.window < self.largest { f64::midpoint(1.0, BETA) } else { 1.0 };
            self.largest = self.window * converge;
            self.window = (self.window * BETA).max(2.0);
            self.threshold = self.window;
        } else if self.acked >= self.recover {
            let arrived = before.saturating_sub(self.in_flight.len()) as f64;
            self.grow(now, arrived);
        }
    }

    fn grow(&mut self, now: Instant, arrived: f64) {
        if self.window < self.threshold {
            self.window += arrived;
            return;
        }
        let since = now - *self.epoch.get_or_insert(now);
        let rtt = self.rtt.unwrap_or_default();
        let turn = ((self.largest - self.threshold).max(0.0) / CUBIC).cbrt();
        let time = since.as_secs_f64();
        let cubic = CUBIC * ((time + rtt.as_secs_f64()) - turn).powi(3) + self.largest.max(self.threshold);
        // What Reno would have by now (RFC 9438 §4.3).
        let rounds = time / rtt.as_secs_f64().max(0.001);
        let reno = self.threshold + 3.0 * (1.0 - BETA) / (1.0 + BETA) * rounds;
        let wanted = cubic.max(reno).clamp(self.window, self.window * 1.5);
        self.window += (wanted - self.window) / self.window * arrived;
    }

    fn rto(&self) -> Duration {
        self.rtt.map_or(Duration::from_secs(1), |rtt| (rtt * 2).max(LEAST_RTO))
            * 2_u32.pow(self.backoff.min(6))
    }
}

impl Node for Tcp {
    fn handle_datagram(&mut self, now: Instant, _: SocketAddr, _: SocketAddr, data: &mut [u8]) {
        let number = |at: usize| u64::from_be_bytes(*data[at..].first_chunk().expect("a sink wrote it"));
        self.on_ack(now, number(0), number(8));
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.rto_at <= now {
            self.backoff += 1;
            self.rto_at = now + self.rto();
            self.lost.extend(std::mem::take(&mut self.in_flight).into_keys());
            (self.largest, self.threshold) = (self.window, (self.window * BETA).max(2.0));
            (self.window, self.epoch, self.recover) = (1.0, None, self.next);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        Some(self.rto_at)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.in_flight.len() >= self.window as usize {
            return None;
        }
        let again = self.lost.pop_first();
        let number = again.unwrap_or(self.next);
        self.next = self.next.max(number + 1);
        self.in_flight.insert(number, (now, again.is_some()));
        let mut data = vec![0; FULL];
        data[..8].copy_from_slice(&number.to_be_bytes());
        Some(Transmit { source: self.local, destination: self.remote, data })
    }
}

/// The other end.
#[derive(Debug)]
pub struct Sink {
    local: SocketAddr,
    remote: SocketAddr,
    expected: u64,
    early: BTreeSet<u64>,
    /// The last packet, how many are not acknowledged, and until when that may stay so.
    waiting: Option<(u64, u32, Instant)>,
}

impl Sink {
    /// Where one flow ends.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Sink {
        Sink { local, remote, expected: 0, early: BTreeSet::new(), waiting: None }
    }
}

impl Node for Sink {
    fn handle_datagram(&mut self, now: Instant, _: SocketAddr, _: SocketAddr, data: &mut [u8]) {
        let number = u64::from_be_bytes(*data.first_chunk().expect("a sender wrote it"));
        let in_order = number == self.expected && self.early.is_empty();
        self.early.insert(number);
        while self.early.remove(&self.expected) {
            self.expected += 1;
        }
        self.early = self.early.split_off(&self.expected);
        let (_, count, until) = self.waiting.unwrap_or((number, 0, now + DELAYED_ACK));
        let until = if in_order && count == 0 { until } else { now };
        self.waiting = Some((number, count + 1, until));
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn next_timeout(&self) -> Option<Instant> {
        self.waiting.map(|(.., until)| until)
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let (number, ..) = self.waiting.take_if(|(.., until)| *until <= now)?;
        let mut data = vec![0; ACK];
        data[..8].copy_from_slice(&self.expected.to_be_bytes());
        data[8..16].copy_from_slice(&number.to_be_bytes());
        Some(Transmit { source: self.local, destination: self.remote, data })
    }
}

#[cfg(test)]
mod tests {
    use sfu::units::Bitrate;

    use super::*;
    use crate::link::{LinkConfig, Loss};
    use crate::net::{Net, NodeId};

    /// Goodput in Mbit/s of each of some flows that share a path of 3 Mbit/s, 40 ms, over a minute.
    fn goodput(flows: u8, queue_time: Duration, loss: f64) -> Vec<f64> {
        let mut net = Net::new(1);
        let now = net.now();
        let ends: Vec<(NodeId, NodeId)> = (0..flows)
            .map(|flow| {
                let address = |net| SocketAddr::from(([10, 0, net, flow], 1));
                let (source, sink) = (address(1), address(2));
                (net.add(&[source], Tcp::new(now, source, sink)), net.add(&[sink], Sink::new(sink, source)))
            })
            .collect();
        let path =
            LinkConfig { queue_time, loss: Loss::Random(loss), ..LinkConfig::narrow(Bitrate::kbps(3000)) };
        for pair in &ends[1..] {
            net.share_path(*pair, ends[0]);
        }
        net.set_link(ends[0].0, ends[0].1, path);
        net.set_link(ends[0].1, ends[0].0, LinkConfig { delay: path.delay, ..LinkConfig::fiber() });
        net.run_for(Duration::from_mins(1));
        ends.iter().map(|(tcp, _)| net.node::<Tcp>(*tcp).delivered() as f64 * 1448.0 * 8.0 / 60e6).collect()
    }

    #[test]
    fn one_flow_fills_the_path() {
        for queue in [50, 100, 300] {
            let rate = goodput(1, Duration::from_millis(queue), 0.0)[0];
            assert!((2.6..2.9).contains(&rate), "{rate} Mbit/s with {queue} ms");
        }
    }

    #[test]
    fn two_flows_share_it() {
        let rates = goodput(2, Duration::from_millis(100), 0.0);
        assert!(rates.iter().sum::<f64>() > 2.5 && rates.iter().all(|rate| *rate > 0.8), "{rates:?}");
    }

    #[test]
    fn loss_slows_it_down() {
        let rate = goodput(1, Duration::from_millis(100), 0.05)[0];
        assert!((0.2..2.0).contains(&rate), "{rate} Mbit/s");
    }
}
