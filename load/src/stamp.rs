//! What every payload ends with: who sent it, in which layer, and when.
//!
//! It lies at the end, where no server looks, and an SFU that rewrites headers and descriptors leaves it alone. It
//! is read after decryption, so that it need not be protected against anybody.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch by the system's clock, which is also what the kernel stamps arrivals with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WallNanos(pub(crate) u64);

impl WallNanos {
    pub(crate) fn now() -> WallNanos {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallNanos(since.as_nanos() as u64)
    }

    /// Microseconds from `earlier` to here; 0 if the clock was set back meanwhile.
    pub(crate) fn micros_since(self, earlier: WallNanos) -> u64 {
        self.0.saturating_sub(earlier.0) / 1000
    }
}

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the publisher, from 0.
    pub(crate) publisher: u16,
    /// Index of the encoding, smallest picture first; 0 for sound.
    pub(crate) layer: u8,
    /// When it was given to the network.
    pub(crate) sent: WallNanos,
}

impl Stamp {
    /// Bytes that it takes.
    pub(crate) const LEN: usize = 16;
    /// How it begins, so that what others send is not taken for ours.
    const MAGIC: [u8; 4] = *b"load";

    /// Overwrites the end of a payload that has room for it.
    pub(crate) fn write(self, payload: &mut [u8]) {
        let start = payload.len() - Stamp::LEN;
        let place = &mut payload[start..];
        place[..4].copy_from_slice(&Stamp::MAGIC);
        place[4..6].copy_from_slice(&self.publisher.to_be_bytes());
        place[6] = self.layer;
        place[7] = 0;
        place[8..].copy_from_slice(&self.sent.0.to_be_bytes());
    }

    /// `None` if the payload is not ours.
    pub(crate) fn read(payload: &[u8]) -> Option<Stamp> {
        let place: &[u8; Stamp::LEN] = payload.last_chunk()?;
        let sent = u64::from_be_bytes(*place.last_chunk()?);
        place.starts_with(&Stamp::MAGIC).then_some(Stamp {
            publisher: u16::from_be_bytes([place[4], place[5]]),
            layer: place[6],
            sent: WallNanos(sent),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_was_written_and_only_at_the_end() {
        let stamp = Stamp { publisher: 513, layer: 2, sent: WallNanos(1_764_422_400_123_456_789) };
        let mut payload = [0xAA; 40];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(payload[..24], [0xAA; 24]);
        assert_eq!(Stamp::read(&payload[..39]), None);
        assert_eq!(Stamp::read(&payload[30..]), None);
    }
}
