//! What a client sends: which of its streams is which encoding of which track.

mod recorder;

use std::collections::HashMap;
use std::time::Instant;

use self::recorder::Recorder;
use crate::command::MediaKind;
use crate::congestion::voice::{Conditions, Voice};
use crate::ids::{Mid, Ssrc};
use crate::sdp::{Feedback, ReceiveSection, Section};
use crate::stats::DropReason;
use crate::track::Track;
use crate::units::NtpTime;
use crate::wire::description::Codec;
use crate::wire::extension::{ExtensionKind, ExtensionMap, Extensions};
use crate::wire::rtp::RtpHeader;

/// Streams of one client at most: 32 tracks of three encodings with their retransmissions.
const MAX_STREAMS: usize = 192;

/// One SSRC of the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Index of the section.
    pub(crate) section: usize,
    pub(crate) track: usize,
    pub(crate) encoding: u8,
}

/// What a payload type means in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadKind {
    Media(Codec),
    Retransmission(Codec),
}

/// A media section that the client may send in.
#[derive(Debug)]
pub(crate) struct UplinkSection {
    pub(crate) mid: Mid,
    pub(crate) kind: MediaKind,
    pub(crate) receive: ReceiveSection,
    pub(crate) track: Option<usize>,
}

impl UplinkSection {
    fn payload_kind(&self, payload_type: u8) -> Option<PayloadKind> {
        self.receive.payloads.iter().find_map(|payload| {
            if payload.pt == payload_type {
                Some(PayloadKind::Media(payload.codec))
            } else if payload.rtx_pt == Some(payload_type) {
                Some(PayloadKind::Retransmission(payload.codec))
            } else {
                None
            }
        })
    }
}

/// See the module's page.
pub(crate) struct Uplink {
    pub(crate) extensions: ExtensionMap,
    pub(crate) sections: Vec<UplinkSection>,
    pub(crate) streams: HashMap<Ssrc, Stream>,
    pub(crate) feedback: Recorder,
    /// Tracks published here.
    pub(crate) tracks: Vec<usize>,
    /// The client's wall clock behind ours, in microseconds, by the fastest of its sender reports.
    pub(crate) clock_offset: Option<i64>,
    /// Any of the client's media streams, for feedback on all of them.
    pub(crate) media_ssrc: Ssrc,
    /// Losses by the last receiver report of ours, 0 to 1.
    pub(crate) loss: f32,
    pub(crate) packets: u64,
    /// Whether the client's sound gets here.
    pub(crate) voice: Voice,
}

impl Uplink {
    pub(crate) fn new(now: Instant) -> Self {
        Uplink {
            extensions: ExtensionMap::default(),
            sections: Vec::new(),
            streams: HashMap::new(),
            feedback: Recorder::new(now),
            tracks: Vec::new(),
            clock_offset: None,
            media_ssrc: Ssrc(0),
            loss: 0.0,
            packets: 0,
            voice: Voice::default(),
        }
    }

    /// Ends a second of the client's sound. Says whether what is to be said of it changed.
    pub(crate) fn judge_voice(&mut self, tracks: &mut [Option<Box<Track>>]) -> bool {
        let mut sounds = false;
        for index in &self.tracks {
            let Some(track) = tracks.get_mut(*index).and_then(Option::as_deref_mut) else { continue };
            if track.kind == MediaKind::Audio {
                sounds |= !track.muted;
                self.voice.count(track.take_losses());
            }
        }
        self.voice.close_second(&Conditions { sounds, ..Conditions::default() })
    }

    /// Takes over the sections of a new description; those of the same mid keep their track.
    pub(crate) fn agree(&mut self, now: Instant, sections: &[Section]) {
        let mut old = std::mem::take(&mut self.sections);
        for section in sections {
            let Some(receive) = &section.receive else { continue };
            for (id, uri) in &receive.extensions {
                if let Some(kind) = ExtensionKind::from_uri(uri) {
                    self.extensions.insert(*id, kind);
                }
            }
            let track = old.iter_mut().find(|s| s.mid == section.mid).and_then(|s| s.track.take());
            let receive = receive.clone();
            self.sections.push(UplinkSection { mid: section.mid, kind: section.kind, receive, track });
        }
        let mut payloads = self.sections.iter().flat_map(|section| &section.receive.payloads);
        let per_stream = payloads.any(|payload| payload.feedback.has(Feedback::Ccfb));
        if !self.sections.is_empty() {
            self.feedback.agree(now, per_stream);
        }
        // Streams are kept, under their section's new index: clients stop telling mid and rid once a stream was
        // reported on (libwebrtc does).
        let sections = &self.sections;
        self.streams.retain(|_, stream| {
            let moved = sections.iter().position(|section| section.track == Some(stream.track));
            moved.inspect(|index| stream.section = *index).is_some()
        });
    }

