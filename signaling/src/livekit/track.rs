//! A track, from its announcement (`AddTrackRequest`) to its section in the client's offer.

use std::collections::BTreeSet;

use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, BackupCodecPolicy, PacketTrailerFeature, SimulcastCodecInfo,
    TimedVersion, TrackInfo, TrackSource, TrackType, VideoLayer, VideoQuality, encryption, video_layer,
};
use sfu::command::{AnnouncedLayer, MediaKind, PublishHint, RemoteSection, TrackMedia};
use sfu::ids::{Mid, Rid, TrackId};
use sfu::units::Bitrate;
use sfu::wire::description::Codec;

use super::codecs::{Alternative, known_mime};
use super::dynacast::Dynacast;
use super::participant::Seat;

/// Bytes of a `cid`, a stream name or a codec's name.
const MAX_TEXT: usize = 256;
/// Video layers of one codec, and codecs of one track.
const MAX_LAYERS: usize = 8;

/// How far a track is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Announced again while the same `cid` is still published; waits for that one's end.
    Queued,
    /// Announced; its section has not come.
    Pending,
    /// Others can subscribe to it.
    Published {
        /// Its section.
        mid: Mid,
        /// What the SDP calls it, often not the `cid`.
        sdp_id: Option<String>,
    },
}

/// One track of a participant's.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) id: TrackId,
    pub(super) owner: Seat,
    pub(super) kind: MediaKind,
    pub(super) stage: Stage,
    /// What clients are told of it.
    pub(super) info: TrackInfo,
    /// What the client may call it in its SDP; the first is that of the announcement.
    pub(super) cids: Vec<String>,
    /// The publisher knows that somebody gets it.
    pub(super) told_subscribed: bool,
    /// What is asked of its encodings; `None` for sound, and before it is published.
    pub(super) dynacast: Option<Dynacast>,
    /// Its further codecs, in the order of `info.codecs`, of which the first is its own.
    pub(super) alternatives: Vec<Alternative>,
    /// Everybody gets a further codec who can decode it.
    pub(super) regressed: bool,
    /// The codec that its client announced, by MIME type.
    announced_mime: Option<String>,
}

/// Why a track cannot be announced like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnnouncementError {
    /// A data track, which is announced otherwise, or a codec that cannot be a track's further one.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// Something is too long, or missing.
    #[error("{0} is empty or too long")]
    Size(&'static str),
}

/// Checks an announcement for what is wrong with it whoever sends it.
pub(super) fn check(request: &AddTrackRequest) -> Result<MediaKind, AnnouncementError> {
    let kind = match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => MediaKind::Audio,
        Ok(TrackType::Video) => MediaKind::Video,
        Ok(TrackType::Data) | Err(_) => return Err(AnnouncementError::Unsupported("this type of track")),
    };
    check_sizes(request)?;
    Ok(kind)
}

/// Whether all that it holds is within bounds.
pub(super) fn check_sizes(request: &AddTrackRequest) -> Result<(), AnnouncementError> {
    let fits = |text: &str| text.len() <= MAX_TEXT;
    let codecs = &request.simulcast_codecs;
    for (what, good) in [
        ("cid", !request.cid.is_empty() && fits(&request.cid)),
        ("name", fits(&request.name)),
        ("stream", fits(&request.stream)),
        ("layers", request.layers.len() <= MAX_LAYERS && request.layers.iter().all(|layer| fits(&layer.rid))),
        ("audio_features", request.audio_features.len() <= 16),
        ("packet_trailer_features", request.packet_trailer_features.len() <= 16),
        ("simulcast_codecs", codecs.len() <= MAX_LAYERS),
        (
            "simulcast_codecs",
            codecs.iter().all(|codec| {
                fits(&codec.codec)
                    && fits(&codec.cid)
                    && codec.layers.len() <= MAX_LAYERS
                    && codec.layers.iter().all(|layer| fits(&layer.rid))
            }),
        ),
    ] {
        if !good {
            return Err(AnnouncementError::Size(what));
        }
    }
    Ok(())
}

