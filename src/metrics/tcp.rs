//! Connections of clients whose media comes over TCP, as metrics.

use std::sync::Arc;

use prometheus::core::Desc;
use prometheus::proto::MetricFamily;

use super::media::{Declaration, counters, description, gauges};
use crate::media::tcp::{Places, Refused};

const CONNECTIONS: Declaration = ("sluice_tcp_connections", "TCP connections for media at present", &[]);
const REFUSED: Declaration = (
    "sluice_tcp_connections_refused_total",
    "TCP connections for media that were refused or closed, by reason",
    &["reason"],
);

const ALL: [Declaration; 2] = [CONNECTIONS, REFUSED];

/// Reads the counts at each scrape.
pub(super) struct Collector {
    places: Arc<Places>,
    descriptions: Vec<Desc>,
}

impl Collector {
    pub(super) fn new(places: Arc<Places>) -> prometheus::Result<Collector> {
        let descriptions: prometheus::Result<Vec<Desc>> = ALL.iter().map(description).collect();
        Ok(Collector { places, descriptions: descriptions? })
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = self.places.stats();
        vec![
            gauges(CONNECTIONS, [([], stats.connections)]),
            counters(REFUSED, Refused::ALL.map(|why| ([why.name()], stats.refused[why as usize]))),
        ]
    }
}
