//! What forwarding one packet costs: one publisher, many subscribers, over loopback.
//!
//! The server's own media worker runs on its own thread, with real sockets, encryption and congestion control;
//! all clients share the main thread. What is told is the worker's CPU time, system calls and allocations, each
//! for one media packet delivered, so that the clients' own cost does not enter, except that on loopback the
//! kernel delivers a datagram within the sender's call: the receivers' share of the kernel is part of the figures.
//!
//! Always: every step has a bound in time, and the bench fails when packets do not flow.

mod allocations;
mod connection;
mod crowd;
mod floor;
mod publisher;
mod server;
mod subscriber;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use serde::Serialize;
use sfu::stats::Histogram;

use crate::crowd::Crowd;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Room for one datagram and the tag that encryption adds.
const BUFFER: usize = 1600;

#[derive(clap::Parser)]
#[command(about = "What forwarding one packet costs, from one publisher to many subscribers")]
struct Args {
    /// Numbers of subscribers, measured one after the other
    #[arg(long, value_delimiter = ',', default_values_t = [10, 50, 200], value_parser = clap::value_parser!(u16).range(1..=900))]
    subscribers: Vec<u16>,
    /// Seconds measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seconds before, at least; more until everybody gets everything. Within 8, what remembers packets for five
    /// seconds has grown to its size
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(0..=60))]
    warm_up: u64,
    /// The camera's bitrate as a multiple of 1.2 Mbit/s
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Instead: what packets of some sizes cost in runs of some lengths, copied, sealed and sent as fast as can be
    #[arg(long)]
    model: bool,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also list where the worker allocates; takes CPU time, so that the other figures are void
    #[arg(long)]
    sites: bool,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Packets of both kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    audio: u64,
    video: u64,
}

impl Counts {
    fn total(self) -> u64 {
        self.audio + self.video
    }

    fn since(self, before: Counts) -> Counts {
        Counts { audio: self.audio - before.audio, video: self.video - before.video }
    }
}

/// What was measured with one number of subscribers. A packet is a media packet that a subscriber got.
#[derive(Serialize)]
struct Figures {
    subscribers: u16,
    seconds: f64,
    packets: u64,
    packets_per_second: f64,
    /// CPU time, as the scheduler counted it…
    cpu_us_per_packet: f64,
    /// …what the same packets cost at least on this machine, …
    floor_us_per_packet: f64,
    /// …and how the CPU time is split, as sampled.
    user_us_per_packet: f64,
    kernel_us_per_packet: f64,
    send_calls_per_packet: f64,
    /// Runs that the kernel was given as one, for each media packet; below 1 by segmentation offload.
    send_messages_per_packet: f64,
    /// From the socket's read to its write, 0 to 1 of the packets and the bound below which they were.
    forward_delay_p50_ms: f64,
    forward_delay_p99_ms: f64,
    allocations_per_packet: f64,
    allocations_per_second: f64,
    /// Share of the packets sent to subscribers that did not arrive, 0 to 1.
    loss: f64,
    /// Packets that the server gave up for want of bandwidth.
    pacer_drops: u64,
    /// Padding of probes, for each media packet.
    padding_per_packet: f64,
}

