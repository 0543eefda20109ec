//! This server, as `cargo build --release` has it.

use std::process::Command;

use super::Peer;
use crate::place::{ADDRESS, Place};
use crate::run::{Result, output, root};

const PORT: u16 = 7880;

pub(in crate::against) struct Sluice;

impl Sluice {
    fn program() -> String {
        crate::against::path(&root().join("target/release/sluice"))
    }
}

impl Peer for Sluice {
    fn name(&self) -> &'static str {
        "Sluice"
    }

    /// It is built in any case.
    fn install(&self) -> Result {
        Ok(())
    }

    fn version(&self) -> Result<String> {
        output(&Sluice::program(), &["--version"])
            .ok_or_else(|| format!("`{} --version` failed", Sluice::program()))
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = place.on_server_core(&Sluice::program());
        command.args(["serve", "--dev", "--bind", &ADDRESS.to_string(), "--port", &PORT.to_string()]);
        Ok(command)
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn joining(&self) -> Vec<String> {
        vec!["--url".to_owned(), format!("ws://{ADDRESS}:{PORT}")]
    }
}
