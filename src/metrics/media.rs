//! The workers' counts as metrics: summed over workers at each scrape.

use std::sync::PoisonError;

use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use sfu::command::PeerEnd;
use sfu::stats::{
    ByKind, DataTrackDrop, DropReason, ENDS, FeedbackRefusal, Histogram, KeyframeRefusal, NackRefusal,
};

use super::SharedStats;
use crate::media::stats::MediaStats;

/// A metric's name, its help text and its labels.
pub(super) type Declaration = (&'static str, &'static str, &'static [&'static str]);

const PACKETS: Declaration = (
    "sluice_media_packets_total",
    "Packets on the media ports, by direction and kind",
    &["direction", "kind"],
);
const BYTES: Declaration = (
    "sluice_media_bytes_total",
    "UDP payload on the media ports, by direction and kind",
    &["direction", "kind"],
);
const DROPPED: Declaration =
    ("sluice_media_packets_dropped_total", "Packets received and not forwarded, by reason", &["reason"]);
const NACKS: Declaration = (
    "sluice_media_nacks_total",
    "Packets asked for again by negative acknowledgement, by direction",
    &["direction"],
);
const NACKS_REFUSED: Declaration = (
    "sluice_media_nacks_refused_total",
    "Packets that subscribers asked for again and that were not resent, by reason",
    &["reason"],
);
const FEEDBACK_REFUSED: Declaration = (
    "sluice_media_feedback_refused_total",
    "Subscribers' transport-wide reports that were not believed, or packets in them, by reason",
    &["reason"],
);
const PLIS_REFUSED: Declaration = (
    "sluice_media_keyframe_requests_refused_total",
    "Subscribers' PLI and FIR that were not heeded, by reason",
    &["reason"],
);
const PLIS: Declaration =
    ("sluice_media_keyframe_requests_total", "PLI and FIR, by direction", &["direction"]);
const RETRANSMISSIONS: Declaration =
    ("sluice_media_retransmissions_total", "Packets that were sent again, by direction", &["direction"]);
const REDUNDANT: Declaration =
    ("sluice_audio_redundant_packets_total", "Audio packets sent with earlier ones in them (RED)", &[]);
const RECOVERED: Declaration = (
    "sluice_audio_recovered_packets_total",
    "Audio packets lost on their way from publishers and found in later ones (RED)",
    &[],
);
const DELAY: Declaration = (
    "sluice_media_delay_seconds",
    "From socket read to socket write of a forwarded packet, pacing included",
    &[],
);
const SWITCHES: Declaration =
    ("sluice_layer_switches_total", "Changes of a video subscription's layer, by direction", &["direction"]);
const ESTIMATE: Declaration = (
    "sluice_subscriber_bandwidth_bits_per_second",
    "Estimates of what subscribers can take, one every five seconds each",
    &[],
);
const CONNECTIONS: Declaration =
    ("sluice_peer_connections", "Peer connections at present; a participant has one or two", &[]);
const PUBLISHED: Declaration = ("sluice_published_tracks", "Published tracks at present, by kind", &["kind"]);
const SUBSCRIBED: Declaration = ("sluice_subscribed_tracks", "Subscriptions at present, by kind", &["kind"]);
const ICE: Declaration =
    ("sluice_ice_failures_total", "Connections lost or never made, by reason", &["reason"]);
const DTLS: Declaration =
    ("sluice_dtls_failures_total", "DTLS handshakes that failed, by reason", &["reason"]);
const LAG: Declaration = ("sluice_worker_lag_seconds", "How late a worker's loop comes to a deadline", &[]);
const BUSY: Declaration =
    ("sluice_worker_busy_seconds_total", "Time that workers used of what they could have had", &[]);
const RESTRAINT: Declaration = (
    "sluice_worker_restraint",
    "Steps by which the worker that is worst off holds video back for lack of time, 0 to 16",
    &[],
);
const SEND_CALLS: Declaration = ("sluice_udp_send_calls_total", "System calls that send datagrams", &[]);
const SEND_MESSAGES: Declaration = (
    "sluice_udp_send_messages_total",
    "Messages in those calls: runs of datagrams for one client that the kernel was given as one",
    &[],
);
const SEND_DROPPED: Declaration =
    ("sluice_udp_send_dropped_total", "Datagrams that the kernel did not take, by reason", &["reason"]);
