use super::*;
use proptest::prelude::*;
use sfu_testkit::clock;

fn kbps(rate: u64) -> Bitrate {
    Bitrate::kbps(rate)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn estimator(target: u64) -> Estimator {
    Estimator::new(kbps(target), kbps(30), kbps(10_000))
}

/// A calm path on which everything that is sent arrives.
fn facts(delivered: u64, application_limited: bool) -> Facts {
    let measured = Some(Measured { delivered: kbps(delivered), sent: kbps(delivered) });
    Facts {
        queue: Queue::Normal,
        envelope: Duration::ZERO,
        latest_delay: Duration::ZERO,
        all_late: false,
        measured,
        missing: DataSize::ZERO,
        least: Bitrate::ZERO,
        short: measured,
        application_limited,
        padded: application_limited,
        sending: kbps(delivered),
        recent_max: kbps(delivered),
        loss: LossVerdict::Fine,
        loss_persists: false,
        fair: None,
        rtt: ms(60),
    }
}

#[test]
fn sending_little_neither_raises_nor_lowers() {
    let mut estimator = estimator(2000);
    for step in 0..1000 {
        estimator.update(clock::start() + ms(step * 50), facts(100, true));
    }
    assert_eq!((estimator.target(), estimator.cause()), (kbps(2000), Cause::Start));
}

#[test]
fn a_used_target_grows_by_eight_percent_a_second_within_its_bound() {
    let mut estimator = estimator(1000);
    for step in 0..=100 {
        estimator.update(clock::start() + ms(step * 50), facts(900, false));
    }
    let target = estimator.target().as_bps();
    assert!(target > 1_330_000, "{target}: five seconds would give 1469 without a bound");
    assert!(target <= 900_000 * 3 / 2 + 10_000, "{target}");
    assert_eq!(estimator.cause(), Cause::Growth);
}

#[test]
fn what_probes_add_raises_nothing_beyond_what_the_path_carried() {
    for (padded, grows) in [(true, false), (false, true)] {
        let mut estimator = estimator(600);
        let mut now = clock::start();
        estimator.update(now, Facts { queue: Queue::Rising, envelope: ms(40), ..facts(500, false) });
        for _ in 0..100 {
            now += ms(50);
            estimator.update(now, Facts { padded, ..facts(500, false) });
        }
        // A step of 50 ms beyond is what it takes to see that it is.
        assert_eq!(estimator.target() > kbps(505), grows, "{}", estimator.target());
    }
}

#[test]
fn a_growing_queue_cuts_to_less_than_is_delivered() {
    let mut estimator = estimator(2000);
    let measured = Some(Measured { delivered: kbps(1000), sent: kbps(1800) });
    let rising = Facts { queue: Queue::Rising, envelope: ms(40), measured, ..facts(1800, false) };
    estimator.update(clock::start(), rising);
    assert_eq!((estimator.target(), estimator.cause()), (kbps(850), Cause::QueueRising));
    assert!(!estimator.draining());
    estimator.update(clock::start() + ms(30), rising);
    assert_eq!(estimator.target(), kbps(850), "once a round trip");
}

#[test]
fn an_idle_link_is_not_talked_down_to_nothing() {
    let mut estimator = estimator(3000);
    let rising = Facts { queue: Queue::Rising, envelope: ms(20), ..facts(200, true) };
    estimator.update(clock::start(), rising);
    assert_eq!(estimator.target(), kbps(2550), "what is sent arrives: 15 % less, not 94 %");
}

#[test]
fn a_cliff_drains_first() {
    let mut estimator = estimator(2000);
    let short = Some(Measured { delivered: kbps(300), sent: kbps(1900) });
    let cliff =
        Facts { short, all_late: true, latest_delay: ms(150), envelope: ms(60), ..facts(1500, false) };
    estimator.update(clock::start(), cliff);
    assert_eq!((estimator.target(), estimator.cause()), (kbps(255), Cause::Cliff));
    assert!(estimator.draining());
    estimator.update(clock::start() + ms(100), Facts { envelope: ms(80), ..facts(100, true) });
    assert!(estimator.draining());
    estimator.update(clock::start() + ms(200), facts(100, true));
    assert!(!estimator.draining(), "the queue is gone");

    let mut estimator = self::estimator(2000);
    estimator.update(clock::start(), cliff);
    estimator.handle_timeout(clock::start() + ms(3000));
    assert!(!estimator.draining(), "never for ever");
}

#[test]
fn a_longer_route_is_recognised_and_the_target_restored() {
    let mut estimator = estimator(2000);
    let mut restored = None;
    for step in 0..100 {
        let now = clock::start() + ms(step * 50);
        let sent = estimator.target().as_bps() / 1000;
        let standing = Facts { queue: Queue::Standing, envelope: ms(80), ..facts(sent, false) };
        estimator.update(now, standing);
        if estimator.take_route_change() {
            restored = Some((now - clock::start(), estimator.target()));
            break;
        }
    }
    let (after, target) = restored.expect("within five seconds");
    assert!(after < ms(2000), "{after:?}");
    assert_eq!(target, kbps(2000));
}

#[test]
fn a_loss_test_borrows_and_gives_back() {
    let mut estimator = estimator(2000);
    let with = |loss| Facts { loss, ..facts(1500, true) };
    estimator.update(clock::start(), with(LossVerdict::TestBegins));
    assert_eq!((estimator.target(), estimator.cause()), (kbps(1200), Cause::LossTest));
    estimator.update(clock::start() + ms(500), with(LossVerdict::TestClearsRate));
    assert_eq!((estimator.target(), estimator.cause()), (kbps(2000), Cause::LossTestCleared));
    estimator.update(clock::start() + ms(900), with(LossVerdict::TestBegins));
    estimator.update(clock::start() + ms(1500), with(LossVerdict::TestBlamesRate));
    assert!(estimator.target() <= kbps(1200));
}

#[test]
fn an_outage_is_resumed_carefully() {
    let mut short = estimator(2000);
    short.on_outage_over(clock::start(), ms(3000));
    assert_eq!((short.target(), short.cause()), (kbps(1400), Cause::Outage));
    let mut long = estimator(2000);
    long.on_outage_over(clock::start(), ms(30_000));
    assert_eq!(long.target(), kbps(1000));
}

#[test]
fn a_receivers_estimate_is_bounded_before_it_counts() {
    let mut estimator = estimator(600);
    estimator.on_remb(clock::start(), Bitrate::bps(1 << 63));
    assert_eq!(estimator.target(), kbps(10_000));
    estimator.on_remb(clock::start(), Bitrate::ZERO);
    assert_eq!(estimator.target(), kbps(30));
    estimator.on_receiver_loss(clock::start(), 0.0, kbps(5000));
    for second in 1..100 {
        estimator.on_receiver_loss(clock::start() + ms(second * 1000), 0.01, kbps(5000));
    }
    assert_eq!(estimator.target(), kbps(5000));
    estimator.on_receiver_loss(clock::start() + ms(101_000), 0.5, kbps(5000));
    assert_eq!(estimator.target(), kbps(3750));
}

/// Reports of a tenth of a second each at this rate, of which all comes.
fn calm(estimator: &mut Estimator, tenths: std::ops::Range<u64>, rate: u64, persists: bool) {
    for tenth in tenths {
        let calm = Facts { sending: kbps(rate), loss_persists: persists, ..facts(rate, false) };
        estimator.update(clock::start() + ms(tenth * 100), calm);
    }
}

#[test]
fn what_a_policer_lets_through_is_not_exceeded_without_proof() {
    let mut estimator = estimator(1900);
    let blamed = Facts { loss: LossVerdict::CameWithRate, ..facts(1000, false) };
    estimator.update(clock::start(), blamed);
    assert_eq!((estimator.target(), estimator.policed(clock::start())), (kbps(950), Some(kbps(1000))));
    calm(&mut estimator, 1..300, 1000, false);
    assert!((kbps(990)..=kbps(1010)).contains(&estimator.target()), "{:?}", estimator.target());
    estimator.on_probe(clock::start() + ms(30_000), Outcome::Proven(kbps(1300)));
    assert_eq!(estimator.policed(clock::start() + ms(30_000)), Some(kbps(1300)), "there may still be one");
}

#[test]
fn who_loses_as_much_below_a_policers_rate_has_none() {
    let mut estimator = estimator(1900);
    estimator.update(clock::start(), Facts { loss: LossVerdict::CameWithRate, ..facts(1000, false) });
    calm(&mut estimator, 1..20, 990, true);
    assert!(estimator.policed(clock::start() + ms(2000)).is_some(), "near its rate it loses some");
    calm(&mut estimator, 20..22, 700, true);
    assert_eq!(estimator.policed(clock::start() + ms(2200)), None);
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let queues = prop::sample::select(vec![Queue::Normal, Queue::Rising, Queue::Standing, Queue::Draining]);
    let losses = prop::sample::select(vec![
        LossVerdict::Fine,
        LossVerdict::Congestion,
        LossVerdict::TestBegins,
        LossVerdict::TestBlamesRate,
        LossVerdict::CameWithRate,
        LossVerdict::TestClearsRate,
    ]);
    let rates = (0_u64..u64::MAX / 16, 0_u64..u64::MAX / 16);
    (queues, losses, rates, any::<bool>(), any::<bool>(), 0_u64..5000, any::<bool>()).prop_map(
        |(queue, loss, (delivered, sent), limited, all_late, delay, known)| {
            let measured =
                known.then_some(Measured { delivered: Bitrate::bps(delivered), sent: Bitrate::bps(sent) });
            Facts {
                queue,
                envelope: ms(delay),
                latest_delay: ms(delay),
                all_late,
                measured,
                missing: DataSize::ZERO,
                least: Bitrate::ZERO,
                short: measured,
                application_limited: limited,
                padded: limited,
                sending: Bitrate::bps(sent),
                recent_max: Bitrate::bps(delivered),
                loss,
                loss_persists: limited,
                fair: None,
                rtt: ms(delay),
            }
        },
    )
}

proptest! {
    #[test]
    fn no_facts_take_the_target_out_of_its_bounds(all in prop::collection::vec(any_facts(), 1..100)) {
        let mut estimator = estimator(600);
        for (step, facts) in all.into_iter().enumerate() {
            let before = estimator.target();
            estimator.update(clock::start() + ms(step as u64 * 50), facts);
            let target = estimator.target();
            prop_assert!(target >= kbps(30) && target <= kbps(10_000));
            prop_assert!(target == before || estimator.cause() != Cause::Start);
        }
    }
}

#[test]
fn a_queue_of_others_is_not_obeyed_and_their_losses_leave_a_fair_share() {
    let mut estimator = estimator(1000);
    let others =
        Facts { queue: Queue::Standing, envelope: ms(80), fair: Some(kbps(700)), ..facts(600, true) };
    let at = |step: u32| clock::start() + ms(200) * step;
    for step in 0..20 {
        estimator.update(at(step), others);
    }
    assert_eq!(estimator.target(), kbps(1000));
    for step in 20..40 {
        estimator.update(at(step), Facts { loss: LossVerdict::Congestion, ..others });
    }
    assert_eq!((estimator.target(), estimator.cause()), (kbps(700), Cause::Loss));
    estimator.update(at(41), Facts { fair: Some(kbps(900)), ..others });
    assert_eq!((estimator.target(), estimator.cause()), (kbps(900), Cause::Contested));
    estimator.update(at(42), Facts { fair: Some(kbps(9000)), ..others });
    assert_eq!(estimator.target(), kbps(1210), "no more than twice what arrived");
}
