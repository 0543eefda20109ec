//! What was sent to one subscriber on one track, to answer its NACKs (RFC 4585 §6.2.1).

use std::time::{Duration, Instant};

use super::rewrite::Numbers;
use crate::ids::SeqNo;

/// Packets remembered, a power of two: over two seconds at 2 Mbit/s.
const SLOTS: usize = 1024;
/// The same packet is resent this often at most.
const MAX_RESENDS: u8 = 4;
/// A packet asked for later than this helps nobody.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A packet that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Under which numbers.
    pub numbers: Numbers,
    /// The encoding…
    pub encoding: u8,
    /// …and its number there: where the bytes are.
    pub source: SeqNo,
    /// The marker bit it had.
    pub marker: bool,
    at: Instant,
    resends: u8,
}

/// What to do about a NACK.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Resend it; it is counted as resent now.
    Resend(Sent),
    /// It was resent less than a round trip ago.
    TooSoon,
    /// It was resent often enough, or is too old.
    Hopeless,
    /// It was never sent, or is forgotten.
    Unknown,
}

/// See the module's page.
#[derive(Debug)]
pub struct SentLog {
    slots: Box<[Option<Sent>]>,
    latest: Option<SeqNo>,
}

impl Default for SentLog {
    fn default() -> Self {
        SentLog { slots: vec![None; SLOTS].into(), latest: None }
    }
}

impl SentLog {
    /// Remembers a packet that leaves now.
    pub fn insert(&mut self, now: Instant, numbers: Numbers, encoding: u8, source: SeqNo, marker: bool) {
        let sent = Sent { numbers, encoding, source, marker, at: now, resends: 0 };
        self.slots[slot(numbers.seq)] = Some(sent);
        if self.latest.is_none_or(|latest| numbers.seq.distance(latest) > 0) {
            self.latest = Some(numbers.seq);
        }
    }

    /// The subscriber misses number `wire`.
    pub fn handle_nack(&mut self, now: Instant, rtt: Duration, wire: u16) -> Answer {
        let Some(latest) = self.latest else { return Answer::Unknown };
        let seq = latest.extend(wire);
        let Some(sent) = self.slots[slot(seq)].as_mut().filter(|sent| sent.numbers.seq == seq) else {
            return Answer::Unknown;
        };
        let since = now.saturating_duration_since(sent.at);
        if sent.resends > 0 && since < rtt.mul_f64(0.8) {
            return Answer::TooSoon;
        }
        if sent.resends >= MAX_RESENDS || (sent.resends == 0 && since > MAX_AGE) {
            return Answer::Hopeless;
        }
        sent.resends += 1;
        sent.at = now;
        Answer::Resend(*sent)
    }

    /// The packet sent under number `wire`, if it is remembered.
    pub fn get(&self, wire: u16) -> Option<&Sent> {
        let seq = self.latest?.extend(wire);
        self.slots[slot(seq)].as_ref().filter(|sent| sent.numbers.seq == seq)
    }

    /// The last packets sent, newest first: what a probe can be made of.
    pub fn recent(&self) -> impl Iterator<Item = &Sent> {
        let latest = self.latest;
        (0..SLOTS as u64).map_while(move |back| {
            let seq = latest?;
            self.slots[slot_back(seq, back)].as_ref()
        })
    }
}

fn slot(seq: SeqNo) -> usize {
    seq.value() as usize & (SLOTS - 1)
}

fn slot_back(seq: SeqNo, back: u64) -> usize {
    seq.value().wrapping_sub(back) as usize & (SLOTS - 1)
}
