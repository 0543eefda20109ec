//! Whether what arrives could be shown: judged by descriptors, without decoding.
//!
//! Packets are put in order; a gap is waited for, as a jitter buffer does. A frame counts as shown if it is whole
//! and so is all that it refers to: a keyframe refers to nothing, a frame of the base layer to the one before it
//! there, any other to the base layer and, without the sync bit, to the lower layers since. Not here: bits. An SFU
//! does not change them, and the senders' are zeros.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::vp8::Descriptor;

/// How long a gap is waited for: some round trips of repair, and as much as a viewer takes.
const PATIENCE: Duration = Duration::from_millis(500);
/// Packets that wait behind a gap at most.
const MAX_WAITING: usize = 512;

/// Frames, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    pub(crate) shown: u64,
    pub(crate) keyframes: u64,
    /// Whole, but what they refer to is not there.
    pub(crate) undecodable: u64,
    /// Parts of them never came.
    pub(crate) incomplete: u64,
    /// Given up by the server for a keyframe, as when it changes the layer: the picture stands for one frame.
    pub(crate) cut_off: u64,
    /// Shown without the frame that bears the number before, although no packet is missing: the numbers were not
    /// made continuous.
    pub(crate) skipped_numbers: u64,
}

impl Frames {
    pub(crate) fn add(&mut self, other: &Frames) {
        self.shown += other.shown;
        self.keyframes += other.keyframes;
        self.undecodable += other.undecodable;
        self.incomplete += other.incomplete;
        self.cut_off += other.cut_off;
        self.skipped_numbers += other.skipped_numbers;
    }
}

/// A packet of one video stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) descriptor: Descriptor,
    /// Last of its frame.
    pub(crate) marker: bool,
}

/// See the module's page.
#[derive(Default)]
pub(crate) struct Picture {
    next: Option<u64>,
    /// By number; `None` where a number has no part, such as padding.
    waiting: BTreeMap<u64, Option<Part>>,
    gap_since: Option<Instant>,
    /// The first packet of the frame that is being put together; `None` between frames.
    open: Option<Descriptor>,
    /// The frame that is being put together lacks a part.
    broken: bool,
    /// Nothing was lost since the last frame.
    seamless: bool,
    references: Option<References>,
    frames: Frames,
}

/// What may be referred to.
#[derive(Clone, Copy)]
struct References {
    picture_id: Option<u16>,
    tl0: Option<u8>,
    /// Whether the last frame of each temporal layer above the base, since the base layer's last frame, is there.
    upper: [bool; 4],
}

impl Picture {
    /// A packet came, or a number that has no part.
    pub(crate) fn take(&mut self, now: Instant, number: u64, part: Option<Part>) {
        let next = *self.next.get_or_insert(number);
        if number < next {
            return; // given up
        }
        self.waiting.insert(number, part);
        self.advance(now);
    }

    /// Gives up on gaps that have lasted too long.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.gap_since.is_some_and(|since| since + PATIENCE <= now) {
            self.skip_gap();
            self.advance(now);
        }
    }

    /// Whether a keyframe would help: nothing could be shown now.
    pub(crate) fn wants_keyframe(&self) -> bool {
        self.references.is_none() && self.next.is_some()
    }

    pub(crate) fn frames(&self) -> Frames {
        self.frames
    }

    fn advance(&mut self, now: Instant) {
        loop {
            let Some(next) = self.next else { return };
            if let Some(part) = self.waiting.remove(&next) {
                self.next = Some(next + 1);
                if let Some(part) = part {
                    self.part(part);
                }
            } else if self.waiting.is_empty() {
                self.gap_since = None;
                return;
            } else if self.waiting.len() >= MAX_WAITING {
                self.skip_gap();
            } else {
                self.gap_since.get_or_insert(now);
                return;
            }
        }
    }

    fn skip_gap(&mut self) {
        self.gap_since = None;
        if let Some((number, _)) = self.waiting.first_key_value() {
            self.next = Some(*number);
            self.broken = true;
            self.lose_some();
        }
    }

    fn part(&mut self, part: Part) {
        if part.descriptor.start {
            match self.open.take() {
                Some(cut) if part.descriptor.keyframe && !self.broken => {
                    self.frames.cut_off += 1;
                    if let Some(references) = &mut self.references {
                        references.picture_id = cut.picture_id;
                    }
                }
                Some(_) => self.lose_frame(), // its end is missing
                None => {}
            }
            self.broken = false;
            self.open = Some(part.descriptor);
        } else if self.open.is_none() {
            self.broken = true; // its beginning is missing
        }
        if part.marker {
            match self.open.take() {
                Some(first) if !self.broken => self.frame(first),
                Some(_) | None => self.lose_frame(),
            }
            self.broken = false;
        }
    }

    fn lose_frame(&mut self) {
        self.open = None;
        self.frames.incomplete += 1;
        self.lose_some();
    }

    /// A frame or several are lost. Whether any was of the base layer shows in the next frame's numbers.
    fn lose_some(&mut self) {
        self.seamless = false;
        if let Some(references) = &mut self.references {
            references.upper = [false; 4];
        }
    }

    fn frame(&mut self, first: Descriptor) {
        let seamless = std::mem::replace(&mut self.seamless, true);
        let follows = match (self.references.and_then(|references| references.picture_id), first.picture_id) {
            (Some(before), Some(id)) => id == (before + 1) & 0x7FFF,
            _ => seamless,
        };
        if seamless && !follows && self.references.is_some() {
            self.frames.skipped_numbers += 1;
        }
        if first.keyframe {
            self.frames.keyframes += 1;
            let (picture_id, tl0) = (first.picture_id, first.tl0);
            self.references = Some(References { picture_id, tl0, upper: [true; 4] });
            self.frames.shown += 1;
            return;
        }
        let Some(references) = &mut self.references else {
            self.frames.undecodable += 1;
            return;
        };
        let (layer, sync) = first.temporal.unwrap_or((0, false));
        let base_step = match (references.tl0, first.tl0) {
            (Some(before), Some(now)) => now.wrapping_sub(before),
            _ if seamless || follows => u8::from(layer == 0),
            _ => 2, // who knows what was lost
        };
        let decodable = match layer {
            0 => base_step == 1,
            _ => {
                base_step == 0 && (sync || references.upper[1..usize::from(layer)].iter().all(|there| *there))
            }
        };
        references.picture_id = first.picture_id;
        if decodable {
            self.frames.shown += 1;
            if layer == 0 {
                references.tl0 = first.tl0;
                references.upper = [true; 4];
            } else {
                references.upper[usize::from(layer)] = true;
            }
        } else {
            self.frames.undecodable += 1;
            if layer == 0 || base_step != 0 {
                self.references = None; // the base layer is broken until the next keyframe
            } else {
                references.upper[usize::from(layer)] = false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
