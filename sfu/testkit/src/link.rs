//! One direction of a network path: a rate with a queue in front of it, then distance.
//!
//! A packet meets, in this order: the drop-tail queue, the rate (a token bucket), loss, delay with jitter,
//! duplication. The order is that of an access link followed by a radio.
//! Always: the same seed and the same calls give the same deliveries; without reordering packets arrive in
//! the order they were sent.

mod parity;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use sfu::units::{Bitrate, DataSize};

use self::parity::Protection;
pub use self::parity::{Parity, Protected};

/// Packets that are lost after the queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// None.
    Never,
    /// Each on its own, with this probability.
    Random(f64),
    /// Gilbert-Elliott: bursts of `burst` packets on average, in which all are lost; `ratio` of all packets.
    Bursts {
        /// Share of packets lost in the long run, below 1.
        ratio: f64,
        /// Mean length of a burst in packets, at least 1.
        burst: f64,
    },
}

/// Variation of the delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Jitter {
    /// None.
    None,
    /// The delay wanders between zero and this much more, and never lets a packet overtake another.
    InOrder(Duration),
    /// A packet is held back on its own, by up to `most`, with probability `share`; others overtake it.
    Reorder {
        /// Share of packets held back.
        share: f64,
        /// Longest time.
        most: Duration,
    },
    /// Both: what is not held back keeps its order.
    Mixed {
        /// The delay wanders between zero and this much more.
        wander: Duration,
        /// Share of packets held back on top of that.
        share: f64,
        /// Longest time that they are.
        most: Duration,
    },
}

/// What a link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// `None`: no limit, and no queue.
    pub rate: Option<Bitrate>,
    /// Bytes that may pass at once after idleness, as a token bucket (`tbf`) lets them.
    pub bucket: DataSize,
    /// The queue drops what would wait longer than this…
    pub queue_time: Duration,
    /// …or would make it larger than this.
    pub queue_size: DataSize,
    /// One-way delay.
    pub delay: Duration,
    /// On top of it.
    pub jitter: Jitter,
    /// Loss behind the queue.
    pub loss: Loss,
    /// Probability that a packet arrives twice, at once.
    pub duplicate: f64,
    /// What brings lost packets back without being asked.
    pub parity: Option<Parity>,
}

impl LinkConfig {
    /// No limits, 1 ms.
    pub fn fiber() -> LinkConfig {
        LinkConfig {
            rate: None,
            bucket: DataSize::ZERO,
            queue_time: Duration::from_millis(200),
            queue_size: DataSize::bytes(1 << 20),
            delay: Duration::from_millis(1),
            jitter: Jitter::None,
            loss: Loss::Never,
            duplicate: 0.0,
            parity: None,
        }
    }

    /// Limited to `rate`, with 200 ms of queue and a one-way delay of 25 ms.
    pub fn narrow(rate: Bitrate) -> LinkConfig {
        LinkConfig { rate: Some(rate), delay: Duration::from_millis(25), ..LinkConfig::fiber() }
    }
}

/// What became of the packets of one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Given to `send`.
    pub sent: u64,
    /// Bytes given to `send`.
    pub sent_bytes: u64,
    /// Dropped because the queue was full.
    pub queue_drops: u64,
    /// Lost behind it, parity included.
    pub lost: u64,
    /// Of them, those that parity brought back.
    pub recovered: u64,
    /// Handed out, duplicates included.
    pub delivered: u64,
    /// Bytes handed out.
    pub delivered_bytes: u64,
    /// Longest time a packet spent in the queue.
    pub longest_wait: Duration,
}

#[derive(Debug)]
struct InFlight<P> {
    at: Instant,
    order: u64,
    size: DataSize,
    payload: P,
}

impl<P> PartialEq for InFlight<P> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<P> Eq for InFlight<P> {}
impl<P> PartialOrd for InFlight<P> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<P> Ord for InFlight<P> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Debug)]
struct Waiting<P> {
    since: Instant,
    size: DataSize,
    cargo: Cargo<P>,
}

