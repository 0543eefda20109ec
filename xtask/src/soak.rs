//! `cargo xtask soak`: a server that is busy for a long time, while people come and go.
//!
//! Some stay for the whole run, in a meeting in which all see all; others join the same room, one of them with a camera, and leave again, over and over. What
//! the server holds is looked at every ten seconds. It fails if memory grows, if file descriptors do, or if a packet is lost or reordered
//! that was not dropped by the generator's own sockets.

mod memory;
mod process;
mod slope;

use std::time::{Duration, Instant};

use serde_json::Value;

use self::process::{Held, held, unread};
use self::slope::{blocks, fit};
use crate::place::Place;
use crate::run::Result;
use crate::spinner::{BUSY, Spinner};
use crate::trial::{self, Load, Trial, number};

const SAMPLE: Duration = Duration::from_secs(10);
/// Samples in a minute.
const MINUTE: usize = 6;
/// Who stays.
const STAY: &[&str] = &[
    "--room",
    "soak",
    "--meeting",
    "--publishers",
    "24",
    "--subscribers",
    "0",
    "--quality",
    "low",
    "--joins-per-second",
    "10",
];
const STAYING: u64 = 24;
const JOINING: Duration = Duration::from_mins(1);
/// For making the server as busy as that, in seconds.
const SLOWING: u64 = 120;
/// Who comes and goes, for so many seconds.
const VISIT: &[&str] =
    &["--room", "soak", "--publishers", "1", "--subscribers", "6", "--joins-per-second", "3"];
const VISIT_SECONDS: u64 = 20;
/// What of the load is theirs who stay.
const ALONE: f64 = 0.8;
/// Most that resident memory may grow in an hour, in KiB.
const GROWTH: f64 = 1024.0;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long it takes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=1440))]
    minutes: u64,
    /// How much of its core the server needs, in percent; what the load does not is taken away
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(10..=90))]
    busy: u8,
    /// Instead: what one more participant costs in memory, three minutes
    #[arg(long)]
    memory: bool,
    /// What the command starts itself with, inside the namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

pub(crate) fn run(args: &Args) -> Result {
    if !args.inside {
        return trial::go_inside();
    }
    let place = Place::make()?;
    let failures = if args.memory { memory::run(&place)? } else { soak(args, &place)? };
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// A line of the table.
struct Sample {
    hours: f64,
    held: Held,
}

/// Gives what is not as it should be.
fn soak(args: &Args, place: &Place) -> Result<Vec<String>> {
    let server = Trial::start(place, "soak", "server", &[])?;
    let mut spinner = Spinner::start(place)?;
    let seconds = args.minutes * 60;
    let stay = server.load("stay", JOINING.as_secs() + SLOWING + seconds, STAY)?;
    stay.wait_for(STAYING, JOINING)?;
    std::thread::sleep(Duration::from_secs(15));
    let left = spinner.until_busy(&server, f64::from(args.busy) / 100.0 * ALONE)?;
    println!("the server is left {:.0} % of a core", left * 100.0);
    let mut visits = Visits::default();
    let begin = Instant::now();
    let mut samples = Vec::new();
    let mut busy = server.metric(BUSY)?;
    println!(
        "{:>7}  {:>8}  {:>5}  {:>7}  {:>6}  {:>9}  {:>6}  {:>9}  {:>6}  {:>7}  {:>9}",
        "time",
        "RSS MiB",
        "files",
        "threads",
        "visits",
        "packets/s",
        "lost",
        "reordered",
        "unread",
        "busy",
        "held back"
    );
    while begin.elapsed().as_secs() < seconds {
        let due = begin + SAMPLE * (samples.len() as u32 + 1);
        while Instant::now() < due {
            visits.go_on(&server)?;
            std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(500)));
        }
        let held = held(server.pid())?;
        let busy_before = std::mem::replace(&mut busy, server.metric(BUSY)?);
        let told = stay.seconds();
        let sum = |pointer: &str| told.iter().map(|second| number(second, pointer)).sum::<f64>();
        println!(
            "{:5} s  {:8.2}  {:5}  {:7}  {:6}  {:9.0}  {:6}  {:9}  {:6}  {:5.0} %  {:9}",
            begin.elapsed().as_secs(),
            held.resident / 1024.0,
            held.files,
            held.threads,
            visits.over,
            told.last().map_or(0.0, |second| number(second, "/packets")),
            sum("/lost"),
            sum("/reordered"),
            unread(server.pid()),
            (busy - busy_before) / SAMPLE.as_secs_f64() * 100.0,
            server.metric("sluice_worker_restraint")?,
        );
        samples.push(Sample { hours: begin.elapsed().as_secs_f64() / 3600.0, held });
    }
    spinner.take(0.0)?;
    let lost_in = unread(server.pid());
    visits.finish()?;
    let mut failures = grown(&samples);
    failures.extend(visits.failures);
    failures.extend(faults("who stayed", &stay.finish()?));
    if lost_in > 0 {
        failures.push(format!("{lost_in} datagrams were not read in time by the server"));
    }
    println!("{} visits of 7", visits.over);
    Ok(failures)
}

