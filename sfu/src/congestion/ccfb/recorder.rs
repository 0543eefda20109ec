//! Reports by stream for publishers that take no transport-wide ones.
//!
//! Written as RFC 8888 §3.1 has it, as often as the transport-wide ones ([`feedback`](crate::congestion::feedback)): one
//! round trip of a fast path, and well below 5 % of what it is about.
//! Always: a stream's blocks follow each other without a gap in numbers, so that the publisher learns of every loss; a
//! packet that comes late is reported again with those behind it; streams, memory and report size are bounded, whatever
//! packets arrive.

use std::time::{Duration, Instant};

use crate::congestion::feedback::{GAP, INTERVAL, SLOW_BYTES, SLOW_INTERVAL};
use crate::ids::{SeqNo, Ssrc};
use crate::units::NtpTime;
use crate::wire::rtcp::{FMT_CCFB, PT_RTPFB, write_feedback_header};

/// Streams reported on: as many as a client may send (`peer::uplink`).
const MOST_STREAMS: usize = 192;
/// Another stream takes the place of one that was silent for so long.
const IDLE: Duration = Duration::from_secs(10);
/// Numbers remembered of each, a power of two. A stream of 20 Mbit/s has about 210 packets in 100 ms.
const SPAN: u64 = 1024;
/// A packet this much older than the newest is not worth a report.
const LATE: i64 = SPAN as i64 / 2;
/// Before the blocks, and behind them.
const HEADER: usize = 8;
const TIMESTAMP: usize = 4;
/// A block's part before the packets.
const BLOCK: usize = 8;
/// Least buffer: room for a block of some packets.
const MIN_BUFFER: usize = 64;
/// A packet came, this many 1/1024 s before the report…
const RECEIVED: u16 = 0x8000;
/// …at most; and what says that it is longer ago.
const LONGEST: u128 = 0x1ffd;
const LONGER: u16 = 0x1ffe;

#[derive(Debug)]
struct Stream {
    ssrc: Ssrc,
    arrivals: Box<[Option<Instant>]>, // ring over the SPAN numbers before `end`
    base: SeqNo,                      // first number of the next report
    end: SeqNo,                       // one past the highest received
    unreported: u32,
    last: Instant,
}

/// Records what arrived from one publisher transport.
#[derive(Debug, Default)]
pub struct StreamRecorder {
    streams: Vec<Stream>,
    unreported: u32,
    bytes: u64, // since the last report
    reported: Option<Instant>,
    urgent: bool,
}

impl StreamRecorder {
    /// Packet `wire` of a stream arrived, with `size` bytes. Duplicates, packets more than 512 numbers late, and streams
    /// beyond the 192nd that is alive are ignored.
    pub fn on_received(&mut self, now: Instant, ssrc: Ssrc, wire: u16, size: usize) {
        let Some(at) = self.find(now, ssrc, wire) else { return };
        self.bytes = self.bytes.saturating_add(size as u64);
        self.reported.get_or_insert(now);
        let stream = &mut self.streams[at];
        let before = stream.unreported;
        self.urgent |= stream.note(now, wire);
        self.unreported = self.unreported - before + stream.unreported;
        self.urgent |= i64::from(stream.unreported) > LATE / 2;
    }

    /// When the next report is due; `None` while nothing is to be reported.
    pub fn next_timeout(&self) -> Option<Instant> {
        let last = self.reported.filter(|_| self.unreported > 0)?;
        if self.urgent {
            return Some(last);
        }
        Some(last + if self.bytes < SLOW_BYTES { SLOW_INTERVAL } else { INTERVAL })
    }

    /// Writes one RTCP packet (PT 205, FMT 11) into `buf` if a report is due, and returns its length.
    ///
    /// `sender` is our own SSRC, `ntp` the wall-clock time at `now`, that of our sender reports. A report that does not
    /// fit `buf` (which should have 1200 bytes, and must have 64) is cut, and its rest due at once: call until `None`.
    pub fn write(&mut self, now: Instant, buf: &mut [u8], sender: Ssrc, ntp: NtpTime) -> Option<usize> {
        if self.next_timeout().is_none_or(|at| at > now) || buf.len() < MIN_BUFFER {
            return None;
        }
        let room = buf.len() - TIMESTAMP;
        let mut at = HEADER;
        for stream in self.streams.iter_mut().filter(|stream| stream.unreported > 0) {
            if at + BLOCK + 4 > room {
                break;
            }
            at += stream.write(now, &mut buf[at..room]);
        }
        buf[at..at + TIMESTAMP].copy_from_slice(&ntp.middle().to_be_bytes());
        let len = at + TIMESTAMP;
        // The first stream stands where other feedback names its only one.
        let first = Ssrc(u32::from_be_bytes([buf[8], buf[9], buf[10], buf[11]]));
        buf[..12].copy_from_slice(&write_feedback_header(PT_RTPFB, FMT_CCFB, sender, first, len - 12));

        self.unreported = self.streams.iter().map(|stream| stream.unreported).sum();
        self.urgent = self.unreported > 0;
        self.bytes = 0;
        self.reported = Some(now);
        Some(len)
    }

