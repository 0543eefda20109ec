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
        // What is found new goes into the first folder, which is not in the repository; the seeds are.
        let (corpus, seeds) = (format!("fuzz/corpus/{target}"), format!("fuzz/seeds/{target}"));
        for folder in [&corpus, &seeds] {
            std::fs::create_dir_all(root().join(folder))
                .map_err(|error| format!("cannot make {folder}: {error}"))?;
        }
        let mut fuzz = cargo(&["fuzz", "run", target, &corpus, &seeds, "--", &limit]);
        // An input that takes this long, or this much memory, is a finding too.
        fuzz.args(["-timeout=20", "-rss_limit_mb=2048", "-max_len=65536"]);
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
