//! Webhooks: what happens in rooms, told to an application's server.
//!
//! An event goes from its room ([`Webhooks::tell`]) to a thread that writes it to disk (`writer`, `store`), and from there to a
//! task for each receiver (`deliver`), which keeps the order of every room and tries again (`schedule`) with signed requests (`sign`,
//! `post`) to addresses that are allowed (`address`, `connect`).
//! Always: a room waits neither for the disk nor for the network; what is on the disk is delivered at least once, with the same
//! id, or is in the list of failures; what is lost is counted, and the next event says how many were.
//! Not here: what is told (`signaling::livekit`), who may see the list (`http::webhooks`).

pub mod address;
mod connect;
mod deliver;
mod metrics;
mod post;
mod record;
mod schedule;
mod settings;
mod sign;
mod store;
mod writer;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::WebhookEvent;
use tokio::sync::{mpsc, oneshot};

pub use self::connect::CaError;
pub use self::metrics::{FailureKind, WebhookMetrics};
pub use self::schedule::Patience;
pub use self::settings::{SigningKey, WebhookSettings, WebhookSettingsError};
pub use self::store::StoreError;

use self::deliver::Deliverer;
use self::post::Poster;
use self::record::Record;
use self::store::{Batch, Failure, Reader, Store, Told};
use self::writer::{HandOver, Writer};
use crate::bridge;

/// How long whoever called the server API waits for the events of the call to be on the disk.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// Why webhooks did not start.
#[derive(Debug, thiserror::Error)]
pub enum WebhookStartError {
    /// The queue's file.
    #[error("webhooks.path: {}: {source}; needed is a file that this server alone may write", path.display())]
    Store {
        /// Where.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// Certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// No thread can be had.
    #[error("cannot start the thread that writes webhooks: {0}")]
    Thread(std::io::Error),
}

/// The way to the queue. Clones share it.
#[derive(Clone)]
pub struct Webhooks {
    hand_over: Arc<HandOver>,
    reader: Reader,
    urls: Arc<HashSet<String>>,
}

/// Webhooks at work; to be stopped when the rooms are gone.
pub struct RunningWebhooks {
    hand_over: Arc<HandOver>,
    written: oneshot::Receiver<()>,
}

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedEvent {
    /// Its number in the list, for the next page.
    pub number: u64,
    /// The event's id, `EV_…`.
    pub id: String,
    /// Its kind.
    pub event: String,
    /// The room's name.
    pub room: String,
    /// The receiver.
    pub url: String,
    /// When it was queued: milliseconds since the Unix epoch.
    pub queued_at_ms: i64,
    /// When it was given up.
    pub failed_at_ms: i64,
    /// Attempts, since the last start of the server.
    pub attempts: u32,
    /// What came of the last.
    pub reason: String,
    /// What was sent.
    pub payload: serde_json::Value,
}

/// Waits until an event and all before it are on the disk, or lost, for [`WRITE_PATIENCE`] at most.
pub struct Written {
    written: tokio::sync::watch::Receiver<u64>,
    number: u64,
}

impl Written {
    /// See [`Written`].
    pub async fn wait(mut self) {
        let number = self.number;
        let _ =
            tokio::time::timeout(WRITE_PATIENCE, self.written.wait_for(|written| *written >= number)).await;
    }
}

impl Webhooks {
    /// Opens the queue and begins to deliver what is in it, inside the current tokio runtime.
    ///
    /// # Errors
    /// [`WebhookStartError`] names the key of the configuration at fault.
    pub fn start(
        settings: &WebhookSettings,
        metrics: &WebhookMetrics,
    ) -> Result<(Webhooks, RunningWebhooks), WebhookStartError> {
        let broken = |source| WebhookStartError::Store { path: settings.path.clone(), source };
        let (mut store, waiting) = Store::open(&settings.path, settings.max_disk).map_err(broken)?;
        let hand_over = Arc::new(HandOver::new(metrics.clone()));
        let urls: Vec<String> = settings.urls.iter().map(ToString::to_string).collect();
        let mut receivers = HashMap::new();
        for (url, text) in settings.urls.iter().zip(&urls) {
            let (sender, receiver) = mpsc::unbounded_channel();
            let deliverer = Deliverer {
                poster: Arc::new(Poster::new(settings, url.clone())?),
                reader: store.reader(),
                hand_over: Arc::clone(&hand_over),
                metrics: metrics.clone(),
            };
            // Of two that are the same, one is enough.
            if receivers.insert(text.clone(), sender).is_none() {
                tokio::spawn(deliverer.run(settings.patience, receiver));
            }
        }
        tracing::info!(waiting = waiting.len(), receivers = receivers.len(), "webhooks started");
        let mut orphans = Batch::default();
        for event in waiting {
            match receivers.get(&event.url) {
                Some(receiver) => drop(receiver.send(event)),
                None => orphans.failed.push(Failure {
                    number: event.number,
                    attempts: 0,
                    reason: "this receiver is no longer in webhooks.urls".to_owned(),
                    unix_ms: bridge::unix_ms(),
                }),
            }
        }
        store.commit(&orphans, &[(); 0], |(), _| Told { records: Vec::new() }).map_err(broken)?;

        let (done, written) = oneshot::channel();
        let known: HashSet<String> = receivers.keys().cloned().collect();
        let mut unique = HashSet::new();
        let urls = urls.into_iter().filter(|url| unique.insert(url.clone())).collect();
        let webhooks =
            Webhooks { hand_over: Arc::clone(&hand_over), reader: store.reader(), urls: Arc::new(known) };
        let writer = Writer::new(Arc::clone(&hand_over), store, urls, receivers);
        std::thread::Builder::new()
            .name("webhooks".to_owned())
            .spawn(move || {
                writer.run();
                // The file is closed.
                drop(done);
            })
            .map_err(WebhookStartError::Thread)?;
        Ok((webhooks, RunningWebhooks { hand_over, written }))
    }

