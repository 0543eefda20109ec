//! The numbers under which a subscriber gets a track: one continuous stream, whatever it is made of.
//!
//! Numbers are given when a packet leaves. A packet that we chose not to send takes none; one that has not come from
//! the publisher, or came late and waits behind its successors, keeps its number free, so that the subscriber misses
//! it and gets it after all.

use std::collections::VecDeque;

use super::cache::PacketCache;
use crate::ahead::look;
use crate::ids::SeqNo;
use crate::units::RtpTime;
use crate::wire::description::Vp8Numbers;

/// Numbers kept free for packets that never came, and frames whose picture id is remembered.
const RESERVED: usize = 256;
/// Late packets that wait for their turn.
const AWAITED: usize = 64;
/// A jump over more packets is a new stream, not a loss.
const MAX_GAP: i64 = 512;

/// What a packet is sent under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Sequence number.
    pub seq: SeqNo,
    /// Timestamp.
    pub timestamp: RtpTime,
    /// VP8 picture id.
    pub picture_id: u16,
    /// VP8 TL0PICIDX.
    pub tl0_pic_idx: u8,
}

/// How a new encoding's clock joins on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Ticks from the last packet sent to this one, as the two encodings' clocks have it.
    pub ticks: i32,
    /// Ticks that there must be at least.
    pub at_least: i32,
}

#[derive(Clone, Copy, Debug)]
struct PictureIds {
    input: u16,
    output: u16,
}

/// See the module's page.
#[derive(Debug)]
pub struct Rewriter {
    next: SeqNo,
    /// Latest packet of the current encoding.
    last_input: Option<SeqNo>,
    reserved: VecDeque<(SeqNo, SeqNo)>,
    awaited: VecDeque<SeqNo>,
    offset: i32,
    last_timestamp: RtpTime,
    started: bool,
    picture: PictureIds,
    tl0: PictureIds,
}

