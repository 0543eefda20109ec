//! What a worker counts, in plain integers, copied out once a second for `metrics` to read.

use sfu::stats::{Histogram, Stats};

/// Upper bounds for the lag of a worker's loop, in seconds: from below what matters to what a call would show.
pub const LAG_BOUNDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];

/// Everything that one worker counts, from its start on.
#[derive(Clone, Debug)]
pub struct MediaStats {
    /// The core's part.
    pub core: Stats,
    /// How late the loop comes to a deadline, in seconds.
    pub lag: Histogram<10>,
    /// Time that the loop used of what it could have had, in seconds.
    pub busy: f64,
    /// Steps by which video is held back now.
    pub restraint: u8,
    /// Calls of `sendmmsg` and `sendmsg`.
    pub send_calls: u64,
    /// Messages in them: runs of datagrams that the kernel was given as one.
    pub send_messages: u64,
    /// Datagrams dropped at a full socket.
    pub send_no_room: u64,
    /// Datagrams dropped without a way to their destination.
    pub send_unreachable: u64,
    /// Datagrams dropped since the queue of their TCP connection was full, and since that was gone.
    pub tcp_dropped: [u64; 2],
    /// Messages of data channels dropped since their room was too slow.
    pub data_dropped: u64,
    /// Rooms closed since they did not take their events.
    pub rooms_overrun: u64,
}

impl Default for MediaStats {
    fn default() -> MediaStats {
        MediaStats {
            core: Stats::default(),
            lag: Histogram::new(LAG_BOUNDS),
            busy: 0.0,
            restraint: 0,
            send_calls: 0,
            send_messages: 0,
            send_no_room: 0,
            send_unreachable: 0,
            tcp_dropped: [0; 2],
            data_dropped: 0,
            rooms_overrun: 0,
        }
    }
}
