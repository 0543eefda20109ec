//! Joining over `/rtc/v1`: the request that rides in the URL, with the first offer and the tracks in it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use livekit_protocol::client_info::Sdk;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionSettings, JoinRequest, SessionDescription, TrackSource, TrackType,
    TrickleRequest, VideoLayer, WrappedJoinRequest,
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::script::camera::Layer;

/// The level of the protocol that the SDKs of November 2026 speak.
const PROTOCOL: i32 = 17;
/// Client-side names of the tracks, and their ids in SDP.
pub(crate) const MICROPHONE: &str = "microphone";
pub(crate) const CAMERA: &str = "camera";

/// An offer as the protocol has it.
pub(crate) fn described(sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: "offer".to_owned(), sdp, id, ..SessionDescription::default() }
}

/// An answer to offer number `id`.
pub(crate) fn answered(sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: "answer".to_owned(), sdp, id, ..SessionDescription::default() }
}

/// A candidate as the protocol has it: `RTCIceCandidateInit` in JSON. All is bundled, so that the first section stands
/// for all.
pub(crate) fn trickle(candidate: &str) -> TrickleRequest {
    let candidate = json!({ "candidate": candidate, "sdpMLineIndex": 0 });
    TrickleRequest { candidate_init: candidate.to_string(), ..TrickleRequest::default() }
}

/// The candidate in it; none at the end of candidates.
pub(crate) fn trickled(trickle: &TrickleRequest) -> Option<String> {
    let init: Value = serde_json::from_str(&trickle.candidate_init).ok()?;
    Some(init["candidate"].as_str()?.to_owned())
}

/// Path and query of a join with offer number 1.
pub(crate) fn join_path(offer: String, tracks: Vec<AddTrackRequest>, watches: bool) -> String {
    let request = JoinRequest {
        client_info: Some(ClientInfo {
            sdk: Sdk::Rust as i32,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: watches,
            ..ConnectionSettings::default()
        }),
        add_track_requests: tracks,
        publisher_offer: Some(described(offer, 1)),
        ..JoinRequest::default()
    };
    let wrapped =
        WrappedJoinRequest { join_request: request.encode_to_vec(), ..WrappedJoinRequest::default() };
    format!("/rtc/v1?join_request={}", BASE64_URL_SAFE.encode(wrapped.encode_to_vec()))
}

pub(crate) fn microphone() -> AddTrackRequest {
    AddTrackRequest {
        cid: MICROPHONE.to_owned(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..AddTrackRequest::default()
    }
}

/// `layers` has the smallest picture first; one that is alone is of high quality.
pub(crate) fn camera(layers: &[Layer]) -> AddTrackRequest {
    let lowest = 3 - layers.len().min(3) as i32;
    let described = (lowest..).zip(layers).map(|(quality, layer)| VideoLayer {
        quality,
        width: layer.size.0.into(),
        height: layer.size.1.into(),
        bitrate: layer.rate as u32,
        ..VideoLayer::default()
    });
    let size = layers.last().map_or((0, 0), |layer| layer.size);
    AddTrackRequest {
        cid: CAMERA.to_owned(),
        r#type: TrackType::Video as i32,
        source: TrackSource::Camera as i32,
        width: size.0.into(),
        height: size.1.into(),
        layers: described.collect(),
        ..AddTrackRequest::default()
    }
}

/// Addresses of the UDP candidates in an SDP, in its order (RFC 8839 §5.1).
pub(crate) fn udp_candidates(sdp: &str) -> Vec<std::net::SocketAddr> {
    let candidate = |line: &str| {
        let mut words = line.strip_prefix("a=candidate:")?.split_ascii_whitespace().skip(2);
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        let (ip, port) = (words.nth(1)?.parse().ok()?, words.next()?.parse().ok()?);
        udp.then_some(std::net::SocketAddr::new(ip, port))
    };
    sdp.lines().filter_map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_found_among_other_lines() {
        let sdp = "v=0\r\na=candidate:1 1 UDP 2130706431 192.0.2.1 7882 typ host\r\n\
                   a=candidate:2 1 tcp 1 192.0.2.1 7881 typ host tcptype passive\r\n\
                   a=candidate:3 1 udp 2130706430 2001:db8::1 7882 typ host generation 0\r\na=candidate:4 1\r\n";
        let expected = ["192.0.2.1:7882", "[2001:db8::1]:7882"].map(|text| text.parse().unwrap());
        assert_eq!(udp_candidates(sdp), expected);
    }

    #[test]
    fn candidates_are_told_one_by_one() {
        let candidate = "candidate:1 1 udp 2130706431 192.0.2.1 7882 typ host";
        assert_eq!(trickled(&trickle(candidate)).as_deref(), Some(candidate));
        assert_eq!(trickled(&TrickleRequest { r#final: true, ..TrickleRequest::default() }), None);
    }

    #[test]
    fn the_join_request_can_be_read_back() {
        let path = join_path("v=0".to_owned(), vec![microphone()], true);
        let encoded = path.strip_prefix("/rtc/v1?join_request=").unwrap();
        let wrapped = BASE64_URL_SAFE.decode(encoded).unwrap();
        let wrapped = WrappedJoinRequest::decode(&wrapped[..]).unwrap();
        let request = JoinRequest::decode(&wrapped.join_request[..]).unwrap();
        assert_eq!(request.publisher_offer.unwrap().sdp, "v=0");
        assert_eq!(request.add_track_requests[0].cid, MICROPHONE);
        assert!(request.connection_settings.unwrap().auto_subscribe);
    }

    #[test]
    fn a_single_encoding_is_of_high_quality_and_three_are_in_order() {
        let layers = crate::settings::Video::Simulcast.layers();
        let qualities =
            |request: AddTrackRequest| request.layers.iter().map(|layer| layer.quality).collect::<Vec<_>>();
        assert_eq!(qualities(camera(&layers)), [0, 1, 2]);
        assert_eq!(qualities(camera(&crate::settings::Video::Single(1).layers())), [2]);
        assert_eq!(camera(&layers).width, 1280);
    }
}
