use super::*;
use crate::congestion::PacketClass;
use crate::stats::FeedbackRefusals;
use crate::units::DataSize;
use proptest::prelude::*;
use sfu_testkit::clock;
use std::time::Duration;

/// As in RFC 8888 §3.1: R, ECN and the offset.
const CAME: u16 = 0x8000;
const AUDIO: Ssrc = Ssrc(0x1111_1111);
const VIDEO: Ssrc = Ssrc(0x2222_2222);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A body of these blocks: SSRC, first number, metrics.
fn body(timestamp: u32, blocks: &[(Ssrc, u16, &[u16])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (ssrc, begin, metrics) in blocks {
        body.extend(ssrc.0.to_be_bytes());
        body.extend(begin.to_be_bytes());
        body.extend((metrics.len() as u16).to_be_bytes());
        body.extend(metrics.iter().flat_map(|metric| metric.to_be_bytes()));
        body.resize(body.len().next_multiple_of(4), 0);
    }
    body.extend(timestamp.to_be_bytes());
    body
}

/// A sender, with what it has made of reports.
struct Sender {
    now: Instant,
    streams: Streams,
    log: SentLog,
    sink: Vec<Acked>,
}

impl Sender {
    fn new() -> Sender {
        Sender { now: clock::start(), streams: Streams::default(), log: SentLog::new(), sink: Vec::new() }
    }

    fn send(&mut self, ssrc: Ssrc, numbers: impl IntoIterator<Item = u16>) {
        for number in numbers {
            self.streams.on_sent(self.now, (ssrc, number), &self.log);
            self.log.on_sent(self.now, DataSize::bytes(1000), PacketClass::Video, None);
        }
    }

    /// Transport-wide numbers and arrivals in milliseconds.
    fn read(&mut self, timestamp: u32, blocks: &[(Ssrc, u16, &[u16])]) -> Vec<(u16, Option<i64>)> {
        let body = body(timestamp, blocks);
        self.streams.on_report(self.now, &mut self.log, &body, &mut self.sink).expect("a valid report");
        let ms = |arrival: Arrival| arrival.as_micros() / 1000;
        self.sink.iter().map(|acked| (acked.number.wire(), acked.arrival.map(ms))).collect()
    }

    fn refused(&mut self, reason: FeedbackRefusal) -> u64 {
        let refused: FeedbackRefusals = self.log.take_refused();
        refused[reason as usize]
    }
}

#[test]
fn blocks_of_odd_and_even_length_are_read() {
    let bytes =
        body(7, &[(AUDIO, 65_535, &[CAME | 0x2000 | 512, 0, CAME | 0x1ffd]), (VIDEO, 9, &[CAME, CAME])]);
    assert_eq!(bytes.len(), 8 + 8 + 8 + 4 + 4);
    let report = parse(&bytes).expect("a valid report");
    assert_eq!(report.timestamp, 7);
    let read: Vec<_> = report.blocks().map(|b| (b.ssrc, b.begin, b.metrics().collect::<Vec<_>>())).collect();
    let came = |offset| Metric::Arrived(Some(offset));
    assert_eq!(read[0], (AUDIO.0, 65_535, vec![came(512), Metric::Missing, came(0x1ffd)]));
    assert_eq!(read[1], (VIDEO.0, 9, vec![came(0), came(0)]));
}

#[test]
fn what_is_cut_short_or_claims_too_much_is_refused() {
    let good = body(7, &[(AUDIO, 1, &[CAME; 3]), (VIDEO, 9, &[CAME; 2])]);
    assert!(parse(&good).is_ok());
    // All that is left of the first block and four bytes is a whole report.
    for len in (0..good.len()).filter(|len| *len != 20) {
        assert!(parse(&good[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(parse(&7_u32.to_be_bytes()), Err(CcfbError::Malformed), "no block");
    let with_count = |count: u16, metrics: usize| {
        let mut bytes = body(7, &[(AUDIO, 1, &vec![CAME; metrics])]);
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        bytes
    };
    assert!(parse(&with_count(16_384, 16_384)).is_ok());
    assert_eq!(parse(&with_count(16_385, 16_386)), Err(CcfbError::Malformed));
    assert_eq!(parse(&with_count(65_535, 600)), Err(CcfbError::Malformed));
    assert_eq!(parse(&with_count(16_000, 600)), Err(CcfbError::Truncated));
    assert!(parse(&with_count(0, 0)).is_ok_and(|report| report.blocks().all(|block| block.count() == 0)));
}

#[test]
fn times_are_counted_back_from_that_of_the_report() {
    let mut sender = Sender::new();
    sender.send(AUDIO, [65_535, 0]);
    sender.send(VIDEO, [7]);
    // 2 s; 512 and 256 units of 1/1024 s before, and at once.
    let told = sender.read(2 << 16, &[(AUDIO, 65_535, &[CAME | 512, CAME | 256]), (VIDEO, 7, &[CAME])]);
    assert_eq!(told, [(1, Some(1500)), (2, Some(1750)), (3, Some(2000))]);
    assert_eq!(sender.log.take_refused(), [0; 5]);
}

#[test]
fn an_arrival_without_a_time_is_neither_measured_nor_lost() {
    let mut sender = Sender::new();
    sender.send(VIDEO, 1..=3);
    let told = sender.read(2 << 16, &[(VIDEO, 1, &[CAME | 0x1ffe, CAME | 0x1fff, CAME])]);
    assert_eq!(told, [(3, Some(2000))]);
    for step in 1..4 {
        sender.now += ms(200);
        assert!(sender.read((2 << 16) + step, &[(VIDEO, 4, &[])]).is_empty());
    }
}

/// Reports may overlap (RFC 8888 §3.1), and a later one counts from a later time.
#[test]
fn each_packet_counts_once_and_a_loss_only_after_a_while() {
    let mut sender = Sender::new();
    sender.send(VIDEO, 1..=6);
    let told = sender.read(1 << 16, &[(VIDEO, 1, &[CAME, 0, CAME])]);
    assert_eq!(told, [(1, Some(1000)), (3, Some(1000))]);
    let told = sender.read(2 << 16, &[(VIDEO, 1, &[CAME | 1024, 0, CAME | 1024, CAME])]);
    assert_eq!(told, [(4, Some(2000))]);
    assert_eq!(sender.refused(FeedbackRefusal::Repeated), 2);
    let told = sender.read(3 << 16, &[(VIDEO, 5, &[CAME])]);
    assert_eq!(told, [(5, Some(3000)), (2, None)], "lost after two more reports");
    let told = sender.read(4 << 16, &[(VIDEO, 2, &[CAME | 0x64, CAME, CAME, CAME, CAME])]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(sender.sink[0].late && sender.sink[0].number.wire() == 2, "and taken back");
}

#[test]
fn parts_of_one_report_are_one_report() {
    let mut sender = Sender::new();
    sender.send(AUDIO, [1]);
    sender.send(VIDEO, 1..=4);
    for packet in 2..=4 {
        let told = sender.read(1 << 16, &[(VIDEO, packet, &[CAME])]);
        assert_eq!(told.len(), 1, "nothing is lost: {told:?}");
    }
    let told = sender.read(1 << 16, &[(AUDIO, 1, &[CAME])]);
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_report_that_did_not_come_is_no_loss_of_packets() {
    let told = |skipped: bool| {
        let mut sender = Sender::new();
        let mut lost = Vec::new();
        for round in 0..6_u16 {
            sender.send(AUDIO, [round]);
            sender.send(VIDEO, 3 * round..3 * round + 3);
            sender.now += ms(50);
            let timestamp = u32::from(round + 1) << 16;
            let told = match (round, skipped) {
                (2, true) => continue,
                // The audio packet is not heard of again: only its neighbours are.
                (2, false) => sender.read(timestamp, &[(VIDEO, 3 * round, &[0; 3])]),
                _ => sender.read(timestamp, &[(VIDEO, 3 * round, &[CAME; 3])]),
            };
            lost.extend(told.into_iter().filter(|(_, arrival)| arrival.is_none()).map(|(number, _)| number));
        }
        lost
    };
    let of_round = |round: u16| 4 * round + 1..4 * round + 5;
    let video = |round: u16| of_round(round).skip(1);
    assert!(!told(true).into_iter().any(|number| video(2).any(|of| of == number)), "{:?}", told(true));
    assert!(video(2).all(|of| told(false).contains(&of)), "{:?}", told(false));
}

#[test]
fn what_was_never_sent_is_counted_and_ignored() {
    let mut sender = Sender::new();
    sender.send(VIDEO, 1..=3);
    for block in [
        (Ssrc(9), 1, &[CAME; 3][..]),
        (VIDEO, 1, &[CAME; 4]),
        (VIDEO, 4, &[CAME]),
        (VIDEO, 20_000, &[CAME]),
        (VIDEO, 40_000, &[CAME; 1000]),
    ] {
        assert!(sender.read(1 << 16, &[block]).is_empty(), "{block:?}");
        let refused = sender.log.take_refused();
        let known = [FeedbackRefusal::NotSent, FeedbackRefusal::Old];
        assert!(known.iter().any(|reason| refused[*reason as usize] > 0), "{block:?}: {refused:?}");
    }
    let bytes = body(1 << 16, &[(VIDEO, 1, &[CAME; 600])]);
    let mut lying = bytes;
    lying[6..8].copy_from_slice(&u16::MAX.to_be_bytes());
    let read = sender.streams.on_report(sender.now, &mut sender.log, &lying, &mut sender.sink);
    assert_eq!(read, Err(CcfbError::Malformed));
    assert_eq!(sender.refused(FeedbackRefusal::Malformed), 1);
    assert_eq!(sender.read(1 << 16, &[(VIDEO, 1, &[CAME; 3])]).len(), 3, "nothing was spoilt");
}

#[test]
fn times_from_the_future_are_counted() {
    let mut sender = Sender::new();
    for round in 0..10_u16 {
        sender.send(VIDEO, [round]);
        sender.now += ms(50);
        let timestamp = if round % 2 == 0 { 1 << 16 } else { 0x7fff_ffff };
        assert_eq!(sender.read(timestamp, &[(VIDEO, round, &[CAME])]).len(), 1);
    }
    assert_eq!(sender.refused(FeedbackRefusal::ClockJump), 9);
}

#[test]
fn old_packets_and_streams_are_forgotten() {
    let mut sender = Sender::new();
    sender.send(AUDIO, [1]);
    sender.send(VIDEO, 0..9000);
    assert!(sender.read(1 << 16, &[(VIDEO, 0, &[CAME; 10]), (AUDIO, 1, &[CAME])]).is_empty());
    assert_eq!(sender.refused(FeedbackRefusal::Old), 11, "the logs have 8192");
    sender.now += ms(6000);
    assert!(sender.read(7 << 16, &[(VIDEO, 8990, &[CAME; 10])]).is_empty());
    assert_eq!(sender.refused(FeedbackRefusal::Old), 10, "older than 5 s");
    sender.send(Ssrc(3), [1]);
    assert_eq!(sender.streams.by_ssrc.len(), 1, "those that ended make room");
}

proptest! {
    /// Whatever is read: no panic, and nothing is told twice.
    #[test]
    fn no_bytes_make_it_panic(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
        sent in 0_u16..3000,
    ) {
        let mut sender = Sender::new();
        sender.send(Ssrc(0), 0..sent);
        let mut arrived = 0;
        for mut body in bodies {
            // Half of the streams are known.
            if body.len() >= 8 {
                body[..4].fill(0);
                body[6] &= 0x3f;
            }
            sender.now += ms(30);
            let _ = sender.streams.on_report(sender.now, &mut sender.log, &body, &mut sender.sink);
            arrived += sender.sink.iter().filter(|acked| acked.arrival.is_some()).count();
            if let Ok(report) = parse(&body) {
                let metrics: usize = report.blocks().map(|block| usize::from(block.count())).sum();
                prop_assert!(2 * metrics <= body.len());
            }
        }
        prop_assert!(arrived <= usize::from(sent));
    }

    /// What our own recorder writes of any arrivals comes to what a transport-wide report would say.
    #[test]
    fn a_sender_learns_what_arrived(
        steps in prop::collection::vec((any::<bool>(), 0_u16..30, 0_u64..30_000, 0_u16..8), 1..300),
        room in 64_usize..1300,
    ) {
        let mut sender = Sender::new();
        let mut recorder = StreamRecorder::default();
        let wall = crate::units::WallClock { instant: sender.now, unix: Duration::from_secs(1_700_000_000) };
        let mut last = [65_500_u16, 3];
        let mut arrived = std::collections::BTreeMap::new();
        let mut learned = std::collections::BTreeMap::new();
        let mut buf = vec![0; room];
        let mut drain = |sender: &mut Sender, recorder: &mut StreamRecorder| {
            while let Some(len) = recorder.write(sender.now, &mut buf, Ssrc(1), wall.ntp(sender.now)) {
                let read = sender.streams.on_report(sender.now, &mut sender.log, &buf[8..len], &mut sender.sink);
                assert_eq!(read, Ok(()));
                for acked in sender.sink.iter().filter(|acked| acked.arrival.is_some()) {
                    assert!(learned.insert(acked.number.value(), acked.arrival).is_none(), "{acked:?} twice");
                }
            }
        };
        let mut names = std::collections::BTreeMap::new();
        for (video, skip, wait, back) in steps {
            let (ssrc, last) = if video { (VIDEO, &mut last[1]) } else { (AUDIO, &mut last[0]) };
            for _ in 0..=skip {
                *last = last.wrapping_add(1);
                names.insert((ssrc, *last), sender.log.next());
                sender.send(ssrc, [*last]);
            }
            sender.now += Duration::from_micros(wait);
            let number = last.wrapping_sub(back);
            if let Some(transport) = names.get(&(ssrc, number)) {
                recorder.on_received(sender.now, ssrc, number, 100);
                arrived.entry(*transport).or_insert(sender.now);
            }
            drain(&mut sender, &mut recorder);
        }
        sender.now += ms(200);
        drain(&mut sender, &mut recorder);
        prop_assert!(arrived.keys().eq(learned.keys()), "{arrived:?} {learned:?}");
        // To the unit of 1/1024 s, of the report and of the arrival.
        let first = arrived.values().zip(learned.values()).next();
        for (at, told) in arrived.values().zip(learned.values()) {
            let (first_at, first_told) = first.expect("there is one");
            let told = told.expect("with a time").as_micros() - first_told.expect("with a time").as_micros();
            let at = at.saturating_duration_since(*first_at).as_micros() as i64
                - first_at.saturating_duration_since(*at).as_micros() as i64;
            prop_assert!((told - at).abs() < 2000, "{told} {at}");
        }
    }
}
