//! How many bytes may leave at once: as many as the path takes within a tick.
//!
//! Encoders make a frame at a time, and a wide path carries it at once. To pace it all the same delays the picture, and
//! costs a call to the kernel for each part. A narrow path, or one with shallow buffers, must be spared that.
//! What is watched is the spread of a run's arrivals: the time from its first packet to its last is the time that
//! the others took on the narrowest link.
//! Always: one run that takes longer than a tick bounds the next ones to what fits in a tick; a loss in a run halves them;
//! they grow by no more than a packet a run, and only if the run was about as large as they may be.
//! Not here: the mean rate ([`super::pacer`]), which stays as it is.

use std::time::{Duration, Instant};

use super::pacer::{MAX_RUN, ONE_PACKET};
use super::twcc::{Acked, Arrival, DELTA_US};
use crate::ticks::TICK;
use crate::units::{Bitrate, DataSize};

/// One full packet: the step of growth.
const PACKET: DataSize = DataSize::bytes(ONE_PACKET as u64);
/// The most: 16 packets, what a GSO batch takes.
const MOST: DataSize = DataSize::bytes(MAX_RUN as u64);
/// No growth for this long after a run lost something.
const AFTER_LOSS: Duration = Duration::from_secs(1);

/// Arrivals are told no finer.
const RESOLUTION: Duration = Duration::from_micros(DELTA_US as u64);

/// What left at one instant, as far as it arrived.
#[derive(Clone, Copy, Debug)]
struct Run {
    sent: Instant,
    packets: u32,
    size: DataSize,
    /// Of the packet that came first.
    head: DataSize,
    first: Arrival,
    last: Arrival,
}

impl Run {
    fn begin(acked: &Acked, arrival: Arrival) -> Run {
        Run {
            sent: acked.sent,
            packets: 1,
            size: acked.size,
            head: acked.size,
            first: arrival,
            last: arrival,
        }
    }
}

/// The largest run that one path bears.
#[derive(Debug)]
pub struct BurstMeter {
    most: DataSize,
    open: Option<Run>,
    lost: Option<Instant>, // when a run that lost something left
}

impl Default for BurstMeter {
    fn default() -> BurstMeter {
        BurstMeter { most: PACKET, open: None, lost: None }
    }
}

impl BurstMeter {
    /// What may leave at once.
    pub fn most(&self) -> DataSize {
        self.most
    }

    /// The packets of one report, in order of arrival.
    pub fn on_acked(&mut self, acked: &[Acked]) {
        for acked in acked.iter().filter(|acked| !acked.late) {
            match (acked.arrival, &mut self.open) {
                (Some(arrival), Some(run)) if run.sent == acked.sent => {
                    run.packets += 1;
                    run.size += acked.size;
                    (run.first, run.last) = (run.first.min(arrival), run.last.max(arrival));
                }
                (Some(arrival), open) => {
                    if let Some(run) = open.replace(Run::begin(acked, arrival)) {
                        self.close(run);
                    }
                }
                // Once a run: the path is asked for half of it next, and has not been yet.
                (None, _) if self.lost != Some(acked.sent) => {
                    self.lost = Some(self.lost.map_or(acked.sent, |at| at.max(acked.sent)));
                    self.most = self.most.half().max(PACKET);
                }
                (None, _) => {}
            }
        }
    }

    fn close(&mut self, run: Run) {
        if run.packets < 2 {
            return;
        }
        // What came first tells nothing of its own time.
        let timed = run.size - run.head;
        let spread = run.last.since(run.first);
        let fits = Bitrate::of(timed, spread.max(RESOLUTION)).size_in(TICK);
        if fits < run.size {
            self.most = self.most.min(fits.max(PACKET));
            return;
        }
        let large = run.size + run.size >= self.most;
        if large && self.lost.is_none_or(|at| run.sent >= at + AFTER_LOSS) {
            self.most = (self.most + PACKET).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests;
