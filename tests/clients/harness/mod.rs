//! What the client tests share: a server, hands on browsers and SDKs, bad networks, and patience.

mod access;
mod agent;
mod api;
mod participant;
mod programs;
mod remote;
mod server;
mod signal;
mod stalls;
mod token;
mod tun;
mod wire;

pub(crate) mod http;
pub(crate) mod namespace;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use access::{Access, AccessLink};
pub(crate) use agent::AgentWorker;
pub(crate) use api::{Api, Hooks};
pub(crate) use participant::{Camera, DataFrame, Kind, Message, Mode, Participant, Received, Stats, Stream};
pub(crate) use remote::{Browser, OverHttp, Sdk, Tab};
pub(crate) use server::Server;
pub(crate) use signal::{Signal, join_request};
pub(crate) use token::{Claims, Token};
pub(crate) use wire::Wire;

/// A test's turn.
pub(crate) struct Turn {
    _watched: stalls::Watched,
    _alone: MutexGuard<'static, ()>,
}

/// Two cores encode and decode for one test at a time, whatever `--test-threads` says. Hold it for the whole test.
pub(crate) fn alone() -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let alone = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Turn { _watched: stalls::Watched::begin(), _alone: alone }
}

/// Looks until there is something, and gives it.
///
/// # Panics
/// After `within`, with what `look` said last.
#[track_caller]
pub(crate) fn eventually<T>(within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "not within {within:?}: {instead}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lets the media flow for a while: the window of a measurement, never a wait for something to happen.
pub(crate) fn observe(window: Duration) {
    std::thread::sleep(window);
}

/// An address of this machine that is not loopback, which coturn, GStreamer and browsers treat apart.
pub(crate) fn own_address() -> Ipv4Addr {
    let found = sluice::media::kernel::interface_addresses().expect("interfaces");
    let v4 = found.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    v4.expect("an IPv4 address beside loopback")
}

/// A program of that Debian package.
///
/// # Panics
/// If it is not there.
pub(crate) fn program(name: &str, package: &str) -> PathBuf {
    programs::find(&[name], package)
}

/// The folder of the drivers.
fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// A file for people who want to see how it went: logs and screenshots.
pub(crate) fn artefact(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    std::fs::create_dir_all(&folder).expect("target/ can be written");
    folder.join(name)
}

/// The last lines of a log, for a failure's report.
fn tail(path: &Path) -> String {
    const LINES: usize = 60;
    const WIDTH: usize = 300;
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().map(|line| line.chars().take(WIDTH).collect()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
