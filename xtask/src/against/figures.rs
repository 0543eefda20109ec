//! What a round showed of one server, as `sluice-load` summed it up (`load/src/report.rs`).

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::run::Result;

/// Figures of the part after the warm-up, but for the loss, which is the whole round's.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    /// Packets of media that receivers counted, a second.
    pub(super) packets_per_second: f64,
    /// CPU time of the server's process for each of them, in µs: all, in its own code, in the kernel.
    pub(super) cpu_us: f64,
    pub(super) user_us: f64,
    pub(super) kernel_us: f64,
    /// Of one core, 0 to 1.
    pub(super) cpu_share: f64,
    /// Resident memory with everybody there, in MiB.
    pub(super) resident_mib: f64,
    /// From sender to receiver, video, in ms.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Share of packets that did not come by themselves, 0 to 1.
    pub(super) loss: f64,
    /// The generator's own share of its core: near 1 delays and losses are its own.
    pub(super) load_share: f64,
    /// SRTP protection profiles, as the handshakes came to them.
    pub(super) srtp: String,
    /// All that the generator told.
    pub(super) summary: Value,
}

impl Figures {
    /// # Errors
    /// Not everybody joined, or there was nothing to measure: then nothing is to be compared.
    pub(super) fn read(file: &Path, subscribers: u16) -> Result<Figures> {
        let text = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let summary =
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        Figures::of(summary, subscribers)
    }

    fn of(summary: Value, subscribers: u16) -> Result<Figures> {
        let joins = &summary["subscriber_joins"];
        if joins["joined"] != subscribers
            || joins["lost_later"].as_object().is_some_and(|lost| !lost.is_empty())
        {
            let (joined, why) = (&joins["joined"], &joins["example"]);
            return Err(format!("{joined} of {subscribers} subscribers joined and stayed, such as: {why}"));
        }
        let number = |pointer: &str| {
            let found = summary.pointer(pointer).and_then(Value::as_f64);
            found.ok_or_else(|| format!("the generator told no {pointer}"))
        };
        let profiles = summary["srtp_profiles"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(Figures {
            packets_per_second: number("/received/packets_per_second")?,
            cpu_us: number("/server/cpu_us_per_packet")?,
            user_us: number("/server/user_us_per_packet")?,
            kernel_us: number("/server/kernel_us_per_packet")?,
            cpu_share: number("/server/cpu_share")?,
            resident_mib: number("/server/resident_full")? / f64::from(1 << 20),
            p50_ms: number("/video_delay/p50_ms")?,
            p99_ms: number("/video_delay/p99_ms")?,
            max_ms: number("/video_delay/max_ms")?,
            loss: number("/received/loss")?,
            load_share: number("/generator/cpu_share")?,
            srtp: profiles.collect::<Vec<_>>().join(", "),
            summary,
        })
    }

    /// Each figure's median over some rounds; there is one at least. Not a round of its own: `summary` is empty.
    pub(super) fn medians(rounds: &[Figures]) -> Figures {
        let of = |figure: fn(&Figures) -> f64| median(rounds.iter().map(figure).collect());
        let mut srtp: Vec<_> = rounds.iter().map(|round| round.srtp.clone()).collect();
        srtp.dedup();
        Figures {
            packets_per_second: of(|round| round.packets_per_second),
            cpu_us: of(|round| round.cpu_us),
            user_us: of(|round| round.user_us),
            kernel_us: of(|round| round.kernel_us),
            cpu_share: of(|round| round.cpu_share),
            resident_mib: of(|round| round.resident_mib),
            p50_ms: of(|round| round.p50_ms),
            p99_ms: of(|round| round.p99_ms),
            max_ms: of(|round| round.max_ms),
            loss: of(|round| round.loss),
            load_share: of(|round| round.load_share),
            srtp: srtp.join("; "),
            summary: Value::Null,
        }
    }
}

/// The middle, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { values[middle - 1].midpoint(values[middle]) } else { values[middle] }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:7.0} packets/s, {:5.2} us each ({:.0} % of the core), video p50 {:.2} ms, p99 {:.2} ms; load {:.0} %",
            self.packets_per_second,
            self.cpu_us,
            self.cpu_share * 100.0,
            self.p50_ms,
            self.p99_ms,
            self.load_share * 100.0
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// As the generator tells it.
    pub(in crate::against) fn round(cpu_us: f64) -> Figures {
        Figures::of(summary(cpu_us, 100), 100).unwrap()
    }

    fn summary(cpu_us: f64, joined: u16) -> Value {
        json!({
            "subscriber_joins": { "joined": joined, "lost_later": {}, "example": null },
            "srtp_profiles": ["AEAD_AES_128_GCM"],
            "received": { "packets_per_second": 20_000.0, "loss": 0.0 },
            "video_delay": { "p50_ms": 0.5, "p99_ms": 2.0, "max_ms": 9.0 },
            "generator": { "cpu_share": 0.4 },
            "server": {
                "cpu_us_per_packet": cpu_us, "user_us_per_packet": 1.0, "kernel_us_per_packet": cpu_us - 1.0,
                "cpu_share": cpu_us * 0.02, "resident_full": 50 << 20,
            },
        })
    }

    #[test]
    fn a_round_in_which_somebody_is_missing_is_none() {
        assert!(Figures::of(summary(4.0, 99), 100).unwrap_err().starts_with("99 of 100"));
        let mut nothing = summary(4.0, 100);
        nothing["server"] = Value::Null;
        assert!(Figures::of(nothing, 100).unwrap_err().contains("cpu_us_per_packet"));
    }

    #[test]
    fn medians_are_of_each_figure() {
        let (odd, even) = (vec![5.0, 1.0, 2.0], vec![5.0, 1.0, 2.0, 4.0]);
        assert_eq!((median(odd), median(even)), (2.0, 3.0));
        let medians = Figures::medians(&[round(4.0), round(40.0), round(5.0)]);
        assert_eq!((medians.cpu_us, medians.kernel_us, medians.resident_mib), (5.0, 4.0, 50.0));
        assert_eq!(medians.srtp, "AEAD_AES_128_GCM");
    }
}
