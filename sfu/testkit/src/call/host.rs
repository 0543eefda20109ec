//! A machine that is busy with other things: what it reads and what it writes waits while it does not run.
//!
//! Always: nothing is lost or reordered by it; what waited is handled together, in the order it came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::net::{Node, Transmit};

/// What a busy machine does to others now and then: a scheduler's round, and some.
pub(super) const LONGEST_STALL: Duration = Duration::from_millis(80);

/// When a machine does not run.
#[derive(Clone, Debug, Default)]
pub struct Stalls(Vec<(Instant, Instant)>); // from, to; ascending, apart

impl Stalls {
    /// Runs for 5 to 60 ms, then not for up to 30 ms, and once in fifty times not for 80 ms; for `length` from `start`.
    pub fn busy(start: Instant, length: Duration, seed: u64) -> Stalls {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut stalls = Vec::new();
        let mut at = start;
        while at < start + length {
            at += Duration::from_micros(rng.u64(5_000..60_000));
            let usual = Duration::from_micros(rng.u64(..30_000));
            let end = at + if rng.u8(..50) == 0 { LONGEST_STALL } else { usual };
            stalls.push((at, end));
            at = end;
        }
        Stalls(stalls)
    }

    /// When what happens at `at` is noticed.
    fn end(&self, at: Instant) -> Instant {
        let next = self.0.partition_point(|(_, to)| *to <= at);
        self.0.get(next).filter(|(from, _)| *from <= at).map_or(at, |(_, to)| *to)
    }
}

/// A node on such a machine. It can stall between its reading of the clock and its sending, so the two differ.
pub struct Host<N> {
    node: N,
    reading: Stalls,
    writing: Stalls,
    inbox: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    outbox: VecDeque<(Instant, Transmit)>,
    asleep_until: Option<Instant>,
}

impl<N: Node> Host<N> {
    /// A machine that always runs.
    pub fn idle(node: N) -> Host<N> {
        Host::new(node, Stalls::default(), Stalls::default())
    }

    /// A machine that stalls.
    pub fn new(node: N, reading: Stalls, writing: Stalls) -> Host<N> {
        Host { node, reading, writing, inbox: VecDeque::new(), outbox: VecDeque::new(), asleep_until: None }
    }

    /// What runs on it.
    pub fn node(&self) -> &N {
        &self.node
    }

    /// The same, for commands.
    pub fn node_mut(&mut self) -> &mut N {
        &mut self.node
    }
}

impl<N: Node> Node for Host<N> {
    fn handle_datagram(&mut self, now: Instant, source: SocketAddr, local: SocketAddr, data: &mut [u8]) {
        let at = self.reading.end(now);
        if at <= now && self.inbox.is_empty() {
            self.node.handle_datagram(now, source, local, data);
        } else {
            self.inbox.push_back((at, source, local, data.to_vec()));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while self.inbox.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, source, local, mut data) = self.inbox.pop_front().expect("it was at the front");
            self.node.handle_datagram(now, source, local, &mut data);
        }
        let awake = self.reading.end(now);
        self.asleep_until = (awake > now).then_some(awake);
        if awake <= now && self.node.next_timeout().is_some_and(|at| at <= now) {
            self.node.handle_timeout(now);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let own =
            self.node.next_timeout().map(|at| self.reading.end(at).max(self.asleep_until.unwrap_or(at)));
        let read = self.inbox.front().map(|(at, ..)| *at);
        let write = self.outbox.front().map(|(at, _)| *at);
        [own, read, write].into_iter().flatten().min()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        while let Some(transmit) = self.node.poll_transmit(now) {
            self.outbox.push_back((self.writing.end(now), transmit));
        }
        self.outbox.front().filter(|(at, _)| *at <= now)?;
        self.outbox.pop_front().map(|(_, transmit)| transmit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_in_a_stall_is_noticed_at_its_end() {
        let start = crate::clock::start();
        let ms = |ms| start + Duration::from_millis(ms);
        let stalls = Stalls(vec![(ms(10), ms(20)), (ms(30), ms(110))]);
        let noticed: Vec<Instant> = [9, 10, 19, 20, 50, 110].map(|at| stalls.end(ms(at))).to_vec();
        assert_eq!(noticed, [9, 20, 20, 20, 110, 110].map(ms));
    }

    #[test]
    fn a_busy_machine_runs_for_about_two_thirds_of_the_time() {
        let start = crate::clock::start();
        let stalls = Stalls::busy(start, Duration::from_mins(1), 1);
        let idle: Duration = stalls.0.iter().map(|(from, to)| *to - *from).sum();
        assert!((15..30).contains(&idle.as_secs()), "{idle:?}");
    }
}
