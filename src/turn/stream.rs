//! Clients over TCP and TLS.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use turn::{Client, Transport, first_packet};

use super::service::Service;
use super::stats::Refused;
use crate::listen::pause_after;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read at once.
const READ: usize = 16 << 10;

/// What waits for one connection. The bytes in it and as many again, which are being written, are all that it takes.
pub(super) struct Queue {
    bytes: RefCell<Vec<u8>>,
    limit: usize,
    news: Notify,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Queue {
        Queue { bytes: RefCell::default(), limit, news: Notify::new() }
    }

    /// Puts one packet in; `false`: there is no room, and it is dropped, as a full router would.
    pub(super) fn push(&self, packet: &[u8]) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.len() + packet.len() > self.limit {
            return false;
        }
        bytes.extend_from_slice(packet);
        self.news.notify_one();
        true
    }
}

/// Accepts connections until the thread ends.
///
/// # Errors
/// The runtime does not take the listener.
pub(super) fn spawn_listener(
    service: &Rc<Service>,
    listener: std::net::TcpListener,
    tls: Option<Arc<ServerConfig>>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let service = Rc::clone(service);
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::task::spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, remote)) => accepted(&service, stream, remote, acceptor.clone()),
                Err(error) => pause_after(&error).await,
            }
        }
    });
    Ok(())
}

fn accepted(service: &Rc<Service>, stream: TcpStream, remote: SocketAddr, acceptor: Option<TlsAcceptor>) {
    let place = match service.admit(remote.ip(), acceptor.is_some()) {
        Ok(place) => place,
        Err(why) => return service.refused(why),
    };
    let Ok(local) = stream.local_addr() else { return };
    let service = Rc::clone(service);
    tokio::task::spawn_local(async move {
        let _place = place;
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else {
            return serve(&service, Client { transport: Transport::Tcp, local, remote }, stream).await;
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                serve(&service, Client { transport: Transport::Tls, local, remote }, stream).await;
            }
            Ok(Err(_)) | Err(_) => service.refused(Refused::Handshake),
        }
    });
}

async fn serve(service: &Rc<Service>, client: Client, stream: impl AsyncRead + AsyncWrite) {
    let queue = Rc::new(Queue::new(service.limits.send_queue));
    service.connected(client, Rc::clone(&queue));
    let (reader, writer) = tokio::io::split(stream);
    let (reader, writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    let why = tokio::select! {
        why = read(service, client, reader) => why,
        why = write(&queue, writer, service.limits.idle_timeout) => why,
    };
    service.disconnected(&client);
    if let Some(why) = why {
        service.refused(why);
    }
}

/// Until the client goes, or is no client.
async fn read(
    service: &Rc<Service>,
    client: Client,
    mut reader: std::pin::Pin<&mut impl AsyncRead>,
) -> Option<Refused> {
    let idle = service.limits.idle_timeout;
    let mut useful = Instant::now();
    let mut bytes = Vec::with_capacity(READ);
    loop {
        bytes.reserve(READ);
        if let Ok(Ok(0) | Err(_)) = tokio::time::timeout(idle, reader.read_buf(&mut bytes)).await {
            return None;
        }
        let mut at = 0;
        loop {
            match first_packet(&bytes[at..]) {
                Ok(Some(length)) => {
                    service.handle_client(client, &bytes[at..at + length]);
                    at += length;
                }
                Ok(None) => break,
                Err(_) => return Some(Refused::Garbage),
            }
        }
        bytes.drain(..at);
        service.flush();
        let now = Instant::now();
        if service.has_allocation(&client) {
            useful = now;
        } else if now.saturating_duration_since(useful) >= idle {
            return Some(Refused::Idle);
        }
    }
}

/// Until the client goes, or takes nothing for too long.
async fn write(
    queue: &Queue,
    mut writer: std::pin::Pin<&mut impl AsyncWrite>,
    patience: Duration,
) -> Option<Refused> {
    let mut bytes = Vec::new();
    loop {
        queue.news.notified().await;
        std::mem::swap(&mut bytes, &mut queue.bytes.borrow_mut());
        let mut at = 0;
        while at < bytes.len() {
            match tokio::time::timeout(patience, writer.write(&bytes[at..])).await {
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(written)) => at += written,
                Err(_) => return Some(Refused::Stalled),
            }
        }
        if writer.flush().await.is_err() {
            return None;
        }
        bytes.clear();
    }
}
