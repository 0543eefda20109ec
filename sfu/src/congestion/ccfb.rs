//! Congestion control feedback by stream (RFC 8888), for clients that have no transport-wide one.
//!
//! It names packets by SSRC and sequence number. [`Streams`] knows which transport-wide number each has here, though
//! none is on the wire, so that a report comes to the same [`Acked`] as a transport-wide one: [`parse`] reads it, and
//! [`SentLog`] says what is news in it. [`StreamRecorder`] writes such reports for publishers.
//! Always: a report costs no more than its length; a packet counts once, however many reports tell of it; what was
//! never sent, or is forgotten, changes nothing but a counter; a report that was lost itself is no loss of what it
//! reported on; a report without news does not end a client's silence.
//! Not here: ECN, since we mark nothing; what the reports mean ([`super::delay`], [`super::loss`]).

mod recorder;
mod report;

use std::collections::HashMap;
use std::time::Instant;

pub use self::recorder::StreamRecorder;
pub use self::report::{Block, CcfbError, CcfbReport, Metric, parse};
use super::twcc::{Acked, Arrival, MAX_AGE, SentLog};
use super::wire_clock::WireClock;
use crate::history::{Extent, History, Remembered};
use crate::ids::{SeqNo, Ssrc};
use crate::stats::FeedbackRefusal;

/// Of one stream, 5 s at 15 Mbit/s at most.
const EXTENT: Extent = Extent { least: 64, most: 8192, time: MAX_AGE };

/// A packet's number in its stream, and its transport-wide one.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    number: u64,
    transport: u64,
    sent: Instant,
}

impl Remembered for Numbered {
    fn number(&self) -> u64 {
        self.number
    }

    fn since(&self) -> Instant {
        self.sent
    }
}

#[derive(Debug)]
struct Stream {
    packets: History<Numbered>,
    newest: SeqNo,
    sent: Instant,
    /// One past the highest number that a report was about.
    covered: Option<SeqNo>,
}

/// Which packets of which streams were sent lately, over one transport.
#[derive(Debug)]
pub struct Streams {
    by_ssrc: HashMap<Ssrc, Stream>,
    clock: WireClock,
    /// Of the newest report: its parts have the same.
    timestamp: Option<u32>,
}

impl Default for Streams {
    fn default() -> Self {
        Streams { by_ssrc: HashMap::new(), clock: WireClock::compact_ntp(), timestamp: None }
    }
}

impl Streams {
    /// Records that packet `wire` of a stream leaves, as the one that `log` takes in next.
    pub fn on_sent(&mut self, now: Instant, (ssrc, wire): (Ssrc, u16), log: &SentLog) {
        if !self.by_ssrc.contains_key(&ssrc) {
            // Of a stream that ended, reports may be on their way for as long as they are believed.
            self.by_ssrc.retain(|_, stream| now.saturating_duration_since(stream.sent) <= MAX_AGE);
        }
        let stream = self.by_ssrc.entry(ssrc).or_insert_with(|| Stream {
            packets: History::new(EXTENT),
            newest: SeqNo::first(wire),
            sent: now,
            covered: None,
        });
        let number = stream.newest.extend(wire);
        stream.packets.insert(now, Numbered { number: number.value(), transport: log.next(), sent: now });
        stream.newest = stream.newest.max(number);
        stream.sent = now;
    }

    /// Resolves what the report `body` (see [`parse`]) tells, oldest arrival first, then losses, into `sink`, which is
    /// cleared first and may be reused. It stays empty if the report has no news.
    ///
    /// # Errors
    /// As [`parse`]; nothing changed then.
    pub fn on_report(
        &mut self,
        now: Instant,
        log: &mut SentLog,
        body: &[u8],
        sink: &mut Vec<Acked>,
    ) -> Result<(), CcfbError> {
        sink.clear();
        let report = parse(body).inspect_err(|_| log.refuse(FeedbackRefusal::Malformed))?;
        let written = self.clock.unwrap(now, report.timestamp);
        if written.jumped {
            log.refuse(FeedbackRefusal::ClockJump);
        }
        if self.timestamp.replace(report.timestamp) != Some(report.timestamp) {
            log.begin_report();
        }
        let gaps = report.blocks().filter_map(|block| self.cover(&block));
        let untold = gaps.reduce(|(first, last), gap| (first.min(gap.0), last.max(gap.1)));
        if let Some((first, last)) = untold {
            log.leave_untold(first, last + 1);
        }
        for block in report.blocks() {
            let Some((stream, begin)) = self.known(&block) else {
                log.refuse(FeedbackRefusal::NotSent);
                continue;
            };
            for (offset, metric) in block.metrics().enumerate() {
                let Metric::Arrived(before) = metric else { continue };
                let Some(packet) = stream.packets.get(begin.plus(offset as u64).value()) else {
                    log.refuse(FeedbackRefusal::Old);
                    continue;
                };
                let since = |before: u16| written.micros.saturating_sub(i64::from(before) * 1_000_000 / 1024);
                log.receive(now, packet.transport, before.map(since).map(Arrival::micros), sink);
            }
        }
        log.conclude(now, sink);
        Ok(())
    }

    /// The stream that a block is about and its first number there; `None` if it is about what was never sent.
    fn known(&self, block: &Block<'_>) -> Option<(&Stream, SeqNo)> {
        let stream = self.by_ssrc.get(&Ssrc(block.ssrc))?;
        let begin = stream.newest.extend(block.begin);
        let end = begin.plus(block.count().into());
        (end.distance(stream.newest) <= 1).then_some((stream, begin))
    }

    /// Notes what a block is about. Blocks follow each other without a gap: the first and the last transport-wide number
    /// of those that a report would have been about which did not come.
    fn cover(&mut self, block: &Block<'_>) -> Option<(u64, u64)> {
        let (_, begin) = self.known(block)?;
        let stream = self.by_ssrc.get_mut(&Ssrc(block.ssrc))?;
        let end = begin.plus(block.count().into());
        let covered = stream.covered.replace(stream.covered.map_or(end, |covered| covered.max(end)))?;
        let transport = |number: u64| Some(stream.packets.get(number)?.transport);
        let gap = begin > covered;
        gap.then(|| Some((transport(covered.value())?, transport(begin.value() - 1)?))).flatten()
    }
}

#[cfg(test)]
mod tests;
