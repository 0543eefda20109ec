//! Descriptions as clients write them.

use std::fmt::Write as _;

const UDP_RTP: &str = "UDP/TLS/RTP/SAVPF";
const FINGERPRINT: &str =
    "53:3F:6D:08:A7:1F:6F:F6:1E:E8:EB:B2:20:FA:DE:F3:32:F5:C0:44:16:4F:30:E2:D8:29:C7:A0:3D:DF:E0:FC";

/// Whose lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Chromium,
    Python,
}

/// One section of an offer.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) kind: &'static str,
    direction: &'static str,
    msid: Option<&'static str>,
    rids: &'static [&'static str],
    extra: &'static [&'static str],
}

pub(super) fn audio(direction: &'static str) -> Part {
    Part { kind: "audio", direction, msid: None, rids: &[], extra: &[] }
}

pub(super) fn video(direction: &'static str) -> Part {
    Part { kind: "video", ..audio(direction) }
}

pub(super) fn data() -> Part {
    Part { kind: "application", ..audio("") }
}

impl Part {
    pub(super) fn msid(self, msid: &'static str) -> Part {
        Part { msid: Some(msid), ..self }
    }

    pub(super) fn rids(self, rids: &'static [&'static str]) -> Part {
        Part { rids, ..self }
    }

    pub(super) fn with(self, extra: &'static [&'static str]) -> Part {
        Part { extra, ..self }
    }
}

/// A client that offers.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) style: Style,
    pub(super) ufrag: &'static str,
    pub(super) setup: &'static str,
    pub(super) parts: Vec<Part>,
}

impl Client {
    pub(super) fn new(style: Style, parts: Vec<Part>) -> Client {
        Client { style, ufrag: "UHQA", setup: "actpass", parts }
    }

    /// The first offer of LiveKit's SDKs on one peer connection.
    pub(super) fn joining(style: Style) -> Client {
        let mut parts = vec![audio("recvonly"); 3];
        parts.extend(vec![video("recvonly"); 3]);
        parts.push(data());
        Client::new(style, parts)
    }

    pub(super) fn offer(&self) -> String {
        let mut sdp =
            String::from("v=0\no=- 6497585419943405805 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE");
        for mid in 0..self.parts.len() {
            write!(sdp, " {mid}").expect("a string");
        }
        sdp.push_str("\na=extmap-allow-mixed\na=msid-semantic: WMS\n");
        for (mid, part) in self.parts.iter().enumerate() {
            self.section(&mut sdp, mid, part);
        }
        sdp.replace('\n', "\r\n")
    }

    fn section(&self, sdp: &mut String, mid: usize, part: &Part) {
        let video = video_payloads(self.style);
        let formats = match part.kind {
            "audio" => "111 63 9 0 8 13 110 126".to_owned(),
            "video" => video.iter().map(|(pt, ..)| pt.to_string()).collect::<Vec<_>>().join(" "),
            _ => "webrtc-datachannel".to_owned(),
        };
        let proto = if part.kind == "application" { "UDP/DTLS/SCTP" } else { UDP_RTP };
        let ufrag = self.ufrag;
        let options = if self.style == Style::Python { "trickle goog-sped-v1" } else { "trickle" };
        write!(
            sdp,
            "m={} 9 {proto} {formats}\nc=IN IP4 0.0.0.0\na=rtcp:9 IN IP4 0.0.0.0\na=ice-ufrag:{ufrag}\n\
             a=ice-pwd:{ufrag}lw2vV0XJXYNzyZKZF63p\na=ice-options:{options}\na=fingerprint:sha-256 {FINGERPRINT}\n\
             a=setup:{}\na=mid:{mid}\n",
            part.kind, self.setup
        )
        .expect("a string");
        match part.kind {
            "audio" => {
                sdp.push_str(AUDIO_EXTENSIONS);
                directions(sdp, part);
                sdp.push_str(AUDIO_PAYLOADS);
            }
            "video" => {
                sdp.push_str(VIDEO_EXTENSIONS);
                if self.style == Style::Chromium {
                    let uri = crate::sdp::extension::DEPENDENCY_DESCRIPTOR;
                    writeln!(sdp, "a=extmap:12 {uri}").expect("a string");
                }
                directions(sdp, part);
                for (pt, encoding, fmtp) in &video {
                    video_payload(sdp, *pt, encoding, fmtp);
                }
            }
            _ => {
                sdp.push_str("a=sctp-port:5000\na=max-message-size:262144\n");
                if self.style == Style::Python {
                    sdp.push_str("a=sctp-init:AQAAXvTl3mkAUAAAAP//AAB=\n");
                }
            }
        }
        for rid in part.rids {
            writeln!(sdp, "a=rid:{rid} send").expect("a string");
        }
        if !part.rids.is_empty() {
            writeln!(sdp, "a=simulcast:send {}", part.rids.join(";")).expect("a string");
        }
        for line in part.extra {
            writeln!(sdp, "{line}").expect("a string");
        }
    }
}

