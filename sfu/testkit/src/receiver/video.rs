//! One video stream: its packets put together to frames, and frames shown as soon as all they refer to was.
//!
//! As libwebrtc has it (m14x): a frame is whole from its first packet to its marker, whatever is missing before it
//! (`PacketBuffer`); it can be decoded when the frames it refers to were, told by TL0PICIDX and picture id
//! (`RtpVp8RefFinder`), so a missing frame of an upper temporal layer stops nothing but that layer; missing packets are
//! asked for ten times, once each round trip (`NackRequester`); a keyframe is asked for when none came within 200 ms of
//! need, or no frame for 3 s (`VideoReceiveStream2`). A frame counts as shown when it is decoded; when a playout buffer
//! would show it is told beside that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu::ids::{SeqNo, Ssrc};

use super::playout::Playout;
use super::{ReceivedStream, VideoStats, finish, header};
use crate::rtp::{RtpPacket, Vp8};

/// Packets buffered.
const BUFFER: usize = 2048;
/// More missing packets than this are not asked for one by one (`kMaxNackPackets`).
const MAX_MISSING: i64 = 1000;
/// A missing packet is asked for again after this long: the round trip that libwebrtc assumes where it knows none…
const NACK_RETRY: Duration = Duration::from_millis(100);
/// …this often (`kMaxNackRetries`).
const NACK_TRIES: u32 = 10;
/// A frame that could be decoded waits this long for those before it: what the jitter buffer would hold it back.
const PATIENCE: Duration = Duration::from_millis(100);
/// A stream that cannot go on without a keyframe is asked for one this often (`kMaxWaitForKeyFrame`)…
const KEYFRAME_WAIT: Duration = Duration::from_millis(200);
/// …and one that shows nothing after this long (`kMaxWaitForFrame`)…
const FRAME_WAIT: Duration = Duration::from_secs(3);
/// …unless nothing of it came for this long: it is not being sent.
const INACTIVE: Duration = Duration::from_secs(5);
/// Frames whose mean distance a freeze is measured against (W3C webrtc-stats, `freezeCount`).
const FREEZE_FRAMES: usize = 30;

#[derive(Debug)]
struct Missing {
    asked: Option<Instant>,
    tries: u32,
    /// Not asked for before.
    from: Option<Instant>,
}

impl Missing {
    /// When to ask for it; `began` is as good as at once.
    fn due(&self, began: Option<Instant>) -> Option<Instant> {
        match self.asked {
            Some(asked) => Some(asked + NACK_RETRY),
            None => self.from.or(began),
        }
    }
}

/// A frame that is there to its end.
#[derive(Clone, Copy, Debug)]
struct Frame {
    first: SeqNo,
    end: SeqNo, // one past its last packet
    vp8: Vp8,
    timestamp: u32,
}

/// What was decoded last.
#[derive(Clone, Copy, Debug)]
struct References {
    tl0: u8,
    picture: u16,
    timestamp: u32,
}

