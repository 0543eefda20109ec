//! One section of a peer's description: payload types, extensions, encodings, sources.

use rtc_sdp::MediaDescription;

use super::codec::{Feedback, FeedbackSet, Format, Payload, parameter};
use super::extension;
use super::read::{Transport, value_of};
use super::section::DataSection;
use crate::command::MediaKind;
use crate::ids::{Mid, Rid, Ssrc};

const MAX_RIDS: usize = 8;
const MAX_SSRCS: usize = 64;
const MAX_SSRC_GROUPS: usize = 32;
const MAX_EXTENSIONS: usize = 32;
const MAX_MSID: usize = 512;
const MAX_FMTP: usize = 1024;

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// RTP over DTLS-SRTP.
    Rtp(MediaKind),
    /// Data channels.
    Data(DataSection),
    /// Something that we can only reject.
    Other,
}

/// One section.
#[expect(clippy::struct_excessive_bools, reason = "each is an attribute that is there or not")]
pub(super) struct Media {
    pub(super) content: Content,
    /// The m-line's words, for repeating it: `audio`, `video`, …
    pub(super) name: String,
    pub(super) protos: Vec<String>,
    pub(super) formats: Vec<String>,
    /// Port 0 and not bundle-only.
    pub(super) rejected: bool,
    pub(super) mid: Option<Mid>,
    pub(super) direction: Direction,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    pub(super) payloads: Vec<Offered>,
    pub(super) extensions: Vec<OfferedExtension>,
    /// Encodings that the peer would send.
    pub(super) rids: Vec<Rid>,
    pub(super) stream_id: Option<String>,
    pub(super) track_id: Option<String>,
    pub(super) ssrcs: Vec<Ssrc>,
    pub(super) rtx_ssrcs: Vec<(Ssrc, Ssrc)>,
    pub(super) simulcast_ssrcs: Vec<Ssrc>,
    pub(super) transport: Transport,
}

/// A payload type of a peer's description.
pub(super) struct Offered {
    pub(super) pt: u8,
    pub(super) name: String,
    pub(super) clock_rate: u32,
    pub(super) channels: u8,
    pub(super) fmtp: String,
    pub(super) feedback: FeedbackSet,
    /// `None` for codecs that are not forwarded, RTX among them.
    pub(super) format: Option<Format>,
    /// RTX: the payload type that it repairs.
    pub(super) apt: Option<u8>,
}

/// An `a=extmap` of a peer's description that we understand.
pub(super) struct OfferedExtension {
    pub(super) id: u8,
    pub(super) uri: &'static str,
    /// `None` where it has none, which means the section's (RFC 8285 §5).
    pub(super) direction: Option<Direction>,
}

/// Who sends, seen by the side whose description says so (RFC 3264 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(super) const fn of(sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Direction> {
        match text {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }

    pub(super) const fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub(super) const fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same seen from the other side.
    pub(super) const fn mirrored(self) -> Direction {
        Direction::of(self.receives(), self.sends())
    }
}

impl Media {
    pub(super) fn read(m: &MediaDescription, session_direction: Direction) -> Media {
        let first = |key| m.attributes.iter().find_map(|a| value_of(a, key));
        let has = |key| m.attributes.iter().any(|a| a.key == key);
        let name = &m.media_name;
        let content = content_of(m, first("sctp-port"), first("max-message-size"));
        let mut transport = Transport::default();
        let mut direction = session_direction;
        for attribute in &m.attributes {
            transport.take(attribute);
            direction = Direction::parse(&attribute.key).unwrap_or(direction);
        }
        let mut media = Media {
            content,
            name: name.media.clone(),
            protos: name.protos.clone(),
            formats: name.formats.clone(),
            rejected: name.port.value == 0 && !has("bundle-only"),
            mid: first("mid").and_then(Mid::parse),
            direction,
            rtcp_mux: has("rtcp-mux"),
            rtcp_rsize: has("rtcp-rsize"),
            allow_mixed: has("extmap-allow-mixed"),
            payloads: Vec::new(),
            extensions: Vec::new(),
            rids: Vec::new(),
            stream_id: None,
            track_id: None,
            ssrcs: Vec::new(),
            rtx_ssrcs: Vec::new(),
            simulcast_ssrcs: Vec::new(),
            transport,
        };
        if let Content::Rtp(kind) = content {
            media.payloads = payloads(kind, m);
            media.extensions = extensions(kind, m);
            media.rids = rids(m);
            media.read_sources(m);
        }
        media
    }

