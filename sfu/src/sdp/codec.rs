//! Codecs in SDP: which we forward, which of a peer's payload types can carry a track, and the numbers
//! that our own offers use.

use std::fmt;

use crate::command::MediaKind;
use crate::wire::description::Codec;

/// One kind of RTCP feedback (RFC 4585 §4.2 and its registry).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Feedback {
    /// `nack`: which packets are missing.
    Nack = 1,
    /// `nack pli`: picture lost.
    Pli = 2,
    /// `ccm fir`: full intra request (RFC 5104 §7.1).
    Fir = 4,
    /// `goog-remb`: the receiver's estimate of the bandwidth.
    Remb = 8,
    /// `transport-cc`: arrival times of all packets of the transport.
    TransportCc = 16,
    /// `ack ccfb`: the same by stream (RFC 8888 §6). Of the whole section, never of one payload type.
    Ccfb = 32,
}

impl Feedback {
    pub(super) const ALL: [Feedback; 6] =
        [Feedback::Remb, Feedback::TransportCc, Feedback::Fir, Feedback::Nack, Feedback::Pli, Feedback::Ccfb];
    /// What stands behind a payload type.
    pub(super) const OF_PAYLOADS: [Feedback; 5] =
        [Feedback::Remb, Feedback::TransportCc, Feedback::Fir, Feedback::Nack, Feedback::Pli];

    /// As in `a=rtcp-fb`, after the payload type.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Feedback::Nack => "nack",
            Feedback::Pli => "nack pli",
            Feedback::Fir => "ccm fir",
            Feedback::Remb => "goog-remb",
            Feedback::TransportCc => "transport-cc",
            Feedback::Ccfb => "ack ccfb",
        }
    }
}

/// The feedback agreed on for a payload type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedbackSet(u8);

impl FeedbackSet {
    /// Whether `feedback` may be sent.
    pub const fn has(self, feedback: Feedback) -> bool {
        self.0 & feedback as u8 != 0
    }

    /// This set with `feedback` in it.
    #[must_use]
    pub const fn with(self, feedback: Feedback) -> FeedbackSet {
        FeedbackSet(self.0 | feedback as u8)
    }

    /// This set with `feedback` not in it.
    #[must_use]
    pub(super) const fn without(self, feedback: Feedback) -> FeedbackSet {
        FeedbackSet(self.0 & !(feedback as u8))
    }

    /// What both sets have.
    #[must_use]
    pub(super) const fn common(self, other: FeedbackSet) -> FeedbackSet {
        FeedbackSet(self.0 & other.0)
    }

    /// What either set has.
    #[must_use]
    pub(super) const fn union(self, other: FeedbackSet) -> FeedbackSet {
        FeedbackSet(self.0 | other.0)
    }
}

/// A media payload type that both sides agreed on in one section. Retransmission is not one of its own but
/// the `rtx_pt` of what it repairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// 0 to 127.
    pub pt: u8,
    /// What it carries.
    pub codec: Codec,
    /// As in `a=rtpmap`, such as `VP8`.
    pub name: String,
    /// Ticks per second of its RTP timestamps.
    pub clock_rate: u32,
    /// Audio channels; 1 where `a=rtpmap` says nothing.
    pub channels: u8,
    /// `a=fmtp` of the client's description, empty without one.
    pub fmtp: String,
    /// The payload type of its retransmissions (RFC 4588 §8).
    pub rtx_pt: Option<u8>,
    /// Feedback for it.
    pub feedback: FeedbackSet,
}

impl Payload {
    /// The codec of a track whose packets come with this payload type; `red` when subscribers may be sent RED around it.
    pub fn track_codec(&self, kind: MediaKind, red: bool) -> TrackCodec {
        TrackCodec {
            codec: self.codec,
            mime: format!("{}/{}", kind_word(kind), self.name),
            fmtp: self.fmtp.clone(),
            clock_rate: self.clock_rate,
            channels: self.channels,
            red: red && self.codec == Codec::Opus,
        }
    }
}

/// What a publisher sends in a track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackCodec {
    /// The codec. [`Codec::Red`] is never a track's codec: it travels beside Opus, see `red`.
    pub codec: Codec,
    /// Kind and name, such as `video/H264`.
    pub mime: String,
    /// `a=fmtp` of the publisher's description; tells profiles apart.
    pub fmtp: String,
    /// Ticks per second of its RTP timestamps.
    pub clock_rate: u32,
    /// Audio channels.
    pub channels: u8,
    /// Subscribers may be sent RED (RFC 2198) around this codec, whether the publisher sends it or not.
    pub red: bool,
}

impl TrackCodec {
    /// For tests of what comes after negotiation.
    #[cfg(test)]
    pub(crate) fn vp8() -> TrackCodec {
        TrackCodec {
            codec: Codec::Vp8,
            mime: "video/VP8".into(),
            fmtp: String::new(),
            clock_rate: 90_000,
            channels: 0,
            red: false,
        }
    }

    /// Opus announced as stereo, by the sender or for the receiver (RFC 7587 §6.1).
    pub(super) fn is_stereo(&self) -> bool {
        let on = |key| parameter(&self.fmtp, key) == Some("1");
        self.codec == Codec::Opus && (on("stereo") || on("sprop-stereo"))
    }
}

