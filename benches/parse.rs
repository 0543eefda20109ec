//! What reading untrusted bytes costs: an RTP header with its extensions, a VP8 descriptor, a feedback report.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sfu::congestion::{FeedbackRecorder, twcc};
use sfu::ids::{Mid, Rid, Ssrc};
use sfu::wire::extension::{ExtensionKind, ExtensionMap, Extensions};
use sfu::wire::rtp::RtpHeader;
use sfu::wire::vp8;
use sfu_testkit::rtp::{ExtensionIds, RtpPacket, Vp8};

const IDS: ExtensionIds = ExtensionIds {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    transport_cc: Some(4),
    audio_level: Some(5),
};
/// Packets in one report: 50 ms at 2.4 Mbit/s.
const REPORTED: u16 = 15;
/// Where a report's payload begins in its RTCP packet.
const RTCP_HEADER: usize = 12;

/// The first packet of a keyframe, as a simulcast client sends it.
fn packet() -> Vec<u8> {
    let vp8 =
        Vp8 { start: true, picture_id: 300, tl0_pic_idx: 7, keyframe: Some((1280, 720)), ..Vp8::default() };
    let mut payload = vp8.write();
    payload.resize(1100, 0);
    let mut packet = RtpPacket::new(Ssrc(7), 96, 1, 90_000, payload);
    packet.mid = Mid::parse("1");
    packet.rid = Rid::parse("f");
    packet.transport_number = Some(1);
    packet.write(&IDS)
}

fn rtp(c: &mut Criterion) {
    let packet = packet();
    let mut map = ExtensionMap::default();
    for (id, kind) in [(1, ExtensionKind::Mid), (2, ExtensionKind::Rid), (4, ExtensionKind::TransportCc)] {
        assert!(map.insert(id, kind), "{kind:?}");
    }
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    group.bench_function("rtp header and extensions", |b| {
        b.iter(|| {
            let packet = black_box(&packet[..]);
            let header = RtpHeader::parse(packet).expect("a good packet");
            let (profile, body) = header.extension.clone().expect("it has extensions");
            let extensions = Extensions::read(&map, profile, &packet[body]);
            (header.sequence_number, extensions.mid, extensions.rid, extensions.transport_cc)
        });
    });
    let payload = RtpHeader::parse(&packet).expect("a good packet").payload();
    group.bench_function("vp8 descriptor", |b| {
        b.iter(|| vp8::describe(black_box(&packet[payload.clone()]), false).expect("a keyframe"));
    });
    group.finish();
}

fn feedback(c: &mut Criterion) {
    let start = Instant::now();
    let mut recorder = FeedbackRecorder::new(start);
    for number in 0..REPORTED {
        if number % 7 != 3 {
            recorder.on_received(start + Duration::from_millis(3) * u32::from(number), number, 1200);
        }
    }
    let mut report = [0; 1200];
    let written = recorder.write(start + Duration::from_secs(1), &mut report, Ssrc(1), Ssrc(7));
    let report = &report[RTCP_HEADER..written.expect("a report is due")];
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(u64::from(REPORTED)));
    group.bench_function("transport-wide feedback", |b| {
        b.iter(|| twcc::parse(black_box(report)).expect("a good report").received().count());
    });
    group.finish();
}

criterion_group!(benches, rtp, feedback);
criterion_main!(benches);
