//! How many HTTP connections there may be, together and from one address, and how many TLS handshakes a second.
//!
//! A connection above that is closed at once, before anything is read from it: nothing of it is kept. Loopback is no address: a
//! proxy on this machine brings everybody's connections.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use turn::subscriber;

use crate::config::HttpLimits;
use crate::counts::{Counted, Counts, PerSecond};

/// Of what there is as much as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Connections.
    Total,
    /// Those of this address.
    Address,
    /// TLS handshakes that began within this second.
    Handshakes,
}

impl Full {
    /// As a label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Full::Total => "http_connections",
            Full::Address => "http_connections_per_address",
            Full::Handshakes => "http_handshakes",
        }
    }
}

/// The places that there are.
#[derive(Debug)]
pub struct HttpPlaces {
    limits: HttpLimits,
    open: AtomicUsize,
    by_address: Counts<IpAddr>,
    handshakes: Mutex<PerSecond>,
}

impl HttpPlaces {
    /// All free.
    pub fn new(limits: HttpLimits) -> Arc<HttpPlaces> {
        Arc::new(HttpPlaces {
            limits,
            open: AtomicUsize::new(0),
            by_address: Counts::default(),
            handshakes: Mutex::default(),
        })
    }

    /// One for a connection from `client`, which begins with a handshake if `tls`.
    ///
    /// # Errors
    /// [`Full`]: why there is none.
    pub fn take(self: &Arc<HttpPlaces>, now: Instant, client: IpAddr, tls: bool) -> Result<HttpPlace, Full> {
        // Only one task takes places, so that nobody comes between this and the count below.
        if self.open.load(Ordering::Relaxed) >= self.limits.connections {
            return Err(Full::Total);
        }
        let client = client.to_canonical();
        let of_address = if client.is_loopback() {
            None
        } else {
            let limit = self.limits.connections_per_address;
            Some(self.by_address.take(subscriber(client), limit).ok_or(Full::Address)?)
        };
        if tls {
            // Whoever panicked with it has left whole numbers.
            let mut handshakes = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
            if !handshakes.begin(now, self.limits.handshakes_per_second) {
                return Err(Full::Handshakes);
            }
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(HttpPlace { places: Arc::clone(self), _of_address: of_address })
    }
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct HttpPlace {
    places: Arc<HttpPlaces>,
    _of_address: Option<Counted<IpAddr>>,
}

impl Drop for HttpPlace {
    fn drop(&mut self) {
        self.places.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let limits = HttpLimits { connections: 3, connections_per_address: 1, handshakes_per_second: 2 };
        let (places, now) = (HttpPlaces::new(limits), Instant::now());
        let from = |last: u8| IpAddr::from([192, 0, 2, last]);
        let first = places.take(now, from(1), false).expect("a place");
        assert_eq!(places.take(now, from(1), false).err(), Some(Full::Address));
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let proxied = [places.take(now, loopback, false), places.take(now, loopback, false)];
        assert!(proxied.iter().all(Result::is_ok), "a proxy's are everybody's");
        assert_eq!(places.take(now, from(2), false).err(), Some(Full::Total));
        drop(proxied);
        drop(first);

        assert!(places.take(now, from(1), true).is_ok());
        assert!(places.take(now, from(1), true).is_ok(), "the first is gone");
        assert_eq!(places.take(now, from(1), true).err(), Some(Full::Handshakes));
        assert!(places.take(now, from(1), false).is_ok(), "without TLS there is none");
        assert!(places.take(now + Duration::from_secs(1), from(1), true).is_ok(), "another second");
    }
}
