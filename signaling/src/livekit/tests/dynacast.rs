use livekit_protocol::{
    LeaveRequest, MuteTrackRequest, SimulcastCodec, UpdateSubscription, UpdateTrackSettings, VideoLayer,
    VideoQuality,
};
use sfu::command::TrackMedia;
use sfu::ids::Ssrc;

use super::script::*;
use super::*;

/// 320, 640 and 1280 pixels wide.
fn simulcast(cid: &str) -> AddTrackRequest {
    let layers = [(VideoQuality::Low, 320), (VideoQuality::Medium, 640), (VideoQuality::High, 1280)];
    let layer = |(quality, width): (VideoQuality, u32)| VideoLayer {
        quality: quality as i32,
        width,
        height: width * 9 / 16,
        ..VideoLayer::default()
    };
    AddTrackRequest { layers: layers.map(layer).into(), ..camera(cid) }
}

/// What a publisher was told since the last look: codec and enabled qualities.
fn told(messages: &[Response]) -> Vec<(String, Vec<VideoQuality>)> {
    let of = |message: &Response| match message {
        #[expect(deprecated, reason = "older clients read it")]
        Response::SubscribedQualityUpdate(update) => {
            let [codec] = &update.subscribed_codecs[..] else { panic!("{update:?}") };
            assert_eq!(update.subscribed_qualities, codec.qualities);
            assert_eq!(codec.qualities.len(), 3, "a quality left out would stay as it is");
            let enabled = codec.qualities.iter().filter(|one| one.enabled);
            Some((codec.codec.clone(), enabled.map(|one| one.quality.try_into().unwrap()).collect()))
        }
        _ => None,
    };
    messages.iter().filter_map(of).collect()
}

struct Watched {
    script: Script,
    alice: SessionId,
    sid: String,
    id: TrackId,
}

/// Alice publishes a camera in three layers. Who is there subscribes to nothing by itself.
fn watched(viewers: &[&str]) -> (Watched, Vec<SessionId>) {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let join = |name: &&str| script.active(Admission { auto_subscribe: false, ..admission(name) });
    let viewers = viewers.iter().map(join).collect();
    script.request(alice, Request::AddTrack(simulcast("cam")));
    script.sections(alice, vec![with_rids(section("3", MediaKind::Video, "cam"), &["q", "h", "f"])]);
    let id = bound(script.commands.iter().rev()).expect("no track was bound");
    let sid = script.room.tracks[&id].info.sid.clone();
    script.take(alice);
    (Watched { script, alice, sid, id }, viewers)
}

impl Watched {
    fn subscribe(&mut self, who: SessionId, subscribe: bool) {
        let track_sids = vec![self.sid.clone()];
        let request = UpdateSubscription { track_sids, subscribe, participant_tracks: vec![] };
        self.script.request(who, Request::Subscription(request));
    }

    fn ask(&mut self, who: SessionId, settings: &UpdateTrackSettings) {
        let settings = UpdateTrackSettings { track_sids: vec![self.sid.clone()], ..settings.clone() };
        self.script.request(who, Request::TrackSetting(settings));
    }

    fn quality(&mut self, who: SessionId, quality: VideoQuality) {
        self.ask(who, &UpdateTrackSettings { quality: quality as i32, ..Default::default() });
    }

    fn mute(&mut self, muted: bool) {
        let request = MuteTrackRequest { sid: self.sid.clone(), muted };
        self.script.request(self.alice, Request::Mute(request));
    }

    /// The enabled qualities of each message since the last look, after `seconds`.
    fn told_after(&mut self, seconds: u64) -> Vec<Vec<VideoQuality>> {
        self.script.advance(Duration::from_secs(seconds));
        told(&self.script.take(self.alice)).into_iter().map(|(_, enabled)| enabled).collect()
    }
}

const NONE: [VideoQuality; 0] = [];
const LOW: [VideoQuality; 1] = [VideoQuality::Low];
const MEDIUM: [VideoQuality; 2] = [VideoQuality::Low, VideoQuality::Medium];
const ALL: [VideoQuality; 3] = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];

#[test]
fn what_nobody_watches_stops_within_five_seconds_and_starts_at_once() {
    let (mut call, viewers) = watched(&["bob"]);
    let bob = viewers[0];
    assert_eq!(call.told_after(3), [] as [Vec<_>; 0], "somebody may come yet");
    assert_eq!(call.told_after(2), [NONE]);
    call.subscribe(bob, true);
    assert_eq!(call.told_after(0), [ALL]);
    call.quality(bob, VideoQuality::Low);
    assert_eq!(call.told_after(3), [] as [Vec<_>; 0]);
    assert_eq!(call.told_after(2), [LOW], "both at once");
    call.quality(bob, VideoQuality::Medium);
    assert_eq!(call.told_after(0), [MEDIUM]);
    call.quality(bob, VideoQuality::High);
    assert_eq!(call.told_after(0), [ALL]);
    call.subscribe(bob, false);
    call.subscribe(bob, true);
    assert_eq!(call.told_after(10), [] as [Vec<_>; 0], "a moment's absence");
    call.ask(bob, &UpdateTrackSettings { disabled: true, ..Default::default() });
    assert_eq!(call.told_after(5), [NONE]);
    call.ask(bob, &UpdateTrackSettings::default());
    assert_eq!(call.told_after(0), [LOW], "quality 0 is LOW");
    call.subscribe(bob, false);
    assert_eq!(call.told_after(5), [NONE]);
    assert_eq!(call.told_after(60), [] as [Vec<_>; 0], "once");
}

