//! What is counted beside `turn::Stats`.

use std::sync::{Arc, Mutex};

/// The thread's latest copy of its counts.
pub type SharedStats = Arc<Mutex<TurnStats>>;

/// Why a connection was refused or closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    Total,
    /// From this address there are as many as there may be.
    Address,
    /// As many TLS handshakes were begun within this second as may be.
    HandshakeRate,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// It had no allocation for too long.
    Idle,
    /// It carried something that is not TURN.
    Garbage,
    /// It did not take what was sent to it for too long.
    Stalled,
}

impl Refused {
    /// All, in the order of [`TurnStats::refused`].
    pub const ALL: [Refused; 7] = [
        Refused::Total,
        Refused::Address,
        Refused::HandshakeRate,
        Refused::Handshake,
        Refused::Idle,
        Refused::Garbage,
        Refused::Stalled,
    ];

    /// A name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Total => "total",
            Refused::Address => "address",
            Refused::HandshakeRate => "handshake_rate",
            Refused::Handshake => "handshake",
            Refused::Idle => "idle",
            Refused::Garbage => "garbage",
            Refused::Stalled => "stalled",
        }
    }
}

/// All counts of the TURN server.
#[derive(Clone, Debug, Default)]
pub struct TurnStats {
    /// Those of the protocol.
    pub protocol: turn::Stats,
    /// Connections at present: TCP, TLS.
    pub connections: [u64; 2],
    /// In the order of [`Refused::ALL`].
    pub refused: [u64; Refused::ALL.len()],
    /// Packets that came to an allocation's socket from somebody else than media.
    pub strangers: u64,
    /// Packets dropped since a TCP client's queue was full.
    pub queue_full: u64,
    /// Datagrams that the kernel did not take.
    pub not_sent: u64,
}
