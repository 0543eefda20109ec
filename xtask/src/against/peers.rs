//! Servers that can be compared: how each is had, started, and joined.

pub(super) mod janus;
pub(super) mod livekit;
pub(super) mod sluice;

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::place::{ADDRESS, Place};
use crate::run::Result;

/// From the start until its port is open.
const START: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A connection to an address of our own is there at once or not at all.
const CONNECT: Duration = Duration::from_secs(1);

/// A server. To publish and to subscribe is `sluice-load`'s affair, which is told how by [`Peer::joining`]: a server with
/// a signalling of its own is a new `--protocol` there.
pub(crate) trait Peer {
    /// For tables and file names; one of its modes is a peer of its own.
    fn name(&self) -> &'static str;
    /// Makes it be there, or says what is missing. The machine's network can be reached.
    fn install(&self) -> Result;
    fn version(&self) -> Result<String>;
    /// Writes what configuration it needs, and gives the command that becomes it: the process that is started is the
    /// one that is measured.
    fn command(&self, place: &Place) -> Result<Command>;
    /// TCP port that is open when it can be joined.
    fn port(&self) -> u16;
    /// How participants come: flags of `sluice-load`.
    fn joining(&self) -> Vec<String>;
}

/// One that runs; it ends when this is dropped.
pub(crate) struct Server {
    process: Child,
}

impl Server {
    /// Comes back when it can be joined.
    pub(crate) fn start(peer: &dyn Peer, place: &Place, log: &Path) -> Result<Server> {
        let cannot = |error: std::io::Error| format!("cannot start it: {error}");
        let out = File::create(log).map_err(cannot)?;
        let mut command = peer.command(place)?;
        command.stdout(out.try_clone().map_err(cannot)?).stderr(out);
        let process = command.spawn().map_err(cannot)?;
        let mut server = Server { process };
        let address = SocketAddr::from((ADDRESS, peer.port()));
        let by = Instant::now() + START;
        while TcpStream::connect_timeout(&address, CONNECT).is_err() {
            if let Some(status) = server.process.try_wait().map_err(cannot)? {
                return Err(format!("it ended ({status}): see {}", log.display()));
            }
            if by <= Instant::now() {
                return Err(format!(
                    "{address} is not open after {} s: see {}",
                    START.as_secs(),
                    log.display()
                ));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to lose, and if it has ended by itself that is as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes a file of configuration below the run's folder.
fn configuration(file: &Path, text: &str) -> Result {
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    std::fs::write(file, text).map_err(cannot)
}
