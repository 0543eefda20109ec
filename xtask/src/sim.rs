//! `cargo xtask sim`: calls and control loops in virtual time over seeded networks, and the table of what is promised.

use crate::run::{self, Result, cargo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only simulations whose name has this in it
    filter: Option<String>,
    /// Only this scenario of whole calls (`sfu/testkit/tests/scenarios`), also if it is marked as not kept yet
    #[arg(long, conflicts_with = "filter")]
    scenario: Option<String>,
    /// Print the table of what is promised over bad networks (`sfu/testkit/src/table`), and fail if a row is missed
    #[arg(long, conflicts_with_all = ["filter", "scenario"])]
    report: bool,
    /// Seeds of each row of the table
    #[arg(long, requires = "report", default_value_t = 50)]
    seeds: u64,
    /// Only this row of the table
    #[arg(long, requires = "report")]
    row: Option<String>,
    /// Only this seed of whole calls
    #[arg(long)]
    seed: Option<u64>,
    /// Print what the congestion control of this viewer thought (the first is 0)
    #[arg(long, value_name = "VIEWER")]
    timeline: Option<usize>,
    /// Write what the server sends in each call to a file in this folder, for Wireshark
    #[arg(long, value_name = "FOLDER", conflicts_with = "report")]
    pcap: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result {
    if args.report {
        return report(args);
    }
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
    if let Some(folder) = &args.pcap {
        sim.env("SIM_PCAP", std::path::absolute(folder).map_err(|error| error.to_string())?);
    }
    // One after the other, so that reports are not mixed.
    run::run(sim.args(&args.filter).args(["--nocapture", "--test-threads", "1"]))
}

fn report(args: &Args) -> Result {
    let mut table = cargo(&[
        "run",
        "--quiet",
        "--profile",
        "sim",
        "--package",
        "sfu-testkit",
        "--example",
        "table",
        "--",
    ]);
    table.args(["--seeds", &args.seeds.to_string()]);
    if let Some(row) = &args.row {
        table.args(["--row", row]);
    }
    if let Some(seed) = args.seed {
        table.args(["--seed", &seed.to_string()]);
    }
    if let Some(viewer) = args.timeline {
        table.env("SIM_TIMELINE", viewer.to_string());
    }
    run::run(&mut table)
}
