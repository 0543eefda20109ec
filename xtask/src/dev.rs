//! `cargo xtask dev`: from a fresh clone to a running server with its page.

use crate::run::{Result, cargo, command, root};
use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Do not build the page
    #[arg(long)]
    no_page: bool,
    /// Passed to `sluice serve --dev`, such as `--port 8000`
    #[arg(last = true)]
    serve: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result {
    if !args.no_page {
        tools::page()?;
    }
    crate::run::run(&mut cargo(&["build", "--release", "--bin", "sluice"]))?;
    let server = root().join("target/release/sluice");
    let serve: Vec<&str> =
        ["serve", "--dev"].into_iter().chain(args.serve.iter().map(String::as_str)).collect();
    start(command(server, &serve))
}

#[cfg(unix)]
fn start(mut server: std::process::Command) -> Result {
    use std::os::unix::process::CommandExt;
    // Replaces this process, so that a signal meant for the server reaches it.
    Err(format!("cannot start the server: {}", server.exec()))
}

#[cfg(not(unix))]
fn start(mut server: std::process::Command) -> Result {
    crate::run::run(&mut server)
}
