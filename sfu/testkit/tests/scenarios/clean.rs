//! With room for everything nothing happens: the best layer, for ever.

use sfu::command::Demand;
use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{good, ms, seconds, seeds};

fn stays_on_the_best_layer(name: &str, machines: Machines) {
    for seed in seeds() {
        let mut call = Call::new(name, seed, machines);
        let publisher = call.publish(CameraConfig::simulcast, good());
        call.run_for(seconds(1));
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let joined = call.time();
        call.run_for(seconds(63));

        let seen = call.seen(viewer);
        let best = seen.shown_after(joined, 1280);
        assert!(best.is_some_and(|after| after < seconds(3)), "seed {seed}: {best:?}");
        let settled = joined + best.expect("it was reached");
        assert_eq!(seen.sizes(settled, call.time()), [(1280, 720)], "seed {seed}");
        let freezes = seen.freezes(joined + ms(500), call.time(), ms(300));
        assert!(freezes.is_empty(), "seed {seed}: {freezes:?}");
        assert!(seen.fps(settled, call.time()) > 28.5, "seed {seed}");
        assert_eq!(seen.video().undecodable, 0, "seed {seed}");
        assert!(seen.heard(joined, call.time()).missed() < 0.001, "seed {seed}");
    }
}

#[test]
fn clean_link() {
    stays_on_the_best_layer("clean_link", Machines::Idle);
}

#[test]
fn busy_machines() {
    stays_on_the_best_layer("busy_machines", Machines::Busy);
}
