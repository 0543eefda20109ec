//! Answering: which of the offered payload types, extensions and directions we take, and which of our tracks
//! goes where.

use std::collections::HashSet;

use super::codec::{Feedback, Format, OpusWishes, Payload, kind_word, parameter};
use super::extension;
use super::media::{Content, Direction, Media, Offered};
use super::read::Remote;
use super::section::{
    Accepted, ReceiveSection, RemoteTransport, Section, SendPayload, SendSection, SendTrack,
};
use super::write::{RtpSection, Session, Source, WirePayload, rejected};
use crate::command::{MediaKind, PublishHint};
use crate::ids::{Mid, Rid, TrackId};
use crate::wire::description::Codec;

/// What is remembered of a section from one offer to the next.
#[derive(Clone, Debug)]
pub(super) struct Line {
    mid: Option<Mid>,
    /// `None` for what is not audio or video.
    kind: Option<MediaKind>,
    /// The client receives in it and does not send.
    open: bool,
    track: Option<TrackId>,
    /// What signalling said of the audio that the client sends here.
    hint: Option<PublishHint>,
}

impl Line {
    pub(super) fn is_free(&self, kind: MediaKind) -> bool {
        self.open && self.track.is_none() && self.kind == Some(kind)
    }

    pub(super) fn has(&self, track: TrackId) -> bool {
        self.track == Some(track)
    }
}

/// Which sections we do not reject: audio and video with a codec that we forward, and the first for data
/// channels. One entry for each m-line.
pub(super) fn used_sections(remote: &Remote) -> Vec<bool> {
    let mut data_seen = false;
    let used = |media: &Media| match media.content {
        _ if media.rejected => false,
        Content::Rtp(_) => !primaries(media).is_empty(),
        Content::Data(_) => !std::mem::replace(&mut data_seen, true),
        Content::Other => false,
    };
    remote.media.iter().map(used).collect()
}

/// The group of the answer: the offer's, without what is rejected (RFC 9143 §7.3).
pub(super) fn bundle(remote: &Remote, used: &[bool]) -> Option<Vec<Mid>> {
    let is_used = |mid: &Mid| remote.media.iter().zip(used).any(|(m, used)| *used && m.mid == Some(*mid));
    let members: Vec<Mid> = remote.bundle.iter().flatten().copied().filter(is_used).collect();
    (!members.is_empty()).then_some(members)
}

/// Payload types of the codecs that we take in this section, RED and RTX not counted.
fn primaries(media: &Media) -> Vec<u8> {
    use super::codec::H264Profile::High;
    let is_high = |format| matches!(format, Format::H264 { profile: High, .. });
    let formats = || media.payloads.iter().filter_map(|p| Some((p.pt, p.format?)));
    // Not every phone decodes high, so it is taken only from clients that know nothing lower.
    let has_lower = formats().any(|(_, f)| matches!(f, Format::H264 { .. }) && !is_high(f));
    // Browsers offer G.711 after Opus, and are not to send it.
    let opus = formats().position(|(_, f)| f == Format::Opus);
    let is_fallback = |at: usize, format: Format| format.is_g711() && opus.is_some_and(|opus| opus < at);
    let taken = |(at, (_, f)): &(usize, (u8, Format))| {
        f.is_forwarded() && !(is_high(*f) && has_lower) && !is_fallback(*at, *f)
    };
    formats().enumerate().filter(taken).map(|(_, (pt, _))| pt).collect()
}

/// All of them, whatever else the client knows.
fn forwarded(media: &Media) -> impl Iterator<Item = u8> {
    media.payloads.iter().filter(|p| p.format.is_some_and(Format::is_forwarded)).map(|p| p.pt)
}

/// Where a track goes.
struct Placement<'a> {
    track: &'a SendTrack,
    pt: u8,
}