/// `audio` or `video`.
pub(super) const fn kind_word(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

/// The value of `key` in an `a=fmtp` of the usual `key=value;key=value` form.
pub(super) fn parameter<'a>(fmtp: &'a str, key: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim())
    })
}

/// A codec with what decides whether two ends of it fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Opus,
    Pcmu,
    Pcma,
    /// With the payload type that it carries.
    Red {
        primary: u8,
    },
    Vp8,
    Vp9 {
        profile: u8,
    },
    H264 {
        profile: H264Profile,
        mode: u8,
    },
    Av1 {
        profile: u8,
    },
}

/// The H.264 profiles that browsers and phones use (RFC 6184 §8.1, table 5), each able to decode those
/// before it but for the little-used tools of full baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum H264Profile {
    /// Constrained baseline, and baseline: encoders that say baseline send constrained baseline.
    Baseline,
    Main,
    /// Constrained high, and high.
    High,
}

impl Format {
    /// `None`: not a codec that we forward, or not in a form that we do.
    pub(super) fn parse(kind: MediaKind, name: &str, clock_rate: u32, fmtp: &str) -> Option<Format> {
        let number = |key, default| parameter(fmtp, key).map_or(Some(default), |v| v.parse::<u8>().ok());
        let is = |codec: &str| name.eq_ignore_ascii_case(codec);
        match kind {
            MediaKind::Audio if clock_rate == 8000 && is("PCMU") => Some(Format::Pcmu),
            MediaKind::Audio if clock_rate == 8000 && is("PCMA") => Some(Format::Pcma),
            MediaKind::Audio if clock_rate != 48_000 => None,
            MediaKind::Audio if is("opus") => Some(Format::Opus),
            MediaKind::Audio if is("red") => {
                let primary = fmtp.split('/').next()?.trim().parse().ok()?;
                Some(Format::Red { primary })
            }
            MediaKind::Video if clock_rate != 90_000 => None,
            MediaKind::Video if is("VP8") => Some(Format::Vp8),
            MediaKind::Video if is("VP9") => Some(Format::Vp9 { profile: number("profile-id", 0)? }),
            MediaKind::Video if is("AV1") => Some(Format::Av1 { profile: number("profile", 0)? }),
            MediaKind::Video if is("H264") => {
                let profile = h264_profile(parameter(fmtp, "profile-level-id").unwrap_or("42000a"))?;
                let mode = number("packetization-mode", 0).filter(|mode| *mode <= 1)?;
                Some(Format::H264 { profile, mode })
            }
            MediaKind::Audio | MediaKind::Video => None,
        }
    }

    pub(super) fn of_track(kind: MediaKind, track: &TrackCodec) -> Option<Format> {
        let name = match track.codec {
            Codec::Opus => "opus",
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::Red => return None,
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::Av1 => "AV1",
        };
        Format::parse(kind, name, track.clock_rate, &track.fmtp)
    }

    /// G.711, which has nothing of Opus but its age.
    pub(super) const fn is_g711(self) -> bool {
        matches!(self, Format::Pcmu | Format::Pcma)
    }

    pub(super) const fn codec(self) -> Codec {
        match self {
            Format::Opus => Codec::Opus,
            Format::Pcmu => Codec::Pcmu,
            Format::Pcma => Codec::Pcma,
            Format::Red { .. } => Codec::Red,
            Format::Vp8 => Codec::Vp8,
            Format::Vp9 { .. } => Codec::Vp9,
            Format::H264 { .. } => Codec::H264,
            Format::Av1 { .. } => Codec::Av1,
        }
    }

    /// Whether we take it from publishers. Not asked of RED, which stands and falls with its primary.
    ///
    /// H.264 high is left to the caller: whoever may send something lower should, since not every phone
    /// decodes high. So is G.711, beside Opus.
    pub(super) const fn is_forwarded(self) -> bool {
        match self {
            Format::Opus | Format::Pcmu | Format::Pcma | Format::Vp8 | Format::H264 { .. } => true,
            Format::Red { .. } => false,
            Format::Vp9 { profile } => profile == 0 || profile == 2,
            Format::Av1 { profile } => profile == 0,
        }
    }

    /// How well a receiver that understands `offered` can take a track of this format: 0 is best, `None`
    /// not at all. Levels are not compared: all our H.264 offers allow level asymmetry.
    pub(super) fn fit(self, offered: Format) -> Option<u8> {
        match (self, offered) {
            (
                Format::H264 { profile: sent, mode: sent_mode },
                Format::H264 { profile: taken, mode: taken_mode },
            ) => {
                // Mode 1 includes what mode 0 may send (RFC 6184 §6.3).
                let fits = sent <= taken && sent_mode <= taken_mode;
                fits.then(|| 2 * (taken as u8 - sent as u8) + (taken_mode - sent_mode))
            }
            (sent, taken) => (sent == taken).then_some(0),
        }
    }

