//! RTCP compounds: every packet, every item of every list; what we write too is written again and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::ids::Ssrc;
use sfu::wire::rtcp::{Packet, Writer, packets};

fuzz_target!(|compound: &[u8]| {
    let mut buffer = vec![0; 2 * compound.len() + 64];
    for packet in packets(compound).flatten() {
        let mut writer = Writer::new(&mut buffer);
        let written = match packet {
            Packet::SenderReport(ssrc, info, blocks) => {
                writer.sender_report(ssrc, &info, &blocks.collect::<Vec<_>>())
            }
            Packet::ReceiverReport(ssrc, blocks) => writer.receiver_report(ssrc, &blocks.collect::<Vec<_>>()),
            Packet::Bye(mut ssrcs) => ssrcs.all(|ssrc| writer.bye(ssrc)),
            Packet::Nack(media, lost) => {
                // Unsorted numbers may need an entry each, so not all need fit.
                let lost: Vec<_> = lost.collect();
                assert!(lost.len() <= 17 * compound.len() / 4);
                writer.nack(Ssrc(1), media, &lost) || lost.is_empty()
            }
            Packet::Pli(media) => writer.pli(Ssrc(1), media),
            Packet::Fir(mut entries) => entries.all(|media| writer.fir(Ssrc(1), media, 1)),
            Packet::Remb(bits) => writer.remb(Ssrc(1), bits, &[]),
            Packet::TransportCc(_) | Packet::Ccfb(_) | Packet::Other(_) => true,
        };
        // A BYE or FIR of many streams becomes one each, which takes more room.
        assert!(written || matches!(packet, Packet::Bye(_) | Packet::Fir(_)));
        let len = writer.len();
        for (index, again) in packets(&buffer[..len]).enumerate() {
            let again = again.expect("what we write we can read");
            match (packet, again) {
                (Packet::SenderReport(a, b, c), Packet::SenderReport(x, y, z)) => {
                    assert_eq!((a, b), (x, y));
                    assert!(c.eq(z));
                }
                (Packet::ReceiverReport(a, b), Packet::ReceiverReport(x, y)) => {
                    assert_eq!(a, x);
                    assert!(b.eq(y));
                }
                (Packet::Bye(mut a), Packet::Bye(mut b)) => assert_eq!(a.nth(index), b.next()),
                (Packet::Nack(a, b), Packet::Nack(x, mut y)) => {
                    let asked: Vec<_> = b.collect();
                    assert_eq!(a, x);
                    assert!(y.all(|read| asked.contains(&read)), "nothing that was not asked for");
                }
                (Packet::Pli(a), Packet::Pli(b)) => assert_eq!(a, b),
                (Packet::Fir(mut a), Packet::Fir(mut b)) => assert_eq!(a.nth(index), b.next()),
                (Packet::Remb(a), Packet::Remb(b)) => assert!(b <= a && a - b <= a >> 17),
                (a, b) => panic!("{a:?} became {b:?}"),
            }
        }
    }
});
