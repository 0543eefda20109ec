//! The one thread that writes the queue, and the hand-over to it.
//!
//! Rooms put events in and go on; the thread takes all that has come, writes it as one transaction, and passes on what is on
//! the disk. What came of deliveries is written along with the next events, or soon.
//! Always: nobody waits for the disk but who asks to ([`HandOver::written`]); an event is in the hand-over, on the disk or counted as lost.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use livekit_protocol::WebhookEvent;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};

use super::metrics::WebhookMetrics;
use super::record::Record;
use super::store::{Batch, Committed, Failure, Store, Told, Waiting};
use crate::bridge;

/// Events in the hand-over at most: a second of a busy server…
const MAX_EVENTS: usize = 16_384;
/// …and their bytes.
const MAX_BYTES: usize = 32 << 20;
/// Events in one transaction.
const MAX_BATCH: usize = 2048;
/// How long the news of deliveries may wait to be written. A crash before that has them delivered twice.
const LINGER: Duration = Duration::from_millis(50);
/// Between two attempts to write.
const RETRY: Duration = Duration::from_secs(1);
/// How often the gauges are set.
const GAUGES: Duration = Duration::from_secs(1);

/// What came of a delivery.
pub(super) enum Settled {
    Delivered(u64),
    GivenUp(Failure),
}

/// Failed events to try again.
pub(super) struct Replay {
    pub(super) numbers: VecDeque<u64>,
    pub(super) moved: usize,
    pub(super) answer: oneshot::Sender<usize>,
}

#[derive(Default)]
struct Inbox {
    /// With their numbers.
    events: VecDeque<(u64, Box<WebhookEvent>)>,
    bytes: usize,
    /// Events that were put in, lost ones included.
    told: u64,
    lost: u64,
    settled: Vec<Settled>,
    replays: VecDeque<Replay>,
    stopping: bool,
}

/// The way to the thread.
pub(super) struct HandOver {
    inbox: Mutex<Inbox>,
    news: Condvar,
    /// How many events are on the disk or lost.
    written: watch::Sender<u64>,
    metrics: WebhookMetrics,
}

impl HandOver {
    pub(super) fn new(metrics: WebhookMetrics) -> HandOver {
        let (inbox, news) = (Mutex::default(), Condvar::new());
        HandOver { inbox, news, written: watch::channel(0).0, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event in, or loses it when the thread is too far behind. Gives the event's number, for [`HandOver::written`].
    pub(super) fn tell(&self, event: Box<WebhookEvent>) -> u64 {
        self.metrics.events.inc();
        let bytes = event.encoded_len();
        let mut inbox = self.lock();
        inbox.told += 1;
        let number = inbox.told;
        if inbox.events.len() >= MAX_EVENTS || inbox.bytes + bytes > MAX_BYTES || inbox.stopping {
            inbox.lost += 1;
            self.metrics.dropped_handover.inc();
        } else {
            inbox.bytes += bytes;
            inbox.events.push_back((number, event));
        }
        drop(inbox);
        self.news.notify_one();
        number
    }

    pub(super) fn settle(&self, settled: Settled) {
        let mut inbox = self.lock();
        inbox.settled.push(settled);
        let is_first = inbox.settled.len() == 1;
        drop(inbox);
        if is_first {
            self.news.notify_one();
        }
    }

    pub(super) fn replay(&self, numbers: Vec<u64>) -> oneshot::Receiver<usize> {
        let (answer, answered) = oneshot::channel();
        self.lock().replays.push_back(Replay { numbers: numbers.into(), moved: 0, answer });
        self.news.notify_one();
        answered
    }

    /// Follows how many events are written.
    pub(super) fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Nothing more comes: what is there is written, then the thread ends.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.news.notify_one();
    }
}

/// The thread's own.
pub(super) struct Writer {
    hand_over: Arc<HandOver>,
    store: Store,
    urls: Vec<String>,
    /// To each receiver's task.
    receivers: HashMap<String, mpsc::UnboundedSender<Waiting>>,
    gauges_at: Option<Instant>,
}

/// What one transaction is made of.
struct Load {
    events: Vec<WebhookEvent>,
    batch: Batch,
    /// The number of the last event of which this is the end.
    told: u64,
    stopping: bool,
}

impl Writer {
    pub(super) fn new(
        hand_over: Arc<HandOver>,
        store: Store,
        urls: Vec<String>,
        receivers: HashMap<String, mpsc::UnboundedSender<Waiting>>,
    ) -> Writer {
        Writer { hand_over, store, urls, receivers, gauges_at: None }
    }

    /// Until [`HandOver::stop`].
    pub(super) fn run(mut self) {
        loop {
            let load = self.take();
            let replaying = load.batch.replayed.len();
            let is_empty = load.events.is_empty()
                && load.batch.delivered.is_empty()
                && load.batch.failed.is_empty()
                && replaying == 0;
            if !is_empty {
                let Some(committed) = self.write(&load) else { return };
                self.pass_on(committed);
            }
            self.hand_over.written.send_replace(load.told);
            self.answer_replays();
            self.set_gauges(load.stopping);
            if load.stopping && is_empty {
                return;
            }
        }
    }

