//! What the server holds, as Linux tells it in `/proc` (proc(5)).

use std::fs;

use crate::run::Result;

/// The first worker's UDP port.
const MEDIA_PORT: u16 = 7882;

/// At one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    /// Resident memory, in KiB.
    pub(crate) resident: f64,
    /// Open file descriptors.
    pub(crate) files: usize,
    pub(crate) threads: usize,
}

/// # Errors
/// The process has ended.
pub(crate) fn held(pid: u32) -> Result<Held> {
    let gone = |error: std::io::Error| format!("the server has ended ({error})");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(gone)?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).map_err(gone)?.count();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<usize>().ok()
    };
    match (field("VmRSS:"), field("Threads:")) {
        (Some(resident), Some(threads)) => Ok(Held { resident: resident as f64, files, threads }),
        _ => Err("the server has ended".to_owned()),
    }
}

/// Datagrams that the kernel dropped at the server's media port, since it did not read them in time.
pub(crate) fn unread(pid: u32) -> u64 {
    ["udp", "udp6"]
        .iter()
        .filter_map(|file| fs::read_to_string(format!("/proc/{pid}/net/{file}")).ok())
        .map(|table| dropped(&table, MEDIA_PORT))
        .sum()
}

/// The last column of the port's sockets.
fn dropped(table: &str, port: u16) -> u64 {
    let of_port = |line: &&str| {
        let local = line.split_ascii_whitespace().nth(1)?.rsplit(':').next()?;
        Some(u16::from_str_radix(local, 16).ok()? == port)
    };
    let lines = table.lines().skip(1).filter(|line| of_port(line) == Some(true));
    lines.filter_map(|line| line.split_ascii_whitespace().next_back()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_the_port_are_added_up() {
        let table = "  sl  local_address rem_address   st ... drops\n\
                     1: 0100007F:1ECA 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0000 12\n\
                     2: 0100007F:1ECB 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0000 7\n\
                     3: 016433C6:1ECA 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0000 3\n";
        assert_eq!((dropped(table, 0x1ECA), dropped(table, 1)), (15, 0));
    }

    #[test]
    fn this_process_holds_something() {
        let held = held(std::process::id()).unwrap();
        assert!(held.resident > 100.0 && held.files > 2 && held.threads > 0, "{held:?}");
    }
}
