//! What the meeting got in each part of a run, as a table, and what must be so.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::Result;
use crate::trial::{Load, Trial, number};

/// Looks at the server once a second and remembers which second belongs to which part.
pub(super) struct Watch<'a> {
    server: &'a Trial<'a>,
    meeting: &'a Load,
    begin: Instant,
    parts: Vec<Part>,
}

/// A part of the run.
pub(super) struct Part {
    name: &'static str,
    from: f64, // seconds since the meeting began
    to: f64,
    restraint: Vec<f64>, // each second
    refused: f64,
    seconds: Vec<Value>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(server: &'a Trial<'a>, meeting: &'a Load, begin: Instant) -> Watch<'a> {
        Watch { server, meeting, begin, parts: Vec::new() }
    }

    /// Gives the restraint of each second.
    pub(super) fn look_for(&self, time: Duration) -> Result<Vec<f64>> {
        let end = Instant::now() + time;
        let mut seen = Vec::new();
        while Instant::now() < end {
            std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_secs(1)));
            seen.push(self.server.metric("sluice_worker_restraint")?);
        }
        Ok(seen)
    }

    pub(super) fn part(&mut self, name: &'static str, seconds: u64) -> Result {
        let refused = self.refused()?;
        let from = self.begin.elapsed().as_secs_f64();
        let restraint = self.look_for(Duration::from_secs(seconds))?;
        let (to, refused) = (self.begin.elapsed().as_secs_f64(), self.refused()? - refused);
        let part = Part { name, from, to, restraint, refused, seconds: Vec::new() };
        eprintln!("  {name}: {refused:.0} joins refused, {:?} steps held back", part.restraint);
        self.parts.push(part);
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Part> {
        let seconds = self.meeting.seconds();
        let mut parts = self.parts;
        for part in &mut parts {
            // A line tells of the second before it.
            let within = |second: &&Value| (part.from + 1.0..=part.to + 0.5).contains(&number(second, "/at"));
            part.seconds = seconds.iter().filter(within).cloned().collect();
        }
        parts
    }

    fn refused(&self) -> Result<f64> {
        self.server.metric("sluice_limit_hits_total{limit=\"load\"}")
    }
}

impl Part {
    fn mean(&self, pointer: &str) -> f64 {
        self.seconds.iter().map(|second| number(second, pointer)).sum::<f64>()
            / self.seconds.len().max(1) as f64
    }

    fn sum(&self, pointer: &str) -> f64 {
        self.seconds.iter().map(|second| number(second, pointer)).sum()
    }

    /// The median of the seconds' figures.
    fn median(&self, pointer: &str) -> f64 {
        let mut values: Vec<f64> = self.seconds.iter().map(|second| number(second, pointer)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    }

    /// Share of sound that did not come by itself.
    fn sound_loss(&self) -> f64 {
        let (lost, got) = (self.sum("/sound/lost"), self.sum("/sound/packets"));
        if lost + got > 0.0 { lost / (lost + got) } else { 1.0 }
    }

    fn video(&self) -> f64 {
        (0..3).map(|layer| self.mean(&format!("/layers/{layer}"))).sum()
    }
}

/// A run.
pub(super) struct Figures {
    parts: Vec<Part>,
    crowd: (f64, f64, f64), // came, joined, refused
}

impl Figures {
    pub(super) fn new(parts: Vec<Part>, crowd: &Value) -> Figures {
        let both = |pointer: &str| {
            ["publisher", "subscriber"]
                .map(|who| number(crowd, &format!("/{who}_joins{pointer}")))
                .iter()
                .sum()
        };
        Figures { parts, crowd: (both("/attempted"), both("/joined"), both("/failed/refused")) }
    }

    /// # Errors
    /// The first thing that is not as the server promises.
    pub(super) fn judge(&self) -> Result {
        let part = |name| self.parts.iter().find(|part| part.name == name).expect("every run has all parts");
        let calm = part("calm");
        let (squeezed, back) = (part("squeezed, after that"), part("given back, last 15 s"));
        // How often what is held back begins to grow after it fell, or the other way round.
        let turns = |steps: &[f64]| {
            let changes: Vec<f64> =
                steps.windows(2).map(|pair| pair[1] - pair[0]).filter(|by| *by != 0.0).collect();
            changes.windows(2).filter(|pair| pair[0] * pair[1] < 0.0).count()
        };
        let checks = [
            (
                calm.sound_loss() < 0.001,
                "sound was lost before anything happened: the machine is too busy for this",
            ),
            (self.crowd.2 > 0.0, "nobody of the crowd was refused"),
            (squeezed.sound_loss() < 0.005, "sound was lost while video was held back"),
            (squeezed.median("/sound/delay_ms/1") < 150.0, "sound was late while video was held back"),
            (squeezed.video() < 0.8 * calm.video(), "no video was held back"),
            (turns(&squeezed.restraint) <= 3, "what was held back went up and down"),
            (back.video() > 0.9 * calm.video(), "video did not come back within 35 s"),
            (back.restraint.iter().all(|steps| *steps < 0.5), "something was held back to the end"),
        ];
        let failed: Vec<&str> = checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| | sound lost | sound p50, p99 ms | video packets/s: small, middle, large | frames/s | bad | held back | joins refused | server | generator |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for part in &self.parts {
            writeln!(
                f,
                "| {} | {:.2} % | {:.0}, {:.0} | {:.0}, {:.0}, {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} % | {:.0} % |",
                part.name,
                part.sound_loss() * 100.0,
                part.median("/sound/delay_ms/0"),
                part.median("/sound/delay_ms/1"),
                part.mean("/layers/0"),
                part.mean("/layers/1"),
                part.mean("/layers/2"),
                part.mean("/frames"),
                part.mean("/bad_frames"),
                part.restraint.last().copied().unwrap_or_default(),
                part.refused,
                part.mean("/server_cpu") * 100.0,
                part.mean("/own_cpu") * 100.0,
            )?;
        }
        let (came, joined, refused) = self.crowd;
        writeln!(f, "\nOf the crowd's {came:.0}, {joined:.0} joined and {refused:.0} were refused.")
    }
}
