//! One seed is one whole call, to the byte.

use sfu::command::Demand;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{Jitter, LinkConfig, Loss};

use crate::{good, ms, seconds};

/// Everything that is left to chance, at once.
fn trace(seed: u64) -> u64 {
    let mut call = Call::new("replay", seed, Machines::Busy);
    let jitter = Jitter::Reorder { share: 0.02, most: ms(15) };
    let bad = LinkConfig { loss: Loss::Random(0.03), jitter, duplicate: 0.01, ..good().down };
    let publisher = call.publish(CameraConfig::simulcast, Access::same(bad));
    for _ in 0..3 {
        call.subscribe(publisher, Access::same(bad), Demand::default());
    }
    call.run_for(seconds(5));
    call.server().trace()
}

#[test]
fn same_seed_same_bytes() {
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1), trace(2));
}
