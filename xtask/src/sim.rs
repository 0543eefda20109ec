//! `cargo xtask sim`: whole calls in virtual time over seeded networks.

use crate::run::{self, Result, cargo};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Passed to the simulator, such as `--seed 7 --scenario narrow`; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result {
    run::run(
        cargo(&["run", "--release", "--quiet", "--package", "sfu-testkit", "--bin", "sim", "--"])
            .args(&args.args),
    )
}
