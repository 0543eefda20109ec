//! The task of one receiver: takes what is on the disk, in the order and at the times of its [`Schedule`].

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::metrics::{FailureKind, WebhookMetrics};
use super::post::{PostError, Poster};
use super::schedule::{Entry, Failed, Job, Patience, Schedule};
use super::store::{Failure, Reader, Waiting};
use super::writer::{HandOver, Settled};
use crate::bridge;

/// Why an event was given up that had grown too old while nobody answered.
const TOO_OLD: &str = "older than webhooks.max-age, and the receiver does not answer";

/// See the module's page.
pub(super) struct Deliverer {
    pub(super) poster: Arc<Poster>,
    pub(super) reader: Reader,
    pub(super) hand_over: Arc<HandOver>,
    pub(super) metrics: WebhookMetrics,
}

struct Outcome {
    entry: Entry,
    result: Result<(), PostError>,
}

impl Deliverer {
    /// Until the senders of `waiting` are gone; what is under way then ends unheard.
    pub(super) async fn run(self, patience: Patience, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
        let lanes = RandomState::new();
        let rng = fastrand::Rng::with_seed(bridge::random());
        let mut schedule = Schedule::new(patience, rng);
        let mut attempts: JoinSet<Outcome> = JoinSet::new();
        loop {
            while let Some(job) = schedule.next(Instant::now(), bridge::unix_ms()) {
                match job {
                    Job::Attempt(entry) => drop(attempts.spawn(self.attempt(entry))),
                    Job::GiveUp(entry, failures) => self.give_up(entry, failures, TOO_OLD.to_owned()),
                }
            }
            let timer = async {
                match schedule.next_timeout() {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = waiting.recv() => match event {
                    Some(event) => schedule.push(entry(&event, &lanes)),
                    None => return,
                },
                Some(outcome) = attempts.join_next() => match outcome {
                    Ok(outcome) => self.settle(&mut schedule, outcome),
                    Err(error) => {
                        tracing::error!(%error, "a delivery ended by a bug; its room waits for the next start");
                    }
                },
                () = timer => {}
            }
        }
    }

    fn attempt(&self, entry: Entry) -> impl Future<Output = Outcome> + Send + use<> {
        let (reader, poster) = (self.reader.clone(), Arc::clone(&self.poster));
        async move {
            let read = tokio::task::spawn_blocking(move || reader.waiting(entry.number)).await;
            let result = match read {
                Ok(Ok(Some(record))) => poster.post(record.body).await,
                // Cannot be read as what it was written as: there is nothing to deliver.
                Ok(Ok(None)) => Ok(()),
                Ok(Err(error)) => Err(PostError::new(FailureKind::Disk, error.to_string())),
                Err(error) => Err(PostError::new(FailureKind::Disk, error.to_string())),
            };
            Outcome { entry, result }
        }
    }

    fn settle(&self, schedule: &mut Schedule, Outcome { entry, result }: Outcome) {
        match result {
            Ok(()) => {
                schedule.delivered(entry.lane);
                self.metrics.delivered.inc();
                let took = bridge::unix_ms().saturating_sub(entry.queued_ms);
                self.metrics.delivery.observe(took.max(0) as f64 / 1000.0);
                self.hand_over.settle(Settled::Delivered(entry.number));
            }
            Err(error) => {
                self.metrics.attempt_failed(error.kind);
                tracing::debug!(reason = %error.reason, "webhook not delivered");
                let failed =
                    schedule.failed(entry.lane, Instant::now(), bridge::unix_ms(), error.retry_after);
                if let Failed::GivenUp(failures) = failed {
                    self.give_up(entry, failures, error.reason);
                }
            }
        }
    }

    fn give_up(&self, entry: Entry, attempts: u32, reason: String) {
        tracing::warn!(%reason, attempts, "webhook given up; see /webhooks/failed");
        self.metrics.given_up.inc();
        let failure = Failure { number: entry.number, attempts, reason, unix_ms: bridge::unix_ms() };
        self.hand_over.settle(Settled::GivenUp(failure));
    }
}

fn entry(waiting: &Waiting, lanes: &RandomState) -> Entry {
    Entry { number: waiting.number, lane: lanes.hash_one(&waiting.room), queued_ms: waiting.queued_ms }
}
