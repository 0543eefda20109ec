//! Runs rows over seeds, on all processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::score::{Figure, Limit, Score, worst};
use super::{Row, Scene};

/// One row over all its seeds.
pub struct Outcome {
    /// Which.
    pub row: Row,
    /// Of each seed.
    pub scores: Vec<(u64, Score)>,
}

/// One figure over all seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Of the first seed; its value is not meant.
    pub figure: Figure,
    /// Over the seeds.
    pub median: f64,
    /// The worst value…
    pub worst: f64,
    /// …and where it was.
    pub worst_seed: u64,
    /// Whether the limit is kept.
    pub kept: bool,
}

impl Outcome {
    /// Figure by figure.
    pub fn summaries(&self) -> Vec<Summary> {
        let first = &self.scores[0].1.figures;
        let summary = |(index, figure): (usize, &Figure)| {
            let mut values: Vec<(f64, u64)> = self
                .scores
                .iter()
                .map(|(seed, score)| {
                    let other = &score.figures[index];
                    assert_eq!(other.name, figure.name, "{}, seed {seed}", self.row.name);
                    (other.value, *seed)
                })
                .collect();
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            let sorted: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
            let (worst, worst_seed) = values[worst(figure.limit, values.len())];
            let (median, kept) = (sorted[sorted.len() / 2], figure.limit.kept(&sorted));
            Summary { figure: *figure, median, worst, worst_seed, kept }
        };
        first.iter().enumerate().map(summary).collect()
    }

    /// Whether every limit is kept.
    pub fn kept(&self) -> bool {
        self.summaries().iter().all(|summary| summary.kept)
    }

    /// What is not kept, in words.
    pub fn faults(&self) -> Vec<String> {
        let missed = |s: Summary| {
            let unit = s.figure.unit;
            let limit = match s.figure.limit {
                Limit::Most(limit) => format!("at most {}", unit.write(limit)),
                Limit::Least(limit) => format!("at least {}", unit.write(limit)),
                Limit::None => String::new(),
            };
            format!(
                "{}: {} {limit}, median {}, worst {} (seed {})",
                self.row.name,
                s.figure.name,
                unit.write(s.median),
                unit.write(s.worst),
                s.worst_seed
            )
        };
        self.summaries().into_iter().filter(|summary| !summary.kept).map(missed).collect()
    }
}

/// Plays every row with each of its seeds. `told`: the calls print what happened in them.
pub fn run(rows: Vec<Row>, seeds: impl Fn(&Row) -> Vec<u64>, told: bool) -> Vec<Outcome> {
    let mut jobs: Vec<(usize, u64)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        jobs.extend(seeds(row).into_iter().map(|seed| (index, seed)));
    }
    // Long ones first, so that no processor is left with one at the end.
    jobs.sort_by_key(|(index, _)| !rows[*index].heavy);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = if told { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&(index, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = &rows[index];
                    let score = (row.play)(&Scene { name: row.name, seed, told });
                    done.lock().expect("nobody fails with it").push((index, seed, score));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody failed with it");
    done.sort_by_key(|(index, seed, _)| (*index, *seed));
    let mut outcomes: Vec<Outcome> =
        rows.into_iter().map(|row| Outcome { row, scores: Vec::new() }).collect();
    for (index, seed, score) in done {
        outcomes[index].scores.push((seed, score));
    }
    outcomes
}
