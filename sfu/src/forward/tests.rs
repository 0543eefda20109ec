use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::cache::{Carried, PacketCache, PacketMeta};
use super::rewrite::{Join, Rewriter};
use super::select::{Decision, Layout, Selector};
use super::sent::{Answer, Reported, SentLog};
use crate::command::MediaKind;
use crate::ids::{LayerId, SeqNo};
use crate::stats::NackRefusal;
use crate::units::RtpTime;
use crate::wire::description::{PacketDescription, Vp8Numbers};

fn layer(spatial: u8, temporal: u8) -> LayerId {
    LayerId { spatial, temporal }
}

fn meta(now: Instant, seq: SeqNo, timestamp: RtpTime, description: PacketDescription) -> PacketMeta {
    let carried = Carried::default();
    PacketMeta {
        seq,
        marker: description.frame_end,
        payload_type: 96,
        timestamp,
        arrival: now,
        description,
        carried,
    }
}

#[test]
fn the_cache_keeps_a_second_by_growing_and_forgets_what_is_older() {
    let start = crate::test_time();
    let mut cache = PacketCache::default();
    let first = SeqNo::first(60_000);
    let payload = [7; 1000];
    // 400 packets a second for 3 s: 400 kB must be there, so that the ring grows to 512 KiB.
    for n in 0..1200 {
        let now = start + Duration::from_micros(2500) * n as u32;
        cache.insert(
            meta(now, first.plus(n), RtpTime(n as u32), PacketDescription::default()),
            &[1, 2],
            &payload,
        );
    }
    let newest = cache.get(first.plus(1199)).unwrap();
    assert_eq!((newest.dependency_descriptor, newest.payload), (&[1, 2][..], &payload[..]));
    assert!(cache.contains(first.plus(1199 - 395)), "a second ago");
    assert!(!cache.contains(first), "three seconds ago");
    assert!(cache.get(first.plus(1200)).is_none());
}

/// A log of one packet with the transport-wide number 7, and its number.
fn one_sent(start: Instant) -> (SentLog, u16) {
    let mut rng = fastrand::Rng::with_seed(1);
    let numbers = Rewriter::new(&mut rng).number(SeqNo::first(5), RtpTime(0), None, &PacketCache::default());
    let numbers = numbers.expect("the first gets a number");
    let mut log = SentLog::new(MediaKind::Video);
    log.insert(start, numbers, 0, SeqNo::first(5), true, 1200, Some(7));
    (log, numbers.seq.wire())
}

/// Asks for a packet once each `interval` for `rounds`; which copies were lost is told by `reported`. Answers, by kind.
fn ask(interval: Duration, rounds: u32, reported: impl Fn(u16) -> Reported) -> Vec<Option<NackRefusal>> {
    let start = crate::test_time();
    let (mut log, wire) = one_sent(start);
    let answers = (0..rounds).map(|round| {
        let now = start + interval * round;
        match log.handle_nack(now, Duration::from_millis(50), wire, &reported) {
            Answer::Refuse(reason) => Some(reason),
            Answer::Accept { first } => {
                assert_eq!(first, round == 0);
                log.release(now, wire, true);
                log.resent(now, wire, Some(100 + round as u16));
                None
            }
        }
    });
    answers.collect()
}

#[test]
fn a_nack_is_answered_four_times_and_ten_times_if_reports_confirm_it() {
    let answered = |reported| {
        let answers = ask(Duration::from_millis(50), 12, |_| reported);
        let count = answers.iter().take_while(|answer| answer.is_none()).count();
        assert!(answers[count..].iter().all(|answer| *answer == Some(NackRefusal::TooOften)), "{answers:?}");
        count
    };
    assert_eq!(answered(Reported::Unknown), 4);
    assert_eq!(answered(Reported::Missing), 10);
}

