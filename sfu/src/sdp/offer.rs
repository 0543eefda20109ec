//! Offering: the sections of a connection on which we make the offers, one track in each.

use std::collections::HashMap;

use super::codec::{Feedback, FeedbackSet, Format, OwnPayload, TrackCodec, kind_word};
use super::error::DescriptionError;
use super::extension;
use super::media::{Content, Direction};
use super::read::{MAX_MEDIA_LINES, Remote};
use super::section::{Accepted, LocalOffer, RemoteTransport, Section, SendSection, SendTrack};
use super::write::{RtpSection, Session, Source, WirePayload, rejected};
use crate::command::MediaKind;
use crate::ids::{Mid, TrackId};

/// The sections, which only ever grow in number.
#[derive(Debug, Default)]
pub(super) struct Lines {
    all: Vec<Line>,
    next_mid: u32,
    outstanding: bool,
    /// Tracks that the client rejected, with the codec that it rejected them in.
    refused: Vec<(TrackId, TrackCodec)>,
}

#[derive(Debug)]
struct Line {
    mid: Mid,
    what: What,
}

#[derive(Debug)]
enum What {
    Data,
    /// With the codec that it was last offered with, which stands in it also while it is inactive.
    Media {
        kind: MediaKind,
        codec: TrackCodec,
        state: State,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A track is sent, or offered.
    Taken(TrackId),
    /// Inactive in the next offer or in the outstanding one; the client may not know it yet.
    Vacated,
    /// Inactive, and the client knows.
    Free,
    /// The client rejected it; the place may be used by a section of another name (RFC 8829 §5.2.2).
    Rejected,
}

impl Lines {
    pub(super) const fn is_outstanding(&self) -> bool {
        self.outstanding
    }

    /// Members of the BUNDLE group: all that are not rejected.
    pub(super) fn bundle(&self) -> Vec<Mid> {
        let rejected = |l: &Line| matches!(l.what, What::Media { state: State::Rejected, .. });
        self.all.iter().filter(|l| !rejected(l)).map(|l| l.mid).collect()
    }

    /// Gives each track a section and takes it from those that are no longer sent.
    pub(super) fn plan(&mut self, send: &[SendTrack], data_channels: bool) {
        self.outstanding = true;
        let has_data = self.all.iter().any(|l| matches!(l.what, What::Data));
        if data_channels && !has_data && self.all.len() < MAX_MEDIA_LINES {
            let mid = self.new_mid();
            self.all.push(Line { mid, what: What::Data });
        }
        self.refused.retain(|(refused, codec)| {
            send.iter().any(|t| t.track == *refused && t.codec.as_ref() == Some(codec))
        });
        let mut wanted: HashMap<TrackId, (&SendTrack, &TrackCodec)> = send
            .iter()
            // Feeds are for clients that offer.
            .filter_map(|t| Some((t, t.codec.as_ref()?)))
            .filter(|(t, codec)| OwnPayload::of(t.kind, codec).is_some())
            .filter(|(t, _)| !self.refused.iter().any(|(refused, _)| *refused == t.track))
            .map(|(t, codec)| (t.track, (t, codec)))
            .collect();
        for line in &mut self.all {
            let What::Media { kind, codec, state } = &mut line.what else { continue };
            let State::Taken(track) = *state else { continue };
            match wanted.get(&track).filter(|(t, _)| t.kind == *kind) {
                Some((_, sent)) => {
                    codec.clone_from(sent);
                    wanted.remove(&track);
                }
                None => *state = State::Vacated,
            }
        }
        for track in send {
            if let Some((track, codec)) = wanted.remove(&track.track) {
                self.take_section(track, codec);
            }
        }
    }

