use super::*;
use crate::congestion::probe::ProbeKind;
use proptest::prelude::*;
use sfu_testkit::clock;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn pacing(kbps: u64) -> Pacing {
    let rate = Bitrate::kbps(kbps);
    Pacing { rate, keyframe_rate: rate, catch_up_rate: rate, burst: DataSize::ZERO, hold: None, probe: None }
}

fn frame(number: u32, keyframe: bool, temporal: u8) -> Frame {
    Frame { time: RtpTime(number * 3000), keyframe, temporal }
}

const SLOT: TrackSlot = TrackSlot(3);
const FULL: DataSize = DataSize::bytes(1200);

fn video(pacer: &mut Pacer<u32>, now: Instant, item: u32, frame: Frame) -> Enqueued {
    pacer.enqueue_video(now, SLOT, item, FULL, frame)
}

/// Runs until `end` as a worker does, waking at `next_timeout` only: what left, and when.
fn run(pacer: &mut Pacer<u32>, mut now: Instant, end: Instant) -> Vec<(Instant, Departure<u32>)> {
    let mut left = Vec::new();
    while now <= end {
        while let Some(departure) = pacer.next(now) {
            if let Departure::Padding { size, .. } = departure {
                pacer.padding_made(size, size);
            }
            left.push((now, departure));
        }
        let Some(next) = pacer.next_timeout() else { break };
        now = next.max(now + Duration::from_nanos(1));
    }
    left
}

fn items(left: &[(Instant, Departure<u32>)]) -> Vec<u32> {
    let item = |departure: &Departure<u32>| match departure {
        Departure::Packet { item, .. } => Some(*item),
        Departure::Padding { .. } => None,
    };
    left.iter().filter_map(|(_, departure)| item(departure)).collect()
}

#[test]
fn audio_passes_everything_and_the_rest_keeps_its_order() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(1000));
    video(&mut pacer, now, 5, frame(1, false, 0));
    pacer.enqueue_video(now, TrackSlot(1), 4, FULL, frame(1, true, 0));
    pacer.enqueue(now, PacketClass::VideoRtx, 3, FULL);
    pacer.enqueue(now, PacketClass::AudioRtx, 2, DataSize::bytes(100));
    pacer.enqueue(now, PacketClass::Audio, 1, DataSize::bytes(100));
    let left = run(&mut pacer, now, now + ms(200));
    assert_eq!(items(&left), [1, 2, 3, 4, 5], "keyframes before other video");
    assert_eq!(left[0].0, now);
}

#[test]
fn of_what_waited_while_there_was_no_way_nothing_leaves() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(1000));
    for item in 0..500 {
        pacer.enqueue(now, PacketClass::Audio, item, DataSize::bytes(100));
    }
    pacer.enqueue(now, PacketClass::AudioRtx, 500, DataSize::bytes(100));
    pacer.enqueue(now, PacketClass::VideoRtx, 501, FULL);
    video(&mut pacer, now, 502, frame(1, false, 0));
    pacer.clear();
    assert_eq!((pacer.queued(), pacer.counters().dropped), (0, 503));
    pacer.enqueue(now, PacketClass::Audio, 503, DataSize::bytes(100));
    video(&mut pacer, now, 504, frame(2, true, 0));
    let left = run(&mut pacer, now + ms(1), now + ms(200));
    assert_eq!(items(&left), [503, 504]);
}

#[test]
fn only_sound_leaves_while_it_is_stopped_and_the_picture_begins_anew_when_that_was_long() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(1000));
    pacer.stop_video(true);
    video(&mut pacer, now, 1, frame(1, true, 0));
    pacer.enqueue(now, PacketClass::VideoRtx, 2, FULL);
    pacer.enqueue(now, PacketClass::AudioRtx, 3, DataSize::bytes(100));
    pacer.enqueue(now, PacketClass::Audio, 4, DataSize::bytes(100));
    assert_eq!(items(&run(&mut pacer, now, now + ms(100))), [4, 3]);
    assert_eq!(pacer.next_timeout(), None, "nothing to wake up for");

    let soon = now + ms(100);
    pacer.stop_video(false);
    assert_eq!(items(&run(&mut pacer, soon, soon + ms(100))), [2, 1]);

    pacer.stop_video(true);
    video(&mut pacer, soon, 5, frame(2, false, 0));
    let late = soon + FLUSH_LIMIT + ms(100);
    video(&mut pacer, late, 6, frame(3, false, 0));
    assert_eq!(pacer.next(late), None);
    assert_eq!(pacer.poll_event(), Some(PacerEvent::Flushed(SLOT)), "nothing grows old here");
    pacer.stop_video(false);
    assert_eq!(items(&run(&mut pacer, late, late + ms(100))), [0; 0]);
    video(&mut pacer, late, 7, frame(4, true, 0));
    assert_eq!(items(&run(&mut pacer, late, late + ms(200))), [7]);
}

