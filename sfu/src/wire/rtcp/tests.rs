use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Vec<Result<Packet<'_>, RtcpError>> {
    packets(bytes).collect()
}

#[test]
fn a_compound_reads_back_in_order() {
    let mut out = [0; 512];
    let mut writer = Writer::new(&mut out);
    let info = SenderInfo { ntp: NtpTime(0x0102_0304_0506_0708), rtp: RtpTime(9), packets: 10, octets: 11 };
    let block = ReportBlock {
        ssrc: 5,
        fraction_lost: 3,
        cumulative_lost: -2,
        highest_sequence: 70_000,
        ..Default::default()
    };
    assert!(writer.sender_report(Ssrc(1), &info, &[block]));
    assert!(writer.source_description(Ssrc(1), "abcd"));
    assert!(writer.nack(Ssrc(1), Ssrc(2), &[65_534, 0, 1, 20]));
    assert!(writer.pli(Ssrc(1), Ssrc(3)));
    assert!(writer.fir(Ssrc(1), Ssrc(4), 7));
    assert!(writer.remb(Ssrc(1), 1_000_000, &[Ssrc(8)]));
    assert!(writer.bye(Ssrc(6)));
    let len = writer.len();

    let read = read(&out[..len]);
    let Ok(Packet::SenderReport(ssrc, got, mut blocks)) = read[0] else { panic!("{:?}", read[0]) };
    assert_eq!((ssrc, got), (Ssrc(1), info));
    assert_eq!((blocks.next(), blocks.next()), (Some(block), None));
    assert_eq!(read[1], Ok(Packet::Other(PT_SDES)));
    let Ok(Packet::Nack(media, lost)) = read[2] else { panic!("{:?}", read[2]) };
    assert_eq!((media, lost.collect::<Vec<_>>()), (Ssrc(2), vec![65_534, 0, 1, 20]));
    assert_eq!(read[3], Ok(Packet::Pli(Ssrc(3))));
    let Ok(Packet::Fir(entries)) = read[4] else { panic!("{:?}", read[4]) };
    assert_eq!(entries.collect::<Vec<_>>(), [Ssrc(4)]);
    let Ok(Packet::Remb(rate)) = read[5] else { panic!("{:?}", read[5]) };
    assert!((999_990..=1_000_000).contains(&rate), "{rate}");
    let Ok(Packet::Bye(who)) = read[6] else { panic!("{:?}", read[6]) };
    assert_eq!(who.collect::<Vec<_>>(), [Ssrc(6)]);
    assert_eq!(read.len(), 7);
}

/// Field by field from the figure of RFC 3550 §6.4.1.
#[test]
fn a_sender_report_is_read_and_written_field_by_field() {
    let bytes = [
        0x81, 200, 0, 12, // V=2, RC=1, length
        0, 0, 0, 7, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 5, 0, 0,
        0, 6, 1, 2, 3, 4, 64, 0xff, 0xff, 0xfd, 0, 1, 0xff, 0xff, 0, 0, 0, 90, 0x11, 0x22, 0x33, 0x44, 0, 1,
        0, 0,
    ];
    let info =
        SenderInfo { ntp: NtpTime(0x0123_4567_89ab_cdef), rtp: RtpTime(0xffff_fffe), packets: 5, octets: 6 };
    let block = ReportBlock {
        ssrc: 0x0102_0304,
        fraction_lost: 64,
        cumulative_lost: -3,
        highest_sequence: 0x0001_ffff,
        jitter: 90,
        last_sr: 0x1122_3344,
        delay_since_last_sr: 65_536,
    };
    let [Ok(Packet::SenderReport(ssrc, got, blocks))] = read(&bytes)[..] else { panic!("a sender report") };
    assert_eq!((ssrc, got), (Ssrc(7), info));
    assert_eq!(blocks.collect::<Vec<_>>(), [block]);

    let mut out = [0; 52];
    let mut writer = Writer::new(&mut out);
    assert!(writer.sender_report(Ssrc(7), &info, &[block]));
    assert_eq!(writer.len(), 52);
    assert_eq!(out, bytes);
}

#[test]
fn loss_counters_beyond_24_bits_are_clamped() {
    for (lost, wire) in [(i32::MAX, 0x7f_ffff), (i32::MIN, -0x80_0000), (5, 5)] {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        assert!(
            writer
                .receiver_report(Ssrc(9), &[ReportBlock { cumulative_lost: lost, ..ReportBlock::default() }])
        );
        let len = writer.len();
        let [Ok(Packet::ReceiverReport(Ssrc(9), mut blocks))] = read(&out[..len])[..] else {
            panic!("a receiver report")
        };
        assert_eq!(blocks.next().unwrap().cumulative_lost, wire);
    }
}

#[test]
fn a_nack_names_the_first_number_and_the_bits_after_it() {
    // PID 65534 with BLP bits 0, 1 and 15: 65535, 0 and 65534 + 16.
    let bytes = [0x81, PT_RTPFB, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xfe, 0x80, 0x03];
    let [Ok(Packet::Nack(Ssrc(2), lost))] = read(&bytes)[..] else { panic!("a NACK") };
    let lost: Vec<_> = lost.collect();
    assert_eq!(lost, [65_534, 65_535, 0, 14]);
    let mut out = [0; 16];
    assert!(Writer::new(&mut out).nack(Ssrc(1), Ssrc(2), &lost));
    assert_eq!(out, bytes);
}