#[derive(Debug)]
enum Cargo<P> {
    Packet(P),
    Protected(P),
    Parity,
}

/// One direction of a path, carrying packets of type `P`.
#[derive(Debug)]
pub struct Link<P> {
    config: LinkConfig,
    rng: fastrand::Rng,
    queue: VecDeque<Waiting<P>>,
    queued: DataSize,
    tokens: f64, // bytes
    updated: Instant,
    air: BinaryHeap<Reverse<InFlight<P>>>,
    order: u64,
    last_arrival: Option<Instant>,
    in_burst: bool,
    wander: (Instant, f64, Instant, f64), // jitter moves on a line from the first point to the second
    protection: Protection<P>,
    stats: LinkStats,
    waits: VecDeque<(Instant, Duration)>,
}

impl<P: Clone> Link<P> {
    /// An idle link.
    pub fn new(now: Instant, config: LinkConfig, seed: u64) -> Link<P> {
        Link {
            config,
            rng: fastrand::Rng::with_seed(seed),
            queue: VecDeque::new(),
            queued: DataSize::ZERO,
            tokens: config.bucket.as_bytes() as f64,
            updated: now,
            air: BinaryHeap::new(),
            order: 0,
            last_arrival: None,
            in_burst: false,
            wander: (now, 0.0, now, 0.0),
            protection: Protection::default(),
            stats: LinkStats::default(),
            waits: VecDeque::new(),
        }
    }

    /// What it is like now.
    pub fn config(&self) -> LinkConfig {
        self.config
    }

    /// Changes it from `now` on; what is queued leaves at the new rate.
    pub fn reconfigure(&mut self, now: Instant, config: LinkConfig) {
        self.advance(now);
        self.config = config;
        self.tokens = self.tokens.min(config.bucket.as_bytes() as f64);
    }

    /// Changes the rate alone.
    pub fn set_rate(&mut self, now: Instant, rate: Option<Bitrate>) {
        self.reconfigure(now, LinkConfig { rate, ..self.config });
    }

    /// A packet enters.
    pub fn send(&mut self, now: Instant, size: DataSize, payload: P) {
        self.enter(now, size, Cargo::Packet(payload));
    }

    /// The same for one that [`Parity`] is for.
    pub fn send_protected(&mut self, now: Instant, size: DataSize, payload: P) {
        let Some(parity) = self.config.parity else {
            self.send(now, size, payload);
            return;
        };
        self.enter(now, size, Cargo::Protected(payload));
        let (count, size) = self.protection.enter(parity, size).unwrap_or_default();
        for _ in 0..count {
            self.enter(now, size, Cargo::Parity);
        }
    }

