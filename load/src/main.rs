//! `sluice-load`: see [`args::Args`].

mod args;

use std::fs::File;
use std::io::{self, Write as _};
use std::process::ExitCode;

use args::Args;
use clap::Parser as _;
use sluice_load::{Second, Summary};

/// Lines between two repetitions of the header.
const PAGE: u32 = 20;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(contradiction) = args.contradiction() {
        eprintln!("sluice-load: {contradiction}");
        return ExitCode::from(2);
    }
    let mut lines = 0;
    let mut seconds = match args.seconds.as_ref().map(File::create).transpose() {
        Ok(file) => file,
        Err(error) => {
            eprintln!("sluice-load: cannot write --seconds: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = sluice_load::run(&args.settings(), |second| {
        if let Some(file) = &mut seconds {
            note(file, second);
        }
        if !args.quiet {
            print(second, lines % PAGE == 0);
            lines += 1;
        }
    });
    match result.map_err(|error| error.to_string()).and_then(|summary| tell(&args, &summary)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A line of JSON. If the disk is full the run goes on, and the lines are missing.
fn note(file: &mut File, second: &Second) {
    if let Ok(line) = serde_json::to_string(second) {
        let _ = writeln!(file, "{line}");
    }
}

/// Somebody may have closed the pipe; the run goes on.
fn print(second: &Second, with_header: bool) {
    let mut out = io::stdout().lock();
    if with_header {
        let _ = writeln!(out, "{}", Second::HEADER);
    }
    let _ = writeln!(out, "{second}");
}

fn tell(args: &Args, summary: &Summary) -> Result<(), String> {
    let _ = writeln!(io::stdout(), "\n{summary}");
    if let Some(file) = &args.json {
        let json = serde_json::to_vec_pretty(summary).map_err(|error| error.to_string())?;
        std::fs::write(file, json).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    if summary.has_media() {
        return Ok(());
    }
    Err("nobody got media: see the reasons above".to_owned())
}
