//! What time a thread has used.

use std::io;
use std::time::Duration;

use super::check;

/// CPU time of the thread that asks, user and kernel (`CLOCK_THREAD_CPUTIME_ID`, clock_gettime(2)).
///
/// # Errors
/// The kernel has no such clock.
pub fn thread_cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives through the call.
    unsafe { check(libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time))? };
    // Neither is negative, and nanoseconds stay below a second.
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
