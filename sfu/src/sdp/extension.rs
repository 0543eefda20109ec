//! RTP header extensions in SDP (RFC 8285 §5): which we agree to, and the numbers of our own offers.

use crate::command::MediaKind;
use crate::wire::extension::ExtensionKind;

/// RFC 9143 §15
pub const MID: &str = ExtensionKind::Mid.uri();
/// RFC 8852 §4.1
pub const RID: &str = ExtensionKind::Rid.uri();
/// RFC 8852 §4.2
pub const REPAIRED_RID: &str = ExtensionKind::RepairedRid.uri();
/// RFC 6464
pub const AUDIO_LEVEL: &str = ExtensionKind::AudioLevel.uri();
/// draft-alvestrand-rmcat-remb-03 §2, 24 bits of 6.18 fixed-point seconds.
pub const ABS_SEND_TIME: &str = ExtensionKind::AbsSendTime.uri();
/// draft-holmer-rmcat-transport-wide-cc-extensions-01 §2
pub const TRANSPORT_CC: &str = ExtensionKind::TransportCc.uri();
/// RTP payload format for AV1, AOM, appendix A.
pub const DEPENDENCY_DESCRIPTOR: &str = ExtensionKind::DependencyDescriptor.uri();
/// When the first byte of a frame was captured, in the sender's clock.
pub const ABS_CAPTURE_TIME: &str = ExtensionKind::AbsCaptureTime.uri();
/// 3GPP TS 26.114 §7.4.5
pub const VIDEO_ORIENTATION: &str = ExtensionKind::VideoOrientation.uri();
/// Bounds for the receiver's jitter buffer.
pub const PLAYOUT_DELAY: &str = ExtensionKind::PlayoutDelay.uri();

/// What we agree to when it is offered. `rid` and `repaired-rid` belong into every video section, also where
/// the client only receives: libwebrtc demands of later simulcast sections what the first answer had.
const ACCEPTED_AUDIO: [&str; 5] = [MID, AUDIO_LEVEL, ABS_SEND_TIME, TRANSPORT_CC, ABS_CAPTURE_TIME];
const ACCEPTED_VIDEO: [&str; 9] = [
    MID,
    RID,
    REPAIRED_RID,
    ABS_SEND_TIME,
    TRANSPORT_CC,
    DEPENDENCY_DESCRIPTOR,
    ABS_CAPTURE_TIME,
    VIDEO_ORIENTATION,
    PLAYOUT_DELAY,
];

/// In our own offers: fixed for the life of a connection, below 15, the same for audio and video.
const OWN_AUDIO: [(u8, &str); 5] =
    [(1, AUDIO_LEVEL), (2, ABS_SEND_TIME), (3, TRANSPORT_CC), (4, MID), (5, ABS_CAPTURE_TIME)];
const OWN_VIDEO: [(u8, &str); 7] = [
    (2, ABS_SEND_TIME),
    (3, TRANSPORT_CC),
    (4, MID),
    (5, ABS_CAPTURE_TIME),
    (6, PLAYOUT_DELAY),
    (12, DEPENDENCY_DESCRIPTOR),
    (13, VIDEO_ORIENTATION),
];

/// The one among the accepted extensions that `uri` names.
pub(super) fn accepted(kind: MediaKind, uri: &str) -> Option<&'static str> {
    let list: &[&'static str] = match kind {
        MediaKind::Audio => &ACCEPTED_AUDIO,
        MediaKind::Video => &ACCEPTED_VIDEO,
    };
    list.iter().copied().find(|known| *known == uri)
}

/// The extensions of our own offers.
pub(super) const fn own(kind: MediaKind) -> &'static [(u8, &'static str)] {
    match kind {
        MediaKind::Audio => &OWN_AUDIO,
        MediaKind::Video => &OWN_VIDEO,
    }
}

/// Whether packets that we send may carry it: we never send an encoding by name.
pub(super) fn is_sent(uri: &str) -> bool {
    uri != RID && uri != REPAIRED_RID
}
