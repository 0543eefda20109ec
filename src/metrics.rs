//! Every exported metric, declared once. Names are a public interface: renaming one is a breaking change.
//!
//! Signalling counts as it goes, in `prometheus` types; workers count in plain integers, which they copy out once a
//! second and [`media::Collector`] reads. Labels are closed lists, never a value that a client chose.

mod media;
mod tcp;
mod turn;

use std::sync::{Arc, Mutex};

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use signaling::whip::Protocol;

use crate::agents::AgentMetrics;
use crate::media::stats::MediaStats;
use crate::media::tcp::Places;
use crate::webhooks::WebhookMetrics;

/// A worker's latest copy of its counts.
pub type SharedStats = Arc<Mutex<MediaStats>>;

/// Seconds from a join's request to its first media: a fast local call to the patience of a person.
const JOIN_BUCKETS: [f64; 11] = [0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

/// The metrics of signalling, and the registry of all.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Rooms at present.
    pub rooms: IntGauge,
    /// Participants at present.
    pub participants: IntGauge,
    /// From the request to join to the first media packet.
    pub join_duration: Histogram,
    /// Signal messages of clients.
    pub signals_received: IntCounter,
    /// Signal messages to clients.
    pub signals_sent: IntCounter,
    /// Open WebSockets.
    pub websockets: IntGauge,
    /// Clients disconnected since they did not read what was sent.
    pub slow_clients: IntCounter,
    /// Clients that came back and kept their place.
    pub resumed: IntCounter,
    /// Clients that had to join anew.
    pub resumes_refused: IntCounter,
    /// Webhooks.
    pub webhooks: WebhookMetrics,
    /// Agents.
    pub agents: AgentMetrics,
    refused: IntCounterVec,
    limits: IntCounterVec,
    data_refused: IntCounterVec,
    api: IntCounterVec,
    whip_sessions: IntGaugeVec,
    whip_requests: IntCounterVec,
}