    /// A free section of the kind, else a rejected one under a new name, else a new one; none at the limit.
    fn take_section(&mut self, track: &SendTrack, codec: &TrackCodec) {
        let find = |lines: &[Line], wanted: State| {
            lines.iter().position(|l| match &l.what {
                What::Media { kind, state, .. } => {
                    *state == wanted && (*kind == track.kind || wanted == State::Rejected)
                }
                What::Data => false,
            })
        };
        let what = What::Media { kind: track.kind, codec: codec.clone(), state: State::Taken(track.track) };
        if let Some(i) = find(&self.all, State::Free) {
            self.all[i].what = what;
        } else if let Some(i) = find(&self.all, State::Rejected) {
            self.all[i] = Line { mid: self.new_mid(), what };
        } else if self.all.len() < MAX_MEDIA_LINES {
            let mid = self.new_mid();
            self.all.push(Line { mid, what });
        }
    }

    fn new_mid(&mut self) -> Mid {
        let mid = Mid::parse(&self.next_mid.to_string()).expect("at most ten digits");
        self.next_mid = self.next_mid.wrapping_add(1);
        mid
    }

    /// The offer that was planned.
    pub(super) fn write(&self, session: &Session<'_>, send: &[SendTrack]) -> LocalOffer {
        let rtp = ["UDP", "TLS", "RTP", "SAVPF"].map(str::to_owned);
        let sctp = ["UDP", "DTLS", "SCTP"].map(str::to_owned);
        let by_id: HashMap<TrackId, &SendTrack> = send.iter().map(|t| (t.track, t)).collect();
        let mut tracks = Vec::new();
        let mut media = Vec::with_capacity(self.all.len());
        for line in &self.all {
            let What::Media { kind, codec, state } = &line.what else {
                media.push(session.data(line.mid, sctp.to_vec()));
                continue;
            };
            let own = OwnPayload::of(*kind, codec).expect("only such tracks are planned");
            if *state == State::Rejected {
                let formats = vec![own.pt.to_string()];
                media.push(rejected(kind_word(*kind), rtp.to_vec(), formats, Some(line.mid)));
                continue;
            }
            let track = match state {
                State::Taken(track) => by_id.get(track).copied(),
                State::Vacated | State::Free | State::Rejected => None,
            };
            tracks.extend(track.map(|t| (line.mid, t.track)));
            media.push(session.rtp(&RtpSection {
                media: kind_word(*kind),
                protos: &rtp,
                mid: line.mid,
                direction: Direction::of(track.is_some(), false),
                rtcp_rsize: true,
                allow_mixed: false, // said once, for the session
                payloads: wire_payloads(*kind, &own),
                extensions: extension::own(*kind).iter().map(|(id, uri)| (id.to_string(), *uri)).collect(),
                rids: &[],
                source: track.map(|track| Source { track, has_rtx: own.rtx_pt.is_some() }),
            }));
        }
        LocalOffer { sdp: session.write(media), tracks }
    }

    /// Whether an answer has the sections of the offer.
    pub(super) fn check(&self, answer: &Remote) -> Result<(), DescriptionError> {
        if answer.media.len() < self.all.len() {
            let (got, had) = (answer.media.len(), self.all.len());
            return Err(DescriptionError::MediaLinesMissing { got, had });
        }
        for (m_line, media) in answer.media.iter().enumerate() {
            let fits = self.all.get(m_line).is_some_and(|line| {
                let same_kind = match (&line.what, media.content) {
                    (What::Data, Content::Data(_)) => true,
                    (What::Media { kind, .. }, Content::Rtp(answered)) => *kind == answered,
                    // What is rejected says little (RFC 3264 §6).
                    (What::Data, _) => media.rejected && media.name == "application",
                    (What::Media { kind, .. }, _) => media.rejected && media.name == kind_word(*kind),
                };
                let same_name = media.mid == Some(line.mid) || (media.rejected && media.mid.is_none());
                let offered = !matches!(line.what, What::Media { state: State::Rejected, .. });
                same_kind && same_name && (offered || media.rejected)
            });
            if !fits {
                return Err(DescriptionError::NotWhatWasOffered { m_line });
            }
        }
        Ok(())
    }