impl Track {
    /// A track as announced. The request has passed [`check`], which gave `kind`.
    #[expect(deprecated, reason = "older clients read the deprecated fields")]
    pub(super) fn new(
        id: TrackId,
        owner: Seat,
        sid: String,
        kind: MediaKind,
        request: AddTrackRequest,
        unix_ms: i64,
    ) -> Track {
        let mut cids = vec![request.cid];
        // A codec without a cid is announced for later, and is not there yet.
        let first = request.simulcast_codecs.iter().position(|codec| !codec.cid.is_empty());
        let mut codecs: Vec<SimulcastCodecInfo> = Vec::new();
        for codec in first.map_or(&[][..], |first| &request.simulcast_codecs[first..]) {
            let is_first = codecs.is_empty();
            let mime = if is_first { Some(mime(kind, &codec.codec)) } else { known_mime(kind, &codec.codec) };
            let Some(mime_type) = mime.filter(|mime| codecs.iter().all(|other| other.mime_type != *mime))
            else {
                continue;
            };
            if is_first && !cids.contains(&codec.cid) {
                cids.push(codec.cid.clone());
            }
            let layers = if codec.layers.is_empty() { &request.layers } else { &codec.layers };
            codecs.push(SimulcastCodecInfo {
                mime_type,
                cid: codec.cid.clone(),
                layers: layers.clone(),
                video_layer_mode: codec.video_layer_mode,
                ..SimulcastCodecInfo::default()
            });
        }
        let announced_mime = codecs.first().map(|codec| codec.mime_type.clone());
        let mut layers = request.layers;
        layers.sort_by_key(rank);
        let info = TrackInfo {
            sid,
            r#type: request.r#type,
            name: request.name,
            muted: request.muted,
            width: request.width,
            height: request.height,
            simulcast: layers.len() > 1,
            disable_dtx: request.disable_dtx,
            source: request.source,
            mime_type: codecs.first().map_or_else(|| mime(kind, ""), |codec| codec.mime_type.clone()),
            layers,
            mid: String::new(),
            codecs,
            stereo: request.stereo,
            disable_red: request.disable_red,
            encryption: request.encryption,
            stream: request.stream,
            version: Some(version(unix_ms)),
            audio_features: request.audio_features,
            backup_codec_policy: request.backup_codec_policy,
            packet_trailer_features: request.packet_trailer_features,
        };
        let info = understood(info);
        Track {
            id,
            owner,
            kind,
            stage: Stage::Pending,
            info,
            cids,
            told_subscribed: false,
            dynacast: None,
            alternatives: Vec::new(),
            regressed: false,
            announced_mime,
        }
    }

    /// Where it comes from.
    pub(super) fn source(&self) -> TrackSource {
        TrackSource::try_from(self.info.source).unwrap_or(TrackSource::Unknown)
    }

    /// The section of its own codec, once published.
    pub(super) fn mid(&self) -> Option<Mid> {
        match self.stage {
            Stage::Published { mid, .. } => Some(mid),
            Stage::Pending | Stage::Queued => None,
        }
    }

    /// Whether clients encrypt it end to end.
    pub(super) fn is_encrypted(&self) -> bool {
        self.info.encryption != 0
    }

    /// Whether others can subscribe.
    pub(super) fn is_published(&self) -> bool {
        self.mid().is_some()
    }

    /// The sections of all its codecs that are published.
    pub(super) fn mids(&self) -> impl Iterator<Item = Mid> {
        self.mid().into_iter().chain(self.alternatives.iter().filter_map(Alternative::mid))
    }

    /// For shaping the answer, one for each name that the client may use.
    pub(super) fn hints(&self) -> impl Iterator<Item = PublishHint> {
        let sdp_id = match &self.stage {
            Stage::Published { sdp_id, .. } => sdp_id.as_ref().filter(|id| !self.cids.contains(id)),
            Stage::Pending | Stage::Queued => None,
        };
        let own = self.cids.iter().chain(sdp_id).map(|cid| self.hint(cid, &self.info.mime_type));
        let further = self
            .alternatives
            .iter()
            .flat_map(|alternative| alternative.sdp_names().map(|name| self.hint(name, alternative.mime())));
        own.chain(further)
    }

