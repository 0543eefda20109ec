use super::*;
use crate::congestion::PacketClass;
use crate::congestion::probe::ClusterId;
use crate::ids::SeqNo;
use crate::units::DataSize;
use sfu_testkit::clock;

/// Sends a packet every `gap` ms; `delay(i)` is its delay in ms.
struct Path {
    detector: DelayDetector,
    sent: Duration,
    number: u64,
}

impl Path {
    fn new() -> Path {
        Path { detector: DelayDetector::new(clock::start()), sent: Duration::ZERO, number: 0 }
    }

    fn packet(&mut self, delay: f64, cluster: Option<ClusterId>) -> Acked {
        self.number += 1;
        let arrival = self.sent.as_micros() as i64 + (delay * 1000.0) as i64 + 77_000_000;
        Acked {
            number: SeqNo::first(1).plus(self.number),
            sent: clock::start() + self.sent,
            arrival: Some(Arrival::micros(arrival)),
            late: false,
            size: DataSize::bytes(1000),
            class: PacketClass::Video,
            cluster,
        }
    }

    fn run(&mut self, packets: usize, gap: u64, mut delay: impl FnMut(usize) -> f64) -> Vec<Queue> {
        let mut states = Vec::new();
        for i in 0..packets {
            self.sent += Duration::from_millis(gap);
            let acked = self.packet(delay(i), None);
            self.detector.on_acked(&[acked]);
            states.push(self.detector.state());
        }
        states
    }
}

#[test]
fn a_growing_queue_is_seen_within_half_a_second() {
    let mut path = Path::new();
    path.run(100, 10, |_| 30.0);
    let states = path.run(50, 10, |i| 30.0 + i as f64 * 2.0);
    let first = states.iter().position(|&state| state == Queue::Rising);
    assert!(first.is_some_and(|first| first < 50), "{first:?}");
    assert!(path.detector.envelope() >= RISING);
}

const RISING: Duration = Duration::from_millis(15);

#[test]
fn a_queue_that_stays_stands_and_one_that_goes_does_not() {
    let mut path = Path::new();
    path.run(200, 10, |_| 30.0);
    path.run(30, 10, |i| 30.0 + i as f64 * 3.0);
    let states = path.run(150, 10, |_| 120.0);
    assert_eq!(states.last(), Some(&Queue::Standing));
    assert!(path.detector.envelope().abs_diff(Duration::from_millis(90)) < Duration::from_millis(2));
    let states = path.run(300, 10, |_| 30.0);
    assert!(states.contains(&Queue::Draining));
    assert_eq!(states.last(), Some(&Queue::Normal));
}

/// What climbs within half a second and falls at once, again and again, is how the path swings; a queue beyond that is seen.
#[test]
fn a_path_that_swings_is_no_queue_and_what_exceeds_its_swing_is() {
    let mut path = Path::new();
    let swing = |i: usize| 30.0 + (i % 50) as f64 * 1.1;
    path.run(500, 10, swing);
    let states = path.run(1000, 10, swing);
    assert!(!states.contains(&Queue::Rising), "{:?}", path.detector.swing);
    assert!(!path.detector.all_late());
    assert_eq!(path.detector.standing(), Duration::ZERO);
    path.run(49, 10, |_| 85.0);
    assert!(!path.detector.all_late(), "as late as it is wont to be");
    path.run(10, 10, |i| 110.0 + i as f64);
    assert!(path.detector.all_late());
}

#[test]
fn delays_that_end_because_we_send_less_are_no_swing() {
    let mut path = Path::new();
    for _ in 0..20 {
        path.run(50, 10, |_| 30.0);
        path.run(20, 10, |i| 30.0 + i as f64 * 3.0);
        path.detector.on_cut();
    }
    assert_eq!(path.detector.swing, 0);
    path.run(50, 10, |_| 30.0);
    path.run(5, 10, |_| 85.0);
    assert!(path.detector.all_late(), "a cliff as on the first day");
}

#[test]
fn runs_of_alternating_length_are_no_queue() {
    // 1 Mbit/s: 8 packets of 1200 bytes take 77 ms; the fastest of a run meets an empty link.
    let mut path = Path::new();
    for run in 0..3000 {
        path.sent += Duration::from_millis(100);
        let packets = if run % 2 == 0 { 1 } else { 8 };
        let acked: Vec<Acked> = (0..packets).map(|i| path.packet(30.0 + 9.6 * f64::from(i), None)).collect();
        path.detector.on_acked(&acked);
        assert!(!matches!(path.detector.state(), Queue::Rising | Queue::Standing), "run {run}");
    }
}

#[test]
fn jitter_moves_no_envelope() {
    let mut path = Path::new();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut previous = 0.0_f64;
    let states = path.run(10_000, 10, |_| {
        previous = (previous - 10.0).max(rng.f64() * 60.0); // in order: no packet overtakes
        30.0 + previous
    });
    let rising = states.iter().filter(|&&state| state == Queue::Rising).count();
    assert!(rising <= 20, "{rising} of 10 000 groups"); // 100 s
    assert!(!states.contains(&Queue::Standing));
}

#[test]
fn probe_clusters_and_their_wake_give_no_sample() {
    let mut path = Path::new();
    path.run(100, 10, |_| 30.0);
    let tag = ClusterId { number: 1, kind: ProbeKind::Cluster };
    for i in 0..8 {
        path.sent += Duration::from_millis(2);
        let acked = path.packet(30.0 + f64::from(i) * 20.0, Some(tag));
        path.detector.on_acked(&[acked]);
    }
    for i in 0..3 {
        path.sent += Duration::from_millis(10);
        let acked = path.packet(150.0 - f64::from(i) * 40.0, None);
        path.detector.on_acked(&[acked]);
    }
    let states = path.run(50, 10, |_| 30.0);
    assert!(states.iter().all(|&state| state == Queue::Normal), "{states:?}");
    assert!(path.detector.jitter() < Duration::from_millis(1));
}

#[test]
fn a_new_clock_starts_over_and_a_new_route_can_be_accepted() {
    let mut path = Path::new();
    path.run(100, 10, |_| 30.0);
    let states = path.run(100, 10, |_| 5030.0);
    assert!(states.iter().all(|&state| state == Queue::Normal));
    assert_eq!(path.detector.envelope(), Duration::ZERO);
    path.run(200, 10, |_| 5110.0);
    assert_eq!(path.detector.state(), Queue::Standing);
    path.detector.rebase();
    path.run(100, 10, |_| 5110.0);
    assert_eq!((path.detector.state(), path.detector.envelope()), (Queue::Normal, Duration::ZERO));
}

#[test]
fn clock_drift_ages_out_of_the_base() {
    let mut path = Path::new();
    // 100 ppm: 6 ms a minute.
    let states = path.run(60_000, 10, |i| 30.0 + i as f64 * 10.0 * 100e-6);
    assert!(!states.iter().any(|&state| matches!(state, Queue::Rising | Queue::Standing)));
    assert!(path.detector.envelope() < Duration::from_millis(5), "{:?}", path.detector.envelope());
}

#[test]
fn forged_arrivals_do_not_break_the_arithmetic() {
    let mut path = Path::new();
    for arrival in [i64::MIN, i64::MAX, 0, i64::MAX / 2, i64::MIN / 2] {
        for _ in 0..30 {
            path.sent += Duration::from_millis(10);
            let acked = Acked { arrival: Some(Arrival::micros(arrival)), ..path.packet(0.0, None) };
            path.detector.on_acked(&[acked]);
            let _ = (path.detector.envelope(), path.detector.latest(), path.detector.all_late());
        }
    }
}
