//! The embedded TURN server: sockets and timers around `turn::Server`, on one thread of its own.
//!
//! Clients come over UDP, TCP or TLS. Each allocation has a UDP socket on an address of this machine, with a port that the system
//! chose, from which packets go to the media sockets as if the client sat there: an address pair for each allocation, and
//! nothing new for the media workers. Whatever else comes to that socket is dropped, so no port has to be opened for it.
//!
//! Always: nothing here waits for a client. A datagram that its socket does not take is dropped and counted, and so is
//! a packet for a TCP client whose queue is full. Connections, handshakes and allocations have caps.
//! Not here: what messages mean (`turn`), and what is relayed (`media`).

mod media_map;
mod outbox;
mod relay;
mod service;
mod stats;
mod stream;

pub use media_map::MediaMap;
pub use stats::{Refused, SharedStats, TurnStats};

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio_rustls::rustls::ServerConfig;
use turn::Transport;

use self::service::Service;
use crate::config::TurnLimits;
use crate::listen::listen;
use crate::media::kernel::{BufferSizes, UdpSocket};

/// What a client sends in the time that other work takes; keyframes to all of them come from media.
const BUFFERS: BufferSizes = BufferSizes { receive: 1 << 22, send: 1 << 22 };

/// What the server is started with.
pub struct Start {
    /// Addresses to listen on, at most one of each family.
    pub bind: Vec<IpAddr>,
    /// Of `turn:` over UDP; 0 lets the system choose.
    pub udp_port: Option<u16>,
    /// Of `turn:` over TCP.
    pub tcp_port: Option<u16>,
    /// Of `turns:`, with its certificate.
    pub tls: Option<(u16, Arc<ServerConfig>)>,
    /// The peers.
    pub media: MediaMap,
    /// With which clients' credentials are made.
    pub secret: turn_config::Secret,
    /// Caps.
    pub limits: TurnLimits,
}

/// A port that cannot be had, or a thread.
#[derive(Debug, thiserror::Error)]
#[error("{transport:?} {address}: {source}")]
pub struct BindError {
    /// Of what.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// A TURN server at work.
#[derive(Debug)]
pub struct TurnServer {
    /// The ports that it listens on, by transport.
    pub ports: Vec<(Transport, u16)>,
    stats: SharedStats,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl TurnServer {
    /// Binds, and starts the thread.
    ///
    /// # Errors
    /// [`BindError`]; then nothing is left running.
    pub fn start(start: Start) -> Result<TurnServer, BindError> {
        let mut ports = Vec::new();
        let mut udp = Vec::new();
        if let Some(port) = start.udp_port {
            udp = bind_all(Transport::Udp, &start.bind, port, |address| {
                let socket = UdpSocket::bind(address, BUFFERS)?;
                let local = socket.local_addr();
                Ok((socket, local))
            })?;
            ports.push((Transport::Udp, udp[0].local_addr().port()));
        }
        let mut streams = Vec::new();
        let stream_ports = [
            (Transport::Tcp, start.tcp_port, None),
            (Transport::Tls, start.tls.as_ref().map(|(port, _)| *port), start.tls.map(|(_, config)| config)),
        ];
        for (transport, port, tls) in stream_ports {
            let Some(port) = port else { continue };
            let listeners = bind_all(transport, &start.bind, port, |address| {
                let listener = listen(address)?;
                let local = listener.local_addr()?;
                Ok((listener, local))
            })?;
            let local = listeners[0].local_addr().map_or(port, |local| local.port());
            ports.push((transport, local));
            streams.extend(listeners.into_iter().map(|listener| (listener, tls.clone())));
        }

        let stats = SharedStats::default();
        let shared = Arc::clone(&stats);
        let (stop, stopped) = oneshot::channel();
        let failed = |source| BindError {
            transport: Transport::Udp,
            address: SocketAddr::new(start.bind[0], 0),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (media, secret, limits) = (start.media, start.secret, start.limits);
        let thread = std::thread::Builder::new().name("turn".to_owned()).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let service = match Service::new(udp, media, secret, limits, shared) {
                    Ok(service) => Rc::new(service),
                    Err(error) => return tracing::error!(%error, "TURN server failed"),
                };
                service.spawn_listeners();
                for (listener, tls) in streams {
                    if let Err(error) = stream::spawn_listener(&service, listener, tls) {
                        return tracing::error!(%error, "TURN server failed");
                    }
                }
                // Whoever held the other end is gone: that is a wish to stop, too.
                let _ = stopped.await;
            });
        });
        Ok(TurnServer { ports, stats, stop, thread: thread.map_err(failed)? })
    }

    /// Its counts, at most a second old.
    pub fn stats(&self) -> SharedStats {
        Arc::clone(&self.stats)
    }

    /// Ends it, and with it all allocations.
    pub async fn stop(self) {
        // Gone already is as good.
        let _ = self.stop.send(());
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

/// One socket for each address, all on one port. A family that the machine lacks is passed over.
fn bind_all<T>(
    transport: Transport,
    ips: &[IpAddr],
    mut port: u16,
    bind: impl Fn(SocketAddr) -> io::Result<(T, SocketAddr)>,
) -> Result<Vec<T>, BindError> {
    let mut bound = Vec::new();
    for &ip in ips {
        let address = SocketAddr::new(ip, port);
        match bind(address) {
            Ok((socket, local)) => {
                port = local.port();
                bound.push(socket);
            }
            Err(error) if ip.is_ipv6() && !bound.is_empty() => {
                tracing::info!(%address, %error, ?transport, "TURN server without IPv6");
            }
            Err(source) => return Err(BindError { transport, address, source }),
        }
    }
    Ok(bound)
}

#[cfg(test)]
mod tests;
