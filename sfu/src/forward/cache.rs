//! The last second or so of one encoding's packets in plain: one copy, whatever the number of subscribers.
//!
//! A packet is found by its sequence number until newer ones have taken its bytes. Nothing is allocated per packet;
//! the ring doubles, up to a bound, when it holds less than [`KEEP`].

use std::time::{Duration, Instant};

use crate::ids::SeqNo;
use crate::units::RtpTime;
use crate::wire::description::PacketDescription;

/// What the cache should hold: a NACK, its answer and its repetition on a slow link.
const KEEP: Duration = Duration::from_secs(1);
/// Bytes at first: half a second of a 1 Mbit/s encoding.
const START: usize = 64 << 10;
/// Bytes at most: a second at 16 Mbit/s.
const MAX: usize = 2 << 20;
/// Packets at most, a power of two.
const SLOTS: usize = 2048;

/// Header extensions that are passed on as they came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Audio level byte (RFC 6464).
    pub audio_level: Option<u8>,
    /// Video orientation byte.
    pub video_orientation: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<[u8; 3]>,
    /// Absolute capture time, its 8-byte form.
    pub capture_time: Option<[u8; 8]>,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct PacketMeta {
    /// Number in the encoding.
    pub seq: SeqNo,
    /// Marker bit.
    pub marker: bool,
    /// The publisher's payload type.
    pub payload_type: u8,
    /// The publisher's timestamp.
    pub timestamp: RtpTime,
    /// When it came.
    pub arrival: Instant,
    /// Its place in the stream.
    pub description: PacketDescription,
    /// Extensions to pass on.
    pub carried: Carried,
}

/// A packet in the cache.
#[derive(Clone, Copy, Debug)]
pub struct CachedPacket<'a> {
    /// What is known of it.
    pub meta: &'a PacketMeta,
    /// Its raw dependency descriptor; empty if it had none.
    pub dependency_descriptor: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    meta: PacketMeta,
    start: u64, // in all bytes ever written
    descriptor_len: u16,
    len: u16,
}

/// See the module's page.
#[derive(Debug)]
pub struct PacketCache {
    bytes: Box<[u8]>,
    written: u64,
    /// So many bytes written, it is looked at again whether the ring is large enough: that goes through all entries.
    look_at: u64,
    entries: Box<[Option<Entry>]>,
}

impl Default for PacketCache {
    fn default() -> Self {
        PacketCache {
            bytes: vec![0; START].into(),
            written: 0,
            look_at: START as u64,
            entries: vec![None; SLOTS].into(),
        }
    }
}

impl PacketCache {
    /// Keeps a packet. Late ones are welcome; a number that is there already is left as it is.
    pub fn insert(&mut self, meta: PacketMeta, dependency_descriptor: &[u8], payload: &[u8]) {
        let len = dependency_descriptor.len() + payload.len();
        if len > usize::from(u16::MAX) || self.get(meta.seq).is_some() {
            return;
        }
        self.grow_if_short(meta.arrival, len);
        let start = self.make_room(len);
        let at = (start % self.bytes.len() as u64) as usize;
        let (head, tail) = self.bytes[at..at + len].split_at_mut(dependency_descriptor.len());
        head.copy_from_slice(dependency_descriptor);
        tail.copy_from_slice(payload);
        let descriptor_len = dependency_descriptor.len() as u16;
        self.entries[slot(meta.seq)] = Some(Entry { meta, start, descriptor_len, len: len as u16 });
    }

    /// The packet with this number, if it is still there.
    pub fn get(&self, seq: SeqNo) -> Option<CachedPacket<'_>> {
        let entry = self.entry(seq)?;
        let at = (entry.start % self.bytes.len() as u64) as usize;
        let bytes = &self.bytes[at..at + usize::from(entry.len)];
        let (dependency_descriptor, payload) = bytes.split_at(usize::from(entry.descriptor_len));
        Some(CachedPacket { meta: &entry.meta, dependency_descriptor, payload })
    }

    /// Whether it is still there.
    pub fn contains(&self, seq: SeqNo) -> bool {
        self.entry(seq).is_some()
    }

    fn entry(&self, seq: SeqNo) -> Option<&Entry> {
        let entry = self.entries[slot(seq)].as_ref()?;
        let overwritten = self.written - entry.start > self.bytes.len() as u64;
        (entry.meta.seq == seq && !overwritten).then_some(entry)
    }

    /// The place for `len` contiguous bytes.
    fn make_room(&mut self, len: usize) -> u64 {
        let capacity = self.bytes.len() as u64;
        let left = capacity - self.written % capacity;
        if left < len as u64 {
            self.written += left;
        }
        let start = self.written;
        self.written += len as u64;
        start
    }

    fn grow_if_short(&mut self, now: Instant, len: usize) {
        let capacity = self.bytes.len();
        if capacity >= MAX || self.written + (len as u64) < self.look_at {
            return;
        }
        self.look_at = self.written + capacity as u64 / 4;
        let floor = (self.written + len as u64).saturating_sub(capacity as u64);
        // The oldest packet that stays; younger than KEEP means the ring is too small.
        let oldest =
            self.entries.iter().flatten().filter(|entry| entry.start >= floor).map(|e| e.meta.arrival).min();
        if oldest.is_none_or(|at| now.saturating_duration_since(at) >= KEEP) {
            return;
        }
        let mut old: Vec<Entry> =
            self.entries.iter().flatten().filter(|entry| entry.start >= floor).copied().collect();
        old.sort_by_key(|entry| entry.start);
        let bytes = std::mem::replace(&mut self.bytes, vec![0; capacity * 2].into());
        self.entries.fill(None);
        (self.written, self.look_at) = (0, capacity as u64 * 2);
        for mut entry in old {
            let from = (entry.start % capacity as u64) as usize;
            let len = usize::from(entry.len);
            entry.start = self.make_room(len);
            let to = entry.start as usize;
            self.bytes[to..to + len].copy_from_slice(&bytes[from..from + len]);
            self.entries[slot(entry.meta.seq)] = Some(entry);
        }
    }
}

fn slot(seq: SeqNo) -> usize {
    seq.value() as usize & (SLOTS - 1)
}
