use livekit_protocol::participant_info::State;
use livekit_protocol::request_response::{self, Reason};
use livekit_protocol::{MuteTrackRequest, SimulcastCodec, UpdateLocalAudioTrack, VideoLayer, VideoQuality};
use sfu::command::TrackMedia;
use sfu::ids::Ssrc;

use super::script::*;
use super::*;

fn published(messages: &[Response]) -> Vec<(String, TrackInfo)> {
    let of = |message: &Response| match message {
        Response::TrackPublished(told) => {
            Some((told.cid.clone(), told.track.clone().expect("Rust unwraps it")))
        }
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

#[test]
fn an_announced_track_is_answered_before_any_media() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.take(alice);
    script.request(alice, Request::AddTrack(camera("cam")));
    let first = published(&script.take(alice));
    assert_eq!(first[0].0, "cam");
    assert!(first[0].1.sid.starts_with("TR_VC"));
    script.request(alice, Request::AddTrack(camera("cam")));
    assert_eq!(published(&script.take(alice)), first, "the same cid keeps its sid");
    let share = AddTrackRequest { source: TrackSource::ScreenShare as i32, ..camera("share") };
    let sound = AddTrackRequest { source: TrackSource::ScreenShareAudio as i32, ..microphone("sound") };
    for (request, prefix) in [(microphone("mic"), "TR_AM"), (share, "TR_VS"), (sound, "TR_As")] {
        script.request(alice, Request::AddTrack(request));
        assert!(published(&script.take(alice))[0].1.sid.starts_with(prefix), "{prefix}");
    }
}

#[test]
fn others_are_told_of_a_track_before_they_are_subscribed() {
    for offer_first in [false, true] {
        let mut script = Script::new();
        let alice = script.active(admission("alice"));
        let bob = script.active(admission("bob"));
        let joining = script.join(admission("carol"));
        for session in [alice, bob, joining] {
            script.take(session);
        }
        script.take_commands();
        script.log.clear();
        let sections = vec![
            silent(section("0", MediaKind::Audio, "")),
            with_rids(section("7", MediaKind::Video, "cam"), &["f", "h", "q"]),
        ];
        if offer_first {
            script.sections(alice, sections.clone());
            assert!(bound(&script.commands).is_none(), "parked");
        }
        let layer = |quality: VideoQuality, width| VideoLayer {
            quality: quality as i32,
            width,
            height: width / 2,
            ..VideoLayer::default()
        };
        let layers = vec![
            layer(VideoQuality::High, 1280),
            layer(VideoQuality::Low, 320),
            layer(VideoQuality::Medium, 640),
        ];
        script.request(alice, Request::AddTrack(AddTrackRequest { layers, ..camera("cam") }));
        if !offer_first {
            script.sections(alice, sections);
        }

        let bind = script.commands.iter().find_map(|command| match command {
            Command::BindTrack { peer, mid, layers, .. } => Some((*peer, *mid, layers.clone())),
            _ => None,
        });
        let (peer, at, layers) = bind.expect("bound");
        assert_eq!((peer, at), (script.publisher(alice), mid("7")));
        let layers: Vec<_> =
            layers.iter().map(|layer| (layer.rid.unwrap().to_string(), layer.size.0)).collect();
        assert_eq!(layers, [("q".into(), 320), ("h".into(), 640), ("f".into(), 1280)]);

        let told = script.log.iter().position(|output| {
            matches!(output, Output::Send { session, response }
                if *session == bob && matches!(response.message, Some(Response::Update(_))))
        });
        let subscribed =
            script.log.iter().position(|output| matches!(output, Output::Media(Command::Subscribe { .. })));
        assert!(told.unwrap() < subscribed.unwrap(), "clients drop tracks that they do not know");
        let subscribes: Vec<_> = script
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::Subscribe { peer, stream_id, label, .. } => {
                    Some((*peer, stream_id.clone(), label.clone()))
                }
                _ => None,
            })
            .collect();
        let alice_sid = script.room.people.values().next().unwrap().sid.clone();
        let info = updates(&script.take(bob))[0].clone();
        let track = &info.tracks[0];
        assert_eq!((info.sid.as_str(), track.mid.as_str()), (alice_sid.as_str(), "7"));
        assert!(info.is_publisher && !track.mime_type.is_empty());
        let msid = (format!("{alice_sid}|{}", track.sid), track.sid.clone());
        assert_eq!(
            subscribes,
            [(script.subscriber(bob), msid.0.clone(), msid.1.clone())],
            "only who is active"
        );
        assert_eq!(msid.0.matches('|').count(), 1);
        assert!(updates(&script.take(joining))[0].is_publisher, "whoever is joining is told, too");

        script.connected(joining);
        let late = script.take_commands();
        let peer = script.subscriber(joining);
        assert!(
            late.iter().any(|command| matches!(command, Command::Subscribe { peer: to, .. } if *to == peer))
        );
    }
}

