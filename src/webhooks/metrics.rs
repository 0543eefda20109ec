//! Metrics of webhooks.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Seconds from the queue to the receiver's answer: one round trip to a day of retries.
const DELIVERY_BUCKETS: [f64; 12] =
    [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 300.0, 1800.0, 14400.0, 86400.0];

/// Why an attempt failed: the label of [`WebhookMetrics::attempt_failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The address is not one that webhooks may go to.
    Refused,
    /// The name has no address.
    Resolve,
    /// No connection, or TLS did not agree.
    Connect,
    /// No answer in time.
    Timeout,
    /// An answer that is not 2xx.
    Status,
    /// The connection ended without an answer.
    Broken,
    /// The event could not be read from the disk.
    Disk,
}

impl FailureKind {
    const fn name(self) -> &'static str {
        match self {
            FailureKind::Refused => "refused",
            FailureKind::Resolve => "resolve",
            FailureKind::Connect => "connect",
            FailureKind::Timeout => "timeout",
            FailureKind::Status => "status",
            FailureKind::Broken => "broken",
            FailureKind::Disk => "disk",
        }
    }
}

/// See `docs/metrics.md`.
#[derive(Clone)]
pub struct WebhookMetrics {
    /// Events of rooms, before anything can happen to them.
    pub events: IntCounter,
    /// Deliveries that wait on the disk.
    pub queued: IntGauge,
    /// Given up, on the disk.
    pub failed: IntGauge,
    /// Bytes of both.
    pub disk: IntGauge,
    /// Age of the oldest that waits.
    pub oldest_age: IntGauge,
    /// Answered with 2xx.
    pub delivered: IntCounter,
    /// Given up.
    pub given_up: IntCounter,
    /// From the queue to the answer.
    pub delivery: Histogram,
    /// Lost since the disk was slower than the rooms.
    pub dropped_handover: IntCounter,
    /// Lost since the queue's cap was reached.
    pub dropped_full: IntCounter,
    /// Failed ones that made space for new ones.
    pub dropped_failed: IntCounter,
    /// Writes that failed, to be tried again.
    pub write_errors: IntCounter,
    attempts_failed: IntCounterVec,
}

impl WebhookMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// Two metrics share a name, which a test would have found.
    pub fn register(registry: &Registry) -> prometheus::Result<WebhookMetrics> {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counters = |name, help, label| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let dropped = counters("sluice_webhook_dropped_total", "Events that were lost, by reason", "reason")?;
        let delivery = Histogram::with_opts(
            HistogramOpts::new(
                "sluice_webhook_delivery_seconds",
                "From the queue to the receiver's answer, attempts that failed included",
            )
            .buckets(DELIVERY_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(delivery.clone()))?;
        Ok(WebhookMetrics {
            events: counter("sluice_webhook_events_total", "Events of rooms")?,
            queued: gauge("sluice_webhook_queued", "Deliveries that wait on the disk")?,
            failed: gauge("sluice_webhook_failed", "Deliveries that were given up, on the disk")?,
            disk: gauge("sluice_webhook_disk_bytes", "Bytes of what waits and what was given up")?,
            oldest_age: gauge(
                "sluice_webhook_oldest_age_seconds",
                "Age of the oldest delivery that waits; 0 without one",
            )?,
            delivered: counter("sluice_webhook_delivered_total", "Deliveries that were answered with 2xx")?,
            given_up: counter("sluice_webhook_given_up_total", "Deliveries that were given up")?,
            delivery,
            dropped_handover: dropped.with_label_values(&["hand_over"]),
            dropped_full: dropped.with_label_values(&["disk_full"]),
            dropped_failed: dropped.with_label_values(&["failed_list"]),
            write_errors: counter(
                "sluice_webhook_write_errors_total",
                "Writes to the queue's file that failed",
            )?,
            attempts_failed: counters(
                "sluice_webhook_attempts_failed_total",
                "Attempts that failed, by reason",
                "reason",
            )?,
        })
    }

    /// Counts an attempt that failed.
    pub fn attempt_failed(&self, kind: FailureKind) {
        self.attempts_failed.with_label_values(&[kind.name()]).inc();
    }
}
