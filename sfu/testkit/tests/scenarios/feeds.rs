//! One stream that carries one publisher's picture and sound after another's.

use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, good, ms, seconds, seeds};

/// Publishers take turns every few seconds: each picture comes at once, nothing is decoded that does not belong together,
/// and to the receiver it is one stream. When a publisher goes, the stream waits for the next.
#[test]
fn publishers_take_turns_in_one_stream() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("feeds", seed, Machines::Idle);
        let publishers =
            [call.publish(CameraConfig::simulcast, good()), call.publish(CameraConfig::simulcast, good())];
        call.run_for(seconds(1));
        let viewer = call.watch(publishers[0], good());
        call.run_for(seconds(6));
        let settled = call.time();
        for turn in 1..=6_usize {
            call.show(viewer, Some(publishers[turn % 2]));
            call.run_for(seconds(5));
        }
        let end = call.time();
        let seen = call.seen(viewer);
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
        // A round trip for the keyframe, and the time that it takes.
        let freezes = seen.freezes(settled, end, ms(700));
        faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
        let fps = seen.fps(settled, end);
        faults.check(fps > 26.0, seed, || format!("{fps} fps"));
        let heard = seen.heard(settled, end);
        faults.check(heard.missed() < 0.02, seed, || format!("{heard:?}"));
        let sizes = seen.sizes(end.saturating_sub(seconds(1)), end);
        faults.check(sizes == [(1280, 720)], seed, || format!("sizes {sizes:?}"));

        // Nothing, and the same again.
        call.show(viewer, None);
        let emptied = call.time();
        call.run_for(seconds(2));
        call.show(viewer, Some(publishers[1]));
        let shown = call.time();
        call.run_for(seconds(2));
        let seen = call.seen(viewer);
        let between = seen.fps(emptied + ms(300), shown);
        faults.check(between == 0.0, seed, || format!("{between} fps of nothing"));
        let fps = seen.fps(shown + ms(700), call.time());
        faults.check(fps > 25.0, seed, || format!("{fps} fps afterwards"));
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable at the end"));
    }
    faults.none();
}
