//! The table of what is promised over bad networks, with few seeds; `cargo xtask sim --report` has many.

use sfu_testkit::table::{self, print, run};

/// Every row but the heavy ones.
#[test]
fn rows_are_kept() {
    let rows: Vec<_> = table::rows().into_iter().filter(|row| !row.heavy).collect();
    let outcomes = run::run(rows, |_| vec![1, 2, 3], false);
    println!("{}", print::table(&outcomes));
    let (known, faults): (Vec<_>, Vec<_>) =
        outcomes.iter().filter(|outcome| !outcome.kept()).partition(|outcome| outcome.row.known.is_some());
    for outcome in known {
        println!("known: {}: {}", outcome.row.name, outcome.row.known.unwrap_or_default());
    }
    let faults: Vec<String> = faults.into_iter().flat_map(run::Outcome::faults).collect();
    assert!(faults.is_empty(), "\n{}\n{}", faults.join("\n"), print::replays(&outcomes));
}