#[test]
fn whoever_joins_later_is_subscribed_to_what_is_there() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let (id, _) = script.publish(alice, "3", camera("cam"));
    script.take_commands();
    let bob = script.join(Admission { publisher_offer: Some(offer(1)), ..admission("bob") });
    let commands = script.take_commands();
    assert!(
        matches!(commands[..], [Command::AddPeer(_), Command::Subscribe { track, .. }, Command::Offer { .. }] if track == id),
        "{commands:?}"
    );
    let peer = script.publisher(bob);
    let tracks = vec![(mid("4"), id), (mid("5"), TrackId(1))];
    script.media(Event::Answer { peer, id: 1, sdp: "v=0".into(), tracks });
    let messages = script.take(bob);
    let Some(Response::Answer(answer)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!(answer.mid_to_track_id.len(), 1, "a track that is gone is not named");
    assert!(answer.mid_to_track_id["4"].starts_with("TR_VC"));
}

#[test]
fn what_the_core_learns_is_told() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let codec = SimulcastCodec { codec: "vp9".into(), cid: "cam".into(), ..SimulcastCodec::default() };
    let layers = vec![VideoLayer { width: 320, ..VideoLayer::default() }];
    let (id, info) = script.publish(
        alice,
        "3",
        AddTrackRequest { simulcast_codecs: vec![codec], layers, ..camera("cam") },
    );
    assert_eq!((info.mime_type.as_str(), info.codecs[0].mime_type.as_str()), ("video/vp9", "video/vp9"));
    script.take(bob);
    let media = TrackMedia {
        mid: mid("3"),
        kind: MediaKind::Video,
        mime: "video/H264".into(),
        layers: vec![(Rid::parse("q"), Some(Ssrc(99)))],
    };
    script.media(Event::TrackMedia { track: id, media: media.clone() });
    let told = updates(&script.take(bob));
    #[expect(deprecated, reason = "older clients read it")]
    let layer = told[0].tracks[0].layers[0].clone();
    assert_eq!(told[0].tracks[0].mime_type, "video/H264");
    assert_eq!((layer.rid.as_str(), layer.ssrc), ("q", 99));
    script.media(Event::TrackMedia { track: id, media });
    assert!(updates(&script.take(bob)).is_empty(), "nothing new");
}

#[test]
fn each_refusal_carries_the_request_back() {
    let mut settings = settings();
    settings.limits.tracks_per_participant = 2;
    let mut script = Script::with(settings);
    let mut listener = admission("listener");
    listener.permission.can_publish = false;
    let mut limited = admission("limited");
    limited.permission.can_publish_sources = vec![TrackSource::Camera as i32];
    let (listener, limited, alice) =
        (script.active(listener), script.active(limited), script.active(admission("alice")));
    let mut refused = |session, request: AddTrackRequest| {
        script.take(session);
        script.request(session, Request::AddTrack(request.clone()));
        let messages = script.take(session);
        let [Response::RequestResponse(refusal)] = &messages[..] else { panic!("{messages:?}") };
        if let Some(request_response::Request::AddTrack(back)) = &refusal.request {
            assert_eq!(*back, request, "JS finds its promise by it");
        } else {
            panic!("{refusal:?}");
        }
        Reason::try_from(refusal.reason).unwrap()
    };
    assert_eq!(refused(listener, camera("c")), Reason::NotAllowed);
    assert_eq!(refused(limited, microphone("m")), Reason::NotAllowed);
    let data = AddTrackRequest { r#type: TrackType::Data as i32, ..camera("d") };
    assert_eq!(refused(alice, data), Reason::UnsupportedType);
    assert_eq!(refused(alice, AddTrackRequest { sid: "TR_x".into(), ..camera("b") }), Reason::NotFound);
    assert_eq!(refused(alice, camera("")), Reason::LimitExceeded);
    assert_eq!(refused(alice, camera(&"x".repeat(300))), Reason::LimitExceeded);
    let layers = vec![VideoLayer::default(); 9];
    assert_eq!(refused(alice, AddTrackRequest { layers, ..camera("l") }), Reason::LimitExceeded);
    script.request(alice, Request::AddTrack(camera("1")));
    script.request(alice, Request::AddTrack(camera("2")));
    assert_eq!(names(&script.take(alice)), ["track_published", "track_published"]);
    script.request(alice, Request::AddTrack(camera("3")));
    assert_eq!(names(&script.take(alice)), ["request_response"], "at the limit");
    script.request(limited, Request::AddTrack(camera("c")));
    assert_eq!(names(&script.take(limited)), ["track_published"]);
}

#[test]
fn a_section_that_stops_sending_ends_its_track() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let (id, info) = script.publish(alice, "3", camera("cam"));
    for session in [alice, bob] {
        script.take(session);
    }
    script.take_commands();
    script.sections(alice, vec![silent(section("3", MediaKind::Video, "cam"))]);
    let messages = script.take(alice);
    assert!(matches!(&messages[0], Response::TrackUnpublished(gone) if gone.track_sid == info.sid));
    assert!(matches!(script.take_commands()[..], [Command::RemoveTrack { track }] if track == id));
    assert_eq!(updates(&script.take(bob))[0].tracks, []);
    assert!(script.room.people.values().all(|who| who.subscriptions.is_empty() && who.tracks.is_empty()));

    let (again, info_again) = script.publish(alice, "9", camera("cam"));
    assert!(again != id && info_again.sid != info.sid, "published anew");
}

