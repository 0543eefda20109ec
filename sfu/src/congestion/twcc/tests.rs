use super::*;
use proptest::prelude::*;
use sfu_testkit::clock;

/// Header of a report: base, count, reference, feedback count.
fn header(base: u16, count: u16, reference: u32) -> Vec<u8> {
    let mut fci = Vec::new();
    fci.extend(base.to_be_bytes());
    fci.extend(count.to_be_bytes());
    fci.extend(&reference.to_be_bytes()[1..]);
    fci.push(0);
    fci
}

fn report(base: u16, count: u16, reference: u32, chunks: &[u16], deltas: &[u8]) -> Vec<u8> {
    let mut fci = header(base, count, reference);
    fci.extend(chunks.iter().flat_map(|chunk| chunk.to_be_bytes()));
    fci.extend(deltas);
    fci
}

fn send(log: &mut SentLog, now: Instant, count: usize) {
    for _ in 0..count {
        log.on_sent(now, DataSize::bytes(1000), PacketClass::Video, None);
    }
}

#[test]
fn all_three_chunk_forms_are_read() {
    // Run of 2 small deltas; 14 one-bit symbols (1 then 0s, then 1); 7 two-bit symbols (large, small, 0…).
    let one_bit = 0x8000 | 1 << 13 | 1;
    let two_bit = 0xc000 | 2 << 12 | 1 << 10;
    let fci = report(65_530, 18, 0x00ff_ffff, &[0x2002, one_bit, two_bit], &[4, 8, 1, 2, 0xff, 0xfc, 1]);
    let read = parse(&fci).expect("a valid report");
    assert_eq!((read.base, read.count, read.reference), (65_530, 18, 0x00ff_ffff));
    let received: Vec<_> = read.received().collect();
    assert_eq!(received, [(0, 1000), (1, 3000), (2, 3250), (15, 3750), (16, 2750), (17, 3000)]);
}

#[test]
fn what_is_cut_short_or_reserved_is_refused() {
    let good = report(1, 2, 0, &[0x2002], &[4, 8]);
    assert!(parse(&good).is_ok());
    for len in 0..good.len() {
        assert_eq!(parse(&good[..len]), Err(TwccError::Truncated), "{len} bytes");
    }
    assert_eq!(parse(&report(1, 0, 0, &[], &[])), Err(TwccError::Malformed), "no packets");
    assert_eq!(parse(&report(1, 2, 0, &[0x6002], &[4, 8])), Err(TwccError::Malformed), "reserved symbol");
    assert_eq!(parse(&report(1, 2, 0, &[0x2000, 0x2002], &[4, 8])), Err(TwccError::Malformed), "empty run");
}

#[test]
fn a_small_report_that_claims_65535_packets_costs_nothing() {
    let fci = report(1, 65_535, 0, &[0x1fff; 9], &[]);
    let read = parse(&fci).expect("nine runs of lost packets");
    assert_eq!(read.received().count(), 0);
    let mut log = SentLog::new();
    send(&mut log, clock::start(), 100);
    let mut sink = Vec::new();
    assert_eq!(log.on_feedback(clock::start(), &fci, &mut sink), Err(TwccError::NotSent));
    assert!(sink.is_empty());
    assert_eq!(log.take_refused(), [0, 1, 0, 0, 0]);
}

