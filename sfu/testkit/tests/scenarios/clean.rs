//! With room for everything nothing happens: the best layer, for ever.

use std::time::Duration;

use sfu::command::Demand;
use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, good, ms, seconds, seeds};

/// The best layer within `soon`, and from a second later on nothing else, at `fps` at least.
fn stays_on_the_best_layer(name: &str, machines: Machines, soon: Duration, fps: f64) {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new(name, seed, machines);
        let publisher = call.publish(CameraConfig::simulcast, good());
        call.run_for(seconds(1));
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let joined = call.time();
        call.run_for(seconds(64));

        let (seen, end) = (call.seen(viewer), call.time());
        // A stall before a frame leaves and one before it is shown.
        let longest = ms(300) + machines.longest_stall() * 2;
        let best = seen.shown_after(joined, 1280);
        faults.check(best.is_some_and(|after| after < soon), seed, || format!("best layer after {best:?}"));
        let settled = joined + soon + seconds(1);
        let sizes = seen.sizes(settled, end);
        faults.check(sizes == [(1280, 720)], seed, || format!("sizes {sizes:?}"));
        let freezes = seen.freezes(joined + ms(500), end, longest);
        faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
        let shown = seen.fps(settled, end);
        faults.check(shown >= fps, seed, || format!("{shown} fps"));
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
        let heard = seen.heard(joined, end);
        faults.check(heard.missed() < 0.001, seed, || format!("{heard:?}"));
    }
    faults.none();
}

#[test]
fn clean_link() {
    stays_on_the_best_layer("clean_link", Machines::Idle, seconds(3), 29.0);
}

#[test]
fn busy_machines() {
    stays_on_the_best_layer("busy_machines", Machines::Busy, seconds(5), 28.0);
}
