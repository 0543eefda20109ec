//! Further codecs of a track: asked for when somebody needs one, and then the same track to everybody.

use livekit_protocol::{
    BackupCodecPolicy, LeaveRequest, MuteTrackRequest, SimulcastCodec, SubscriptionError, UpdateSubscription,
    UpdateTrackSettings, VideoLayer, request_response::Reason,
};
use sfu::command::TrackMedia;
use sfu::ids::Ssrc;

use super::script::*;
use super::*;
use crate::livekit::Settings;

const OWN: &str = "vp9";
const FURTHER: &str = "vp8";

fn codec(codec: &str, cid: &str) -> SimulcastCodec {
    SimulcastCodec { codec: codec.into(), cid: cid.into(), ..SimulcastCodec::default() }
}

fn vp9_or_vp8(policy: BackupCodecPolicy) -> AddTrackRequest {
    AddTrackRequest {
        simulcast_codecs: vec![codec(OWN, "cam"), codec(FURTHER, "")],
        backup_codec_policy: policy as i32,
        ..camera("cam")
    }
}

/// For each message since the last look whether each codec is asked for.
fn asked(messages: &[Response]) -> Vec<Vec<(String, bool)>> {
    let of = |message: &Response| match message {
        Response::SubscribedQualityUpdate(update) => Some(
            update
                .subscribed_codecs
                .iter()
                .map(|codec| (codec.codec.clone(), codec.qualities.iter().any(|one| one.enabled)))
                .collect(),
        ),
        Response::SubscribedAudioCodecUpdate(update) => Some(
            update.subscribed_audio_codecs.iter().map(|codec| (codec.codec.clone(), codec.enabled)).collect(),
        ),
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

fn ask(own: bool, further: bool) -> Vec<(String, bool)> {
    vec![(OWN.to_owned(), own), (FURTHER.to_owned(), further)]
}

/// What takes the place of what, for a connection.
fn replacements(commands: &[Command], of: PeerId) -> Vec<TrackId> {
    let track = |command: &Command| match command {
        Command::ReplaceTrack { peer, track, .. } if *peer == of => Some(*track),
        _ => None,
    };
    commands.iter().filter_map(track).collect()
}

fn failures(messages: &[Response]) -> Vec<SubscriptionError> {
    let of = |message: &Response| match message {
        Response::SubscriptionResponse(response) => Some(response.err()),
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

/// Alice's camera in VP9, which she could also send in VP8, and who watches it.
struct Call {
    script: Script,
    alice: SessionId,
    sid: String,
    id: TrackId,
}

fn call(policy: BackupCodecPolicy, viewers: &[&str]) -> (Call, Vec<SessionId>) {
    let mut script = Script::with(Settings { webhooks: true, ..settings() });
    let alice = script.active(v0("alice"));
    let join = |(at, name): (usize, &&str)| {
        script.active(if at.is_multiple_of(2) { v0(name) } else { admission(name) })
    };
    let viewers = viewers.iter().enumerate().map(join).collect();
    let (id, info) = script.publish(alice, "3", vp9_or_vp8(policy));
    script.take(alice);
    script.take_commands();
    (Call { script, alice, sid: info.sid, id }, viewers)
}

impl Call {
    fn bound(&mut self, viewer: SessionId, track: TrackId) {
        let peer = self.script.subscriber(viewer);
        self.script.media(Event::SubscriptionBound { peer, track });
    }

    fn unsupported(&mut self, viewer: SessionId, track: TrackId) {
        let peer = self.script.subscriber(viewer);
        self.script.media(Event::SubscriptionUnsupported { peer, track });
    }

    /// As SDKs announce the further codec.
    fn announce(&mut self, cid: &str) {
        self.script.request(self.alice, Request::AddTrack(self.announcement(cid)));
    }

    fn announcement(&self, cid: &str) -> AddTrackRequest {
        AddTrackRequest {
            cid: cid.into(),
            sid: self.sid.clone(),
            simulcast_codecs: vec![codec(FURTHER, cid)],
            ..AddTrackRequest::default()
        }
    }

    fn offer(&mut self, cid: &str) {
        let mut sections = self.script.known_sections(self.alice);
        sections.push(section("4", MediaKind::Video, cid));
        self.script.sections(self.alice, sections);
    }

    /// Publishes the further codec, and gives the core's name of it.
    fn publish_further(&mut self) -> TrackId {
        self.announce("cam-vp8");
        self.script.take_commands();
        self.offer("cam-vp8");
        bound(&self.script.commands).expect("the further codec was not bound")
    }

    fn asked(&mut self) -> Vec<Vec<(String, bool)>> {
        asked(&self.script.take(self.alice))
    }

    fn asked_after(&mut self, seconds: u64) -> Vec<Vec<(String, bool)>> {
        self.script.advance(Duration::from_secs(seconds));
        self.asked()
    }

    fn info(&self) -> TrackInfo {
        self.script.room.tracks[&self.id].info.clone()
    }
}

#[test]
fn who_cannot_decode_the_first_codec_waits_for_the_second_and_gets_it() {
    for offer_first in [false, true] {
        let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob", "carol"]);
        let [bob, carol] = viewers[..] else { panic!() };
        let mimes: Vec<_> = call.info().codecs.iter().map(|codec| codec.mime_type.clone()).collect();
        assert_eq!(mimes, ["video/vp9", "video/vp8"]);
        assert_eq!(call.asked(), [] as [Vec<_>; 0], "nobody needs the second");
        let own = call.id;
        call.bound(bob, own);
        call.script.take(carol);
        call.unsupported(carol, own);
        assert_eq!(call.asked(), [ask(true, true)], "at once");
        assert_eq!(failures(&call.script.take(carol)), [], "it waits");
        call.script.take_commands();

        let wanted = if offer_first { [0, 1] } else { [1, 0] };
        for step in wanted {
            if step == 0 { call.offer("cam-vp8") } else { call.announce("cam-vp8") }
        }
        let commands = call.script.take_commands();
        let further = bound(&commands).expect("bound");
        let answers: Vec<_> = call.script.take(call.alice);
        let told = answers.iter().find_map(|message| match message {
            Response::TrackPublished(published) => Some(published.clone()),
            _ => None,
        });
        let told = told.expect("the announcement is answered");
        assert_eq!((told.cid, told.track.unwrap().sid), ("cam-vp8".to_owned(), call.sid.clone()));
        assert_eq!(asked(&answers).last(), Some(&ask(true, true)));
        let (to_bob, to_carol) = (call.script.subscriber(bob), call.script.subscriber(carol));
        assert_eq!(replacements(&commands, to_carol), [further]);
        assert_eq!(replacements(&commands, to_bob), [], "both would do: it keeps the first");
        call.bound(carol, further);
        assert_eq!(call.asked_after(60), [] as [Vec<_>; 0], "both are watched");
        assert_eq!(failures(&call.script.take(carol)), []);
        let codecs = call.info().codecs;
        assert_eq!((codecs[1].mid.as_str(), codecs[1].cid.as_str()), ("4", "cam-vp8"));
        let published = call.script.webhooks.iter().filter(|event| event.event == "track_published");
        assert_eq!(published.count(), 1, "it is one track");
    }
}

#[test]
fn each_codec_stops_and_starts_by_itself() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob", "carol"]);
    let [bob, carol] = viewers[..] else { panic!() };
    let own = call.id;
    call.unsupported(carol, own);
    let further = call.publish_further();
    call.bound(carol, further);
    call.asked();
    let setting = |disabled| {
        let settings =
            UpdateTrackSettings { track_sids: vec![call.sid.clone()], disabled, ..Default::default() };
        Request::TrackSetting(settings)
    };
    let (off, on) = (setting(true), setting(false));
    call.script.request(carol, off.clone());
    assert_eq!(call.asked_after(3), [] as [Vec<_>; 0]);
    assert_eq!(call.asked_after(2), [ask(true, false)]);
    call.script.request(carol, on);
    assert_eq!(call.asked(), [ask(true, true)], "at once");
    call.script.request(bob, off);
    assert_eq!(call.asked_after(5), [ask(false, true)]);
    call.script.request(carol, Request::Leave(LeaveRequest::default()));
    assert_eq!(call.asked_after(5), [ask(false, false)]);
}

#[test]
fn a_later_viewer_gets_the_second_codec_without_delay_and_keeps_it() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob"]);
    let bob = viewers[0];
    let own = call.id;
    call.unsupported(bob, own);
    let further = call.publish_further();
    call.bound(bob, further);
    let carol = call.script.active(admission("carol"));
    call.script.take_commands();
    call.unsupported(carol, own);
    let to_carol = call.script.subscriber(carol);
    assert_eq!(replacements(&call.script.take_commands(), to_carol), [further]);
    call.bound(carol, further);
    // Resubscribed, it is not offered again what it cannot decode.
    for subscribe in [false, true] {
        let track_sids = vec![call.sid.clone()];
        let request = UpdateSubscription { track_sids, subscribe, participant_tracks: vec![] };
        call.script.request(carol, Request::Subscription(request));
    }
    let commands = call.script.take_commands();
    assert_eq!(replacements(&commands, to_carol), [further]);
    assert_eq!(failures(&call.script.take(carol)), []);
}

#[test]
fn who_can_decode_neither_is_told() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob"]);
    let bob = viewers[0];
    let own = call.id;
    call.unsupported(bob, own);
    let further = call.publish_further();
    assert_eq!(failures(&call.script.take(bob)), []);
    call.script.take_commands();
    call.unsupported(bob, further);
    assert_eq!(failures(&call.script.take(bob)), [SubscriptionError::SeCodecUnsupported]);
    assert_eq!(replacements(&call.script.take_commands(), call.script.subscriber(bob)), [], "no flapping");
    assert_eq!(call.asked_after(5).last(), Some(&ask(false, false)));
}

#[test]
fn regression_brings_everybody_to_the_second_codec() {
    use BackupCodecPolicy::{PreferRegression, Regression, Simulcast};
    let crowd = ["bob", "carol", "dave", "erin"];
    for (policy, viewers, regresses) in [
        (Simulcast, &crowd[..2], false),
        (PreferRegression, &crowd[..2], true),
        (PreferRegression, &crowd[..], false),
        (Regression, &crowd[..], true),
    ] {
        let (mut call, viewers) = call(policy, viewers);
        let own = call.id;
        call.unsupported(viewers[0], own);
        let further = call.publish_further();
        let to_others = call.script.subscriber(viewers[1]);
        let moved = replacements(&call.script.take_commands(), to_others);
        let expected = if regresses { vec![further] } else { vec![] };
        assert_eq!(moved, expected, "{policy:?}");
        assert_eq!(call.asked_after(5).last(), Some(&ask(!regresses, true)), "{policy:?}");
        if regresses {
            call.unsupported(viewers[1], further);
            let back = replacements(&call.script.take_commands(), to_others);
            assert_eq!(back, [own], "who can decode the first alone keeps it");
            assert_eq!(call.asked().last(), Some(&ask(true, true)));
        }
    }
}

#[test]
fn what_happens_to_a_track_happens_to_all_its_codecs() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob"]);
    let own = call.id;
    call.unsupported(viewers[0], own);
    let further = call.publish_further();
    call.script.take_commands();
    for muted in [true, false] {
        let request = MuteTrackRequest { sid: call.sid.clone(), muted };
        call.script.request(call.alice, Request::Mute(request));
        let of = |command: Command| match command {
            Command::MuteTrack { track, muted } => Some((track, muted)),
            _ => None,
        };
        let told: Vec<_> = call.script.take_commands().into_iter().filter_map(of).collect();
        assert_eq!(told, [(own, muted), (further, muted)]);
    }
    let sections = call.script.known_sections(call.alice).into_iter().map(silent).collect();
    call.script.sections(call.alice, sections);
    let removed = |command: Command| match command {
        Command::RemoveTrack { track } => Some(track),
        _ => None,
    };
    let removed: Vec<_> = call.script.take_commands().into_iter().filter_map(removed).collect();
    assert_eq!(removed, [further, own]);
    let room = &call.script.room;
    assert!(room.by_alternative.is_empty() && room.people.values().all(|who| who.undecodable.is_empty()));
}

