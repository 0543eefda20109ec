//! What is to be sent: one slab of bytes, cut into runs of equal-sized datagrams for one destination.
//!
//! A run is what the kernel can take in one call by segmentation offload. Packets are built and encrypted in
//! place at the slab's end; nothing is allocated once the slab has its size. The owner of the sockets sends
//! [`Egress::runs`] and then calls [`Egress::clear`].

use std::ops::Range;

use crate::command::Path;

/// Room for one datagram while it is built: an Ethernet payload.
pub const MAX_DATAGRAM: usize = 1500;
/// Datagrams of one run at most: what `UDP_SEGMENT` takes (64) leaves little to win above 16.
const MAX_SEGMENTS: usize = 16;
/// The slab's size at first; it holds what one batch of received packets causes.
const INITIAL_SLAB: usize = 1 << 20;

/// Datagrams for one destination, all of `segment` bytes but the last, which may be shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// From which of our addresses to which of the client's.
    pub path: Path,
    /// Size of each datagram but the last.
    pub segment: u16,
    /// Where in the slab the datagrams lie, one behind the other.
    pub range: Range<usize>,
    /// A shorter datagram ended it.
    closed: bool,
}

impl Run {
    /// How many datagrams it is.
    pub fn datagrams(&self) -> usize {
        self.range.len().div_ceil(usize::from(self.segment).max(1))
    }
}

/// The datagrams that the core wants sent.
#[derive(Debug)]
pub struct Egress {
    slab: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
}

impl Default for Egress {
    fn default() -> Self {
        Egress { slab: vec![0; INITIAL_SLAB], used: 0, runs: Vec::with_capacity(1024) }
    }
}

impl Egress {
    /// What to send, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of all runs.
    pub fn slab(&self) -> &[u8] {
        &self.slab[..self.used]
    }

    /// Forgets what was sent.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Room to build one datagram in; then [`Egress::commit`] says how long it became.
    pub(crate) fn space(&mut self) -> &mut [u8; MAX_DATAGRAM] {
        if self.slab.len() < self.used + MAX_DATAGRAM {
            self.slab.resize((self.slab.len() * 2).max(self.used + MAX_DATAGRAM), 0);
        }
        let room = &mut self.slab[self.used..self.used + MAX_DATAGRAM];
        room.try_into().expect("the slice has just this length")
    }

    /// Takes the first `len` bytes of [`Egress::space`] as one datagram for `path`.
    pub(crate) fn commit(&mut self, path: Path, len: usize) {
        debug_assert!(len <= MAX_DATAGRAM);
        if len == 0 {
            return;
        }
        let start = self.used;
        self.used += len;
        if self.open_run(path).is_some_and(|segment| len <= segment)
            && let Some(run) = self.runs.last_mut()
        {
            run.closed = len < usize::from(run.segment);
            run.range.end = self.used;
            return;
        }
        self.runs.push(Run { path, segment: len as u16, range: start..self.used, closed: false });
    }

    /// The size that the next datagram for `path` must not exceed to go along with those before it: theirs. `None` if
    /// it would begin a run.
    pub(crate) fn open_run(&self, path: Path) -> Option<usize> {
        let run = self.runs.last()?;
        let open = run.path == path && !run.closed && run.datagrams() < MAX_SEGMENTS;
        open.then_some(usize::from(run.segment))
    }

    /// Copies a whole datagram.
    pub(crate) fn push(&mut self, path: Path, datagram: &[u8]) {
        if datagram.len() <= MAX_DATAGRAM {
            self.space()[..datagram.len()].copy_from_slice(datagram);
            self.commit(path, datagram.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::udp(([127, 0, 0, 1], 7882).into(), ([127, 0, 0, 1], port).into())
    }

    #[test]
    fn equal_sizes_for_one_destination_become_one_run_and_a_shorter_one_ends_it() {
        let mut egress = Egress::default();
        for (port, len) in [(1, 1200), (1, 1200), (1, 1199), (1, 1200), (2, 1200), (2, 1201)] {
            egress.space()[0] = port as u8;
            egress.commit(path(port), len);
        }
        let shape: Vec<_> =
            egress.runs().iter().map(|r| (r.path.remote.port(), r.segment, r.datagrams())).collect();
        assert_eq!(shape, [(1, 1200, 3), (1, 1200, 1), (2, 1200, 1), (2, 1201, 1)]);
        assert_eq!(egress.slab().len(), 1200 * 4 + 1199 + 1201);
        egress.clear();
        assert!(egress.is_empty());
    }

    #[test]
    fn a_run_is_bounded() {
        let mut egress = Egress::default();
        for _ in 0..17 {
            egress.space();
            egress.commit(path(1), 100);
        }
        assert_eq!(egress.runs().iter().map(Run::datagrams).collect::<Vec<_>>(), [16, 1]);
    }
}