#[test]
fn a_nack_is_not_answered_within_a_round_trip_or_after_a_second() {
    let answers = ask(Duration::from_millis(13), 4, |_| Reported::Unknown);
    let soon = Some(NackRefusal::TooSoon);
    assert_eq!(answers, [None, soon, soon, soon], "39 ms are less than 0.8 of 50");
    let answers = ask(Duration::from_millis(334), 4, |_| Reported::Missing);
    assert_eq!(answers, [None, None, None, Some(NackRefusal::TooOld)]);
}

#[test]
fn a_nack_for_what_was_reported_as_received_is_not_answered() {
    let start = crate::test_time();
    let rtt = Duration::from_millis(50);
    let arrived = Answer::Refuse(NackRefusal::Arrived);
    let (mut log, wire) = one_sent(start);
    let of = |number| move |copy| if copy == number { Reported::Arrived } else { Reported::Unknown };
    assert_eq!(log.handle_nack(start, rtt, wire, of(7)), arrived);
    let unknown = Answer::Refuse(NackRefusal::Unknown);
    assert_eq!(log.handle_nack(start, rtt, wire.wrapping_add(1), of(7)), unknown);
    assert_eq!(log.handle_nack(start, rtt, wire, of(8)), Answer::Accept { first: true });
    let held = Answer::Refuse(NackRefusal::TooSoon);
    assert_eq!(log.handle_nack(start + rtt, rtt, wire, of(8)), held, "it waits for its turn");
    log.release(start + rtt, wire, true);
    log.resent(start + rtt, wire, Some(8));
    assert_eq!(log.handle_nack(start + rtt * 2, rtt, wire, of(8)), arrived, "the second copy came");
    assert_eq!(log.handle_nack(start + rtt * 2, rtt, wire, of(7)), arrived, "the first came late");
}

/// A publisher with two encodings of VP8 in two temporal layers, and one subscriber.
struct Bench {
    now: Instant,
    caches: [PacketCache; 2],
    selector: Selector,
    rewriter: Rewriter,
    source: u8,
    last_sent: Option<(Instant, RtpTime)>,
    sent: Vec<Out>,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    encoding: u8,
    keyframe: bool,
    frame: u32,
    temporal: u8,
    seq: SeqNo,
    timestamp: RtpTime,
    picture_id: u16,
    tl0: u8,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Bench {
            now: crate::test_time(),
            caches: [PacketCache::default(), PacketCache::default()],
            selector: Selector::new(Layout::Simulcast),
            rewriter: Rewriter::new(&mut rng),
            source: 0,
            last_sent: None,
            sent: Vec::new(),
        }
    }

    fn arrive(
        &mut self,
        encoding: u8,
        seq: SeqNo,
        timestamp: RtpTime,
        frame: u32,
        description: PacketDescription,
    ) {
        let m = meta(self.now, seq, timestamp, description);
        self.caches[usize::from(encoding)].insert(m, &[], &[0; 10]);
        let decision = self.selector.select(encoding, seq, timestamp, &description);
        let switch = matches!(decision, Decision::Switch { .. });
        if decision == Decision::Drop {
            return;
        }
        if switch {
            let elapsed =
                self.last_sent.map_or(0, |(at, _)| self.now.duration_since(at).as_millis() as i32 * 90);
            self.rewriter.switch(timestamp, Join { ticks: elapsed, at_least: 900 }, description.vp8.as_ref());
            self.source = encoding;
        }
        assert_eq!(self.source, encoding);
        let cache = &self.caches[usize::from(encoding)];
        if let Some(n) = self.rewriter.number(seq, timestamp, description.vp8.as_ref(), cache) {
            self.last_sent = Some((self.now, n.timestamp));
            self.sent.push(Out {
                encoding,
                keyframe: description.keyframe,
                frame,
                temporal: description.temporal,
                seq: n.seq,
                timestamp: n.timestamp,
                picture_id: n.picture_id,
                tl0: n.tl0_pic_idx,
            });
        }
    }
}

