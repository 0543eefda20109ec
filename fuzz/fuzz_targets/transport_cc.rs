//! Transport-wide feedback, both ways: any report read against a log of sent packets, and what we write for any
//! arrivals read again.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sfu::congestion::{FeedbackRecorder, PacketClass, twcc};
use sfu::ids::Ssrc;
use sfu::units::DataSize;
use sfu::wire::rtcp::{Packet, packets};

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let mut log = twcc::SentLog::new();
    let mut sink = Vec::new();
    let Some((count, fci)) = data.split_first() else { return };
    for _ in 0..*count {
        log.on_sent(now, DataSize::bytes(1200), PacketClass::Video, None);
    }
    for _ in 0..3 {
        now += Duration::from_millis(70);
        if log.on_feedback(now, fci, &mut sink).is_ok() {
            assert!(sink.len() <= usize::from(*count));
        }
    }

    // Each arrival: milliseconds since the one before, and a step from the number before.
    let mut recorder = FeedbackRecorder::new(now);
    let mut number = 0_u16;
    let mut report = [0; 1200];
    for arrival in data.chunks_exact(3) {
        now += Duration::from_millis(u64::from(arrival[0]));
        number = number.wrapping_add_signed(i16::from_be_bytes([arrival[1], arrival[2]]));
        recorder.on_received(now, number, 1200);
        while let Some(len) = recorder.write(now, &mut report, Ssrc(1), Ssrc(2)) {
            let mut read = packets(&report[..len]);
            let Some(Ok(Packet::TransportCc(fci))) = read.next() else { panic!("not feedback") };
            assert!(read.next().is_none());
            twcc::parse(fci).expect("what we write we can read");
        }
    }
});