/// Those who come and go.
#[derive(Default)]
struct Visits {
    now: Option<Load>,
    over: u32,
    failures: Vec<String>,
}

impl Visits {
    /// Starts the next when one is over.
    fn go_on(&mut self, server: &Trial<'_>) -> Result {
        if self.now.as_mut().is_some_and(|load| !load.is_over()) {
            return Ok(());
        }
        self.finish()?;
        self.now = Some(server.load("visit", VISIT_SECONDS, VISIT)?);
        Ok(())
    }

    fn finish(&mut self) -> Result {
        if let Some(load) = self.now.take() {
            self.over += 1;
            self.failures.extend(faults(&format!("visit {}", self.over), &load.finish()?));
        }
        Ok(())
    }
}

/// What the server lost, reordered or refused, as a generator tells it.
fn faults(who: &str, summary: &Value) -> Vec<String> {
    let received = |field: &str| number(summary, &format!("/received/{field}"));
    let (lost, here) = (received("lost"), received("dropped_here"));
    let mut faults = Vec::new();
    if lost > here {
        faults.push(format!("{who}: {} packets were lost, of {}", lost - here, received("packets")));
    }
    if received("reordered") > 0.0 {
        faults.push(format!("{who}: {} packets were reordered", received("reordered")));
    }
    for role in ["publisher", "subscriber"] {
        let joins = |field: &str| number(summary, &format!("/{role}_joins/{field}"));
        let example = summary.pointer(&format!("/{role}_joins/example")).and_then(Value::as_str);
        if joins("joined") < joins("attempted") || example.is_some() {
            let (joined, attempted) = (joins("joined"), joins("attempted"));
            faults.push(format!(
                "{who}: {joined} of {attempted} {role}s joined and stayed: {}",
                example.unwrap_or("?")
            ));
        }
    }
    faults
}

/// Prints how what the server holds has grown, and gives what is too much.
fn grown(samples: &[Sample]) -> Vec<String> {
    let after = &samples[samples.len() / 5..];
    let mut failures = Vec::new();
    let memory: Vec<_> = after.iter().map(|sample| (sample.hours, sample.held.resident)).collect();
    match fit(&blocks(&memory, MINUTE)) {
        Some(line) => {
            println!(
                "memory: {:+.2} MiB an hour, within {:.2} either way (95 %, minutes' means, after a fifth of the time)",
                line.slope / 1024.0,
                line.margin / 1024.0
            );
            if line.slope >= GROWTH {
                failures.push(format!("memory grows by {:.2} MiB an hour", line.slope / 1024.0));
            } else if line.slope + line.margin >= GROWTH {
                println!(
                    "that it grows by less than {:.0} MiB an hour is likely and not certain: run for longer",
                    GROWTH / 1024.0
                );
            }
        }
        None => println!("memory: too short a run to say whether it grows"),
    }
    // Sockets come and go with visits; when none is there all must be as before.
    let third = after.len() / 3;
    for (what, of) in [
        ("file descriptors", (|held: &Held| held.files) as fn(&Held) -> usize),
        ("threads", |held| held.threads),
    ] {
        let least = |part: &[Sample]| part.iter().map(|sample| of(&sample.held)).min().unwrap_or_default();
        let (first, last) = (least(&after[..third]), least(&after[after.len() - third..]));
        println!("{what}: {first} at least in the first third, {last} in the last");
        if last > first {
            failures.push(format!("{what} grow: {first} at first, {last} at last"));
        }
    }
    failures
}
