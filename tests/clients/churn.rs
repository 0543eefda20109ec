//! People come, go and vanish, and nothing of them stays.

use std::time::Duration;

use livekit_protocol::{LeaveRequest, signal_request, signal_response};

use crate::harness::{Browser, Camera, Mode, Sdk, Server, Signal, alone, eventually, join_request};
use crate::meeting::sees;

#[test]
fn five_hundred_joins_and_leaves_leave_nothing_behind() {
    let _turn = alone();
    let server = Server::start("churn");
    // What a server needs once, it has after these.
    come_and_go(&server, 0..100);
    gone(&server);
    let before = server.footprint();

    come_and_go(&server, 100..600);
    gone(&server);
    let after = eventually(Duration::from_secs(15), || {
        let now = server.footprint();
        let small = now.resident_kib * 10 <= before.resident_kib * 11;
        let tidy = now.threads <= before.threads && now.descriptors <= before.descriptors;
        if small && tidy { Ok(now) } else { Err(format!("{before:?}, then {now:?}")) }
    });
    println!("{before:?}, after 500 joins {after:?}");
}

/// One after the other, half of them over v1 with an offer, in rooms of their own and in one that stays.
fn come_and_go(server: &Server, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let room = if number % 5 == 0 { format!("room-{number}") } else { "garden".to_owned() };
        let token = server.token(&room, &format!("guest-{number}"));
        let target = if number % 2 == 0 {
            format!("/rtc/v1?access_token={token}&join_request={}", join_request())
        } else {
            format!("/rtc?access_token={token}&auto_subscribe=1&sdk=js&version=2.23.0&protocol=17")
        };
        let mut signal = Signal::connect(server, &target);
        let first = signal.next();
        assert!(matches!(first, Ok(signal_response::Message::Join(_))), "join {number}: {first:?}");
        if number % 2 == 0 {
            let answer = |message: &signal_response::Message| {
                matches!(message, signal_response::Message::Answer(_)).then_some(())
            };
            signal.find(answer).unwrap_or_else(|error| panic!("join {number}, no answer: {error}"));
        }
        // Every tenth goes without a word.
        if number % 10 != 0 {
            signal.send(signal_request::Message::Leave(LeaveRequest::default()));
        }
    }
}

fn gone(server: &Server) {
    let gauges =
        ["sluice_participants", "sluice_rooms", "sluice_websocket_connections", "sluice_peer_connections"];
    eventually(Duration::from_secs(40), || {
        let left = gauges.map(|gauge| server.metric(gauge, &[]));
        if left == [0.0; 4] { Ok(()) } else { Err(format!("{gauges:?}: {left:?}")) }
    });
}

#[test]
fn a_killed_client_is_gone_for_the_others_and_the_room_ends() {
    let _turn = alone();
    let server = Server::start("killed");
    let (browser, mut doomed) = (Browser::start(), Sdk::start());
    let stays = browser.participant("stays");
    let killed = doomed.participant("killed");
    stays.join(&server, "garden", Mode::V1);
    killed.join(&server, "garden", Mode::V1);
    killed.publish_camera(&Camera::SMALL);
    eventually(Duration::from_secs(20), || sees(&stays, &killed));

    drop(killed);
    doomed.kill();
    eventually(Duration::from_secs(20), || match stays.others() {
        others if others.is_empty() => Ok(()),
        others => Err(format!("still there: {others:?}")),
    });
    assert_eq!(stays.received().len(), 0, "a track of nobody");
    assert_eq!(server.metric("sluice_rooms", &[]), 1.0);

    stays.leave();
    // The departure timeout is 2 s.
    eventually(Duration::from_secs(6), || match server.metric("sluice_rooms", &[]) {
        0.0 => Ok(()),
        rooms => Err(format!("{rooms} rooms")),
    });
}
