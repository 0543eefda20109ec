//! How much is sent again to one subscriber, and when: requests are believed as far as its reports do not contradict.
//!
//! A request waits for as long as the path is known to reorder, since the packet may be merely late; where what is asked
//! for has mostly come after all, it waits for the report. What is resent is paid for out of two budgets, both earned by
//! what is sent at first hand: all of it out of one, and out of the smaller one what no report has confirmed as lost yet;
//! once one does, that is paid back.
//! Always: what is resent without confirmation is at most 15 % of what is sent at first hand, all of it at most 30 %, but
//! for what the budgets can save up; memory is bounded.
//! Not here: which packets may be resent at all ([`super::sent`]).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::sent::Reported;
use crate::units::{Bitrate, DataSize};

/// Share of what is sent that may be resent in any case…
const LEAST: f64 = 0.05;
/// …and at most, before and after reports confirm the losses.
const MOST_UNCONFIRMED: f64 = 0.15;
const MOST: f64 = 0.30;
/// Budget as a multiple of the loss: what is resent is lost too.
const PER_LOSS: f64 = 1.5;
/// A budget can save up as much as it earns in this time, and at least this much: losses come in bursts.
const SAVED: Duration = Duration::from_secs(1);
const LEAST_SAVED: DataSize = DataSize::bytes(16 * 1200);
/// Requests that wait.
const MAX_HELD: usize = 512;
/// Packets resent whose loss is not confirmed.
const MAX_CREDITS: usize = 256;
/// A request that could not be paid for in this time is forgotten: it will be made again.
const PATIENCE: Duration = Duration::from_millis(100);
/// A report comes every 50 ms from libwebrtc, and a little later from who is busy.
const REPORT: Duration = Duration::from_millis(60);
/// Where so much of what was missing came after all, reports are believed before requests.
const MERELY_LATE: f64 = 0.25;

/// A picture that stands longer than this for want of repairs is better begun anew.
const WORTHWHILE: Duration = Duration::from_millis(400);

/// What one request asks for that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    size: DataSize,
    late: bool, // something of it is not resent any more
}

impl Gap {
    /// A packet that is part of it; `late`: it will not be resent.
    pub fn add(&mut self, size: DataSize, late: bool) {
        self.size += size;
        self.late |= late;
    }

    /// Whether a keyframe of this size mends the picture sooner than repairs can on a path that takes `target`.
    pub fn hopeless(self, target: Bitrate, keyframe: DataSize) -> bool {
        self.late || self.size > keyframe.max(target.scale(MOST).size_in(WORTHWHILE))
    }
}

/// What the reports say of the path.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Loss ratio; `None` if the client does not report packet by packet.
    pub loss: Option<f64>,
    /// All that may be sent.
    pub target: Bitrate,
}

/// How the path reorders.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reordering {
    /// How late packets come that others overtook.
    pub extent: Duration,
    /// Of the packets that did not come in their turn, the share that came later.
    pub late: f64,
}

/// A request that was accepted and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The subscription's place…
    pub slot: u16,
    /// …and which of those that had it.
    pub serial: u32,
    /// The number asked for.
    pub number: u16,
    due: Instant,
    until: Instant,
}

/// What becomes of a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet is to be resent now; it is paid for.
    Resend,
    /// Not yet.
    Wait,
    /// It has come.
    Arrived,
    /// There is no budget for it.
    TooDear,
}

#[derive(Clone, Copy, Debug)]
struct Credit {
    transport: u16,
    size: DataSize,
    since: Instant,
}

#[derive(Debug)]
struct Budget {
    share: f64,
    level: f64, // bytes
    depth: f64,
}

impl Budget {
    fn new(share: f64) -> Budget {
        let depth = LEAST_SAVED.as_bytes() as f64;
        Budget { share, level: depth, depth }
    }

    fn add(&mut self, bytes: f64) {
        self.level = (self.level + bytes).min(self.depth);
    }
}

/// See the module's page.
#[derive(Debug)]
pub struct Repairs {
    held: Vec<Held>,
    looked_at: Option<Instant>,
    credits: VecDeque<Credit>,
    all: Budget,
    unconfirmed: Budget,
}

impl Default for Repairs {
    fn default() -> Self {
        Repairs {
            held: Vec::new(),
            looked_at: None,
            credits: VecDeque::new(),
            all: Budget::new(MOST_UNCONFIRMED),
            unconfirmed: Budget::new(MOST_UNCONFIRMED),
        }
    }
}

