//! The whole server: workers, rooms, HTTP; started and stopped as one.

mod ports;
mod relay;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::units::WallClock;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::bridge::{self, CoreSeed};
use crate::config::{DEV_KEY, Settings};
use crate::http::places::HttpPlaces;
use crate::http::router::{App, router};
use crate::http::serve::{self, TlsError};
use crate::media::pressure::Limits;
use crate::media::tcp::{Door, Places};
use crate::media::worker::{MediaCore, Worker, WorkerClient};
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::turn::{BindError, TurnServer};
use crate::webhooks::{RunningWebhooks, WebhookStartError, Webhooks};
use crate::whip::WhipSessions;

pub(crate) use ports::announced_ips;
use ports::{bind_tcp, bind_worker};

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
    /// The TCP port for media cannot be had.
    #[error(
        "cannot listen on TCP {address} for media: {source}; see media.tcp-port (0 for none) and media.bind"
    )]
    BindTcp {
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
    /// The TCP port for media, if there is one.
    pub tcp_port: Option<u16>,
    /// Its rooms.
    pub rooms: Rooms,
    /// Its metrics.
    pub metrics: Metrics,
    workers: Vec<Worker>,
    door: Door,
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
        let tcp_listeners = bind_tcp(&settings.media)?;
        let tcp_port =
            tcp_listeners.first().and_then(|listener| listener.local_addr().ok()).map(|at| at.port());
        let announced = announced_ips(&settings.media)?;
        let udp_ports: Vec<u16> = all_sockets.iter().map(|sockets| sockets[0].local_addr().port()).collect();
        let wall = wall_clock();
        let mut workers = Vec::new();
        for (index, sockets) in all_sockets.into_iter().enumerate() {
            let seed = CoreSeed {
                announced: at_port(&announced, Some(udp_ports[index])),
                announced_tcp: at_port(&announced, tcp_port),
                number: index as u16,
                wall,
                seed: bridge::random(),
            };
            let make_core = make_core.clone();
            let limits = settings.media.max_load.map(Limits::of);
            let worker = Worker::start(index, sockets, limits, move |now| make_core(seed, now));
            workers.push(worker.map_err(StartError::Worker)?);
        }
        tracing::info!(%http_addr, ?udp_ports, tcp_port, ?announced, "server started");

        let metrics = Metrics::new(workers.iter().map(Worker::stats).collect())?;
        let turn = match relay::add(&mut settings, turn_tls, &announced, &udp_ports, &metrics).await {
            Ok(turn) => turn,
            Err(error) => {
                stop_all(workers).await;
                return Err(error);
            }
        };
        let clients: Arc<[WorkerClient]> = workers.iter().map(|worker| worker.client().clone()).collect();
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
        let places = Places::new(settings.media.tcp);
        metrics.add_tcp(Arc::clone(&places))?;
        let door = Door::open(tcp_listeners, &places, &clients);
        let rooms = Rooms::new(&settings, clients.to_vec(), metrics.clone(), webhooks.clone());
        let (closing, closed) = watch::channel(false);
        let (open_sockets, sockets_gone) = mpsc::channel(1);
        let app = App {
            rooms: rooms.clone(),
            whip: WhipSessions::new(settings.whip, metrics.clone()),
            metrics: metrics.clone(),
            webhooks,
            workers: clients,
            closing: closed.clone(),
            open_sockets: open_sockets.downgrade(),
            idle_timeout: settings.limits.idle_timeout,
            dev_secret: settings.dev.then_some(DEV_KEY.1),
        };
        let http = tokio::spawn(serve::serve(
            listener,
            tls,
            router(app),
            HttpPlaces::new(settings.http.limits),
            metrics.clone(),
            closed,
        ));
        Ok(RunningServer {
            http_addr,
            udp_ports,
            tcp_port,
            rooms,
            metrics,
            workers,
            door,
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
            door,
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
            drop(door);
            stop_all(workers).await;
        };
        if tokio::time::timeout(self.shutdown_timeout, orderly).await.is_err() {
            tracing::warn!("some clients had not left when the time to stop was over");
        }
        http.abort();
        tracing::info!("server stopped");
    }
}

/// All of them at this port; none without one.
fn at_port(ips: &[IpAddr], port: Option<u16>) -> Vec<SocketAddr> {
    port.iter().flat_map(|&port| ips.iter().map(move |&ip| SocketAddr::new(ip, port))).collect()
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