    pub(crate) fn section(&self, mid: Mid) -> Option<usize> {
        self.sections.iter().position(|section| section.mid == mid)
    }

    /// Forgets a track that is no more.
    pub(crate) fn unbind(&mut self, track: usize) {
        self.tracks.retain(|other| *other != track);
        self.streams.retain(|_, stream| stream.track != track);
        for section in &mut self.sections {
            if section.track == Some(track) {
                section.track = None;
            }
        }
    }

    /// Finds out what a packet belongs to. The second value says that its stream was not known before.
    pub(crate) fn route(
        &mut self,
        header: &RtpHeader,
        extensions: &Extensions<'_>,
        tracks: &[Option<Box<Track>>],
    ) -> Result<(Stream, PayloadKind, bool), DropReason> {
        if let Some(stream) = self.streams.get(&header.ssrc) {
            let kind = self.sections[stream.section].payload_kind(header.payload_type);
            return kind.map(|kind| (*stream, kind, false)).ok_or(DropReason::Unreadable);
        }
        let (stream, kind) = self.learn(header, extensions, tracks).ok_or(DropReason::UnknownStream)?;
        if self.streams.len() >= MAX_STREAMS {
            return Err(DropReason::UnknownStream);
        }
        self.streams.insert(header.ssrc, stream);
        Ok((stream, kind, true))
    }

    /// By mid and rid (RFC 9143 §9.2, RFC 8852), else by the SSRCs of the description, else by a payload type that
    /// one section alone has.
    fn learn(
        &self,
        header: &RtpHeader,
        extensions: &Extensions<'_>,
        tracks: &[Option<Box<Track>>],
    ) -> Option<(Stream, PayloadKind)> {
        let announces = |section: &UplinkSection| {
            section.receive.ssrcs.contains(&header.ssrc)
                || section.receive.rtx_ssrcs.iter().any(|(_, rtx)| *rtx == header.ssrc)
        };
        let section = match extensions.mid {
            Some(mid) => self.section(mid)?,
            None => self.sections.iter().position(announces).or_else(|| {
                let mut having = (0..self.sections.len()).filter(|index| {
                    let section = &self.sections[*index];
                    section.track.is_some() && section.payload_kind(header.payload_type).is_some()
                });
                having.next().filter(|_| having.next().is_none())
            })?,
        };
        let UplinkSection { receive, track, .. } = &self.sections[section];
        let track = (*track)?;
        let kind = self.sections[section].payload_kind(header.payload_type)?;
        let known = tracks.get(track)?.as_ref()?;
        let rid = match kind {
            PayloadKind::Media(_) => extensions.rid,
            PayloadKind::Retransmission(_) => extensions.repaired_rid.or(extensions.rid),
        };
        let base = match receive.rtx_ssrcs.iter().find(|(_, rtx)| *rtx == header.ssrc) {
            Some((base, _)) => *base,
            None => header.ssrc,
        };
        let by_group = || receive.simulcast_ssrcs.iter().position(|ssrc| *ssrc == base).map(|at| at as u8);
        let encoding = known.encoding_of(rid).or_else(by_group)?;
        Some((Stream { section, track, encoding }, kind))
    }

    /// Takes a sender report's wall-clock time.
    pub(crate) fn handle_clock(&mut self, theirs: NtpTime, ours: NtpTime) {
        let offset = ours.micros_since(theirs);
        self.clock_offset = Some(self.clock_offset.map_or(offset, |old| {
            // The smallest is the least delayed; it grows slowly, since clocks drift.
            if offset < old { offset } else { old + (offset - old).min(200) }
        }));
    }
}