#[test]
fn video_leaves_at_the_rate_and_in_small_runs() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(2400));
    for item in 0..100 {
        video(&mut pacer, now, item, frame(1, true, 0));
    }
    let left = run(&mut pacer, now, now + ms(1000));
    assert_eq!(left.len(), 100);
    let took = left[99].0 - now;
    assert!(took > ms(385) && took < ms(405), "120 kB at 2.4 Mbit/s are 400 ms: {took:?}");
    for window in left.windows(4) {
        assert!(window[3].0 > window[0].0, "never four packets in one flush at 2.4 Mbit/s");
    }
}

#[test]
fn idleness_earns_no_burst() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(1000));
    assert!(pacer.next(now + ms(10_000)).is_none());
    let later = now + ms(10_000);
    for item in 0..10 {
        video(&mut pacer, later, item, frame(1, false, 0));
    }
    let left = run(&mut pacer, later, later + ms(20));
    assert!(left.len() <= 4, "{}", left.len());
}

#[test]
fn a_frame_leaves_at_once_where_the_path_bears_it_and_not_more_in_the_mean() {
    let start = clock::start();
    let burst = DataSize::bytes(8 * 1200);
    let mut pacer = Pacer::new(start, Ticks::since(start), Pacing { burst, ..pacing(1500) });
    let mut sent = Vec::new();
    for number in 0..30 {
        let now = start + ms(33 * u64::from(number) + 33);
        for packet in 0..5 {
            video(&mut pacer, now, number * 8 + packet, frame(number, false, 0));
        }
        sent.extend(run(&mut pacer, now, now + ms(32)));
    }
    // 5 * 1200 bytes each 33 ms are 1.45 Mbit/s: all of it leaves, each frame whole.
    assert_eq!(sent.len(), 150);
    assert!(sent.chunks(5).all(|frame| frame.iter().all(|(at, _)| *at == frame[0].0)), "{sent:?}");
    // Twice as much does not.
    for packet in 0..300 {
        video(&mut pacer, start + ms(1100), 1000 + packet, frame(100 + packet / 10, false, 0));
    }
    let left = run(&mut pacer, start + ms(1100), start + ms(1300));
    let bytes = left.len() as u64 * 1200;
    assert!(bytes <= 1_500_000 / 8 / 5 + burst.as_bytes() + 1200, "{bytes}");
}

#[test]
fn a_large_frame_leaves_in_time_and_takes_no_other_with_it() {
    let mut now = clock::start();
    let pacing = Pacing { catch_up_rate: Bitrate::kbps(1200), ..pacing(600) };
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing);
    let mut left = Vec::new();
    for number in 0..30 {
        // 24 frames a second in 480 kbit/s, the base layer's three times as large as the others.
        let (temporal, packets) = if number % 4 == 0 { (0, 4) } else { (2, 1) };
        for packet in 0..packets {
            video(&mut pacer, now, number * 8 + packet, frame(number, false, temporal));
        }
        left.extend(run(&mut pacer, now, now + ms(41)));
        assert!(pacer.video_delay(now + ms(41)) <= ms(10), "frame {number}");
        now += ms(41);
        // Now and then we do not run for a while.
        now += ms(if number % 10 == 9 { 80 } else { 0 });
    }
    assert_eq!((pacer.counters().dropped, pacer.queued()), (0, 0));
}

#[test]
fn late_upper_layers_are_dropped_in_whole_frames() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(300));
    let temporal = [0, 2, 1, 2, 0];
    for number in 0..5_u32 {
        for packet in 0..3 {
            video(&mut pacer, now, number * 10 + packet, frame(number, false, temporal[number as usize]));
        }
    }
    let left = items(&run(&mut pacer, now, now + ms(2000)));
    assert_eq!(left, [0, 1, 2, 40, 41, 42], "the base layer alone, complete");
    assert_eq!(pacer.poll_event(), Some(PacerEvent::Overshoot(SLOT)));
    let counters = pacer.counters();
    assert_eq!((counters.enqueued, counters.sent, counters.dropped), (15, 6, 9));
}

