//! Runs rows over seeds, on all processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Row, Scene};
use crate::score::{Limit, Score, Summary, summaries};

/// One row over all its seeds.
pub struct Outcome {
    /// Which.
    pub row: Row,
    /// Of each seed.
    pub scores: Vec<(u64, Score)>,
}

impl Outcome {
    /// Figure by figure.
    pub fn summaries(&self) -> Vec<Summary> {
        summaries(self.row.name, &self.scores)
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
