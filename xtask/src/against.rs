//! `cargo xtask bench --against PEER`: the same load on this server and on others, in turn, in one network namespace.
//!
//! Each round starts each server anew on one core and puts `sluice-load` on another; only figures of one run are to be
//! compared. All of it lives in namespaces of its own (`place`), so that nothing outlives it, whatever ends it.

mod chart;
mod figures;
pub(crate) mod peers;
mod table;

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::place::{self, Place};
use crate::run::{self, Result, cargo, command, root};
use figures::Figures;
use peers::{Peer, Server};
use table::{Machine, Row};

/// What joins, beyond the subscribers: `sluice-load`'s flags.
const LOAD: [&str; 6] = ["--publishers", "1", "--video", "1200k", "--join-timeout", "20s"];
const JOINS_PER_SECOND: u64 = 20;
/// From the last join until figures are taken: estimates have grown by then.
const WARM_UP_SECONDS: u64 = 5;
/// After this long without an end of its own a run of the generator is ended.
const MARGIN_SECONDS: u64 = 30;

#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// Compare whole servers instead: the same load on Sluice and on this one; may be repeated
    #[arg(long, value_enum)]
    against: Vec<Other>,
    /// With --against: rounds, in each of which every server has its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20), requires = "against")]
    rounds: u32,
    /// With --against: subscribers of the one publisher
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=2000), requires = "against")]
    subscribers: u16,
    /// With --against: seconds that each server is measured in each round
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(5..=600), requires = "against")]
    seconds: u64,
    /// With --against: write all figures to this file, too
    #[arg(long, value_name = "FILE", requires = "against")]
    json: Option<PathBuf>,
    /// With --against: draw the CPU times into this SVG file
    #[arg(long, value_name = "FILE", requires = "against")]
    svg: Option<PathBuf>,
    /// What the command starts itself with, inside the namespaces
    #[arg(long, hide = true, requires = "against")]
    inside: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Other {
    /// The open-source LiveKit server, built by Go
    Livekit,
    /// Debian's Janus with its VideoRoom, in each of its two modes
    Janus,
}

pub(crate) fn is_wanted(args: &Args) -> bool {
    !args.against.is_empty()
}

pub(crate) fn run(args: &Args) -> Result {
    let peers = peers(&args.against);
    if args.inside {
        return compare(args, &peers);
    }
    place::needs()?;
    run::run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "sluice",
        "--package",
        "sluice-load",
        "--bins",
    ]))?;
    for peer in &peers {
        peer.install()?;
    }
    place::again_inside()
}

/// Sluice is the first: the others are told as multiples of it.
fn peers(others: &[Other]) -> Vec<Box<dyn Peer>> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(peers::sluice::Sluice)];
    if others.contains(&Other::Livekit) {
        peers.push(Box::new(peers::livekit::Livekit));
    }
    if others.contains(&Other::Janus) {
        peers.push(Box::new(peers::janus::Janus::thread_per_handle()));
        peers.push(Box::new(peers::janus::Janus::event_loop()));
    }
    peers
}

/// Where configurations, logs and figures of a run lie.
fn folder() -> PathBuf {
    root().join("target/against")
}

fn compare(args: &Args, peers: &[Box<dyn Peer>]) -> Result {
    let place = Place::make()?;
    std::fs::create_dir_all(folder())
        .map_err(|error| format!("cannot make {}: {error}", folder().display()))?;
    let mut rows: Vec<Row> = Vec::new();
    for peer in peers {
        rows.push(Row { name: peer.name(), version: peer.version()?, rounds: Vec::new() });
    }
    for round in 1..=args.rounds {
        for (peer, row) in peers.iter().zip(&mut rows) {
            let figures = measure(args, peer.as_ref(), &place, round)
                .map_err(|error| format!("{}, round {round}: {error}", peer.name()))?;
            eprintln!("round {round}, {:24} {figures}", peer.name());
            row.rounds.push(figures);
        }
    }
    let machine = Machine::read();
    println!("{}", table::text(&machine, args.subscribers, &rows));
    let title = format!(
        "CPU time for a forwarded packet, one publisher to {} subscribers: user, kernel",
        args.subscribers
    );
    let json = args.json.as_ref().map(|file| (file, table::json(&machine, args.subscribers, &rows)));
    let svg = args.svg.as_ref().map(|file| (file, chart::svg(&title, &rows)));
    for (file, text) in json.into_iter().chain(svg) {
        std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

/// One server's turn.
fn measure(args: &Args, peer: &dyn Peer, place: &Place, round: u32) -> Result<Figures> {
    let name = format!("{}-{round}", peer.name().replace([' ', ','], "-"));
    let [log, told, summary] = ["log", "txt", "json"].map(|kind| folder().join(format!("{name}.{kind}")));
    let seen = format!("see {} and {}", log.display(), told.display());
    let out = File::create(&told).map_err(|error| format!("cannot write {}: {error}", told.display()))?;
    let _ = std::fs::remove_file(&summary);
    let server = Server::start(peer, place, &log)?;
    let joining = u64::from(args.subscribers) / JOINS_PER_SECOND + 2;
    let seconds = joining + WARM_UP_SECONDS + args.seconds;
    let mut load = generator(place, seconds);
    load.args(LOAD)
        .args(["--joins-per-second", &JOINS_PER_SECOND.to_string()])
        .args(["--subscribers", &args.subscribers.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--warm-up", &format!("{WARM_UP_SECONDS}s")])
        // The same streams in each round for each server.
        .args(["--seed", &round.to_string()])
        .args(["--server-pid", &server.pid().to_string(), "--json"])
        .arg(&summary)
        .args(peer.joining())
        .stdout(out);
    let status = load.status().map_err(|error| format!("cannot start the generator: {error}"))?;
    if !status.success() {
        return Err(format!("the generator failed ({status}): {seen}"));
    }
    Figures::read(&summary, args.subscribers).map_err(|error| format!("{error}: {seen}"))
}

/// `sluice-load` on its core, ended if it does not end itself.
fn generator(place: &Place, seconds: u64) -> std::process::Command {
    let program = root().join("target/release/sluice-load");
    let limit = format!("{}", seconds + MARGIN_SECONDS);
    let mut generator = command("timeout", &["--kill-after", "5", &limit]);
    generator.args(place.on_load_core()).arg(path(&program));
    generator
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
