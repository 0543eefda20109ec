//! Figures of one call, the limits that they must keep, what comes of many calls, and the table of it.

use std::fmt::Write as _;
use std::time::Duration;

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// Seconds.
    Seconds,
    /// Percent.
    Percent,
    /// A number of something.
    Count,
    /// So many a minute.
    PerMinute,
    /// A number of something a second, or mean opinion, 1 to 5.
    Rate,
}

impl Unit {
    /// As in the table; infinite is what never happened.
    pub fn write(self, value: f64) -> String {
        if value.is_infinite() {
            return "never".to_owned();
        }
        match self {
            Unit::Ms => format!("{value:.0} ms"),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::Percent => format!("{value:.1} %"),
            Unit::Count => format!("{value:.0}"),
            Unit::PerMinute => format!("{value:.1} /min"),
            Unit::Rate => format!("{value:.1}"),
        }
    }
}

/// What a figure must keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// The median is at most this; no seed has more than twice as much.
    Most(f64),
    /// The median is at least this; no seed falls short of it by more than half, nor of 100 % by more than twice as much.
    Least(f64),
    /// Told, not promised.
    None,
}

impl Limit {
    /// Whether figures keep it, sorted ascending.
    pub fn kept(self, sorted: &[f64]) -> bool {
        self.keeps_median(sorted[sorted.len() / 2]) && self.bears(sorted[worst(self, sorted.len())])
    }

    /// Whether a single call may have this figure.
    pub fn bears(self, value: f64) -> bool {
        match self {
            Limit::Most(limit) => value <= limit * 2.0,
            Limit::Least(limit) => value >= (limit * 2.0 - 100.0).max(limit / 2.0),
            Limit::None => true,
        }
    }

    fn keeps_median(self, value: f64) -> bool {
        match self {
            Limit::Most(limit) => value <= limit,
            Limit::Least(limit) => value >= limit,
            Limit::None => true,
        }
    }
}

/// Which is the worst of so many figures that are sorted.
fn worst(limit: Limit, count: usize) -> usize {
    match limit {
        Limit::Least(_) => 0,
        Limit::Most(_) | Limit::None => count - 1,
    }
}

/// One figure of one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// What it must keep.
    pub limit: Limit,
    /// What it came to.
    pub value: f64,
}

/// All figures of one call, those of one row always in the same order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// In the order of the table.
    pub figures: Vec<Figure>,
}

impl Score {
    /// At most `limit`.
    #[must_use]
    pub fn most(self, name: &'static str, unit: Unit, limit: f64, value: f64) -> Score {
        self.with(Figure { name, unit, limit: Limit::Most(limit), value })
    }

    /// At least `limit`.
    #[must_use]
    pub fn least(self, name: &'static str, unit: Unit, limit: f64, value: f64) -> Score {
        self.with(Figure { name, unit, limit: Limit::Least(limit), value })
    }

    /// Without a limit.
    #[must_use]
    pub fn note(self, name: &'static str, unit: Unit, value: f64) -> Score {
        self.with(Figure { name, unit, limit: Limit::None, value })
    }

    /// Within `limit` seconds; `None` is never.
    #[must_use]
    pub fn within(self, name: &'static str, limit: f64, value: Option<Duration>) -> Score {
        self.most(name, Unit::Seconds, limit, value.map_or(f64::INFINITY, |value| value.as_secs_f64()))
    }

    /// Never: it is counted how often.
    #[must_use]
    pub fn never(self, name: &'static str, count: usize) -> Score {
        self.most(name, Unit::Count, 0.0, count as f64)
    }

    /// Figures after those that are there.
    #[must_use]
    pub fn and(mut self, more: Score) -> Score {
        self.figures.extend(more.figures);
        self
    }

    /// Without the figures of these names.
    #[must_use]
    pub fn without(mut self, names: &[&str]) -> Score {
        self.figures.retain(|figure| !names.contains(&figure.name));
        self
    }

    fn with(mut self, figure: Figure) -> Score {
        self.figures.push(figure);
        self
    }
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

/// The calls of one row, each with its seed, figure by figure.
///
/// # Panics
/// Without calls, or if their figures are not the same ones.
pub fn summaries(row: &str, scores: &[(u64, Score)]) -> Vec<Summary> {
    let first = &scores[0].1.figures;
    let summary = |(index, figure): (usize, &Figure)| {
        let mut values: Vec<(f64, u64)> = scores
            .iter()
            .map(|(seed, score)| {
                let other = &score.figures[index];
                assert_eq!(other.name, figure.name, "{row}, seed {seed}");
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

/// A row of the table.
pub struct Line<'a> {
    /// Its name…
    pub name: &'a str,
    /// …and the network.
    pub about: &'a str,
    /// What came of it.
    pub summaries: Vec<Summary>,
}

/// In Markdown: what was promised, the median, the worst, and whether it was kept. `call` is what each call is known by.
pub fn table<'a>(lines: impl IntoIterator<Item = Line<'a>>, call: &str) -> String {
    let mut text = String::from(
        "| row | downlink | figure | limit | median | worst | |\n| --- | --- | --- | --- | ---: | ---: | --- |\n",
    );
    for Line { mut name, mut about, summaries } in lines {
        for summary in summaries {
            let unit = summary.figure.unit;
            let limit = match summary.figure.limit {
                Limit::Most(limit) => format!("≤ {}", unit.write(limit)),
                Limit::Least(limit) => format!("≥ {}", unit.write(limit)),
                Limit::None => String::new(),
            };
            let verdict = match (summary.figure.limit, summary.kept) {
                (Limit::None, _) => String::new(),
                (_, true) => "kept".to_owned(),
                (_, false) => format!("**MISSED** ({call} {})", summary.worst_seed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_keeps_the_limit_and_the_worst_its_double() {
        let most = Limit::Most(10.0);
        assert!(most.kept(&[1.0, 10.0, 20.0]));
        assert!(!most.kept(&[1.0, 10.5, 20.0]));
        assert!(!most.kept(&[1.0, 2.0, 20.5]));
        assert!(!most.kept(&[1.0, 2.0, f64::INFINITY]));
        let share = Limit::Least(85.0);
        assert!(share.kept(&[70.0, 85.0, 99.0]));
        assert!(!share.kept(&[69.0, 90.0, 99.0]));
        assert!(!share.kept(&[80.0, 84.0, 99.0]));
        assert!(Limit::Least(25.0).kept(&[13.0, 30.0, 40.0]));
        assert!(!Limit::Least(25.0).kept(&[12.0, 30.0, 40.0]));
    }
}
