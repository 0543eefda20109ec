//! A viewer asks for a size and gets it.

use sfu::command::Demand;
use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{good, ms, seconds, seeds};

#[test]
fn asked_layer() {
    for seed in seeds() {
        let mut call = Call::new("asked_layer", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let joined = call.time();
        call.run_for(seconds(10));
        for (rank, width) in
            [(0, 320), (1, 640), (2, 1280), (0, 320), (2, 1280), (1, 640), (0, 320), (1, 640)]
        {
            let asked = call.time();
            call.adjust(viewer, Demand { max_spatial: rank, ..Demand::default() });
            call.run_for(seconds(6));
            let seen = call.seen(viewer);
            let after = seen.shown_after(asked, width);
            assert!(
                after.is_some_and(|after| after < seconds(1)),
                "seed {seed}, {rank} at {asked:?}: {after:?}"
            );
            let later = seen.sizes(asked + seconds(1), call.time());
            assert!(later.len() == 1, "seed {seed}, {rank} at {asked:?}: {later:?}");
        }
        let seen = call.seen(viewer);
        assert_eq!(seen.video().undecodable, 0, "seed {seed}");
        let freezes = seen.freezes(joined + ms(500), call.time(), ms(300));
        assert!(freezes.is_empty(), "seed {seed}: {freezes:?}");
        assert!(seen.heard(joined, call.time()).missed() < 0.001, "seed {seed}");
    }
}