    #[expect(deprecated, reason = "clients still fill the deprecated fields")]
    fn hint(&self, cid: &str, mime: &str) -> PublishHint {
        PublishHint {
            cid: cid.to_owned(),
            stereo: self.info.stereo,
            dtx: !self.info.disable_dtx,
            red: !self.info.disable_red && !self.is_encrypted(),
            codec: codec_of(mime),
        }
    }

    /// Ties it to its section, and gives the encodings that were announced, smallest first.
    #[expect(deprecated, reason = "older clients read the deprecated fields")]
    pub(super) fn publish(&mut self, section: &RemoteSection, unix_ms: i64) -> Vec<AnnouncedLayer> {
        self.stage = Stage::Published { mid: section.mid, sdp_id: section.track_id.clone() };
        section.mid.as_str().clone_into(&mut self.info.mid);
        if let Some(codec) = self.info.codecs.first_mut() {
            section.mid.as_str().clone_into(&mut codec.mid);
            section.track_id.clone().unwrap_or_default().clone_into(&mut codec.sdp_cid);
        }
        self.info.version = Some(version(unix_ms));
        let layers = announced_layers(&self.info.layers, &section.rids);
        if self.kind == MediaKind::Video {
            self.dynacast = Some(Dynacast::new(streams(&layers, section, &self.info.mime_type)));
        }
        layers
    }

    /// Its own codec as one of several.
    pub(super) fn own_codec(&self) -> SimulcastCodecInfo {
        #[expect(deprecated, reason = "older clients read the deprecated fields")]
        let (layers, mid) = (self.info.layers.clone(), self.info.mid.clone());
        let cid = self.cids.first().cloned().unwrap_or_default();
        SimulcastCodecInfo {
            mime_type: self.info.mime_type.clone(),
            mid,
            cid,
            layers,
            ..SimulcastCodecInfo::default()
        }
    }

    /// The codec by the name that its client has for it, such as `vp8`: a client that announced one does not know
    /// another, whatever the SDP came to.
    pub(super) fn codec_name(&self) -> String {
        let mime = self.announced_mime.as_ref().unwrap_or(&self.info.mime_type);
        name_of(mime)
    }

    /// Takes what the media core found out. Tells what changed for those who look at it.
    #[expect(deprecated, reason = "older clients read the deprecated fields")]
    pub(super) fn learn(&mut self, media: &TrackMedia, unix_ms: i64) -> Learned {
        let before = self.info.clone();
        self.info.mime_type.clone_from(&media.mime);
        media.mid.as_str().clone_into(&mut self.info.mid);
        fill_layers(&mut self.info.layers, media);
        if let Some(codec) = self.info.codecs.first_mut() {
            fill_codec(codec, media);
        }
        if before == self.info {
            return Learned::Nothing;
        }
        self.info.version = Some(version(unix_ms));
        if before.mime_type.eq_ignore_ascii_case(&self.info.mime_type) && before.mid == self.info.mid {
            Learned::Details
        } else {
            Learned::Codec
        }
    }
}

/// A codec's name, such as `vp8`, of that or of its MIME type in any case.
pub(super) fn name_of(codec: &str) -> String {
    codec.rsplit('/').next().unwrap_or_default().to_ascii_lowercase()
}

/// The order of layers, the smallest first.
pub(super) fn rank(layer: &VideoLayer) -> (i32, u32) {
    (layer.quality, layer.width.saturating_mul(layer.height))
}

/// Enters what was seen of a codec.
pub(super) fn fill_codec(codec: &mut SimulcastCodecInfo, media: &TrackMedia) {
    codec.mime_type.clone_from(&media.mime);
    media.mid.as_str().clone_into(&mut codec.mid);
    codec.layers.sort_by_key(rank);
    fill_layers(&mut codec.layers, media);
}