    fn enter(&mut self, now: Instant, size: DataSize, cargo: Cargo<P>) {
        self.advance(now);
        self.stats.sent += 1;
        self.stats.sent_bytes += size.as_bytes();
        let Some(rate) = self.config.rate else {
            self.leave(now, Waiting { since: now, size, cargo });
            return;
        };
        let wait = rate.time_for(self.queued).unwrap_or(Duration::MAX);
        if wait > self.config.queue_time || self.queued + size > self.config.queue_size {
            self.stats.queue_drops += 1;
            return;
        }
        self.queued += size;
        self.queue.push_back(Waiting { since: now, size, cargo });
        self.advance(now);
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<P> {
        self.advance(now);
        if self.air.peek().is_none_or(|Reverse(first)| first.at > now) {
            return None;
        }
        let Reverse(first) = self.air.pop()?;
        self.stats.delivered += 1;
        self.stats.delivered_bytes += first.size.as_bytes();
        Some(first.payload)
    }

    /// When something leaves the queue or arrives.
    pub fn next_timeout(&self) -> Option<Instant> {
        let arrival = self.air.peek().map(|Reverse(first)| first.at);
        let departure = self.queue.front().and_then(|head| {
            let missing = (head.size.as_bytes() as f64 - self.tokens).max(0.0);
            let rate = self.config.rate?.as_bps() as f64;
            (rate > 0.0).then(|| self.updated + Duration::from_secs_f64(missing * 8.0 / rate) + NANO)
        });
        [arrival, departure].into_iter().flatten().min()
    }

    /// How long a packet that enters now would wait.
    pub fn queue_delay(&self) -> Duration {
        self.config.rate.and_then(|rate| rate.time_for(self.queued)).unwrap_or(Duration::ZERO)
    }

    /// What happened so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    /// 95th percentile of the time in the queue, over the packets that left since `since` (of the last
    /// 100 000).
    pub fn wait_p95(&self, since: Instant) -> Duration {
        let mut waits: Vec<Duration> =
            self.waits.iter().filter(|&&(at, _)| at >= since).map(|&(_, wait)| wait).collect();
        waits.sort_unstable();
        waits.get(waits.len() * 95 / 100).copied().unwrap_or(Duration::ZERO)
    }

    fn advance(&mut self, now: Instant) {
        let Some(rate) = self.config.rate.map(|rate| rate.as_bps() as f64 / 8.0) else {
            while let Some(head) = self.queue.pop_front() {
                self.queued = self.queued - head.size;
                self.leave(now, head);
            }
            self.updated = now;
            return;
        };
        let bucket = self.config.bucket.as_bytes() as f64;
        while let Some(head) = self.queue.front() {
            let size = head.size.as_bytes() as f64;
            let start = self.updated.max(head.since);
            if start > self.updated {
                let idle = (start - self.updated).as_secs_f64();
                self.tokens = (self.tokens + idle * rate).min(bucket);
                self.updated = start;
            }
            let earned = now.saturating_duration_since(start).as_secs_f64() * rate;
            if self.tokens + earned + 1e-6 < size {
                self.tokens += earned;
                self.updated = self.updated.max(now);
                return;
            }
            let time = Duration::from_secs_f64(((size - self.tokens) / rate).max(0.0));
            self.tokens = (self.tokens + time.as_secs_f64() * rate - size).max(0.0);
            self.updated = start + time;
            let head = self.queue.pop_front().expect("it was at the front");
            self.queued = self.queued - head.size;
            self.leave(self.updated, head);
        }
        let idle = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + idle * rate).min(bucket);
        self.updated = self.updated.max(now);
    }

    fn leave(&mut self, at: Instant, packet: Waiting<P>) {
        let wait = at.saturating_duration_since(packet.since);
        self.stats.longest_wait = self.stats.longest_wait.max(wait);
        if self.waits.len() == 100_000 {
            self.waits.pop_front();
        }
        self.waits.push_back((at, wait));
        let lost = self.loses();
        self.stats.lost += u64::from(lost);
        let payload = match packet.cargo {
            Cargo::Parity => {
                self.leave_parity((!lost).then_some(at + self.config.delay));
                return;
            }
            Cargo::Protected(payload) if lost => {
                self.protection.lose(packet.size, payload);
                return;
            }
            Cargo::Packet(_) if lost => return,
            Cargo::Packet(payload) | Cargo::Protected(payload) => payload,
        };
        let mut arrival = at + self.config.delay;
        let (wander, share, most) = match self.config.jitter {
            Jitter::None => (Duration::ZERO, 0.0, Duration::ZERO),
            Jitter::InOrder(wander) => (wander, 0.0, Duration::ZERO),
            Jitter::Reorder { share, most } => (Duration::ZERO, share, most),
            Jitter::Mixed { wander, share, most } => (wander, share, most),
        };
        if wander > Duration::ZERO {
            arrival += wander.mul_f64(self.wandering(at));
        }
        if share == 0.0 || self.rng.f64() >= share {
            arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
            self.last_arrival = Some(arrival);
        } else {
            arrival += most.mul_f64(self.rng.f64());
        }
        if self.rng.f64() < self.config.duplicate {
            self.fly(arrival, packet.size, payload.clone());
        }
        self.fly(arrival, packet.size, payload);
    }

