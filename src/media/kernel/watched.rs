//! A UDP socket that a task of tokio waits for and others on its thread send from.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use tokio::io::unix::AsyncFd;

use super::{Outgoing, ReceiveBatch, SendBatch, SendReport, UdpSocket};

/// The socket; nobody can take it out, so that its descriptor stays open for as long as it is watched.
#[derive(Debug)]
pub struct WatchedSocket {
    socket: RefCell<UdpSocket>,
    local: SocketAddr,
}

impl WatchedSocket {
    /// Has the current runtime watch it.
    ///
    /// # Errors
    /// The runtime is out of descriptors or memory.
    pub fn watch(socket: UdpSocket) -> io::Result<AsyncFd<WatchedSocket>> {
        let local = socket.local_addr();
        let watched = WatchedSocket { socket: RefCell::new(socket), local };
        // SAFETY: the descriptor is owned by the socket, which nothing takes out of `watched` or replaces in it.
        Ok(unsafe { AsyncFd::register(watched)? })
    }

    /// Where it is bound.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// As [`ReceiveBatch::receive`].
    ///
    /// # Errors
    /// The same.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.receive(&self.socket.borrow())
    }

    /// As [`SendBatch::send`].
    pub fn send<'a>(
        &self,
        batch: &mut SendBatch,
        outgoing: impl IntoIterator<Item = Outgoing<'a>>,
    ) -> SendReport {
        batch.send(&mut self.socket.borrow_mut(), outgoing)
    }
}

impl AsRawFd for WatchedSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.borrow().as_raw_fd()
    }
}
