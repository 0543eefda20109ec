use super::*;
use crate::congestion::PacketClass;
use crate::congestion::twcc::{self, SentLog};
use crate::units::DataSize;
use proptest::prelude::*;
use sfu_testkit::clock;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// All reports due at `now`: number -> arrival in microseconds after the recorder's origin.
fn reports(recorder: &mut FeedbackRecorder, now: Instant, room: usize) -> Vec<(u16, Option<i64>)> {
    let mut buf = vec![0; room];
    let mut all = Vec::new();
    while let Some(len) = recorder.write(now, &mut buf, Ssrc(7), Ssrc(9)) {
        assert!(len <= room && len % 4 == 0);
        assert_eq!(usize::from(u16::from_be_bytes([buf[2], buf[3]])) * 4 + 4, len, "length field");
        assert_eq!((buf[0] & 0x1f, buf[1]), (15, 205));
        assert_eq!(buf[4..12], [0, 0, 0, 7, 0, 0, 0, 9]);
        let report = twcc::parse(&buf[12..len]).expect("what we write we read");
        let mut entries: Vec<_> = (0..report.count).map(|i| (report.base.wrapping_add(i), None)).collect();
        for (offset, time) in report.received() {
            entries[usize::from(offset)].1 = Some(i64::from(report.reference) * 64_000 + time);
        }
        all.extend(entries);
    }
    all
}

#[test]
fn arrivals_survive_the_round_trip_over_a_wrap() {
    let start = clock::start();
    let mut recorder = FeedbackRecorder::new(start);
    let mut expected = Vec::new();
    for i in 0..300_u64 {
        let number = 65_400_u16.wrapping_add(i as u16);
        let arrival = (i % 11 != 3).then_some(i * 1700);
        if let Some(micros) = arrival {
            recorder.on_received(start + Duration::from_micros(micros), number, 1200);
        }
        expected.push((number, arrival.map(|micros| (micros / 250 * 250) as i64)));
    }
    assert_eq!(reports(&mut recorder, start + ms(600), 1200), expected);
    assert_eq!(recorder.next_timeout(), None);
}

#[test]
fn reports_come_every_50_ms_and_half_as_often_at_low_rates() {
    let start = clock::start();
    for (size, interval) in [(1200, 50), (100, 100)] {
        let mut recorder = FeedbackRecorder::new(start);
        assert_eq!(recorder.next_timeout(), None, "nothing to report");
        recorder.on_received(start, 5, size);
        recorder.on_received(start + ms(10), 6, size);
        assert_eq!(recorder.next_timeout(), Some(start + ms(interval)));
        assert!(reports(&mut recorder, start + ms(interval - 1), 1200).is_empty());
        assert_eq!(reports(&mut recorder, start + ms(interval), 1200).len(), 2);
    }
}

/// Found by fuzzing: the oldest number to report lies before the first one that came, in the cycle before.
#[test]
fn a_number_from_before_the_first_does_not_stop_the_window() {
    let start = clock::start();
    let mut recorder = FeedbackRecorder::new(start);
    for (at, number) in [(0, 0), (1, 65_024), (2, 1536)] {
        recorder.on_received(start + ms(at), number, 1200);
    }
    let seen = reports(&mut recorder, start + ms(60), 1200);
    let arrived: Vec<_> = seen.iter().filter(|(_, arrival)| arrival.is_some()).map(|entry| entry.0).collect();
    assert_eq!(arrived, [0, 1536], "the oldest is out of the window");
}

#[test]
fn a_gap_is_reported_at_once() {
    let start = clock::start();
    let mut recorder = FeedbackRecorder::new(start);
    recorder.on_received(start, 5, 1200);
    recorder.on_received(start + ms(1), 30, 1200);
    let seen = reports(&mut recorder, start + ms(1), 1200);
    assert_eq!(seen.len(), 26);
    assert_eq!(seen.iter().filter(|(_, arrival)| arrival.is_some()).count(), 2);
}

