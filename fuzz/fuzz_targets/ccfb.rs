//! Feedback by stream, both ways: any report read against what was sent, and what we write for any arrivals read again.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sfu::congestion::ccfb::{Streams, parse};
use sfu::congestion::{PacketClass, StreamRecorder, twcc};
use sfu::ids::Ssrc;
use sfu::units::{DataSize, WallClock};
use sfu::wire::rtcp::{Packet, packets};

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let wall = WallClock { instant: now, unix: Duration::from_secs(1_700_000_000) };
    let (mut log, mut streams) = (twcc::SentLog::new(), Streams::default());
    let mut sink = Vec::new();
    let Some((count, body)) = data.split_first() else { return };
    // Two streams that a report is likely to name.
    for number in 0..u16::from(*count) {
        let stream = Ssrc(u32::from(number % 2));
        streams.on_sent(now, (stream, 65_500_u16.wrapping_add(number / 2)), &log);
        log.on_sent(now, DataSize::bytes(1200), PacketClass::Video, None);
    }
    let mut arrived = 0;
    for _ in 0..3 {
        now += Duration::from_millis(70);
        let read = streams.on_report(now, &mut log, body, &mut sink);
        assert_eq!(read.is_ok(), parse(body).is_ok());
        assert!(sink.len() <= usize::from(*count));
        arrived += sink.iter().filter(|acked| acked.arrival.is_some()).count();
    }
    assert!(arrived <= usize::from(*count), "no packet arrives twice");

    // Each arrival: milliseconds since the one before, a stream, and a step from the number before.
    let mut recorder = StreamRecorder::default();
    let mut numbers = [0_u16; 256];
    let mut report = [0; 1200];
    for arrival in data.chunks_exact(4) {
        now += Duration::from_millis(u64::from(arrival[0]));
        let number = &mut numbers[usize::from(arrival[1])];
        *number = number.wrapping_add_signed(i16::from_be_bytes([arrival[2], arrival[3]]));
        recorder.on_received(now, Ssrc(arrival[1].into()), *number, 1200);
        while let Some(len) = recorder.write(now, &mut report, Ssrc(1), wall.ntp(now)) {
            let mut read = packets(&report[..len]);
            let Some(Ok(Packet::Ccfb(body))) = read.next() else { panic!("not feedback") };
            assert!(read.next().is_none());
            parse(body).expect("what we write we can read");
        }
    }
});