#[test]
fn the_second_codec_may_end_alone_and_is_asked_for_again() {
    let (mut call, viewers) = call(BackupCodecPolicy::PreferRegression, &["bob", "carol"]);
    let [bob, carol] = viewers[..] else { panic!() };
    let own = call.id;
    call.unsupported(bob, own);
    let first = call.publish_further();
    call.script.advance(Duration::from_secs(10));
    call.asked();
    call.script.take_commands();
    let mut sections = call.script.known_sections(call.alice);
    sections[1].sending = false;
    call.script.sections(call.alice, sections);
    let commands = call.script.take_commands();
    assert_eq!(replacements(&commands, call.script.subscriber(carol)), [own], "before it is removed");
    assert!(matches!(commands.last(), Some(Command::RemoveTrack { track }) if *track == first));
    assert_eq!(call.asked().last(), Some(&ask(true, true)));
    assert_eq!(failures(&call.script.take(bob)), []);
    call.announce("again");
    let mut sections = call.script.known_sections(call.alice);
    sections[1] = section("4", MediaKind::Video, "again");
    call.script.take_commands();
    call.script.sections(call.alice, sections);
    let commands = call.script.take_commands();
    let second = bound(&commands).expect("bound");
    assert_ne!(first, second);
    assert_eq!(replacements(&commands, call.script.subscriber(bob)), [second]);
}