#[test]
fn announcing_a_published_cid_again_waits_for_the_end_of_the_first() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let (first, _) = script.publish(alice, "3", camera("cam"));
    script.take(alice);
    script.request(alice, Request::AddTrack(camera("cam")));
    script.request(alice, Request::AddTrack(camera("cam")));
    assert_eq!(names(&script.take(alice)), Vec::<&str>::new(), "the offer that ends the first is on its way");
    script.sections(alice, vec![silent(section("3", MediaKind::Video, "cam"))]);
    assert_eq!(names(&script.take(alice)), ["track_unpublished", "track_published", "update"]);
    script.take_commands();
    script.sections(alice, vec![section("3", MediaKind::Video, "cam")]);
    let second = bound(&script.take_commands()).unwrap();
    assert_ne!(second, first);
}

#[test]
fn a_section_that_carries_another_announced_track_is_that_track() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let (first, _) = script.publish(alice, "3", camera("cam"));
    script.take_commands();
    script.sections(alice, vec![section("3", MediaKind::Video, "renamed by the browser")]);
    assert!(script.take_commands().is_empty(), "a new name alone is no new track");
    script.request(alice, Request::AddTrack(camera("other")));
    script.sections(alice, vec![section("3", MediaKind::Video, "other")]);
    let commands = script.take_commands();
    assert!(
        matches!(commands[..], [Command::RemoveTrack { track }, Command::BindTrack { .. }] if track == first)
    );
}

#[test]
fn muting_is_forwarded_and_told() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let bob = script.active(admission("bob"));
    let (id, info) = script.publish(alice, "3", AddTrackRequest { muted: true, ..microphone("mic") });
    assert!(script.commands.iter().any(|command| matches!(command, Command::MuteTrack { muted: true, .. })));
    script.take(bob);
    script.take_commands();
    let mute = |muted| Request::Mute(MuteTrackRequest { sid: info.sid.clone(), muted });
    script.request(alice, mute(false));
    assert!(
        matches!(script.take_commands()[..], [Command::MuteTrack { track, muted: false }] if track == id)
    );
    let told = updates(&script.take(bob));
    assert!(!told[0].tracks[0].muted && told[0].state == State::Active as i32);
    script.request(alice, mute(false));
    script.request(bob, mute(true));
    assert!(script.take_commands().is_empty(), "no change, and not bob's to mute");
}

#[test]
fn numbers_that_the_protocol_does_not_have_do_not_spoil_json() {
    let mut script = Script::new();
    let odd = ClientInfo { protocol: 17, capabilities: vec![1, 99], ..ClientInfo::default() };
    let alice = script.active(Admission { client: odd, ..admission("alice") });
    let bob = script.active(admission("bob"));
    script.take(bob);
    let layer = VideoLayer { quality: 99, ..VideoLayer::default() };
    let codec = SimulcastCodec {
        cid: "cam".into(),
        layers: vec![layer.clone()],
        video_layer_mode: 99,
        ..SimulcastCodec::default()
    };
    let request = AddTrackRequest {
        source: 99,
        encryption: 99,
        layers: vec![layer],
        simulcast_codecs: vec![codec],
        backup_codec_policy: 99,
        audio_features: vec![99, 1],
        packet_trailer_features: vec![99],
        ..camera("cam")
    };
    let (_, info) = script.publish(alice, "0", request);
    let features = UpdateLocalAudioTrack { track_sid: info.sid, features: vec![2, 99] };
    script.request(alice, Request::UpdateAudioTrack(features));
    script.advance(Duration::from_secs(1));
    let told = updates(&script.take(bob));
    let last = told.last().unwrap();
    assert_ne!(last.tracks[0].encryption, 0, "encrypted in a way that we do not know");
    assert_eq!(last.tracks[0].audio_features, [2]);
    for info in told {
        serde_json::to_string(&info).unwrap_or_else(|error| panic!("{error}: {info:?}"));
    }
}
