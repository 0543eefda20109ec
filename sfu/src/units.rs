//! Quantities that must not be mixed up: rates, sizes on the wire, RTP clocks, NTP time.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant};

/// Bits per second, counted on the wire: IP, UDP, RTP and the authentication tag included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(u64);

impl Bitrate {
    /// Nothing at all.
    pub const ZERO: Bitrate = Bitrate(0);

    /// From bits per second.
    pub const fn bps(bits: u64) -> Bitrate {
        Bitrate(bits)
    }

    /// From thousands of bits per second.
    pub const fn kbps(kilobits: u64) -> Bitrate {
        Bitrate(kilobits * 1000)
    }

    /// As bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// `size` sent over `time`; zero for a time of zero.
    pub fn of(size: DataSize, time: Duration) -> Bitrate {
        match u64::try_from(time.as_micros()) {
            Ok(us) if us > 0 => Bitrate(size.0.saturating_mul(8_000_000) / us),
            _ => Bitrate::ZERO,
        }
    }

    /// How long `size` takes at this rate; `None` at rate zero.
    pub fn time_for(self, size: DataSize) -> Option<Duration> {
        let us = size.0.saturating_mul(8_000_000).checked_div(self.0)?;
        Some(Duration::from_micros(us))
    }

    /// What passes at this rate within `time`.
    pub fn size_in(self, time: Duration) -> DataSize {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // In 64 bits where they do, as nearly always: dividing 128 takes a call.
        let bytes = self.0.checked_mul(us).map_or_else(
            || u64::try_from(u128::from(self.0) * u128::from(us) / 8_000_000).unwrap_or(u64::MAX),
            |bits| bits / 8_000_000,
        );
        DataSize(bytes)
    }

    /// Scaled by a factor of our own choosing, which must be finite and not negative.
    #[must_use]
    pub fn scale(self, factor: f64) -> Bitrate {
        debug_assert!(factor.is_finite() && factor >= 0.0, "factor {factor}");
        Bitrate((self.0 as f64 * factor) as u64)
    }

    /// The difference, or zero when `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Bitrate) -> Bitrate {
        Bitrate(self.0.saturating_sub(other.0))
    }
}

impl Add for Bitrate {
    type Output = Bitrate;
    fn add(self, other: Bitrate) -> Bitrate {
        Bitrate(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kbit/s", self.0 / 1000)
    }
}

/// Bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DataSize(u64);

impl DataSize {
    /// Nothing at all.
    pub const ZERO: DataSize = DataSize(0);

    /// From bytes.
    pub const fn bytes(bytes: u64) -> DataSize {
        DataSize(bytes)
    }

    /// As bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// Half of it, rounded down.
    #[must_use]
    pub const fn half(self) -> DataSize {
        DataSize(self.0 / 2)
    }
}

impl Add for DataSize {
    type Output = DataSize;
    fn add(self, other: DataSize) -> DataSize {
        DataSize(self.0.saturating_add(other.0))
    }
}

impl AddAssign for DataSize {
    fn add_assign(&mut self, other: DataSize) {
        *self = *self + other;
    }
}

impl Sub for DataSize {
    type Output = DataSize;
    fn sub(self, other: DataSize) -> DataSize {
        DataSize(self.0.saturating_sub(other.0))
    }
}

/// A point on an RTP media clock, in ticks of that clock, modulo 2^32 (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// Ticks from `earlier` to `self` on the shorter way round; negative when `self` is earlier.
    pub const fn distance(self, earlier: RtpTime) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// The point `ticks` later (earlier, when negative).
    #[must_use]
    pub const fn plus(self, ticks: i32) -> RtpTime {
        RtpTime(self.0.wrapping_add_signed(ticks))
    }
}

/// Wall-clock time as the wire has it: seconds since 1900 in 32.32 fixed point (RFC 5905 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From time since the Unix epoch.
    pub fn from_unix(since_1970: Duration) -> NtpTime {
        const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
        let seconds = since_1970.as_secs().wrapping_add(SECONDS_1900_TO_1970);
        let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
        NtpTime((seconds << 32) | fraction)
    }

    /// The middle 32 bits, the form of LSR and DLSR (RFC 3550 §6.4.1): units of 1/65536 s.
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The time from `earlier` to `self`, in microseconds; negative when `self` is earlier.
    pub const fn micros_since(self, earlier: NtpTime) -> i64 {
        let delta = self.0.wrapping_sub(earlier.0) as i64;
        ((delta as i128 * 1_000_000) >> 32) as i64
    }
}

/// Ties the monotonic clock to wall-clock time; made once by whoever owns the clocks.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// A moment on the monotonic clock…
    pub instant: Instant,
    /// …and the time since the Unix epoch at that moment.
    pub unix: Duration,
}

impl WallClock {
    /// The wall-clock time at `now`.
    pub fn ntp(&self, now: Instant) -> NtpTime {
        let unix = if now >= self.instant {
            self.unix + (now - self.instant)
        } else {
            self.unix.saturating_sub(self.instant - now)
        };
        NtpTime::from_unix(unix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_over_a_time() {
        let rate = Bitrate::of(DataSize::bytes(1250), Duration::from_millis(10));
        assert_eq!(rate, Bitrate::kbps(1000));
        assert_eq!(rate.time_for(DataSize::bytes(125)), Some(Duration::from_millis(1)));
        assert_eq!(rate.size_in(Duration::from_millis(1)), DataSize::bytes(125));
        assert_eq!(Bitrate::ZERO.time_for(DataSize::bytes(1)), None);
        assert_eq!(Bitrate::of(DataSize::bytes(1), Duration::ZERO), Bitrate::ZERO);
    }

    #[test]
    fn ntp_counts_from_1900_and_measures_in_both_directions() {
        let start = NtpTime::from_unix(Duration::ZERO);
        assert_eq!(start.0 >> 32, 2_208_988_800);
        let later = NtpTime::from_unix(Duration::from_millis(1500));
        assert!((later.micros_since(start) - 1_500_000).abs() <= 1);
        assert!((start.micros_since(later) + 1_500_000).abs() <= 1);
    }
}
