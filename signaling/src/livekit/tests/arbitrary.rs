//! Nothing that clients send, and nothing the core says at the wrong time, breaks a room.

use livekit_protocol::{
    DataChannelReceiveState, DataTrackInfo, DataTrackSubscriptionOptions, LeaveRequest, MuteTrackRequest,
    PublishDataTrackRequest, PublishDataTrackResponse, SimulcastCodec, SubscriptionPermission, SyncState,
    TrickleRequest, UnpublishDataTrackRequest, UpdateDataSubscription, UpdateParticipantMetadata,
    UpdateSubscription, UpdateTrackSettings, update_data_subscription,
};
use proptest::prelude::*;
use sfu::command::{LinkQuality, PeerEnd, SpeakerLevel, TrackMedia, VoiceFault, Way};

use super::script::*;
use super::*;
use crate::livekit::codecs::Pick;
use crate::livekit::connect::Resume;
use crate::livekit::dynacast::Reach;
use crate::livekit::frame::{self, Encoding};

/// One step of a made-up call. Numbers pick from what there is.
#[derive(Clone, Debug)]
enum Step {
    Join { name: u8, dual: bool, offer: bool },
    Ask { who: usize, request: u8, value: u8, text: String },
    Frame { who: usize, bytes: Vec<u8> },
    Core { event: u8, who: usize, value: u8, bytes: Vec<u8> },
    Close { who: usize },
    Resume { who: usize, dual: bool },
    Wait { ms: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0u8..4, any::<bool>(), any::<bool>()).prop_map(|(name, dual, offer)| Step::Join { name, dual, offer }),
        6 => (0usize..8, 0u8..18, any::<u8>(), "[a-c]{0,2}")
            .prop_map(|(who, request, value, text)| Step::Ask { who, request, value, text }),
        1 => (0usize..8, any::<Vec<u8>>()).prop_map(|(who, bytes)| Step::Frame { who, bytes }),
        6 => (0u8..16, 0usize..8, any::<u8>(), any::<Vec<u8>>())
            .prop_map(|(event, who, value, bytes)| Step::Core { event, who, value, bytes }),
        1 => (0usize..8).prop_map(|who| Step::Close { who }),
        2 => (0usize..8, any::<bool>()).prop_map(|(who, dual)| Step::Resume { who, dual }),
        1 => (0u32..30_000).prop_map(|ms| Step::Wait { ms }),
    ]
}

fn request(script: &Script, kind: u8, value: u8, text: String) -> Request {
    let sids: Vec<String> = script.room.by_track_sid.keys().cloned().chain([text.clone()]).collect();
    let sid = sids[usize::from(value) % sids.len()].clone();
    let flag = value.is_multiple_of(2);
    let data_sids: Vec<String> =
        script.room.by_data_track_sid.keys().cloned().chain([text.clone()]).collect();
    let data_subscription = UpdateDataSubscription {
        updates: data_sids
            .iter()
            .map(|sid| update_data_subscription::Update {
                track_sid: sid.clone(),
                subscribe: flag,
                options: Some(DataTrackSubscriptionOptions { target_fps: Some(value.into()) }),
            })
            .collect(),
    };
    match kind {
        0 => Request::Offer(offer(u32::from(value))),
        1 => Request::Answer(offer(u32::from(value))),
        2 => Request::Trickle(TrickleRequest {
            candidate_init: text,
            target: i32::from(value) - 1,
            r#final: flag,
        }),
        3 | 4 => {
            let codec = |codec: &str, cid: &str| SimulcastCodec {
                codec: codec.into(),
                cid: cid.into(),
                ..SimulcastCodec::default()
            };
            let further = value.is_multiple_of(3);
            let codecs = if further {
                vec![codec("vp8", &text)]
            } else {
                vec![codec("vp9", &text), codec("vp8", ""), codec("h264", "h264")]
            };
            Request::AddTrack(AddTrackRequest {
                r#type: i32::from(value % 4),
                source: i32::from(value) - 2,
                muted: flag,
                sid: if further { sid } else { String::new() },
                simulcast_codecs: codecs,
                backup_codec_policy: i32::from(value % 5),
                ..camera(&text)
            })
        }
        5 => Request::Mute(MuteTrackRequest { sid, muted: flag }),
        6 | 7 => Request::Subscription(UpdateSubscription {
            track_sids: vec![sid],
            subscribe: flag,
            participant_tracks: vec![],
        }),
        8 => Request::TrackSetting(UpdateTrackSettings {
            track_sids: sids,
            disabled: flag,
            quality: i32::from(value) - 3,
            ..UpdateTrackSettings::default()
        }),
        9 if value > 200 => Request::Leave(LeaveRequest::default()),
        9 | 10 => Request::SubscriptionPermission(SubscriptionPermission {
            all_participants: flag,
            ..Default::default()
        }),
        11 => Request::UpdateMetadata(UpdateParticipantMetadata { name: text, ..Default::default() }),
        12 => Request::SyncState(SyncState {
            subscription: Some(UpdateSubscription {
                track_sids: sids.clone(),
                subscribe: flag,
                participant_tracks: vec![],
            }),
            track_sids_disabled: sids,
            datachannel_receive_states: vec![DataChannelReceiveState {
                publisher_sid: text,
                last_seq: value.into(),
            }],
            publish_data_tracks: data_sids
                .into_iter()
                .map(|sid| {
                    let info = DataTrackInfo { pub_handle: value.into(), sid, ..DataTrackInfo::default() };
                    PublishDataTrackResponse { info: Some(info) }
                })
                .collect(),
            data_subscription: Some(data_subscription),
            ..SyncState::default()
        }),
        13 | 14 => Request::PublishDataTrackRequest(PublishDataTrackRequest {
            pub_handle: u32::from(value % 4),
            name: text,
            ..PublishDataTrackRequest::default()
        }),
        15 => {
            Request::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: u32::from(value % 4) })
        }
        16 => Request::UpdateDataSubscription(data_subscription),
        _ => Request::Ping(i64::from(value)),
    }
}

