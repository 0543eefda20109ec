//! An ideal forward error correction beside the packets of a link, to find out what one would gain.
//!
//! Of each group of packets in a row, as they leave the queue, any that were lost come back as soon as as many parity
//! packets have come: what the best code can do (RFC 8627 repairs one, or what rows and columns allow). Parity packets
//! take their time on the link and are lost as others are. Nobody at either end knows of them.

use std::time::Instant;

use sfu::units::DataSize;

/// How much parity there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parity {
    /// Packets of a group…
    pub packets: u32,
    /// …and parity packets behind it, each as large as the largest of them.
    pub parity: u32,
    /// What is protected.
    pub of: Protected,
}

/// Which packets parity is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protected {
    /// Those of at least so many bytes, headers included: sound and reports have less.
    Large(usize),
    /// RTP of this payload type alone.
    PayloadType(u8),
}

impl Parity {
    /// Whether a datagram is protected.
    pub fn protects(&self, datagram: &[u8]) -> bool {
        match self.of {
            Protected::Large(least) => datagram.len() >= least,
            Protected::PayloadType(of) => datagram.get(1).is_some_and(|byte| byte & 0x7f == of),
        }
    }
}

/// What enters and leaves the queue, in the same order.
#[derive(Debug)]
pub(super) struct Protection<P> {
    entered: u32,
    largest: DataSize,
    left: u32,
    lost: Vec<(DataSize, P)>,
    arrived: Vec<Instant>,
}

impl<P> Default for Protection<P> {
    fn default() -> Self {
        Protection { entered: 0, largest: DataSize::ZERO, left: 0, lost: Vec::new(), arrived: Vec::new() }
    }
}

impl<P> Protection<P> {
    /// A packet enters the queue: how many parity packets of which size must follow.
    pub(super) fn enter(&mut self, parity: Parity, size: DataSize) -> Option<(u32, DataSize)> {
        self.entered += 1;
        self.largest = self.largest.max(size);
        if self.entered < parity.packets {
            return None;
        }
        self.entered = 0;
        Some((parity.parity, std::mem::replace(&mut self.largest, DataSize::ZERO)))
    }

    /// A packet was lost behind the queue.
    pub(super) fn lose(&mut self, size: DataSize, packet: P) {
        self.lost.push((size, packet));
    }

    /// A parity packet left the queue, and arrives then unless it is lost. The last of a group gives what comes back, and
    /// when.
    pub(super) fn leave(&mut self, parity: Parity, arrival: Option<Instant>) -> Vec<(Instant, DataSize, P)> {
        self.arrived.extend(arrival);
        self.left += 1;
        if self.left < parity.parity {
            return Vec::new();
        }
        self.left = 0;
        let (lost, arrived) = (std::mem::take(&mut self.lost), std::mem::take(&mut self.arrived));
        let Some(last) = lost.len().checked_sub(1) else { return Vec::new() };
        let Some(&at) = arrived.get(last) else { return Vec::new() };
        lost.into_iter().map(|(size, packet)| (at, size, packet)).collect()
    }
}
