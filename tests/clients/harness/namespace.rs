//! Bad networks: a network namespace behind a link that is narrow or loses packets, or behind a [`Path`].
//!
//! The server stays outside; clients inside reach it at [`Namespace::outside`]. Whoever else connects to that
//! address from outside does so over loopback and notices nothing.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Access, AccessLink, programs, tun};

/// The chain that loses packets.
const LOSS: &str = "loss";

/// The network of all first links, with 22 bits below it.
const FIRST: u32 = u32::from_be_bytes([10, 64, 0, 0]);
/// The same of second links: RFC 6598, where cellular networks have their clients.
const SECOND: u32 = u32::from_be_bytes([100, 64, 0, 0]);

/// A namespace with one link to the outside; taken down when dropped.
pub(crate) struct Namespace {
    name: String,
    outer: String,
    inner: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
    /// The ends of the second network, when there is one.
    other: [Ipv4Addr; 2],
}

impl Namespace {
    /// Behind a link of its own, that can be impaired by what the kernel has.
    ///
    /// # Panics
    /// Without the rights or the programs for it, saying which.
    pub(crate) fn new() -> Namespace {
        let namespace = Namespace::unconnected();
        let Namespace { name, outer, inner, outside, inside, .. } = &namespace;
        ip(&format!("link add {outer} type veth peer name {inner} netns {name}"));
        namespace.bring_up([outer, inner], [*outside, *inside]);
        namespace
    }

    /// Behind such an access.
    ///
    /// # Panics
    /// As [`Namespace::new`].
    pub(crate) fn behind(access: Access) -> (Namespace, AccessLink) {
        let namespace = Namespace::unconnected();
        let Namespace { outer, inner, outside, inside, .. } = &namespace;
        let link = namespace.connect([outer, inner], [*outside, *inside], access);
        (namespace, link)
    }

