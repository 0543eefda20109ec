//! Descriptions as clients write them: a publisher's offer, a subscriber's, and a subscriber's answer to ours.

use sfu::ids::{Rid, Ssrc};

use crate::rtp::ExtensionIds;

/// Header extensions of a publisher.
pub(super) const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    rid: Some(10),
    repaired_rid: Some(11),
    transport_cc: Some(3),
    audio_level: Some(1),
};
/// Sections and payload types of a publisher.
pub(super) const AUDIO: (&str, u8) = ("0", 111);
pub(super) const RED: u8 = 63;
pub(super) const VIDEO: (&str, u8, u8) = ("1", 96, 97);

/// URIs of [`ExtensionIds`], in its order.
const URIS: [&str; 5] = [
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
];
/// Any will do: there is no ICE, and no DTLS.
const TRANSPORT: &str = "a=ice-ufrag:them\na=ice-pwd:themthemthemthemthemthem\na=fingerprint:sha-256 53:3F:6D:08:A7:1F:\
                         6F:F6:1E:E8:EB:B2:20:FA:DE:F3:32:F5:C0:44:16:4F:30:E2:D8:29:C7:A0:3D:DF:E0:FC\n";

/// Which feedback for congestion control a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// `transport-cc`.
    TransportWide,
    /// `ack ccfb` (RFC 8888), nothing else.
    PerStream,
}

impl Reports {
    /// Header extensions that go with it.
    pub(super) fn extensions(self) -> ExtensionIds {
        match self {
            Reports::TransportWide => EXTENSIONS,
            Reports::PerStream => ExtensionIds { transport_cc: None, ..EXTENSIONS },
        }
    }

    fn of_payload(self, payload_type: u8) -> String {
        match self {
            Reports::TransportWide => format!("a=rtcp-fb:{payload_type} transport-cc\n"),
            Reports::PerStream => String::new(),
        }
    }
}

fn ids(ids: &ExtensionIds) -> [Option<u8>; 5] {
    [ids.mid, ids.rid, ids.repaired_rid, ids.transport_cc, ids.audio_level]
}

/// A microphone, and a camera with these encodings (none: of one stream).
pub(super) fn offer(rids: &[Rid], reports: Reports) -> String {
    let section = |kind: &str, mid: &str, payloads: &str, more: &str| {
        section((kind, mid, payloads), "sendonly", reports, more)
    };
    let (audio, opus) = AUDIO;
    let (video, vp8, rtx) = VIDEO;
    let mut more = video_lines(reports);
    if !rids.is_empty() {
        let names: Vec<&str> = rids.iter().map(Rid::as_str).collect();
        let sends: String = names.iter().map(|name| ["a=rid:", name, " send\n"].concat()).collect();
        more = [&more, &sends, "a=simulcast:send ", &names.join(";"), "\n"].concat();
    }
    let sections = [
        section("audio", audio, &format!("{opus} {RED}"), &audio_lines(reports)),
        section("video", video, &format!("{vp8} {rtx}"), &more),
    ];
    session(&format!("{audio} {video}"), &sections.concat())
}

/// As many sections to receive in as there are publishers, for sound and for video.
pub(super) fn offer_to_receive(publishers: usize, reports: Reports) -> String {
    let ((_, opus), (_, vp8, rtx)) = (AUDIO, VIDEO);
    let mids: Vec<String> = (0..2 * publishers).map(|mid| mid.to_string()).collect();
    let sections = mids.iter().enumerate().map(|(index, mid)| {
        if index % 2 == 0 {
            let payloads = format!("{opus} {RED}");
            section(("audio", mid, &payloads), "recvonly", reports, &audio_lines(reports))
        } else {
            section(("video", mid, &format!("{vp8} {rtx}")), "recvonly", reports, &video_lines(reports))
        }
    });
    session(&mids.join(" "), &sections.collect::<String>())
}

fn session(bundle: &str, sections: &str) -> String {
    let head = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE";
    format!("{head} {bundle}\na=extmap-allow-mixed\n{sections}").replace('\n', "\r\n")
}