    /// The members of SSRC groups, and names of the stream.
    fn read_sources(&mut self, m: &MediaDescription) {
        let mut msid = None;
        for attribute in &m.attributes {
            let Some(value) = attribute.value.as_deref().map(str::trim) else { continue };
            match attribute.key.as_str() {
                "msid" => msid = msid.or(Some(value)),
                "ssrc" => {
                    let (ssrc, rest) = value.split_once(' ').unwrap_or((value, ""));
                    let Ok(ssrc) = ssrc.parse().map(Ssrc) else { continue };
                    if self.ssrcs.len() < MAX_SSRCS && !self.ssrcs.contains(&ssrc) {
                        self.ssrcs.push(ssrc);
                    }
                    msid = msid.or_else(|| rest.strip_prefix("msid:"));
                }
                "ssrc-group" => self.read_group(value),
                _ => {}
            }
        }
        let mut names = msid.unwrap_or("").split_ascii_whitespace();
        let name = |text: &str| (text != "-" && text.len() <= MAX_MSID).then(|| text.to_owned());
        self.stream_id = names.next().and_then(name);
        self.track_id = names.next().and_then(name);
    }

    fn read_group(&mut self, value: &str) {
        let Some((semantics, members)) = value.split_once(' ') else { return };
        let mut members = members.split_ascii_whitespace().map_while(|m| m.parse().ok().map(Ssrc));
        match semantics {
            "FID" if self.rtx_ssrcs.len() < MAX_SSRC_GROUPS => {
                if let (Some(media), Some(rtx)) = (members.next(), members.next()) {
                    self.rtx_ssrcs.push((media, rtx));
                }
            }
            "SIM" if self.simulcast_ssrcs.is_empty() => {
                self.simulcast_ssrcs.extend(members.take(MAX_RIDS));
            }
            _ => {}
        }
    }

    /// The retransmission payload type of `pt`.
    pub(super) fn rtx_of(&self, pt: u8) -> Option<u8> {
        self.payloads.iter().find(|p| p.apt == Some(pt)).map(|p| p.pt)
    }

    /// The RED payload type around `pt`.
    pub(super) fn red_of(&self, pt: u8) -> Option<u8> {
        self.payloads.iter().find(|p| p.format == Some(Format::Red { primary: pt })).map(|p| p.pt)
    }

    /// The payload type that fits a track best.
    pub(super) fn best_for(&self, track: Format) -> Option<&Offered> {
        let fits = self.payloads.iter().filter_map(|p| Some((track.fit(p.format?)?, p)));
        fits.min_by_key(|(rank, _)| *rank).map(|(_, p)| p)
    }

    /// An offered payload type in the form that leaves this module.
    pub(super) fn payload(&self, offered: &Offered, format: Format) -> Payload {
        Payload {
            pt: offered.pt,
            codec: format.codec(),
            name: offered.name.clone(),
            clock_rate: offered.clock_rate,
            channels: offered.channels,
            fmtp: offered.fmtp.clone(),
            rtx_pt: self.rtx_of(offered.pt),
            feedback: offered.feedback,
        }
    }
}

fn content_of(m: &MediaDescription, sctp_port: Option<&str>, max_message_size: Option<&str>) -> Content {
    let name = &m.media_name;
    let has = |word: &str| name.protos.iter().any(|p| p == word);
    let secure_rtp = has("RTP") && (has("SAVPF") || has("SAVP"));
    match name.media.as_str() {
        "audio" if secure_rtp => Content::Rtp(MediaKind::Audio),
        "video" if secure_rtp => Content::Rtp(MediaKind::Video),
        "application"
            if has("DTLS") && has("SCTP") && name.formats.iter().any(|f| f == "webrtc-datachannel") =>
        {
            // RFC 8841 §6.1: absent is 64 kB, 0 is any size.
            let max_message_size = match max_message_size.map_or(Ok(65_536), str::parse::<u64>) {
                Ok(0) => usize::MAX,
                Ok(size) => usize::try_from(size).unwrap_or(usize::MAX),
                Err(_) => 65_536,
            };
            let sctp_port = sctp_port.and_then(|p| p.parse().ok()).unwrap_or(5000);
            Content::Data(DataSection { sctp_port, max_message_size })
        }
        _ => Content::Other,
    }
}

