//! What a call promises, as a user would notice: whole calls through the real core, in virtual time.
//!
//! `cargo xtask sim --scenario NAME --seed N` replays one; a scenario that fails prints what happened.

mod asked;
mod clean;
mod comings;
mod crowd;
mod economy;
mod explain;
mod feeds;
mod hostile;
mod lossy;
mod narrow;
mod overload;
mod parity;
mod pauses;
mod policy;
mod redundancy;
mod replay;
mod reports;
mod rights;
mod voice;

use std::time::Duration;

use sfu::units::{Bitrate, DataSize};
use sfu_testkit::call::Access;
use sfu_testkit::link::LinkConfig;

/// What was promised and not kept, over all seeds of a scenario.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, kept: bool, seed: u64, text: impl FnOnce() -> String) {
        if !kept {
            self.0.push(format!("seed {seed}: {}", text()));
            println!("NOT KEPT: {}", self.0.last().expect("just pushed"));
        }
    }

    /// # Panics
    /// If there are any.
    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0.join("\n"));
    }
}

/// The seed that was asked for, or some.
fn seeds() -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A good connection: this rate, with 200 ms of queue; `rtt` there and back.
fn access(rate: Bitrate, rtt: Duration) -> Access {
    let bucket = DataSize::bytes(3000);
    Access::same(LinkConfig { rate: Some(rate), delay: rtt / 2, bucket, ..LinkConfig::fiber() })
}

/// 20 Mbit/s, 20 ms there and back.
fn good() -> Access {
    access(Bitrate::kbps(20_000), ms(20))
}
