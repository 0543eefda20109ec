//! Encodings stop and start, by themselves or by what is asked; a publisher mutes, a viewer comes late.

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::rtp::ExtensionIds;

use crate::{Faults, access, good, ms, seconds, seeds};

#[test]
fn layers_stop_and_start() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("layers_stop_and_start", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let joined = call.time();
        call.run_for(seconds(10));
        // What goes away, what comes back, and what is shown then.
        let steps = [
            ("f", false, 640),
            ("h", false, 320),
            ("h", true, 640),
            ("f", true, 1280),
            ("q", false, 1280),
            ("q", true, 1280),
        ];
        for (rid, active, width) in steps {
            let at = call.time();
            call.set_layer(publisher, rid, active);
            call.run_for(seconds(8));
            let seen = call.seen(viewer);
            let end = call.time();
            // An encoder that starts takes half a second, the allocator's patience upwards the rest.
            let limit = if active { seconds(5) } else { seconds(1) };
            let after = seen.shown_after(at, width);
            faults.check(after.is_some_and(|after| after < limit), seed, || {
                format!("{rid} {active} at {at:?}: {width} shown after {after:?}")
            });
            let later = seen.sizes(at + limit, end);
            faults.check(later.len() == 1, seed, || format!("{rid} {active} at {at:?}: {later:?}"));
            let freezes = seen.freezes(at, end, ms(1000));
            faults
                .check(freezes.is_empty(), seed, || format!("{rid} {active} at {at:?}: freezes {freezes:?}"));
        }
        let seen = call.seen(viewer);
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
        let heard = seen.heard(joined, call.time());
        faults.check(heard.missed() < 0.001, seed, || format!("{heard:?}"));
    }
    faults.none();
}

/// What signalling does with what viewers ask: the publisher stops and starts its encodings by it.
#[test]
fn layers_follow_demand() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("layers_follow_demand", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let low = Demand { max_spatial: 0, ..Demand::default() };
        let nothing = Demand { enabled: false, ..Demand::default() };
        // From the first second on the viewer's link has carried no more than the smallest picture.
        let viewer = call.subscribe(publisher, good(), low);
        call.run_for(seconds(1));
        // For how long how much is left, and how soon all is back. At first the path must be tried out.
        for (left, length, soon) in [(1, 5, 2000), (0, 5, 300), (1, 60, 300), (0, 60, 300)] {
            call.adjust(viewer, if left == 0 { nothing } else { low });
            for rid in &["q", "h", "f"][left..] {
                call.set_layer(publisher, rid, false);
            }
            call.run_for(seconds(length));
            let asked = call.time();
            call.adjust(viewer, Demand::default());
            for rid in ["q", "h", "f"] {
                call.set_layer(publisher, rid, true);
            }
            let top = |call: &Call| call.published(publisher).frames.values().nth(2).copied();
            let before = top(&call);
            while top(&call) == before && call.time() < asked + seconds(2) {
                call.run_for(ms(10));
            }
            let flows = call.time();
            call.run_for(seconds(8));
            let what = || format!("{left} left for {length} s, asked at {asked:?}, flows at {flows:?}");
            let seen = call.seen(viewer);
            let shown = seen.shown_after(flows.saturating_sub(ms(20)), 1280);
            faults.check(shown.is_some_and(|after| after < ms(soon)), seed, || {
                format!("{}: shown after {shown:?}", what())
            });
            let later = seen.sizes(flows + ms(soon), call.time());
            faults.check(later.len() == 1, seed, || format!("{}: {later:?}", what()));
            let from = if left == 0 { flows } else { asked };
            let freezes = seen.freezes(from, call.time(), ms(300));
            faults.check(freezes.is_empty(), seed, || format!("{}: freezes {freezes:?}", what()));
        }
        let undecodable = call.seen(viewer).video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
    }
    faults.none();
}

