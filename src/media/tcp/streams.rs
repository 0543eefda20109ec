//! A worker's TCP connections: an epoll instance of their own, and for each what it takes to read and to write it.
//!
//! Nothing is done for them while there are none. What the core wants sent goes into the connection's queue as frames, and from
//! there to the kernel in one call for each connection and flush. What the kernel does not take waits, and the core is told so.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use sfu::command::{Path, Protocol};
use sfu::transport::framing::{self, Deframer, HEADER};

use super::{Place, QUEUE_LIMIT, Refused, STALL_TIMEOUT, UNKNOWN_TIMEOUT};
use crate::media::kernel::{Outgoing, Poller, Ready};
use crate::media::worker::MediaCore;

/// Bytes read of one connection before the others have their turn.
const READ: usize = 16 << 10;

/// A connection that comes to its worker.
#[derive(Debug)]
pub struct Arrival {
    /// It does not block.
    pub stream: TcpStream,
    /// Our address.
    pub local: SocketAddr,
    /// The client's.
    pub remote: SocketAddr,
    /// What was read of it.
    pub first: Vec<u8>,
    /// When it was accepted.
    pub since: Instant,
    /// Its place among all.
    pub place: Place,
}

/// See the module's page.
pub struct Streams {
    poller: Poller,
    slots: Vec<Option<Stream>>,
    free: Vec<usize>,
    by_path: HashMap<Path, usize>,
    scratch: Box<[u8]>,
    /// Those that got something since the last call of [`Streams::send`].
    fed: Vec<usize>,
    /// Datagrams dropped since a connection's queue was full, and since there is no such connection (any more).
    dropped: [u64; 2],
}

/// What became of a connection's turn.
type Turn = Result<(), Closed>;

/// It is over.
enum Closed {
    ByClient,
    ByUs(Refused),
}

struct Stream {
    socket: TcpStream,
    path: Path,
    deframer: Deframer,
    /// Frames that the kernel has not taken, the first of which may be begun.
    queue: Vec<u8>,
    /// The core was told that something waits.
    waits: bool,
    /// Whether the kernel took something last, or nothing waited.
    moved: Instant,
    /// When the core knew somebody by it last.
    known: Option<Instant>,
    since: Instant,
    place: Place,
}

impl Streams {
    /// None yet.
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> io::Result<Streams> {
        Ok(Streams {
            poller: Poller::new()?,
            slots: Vec::new(),
            free: Vec::new(),
            by_path: HashMap::new(),
            scratch: Box::default(),
            fed: Vec::new(),
            dropped: [0; 2],
        })
    }

