//! The open-source LiveKit server, built from its Go module into `target/`.

use std::path::PathBuf;
use std::process::Command;

use super::{Peer, configuration};
use crate::against::folder;
use crate::place::{ADDRESS, Place};
use crate::run::{self, Result, command, output};
use crate::tools;

/// The last release that `go install` takes: later ones replace modules with forks, which it refuses.
const VERSION: &str = "v1.13.5";
const MODULE: &str = "github.com/livekit/livekit-server/cmd/server";
const PORT: u16 = 7880;
const KEY: &str = "devkey";
/// It asks for 32 characters; the namespace is nobody else's.
const SECRET: &str = "for-the-comparison-of-servers-only";

pub(in crate::against) struct Livekit;

impl Livekit {
    fn folder() -> PathBuf {
        folder().join(format!("livekit-{VERSION}"))
    }

    fn program() -> String {
        // Named after the package's folder.
        crate::against::path(&Livekit::folder().join("server"))
    }
}

impl Peer for Livekit {
    fn name(&self) -> &'static str {
        "LiveKit"
    }

    fn install(&self) -> Result {
        if Livekit::folder().join("server").is_file() {
            return Ok(());
        }
        if !tools::on_path("go") {
            return Err("Go is needed to build the LiveKit server (https://go.dev/dl, or package `golang`)"
                .to_owned());
        }
        run::run(command("go", &["install", &format!("{MODULE}@{VERSION}")]).env("GOBIN", Livekit::folder()))
    }

    fn version(&self) -> Result<String> {
        output(&Livekit::program(), &["--version"])
            .ok_or_else(|| format!("`{} --version` failed", Livekit::program()))
    }

    /// As in production but for its key: no development mode, which logs each step.
    fn command(&self, place: &Place) -> Result<Command> {
        let file = Livekit::folder().join("livekit.yaml");
        let text = format!(
            "port: {PORT}\n\
             bind_addresses: [\"{ADDRESS}\"]\n\
             rtc: {{ udp_port: 7882, tcp_port: 7881, use_external_ip: false, node_ip: \"{ADDRESS}\" }}\n\
             keys: {{ {KEY}: {SECRET} }}\n\
             logging: {{ level: warn }}\n"
        );
        configuration(&file, &text)?;
        let mut command = place.on_server_core(&Livekit::program());
        command.arg("--config").arg(file);
        Ok(command)
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn joining(&self) -> Vec<String> {
        let url = format!("ws://{ADDRESS}:{PORT}");
        ["--url", &url, "--api-key", KEY, "--api-secret", SECRET].map(str::to_owned).to_vec()
    }
}
