//! Waiting: epoll with a deadline in microseconds, and an eventfd by which other threads end the wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;

/// An epoll instance.
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
    /// `epoll_pwait2` (Linux 5.11) takes nanoseconds; older kernels get milliseconds.
    fine: bool,
}

/// Which registrations are readable: the tokens given to [`Poller::add`].
pub struct Ready {
    events: [libc::epoll_event; Ready::MAX],
    count: usize,
}

impl Ready {
    /// A worker's own few, or as many of its TCP connections as have their turn before the rest is looked at.
    const MAX: usize = 64;

    /// None yet.
    pub fn new() -> Ready {
        Ready { events: [libc::epoll_event { events: 0, u64: 0 }; Ready::MAX], count: 0 }
    }

    /// Whether there may be more.
    pub const fn is_full(&self) -> bool {
        self.count == Ready::MAX
    }

    /// The tokens, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = u64> {
        self.events[..self.count].iter().map(|event| event.u64)
    }
}

impl Default for Ready {
    fn default() -> Ready {
        Ready::new()
    }
}

impl Poller {
    /// A new instance, watching nothing.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> io::Result<Poller> {
        // SAFETY: no pointers; the descriptor returned is new and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Poller { fd, fine: true })
    }

    /// Reports `source` as `token` for as long as it has something to read.
    ///
    /// # Errors
    /// `source` is watched already, or the kernel is out of memory.
    pub fn add(&self, source: &impl AsRawFd, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, source, token, false)
    }

    /// Has it reported also for as long as it takes something to write, or only for reading again.
    ///
    /// # Errors
    /// `source` is not watched, or the kernel is out of memory.
    pub fn change(&self, source: &impl AsRawFd, token: u64, writing: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, source, token, writing)
    }

    fn control(
        &self,
        operation: libc::c_int,
        source: &impl AsRawFd,
        token: u64,
        writing: bool,
    ) -> io::Result<()> {
        let events = libc::EPOLLIN | if writing { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` lives through the call, which copies it.
        check(unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), operation, source.as_raw_fd(), &raw mut event)
        })?;
        Ok(())
    }

    /// Waits until something is readable or `timeout` is over (`None`: without end), and says what is readable.
    /// May return early with nothing. Never returns before `timeout` for the sake of rounding.
    ///
    /// # Errors
    /// Only for a broken instance; an interrupted wait is an early return.
    pub fn wait(&mut self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<()> {
        ready.count = 0;
        let result =
            if self.fine { self.wait_fine(ready, timeout) } else { self.wait_coarse(ready, timeout) };
        match result {
            Ok(count) => {
                ready.count = count as usize;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // Not known to this kernel, or to the filter that a container runtime puts before it.
            Err(error) if self.fine && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                self.fine = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn wait_fine(&self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<libc::c_int> {
        let spec = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(3600) as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        });
        // SAFETY: the array has room for `Ready::MAX` events; `spec` lives through the call; no signal mask.
        // Called by number, since glibc has had the function only since 2.35.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                ready.events.as_mut_ptr(),
                Ready::MAX as libc::c_int,
                spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                std::ptr::null::<libc::sigset_t>(),
                size_of::<libc::sigset_t>(),
            )
        };
        check(result as libc::c_int)
    }

    fn wait_coarse(&self, ready: &mut Ready, timeout: Option<Duration>) -> io::Result<libc::c_int> {
        // Up, never down: down would spin through the last millisecond.
        let ms = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the array has room for `Ready::MAX` events.
        check(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), ready.events.as_mut_ptr(), Ready::MAX as libc::c_int, ms)
        })
    }

    #[cfg(test)]
    pub(super) fn make_coarse(&mut self) {
        self.fine = false;
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// Ends another thread's [`Poller::wait`].
#[derive(Debug)]
pub struct Wakeup {
    fd: OwnedFd,
}

impl Wakeup {
    /// A new eventfd.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> io::Result<Wakeup> {
        // SAFETY: no pointers; the descriptor returned is new and ours alone.
        let fd =
            unsafe { OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?) };
        Ok(Wakeup { fd })
    }

    /// Makes the eventfd readable until [`Wakeup::clear`]. From any thread.
    pub fn notify(&self) {
        let one = 1_u64;
        // SAFETY: writes the 8 bytes of `one`. The only failure is a full counter, and then it is readable.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Takes all notices.
    pub fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: reads 8 bytes into `count`. The only failure is that there was no notice.
        unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }
}

impl AsRawFd for Wakeup {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// Raises the soft limit of open files to the hard one: each WebSocket is a file, and the usual soft limit of
/// 1024 is made for programs that use `select`. Gives the limit that holds now.
///
/// # Errors
/// The limits cannot be read or changed; the old one holds.
pub fn raise_open_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through both calls.
    unsafe {
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        limit.rlim_cur = limit.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit))?;
    }
    Ok(limit.rlim_cur)
}