#[test]
fn an_unpublished_track_takes_its_awaited_codec_along() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob"]);
    let own = call.id;
    call.unsupported(viewers[0], own);
    call.announce("cam-vp8");
    let sections = call.script.known_sections(call.alice).into_iter().map(silent).collect();
    call.script.sections(call.alice, sections);
    call.script.take_commands();
    call.script.take(call.alice);
    call.offer("cam-vp8");
    assert_eq!(bound(&call.script.take_commands()), None, "its section is nobody's");
    call.announce("cam-vp8");
    let refused = call.script.take(call.alice).into_iter().find_map(|message| match message {
        Response::RequestResponse(response) => Some(response.reason()),
        _ => None,
    });
    assert_eq!(refused, Some(Reason::NotFound));
}

#[test]
fn a_resumed_publisher_is_told_of_both_codecs_again() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob"]);
    let own = call.id;
    call.script.close_socket(call.alice);
    call.unsupported(viewers[0], own);
    let alice = call.script.resume(call.alice, v0("alice"));
    assert_eq!(asked(&call.script.take(alice)).last(), Some(&ask(true, true)));
}

#[test]
fn a_codec_named_beforehand_needs_no_further_announcement() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    // As the Go SDK says it, to which a type that is left out is sound.
    let codecs = vec![codec("video/VP9", "cam"), codec("video/H264", "cam-h264")];
    let (_, info) = script.publish(alice, "3", AddTrackRequest { simulcast_codecs: codecs, ..camera("cam") });
    script.take_commands();
    let mut sections = script.known_sections(alice);
    sections.push(section("4", MediaKind::Video, "cam-h264"));
    script.sections(alice, sections);
    assert!(bound(&script.take_commands()).is_some());
    let sid = info.sid;
    for (further, reason) in [
        (codec("video/H264", "cam-h264"), None),
        (codec("video/VP8", "cam-vp8"), None),
        (codec("video/VP9", "other"), Some(Reason::UnsupportedType)),
        (codec("video/H265", "other"), Some(Reason::UnsupportedType)),
        (codec("audio/opus", "other"), Some(Reason::UnsupportedType)),
    ] {
        script.take(alice);
        let cid = further.cid.clone();
        let request =
            AddTrackRequest { cid, sid: sid.clone(), simulcast_codecs: vec![further], ..Default::default() };
        script.request(alice, Request::AddTrack(request));
        let answer = script.take(alice).into_iter().find_map(|message| match message {
            Response::RequestResponse(response) => Some(Some(response.reason())),
            Response::TrackPublished(_) => Some(None),
            _ => None,
        });
        assert_eq!(answer, Some(reason));
    }
}