impl References {
    fn has_those_of(self, vp8: &Vp8) -> bool {
        match vp8.temporal {
            0 => vp8.tl0_pic_idx == self.tl0.wrapping_add(1),
            _ if vp8.sync => vp8.tl0_pic_idx == self.tl0,
            _ => vp8.tl0_pic_idx == self.tl0 && vp8.picture_id == (self.picture + 1) & 0x7fff,
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Video {
    pub(super) stream: ReceivedStream,
    pub(super) stats: VideoStats,
    packets: BTreeMap<SeqNo, RtpPacket>,
    missing: BTreeMap<SeqNo, Missing>,
    next: Option<SeqNo>, // first number not decoded or given up
    highest: Option<SeqNo>,
    references: Option<References>,    // `None`: only a keyframe helps
    skip_at: Option<(SeqNo, Instant)>, // a frame that could be decoded, and until when those before it are waited for
    broken: bool,
    began: Option<Instant>,
    last_packet: Option<Instant>,
    asked: Option<Instant>, // for a keyframe
    nacked: BTreeMap<SeqNo, Copies>,
    playout: Playout,
    /// How long a packet may come otherwise before it is asked for.
    pub(super) nack_delay: Duration,
    gaps: Vec<Duration>,
    shown: Option<Instant>,
}

/// How a packet came that was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    original: bool,
    resent: bool,
}

impl Copies {
    /// One more came. Says whether it is the one that shows that there was no need to ask.
    fn note(&mut self, resent: bool) -> bool {
        let both = self.original && self.resent;
        self.resent |= resent;
        self.original |= !resent;
        !both && self.original && self.resent
    }
}

impl Video {
    pub(super) fn new(stream: ReceivedStream) -> Video {
        Video {
            stream,
            stats: VideoStats::default(),
            packets: BTreeMap::new(),
            missing: BTreeMap::new(),
            next: None,
            highest: None,
            references: None,
            skip_at: None,
            broken: false,
            began: None,
            last_packet: None,
            asked: None,
            nacked: BTreeMap::new(),
            playout: Playout::default(),
            nack_delay: Duration::ZERO,
            gaps: Vec::new(),
            shown: None,
        }
    }

    pub(super) fn receive(&mut self, now: Instant, start: Instant, mut packet: RtpPacket) {
        self.stats.packets += 1;
        self.stats.bytes += packet.payload.len() as u64;
        let resent = self.stream.rtx == Some(packet.ssrc);
        if resent {
            let Some(original) = packet.payload.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)) else {
                return; // padding on the RTX stream
            };
            packet.sequence = original;
            packet.payload.drain(..2);
            self.stats.resent += 1;
        }
        self.last_packet = Some(now);
        self.began.get_or_insert(now);
        let number = match self.highest {
            Some(highest) => highest.extend(packet.sequence),
            None => SeqNo::first(packet.sequence),
        };
        if let Some(copies) = self.nacked.get_mut(&number) {
            self.stats.spurious += u64::from(copies.note(resent));
        }
        if number < *self.next.get_or_insert(number) {
            return; // decoded or given up
        }
        let expected = self.highest.map_or(number, |highest| highest.plus(1));
        if number.distance(expected) > MAX_MISSING {
            self.restart(number);
        } else {
            for step in 0..number.distance(expected).max(0) as u64 {
                let from = (self.nack_delay > Duration::ZERO).then(|| now + self.nack_delay);
                self.missing.insert(expected.plus(step), Missing { asked: None, tries: 0, from });
            }
        }
        self.highest = self.highest.max(Some(number));
        self.missing.remove(&number);
        self.packets.insert(number, packet);
        if self.packets.len() > BUFFER {
            self.packets.pop_first();
        }
        self.play(now, start);
    }

    fn restart(&mut self, number: SeqNo) {
        self.packets.clear();
        self.missing.clear();
        self.next = Some(number);
        self.references = None;
    }

    /// Shows every frame whose turn it is.
    pub(super) fn play(&mut self, now: Instant, start: Instant) {
        self.skip_at = self.skip_at.filter(|(number, _)| self.next.is_some_and(|next| next <= *number));
        loop {
            self.pass_padding();
            let Some(next) = self.next else { return };
            let frames = self.frames();
            let Some(frame) = frames.iter().find(|frame| self.decodable(frame)).copied() else {
                // The next packet is here, and either begins no frame or one that refers to what never was announced.
                let begins = |packet: &RtpPacket| Vp8::read(&packet.payload).is_some_and(|vp8| vp8.start);
                let headless = self.packets.get(&next).is_some_and(|packet| !begins(packet));
                let orphaned = frames.first().is_some_and(|frame| frame.first == next);
                if (headless || orphaned)
                    && self.references.is_some()
                    && !std::mem::replace(&mut self.broken, true)
                {
                    self.stats.undecodable += 1;
                }
                return;
            };
            if frame.first != next {
                let may_come =
                    self.missing.range(next..frame.first).any(|(_, missing)| missing.tries < NACK_TRIES);
                let held = self.skip_at.filter(|(number, _)| *number == frame.first);
                let (_, until) = *self.skip_at.insert(held.unwrap_or((frame.first, now + PATIENCE)));
                if may_come && frame.vp8.keyframe.is_none() && now < until {
                    return;
                }
                self.stats.skips += 1;
            }
            self.skip_at = None;
            self.decode(now, start, &frame);
        }
    }

    /// Numbers that bear no media are not waited for.
    fn pass_padding(&mut self) {
        while let Some(next) = self.next
            && self.packets.get(&next).is_some_and(|packet| packet.payload.is_empty())
        {
            self.packets.remove(&next);
            self.next = Some(next.plus(1));
        }
    }