#[test]
fn publisher_mutes() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("publisher_mutes", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(10));
        for silence in [1, 5, 30] {
            let muted = call.time();
            call.mute(publisher, true);
            call.run_for(seconds(silence));
            let back = call.time();
            call.mute(publisher, false);
            call.run_for(seconds(10));
            let seen = call.seen(viewer);
            // What was on its way when the button was pressed may still be shown.
            let shown = seen.fps(muted + ms(100), back);
            faults.check(shown == 0.0, seed, || format!("{shown} fps while muted"));
            let first = seen.freezes(back, call.time(), ms(0)).first().map(|(_, length)| *length);
            faults.check(first.is_some_and(|after| after < ms(500)), seed, || {
                format!("muted for {silence} s, first frame after {first:?}")
            });
            let best = seen.shown_after(back, 1280);
            faults.check(best.is_some_and(|after| after < seconds(3)), seed, || {
                format!("muted for {silence} s, best layer after {best:?}")
            });
            let freezes = seen.freezes(back + ms(500), call.time(), ms(300));
            faults.check(freezes.is_empty(), seed, || format!("muted for {silence} s: freezes {freezes:?}"));
            let heard = seen.heard(back + ms(100), call.time());
            faults.check(heard.packets > 480 && heard.late == 0, seed, || format!("{heard:?}"));
        }
        let undecodable = call.seen(viewer).video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
    }
    faults.none();
}

#[test]
fn late_viewer() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("late_viewer", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let first = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(8));
        let before_it = call.time();
        call.run_for(seconds(2));
        let before = call.published(publisher).plis.len();
        let viewer = call.subscribe(publisher, good(), Demand { max_spatial: 0, ..Demand::default() });
        call.run_for(seconds(5));
        let asked = call.published(publisher).plis.len() - before;
        faults.check(asked == 1, seed, || format!("{asked} keyframes asked for"));
        let shown = call.seen(viewer).first_frame();
        // The encoder takes up to 200 ms and one frame, its pacing 80, the paths 30.
        faults.check(shown.is_some_and(|after| after < ms(400)), seed, || {
            format!("first frame after {shown:?}")
        });
        let sizes = call.seen(first).sizes(before_it, call.time());
        faults.check(sizes == [(1280, 720)], seed, || format!("the first viewer: {sizes:?}"));
        let freezes = call.seen(first).freezes(before_it, call.time(), ms(300));
        faults.check(freezes.is_empty(), seed, || format!("the first viewer: freezes {freezes:?}"));
    }
    faults.none();
}

/// A camera of one encoding, twice what is assumed of a path that nobody knows: a burst comes through, and it is there.
#[test]
fn a_single_encoding_is_seen_as_soon_as_it_is_known_to_fit() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("a_single_encoding", seed, Machines::Idle);
        let publisher = call.publish(single, good());
        call.run_for(seconds(3));
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let joined = call.time();
        call.run_for(seconds(10));
        let first = call.seen(viewer).shown_after(joined, 320);
        faults.check(first.is_some_and(|after| after < ms(600)), seed, || format!("first picture {first:?}"));
        let fps = call.seen(viewer).fps(joined + seconds(2), call.time());
        faults.check(fps > 29.0, seed, || format!("{fps} frames a second"));
    }
    faults.none();
}

/// The same where it does not fit: the burst finds that out, and the sound is there from the start.
#[test]
fn a_single_encoding_that_does_not_fit_harms_no_sound() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for kbps in [400, 700, 1000] {
            let mut call = Call::new("a_single_encoding_that_does_not_fit", seed, Machines::Idle);
            let publisher = call.publish(single, good());
            call.run_for(seconds(3));
            let link = access(Bitrate::kbps(kbps), ms(30));
            let viewer =
                call.subscribe(publisher, Access { down: link.down, up: good().up }, Demand::default());
            let joined = call.time();
            call.run_for(seconds(10));
            let heard = call.seen(viewer).heard(joined + ms(500), call.time());
            faults.check(heard.missed() < 0.02, seed, || format!("{kbps} kbit/s: {heard:?}"));
            let queue = call.queueing(viewer, joined);
            faults.check(queue < ms(150), seed, || format!("{kbps} kbit/s: a queue of {queue:?}"));
        }
    }
    faults.none();
}

fn single(ssrc: u32, mid: &str, extensions: ExtensionIds) -> CameraConfig {
    let mut config = CameraConfig::small(ssrc, mid, extensions);
    config.layers[0].rate = Bitrate::kbps(1200);
    config
}