fn directions(sdp: &mut String, part: &Part) {
    writeln!(sdp, "a={}", part.direction).expect("a string");
    if let Some(msid) = part.msid {
        writeln!(sdp, "a=msid:{msid}").expect("a string");
    }
    sdp.push_str("a=rtcp-mux\na=rtcp-rsize\na=rtcp-xr:rcvr-rtt=all\n");
}

const AUDIO_EXTENSIONS: &str = "\
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
";

const AUDIO_PAYLOADS: &str = "\
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
a=rtpmap:126 telephone-event/8000
";

const VIDEO_EXTENSIONS: &str = "\
a=extmap:14 urn:ietf:params:rtp-hdrext:toffset
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:13 urn:3gpp:video-orientation
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01
a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay
a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/video-content-type
a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/video-timing
a=extmap:8 http://www.webrtc.org/experiments/rtp-hdrext/color-space
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id
a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id
";

/// Payload type, encoding and parameters; media with its RTX, then what is never forwarded.
fn video_payloads(style: Style) -> Vec<(u8, &'static str, String)> {
    let h264 = |mode: u8, profile: &str| {
        format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}")
    };
    let mut media = vec![
        (96, 97, "VP8", String::new()),
        (98, 99, "VP9", "profile-id=0".to_owned()),
        (100, 101, "VP9", "profile-id=2".to_owned()),
        (102, 103, "H264", h264(1, "42001f")),
        (104, 107, "H264", h264(0, "42001f")),
        (108, 109, "H264", h264(1, "42e01f")),
        (114, 115, "H264", h264(0, "42e01f")),
        (116, 117, "H264", h264(1, "4d001f")),
        (39, 40, "H264", h264(0, "4d001f")),
        (45, 46, "AV1", "level-idx=5;profile=0;tier=0".to_owned()),
    ];
    if style == Style::Chromium {
        media.insert(3, (35, 36, "VP9", "profile-id=1".to_owned()));
        media.insert(4, (37, 38, "VP9", "profile-id=3".to_owned()));
        media.push((41, 42, "H264", h264(1, "f4001f")));
        media.push((47, 48, "AV1", "level-idx=5;profile=1;tier=0".to_owned()));
    }
    let mut all = Vec::new();
    for (pt, rtx, name, fmtp) in media {
        all.push((pt, name, fmtp));
        all.push((rtx, "rtx", format!("apt={pt}")));
    }
    all.push((118, "red", String::new()));
    all.push((119, "rtx", "apt=118".to_owned()));
    all.push((120, "ulpfec", String::new()));
    if style == Style::Chromium {
        all.push((49, "flexfec-03", "repair-window=10000000".to_owned()));
    }
    all
}

fn video_payload(sdp: &mut String, pt: u8, name: &str, fmtp: &str) {
    writeln!(sdp, "a=rtpmap:{pt} {name}/90000").expect("a string");
    if !matches!(name, "rtx" | "red" | "ulpfec" | "flexfec-03") {
        for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
            writeln!(sdp, "a=rtcp-fb:{pt} {feedback}").expect("a string");
        }
    }
    if !fmtp.is_empty() {
        writeln!(sdp, "a=fmtp:{pt} {fmtp}").expect("a string");
    }
}

/// A client's answer to an offer of ours that takes all of it.
pub(super) fn answer_to(offer: &str) -> String {
    let mut answer = String::new();
    for line in offer.lines() {
        let line = match line {
            "a=sendonly" => "a=recvonly".to_owned(),
            "a=setup:actpass" => "a=setup:active".to_owned(),
            "a=ice-lite" | "a=end-of-candidates" => continue,
            _ if line.starts_with("a=ice-ufrag:") => "a=ice-ufrag:client".to_owned(),
            _ if line.starts_with("a=ice-pwd:") => "a=ice-pwd:clientclientclientclient".to_owned(),
            _ if ["a=candidate:", "a=msid:", "a=ssrc"].iter().any(|p| line.starts_with(p)) => continue,
            _ => line.to_owned(),
        };
        answer.push_str(&line);
        answer.push_str("\r\n");
    }
    answer
}

/// The sections of a description as text, without what stands before the first.
pub(super) fn sections(sdp: &str) -> Vec<String> {
    sdp.split("\r\nm=").skip(1).map(|s| format!("m={}", s.replace("\r\n", "\n"))).collect()
}