const TCP_DROPPED: Declaration = (
    "sluice_tcp_packets_dropped_total",
    "Datagrams for clients over TCP that were not sent, by reason",
    &["reason"],
);
const DATA_DROPPED: Declaration = (
    "sluice_data_messages_dropped_total",
    "Messages of data channels dropped since their room did not keep up",
    &[],
);
const DATA_TRACK_PACKETS: Declaration =
    ("sluice_data_track_packets_total", "Packets of data tracks, by direction", &["direction"]);
const DATA_TRACK_BYTES: Declaration =
    ("sluice_data_track_bytes_total", "Bytes of data tracks' packets, by direction", &["direction"]);
const DATA_TRACK_DROPPED: Declaration = (
    "sluice_data_track_packets_dropped_total",
    "Packets of data tracks not forwarded, or not to one of their subscribers, by reason",
    &["reason"],
);
const OVERRUN: Declaration =
    ("sluice_rooms_overrun_total", "Rooms closed since they did not take their events", &[]);

const ALL: [Declaration; 30] = [
    PACKETS,
    BYTES,
    DROPPED,
    NACKS,
    NACKS_REFUSED,
    FEEDBACK_REFUSED,
    PLIS,
    PLIS_REFUSED,
    RETRANSMISSIONS,
    REDUNDANT,
    RECOVERED,
    DELAY,
    SWITCHES,
    ESTIMATE,
    CONNECTIONS,
    PUBLISHED,
    SUBSCRIBED,
    ICE,
    DTLS,
    LAG,
    BUSY,
    RESTRAINT,
    SEND_CALLS,
    SEND_DROPPED,
    TCP_DROPPED,
    DATA_DROPPED,
    DATA_TRACK_PACKETS,
    DATA_TRACK_BYTES,
    DATA_TRACK_DROPPED,
    OVERRUN,
];

/// Reads the workers' copies.
pub(super) struct Collector {
    workers: Vec<SharedStats>,
    descriptions: Vec<Desc>,
}

/// A declaration as `prometheus` wants it.
pub(super) fn description((name, help, labels): &Declaration) -> prometheus::Result<Desc> {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Desc::new((*name).to_owned(), (*help).to_owned(), labels, std::collections::HashMap::new())
}

impl Collector {
    pub(super) fn new(workers: Vec<SharedStats>) -> prometheus::Result<Collector> {
        Ok(Collector { workers, descriptions: ALL.iter().map(description).collect::<Result<_, _>>()? })
    }

    fn total(&self) -> MediaStats {
        let mut total = MediaStats::default();
        for worker in &self.workers {
            // A worker that panicked has left whole numbers.
            add(&mut total, &worker.lock().unwrap_or_else(PoisonError::into_inner));
        }
        total
    }
}

fn add(total: &mut MediaStats, part: &MediaStats) {
    let (core, more) = (&mut total.core, &part.core);
    for (sum, part) in [
        (&mut core.received.audio, more.received.audio),
        (&mut core.received.video, more.received.video),
        (&mut core.sent.audio, more.sent.audio),
        (&mut core.sent.video, more.sent.video),
        (&mut core.rtcp.0, more.rtcp.0),
        (&mut core.rtcp.1, more.rtcp.1),
        (&mut core.padding, more.padding),
        (&mut core.data_tracks.0, more.data_tracks.0),
        (&mut core.data_tracks.1, more.data_tracks.1),
    ] {
        sum.packets += part.packets;
        sum.bytes += part.bytes;
    }
    for (sum, part) in [
        (&mut core.peers, more.peers),
        (&mut core.tracks.audio, more.tracks.audio),
        (&mut core.tracks.video, more.tracks.video),
        (&mut core.subscriptions.audio, more.subscriptions.audio),
        (&mut core.subscriptions.video, more.subscriptions.video),
        (&mut core.nacks.0, more.nacks.0),
        (&mut core.nacks.1, more.nacks.1),
        (&mut core.plis.0, more.plis.0),
        (&mut core.plis.1, more.plis.1),
        (&mut core.retransmissions.0, more.retransmissions.0),
        (&mut core.retransmissions.1, more.retransmissions.1),
        (&mut core.redundant, more.redundant),
        (&mut core.recovered, more.recovered),
        (&mut core.switches.0, more.switches.0),
        (&mut core.switches.1, more.switches.1),
        (&mut total.send_calls, part.send_calls),
        (&mut total.send_messages, part.send_messages),
        (&mut total.send_no_room, part.send_no_room),
        (&mut total.send_unreachable, part.send_unreachable),
        (&mut total.data_dropped, part.data_dropped),
        (&mut total.rooms_overrun, part.rooms_overrun),
    ] {
        *sum += part;
    }
    total.busy += part.busy;
    total.restraint = total.restraint.max(part.restraint);
    add_all(&mut total.tcp_dropped, &part.tcp_dropped);
    add_all(&mut core.dropped, &more.dropped);
    add_all(&mut core.nacks_refused, &more.nacks_refused);
    add_all(&mut core.feedback_refused, &more.feedback_refused);
    add_all(&mut core.plis_refused, &more.plis_refused);
    add_all(&mut core.data_tracks_dropped, &more.data_tracks_dropped);
    add_all(&mut core.ended, &more.ended);
    add_histogram(&mut core.forward_delay, &more.forward_delay);
    add_histogram(&mut core.estimate, &more.estimate);
    add_histogram(&mut total.lag, &part.lag);
}