fn fill_layers(layers: &mut [VideoLayer], media: &TrackMedia) {
    for (rank, (layer, (rid, ssrc))) in layers.iter_mut().zip(&media.layers).enumerate() {
        layer.spatial_layer = rank as i32;
        if let Some(rid) = rid {
            rid.as_str().clone_into(&mut layer.rid);
        }
        if let Some(ssrc) = ssrc {
            layer.ssrc = ssrc.0;
        }
    }
}

/// The streams that dynacast can stop one by one: one that has its layers inside is stopped as a whole.
pub(super) fn streams(layers: &[AnnouncedLayer], section: &RemoteSection, mime: &str) -> Vec<AnnouncedLayer> {
    let has_layers_inside = match codec_of(mime) {
        Some(Codec::Vp9 | Codec::Av1) => true,
        Some(Codec::Vp8 | Codec::H264 | Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Red) | None => false,
    };
    let count = if section.rids.is_empty() && has_layers_inside { 1 } else { layers.len() };
    layers.iter().copied().take(count).collect()
}

/// Numbers of later protocols have no names yet, and what has no name cannot be written as JSON, for clients or for the
/// server API.
#[expect(deprecated, reason = "older clients read the deprecated fields")]
fn understood(mut info: TrackInfo) -> TrackInfo {
    info.source = known::<TrackSource>(info.source);
    info.backup_codec_policy = known::<BackupCodecPolicy>(info.backup_codec_policy);
    // Whatever it is, it is encrypted.
    info.encryption = encryption::Type::try_from(info.encryption).unwrap_or(encryption::Type::Custom) as i32;
    info.audio_features = all_known::<AudioTrackFeature>(info.audio_features);
    info.packet_trailer_features = all_known::<PacketTrailerFeature>(info.packet_trailer_features);
    let of_codecs = info.codecs.iter_mut().flat_map(|codec| {
        codec.video_layer_mode = known::<video_layer::Mode>(codec.video_layer_mode);
        &mut codec.layers
    });
    for layer in of_codecs.chain(&mut info.layers) {
        layer.quality = known::<VideoQuality>(layer.quality);
    }
    info
}

/// The same for layers alone.
pub(super) fn known_layers(mut layers: Vec<VideoLayer>) -> Vec<VideoLayer> {
    for layer in &mut layers {
        layer.quality = known::<VideoQuality>(layer.quality);
    }
    layers
}

/// An enum's number, or its zero if the protocol does not have that number.
pub(super) fn known<E: TryFrom<i32> + Default + Into<i32>>(number: i32) -> i32 {
    E::try_from(number).unwrap_or_default().into()
}

/// Those of an enum's numbers that the protocol has.
pub(super) fn all_known<E: TryFrom<i32>>(mut numbers: Vec<i32>) -> Vec<i32> {
    numbers.retain(|number| E::try_from(*number).is_ok());
    numbers
}

/// What [`Track::learn`] changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// Nothing.
    Nothing,
    /// Numbers that no receiver waits for.
    Details,
    /// What receivers decode by.
    Codec,
}

/// A `TimedVersion` of that moment.
pub(super) fn version(unix_ms: i64) -> TimedVersion {
    TimedVersion { unix_micro: unix_ms.saturating_mul(1000), ticks: 0 }
}

/// The codec of a MIME type, where its client must be asked for it: Opus goes first anyway, and RED before it.
fn codec_of(mime: &str) -> Option<Codec> {
    match mime.to_ascii_lowercase().as_str() {
        "video/vp8" => Some(Codec::Vp8),
        "video/vp9" => Some(Codec::Vp9),
        "video/h264" => Some(Codec::H264),
        "video/av1" => Some(Codec::Av1),
        "audio/pcmu" => Some(Codec::Pcmu),
        "audio/pcma" => Some(Codec::Pcma),
        _ => None,
    }
}

