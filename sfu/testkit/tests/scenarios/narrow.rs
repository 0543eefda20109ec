//! A viewer's downlink becomes narrow for ten seconds, and nobody else notices.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::LinkConfig;

use crate::{good, ms, seconds, seeds};

const LIMIT: Bitrate = Bitrate::kbps(500);

fn ten_narrow_seconds(name: &str, queue_time: Duration) {
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let other = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(20));
        let begin = call.time();
        assert_eq!(call.seen(viewer).sizes(begin - seconds(5), begin), [(1280, 720)], "seed {seed}");
        let down = LinkConfig { rate: Some(LIMIT), queue_time, ..good().down };
        call.set_access(viewer, Access { down, up: good().up });
        call.run_for(seconds(10));
        let end = call.time();
        call.set_access(viewer, good());
        call.run_for(seconds(25));

        let seen = call.seen(viewer);
        let settled = begin + seconds(3);
        let sizes = seen.sizes(settled, end);
        assert!(!sizes.is_empty() && sizes.iter().all(|size| size.0 < 1280), "seed {seed}: {sizes:?}");
        for second in 3..9 {
            let fps = seen.fps(begin + seconds(second), begin + seconds(second + 1));
            assert!(fps >= 12.0, "seed {seed}: {fps} fps {second} s into it");
        }
        let heard = seen.heard(begin, end);
        assert!(heard.missed() < 0.05, "seed {seed}: {heard:?}");
        let back = seen.shown_after(end, 1280);
        assert!(back.is_some_and(|after| after < seconds(15)), "seed {seed}: back after {back:?}");
        let last = seen.sizes(end + seconds(15), call.time());
        assert_eq!(last, [(1280, 720)], "seed {seed}");

        let seen = call.seen(other);
        assert_eq!(seen.sizes(begin - seconds(5), call.time()), [(1280, 720)], "seed {seed}");
        let freezes = seen.freezes(begin - seconds(5), call.time(), ms(300));
        assert!(freezes.is_empty(), "seed {seed}: {freezes:?}");
    }
}

#[test]
fn narrow_for_ten_seconds_with_100_ms_of_queue() {
    ten_narrow_seconds("narrow, queue of 100 ms", ms(100));
}

#[test]
fn narrow_for_ten_seconds_with_300_ms_of_queue() {
    ten_narrow_seconds("narrow, queue of 300 ms", ms(300));
}

#[test]
fn narrow_for_ten_seconds_with_a_second_of_queue() {
    ten_narrow_seconds("narrow, queue of 1 s", seconds(1));
}
