//! From text to what negotiation needs of a peer's description. Bounded before and while it is parsed.
//!
//! Always: what a value here holds contains no control characters, so that repeating it in a description of
//! ours cannot add a line to it.

use std::io::Cursor;

use rtc_sdp::MediaDescription;
use rtc_sdp::SessionDescription;
use rtc_sdp::description::common::Attribute;

use super::candidate::{RemoteCandidate, parse_candidate};
use super::codec::{Feedback, FeedbackSet, Format, Payload, parameter};
use super::error::{DescriptionError, Excerpt};
use super::extension;
use super::section::{DataSection, Fingerprint};
use crate::command::MediaKind;
use crate::ids::{Mid, Rid, Ssrc};

/// Longest description that is parsed, in bytes. A browser's with 100 sections has about 200 kB.
pub const MAX_DESCRIPTION: usize = 256 * 1024;
/// Most sections in a description that is parsed, and in one of ours.
pub const MAX_MEDIA_LINES: usize = 512;

const MAX_CANDIDATES: usize = 64;
const MAX_FINGERPRINTS: usize = 8;
const MAX_RIDS: usize = 8;
const MAX_SSRCS: usize = 64;
const MAX_SSRC_GROUPS: usize = 32;
const MAX_EXTENSIONS: usize = 32;
const MAX_CREDENTIAL: usize = 256; // RFC 8839 §5.4
const MAX_MSID: usize = 512;
const MAX_FMTP: usize = 1024;

/// A peer's description.
pub(super) struct Remote {
    /// Members of the first BUNDLE group, `None` without one.
    pub(super) bundle: Option<Vec<Mid>>,
    pub(super) allow_mixed: bool,
    /// Transport attributes before the first m-line, which hold where a section has none.
    pub(super) transport: Transport,
    pub(super) media: Vec<Media>,
}

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
pub(super) struct Media {
    pub(super) content: Content,
    /// The m-line's words, for repeating it.
    pub(super) media: String,
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

/// `a=setup` (RFC 4145 §4)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemoteSetup {
    Active,
    Passive,
    ActPass,
    /// `holdconn`, or anything else that nobody uses with DTLS.
    Other,
}

/// ICE and DTLS attributes of one level of a description.
#[derive(Default)]
pub(super) struct Transport {
    pub(super) ufrag: Option<String>,
    pub(super) pwd: Option<String>,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) setup: Option<RemoteSetup>,
    pub(super) candidates: Vec<RemoteCandidate>,
}

impl Remote {
    /// Reads a description within the limits above, without judging it.
    pub(super) fn parse(text: &str) -> Result<Remote, DescriptionError> {
        guard(text)?;
        let description = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|error| DescriptionError::Malformed(Excerpt::of(&error.to_string())))?;
        let bundle = description.attributes.iter().find_map(|a| {
            let members = value_of(a, "group")?.strip_prefix("BUNDLE")?;
            Some(members.split_ascii_whitespace().take(MAX_MEDIA_LINES).filter_map(Mid::parse).collect())
        });
        let mut transport = Transport::default();
        let mut direction = Direction::SendRecv;
        for attribute in &description.attributes {
            transport.take(attribute);
            direction = Direction::parse(&attribute.key).unwrap_or(direction);
        }
        let media = description.media_descriptions.iter().map(|m| Media::read(m, direction)).collect();
        let allow_mixed = description.attributes.iter().any(|a| a.key == "extmap-allow-mixed");
        Ok(Remote { bundle, allow_mixed, transport, media })
    }

    /// Refuses what no answer can make good: duplicate mids, sections that would need a transport of their
    /// own. `used` says which sections are not rejected.
    pub(super) fn check(&self, used: impl Fn(usize) -> bool) -> Result<(), DescriptionError> {
        for (second, media) in self.media.iter().enumerate() {
            let Some(mid) = media.mid else { continue };
            let earlier = self.media[..second].iter().position(|other| other.mid == Some(mid));
            if let Some(first) = earlier {
                return Err(DescriptionError::DuplicateMid { first, second, mid });
            }
        }
        let mut used_lines = (0..self.media.len()).filter(|i| used(*i));
        // A lone section needs no group: it has the transport to itself.
        let alone = used_lines.by_ref().take(2).count() < 2;
        for (m_line, media) in self.media.iter().enumerate().filter(|(i, _)| used(*i)) {
            let mid = media.mid.ok_or(DescriptionError::NoMid { m_line })?;
            let bundled = match &self.bundle {
                Some(bundle) => bundle.contains(&mid),
                None => alone,
            };
            if !bundled {
                return Err(DescriptionError::NotBundled { m_line });
            }
            if !media.rtcp_mux && matches!(media.content, Content::Rtp(_)) {
                return Err(DescriptionError::NoRtcpMux { m_line });
            }
        }
        Ok(())
    }

    /// The section whose transport the bundle uses: the first in the group that is used (RFC 9143 §7.2.1).
    pub(super) fn tagged(&self, used: impl Fn(usize) -> bool) -> Option<usize> {
        let index_of = |mid: &Mid| self.media.iter().position(|m| m.mid == Some(*mid));
        let grouped = self.bundle.iter().flatten().filter_map(index_of).find(|i| used(*i));
        grouped.or_else(|| (0..self.media.len()).find(|i| used(*i)))
    }
}

