//! Running other programs: say what is run, stop at the first that fails.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What went wrong, as a sentence for the person at the terminal.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The checkout's root, wherever the command was started from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// A command that runs in the checkout's root.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// `cargo`, the one that started us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), args)
}

/// Prints the command, runs it, and fails if it failed.
pub(crate) fn run(command: &mut Command) -> Result {
    let line = describe(command);
    eprintln!("\x1b[1m$ {line}\x1b[0m");
    let started = Instant::now();
    let status = command.status().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() {
        eprintln!("  ({:.0} s)", started.elapsed().as_secs_f64());
        Ok(())
    } else {
        Err(format!("`{line}` failed ({status})"))
    }
}

/// Runs tests like [`run`], and gives the names of those that failed.
///
/// # Errors
/// It failed otherwise: nothing was built, say.
pub(crate) fn failed_tests(command: &mut Command) -> Result<Vec<String>> {
    let line = describe(command);
    eprintln!("\x1b[1m$ {line}\x1b[0m");
    let started = Instant::now();
    let cannot = |error| format!("cannot run `{line}`: {error}");
    let mut tests = command.stdout(Stdio::piped()).spawn().map_err(cannot)?;
    let mut failed = Vec::new();
    for printed in BufReader::new(tests.stdout.take().expect("piped")).lines() {
        let printed = printed.map_err(cannot)?;
        println!("{printed}");
        let name = printed.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        failed.extend(name.map(str::to_owned));
    }
    let status = tests.wait().map_err(cannot)?;
    if status.success() == failed.is_empty() {
        eprintln!("  ({:.0} s)", started.elapsed().as_secs_f64());
        Ok(failed)
    } else {
        Err(format!("`{line}` failed ({status})"))
    }
}

/// The command's standard output, or `None` if it cannot be run or fails.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = command(program, args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