#[test]
fn sound_has_further_codecs_too() {
    let mut script = Script::new();
    let alice = script.active(v0("alice"));
    let bob = script.active(v0("bob"));
    let codecs = vec![codec("audio/PCMU", "mic"), codec("audio/opus", "mic-opus")];
    let (own, info) =
        script.publish(alice, "3", AddTrackRequest { simulcast_codecs: codecs, ..microphone("mic") });
    assert_eq!(info.mime_type, "audio/pcmu");
    let peer = script.subscriber(bob);
    script.media(Event::SubscriptionBound { peer, track: own });
    script.advance(Duration::from_secs(10));
    let ask = |opus| vec![("pcmu".to_owned(), true), ("opus".to_owned(), opus)];
    assert_eq!(asked(&script.take(alice)), [] as [Vec<_>; 0]);
    script.media(Event::SubscriptionUnsupported { peer, track: own });
    assert_eq!(asked(&script.take(alice)), [ask(true)]);
    assert_eq!(failures(&script.take(bob)), []);
    let further = vec![codec("opus", "mic-opus")];
    let request = AddTrackRequest {
        cid: "mic-opus".into(),
        sid: info.sid,
        simulcast_codecs: further,
        ..Default::default()
    };
    script.request(alice, Request::AddTrack(request));
    script.take_commands();
    let mut sections = script.known_sections(alice);
    sections.push(section("4", MediaKind::Audio, "mic-opus"));
    script.sections(alice, sections);
    let commands = script.take_commands();
    let opus = bound(&commands).expect("bound");
    assert_eq!(replacements(&commands, peer), [opus]);
    script.request(bob, Request::Leave(LeaveRequest::default()));
    script.advance(Duration::from_secs(5));
    assert_eq!(asked(&script.take(alice)).last(), Some(&ask(false)));
}

