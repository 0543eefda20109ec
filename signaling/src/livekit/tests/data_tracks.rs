use livekit_protocol::request_response::{Reason, Request as Refused};
use livekit_protocol::{
    DataTrackInfo, DataTrackSubscriptionOptions, ParticipantPermission, PublishDataTrackRequest,
    PublishDataTrackResponse, SubscriptionPermission, SyncState, TrackPermission, UnpublishDataTrackRequest,
    UpdateDataSubscription, update_data_subscription,
};
use sfu::command::PeerEnd;
use sfu::ids::DataHandle;

use super::script::*;
use super::*;
use crate::livekit::api::{Answer, RoomCall};

/// What the core was told of data tracks, carried out: who gets what of whom, as in `sfu::data_track`.
#[derive(Default)]
struct CoreModel {
    bound: HashMap<TrackId, (PeerId, u16)>,
    subscribed: HashMap<(PeerId, TrackId), (u16, Option<u32>)>,
}

impl CoreModel {
    fn of(commands: &[Command]) -> CoreModel {
        let mut core = CoreModel::default();
        for command in commands {
            match command {
                Command::BindDataTrack { peer, handle, track } => {
                    assert!(core.bound.insert(*track, (*peer, handle.wire())).is_none(), "bound twice");
                }
                Command::SubscribeDataTrack { peer, track, handle, fps }
                    if core.bound.contains_key(track) =>
                {
                    core.subscribed.insert((*peer, *track), (handle.wire(), *fps));
                }
                Command::UnsubscribeDataTrack { peer, track } => {
                    core.subscribed.remove(&(*peer, *track));
                }
                Command::RemoveDataTrack { track } => core.remove(*track),
                Command::RemovePeer { peer } => {
                    core.subscribed.retain(|(subscriber, _), _| subscriber != peer);
                    let own = core.bound.iter().filter(|(_, (owner, _))| owner == peer);
                    for track in own.map(|(track, _)| *track).collect::<Vec<_>>() {
                        core.remove(track);
                    }
                }
                _ => {}
            }
        }
        core
    }

    fn remove(&mut self, track: TrackId) {
        self.bound.remove(&track);
        self.subscribed.retain(|(_, subscribed), _| *subscribed != track);
    }
}

impl Script {
    fn announce_data(&mut self, session: SessionId, pub_handle: u32, name: &str) {
        let request = PublishDataTrackRequest { pub_handle, name: name.into(), ..Default::default() };
        self.request(session, Request::PublishDataTrackRequest(request));
    }

    /// Publishes a data track, and gives it as its owner is told.
    fn publish_data(&mut self, session: SessionId, pub_handle: u32, name: &str) -> DataTrackInfo {
        self.announce_data(session, pub_handle, name);
        let told = self.inbox[&session].iter().rev().find_map(|message| match message {
            Response::PublishDataTrackResponse(response) => response.info.clone(),
            _ => None,
        });
        told.filter(|info| info.pub_handle == pub_handle).expect("an answer")
    }

    fn subscribe_data(&mut self, session: SessionId, sid: &str, subscribe: bool, target_fps: Option<u32>) {
        let options = target_fps.map(|fps| DataTrackSubscriptionOptions { target_fps: Some(fps) });
        let update = update_data_subscription::Update { track_sid: sid.into(), subscribe, options };
        let request = UpdateDataSubscription { updates: vec![update] };
        self.request(session, Request::UpdateDataSubscription(request));
    }

    /// What the core does, by all it was ever told: the subscriber's handle and rate for each of its data tracks, by sid.
    fn forwards(&self, session: SessionId) -> HashMap<String, (u16, Option<u32>)> {
        let all: Vec<Command> = self
            .log
            .iter()
            .filter_map(|output| match output {
                Output::Media(command) => Some(command.clone()),
                _ => None,
            })
            .collect();
        let core = CoreModel::of(&all);
        let peer = self.subscriber(session);
        let own = core.subscribed.iter().filter(|((subscriber, _), _)| *subscriber == peer);
        own.map(|((_, track), what)| (self.room.data_tracks[track].info.sid.clone(), *what)).collect()
    }
}

/// The last map of handles among these messages: handle, and the track's sid.
fn handles(messages: &[Response]) -> Option<HashMap<u32, String>> {
    messages.iter().rev().find_map(|message| match message {
        Response::DataTrackSubscriberHandles(map) => {
            let sids = map.sub_handles.iter();
            Some(sids.map(|(handle, track)| (*handle, track.track_sid.clone())).collect())
        }
        _ => None,
    })
}