proptest! {
    /// Layers go up and down, packets are lost upstream, all counters wrap: what leaves is one decodable stream.
    #[test]
    fn any_switching_gives_one_continuous_stream(
        seed: u64,
        targets in proptest::collection::vec((0_u8..2, 0_u8..2), 1..12),
        lost in proptest::collection::hash_set(0_u32..600, 0..20),
    ) {
        let mut bench = Bench::new(seed);
        let mut seqs = [SeqNo::first(65_500), SeqNo::first(20)];
        let starts = [RtpTime(u32::MAX - 40_000), RtpTime(123)];
        let mut tl0 = [250_u8, 3];
        let mut key_due = [true, true];
        let mut count = 0;
        for frame in 0..120_u32 {
            bench.now += Duration::from_millis(33);
            if frame.is_multiple_of(10) {
                let (spatial, temporal) = targets[(frame as usize / 10) % targets.len()];
                bench.selector.set_target(Some(layer(spatial, temporal)));
            }
            if let Some(encoding) = bench.selector.wants_keyframe() {
                key_due[usize::from(encoding)] = true;
            }
            for encoding in 0..2_u8 {
                let e = usize::from(encoding);
                let temporal = if key_due[e] { 0 } else { (frame % 2) as u8 };
                let keyframe = std::mem::take(&mut key_due[e]);
                tl0[e] = tl0[e].wrapping_add(u8::from(temporal == 0));
                for part in 0..2 {
                    let seq = seqs[e];
                    seqs[e] = seqs[e].plus(1);
                    count += 1;
                    if lost.contains(&count) {
                        // A sender whose keyframe was lost is asked again.
                        key_due[e] |= keyframe;
                        continue;
                    }
                    let description = PacketDescription {
                        frame_start: part == 0,
                        frame_end: part == 1,
                        keyframe: keyframe && part == 0,
                        temporal,
                        temporal_sync: true,
                        vp8: Some(Vp8Numbers {
                            picture_id: Some((32_700 + frame) as u16 & 0x7fff),
                            wide_picture_id: true,
                            tl0_pic_idx: Some(tl0[e]),
                            ..Default::default()
                        }),
                        ..Default::default()
                    };
                    bench.arrive(encoding, seq, starts[e].plus(frame as i32 * 3000), frame, description);
                }
            }
        }
        prop_assert!(!bench.sent.is_empty());
        prop_assert!(bench.sent[0].keyframe);
        let mut gaps = 0;
        for pair in bench.sent.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let step = b.seq.distance(a.seq);
            prop_assert!(step >= 1, "{a:?} {b:?}");
            gaps += step - 1;
            prop_assert!(b.timestamp.distance(a.timestamp) >= 0, "{a:?} {b:?}");
            let same_frame = a.encoding == b.encoding && a.frame == b.frame;
            prop_assert_eq!(same_frame, a.timestamp == b.timestamp, "{:?} {:?}", a, b);
            prop_assert_eq!(same_frame, a.picture_id == b.picture_id, "{:?} {:?}", a, b);
            if a.encoding != b.encoding {
                prop_assert!(b.keyframe, "spatial change without keyframe: {a:?} {b:?}");
            }
            if !same_frame && step == 1 {
                prop_assert_eq!(b.picture_id, (a.picture_id + 1) & 0x7fff, "{:?} {:?}", a, b);
                let tl0_step = b.tl0.wrapping_sub(a.tl0);
                prop_assert_eq!(tl0_step, u8::from(b.temporal == 0), "{:?} {:?}", a, b);
            }
        }
        prop_assert!(gaps <= lost.len() as i64, "{gaps} gaps for {} losses", lost.len());
    }
}

