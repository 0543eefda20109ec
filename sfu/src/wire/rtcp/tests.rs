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
