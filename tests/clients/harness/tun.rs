//! A network interface whose wire is this process: tun(4).
#![expect(unsafe_code, reason = "one system call, that no crate in the tree wraps")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Makes an interface of that name, not up yet. What the kernel sends through it is read from the file, an IP packet at
/// a time, and what is written there arrives. It is gone when the file is closed.
///
/// # Errors
/// What the kernel says.
pub(super) fn open(name: &str) -> io::Result<File> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: plain numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "{name} is too long");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the call reads and writes the `ifreq` that it is given, and nothing else.
    match unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } {
        0 => Ok(device),
        _ => Err(io::Error::last_os_error()),
    }
}