    /// Readable whenever one of them is ready.
    pub const fn poller(&self) -> &Poller {
        &self.poller
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    /// Whether there ever were any: only then is something to be sent to them.
    pub fn were_any(&self) -> bool {
        !self.scratch.is_empty()
    }

    /// See the field.
    pub const fn dropped(&self) -> [u64; 2] {
        self.dropped
    }

    /// Takes a connection, and what was read of it to the core.
    ///
    /// # Errors
    /// The kernel does not watch it; it is closed.
    pub fn add<C: MediaCore>(&mut self, now: Instant, arrival: Arrival, core: &mut C) -> io::Result<()> {
        let Arrival { stream: socket, local, remote, mut first, since, place } = arrival;
        let path = Path::tcp(local, remote);
        // The client has opened the same connection anew before we saw the end of the old one.
        if let Some(&old) = self.by_path.get(&path) {
            self.close(old);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Err(error) = self.poller.add(&socket, index as u64) {
            self.free.push(index);
            return Err(error);
        }
        if self.scratch.is_empty() {
            self.scratch = vec![0; READ].into_boxed_slice();
        }
        let (deframer, queue) = (Deframer::default(), Vec::new());
        let stream =
            Stream { socket, path, deframer, queue, waits: false, moved: now, known: None, since, place };
        let stream = self.slots[index].insert(stream);
        self.by_path.insert(path, index);
        let read = stream.deframer.read(&mut first, |datagram| core.handle_datagram(now, path, datagram));
        if read.is_err() {
            self.end(index, &Closed::ByUs(Refused::Garbage));
        }
        Ok(())
    }

    /// Which of them are ready now, as tokens for [`Streams::serve`].
    ///
    /// # Errors
    /// The epoll instance is broken.
    pub fn ready(&mut self, ready: &mut Ready) -> io::Result<()> {
        self.poller.wait(ready, Some(std::time::Duration::ZERO))
    }

    /// Reads one that is ready, once, and writes what waits for it. Gives how many bytes came.
    pub fn serve<C: MediaCore>(&mut self, now: Instant, token: u64, core: &mut C) -> usize {
        let index = token as usize;
        let Some(stream) = self.slots.get_mut(index).and_then(Option::as_mut) else { return 0 };
        let written = stream.write(now).map(|()| stream.tell(&self.poller, index, core));
        let read = written.and_then(|()| match stream.socket.read(&mut self.scratch) {
            Ok(0) => Err(Closed::ByClient),
            Ok(got) => {
                let path = stream.path;
                let take = |datagram: &mut [u8]| core.handle_datagram(now, path, datagram);
                let read = stream.deframer.read(&mut self.scratch[..got], take);
                read.map(|()| got).map_err(|_| Closed::ByUs(Refused::Garbage))
            }
            Err(error) if waits(&error) => Ok(0),
            Err(_) => Err(Closed::ByClient),
        });
        match read {
            Ok(got) => got,
            Err(closed) => {
                self.end(index, &closed);
                0
            }
        }
    }

    /// Sends what the core has for TCP. What a connection has no room for is dropped, as by a router.
    pub fn send<C: MediaCore>(&mut self, now: Instant, core: &mut C) {
        for run in core.egress().filter(|run| run.path.protocol == Protocol::Tcp) {
            self.enqueue(now, &run);
        }
        while let Some(index) = self.fed.pop() {
            let Some(stream) = &mut self.slots[index] else { continue };
            match stream.write(now) {
                Ok(()) => stream.tell(&self.poller, index, core),
                Err(closed) => self.end(index, &closed),
            }
        }
    }

    fn enqueue(&mut self, now: Instant, run: &Outgoing<'_>) {
        let datagrams = run.bytes.chunks(usize::from(run.segment.max(1)));
        let stream =
            self.by_path.get(&run.path).and_then(|index| Some((*index, self.slots[*index].as_mut()?)));
        let Some((index, stream)) = stream else {
            self.dropped[1] += datagrams.len() as u64;
            return;
        };
        if stream.queue.is_empty() {
            stream.moved = now;
        }
        for datagram in datagrams {
            if stream.queue.len() + HEADER + datagram.len() > QUEUE_LIMIT {
                self.dropped[0] += 1;
            } else {
                framing::write(&mut stream.queue, datagram);
            }
        }
        if self.fed.last() != Some(&index) {
            self.fed.push(index);
        }
    }

    /// Closes those that are of nobody, and those that take nothing. To be called about once a second.
    pub fn sweep<C: MediaCore>(&mut self, now: Instant, core: &C) {
        for index in 0..self.slots.len() {
            let Some(stream) = &mut self.slots[index] else { continue };
            if core.knows(stream.path) {
                stream.known = Some(now);
            }
            let unknown = now.saturating_duration_since(stream.known.unwrap_or(stream.since));
            let why = if unknown >= UNKNOWN_TIMEOUT {
                if stream.known.is_some() { Refused::Idle } else { Refused::Unknown }
            } else if !stream.queue.is_empty() && now.saturating_duration_since(stream.moved) >= STALL_TIMEOUT
            {
                Refused::Stalled
            } else {
                continue;
            };
            self.end(index, &Closed::ByUs(why));
        }
    }

    fn end(&mut self, index: usize, why: &Closed) {
        if let (Closed::ByUs(why), Some(stream)) = (why, &self.slots[index]) {
            stream.place.refused(*why);
        }
        self.close(index);
    }

    /// The kernel forgets it with its descriptor, the core when it has been silent long enough.
    fn close(&mut self, index: usize) {
        if let Some(stream) = self.slots[index].take() {
            self.by_path.remove(&stream.path);
            self.free.push(index);
        }
    }
}

impl Stream {
    /// Gives the kernel what it takes.
    fn write(&mut self, now: Instant) -> Turn {
        let mut written = 0;
        while written < self.queue.len() {
            match self.socket.write(&self.queue[written..]) {
                Ok(0) => return Err(Closed::ByClient),
                Ok(some) => {
                    written += some;
                    self.moved = now;
                }
                Err(error) if waits(&error) => break,
                Err(_) => return Err(Closed::ByClient),
            }
        }
        self.queue.drain(..written);
        Ok(())
    }

    /// Tells the core whether something waits now, and the kernel whether to say when it takes more.
    fn tell<C: MediaCore>(&mut self, poller: &Poller, index: usize, core: &mut C) {
        let waits = !self.queue.is_empty();
        if std::mem::replace(&mut self.waits, waits) != waits {
            core.handle_backlog(self.path, waits);
            if let Err(error) = poller.change(&self.socket, index as u64, waits) {
                tracing::debug!(%error, "media connection cannot be waited for");
            }
        }
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