    /// The stream's place, if it has one or gets one.
    fn find(&mut self, now: Instant, ssrc: Ssrc, wire: u16) -> Option<usize> {
        if let Some(at) = self.streams.iter().position(|stream| stream.ssrc == ssrc) {
            return Some(at);
        }
        if self.streams.len() < MOST_STREAMS {
            self.streams.push(Stream::new(now, ssrc, wire));
            return Some(self.streams.len() - 1);
        }
        let idle = |stream: &Stream| now.saturating_duration_since(stream.last) >= IDLE;
        let at = self.streams.iter().position(idle)?;
        self.unreported -= self.streams[at].unreported;
        self.streams[at] = Stream::new(now, ssrc, wire);
        Some(at)
    }
}

impl Stream {
    fn new(now: Instant, ssrc: Ssrc, wire: u16) -> Stream {
        let first = SeqNo::first(wire);
        let arrivals = std::iter::repeat_n(None, SPAN as usize).collect();
        Stream { ssrc, arrivals, base: first, end: first, unreported: 0, last: now }
    }

    /// Says whether many packets are missing before this one.
    fn note(&mut self, now: Instant, wire: u16) -> bool {
        self.last = now;
        let number = self.end.extend(wire);
        let ahead = number.distance(self.end);
        if ahead >= LATE {
            // A new life of the publisher, or an attack: start over from here.
            self.arrivals.fill(None);
            self.unreported = 0;
            (self.base, self.end) = (number, number.plus(1));
        } else if ahead >= 0 {
            for step in 0..=ahead as u64 {
                self.arrivals[slot(self.end.plus(step))] = None;
            }
            self.end = number.plus(1);
        } else if ahead < -LATE {
            return false;
        }
        let span = self.end.distance(self.base);
        if span > LATE {
            self.base = self.base.plus((span - LATE) as u64);
        }
        let arrival = &mut self.arrivals[slot(number)];
        if arrival.is_none() {
            *arrival = Some(now);
            self.unreported += 1;
            self.base = self.base.min(number);
        }
        ahead > GAP && ahead < LATE
    }

    /// Writes a block of as many numbers as fit, and returns its length.
    fn write(&mut self, now: Instant, buf: &mut [u8]) -> usize {
        let room = (buf.len() - BLOCK) / 4 * 2;
        let count = (self.end.distance(self.base).max(0) as usize).min(room);
        buf[..4].copy_from_slice(&self.ssrc.0.to_be_bytes());
        buf[4..6].copy_from_slice(&self.base.wire().to_be_bytes());
        buf[6..8].copy_from_slice(&(count as u16).to_be_bytes());
        let metric = |arrival: Instant| {
            let offset = now.saturating_duration_since(arrival).as_micros() * 1024 / 1_000_000;
            RECEIVED | if offset > LONGEST { LONGER } else { offset as u16 }
        };
        let (metrics, _) = buf[BLOCK..].as_chunks_mut::<2>();
        for (offset, out) in metrics[..count].iter_mut().enumerate() {
            let arrival = self.arrivals[slot(self.base.plus(offset as u64))];
            *out = arrival.map_or(0, metric).to_be_bytes();
        }
        let len = (BLOCK + 2 * count).next_multiple_of(4);
        buf[BLOCK + 2 * count..len].fill(0);
        self.base = self.base.plus(count as u64);
        let left = self.end.distance(self.base).max(0) as u64;
        let left = (0..left).filter(|step| self.arrivals[slot(self.base.plus(*step))].is_some());
        self.unreported = left.count() as u32;
        len
    }
}

fn slot(number: SeqNo) -> usize {
    (number.value() & (SPAN - 1)) as usize
}

#[cfg(test)]
mod tests;