fn refusal(messages: &[Response]) -> Option<(Reason, String, Option<Refused>)> {
    messages.iter().rev().find_map(|message| match message {
        Response::RequestResponse(refused) => {
            Some((refused.reason(), refused.message.clone(), refused.request.clone()))
        }
        _ => None,
    })
}

fn ended(messages: &[Response]) -> Vec<String> {
    let ended = messages.iter().filter_map(|message| match message {
        Response::UnpublishDataTrackResponse(ended) => Some(ended.info.as_ref()?.sid.clone()),
        _ => None,
    });
    ended.collect()
}

fn data_names(info: &livekit_protocol::ParticipantInfo) -> Vec<&str> {
    info.data_tracks.iter().map(|track| track.name.as_str()).collect()
}

#[test]
fn a_data_track_is_answered_shown_and_forwarded_to_who_asks() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(v0("bob")));
    for session in [alice, bob] {
        script.take(session);
    }
    let info = script.publish_data(alice, 7, "place");
    assert!(info.sid.starts_with("DTR_") && info.name == "place" && info.encryption == 0);
    let told = script.take(alice);
    assert_eq!(names(&told), ["publish_data_track_response", "update"], "the answer first");
    let told = script.take(bob);
    assert_eq!(names(&told), ["update"], "nobody is subscribed unasked");
    let shown = updates(&told);
    assert_eq!((shown[0].data_tracks.as_slice(), shown[0].is_publisher), (&[info.clone()][..], true));

    script.subscribe_data(bob, &info.sid, true, None);
    let map = handles(&script.take(bob)).unwrap();
    let [(handle, sid)] = &map.into_iter().collect::<Vec<_>>()[..] else { panic!("one track") };
    assert_eq!(*sid, info.sid);
    assert_eq!(script.forwards(bob), HashMap::from([(info.sid.clone(), (*handle as u16, None))]));
    let owner = script.publisher(alice);
    assert!(script.commands.iter().any(|command| matches!(command,
        Command::BindDataTrack { peer, handle, .. } if *peer == owner && *handle == DataHandle::new(7).unwrap())));

    let late = script.join(admission("late"));
    let join = script.join_response(late);
    let shown = join.other_participants.iter().find(|who| who.identity == "alice").unwrap();
    assert_eq!(shown.data_tracks, [info]);
    script.advance(Duration::from_secs(3));
    assert_eq!(script.room.room_info().num_publishers, 1);
}

#[test]
fn who_subscribes_automatically_is_told_once_the_track_was_shown() {
    let mut script = Script::new();
    let eager = |name| Admission { auto_subscribe_data: true, ..admission(name) };
    let (alice, bob) = (script.active(admission("alice")), script.active(eager("bob")));
    script.take(bob);
    let first = script.publish_data(alice, 1, "first");
    let told = script.take(bob);
    assert_eq!(names(&told), ["update", "data_track_subscriber_handles"]);
    let second = script.publish_data(alice, 2, "second");
    let map = handles(&script.take(bob)).unwrap();
    assert_eq!(map.len(), 2, "the map is the whole");
    assert!(map.values().all(|sid| [&first.sid, &second.sid].contains(&sid)));

    // Who asks for what it has is answered all the same: SDKs wait for it.
    script.subscribe_data(bob, &first.sid, true, None);
    assert_eq!(handles(&script.take(bob)), Some(map));
    script.subscribe_data(bob, &first.sid, false, None);
    assert_eq!(handles(&script.take(bob)).unwrap().len(), 1);
    assert_eq!(script.forwards(bob).keys().collect::<Vec<_>>(), [&second.sid]);

    let carol = script.active(eager("carol"));
    let told = script.take(carol);
    assert_eq!(
        (names(&told)[0], handles(&told).unwrap().len()),
        ("join", 2),
        "and those that were there before"
    );
}

#[test]
fn a_wanted_rate_reaches_the_core_and_can_be_changed() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let info = script.publish_data(alice, 1, "place");
    for (asked, goes) in
        [(Some(5), Some(5)), (Some(9), Some(9)), (Some(0), None), (Some(3), Some(3)), (None, None)]
    {
        script.take(bob);
        script.subscribe_data(bob, &info.sid, true, asked);
        let map = handles(&script.take(bob)).unwrap();
        assert_eq!((map.len(), script.forwards(bob)[&info.sid]), (1, (1, goes)), "the handle stays");
    }
}

