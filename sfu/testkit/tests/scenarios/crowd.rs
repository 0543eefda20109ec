//! Many viewers at once are one burden for the publisher.

use sfu::command::Demand;
use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, good, ms, seconds, seeds};

#[test]
fn twenty_viewers_at_once() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("twenty_viewers_at_once", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        call.run_for(seconds(2));
        let joined = call.time();
        let viewers: Vec<_> = (0..20).map(|_| call.subscribe(publisher, good(), Demand::default())).collect();
        call.run_for(seconds(15));

        let plis = &call.published(publisher).plis;
        let asked: Vec<_> = plis.iter().map(|(at, ssrc)| (call.since_start(*at), ssrc.0)).collect();
        // Three layers, and the better ones again for those who come up later.
        faults.check(asked.len() <= 6, seed, || format!("{} keyframes asked for: {asked:?}", asked.len()));
        for (index, (at, ssrc)) in asked.iter().enumerate() {
            let next = asked[index + 1..].iter().find(|(_, other)| other == ssrc);
            let pause = next.map(|(next, _)| next.saturating_sub(*at));
            faults.check(pause.is_none_or(|pause| pause >= ms(1900)), seed, || {
                format!("twice within {pause:?}")
            });
        }
        let settled = joined + seconds(8);
        let asked_later = asked.iter().filter(|(at, _)| *at > settled).count();
        faults.check(asked_later == 0, seed, || format!("{asked_later} keyframes asked for after 8 s"));
        for viewer in &viewers {
            let seen = call.seen(*viewer);
            let sizes = seen.sizes(settled, call.time());
            faults.check(sizes == [(1280, 720)], seed, || format!("after 8 s: {sizes:?}"));
            let freezes = seen.freezes(joined + seconds(2), call.time(), ms(400));
            faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
            let undecodable = seen.video().undecodable;
            faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
        }
    }
    faults.none();
}

#[test]
fn twenty_viewers_see_a_picture_soon() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("twenty_viewers_see_a_picture_soon", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        call.run_for(seconds(2));
        let viewers: Vec<_> = (0..20).map(|_| call.subscribe(publisher, good(), Demand::default())).collect();
        call.run_for(seconds(3));
        let first = viewers.iter().map(|viewer| call.seen(*viewer).first_frame());
        let late: Vec<_> = first.filter(|first| first.is_none_or(|after| after > ms(500))).collect();
        faults.check(late.is_empty(), seed, || format!("{} waited: {late:?}", late.len()));
    }
    faults.none();
}
