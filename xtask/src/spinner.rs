//! Takes a share of a core away from whatever runs there, evenly: a core that is slower by so much.
//!
//! It runs above all other work (`SCHED_FIFO`, sched(7)) for a part of each period, which is shorter than the server's own. A process of
//! its own, told by its standard input, a share a line; it ends with that.

use std::io::{BufRead as _, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::place::Place;
use crate::run::Result;
use crate::trial::Trial;

const PERIOD: Duration = Duration::from_millis(2);
/// Above this Linux takes the processor back from it (`sched_rt_runtime_us`).
const MOST: f64 = 0.93;
/// Steps in which a server is made busy, and the time for which each is looked at.
const STEP: f64 = 0.04;
const LOOK: Duration = Duration::from_secs(3);

/// The metric: seconds.
pub(crate) const BUSY: &str = "sluice_worker_busy_seconds_total";

/// The hidden command that this program starts itself with.
pub(crate) fn spin() -> Result {
    let share = Arc::new(AtomicU32::new(0)); // thousandths
    let told = Arc::clone(&share);
    std::thread::spawn(move || {
        let mut next = Instant::now();
        loop {
            let busy = PERIOD.mul_f64(f64::from(told.load(Ordering::Relaxed)) / 1000.0);
            next = (next + PERIOD).max(Instant::now());
            let until = Instant::now() + busy;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let wanted: f64 = line.trim().parse().map_err(|error| format!("`{line}` is no share: {error}"))?;
        share.store((wanted.clamp(0.0, MOST) * 1000.0) as u32, Ordering::Relaxed);
    }
    Ok(())
}

/// One that runs on the server's core; it ends when this is dropped.
pub(crate) struct Spinner {
    process: Child,
    input: ChildStdin,
}

impl Spinner {
    pub(crate) fn start(place: &Place) -> Result<Spinner> {
        let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = place.on_server_core("chrt");
        command.args(["--fifo", "1"]).arg(own).arg("spin").stdin(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("cannot start chrt: {error}"))?;
        let input = process.stdin.take().expect("piped");
        let mut spinner = Spinner { process, input };
        spinner.take(0.0)?;
        Ok(spinner)
    }

    /// Takes this share of the core from now on, 0 to [`MOST`].
    pub(crate) fn take(&mut self, share: f64) -> Result {
        writeln!(self.input, "{share}")
            .and_then(|()| self.input.flush())
            .map_err(|error| format!("cannot slow the core down ({error}): this needs root"))
    }

    /// Takes more and more until the server's worker needs this share of its time. Gives what is left of the core.
    pub(crate) fn until_busy(&mut self, server: &Trial<'_>, busy: f64) -> Result<f64> {
        let mut taken = 0.0;
        while taken < MOST {
            self.take(taken)?;
            let (before, begin) = (server.metric(BUSY)?, Instant::now());
            std::thread::sleep(LOOK);
            if (server.metric(BUSY)? - before) / begin.elapsed().as_secs_f64() >= busy {
                break;
            }
            taken += STEP;
        }
        Ok(1.0 - taken)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
