//! Permissions are taken away during a call.

use sfu::command::Demand;
use sfu::stats::DropReason;
use sfu_testkit::call::{Call, Machines, PublisherId, SubscriberId};
use sfu_testkit::camera::CameraConfig;

use crate::{good, ms, seconds, seeds};

fn unknown(call: &Call) -> u64 {
    call.server().sfu().stats().dropped[DropReason::UnknownStream as usize]
}

/// Two publish, two subscribe to both, and all is seen.
fn four(name: &str, seed: u64) -> (Call, [PublisherId; 2], [SubscriberId; 2]) {
    let mut call = Call::new(name, seed, Machines::Idle);
    let publishers = [0, 1].map(|_| call.publish(CameraConfig::simulcast, good()));
    let wanted = publishers.map(|publisher| (publisher, Demand::default()));
    let viewers = [0, 1].map(|_| call.subscribe_all(&wanted, good()));
    call.run_for(seconds(10));
    (call, publishers, viewers)
}

/// Pictures a second and packets of sound of a publisher, from 200 ms after `since` on.
fn got(call: &Call, viewer: SubscriberId, publisher: usize, since: std::time::Duration) -> (f64, u64) {
    let seen = call.seen_camera(viewer, publisher);
    let (from, to) = (since + ms(200), call.time());
    (seen.fps(from, to), seen.heard(from, to).packets)
}

#[test]
fn who_may_not_publish_any_more_is_seen_by_nobody_after_200_ms() {
    for seed in seeds() {
        let (mut call, [revoked, _], viewers) = four("revoked_publisher", seed);
        let (at, before) = (call.time(), unknown(&call));
        call.forbid_publishing(revoked);
        call.run_for(seconds(5));
        for viewer in viewers {
            assert_eq!(got(&call, viewer, 0, at), (0.0, 0), "seed {seed}");
            let (fps, packets) = got(&call, viewer, 1, at);
            assert!(fps > 20.0 && packets > 200, "seed {seed}: the other goes on: {fps} fps, {packets}");
        }
        // 50 packets of sound a second, and pictures.
        let dropped = unknown(&call) - before;
        assert!(dropped > 250, "seed {seed}: {dropped} dropped and counted of what came all the same");
    }
}

#[test]
fn who_may_not_subscribe_any_more_sees_nothing_after_200_ms() {
    for seed in seeds() {
        let (mut call, publishers, [revoked, other]) = four("revoked_viewer", seed);
        let at = call.time();
        for publisher in publishers {
            call.forbid_subscribing(revoked, publisher);
        }
        call.run_for(seconds(5));
        for publisher in [0, 1] {
            assert_eq!(got(&call, revoked, publisher, at), (0.0, 0), "seed {seed}");
            let (fps, packets) = got(&call, other, publisher, at);
            assert!(fps > 20.0 && packets > 200, "seed {seed}: the other goes on: {fps} fps, {packets}");
        }
    }
}
