//! `cargo xtask wire`: what the core sends, as somebody else's parsers see it.
//!
//! A simulated call leaves encryption out, so that tshark reads every header, extension and report.

use std::path::Path;

use crate::run::{self, Result, cargo, root};
use crate::tools;

/// Calls that have all in them: simulcast, losses in both directions, repairs and redundant sound.
const CALLS: [&str; 3] = [
    "publisher_loses_packets",
    "loss_on_one_path_is_no_reason_on_another",
    "publishers_redundancy_fills_our_gaps",
];

/// The server of simulated calls.
const OURS: &str = "ip.src == 10.0.0.1";
const PORT: &str = "udp.port==7882";
/// How RTP and RTCP on one port are told apart (RFC 5761 §4).
const IS_RTCP: &str = "udp.payload[1:1] >= c0 && udp.payload[1:1] <= df";

pub(crate) fn run() -> Result {
    tools::debian(&[("tshark", "tshark")])?;
    let folder = root().join("target/wire");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let mut calls = cargo(&["test", "--locked", "--workspace", "--test", "scenarios", "--"]);
    run::run(calls.args(CALLS).env("SIM_PCAP", &folder).env("SIM_SEED", "1"))?;
    let (mut media, mut reports) = (0, 0);
    let captures = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for capture in captures {
        let capture = capture.map_err(|error| error.to_string())?.path();
        media += judge(&capture, "rtp", &format!("!({IS_RTCP})"))?;
        reports += judge(&capture, "rtcp", IS_RTCP)?;
    }
    // A capture in which tshark recognises nothing would be without fault, too.
    if media < 10_000 || reports < 1000 {
        return Err(format!("tshark saw {media} RTP and {reports} RTCP packets of ours, which is too few"));
    }
    eprintln!("tshark read {media} RTP and {reports} RTCP packets of ours and found no fault");
    Ok(())
}

/// How many packets of ours there are of a protocol, all of which must be without fault.
fn judge(capture: &Path, protocol: &str, which: &str) -> Result<usize> {
    let ours = format!("{OURS} && {which}");
    let fault = format!("{ours} && (_ws.malformed || _ws.expert.severity == \"Error\")");
    if let Some(first) = seen(capture, protocol, &fault)?.lines().next() {
        return Err(format!("tshark finds fault with {}, first with packet {first}", capture.display()));
    }
    Ok(seen(capture, protocol, &format!("{ours} && {protocol}"))?.lines().count())
}

/// The numbers of the packets that match a display filter, one in each line.
fn seen(capture: &Path, protocol: &str, filter: &str) -> Result<String> {
    let capture = capture.to_string_lossy();
    let decode = format!("{PORT},{protocol}");
    let arguments = ["-r", &capture, "-d", &decode, "-Y", filter, "-T", "fields", "-e", "frame.number"];
    run::output("tshark", &arguments).ok_or_else(|| format!("`tshark {}` failed", arguments.join(" ")))
}