#[test]
fn what_cannot_be_published_is_refused_with_the_reason_and_the_handle() {
    let mut settings = settings();
    settings.limits.data_tracks_per_participant = 2;
    let mut script = Script::with(settings);
    let mut mute = admission("mute");
    mute.permission.can_publish_data = false;
    let (alice, mute) = (script.active(admission("alice")), script.active(mute));
    script.publish_data(alice, 1, "one");
    let long = "x".repeat(257);
    for (who, handle, name, reason, says) in [
        (mute, 1, "one", Reason::NotAllowed, "canPublishData"),
        (alice, 1, "two", Reason::DuplicateHandle, "pub_handle 1"),
        (alice, 2, "one", Reason::DuplicateName, "name"),
        (alice, 0, "two", Reason::InvalidHandle, "pub_handle is 0"),
        (alice, 70_000, "two", Reason::InvalidHandle, "70000"),
        (alice, 2, "", Reason::InvalidName, "name of 0 bytes"),
        (alice, 2, &long, Reason::InvalidName, "name of 257 bytes"),
    ] {
        script.take(who);
        script.announce_data(who, handle, name);
        let (got, message, request) = refusal(&script.take(who)).expect(says);
        assert!(got == reason && message.contains(says), "{got:?}: {message}");
        let Some(Refused::PublishDataTrack(request)) = request else { panic!("{request:?}") };
        assert_eq!(request.pub_handle, handle, "SDKs find their request by it");
        assert!(request.name.len() <= 256);
    }
    script.publish_data(alice, 2, "two");
    script.announce_data(alice, 3, "three");
    let (reason, message, _) = refusal(&script.take(alice)).unwrap();
    assert_eq!((reason, message.as_str()), (Reason::LimitExceeded, "a participant may have 2 data tracks"));
    assert_eq!(script.room.data_tracks.len(), 2);
}

#[test]
fn unpublishing_is_answered_and_noticed() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let [gone, stays] =
        [(1, "gone"), (2, "stays")].map(|(handle, name)| script.publish_data(alice, handle, name));
    for info in [&gone, &stays] {
        script.subscribe_data(bob, &info.sid, true, None);
    }
    for session in [alice, bob] {
        script.take(session);
    }
    let unpublish =
        |handle| Request::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: handle });
    script.request(alice, unpublish(1));
    assert_eq!(ended(&script.take(alice)), std::slice::from_ref(&gone.sid));
    let told = script.take(bob);
    assert_eq!(data_names(&updates(&told)[0]), ["stays"]);
    assert_eq!(handles(&told).unwrap().into_values().collect::<Vec<_>>(), std::slice::from_ref(&stays.sid));
    assert_eq!(script.forwards(bob).len(), 1);

    script.request(alice, unpublish(1));
    let (reason, message, request) = refusal(&script.take(alice)).unwrap();
    assert_eq!((reason, message.as_str()), (Reason::NotFound, "no data track of yours has pub_handle 1"));
    assert!(matches!(request, Some(Refused::UnpublishDataTrack(request)) if request.pub_handle == 1));
    script.request(bob, unpublish(2));
    assert_eq!(refusal(&script.take(bob)).unwrap().0, Reason::NotFound, "it is alice's");

    // Its name and handle are free again, and its subscriber's handle is not the next one's.
    let again = script.publish_data(alice, 1, "gone");
    assert_ne!(again.sid, gone.sid);
    script.subscribe_data(bob, &gone.sid, true, None);
    assert_eq!(script.forwards(bob).len(), 1, "a track that ended cannot be subscribed to");
    script.subscribe_data(bob, &again.sid, true, None);
    assert_eq!(script.forwards(bob)[&again.sid], (3, None));
}

#[test]
fn permission_to_publish_data_ends_at_once() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let infos = [(1, "a"), (2, "b")].map(|(handle, name)| script.publish_data(alice, handle, name));
    script.subscribe_data(bob, &infos[0].sid, true, None);
    for session in [alice, bob] {
        script.take(session);
    }
    let may = |data| ParticipantPermission { can_publish_data: data, ..admission("alice").permission };
    permit(&mut script, "alice", may(false));
    assert_eq!(ended(&script.take(alice)), infos.clone().map(|info| info.sid));
    let told = script.take(bob);
    assert!(updates(&told)[0].data_tracks.is_empty() && !updates(&told)[0].is_publisher);
    assert_eq!(handles(&told), Some(HashMap::new()));
    assert!(script.forwards(bob).is_empty() && script.room.data_tracks.is_empty());
    script.announce_data(alice, 1, "a");
    assert_eq!(refusal(&script.take(alice)).unwrap().0, Reason::NotAllowed);
    permit(&mut script, "alice", may(true));
    script.publish_data(alice, 1, "a");
}

