//! Datagrams that overtook the description with the peer's fingerprint.

/// At most 4 of them, enough for one flight; the client repeats what is not kept.
const CAPACITY: usize = 4;

/// The first DTLS datagrams of a client whose description has not arrived. They were admitted by ICE, hence are
/// from somebody who has read our description.
#[derive(Debug, Default)]
pub struct EarlyDatagrams {
    kept: Vec<Box<[u8]>>,
}

impl EarlyDatagrams {
    /// Keeps a copy; drops it when there are four, or when it is longer than [`MAX_DATAGRAM`](super::MAX_DATAGRAM).
    pub fn push(&mut self, datagram: &[u8]) {
        if self.kept.len() < CAPACITY && datagram.len() <= super::MAX_DATAGRAM {
            self.kept.push(datagram.into());
        }
    }

    /// Takes them out, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Box<[u8]>> + use<> {
        std::mem::take(&mut self.kept).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_are_kept_in_order_and_no_long_ones() {
        let mut early = EarlyDatagrams::default();
        early.push(&[0; super::super::MAX_DATAGRAM + 1]);
        for i in 0..100 {
            early.push(&[i]);
        }
        assert_eq!(early.drain().map(|d| d[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(early.drain().count(), 0);
    }
}
