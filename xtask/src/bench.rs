//! `cargo xtask bench`: CPU and allocations per forwarded packet, and criterion's benches of the parts; with `--against`
//! whole servers in turn instead.

use crate::against;
use crate::run::{self, Result, cargo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also run criterion's benches of the parts
    #[arg(long)]
    parts: bool,
    #[command(flatten)]
    against: against::Args,
    /// Passed to the fan-out bench, such as `--seconds 5`
    #[arg(last = true)]
    fanout: Vec<String>,
}

/// Criterion's benches, each of one part of the packet path.
const PARTS: &[&str] = &["srtp", "parse"];

pub(crate) fn run(args: &Args) -> Result {
    if against::is_wanted(&args.against) {
        return against::run(&args.against);
    }
    run::run(cargo(&["bench", "--bench", "fanout", "--"]).args(&args.fanout))?;
    if args.parts {
        for part in PARTS {
            run::run(&mut cargo(&["bench", "--bench", part]))?;
        }
    }
    Ok(())
}