/// The m-line's payload types in its order, each with its attributes.
fn payloads(kind: MediaKind, m: &MediaDescription) -> Vec<Offered> {
    let mut rtpmaps: [Option<&str>; 128] = [None; 128];
    let mut fmtps: [Option<&str>; 128] = [None; 128];
    let mut feedbacks = [FeedbackSet::default(); 128];
    let mut feedback_for_all = FeedbackSet::default();
    for attribute in &m.attributes {
        let Some((pt, rest)) = attribute.value.as_deref().and_then(|v| v.trim().split_once(' ')) else {
            continue;
        };
        let (index, rest) = (pt.parse::<usize>().ok().filter(|pt| *pt < 128), rest.trim());
        match (attribute.key.as_str(), index) {
            ("rtpmap", Some(pt)) => rtpmaps[pt] = rtpmaps[pt].or(Some(rest)),
            ("fmtp", Some(pt)) if rest.len() <= MAX_FMTP => fmtps[pt] = fmtps[pt].or(Some(rest)),
            ("rtcp-fb", _) => {
                let Some(known) = Feedback::ALL.into_iter().find(|fb| fb.as_str() == rest) else { continue };
                match index {
                    Some(pt) => feedbacks[pt] = feedbacks[pt].with(known),
                    None if pt == "*" => feedback_for_all = feedback_for_all.with(known),
                    None => {}
                }
            }
            _ => {}
        }
    }
    let mut seen = [false; 128];
    let mut found = Vec::new();
    for pt in m.media_name.formats.iter().filter_map(|f| f.parse::<u8>().ok().filter(|pt| *pt < 128)) {
        let index = usize::from(pt);
        // Static payload types need no `a=rtpmap` (RFC 3551 §6); we forward these two.
        let fixed = match (kind, pt) {
            (MediaKind::Audio, 0) => Some("PCMU/8000"),
            (MediaKind::Audio, 8) => Some("PCMA/8000"),
            (MediaKind::Audio | MediaKind::Video, _) => None,
        };
        let Some(rtpmap) = rtpmaps[index].or(fixed) else { continue };
        if std::mem::replace(&mut seen[index], true) {
            continue;
        }
        let mut parts = rtpmap.split('/');
        let name = parts.next().unwrap_or("");
        let clock_rate = parts.next().and_then(|r| r.parse().ok()).unwrap_or(0);
        let channels = parts.next().and_then(|c| c.parse().ok()).unwrap_or(1);
        let fmtp = fmtps[index].unwrap_or("");
        let rtx = name.eq_ignore_ascii_case("rtx");
        found.push(Offered {
            pt,
            name: name.to_owned(),
            clock_rate,
            channels,
            fmtp: fmtp.to_owned(),
            feedback: feedbacks[index].union(feedback_for_all),
            format: Format::parse(kind, name, clock_rate, fmtp),
            apt: rtx.then(|| parameter(fmtp, "apt")?.parse().ok()).flatten(),
        });
    }
    found
}

/// RFC 8285 §5: `a=extmap:<id>["/"<direction>] <URI> [<attributes>]`, ids 1 to 255 but for 15.
fn extensions(kind: MediaKind, m: &MediaDescription) -> Vec<OfferedExtension> {
    let mut found: Vec<OfferedExtension> = Vec::new();
    for value in m.attributes.iter().filter_map(|a| value_of(a, "extmap")) {
        let mut fields = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (fields.next(), fields.next()) else { continue };
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, Direction::parse(direction)),
            None => (id, None),
        };
        let Some(id) = id.parse::<u8>().ok().filter(|id| *id != 0 && *id != 15) else { continue };
        let Some(uri) = extension::accepted(kind, uri) else { continue };
        if found.len() < MAX_EXTENSIONS && !found.iter().any(|e| e.id == id || e.uri == uri) {
            found.push(OfferedExtension { id, uri, direction });
        }
    }
    found
}

/// RFC 8853 §5.1. Of alternatives the first counts; a paused encoding counts as any other. Only names that
/// also have an `a=rid:… send` (RFC 8851 §5.2).
fn rids(m: &MediaDescription) -> Vec<Rid> {
    let described: Vec<Rid> = m
        .attributes
        .iter()
        .filter_map(|a| {
            let mut fields = value_of(a, "rid")?.split_ascii_whitespace();
            let rid = fields.next().and_then(Rid::parse)?;
            (fields.next()? == "send").then_some(rid)
        })
        .take(MAX_RIDS)
        .collect();
    let Some(simulcast) = m.attributes.iter().find_map(|a| value_of(a, "simulcast")) else {
        return described;
    };
    let mut fields = simulcast.split_ascii_whitespace();
    let list = loop {
        match (fields.next(), fields.next()) {
            (Some("send"), Some(list)) => break list,
            (Some(_), Some(_)) => {}
            _ => return Vec::new(),
        }
    };
    let mut found = Vec::new();
    for name in list.split(';') {
        let first = name.split(',').next().unwrap_or("");
        let Some(rid) = Rid::parse(first.trim_start_matches('~')) else { continue };
        if described.contains(&rid) && !found.contains(&rid) {
            found.push(rid);
        }
    }
    found
}