/// Limits and characters, checked before anything is allocated.
fn guard(text: &str) -> Result<(), DescriptionError> {
    if text.len() > MAX_DESCRIPTION {
        return Err(DescriptionError::TooLong { got: text.len(), limit: MAX_DESCRIPTION });
    }
    let got = text.lines().filter(|line| line.trim_start().starts_with("m=")).count();
    if got > MAX_MEDIA_LINES {
        return Err(DescriptionError::TooManyMediaLines { got, limit: MAX_MEDIA_LINES });
    }
    // `lines` takes off `\n` and `\r\n`; whatever control is left would split lines for some reader.
    if let Some(line) = text.lines().find(|line| line.contains(|c: char| c.is_control() && c != '\t')) {
        return Err(DescriptionError::Malformed(Excerpt::of(line)));
    }
    Ok(())
}

/// The value of an attribute of that name.
fn value_of<'a>(attribute: &'a Attribute, key: &str) -> Option<&'a str> {
    if attribute.key != key {
        return None;
    }
    attribute.value.as_deref().map(str::trim)
}

impl Transport {
    fn take(&mut self, attribute: &Attribute) {
        let Some(value) = attribute.value.as_deref().map(str::trim) else { return };
        match attribute.key.as_str() {
            "ice-ufrag" => self.ufrag = credential(value),
            "ice-pwd" => self.pwd = credential(value),
            "fingerprint" if self.fingerprints.len() < MAX_FINGERPRINTS => {
                self.fingerprints.extend(fingerprint(value));
            }
            "setup" => {
                self.setup = Some(match value {
                    "active" => RemoteSetup::Active,
                    "passive" => RemoteSetup::Passive,
                    "actpass" => RemoteSetup::ActPass,
                    _ => RemoteSetup::Other,
                });
            }
            "candidate" if self.candidates.len() < MAX_CANDIDATES => {
                self.candidates.extend(parse_candidate(value));
            }
            _ => {}
        }
    }
}

/// The characters are those of RFC 8839 §5.4 and a few more that old clients use; the length has no lower
/// bound, which only the peer would suffer from.
fn credential(value: &str) -> Option<String> {
    let fits = (1..=MAX_CREDENTIAL).contains(&value.len()) && value.bytes().all(|c| c.is_ascii_graphic());
    fits.then(|| value.to_owned())
}

fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (hash, value) = value.split_once(' ')?;
    let value = value.trim();
    // SHA-512 takes 191 characters.
    let hex = value.len() <= 191 && value.bytes().all(|c| c.is_ascii_hexdigit() || c == b':');
    let fits = hex && !value.is_empty() && hash.len() <= 16;
    fits.then(|| Fingerprint { hash: hash.to_ascii_lowercase(), value: value.to_ascii_uppercase() })
}

impl Media {
    fn read(m: &MediaDescription, session_direction: Direction) -> Media {
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
            media: name.media.clone(),
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
        // Static payload types without `a=rtpmap` are none that we forward.
        let Some(rtpmap) = rtpmaps[index] else { continue };
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