#[test]
fn remb_keeps_eighteen_bits() {
    for (sent, kept) in
        [(0, 0), (262_143, 262_143), (262_145, 262_144), (2_500_001, 2_500_000), (u64::MAX, 0x3_ffff << 46)]
    {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        assert!(writer.remb(Ssrc(1), sent, &[Ssrc(5), Ssrc(6)]));
        let len = writer.len();
        assert_eq!(read(&out[..len]), [Ok(Packet::Remb(kept))], "{sent}");
    }
    let mut bytes = vec![0x8f, PT_PSFB, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend(b"REMB");
    bytes.extend([0, 0xfc, 0, 0]); // exponent 63, mantissa 0
    assert_eq!(read(&bytes), [Ok(Packet::Remb(0))]);
}

/// RFC 8888 §3.1: where other feedback names its stream, the first block begins.
#[test]
fn feedback_by_stream_has_no_ssrc_of_its_own() {
    let bytes = [0x8b, PT_RTPFB, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0, 2, 0x80, 1, 0x80, 0, 1, 2, 3, 4];
    assert_eq!(read(&bytes), [Ok(Packet::Ccfb(&bytes[8..]))]);
    assert_eq!(read(&[0x8b, PT_RTPFB, 0, 1, 0, 0, 0, 1]), [Err(RtcpError::Body(PT_RTPFB))]);
}

#[test]
fn padding_is_taken_off_and_must_fit() {
    let bytes = [0xaf, PT_RTPFB, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 3];
    assert_eq!(read(&bytes), [Ok(Packet::TransportCc(&[9; 9]))]);
    for padding in [0, 21, 200] {
        let mut bad = bytes;
        bad[23] = padding;
        assert_eq!(read(&bad), [Err(RtcpError::Body(PT_RTPFB))], "{padding} bytes");
    }
}

#[test]
fn broken_framing_ends_the_walk() {
    let pli = [0x81, PT_PSFB, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    for tail in [
        &[0x81][..],
        &[0x81, 206, 0],
        &[0x81, 206, 0, 2, 0, 0, 0, 1],
        &[0x41, 206, 0, 0, 0x81, 206, 0, 0], // version 1
    ] {
        let compound = [&pli[..], tail].concat();
        assert_eq!(read(&compound), [Ok(Packet::Pli(Ssrc(2))), Err(RtcpError::Header)]);
    }
    assert_eq!(read(&[]), []);
}

#[test]
fn a_bad_body_does_not_hide_what_follows_and_a_bad_header_does() {
    let mut bytes = vec![0x81, PT_RTPFB, 0, 1, 0, 0, 0, 1]; // a NACK without its media SSRC
    bytes.extend([0x81, PT_PSFB, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9]);
    bytes.extend([0x81, PT_PSFB, 0, 200]);
    assert_eq!(
        read(&bytes),
        [Err(RtcpError::Body(PT_RTPFB)), Ok(Packet::Pli(Ssrc(9))), Err(RtcpError::Header)]
    );
}

#[test]
fn a_remb_beyond_64_bits_saturates() {
    let mut bytes = vec![0x8f, PT_PSFB, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0];
    bytes.extend(b"REMB");
    bytes.extend([0, 0xff, 0xff, 0xff]);
    assert_eq!(read(&bytes), [Ok(Packet::Remb(u64::MAX))]);
}

#[test]
fn what_does_not_fit_is_left_out_whole() {
    let mut out = [0; 20];
    let mut writer = Writer::new(&mut out);
    assert!(writer.pli(Ssrc(1), Ssrc(2)));
    assert!(!writer.pli(Ssrc(1), Ssrc(2)));
    assert_eq!(writer.len(), 12);
    let mut out = [0; 16];
    let mut writer = Writer::new(&mut out);
    assert!(writer.nack(Ssrc(1), Ssrc(2), &[1, 100, 200]), "as many as fit");
    assert!(!Writer::new(&mut []).nack(Ssrc(1), Ssrc(2), &[1]));
}

proptest! {
    #[test]
    fn any_bytes_are_walked_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 200_u8..207) {
        let mut bytes = bytes;
        if bytes.len() > 2 {
            bytes[0] = bytes[0] & 0x3f | 0x80;
            bytes[1] = kind;
            bytes[2] = 0;
        }
        for packet in packets(&bytes) {
            match packet {
                Ok(Packet::Nack(_, nacks)) => prop_assert!(nacks.count() <= bytes.len() * 17),
                Ok(Packet::SenderReport(_, _, blocks) | Packet::ReceiverReport(_, blocks)) => {
                    prop_assert!(blocks.count() <= 31);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn any_set_of_losses_reads_back(start: u16, steps in proptest::collection::vec(1_u16..40, 1..40)) {
        let lost: Vec<u16> = steps.iter().scan(start, |seq, step| { *seq = seq.wrapping_add(*step); Some(*seq) }).collect();
        let mut out = [0; 512];
        let mut writer = Writer::new(&mut out);
        prop_assert!(writer.nack(Ssrc(1), Ssrc(2), &lost));
        let len = writer.len();
        let Some(Ok(Packet::Nack(_, nacks))) = packets(&out[..len]).next() else { panic!("not a NACK") };
        prop_assert_eq!(nacks.collect::<Vec<_>>(), lost);
    }
}