/// Answers a description that was checked; replaces `lines` by those of this offer.
pub(super) fn answer(
    lines: &mut Vec<Line>,
    remote: &mut Remote,
    used: &[bool],
    transport: RemoteTransport,
    session: &Session<'_>,
    hints: &[PublishHint],
    send: &[SendTrack],
) -> Accepted {
    let old = std::mem::take(lines);
    *lines = remote.media.iter().enumerate().map(|(i, m)| next_line(m, used[i], old.get(i), hints)).collect();
    for (media, line) in remote.media.iter_mut().zip(lines.iter()) {
        if let Some(codec) = line.hint.as_ref().and_then(|hint| hint.codec) {
            prefer(media, codec);
        }
    }
    choose_reports(remote, used);
    let remote = &*remote;
    let (placements, unplaced, unsupported) = place(lines, remote, used, &old, send);

    let wishes = opus_wishes(lines);
    let mut accepted = Accepted {
        remote: transport,
        sections: Vec::new(),
        answer: None,
        placed: Vec::new(),
        unplaced,
        unsupported,
        data: None,
    };
    let mut media_descriptions = Vec::with_capacity(remote.media.len());
    for (i, media) in remote.media.iter().enumerate() {
        let description = match (media.content, media.mid) {
            (Content::Rtp(kind), Some(mid)) if used[i] => {
                let agreed = Agreed::new(remote, media, kind, mid, placements[i].as_ref(), &lines[i]);
                accepted.placed.extend(placements[i].iter().map(|p| (mid, p.track.track)));
                accepted.sections.push(agreed.section());
                session.rtp(&agreed.wire(wishes, session.allow_mixed))
            }
            (Content::Data(data), Some(mid)) if used[i] => {
                accepted.data = Some(data);
                session.data(mid, media.protos.clone())
            }
            _ => rejected(&media.name, media.protos.clone(), media.formats.clone(), media.mid),
        };
        media_descriptions.push(description);
    }
    accepted.answer = Some(session.write(media_descriptions));
    accepted
}

fn next_line(media: &Media, used: bool, old: Option<&Line>, hints: &[PublishHint]) -> Line {
    let kind = match media.content {
        Content::Rtp(kind) => Some(kind),
        Content::Data(_) | Content::Other => None,
    };
    let old = old.filter(|old| old.mid == media.mid && old.kind == kind);
    let sends = used && media.direction.sends();
    let hint = (kind.is_some() && sends)
        .then(|| {
            let told = hints.iter().find(|hint| Some(&hint.cid) == media.track_id.as_ref());
            told.or_else(|| old?.hint.as_ref()).cloned()
        })
        .flatten();
    Line { mid: media.mid, kind, open: used && media.direction.receives() && !sends, track: None, hint }
}

/// Keeps tracks where they are and finds places for the others. Returns the placement of each section, then
/// the tracks that found none and those in no codec of the client's.
fn place<'a>(
    lines: &mut [Line],
    remote: &Remote,
    used: &[bool],
    old: &[Line],
    send: &'a [SendTrack],
) -> (Vec<Option<Placement<'a>>>, Vec<TrackId>, Vec<TrackId>) {
    let mut placements: Vec<Option<Placement<'a>>> = remote.media.iter().map(|_| None).collect();
    // Sections that may get a track at all, those where the client also sends last.
    let receiving = |i: &usize| used[*i] && remote.media[*i].direction.receives();
    let mut order: Vec<usize> = (0..lines.len()).filter(receiving).collect();
    order.sort_by_key(|i| !lines[*i].open);

    let pt_in = |i: usize, track: &SendTrack| match &track.codec {
        Some(codec) => {
            let format = Format::of_track(track.kind, codec)?;
            remote.media[i].best_for(format).map(|offered| offered.pt)
        }
        None => primaries(&remote.media[i]).first().copied(),
    };
    let had = |i: usize| old.get(i).filter(|o| o.mid == remote.media[i].mid).and_then(|o| o.track);
    for i in order.iter().copied() {
        let Some(track) = had(i) else { continue };
        let Some(track) = send.iter().find(|t| t.track == track && lines[i].kind == Some(t.kind)) else {
            continue;
        };
        if let Some(pt) = pt_in(i, track) {
            placements[i] = Some(Placement { track, pt });
            lines[i].track = Some(track.track);
        }
    }
    let (mut unplaced, mut unsupported) = (Vec::new(), Vec::new());
    let mut seen: HashSet<TrackId> = lines.iter().filter_map(|l| l.track).collect();
    for track in send {
        if !seen.insert(track.track) {
            continue;
        }
        let same_kind = || order.iter().copied().filter(|i| lines[*i].kind == Some(track.kind));
        let mut free = same_kind().filter(|i| lines[*i].track.is_none() && had(*i).is_none());
        if let Some((i, pt)) = free.find_map(|i| Some((i, pt_in(i, track)?))) {
            placements[i] = Some(Placement { track, pt });
            lines[i].track = Some(track.track);
        } else if same_kind().next().is_some() && same_kind().all(|i| pt_in(i, track).is_none()) {
            unsupported.push(track.track);
        } else {
            unplaced.push(track.track);
        }
    }
    (placements, unplaced, unsupported)
}

