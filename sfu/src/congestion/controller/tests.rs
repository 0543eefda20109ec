mod forged;

use super::*;
use crate::congestion::allocate::{Priority, Step};
use crate::congestion::feedback::FeedbackRecorder;
use crate::congestion::probe::ProbeKind;
use crate::ids::{Ssrc, TrackId};
use sfu_testkit::clock;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const STEPS: [Step; 2] = [
    Step { layer: LayerId { spatial: 0, temporal: 0 }, price: Bitrate::kbps(160) },
    Step { layer: LayerId { spatial: 1, temporal: 0 }, price: Bitrate::kbps(1700) },
];

fn track() -> Track<'static> {
    let ceiling = LayerId { spatial: 9, temporal: 9 };
    Track {
        id: TrackId(1),
        priority: Priority::Visible,
        rank: 0,
        base: LayerId::default(),
        ceiling,
        steps: &STEPS,
    }
}

/// Sends 100 kbit/s for `time`, each packet reported 50 ms later if `reports`.
fn run(controller: &mut Controller, now: &mut Instant, time: Duration, reports: bool) {
    let mut recorder = FeedbackRecorder::new(*now);
    let end = *now + time;
    while *now < end {
        let number = controller.on_sent(*now, DataSize::bytes(250), PacketClass::Audio, None);
        recorder.on_received(*now, number, 250);
        let mut buf = [0; 1200];
        if reports && let Some(len) = recorder.write(*now, &mut buf, Ssrc(1), Ssrc(2)) {
            controller.on_feedback(*now, &buf[12..len]).expect("an honest report");
        }
        if controller.next_timeout().is_some_and(|at| at <= *now) {
            controller.handle_timeout(*now);
        }
        if controller.allocation_due(*now) {
            controller.allocate(*now, Bitrate::kbps(48), &[track()], Bitrate::ZERO);
        }
        *now += ms(20);
    }
}

/// A receiver may well report that nothing came (RFC 8888 §3.1).
#[test]
fn a_report_by_stream_without_news_ends_no_silence() {
    let mut now = clock::start();
    let config = Config { feedback: FeedbackKind::PerStream, ..Config::default() };
    let mut controller = Controller::new(now, config);
    let wall = crate::units::WallClock { instant: now, unix: Duration::from_secs(1_700_000_000) };
    let mut recorder = crate::congestion::StreamRecorder::default();
    for packet in 0..200_u16 {
        let arrives = packet < 100;
        controller.name_next(now, (Ssrc(1), packet));
        controller.on_sent(now, DataSize::bytes(250), PacketClass::Audio, None);
        if arrives {
            recorder.on_received(now, Ssrc(1), packet, 250);
        }
        let mut buf = [0; 1200];
        let written = recorder.write(now, &mut buf, Ssrc(1), wall.ntp(now));
        let report = match written {
            Some(len) => buf[8..len].to_vec(),
            None if arrives => Vec::new(),
            None => {
                let time = wall.ntp(now).middle().to_be_bytes();
                [&[0, 0, 0, 1][..], &100_u16.to_be_bytes(), &[0, 0], &time].concat()
            }
        };
        if !report.is_empty() {
            controller.on_stream_feedback(now, &report).expect("an honest report");
        }
        controller.handle_timeout(now);
        assert_eq!(controller.feedback(now), FeedbackKind::PerStream);
        assert!(!arrives || !controller.snapshot().silent, "packet {packet}");
        now += ms(20);
    }
    assert!(controller.outage(), "two seconds without an arrival");
    assert_eq!(controller.take_refused(), [0; 5]);
}

#[test]
fn unmet_demand_asks_for_a_probe_at_once() {
    let now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    assert_eq!(controller.pacing(now).probe, None, "nothing is wanted yet");
    assert!(controller.allocation_due(now));
    controller.allocate(now, Bitrate::kbps(48), &[track()], Bitrate::ZERO);
    let plan = controller.pacing(now).probe.expect("the second step does not fit");
    assert_eq!((plan.cluster.kind, plan.rate), (ProbeKind::Cluster, Bitrate::kbps(1800)));
    controller.allocate(now, Bitrate::kbps(48), &[], Bitrate::ZERO);
    assert!(!controller.allocation_due(now));
}

#[test]
fn silence_freezes_then_stops_video_and_news_resumes() {
    let mut now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    run(&mut controller, &mut now, ms(2000), true);
    let target = controller.target();
    assert!(!controller.snapshot().silent);

    run(&mut controller, &mut now, ms(700), false);
    assert!(controller.snapshot().silent);
    assert_eq!(controller.pacing(now).hold, None, "the lowest layer goes on");
    assert_eq!(controller.pacing(now).probe, None);
    run(&mut controller, &mut now, ms(1200), false);
    assert_eq!(controller.pacing(now).hold, Some(OUTAGE_KEEPALIVE));
    assert_eq!(controller.target(), target, "silence is no congestion");

    run(&mut controller, &mut now, ms(200), true);
    assert_eq!(controller.pacing(now).hold, None);
    assert_eq!(controller.snapshot().cause, Cause::Outage);
    assert_eq!(controller.target(), target.scale(0.7));
}

