//! Figures of one call, the limits that they must keep, and what comes of many calls.

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
pub fn worst(limit: Limit, count: usize) -> usize {
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
