//! What is told: a line for each second, for people, and a summary, for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::receive::MAX_LAYERS;

/// What happened within a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Second {
    /// Since the start, in seconds.
    #[serde(serialize_with = "seconds")]
    pub at: Duration,
    /// Participants that are there now.
    pub joined: usize,
    /// Participants whose join has failed.
    pub failed: usize,
    /// Packets of media that participants got, a second.
    pub packets: f64,
    /// Packets that did not come by themselves.
    pub lost: u64,
    /// Packets that came after later ones.
    pub reordered: u64,
    /// Of sound alone.
    pub sound: Sound,
    /// Packets of video by encoding, a second, smallest picture first.
    pub layers: [f64; MAX_LAYERS],
    /// Frames that could be shown.
    pub frames: u64,
    /// Frames that could not be shown.
    pub bad_frames: u64,
    /// From sender to receiver: median and 99th percentile, in ms.
    pub delay_ms: Option<(f64, f64)>,
    /// Share of one core that we used, 0 to 1 and above.
    pub own_cpu: f64,
    /// The server's, if it is watched.
    pub server_cpu: Option<f64>,
}

/// Sound within a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sound {
    /// Packets, a second.
    pub packets: f64,
    /// Those that did not come by themselves.
    pub lost: u64,
    /// From sender to receiver: median and 99th percentile, in ms.
    pub delay_ms: Option<(f64, f64)>,
}

fn seconds<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

impl Second {
    /// The names of the columns.
    pub const HEADER: &'static str = "  time  joined  failed  packets/s    lost  of sound  reordered  bad frames  delay ms: p50     p99  CPU: own  server";
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:4.0} s  {:6}  {:6}  {:9.0}  {:6}  {:8}  {:9}  {:10}  ",
            self.at.as_secs_f64(),
            self.joined,
            self.failed,
            self.packets,
            self.lost,
            self.sound.lost,
            self.reordered,
            self.bad_frames
        )?;
        match self.delay_ms {
            Some((p50, p99)) => write!(f, "{p50:13.2}  {p99:6.2}")?,
            None => write!(f, "{:>13}  {:>6}", "-", "-")?,
        }
        write!(f, "  {:6.0} %", self.own_cpu * 100.0)?;
        match self.server_cpu {
            Some(cpu) => write!(f, "  {:4.0} %", cpu * 100.0),
            None => write!(f, "       -"),
        }
    }
}

/// Quantiles of times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Quantiles {
    /// `None` if there was nothing.
    pub(crate) fn of(histogram: &Histogram) -> Option<Quantiles> {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Some(Quantiles {
            p50_ms: ms(histogram.quantile(0.5)?),
            p99_ms: ms(histogram.quantile(0.99)?),
            max_ms: ms(histogram.max()?),
        })
    }
}

/// How joins went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Joins {
    /// Joins begun.
    pub attempted: u64,
    /// Those that succeeded.
    pub joined: u64,
    /// Those that did not, by reason.
    pub failed: BTreeMap<&'static str, u64>,
    /// Participants lost after they had joined, by reason.
    pub lost_later: BTreeMap<&'static str, u64>,
    /// The first of these failures in words, with what to look at.
    pub example: Option<String>,
    /// From the request until somebody is there: publishers when they are connected, others with the first sound and
    /// the first picture.
    pub time: Option<Quantiles>,
    /// From the request until ICE and DTLS are done.
    pub connected: Option<Quantiles>,
    /// From the request to the first sound, where it is waited for.
    pub first_sound: Option<Quantiles>,
    /// From the request to the first whole keyframe, where it is waited for.
    pub first_picture: Option<Quantiles>,
}

/// What came, over the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Received {
    /// Packets of media.
    pub packets: u64,
    /// Those of sound.
    pub audio_packets: u64,
    /// Those of video.
    pub video_packets: u64,
    /// A second, within the steady part.
    pub packets_per_second: f64,
    /// Packets that did not come by themselves, as gaps in sequence numbers tell.
    pub lost: u64,
    /// The same as a share, 0 to 1.
    pub loss: f64,
    /// Of sound alone.
    pub audio_lost: u64,
    /// Of these, those that came as a repair.
    pub repaired: u64,
    /// Those that did not come at all.
    pub missing: u64,
    /// Packets that came after later ones.
    pub reordered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets of streams that the server had not announced yet when they came: they overtook its answer. Not in
    /// `packets`; a picture that begins so waits for another keyframe.
    pub early: u64,
    /// Datagrams that arrived here and were dropped since we did not read them in time: part of `lost`, and no
    /// fault of the server's.
    pub dropped_here: u64,
}

/// What became of frames of video, judged by their descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FrameCounts {
    /// Could be shown.
    pub shown: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Whole, but what they refer to was not there.
    pub undecodable: u64,
    /// Parts of them never came.
    pub incomplete: u64,
    /// Given up by the server for a keyframe, as when it changes the layer: the picture stands for one frame.
    pub cut_off: u64,
    /// Picture numbers that were not made continuous.
    pub skipped_numbers: u64,
}

/// What this program used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Generator {
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// Share of one core within the steady part, 0 to 1 and above. Near 1 delays are ours.
    pub cpu_share: f64,
    /// The latest that it looked at its sockets, in ms.
    pub late_max_ms: f64,
}

