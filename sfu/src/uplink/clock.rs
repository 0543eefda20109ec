//! An encoding's media clock in wall-clock time, by its sender reports (RFC 3550 §6.4.1).

use std::time::Instant;

use crate::units::{NtpTime, RtpTime};

/// See the module's page.
#[derive(Debug)]
pub struct MediaClock {
    rate: u32,
    report: Option<(NtpTime, RtpTime)>,
    latest: Option<(Instant, RtpTime)>,
}

impl MediaClock {
    /// A clock of `rate` ticks a second.
    pub fn new(rate: u32) -> Self {
        MediaClock { rate: rate.max(1), report: None, latest: None }
    }

    /// Ticks a second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// A sender report came.
    pub fn handle_sender_report(&mut self, ntp: NtpTime, rtp: RtpTime) {
        self.report = Some((ntp, rtp));
    }

    /// A packet came.
    pub fn handle_packet(&mut self, now: Instant, timestamp: RtpTime) {
        if self.latest.is_none_or(|(_, latest)| timestamp.distance(latest) >= 0) {
            self.latest = Some((now, timestamp));
        }
    }

    /// The publisher's wall-clock time of a timestamp, in microseconds on a scale that its other encodings share;
    /// `None` before the first sender report.
    pub fn capture_micros(&self, timestamp: RtpTime) -> Option<i64> {
        let (ntp, rtp) = self.report?;
        let since = i64::from(timestamp.distance(rtp)) * 1_000_000 / i64::from(self.rate);
        Some(ntp.micros_since(NtpTime(0)).wrapping_add(since))
    }

    /// Where the clock stands at `now`, going on from the latest packet.
    pub fn at(&self, now: Instant) -> Option<RtpTime> {
        let (at, timestamp) = self.latest?;
        let since = now.saturating_duration_since(at).as_micros() * u128::from(self.rate) / 1_000_000;
        Some(timestamp.plus(since as i32))
    }

    /// Our wall-clock time `now` and the media time of the same moment, as a sender report wants them.
    ///
    /// Audio and video of one publisher stay in step because both are placed by the publisher's own reports where
    /// there are any: the lag of each stream's packets behind its capture is kept.
    pub fn report_at(
        &self,
        now: Instant,
        publisher_offset: Option<i64>,
        ntp_now: NtpTime,
    ) -> Option<RtpTime> {
        if let (Some((ntp, rtp)), Some(offset)) = (self.report, publisher_offset) {
            // The publisher's clock at this moment, then its media clock at that time.
            let theirs = ntp_now.micros_since(NtpTime(0)).wrapping_sub(offset);
            let since = theirs.wrapping_sub(ntp.micros_since(NtpTime(0)));
            return Some(rtp.plus((i128::from(since) * i128::from(self.rate) / 1_000_000) as i32));
        }
        self.at(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_encodings_with_other_offsets_agree_on_the_time_of_capture() {
        let ntp = NtpTime::from_unix(Duration::from_secs(1_700_000_000));
        let later = NtpTime::from_unix(Duration::from_secs(1_700_000_001));
        let (mut low, mut high) = (MediaClock::new(90_000), MediaClock::new(90_000));
        low.handle_sender_report(ntp, RtpTime(1000));
        high.handle_sender_report(later, RtpTime(u32::MAX - 10));
        let of_low = low.capture_micros(RtpTime(1000 + 180_000)).unwrap();
        let of_high = high.capture_micros(RtpTime((u32::MAX - 10).wrapping_add(90_000))).unwrap();
        assert!((of_low - of_high).abs() <= 2, "{of_low} {of_high}");
    }

    #[test]
    fn a_report_shows_the_media_time_of_its_moment() {
        let start = crate::test_time();
        let ntp = NtpTime::from_unix(Duration::from_secs(1_700_000_000));
        let mut clock = MediaClock::new(48_000);
        assert_eq!(clock.report_at(start, None, ntp), None);
        clock.handle_packet(start, RtpTime(960));
        let half = start + Duration::from_millis(500);
        assert_eq!(clock.report_at(half, None, ntp), Some(RtpTime(960 + 24_000)));
        // The publisher's clock is 10 s behind ours; its report says media time 0 at its time `ntp`.
        clock.handle_sender_report(ntp, RtpTime(0));
        let ours = NtpTime::from_unix(Duration::from_secs(1_700_000_011));
        assert_eq!(clock.report_at(half, Some(10_000_000), ours), Some(RtpTime(48_000)));
    }
}