    fn leave_parity(&mut self, arrival: Option<Instant>) {
        let Some(parity) = self.config.parity else { return };
        for (arrival, size, payload) in self.protection.leave(parity, arrival) {
            self.stats.recovered += 1;
            self.fly(arrival, size, payload);
        }
    }

    fn fly(&mut self, at: Instant, size: DataSize, payload: P) {
        self.order += 1;
        self.air.push(Reverse(InFlight { at, order: self.order, size, payload }));
    }

    fn loses(&mut self) -> bool {
        match self.config.loss {
            Loss::Never => false,
            Loss::Random(ratio) => self.rng.f64() < ratio,
            Loss::Bursts { ratio, burst } => {
                let leave = 1.0 / burst.max(1.0);
                let enter = leave * ratio / (1.0 - ratio).max(1e-3);
                let change = if self.in_burst { leave } else { enter };
                if self.rng.f64() < change {
                    self.in_burst = !self.in_burst;
                }
                self.in_burst
            }
        }
    }

    /// 0 to 1, moving to a new random value within 20 to 120 ms each.
    fn wandering(&mut self, at: Instant) -> f64 {
        let (mut from, mut low, mut to, mut high) = self.wander;
        while at >= to {
            (from, low) = (to, high);
            to += Duration::from_millis(self.rng.u64(20..=120));
            high = self.rng.f64();
        }
        self.wander = (from, low, to, high);
        let part = at.saturating_duration_since(from).as_secs_f64() / (to - from).as_secs_f64();
        low + (high - low) * part
    }
}