/// What the server used, within the steady part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Server {
    /// Share of one core, 0 to 1 and above.
    pub cpu_share: f64,
    /// CPU time for each packet that a participant got.
    pub cpu_us_per_packet: f64,
    /// How that is split, as sampled.
    pub user_us_per_packet: f64,
    /// The kernel's part.
    pub kernel_us_per_packet: f64,
    /// Resident memory before the first join, in bytes.
    pub resident_before: u64,
    /// With everybody there.
    pub resident_full: u64,
    /// After everybody has left.
    pub resident_after: u64,
    /// What one participant adds.
    pub resident_per_participant: u64,
}

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Participants that publish.
    pub publishers: u16,
    /// Participants that only watch.
    pub subscribers: u16,
    /// SRTP protection profiles that were agreed on (RFC 5764 §4.1.2, RFC 7714 §14.2).
    pub srtp_profiles: Vec<&'static str>,
    /// Length of the run, in seconds.
    pub seconds: f64,
    /// Of it, the part after everybody had joined or failed, in which rates, delays and CPU times are measured.
    pub steady_seconds: f64,
    /// Joins of those who publish.
    pub publisher_joins: Joins,
    /// Joins of those who only watch.
    pub subscriber_joins: Joins,
    /// Packets that publishers sent.
    pub sent: u64,
    /// What participants got.
    pub received: Received,
    /// From sender to receiver, by the kernel's clock, for sound.
    pub audio_delay: Option<Quantiles>,
    /// The same for video.
    pub video_delay: Option<Quantiles>,
    /// What became of video.
    pub frames: FrameCounts,
    /// Shares of video packets by encoding, smallest picture first.
    pub layers: Vec<f64>,
    /// What this program used.
    pub generator: Generator,
    /// What the server used, if it was watched.
    pub server: Option<Server>,
}

impl Summary {
    /// Whether anybody got anything, or joined where nobody publishes.
    pub fn has_media(&self) -> bool {
        self.received.packets > 0 || (self.publishers == 0 && self.subscriber_joins.joined > 0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantiles = |quantiles: Option<Quantiles>| match quantiles {
            Some(Quantiles { p50_ms, p99_ms, max_ms }) => {
                format!("p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms")
            }
            None => "none".to_owned(),
        };
        let reasons = |what: &str, reasons: &BTreeMap<&str, u64>| {
            let list: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            if list.is_empty() { String::new() } else { format!("; {what}: {}", list.join(", ")) }
        };
        for (who, joins) in [("publishers", &self.publisher_joins), ("subscribers", &self.subscriber_joins)] {
            if joins.attempted > 0 {
                let (failed, lost) =
                    (reasons("failed", &joins.failed), reasons("lost later", &joins.lost_later));
                let time = quantiles(joins.time);
                writeln!(f, "{who:12} {} of {} joined: {time}{failed}{lost}", joins.joined, joins.attempted)?;
                for (what, time) in
                    [("first sound", joins.first_sound), ("first picture", joins.first_picture)]
                {
                    if let Some(time) = time {
                        writeln!(f, "             {what} {}", quantiles(Some(time)))?;
                    }
                }
                if let Some(example) = &joins.example {
                    writeln!(f, "             such as: {example}")?;
                }
            }
        }
        writeln!(f, "SRTP         {}", self.srtp_profiles.join(", "))?;
        let got = &self.received;
        writeln!(
            f,
            "packets      {} received, {:.0} a second over the {:.0} s after all had joined",
            got.packets, got.packets_per_second, self.steady_seconds
        )?;
        writeln!(
            f,
            "loss         {} ({:.3} %), {} repaired; {} reordered, {} twice; {} before the answer; {} dropped here",
            got.lost,
            got.loss * 100.0,
            got.repaired,
            got.reordered,
            got.duplicates,
            got.early,
            got.dropped_here
        )?;
        if let Some(delay) = self.audio_delay {
            writeln!(f, "audio delay  {}", quantiles(Some(delay)))?;
        }
        if let Some(delay) = self.video_delay {
            writeln!(f, "video delay  {}", quantiles(Some(delay)))?;
            let frames = &self.frames;
            writeln!(
                f,
                "frames       {} shown ({} keyframes), {} undecodable, {} incomplete, {} cut off for a keyframe, {} numbers skipped",
                frames.shown,
                frames.keyframes,
                frames.undecodable,
                frames.incomplete,
                frames.cut_off,
                frames.skipped_numbers
            )?;
        }
        if self.layers.len() > 1 && got.video_packets > 0 {
            let shares: Vec<_> = self.layers.iter().map(|share| format!("{:.1} %", share * 100.0)).collect();
            writeln!(f, "layers       {} of the video packets, smallest picture first", shares.join(", "))?;
        }
        let own = &self.generator;
        write!(
            f,
            "generator    {:.0} % of a core, {:.1} s of CPU in all, up to {:.1} ms late",
            own.cpu_share * 100.0,
            own.cpu_s,
            own.late_max_ms
        )?;
        if let Some(server) = &self.server {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            write!(
                f,
                "\nserver       {:.0} % of a core, {:.2} us for a received packet ({:.2} user, {:.2} kernel)\n\
                 memory       {:.1} MiB before, {:.1} with all ({:.0} KiB each), {:.1} after",
                server.cpu_share * 100.0,
                server.cpu_us_per_packet,
                server.user_us_per_packet,
                server.kernel_us_per_packet,
                mib(server.resident_before),
                mib(server.resident_full),
                server.resident_per_participant as f64 / 1024.0,
                mib(server.resident_after)
            )?;
        }
        Ok(())
    }
}