#[test]
fn a_late_packet_is_reported_with_its_neighbours() {
    let start = clock::start();
    let mut recorder = FeedbackRecorder::new(start);
    for number in [1, 2, 4] {
        recorder.on_received(start, number, 1200);
    }
    assert_eq!(
        reports(&mut recorder, start + ms(50), 1200),
        [(1, Some(0)), (2, Some(0)), (3, None), (4, Some(0))]
    );
    recorder.on_received(start + ms(60), 3, 1200);
    recorder.on_received(start + ms(60), 3, 1200);
    assert_eq!(reports(&mut recorder, start + ms(150), 1200), [(3, Some(60_000)), (4, Some(0))]);
}

#[test]
fn a_wide_span_and_a_new_life_stay_bounded() {
    let start = clock::start();
    let mut recorder = FeedbackRecorder::new(start);
    recorder.on_received(start, 0, 1200);
    recorder.on_received(start, 2000, 1200);
    let seen = reports(&mut recorder, start, 1200);
    assert_eq!(seen.len(), 2001, "over several packets if need be");
    recorder.on_received(start + ms(1), 30_000, 1200);
    let seen = reports(&mut recorder, start + ms(200), 1200);
    assert_eq!(seen, [(30_000, Some(1000))], "more than half the memory away: from here on");
    recorder.on_received(start + ms(300), 30_000 - 2500, 1200);
    assert_eq!(recorder.next_timeout(), None, "too late");
}

#[test]
fn long_silence_between_packets_needs_a_new_reference() {
    let start = clock::start();
    let mut recorder = FeedbackRecorder::new(start);
    recorder.on_received(start, 1, 100);
    recorder.on_received(start + ms(20_000), 2, 100);
    let seen = reports(&mut recorder, start + ms(20_000), 1200);
    assert_eq!(seen, [(1, Some(0)), (2, Some(20_000_000))]);
}

proptest! {
    /// Whatever arrives, in whatever order, the sender learns every arrival within the memory.
    #[test]
    fn a_sender_learns_what_arrived(
        steps in prop::collection::vec((0_u16..40, 0_u64..30_000, 0_usize..8), 1..300),
        room in 64_usize..1300,
    ) {
        let start = clock::start();
        let (mut recorder, mut log) = (FeedbackRecorder::new(start), SentLog::new());
        let mut now = start;
        let mut last = log.next_number();
        log.on_sent(now, DataSize::bytes(100), PacketClass::Video, None);
        let mut arrived = std::collections::BTreeSet::new();
        let mut learned = std::collections::BTreeSet::new();
        for (skip, wait, back) in steps {
            for _ in 0..skip {
                last = log.on_sent(now, DataSize::bytes(100), PacketClass::Video, None);
            }
            now += Duration::from_micros(wait);
            let number = last.saturating_sub(back as u16).max(1);
            recorder.on_received(now, number, 100);
            arrived.insert(number);
            let mut buf = vec![0; room];
            let mut sink = Vec::new();
            while let Some(len) = recorder.write(now, &mut buf, Ssrc(1), Ssrc(2)) {
                log.on_feedback(now, &buf[12..len], &mut sink).expect("an honest report");
                learned.extend(sink.iter().filter(|a| a.arrival.is_some()).map(|a| a.number.wire()));
            }
        }
        now += ms(200);
        let mut buf = vec![0; room];
        let mut sink = Vec::new();
        while let Some(len) = recorder.write(now, &mut buf, Ssrc(1), Ssrc(2)) {
            log.on_feedback(now, &buf[12..len], &mut sink).expect("an honest report");
            learned.extend(sink.iter().filter(|a| a.arrival.is_some()).map(|a| a.number.wire()));
        }
        let missing: Vec<_> = arrived.difference(&learned).collect();
        let fresh = log.take_refused() == [0; 5] || missing.iter().all(|n| **n < last);
        prop_assert!(fresh);
        prop_assert!(missing.is_empty(), "{missing:?}");
    }
}
