//! What one more participant costs in memory: the resident memory of servers with few and with many of them.

use std::time::Duration;

use super::process::held;
use super::slope::fit;
use crate::place::Place;
use crate::run::Result;
use crate::trial::Trial;

/// Who joins, how many of them, and what each may cost, in KiB.
struct Kind {
    name: &'static str,
    flags: &'static [&'static str],
    counts: [u64; 3],
    goal: f64,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "idle",
        flags: &["--publishers", "0", "--room", "idle"],
        counts: [50, 200, 400],
        goal: 60.0,
    },
    Kind {
        name: "video",
        flags: &["--publishers", "1", "--video", "1200k", "--room", "video"],
        counts: [20, 60, 120],
        goal: 100.0,
    },
];
const JOINS_PER_SECOND: u64 = 20;
const JOINING: Duration = Duration::from_mins(2);
/// Rings have grown by then to what they come to.
const GROWING: Duration = Duration::from_secs(25);

/// Prints the figures. Gives what is missed.
pub(super) fn run(place: &Place) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    println!("| participants | RSS MiB | one more, KiB | goal |\n| --- | --- | ---: | ---: |");
    for kind in &KINDS {
        let mut points = Vec::new();
        for count in kind.counts {
            points.push((count as f64, resident(place, kind, count)?));
        }
        let slope = fit(&points).expect("three counts").slope;
        let list = |of: fn(&(f64, f64)) -> String| points.iter().map(of).collect::<Vec<_>>().join(", ");
        println!(
            "| {}: {} | {} | {slope:.0} | {:.0} |",
            kind.name,
            list(|(count, _)| format!("{count:.0}")),
            list(|(_, resident)| format!("{:.1}", resident / 1024.0)),
            kind.goal
        );
        if slope > kind.goal {
            missed.push(format!("{}: {slope:.0} KiB each, the goal is {:.0}", kind.name, kind.goal));
        }
    }
    Ok(missed)
}

/// In KiB, of a server that was started for this.
fn resident(place: &Place, kind: &Kind, count: u64) -> Result<f64> {
    let server = Trial::start(place, "soak", &format!("memory-{}-{count}", kind.name), &[])?;
    let seconds = count / JOINS_PER_SECOND + GROWING.as_secs() + 60;
    let subscribers = count.to_string();
    let joins = JOINS_PER_SECOND.to_string();
    let flags = [kind.flags, &["--subscribers", &subscribers, "--joins-per-second", &joins]].concat();
    let load = server.load("load", seconds, &flags)?;
    load.wait_for(count, JOINING).map_err(|error| format!("{}: {error}", kind.name))?;
    std::thread::sleep(GROWING);
    let held = held(server.pid())?;
    eprintln!("{} {count}: {:.1} MiB", kind.name, held.resident / 1024.0);
    Ok(held.resident)
}
