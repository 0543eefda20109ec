//! Data channels: an association of ours with another of ours, into which somebody who knows its tag and numbers puts
//! packets of his own, with a right checksum.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sfu::command::Reliability;
use sfu::transport::dcep::DcepMessage;
use sfu::transport::sctp::{DataConfig, DataTransport, MAX_PACKET_LEN};
use sfu::transport::srtp::DtlsRole;

/// Of the source port, destination port, tag and checksum.
const HEADER: usize = 12;
/// DATA, the chunk that carries messages (RFC 9260 §3.3.1).
const DATA: u8 = 0;

struct Pair {
    ours: DataTransport,
    theirs: DataTransport,
    now: Instant,
    /// First bytes of their packets: ports and tag.
    head: [u8; 8],
    /// Number of their last DATA chunk.
    number: u32,
}

impl Pair {
    fn new() -> Pair {
        let mut pair = Pair {
            ours: DataTransport::new(DtlsRole::Server, DataConfig::default()),
            theirs: DataTransport::new(DtlsRole::Client, DataConfig::default()),
            now: Instant::now(),
            head: [0; 8],
            number: 0,
        };
        pair.theirs.open("_reliable", Reliability::Reliable).expect("room for a channel");
        for _ in 0..6 {
            pair.exchange(true);
        }
        assert!(pair.ours.is_up() && pair.theirs.is_up());
        pair
    }

    /// Carries what is under way; `deliver`: theirs to us as well.
    fn exchange(&mut self, deliver: bool) {
        while let Some(packet) = self.theirs.poll_transmit(self.now) {
            self.head.copy_from_slice(&packet[..8]);
            if packet.len() >= HEADER + 8 && packet[HEADER] == DATA {
                self.number = u32::from_be_bytes([packet[16], packet[17], packet[18], packet[19]]);
            }
            if deliver {
                self.ours.handle_datagram(self.now, &packet);
            }
        }
        while let Some(packet) = self.ours.poll_transmit(self.now) {
            assert!(packet.len() <= MAX_PACKET_LEN);
            self.theirs.handle_datagram(self.now, &packet);
        }
        while self.ours.poll_event().is_some() {}
        while self.theirs.poll_event().is_some() {}
    }

    fn pass(&mut self, time: Duration, deliver: bool) {
        let end = self.now + time;
        let mut at_once = 0;
        while let Some(due) =
            [self.ours.next_timeout(), self.theirs.next_timeout()].into_iter().flatten().min()
            && due <= end
        {
            at_once = if due > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 100, "a deadline that does not pass");
            self.now = self.now.max(due);
            self.ours.handle_timeout(self.now);
            self.theirs.handle_timeout(self.now);
            self.exchange(deliver);
        }
        self.now = end;
    }

    /// Puts one chunk into a packet of theirs. `step`: a DATA chunk's number, counted from their last.
    fn inject(&mut self, kind: u8, flags: u8, step: Option<i8>, body: &[u8]) {
        let mut packet = self.head.to_vec();
        packet.extend([0; 4]);
        packet.extend([kind, flags]);
        packet.extend((4 + body.len() as u16).to_be_bytes());
        packet.extend(body);
        if let Some(step) = step
            && let Some(number) = packet.get_mut(HEADER + 4..HEADER + 8)
        {
            number.copy_from_slice(&self.number.wrapping_add_signed(i32::from(step)).to_be_bytes());
        }
        packet.resize(packet.len().next_multiple_of(4), 0);
        let sum = crc32c(&packet);
        packet[8..HEADER].copy_from_slice(&sum.to_le_bytes());
        self.ours.handle_datagram(self.now, &packet);
        self.exchange(true);
    }
}

/// RFC 9260 Appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = DcepMessage::parse(data) {
        assert_eq!(DcepMessage::parse(&message.to_bytes()), Ok(message));
    }
    let mut pair = Pair::new();
    let mut rest = data;
    while let [step, kind, flags, len, tail @ ..] = rest {
        let (body, tail) = tail.split_at(tail.len().min(usize::from(*len)));
        rest = tail;
        match step & 0x07 {
            0 | 1 => pair.inject(*kind, *flags, None, body),
            2 | 3 => pair.inject(*kind & 0x0f, *flags, Some(step.cast_signed() >> 3), body),
            4 => pair.ours.handle_datagram(pair.now, body),
            5 => {
                let _ = pair.theirs.send("_reliable", true, &vec![*kind; 64 * usize::from(*flags)]);
                pair.exchange(step & 0x80 == 0);
            }
            6 => {
                let _ = pair.ours.send("_reliable", true, &vec![*kind; 64 * usize::from(*flags)]);
                pair.exchange(step & 0x80 == 0);
            }
            _ => pair.pass(Duration::from_millis(u64::from(*kind) * 10), step & 0x80 == 0),
        }
    }
    pair.pass(Duration::from_secs(5), true);
});
