//! Redundant audio (RFC 2198): whether a subscriber gets any, which earlier payloads go along with a packet, and what a
//! publisher's own redundancy fills in.
//!
//! All that publishers send is kept as plain Opus, whatever it came as; redundancy toward a subscriber is made anew from
//! the cache. Always: none without loss on the subscriber's own path, none while that path queues, none around silence
//! or over a gap, a talk spurt or a change of stream.
//! Not here: the format ([`crate::wire::red`]), payload types, encrypted tracks (which have none).

use std::time::{Duration, Instant};

use super::cache::{CachedPacket, PacketCache};
use crate::congestion::PacketClass;
use crate::congestion::delay::Queue;
use crate::congestion::twcc::Acked;
use crate::ids::SeqNo;
use crate::units::{Bitrate, RtpTime};
use crate::wire::red::{Block, MAX_LENGTH, MAX_OFFSET};

/// Most earlier payloads in one packet. Random loss of `p` leaves `p²` with one and `p³` with two.
pub const MAX_BLOCKS: usize = 2;
/// Longest Opus packet, in ticks of its 48 kHz (RFC 6716 §3.2.5): a longer step is a pause.
const LONGEST_STEP: i32 = 5760;
/// Opus says "nothing new" in this many bytes at most (RFC 6716 §3.1; libopus, DTX).
const DTX: usize = 2;
/// Quieter than this, in -dBov, nobody hears a missing packet.
const SILENT: u8 = 70;
/// Payload of a packet with its redundancy, below any usual path's MTU.
const MAX_PAYLOAD: usize = 1100;
/// A publisher's redundancy reaches back this many packets at most: 40 ms of the shortest, a third of a second of usual.
const REACH: u16 = 16;

/// Loss from which on one and two earlier payloads go along.
const LOSS: [f64; MAX_BLOCKS] = [0.01, 0.08];
/// So many losses in the window are no accident.
const EVIDENCE: [i32; MAX_BLOCKS] = [3, 8];
/// The latest slots alone suffice if loss exceeds by this.
const SUDDEN: f64 = 1.5;
const RECENT: usize = 4;
/// Loss that stays above this share of a threshold keeps the level.
const HOLD: f64 = 0.7;
/// So long after loss fell below it, a level is given up.
const DOWN_AFTER: Duration = Duration::from_secs(15);
/// Longer bursts of lost audio packets want two.
const BURST: f64 = 1.5;
/// As does a round trip over which retransmission would come too late.
const FAR: Duration = Duration::from_millis(200);
/// With a queue this long loss is our own doing…
const QUEUE: Duration = Duration::from_millis(40);
/// …as is that of what left shortly after, while the queue was not known to be gone…
const QUEUE_AFTER: Duration = Duration::from_millis(200);
/// …and what was counted in so many slots before, when it was not known to be there.
const QUEUE_BEFORE: usize = 4;
/// Nor is it the path's if most of a slot is lost…
const OUTRAGEOUS: f64 = 0.5;
/// …or if it all happened at once: so many slots must have some.
const SPREAD: usize = 3;
/// Share of the target for audio with its redundancy, beside video and alone.
const SHARE: f64 = 0.5;
const SHARE_ALONE: f64 = 0.95;
/// A level that is not had yet must fit into this much of it.
const ROOM: f64 = 0.95;
/// Loss is counted in slots of half a second, over ten.
const SLOT: Duration = Duration::from_millis(500);
const WINDOW: usize = 20;
/// Packets that a receiver report stands for: a second of audio.
const REPORTED: i32 = 50;

/// Earlier payloads that go along with one packet, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Earlier<'a> {
    blocks: [Block<'a>; MAX_BLOCKS],
    count: usize,
}

