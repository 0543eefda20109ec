//! `cargo xtask rows`: what is promised over bad networks (docs/adaptation.md), with real clients in real time.

use crate::ci;
use crate::run::{self, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this row
    #[arg(long)]
    row: Option<String>,
    /// Calls of each row
    #[arg(long, default_value_t = 3)]
    runs: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    let mut table =
        ci::client_tests(&["rows::every_row_with_real_clients", "--exact", "--ignored", "--nocapture"])?;
    table.env("SLUICE_ROW_RUNS", args.runs.to_string());
    if let Some(row) = &args.row {
        table.env("SLUICE_ROW", row);
    }
    run::run(&mut table)
}
