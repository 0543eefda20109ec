//! `cargo xtask cost`: instructions and allocations for each packet that the core forwards, against what they were.
//!
//! Counted by callgrind over a simulated call, so that neither the machine nor its load changes them: what makes the core
//! dearer shows here, though no time is measured. The build is that of the tests, with little optimised: the figures mean
//! something beside each other only. Encryption and the kernel are not in them.

use std::collections::HashMap;
use std::path::Path;

use crate::run::{self, Result, cargo, command, root};
use crate::tools;

/// As recorded last; what they were before is in benches/BASELINE.md.
const RECORDED: Cost = Cost { instructions: 8836.0, allocations: 0.0 };
/// So much more or less is the compiler's mood, and the order in which maps are walked.
const TOLERANCE: f64 = 0.03;
const FEWEST_ALLOCATIONS: f64 = 0.02;

const VIEWERS: &str = "20";
/// What belongs to the core, and where counting begins (sfu/testkit/src/call/server.rs, …/examples/fanout.rs). One pattern for
/// all three: of several that begin alike callgrind heeds the first.
const COUNTED: &str = "*Server*core_*";
const FROM: &str = "*fanout*counted*";
const ALLOCATES: [&str; 4] = ["malloc", "calloc", "realloc", "posix_memalign"];

/// For each media packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

pub(crate) fn run() -> Result {
    tools::debian(&[("valgrind", "valgrind")])?;
    // As the tests are built, so that nothing is built twice.
    run::run(&mut cargo(&["build", "--workspace", "--locked", "--examples"]))?;
    let profile = root().join("target/cost.callgrind");
    let packets = count(&profile)?;
    let profile =
        std::fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let cost = read(&profile, packets)?;
    println!("for each of {packets} packets  instructions  allocations");
    println!("now           {:>22.0} {:>12.3}", cost.instructions, cost.allocations);
    println!("recorded      {:>22.0} {:>12.3}", RECORDED.instructions, RECORDED.allocations);
    judge(cost, RECORDED)
}

/// Runs the call under callgrind; gives how many packets it sent meanwhile.
fn count(profile: &Path) -> Result<f64> {
    let mut call = command("valgrind", &["--tool=callgrind", "--collect-atstart=no", "--quiet"]);
    call.arg(format!("--toggle-collect={COUNTED}"));
    call.arg(format!("--zero-before={FROM}"));
    call.arg(format!("--callgrind-out-file={}", profile.display()));
    call.arg(root().join("target/debug/examples/fanout")).arg(VIEWERS);
    let output = call.output().map_err(|error| format!("cannot start valgrind: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    printed.trim().parse().map_err(|_| {
        format!(
            "the call under valgrind ({}) said: {printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// Sums up a profile (Valgrind manual, "Callgrind Format Specification").
fn read(profile: &str, packets: f64) -> Result<Cost> {
    let (mut names, mut called) = (HashMap::new(), "");
    let (mut instructions, mut allocations) = (None, 0.0);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn=")) {
            // `(12) name` the first time, `(12)` after that.
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            let known = names.entry(number).or_insert(name);
            called = if line.starts_with('c') { *known } else { called };
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let times = calls.split(' ').next().and_then(|times| times.parse::<f64>().ok());
            allocations += times.filter(|_| ALLOCATES.contains(&called)).unwrap_or(0.0);
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.trim().parse::<f64>().ok();
        }
    }
    match instructions {
        Some(total) if total > 0.0 && packets > 0.0 => {
            Ok(Cost { instructions: total / packets, allocations: allocations / packets })
        }
        _ => Err("callgrind counted nothing: are the functions of xtask/src/cost.rs still there?".to_owned()),
    }
}

fn judge(cost: Cost, recorded: Cost) -> Result {
    let ratio = cost.instructions / recorded.instructions;
    if cost.allocations > recorded.allocations + FEWEST_ALLOCATIONS {
        return Err(format!(
            "{:.3} allocations for each packet, {:.3} before: `cargo xtask bench -- --sites` says where",
            cost.allocations, recorded.allocations
        ));
    }
    if ratio > 1.0 + TOLERANCE {
        return Err(format!(
            "{ratio:.3} times the instructions of before: `callgrind_annotate target/cost.callgrind` says where. If they \
             are worth it, record them in xtask/src/cost.rs and benches/BASELINE.md"
        ));
    }
    if ratio < 1.0 - TOLERANCE {
        println!(
            "{ratio:.3} times the instructions of before: record them in xtask/src/cost.rs and benches/BASELINE.md"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir
fn=(1) core
10 400
cfn=(2) malloc
calls=3 0
11 90
fn=(3) other
cfn=(2)
calls=1 0
12 10
cfn=(4) free
calls=7 0
13 20
totals: 520
";

    #[test]
    fn a_profile_is_summed_up() {
        let cost = read(PROFILE, 10.0).expect("it is a profile");
        assert_eq!(cost, Cost { instructions: 52.0, allocations: 0.4 });
        assert!(read("totals: 0\n", 10.0).is_err(), "nothing was counted");
    }

    #[test]
    fn dearer_packets_are_refused() {
        let recorded = Cost { instructions: 1000.0, allocations: 0.0 };
        for (instructions, allocations, good) in [
            (1000.0, 0.0, true),
            (1020.0, 0.01, true),
            (1040.0, 0.0, false),
            (1000.0, 0.1, false),
            (500.0, 0.0, true),
        ] {
            let cost = Cost { instructions, allocations };
            assert_eq!(judge(cost, recorded).is_ok(), good, "{cost:?}");
        }
    }
}