impl<'a> Earlier<'a> {
    /// Up to `level` payloads from before `packet`, but none from before `first`: there the subscriber's stream has begun.
    pub fn gather(
        cache: &'a PacketCache,
        packet: &CachedPacket<'_>,
        level: u8,
        first: SeqNo,
        payload_type: u8,
    ) -> Earlier<'a> {
        let mut earlier = Earlier::default();
        let (mut after, mut size) = (*packet.meta, packet.payload.len());
        for back in 1..=u16::from(level).min(MAX_BLOCKS as u16) {
            // A talk spurt begins at the marker (RFC 3551 §4.1).
            if after.marker {
                break;
            }
            let seq = number_before(packet.meta.seq, back);
            let Some(before) = cache.get(seq).filter(|_| seq >= first) else { break };
            let step = after.timestamp.distance(before.meta.timestamp);
            let offset = packet.meta.timestamp.distance(before.meta.timestamp);
            let Ok(offset) = u16::try_from(offset) else { break };
            let block = Block { payload_type, offset, payload: before.payload };
            size += block.size();
            let possible = offset <= MAX_OFFSET && before.payload.len() <= MAX_LENGTH && size <= MAX_PAYLOAD;
            if !possible || !(1..=LONGEST_STEP).contains(&step) || is_silent(&before) {
                break;
            }
            earlier.count += 1;
            earlier.blocks[MAX_BLOCKS - earlier.count] = block;
            after = *before.meta;
        }
        if is_silent(packet) {
            earlier.count = 0;
        }
        earlier
    }

    /// The blocks, oldest first.
    pub fn blocks(&self) -> &[Block<'a>] {
        &self.blocks[MAX_BLOCKS - self.count..]
    }
}

fn is_silent(packet: &CachedPacket<'_>) -> bool {
    // The byte's first bit says voice.
    let quiet = packet.meta.carried.audio_level.is_some_and(|byte| byte & 0x7f >= SILENT);
    packet.payload.len() <= DTX || quiet
}

fn number_before(seq: SeqNo, back: u16) -> SeqNo {
    seq.extend(seq.wire().wrapping_sub(back))
}

/// The number of the packet that a redundant block of packet `seq` repeats, if that packet never came. Blocks do not
/// tell it: it is the place that the block's time has between the packets which are there.
pub fn missing_number(cache: &PacketCache, seq: SeqNo, timestamp: RtpTime, offset: u16) -> Option<SeqNo> {
    let time = timestamp.plus(-i32::from(offset));
    let mut upper = (seq, timestamp);
    let mut behind = (1..=REACH).filter_map(|back| cache.get(number_before(seq, back)));
    let lower = behind.find_map(|packet| {
        let at = (packet.meta.seq, packet.meta.timestamp);
        if time.distance(at.1) < 0 {
            upper = at;
            return None;
        }
        Some(at)
    })?;
    let packets = i32::try_from(upper.0.distance(lower.0)).ok()?;
    let ticks = upper.1.distance(lower.1);
    let even = packets > 1 && ticks > 0 && ticks % packets == 0;
    let (step, from_upper) = (ticks.checked_div(packets)?, upper.1.distance(time));
    let fits = even && from_upper > 0 && from_upper < ticks && from_upper % step == 0;
    fits.then(|| number_before(upper.0, (from_upper / step) as u16))
}

/// What packets of one slot met with.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    total: i32,
    /// Those reported lost that came after all are taken out again, perhaps a slot later: may be negative.
    lost: i32,
    audio_lost: i32,
    /// Runs of lost audio packets.
    bursts: i32,
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally {
            total: self.total + other.total,
            lost: self.lost + other.lost,
            audio_lost: self.audio_lost + other.audio_lost,
            bursts: self.bursts + other.bursts,
        }
    }

    fn ratio(self) -> f64 {
        f64::from(self.lost.max(0)) / f64::from(self.total.max(1))
    }
}

/// A path as a transport-wide report shows it.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// What its queue does…
    pub queue: Queue,
    /// …and how long it is.
    pub delay: Duration,
}

/// What redundancy would cost, and on what path.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// All audio without redundancy.
    pub audio: Bitrate,
    /// What each earlier payload in all its packets adds.
    pub block: Bitrate,
    /// All that may be sent.
    pub target: Bitrate,
    /// Video is being sent as well.
    pub video: bool,
    /// Round trip.
    pub rtt: Duration,
}

/// How many earlier payloads one subscriber gets along, by its losses.
#[derive(Debug, Default)]
pub struct Level {
    slots: [Tally; WINDOW], // the newest first
    since: Option<Instant>, // of the newest
    burst: bool,            // the last audio packet was lost
    queue: bool,
    /// When there was a queue last.
    queued: Option<Instant>,
    needed: u8,
    /// When loss last asked for as much as `needed`.
    asked: Option<Instant>,
    affordable: u8,
}

