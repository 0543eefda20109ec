//! Whether the machine itself stood still: a thread on each core that sleeps briefly, and notes when it slept far too long.
//!
//! Calls are in real time. A virtual machine whose core is taken away for seconds breaks them as a cut cable would, and what a
//! test then sees says nothing about the server.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const TICK: Duration = Duration::from_millis(100);
/// A busy machine has a thread wait for some hundredths of a second.
const STALL: Duration = Duration::from_secs(1);

/// What the watchers saw.
#[derive(Default)]
struct Seen {
    /// When each core's was awake last.
    awake: HashMap<usize, Instant>,
    /// When a stall was over, and how long it was.
    stalls: Vec<(Instant, Duration)>,
}

/// From the first call on the cores are watched, until the process ends.
fn seen() -> MutexGuard<'static, Seen> {
    static SEEN: LazyLock<Mutex<Seen>> = LazyLock::new(|| {
        let allowed = sched_getaffinity(None).expect("the cores that we may use");
        for core in (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)) {
            std::thread::spawn(move || watch(core));
        }
        Mutex::default()
    });
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(core: usize) {
    let mut alone = CpuSet::new();
    alone.set(core);
    sched_setaffinity(None, &alone).expect("a core that we may use");
    loop {
        let mut seen = seen();
        let now = Instant::now();
        let slept = seen.awake.insert(core, now).map_or(Duration::ZERO, |before| now - before);
        if slept > STALL {
            seen.stalls.push((now, slept));
        }
        drop(seen);
        std::thread::sleep(TICK);
    }
}

/// A test's time, from here to its end.
pub(super) struct Watched(Instant);

impl Watched {
    pub(super) fn begin() -> Watched {
        drop(seen());
        Watched(Instant::now())
    }
}

impl Drop for Watched {
    /// Puts a test that failed while the machine stood still on the list that `cargo xtask ci` reads.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let seen = seen();
        let over = seen.stalls.iter().filter(|(ended, _)| *ended > self.0).map(|&(_, length)| length);
        let open = seen.awake.values().map(Instant::elapsed).filter(|&length| length > STALL);
        let Some(longest) = over.chain(open).max() else { return };
        eprintln!("the machine stood still meanwhile, for {longest:?}");
        let list = File::options().create(true).append(true).open(super::artefact("stalled"));
        let test = std::thread::current();
        writeln!(list.expect("a list"), "{}", test.name().expect("a test's name")).expect("written");
    }
}
