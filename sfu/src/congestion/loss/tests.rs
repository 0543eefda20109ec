use super::*;
use crate::congestion::PacketClass;
use crate::congestion::twcc::Arrival;
use crate::ids::SeqNo;
use sfu_testkit::clock;

/// A packet of so many bytes that was sent and reported.
fn packet(sent: Instant, bytes: u64, lost: bool) -> Acked {
    Acked {
        number: SeqNo::first(1),
        sent,
        arrival: (!lost).then_some(Arrival::micros(0)),
        late: false,
        size: DataSize::bytes(bytes),
        class: PacketClass::Video,
        cluster: None,
    }
}

/// 50 packets per 100 ms, lost with probability `loss(now)`; the verdicts that ask for something.
fn run(
    observer: &mut LossObserver,
    seconds: u64,
    envelope: Duration,
    seed: u64,
    mut loss: impl FnMut(bool) -> f64,
) -> Vec<LossVerdict> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut verdicts = Vec::new();
    for step in 0..seconds * 10 {
        let now = clock::start() + Duration::from_secs(1000) + Duration::from_millis(step * 100);
        let p = loss(observer.testing());
        let acked: Vec<Acked> = (0..50).map(|_| packet(now, 1000, rng.f64() < p)).collect();
        let verdict = observer.on_acked(now, &acked, envelope, Duration::from_millis(50), true);
        if verdict != LossVerdict::Fine {
            verdicts.push(verdict);
        }
    }
    verdicts
}

#[test]
fn small_random_loss_is_learnt_without_a_word() {
    for seed in 0..5 {
        let mut observer = LossObserver::new();
        let verdicts = run(&mut observer, 60, Duration::ZERO, seed, |_| 0.05);
        assert!(verdicts.is_empty(), "seed {seed}: {verdicts:?}");
        assert!((observer.inherent() - 0.05).abs() < 0.02, "seed {seed}: {}", observer.inherent());
    }
}

#[test]
fn much_random_loss_costs_one_test() {
    for seed in 0..5 {
        let mut observer = LossObserver::new();
        let verdicts = run(&mut observer, 30, Duration::ZERO, seed, |_| 0.20);
        assert_eq!(verdicts, [LossVerdict::TestBegins, LossVerdict::TestClearsRate], "seed {seed}");
        assert!((observer.inherent() - 0.20).abs() < 0.05, "seed {seed}: {}", observer.inherent());
    }
}

/// A burst that draws attention and is over when it is looked at is not worth a test.
#[test]
fn loss_that_is_gone_before_it_is_measured_begins_no_test() {
    for seed in 0..5 {
        let mut observer = LossObserver::new();
        let mut step = 0;
        let verdicts = run(&mut observer, 60, Duration::ZERO, seed, |_| {
            step += 1;
            if step % 100 < 9 { 0.15 } else { 0.02 }
        });
        assert!(verdicts.is_empty(), "seed {seed}: {verdicts:?}");
    }
}

/// A queue comes between attention and test: the mean counts each observation once, so 18 % stays 18 %, and is cleared.
#[test]
fn what_came_while_a_queue_stood_is_counted_once() {
    let mut observer = LossObserver::new();
    let standing = Duration::from_millis(50);
    let verdicts = run(&mut observer, 4, standing, 1, |_| 0.18);
    assert!(verdicts.iter().all(|verdict| *verdict == LossVerdict::Congestion), "{verdicts:?}");
    let verdicts = run(&mut observer, 8, Duration::from_millis(20), 2, |_| 0.18);
    assert_eq!(verdicts, [LossVerdict::TestBegins, LossVerdict::TestClearsRate]);
}

#[test]
fn loss_that_follows_the_rate_is_blamed_on_it() {
    let mut observer = LossObserver::new();
    let verdicts = run(&mut observer, 4, Duration::ZERO, 1, |testing| if testing { 0.01 } else { 0.15 });
    assert_eq!(verdicts[..2], [LossVerdict::TestBegins, LossVerdict::TestBlamesRate]);
    assert!(observer.inherent() < 0.05);
}

#[test]
fn loss_with_a_queue_is_congestion_and_teaches_nothing() {
    let mut observer = LossObserver::new();
    let verdicts = run(&mut observer, 5, Duration::from_millis(80), 1, |_| 0.08);
    assert!(verdicts.len() > 3 && verdicts.iter().all(|&v| v == LossVerdict::Congestion), "{verdicts:?}");
    assert!(observer.inherent() < 0.03);
}

#[test]
fn most_of_everything_lost_is_congestion_at_once() {
    let mut observer = LossObserver::new();
    let verdicts = run(&mut observer, 2, Duration::ZERO, 1, |_| 0.7);
    assert_eq!(verdicts[0], LossVerdict::Congestion);
}

/// One second each at these rates (kbit/s), of which this share is lost; the verdicts that ask for something.
fn step_through(steps: &[(u64, f64)]) -> Vec<LossVerdict> {
    let mut observer = LossObserver::new();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut verdicts = Vec::new();
    let tenths = steps.iter().flat_map(|step| std::iter::repeat_n(step, 10)).enumerate();
    for (tenth, &(kbps, loss)) in tenths {
        let now = clock::start() + Duration::from_millis(100) * tenth as u32;
        let acked: Vec<Acked> = (0..12).map(|_| packet(now, kbps * 100 / 8 / 12, rng.f64() < loss)).collect();
        verdicts.push(observer.on_acked(now, &acked, Duration::ZERO, Duration::from_millis(50), true));
    }
    verdicts.retain(|verdict| *verdict != LossVerdict::Fine);
    verdicts
}

#[test]
fn loss_that_came_with_a_higher_rate_needs_no_test() {
    assert_eq!(step_through(&[(650, 0.0), (650, 0.0), (1900, 0.45)]), [LossVerdict::CameWithRate]);
}

#[test]
fn loss_that_came_without_a_higher_rate_is_no_policers() {
    let same = step_through(&[(650, 0.0), (650, 0.0), (650, 0.3)]);
    assert!(!same.contains(&LossVerdict::CameWithRate), "{same:?}");
    let before = step_through(&[(650, 0.3), (650, 0.3), (1900, 0.3)]);
    assert!(!before.contains(&LossVerdict::CameWithRate), "{before:?}");
}
