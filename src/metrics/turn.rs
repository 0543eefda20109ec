//! The TURN server's counts as metrics.

use std::sync::PoisonError;

use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use turn::{Drop, Refusal, Transport};

use super::media::{Declaration, counters, description, gauges};
use crate::turn::{Refused, SharedStats};

const ALLOCATIONS: Declaration =
    ("sluice_turn_allocations", "TURN allocations at present, by transport", &["transport"]);
const ALLOCATED: Declaration =
    ("sluice_turn_allocations_total", "TURN allocations made, by transport", &["transport"]);
const CHALLENGED: Declaration =
    ("sluice_turn_challenges_total", "TURN requests without a credential, told how to bring one", &[]);
const REFUSED: Declaration =
    ("sluice_turn_requests_refused_total", "TURN requests answered with an error, by reason", &["reason"]);
const PACKETS: Declaration =
    ("sluice_turn_packets_total", "Packets relayed by TURN, by direction", &["direction"]);
const BYTES: Declaration = ("sluice_turn_bytes_total", "Their payload, by direction", &["direction"]);
const DROPPED: Declaration =
    ("sluice_turn_packets_dropped_total", "Packets that TURN did not relay, by reason", &["reason"]);
const CONNECTIONS: Declaration =
    ("sluice_turn_connections", "TCP and TLS connections to the TURN server at present", &["transport"]);
const CONNECTIONS_REFUSED: Declaration = (
    "sluice_turn_connections_refused_total",
    "TCP and TLS connections that the TURN server refused or closed, by reason",
    &["reason"],
);

const ALL: [Declaration; 9] =
    [ALLOCATIONS, ALLOCATED, CHALLENGED, REFUSED, PACKETS, BYTES, DROPPED, CONNECTIONS, CONNECTIONS_REFUSED];

/// Reads the thread's latest counts at each scrape.
pub(super) struct Collector {
    stats: SharedStats,
    descriptions: Vec<Desc>,
}

impl Collector {
    pub(super) fn new(stats: SharedStats) -> prometheus::Result<Collector> {
        let descriptions: prometheus::Result<Vec<Desc>> = ALL.iter().map(description).collect();
        Ok(Collector { stats, descriptions: descriptions? })
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let protocol = &stats.protocol;
        let ways = |counts: [u64; 3]| Transport::ALL.map(|way| ([way.name()], counts[way as usize]));
        let mut dropped: Vec<_> =
            Drop::ALL.iter().map(|why| ([why.name()], protocol.dropped[*why as usize])).collect();
        dropped.extend([
            (["stranger"], stats.strangers),
            (["queue_full"], stats.queue_full),
            (["not_sent"], stats.not_sent),
        ]);
        vec![
            gauges(ALLOCATIONS, ways(protocol.allocations)),
            counters(ALLOCATED, ways(protocol.allocated)),
            counters(CHALLENGED, [([], protocol.challenged)]),
            counters(REFUSED, Refusal::ALL.map(|why| ([why.name()], protocol.refused[why as usize]))),
            counters(PACKETS, [(["in"], protocol.inward.packets), (["out"], protocol.outward.packets)]),
            counters(BYTES, [(["in"], protocol.inward.bytes), (["out"], protocol.outward.bytes)]),
            counters(DROPPED, dropped),
            gauges(CONNECTIONS, [(["tcp"], stats.connections[0]), (["tls"], stats.connections[1])]),
            counters(
                CONNECTIONS_REFUSED,
                Refused::ALL.map(|why| ([why.name()], stats.refused[why as usize])),
            ),
        ]
    }
}
