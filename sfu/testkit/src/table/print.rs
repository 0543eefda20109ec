//! The table as Markdown.

use std::fmt::Write as _;

use super::run::Outcome;
use super::score::Limit;

/// All rows: what was promised, the median, the worst seed, and whether it was kept.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| row | downlink | figure | limit | median | worst | |\n| --- | --- | --- | --- | ---: | ---: | --- |\n",
    );
    for outcome in outcomes {
        let (mut name, mut about) = (outcome.row.name, outcome.row.about);
        for summary in outcome.summaries() {
            let unit = summary.figure.unit;
            let limit = match summary.figure.limit {
                Limit::Most(limit) => format!("≤ {}", unit.write(limit)),
                Limit::Least(limit) => format!("≥ {}", unit.write(limit)),
                Limit::None => String::new(),
            };
            let verdict = match (summary.figure.limit, summary.kept) {
                (Limit::None, _) => String::new(),
                (_, true) => "kept".to_owned(),
                (_, false) => format!("**MISSED** (seed {})", summary.worst_seed),
            };
            let _ = writeln!(
                text,
                "| {name} | {about} | {} | {limit} | {} | {} | {verdict} |",
                summary.figure.name,
                unit.write(summary.median),
                unit.write(summary.worst),
            );
            (name, about) = ("", "");
        }
    }
    text
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
