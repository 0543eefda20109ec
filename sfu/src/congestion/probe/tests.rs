use super::*;
use crate::congestion::PacketClass;
use crate::congestion::twcc::Arrival;
use crate::ids::SeqNo;
use sfu_testkit::clock;

const RTT: Duration = Duration::from_millis(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn conditions(target: u64, next: Option<u64>) -> Conditions {
    Conditions {
        target: Bitrate::kbps(target),
        next: next.map(Bitrate::kbps),
        wanted: Bitrate::kbps(2100),
        bare: false,
        calm: true,
        queue: false,
        rtt: RTT,
        inherent_loss: 0.02,
        policed: None,
        jitter: Duration::ZERO,
    }
}

/// Carries out the plan over a path of `link`, `lost` being the numbers of packets lost.
fn carry_out(prober: &mut Prober, now: &mut Instant, link: Bitrate, lost: &[u64], packet: u64) {
    let plan = prober.plan().expect("a plan");
    let size = DataSize::bytes(packet);
    let (mut sent, mut number, mut free) = (DataSize::ZERO, 0, Duration::ZERO);
    let start = *now;
    let mut acks = Vec::new();
    while sent < plan.size || number < u64::from(plan.min_packets) {
        let at = plan.rate.time_for(sent).expect("a rate");
        prober.on_sent(start + at, plan.cluster, size);
        free = free.max(at) + link.time_for(size).expect("a rate");
        acks.push(Acked {
            number: SeqNo::first(1).plus(number),
            sent: start + at,
            arrival: (!lost.contains(&number)).then_some(Arrival::micros(free.as_micros() as i64)),
            late: false,
            size,
            class: PacketClass::Padding,
            cluster: Some(plan.cluster),
        });
        sent += size;
        number += 1;
    }
    for acked in &acks {
        prober.on_acked(plan.cluster, acked);
    }
    *now = start + plan.duration() + RTT;
}

/// Two clusters over a link that has no room for them: one no may be chance.
fn be_refused(prober: &mut Prober, now: &mut Instant, link: Bitrate, c: Conditions) -> Option<Outcome> {
    prober.update(*now, c);
    carry_out(prober, now, link, &[], 400);
    assert_eq!(prober.update(*now, c), None, "asked again first");
    *now += ms(150);
    prober.update(*now, c);
    carry_out(prober, now, link, &[], 400);
    prober.update(*now, c)
}

#[test]
fn a_join_climbs_in_two_clusters_and_as_many_soaks_as_it_takes() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    let mut target = 600;
    let mut stages = Vec::new();
    assert_eq!(prober.update(now, conditions(target, Some(1300))), None);
    while let Some(plan) = prober.plan() {
        stages.push((plan.cluster.kind, plan.rate.as_bps() / 1000));
        carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[], 400);
        if let Some(Outcome::Proven(rate)) = prober.update(now, conditions(target, Some(2050))) {
            target = rate.as_bps() / 1000;
        }
    }
    let (cluster, soak) = (ProbeKind::Cluster, ProbeKind::Soak);
    assert_eq!(stages, [(cluster, 1800), (cluster, 2625), (soak, 1200), (soak, 2400), (soak, 2625)]);
    assert_eq!(target, 2400, "the last one ended early: all that is wanted fits");
}

#[test]
fn who_sees_nothing_yet_is_given_the_first_step_on_a_clusters_word() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    let bare = Conditions { bare: true, wanted: Bitrate::kbps(1300), ..conditions(600, Some(1300)) };
    prober.update(now, bare);
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[], 400);
    assert_eq!(prober.update(now, bare), Some(Outcome::Proven(Bitrate::kbps(1456))), "a step and its noise");
    let plan = prober.plan().expect("it is still to be shown");
    assert_eq!((plan.cluster.kind, plan.rate), (ProbeKind::Soak, Bitrate::kbps(1456)));

    // Later it is not: the path is known, and something else is in the way.
    let mut prober = Prober::new(Bitrate::kbps(600));
    let outcome = be_refused(&mut prober, &mut now, Bitrate::kbps(590), bare);
    assert!(!matches!(outcome, Some(Outcome::Proven(_))), "{outcome:?}");
    now += Duration::from_secs(10);
    prober.update(now, bare);
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[], 400);
    assert_eq!(prober.update(now, bare), None);
}