impl Rewriter {
    /// Begins at random numbers (RFC 3550 §5.1).
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        // Away from the wrap, so that a receiver's first look is at a plain order (RFC 3711 §3.3.1 advises it).
        let first = SeqNo::first(rng.u16(..0x7fff));
        Rewriter {
            next: first,
            last_input: None,
            reserved: VecDeque::new(),
            awaited: VecDeque::new(),
            offset: 0,
            last_timestamp: RtpTime(rng.u32(..)),
            started: false,
            picture: PictureIds { input: 0, output: rng.u16(..) & 0x7fff },
            tl0: PictureIds { input: 0, output: u16::from(rng.u8(..)) },
        }
    }

    /// Reads ahead what the next packet needs.
    pub(crate) fn ahead(&self) {
        look(&self.next);
        look(&self.last_input);
        look(&self.picture.output);
    }

    /// The next packet belongs to another encoding, or follows after a pause.
    pub fn switch(&mut self, input: RtpTime, join: Join, numbers: Option<&Vp8Numbers>) {
        let ticks = if self.started { join.ticks.max(join.at_least) } else { 0 };
        self.offset = self.last_timestamp.plus(ticks).distance(input);
        self.last_input = None;
        self.reserved.clear();
        self.awaited.clear();
        if let Some(numbers) = numbers {
            // As if the one before this had been the last sent.
            self.picture.input = numbers.picture_id.unwrap_or(0).wrapping_sub(1);
            self.tl0.input = u16::from(numbers.tl0_pic_idx.unwrap_or(0).wrapping_sub(1));
        }
    }

    /// Packet `seq` came late and will ask for its number: whatever leaves before it must not close the gap.
    pub fn await_late(&mut self, seq: SeqNo) {
        if self.awaited.len() == AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back(seq);
    }

    /// Packet `seq` came late and is not to be sent: the number kept free for it, if there is one, that must be closed.
    pub fn decline_late(&mut self, seq: SeqNo) -> Option<SeqNo> {
        let at = self.reserved.iter().position(|(input, _)| *input == seq)?;
        self.reserved.remove(at).map(|(_, out)| out)
    }

    /// Numbers for packet `seq` of the current encoding, which `cache` holds; `None` for a late packet whose number was
    /// not kept free: it must not be sent.
    pub fn number(
        &mut self,
        seq: SeqNo,
        timestamp: RtpTime,
        numbers: Option<&Vp8Numbers>,
        cache: &PacketCache,
    ) -> Option<Numbers> {
        let step = self.last_input.map_or(1, |last| seq.distance(last));
        if step <= 0 {
            return self.number_late(seq, timestamp, numbers);
        }
        let mut lost = false;
        if let Some(last) = self.last_input
            && step <= MAX_GAP
        {
            for missing in 1..step as u64 {
                let missing = last.plus(missing);
                if !cache.contains(missing) || self.awaited.contains(&missing) {
                    lost = true;
                    self.reserve(missing);
                }
            }
        }
        self.last_input = Some(seq);
        let out = self.skip();
        self.started = true;
        let timestamp = timestamp.plus(self.offset);
        if timestamp.distance(self.last_timestamp) > 0 {
            self.last_timestamp = timestamp;
        }
        if let Some(numbers) = numbers {
            self.advance_pictures(numbers, lost);
        }
        Some(self.numbers(out, timestamp))
    }

    /// The next number, for a packet of nothing.
    pub fn skip(&mut self) -> SeqNo {
        let out = self.next;
        self.next = out.plus(1);
        out
    }

    /// The current offset from the encoding's timestamps to ours.
    pub fn map(&self, timestamp: RtpTime) -> RtpTime {
        timestamp.plus(self.offset)
    }

    /// Whether a packet was sent.
    pub fn started(&self) -> bool {
        self.started
    }

    /// The latest timestamp sent; before the first packet, the one that it will have.
    pub fn latest_timestamp(&self) -> RtpTime {
        self.last_timestamp
    }

    fn reserve(&mut self, input: SeqNo) {
        if self.reserved.len() == RESERVED {
            self.reserved.pop_front();
        }
        let out = self.skip();
        self.reserved.push_back((input, out));
    }

    fn number_late(
        &mut self,
        seq: SeqNo,
        timestamp: RtpTime,
        numbers: Option<&Vp8Numbers>,
    ) -> Option<Numbers> {
        self.awaited.retain(|awaited| *awaited != seq);
        let out = self.decline_late(seq)?;
        let mut answer = self.numbers(out, timestamp.plus(self.offset));
        if let Some(numbers) = numbers {
            let picture = numbers.picture_id.unwrap_or(self.picture.input);
            let mask = if numbers.wide_picture_id { 0x7fff } else { 0x7f };
            let back = self.picture.input.wrapping_sub(picture) & mask;
            answer.picture_id = self.picture.output.wrapping_sub(back) & 0x7fff;
            let tl0 = numbers.tl0_pic_idx.map_or(self.tl0.input as u8, |tl0| tl0);
            let back = (self.tl0.input as u8).wrapping_sub(tl0);
            answer.tl0_pic_idx = (self.tl0.output as u8).wrapping_sub(back);
        }
        Some(answer)
    }

    /// One frame on is one picture id on; after a loss as many as the publisher counted, so that a frame which comes
    /// late finds its place.
    fn advance_pictures(&mut self, numbers: &Vp8Numbers, lost: bool) {
        if let Some(picture) = numbers.picture_id {
            let mask = if numbers.wide_picture_id { 0x7fff } else { 0x7f };
            let step = picture.wrapping_sub(self.picture.input) & mask;
            if step != 0 {
                self.picture.output = self.picture.output.wrapping_add(if lost { step } else { 1 }) & 0x7fff;
                self.picture.input = picture;
            }
        }
        if let Some(tl0) = numbers.tl0_pic_idx {
            let step = tl0.wrapping_sub(self.tl0.input as u8);
            self.tl0.output = u16::from((self.tl0.output as u8).wrapping_add(step));
            self.tl0.input = u16::from(tl0);
        }
    }

    fn numbers(&self, seq: SeqNo, timestamp: RtpTime) -> Numbers {
        Numbers { seq, timestamp, picture_id: self.picture.output, tl0_pic_idx: self.tl0.output as u8 }
    }
}