    fn unconnected() -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        assert!(count < 64, "addresses for 64 namespaces");
        remove_left_overs();
        // Four addresses for each link, somewhere in 10.64/10 where this process is alone.
        let net = FIRST + (process % 16_384) * 256 + count * 4;
        let name = format!("sluice-{process}-{count}");
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
        Namespace {
            name,
            // Interface names have at most 15 bytes.
            outer: format!("sl{process}o{count}"),
            inner: format!("sl{process}i{count}"),
            outside: Ipv4Addr::from(net + 1),
            inside: Ipv4Addr::from(net + 2),
            other: [net + 1, net + 2].map(|address| Ipv4Addr::from(address - FIRST + SECOND)),
        }
    }

    /// Both ends of a link that is there, the one here and the one inside.
    fn bring_up(&self, [outer, inner]: [&str; 2], [far, near]: [Ipv4Addr; 2]) {
        let name = &self.name;
        ip(&format!("addr add {far}/30 dev {outer}"));
        ip(&format!("link set {outer} up"));
        ip(&format!("-n {name} addr add {near}/30 dev {inner}"));
        ip(&format!("-n {name} link set {inner} up"));
    }

    fn connect(&self, interfaces: [&str; 2], addresses: [Ipv4Addr; 2], access: Access) -> AccessLink {
        let [here, there] = interfaces.map(|interface| {
            tun::open(interface)
                .unwrap_or_else(|error| panic!("no interface of our own, as /dev/net/tun gives: {error}"))
        });
        ip(&format!("link set {} netns {}", interfaces[1], self.name));
        self.bring_up(interfaces, addresses);
        AccessLink::between(here, there, access)
    }

    /// The outer end's address: where a server must be reachable.
    pub(crate) fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// A command that runs inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(programs::find(&["ip"], "iproute2"));
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Lets at most `kbit` kilobits a second in, with 300 ms of queue: tc-tbf(8).
    pub(crate) fn limit_downlink(&self, kbit: u32) {
        let tc = programs::find(&["tc"], "iproute2");
        run(
            &tc,
            &format!("qdisc replace dev {} root tbf rate {kbit}kbit burst 4kb latency 300ms", self.outer),
        );
    }

    /// Lifts the limit.
    pub(crate) fn lift_limit(&self) {
        run(&programs::find(&["tc"], "iproute2"), &format!("qdisc del dev {} root", self.outer));
    }

    /// Loses `percent` of all UDP packets each way, at random, and each at the receiving end: a packet that is dropped
    /// while it is sent is an error that the sender sees, and browsers send it again.
    pub(crate) fn lose(&self, percent: u32) {
        let nft = programs::find(&["nft"], "nftables");
        let which = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
        for (mut command, table, interface) in self.ends(&nft) {
            let rules = format!(
                "table inet {table} {{ chain {LOSS} {{ type filter hook input priority 0; iifname {interface} \
                 meta l4proto udp {which} counter drop; }}; }}"
            );
            let status = command.arg(&rules).status();
            assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "nft: {status:?}: {rules}");
        }
    }

    /// Packets that [`Namespace::lose`] has taken, down and up.
    pub(crate) fn lost(&self) -> [u64; 2] {
        let nft = programs::find(&["nft"], "nftables");
        self.ends(&nft).map(|(mut command, table, _)| {
            let output = command.args(["list", "chain", "inet", &table, LOSS]).output().expect("nft");
            let text = String::from_utf8_lossy(&output.stdout);
            let count = text
                .split_once("counter packets ")
                .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            count.unwrap_or_else(|| panic!("no counter in {text}"))
        })
    }

    /// Where packets arrive, down and up: how to run a program there, a table's name and the interface.
    fn ends<'a>(&'a self, program: &Path) -> [(Command, String, &'a str); 2] {
        let table = self.name.replace('-', "_");
        [
            (self.command(program), table.clone(), self.inner.as_str()),
            (Command::new(program), table, self.outer.as_str()),
        ]
    }

    /// A second network is there beside the first one, as a phone's cellular one is: a new interface with an address of its own.
    pub(crate) fn bring_up_second(&self) {
        let [outer, second] = self.second();
        ip(&format!("link add {outer} type veth peer name {second} netns {}", self.name));
        self.bring_up([&outer, &second], self.other);
    }

    /// Leaves the first network for the one of [`Namespace::bring_up_second`], as a phone does that goes out of the house. The
    /// old address goes too, or what is sent from it would find its way over the new network.
    pub(crate) fn switch_network(&self) {
        let Namespace { name, inner, .. } = self;
        ip(&format!("-n {name} addr flush dev {inner}"));
        self.leave_first(&self.second()[1]);
    }

    /// Comes within reach of a second network, which nothing is sent over as long as the first one is there.
    pub(crate) fn reach_second(&self, access: Access) -> AccessLink {
        let [outer, second] = self.second();
        self.connect([&outer, &second], self.other, access)
    }

    /// Leaves the first network for the one of [`Namespace::reach_second`].
    pub(crate) fn leave_for_second(&self) {
        self.leave_first(&self.second()[1]);
    }

    /// The interfaces of the second network.
    fn second(&self) -> [String; 2] {
        [self.outer.replace('o', "p"), self.inner.replace('i', "j")]
    }

    fn leave_first(&self, second: &str) {
        let Namespace { name, inner, outside, other: [far, _], .. } = self;
        ip(&format!("-n {name} link set {inner} down"));
        ip(&format!("-n {name} route add {outside}/32 via {far} dev {second}"));
    }

    /// Cuts the cable: nothing passes, and nobody is told.
    pub(crate) fn cut(&self) {
        ip(&format!("link set {} down", self.outer));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with it.
        let _ = Command::new(programs::find(&["ip"], "iproute2")).args(["netns", "del", &self.name]).status();
        for outer in [&self.outer, &self.second()[0]] {
            let _ = Command::new(programs::find(&["ip"], "iproute2")).args(["link", "del", outer]).output();
        }
        remove_table(&self.name);
    }
}

/// Namespaces of test runs that were killed.
fn remove_left_overs() {
    let ip = programs::find(&["ip"], "iproute2");
    let list = Command::new(&ip).args(["netns", "list"]).output().expect("ip(8) runs");
    for name in String::from_utf8_lossy(&list.stdout).lines().filter_map(|line| line.split(' ').next()) {
        let process = name.strip_prefix("sluice-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = Command::new(&ip).args(["netns", "del", name]).status();
            remove_table(name);
        }
    }
}

/// The outer end's loss of a namespace, if it had one.
fn remove_table(namespace: &str) {
    let table = namespace.replace('-', "_");
    let _ =
        Command::new(programs::find(&["nft"], "nftables")).args(["delete", "table", "inet", &table]).output();
}

fn ip(arguments: &str) {
    run(&programs::find(&["ip"], "iproute2"), arguments);
}

fn run(program: &Path, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output().expect("it was found");
    assert!(
        output.status.success(),
        "{} {arguments}: {}(tests of bad networks need root and a kernel with namespaces, veth, tbf and nftables)",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}
