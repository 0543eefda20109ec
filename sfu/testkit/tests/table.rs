//! The table of what is promised over bad networks, with few seeds; `cargo xtask sim --report` has many.

use sfu_testkit::table::{self, print, run};

/// Every row but the heavy ones.
#[test]
fn rows_are_kept() {
    let rows: Vec<_> = table::rows().into_iter().filter(|row| !row.heavy).collect();
    let outcomes = run::run(rows, |_| vec![1, 2, 3], false);
    println!("{}", print::table(&outcomes));
    let faults: Vec<String> =
        outcomes.iter().filter(|outcome| !outcome.kept()).flat_map(run::Outcome::faults).collect();
    assert!(faults.is_empty(), "\n{}\n{}", faults.join("\n"), print::replays(&outcomes));
}
