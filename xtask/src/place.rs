//! Where servers are compared: namespaces of the run's own, with a core for the server and one for the load.
//!
//! LiveKit and libnice pass over loopback, so that there is an interface with an address for documentation (RFC 5737
//! §3); packets to an address of the same host take the loopback path whatever interface it is on. As the first
//! process of a PID namespace the run takes with it all that it started (pid_namespaces(7)).

use std::net::Ipv4Addr;
use std::process::Command;

use crate::run::{self, Result, command, output};
use crate::tools;

/// Of every server, and of the generator.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const INTERFACE: &str = "media";
/// What is run, and Debian's packages that have it.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("taskset", "util-linux"),
    ("timeout", "coreutils"),
    ("unshare", "util-linux"),
];

/// The core of the server and that of the load.
pub(crate) struct Place {
    server: usize,
    load: usize,
}

/// What must be there before anything is built.
pub(crate) fn needs() -> Result {
    if !cfg!(target_os = "linux") {
        return Err("servers are compared on Linux only: the run needs its namespaces and /proc".to_owned());
    }
    tools::debian(PROGRAMS)?;
    cores().map(|_| ())
}

/// Starts this command once more, inside; ends with it, and it with us.
pub(crate) fn again_inside() -> Result {
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let is_root = output("id", &["-u"]).as_deref() == Some("0");
    let mut inside = command("setpriv", &["--pdeathsig", "KILL", "unshare"]);
    if !is_root {
        inside.args(["--user", "--map-root-user"]);
    }
    inside.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    inside.arg(own).args(std::env::args_os().skip(1)).arg("--inside");
    // Files that are named are meant from where we were started.
    run::run(inside.current_dir(std::env::current_dir().map_err(|error| error.to_string())?))
}

impl Place {
    /// Gives the namespace its interface.
    pub(crate) fn make() -> Result<Place> {
        if std::process::id() != 1 {
            return Err(
                "--inside is what this command starts itself with, in namespaces of its own".to_owned()
            );
        }
        let address = format!("{ADDRESS}/24");
        for words in [
            "link set lo up".to_owned(),
            // The other end is there because a pair has two.
            format!("link add {INTERFACE} type veth peer name {INTERFACE}-end"),
            format!("address add {address} dev {INTERFACE}"),
            format!("link set {INTERFACE} up"),
            format!("link set {INTERFACE}-end up"),
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            let done = command("ip", &words).status().map_err(|error| format!("cannot start ip: {error}"))?;
            if !done.success() {
                return Err(format!(
                    "`ip {}` failed: is this a container without CAP_NET_ADMIN?",
                    words.join(" ")
                ));
            }
        }
        let (server, load) = cores()?;
        Ok(Place { server, load })
    }

    pub(crate) fn on_server_core(&self, program: &str) -> Command {
        command("taskset", &["--cpu-list", &self.server.to_string(), program])
    }

    /// Words to put before the generator's.
    pub(crate) fn on_load_core(&self) -> [String; 3] {
        ["taskset".to_owned(), "--cpu-list".to_owned(), self.load.to_string()]
    }
}

/// The first and the last that we may use.
fn cores() -> Result<(usize, usize)> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    first_and_last(list.trim()).ok_or_else(|| {
        format!(
            "two cores are needed, one for the server and one for the load; this process may use `{}`",
            list.trim()
        )
    })
}

/// Of a list such as `0-3,8` (cpuset(7)); `None` if it has fewer than two.
fn first_and_last(list: &str) -> Option<(usize, usize)> {
    let first = list.split([',', '-']).next()?.parse().ok()?;
    let last = list.rsplit([',', '-']).next()?.parse().ok()?;
    (first < last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_load_have_a_core_each_or_there_is_no_run() {
        assert_eq!(first_and_last("0-1"), Some((0, 1)));
        assert_eq!(first_and_last("2,4-7,9"), Some((2, 9)));
        assert_eq!((first_and_last("3"), first_and_last("")), (None, None));
    }
}
