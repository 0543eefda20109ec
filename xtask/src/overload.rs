//! `cargo xtask overload`: what becomes of a meeting when the server's core has no time left, and afterwards.
//!
//! A meeting runs on a server that has one core. Then a crowd comes to another room; then something else takes most of the core for a
//! while (`spinner`), so that the meeting alone needs more than twice what is left; then it gives it back. All of it once as the
//! server was without a limit (`media.max-load = 0`), once with it. By load alone one generator on one core could not do that to it.

mod figures;

use std::time::{Duration, Instant};

use self::figures::{Figures, Watch};
use crate::place::Place;
use crate::run::Result;
use crate::spinner::Spinner;
use crate::trial::{self, Load, Trial, number};

const JOINS_PER_SECOND: u64 = 20;
/// Who has a microphone: in a meeting most are silent.
const SPEAKERS: &str = "4";
/// Until the meeting must be complete, on a machine that is shared.
const JOINING: Duration = Duration::from_secs(30);
/// Estimates have grown by then.
const GROWING: u64 = 20;
/// For making the server as busy as that.
const SLOWING: u64 = 60;
/// The parts of a run, in seconds.
const CALM: u64 = 10;
const CROWD: u64 = 20;
const SQUEEZE: u64 = 30;
const RECOVERY: u64 = 50;
/// What the server needs of its time for the meeting at first…
const USED: f64 = 0.6;
/// …and how many times as much as there is left when it is squeezed.
const SQUEEZED: f64 = 2.2;
/// Less than this of a core is never left: sound and what comes from cameras alone may need as much.
const LEAST: f64 = 0.17;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// People in the meeting; each sees all the others
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(4..=40))]
    people: u16,
    /// What the command starts itself with, inside the namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

pub(crate) fn run(args: &Args) -> Result {
    if !args.inside {
        return trial::go_inside();
    }
    let place = Place::make()?;
    let before = measure(args, &place, "without", &[("SLUICE_MEDIA__MAX_LOAD", "0")])?;
    let after = measure(args, &place, "with", &[])?;
    println!("\nWithout a limit (media.max-load = 0):\n\n{before}\nWith it:\n\n{after}");
    after.judge()
}

/// One server's run.
fn measure(args: &Args, place: &Place, name: &str, variables: &[(&str, &str)]) -> Result<Figures> {
    let server = Trial::start(place, "overload", name, variables)?;
    let mut spinner = Spinner::start(place)?;
    let seconds = JOINING.as_secs() + GROWING + SLOWING + CALM + CROWD + SQUEEZE + RECOVERY + 15;
    let people = args.people.to_string();
    let meeting = server.load(
        "meeting",
        seconds,
        &[
            "--meeting",
            "--publishers",
            &people,
            "--subscribers",
            "0",
            "--room",
            "meeting",
            "--speakers",
            SPEAKERS,
            "--joins-per-second",
            &JOINS_PER_SECOND.to_string(),
        ],
    )?;
    let begin = Instant::now();
    let mut watch = Watch::new(&server, &meeting, begin);
    meeting.wait_for(u64::from(args.people), JOINING)?;
    watch.look_for(Duration::from_secs(GROWING))?;
    let used = mean_cpu(&meeting);
    let left = spinner.until_busy(&server, USED)?;
    let squeezed = (left * USED / SQUEEZED).max(LEAST);
    eprintln!(
        "{name}: the meeting needs {:.0} % of a core; it is left {:.0} %, then {:.0} %",
        used * 100.0,
        left * 100.0,
        squeezed * 100.0
    );
    watch.look_for(Duration::from_secs(3))?;
    watch.part("calm", CALM)?;
    let crowd = server.load(
        "crowd",
        CROWD - 2,
        &[
            "--room",
            "crowd",
            "--publishers",
            "3",
            "--subscribers",
            "40",
            "--joins-per-second",
            "6",
            "--join-timeout",
            "8s",
        ],
    )?;
    watch.part("a crowd comes", CROWD)?;
    let crowd = crowd.finish()?;
    spinner.take(1.0 - squeezed)?;
    watch.part("squeezed, first 10 s", 10)?;
    watch.part("squeezed, after that", SQUEEZE - 10)?;
    spinner.take(1.0 - left)?;
    watch.part("given back, first 10 s", 10)?;
    watch.part("given back, until 35 s", RECOVERY - 25)?;
    watch.part("given back, last 15 s", 15)?;
    let parts = watch.finish();
    drop(spinner);
    Ok(Figures::new(parts, &crowd))
}

/// Of the server over the last seconds, as a share of a core.
fn mean_cpu(meeting: &Load) -> f64 {
    let seconds = meeting.seconds();
    let last = &seconds[seconds.len().saturating_sub(5)..];
    last.iter().map(|second| number(second, "/server_cpu")).sum::<f64>() / last.len().max(1) as f64
}
