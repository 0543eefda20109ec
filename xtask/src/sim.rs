//! `cargo xtask sim`: calls and control loops in virtual time over seeded networks.

use crate::run::{self, Result, cargo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only simulations whose name has this in it
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result {
    let mut sim = cargo(&["test", "--package", "sfu-testkit", "--tests", "--"]);
    run::run(sim.args(&args.filter).arg("--nocapture"))
}
