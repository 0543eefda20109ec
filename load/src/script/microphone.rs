//! Opus as a voice call has it: a packet every 20 ms.

use std::time::{Duration, Instant};

use super::Packet;
use crate::stamp::Stamp;

const INTERVAL: Duration = Duration::from_millis(20);
/// At 48 kHz (RFC 7587 §4.1).
const TICKS: u32 = 960;
/// 32 kbit/s, what SDKs ask for in speech.
const PAYLOAD: usize = 80;
/// One CELT frame of 20 ms, full band (RFC 6716 §3.1).
const TABLE_OF_CONTENTS: u8 = 0xF8;

pub(crate) struct Microphone {
    due: Instant,
    timestamp: u32,
}

impl Microphone {
    /// Speaks from `now` on.
    pub(crate) fn new(now: Instant, seed: u64) -> Microphone {
        let mut random = fastrand::Rng::with_seed(seed);
        // Microphones of one room are not in step.
        let due = now + INTERVAL.mul_f64(random.f64());
        Microphone { due, timestamp: random.u32(..) }
    }

    pub(crate) fn next_timeout(&self) -> Instant {
        self.due
    }

    /// The next packet, if it is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Packet> {
        if self.due > now {
            return None;
        }
        let mut payload = vec![0; PAYLOAD];
        payload[0] = TABLE_OF_CONTENTS;
        debug_assert!(payload.len() > Stamp::LEN);
        let packet = Packet { layer: 0, timestamp: self.timestamp, marker: false, payload };
        self.due += INTERVAL;
        self.timestamp = self.timestamp.wrapping_add(TICKS);
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_packets_a_second_whose_timestamps_are_960_apart() {
        let start = Instant::now();
        let mut microphone = Microphone::new(start, 1);
        let mut packets = Vec::new();
        for millisecond in 0..1000 {
            packets.extend(microphone.poll(start + Duration::from_millis(millisecond)));
        }
        assert_eq!(packets.len(), 50);
        assert!(packets.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == TICKS));
    }
}
