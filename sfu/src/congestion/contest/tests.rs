use super::*;
use crate::congestion::PacketClass;
use crate::congestion::twcc::Arrival;
use crate::ids::SeqNo;
use crate::units::DataSize;
use sfu_testkit::clock;

const RTT: Duration = Duration::from_millis(100);

fn at(ms: u64) -> Instant {
    clock::start() + Duration::from_millis(ms)
}

/// A report every 100 ms over a stretch of time: 10 packets each, one of them lost every `loss` reports.
fn reports(contest: &mut Contest, from: u64, to: u64, envelope: u64, kbps: u64, cut: u64, loss: u64) {
    for ms in (from..to).step_by(100) {
        let acked: Vec<Acked> = (0..10)
            .map(|packet| Acked {
                number: SeqNo::first(1),
                sent: at(ms),
                arrival: (packet > 0 || !(ms / 100).is_multiple_of(loss)).then_some(Arrival::micros(0)),
                late: false,
                size: DataSize::bytes(1000),
                class: PacketClass::Video,
                cluster: None,
            })
            .collect();
        let rate = Bitrate::kbps(kbps);
        let evidence = Evidence {
            envelope: Duration::from_millis(envelope),
            sending: rate,
            measured: Some(Measured { delivered: rate, sent: rate }),
            last_cut: Some(at(cut)),
            rtt: RTT,
        };
        contest.on_acked(at(ms), &acked, evidence);
    }
}

#[test]
fn a_queue_that_goes_when_we_yield_is_ours() {
    let mut contest = Contest::default();
    reports(&mut contest, 1000, 1100, 80, 1000, 1000, 40);
    reports(&mut contest, 1100, 2000, 60, 600, 1000, 40);
    reports(&mut contest, 2000, 3000, 5, 600, 1000, 40);
    reports(&mut contest, 3000, 9000, 50, 600, 1000, 40);
    assert_eq!(contest.fair_share(RTT), None);
}

#[test]
fn one_that_we_did_not_yield_to_is_ours_too() {
    let mut contest = Contest::default();
    reports(&mut contest, 1000, 9000, 80, 1000, 1000, 40);
    assert_eq!(contest.fair_share(RTT), None);
}

#[test]
fn one_that_stays_is_somebody_elses_until_it_is_gone() {
    let mut contest = Contest::default();
    reports(&mut contest, 1000, 1100, 80, 1000, 1000, 40);
    reports(&mut contest, 1100, 2400, 60, 600, 1000, 40);
    assert_eq!(contest.fair_share(RTT), None, "it may still be on its way out");
    reports(&mut contest, 2400, 60_000, 60, 600, 1000, 40);
    // One loss in 400 packets: 1.22 x 12 000 bit / (0.1 s x 0.05) are 2.9 Mbit/s; but it carried one before.
    assert_eq!(contest.fair_share(RTT).expect("it stayed"), Bitrate::kbps(1000));
    // One in 30: 800 kbit/s.
    reports(&mut contest, 60_000, 90_000, 60, 600, 1000, 3);
    let fair = contest.fair_share(RTT).expect("it stayed").as_bps() / 1000;
    assert!((760..840).contains(&fair), "{fair} kbit/s");
    reports(&mut contest, 90_000, 91_500, 5, 600, 1000, 40);
    assert!(contest.fair_share(RTT).is_some(), "a TCP flow that has just lost something");
    reports(&mut contest, 91_500, 92_500, 5, 600, 1000, 40);
    assert_eq!(contest.fair_share(RTT), None);
}

/// Two megabits that passed, then a small picture beside which others fill the queue.
fn small_after(seconds: u64) -> Contest {
    let mut contest = Contest::default();
    reports(&mut contest, 1000, 1100, 0, 2000, 0, 40);
    let queue = 1100 + seconds * 1000;
    reports(&mut contest, 1100, queue, 0, 500, 0, 40);
    reports(&mut contest, queue, queue + 2000, 60, 500, queue, 40);
    contest
}

#[test]
fn what_passed_a_moment_ago_is_no_queue_of_what_is_sent_now() {
    let fair = small_after(5).fair_share(RTT);
    assert!(fair.is_some_and(|fair| fair > Bitrate::kbps(500)), "{fair:?}");
    assert_eq!(small_after(11).fair_share(RTT), None, "the path may have become narrow since");
}

#[test]
fn a_path_that_became_narrow_is_full_of_what_is_ours() {
    let mut contest = Contest::default();
    reports(&mut contest, 1000, 1100, 80, 2000, 1000, 40);
    // It carries 300 kbit/s now, and for a while more than that is sent.
    let evidence = |sending, delivered| Evidence {
        envelope: Duration::from_millis(150),
        sending: Bitrate::kbps(sending),
        measured: Some(Measured { delivered: Bitrate::kbps(delivered), sent: Bitrate::kbps(sending) }),
        last_cut: None,
        rtt: RTT,
    };
    for ms in (1100..2000).step_by(100) {
        contest.on_acked(at(ms), &[], evidence(500, 300));
    }
    for ms in (2000..20_000).step_by(100) {
        contest.on_acked(at(ms), &[], evidence(290, 300));
    }
    assert_eq!(contest.fair_share(RTT), None);
}

#[test]
fn losses_of_one_round_trip_are_one() {
    let mut contest = Contest::default();
    reports(&mut contest, 1000, 1100, 80, 1000, 1000, 40);
    reports(&mut contest, 1100, 60_000, 60, 600, 1000, 1);
    let often = contest.fair_share(RTT).expect("it stayed");
    let seldom = contest.fair_share(RTT / 2).expect("it stayed");
    assert!(often < Bitrate::kbps(800) && seldom > often, "{often:?} {seldom:?}");
}