fn permit(script: &mut Script, identity: &str, permission: ParticipantPermission) {
    let request = livekit_protocol::UpdateParticipantRequest {
        room: "lobby".into(),
        identity: identity.into(),
        permission: Some(permission),
        ..Default::default()
    };
    script.call(RoomCall::UpdateParticipant(Box::new(request))).expect("permitted");
}

#[test]
fn permission_to_subscribe_ends_at_once_and_comes_back_with_what_was_wanted() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let info = script.publish_data(alice, 1, "place");
    script.subscribe_data(bob, &info.sid, true, Some(4));
    script.take(bob);
    let may = |subscribe| ParticipantPermission { can_subscribe: subscribe, ..admission("bob").permission };
    permit(&mut script, "bob", may(false));
    assert_eq!(handles(&script.take(bob)), Some(HashMap::new()));
    assert!(script.forwards(bob).is_empty());
    script.subscribe_data(bob, &info.sid, true, Some(4));
    assert!(script.forwards(bob).is_empty() && handles(&script.take(bob)).is_none());
    permit(&mut script, "bob", may(true));
    assert_eq!(handles(&script.take(bob)).unwrap().len(), 1);
    assert_eq!(script.forwards(bob)[&info.sid].1, Some(4));
}

#[test]
fn a_publisher_decides_who_gets_its_data_tracks() {
    let mut script = Script::new();
    let recorder = Admission { recorder: true, ..admission("recorder") };
    let [alice, bob, carol, recorder] =
        [admission("alice"), admission("bob"), admission("carol"), recorder].map(|who| script.active(who));
    let info = script.publish_data(alice, 1, "place");
    let allow = |identity: &str, tracks: &[&str]| {
        let permission = TrackPermission {
            participant_identity: identity.into(),
            track_sids: tracks.iter().map(ToString::to_string).collect(),
            ..TrackPermission::default()
        };
        let list = SubscriptionPermission { all_participants: false, track_permissions: vec![permission] };
        Request::SubscriptionPermission(list)
    };
    for session in [bob, carol, recorder] {
        script.subscribe_data(session, &info.sid, true, None);
    }
    script.request(alice, allow("bob", &[&info.sid]));
    let gets = |script: &Script| [bob, carol, recorder].map(|session| script.forwards(session).len());
    assert_eq!(gets(&script), [1, 0, 1], "recorders are exempt");
    assert_eq!(handles(&script.take(carol)), Some(HashMap::new()));
    script.request(alice, allow("carol", &[&info.sid]));
    assert_eq!(gets(&script), [0, 1, 1]);
}

#[test]
fn nobody_gets_its_own_or_a_hidden_participants_data_tracks() {
    let mut script = Script::new();
    let mut ghost = admission("ghost");
    ghost.permission.hidden = true;
    let (ghost, alice) = (script.active(ghost), script.active(admission("alice")));
    let hidden = script.publish_data(ghost, 1, "ghostly");
    let own = script.publish_data(alice, 1, "own");
    script.take(alice);
    for sid in [&hidden.sid, &own.sid, "DTR_unknown", &"x".repeat(10_000)] {
        script.subscribe_data(alice, sid, true, None);
    }
    assert!(script.take(alice).is_empty() && script.forwards(alice).is_empty());
    permit(&mut script, "ghost", admission("ghost").permission);
    let told = script.take(alice);
    assert_eq!((data_names(&updates(&told)[0]), handles(&told).unwrap().len()), (vec!["ghostly"], 1));
}

#[test]
fn nothing_is_left_of_who_leaves() {
    let mut script = Script::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| script.active(admission(name)));
    let infos = [alice, bob].map(|session| script.publish_data(session, 1, "place"));
    for (session, info) in [(carol, &infos[0]), (carol, &infos[1]), (bob, &infos[0])] {
        script.subscribe_data(session, &info.sid, true, None);
    }
    script.take(carol);
    script.close_socket(alice);
    script.lose(alice);
    script.advance(Duration::from_mins(1));
    let told = script.take(carol);
    assert_eq!(handles(&told).unwrap().into_values().collect::<Vec<_>>(), [infos[1].sid.clone()]);
    let gone = updates(&told).into_iter().find(|info| info.identity == "alice").unwrap();
    assert!(gone.data_tracks.is_empty());
    assert_eq!((script.forwards(carol).len(), script.forwards(bob).len()), (1, 0));
    assert!(
        script
            .room
            .people
            .values()
            .all(|who| { who.data_downlink.known().all(|id| script.room.data_tracks.contains_key(&id)) })
    );
    assert_eq!(script.room.data_tracks.len(), 1);
}