    /// Frames that are there to their end, in order.
    fn frames(&self) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut begun: Option<Frame> = None; // `end` is the next number of it
        for (&number, packet) in &self.packets {
            begun = begun.filter(|frame| frame.end == number && frame.timestamp == packet.timestamp);
            if begun.is_none() {
                let vp8 = Vp8::read(&packet.payload).filter(|vp8| vp8.start);
                begun = vp8.map(|vp8| Frame { first: number, end: number, vp8, timestamp: packet.timestamp });
            }
            if let Some(frame) = &mut begun {
                frame.end = number.plus(1);
                if packet.marker {
                    frames.extend(begun.take());
                }
            }
        }
        frames
    }

    fn decodable(&self, frame: &Frame) -> bool {
        frame.vp8.keyframe.is_some() || self.references.is_some_and(|last| last.has_those_of(&frame.vp8))
    }

    fn decode(&mut self, now: Instant, start: Instant, frame: &Frame) {
        self.packets = self.packets.split_off(&frame.end);
        self.missing = self.missing.split_off(&frame.end);
        self.next = Some(frame.end);
        self.broken = false;
        let (vp8, timestamp) = (frame.vp8, frame.timestamp);
        let back = |last: &References| (timestamp.wrapping_sub(last.timestamp) as i32) <= 0;
        if self.references.as_ref().is_some_and(back) {
            self.stats.undecodable += 1; // a jump back in time
        }
        self.references = Some(References { tl0: vp8.tl0_pic_idx, picture: vp8.picture_id, timestamp });
        self.show(now, start, vp8, timestamp);
    }

    fn show(&mut self, now: Instant, start: Instant, vp8: Vp8, timestamp: u32) {
        self.stats.frames += 1;
        self.stats.first_frame.get_or_insert(now - start);
        if let Some(size) = vp8.keyframe {
            self.stats.keyframes += 1;
            if self.stats.size != Some(size) {
                self.stats.size = Some(size);
                self.stats.sizes.push((now - start, size));
            }
        }
        self.stats.shown.push((now - start, self.stats.size.unwrap_or_default()));
        let (played, delay) = self.playout.show(now - start, timestamp);
        self.stats.played.push(played);
        self.stats.delays.push(delay);
        if let Some(shown) = self.shown {
            let gap = now - shown;
            self.stats.longest_gap = self.stats.longest_gap.max(gap);
            if !self.gaps.is_empty() {
                let mean = self.gaps.iter().sum::<Duration>() / self.gaps.len() as u32;
                if gap > (mean * 3).max(mean + Duration::from_millis(150)) {
                    self.stats.freezes += 1;
                    self.stats.frozen += gap;
                }
            }
            if self.gaps.len() == FREEZE_FRAMES {
                self.gaps.remove(0);
            }
            self.gaps.push(gap);
        }
        self.shown = Some(now);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let nack = self.missing.values().filter(|missing| missing.tries < NACK_TRIES);
        let nack = nack.map(|missing| missing.due(self.began));
        let skip = self.skip_at.map(|(_, at)| at);
        nack.chain([self.keyframe_due(), skip]).flatten().min()
    }

    /// When a keyframe is to be asked for.
    fn keyframe_due(&self) -> Option<Instant> {
        let due = match self.references {
            None => self.asked.max(self.began)? + KEYFRAME_WAIT,
            Some(_) => self.asked.max(self.shown)? + FRAME_WAIT,
        };
        Some(due).filter(|due| *due < self.last_packet.unwrap_or(*due) + INACTIVE)
    }

    pub(super) fn poll_rtcp(&mut self, now: Instant, sender: Ssrc) -> Option<Vec<u8>> {
        let due =
            |missing: &Missing| missing.tries < NACK_TRIES && missing.due(None).is_none_or(|due| now >= due);
        let wanted: Vec<SeqNo> = self
            .missing
            .iter()
            .filter(|(_, missing)| due(missing))
            .map(|(&number, _)| number)
            .take(64)
            .collect();
        if !wanted.is_empty() {
            let mut rtcp = header(1, 205, sender, self.stream.ssrc);
            for number in wanted {
                rtcp.extend(number.wire().to_be_bytes());
                rtcp.extend([0, 0]);
                self.stats.nacks += 1;
                let missing = self.missing.get_mut(&number).expect("taken from the map");
                (missing.asked, missing.tries) = (Some(now), missing.tries + 1);
                self.nacked.entry(number).or_default();
            }
            while self.nacked.len() > BUFFER {
                self.nacked.pop_first();
            }
            return Some(finish(rtcp));
        }
        if self.keyframe_due().is_some_and(|due| due <= now) {
            self.asked = Some(now);
            self.stats.plis += 1;
            return Some(finish(header(1, 206, sender, self.stream.ssrc)));
        }
        None
    }
}
