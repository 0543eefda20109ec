//! One camera and microphone to many viewers, for who counts what the core does meanwhile: `cargo xtask cost`.
//!
//! `VIEWERS`. Prints how many media packets were sent in the counted seconds. Encryption is left out, time is virtual.

use std::time::Duration;

use sfu::command::Demand;
use sfu_testkit::call::{Access, Call};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::LinkConfig;

/// Until all have joined, been probed and got the top layer.
const BEFORE: Duration = Duration::from_secs(6);
const COUNTED: Duration = Duration::from_secs(4);

fn main() {
    let viewers: usize = std::env::args().nth(1).and_then(|it| it.parse().ok()).expect("a number of viewers");
    let mut call = Call::quiet("fanout", 1);
    let access = Access::same(LinkConfig::fiber());
    let publisher = call.publish(CameraConfig::simulcast, access);
    for _ in 0..viewers {
        call.subscribe(publisher, access, Demand::default());
    }
    call.run_for(BEFORE);
    println!("{}", counted(&mut call));
}

/// By its name callgrind knows where to begin.
#[inline(never)]
fn counted(call: &mut Call) -> u64 {
    let sent = |call: &Call| {
        let sent = call.server().sfu().stats().sent;
        sent.audio.packets + sent.video.packets
    };
    let before = sent(call);
    call.run_for(COUNTED);
    sent(call) - before
}
