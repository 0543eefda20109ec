//! `cargo xtask fuzz`: every fuzz target for a while, on the stable toolchain.

use crate::run::{self, Result, cargo, root};
use crate::tools;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Only this target; all of `fuzz/fuzz_targets` without it
    target: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result {
    let all = targets()?;
    let chosen: Vec<String> = match &args.target {
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => return Err(format!("no fuzz target {name:?}; there are: {}", all.join(", "))),
        None => all,
    };
    tools::cargo_tool("cargo-fuzz", "0.13.2")?;
    let limit = format!("-max_total_time={}", args.seconds);
    for target in &chosen {
        let mut fuzz = cargo(&["fuzz", "run", target, "--", &limit, "-max_len=65536", "-rss_limit_mb=2048"]);
        // libFuzzer's instrumentation is a nightly flag that the stable compiler also has.
        run::run(fuzz.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    eprintln!("clean: {}", chosen.join(", "));
    Ok(())
}

fn targets() -> Result<Vec<String>> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}