impl Metrics {
    /// Registers everything. `workers` are read at each scrape.
    ///
    /// # Errors
    /// Two metrics share a name, which a test would have found.
    pub fn new(workers: Vec<SharedStats>) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let rooms = IntGauge::new("sluice_rooms", "Rooms at present")?;
        let participants = IntGauge::new("sluice_participants", "Participants at present")?;
        let join_duration = Histogram::with_opts(
            HistogramOpts::new(
                "sluice_join_duration_seconds",
                "From the request to join to the first media packet",
            )
            .buckets(JOIN_BUCKETS.to_vec()),
        )?;
        let signals = IntCounterVec::new(
            Opts::new("sluice_signal_messages_total", "Signal messages on WebSockets, by direction"),
            &["direction"],
        )?;
        let websockets = IntGauge::new("sluice_websocket_connections", "Open WebSockets")?;
        let slow_clients = IntCounter::new(
            "sluice_slow_clients_total",
            "Clients disconnected since they did not read what was sent to them",
        )?;
        let refused = IntCounterVec::new(
            Opts::new("sluice_joins_refused_total", "Requests to join that were refused, by HTTP status"),
            &["status"],
        )?;
        let limits = IntCounterVec::new(
            Opts::new("sluice_limit_hits_total", "What was refused since there is enough of it, by limit"),
            &["limit"],
        )?;
        let data_refused = IntCounterVec::new(
            Opts::new(
                "sluice_data_messages_refused_total",
                "Data messages that were not forwarded, by reason",
            ),
            &["reason"],
        )?;
        let resumes = IntCounterVec::new(
            Opts::new("sluice_resumes_total", "Requests to resume on a new WebSocket, by outcome"),
            &["outcome"],
        )?;
        let api = IntCounterVec::new(
            Opts::new("sluice_api_requests_total", "Calls of the server API, by method and Twirp code"),
            &["method", "code"],
        )?;
        let whip_sessions = IntGaugeVec::new(
            Opts::new("sluice_whip_sessions", "Sessions over HTTP at present, by protocol"),
            &["protocol"],
        )?;
        let whip_requests = IntCounterVec::new(
            Opts::new(
                "sluice_whip_requests_total",
                "Requests of WHIP and WHEP, by protocol, method and status",
            ),
            &["protocol", "method", "status"],
        )?;
        for protocol in Protocol::ALL {
            whip_sessions.with_label_values(&[protocol.name()]).set(0);
        }
        let build = IntGaugeVec::new(
            Opts::new("sluice_build_info", "Always 1; the labels tell the build"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        registry.register(Box::new(rooms.clone()))?;
        registry.register(Box::new(participants.clone()))?;
        registry.register(Box::new(join_duration.clone()))?;
        registry.register(Box::new(signals.clone()))?;
        registry.register(Box::new(websockets.clone()))?;
        registry.register(Box::new(slow_clients.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        registry.register(Box::new(limits.clone()))?;
        registry.register(Box::new(data_refused.clone()))?;
        registry.register(Box::new(resumes.clone()))?;
        registry.register(Box::new(api.clone()))?;
        registry.register(Box::new(whip_sessions.clone()))?;
        registry.register(Box::new(whip_requests.clone()))?;
        registry.register(Box::new(build))?;
        registry.register(Box::new(media::Collector::new(workers)?))?;
        let webhooks = WebhookMetrics::register(&registry)?;
        let agents = AgentMetrics::register(&registry)?;
        Ok(Metrics {
            registry,
            webhooks,
            agents,
            rooms,
            participants,
            join_duration,
            signals_received: signals.with_label_values(&["in"]),
            signals_sent: signals.with_label_values(&["out"]),
            websockets,
            slow_clients,
            resumed: resumes.with_label_values(&["resumed"]),
            resumes_refused: resumes.with_label_values(&["refused"]),
            refused,
            limits,
            data_refused,
            api,
            whip_sessions,
            whip_requests,
        })
    }

    /// Exports the TURN server's counts, too.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn add_turn(&self, stats: crate::turn::SharedStats) -> prometheus::Result<()> {
        self.registry.register(Box::new(turn::Collector::new(stats)?))
    }

    /// Exports the counts of TCP connections for media, too.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn add_tcp(&self, places: Arc<Places>) -> prometheus::Result<()> {
        self.registry.register(Box::new(tcp::Collector::new(places)?))
    }

    /// Counts a request to join that was refused. Statuses are ours, so the label stays within a few values.
    pub fn join_refused(&self, status: u16) {
        self.refused.with_label_values(&[status.to_string().as_str()]).inc();
    }

    /// Counts what was refused since there is enough of it. Names are of closed lists.
    pub fn limit_hit(&self, limit: &'static str) {
        self.limits.with_label_values(&[limit]).inc();
    }

    /// Counts a data message that was not forwarded. Reasons are of a closed list.
    pub fn data_refused(&self, reason: &'static str) {
        self.data_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a call of the server API. Method and code are of closed lists: `none` stands for no method, `ok` for success.
    pub fn api_called(&self, method: &'static str, code: &'static str) {
        self.api.with_label_values(&[method, code]).inc();
    }

    /// A session over HTTP began.
    pub fn whip_session_began(&self, protocol: Protocol) {
        self.whip_sessions.with_label_values(&[protocol.name()]).inc();
    }

    /// It ended.
    pub fn whip_session_ended(&self, protocol: Protocol) {
        self.whip_sessions.with_label_values(&[protocol.name()]).dec();
    }

    /// Counts a request over HTTP. Methods are of a closed list, with `other` for the rest; statuses are ours.
    pub fn whip_requested(&self, protocol: Protocol, method: &'static str, status: u16) {
        self.whip_requests.with_label_values(&[protocol.name(), method, status.to_string().as_str()]).inc();
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render()).unwrap()
    }

    #[test]
    fn metrics_of_signalling_move() {
        let metrics = Metrics::new(Vec::new()).unwrap();
        metrics.rooms.inc();
        metrics.participants.set(3);
        metrics.join_duration.observe(0.25);
        metrics.signals_received.inc();
        metrics.signals_sent.inc_by(2);
        metrics.websockets.inc();
        metrics.slow_clients.inc();
        metrics.resumed.inc();
        metrics.join_refused(401);
        metrics.limit_hit("rooms");
        metrics.data_refused("not_allowed");
        metrics.api_called("CreateRoom", "ok");
        metrics.whip_session_began(Protocol::Whip);
        metrics.whip_session_began(Protocol::Whep);
        metrics.whip_session_ended(Protocol::Whep);
        metrics.whip_requested(Protocol::Whip, "POST", 201);
        let text = text(&metrics);
        for line in [
            "sluice_rooms 1",
            "sluice_participants 3",
            "sluice_join_duration_seconds_bucket{le=\"0.3\"} 1",
            "sluice_signal_messages_total{direction=\"in\"} 1",
            "sluice_signal_messages_total{direction=\"out\"} 2",
            "sluice_websocket_connections 1",
            "sluice_slow_clients_total 1",
            "sluice_joins_refused_total{status=\"401\"} 1",
            "sluice_limit_hits_total{limit=\"rooms\"} 1",
            "sluice_data_messages_refused_total{reason=\"not_allowed\"} 1",
            "sluice_api_requests_total{code=\"ok\",method=\"CreateRoom\"} 1",
            "sluice_whip_sessions{protocol=\"whip\"} 1",
            "sluice_whip_sessions{protocol=\"whep\"} 0",
            "sluice_whip_requests_total{method=\"POST\",protocol=\"whip\",status=\"201\"} 1",
            "sluice_resumes_total{outcome=\"resumed\"} 1",
            "sluice_resumes_total{outcome=\"refused\"} 0",
            concat!("sluice_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn every_metric_has_a_help_text_and_a_line_in_the_documentation() {
        let metrics = Metrics::new(vec![SharedStats::default()]).unwrap();
        metrics.join_refused(503);
        metrics.limit_hit("rooms");
        metrics.data_refused("too_fast");
        metrics.api_called("ListRooms", "ok");
        metrics.add_turn(crate::turn::SharedStats::default()).unwrap();
        metrics.add_tcp(Places::new(crate::config::Settings::test().media.tcp)).unwrap();
        metrics.whip_requested(Protocol::Whep, "other", 405);
        metrics.webhooks.attempt_failed(crate::webhooks::FailureKind::Timeout);
        let (text, page) = (text(&metrics), include_str!("../docs/metrics.md"));
        let names = || text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in names() {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
        assert_eq!(
            names().count(),
            page.matches("| `sluice_").count(),
            "no metric is described that is not there"
        );
    }
}