    /// The parameters that our answer repeats from the offer. A payload type's `a=fmtp` must be the same in
    /// all sections of a bundle, so nothing here may depend on the section.
    pub(super) const fn answered_parameters(self) -> &'static [&'static str] {
        match self {
            Format::Opus | Format::Pcmu | Format::Pcma | Format::Red { .. } | Format::Vp8 => &[],
            Format::Vp9 { .. } => &["profile-id"],
            Format::H264 { .. } => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
            Format::Av1 { .. } => &["level-idx", "profile", "tier"],
        }
    }
}

/// RFC 6184 §8.1, table 5; `None` for profiles that are not in it or that nobody negotiates.
fn h264_profile(profile_level_id: &str) -> Option<H264Profile> {
    if profile_level_id.len() != 6 {
        return None;
    }
    let number = u32::from_str_radix(profile_level_id, 16).ok()?;
    let (idc, constraints) = ((number >> 16) as u8, (number >> 8) as u8);
    match idc {
        0x42 => Some(H264Profile::Baseline),
        0x4d if constraints & 0x80 != 0 => Some(H264Profile::Baseline),
        0x58 if constraints & 0xc0 == 0xc0 => Some(H264Profile::Baseline),
        0x4d => Some(H264Profile::Main),
        0x64 => Some(H264Profile::High),
        _ => None,
    }
}

/// How the client should encode Opus (RFC 7587 §6.1). One value for the whole connection: a browser refuses
/// a description whose sections give one payload type different parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpusWishes {
    pub(super) stereo: bool,
    pub(super) dtx: bool,
}

/// As in `a=fmtp`.
impl fmt::Display for OpusWishes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("minptime=10;useinbandfec=1")?;
        if self.dtx {
            f.write_str(";usedtx=1")?;
        }
        if self.stereo {
            f.write_str(";stereo=1;sprop-stereo=1")?;
        }
        Ok(())
    }
}

/// The payload types and parameters of a codec in our own offers, those that LiveKit servers use where they
/// have one. RTX is the number after.
pub(super) struct OwnPayload {
    pub(super) pt: u8,
    pub(super) rtx_pt: Option<u8>,
    pub(super) red_pt: Option<u8>,
    /// As in `a=rtpmap`, after the payload type.
    pub(super) encoding: &'static str,
    pub(super) fmtp: String,
}

impl OwnPayload {
    /// One number stands for one set of parameters, so that sections of a bundle cannot disagree.
    /// `None` for what no publisher was accepted with.
    pub(super) fn of(kind: MediaKind, track: &TrackCodec) -> Option<OwnPayload> {
        let video = |pt, encoding, fmtp: &str| OwnPayload {
            pt,
            rtx_pt: Some(pt + 1),
            red_pt: None,
            encoding,
            fmtp: fmtp.to_owned(),
        };
        let h264 = |pt, mode: u8, profile_level_id: &str| {
            let fmtp = format!(
                "level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile_level_id}"
            );
            video(pt, "H264/90000", &fmtp)
        };
        let g711 =
            |pt, encoding| OwnPayload { pt, rtx_pt: None, red_pt: None, encoding, fmtp: String::new() };
        let own = match Format::of_track(kind, track)? {
            // Their static numbers (RFC 3551 §6, table 4).
            Format::Pcmu => g711(0, "PCMU/8000"),
            Format::Pcma => g711(8, "PCMA/8000"),
            Format::Opus => {
                let stereo = track.is_stereo();
                let (pt, red_pt) = if stereo { (112, 113) } else { (111, 63) };
                OwnPayload {
                    pt,
                    rtx_pt: None,
                    red_pt: track.red.then_some(red_pt),
                    encoding: "opus/48000/2",
                    fmtp: OpusWishes { stereo, dtx: false }.to_string(),
                }
            }
            Format::Vp8 => video(96, "VP8/90000", ""),
            Format::Vp9 { profile: 0 } => video(98, "VP9/90000", "profile-id=0"),
            Format::Vp9 { profile: 2 } => video(100, "VP9/90000", "profile-id=2"),
            Format::Av1 { profile: 0 } => video(35, "AV1/90000", "level-idx=5;profile=0;tier=0"),
            Format::H264 { profile: H264Profile::Baseline, mode } => {
                let constrained = parameter(&track.fmtp, "profile-level-id")
                    .is_none_or(|id| id.get(..4).is_none_or(|id| id != "4200"));
                match (constrained, mode) {
                    (true, 0) => h264(125, 0, "42e01f"),
                    (true, _) => h264(108, 1, "42e01f"),
                    (false, 0) => h264(104, 0, "42001f"),
                    (false, _) => h264(102, 1, "42001f"),
                }
            }
            Format::H264 { profile: H264Profile::Main, mode: 0 } => h264(118, 0, "4d001f"),
            Format::H264 { profile: H264Profile::Main, .. } => h264(39, 1, "4d001f"),
            Format::H264 { profile: H264Profile::High, mode: 0 } => h264(120, 0, "640032"),
            Format::H264 { profile: H264Profile::High, .. } => h264(123, 1, "640032"),
            Format::Red { .. } | Format::Vp9 { .. } | Format::Av1 { .. } => return None,
        };
        Some(own)
    }
}
