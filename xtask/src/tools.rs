//! What is needed beyond the Rust toolchain: found, installed, or named in the error.

use std::path::{Path, PathBuf};

use crate::run::{Result, cargo, command, output, root, run};

/// Node.js, for the page and the browser tests.
pub(crate) fn node() -> Result {
    let found = output("node", &["--version"]);
    let major =
        found.as_deref().and_then(|v| v.trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
    match major {
        Some(20..) => Ok(()),
        Some(_) => Err(format!("Node.js 20 or newer is needed, found {}", found.unwrap_or_default())),
        None => Err(
            "Node.js 20 or newer is needed (https://nodejs.org, or your distribution's `nodejs` and `npm`)"
                .into(),
        ),
    }
}

/// Installs a folder's npm packages as its lock file has them, if that was not done since it changed.
pub(crate) fn npm_packages(folder: &Path) -> Result {
    let lock = folder.join("package-lock.json");
    let done = folder.join("node_modules/.package-lock.json");
    let age = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    if age(&done) >= age(&lock) && age(&done).is_some() {
        return Ok(());
    }
    run(command("npm", &["ci", "--no-audit", "--no-fund"]).current_dir(folder))
}

/// Builds the meeting page into `web/dist`, which the server embeds.
pub(crate) fn page() -> Result {
    node()?;
    let web = root().join("web");
    npm_packages(&web)?;
    run(command("npm", &["run", "build"]).current_dir(web))
}

/// A Debian package for each program that is missing. Needs root; says so when it cannot.
pub(crate) fn debian(needed: &[(&str, &str)]) -> Result {
    let missing: Vec<&str> =
        needed.iter().filter(|(program, _)| !on_path(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let hint = format!("missing packages; as root: apt-get install {}", missing.join(" "));
    if !on_path("apt-get") || output("id", &["-u"]).as_deref() != Some("0") {
        return Err(hint);
    }
    run(&mut command("apt-get", &["update", "-qq"])).map_err(|error| format!("{error}; {hint}"))?;
    let mut install = command("apt-get", &["install", "-y", "-qq", "--no-install-recommends"]);
    run(install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive"))
        .map_err(|error| format!("{error}; {hint}"))
}

/// A Python environment below `target/` with the packages that a file of the client tests pins; gives its interpreter.
pub(crate) fn python(environment: &str, requirements: &str) -> Result<PathBuf> {
    if !on_path("python3") {
        return Err("Python 3.9 or newer is needed for the SDK tests (package `python3-venv`)".into());
    }
    let home = root().join("target").join(environment);
    let interpreter = home.join("bin/python");
    let wanted = root().join("tests/clients").join(requirements);
    let installed = home.join("requirements.txt");
    let same = std::fs::read(&wanted).ok() == std::fs::read(&installed).ok();
    if !(same && interpreter.exists()) {
        eprintln!("installing the Python packages of tests/clients/{requirements}");
        run(&mut command("python3", &["-m", "venv", &home.to_string_lossy()]))?;
        let mut pip =
            command(&interpreter, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        run(pip.arg("-r").arg(&wanted))?;
        std::fs::copy(&wanted, &installed)
            .map_err(|error| format!("cannot note {}: {error}", wanted.display()))?;
    }
    Ok(interpreter)
}

/// A cargo subcommand, built from the registry when it is not there.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result {
    let subcommand = name.trim_start_matches("cargo-");
    if cargo(&[subcommand, "--version"]).output().is_ok_and(|out| out.status.success()) {
        return Ok(());
    }
    eprintln!("installing {name} {version} from the registry");
    run(&mut cargo(&["install", "--locked", "--quiet", name, "--version", version]))
}

/// Whether a program can be found.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    // Debian keeps administrators' tools off the path of ordinary users.
    found || ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}
