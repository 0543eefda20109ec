//! From what was agreed to text.

use std::net::{IpAddr, Ipv4Addr};

use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, SessionDescription, TimeDescription};

use super::candidate::candidate_lines;
use super::codec::{Feedback, FeedbackSet};
use super::media::Direction;
use super::section::{LocalTransport, SendTrack};
use crate::ids::{Mid, Rid};

/// Largest message that we take on a data channel, in bytes: what browsers say too.
pub const MAX_MESSAGE_SIZE: usize = 262_144;

/// Our SCTP port, the one that everybody uses (RFC 8841 §5).
const SCTP_PORT: u16 = 5000;

/// What all sections share.
pub(super) struct Session<'a> {
    pub(super) id: u64,
    pub(super) version: u64,
    pub(super) local: &'a LocalTransport,
    /// `actpass`, `active` or `passive`.
    pub(super) setup: &'static str,
    /// `None`: no group at all, in the answer to an offer without one.
    pub(super) bundle: Option<Vec<Mid>>,
    /// Its transport is that of the bundle: it alone lists the candidates.
    pub(super) tagged: Option<Mid>,
    pub(super) allow_mixed: bool,
}

/// One audio or video section.
pub(super) struct RtpSection<'a> {
    pub(super) media: &'a str,
    pub(super) protos: &'a [String],
    pub(super) mid: Mid,
    pub(super) direction: Direction,
    pub(super) rtcp_rsize: bool,
    pub(super) allow_mixed: bool,
    pub(super) payloads: Vec<WirePayload>,
    /// Id with its direction, if any, and URI.
    pub(super) extensions: Vec<(String, &'static str)>,
    /// Encodings that we accept.
    pub(super) rids: &'a [Rid],
    /// What we send.
    pub(super) source: Option<Source<'a>>,
}

/// A payload type's lines.
pub(super) struct WirePayload {
    pub(super) pt: u8,
    /// As in `a=rtpmap`, after the payload type.
    pub(super) encoding: String,
    pub(super) fmtp: String,
    pub(super) feedback: FeedbackSet,
}

/// The stream that we send in a section.
pub(super) struct Source<'a> {
    pub(super) track: &'a SendTrack,
    pub(super) has_rtx: bool,
}

/// Attributes in the making.
#[derive(Default)]
struct Attributes(Vec<Attribute>);

impl Attributes {
    fn flag(&mut self, key: &str) {
        self.0.push(Attribute::new(key.to_owned(), None));
    }

    fn value(&mut self, key: &str, value: impl Into<String>) {
        self.0.push(Attribute::new(key.to_owned(), Some(value.into())));
    }
}

