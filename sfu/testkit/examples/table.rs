//! Prints the table of what is promised over bad networks: `cargo xtask sim --report`.
//!
//! `[--seeds N] [--row NAME] [--seed N]`. Fails if a row is missed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sfu_testkit::table::run::Outcome;
use sfu_testkit::table::{self, print};

/// Virtual seconds in a second.
#[expect(clippy::disallowed_methods, reason = "it is real time that is measured")]
fn speed() -> f64 {
    let (began, length) = (Instant::now(), Duration::from_mins(1));
    table::meet(length);
    length.as_secs_f64() / began.elapsed().as_secs_f64()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut name, mut seed) = (50, None, None);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().expect("a value for the argument");
        match argument.as_str() {
            "--seeds" => seeds = value.parse().expect("a number of seeds"),
            "--seed" => seed = Some(value.parse().expect("a seed")),
            "--row" => name = Some(value),
            other => panic!("{other} means nothing here"),
        }
    }
    let rows: Vec<_> =
        table::rows().into_iter().filter(|row| name.as_ref().is_none_or(|name| row.name == name)).collect();
    assert!(!rows.is_empty(), "there is no row {name:?}");
    let outcomes = table::run::run(
        rows,
        |row| match seed {
            Some(seed) => vec![seed],
            None => (1..=if row.heavy { (seeds / 10).max(1) } else { seeds }).collect(),
        },
        seed.is_some(),
    );
    println!("{}", print::table(&outcomes));
    if name.is_none() {
        println!("A meeting of ten passes {:.0} times as fast as in reality, on one processor.", speed());
    }
    let missed = outcomes.iter().filter(|outcome| !outcome.kept()).count();
    if missed == 0 {
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = outcomes.iter().filter(|o| !o.kept()).map(|o: &Outcome| o.row.name).collect();
    println!(
        "{missed} of {} rows missed: {}\n{}",
        outcomes.len(),
        names.join(", "),
        print::replays(&outcomes)
    );
    ExitCode::FAILURE
}
