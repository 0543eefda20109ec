//! Which packets of a video track go to one subscriber: the layer in use, and the one that is waited for.
//!
//! Simulcast: each encoding is a stream of its own, and a change goes at a keyframe of the new one, until which the
//! old one plays on. SVC: one stream with spatial layers in it; going down is possible at any frame, going up at a
//! keyframe. Temporal layers go down at any frame and up where the stream allows it.
//! Always: a frame is forwarded in all its packets or in none.

use std::cmp::Ordering;

use crate::ahead::look;
use crate::ids::{LayerId, SeqNo};
use crate::units::RtpTime;
use crate::wire::description::PacketDescription;

/// Frames whose fate is remembered for packets that come late.
const FRAMES: usize = 32;

/// Where the quality layers of a track are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In separate streams, or there is one layer only.
    Simulcast,
    /// Inside one stream.
    Svc,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes. `marker`: it ends the picture that this subscriber sees.
    Forward {
        /// To be set as the marker bit.
        marker: bool,
    },
    /// It goes and is the first of another encoding: see [`Selector::current`].
    Switch {
        /// To be set as the marker bit.
        marker: bool,
    },
    /// It does not.
    Drop,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    encoding: u8,
    spatial: u8,
    timestamp: RtpTime,
    forward: bool,
}

/// See the module's page.
#[derive(Debug)]
pub struct Selector {
    layout: Layout,
    target: Option<LayerId>,
    current: Option<LayerId>,
    /// First packet of the current encoding that was forwarded; older ones are not.
    since: SeqNo,
    frames: [Option<Frame>; FRAMES],
    next_frame: usize,
}

impl Selector {
    /// Nothing is forwarded yet.
    pub fn new(layout: Layout) -> Self {
        Selector {
            layout,
            target: None,
            current: None,
            since: SeqNo::first(0),
            frames: [None; FRAMES],
            next_frame: 0,
        }
    }

    /// Where the layers are, as found out from the packets.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// What to forward from the next possible packet on; `None`: nothing, at once.
    pub fn set_target(&mut self, target: Option<LayerId>) {
        self.target = target;
        if target.is_none() {
            self.restart();
        }
    }

    /// Goes on at a keyframe only: what was sent cannot be continued.
    pub fn restart(&mut self) {
        self.current = None;
        self.frames = [None; FRAMES];
    }

    /// What is to be forwarded.
    pub fn target(&self) -> Option<LayerId> {
        self.target
    }

    /// What is forwarded now.
    pub fn current(&self) -> Option<LayerId> {
        self.current
    }

    /// The encoding whose keyframe is waited for.
    pub fn wants_keyframe(&self) -> Option<u8> {
        let target = self.target?;
        match (self.layout, self.current) {
            (Layout::Svc, Some(current)) => (target.spatial > current.spatial).then_some(0),
            (Layout::Svc, None) => Some(0),
            (Layout::Simulcast, Some(current)) if current.spatial == target.spatial => None,
            (Layout::Simulcast, _) => Some(target.spatial),
        }
    }

    /// Whether there is a picture, and a better one is waited for.
    pub fn wants_upgrade(&self) -> bool {
        self.target.zip(self.current).is_some_and(|(target, current)| target.spatial > current.spatial)
    }

    /// Reads ahead what [`Selector::select`] needs.
    pub(crate) fn ahead(&self) {
        look(&self.current);
        // Those of one line stand for the others, which the processor fetches by itself.
        look(&self.frames[0].is_some());
        look(&self.frames[FRAMES / 2].is_some());
        look(&self.frames[FRAMES - 1].is_some());
    }

    /// Decides about a packet of `encoding`.
    pub fn select(
        &mut self,
        encoding: u8,
        seq: SeqNo,
        timestamp: RtpTime,
        description: &PacketDescription,
    ) -> Decision {
        let Some(target) = self.target else { return Decision::Drop };
        match self.layout {
            Layout::Simulcast => self.select_simulcast(target, encoding, seq, timestamp, description),
            Layout::Svc => self.select_svc(target, encoding, seq, timestamp, description),
        }
    }

