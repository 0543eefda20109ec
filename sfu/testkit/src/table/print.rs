//! The table as Markdown, and how to look closer.

use std::fmt::Write as _;

use super::run::Outcome;
use crate::score::{self, Line};

/// All rows: what was promised, the median, the worst seed, and whether it was kept.
pub fn table(outcomes: &[Outcome]) -> String {
    let lines = outcomes.iter().map(|outcome| Line {
        name: outcome.row.name,
        about: outcome.row.about,
        summaries: outcome.summaries(),
    });
    score::table(lines, "seed")
}

/// For each figure that was missed, the command that replays its worst seed.
pub fn replays(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        for summary in outcome.summaries().iter().filter(|summary| !summary.kept) {
            let (row, figure, seed) = (outcome.row.name, summary.figure.name, summary.worst_seed);
            let _ = writeln!(
                text,
                "{row}, {figure}: cargo xtask sim --report --row {row} --seed {seed} --timeline 0"
            );
        }
    }
    text
}
