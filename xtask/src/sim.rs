//! `cargo xtask sim`: calls and control loops in virtual time over seeded networks.

use crate::run::{self, Result, cargo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only simulations whose name has this in it
    filter: Option<String>,
    /// Only this scenario of whole calls (`sfu/testkit/tests/scenarios`), also if it is marked as not kept yet
    #[arg(long, conflicts_with = "filter")]
    scenario: Option<String>,
    /// Only this seed of whole calls
    #[arg(long)]
    seed: Option<u64>,
    /// Print what the congestion control of this viewer thought (the first is 0)
    #[arg(long, value_name = "VIEWER")]
    timeline: Option<usize>,
}

pub(crate) fn run(args: &Args) -> Result {
    let mut sim = match &args.scenario {
        Some(name) => {
            let mut sim = cargo(&["test", "--package", "sfu-testkit", "--test", "scenarios", "--"]);
            sim.arg(name).arg("--include-ignored");
            sim
        }
        None => cargo(&["test", "--package", "sfu-testkit", "--tests", "--"]),
    };
    if let Some(seed) = args.seed {
        sim.env("SIM_SEED", seed.to_string());
    }
    if let Some(viewer) = args.timeline {
        sim.env("SIM_TIMELINE", viewer.to_string());
    }
    // One after the other, so that reports are not mixed.
    run::run(sim.args(&args.filter).args(["--nocapture", "--test-threads", "1"]))
}
