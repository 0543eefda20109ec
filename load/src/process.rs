//! CPU time and memory of a process, as Linux tells them in `/proc` (proc(5)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Linux counts CPU time in these units, whatever the kernel's own tick is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time of the threads that live, to the nanosecond.
    pub(crate) total: Duration,
    /// How it is split, as sampled.
    pub(crate) user: Duration,
    pub(crate) kernel: Duration,
    /// Resident memory now, in bytes.
    pub(crate) resident: u64,
}

impl Usage {
    /// Of another process.
    pub(crate) fn of(pid: i32) -> io::Result<Usage> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let mut total = Duration::ZERO;
        for thread in fs::read_dir(folder.join("task"))? {
            // A thread may end meanwhile.
            let Ok(text) = thread.and_then(|thread| fs::read_to_string(thread.path().join("schedstat")))
            else {
                continue;
            };
            total += running_time(&text).ok_or_else(|| strange("schedstat"))?;
        }
        let (user, kernel) = split(&read(&folder, "stat")?).ok_or_else(|| strange("stat"))?;
        let resident = resident(&read(&folder, "status")?).ok_or_else(|| strange("status"))?;
        Ok(Usage { total, user, kernel, resident })
    }

    /// Of this process.
    pub(crate) fn own() -> Usage {
        let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) else {
            return Usage::default();
        };
        let duration =
            |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
        let (user, kernel) = (duration(usage.user_time()), duration(usage.system_time()));
        Usage { total: user + kernel, user, kernel, resident: 0 }
    }

    /// CPU time since `before`; memory as it is now.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            kernel: self.kernel.saturating_sub(before.kernel),
            resident: self.resident,
        }
    }

    /// The share of CPU time spent in the process's own code, 0 to 1.
    pub(crate) fn user_share(self) -> f64 {
        let both = (self.user + self.kernel).as_secs_f64();
        if both > 0.0 { self.user.as_secs_f64() / both } else { 0.0 }
    }
}

fn read(folder: &Path, file: &str) -> io::Result<String> {
    fs::read_to_string(folder.join(file))
}

fn strange(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc has a {file} that cannot be read"))
}

/// Nanoseconds run are the first field.
fn running_time(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedstat.split_ascii_whitespace().next()?.parse().ok()?))
}

/// `utime` and `stime`, fields 14 and 15. The name in parentheses may hold anything.
fn split(stat: &str) -> Option<(Duration, Duration)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || Some(TICK * fields.next()?.parse::<u32>().ok()?);
    Some((next()?, next()?))
}

fn resident(status: &str) -> Option<u64> {
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(running_time("1500000000 77 3\n"), Some(Duration::from_millis(1500)));
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 250 125 5 6 20 0 1 0 30\n";
        assert_eq!(split(stat), Some((Duration::from_millis(2500), Duration::from_millis(1250))));
        assert_eq!(resident("Name:\tx\nVmRSS:\t  2048 kB\nThreads:\t1\n"), Some(2 << 20));
        assert_eq!((running_time(""), split("1 (a) S 0"), resident("Name: x")), (None, None, None));
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id() as i32).unwrap();
        assert!(usage.resident > 100_000);
        assert!(Usage::own().total > Duration::ZERO);
        assert!(Usage::of(i32::MAX).is_err());
    }
}