fn add_all(total: &mut [u64], part: &[u64]) {
    for (sum, part) in total.iter_mut().zip(part) {
        *sum += part;
    }
}

fn add_histogram<const N: usize>(total: &mut Histogram<N>, part: &Histogram<N>) {
    add_all(&mut total.counts, &part.counts);
    total.above += part.above;
    total.sum += part.sum;
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let total = self.total();
        let core = &total.core;
        let ways = |(received, sent)| [(["in"], received), (["out"], sent)];
        let kinds = |counts: ByKind<u64>| [(["audio"], counts.audio), (["video"], counts.video)];
        let traffic = [
            (["in", "audio"], core.received.audio),
            (["in", "video"], core.received.video),
            (["in", "rtcp"], core.rtcp.0),
            (["out", "audio"], core.sent.audio),
            (["out", "video"], core.sent.video),
            (["out", "rtcp"], core.rtcp.1),
            (["out", "padding"], core.padding),
        ];
        let ends = |part| {
            let named = ENDS.into_iter().zip(core.ended);
            named.filter(move |((end, _), _)| part_of(*end) == part).map(|((_, name), count)| ([name], count))
        };
        vec![
            counters(PACKETS, traffic.map(|(labels, traffic)| (labels, traffic.packets))),
            counters(BYTES, traffic.map(|(labels, traffic)| (labels, traffic.bytes))),
            counters(
                DROPPED,
                DropReason::ALL.map(|reason| ([reason.as_str()], core.dropped[reason as usize])),
            ),
            counters(NACKS, ways(core.nacks)),
            counters(
                NACKS_REFUSED,
                NackRefusal::ALL.map(|reason| ([reason.as_str()], core.nacks_refused[reason as usize])),
            ),
            counters(
                FEEDBACK_REFUSED,
                FeedbackRefusal::ALL
                    .map(|reason| ([reason.as_str()], core.feedback_refused[reason as usize])),
            ),
            counters(PLIS, ways(core.plis)),
            counters(
                PLIS_REFUSED,
                KeyframeRefusal::ALL.map(|reason| ([reason.as_str()], core.plis_refused[reason as usize])),
            ),
            counters(RETRANSMISSIONS, ways(core.retransmissions)),
            counters(REDUNDANT, [([], core.redundant)]),
            counters(RECOVERED, [([], core.recovered)]),
            histogram(DELAY, &core.forward_delay),
            counters(SWITCHES, [(["up"], core.switches.0), (["down"], core.switches.1)]),
            histogram(ESTIMATE, &core.estimate),
            gauges(CONNECTIONS, [([], core.peers)]),
            gauges(PUBLISHED, kinds(core.tracks)),
            gauges(SUBSCRIBED, kinds(core.subscriptions)),
            counters(ICE, ends(Part::Ice)),
            counters(DTLS, ends(Part::Dtls)),
            histogram(LAG, &total.lag),
            seconds(BUSY, total.busy),
            gauges(RESTRAINT, [([], total.restraint.into())]),
            counters(SEND_CALLS, [([], total.send_calls)]),
            counters(SEND_MESSAGES, [([], total.send_messages)]),
            counters(
                SEND_DROPPED,
                [(["no_room"], total.send_no_room), (["unreachable"], total.send_unreachable)],
            ),
            counters(
                TCP_DROPPED,
                [(["queue_full"], total.tcp_dropped[0]), (["no_connection"], total.tcp_dropped[1])],
            ),
            counters(DATA_DROPPED, [([], total.data_dropped)]),
            counters(DATA_TRACK_PACKETS, ways((core.data_tracks.0.packets, core.data_tracks.1.packets))),
            counters(DATA_TRACK_BYTES, ways((core.data_tracks.0.bytes, core.data_tracks.1.bytes))),
            counters(
                DATA_TRACK_DROPPED,
                DataTrackDrop::ALL
                    .map(|reason| ([reason.as_str()], core.data_tracks_dropped[reason as usize])),
            ),
            counters(OVERRUN, [([], total.rooms_overrun)]),
        ]
    }
}

