//! Developer commands. `cargo xtask dev` and `cargo xtask ci` are all that a new machine needs besides a
//! Rust toolchain: both install what is missing, or name it and say how to get it.

mod against;
mod bench;
mod ci;
mod cost;
mod dev;
mod fuzz;
mod overload;
mod place;
mod rows;
mod run;
mod sim;
mod soak;
mod spinner;
mod tidy;
mod tools;
mod trial;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Sluice")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the page and the server, and start it for development on this machine
    Dev(dev::Args),
    /// All that must hold before a change lands: format, lints, licences, builds, tests, real clients
    Ci(ci::Args),
    /// The whole server against real browsers and SDKs, the last part of `ci`
    Clients,
    /// Measure the packet path: CPU and allocations per forwarded packet, alone or against other servers
    Bench(bench::Args),
    /// Count instructions and allocations for each forwarded packet, and compare with what they were
    Cost,
    /// What becomes of a meeting when the server has no time left: ten minutes, as root
    Overload(overload::Args),
    /// A server under load for a long time: does it keep its memory, and lose nothing? As root
    Soak(soak::Args),
    /// Keeps a core busy for `overload` and `soak`
    #[command(hide = true)]
    Spin,
    /// Fuzz the parsers and state machines
    Fuzz(fuzz::Args),
    /// Run seeded calls over simulated links in virtual time
    Sim(sim::Args),
    /// What is promised over bad networks, with real clients: half an hour, and nothing else should run meanwhile
    Rows(rows::Args),
    /// Check the licences and sources of all dependencies by deny.toml
    Deny,
    /// Have tshark read what simulated calls send, and find fault with it
    Wire,
    /// Find metrics and configuration keys without documentation
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dev(args) => dev::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Clients => ci::clients(),
        Command::Bench(args) => bench::run(&args),
        Command::Cost => cost::run(),
        Command::Overload(args) => overload::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Spin => spinner::spin(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Rows(args) => rows::run(&args),
        Command::Deny => deny(),
        Command::Wire => wire::run(),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Advisories too where the advisory database can be reached: `cargo deny check`.
fn deny() -> run::Result {
    tools::cargo_tool("cargo-deny", "0.20.2")?;
    run::run(&mut run::cargo(&["deny", "check", "licenses", "bans", "sources"]))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
