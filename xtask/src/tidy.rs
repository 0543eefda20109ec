//! `cargo xtask tidy`: what the compiler cannot see: metrics and files that nobody described.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Result, root};

/// Every metric is in the README's or the operator's page, and no source file has outgrown its idea.
pub(crate) fn run() -> Result {
    let mut faults = Vec::new();
    let docs = read(&root().join("docs/metrics.md"))?;
    let metrics = read(&root().join("src/metrics.rs"))?
        + &read(&root().join("src/metrics/media.rs"))?
        + &read(&root().join("src/metrics/tcp.rs"))?
        + &read(&root().join("src/metrics/turn.rs"))?;
    for name in metrics.split('"').filter(|text| is_metric(text)) {
        if !docs.contains(name) {
            faults.push(format!("{name} is exported but not described in docs/metrics.md"));
        }
    }
    for folder in [
        "src",
        "load/src",
        "sfu/src",
        "sfu/testkit/src",
        "signaling/src",
        "turn/src",
        "turn-config/src",
        "xtask/src",
    ] {
        for file in rust_files(&root().join(folder)) {
            if file
                .components()
                .any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == "tests")
            {
                continue; // a test's name says what it is for
            }
            let text = read(&file)?;
            if !text.starts_with("//!") && !text.starts_with("#!") {
                faults.push(format!("{} does not open with what it is for (`//!`)", file.display()));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

fn is_metric(text: &str) -> bool {
    text.starts_with("sluice_")
        && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}
