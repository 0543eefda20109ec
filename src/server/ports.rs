//! Ports of media: bound, and the addresses under which clients are told of them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpListener;

use super::StartError;
use crate::config::MediaSettings;
use crate::listen::listen;
use crate::media::kernel::{UdpSocket, interface_addresses};

/// Sockets of both families need one port number; with port 0 the system chooses for the first of them only.
const BIND_ATTEMPTS: usize = 16;

/// The sockets of a worker, one of each family that is configured and there.
///
/// # Errors
/// [`StartError::Bind`]
pub(super) fn bind_worker(media: &MediaSettings, index: usize) -> Result<Vec<UdpSocket>, StartError> {
    let port = if media.first_port == 0 { 0 } else { media.first_port + index as u16 };
    let bound = bind(media, port, |address| {
        let socket = UdpSocket::bind(address, media.buffers)?;
        Ok((socket.local_addr(), socket))
    });
    bound.map_err(|(address, source)| StartError::Bind { address, source })
}

/// The same for the TCP port that all workers share; none if there is to be none.
///
/// # Errors
/// [`StartError::BindTcp`]
pub(super) fn bind_tcp(media: &MediaSettings) -> Result<Vec<TcpListener>, StartError> {
    let Some(port) = media.tcp_port else { return Ok(Vec::new()) };
    let bound = bind(media, port, |address| {
        let listener = TcpListener::from_std(listen(address)?)?;
        Ok((listener.local_addr()?, listener))
    });
    bound.map_err(|(address, source)| StartError::BindTcp { address, source })
}

/// One of each family, all on one port.
fn bind<T>(
    media: &MediaSettings,
    port: u16,
    one: impl Fn(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> Result<Vec<T>, (SocketAddr, io::Error)> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match bind_all(media, port, &one) {
            // The port that the system chose for one family is taken in the other: let it choose anew.
            Err((_, source))
                if port == 0 && attempts < BIND_ATTEMPTS && source.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

fn bind_all<T>(
    media: &MediaSettings,
    mut port: u16,
    one: impl Fn(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> Result<Vec<T>, (SocketAddr, io::Error)> {
    let mut sockets = Vec::new();
    for ip in media.bound_ips() {
        let address = SocketAddr::new(ip, port);
        match one(address) {
            Ok((local, socket)) => {
                port = local.port();
                sockets.push(socket);
            }
            // A machine without IPv6, which is common in containers.
            Err(error) if ip.is_ipv6() && !sockets.is_empty() && lacks_family(&error) => {
                tracing::info!(%ip, %error, "no IPv6 here");
            }
            Err(source) => return Err((address, source)),
        }
    }
    Ok(sockets)
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The addresses told to clients: those configured, or those that the sockets are bound to.
///
/// # Errors
/// [`StartError::Interfaces`], [`StartError::NoAddress`]
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
