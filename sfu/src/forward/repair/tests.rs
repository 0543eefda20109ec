use super::*;

const FULL: DataSize = DataSize::bytes(1200);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn path(loss: f64) -> Path {
    Path { loss: Some(loss), target: Bitrate::kbps(2000) }
}

/// Every packet of `seconds` at 2 Mbit/s is asked for; a report every 50 ms says of them what `reported` does. Share
/// of the bytes that is resent.
fn resent(seconds: u64, loss: Option<f64>, reported: Reported) -> f64 {
    let start = crate::test_time();
    let mut repairs = Repairs::default();
    let (mut sent, mut resent) = (0_u64, 0);
    for number in 0..seconds * 200 {
        let now = start + ms(5) * number as u32;
        repairs.earn(FULL);
        sent += 1;
        let known = |copy: u16| if u64::from(copy) + 10 < number { reported } else { Reported::Unknown };
        if number % 10 == 0 {
            let path = Path { loss, target: Bitrate::kbps(2000) };
            repairs.handle_report(now, &path, known);
        }
        let wire = number as u16;
        repairs.hold(now, (0, 0, wire), true, Reordering::default());
        let mut held = repairs.take_held(now);
        held.retain(|held| {
            let verdict = repairs.judge(now, held, (FULL, Some(held.number)), known(held.number));
            resent += u64::from(verdict == Verdict::Resend);
            verdict == Verdict::Wait
        });
        assert!(held.len() <= MAX_HELD);
        repairs.put_held(held);
    }
    resent as f64 / sent as f64
}

#[test]
fn who_asks_for_everything_gets_a_small_share() {
    let none_lost = resent(30, Some(0.0), Reported::Arrived);
    assert!((0.04..0.055).contains(&none_lost), "{none_lost}");
    let silent = resent(30, None, Reported::Unknown);
    assert!((0.14..0.16).contains(&silent), "no reports, which is allowed: {silent}");
    let unsaid = resent(30, Some(0.5), Reported::Unknown);
    assert!((0.14..0.16).contains(&unsaid), "reports that do not say so: {unsaid}");
    let confirmed = resent(30, Some(0.5), Reported::Missing);
    assert!((0.29..0.325).contains(&confirmed), "{confirmed}");
}

#[test]
fn losses_that_reports_confirm_are_all_repaired_at_once() {
    let start = crate::test_time();
    let mut repairs = Repairs::default();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut lost = std::collections::HashSet::new();
    for number in 0..6000_u16 {
        let now = start + ms(5) * u32::from(number);
        repairs.earn(FULL);
        if number % 10 == 0 {
            let known = |copy: u16| match copy.checked_add(10).is_some_and(|at| at < number) {
                true if lost.contains(&copy) => Reported::Missing,
                true => Reported::Arrived,
                false => Reported::Unknown,
            };
            repairs.handle_report(now, &path(0.2), known);
        }
        if rng.f64() < 0.2 {
            lost.insert(number);
            repairs.hold(now, (0, 0, number), true, Reordering::default());
            for held in repairs.take_held(now) {
                let verdict = repairs.judge(now, &held, (FULL, Some(number)), Reported::Unknown);
                assert_eq!(verdict, Verdict::Resend, "packet {number}");
            }
        }
    }
    assert!(lost.len() > 1000);
}

#[test]
fn a_request_waits_for_what_may_be_merely_late() {
    let start = crate::test_time();
    let cases = [
        (Reordering::default(), true, ms(0)),
        (Reordering { extent: ms(8), late: 0.1 }, true, ms(8)),
        (Reordering { extent: ms(8), late: 0.1 }, false, ms(0)),
        (Reordering { extent: ms(8), late: 0.5 }, true, REPORT),
    ];
    for (reordering, first, wait) in cases {
        let mut repairs = Repairs::default();
        assert!(repairs.hold(start, (0, 0, 1), first, reordering));
        assert_eq!(repairs.next_timeout(), Some(start + wait));
        let held = repairs.take_held(start)[0];
        let mut judge = |at, reported| repairs.judge(start + at, &held, (FULL, Some(1)), reported);
        assert_eq!(judge(wait, Reported::Arrived), Verdict::Arrived);
        if let Some(before) = wait.checked_sub(ms(1)) {
            assert_eq!(judge(before, Reported::Unknown), Verdict::Wait);
            assert_eq!(judge(before, Reported::Missing), Verdict::Resend, "confirmed: no need to wait");
        }
        assert_eq!(judge(wait, Reported::Unknown), Verdict::Resend);
    }
}

#[test]
fn a_gap_is_hopeless_where_a_keyframe_is_sooner_there() {
    let gap = |packets: u32, late| {
        let mut gap = Gap::default();
        (0..packets).for_each(|_| gap.add(FULL, late));
        gap
    };
    let (target, keyframe) = (Bitrate::kbps(2000), DataSize::bytes(20_000));
    // 30 % of 2 Mbit/s carry 30 kB in 400 ms.
    assert!(!gap(25, false).hopeless(target, keyframe));
    assert!(gap(26, false).hopeless(target, keyframe));
    assert!(!gap(26, false).hopeless(target, DataSize::bytes(40_000)), "the keyframe is larger still");
    assert!(gap(1, true).hopeless(target, keyframe), "what is not resent does not come");
    assert!(!Gap::default().hopeless(target, keyframe));
}