impl Repairs {
    /// Something was sent at first hand.
    pub fn earn(&mut self, size: DataSize) {
        for budget in [&mut self.all, &mut self.unconfirmed] {
            budget.add(budget.share * size.as_bytes() as f64);
        }
    }

    /// A report came, or it was found that none do: `reported` tells what is known of a packet by its transport-wide
    /// number.
    pub fn handle_report(&mut self, now: Instant, path: &Path, reported: impl Fn(u16) -> Reported) {
        let by_loss = |most: f64| path.loss.map_or(most, |loss| (PER_LOSS * loss).clamp(LEAST, most));
        self.unconfirmed.share = by_loss(MOST_UNCONFIRMED);
        self.all.share = by_loss(if path.loss.is_some() { MOST } else { MOST_UNCONFIRMED });
        for (budget, most) in [(&mut self.all, MOST), (&mut self.unconfirmed, MOST_UNCONFIRMED)] {
            let saved = path.target.scale(most).size_in(SAVED).max(LEAST_SAVED);
            budget.depth = saved.as_bytes() as f64;
        }
        let mut paid_back = 0.0;
        self.credits.retain(|credit| match reported(credit.transport) {
            Reported::Missing => {
                paid_back += credit.size.as_bytes() as f64;
                false
            }
            Reported::Arrived => false,
            Reported::Unknown => now.saturating_duration_since(credit.since) < Duration::from_secs(1),
        });
        self.unconfirmed.add(paid_back);
    }

    /// Takes a request that is to be answered. `first`: the packet was sent once so far, and may be late. Says whether
    /// there was room for it.
    pub fn hold(
        &mut self,
        now: Instant,
        (slot, serial, number): (u16, u32, u16),
        first: bool,
        path: Reordering,
    ) -> bool {
        if self.held.len() >= MAX_HELD {
            return false;
        }
        let wait = match path {
            _ if !first => Duration::ZERO,
            path if path.late >= MERELY_LATE => REPORT,
            path => path.extent,
        };
        let due = now + wait;
        self.held.push(Held { slot, serial, number, due, until: due + PATIENCE });
        true
    }

    /// The requests that wait, to be judged each and given back if they wait on.
    pub fn take_held(&mut self, now: Instant) -> Vec<Held> {
        self.looked_at = Some(now);
        std::mem::take(&mut self.held)
    }

    /// Gives back what [`Repairs::take_held`] took, less what needs to wait no more.
    pub fn put_held(&mut self, held: Vec<Held>) {
        self.held = held;
    }

    /// Decides about a packet of `size` whose last copy had the transport-wide number `transport`.
    pub fn judge(
        &mut self,
        now: Instant,
        held: &Held,
        (size, transport): (DataSize, Option<u16>),
        reported: Reported,
    ) -> Verdict {
        let bytes = size.as_bytes() as f64;
        let affordable = match reported {
            Reported::Arrived => return Verdict::Arrived,
            Reported::Missing => self.all.level >= bytes,
            Reported::Unknown if now < held.due => return Verdict::Wait,
            Reported::Unknown => self.all.level.min(self.unconfirmed.level) >= bytes,
        };
        if !affordable {
            return if now < held.until { Verdict::Wait } else { Verdict::TooDear };
        }
        self.all.level -= bytes;
        if reported == Reported::Unknown {
            self.unconfirmed.level -= bytes;
            if let Some(transport) = transport {
                if self.credits.len() >= MAX_CREDITS {
                    self.credits.pop_front();
                }
                self.credits.push_back(Credit { transport, size, since: now });
            }
        }
        Verdict::Resend
    }

    /// Pays for one more copy of a packet of `size` that is resent, if that leaves half of what can be saved up to others.
    pub fn pay_again(&mut self, size: DataSize) -> bool {
        let bytes = size.as_bytes() as f64;
        let affordable = self.all.level >= bytes + self.all.depth / 2.0;
        if affordable {
            self.all.level -= bytes;
        }
        affordable
    }

    /// When a request is to be looked at again though no report came.
    pub fn next_timeout(&self) -> Option<Instant> {
        let next = |held: &Held| {
            let looked_at = self.looked_at.is_some_and(|at| at >= held.due);
            if looked_at { held.until } else { held.due }
        };
        self.held.iter().map(next).min()
    }
}

#[cfg(test)]
mod tests;