#[test]
fn what_follows_a_dropped_upper_frame_waits_for_the_base() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(300));
    for packet in 0..4 {
        video(&mut pacer, now, packet, frame(0, false, 0));
    }
    video(&mut pacer, now, 10, frame(1, false, 1));
    run(&mut pacer, now, now + ms(70));
    assert_eq!(
        video(&mut pacer, now + ms(70), 11, frame(1, false, 1)),
        Enqueued::Dropped,
        "rest of the frame"
    );
    assert_eq!(video(&mut pacer, now + ms(70), 20, frame(2, false, 2)), Enqueued::Dropped, "refers to it");
    assert_eq!(video(&mut pacer, now + ms(70), 30, frame(3, false, 0)), Enqueued::Queued);
    assert_eq!(video(&mut pacer, now + ms(70), 40, frame(4, false, 2)), Enqueued::Queued);
}

#[test]
fn a_base_layer_too_late_empties_the_track_until_a_keyframe() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(50));
    for number in 0..10 {
        video(&mut pacer, now, number, frame(number, false, 0));
    }
    run(&mut pacer, now, now + ms(1000));
    assert_eq!(pacer.poll_event(), Some(PacerEvent::Flushed(SLOT)));
    let later = now + ms(1000);
    assert_eq!(video(&mut pacer, later, 20, frame(20, false, 0)), Enqueued::Dropped);
    assert_eq!(video(&mut pacer, later, 21, frame(21, true, 0)), Enqueued::Queued);
    assert_eq!(video(&mut pacer, later, 22, frame(22, false, 0)), Enqueued::Queued);
}

#[test]
fn a_keyframe_replaces_what_is_late_before_it() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(300));
    for number in 0..5 {
        video(&mut pacer, now, number, frame(number, false, 0));
    }
    video(&mut pacer, now + ms(40), 100, frame(10, true, 0));
    let left = items(&run(&mut pacer, now + ms(40), now + ms(300)));
    assert_eq!(left, [100]);
}

#[test]
fn repairs_that_nobody_waits_for_any_more_leave_the_queue() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(1000));
    for item in 1..=20 {
        pacer.enqueue(now, PacketClass::VideoRtx, item, FULL);
    }
    video(&mut pacer, now, 100, frame(1, true, 0));
    pacer.retain_repairs(|item| *item > 18);
    let left = run(&mut pacer, now, now + ms(200));
    assert_eq!(items(&left), [19, 20, 100]);
    let counters = pacer.counters();
    assert_eq!((counters.enqueued, counters.sent, counters.dropped), (21, 3, 18));
}

#[test]
fn a_hold_lets_audio_pass_and_keeps_reports_coming() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), Pacing { hold: Some(ms(20)), ..pacing(1000) });
    video(&mut pacer, now, 1, frame(1, false, 0));
    let left = run(&mut pacer, now, now + ms(200));
    assert!(items(&left).is_empty());
    assert!((8..=11).contains(&left.len()), "one small packet per 20 ms: {}", left.len());
    pacer.enqueue(now + ms(201), PacketClass::Audio, 7, DataSize::bytes(100));
    assert_eq!(items(&run(&mut pacer, now + ms(201), now + ms(202))), [7]);
}

#[test]
fn a_hold_without_padding_lets_video_pass() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), Pacing { hold: Some(ms(20)), ..pacing(1000) });
    video(&mut pacer, now, 1, frame(1, false, 0));
    let at = now + ms(25);
    let Some(Departure::Padding { size, .. }) = pacer.next(at) else { panic!("keepalive is due") };
    pacer.padding_made(size, DataSize::ZERO);
    assert_eq!(items(&run(&mut pacer, at, at + ms(20))), [1], "else nothing would ever be reported");
}

#[test]
fn a_probe_has_its_rate_its_size_and_its_tag() {
    let now = clock::start();
    let mut pacer = Pacer::new(now, Ticks::since(now), pacing(750));
    let cluster = ClusterId { number: 1, kind: ProbeKind::Cluster };
    let plan = ProbePlan {
        cluster,
        rate: Bitrate::kbps(1800),
        size: DataSize::bytes(3375),
        min_packets: 5,
        packet: DataSize::bytes(420),
    };
    pacer.follow(now, Pacing { probe: Some(plan), ..pacing(750) });
    video(&mut pacer, now, 1, frame(1, false, 0));
    let left = run(&mut pacer, now, now + ms(100));
    let mut sent = 0;
    for (_, departure) in &left {
        let (size, tag) = match departure {
            Departure::Packet { size, cluster, .. } | Departure::Padding { size, cluster } => (size, cluster),
        };
        assert_eq!(*tag, Some(cluster));
        sent += size.as_bytes();
    }
    assert!((3375..=3375 + 420).contains(&sent), "{sent}");
    let took = left.last().expect("packets").0 - now;
    assert!(took > ms(9) && took < ms(22), "{took:?}");
    pacer.follow(now + ms(100), Pacing { probe: Some(plan), ..pacing(750) });
    assert!(run(&mut pacer, now + ms(100), now + ms(200)).is_empty(), "a plan is carried out once");
}