/// Departure times are rounded up, so that a wake-up is never too early.
const NANO: Duration = Duration::from_nanos(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        crate::clock::start()
    }

    fn drain(link: &mut Link<u32>, until: Instant) -> Vec<(Instant, u32)> {
        let mut seen = Vec::new();
        while let Some(at) = link.next_timeout().filter(|&at| at <= until) {
            while let Some(packet) = link.poll(at) {
                seen.push((at, packet));
            }
        }
        seen
    }

    #[test]
    fn the_rate_spaces_packets_and_the_queue_drops_the_rest() {
        let t0 = start();
        let config =
            LinkConfig { queue_time: Duration::from_millis(100), ..LinkConfig::narrow(Bitrate::kbps(1000)) };
        let mut link = Link::new(t0, config, 1);
        for i in 0..100 {
            link.send(t0, DataSize::bytes(1250), i); // 10 ms each
        }
        let seen = drain(&mut link, t0 + Duration::from_secs(2));
        assert_eq!(seen.len(), 11, "100 ms of queue behind the one that is served");
        for pair in seen.windows(2) {
            let gap = pair[1].0 - pair[0].0;
            assert!(gap.abs_diff(Duration::from_millis(10)) < Duration::from_micros(2), "{gap:?}");
        }
        assert_eq!(link.stats().queue_drops, 89);
    }

    #[test]
    fn a_new_rate_holds_for_what_is_queued() {
        let t0 = start();
        let mut link = Link::new(t0, LinkConfig::narrow(Bitrate::kbps(1000)), 1);
        for i in 0..10 {
            link.send(t0, DataSize::bytes(1250), i);
        }
        link.set_rate(t0 + Duration::from_millis(50), Some(Bitrate::kbps(100)));
        let seen = drain(&mut link, t0 + Duration::from_secs(5));
        let last = seen.last().expect("all arrive").0 - t0;
        assert!(last > Duration::from_millis(560) && last < Duration::from_millis(580), "{last:?}");
    }

    #[test]
    fn a_bucket_lets_a_burst_pass_after_idleness() {
        let t0 = start();
        let config = LinkConfig { bucket: DataSize::bytes(5000), ..LinkConfig::narrow(Bitrate::kbps(100)) };
        let mut link = Link::new(t0, config, 1);
        for i in 0..4 {
            link.send(t0, DataSize::bytes(1250), i);
        }
        let seen = drain(&mut link, t0 + Duration::from_millis(30));
        assert_eq!(seen.len(), 4, "within the delay of 25 ms");
    }

    #[test]
    fn losses_have_the_ratio_and_burst_length_asked_for() {
        for (loss, expected_runs) in
            [(Loss::Random(0.1), 1.1), (Loss::Bursts { ratio: 0.1, burst: 4.0 }, 4.0)]
        {
            let t0 = start();
            let mut link = Link::new(t0, LinkConfig { loss, ..LinkConfig::fiber() }, 7);
            for i in 0..20_000 {
                link.send(t0, DataSize::bytes(100), i);
            }
            let seen = drain(&mut link, t0 + Duration::from_secs(1));
            let lost = 20_000 - seen.len();
            assert!((1600..2400).contains(&lost), "{loss:?}: {lost}");
            let runs = seen.windows(2).filter(|pair| pair[1].1 != pair[0].1 + 1).count();
            let mean = lost as f64 / runs as f64;
            assert!((mean - expected_runs).abs() < 0.5, "{loss:?}: {mean}");
        }
    }

    #[test]
    fn parity_brings_back_as_much_as_there_is_of_it() {
        let t0 = start();
        let large = DataSize::bytes(1000);
        let run = |count: u32| {
            let parity = Parity { packets: 10, parity: count, of: Protected::Large(500) };
            let loss = Loss::Random(0.1);
            let mut link = Link::new(t0, LinkConfig { loss, parity: Some(parity), ..LinkConfig::fiber() }, 5);
            for i in 0..10_000 {
                link.send_protected(t0 + Duration::from_millis(1) * i, large, i);
                link.send(t0 + Duration::from_millis(1) * i, DataSize::bytes(100), 10_000 + i);
            }
            let seen = drain(&mut link, t0 + Duration::from_secs(20));
            let missing = |kind: fn(&u32) -> bool| 10_000 - seen.iter().filter(|(_, i)| kind(i)).count();
            let stats = link.stats();
            assert_eq!(stats.sent_bytes, 10_000 * 1100 + u64::from(count) * 1000 * 1000);
            assert!((900..1100).contains(&missing(|i| *i >= 10_000)), "what is small is not protected");
            missing(|i| *i < 10_000)
        };
        // Of ten packets more than one is lost in 26 % of cases, and parity is lost too.
        assert!((500..700).contains(&run(1)), "{}", run(1));
        assert!(run(4) < 60, "{}", run(4));
    }

    #[test]
    fn jitter_keeps_order_unless_told_otherwise() {
        let t0 = start();
        let in_order = Jitter::InOrder(Duration::from_millis(60));
        let reorder = Jitter::Reorder { share: 0.03, most: Duration::from_millis(30) };
        for (jitter, swaps) in [(in_order, 0..=0), (reorder, 10..=60)] {
            let mut link = Link::new(t0, LinkConfig { jitter, duplicate: 0.01, ..LinkConfig::fiber() }, 3);
            let mut seen = Vec::new();
            for i in 0..1000 {
                let at = t0 + Duration::from_millis(5) * i;
                link.send(at, DataSize::bytes(100), i);
            }
            seen.extend(drain(&mut link, t0 + Duration::from_secs(10)).into_iter().map(|(_, i)| i));
            let back = seen.windows(2).filter(|pair| pair[1] < pair[0]).count();
            assert!(seen.len() > 1000, "some arrive twice");
            assert!(swaps.contains(&back), "{jitter:?}: {back}");
        }
    }
}
