//! How many connections there may be, together and from one address, and what became of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::TcpLimits;

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
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    by_address: HashMap<IpAddr, usize>,
    stats: TcpStats,
}

impl Places {
    /// All free.
    pub fn new(limits: TcpLimits) -> Arc<Places> {
        Arc::new(Places { limits, taken: Mutex::default() })
    }

    /// One for a connection from `client`, if there is any. A refusal is counted.
    ///
    /// # Errors
    /// Why there is none.
    pub fn take(self: &Arc<Places>, client: IpAddr) -> Result<Place, Refused> {
        let client = network(client);
        let mut taken = self.taken();
        let of_address = taken.by_address.get(&client).copied().unwrap_or_default();
        let why = if taken.stats.connections >= self.limits.connections as u64 {
            Some(Refused::Total)
        } else if of_address >= self.limits.connections_per_address {
            Some(Refused::Address)
        } else {
            None
        };
        if let Some(why) = why {
            taken.stats.refused[why as usize] += 1;
            return Err(why);
        }
        taken.by_address.insert(client, of_address + 1);
        taken.stats.connections += 1;
        Ok(Place { places: Arc::clone(self), client })
    }

    /// What was counted.
    pub fn stats(&self) -> TcpStats {
        self.taken().stats
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Whoever panicked with it has left whole numbers.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    client: IpAddr,
}

impl Place {
    /// Counts why its connection is closed by us.
    pub fn refused(&self, why: Refused) {
        self.places.taken().stats.refused[why as usize] += 1;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.stats.connections -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.client);
            }
        }
    }
}

/// What counts as one address: of IPv6 the /64 that one customer has (RFC 6177 §2).
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}