/// Which part of a connection failed when it ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Ice,
    Dtls,
    /// The client closed it.
    None,
}

const fn part_of(end: PeerEnd) -> Part {
    match end {
        PeerEnd::ConsentExpired | PeerEnd::NeverConnected => Part::Ice,
        PeerEnd::FingerprintMismatch | PeerEnd::HandshakeFailed => Part::Dtls,
        PeerEnd::ClosedByPeer => Part::None,
    }
}

pub(super) fn counters<const N: usize>(
    declaration: Declaration,
    samples: impl IntoIterator<Item = ([&'static str; N], u64)>,
) -> MetricFamily {
    family(declaration, MetricType::COUNTER, samples, |metric, count| {
        let mut counter = Counter::default();
        counter.set_value(count as f64);
        metric.set_counter(counter);
    })
}

fn seconds(declaration: Declaration, sum: f64) -> MetricFamily {
    family(declaration, MetricType::COUNTER, [([], sum)], |metric, sum| {
        let mut counter = Counter::default();
        counter.set_value(sum);
        metric.set_counter(counter);
    })
}

pub(super) fn gauges<const N: usize>(
    declaration: Declaration,
    samples: impl IntoIterator<Item = ([&'static str; N], u64)>,
) -> MetricFamily {
    family(declaration, MetricType::GAUGE, samples, |metric, count| {
        let mut gauge = Gauge::default();
        gauge.set_value(count as f64);
        metric.set_gauge(gauge);
    })
}

fn histogram<const N: usize>(declaration: Declaration, histogram: &Histogram<N>) -> MetricFamily {
    family(declaration, MetricType::HISTOGRAM, [([], histogram)], |metric, histogram| {
        let mut sum = 0;
        let buckets = histogram.bounds.into_iter().zip(histogram.counts).map(|(bound, count)| {
            sum += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(sum);
            bucket
        });
        let mut out = prometheus::proto::Histogram::default();
        out.set_bucket(buckets.collect());
        out.set_sample_count(sum_of(histogram));
        out.set_sample_sum(histogram.sum);
        metric.set_histogram(out);
    })
}

fn sum_of<const N: usize>(histogram: &Histogram<N>) -> u64 {
    histogram.counts.iter().sum::<u64>() + histogram.above
}

fn family<const N: usize, T>(
    (name, help, label_names): Declaration,
    kind: MetricType,
    samples: impl IntoIterator<Item = ([&'static str; N], T)>,
    set: impl Fn(&mut Metric, T),
) -> MetricFamily {
    let metrics = samples.into_iter().map(|(labels, value)| {
        let labels = label_names.iter().zip(labels).map(|(&name, value)| {
            let mut label = LabelPair::default();
            label.set_name(name.to_owned());
            label.set_value(value.to_owned());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        set(&mut metric, value);
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.collect());
    family
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::Metrics;
    use super::*;
    use sfu::stats::Traffic;

    /// A worker that has counted something everywhere.
    fn busy() -> MediaStats {
        let mut stats = MediaStats::default();
        let core = &mut stats.core;
        core.received.video = Traffic { packets: 10, bytes: 12_000 };
        core.sent.audio = Traffic { packets: 20, bytes: 1600 };
        core.rtcp.1 = Traffic { packets: 2, bytes: 100 };
        core.dropped[DropReason::Muted as usize] = 3;
        core.nacks = (4, 5);
        core.nacks_refused[NackRefusal::Budget as usize] = 18;
        core.feedback_refused[FeedbackRefusal::NotSent as usize] = 19;
        core.plis_refused[KeyframeRefusal::Flood as usize] = 20;
        core.plis = (6, 1);
        core.retransmissions = (7, 8);
        (core.redundant, core.recovered) = (16, 17);
        core.data_tracks = (Traffic { packets: 21, bytes: 210 }, Traffic { packets: 22, bytes: 220 });
        core.data_tracks_dropped[DataTrackDrop::Overflow as usize] = 23;
        core.switches = (2, 9);
        core.forward_delay.observe(0.0007);
        core.estimate.observe(600_000.0);
        core.estimate.observe(1e9);
        core.peers = 5;
        core.tracks = ByKind { audio: 1, video: 2 };
        core.subscriptions = ByKind { audio: 3, video: 4 };
        core.ended = [1, 2, 3, 4, 5];
        stats.lag.observe(0.0007);
        (stats.busy, stats.restraint) = (1.25, 6);
        stats.send_calls = 11;
        stats.send_messages = 16;
        stats.send_no_room = 12;
        stats.send_unreachable = 13;
        stats.tcp_dropped = [21, 22];
        stats.data_dropped = 14;
        stats.rooms_overrun = 15;
        stats
    }

    #[test]
    fn the_counts_of_all_workers_are_added_up() {
        let workers = vec![Arc::new(Mutex::new(busy())), Arc::new(Mutex::new(busy()))];
        let text = String::from_utf8(Metrics::new(workers).unwrap().render()).unwrap();
        for line in [
            "sluice_media_packets_total{direction=\"in\",kind=\"video\"} 20",
            "sluice_media_packets_total{direction=\"out\",kind=\"audio\"} 40",
            "sluice_media_bytes_total{direction=\"in\",kind=\"video\"} 24000",
            "sluice_media_packets_total{direction=\"out\",kind=\"rtcp\"} 4",
            "sluice_media_packets_dropped_total{reason=\"muted\"} 6",
            "sluice_media_nacks_total{direction=\"in\"} 8",
            "sluice_media_nacks_total{direction=\"out\"} 10",
            "sluice_media_nacks_refused_total{reason=\"budget\"} 36",
            "sluice_media_feedback_refused_total{reason=\"not_sent\"} 38",
            "sluice_media_keyframe_requests_total{direction=\"out\"} 2",
            "sluice_media_keyframe_requests_refused_total{reason=\"flood\"} 40",
            "sluice_media_retransmissions_total{direction=\"out\"} 16",
            "sluice_audio_redundant_packets_total 32",
            "sluice_audio_recovered_packets_total 34",
            "sluice_media_delay_seconds_bucket{le=\"0.001\"} 2",
            "sluice_media_delay_seconds_bucket{le=\"0.0005\"} 0",
            "sluice_media_delay_seconds_count 2",
            "sluice_layer_switches_total{direction=\"up\"} 4",
            "sluice_layer_switches_total{direction=\"down\"} 18",
            "sluice_subscriber_bandwidth_bits_per_second_bucket{le=\"1000000\"} 2",
            "sluice_subscriber_bandwidth_bits_per_second_bucket{le=\"+Inf\"} 4",
            "sluice_peer_connections 10",
            "sluice_published_tracks{kind=\"video\"} 4",
            "sluice_subscribed_tracks{kind=\"audio\"} 6",
            "sluice_ice_failures_total{reason=\"never_connected\"} 4",
            "sluice_dtls_failures_total{reason=\"handshake_failed\"} 8",
            "sluice_worker_lag_seconds_bucket{le=\"0.001\"} 2",
            "sluice_worker_busy_seconds_total 2.5",
            "sluice_worker_restraint 6",
            "sluice_udp_send_calls_total 22",
            "sluice_udp_send_messages_total 32",
            "sluice_udp_send_dropped_total{reason=\"no_room\"} 24",
            "sluice_udp_send_dropped_total{reason=\"unreachable\"} 26",
            "sluice_tcp_packets_dropped_total{reason=\"queue_full\"} 42",
            "sluice_tcp_packets_dropped_total{reason=\"no_connection\"} 44",
            "sluice_data_messages_dropped_total 28",
            "sluice_data_track_packets_total{direction=\"in\"} 42",
            "sluice_data_track_packets_total{direction=\"out\"} 44",
            "sluice_data_track_bytes_total{direction=\"out\"} 440",
            "sluice_data_track_packets_dropped_total{reason=\"overflow\"} 46",
            "sluice_rooms_overrun_total 30",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }
}