/// As when a client restarts ICE though its network is the same.
#[test]
fn a_new_path_beside_one_that_lives_takes_nothing_away() {
    let mut now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    let cheap = [STEPS[0], Step { price: Bitrate::kbps(200), ..STEPS[1] }];
    let choose = |controller: &mut Controller, now| {
        let tracks = [Track { steps: &cheap, ..track() }];
        let allocation = controller.allocate(now, Bitrate::kbps(48), &tracks, Bitrate::ZERO);
        allocation.choice(TrackId(1)).and_then(|choice| choice.layer)
    };
    assert_eq!(choose(&mut controller, now), Some(cheap[1].layer));
    run(&mut controller, &mut now, ms(200), true);
    let target = controller.target();
    assert!(!controller.on_path_change(now), "nothing was lost");
    assert_eq!(controller.target(), target);
    assert_eq!(choose(&mut controller, now), Some(cheap[1].layer), "not the least until the first report");
}

#[test]
fn a_new_path_ends_the_silence_of_the_old_one() {
    let mut now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    run(&mut controller, &mut now, ms(2000), true);
    run(&mut controller, &mut now, ms(2000), false);
    assert_eq!(controller.pacing(now).hold, Some(OUTAGE_KEEPALIVE));
    assert!(controller.on_path_change(now), "what was under way is lost");
    assert_eq!(controller.pacing(now).hold, None, "media flows at once");
    assert!(controller.allocation_due(now) && !controller.snapshot().silent);
    run(&mut controller, &mut now, ms(3500), false);
    assert_eq!(controller.pacing(now).hold, None, "reports may go the old way for a while");
    run(&mut controller, &mut now, ms(1000), false);
    assert_eq!(controller.pacing(now).hold, Some(OUTAGE_KEEPALIVE), "it may be dead, too");
}

#[test]
fn what_an_old_path_lost_is_no_judgement_of_the_new_one() {
    for changes in [true, false] {
        let mut now = clock::start();
        let mut controller = Controller::new(now, Config::default());
        let mut recorder = FeedbackRecorder::new(now);
        let mut worst = 0.0_f64;
        for step in 0..200 {
            // 600 ms of the old path's packets are lost.
            let lost = (100..130).contains(&step);
            if step == 130 && changes {
                controller.on_path_change(now);
            }
            let number = controller.on_sent(now, DataSize::bytes(1000), PacketClass::Video, None);
            let mut buf = [0; 1200];
            if !lost {
                recorder.on_received(now, number, 1000);
                if let Some(len) = recorder.write(now, &mut buf, Ssrc(1), Ssrc(2)) {
                    controller.on_feedback(now, &buf[12..len]).expect("an honest report");
                }
            }
            controller.handle_timeout(now);
            worst = worst.max(controller.snapshot().loss);
            now += ms(20);
        }
        assert_eq!(worst < 0.01, changes, "{worst}");
    }
}

#[test]
fn a_client_that_never_reports_is_neither_silenced_nor_starved() {
    let mut now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    run(&mut controller, &mut now, ms(5000), false);
    assert!(!controller.snapshot().silent);
    assert_eq!(controller.pacing(now).hold, None);
    for _ in 0..60 {
        controller.on_receiver_report(now, 0.0, Some(ms(80)));
        run(&mut controller, &mut now, ms(1000), false);
    }
    assert!(controller.target() > Bitrate::kbps(2000), "{}", controller.target());
    assert_eq!(controller.rtt(), ms(80));
}

#[test]
fn remb_rules_only_where_nothing_better_comes() {
    let mut now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    run(&mut controller, &mut now, ms(1000), true);
    let target = controller.target();
    controller.on_remb(now, Bitrate::kbps(100));
    assert_eq!(controller.target(), target);

    let config = Config { feedback: FeedbackKind::ReceiverSide, ..Config::default() };
    let mut controller = Controller::new(now, config);
    controller.on_remb(now, Bitrate::kbps(1500));
    assert_eq!((controller.target(), controller.snapshot().cause), (Bitrate::kbps(1500), Cause::Receiver));
    controller.on_remb(now, Bitrate::bps(u64::MAX));
    assert_eq!(controller.target(), config.max);
}

#[test]
fn broken_reports_change_nothing() {
    let mut now = clock::start();
    let mut controller = Controller::new(now, Config::default());
    run(&mut controller, &mut now, ms(1000), true);
    let before = controller.snapshot();
    assert!(controller.on_feedback(now, &[]).is_err());
    assert!(controller.on_feedback(now, &[0xff; 64]).is_err());
    controller.on_receiver_report(now, f64::NAN, None);
    assert_eq!(controller.snapshot(), before);
}
