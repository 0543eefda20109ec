//! Metrics of agents.

use livekit_protocol::JobStatus;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use signaling::agents::{Notice, Pool};

/// See `docs/metrics.md`.
#[derive(Clone)]
pub struct AgentMetrics {
    workers: IntGauge,
    waiting: IntGauge,
    jobs: IntGauge,
    outcomes: IntCounterVec,
    dismissed: IntCounter,
    /// Workers that were cut off since they did not read what was sent.
    pub slow: IntCounter,
}

impl AgentMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Two metrics share a name, which a test would have found.
    pub fn register(registry: &Registry) -> prometheus::Result<AgentMetrics> {
        let metrics = AgentMetrics {
            workers: IntGauge::new("sluice_agent_workers", "Connected workers of agents at present")?,
            waiting: IntGauge::new(
                "sluice_agent_jobs_waiting",
                "Jobs for which no worker is there at present",
            )?,
            jobs: IntGauge::new(
                "sluice_agent_jobs",
                "Jobs at present that a worker has, or was asked whether it takes",
            )?,
            outcomes: IntCounterVec::new(
                Opts::new("sluice_agent_jobs_total", "What became of jobs of agents, by outcome"),
                &["outcome"],
            )?,
            dismissed: IntCounter::new(
                "sluice_agent_workers_dismissed_total",
                "Workers whose connection was closed since they broke the protocol",
            )?,
            slow: IntCounter::new(
                "sluice_agent_workers_slow_total",
                "Workers whose connection was closed since they did not read what was sent to them",
            )?,
        };
        for outcome in OUTCOMES {
            metrics.outcomes.with_label_values(&[outcome]).inc_by(0);
        }
        registry.register(Box::new(metrics.workers.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.jobs.clone()))?;
        registry.register(Box::new(metrics.outcomes.clone()))?;
        registry.register(Box::new(metrics.dismissed.clone()))?;
        registry.register(Box::new(metrics.slow.clone()))?;
        Ok(metrics)
    }

    /// Counts what the pool has noticed.
    pub(super) fn notice(&self, notice: Notice) {
        match notice {
            Notice::Registered => {}
            Notice::BadMessage => self.dismissed.inc(),
            Notice::Assigned => self.count("assigned"),
            Notice::Unwanted => self.count("unwanted"),
            Notice::TooManyWaiting => self.count("overflow"),
            Notice::Ended(JobStatus::JsSuccess) => self.count("succeeded"),
            Notice::Ended(_) => self.count("failed"),
        }
    }

    pub(super) fn measure(&self, pool: &Pool) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.workers.set(gauge(pool.workers()));
        self.waiting.set(gauge(pool.waiting()));
        self.jobs.set(gauge(pool.jobs()));
    }

    fn count(&self, outcome: &str) {
        self.outcomes.with_label_values(&[outcome]).inc();
    }
}

const OUTCOMES: [&str; 5] = ["assigned", "unwanted", "overflow", "succeeded", "failed"];
