//! Programs that the tests start. One that is missing is an error that says what to do.

use std::path::PathBuf;

use super::drivers;

/// A program on the path, or in the folders for administrators' tools.
///
/// # Panics
/// If it is not there.
pub(super) fn find(names: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = folders
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "no {} on the path: `cargo xtask ci` installs it, or install the package {package}",
            names.join(" or ")
        )
    })
}

pub(super) fn chromium() -> PathBuf {
    find(&["chromium", "chromium-browser", "google-chrome"], "chromium")
}

pub(super) fn firefox() -> PathBuf {
    find(&["firefox-esr", "firefox"], "firefox-esr")
}

pub(super) fn node() -> PathBuf {
    let installed = drivers().join("node_modules/playwright-core").is_dir();
    assert!(
        installed,
        "npm packages are missing: `cargo xtask ci` installs them, or `npm ci` in tests/clients"
    );
    find(&["node"], "nodejs")
}

/// The interpreter with the SDK.
pub(super) fn python() -> PathBuf {
    interpreter("SLUICE_PYTHON", "python", "requirements.txt")
}

/// The interpreter with the framework for agents, which wants an SDK of its own.
pub(super) fn agents_python() -> PathBuf {
    interpreter("SLUICE_AGENTS_PYTHON", "python-agents", "agents-requirements.txt")
}

/// The interpreter that `variable` names, or that of the environment which `cargo xtask ci` makes.
fn interpreter(variable: &str, environment: &str, requirements: &str) -> PathBuf {
    let made = || drivers().join("../../target").join(environment).join("bin/python");
    let python = std::env::var_os(variable).map_or_else(made, PathBuf::from);
    assert!(
        python.is_file(),
        "no Python at {}: `cargo xtask ci` makes one, or install tests/clients/{requirements} into an environment and \
         name its interpreter in {variable}",
        python.display()
    );
    python
}
