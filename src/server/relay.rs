//! The TURN server among the rest: started beside the media sockets that it relays to, told to clients, and measured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio_rustls::rustls::ServerConfig;
use turn::Transport;
use turn_config::{IceServer, Secret, UriError};

use super::StartError;
use crate::bridge;
use crate::config::{MediaSettings, Settings, TurnSettings};
use crate::media::kernel::interface_addresses;
use crate::metrics::Metrics;
use crate::turn::{MediaMap, TurnServer};

/// Starts the TURN server, if there is to be one, and puts it among the ICE servers and the metrics.
pub(super) async fn add(
    settings: &mut Settings,
    tls: Option<(u16, Arc<ServerConfig>)>,
    announced: &[IpAddr],
    udp_ports: &[u16],
    metrics: &Metrics,
) -> Result<Option<TurnServer>, StartError> {
    let Some(turn) = settings.turn.clone() else { return Ok(None) };
    let media = media_map(&settings.media, announced, udp_ports)?;
    let secret = turn.secret.clone().unwrap_or_else(|| Secret::new(BASE64.encode(bridge::secret())));
    let running = TurnServer::start(crate::turn::Start {
        bind: settings.media.bound_ips(),
        udp_port: turn.udp_port,
        tcp_port: turn.tcp_port,
        tls,
        media,
        secret: secret.clone(),
        limits: turn.limits,
    })?;
    let told = entry(&running, turn, secret, announced).and_then(|entry| {
        let list = settings.ice_servers.clone().with(entry);
        settings.ice_servers = list.map_err(|error| StartError::TurnEntry(error.to_string()))?;
        Ok(metrics.add_turn(running.stats())?)
    });
    if let Err(error) = told {
        running.stop().await;
        return Err(error);
    }
    tracing::info!(ports = ?running.ports, "TURN server started");
    Ok(Some(running))
}

/// What clients are told of it.
fn entry(
    running: &TurnServer,
    turn: TurnSettings,
    secret: Secret,
    announced: &[IpAddr],
) -> Result<IceServer, StartError> {
    let hosts: Vec<String> = match turn.domain {
        Some(domain) => vec![domain],
        None => announced.iter().map(|ip| SocketAddr::new(*ip, 0).to_string()).collect(),
    };
    let hosts = hosts.iter().map(|host| host.strip_suffix(":0").unwrap_or(host));
    let urls = hosts.flat_map(|host| {
        running.ports.iter().map(move |(transport, port)| match transport {
            Transport::Udp => format!("turn:{host}:{port}?transport=udp"),
            Transport::Tcp => format!("turn:{host}:{port}?transport=tcp"),
            Transport::Tls => format!("turns:{host}:{port}?transport=tcp"),
        })
    });
    let urls: Result<_, _> = urls.map(|url| url.parse()).collect();
    let urls = urls.map_err(|error: UriError| StartError::TurnEntry(error.to_string()))?;
    Ok(IceServer { urls, secret: Some(secret), ttl: Some(turn.credential_ttl), ..IceServer::default() })
}

/// How the addresses told to clients are reached from within this machine: they themselves where they are of this machine, else the one
/// that the media sockets are bound to, or one that they hear.
fn media_map(media: &MediaSettings, announced: &[IpAddr], ports: &[u16]) -> Result<MediaMap, StartError> {
    let own = interface_addresses().map_err(StartError::Interfaces)?;
    let inside = |told: IpAddr| -> Option<IpAddr> {
        let (bound, loopback) = match told {
            IpAddr::V4(_) => (media.bind_v4.map(IpAddr::V4), IpAddr::V4(Ipv4Addr::LOCALHOST)),
            IpAddr::V6(_) => (media.bind_v6.map(IpAddr::V6), IpAddr::V6(Ipv6Addr::LOCALHOST)),
        };
        let bound = bound?;
        if !bound.is_unspecified() {
            return Some(bound);
        }
        let of_family = own.iter().copied().find(|ip| ip.is_ipv4() == told.is_ipv4());
        let here = own.contains(&told) || told.is_loopback();
        Some(if here { told } else { of_family.unwrap_or(loopback) })
    };
    let ips = announced.iter().filter_map(|&told| Some((told, inside(told)?)));
    let pairs = ips.flat_map(|(told, inside)| {
        ports.iter().map(move |&port| (SocketAddr::new(told, port), SocketAddr::new(inside, port)))
    });
    Ok(MediaMap::new(pairs))
}