fn measure(subscribers: u16, args: &Args) -> Result<Figures> {
    let mut crowd = Crowd::join(subscribers)?;
    crowd.connect()?;
    crowd.publish(args.rate);
    crowd.warm_up(Duration::from_secs(args.warm_up))?;

    let (cpu, stats, before) = (crowd.server.cpu()?, crowd.server.stats(), crowd.received());
    let lost = crowd.lost();
    allocations::start(args.sites);
    let time = crowd.run(Duration::from_secs(args.seconds))?;
    let allocations = allocations::stop();
    let (cpu_now, stats_now) = (crowd.server.cpu()?, crowd.server.stats());

    let mut total = 0;
    for (index, (now, before)) in crowd.received().into_iter().zip(before).enumerate() {
        let got = now.since(before);
        if got.audio == 0 || got.video == 0 {
            return Err(format!("subscriber {index} of {subscribers} got {got:?}").into());
        }
        total += got.total();
    }
    let lost = crowd.lost().saturating_sub(lost);
    crowd.server.stop();
    let floor = floor::measure(subscribers, Duration::from_secs(args.seconds))?;

    let packets = total as f64;
    let seconds = time.as_secs_f64();
    // The server's counts are up to a second old, so only their ratios are used.
    let sent = |stats: &sfu::stats::Stats| (stats.sent.audio.packets + stats.sent.video.packets) as f64;
    let (core, core_now) = (&stats.core, &stats_now.core);
    let counted = (sent(core_now) - sent(core)).max(1.0);
    let drops = |stats: &sfu::stats::Stats| stats.dropped[sfu::stats::DropReason::Pacer as usize];
    let cpu_us = cpu_now.total.saturating_sub(cpu.total).as_secs_f64() * 1e6 / packets;
    let (user, kernel) = (cpu_now.user.saturating_sub(cpu.user), cpu_now.kernel.saturating_sub(cpu.kernel));
    let user_share = user.as_secs_f64() / (user + kernel).as_secs_f64().max(0.01);
    Ok(Figures {
        subscribers,
        seconds,
        packets: total,
        packets_per_second: packets / seconds,
        cpu_us_per_packet: cpu_us,
        floor_us_per_packet: floor,
        user_us_per_packet: cpu_us * user_share,
        kernel_us_per_packet: cpu_us * (1.0 - user_share),
        send_calls_per_packet: (stats_now.send_calls - stats.send_calls) as f64 / counted,
        send_messages_per_packet: (stats_now.send_messages - stats.send_messages) as f64 / counted,
        forward_delay_p50_ms: quantile(&core.forward_delay, &core_now.forward_delay, 0.5) * 1e3,
        forward_delay_p99_ms: quantile(&core.forward_delay, &core_now.forward_delay, 0.99) * 1e3,
        allocations_per_packet: allocations as f64 / packets,
        allocations_per_second: allocations as f64 / seconds,
        loss: lost as f64 / (packets + lost as f64),
        pacer_drops: drops(core_now) - drops(core),
        padding_per_packet: (core_now.padding.packets - core.padding.packets) as f64 / counted,
    })
}

/// The bound of the first bucket below which there are so many of what was observed between two times, in seconds.
fn quantile<const N: usize>(before: &Histogram<N>, now: &Histogram<N>, share: f64) -> f64 {
    let counts: Vec<u64> = now.counts.iter().zip(&before.counts).map(|(now, before)| now - before).collect();
    let wanted = (counts.iter().sum::<u64>() + now.above - before.above) as f64 * share;
    let mut below = 0.0;
    for (count, bound) in counts.iter().zip(now.bounds) {
        below += *count as f64;
        if below >= wanted {
            return bound;
        }
    }
    f64::INFINITY
}

fn run(args: &Args) -> Result<()> {
    println!(
        "subscribers  packets/s  CPU us  floor  user us  kernel us  send calls  messages  allocations  padding  drops    loss  \
         delay p50, p99 ms"
    );
    println!(
        "                        per forwarded packet ............... ............................................."
    );
    let mut all = Vec::new();
    for &subscribers in &args.subscribers {
        let f = measure(subscribers, args)?;
        println!(
            "{:11}  {:9.0}  {:6.2}  {:5.2}  {:7.2}  {:9.2}  {:10.4}  {:8.3}  {:11.4}  {:7.4}  {:5}  {:5.2} %  <= {:.1}, {:.1}",
            f.subscribers,
            f.packets_per_second,
            f.cpu_us_per_packet,
            f.floor_us_per_packet,
            f.user_us_per_packet,
            f.kernel_us_per_packet,
            f.send_calls_per_packet,
            f.send_messages_per_packet,
            f.allocations_per_packet,
            f.padding_per_packet,
            f.pacer_drops,
            f.loss * 100.0,
            f.forward_delay_p50_ms,
            f.forward_delay_p99_ms,
        );
        if args.sites {
            for (count, site) in allocations::take_sites() {
                println!("{count:8}  {site}");
            }
        }
        all.push(f);
    }
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&all)?)?;
    }
    Ok(())
}

/// Payload and header of a packet of sound, of a small and of a full one of video.
const MODEL_SIZES: [usize; 3] = [120, 500, 1020];
const MODEL_RUNS: [usize; 6] = [1, 2, 4, 8, 16, 32];

fn model() -> Result<()> {
    println!("CPU us a packet, in runs of  {}", MODEL_RUNS.map(|run| format!("{run:>5}")).join("  "));
    for size in MODEL_SIZES {
        let costs = MODEL_RUNS.map(|run| floor::measure_runs((run, size)));
        let costs = costs.into_iter().collect::<Result<Vec<f64>>>()?;
        let costs = costs.iter().map(|cost| format!("{cost:5.2}")).collect::<Vec<_>>();
        println!("{size:21} bytes  {}", costs.join("  "));
    }
    Ok(())
}

fn main() -> ExitCode {
    let args = Args::parse();
    match if args.model { model() } else { run(&args) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}
