//! The port that all workers share: accepts, and brings each connection to the worker that it is for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sfu::transport::framing::{self, HEADER};
use sfu::transport::{ice, stun};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Arrival, Place, Places, Refused, UNKNOWN_TIMEOUT, UNSENT_LIMIT};
use crate::listen::pause_after;
use crate::media::worker::{ToWorker, WorkerClient};

/// What is read before it is known whose it is: a binding request has some 100 bytes, with names as long as they may be 700.
const FIRST_READ: usize = 1024;

/// An open port; closed when dropped. Connections that went through live on with their workers.
#[derive(Debug)]
pub struct Door(Vec<JoinHandle<()>>);

impl Door {
    /// Accepts on `listeners` inside the current tokio runtime. `workers` are in the order of their cores' numbers.
    pub fn open(
        listeners: impl IntoIterator<Item = TcpListener>,
        places: &Arc<Places>,
        workers: &Arc<[WorkerClient]>,
    ) -> Door {
        let accepting = |listener| tokio::spawn(accept(listener, Arc::clone(places), Arc::clone(workers)));
        Door(listeners.into_iter().map(accepting).collect())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, places: Arc<Places>, workers: Arc<[WorkerClient]>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Ok(place) = places.take(remote.ip()) else { continue };
                tokio::spawn(bring(stream, remote, place, Arc::clone(&workers)));
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn bring(mut stream: TcpStream, remote: SocketAddr, place: Place, workers: Arc<[WorkerClient]>) {
    let since = Instant::now();
    let (first, core) = match tokio::time::timeout(UNKNOWN_TIMEOUT, first_frame(&mut stream)).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None)) => return place.refused(Refused::Garbage),
        // The client went away.
        Ok(Err(_)) => return,
        Err(_) => return place.refused(Refused::Unknown),
    };
    let Some(worker) = workers.get(usize::from(core)) else { return place.refused(Refused::Garbage) };
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    if let Err(error) = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_LIMIT) {
        tracing::debug!(%error, "kernel without a bound for unsent bytes");
    }
    let Ok(stream) = stream.into_std() else { return };
    // A worker that is gone takes the server along.
    let _ = worker
        .send(ToWorker::Connection(Box::new(Arrival { stream, local, remote, first, since, place })))
        .await;
}

/// All that was read up to the end of the first frame or behind it, and the number of the core that the frame is for. `None`: it
/// is no binding request that names one.
///
/// # Errors
/// The connection is gone.
async fn first_frame(stream: &mut TcpStream) -> io::Result<Option<(Vec<u8>, u16)>> {
    let mut bytes = vec![0; FIRST_READ];
    let mut filled = 0;
    loop {
        let got = stream.read(&mut bytes[filled..]).await?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += got;
        let length = match framing::announced(&bytes[..filled]) {
            Ok(None) => continue,
            Ok(Some(length)) if HEADER + length <= FIRST_READ => length,
            Ok(Some(_)) | Err(_) => return Ok(None),
        };
        let Some(frame) = bytes[..filled].get(HEADER..HEADER + length) else { continue };
        let core = stun::peek_local_ufrag(frame).and_then(ice::core_of);
        bytes.truncate(filled);
        return Ok(core.map(|core| (bytes, core)));
    }
}
