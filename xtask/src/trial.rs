//! This server under load, in namespaces of the run's own: what `overload` and `soak` have in common.
//!
//! The server has the first core, generators and whoever watches the last. What is written lies below `target/`.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::against::peers::{Peer, Server};
use crate::place::{self, ADDRESS, Place};
use crate::run::{self, Result, cargo, output, root};

const PORT: u16 = 7880;
/// A server without time answers late.
const SCRAPE: Duration = Duration::from_secs(5);

/// Builds what is needed and starts this command again, inside.
pub(crate) fn go_inside() -> Result {
    place::needs()?;
    run::run(&mut cargo(&["build", "--release", "--locked", "-p", "sluice", "-p", "sluice-load", "--bins"]))?;
    place::again_inside()
}

/// Where `cargo build --release` puts a program.
fn program(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    root().join(target).join("release").join(name)
}

/// `sluice serve --dev` with variables of its configuration.
struct Ours<'a> {
    variables: &'a [(&'a str, &'a str)],
}

impl Peer for Ours<'_> {
    fn name(&self) -> &'static str {
        "Sluice"
    }

    fn install(&self) -> Result {
        Ok(())
    }

    fn version(&self) -> Result<String> {
        let program = program("sluice");
        output(&program.to_string_lossy(), &["--version"])
            .ok_or_else(|| format!("`{} --version` failed", program.display()))
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = place.on_server_core(&program("sluice").to_string_lossy());
        command
            .args(["serve", "--dev", "--bind", &ADDRESS.to_string(), "--port", &PORT.to_string()])
            .envs(self.variables.iter().copied());
        Ok(command)
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn joining(&self) -> Vec<String> {
        vec!["--url".to_owned(), format!("ws://{ADDRESS}:{PORT}")]
    }
}

/// A server that runs; it ends when this is dropped.
pub(crate) struct Trial<'a> {
    place: &'a Place,
    server: Server,
    folder: PathBuf,
    name: String,
}

impl<'a> Trial<'a> {
    /// `folder` is one below `target/`; files begin with `name`.
    pub(crate) fn start(
        place: &'a Place,
        folder: &str,
        name: &str,
        variables: &[(&str, &str)],
    ) -> Result<Trial<'a>> {
        let folder = root().join("target").join(folder);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let server = Server::start(&Ours { variables }, place, &folder.join(format!("{name}.log")))?;
        Ok(Trial { place, server, folder, name: name.to_owned() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Starts a generator for so many seconds, with flags of `sluice-load`.
    pub(crate) fn load(&self, name: &str, seconds: u64, flags: &[&str]) -> Result<Load> {
        let file = |kind| self.folder.join(format!("{}-{name}.{kind}", self.name));
        let [told, second, summary] = ["txt", "seconds", "json"].map(file);
        let out = File::create(&told).map_err(|error| format!("cannot write {}: {error}", told.display()))?;
        let _ = std::fs::remove_file(&summary);
        let [taskset, option, core] = self.place.on_load_core();
        let mut command = run::command(taskset, &[&option, &core]);
        command
            .arg(program("sluice-load"))
            .args(Ours { variables: &[] }.joining())
            .args(["--server-pid", &self.pid().to_string(), "--duration", &format!("{seconds}s")])
            .arg("--seconds")
            .arg(&second)
            .arg("--json")
            .arg(&summary)
            .args(flags)
            .stdout(out)
            .stderr(Stdio::inherit());
        let process = command.spawn().map_err(|error| format!("cannot start the generator: {error}"))?;
        Ok(Load { process, told, seconds: second, summary })
    }

    /// A metric by its name and labels as Prometheus writes them; 0 if it is not there.
    #[expect(clippy::unused_self, reason = "who has no server has no metrics")]
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = metrics().map_err(|error| format!("cannot read the server's metrics: {error}"))?;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        Ok(text.lines().find_map(value).unwrap_or(0.0))
    }
}

/// All of the server's metrics, as Prometheus reads them.
fn metrics() -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ADDRESS, PORT)), SCRAPE)?;
    stream.set_read_timeout(Some(SCRAPE))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: sluice\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A generator that runs, or has run.
pub(crate) struct Load {
    process: Child,
    told: PathBuf,
    seconds: PathBuf,
    summary: PathBuf,
}

impl Load {
    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// What it has told of each second until now.
    pub(crate) fn seconds(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.seconds).unwrap_or_default();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until so many have joined, for `time` at most.
    pub(crate) fn wait_for(&self, people: u64, time: Duration) -> Result {
        let by = Instant::now() + time;
        while self.seconds().last().is_none_or(|second| number(second, "/joined") < people as f64) {
            if by <= Instant::now() {
                return Err(format!("not all {people} have joined after {} s", time.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Waits for its end. Gives its summary, whether anybody got media or not.
    pub(crate) fn finish(mut self) -> Result<Value> {
        self.process.wait().map_err(|error| format!("cannot wait for the generator: {error}"))?;
        read(&self.summary).map_err(|error| format!("{error}: see {}", self.told.display()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // If it has ended by itself that is as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read(file: &Path) -> Result<Value> {
    let text = std::fs::read(file).map_err(|error| format!("the generator wrote no summary ({error})"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// A number in a generator's JSON; 0 where there is none.
pub(crate) fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}
