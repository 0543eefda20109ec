//! The server's binary, for development, with webhooks.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take.
const START: Duration = Duration::from_mins(1);

pub(crate) struct Server {
    child: Child,
    port: u16,
    url: String,
    queue: PathBuf,
}

impl Server {
    /// Posts to `url` and keeps its queue in `queue`.
    pub(crate) fn start(url: &str, queue: &Path) -> Server {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("bound").port();
        let (url, queue) = (url.to_owned(), queue.to_owned());
        let child = launch(port, &url, &queue);
        Server { child, port, url, queue }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// SIGKILL: it has no chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again, on the same port with the same queue.
    pub(crate) fn revive(&mut self) {
        self.child = launch(self.port, &self.url, &self.queue);
    }

    /// A metric, the sum over its labels.
    pub(crate) fn metric(&self, family: &str) -> u64 {
        let text = get(self.address(), "/metrics").unwrap_or_default();
        let series = text.lines().filter_map(|line| line.rsplit_once(' '));
        let of_family = series.filter(|(series, _)| series.split('{').next() == Some(family));
        let values: Vec<u64> = of_family.filter_map(|(_, value)| value.trim().parse().ok()).collect();
        assert!(!values.is_empty(), "no metric {family}");
        values.iter().sum()
    }

    pub(crate) fn resident_mb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) >> 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, url: &str, queue: &Path) -> Child {
    // Another build can be put to the same test, as with the client tests.
    let binary = std::env::var_os("SLUICE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluice").into());
    let mut child = Command::new(binary)
        .args(["serve", "--dev", "--port", &port.to_string()])
        .env("SLUICE_MEDIA__UDP_PORT_START", "0")
        .env("SLUICE_MEDIA__TCP_PORT", "0")
        .env("SLUICE_MEDIA__WORKERS", "1")
        .env("SLUICE_LOG__LEVEL", "warn")
        .env("SLUICE_WEBHOOKS__URLS", url)
        .env("SLUICE_WEBHOOKS__PATH", queue)
        // Half of all attempts fail, so that the usual half second would make the test long.
        .env("SLUICE_WEBHOOKS__FIRST_RETRY", "10ms")
        .env("SLUICE_WEBHOOKS__LONGEST_RETRY", "200ms")
        .stdout(Stdio::null())
        .spawn()
        .expect("the server can be started");
    let deadline = Instant::now() + START;
    while get((Ipv4Addr::LOCALHOST, port).into(), "/readyz").is_none() {
        if let Ok(Some(status)) = child.try_wait() {
            panic!("the server ended at once: {status}");
        }
        assert!(Instant::now() < deadline, "the server does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// The body of a 200.
fn get(server: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .starts_with("HTTP/1.1 200")
        .then(|| answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}