    /// Takes over an answer that was checked.
    pub(super) fn settle(&mut self, answer: &Remote, remote: RemoteTransport) -> Accepted {
        self.outstanding = false;
        let mut accepted = Accepted {
            remote,
            sections: Vec::new(),
            answer: None,
            placed: Vec::new(),
            unplaced: Vec::new(),
            unsupported: Vec::new(),
            data: None,
        };
        for (line, media) in self.all.iter_mut().zip(&answer.media) {
            let (kind, codec, state) = match (&mut line.what, media.content) {
                (What::Media { kind, codec, state }, _) => (*kind, codec, state),
                (What::Data, Content::Data(data)) if !media.rejected => {
                    accepted.data = Some(data);
                    continue;
                }
                (What::Data, _) => continue,
            };
            let track = match *state {
                State::Taken(track) => Some(track),
                State::Vacated | State::Free | State::Rejected => None,
            };
            if media.rejected {
                *state = State::Rejected;
                if let Some(track) = track {
                    accepted.unsupported.push(track);
                    self.refused.push((track, codec.clone()));
                }
                continue;
            }
            if *state == State::Vacated {
                *state = State::Free;
            }
            let mut section = Section { mid: line.mid, kind, receive: None, send: None };
            if let Some(track) = track {
                let format = Format::of_track(kind, codec);
                let Some(payload) = format.and_then(|format| media.best_for(format)) else {
                    accepted.unsupported.push(track);
                    self.refused.push((track, codec.clone()));
                    *state = State::Vacated;
                    accepted.sections.push(section);
                    continue;
                };
                if media.direction.receives() {
                    let answered = |uri: &str| media.extensions.iter().any(|e| e.uri == uri);
                    let own =
                        OwnPayload::of(kind, codec).map_or_else(Default::default, |own| own.feedback(kind));
                    section.send = Some(SendSection {
                        track,
                        pt: payload.pt,
                        rtx_pt: media.rtx_of(payload.pt),
                        red_pt: media.red_of(payload.pt),
                        extensions: extension::own(kind)
                            .iter()
                            .copied()
                            .filter(|(_, uri)| answered(uri))
                            .collect(),
                        feedback: payload.feedback.common(own),
                        payloads: Vec::new(),
                    });
                    accepted.placed.push((line.mid, track));
                } else {
                    accepted.unplaced.push(track);
                }
            }
            accepted.sections.push(section);
        }
        accepted
    }
}

impl OwnPayload {
    /// What we can make use of. Audio is resent only where RED does not already protect it. `ack ccfb` is not
    /// offered beside `transport-cc`: libwebrtc, where it knows both, answers `ack ccfb` alone.
    fn feedback(&self, kind: MediaKind) -> FeedbackSet {
        match kind {
            MediaKind::Video => {
                Feedback::OF_PAYLOADS.into_iter().fold(FeedbackSet::default(), FeedbackSet::with)
            }
            MediaKind::Audio if self.red_pt.is_some() => FeedbackSet::default().with(Feedback::TransportCc),
            MediaKind::Audio => FeedbackSet::default().with(Feedback::TransportCc).with(Feedback::Nack),
        }
    }
}

/// The codec of the section's track and what belongs to it, nothing else: so no two sections can disagree
/// about a payload type.
fn wire_payloads(kind: MediaKind, own: &OwnPayload) -> Vec<WirePayload> {
    let none = FeedbackSet::default();
    let mut payloads = vec![WirePayload {
        pt: own.pt,
        encoding: own.encoding.to_owned(),
        fmtp: own.fmtp.clone(),
        feedback: own.feedback(kind),
    }];
    payloads.extend(own.red_pt.map(|pt| WirePayload {
        pt,
        encoding: "red/48000/2".to_owned(),
        fmtp: format!("{0}/{0}", own.pt),
        feedback: none,
    }));
    payloads.extend(own.rtx_pt.map(|pt| WirePayload {
        pt,
        encoding: "rtx/90000".to_owned(),
        fmtp: format!("apt={}", own.pt),
        feedback: none,
    }));
    payloads
}
