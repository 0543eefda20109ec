//! Datagrams that leave together: those of one way and one size as one run.

use std::ops::Range;
use std::rc::Rc;

use sfu::command::Path;
use tokio::io::unix::AsyncFd;

use crate::media::kernel::{Outgoing, SendBatch, WatchedSocket};

/// What the kernel takes as one run (RFC 768's length field, less headers).
const MAX_RUN: usize = 60_000;
/// Datagrams of a run (the kernel's `UDP_MAX_SEGMENTS` of old).
const MAX_SEGMENTS: usize = 64;

/// A socket that a task reads and others send from, all on one thread.
pub(super) type Socket = Rc<AsyncFd<WatchedSocket>>;

struct Run {
    socket: Socket,
    path: Path,
    segment: usize,
    range: Range<usize>,
}

/// Collects, then sends.
pub(super) struct Outbox {
    slab: Vec<u8>,
    runs: Vec<Run>,
    batch: Box<SendBatch>,
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        Outbox { slab: Vec::new(), runs: Vec::new(), batch: SendBatch::new() }
    }

    /// Puts one datagram in. An empty one is left out: none of what is relayed is empty.
    pub(super) fn push(&mut self, socket: &Socket, path: Path, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = self.slab.len() + bytes.len();
        if let Some(last) = self.runs.last_mut() {
            let length = last.range.len();
            let fits = length + bytes.len() <= MAX_RUN && length / last.segment < MAX_SEGMENTS;
            let goes_on = bytes.len() <= last.segment && length.is_multiple_of(last.segment);
            if Rc::ptr_eq(&last.socket, socket) && last.path == path && fits && goes_on {
                self.slab.extend_from_slice(bytes);
                last.range.end = end;
                return;
            }
        }
        let range = self.slab.len()..end;
        self.slab.extend_from_slice(bytes);
        self.runs.push(Run { socket: Rc::clone(socket), path, segment: bytes.len(), range });
    }

    /// Sends all. Gives how many datagrams the kernel did not take.
    pub(super) fn flush(&mut self) -> u64 {
        let mut lost = 0;
        for together in self.runs.chunk_by(|a, b| Rc::ptr_eq(&a.socket, &b.socket)) {
            let runs = together.iter().map(|run| Outgoing {
                path: run.path,
                segment: run.segment as u16,
                bytes: &self.slab[run.range.clone()],
            });
            let report = together[0].socket.get_ref().send(&mut self.batch, runs);
            lost += report.no_room + report.unreachable;
        }
        self.runs.clear();
        self.slab.clear();
        lost
    }
}