    /// Takes an event, and returns at once. When the disk is so far behind that the hand-over is full, the event is lost, and
    /// counted. The number is for [`Webhooks::written`].
    pub fn tell(&self, event: Box<WebhookEvent>) -> u64 {
        self.hand_over.tell(event)
    }

    /// For who wants to wait until the event of that number is on the disk; `None` if it is.
    pub fn written(&self, number: u64) -> Option<Written> {
        let written = self.hand_over.written();
        let is_written = *written.borrow() >= number;
        (!is_written).then_some(Written { written, number })
    }

    /// Events that were given up, in order, those of one room or all, with numbers above `after`. Reads the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn failed(
        &self,
        room: Option<&str>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<FailedEvent>, StoreError> {
        let of_room = |record: &Record| room.is_none_or(|room| record.room == room);
        let found = self.reader.failed(after, limit, of_room)?;
        Ok(found.into_iter().map(|(number, record)| failed_event(number, record)).collect())
    }

    /// Puts events that were given up back into the queue, behind what waits: those of these ids, or all, of one room or of all.
    /// Those of a receiver that is no longer configured stay. Gives how many it were, once that is on the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn replay(
        &self,
        room: Option<String>,
        ids: Option<HashSet<String>>,
    ) -> Result<usize, StoreError> {
        let (reader, urls) = (self.reader.clone(), Arc::clone(&self.urls));
        let wanted = move |record: &Record| {
            urls.contains(&record.url)
                && room.as_ref().is_none_or(|room| record.room == *room)
                && ids.as_ref().is_none_or(|ids| ids.contains(&record.id))
        };
        let numbers = move || -> Result<Vec<u64>, StoreError> { reader.failed_numbers(wanted) };
        let numbers =
            tokio::task::spawn_blocking(numbers).await.map_err(|error| StoreError::Io(error.into()))??;
        if numbers.is_empty() {
            return Ok(0);
        }
        self.hand_over.replay(numbers).await.map_err(|_| StoreError::Closed)
    }
}

fn failed_event(number: u64, record: Record) -> FailedEvent {
    FailedEvent {
        number,
        id: record.id,
        event: record.event,
        room: record.room,
        url: record.url,
        queued_at_ms: record.queued_ms,
        failed_at_ms: record.failed_ms,
        attempts: record.attempts,
        reason: record.reason,
        payload: serde_json::from_slice(&record.body).unwrap_or_default(),
    }
}

impl RunningWebhooks {
    /// Ends when all that was told is on the disk and the file is closed. What is not delivered is at the next start.
    pub async fn stop(self) {
        self.hand_over.stop();
        // The sender is dropped, not used.
        let _ = self.written.await;
    }
}

#[cfg(test)]
mod tests;
