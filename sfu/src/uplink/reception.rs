//! Reception statistics of one stream and its report blocks (RFC 3550 §6.4.1, App. A.1, A.3, A.8).

use std::time::Instant;

use crate::ids::{SeqNo, Ssrc};
use crate::units::{NtpTime, RtpTime};
use crate::wire::rtcp::ReportBlock;

/// A step of more packets than this is a stream that began anew (App. A.1, MAX_DROPOUT).
const MAX_DROPOUT: i64 = 3000;

/// What a packet is in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ahead of all before it.
    Newest(SeqNo),
    /// Behind the newest.
    Late(SeqNo),
    /// The stream began anew at this number.
    Restarted(SeqNo),
}

impl Order {
    /// The number, whatever the order.
    pub fn seq(self) -> SeqNo {
        match self {
            Order::Newest(seq) | Order::Late(seq) | Order::Restarted(seq) => seq,
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Reception {
    clock_rate: u32,
    base: Option<SeqNo>,
    highest: SeqNo,
    received: u64,
    prior: (u64, u64), // expected, received at the last report
    transit: Option<i64>,
    jitter: f64, // in ticks
    started: Option<Instant>,
    last_sr: Option<(u32, Instant)>,
}

impl Reception {
    /// Of a stream whose clock has `clock_rate` ticks a second.
    pub fn new(clock_rate: u32) -> Self {
        Reception {
            clock_rate: clock_rate.max(1),
            base: None,
            highest: SeqNo::first(0),
            received: 0,
            prior: (0, 0),
            transit: None,
            jitter: 0.0,
            started: None,
            last_sr: None,
        }
    }

    /// Takes a packet as it came.
    pub fn handle_packet(&mut self, now: Instant, wire: u16, timestamp: RtpTime) -> Order {
        self.received += 1;
        let Some(_) = self.base else {
            let seq = SeqNo::first(wire);
            self.begin(now, seq);
            return Order::Newest(seq);
        };
        let seq = self.highest.extend(wire);
        let step = seq.distance(self.highest);
        if step.abs() > MAX_DROPOUT {
            let seq = self.highest.plus(1 << 16).extend(wire);
            self.begin(now, seq);
            self.received = 1;
            return Order::Restarted(seq);
        }
        self.measure_jitter(now, timestamp);
        if step > 0 {
            self.highest = seq;
            Order::Newest(seq)
        } else {
            Order::Late(seq)
        }
    }

    /// The number of a packet that was resent, without counting it as received at its time.
    pub fn place(&self, wire: u16) -> Option<SeqNo> {
        self.base.map(|_| self.highest.extend(wire))
    }

    /// The highest number that came.
    pub fn highest(&self) -> Option<SeqNo> {
        self.base.map(|_| self.highest)
    }

    /// Packets that came first hand since the stream began, duplicates included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes a sender report on the stream.
    pub fn handle_sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.last_sr = Some((ntp.middle(), now));
    }

    /// A block for the next report; what it says of losses counts from the block before. `None` before the
    /// first packet.
    pub fn report(&mut self, now: Instant, ssrc: Ssrc) -> Option<ReportBlock> {
        let expected = (self.highest.distance(self.base?) + 1).max(0) as u64;
        let expected_now = expected.saturating_sub(self.prior.0);
        let lost_now = expected_now.saturating_sub(self.received.saturating_sub(self.prior.1));
        self.prior = (expected, self.received);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255);
        let (last_sr, delay) = self.last_sr.map_or((0, 0), |(middle, at)| {
            let since = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (middle, u32::try_from(since).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc: ssrc.0,
            fraction_lost: fraction as u8,
            cumulative_lost: (expected as i64 - self.received as i64).clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: (self.highest.value() - (1 << 16)) as u32,
            jitter: self.jitter as u32,
            last_sr,
            delay_since_last_sr: delay,
        })
    }

    fn begin(&mut self, now: Instant, seq: SeqNo) {
        self.base = Some(seq);
        self.highest = seq;
        self.prior = (0, 0);
        self.started.get_or_insert(now);
        self.transit = None;
    }

    fn measure_jitter(&mut self, now: Instant, timestamp: RtpTime) {
        let since = self.started.map_or(0, |at| now.saturating_duration_since(at).as_micros());
        let ticks = (since * u128::from(self.clock_rate) / 1_000_000) as u32;
        let transit = i64::from(RtpTime(ticks).distance(timestamp));
        if let Some(last) = self.transit.replace(transit) {
            let difference = i64::from(((transit - last) as i32).wrapping_abs()).unsigned_abs();
            self.jitter += (difference as f64 - self.jitter) / 16.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_report_counts_losses_since_the_one_before() {
        let start = crate::test_time();
        let mut reception = Reception::new(90_000);
        for wire in (65_530..=65_535_u16).chain(0..4) {
            if wire % 5 != 0 {
                reception.handle_packet(start, wire, RtpTime(0));
            }
        }
        let block = reception.report(start, Ssrc(1)).unwrap();
        // 65530 was lost before the first, so nobody knows of it; 65535 and 0 were.
        assert_eq!((block.cumulative_lost, block.fraction_lost), (2, (2 * 256 / 9) as u8));
        assert_eq!(block.highest_sequence, (1 << 16) + 3);
        reception.handle_packet(start, 4, RtpTime(0));
        assert_eq!(reception.report(start, Ssrc(1)).unwrap().fraction_lost, 0);
    }

    #[test]
    fn order_and_restart_are_told_apart() {
        let start = crate::test_time();
        let mut reception = Reception::new(90_000);
        let first = reception.handle_packet(start, 10, RtpTime(0)).seq();
        assert_eq!(reception.handle_packet(start, 12, RtpTime(0)), Order::Newest(first.plus(2)));
        assert_eq!(reception.handle_packet(start, 11, RtpTime(0)), Order::Late(first.plus(1)));
        let restarted = reception.handle_packet(start, 30_000, RtpTime(0));
        assert!(
            matches!(restarted, Order::Restarted(seq) if seq.distance(first) > 3000 && seq.wire() == 30_000)
        );
    }

    #[test]
    fn even_arrival_has_no_jitter_and_uneven_has() {
        let start = crate::test_time();
        for (shake, expected) in [(0, 0..=0), (10, 500..=1800)] {
            let mut reception = Reception::new(90_000);
            for n in 0..200_u16 {
                let at = start + Duration::from_millis(20 * u64::from(n) + u64::from(n % 2) * shake);
                reception.handle_packet(at, n, RtpTime(u32::from(n) * 1800));
            }
            let jitter = reception.report(start, Ssrc(1)).unwrap().jitter;
            assert!(expected.contains(&jitter), "{jitter}");
        }
    }
}