    /// Waits until there is something to write, or for the gauges.
    fn take(&mut self) -> Load {
        let mut inbox = self.hand_over.lock();
        let since = Instant::now();
        loop {
            let waited = since.elapsed();
            let urgent = !inbox.events.is_empty() || !inbox.replays.is_empty() || inbox.stopping;
            let settled = !inbox.settled.is_empty();
            if urgent || (settled && waited >= LINGER) || waited >= GAUGES {
                break;
            }
            let patience = if settled { LINGER } else { GAUGES }.saturating_sub(waited);
            let woken = self.hand_over.news.wait_timeout(inbox, patience);
            inbox = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let count = inbox.events.len().min(MAX_BATCH);
        let events: Vec<_> = inbox.events.drain(..count).map(|(_, event)| *event).collect();
        inbox.bytes -= events.iter().map(WebhookEvent::encoded_len).sum::<usize>();
        let mut batch = Batch { unix_ms: bridge::unix_ms(), ..Batch::default() };
        for settled in inbox.settled.drain(..) {
            match settled {
                Settled::Delivered(number) => batch.delivered.push(number),
                Settled::GivenUp(failure) => batch.failed.push(failure),
            }
        }
        if let Some(replay) = inbox.replays.front_mut() {
            let count = replay.numbers.len().min(MAX_BATCH);
            batch.replayed.extend(replay.numbers.drain(..count));
        }
        let told = inbox.events.front().map_or(inbox.told, |(number, _)| number - 1);
        let stopping = inbox.stopping;
        let lost = std::mem::take(&mut inbox.lost);
        drop(inbox);
        self.store.lost(lost);
        Load { events, batch, told, stopping }
    }

    /// Until it works. `None`: it does not, and the server stops.
    fn write(&mut self, load: &Load) -> Option<Committed> {
        let urls = self.urls.clone();
        let unix_ms = load.batch.unix_ms;
        loop {
            match self
                .store
                .commit(&load.batch, &load.events, |event, lost| tell(event, lost, &urls, unix_ms))
            {
                Ok(committed) => return Some(committed),
                Err(error) => {
                    tracing::error!(%error, "webhooks cannot be written, and will be tried again; see webhooks.path");
                    self.hand_over.metrics.write_errors.inc();
                }
            }
            if self.hand_over.lock().stopping {
                return None;
            }
            std::thread::sleep(RETRY);
            if let Err(error) = self.store.reopen() {
                tracing::error!(%error, "the file of webhooks cannot be opened");
            }
        }
    }

    fn pass_on(&mut self, committed: Committed) {
        let metrics = &self.hand_over.metrics;
        metrics.dropped_full.inc_by(committed.dropped);
        metrics.dropped_failed.inc_by(committed.forgotten);
        if committed.dropped > 0 {
            tracing::warn!(
                events = committed.dropped,
                "webhooks are lost: the queue is full; see webhooks.max-disk"
            );
        }
        for waiting in committed.waiting {
            if let Some(receiver) = self.receivers.get(&waiting.url) {
                // A task that has ended leaves it to the next start.
                let _ = receiver.send(waiting);
            }
        }
        if let Some(replay) = self.hand_over.lock().replays.front_mut() {
            replay.moved += committed.replayed;
        }
    }

    fn answer_replays(&mut self) {
        let mut inbox = self.hand_over.lock();
        if inbox.replays.front().is_some_and(|replay| replay.numbers.is_empty())
            && let Some(replay) = inbox.replays.pop_front()
        {
            // Whoever asked may have given up.
            let _ = replay.answer.send(replay.moved);
        }
    }

    fn set_gauges(&mut self, now: bool) {
        let due = self.gauges_at.is_none_or(|at| at.elapsed() >= GAUGES);
        if !due && !now {
            return;
        }
        self.gauges_at = Some(Instant::now());
        let Ok(holdings) = self.store.holdings() else { return };
        let metrics = &self.hand_over.metrics;
        metrics.queued.set(holdings.waiting as i64);
        metrics.failed.set(holdings.failed as i64);
        metrics.disk.set(holdings.bytes as i64);
        let age = holdings.oldest_ms.map_or(0, |oldest| (bridge::unix_ms() - oldest).max(0) / 1000);
        metrics.oldest_age.set(age);
    }
}

/// The event as it is kept, once for each receiver. `lost` events before it were not kept.
#[expect(deprecated, reason = "receivers read it, and nothing has taken its place")]
fn tell(event: &WebhookEvent, lost: u64, urls: &[String], unix_ms: i64) -> Told {
    let mut event = event.clone();
    event.num_dropped = i32::try_from(lost).unwrap_or(i32::MAX);
    let body = serde_json::to_vec(&event).expect("a message without bytes or floats is JSON");
    let room = event.room.as_ref().map_or("", |room| room.name.as_str());
    let record = |url: &String| Record {
        url: url.clone(),
        room: room.to_owned(),
        id: event.id.clone(),
        event: event.event.clone(),
        queued_ms: unix_ms,
        body: body.clone(),
        ..Record::default()
    };
    Told { records: urls.iter().map(record).collect() }
}