/// The MIME type of a track's own codec, as a client announced it. JS throws on a video codec that it does not know, and
/// follows the server's choice on one that it does: so an unknown one becomes VP8.
fn mime(kind: MediaKind, codec: &str) -> String {
    let name = name_of(codec);
    match (kind, name.as_str()) {
        (MediaKind::Video, "h264" | "vp9" | "av1") => format!("video/{name}"),
        (MediaKind::Video, _) => "video/vp8".to_owned(),
        (MediaKind::Audio, "red" | "pcmu" | "pcma") => format!("audio/{name}"),
        (MediaKind::Audio, _) => "audio/opus".to_owned(),
    }
}

/// Pairs announced layers (sorted, smallest first) with the rids of the section.
pub(super) fn announced_layers(layers: &[VideoLayer], rids: &[Rid]) -> Vec<AnnouncedLayer> {
    let rids = smallest_first(rids);
    let count = if rids.is_empty() { layers.len() } else { rids.len() };
    (0..count.min(MAX_LAYERS))
        .map(|rank| {
            let rid = rids.get(rank).copied();
            // A layer that names its rid goes first; without names, rank goes with rank.
            let layer = layers
                .iter()
                .find(|layer| rid.is_some_and(|rid| rid.as_str() == layer.rid))
                .or_else(|| layers.get(rank).filter(|layer| rid.is_none() || layer.rid.is_empty()));
            AnnouncedLayer {
                rid,
                size: layer.map_or((0, 0), |layer| (layer.width, layer.height)),
                bitrate: Bitrate::bps(layer.map_or(0, |layer| u64::from(layer.bitrate))),
            }
        })
        .collect()
}

/// Names of encodings that say which is smallest: LiveKit's, and those that publishers over WHIP have.
const RANKED: [&[&str]; 5] = [
    &["q", "h", "f"],
    &["2", "1", "0"],
    &["l", "m", "h"],
    &["low", "mid", "high"],
    &["low", "medium", "high"],
];

/// Some sets of rids say which is the smallest (SDKs list them in either order); of any other set the
/// order of the SDP counts.
pub(super) fn smallest_first(rids: &[Rid]) -> Vec<Rid> {
    let mut sorted = rids.to_vec();
    for set in RANKED {
        let rank = |rid: &Rid| set.iter().position(|name| *name == rid.as_str());
        if rids.iter().all(|rid| rank(rid).is_some()) {
            sorted.sort_by_key(rank);
            break;
        }
    }
    sorted
}

/// A track that waits for its section, as far as matching goes.
pub(super) struct Waiting<'a> {
    pub(super) track: TrackId,
    pub(super) kind: MediaKind,
    pub(super) cids: &'a [String],
    /// A section of another name can be its, too.
    pub(super) by_kind: bool,
}

