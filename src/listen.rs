//! Listening on TCP: a port of each family, and what to do when nothing can be accepted.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// A listener of one family, so that the other can have the same port.
///
/// # Errors
/// The port is taken, or the address is not ours.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Out of file descriptors or memory: accepting again at once would spin.
pub(crate) async fn pause_after(error: &io::Error) {
    match error.kind() {
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted => {}
        _ => {
            tracing::warn!(%error, "cannot accept connections");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