/// Puts the payload types of one codec, and what repairs them, before the others: senders take the first.
fn prefer(media: &mut Media, codec: Codec) {
    let wanted: Vec<u8> = media
        .payloads
        .iter()
        .filter(|p| p.format.is_some_and(|f| f.codec() == codec))
        .map(|p| p.pt)
        .collect();
    media.payloads.sort_by_key(|p| !wanted.contains(&p.apt.unwrap_or(p.pt)));
}

/// One kind of reports for the whole transport, since there is one estimate: where transport-wide ones are offered, `ack
/// ccfb` is not taken.
fn choose_reports(remote: &mut Remote, used: &[bool]) {
    let transport_wide = |media: &Media| {
        media.extensions.iter().any(|e| e.uri == extension::TRANSPORT_CC)
            && media.payloads.iter().any(|p| p.format.is_some() && p.feedback.has(Feedback::TransportCc))
    };
    if remote.media.iter().zip(used).any(|(media, used)| *used && transport_wide(media)) {
        for payload in remote.media.iter_mut().flat_map(|media| &mut media.payloads) {
            payload.feedback = payload.feedback.without(Feedback::Ccfb);
        }
    }
}

/// Stereo as soon as one track wants it, DTX only while none of them objects.
fn opus_wishes(lines: &[Line]) -> OpusWishes {
    let audio = lines.iter().filter(|line| line.kind == Some(MediaKind::Audio));
    let mut hints = audio.filter_map(|line| line.hint.as_ref()).peekable();
    let hinted = hints.peek().is_some();
    let (stereo, dtx) = hints.fold((false, true), |(stereo, dtx), h| (stereo || h.stereo, dtx && h.dtx));
    OpusWishes { stereo, dtx: dtx && hinted }
}

/// What is agreed on in one audio or video section.
struct Agreed<'a> {
    media: &'a Media,
    kind: MediaKind,
    mid: Mid,
    placement: Option<&'a Placement<'a>>,
    /// Payload types of codecs, RED and RTX not counted.
    primaries: Vec<u8>,
    red: bool,
    /// Extension ids above 14 may be used.
    mixed: bool,
}