#[test]
fn a_narrow_path_lowers_the_target_of_a_join() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    let outcome = be_refused(&mut prober, &mut now, Bitrate::kbps(400), conditions(600, Some(1300)));
    let Some(Outcome::Narrow(rate)) = outcome else { panic!("{outcome:?}") };
    assert!((360_000..400_000).contains(&rate.as_bps()), "{rate}");
}

#[test]
fn a_queue_in_the_soak_gives_what_the_path_carries() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    prober.update(now, conditions(600, Some(1000)));
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[], 400);
    prober.update(now, conditions(600, Some(1000)));
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[], 400);
    prober.update(now, conditions(600, Some(1000)));
    assert_eq!(prober.plan().map(|plan| plan.cluster.kind), Some(ProbeKind::Soak));
    carry_out(&mut prober, &mut now, Bitrate::kbps(900), &[], 400); // the bucket is empty
    let outcome = prober.update(now, conditions(600, Some(1000)));
    let Some(Outcome::Proven(rate)) = outcome else { panic!("{outcome:?}") };
    assert!((780_000..=900_000).contains(&rate.as_bps()), "{rate}");
}

#[test]
fn nothing_is_probed_without_need_or_calm() {
    let now = clock::start();
    for c in [
        Conditions { wanted: Bitrate::kbps(500), ..conditions(600, None) },
        conditions(600, Some(500)),
        Conditions { calm: false, ..conditions(600, Some(1300)) },
    ] {
        let mut prober = Prober::new(Bitrate::kbps(600));
        assert_eq!(prober.update(now, c), None);
        assert_eq!(prober.plan(), None, "{c:?}");
    }
}

#[test]
fn a_join_asks_for_all_that_may_be_wanted_and_later_nobody_does() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    prober.update(now, conditions(600, None));
    assert!(prober.plan().is_some(), "an encoder that begins low is cheap now, and will not stay so");
    be_refused(&mut prober, &mut now, Bitrate::kbps(590), conditions(600, None));
    now += ms(10_000);
    prober.update(now, conditions(600, None));
    assert_eq!(prober.plan(), None);
}

#[test]
fn a_failure_waits_and_each_one_longer() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    let mut waits = Vec::new();
    for _ in 0..6 {
        be_refused(&mut prober, &mut now, Bitrate::kbps(590), conditions(600, Some(1300)));
        assert_eq!(prober.plan(), None);
        let failed = now;
        while prober.plan().is_none() {
            now += ms(10);
            prober.update(now, conditions(600, Some(1300)));
        }
        waits.push((now - failed).as_millis());
        prober.abort(now);
        now += ms(6000);
    }
    assert!(waits.is_sorted() && waits[0] >= 1500 && waits[5] <= 3010, "{waits:?}");
}

#[test]
fn too_few_too_small_or_too_slow_proves_nothing() {
    // Half of it lost.
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    prober.update(now, conditions(600, Some(1300)));
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[0, 2, 4, 6], 400);
    assert_eq!(prober.update(now, conditions(600, Some(1300))), None);
    assert_eq!(prober.plan(), None, "half of it lost");

    // The sender had nothing to fill it with.
    let mut prober = Prober::new(Bitrate::kbps(600));
    prober.update(now, conditions(600, Some(1300)));
    let plan = prober.plan().expect("a plan");
    prober.on_sent(now, plan.cluster, DataSize::bytes(100));
    now += ms(2000);
    assert_eq!(prober.update(now, conditions(600, Some(1300))), None);
    assert_eq!(prober.plan(), None);
}

