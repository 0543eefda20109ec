//! What a client makes grow has a bound: what is below it works, what is above it is refused and counted.

use livekit_protocol as lk;
use livekit_protocol::request_response::Reason;

use super::script::*;
use super::*;
use crate::livekit::frame::FrameError;
use crate::livekit::{DataRefusal, Limit, RoomLimits};

/// What the client is told.
#[derive(Debug, PartialEq)]
enum Told {
    Answered(Reason),
    /// `subscription_response` with an error.
    NotSubscribed,
}

struct Row {
    limit: Limit,
    tighten: fn(&mut RoomLimits),
    /// Done so often without harm.
    fits: usize,
    /// Number n; none is like another.
    act: fn(&mut Script, SessionId, usize),
    told: Told,
}

fn wish(n: usize) -> Request {
    Request::TrackSetting(lk::UpdateTrackSettings {
        track_sids: vec![format!("TR_{n}")],
        ..lk::UpdateTrackSettings::default()
    })
}

fn rows() -> [Row; 6] {
    [
        Row {
            limit: Limit::Tracks,
            tighten: |limits| limits.tracks_per_participant = 3,
            fits: 3,
            act: |script, who, n| script.request(who, Request::AddTrack(camera(&format!("c{n}")))),
            told: Told::Answered(Reason::LimitExceeded),
        },
        Row {
            limit: Limit::DataTracks,
            tighten: |limits| limits.data_tracks_per_participant = 3,
            fits: 3,
            act: |script, who, n| {
                let request = lk::PublishDataTrackRequest {
                    pub_handle: n as u32 + 1,
                    name: n.to_string(),
                    ..Default::default()
                };
                script.request(who, Request::PublishDataTrackRequest(request));
            },
            told: Told::Answered(Reason::LimitExceeded),
        },
        Row {
            limit: Limit::Subscriptions,
            tighten: |limits| limits.subscriptions_per_participant = 3,
            fits: 3,
            act: |script, _, n| {
                let other = script.by_name("other");
                script.publish(other, &n.to_string(), camera(&format!("c{n}")));
            },
            told: Told::NotSubscribed,
        },
        Row {
            limit: Limit::Wishes,
            tighten: |limits| limits.preferences_per_participant = 3,
            fits: 3,
            act: |script, who, n| {
                script.request(who, wish(n));
                let track_sids = vec![format!("TR_{n}")];
                let list = lk::UpdateSubscription { track_sids, subscribe: true, ..Default::default() };
                script.request(who, Request::Subscription(list));
            },
            told: Told::NotSubscribed,
        },
        Row {
            limit: Limit::PermissionEntries,
            tighten: |limits| limits.permission_entries = 3,
            fits: 4,
            act: |script, who, n| {
                let entry = |n: usize| lk::TrackPermission {
                    participant_identity: n.to_string(),
                    all_tracks: true,
                    ..Default::default()
                };
                let track_permissions = (0..n).map(entry).collect();
                let list = lk::SubscriptionPermission { all_participants: false, track_permissions };
                script.request(who, Request::SubscriptionPermission(list));
            },
            told: Told::Answered(Reason::LimitExceeded),
        },
        Row {
            limit: Limit::Metadata,
            tighten: |limits| limits.attributes_bytes = 9,
            fits: 3,
            act: |script, who, n| {
                let attributes = [(n.to_string(), "ab".to_owned())].into_iter().collect();
                let change = lk::UpdateParticipantMetadata { attributes, ..Default::default() };
                script.request(who, Request::UpdateMetadata(change));
            },
            told: Told::Answered(Reason::LimitExceeded),
        },
    ]
}

impl Script {
    fn by_name(&self, identity: &str) -> SessionId {
        let seat = self.room.by_identity[identity];
        self.room.people[&seat].session.unwrap()
    }

    fn hits(&mut self) -> Vec<Limit> {
        let notices = std::mem::take(&mut self.notices).into_iter();
        let hit = |notice| match notice {
            Notice::LimitHit(limit) => Some(limit),
            _ => None,
        };
        notices.filter_map(hit).collect()
    }
}

#[test]
fn what_is_above_a_limit_is_refused_in_words_and_counted() {
    for Row { limit, tighten, fits, act, told } in rows() {
        let mut settings = settings();
        tighten(&mut settings.limits);
        let mut script = Script::with(settings);
        script.active(admission("other"));
        let who = script.active(admission("alice"));
        script.take(who);
        for n in 0..fits {
            act(&mut script, who, n);
        }
        assert_eq!(script.hits(), [], "{limit:?}: {fits} fit");
        let refused = |message: &Response| match message {
            Response::RequestResponse(answer) if answer.reason() != Reason::Ok => {
                assert!(!answer.message.is_empty(), "{limit:?}: {answer:?}");
                Some(Told::Answered(answer.reason()))
            }
            Response::SubscriptionResponse(_) => Some(Told::NotSubscribed),
            _ => None,
        };
        assert_eq!(script.take(who).iter().find_map(refused), None, "{limit:?}");
        act(&mut script, who, fits);
        assert_eq!(script.hits().first(), Some(&limit));
        assert_eq!(script.take(who).iter().find_map(refused), Some(told), "{limit:?}");
        assert!(!script.closed.contains(&who), "{limit:?}: the call goes on");
    }
}

#[test]
fn one_subscription_less_makes_room_for_another() {
    let mut settings = settings();
    settings.limits.subscriptions_per_participant = 1;
    let mut script = Script::with(settings);
    let other = script.active(admission("other"));
    let who = script.active(admission("alice"));
    let (_, first) = script.publish(other, "0", camera("a"));
    let (second, info) = script.publish(other, "1", camera("b"));
    assert_eq!(script.hits(), [Limit::Subscriptions]);
    let ask = |sid: &str, subscribe| {
        Request::Subscription(lk::UpdateSubscription {
            track_sids: vec![sid.to_owned()],
            subscribe,
            ..Default::default()
        })
    };
    script.take_commands();
    script.request(who, ask(&first.sid, false));
    script.request(who, ask(&info.sid, true));
    assert!(
        script
            .take_commands()
            .iter()
            .any(|c| matches!(c, Command::Subscribe { track, .. } if *track == second))
    );
}

#[test]
fn a_frame_that_is_too_long_ends_its_session_and_is_counted_as_that() {
    let mut script = Script::new();
    let who = script.active(admission("alice"));
    script.room.bad_frame(script.clock, who, FrameError::TooLarge { got: 3 << 20 });
    script.drain();
    assert_eq!(script.hits(), [Limit::Frame]);
    assert!(script.closed.contains(&who));
}

#[test]
fn who_floods_with_data_is_held_to_its_rate_and_nobody_else() {
    let mut settings = settings();
    settings.limits.data_rate = 10_000;
    let mut script = Script::with(settings);
    let (flood, calm) = (script.active(admission("flood")), script.active(admission("calm")));
    script.take_commands();
    script.notices.clear();
    let message = vec![0; 1000];
    for _ in 0..50 {
        script.data(flood, "own", message.clone());
    }
    assert_eq!(script.forwarded().len(), 10, "a second's worth at once");
    assert_eq!(script.refusals(), [DataRefusal::TooFast; 40]);
    script.data(calm, "own", message.clone());
    assert_eq!(script.forwarded().len(), 1);
    for _ in 0..100 {
        script.advance(Duration::from_millis(50));
        script.data(flood, "own", message.clone());
    }
    assert_eq!(script.forwarded().len(), 50, "half of 20 000 bytes a second, for 5 s");
}
