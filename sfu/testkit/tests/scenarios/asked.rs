//! A viewer asks for a size and gets it.

use sfu::command::Demand;
use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, good, ms, seconds, seeds};

/// Low, medium and high in every order.
const ASKED: [(u8, u16); 8] =
    [(0, 320), (1, 640), (2, 1280), (0, 320), (2, 1280), (1, 640), (0, 320), (1, 640)];

#[test]
fn asked_layer() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("asked_layer", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let joined = call.time();
        call.run_for(seconds(10));
        for (rank, width) in ASKED {
            let asked = call.time();
            call.adjust(viewer, Demand { max_spatial: rank, ..Demand::default() });
            call.run_for(seconds(6));
            let seen = call.seen(viewer);
            let after = seen.shown_after(asked, width);
            faults.check(after.is_some_and(|after| after < seconds(1)), seed, || {
                format!("rank {rank} asked at {asked:?}, shown after {after:?}")
            });
            let later = seen.sizes(asked + seconds(1), call.time());
            faults.check(later.len() == 1, seed, || format!("rank {rank} asked at {asked:?}: {later:?}"));
        }
        let (seen, end) = (call.seen(viewer), call.time());
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
        let freezes = seen.freezes(joined + ms(500), end, ms(300));
        faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
        let heard = seen.heard(joined, end);
        faults.check(heard.missed() < 0.001, seed, || format!("{heard:?}"));
    }
    faults.none();
}
