//! The whole server: workers, rooms, HTTP; started and stopped as one.

mod relay;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sfu::units::WallClock;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::bridge::{self, CoreSeed};
use crate::config::{DEV_KEY, MediaSettings, Settings};
use crate::http::router::{App, router};
use crate::http::serve::{self, TlsError};
use crate::media::kernel::{UdpSocket, interface_addresses};
use crate::media::worker::{MediaCore, Worker};
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::turn::{BindError, TurnServer};
use crate::webhooks::{RunningWebhooks, WebhookStartError, Webhooks};
use crate::whip::WhipSessions;

/// Sockets of both families need one port number; with port 0 the system chooses for the first of them only.
const BIND_ATTEMPTS: usize = 16;

/// Why the server did not start. Each names the key of the configuration to look at.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP port cannot be had.
    #[error("cannot listen on {address} for HTTP: {source}; see http.listen (with --dev: --port)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A UDP port cannot be had.
    #[error("cannot bind UDP {address} for media: {source}; see media.udp-port-start and media.bind")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The interfaces cannot be listed.
    #[error("cannot list network interfaces: {0}; name the addresses in media.node-ips")]
    Interfaces(io::Error),
    /// No address to tell to clients.
    #[error("this machine has no address but loopback; name one in media.node-ips (or --node-ip)")]
    NoAddress,
    /// TLS of clients.
    #[error("http.{0}")]
    Tls(TlsError),
    /// TLS of the TURN server.
    #[error("turn.{0}")]
    TurnTls(TlsError),
    /// A port of the TURN server cannot be had.
    #[error("cannot start the TURN server on {0}; see turn.udp-port, turn.tcp-port and turn.tls-port")]
    Turn(#[from] BindError),
    /// The list of ICE servers has no room for our own.
    #[error("the TURN server cannot be told to clients: {0}; see ice-servers and turn.domain")]
    TurnEntry(String),
    /// A thread cannot be started.
    #[error("cannot start a media worker: {0}")]
    Worker(io::Error),
    /// Webhooks.
    #[error(transparent)]
    Webhooks(#[from] WebhookStartError),
    /// Two metrics collide.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Starts servers.
pub struct Server;

/// A server at work. Dropping it does not stop it: call [`RunningServer::stop`].
pub struct RunningServer {
    /// Where HTTP listens, with the port that the system chose.
    pub http_addr: SocketAddr,
    /// The workers' UDP ports, in order.
    pub udp_ports: Vec<u16>,
    /// Its rooms.
    pub rooms: Rooms,
    /// Its metrics.
    pub metrics: Metrics,
    workers: Vec<Worker>,
    turn: Option<TurnServer>,
    webhooks: Option<RunningWebhooks>,
    closing: watch::Sender<bool>,
    http: JoinHandle<()>,
    open_sockets: mpsc::Sender<()>,
    sockets_gone: mpsc::Receiver<()>,
    shutdown_timeout: Duration,
}

impl Server {
    /// Starts a server inside the current tokio runtime. Ports that are 0 are chosen by the system.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(settings: Settings) -> Result<RunningServer, StartError> {
        Server::start_with(settings, bridge::media_core).await
    }

    /// As [`Server::start`], with media cores made by `make_core`, on each worker's thread.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with<C, F>(mut settings: Settings, make_core: F) -> Result<RunningServer, StartError>
    where
        C: MediaCore,
        F: Fn(CoreSeed, Instant) -> C + Clone + Send + 'static,
    {
        let tls = settings.http.tls.as_ref().map(serve::load_tls).transpose();
        let tls = tls.map_err(StartError::Tls)?;
        let turn_tls = settings.turn.as_ref().and_then(|turn| turn.tls.as_ref());
        let turn_tls = turn_tls.map(|(port, files)| serve::load_turn_tls(files).map(|tls| (*port, tls)));
        let turn_tls = turn_tls.transpose().map_err(StartError::TurnTls)?;
        let address = settings.http.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| StartError::Listen { address, source })?;
        let http_addr = listener.local_addr().map_err(|source| StartError::Listen { address, source })?;

        let mut all_sockets = Vec::new();
        for index in 0..settings.media.workers.get() {
            all_sockets.push(bind_worker(&settings.media, index)?);
        }
        let announced = announced_ips(&settings.media)?;
        let udp_ports: Vec<u16> = all_sockets.iter().map(|sockets| sockets[0].local_addr().port()).collect();
        let wall = wall_clock();
        let mut workers = Vec::new();
        for (index, sockets) in all_sockets.into_iter().enumerate() {
            let seed = CoreSeed {
                announced: announced.iter().map(|&ip| SocketAddr::new(ip, udp_ports[index])).collect(),
                wall,
                seed: bridge::random(),
            };
            let make_core = make_core.clone();
            let worker = Worker::start(index, sockets, move |now| make_core(seed, now));
            workers.push(worker.map_err(StartError::Worker)?);
        }
        tracing::info!(%http_addr, ?udp_ports, ?announced, "server started");

        let metrics = Metrics::new(workers.iter().map(Worker::stats).collect())?;
        let turn = match relay::add(&mut settings, turn_tls, &announced, &udp_ports, &metrics).await {
            Ok(turn) => turn,
            Err(error) => {
                stop_all(workers).await;
                return Err(error);
            }
        };
        let clients: Vec<_> = workers.iter().map(|worker| worker.client().clone()).collect();
        let webhooks = settings.webhooks.as_ref();
        let webhooks = webhooks.map(|settings| Webhooks::start(settings, &metrics.webhooks)).transpose();
        let (webhooks, running_webhooks) = match webhooks {
            Ok(webhooks) => webhooks.unzip(),
            Err(error) => {
                if let Some(turn) = turn {
                    turn.stop().await;
                }
                stop_all(workers).await;
                return Err(error.into());
            }
        };
        let rooms = Rooms::new(&settings, clients.clone(), metrics.clone(), webhooks.clone());
        let (closing, closed) = watch::channel(false);
        let (open_sockets, sockets_gone) = mpsc::channel(1);
        let app = App {
            rooms: rooms.clone(),
            whip: WhipSessions::new(settings.whip, metrics.clone()),
            metrics: metrics.clone(),
            webhooks,
            workers: clients.into(),
            closing: closed.clone(),
            open_sockets: open_sockets.downgrade(),
            idle_timeout: settings.limits.idle_timeout,
            dev_secret: settings.dev.then_some(DEV_KEY.1),
        };
        let http = tokio::spawn(serve::serve(listener, tls, router(app), closed));
        Ok(RunningServer {
            http_addr,
            udp_ports,
            rooms,
            metrics,
            workers,
            turn,
            webhooks: running_webhooks,
            closing,
            http,
            open_sockets,
            sockets_gone,
            shutdown_timeout: settings.limits.shutdown_timeout,
        })
    }
}