#[test]
fn a_resume_keeps_data_tracks_and_says_handles_again() {
    for mode in [admission, v0] {
        let mut script = Script::new();
        let (alice, bob) = (script.active(mode("alice")), script.active(mode("bob")));
        let info = script.publish_data(alice, 1, "place");
        script.subscribe_data(bob, &info.sid, true, None);
        let before = script.forwards(bob);
        for session in [alice, bob] {
            script.close_socket(session);
        }
        script.advance(Duration::from_secs(5));
        let bob = script.resume(bob, mode("bob"));
        let told = script.take(bob);
        assert_eq!(
            handles(&told).unwrap().into_values().collect::<Vec<_>>(),
            std::slice::from_ref(&info.sid)
        );
        let shown = updates(&told).into_iter().find(|who| who.identity == "alice").unwrap();
        assert_eq!(shown.data_tracks, std::slice::from_ref(&info));
        let alice = script.resume(alice, mode("alice"));
        script.take(alice);
        let published = PublishDataTrackResponse { info: Some(info) };
        let state = SyncState { publish_data_tracks: vec![published], ..SyncState::default() };
        script.request(alice, Request::SyncState(state));
        let told = script.take(alice);
        let second = ["publish_data_track_response", "unpublish_data_track_response", "leave"];
        assert!(names(&told).iter().all(|name| !second.contains(name)), "{told:?}");
        assert_eq!(script.forwards(bob), before);
    }
}

#[test]
fn after_a_resume_a_client_learns_which_of_its_data_tracks_have_ended() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let [gone, stays] =
        [(1, "gone"), (2, "stays")].map(|(handle, name)| script.publish_data(alice, handle, name));
    let wanted = script.publish_data(bob, 1, "wanted");
    script.request(alice, Request::UnpublishDataTrackRequest(UnpublishDataTrackRequest { pub_handle: 1 }));
    let alice = script.resume(alice, admission("alice"));
    script.take(alice);
    let replaced = DataTrackInfo { sid: "DTR_old".into(), ..stays.clone() };
    let listed = [gone.clone(), stays, replaced].map(|info| PublishDataTrackResponse { info: Some(info) });
    let update =
        update_data_subscription::Update { track_sid: wanted.sid.clone(), subscribe: true, options: None };
    script.request(
        alice,
        Request::SyncState(SyncState {
            publish_data_tracks: listed.to_vec(),
            data_subscription: Some(UpdateDataSubscription { updates: vec![update] }),
            ..SyncState::default()
        }),
    );
    let told = script.take(alice);
    assert_eq!(ended(&told), [gone.sid]);
    assert_eq!(handles(&told).unwrap().into_values().collect::<Vec<_>>(), [wanted.sid]);
}

#[test]
fn a_publishing_connection_that_is_made_late_has_the_data_tracks_announced_before() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(v0("alice")), script.active(v0("bob")));
    let old = script.publish_data(alice, 1, "old");
    script.subscribe_data(bob, &old.sid, true, Some(2));
    let before = script.forwards(bob);
    // The core gave up a connection that never had anything to connect for.
    let peer = script.publisher(alice);
    script.media(Event::Ended { peer, reason: PeerEnd::NeverConnected });
    script.log.push(Output::Media(Command::RemovePeer { peer }));
    assert!(script.forwards(bob).is_empty());
    let new = script.publish_data(alice, 2, "new");
    script.subscribe_data(bob, &new.sid, true, None);
    script.request(alice, Request::Offer(offer(1)));
    let after = script.forwards(bob);
    assert_eq!((after.len(), after.get(&old.sid)), (2, before.get(&old.sid)));
}

#[test]
fn the_server_api_shows_data_tracks() {
    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    let info = script.publish_data(alice, 1, "place");
    let answer = script.call(RoomCall::GetParticipant { identity: "alice".into() }).unwrap();
    let Answer::Participant(shown) = answer else { panic!("{answer:?}") };
    assert_eq!(shown.data_tracks, [info]);
}