impl Level {
    /// What a transport-wide report resolved, and what it says of the path.
    pub fn on_acked(&mut self, now: Instant, acked: &[Acked], path: Path) {
        self.roll(now);
        self.queue = path.delay > QUEUE || path.queue != Queue::Normal;
        if self.queue {
            self.queued = Some(now);
            self.slots[..QUEUE_BEFORE].fill(Tally::default());
        }
        let tally = &mut self.slots[0];
        for acked in acked {
            // A probe may lose what is too much, and tells no more than that.
            let probe = acked.cluster.is_some();
            if probe || self.queued.is_some_and(|at| acked.sent < at + QUEUE_AFTER) {
                continue;
            }
            if acked.late {
                tally.lost -= 1;
                continue;
            }
            let lost = acked.arrival.is_none();
            tally.total += 1;
            tally.lost += i32::from(lost);
            if acked.class == PacketClass::Audio {
                tally.audio_lost += i32::from(lost);
                tally.bursts += i32::from(lost && !self.burst);
                self.burst = lost;
            }
        }
    }

    /// A receiver report on audio, from a client that gives no better ones: the share that it misses.
    pub fn on_report(&mut self, now: Instant, fraction: f64) {
        self.roll(now);
        self.slots[0].total += REPORTED;
        self.slots[0].lost += (fraction * f64::from(REPORTED)).round() as i32;
    }

    /// Decides anew.
    pub fn update(&mut self, now: Instant, conditions: &Conditions) {
        self.roll(now);
        let (up, keep) = (self.measure(1.0, conditions.rtt), self.measure(HOLD, conditions.rtt));
        let old = self.asked.is_none_or(|at| now.saturating_duration_since(at) >= DOWN_AFTER);
        if up > self.needed {
            (self.needed, self.asked) = (up, Some(now));
        } else if keep >= self.needed {
            self.asked = Some(now);
        } else if old {
            (self.needed, self.asked) = (keep, Some(now));
        }
        let share = if conditions.video { SHARE } else { SHARE_ALONE };
        let fits = |level: &u8| {
            let room = if *level > self.affordable { ROOM } else { 1.0 };
            let cost = conditions.audio + conditions.block.scale(f64::from(*level));
            cost <= conditions.target.scale(share * room)
        };
        self.affordable = (1..=MAX_BLOCKS as u8).rev().find(fits).unwrap_or(0);
    }

    /// Earlier payloads in each packet, at most [`MAX_BLOCKS`].
    pub fn get(&self) -> u8 {
        if self.queue { 0 } else { self.needed.min(self.affordable) }
    }

    /// What loss asks for, if thresholds were this much lower.
    fn measure(&self, scale: f64, rtt: Duration) -> u8 {
        let credible = |slots: &[Tally]| {
            let slots = slots.iter().filter(|tally| tally.ratio() <= OUTRAGEOUS);
            slots.fold(Tally::default(), |sum, tally| sum.plus(*tally))
        };
        let (recent, all) = (credible(&self.slots[..RECENT]), credible(&self.slots));
        if self.slots.iter().filter(|tally| tally.lost > 0).count() < SPREAD {
            return 0;
        }
        let exceeds = |level: usize| {
            let least = LOSS[level] * scale;
            let enough = |tally: Tally| f64::from(tally.lost) >= f64::from(EVIDENCE[level]) * scale;
            (all.ratio() >= least && enough(all)) || (recent.ratio() >= least * SUDDEN && enough(recent))
        };
        let bursts = all.bursts >= EVIDENCE[0]
            && f64::from(all.audio_lost) >= f64::from(all.bursts) * (1.0 + (BURST - 1.0) * scale);
        if exceeds(1) || (exceeds(0) && (bursts || rtt > FAR)) { 2 } else { u8::from(exceeds(0)) }
    }

    fn roll(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since).as_nanos() / SLOT.as_nanos();
        let shift = usize::try_from(passed).unwrap_or(WINDOW).min(WINDOW);
        self.slots.rotate_right(shift % WINDOW);
        self.slots[..shift].fill(Tally::default());
        self.since = Some(if shift < WINDOW { since + SLOT * shift as u32 } else { now });
    }
}

#[cfg(test)]
mod tests;