fn section(
    (kind, mid, payloads): (&str, &str, &str),
    direction: &str,
    reports: Reports,
    more: &str,
) -> String {
    let extensions: String = ids(&reports.extensions())
        .iter()
        .zip(URIS)
        .filter_map(|(id, uri)| Some(format!("a=extmap:{} {uri}\n", (*id)?)))
        .collect();
    let by_stream = if reports == Reports::PerStream { "a=rtcp-fb:* ack ccfb\n" } else { "" };
    format!(
        "m={kind} 9 UDP/TLS/RTP/SAVPF {payloads}\nc=IN IP4 0.0.0.0\n{TRANSPORT}a=setup:actpass\na=mid:{mid}\n\
         {extensions}a={direction}\na=rtcp-mux\na=rtcp-rsize\n{by_stream}{more}"
    )
}

fn audio_lines(reports: Reports) -> String {
    let (_, opus) = AUDIO;
    format!(
        "a=rtpmap:{opus} opus/48000/2\n{}a=rtpmap:{RED} red/48000/2\na=fmtp:{RED} {opus}/{opus}\n",
        reports.of_payload(opus)
    )
}

fn video_lines(reports: Reports) -> String {
    let (_, vp8, rtx) = VIDEO;
    format!(
        "a=rtpmap:{vp8} VP8/90000\n{}a=rtcp-fb:{vp8} nack\na=rtcp-fb:{vp8} nack pli\n\
         a=rtpmap:{rtx} rtx/90000\na=fmtp:{rtx} apt={vp8}\n",
        reports.of_payload(vp8)
    )
}

/// A stream that an offer of ours announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// The second half of `a=msid`.
    pub(super) label: String,
    pub(super) video: bool,
    pub(super) ssrc: Ssrc,
    pub(super) rtx: Option<Ssrc>,
}

/// What a subscriber makes of a description of ours: all of it wanted.
#[derive(Debug)]
pub(super) struct Answer {
    /// The answer, if it is an offer.
    pub(super) sdp: String,
    pub(super) extensions: ExtensionIds,
    pub(super) streams: Vec<Announced>,
    /// Payload type of redundant audio.
    pub(super) red: Option<u8>,
}

/// Accepts everything that is offered.
pub(super) fn answer(offer: &str) -> Answer {
    let mut lines: Vec<&str> = Vec::new();
    let (mut extensions, mut streams) = (ExtensionIds::default(), Vec::new());
    let (mut video, mut red) = (false, None);
    let mut known = false; // the section's stream
    let mut label = String::new();
    for line in offer.lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let mut numbers = value.split(' ').filter_map(|word| Some(Ssrc(word.parse().ok()?)));
        match key {
            "a=ssrc-group" => {
                let (ssrc, rtx) = (numbers.next().expect("a first stream"), numbers.next());
                streams.push(Announced { label: label.clone(), video, ssrc, rtx });
                known = true;
            }
            "a=ssrc" if !known => {
                let ssrc = numbers.next().expect("a number");
                streams.push(Announced { label: label.clone(), video, ssrc, rtx: None });
                known = true;
            }
            "a=msid" => value.rsplit(' ').next().unwrap_or_default().clone_into(&mut label),
            // What is true of the server alone.
            "a=ssrc" | "a=candidate" | "a=end-of-candidates" | "a=ice-ufrag" | "a=ice-pwd" | "a=ice-lite" => {
            }
            "a=fingerprint" => lines.extend(TRANSPORT.lines()),
            "a=setup" => lines.push("a=setup:active"),
            "a=sendonly" => lines.push("a=recvonly"),
            "a=rtpmap" => {
                red = red.or(value.strip_suffix(" red/48000/2").and_then(|pt| pt.parse().ok()));
                lines.push(line);
            }
            "a=extmap" => {
                learn(&mut extensions, value);
                lines.push(line);
            }
            _ => {
                if line.starts_with("m=") {
                    (video, known) = (line.starts_with("m=video"), false);
                }
                lines.push(line);
            }
        }
    }
    Answer { sdp: lines.join("\r\n") + "\r\n", extensions, streams, red }
}

/// Takes the id that a line `a=extmap` gives.
fn learn(ids: &mut ExtensionIds, value: &str) {
    let Some((id, uri)) = value.split_once(' ') else { return };
    let fields =
        [&mut ids.mid, &mut ids.rid, &mut ids.repaired_rid, &mut ids.transport_cc, &mut ids.audio_level];
    if let Some((field, _)) = fields.into_iter().zip(URIS).find(|(_, known)| *known == uri) {
        *field = id.parse().ok();
    }
}
