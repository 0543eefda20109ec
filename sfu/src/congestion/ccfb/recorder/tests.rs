use super::*;
use crate::congestion::ccfb::{Metric, parse};
use crate::wire::rtcp::{Packet, packets};
use sfu_testkit::clock;

const ONE: Ssrc = Ssrc(1);
const TWO: Ssrc = Ssrc(2);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// All reports due at `now`, as (stream, number, 1/1024 s before the report).
fn reports(recorder: &mut StreamRecorder, now: Instant, room: usize) -> Vec<(u32, u16, Option<u16>)> {
    let mut buf = vec![0; room];
    let mut all = Vec::new();
    while let Some(len) = recorder.write(now, &mut buf, Ssrc(7), NtpTime(0x1234_5678_9abc_def0)) {
        assert!(len <= room);
        assert_eq!((buf[0], buf[1]), (0x8b, 205));
        assert_eq!(buf[4..8], [0, 0, 0, 7]);
        let mut read = packets(&buf[..len]);
        let Some(Ok(Packet::Ccfb(body))) = read.next() else { panic!("not a report by stream") };
        assert!(read.next().is_none());
        let report = parse(body).expect("what we write we read");
        assert_eq!(report.timestamp, 0x5678_9abc);
        for block in report.blocks() {
            for (step, metric) in block.metrics().enumerate() {
                let came = match metric {
                    Metric::Missing => None,
                    Metric::Arrived(offset) => Some(offset.unwrap_or(u16::MAX)),
                };
                all.push((block.ssrc, block.begin.wrapping_add(step as u16), came));
            }
        }
    }
    all
}

#[test]
fn each_stream_has_its_block() {
    let start = clock::start();
    let mut recorder = StreamRecorder::default();
    assert_eq!(recorder.next_timeout(), None);
    for (at, ssrc, number) in [(0, ONE, 65_535), (10, TWO, 9), (20, ONE, 1), (30, TWO, 10), (31, TWO, 10)] {
        recorder.on_received(start + ms(at), ssrc, number, 1200);
    }
    assert_eq!(recorder.next_timeout(), Some(start + ms(50)));
    assert!(reports(&mut recorder, start + ms(49), 1200).is_empty());
    let expected = [
        (1, 65_535, Some(51)), // 50 ms
        (1, 0, None),
        (1, 1, Some(30)),
        (2, 9, Some(40)),
        (2, 10, Some(20)), // of the first copy
    ];
    assert_eq!(reports(&mut recorder, start + ms(50), 1200), expected);
    assert_eq!(recorder.next_timeout(), None);
}

#[test]
fn a_late_packet_is_reported_with_those_behind_it() {
    let start = clock::start();
    let mut recorder = StreamRecorder::default();
    for number in [1, 2, 4] {
        recorder.on_received(start, ONE, number, 100);
    }
    assert_eq!(recorder.next_timeout(), Some(start + ms(100)), "at low rates half as often");
    assert_eq!(reports(&mut recorder, start + ms(100), 1200).len(), 4);
    recorder.on_received(start + ms(110), ONE, 3, 100);
    recorder.on_received(start + ms(120), ONE, 5, 100);
    let seen = reports(&mut recorder, start + ms(200), 1200);
    assert_eq!(seen, [(1, 3, Some(92)), (1, 4, Some(204)), (1, 5, Some(81))]);
}

#[test]
fn a_gap_is_reported_at_once_and_what_is_long_ago_as_such() {
    let start = clock::start();
    let mut recorder = StreamRecorder::default();
    recorder.on_received(start, ONE, 5, 100);
    recorder.on_received(start + ms(9000), ONE, 30, 100);
    let seen = reports(&mut recorder, start + ms(9000), 1200);
    assert_eq!(seen.len(), 26);
    assert_eq!((seen[0], seen[25]), ((1, 5, Some(u16::MAX)), (1, 30, Some(0))));
}

#[test]
fn reports_are_cut_where_they_do_not_fit() {
    let start = clock::start();
    for room in [64, 100, 500] {
        let mut recorder = StreamRecorder::default();
        for number in 0..200 {
            recorder.on_received(start, ONE, number, 100);
            recorder.on_received(start, TWO, number, 100);
        }
        let seen = reports(&mut recorder, start + ms(100), room);
        let expected =
            [1, 2].into_iter().flat_map(|ssrc| (0..200).map(move |number| (ssrc, number, Some(102))));
        let mut sorted = seen.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(expected), "{room}");
        assert_eq!(recorder.next_timeout(), None);
    }
}

#[test]
fn streams_and_leaps_stay_bounded() {
    let start = clock::start();
    let mut recorder = StreamRecorder::default();
    for ssrc in 0..10_000 {
        recorder.on_received(start, Ssrc(ssrc), 1, 100);
    }
    assert_eq!(recorder.streams.len(), MOST_STREAMS);
    assert_eq!(reports(&mut recorder, start + ms(100), 1200).len(), MOST_STREAMS);
    recorder.on_received(start + IDLE, Ssrc(77_777), 1, 100);
    assert_eq!(
        reports(&mut recorder, start + IDLE, 1200),
        [(77_777, 1, Some(0))],
        "in the place of an old one"
    );

    let mut recorder = StreamRecorder::default();
    for number in [0, 30_000, 60_000, 25_000, 40_000] {
        recorder.on_received(start, ONE, number, 100);
    }
    assert!(reports(&mut recorder, start + ms(100), 1200).len() <= SPAN as usize);
    for number in 0..20_000 {
        recorder.on_received(start + ms(200), TWO, number, 100);
    }
    assert!(
        reports(&mut recorder, start + ms(200), 1200).len() <= LATE as usize,
        "whatever nobody asked for"
    );
}