#[test]
fn what_is_seen_of_the_second_codec_is_told_as_its_own() {
    let (mut call, viewers) = call(BackupCodecPolicy::Simulcast, &["bob"]);
    let own = call.id;
    call.unsupported(viewers[0], own);
    call.announce("cam-vp8");
    let layer = |width| VideoLayer { width, height: 1, ..VideoLayer::default() };
    let mut request = call.announcement("cam-vp8");
    request.simulcast_codecs[0].layers = vec![layer(320), layer(640)];
    call.script.request(call.alice, Request::AddTrack(request));
    let mut sections = call.script.known_sections(call.alice);
    sections.push(with_rids(section("4", MediaKind::Video, "cam-vp8"), &["q", "h"]));
    call.script.take_commands();
    call.script.sections(call.alice, sections);
    let further = bound(&call.script.take_commands()).expect("bound");
    let layers = ["q", "h"].map(Rid::parse).into_iter().zip([Some(Ssrc(1)), None]).collect();
    let media = TrackMedia { mid: mid("4"), kind: MediaKind::Video, mime: "video/VP8".into(), layers };
    call.script.media(Event::TrackMedia { track: further, media });
    let codecs = call.info().codecs;
    let of: Vec<_> =
        codecs[1].layers.iter().map(|layer| (layer.rid.as_str(), layer.width, layer.ssrc)).collect();
    assert_eq!(of, [("q", 320, 1), ("h", 640, 0)]);
    assert_eq!((codecs[0].mime_type.as_str(), codecs[1].mime_type.as_str()), ("video/vp9", "video/VP8"));
}
