//! The `sluice` command.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match sluice::cli::run(sluice::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