#[test]
fn a_probe_that_is_not_over_has_its_deadline_ahead() {
    let start = clock::start();
    let acked = |plan: ProbePlan, arrived: bool| Acked {
        number: SeqNo::first(1),
        sent: start,
        arrival: arrived.then_some(Arrival::micros(0)),
        late: false,
        size: plan.packet,
        class: PacketClass::Padding,
        cluster: Some(plan.cluster),
    };
    // Nothing sent, too little sent, all sent and not reported, half reported, and lost.
    for (sent, reported) in [(0, 0), (1, 0), (3, 3), (40, 0), (40, 20), (40, 39)] {
        let mut prober = Prober::new(Bitrate::kbps(600));
        let mut now = start;
        prober.update(now, conditions(600, Some(1300)));
        let plan = prober.plan().expect("a plan");
        for _ in 0..sent {
            prober.on_sent(now, plan.cluster, plan.packet);
        }
        for number in 0..reported {
            prober.on_acked(plan.cluster, &acked(plan, number % 5 != 0));
        }
        for _ in 0..10_000 {
            now += ms(1);
            prober.update(now, conditions(600, Some(1300)));
            if prober.plan() != Some(plan) {
                break;
            }
            let deadline = prober.next_timeout(RTT).expect("a probe runs");
            assert!(deadline > now, "{sent} sent, {reported} reported: {:?} ago", now - deadline);
        }
        assert_ne!(prober.plan(), Some(plan), "{sent} sent, {reported} reported: it never ends");
    }
}

/// Lets a soak for 700 kbit/s pass, at 600; gives its length.
fn pass_a_soak(prober: &mut Prober, now: &mut Instant) -> Duration {
    let (wide, c) = (Bitrate::kbps(10_000), conditions(600, Some(700)));
    *now += MAX_INTERVAL;
    prober.update(*now, c);
    while let Some(plan) = prober.plan() {
        carry_out(prober, now, wide, &[], 300);
        if prober.update(*now, c).is_some() {
            prober.abort(*now);
            return plan.duration();
        }
    }
    panic!("no soak passed");
}

#[test]
fn after_a_proof_that_was_wrong_soaks_are_longer_until_one_passes() {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    prober.update(now, conditions(600, Some(1000)));
    be_refused(&mut prober, &mut now, Bitrate::kbps(620), conditions(600, Some(1000)));
    now += JOIN;
    let about = |time: Duration, wanted: Duration| time.abs_diff(wanted) < ms(20);
    assert!(about(pass_a_soak(&mut prober, &mut now), SOAK));

    // Another path: nobody was wrong about this one.
    prober.on_cut(now + ms(500), Bitrate::kbps(200));
    assert!(about(pass_a_soak(&mut prober, &mut now), SOAK));

    prober.on_cut(now + ms(500), Bitrate::kbps(500));
    assert!(about(pass_a_soak(&mut prober, &mut now), SOAK * 2), "a bucket lets a short one through");
    assert!(about(pass_a_soak(&mut prober, &mut now), SOAK), "the path is wider now");
}

/// Cluster and soak towards 1.4 Mbit/s from a target of 1 Mbit/s, as long as `policed` makes it; what comes of it if what
/// is sent after `bucket` bytes is lost to one fifth.
fn soak_past_a_policer(policed: Option<u64>, bucket: u64) -> (Duration, Option<Outcome>) {
    let mut now = clock::start();
    let mut prober = Prober::new(Bitrate::kbps(600));
    let c = Conditions { policed: policed.map(Bitrate::kbps), ..conditions(1000, Some(1250)) };
    prober.joined = now.checked_sub(Duration::from_mins(1));
    prober.update(now, c);
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &[], 400);
    prober.update(now, c);
    let plan = prober.plan().expect("a soak");
    assert_eq!(plan.cluster.kind, ProbeKind::Soak);
    let lost: Vec<u64> =
        (bucket / 400..plan.size.as_bytes() / 400).filter(|number| number % 5 == 0).collect();
    carry_out(&mut prober, &mut now, Bitrate::kbps(10_000), &lost, 400);
    (plan.duration(), prober.update(now, c))
}

#[test]
fn beyond_a_policer_a_soak_outlasts_its_bucket() {
    let (short, believed) = soak_past_a_policer(None, 60_000);
    assert_eq!(short, SOAK);
    assert!(matches!(believed, Some(Outcome::Proven(_))), "before anything is known of it: {believed:?}");
    let (long, refused) = soak_past_a_policer(Some(1000), 60_000);
    assert!(long > ms(1000), "{long:?}");
    assert_eq!(refused, None);
}
