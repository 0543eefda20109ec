//! What is promised of a call over a bad mobile network, in figures: rows of a table, each a whole call with its limits.
//!
//! A row is run over some seeds. It is kept if the median over the seeds keeps every limit, and the worst seed misses
//! none by more than its size again ([`crate::score::Limit`]). `cargo xtask sim --report` runs and prints all of them.
//! Always: a figure is what the subscriber's player would show, or what its link carried; never what the server thinks
//! of itself, but for its estimate.

pub mod measure;
pub mod print;
mod rows;
pub mod run;

use std::time::Duration;

use crate::call::Call;
use crate::score::Score;

/// One row: a call, and what is promised of it.
pub struct Row {
    /// As given to `--row`.
    pub name: &'static str,
    /// The network, for the table.
    pub about: &'static str,
    /// Plays the call.
    pub play: fn(&Scene) -> Score,
    /// Long or large: left out of the tests, and run over a tenth of the seeds.
    pub heavy: bool,
}

/// Which call is to be played.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The row's name.
    pub name: &'static str,
    /// Decides all chances.
    pub seed: u64,
    /// Print what happened.
    pub told: bool,
}

impl Scene {
    /// A server without clients.
    pub fn call(&self) -> Call {
        if self.told {
            Call::new(self.name, self.seed, crate::call::Machines::Idle)
        } else {
            Call::quiet(self.name, self.seed)
        }
    }
}

/// Lets ten clients meet for `length`, on links of 4 Mbit/s, each shown the others: to see how fast time passes here.
pub fn meet(length: Duration) {
    let scene = Scene { name: "speed", seed: 1, told: false };
    drop(rows::ten_clients(&scene, length));
}

/// All rows, in the table's order.
pub fn rows() -> Vec<Row> {
    rows::all()
}