#[test]
fn the_most_demanding_decides_and_is_missed_when_gone() {
    let (mut call, viewers) = watched(&["bob", "carol", "dave"]);
    let [bob, carol, dave] = viewers[..] else { panic!() };
    for (who, width, height) in [(bob, 200, 100), (carol, 360, 640), (dave, 1920, 1080)] {
        call.ask(who, &UpdateTrackSettings { width, height, ..Default::default() });
        call.subscribe(who, true);
    }
    assert_eq!(call.told_after(10), [] as [Vec<_>; 0], "dave wants the largest");
    call.script.request(dave, Request::Leave(LeaveRequest::default()));
    assert_eq!(call.told_after(5), [MEDIUM], "a phone upright");
    call.script.close_socket(carol);
    call.script.lose(carol);
    assert_eq!(call.told_after(17), [] as [Vec<_>; 0], "she may come back");
    assert_eq!(call.told_after(6), [LOW]);
    call.script.request(bob, Request::Leave(LeaveRequest::default()));
    assert_eq!(call.told_after(5), [NONE]);
}

#[test]
fn an_adaptive_viewer_begins_with_the_lowest() {
    let (mut call, _) = watched(&[]);
    assert_eq!(call.told_after(5), [NONE]);
    call.script.join(Admission { adaptive_stream: true, ..admission("bob") });
    assert_eq!(call.told_after(0), [LOW], "it is not kept waiting for the transport");
}

#[test]
fn a_subscriber_whose_link_carries_nothing_counts_and_one_that_cannot_decode_does_not() {
    let (mut call, viewers) = watched(&["bob"]);
    let bob = viewers[0];
    call.subscribe(bob, true);
    let (peer, track) = (call.script.subscriber(bob), call.id);
    call.script.media(Event::SubscriptionPaused { peer, track, paused: true });
    assert_eq!(call.told_after(60), [] as [Vec<_>; 0], "it climbs back");
    call.script.media(Event::SubscriptionUnsupported { peer, track });
    assert_eq!(call.told_after(5), [NONE]);
    call.script.media(Event::SubscriptionBound { peer, track });
    assert_eq!(call.told_after(0), [ALL], "the codec has changed");
}

#[test]
fn a_muted_track_loses_nothing() {
    let (mut call, viewers) = watched(&["bob"]);
    let bob = viewers[0];
    call.subscribe(bob, true);
    call.quality(bob, VideoQuality::Medium);
    assert_eq!(call.told_after(5), [MEDIUM]);
    call.quality(bob, VideoQuality::Low);
    call.mute(true);
    // What viewers do with a muted picture.
    call.ask(bob, &UpdateTrackSettings { disabled: true, ..Default::default() });
    assert_eq!(call.told_after(60), [] as [Vec<_>; 0]);
    call.mute(false);
    assert_eq!(call.told_after(0), [] as [Vec<_>; 0], "it goes on as it was");
    call.quality(bob, VideoQuality::Low);
    assert_eq!(call.told_after(5), [LOW]);
    call.mute(true);
    call.quality(bob, VideoQuality::High);
    assert_eq!(call.told_after(0), [ALL], "unmuting need not wait for this");
}

#[test]
fn the_only_stream_goes_by_all_names() {
    let vp9 = |layers: AddTrackRequest| AddTrackRequest {
        simulcast_codecs: vec![SimulcastCodec {
            codec: "vp9".into(),
            cid: "cam".into(),
            ..SimulcastCodec::default()
        }],
        ..layers
    };
    for (request, codec) in [(camera("cam"), "vp8"), (vp9(simulcast("cam")), "vp9")] {
        let mut script = Script::new();
        let alice = script.active(admission("alice"));
        let bob = script.active(Admission { adaptive_stream: true, ..admission("bob") });
        let (_, info) = script.publish(alice, "3", request);
        script.take(alice);
        script.advance(Duration::from_mins(1));
        assert_eq!(told(&script.take(alice)), [], "{codec}: the lowest is all there is");
        let off = UpdateTrackSettings { track_sids: vec![info.sid], disabled: true, ..Default::default() };
        script.request(bob, Request::TrackSetting(off));
        script.advance(Duration::from_secs(5));
        assert_eq!(told(&script.take(alice)), [(codec.to_owned(), vec![])]);
    }
}

#[test]
fn the_codec_has_the_name_that_its_client_knows() {
    let announced = SimulcastCodec { codec: "av1".into(), cid: "cam".into(), ..SimulcastCodec::default() };
    for (codecs, name) in [(vec![], "h264"), (vec![announced], "av1")] {
        let (mut script, request) = (Script::new(), simulcast("cam"));
        let alice = script.active(admission("alice"));
        let (track, _) = script.publish(alice, "3", AddTrackRequest { simulcast_codecs: codecs, ..request });
        let layers = vec![(Rid::parse("q"), Some(Ssrc(1)))];
        let media = TrackMedia { mid: mid("3"), kind: MediaKind::Video, mime: "video/H264".into(), layers };
        script.media(Event::TrackMedia { track, media });
        script.advance(Duration::from_secs(5));
        assert_eq!(told(&script.take(alice)), [(name.to_owned(), vec![])]);
    }
}

#[test]
fn sound_has_no_qualities() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.publish(alice, "3", microphone("mic"));
    script.advance(Duration::from_mins(1));
    assert_eq!(told(&script.take(alice)), []);
}