impl RunningServer {
    /// Refuses joins, tells every client, and ends when all are gone or the time for that is over
    /// (`limits.shutdown-timeout`).
    pub async fn stop(self) {
        let RunningServer {
            rooms,
            workers,
            turn,
            webhooks,
            closing,
            http,
            open_sockets,
            mut sockets_gone,
            ..
        } = self;
        let orderly = async {
            // Readiness first, so that a balancer sends nobody more; then the rooms.
            closing.send_replace(true);
            rooms.shut_down().await;
            if let Some(webhooks) = webhooks {
                webhooks.stop().await;
            }
            drop(open_sockets);
            while sockets_gone.recv().await.is_some() {}
            if let Some(turn) = turn {
                turn.stop().await;
            }
            stop_all(workers).await;
        };
        if tokio::time::timeout(self.shutdown_timeout, orderly).await.is_err() {
            tracing::warn!("some clients had not left when the time to stop was over");
        }
        http.abort();
        tracing::info!("server stopped");
    }
}

/// The sockets of a worker, one of each family that is configured and there.
fn bind_worker(media: &MediaSettings, index: usize) -> Result<Vec<UdpSocket>, StartError> {
    let chosen = media.first_port == 0;
    let port = if chosen { 0 } else { media.first_port + index as u16 };
    let ips = media.bound_ips();
    let mut attempts = 0;
    loop {
        attempts += 1;
        match bind_all(media, &ips, port) {
            // The port that the system chose for one family is taken in the other: let it choose anew.
            Err(StartError::Bind { source, .. })
                if chosen && attempts < BIND_ATTEMPTS && source.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

fn bind_all(media: &MediaSettings, ips: &[IpAddr], mut port: u16) -> Result<Vec<UdpSocket>, StartError> {
    let mut sockets: Vec<UdpSocket> = Vec::new();
    for &ip in ips {
        let address = SocketAddr::new(ip, port);
        match UdpSocket::bind(address, media.buffers) {
            Ok(socket) => {
                port = socket.local_addr().port();
                sockets.push(socket);
            }
            // A machine without IPv6, which is common in containers.
            Err(error) if ip.is_ipv6() && !sockets.is_empty() && lacks_family(&error) => {
                tracing::info!(%ip, %error, "no IPv6 here");
            }
            Err(source) => return Err(StartError::Bind { address, source }),
        }
    }
    Ok(sockets)
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The addresses told to clients: those configured, or those that the sockets are bound to.
pub(crate) fn announced_ips(media: &MediaSettings) -> Result<Vec<IpAddr>, StartError> {
    if !media.node_ips.is_empty() {
        return Ok(media.node_ips.clone());
    }
    let bound = media.bound_ips();
    let mut announced: Vec<IpAddr> = bound.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
    if announced.len() < bound.len() {
        let of_family =
            |ip: &IpAddr| bound.iter().any(|at| at.is_unspecified() && at.is_ipv4() == ip.is_ipv4());
        announced
            .extend(interface_addresses().map_err(StartError::Interfaces)?.into_iter().filter(of_family));
    }
    if announced.is_empty() { Err(StartError::NoAddress) } else { Ok(announced) }
}

async fn stop_all(workers: Vec<Worker>) {
    for worker in workers {
        worker.stop().await;
    }
}

fn wall_clock() -> WallClock {
    let clock = bridge::clock();
    WallClock { instant: clock.now, unix: Duration::from_millis(clock.unix_ms.unsigned_abs()) }
}

#[cfg(test)]
mod tests;