#[test]
fn padding_that_cannot_be_made_is_not_asked_for_again() {
    let now = clock::start();
    let cluster = ClusterId { number: 1, kind: ProbeKind::Soak };
    let plan = ProbePlan {
        cluster,
        rate: Bitrate::kbps(1800),
        size: DataSize::bytes(60_000),
        min_packets: 5,
        packet: DataSize::bytes(420),
    };
    let mut pacer: Pacer<u32> = Pacer::new(now, Ticks::since(now), pacing(750));
    pacer.follow(now, Pacing { probe: Some(plan), ..pacing(750) });
    let at = now + ms(2);
    let Some(Departure::Padding { size, .. }) = pacer.next(at) else { panic!("padding is due") };
    pacer.padding_made(size, DataSize::ZERO);
    assert!(pacer.next(at).is_none());
    assert_eq!(pacer.next_timeout(), None);
}

#[test]
fn a_keyframe_of_a_smaller_layer_does_not_wait_behind_what_it_replaces() {
    let mut now = clock::start();
    let held = Pacing { hold: Some(ms(20)), ..pacing(300) };
    let mut pacer: Pacer<u32> = Pacer::new(now, Ticks::since(now), pacing(300));
    for number in 0..20 {
        video(&mut pacer, now, number, frame(0, false, 0)); // 24 kB: over half a second
    }
    let begun = items(&run(&mut pacer, now, now + ms(10)));
    assert!(!begun.is_empty());
    now += ms(10);
    pacer.follow(now, held); // the path drains
    for number in 20..23 {
        video(&mut pacer, now, number, frame(1, true, 0));
    }
    run(&mut pacer, now, now + ms(450));
    now += ms(450);
    pacer.follow(now, pacing(300));
    let left = items(&run(&mut pacer, now, now + ms(300)));
    assert_eq!(left, [20, 21, 22], "neither the old picture nor a wait for another keyframe");
    assert_eq!(pacer.poll_event(), None);
}

proptest! {
    /// Whatever is enqueued: nothing is lost from the books, frames leave whole, audio at once.
    #[test]
    fn conservation_and_whole_frames(
        kbps in 50_u64..5000,
        arrivals in prop::collection::vec((0_u64..40, 0_u8..3, 1_u32..6, any::<bool>()), 1..150),
    ) {
        let mut now = clock::start();
        let mut pacer: Pacer<u32> = Pacer::new(now, Ticks::since(now), pacing(kbps));
        let mut left = Vec::new();
        let mut offered = std::collections::HashMap::new();
        for (number, (wait, temporal, packets, audio)) in arrivals.into_iter().enumerate() {
            let number = number as u32;
            left.extend(run(&mut pacer, now, now + ms(wait)));
            now += ms(wait);
            if audio {
                pacer.enqueue(now, PacketClass::Audio, u32::MAX, DataSize::bytes(120));
                let first = pacer.next(now);
                let passed = matches!(first, Some(Departure::Packet { class: PacketClass::Audio, .. }));
                prop_assert!(passed);
            }
            let keyframe = number.is_multiple_of(20);
            let temporal = if keyframe { 0 } else { temporal };
            for packet in 0..packets {
                video(&mut pacer, now, number * 8 + packet, frame(number, keyframe, temporal));
            }
            offered.insert(number, packets);
        }
        left.extend(run(&mut pacer, now, now + ms(20_000)));
        let counters = pacer.counters();
        prop_assert_eq!(counters.enqueued, counters.sent + counters.dropped + pacer.queued() as u64);
        prop_assert!(pacer.queued() > 0 || pacer.waiting == DataSize::ZERO);
        let mut flushed = false;
        while let Some(event) = pacer.poll_event() {
            flushed |= matches!(event, PacerEvent::Flushed(_));
        }
        if !flushed {
            let mut sent: Vec<(u32, u32)> = Vec::new();
            for number in items(&left).into_iter().filter(|item| *item != u32::MAX).map(|item| item / 8) {
                match sent.last_mut() {
                    Some((last, count)) if *last == number => *count += 1,
                    _ => sent.push((number, 1)),
                }
            }
            let next = sent.iter().skip(1).map(|(next, _)| Some(*next)).chain([None]);
            for ((number, count), next) in sent.iter().zip(next) {
                let cut_off = next.is_some_and(|next| next.is_multiple_of(20));
                prop_assert!(*count == offered[number] || cut_off, "frame {} in part", number);
            }
        }
    }
}
