//! A server of the test's own: the release binary on free ports, its log in a file.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Claims, Token, artefact, eventually, http, tail};

/// Media workers, and so UDP ports: as many as the smallest machine we test on has cores.
const WORKERS: u16 = 2;

/// A running server; ended when dropped, its log shown if the test has failed.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    host: Ipv4Addr,
    port: u16,
    first_udp_port: u16,
    tcp_port: u16,
}

impl Server {
    /// On loopback only. `test` names the log.
    pub(crate) fn start(test: &str) -> Server {
        Server::launch(test, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, &[])
    }

    /// Reachable at `address` of this machine.
    pub(crate) fn start_at(test: &str, address: Ipv4Addr) -> Server {
        Server::start_with(test, address, &[])
    }

    /// The same, with environment variables of the configuration.
    pub(crate) fn start_with(test: &str, address: Ipv4Addr, configuration: &[(&str, &str)]) -> Server {
        Server::launch(test, Ipv4Addr::UNSPECIFIED, address, configuration)
    }

    fn launch(test: &str, bind: Ipv4Addr, host: Ipv4Addr, configuration: &[(&str, &str)]) -> Server {
        let log = artefact(&format!("{test}.log"));
        let output = File::create(&log).expect("the log can be written");
        let [port, tcp_port] = free_tcp_ports();
        let first_udp_port = free_udp_ports(WORKERS);
        // Another build can be put to the same tests, such as one with a sanitizer.
        let binary = std::env::var_os("SLUICE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluice").into());
        let mut command = Command::new(binary);
        command.args(["serve", "--dev", "--port", &port.to_string(), "--bind", &bind.to_string()]);
        if !bind.is_loopback() {
            command.args(["--node-ip", &host.to_string()]);
        }
        let child = command
            .env("SLUICE_MEDIA__UDP_PORT_START", first_udp_port.to_string())
            .env("SLUICE_MEDIA__TCP_PORT", tcp_port.to_string())
            .env("SLUICE_MEDIA__WORKERS", WORKERS.to_string())
            // Rooms shall end while a test waits.
            .env("SLUICE_ROOMS__DEPARTURE_TIMEOUT", "2s")
            .env("SLUICE_ROOMS__EMPTY_TIMEOUT", "5s")
            .env("SLUICE_LOG__LEVEL", std::env::var("SLUICE_TEST_LOG").unwrap_or_else(|_| "info".to_owned()))
            .env("NO_COLOR", "1")
            .envs(configuration.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("one more file"))
            .stderr(output)
            .spawn()
            .expect("the server can be started");
        let mut server = Server { child, log, host, port, first_udp_port, tcp_port };
        eventually(Duration::from_secs(10), || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the server ended at once, {status}:\n{}", tail(&server.log));
            }
            match http::get(server.address(), "/readyz", &[])? {
                http::Answer { status: 200, .. } => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        server
    }

    /// Of HTTP and WebSocket.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.port))
    }

    /// Of media, one for each worker.
    pub(crate) fn media_addresses(&self) -> Vec<SocketAddr> {
        (0..WORKERS).map(|worker| SocketAddr::from((self.host, self.first_udp_port + worker))).collect()
    }

    /// Of media over TCP.
    pub(crate) fn tcp_address(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.tcp_port))
    }

    /// The signalling URL, as SDKs want it.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.address())
    }

    /// A token that lets `identity` do everything in `room`.
    #[expect(clippy::unused_self, reason = "the key is this server's, were it another")]
    pub(crate) fn token(&self, room: &str, identity: &str) -> String {
        Token::Hs256 { secret: "secret" }.write(&Claims::join(room, identity))
    }

    /// A metric's value: the sum over all series of the family whose text contains each of `labels`.
    /// All that are asked for here count whole things.
    pub(crate) fn metric(&self, family: &str, labels: &[&str]) -> u64 {
        let text = http::get(self.address(), "/metrics", &[]).expect("metrics").body;
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        let of_family = series.filter(|(series, _)| series.split('{').next() == Some(family));
        let wanted = of_family.filter(|(series, _)| labels.iter().all(|label| series.contains(label)));
        let values: Vec<u64> = wanted.filter_map(|(_, value)| value.parse().ok()).collect();
        assert!(!values.is_empty(), "no metric {family} {labels:?}");
        values.iter().sum()
    }

    /// Whether it still runs. It must, whatever was sent to it.
    pub(crate) fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("our own child");
        assert!(ended.is_none(), "the server ended: {ended:?}\n{}", tail(&self.log));
        let health = http::get(self.address(), "/livez", &[]).expect("health");
        assert_eq!(health.status, 200, "{health:?}");
    }

    /// What the kernel says of the process.
    pub(crate) fn footprint(&self) -> Footprint {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("proc(5) has it");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let descriptors =
            std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count();
        Footprint { resident_kib: number("VmRSS:"), threads: number("Threads:"), descriptors }
    }
}

/// What a process takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) resident_kib: u64,
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- end of the server's log, {}:\n{}\n---", self.log.display(), tail(&self.log));
        }
    }
}

fn free_tcp_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

/// The first of `count` UDP ports in a row, all free now.
fn free_udp_ports(count: u16) -> u16 {
    let bind = |port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
    for _ in 0..100 {
        let Ok(first) = bind(0) else { continue };
        let port = first.local_addr().expect("bound").port();
        let Some(last) = port.checked_add(count - 1) else { continue };
        let rest: Vec<_> = (port + 1..=last).map_while(|port| bind(port).ok()).collect();
        if rest.len() == usize::from(count - 1) {
            return port;
        }
    }
    panic!("no {count} free UDP ports in a row");
}
