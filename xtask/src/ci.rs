//! `cargo xtask ci`: what must hold before a change lands, cheapest first.

use std::process::Command;

use crate::run::{self, Result, cargo, command, root};
use crate::{cost, tidy, tools, wire};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests that need browsers, SDKs and network namespaces
    #[arg(long)]
    no_clients: bool,
}

/// Programs that the client tests start, and the Debian packages that have them.
const CLIENT_PROGRAMS: &[(&str, &str)] = &[
    ("chromium", "chromium"),
    ("firefox-esr", "firefox-esr"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("setpriv", "util-linux"),
    ("turnserver", "coturn"),
];

pub(crate) fn run(args: &Args) -> Result {
    run::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    tools::page()?;
    run::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    run::run(&mut cargo(&["test", "--workspace", "--locked"]))?;
    run::run(
        command("cargo", &["check", "--quiet"]).current_dir(root().join("fuzz")).env("RUSTC_BOOTSTRAP", "1"),
    )?;
    encrypted()?;
    wire::run()?;
    cost::run()?;
    run::run(&mut cargo(&["build", "--release", "--locked", "--bin", "sluice"]))?;
    if args.no_clients {
        eprintln!("left out on request: tests with browsers, SDKs and namespaces");
        return Ok(());
    }
    clients()
}

/// The simulations' way around encryption is not in the server, nor in what is built for its tests.
fn encrypted() -> Result {
    let features = run::output("cargo", &["tree", "--package", "sluice", "--edges", "features"]);
    let features = features.ok_or("`cargo tree` failed")?;
    if features.contains("null-cipher") {
        return Err("the feature null-cipher of `sfu` has come into the server".to_owned());
    }
    Ok(())
}

/// The whole server against real browsers and SDKs.
pub(crate) fn clients() -> Result {
    // Tests that failed while the machine stood still (tests/clients/harness/stalls.rs): they have seen nothing of the server.
    let list = root().join("target/clients/stalled");
    let _ = std::fs::remove_file(&list);
    let failed = run::failed_tests(&mut client_tests(&[])?)?;
    if failed.is_empty() {
        return Ok(());
    }
    let stalled = std::fs::read_to_string(&list).unwrap_or_default();
    if let Some(fault) = failed.iter().find(|name| !stalled.lines().any(|line| line == *name)) {
        return Err(format!("a client test failed: {fault}"));
    }
    eprintln!("the machine stood still while these ran, so that they run once more: {}", failed.join(", "));
    let mut again = client_tests(&["--exact"])?;
    run::run(again.args(&failed))
}

/// The client tests, with these arguments, once all that they start is there.
pub(crate) fn client_tests(arguments: &[&str]) -> Result<Command> {
    tools::debian(CLIENT_PROGRAMS)?;
    let python = tools::python("python", "requirements.txt")?;
    let agents = tools::python("python-agents", "agents-requirements.txt")?;
    tools::npm_packages(&root().join("tests/clients"))?;
    // Each test brings up its own server and browser: one at a time, or two cores cannot decode what they are sent.
    let mut tests =
        cargo(&["test", "--release", "--locked", "--test", "clients", "--", "--test-threads", "1"]);
    tests.args(arguments).env("SLUICE_PYTHON", python).env("SLUICE_AGENTS_PYTHON", agents);
    Ok(tests)
}
