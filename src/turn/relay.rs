//! An allocation's sockets.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::task::JoinHandle;
use turn::AllocationId;

use super::media_map::Lane;
use super::outbox::Socket;
use super::service::Service;
use crate::media::kernel::{BufferSizes, UdpSocket, WatchedSocket};

/// What the kernel gives everybody (net.core.rmem_max): some hundreds of packets, of one client.
const BUFFERS: BufferSizes = BufferSizes { receive: 212_992, send: 212_992 };

/// The system's ports are odd half of the time.
const EVEN_ATTEMPTS: usize = 32;

/// One socket and the task that reads it.
struct Branch {
    socket: Socket,
    task: JoinHandle<()>,
}

impl Drop for Branch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The sockets of one allocation, by lane; the first is there from the beginning.
pub(super) struct Relay {
    is_v4: bool,
    branches: Vec<Option<Branch>>,
}

impl Relay {
    /// With its first socket, whose address is the relayed one; `even`: and its port is even.
    ///
    /// # Errors
    /// Out of ports or descriptors.
    pub(super) fn open(
        service: &Rc<Service>,
        id: AllocationId,
        is_v4: bool,
        even: bool,
    ) -> io::Result<(Relay, SocketAddr)> {
        for _ in 0..EVEN_ATTEMPTS {
            let mut relay = Relay { is_v4, branches: Vec::new() };
            let address = relay.socket(service, id, 0)?.get_ref().local_addr();
            if !even || address.port().is_multiple_of(2) {
                return Ok((relay, address));
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }

    /// The socket of a lane, opened when first needed.
    ///
    /// # Errors
    /// As [`Relay::open`].
    pub(super) fn socket(
        &mut self,
        service: &Rc<Service>,
        id: AllocationId,
        lane: Lane,
    ) -> io::Result<Socket> {
        if let Some(Some(branch)) = self.branches.get(lane) {
            return Ok(Rc::clone(&branch.socket));
        }
        let home = service.media.home(self.is_v4, lane).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let socket = UdpSocket::bind(SocketAddr::new(home, 0), BUFFERS)?;
        let socket: Socket = Rc::new(WatchedSocket::watch(socket)?);
        let task = tokio::task::spawn_local(read(Rc::clone(service), Rc::clone(&socket), id, lane));
        if self.branches.len() <= lane {
            self.branches.resize_with(lane + 1, || None);
        }
        self.branches[lane] = Some(Branch { socket: Rc::clone(&socket), task });
        Ok(socket)
    }
}

async fn read(service: Rc<Service>, socket: Socket, id: AllocationId, lane: Lane) {
    while let Ok(mut ready) = socket.readable().await {
        match service.receive_from_media(&socket, id, lane) {
            Ok(true) => tokio::task::yield_now().await,
            Ok(false) => ready.clear_ready(),
            Err(error) => {
                tracing::debug!(%error, "relay's socket");
                ready.clear_ready();
            }
        }
    }
}
