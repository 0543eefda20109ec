//! A viewer bounds what it gets: a data budget, fewer frames, nothing but sound.

use std::time::Duration;

use sfu::command::{Demand, DownlinkPolicy};
use sfu::units::Bitrate;
use sfu_testkit::call::{Call, Machines, SubscriberId};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, good, ms, seconds, seeds};

fn latest_fps(call: &Call, viewer: SubscriberId, time: Duration) -> f64 {
    call.seen(viewer).fps(call.time().saturating_sub(time), call.time())
}

#[test]
fn policies() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("policies", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        call.run_for(seconds(8));
        let full = latest_fps(&call, viewer, seconds(3));

        let budget = Bitrate::kbps(400);
        call.limit(viewer, DownlinkPolicy { max: Some(budget), ..Default::default() });
        call.run_for(seconds(8));
        let rates = call.samples(viewer).iter().rev().take(50).filter_map(|sample| sample.snapshot.delivered);
        let (sum, count) = rates.fold((0, 0), |(sum, count), rate| (sum + rate.as_bps(), count + 1));
        faults.check(sum / count < budget.as_bps(), seed, || {
            format!("400 kbit/s at most: {} bit/s in the last 5 s", sum / count)
        });
        faults.check(latest_fps(&call, viewer, seconds(3)) > 12.0, seed, || {
            "a picture in 400 kbit/s".to_owned()
        });

        call.limit(viewer, DownlinkPolicy { data_saver: true, ..Default::default() });
        call.run_for(seconds(12));
        let half = latest_fps(&call, viewer, seconds(4));
        faults.check((half / full - 0.5).abs() < 0.1, seed, || format!("{half} of {full} frames a second"));
        let probing = call.samples(viewer).iter().rev().take(80).any(|sample| sample.snapshot.probing);
        faults.check(!probing, seed, || "probes cost data".to_owned());

        let hidden = call.time();
        call.limit(viewer, DownlinkPolicy { background: true, ..Default::default() });
        call.run_for(seconds(5));
        let seen = call.seen(viewer);
        let shown = seen.fps(hidden + ms(200), call.time());
        faults.check(shown == 0.0, seed, || format!("{shown} frames a second in the background"));
        let heard = seen.heard(hidden, call.time());
        faults.check(heard.missed() < 0.001, seed, || format!("{heard:?}"));

        let back = call.time();
        call.limit(viewer, DownlinkPolicy::default());
        call.run_for(seconds(8));
        let first = call.seen(viewer).freezes(back, call.time(), ms(0)).first().map(|(_, length)| *length);
        faults.check(first.is_some_and(|after| after < ms(500)), seed, || format!("back after {first:?}"));
        let best = call.seen(viewer).shown_after(back, 1280);
        faults.check(best.is_some_and(|after| after < seconds(5)), seed, || format!("best after {best:?}"));
    }
    faults.none();
}