impl Session<'_> {
    /// The whole description.
    pub(super) fn write(&self, mut media_descriptions: Vec<MediaDescription>) -> String {
        self.repeat_candidates(&mut media_descriptions);
        let mut attributes = Attributes::default();
        if self.local.ice_lite {
            attributes.flag("ice-lite");
        }
        // All our candidates are in the description; this says that the client's may follow theirs.
        attributes.value("ice-options", "trickle");
        if let Some(bundle) = &self.bundle {
            let members: Vec<&str> = bundle.iter().map(Mid::as_str).collect();
            attributes.value("group", format!("BUNDLE {}", members.join(" ")));
        }
        if self.allow_mixed {
            attributes.flag("extmap-allow-mixed");
        }
        attributes.value("msid-semantic", " WMS *");
        let description = SessionDescription {
            version: 0,
            origin: Origin {
                username: "-".to_owned(),
                session_id: self.id,
                session_version: self.version,
                network_type: "IN".to_owned(),
                address_type: "IP4".to_owned(),
                unicast_address: "127.0.0.1".to_owned(), // RFC 8829 §5.2.1: anything, to say nothing of us
            },
            session_name: "-".to_owned(),
            time_descriptions: vec![TimeDescription::default()],
            attributes: attributes.0,
            media_descriptions,
            ..SessionDescription::default()
        };
        description.marshal()
    }

    /// Stacks of Pion's family overlook the candidates of an inactive section, and in the answer to a client that
    /// only joins the tagged one is that. Then the first active section lists them too, though RFC 9143 §7.1.3
    /// would have them once: for everybody else they are the same candidates of the same transport.
    fn repeat_candidates(&self, sections: &mut [MediaDescription]) {
        let is_inactive = |section: &MediaDescription| section.attribute("inactive").is_some();
        let is_tagged = |section: &&MediaDescription| {
            let mid = self.tagged.as_ref().map(Mid::as_str);
            mid.is_some() && section.attribute("mid").flatten() == mid
        };
        let Some(tagged) = sections.iter().find(is_tagged).filter(|section| is_inactive(section)) else {
            return;
        };
        let is_candidate = |a: &&Attribute| a.key == "candidate" || a.key == "end-of-candidates";
        let candidates: Vec<Attribute> = tagged.attributes.iter().filter(is_candidate).cloned().collect();
        if let Some(active) = sections.iter_mut().find(|section| !is_inactive(section)) {
            active.attributes.splice(0..0, candidates);
        }
    }

    /// An audio or video section.
    pub(super) fn rtp(&self, section: &RtpSection<'_>) -> MediaDescription {
        let mut attributes = self.transport(section.mid);
        for (id, uri) in &section.extensions {
            attributes.value("extmap", format!("{id} {uri}"));
        }
        if section.allow_mixed {
            attributes.flag("extmap-allow-mixed");
        }
        attributes.flag(section.direction.as_str());
        if let Some(Source { track, .. }) = &section.source {
            attributes.value("msid", format!("{} {}", word(&track.stream_id), word(&track.label)));
        }
        attributes.flag("rtcp-mux");
        if section.rtcp_rsize {
            attributes.flag("rtcp-rsize");
        }
        for payload in &section.payloads {
            let pt = payload.pt;
            attributes.value("rtpmap", format!("{pt} {}", payload.encoding));
            for feedback in Feedback::OF_PAYLOADS.into_iter().filter(|fb| payload.feedback.has(*fb)) {
                attributes.value("rtcp-fb", format!("{pt} {}", feedback.as_str()));
            }
            if !payload.fmtp.is_empty() {
                attributes.value("fmtp", format!("{pt} {}", payload.fmtp));
            }
        }
        if section.payloads.iter().any(|payload| payload.feedback.has(Feedback::Ccfb)) {
            attributes.value("rtcp-fb", format!("* {}", Feedback::Ccfb.as_str()));
        }
        for rid in section.rids {
            attributes.value("rid", format!("{rid} recv"));
        }
        if !section.rids.is_empty() {
            let rids: Vec<&str> = section.rids.iter().map(Rid::as_str).collect();
            attributes.value("simulcast", format!("recv {}", rids.join(";")));
        }
        if let Some(Source { track, has_rtx }) = &section.source {
            let (ssrc, rtx_ssrc, cname) = (track.ssrc.0, track.rtx_ssrc.0, word(&track.cname));
            if *has_rtx {
                attributes.value("ssrc-group", format!("FID {ssrc} {rtx_ssrc}"));
            }
            attributes.value("ssrc", format!("{ssrc} cname:{cname}"));
            if *has_rtx {
                attributes.value("ssrc", format!("{rtx_ssrc} cname:{cname}"));
            }
        }
        let formats = section.payloads.iter().map(|p| p.pt.to_string()).collect();
        self.section(section.media, section.protos.to_vec(), formats, attributes)
    }

    /// The section of data channels.
    pub(super) fn data(&self, mid: Mid, protos: Vec<String>) -> MediaDescription {
        let mut attributes = self.transport(mid);
        attributes.value("sctp-port", SCTP_PORT.to_string());
        attributes.value("max-message-size", MAX_MESSAGE_SIZE.to_string());
        self.section("application", protos, vec!["webrtc-datachannel".to_owned()], attributes)
    }

    /// Who we are on the network and in DTLS. Repeated in each section for clients that look there.
    fn transport(&self, mid: Mid) -> Attributes {
        let mut attributes = Attributes::default();
        if self.tagged == Some(mid) {
            for candidate in candidate_lines(self.local) {
                attributes.value("candidate", candidate.trim_start_matches("candidate:"));
            }
            attributes.flag("end-of-candidates");
        }
        attributes.value("ice-ufrag", self.local.ufrag.as_str());
        attributes.value("ice-pwd", self.local.pwd.as_str());
        attributes.value("fingerprint", format!("sha-256 {}", self.local.fingerprint));
        attributes.value("setup", self.setup);
        attributes.value("mid", mid.as_str());
        attributes
    }

    fn section(
        &self,
        media: &str,
        protos: Vec<String>,
        formats: Vec<String>,
        attributes: Attributes,
    ) -> MediaDescription {
        // RFC 8839 §4.2.1.2, default destination: IPv4 where there is any, for whoever reads only that.
        let candidates = &self.local.candidates;
        let default = candidates.iter().find(|c| c.is_ipv4()).or(candidates.first());
        let (ip, port) =
            default.map_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9), |address| (address.ip(), address.port()));
        description(media, port, protos, formats, ip, attributes)
    }
}

/// A section that is refused: port 0, nothing else of use.
pub(super) fn rejected(
    media: &str,
    protos: Vec<String>,
    formats: Vec<String>,
    mid: Option<Mid>,
) -> MediaDescription {
    let mut attributes = Attributes::default();
    if let Some(mid) = mid {
        attributes.value("mid", mid.as_str());
    }
    attributes.flag("inactive");
    description(media, 0, protos, formats, IpAddr::V4(Ipv4Addr::UNSPECIFIED), attributes)
}

fn description(
    media: &str,
    port: u16,
    protos: Vec<String>,
    formats: Vec<String>,
    ip: IpAddr,
    attributes: Attributes,
) -> MediaDescription {
    let address_type = if ip.is_ipv4() { "IP4" } else { "IP6" };
    MediaDescription {
        media_name: MediaName {
            media: media.to_owned(),
            port: RangedPort { value: port as isize, range: None },
            protos,
            formats,
        },
        connection_information: Some(ConnectionInformation {
            network_type: "IN".to_owned(),
            address_type: address_type.to_owned(),
            address: Some(Address { address: ip.to_string(), ttl: None, range: None }),
        }),
        attributes: attributes.0,
        ..MediaDescription::default()
    }
}

/// A name of ours as one word of a line: whatever would end the word becomes `_`.
fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c }).collect()
}