#[test]
fn a_packet_that_was_resent_upstream_finds_the_number_kept_for_it() {
    let mut bench = Bench::new(1);
    bench.selector.set_target(Some(layer(0, 1)));
    let first = SeqNo::first(10);
    let describe = |keyframe, picture: u16| PacketDescription {
        frame_start: true,
        frame_end: true,
        keyframe,
        vp8: Some(Vp8Numbers {
            picture_id: Some(picture),
            wide_picture_id: true,
            tl0_pic_idx: Some(picture as u8),
            ..Default::default()
        }),
        ..Default::default()
    };
    for n in [0_u16, 1, 3, 2, 4] {
        bench.now += Duration::from_millis(33);
        let timestamp = RtpTime(u32::from(n) * 3000);
        bench.arrive(0, first.plus(u64::from(n)), timestamp, u32::from(n), describe(n == 0, 100 + n));
    }
    let start = bench.sent[0];
    for out in &bench.sent {
        let n = out.frame;
        assert_eq!(out.seq.distance(start.seq), i64::from(n), "{out:?}");
        assert_eq!(out.timestamp.distance(start.timestamp), n as i32 * 3000, "{out:?}");
        assert_eq!(out.picture_id, start.picture_id + n as u16, "{out:?}");
        assert_eq!(out.tl0, start.tl0.wrapping_add(n as u8), "{out:?}");
    }
    assert_eq!(bench.sent.len(), 5);
}

#[test]
fn a_late_packet_is_neither_lost_behind_its_successors_nor_missed_for_ever() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut rewriter = Rewriter::new(&mut rng);
    let mut cache = PacketCache::default();
    let seq = |n: u64| SeqNo::first(10).plus(n);
    // 1 and 2 came after 3 had; 3 leaves first. 1 is selected, 2 is not.
    for n in [0, 3, 1, 2] {
        cache.insert(meta(crate::test_time(), seq(n), RtpTime(0), PacketDescription::default()), &[], &[0]);
    }
    let first = rewriter.number(seq(0), RtpTime(0), None, &cache).unwrap().seq;
    rewriter.await_late(seq(1));
    assert_eq!(rewriter.decline_late(seq(2)), None, "its number is not kept, and need not be closed");
    let mut number = |n| rewriter.number(seq(n), RtpTime(0), None, &cache).map(|n| n.seq.distance(first));
    assert_eq!([3, 1, 1].map(&mut number), [Some(2), Some(1), None]);

    // 4 and 5 are missing when 6 leaves; then both come, and 5 is not wanted.
    assert_eq!(number(6), Some(5));
    assert_eq!(number(4), Some(3));
    let closed = rewriter.decline_late(seq(5)).map(|out| out.distance(first));
    assert_eq!(closed, Some(4));
    assert_eq!(rewriter.decline_late(seq(5)), None, "once");
}

#[test]
fn svc_goes_down_between_pictures_and_up_at_a_keyframe() {
    let mut selector = Selector::new(Layout::Svc);
    selector.set_target(Some(layer(1, 0)));
    let mut seq = SeqNo::first(0);
    let mut picture_of = |layers: u8, selector: &mut Selector, n: u32, keyframe: bool| -> Vec<Decision> {
        (0..layers)
            .map(|spatial| {
                seq = seq.plus(1);
                let description = PacketDescription {
                    frame_start: true,
                    frame_end: true,
                    picture_end: spatial + 1 == layers,
                    keyframe: keyframe && spatial == 0,
                    spatial,
                    ..Default::default()
                };
                selector.select(0, seq, RtpTime(n * 3000), &description)
            })
            .collect()
    };
    let mut picture = |selector: &mut Selector, n, keyframe| picture_of(3, selector, n, keyframe);
    let (go, end, no) =
        (Decision::Forward { marker: false }, Decision::Forward { marker: true }, Decision::Drop);
    assert_eq!(picture(&mut selector, 0, false), [no, no, no], "nothing before a keyframe");
    assert_eq!(picture(&mut selector, 1, true), [Decision::Switch { marker: false }, end, no]);
    selector.set_target(Some(layer(0, 0)));
    assert_eq!(picture(&mut selector, 2, false), [end, no, no]);
    selector.set_target(Some(layer(2, 0)));
    assert_eq!(selector.wants_keyframe(), Some(0));
    assert_eq!(picture(&mut selector, 3, false), [end, no, no]);
    assert_eq!(picture(&mut selector, 4, true), [go, go, end]);
    assert_eq!(picture_of(2, &mut selector, 5, false), [go, end], "the sender has left one out");
}