impl<'a> Agreed<'a> {
    fn new(
        remote: &Remote,
        media: &'a Media,
        kind: MediaKind,
        mid: Mid,
        placement: Option<&'a Placement<'a>>,
        line: &Line,
    ) -> Agreed<'a> {
        let mut primaries = match placement {
            // A feed can be of use with all that the client decodes.
            Some(Placement { track: SendTrack { codec: None, .. }, .. }) => forwarded(media).collect(),
            Some(_) | None => primaries(media),
        };
        primaries.extend(placement.map(|p| p.pt).filter(|pt| !primaries.contains(pt)));
        let red = line.hint.as_ref().is_none_or(|hint| hint.red);
        let mixed = remote.allow_mixed || media.allow_mixed;
        Agreed { media, kind, mid, placement, primaries, red, mixed }
    }

    /// The client's direction, its sending and receiving cut down to what we take and have.
    fn direction(&self) -> Direction {
        Direction::of(self.placement.is_some(), self.media.direction.sends())
    }

    fn keeps(&self, offered: &Offered) -> bool {
        let primary = |pt: u8| self.primaries.contains(&pt);
        match (offered.apt, offered.format) {
            (Some(apt), _) => primary(apt),
            (None, Some(Format::Red { primary: inside })) => self.red && primary(inside),
            (None, Some(_)) => primary(offered.pt),
            (None, None) => false,
        }
    }

    /// Extensions that we agree to, with the direction that the offer gives each.
    fn extensions(&self) -> impl Iterator<Item = (u8, &'static str, Option<Direction>)> {
        self.media
            .extensions
            .iter()
            .filter(|e| e.direction != Some(Direction::Inactive) && (e.id < 15 || self.mixed))
            .map(|e| (e.id, e.uri, e.direction))
    }

    /// Encodings by name need the extension that says the name.
    fn rids(&self) -> &'a [Rid] {
        let named = self.extensions().any(|(_, uri, _)| uri == extension::RID);
        if named && self.media.direction.sends() { &self.media.rids } else { &[] }
    }

    fn section(&self) -> Section {
        let media = self.media;
        let receive = media.direction.sends().then(|| ReceiveSection {
            stream_id: media.stream_id.clone(),
            track_id: media.track_id.clone(),
            rids: self.rids().to_vec(),
            payloads: self.payloads(),
            nacks: media.payloads.iter().any(|p| self.keeps(p) && p.feedback.has(Feedback::Nack)),
            extensions: self
                .extensions()
                .filter(|(_, _, direction)| direction.is_none_or(Direction::sends))
                .map(|(id, uri, _)| (id, uri))
                .collect(),
            ssrcs: media.ssrcs.clone(),
            rtx_ssrcs: media.rtx_ssrcs.clone(),
            simulcast_ssrcs: media.simulcast_ssrcs.clone(),
        });
        let send = self.placement.map(|placement| SendSection {
            track: placement.track.track,
            pt: placement.pt,
            rtx_pt: media.rtx_of(placement.pt),
            red_pt: media.red_of(placement.pt).filter(|_| self.red),
            extensions: self
                .extensions()
                .filter(|(_, uri, direction)| {
                    direction.is_none_or(Direction::receives) && extension::is_sent(uri)
                })
                .map(|(id, uri, _)| (id, uri))
                .collect(),
            feedback: media
                .payloads
                .iter()
                .find(|p| p.pt == placement.pt)
                .map_or_else(Default::default, |p| p.feedback),
            payloads: self.send_payloads(placement),
        });
        Section { mid: self.mid, kind: self.kind, receive, send }
    }

    /// In what a feed can be sent. Of other tracks the codec is known.
    fn send_payloads(&self, placement: &Placement<'_>) -> Vec<SendPayload> {
        if placement.track.codec.is_some() {
            return Vec::new();
        }
        let kept = self.media.payloads.iter().filter(|offered| self.keeps(offered));
        kept.filter_map(|offered| Some(SendPayload::new(self.media, offered, offered.format?, self.red)))
            .collect()
    }

    fn payloads(&self) -> Vec<Payload> {
        let kept = self.media.payloads.iter().filter(|offered| self.keeps(offered));
        kept.filter_map(|offered| Some(self.media.payload(offered, offered.format?))).collect()
    }

    fn wire(&self, wishes: OpusWishes, session_mixed: bool) -> RtpSection<'a> {
        let kept = self.media.payloads.iter().filter(|offered| self.keeps(offered));
        let extension = |(id, uri, direction): (u8, &'static str, Option<Direction>)| match direction {
            Some(direction) => (format!("{id}/{}", direction.mirrored().as_str()), uri),
            None => (id.to_string(), uri),
        };
        RtpSection {
            media: kind_word(self.kind),
            protos: &self.media.protos,
            mid: self.mid,
            direction: self.direction(),
            rtcp_rsize: self.media.rtcp_rsize,
            allow_mixed: self.media.allow_mixed && !session_mixed,
            payloads: kept.map(|offered| wire_payload(offered, wishes)).collect(),
            extensions: self.extensions().map(extension).collect(),
            rids: self.rids(),
            source: self.placement.map(|placement| Source {
                track: placement.track,
                has_rtx: self.media.rtx_of(placement.pt).is_some(),
            }),
        }
    }
}

fn wire_payload(offered: &Offered, wishes: OpusWishes) -> WirePayload {
    let encoding = match offered.channels {
        0 | 1 => format!("{}/{}", offered.name, offered.clock_rate),
        channels => format!("{}/{}/{channels}", offered.name, offered.clock_rate),
    };
    let fmtp = match (offered.format, offered.apt) {
        (Some(Format::Opus), _) => wishes.to_string(),
        (Some(Format::Red { .. }), _) => offered.fmtp.clone(),
        (Some(format), _) => {
            let repeated = format.answered_parameters().iter().filter_map(|key| {
                let value = parameter(&offered.fmtp, key)?;
                Some(format!("{key}={value}"))
            });
            repeated.collect::<Vec<_>>().join(";")
        }
        (None, Some(apt)) => format!("apt={apt}"),
        (None, None) => String::new(),
    };
    WirePayload { pt: offered.pt, encoding, fmtp, feedback: offered.feedback }
}