#[test]
fn each_packet_is_reported_once_and_a_loss_only_after_a_while() {
    let now = clock::start();
    let mut log = SentLog::new();
    send(&mut log, now, 10);
    let mut sink = Vec::new();
    // 1, 2, 4 and 5 arrive, 3 does not.
    let first = report(1, 5, 10, &[0b1011_0110_0000_0000], &[0, 4, 4, 4]);
    log.on_feedback(now, &first, &mut sink).expect("valid");
    assert_eq!(sink.iter().map(|a| a.number.wire()).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert_eq!(sink[1].arrival, Some(Arrival::micros(641_000)));

    log.on_feedback(now, &first, &mut sink).expect("valid");
    assert!(sink.is_empty(), "the same report again tells nothing");
    log.on_feedback(now, &report(6, 1, 11, &[0x2001], &[0]), &mut sink).expect("valid");
    assert_eq!(sink.len(), 2, "{sink:?}");
    assert_eq!((sink[1].number.wire(), sink[1].arrival), (3, None), "lost after two more reports");
    log.on_feedback(now, &report(3, 1, 12, &[0x2001], &[0]), &mut sink).expect("valid");
    assert!(sink[0].late && sink[0].number.wire() == 3, "and taken back");
    log.on_feedback(now, &report(7, 1, 13, &[0x2001], &[0]), &mut sink).expect("valid");
    assert_eq!(sink.len(), 1);
}

#[test]
fn a_report_that_did_not_come_is_no_loss_of_packets() {
    let now = clock::start();
    let told = |skipped: bool| {
        let mut log = SentLog::new();
        send(&mut log, now, 20);
        let (mut sink, mut all) = (Vec::new(), Vec::new());
        // The second report, about 6 to 8, is lost, or the receiver never got them and says so by a gap alone.
        for (count, base) in [(0, 1), (if skipped { 2 } else { 1 }, 9), (3, 12), (4, 15), (5, 18)] {
            let packets = if base == 1 { 5 } else { 3 };
            let mut fci = report(base, packets, 10, &[0x2000 | packets], &vec![0; usize::from(packets)]);
            fci[7] = count;
            log.on_feedback(now, &fci, &mut sink).expect("valid");
            all.extend(sink.iter().filter(|a| a.arrival.is_none()).map(|a| a.number.wire()));
        }
        all
    };
    assert!(told(true).is_empty());
    assert_eq!(told(false), [6, 7, 8]);
}

#[test]
fn numbers_and_reference_times_wrap() {
    let mut now = clock::start();
    let mut log = SentLog::new();
    let mut sink = Vec::new();
    let mut last: Option<Arrival> = None;
    for round in 0..40_u32 {
        let base = log.next_number();
        send(&mut log, now, 4000);
        let reference = (0x00ff_fff0 + round) & 0x00ff_ffff;
        let fci = report(base, 4000, reference, &[0x2fa0], &[0; 4000]);
        log.on_feedback(now, &fci, &mut sink).expect("valid");
        assert_eq!(sink.len(), 4000, "round {round}");
        let arrival = sink[0].arrival.expect("received");
        if let Some(last) = last {
            assert_eq!(arrival.since(last), Duration::from_millis(64), "round {round}");
        }
        last = Some(arrival);
        now += Duration::from_millis(64);
    }
}

#[test]
fn a_clock_that_leaps_is_noticed() {
    let mut now = clock::start();
    let mut log = SentLog::new();
    let mut sink = Vec::new();
    let mut wire = 5_u32;
    for _ in 0..8 {
        let base = log.next_number();
        send(&mut log, now, 1);
        log.on_feedback(now, &report(base, 1, wire, &[0x2001], &[0]), &mut sink).expect("valid");
        assert_eq!(sink.len(), 1, "it is believed all the same");
        wire = (wire + 0x7f_ffff) & 0xff_ffff;
        now += Duration::from_millis(64);
    }
    assert_eq!(log.take_refused()[FeedbackRefusal::ClockJump as usize], 7);

    // Honest ones are late or early by less, also after long silence.
    let mut log = SentLog::new();
    for (pause, ticks) in [(0, 0), (64, 1), (6400, 98), (640_000, 10_010), (640_000_000, 10_000_000 - 20)] {
        now += Duration::from_millis(pause);
        let base = log.next_number();
        send(&mut log, now, 1);
        wire = (wire + ticks) & 0xff_ffff;
        log.on_feedback(now, &report(base, 1, wire, &[0x2001], &[0]), &mut sink).expect("valid");
    }
    assert_eq!(log.take_refused(), [0; 5]);
}

#[test]
fn what_is_forgotten_or_old_is_ignored() {
    let now = clock::start();
    let mut log = SentLog::new();
    send(&mut log, now, 9000);
    let mut sink = Vec::new();
    log.on_feedback(now, &report(1, 10, 0, &[0x200a], &[0; 10]), &mut sink).expect("valid");
    assert!(sink.is_empty(), "the ring has 8192");
    let later = now + Duration::from_secs(6);
    log.on_feedback(later, &report(8900, 10, 93, &[0x200a], &[0; 10]), &mut sink).expect("valid");
    assert!(sink.is_empty(), "older than 5 s");
    assert_eq!(log.take_refused(), [0, 0, 0, 0, 20]);
    assert_eq!(log.take_refused(), [0; 5]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(fci in prop::collection::vec(any::<u8>(), 0..200), sent in 0_usize..3000) {
        let mut log = SentLog::new();
        send(&mut log, clock::start(), sent);
        let mut sink = Vec::new();
        let _ = log.on_feedback(clock::start(), &fci, &mut sink);
        prop_assert!(sink.len() <= sent);
        if let Ok(report) = parse(&fci) {
            prop_assert!(report.received().count() <= fci.len());
            prop_assert!(report.received().all(|(offset, _)| offset < report.count));
        }
    }
}