fn event(script: &Script, kind: u8, who: usize, value: u8, bytes: Vec<u8>) -> Event {
    let mut peers: Vec<PeerId> = script.room.by_peer.keys().copied().collect();
    peers.sort_unstable();
    peers.push(PeerId(1));
    let peer = peers[who % peers.len()];
    let mut tracks: Vec<TrackId> =
        script.room.tracks.keys().chain(script.room.by_alternative.keys()).copied().collect();
    tracks.sort_unstable();
    tracks.push(TrackId(1));
    let track = tracks[usize::from(value) % tracks.len()];
    let level = f32::from_bits(u32::from_be_bytes([value; 4]));
    let kind_of = |byte: u8| if byte.is_multiple_of(2) { MediaKind::Audio } else { MediaKind::Video };
    match kind {
        0..=3 => Event::RemoteSections {
            peer,
            sections: bytes
                .iter()
                .take(8)
                .enumerate()
                .map(|(at, byte)| RemoteSection {
                    sending: byte % 3 > 0,
                    ..section(
                        &at.to_string(),
                        kind_of(*byte),
                        ["", "a", "b", "ab", "x"][usize::from(*byte) % 5],
                    )
                })
                .collect(),
        },
        4 => Event::Answer { peer, id: 0, sdp: String::new(), tracks: vec![(mid("0"), track)] },
        5 => Event::Offer { peer, id: 0, sdp: String::new(), tracks: vec![(mid("0"), track)] },
        6 => Event::DescriptionRefused { peer, id: 0, reason: String::from_utf8_lossy(&bytes).into_owned() },
        7 => Event::Connected { peer },
        8 if value > 200 => Event::Ended { peer, reason: PeerEnd::NeverConnected },
        8 => Event::SubscriptionPaused { peer, track, paused: value.is_multiple_of(2) },
        9 => Event::SubscriptionBound { peer, track },
        10 => Event::SubscriptionUnsupported { peer, track },
        11 => Event::Speakers {
            room: script.room.id(),
            levels: [SpeakerLevel { track, level }].into_iter().collect(),
        },
        12 => Event::Quality {
            peer,
            quality: LinkQuality {
                uplink_loss: level,
                downlink_loss: level,
                rtt: Some(Duration::MAX),
                estimate: None,
                served: level,
                active: value.is_multiple_of(2),
            },
        },
        14 => Event::Voice {
            peer,
            way: if value.is_multiple_of(2) { Way::Up } else { Way::Down },
            fault: (!value.is_multiple_of(3)).then_some(VoiceFault::Loss),
        },
        13 => Event::TrackMedia {
            track,
            media: TrackMedia {
                mid: mid("9"),
                kind: kind_of(value),
                mime: String::new(),
                layers: vec![(None, None)],
            },
        },
        15 => Event::Lost { peer, silence: Duration::from_secs(u64::from(value)) },
        _ => Event::Data {
            peer,
            label: ["_reliable", "_lossy", "x"][who % 3].into(),
            binary: true,
            payload: bytes.into(),
        },
    }
}

