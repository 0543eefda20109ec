//! How many connections there may be, together and from one address, and what became of them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use turn::subscriber;

use crate::config::TcpLimits;
use crate::counts::{Counted, Counts};

/// Why a connection was refused or closed by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    Total,
    /// From this address there are as many as there may be.
    Address,
    /// It did not begin with a STUN request to one of our cores, or carried something that is no frame.
    Garbage,
    /// No signed request came in time.
    Unknown,
    /// Its client is not heard over it any more.
    Idle,
    /// It did not take what was sent to it for too long.
    Stalled,
}

impl Refused {
    /// All, in the order of [`TcpStats::refused`].
    pub const ALL: [Refused; 6] = [
        Refused::Total,
        Refused::Address,
        Refused::Garbage,
        Refused::Unknown,
        Refused::Idle,
        Refused::Stalled,
    ];

    /// A name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Total => "total",
            Refused::Address => "address",
            Refused::Garbage => "garbage",
            Refused::Unknown => "unknown",
            Refused::Idle => "idle",
            Refused::Stalled => "stalled",
        }
    }
}

/// Connections so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// At present.
    pub connections: u64,
    /// In the order of [`Refused::ALL`].
    pub refused: [u64; Refused::ALL.len()],
}

/// The places that there are. Shared by the door and all workers, for events of a connection's life only.
#[derive(Debug)]
pub struct Places {
    limits: TcpLimits,
    by_address: Counts<IpAddr>,
    stats: Mutex<TcpStats>,
}

impl Places {
    /// All free.
    pub fn new(limits: TcpLimits) -> Arc<Places> {
        Arc::new(Places { limits, by_address: Counts::default(), stats: Mutex::default() })
    }

    /// One for a connection from `client`, if there is any. A refusal is counted.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(self: &Arc<Places>, client: IpAddr) -> Result<Place, Refused> {
        let mut stats = self.counted();
        let counted = if stats.connections >= self.limits.connections as u64 {
            Err(Refused::Total)
        } else {
            let of_address = self.limits.connections_per_address;
            self.by_address.take(subscriber(client), of_address).ok_or(Refused::Address)
        };
        match counted {
            Ok(counted) => {
                stats.connections += 1;
                Ok(Place { places: Arc::clone(self), _of_address: counted })
            }
            Err(why) => {
                stats.refused[why as usize] += 1;
                Err(why)
            }
        }
    }

    /// What was counted.
    pub fn stats(&self) -> TcpStats {
        *self.counted()
    }

    fn counted(&self) -> MutexGuard<'_, TcpStats> {
        // Whoever panicked with it has left whole numbers.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    _of_address: Counted<IpAddr>,
}

impl Place {
    /// Counts why its connection is closed by us.
    pub fn refused(&self, why: Refused) {
        self.places.counted().refused[why as usize] += 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.counted().connections -= 1;
    }
}