/// Which waiting track is which section: by the `cid` that it was announced under; else by another name of it;
/// else the first of the kind, since iOS, React Native and Firefox change ids between signal and SDP.
///
/// `free` are sections that the client sends in and that are no track yet, in SDP order; `waiting` is in order
/// of announcement. Nothing is matched twice.
pub(super) fn match_sections(free: &[&RemoteSection], waiting: &[Waiting<'_>]) -> Vec<(TrackId, Mid)> {
    let mut matched = Vec::new();
    let mut taken = BTreeSet::new();
    let mut found = BTreeSet::new();
    let rounds: [fn(&RemoteSection, &Waiting<'_>) -> bool; 3] = [
        |section, track| section.track_id.as_ref().is_some_and(|id| track.cids.first() == Some(id)),
        |section, track| section.track_id.as_ref().is_some_and(|id| track.cids.contains(id)),
        |_, track| track.by_kind,
    ];
    for is_match in rounds {
        for section in free {
            if taken.contains(&section.mid) {
                continue;
            }
            let track = waiting.iter().find(|track| {
                !found.contains(&track.track) && track.kind == section.kind && is_match(section, track)
            });
            if let Some(track) = track {
                taken.insert(section.mid);
                found.insert(track.track);
                matched.push((track.track, section.mid));
            }
        }
    }
    matched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rids(names: &[&str]) -> Vec<Rid> {
        names.iter().map(|name| Rid::parse(name).unwrap()).collect()
    }

    fn section(mid: &str, kind: MediaKind, track_id: Option<&str>) -> RemoteSection {
        RemoteSection {
            mid: Mid::parse(mid).unwrap(),
            kind,
            sending: true,
            stream_id: None,
            track_id: track_id.map(str::to_owned),
            rids: vec![],
        }
    }

    #[test]
    fn livekit_rids_are_ranked_by_meaning_and_others_by_order() {
        assert_eq!(smallest_first(&rids(&["f", "h", "q"])), rids(&["q", "h", "f"]));
        assert_eq!(smallest_first(&rids(&["0", "2"])), rids(&["2", "0"]));
        assert_eq!(smallest_first(&rids(&["high", "low"])), rids(&["low", "high"]));
        assert_eq!(smallest_first(&rids(&["sun", "moon"])), rids(&["sun", "moon"]));
    }

    #[test]
    fn layers_are_paired_with_rids_by_name_or_rank() {
        let layer =
            |rid: &str, width| VideoLayer { rid: rid.into(), width, height: 1, ..VideoLayer::default() };
        let widths = |layers: &[VideoLayer], names: &[&str]| -> Vec<u32> {
            announced_layers(layers, &rids(names)).iter().map(|layer| layer.size.0).collect()
        };
        let plain = [layer("", 320), layer("", 640), layer("", 1280)];
        assert_eq!(widths(&plain, &["f", "h", "q"]), [320, 640, 1280]);
        assert_eq!(widths(&plain, &["q", "h"]), [320, 640]);
        assert_eq!(widths(&[layer("", 320)], &["q", "h"]), [320, 0]);
        assert_eq!(widths(&[layer("f", 1280), layer("q", 320)], &["q", "f"]), [320, 1280]);
        assert_eq!(widths(&plain, &[]), [320, 640, 1280], "SVC: one stream, no rids");
    }

    #[test]
    fn sections_are_matched_by_name_before_kind() {
        let (mic, cam, share) = (TrackId(1), TrackId(2), TrackId(3));
        let cids = [vec!["m".to_owned()], vec!["c".to_owned(), "c2".to_owned()], vec!["s".to_owned()]];
        let waiting = [
            Waiting { track: mic, kind: MediaKind::Audio, cids: &cids[0], by_kind: true },
            Waiting { track: cam, kind: MediaKind::Video, cids: &cids[1], by_kind: true },
            Waiting { track: share, kind: MediaKind::Video, cids: &cids[2], by_kind: true },
        ];
        let pairs = |sections: &[RemoteSection]| {
            let free: Vec<&RemoteSection> = sections.iter().collect();
            let mut pairs = match_sections(&free, &waiting);
            pairs.sort();
            pairs.into_iter().map(|(track, mid)| (track, mid.as_str().to_owned())).collect::<Vec<_>>()
        };
        let (audio, video) = (MediaKind::Audio, MediaKind::Video);
        assert_eq!(
            pairs(&[
                section("0", video, Some("s")),
                section("1", video, Some("c2")),
                section("2", audio, Some("x"))
            ]),
            [(mic, "2".into()), (cam, "1".into()), (share, "0".into())]
        );
        assert_eq!(
            pairs(&[section("0", video, None), section("1", video, Some("c"))]),
            [(cam, "1".into()), (share, "0".into())],
            "the unnamed one gets what the named one leaves"
        );
        assert_eq!(
            pairs(&[section("0", audio, Some("c"))]),
            [(mic, "0".into())],
            "a name of the wrong kind is no name"
        );
        assert_eq!(pairs(&[]), []);
    }

    #[test]
    fn a_video_codec_that_js_does_not_know_is_never_named() {
        assert_eq!(mime(MediaKind::Video, "H264"), "video/h264");
        assert_eq!(mime(MediaKind::Video, "video/AV1"), "video/av1");
        assert_eq!(mime(MediaKind::Video, "h265"), "video/vp8");
        assert_eq!(mime(MediaKind::Audio, ""), "audio/opus");
    }
}
