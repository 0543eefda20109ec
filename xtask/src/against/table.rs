//! The comparison as a table for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::figures::Figures;
use crate::run::output;

/// One server's rounds. The first row is what the others are multiples of.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) version: String,
    pub(super) rounds: Vec<Figures>,
}

/// On what it was measured.
pub(super) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    pub(super) fn read() -> Machine {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models = || cpus.lines().filter(|line| line.starts_with("model name"));
        let model = models().next().and_then(|line| line.split_once(':'));
        Machine {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: models().count(),
            kernel: output("uname", &["-sr"]).unwrap_or_default(),
        }
    }
}

/// Medians, one row for each server, in Markdown.
pub(super) fn text(machine: &Machine, subscribers: u16, rows: &[Row]) -> String {
    let mut text = format!(
        "\n1 publisher (video of 1.2 Mbit/s, Opus) to {subscribers} subscribers; server and load on a core each of {}, {} cores, {}.\n\
         Medians of {} rounds. CPU: of the server's process for each packet that a receiver counted.\n\n\
         | server | packets/s | CPU us (user + kernel) | times Sluice's | core | RSS MiB | video p50 ms | p99 | max | lost | SRTP |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        rows.first().map_or(0, |row| row.rounds.len()),
    );
    let medians: Vec<_> = rows.iter().map(|row| Figures::medians(&row.rounds)).collect();
    for (row, median) in rows.iter().zip(&medians) {
        let _ = writeln!(
            text,
            "| {} ({}) | {:.0} | {:.2} ({:.2} + {:.2}) | {:.1} | {:.0} % | {:.0} | {:.2} | {:.2} | {:.1} | {:.3} % | {} |",
            row.name,
            row.version,
            median.packets_per_second,
            median.cpu_us,
            median.user_us,
            median.kernel_us,
            median.cpu_us / medians[0].cpu_us,
            median.cpu_share * 100.0,
            median.resident_mib,
            median.p50_ms,
            median.p99_ms,
            median.max_ms,
            median.loss * 100.0,
            median.srtp
        );
    }
    text
}

/// The same with every round as the generator told it.
pub(super) fn json(machine: &Machine, subscribers: u16, rows: &[Row]) -> String {
    let first = rows.first().map(|row| Figures::medians(&row.rounds).cpu_us);
    let servers: Vec<Value> = rows
        .iter()
        .map(|row| {
            let median = Figures::medians(&row.rounds);
            json!({
                "name": row.name,
                "version": row.version,
                "medians": {
                    "packets_per_second": median.packets_per_second,
                    "cpu_us_per_packet": median.cpu_us,
                    "user_us_per_packet": median.user_us,
                    "kernel_us_per_packet": median.kernel_us,
                    "cpu_share": median.cpu_share,
                    "resident_mib": median.resident_mib,
                    "video_delay_p50_ms": median.p50_ms,
                    "video_delay_p99_ms": median.p99_ms,
                    "video_delay_max_ms": median.max_ms,
                    "loss": median.loss,
                    "generator_cpu_share": median.load_share,
                    "srtp": median.srtp,
                },
                "cpu_times_the_first": first.map(|first| median.cpu_us / first),
                "rounds": row.rounds.iter().map(|round| &round.summary).collect::<Vec<_>>(),
            })
        })
        .collect();
    let all = json!({
        "machine": { "processor": machine.processor, "cores": machine.cores, "kernel": machine.kernel },
        "subscribers": subscribers,
        "servers": servers,
    });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::round;
    use super::*;

    fn both() -> (Machine, [Row; 2]) {
        let machine = Machine { processor: "P".to_owned(), cores: 2, kernel: "Linux 6".to_owned() };
        let row =
            |name, cpus: [f64; 3]| Row { name, version: "1".to_owned(), rounds: cpus.map(round).to_vec() };
        (machine, [row("ours", [4.0, 5.0, 3.0]), row("other", [44.0, 20.0, 40.0])])
    }

    #[test]
    fn medians_and_their_ratio_are_in_the_table() {
        let (machine, rows) = both();
        let text = text(&machine, 100, &rows);
        let line = text.lines().find(|line| line.starts_with("| other")).unwrap();
        assert!(line.contains("| 40.00 (1.00 + 39.00) | 10.0 | 80 % |"), "{line}");
    }

    #[test]
    fn json_has_every_round() {
        let (machine, rows) = both();
        let all: Value = serde_json::from_str(&json(&machine, 100, &rows)).unwrap();
        assert_eq!(all["servers"][1]["cpu_times_the_first"], 10.0);
        assert_eq!(all["servers"][0]["rounds"].as_array().map(Vec::len), Some(3));
    }
}