    fn select_simulcast(
        &mut self,
        target: LayerId,
        encoding: u8,
        seq: SeqNo,
        timestamp: RtpTime,
        description: &PacketDescription,
    ) -> Decision {
        let marker = description.frame_end;
        let on_current = self.current.is_some_and(|current| current.spatial == encoding);
        if !on_current {
            if target.spatial != encoding || !(description.keyframe && description.frame_start) {
                return Decision::Drop;
            }
            self.current = Some(LayerId { spatial: encoding, temporal: target.temporal });
            self.since = seq;
            self.remember(encoding, 0, timestamp, true);
            return Decision::Switch { marker };
        }
        if seq.distance(self.since) < 0 {
            return Decision::Drop;
        }
        let forward = self.fate(encoding, 0, timestamp).unwrap_or_else(|| {
            // Until the new encoding's keyframe: on the way up the old one goes on as it is, on the way down the
            // least of it.
            let wanted = match target.spatial.cmp(&encoding) {
                Ordering::Equal => target.temporal,
                Ordering::Greater => self.current.map_or(0, |current| current.temporal),
                Ordering::Less => 0,
            };
            let forward = self.wants_temporal(wanted, description);
            self.remember(encoding, 0, timestamp, forward);
            forward
        });
        if forward { Decision::Forward { marker } } else { Decision::Drop }
    }

    fn select_svc(
        &mut self,
        target: LayerId,
        encoding: u8,
        seq: SeqNo,
        timestamp: RtpTime,
        description: &PacketDescription,
    ) -> Decision {
        let start = description.keyframe && description.frame_start && description.spatial == 0;
        let known = self.fate(encoding, description.spatial, timestamp).is_some();
        let mut switched = false;
        if start && !known {
            switched = self.current.is_none();
            self.current = Some(target);
            if switched {
                self.since = seq;
            }
        }
        let Some(current) = &mut self.current else { return Decision::Drop };
        if seq.distance(self.since) < 0 {
            return Decision::Drop;
        }
        // Down between pictures: a lower layer never needs a higher one.
        if description.spatial == 0 && description.frame_start && target.spatial < current.spatial {
            current.spatial = target.spatial;
        }
        let top = current.spatial;
        let spatial = description.spatial;
        let forward = self.fate(encoding, spatial, timestamp).unwrap_or_else(|| {
            let forward = spatial <= top && self.wants_temporal(target.temporal, description);
            self.remember(encoding, spatial, timestamp, forward);
            forward
        });
        // The layers above the top are cut off, so that the picture ends with the top's last packet, or sooner if the
        // sender left out its upper layers.
        let marker = description.picture_end || (description.frame_end && spatial == top);
        match (forward, switched) {
            (false, _) => Decision::Drop,
            (true, false) => Decision::Forward { marker },
            (true, true) => Decision::Switch { marker },
        }
    }

    /// Whether a frame's temporal layer goes, moving towards `wanted` where that is allowed.
    fn wants_temporal(&mut self, wanted: u8, description: &PacketDescription) -> bool {
        let Some(current) = &mut self.current else { return false };
        if wanted < current.temporal {
            current.temporal = wanted;
        } else if wanted > current.temporal
            && description.temporal_sync
            && description.temporal > current.temporal
            && description.temporal <= wanted
        {
            current.temporal = description.temporal;
        }
        description.temporal <= current.temporal
    }

    fn fate(&self, encoding: u8, spatial: u8, timestamp: RtpTime) -> Option<bool> {
        let same = |f: &&Frame| f.encoding == encoding && f.spatial == spatial && f.timestamp == timestamp;
        // The latest first: mostly it is the one.
        let (before, after) = self.frames.split_at(self.next_frame);
        before.iter().rev().chain(after.iter().rev()).flatten().find(same).map(|frame| frame.forward)
    }

    fn remember(&mut self, encoding: u8, spatial: u8, timestamp: RtpTime, forward: bool) {
        self.frames[self.next_frame] = Some(Frame { encoding, spatial, timestamp, forward });
        self.next_frame = (self.next_frame + 1) % FRAMES;
    }
}
