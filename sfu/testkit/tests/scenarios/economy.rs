//! Keyframes are dear for everybody who watches: few are asked for, and a layer that stopped is waited for by nobody.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines, SubscriberId};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{LinkConfig, Loss};
use sfu_testkit::rtp::ExtensionIds;

use crate::{Faults, access, good, ms, seconds, seeds};

/// Three encodings of 160, 250 and 400 kbit/s, since there are many viewers.
fn modest(ssrc: u32, mid: &str, extensions: ExtensionIds) -> CameraConfig {
    let mut config = CameraConfig::simulcast(ssrc, mid, extensions);
    for (layer, kbps) in config.layers.iter_mut().zip([160, 250, 400]) {
        layer.rate = Bitrate::kbps(kbps);
    }
    config
}

/// What changes between much and little, and loses packets.
fn bad(kbps: u64) -> Access {
    let path = access(Bitrate::kbps(kbps), ms(80));
    Access { down: LinkConfig { loss: Loss::Random(0.05), ..path.down }, up: path.up }
}

#[test]
fn five_of_two_hundred_on_bad_links() {
    let mut faults = Faults::default();
    // One seed: it takes as long as all others together.
    for seed in seeds().into_iter().take(1) {
        let mut call = Call::new("five_of_two_hundred_on_bad_links", seed, Machines::Idle);
        let publisher = call.publish(modest, good());
        let viewers: Vec<SubscriberId> =
            (0..200).map(|_| call.subscribe(publisher, good(), Demand::default())).collect();
        call.run_for(seconds(8));
        let (begin, asked) = (call.time(), call.published(publisher).plis.len());
        let keyframes = |call: &Call, viewer: SubscriberId| call.seen(viewer).video().keyframes;
        let before: Vec<u64> = viewers.iter().map(|viewer| keyframes(&call, *viewer)).collect();
        for round in 0..20 {
            let index = round % 5;
            let narrow = (round / 5) % 2 == 0;
            call.set_access(viewers[index], bad(if narrow { 250 } else { 3000 }));
            call.run_for(seconds(1));
        }
        let end = call.time();
        let plis = &call.published(publisher).plis[asked..];
        let asked: Vec<_> = plis.iter().map(|(at, ssrc)| (call.since_start(*at), ssrc.0)).collect();
        faults.check(asked.len() <= 20, seed, || format!("{} keyframes asked for: {asked:?}", asked.len()));
        faults.check(!asked.is_empty(), seed, || "the bad links made no difference".into());
        for (index, (viewer, before)) in viewers.iter().zip(before).enumerate().skip(5) {
            let seen = call.seen(*viewer);
            let sizes = seen.sizes(begin, end);
            faults.check(sizes == [(1280, 720)], seed, || format!("viewer {index} saw {sizes:?}"));
            let freezes = seen.freezes(begin, end, ms(250));
            faults.check(freezes.is_empty(), seed, || format!("viewer {index}: freezes {freezes:?}"));
            let more = seen.video().keyframes - before;
            faults.check(more <= 10, seed, || format!("viewer {index} paid for {more} keyframes in 20 s"));
        }
    }
    faults.none();
}

/// Time until the allocator has another layer for a viewer than `spatial`, looked at each 10 ms.
fn until_moved_on(call: &mut Call, viewer: SubscriberId, spatial: u8) -> Option<Duration> {
    let begin = call.time();
    while call.time() < begin + seconds(2) {
        call.run_for(ms(10));
        let wanted = call.samples(viewer).last().and_then(|sample| sample.wanted[0]);
        if wanted.is_some_and(|layer| layer.spatial != spatial) {
            return Some(call.time().saturating_sub(begin));
        }
    }
    None
}

#[test]
fn a_layer_that_stops_is_missed_within_300_ms() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("a_layer_that_stops_is_missed_within_300_ms", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(10));
        let stopped = call.time();
        call.set_layer(publisher, "f", false);
        let after = until_moved_on(&mut call, viewer, 2);
        // What the encoder had made still leaves for 50 ms, and is 20 ms on its way.
        faults.check(after.is_some_and(|after| after <= ms(300 + 70)), seed, || format!("after {after:?}"));
        call.run_for(seconds(2));
        let shown = call.seen(viewer).shown_after(stopped, 640);
        faults.check(shown.is_some_and(|after| after < ms(700)), seed, || format!("shown after {shown:?}"));
    }
    faults.none();
}

#[test]
fn who_waits_for_a_layer_that_stops_moves_on() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("who_waits_for_a_layer_that_stops_moves_on", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let low = Demand { max_spatial: 1, ..Demand::default() };
        let viewer = call.subscribe(publisher, good(), low);
        call.run_for(seconds(10));
        call.adjust(viewer, Demand::default());
        call.run_for(ms(20));
        let asked = call.time();
        call.set_layer(publisher, "f", false);
        let joined = call.subscribe(publisher, good(), Demand::default());
        let after = until_moved_on(&mut call, viewer, 2);
        faults.check(after.is_some_and(|after| after < ms(700)), seed, || format!("after {after:?}"));
        call.run_for(seconds(3));
        let freezes = call.seen(viewer).freezes(asked, call.time(), ms(200));
        faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
        let first = call.seen(joined).first_frame();
        faults.check(first.is_some_and(|after| after < ms(700)), seed, || format!("first frame {first:?}"));
    }
    faults.none();
}

/// Down: the old picture stays until the new one's keyframe is there, however long that takes.
#[test]
fn who_steps_down_keeps_a_picture() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("who_steps_down_keeps_a_picture", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(10));
        for spatial in [1, 0, 2, 0] {
            let begin = call.time();
            call.adjust(viewer, Demand { max_spatial: spatial, ..Demand::default() });
            call.run_for(seconds(4));
            // With the base layer alone there are 7.5 frames a second.
            let freezes = call.seen(viewer).freezes(begin, call.time(), ms(250));
            faults.check(freezes.is_empty(), seed, || format!("to {spatial}: freezes {freezes:?}"));
            let sizes = call.seen(viewer).sizes(begin + seconds(3), call.time());
            let width = [320, 640, 1280][usize::from(spatial)];
            faults.check(sizes.iter().all(|size| size.0 == width), seed, || format!("saw {sizes:?}"));
        }
    }
    faults.none();
}