/// What always holds, whatever happened.
fn check(script: &Script) {
    let room = &script.room;
    assert_eq!(room.people.len(), room.by_identity.len());
    assert_eq!(room.by_session.len(), room.people.values().filter(|who| who.session.is_some()).count());
    assert_eq!(room.by_peer.len(), room.people.values().map(|who| who.link.peers().count()).sum::<usize>());
    assert_eq!(room.tracks.len(), room.people.values().map(|who| who.tracks.len()).sum::<usize>());
    assert_eq!(room.tracks.len(), room.by_track_sid.len());
    assert!(room.tracks.len() <= 2 * room.people.len());
    assert_eq!(room.data_tracks.len(), room.people.values().map(|who| who.data_tracks.len()).sum::<usize>());
    assert_eq!(room.data_tracks.len(), room.by_data_track_sid.len());
    for who in room.people.values() {
        assert_eq!(who.away.is_some(), who.session.is_none());
        assert!(who.lost.keys().all(|peer| who.link.peers().any(|own| own == *peer)));
        for (id, subscription) in &who.subscriptions {
            let track = &room.tracks[id];
            assert!(track.is_published() && track.owner != who.seat);
            let codecs: Vec<TrackId> = track.published_alternatives().chain([*id]).collect();
            assert!(codecs.contains(&subscription.carried));
        }
        let known = |id: &TrackId| room.tracks.contains_key(id) || room.by_alternative.contains_key(id);
        assert!(who.undecodable.iter().all(known));
        let mids: Vec<Mid> = who.tracks.iter().flat_map(|id| room.tracks[id].mids()).collect();
        assert_eq!(mids.iter().collect::<std::collections::BTreeSet<_>>().len(), mids.len());
        assert!(who.preferences.len() <= 4);
        assert!(who.data_tracks.len() <= 2);
        assert!(who.data_downlink.known().all(|id| room.data_tracks[&id].owner != who.seat));
    }
    for track in room.tracks.values() {
        assert_eq!(track.dynacast.is_some(), track.is_published() && track.kind == MediaKind::Video);
        let own = track.dynacast.iter().map(|dynacast| (Pick::Own, dynacast));
        let further = track.alternatives.iter().enumerate();
        let further = further.map(|(at, it)| (Pick::Alternative(at), &it.dynacast));
        for (pick, dynacast) in own.chain(further) {
            let having = room.people.values().filter(|who| track.pick(&who.undecodable) == Some(pick));
            let wishes =
                having.filter_map(|who| Some(dynacast.reach_of(&who.subscriptions.get(&track.id)?.demand)));
            let wanted = wishes.max().unwrap_or(Reach::Nothing);
            if room.people[&track.owner].session.is_some() {
                assert!(dynacast.reach == wanted && dynacast.told >= wanted, "{wanted:?}, {dynacast:?}");
            }
        }
        let published: Vec<TrackId> = track.published_alternatives().collect();
        assert!(published.iter().all(|id| room.by_alternative[id] == track.id));
    }
    let alternatives = room.tracks.values().map(|track| track.published_alternatives().count());
    assert_eq!(alternatives.sum::<usize>(), room.by_alternative.len());
}

/// Clients must never see a participant's version fall, nor a track before its participant.
fn check_messages(script: &Script) {
    for messages in script.inbox.values() {
        let mut versions: HashMap<String, u32> = HashMap::new();
        for info in updates(messages) {
            let last = versions.insert(info.sid.clone(), info.version).unwrap_or(0);
            assert!(info.version >= last, "version fell: {info:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_sequence_of_steps_breaks_a_room(steps in prop::collection::vec(step(), 1..60)) {
        let mut settings = settings();
        settings.limits.tracks_per_participant = 2;
        settings.limits.data_tracks_per_participant = 2;
        settings.limits.preferences_per_participant = 4;
        let mut script = Script::with(settings);
        let mut sessions: Vec<SessionId> = vec![];
        for step in steps {
            let pick = |who: usize| sessions.get(who % sessions.len().max(1)).copied();
            match step {
                Step::Join { name, dual, offer: with_offer } => {
                    let name = format!("p{name}");
                    let mut admission = if dual { v0(&name) } else { admission(&name) };
                    admission.publisher_offer = with_offer.then(|| offer(1));
                    if let Ok(session) = script.try_join(admission) {
                        sessions.push(session);
                    }
                }
                Step::Ask { who, request: kind, value, text } => {
                    if let Some(session) = pick(who) {
                        let request = request(&script, kind, value, text);
                        script.request(session, request);
                    }
                }
                Step::Frame { who, bytes } => {
                    if let Some(session) = pick(who)
                        && let Ok(SignalRequest { message: Some(message) }) = frame::decode(Encoding::Protobuf, &bytes)
                    {
                        script.request(session, message);
                    }
                }
                Step::Core { event: kind, who, value, bytes } => {
                    let event = event(&script, kind, who, value, bytes);
                    script.media(event);
                }
                Step::Close { who } => {
                    if let Some(session) = pick(who) {
                        script.close_socket(session);
                    }
                }
                Step::Resume { who, dual } => {
                    let name = format!("p{}", who % 4);
                    let back = if dual { v0(&name) } else { admission(&name) };
                    let resume = Some(Resume { participant_sid: String::new(), reason: 0 });
                    if let Ok(session) = script.try_join(Admission { resume, ..back }) {
                        sessions.push(session);
                    }
                }
                Step::Wait { ms } => script.advance(Duration::from_millis(u64::from(ms))),
            }
            check(&script);
        }
        check_messages(&script);
        script.shutdown();
        prop_assert!(script.ended && script.room.people.is_empty() && script.room.tracks.is_empty());
        prop_assert!(script.room.data_tracks.is_empty() && script.room.by_data_track_sid.is_empty());
    }

    #[test]
    fn frames_of_any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = frame::decode(Encoding::Protobuf, &bytes);
        let _ = frame::decode(Encoding::Json, &bytes);
    }
}
