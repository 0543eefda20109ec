//! From text to what negotiation needs of a peer's description. Bounded before and while it is parsed.
//!
//! Always: what a value here holds contains no control characters, so that repeating it in a description of
//! ours cannot add a line to it.

use std::io::Cursor;

use rtc_sdp::SessionDescription;
use rtc_sdp::description::common::Attribute;

use super::candidate::{RemoteCandidate, parse_candidate};
use super::error::{DescriptionError, Excerpt};
use super::media::{Content, Direction, Media};
use super::section::Fingerprint;
use crate::ids::Mid;

/// Longest description that is parsed, in bytes. A browser's with 100 sections has about 200 kB.
pub const MAX_DESCRIPTION: usize = 256 * 1024;
/// Most sections in a description that is parsed, and in one of ours.
pub const MAX_MEDIA_LINES: usize = 512;

const MAX_CANDIDATES: usize = 64;
const MAX_FINGERPRINTS: usize = 8;
const MAX_CREDENTIAL: usize = 256; // RFC 8839 §5.4

/// A peer's description.
pub(super) struct Remote {
    /// Members of the first BUNDLE group, `None` without one.
    pub(super) bundle: Option<Vec<Mid>>,
    pub(super) allow_mixed: bool,
    /// Transport attributes before the first m-line, which hold where a section has none.
    pub(super) transport: Transport,
    pub(super) media: Vec<Media>,
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
pub(super) fn value_of<'a>(attribute: &'a Attribute, key: &str) -> Option<&'a str> {
    if attribute.key != key {
        return None;
    }
    attribute.value.as_deref().map(str::trim)
}

impl Transport {
    pub(super) fn take(&mut self, attribute: &Attribute) {
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
