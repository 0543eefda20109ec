//! What we check of SCTP packets around the library: chunk headers only, in both directions.
//!
//! Two things a peer may send are bounded by bytes there, but cost by the piece or end the association; see
//! [`PacketGuard::inspect`].

use super::packet::{CHUNK_DATA, CHUNK_INIT, CHUNK_SACK, chunks};

/// DATA chunks that may wait for others to complete a message or to fill a gap. The library looks through all
/// of them for every further one and bounds them by payload bytes alone, so that a million one-byte pieces
/// would be quadratic work for hours. A browser's burst of small messages behind one lost packet stays far
/// below; at this number the work is some 0.1 s.
pub(super) const MAX_WAITING_CHUNKS: u32 = 8192;

/// Largest packet that we take, in bytes. No stack sends DATA beyond the path's MTU.
const MAX_INBOUND_LEN: usize = 4096;

/// What to do with an incoming packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand it to the library.
    Pass,
    /// Forget it.
    Drop,
    /// The peer abuses us: end the association.
    Abort,
}

/// Counts DATA chunks in and out.
#[derive(Debug)]
pub(super) struct PacketGuard {
    /// The window that a SACK announces when nothing waits.
    full_window: u32,
    /// Upper bound of the DATA chunks that wait in the library.
    waiting: u32,
}

impl PacketGuard {
    pub(super) fn new(full_window: u32) -> PacketGuard {
        PacketGuard { full_window, waiting: 0 }
    }

    /// Judges a packet before the library sees it.
    ///
    /// A repeated INIT that arrives late, when the association is `up`, is dropped: the library would end the
    /// association over it (RFC 9260 §5.2.2 wants an answer, which the peer no longer needs).
    pub(super) fn inspect(&mut self, packet: &[u8], up: bool) -> Verdict {
        if packet.len() > MAX_INBOUND_LEN {
            return Verdict::Drop;
        }
        for chunk in chunks(packet) {
            match chunk[0] {
                CHUNK_INIT if up => return Verdict::Drop,
                CHUNK_DATA => self.waiting += 1,
                _ => {}
            }
        }
        if self.waiting > MAX_WAITING_CHUNKS { Verdict::Abort } else { Verdict::Pass }
    }

    /// A message of so many chunks left the library.
    pub(super) fn delivered(&mut self, chunks: usize) {
        self.waiting = self.waiting.saturating_sub(chunks as u32);
    }

    /// Looks at a packet of ours: duplicates and abandoned messages never leave as messages, but a SACK with
    /// the full window says that nothing waits.
    pub(super) fn observe_outgoing(&mut self, packet: &[u8]) {
        for chunk in chunks(packet) {
            // RFC 9260 §3.3.4: chunk header, cumulative TSN, window.
            if chunk[0] == CHUNK_SACK
                && let Some(window) = chunk.get(8..).and_then(<[u8]>::first_chunk::<4>)
                && u32::from_be_bytes(*window) == self.full_window
            {
                self.waiting = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::COMMON_HEADER_LEN;
    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        [&[0; COMMON_HEADER_LEN][..], &chunks.concat()].concat()
    }

    const DATA: &[u8] = &[0, 0, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 53, 7, 0, 0, 0];

    #[test]
    fn chunks_that_never_become_messages_end_the_association() {
        let mut guard = PacketGuard::new(1000);
        let two = packet(&[DATA, DATA]);
        for _ in 0..MAX_WAITING_CHUNKS / 2 {
            assert_eq!(guard.inspect(&two, true), Verdict::Pass);
        }
        guard.delivered(1);
        assert_eq!(guard.inspect(&two, true), Verdict::Abort);
    }

    #[test]
    fn a_full_window_clears_the_count() {
        let mut guard = PacketGuard::new(1000);
        guard.inspect(&packet(&[DATA, DATA, DATA]), true);
        assert_eq!(guard.waiting, 3);
        guard.observe_outgoing(&packet(&[&[3, 0, 0, 16, 0, 0, 0, 9, 0, 0, 3, 0xe7, 0, 0, 0, 0]]));
        assert_eq!(guard.waiting, 3, "a window of 999");
        guard.observe_outgoing(&packet(&[&[3, 0, 0, 16, 0, 0, 0, 9, 0, 0, 3, 0xe8, 0, 0, 0, 0]]));
        assert_eq!(guard.waiting, 0);
    }

    #[test]
    fn init_passes_only_before_the_association_is_up() {
        let mut guard = PacketGuard::new(1000);
        let init = packet(&[&[1, 0, 0, 4]]);
        assert_eq!(guard.inspect(&init, false), Verdict::Pass);
        assert_eq!(guard.inspect(&init, true), Verdict::Drop);
        assert_eq!(guard.inspect(&vec![0; MAX_INBOUND_LEN + 1], false), Verdict::Drop);
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut guard = PacketGuard::new(0);
            guard.inspect(&bytes, true);
            guard.observe_outgoing(&bytes);
        }
    }
}
