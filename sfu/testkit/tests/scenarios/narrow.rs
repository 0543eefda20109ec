//! A viewer's downlink becomes narrow for ten seconds, and nobody else notices.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::LinkConfig;

use crate::{Faults, good, ms, seconds, seeds};

const LIMIT: Bitrate = Bitrate::kbps(500);

/// `missed` is the share of audio that may be lost or late: what the old rate put into a deep queue is late whatever is
/// done then.
fn ten_narrow_seconds(name: &str, queue_time: Duration, missed: f64) {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let other = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(15));
        let settled = call.time();
        call.run_for(seconds(5));
        let begin = call.time();
        let sizes = call.seen(viewer).sizes(settled, begin);
        faults.check(sizes == [(1280, 720)], seed, || format!("before: {sizes:?}"));
        let down = LinkConfig { rate: Some(LIMIT), queue_time, ..good().down };
        call.set_access(viewer, Access { down, up: good().up });
        call.run_for(seconds(10));
        let limit_end = call.time();
        call.set_access(viewer, good());
        call.run_for(seconds(25));

        let (seen, end) = (call.seen(viewer), call.time());
        let sizes = seen.sizes(begin + seconds(3), limit_end);
        let lower = !sizes.is_empty() && sizes.iter().all(|size| size.0 < 1280);
        faults.check(lower, seed, || format!("after 3 s: {sizes:?}"));
        for second in 3..10 {
            let fps = seen.fps(begin + seconds(second), begin + seconds(second + 1));
            faults.check(fps >= 12.0, seed, || format!("{fps} fps {second} s into it"));
        }
        let heard = seen.heard(begin, limit_end);
        faults.check(heard.missed() < missed, seed, || format!("{heard:?}"));
        let back = seen.shown_after(limit_end, 1280);
        faults.check(back.is_some_and(|after| after < seconds(15)), seed, || format!("back after {back:?}"));
        let last = seen.sizes(limit_end + seconds(15), end);
        faults.check(last == [(1280, 720)], seed, || format!("15 s after it: {last:?}"));
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));

        let seen = call.seen(other);
        let sizes = seen.sizes(settled, end);
        faults.check(sizes == [(1280, 720)], seed, || format!("the other: {sizes:?}"));
        let freezes = seen.freezes(settled, end, ms(300));
        faults.check(freezes.is_empty(), seed, || format!("the other's freezes: {freezes:?}"));
    }
    faults.none();
}

#[test]
fn narrow_with_100_ms_of_queue() {
    ten_narrow_seconds("narrow_with_100_ms_of_queue", ms(100), 0.07);
}

#[test]
fn narrow_with_300_ms_of_queue() {
    ten_narrow_seconds("narrow_with_300_ms_of_queue", ms(300), 0.07);
}

#[test]
fn narrow_with_a_second_of_queue() {
    ten_narrow_seconds("narrow_with_a_second_of_queue", seconds(1), 0.15);
}
