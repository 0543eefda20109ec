//! The flight that waits for the peer's answer, and when it is sent again.
//!
//! `rtc-dtls` disarms its timer at every handshake record and does not arm it again unless the record completed the
//! flight it waits for, which hangs a handshake for good when one flight is lost; its timer is therefore set so long
//! that it never fires by itself, and repeats are decided here. A flight is sent again when the peer repeats one that
//! we have answered, and after 250 ms, 500 ms, ... without progress (RFC 6347 §4.2.4 suggests to start at 1 s and leaves
//! less to applications that need it; browsers start at 50 ms).

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::reassembly::is_hello_verify_request;
use super::record::Records;

const FIRST_REPEAT: Duration = Duration::from_millis(250);
const LONGEST_REPEAT: Duration = Duration::from_secs(4);
/// A repeated flight of the peer's comes in several datagrams, and is answered once.
const REPEAT_GAP: Duration = Duration::from_millis(20);
/// Of all flights of a handshake. Timers make about a dozen in 30 s.
const MAX_REPEATS: u32 = 64;
/// `rtc-dtls` fails a handshake whose flight it was asked to repeat more often.
const MAX_REGENERATED: u32 = 7;

/// Our last flight. Empty before the first.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) datagrams: Vec<BytesMut>,
    sent_at: Option<Instant>,
    repeat_at: Option<Instant>,
    interval: Duration,
    regenerated: u32,
    repeats: u32,
}

impl Flight {
    /// A new flight was sent, so the one before was answered.
    pub(super) fn begin(&mut self, now: Instant, datagrams: Vec<BytesMut>) {
        // A HelloVerifyRequest is repeated only when the ClientHello is (RFC 6347 §4.2.1).
        let timed = !datagrams.first().is_some_and(|first| is_hello_verify_request(first));
        *self = Flight {
            datagrams,
            sent_at: Some(now),
            repeat_at: timed.then(|| now + FIRST_REPEAT),
            interval: FIRST_REPEAT,
            regenerated: 0,
            repeats: self.repeats,
        };
    }

    /// When it is to be sent again without being asked for.
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        self.repeat_at
    }

    /// Whether that time has come; sets the next one.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.repeat_at.is_some_and(|at| now >= at);
        if due {
            self.interval = (self.interval * 2).min(LONGEST_REPEAT);
            self.repeat_at = Some(now + self.interval);
        }
        due
    }

    /// Whether it may be sent again now, which then counts as done.
    pub(super) fn take_repeat(&mut self, now: Instant) -> bool {
        let recently = self.sent_at.is_none_or(|at| now < at + REPEAT_GAP);
        if recently || self.repeats >= MAX_REPEATS {
            return false;
        }
        self.repeats += 1;
        self.sent_at = Some(now);
        true
    }

    /// Whether `rtc-dtls` has to make it anew, and still will, which then counts as done: what is encrypted cannot get
    /// other record numbers from us.
    pub(super) fn take_regeneration(&mut self) -> bool {
        let sealed = self.datagrams.iter().any(|datagram| Records(datagram).any(|record| record.epoch > 0));
        let willing = sealed && self.regenerated < MAX_REGENERATED;
        self.regenerated += u32::from(willing);
        willing
    }
}
