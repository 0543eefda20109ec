//! The task of one room.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use livekit_protocol::{SignalResponse, WebhookEvent};
use sfu::command::Event;
use signaling::agents::Order;
use signaling::livekit::{JoinError, Output, Room, SessionId, SocketEnd, refuse_resume};
use tokio::sync::{mpsc, watch};

use super::calls::Calls;
use super::questions::Questions;
use super::{FromClient, JobMailbox, Outbox, Shared, ToRoom};
use crate::bridge;
use crate::media::worker::{EVENT_QUEUE, ToWorker, WorkerClient, WorkerGone};

/// A room and its queues.
pub(super) struct Actor {
    shared: Arc<Shared>,
    room: Room,
    generation: u64,
    worker: WorkerClient,
    mailbox: mpsc::Receiver<ToRoom>,
    sessions: HashMap<SessionId, Outbox>,
    questions: Questions,
    calls: Calls,
    /// For the pool of agents; given to it with the next output.
    orders: Vec<Order>,
    way_back: JobMailbox,
    closing: watch::Receiver<bool>,
    /// The number of its latest event for the application's server.
    told: u64,
    /// Participants as the counts outside have them.
    counted: usize,
    ended: bool,
}

/// What woke the room.
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to be handled")]
enum Wake {
    Message(Option<ToRoom>),
    Event(Option<Event>),
    Timeout,
    Closing,
}

impl Actor {
    pub(super) fn new(
        shared: Arc<Shared>,
        room: Room,
        generation: u64,
        worker: WorkerClient,
        mailbox: mpsc::Receiver<ToRoom>,
        way_back: JobMailbox,
    ) -> Actor {
        let closing = shared.closing.subscribe();
        shared.metrics.rooms.inc();
        Actor {
            shared,
            room,
            generation,
            worker,
            mailbox,
            sessions: HashMap::new(),
            questions: Questions::default(),
            calls: Calls::default(),
            orders: Vec::new(),
            way_back,
            closing,
            told: 0,
            counted: 0,
            ended: false,
        }
    }

    /// Until the room's end.
    pub(super) async fn run(mut self) {
        tracing::info!(room = self.room.name(), sid = self.room.sid(), "room opened");
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        if self.worker.send(ToWorker::Open { room: self.room.id(), events: sender }).await.is_err() {
            self.rejoin_elsewhere();
        }
        while !self.ended {
            let wake = self.wait(&mut events).await;
            self.handle(wake);
            if self.drain().await.is_err() {
                self.rejoin_elsewhere();
            }
            self.give_orders().await;
        }
        // Gone already is as good.
        let _ = self.worker.send(ToWorker::Close { room: self.room.id() }).await;
        tracing::info!(room = self.room.name(), sid = self.room.sid(), "room ended");
    }

    async fn wait(&mut self, events: &mut mpsc::Receiver<Event>) -> Wake {
        let timeout = self.room.next_timeout();
        let timer = async {
            match timeout {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.mailbox.recv() => Wake::Message(message),
            event = events.recv() => Wake::Event(event),
            () = timer => Wake::Timeout,
            // The sender is in `shared`, which we hold.
            _ = self.closing.wait_for(|&closing| closing) => Wake::Closing,
        }
    }

    fn handle(&mut self, wake: Wake) {
        let clock = bridge::clock();
        match wake {
            Wake::Message(Some(ToRoom::Join { session, admission, outgoing, answer })) => {
                self.sessions.insert(session, outgoing);
                let joined = self.room.join(clock, session, *admission);
                if joined.is_err() {
                    self.sessions.remove(&session);
                }
                // Whoever asked may have given up; its session's drop tells us.
                let _ = answer.send(joined);
            }
            Wake::Message(Some(ToRoom::FromClient(session, FromClient::Request(request)))) => {
                self.room.frame(clock, session, request);
            }
            Wake::Message(Some(ToRoom::FromClient(session, FromClient::Unreadable(error)))) => {
                self.room.bad_frame(clock, session, error);
            }
            Wake::Message(Some(ToRoom::Closed(session, end))) => {
                self.sessions.remove(&session);
                self.room.socket_closed(clock, session, end);
            }
            Wake::Message(Some(ToRoom::Explain { identity, history, answer })) => {
                let asked = self.questions.number(clock.now).and_then(|number| {
                    self.room.explain(&identity, number, history)?;
                    Ok(number)
                });
                match asked {
                    Ok(number) => self.questions.wait(number, answer),
                    // Whoever asked may have given up.
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Wake::Message(Some(ToRoom::Job(job))) => self.room.job_changed(*job),
            Wake::Message(Some(ToRoom::Call { call, answer })) => {
                let number = self.calls.wait(answer);
                self.room.call(clock, number, *call);
            }
            Wake::Event(Some(event)) => self.room.media(clock, event),
            Wake::Timeout => self.room.handle_timeout(clock),
            // The directory is gone, which holds the mailbox: the server is.
            Wake::Message(None) | Wake::Closing => self.room.shutdown(clock),
            // The worker has ended, or has given us up since we were too slow.
            Wake::Event(None) => self.rejoin_elsewhere(),
        }
    }

    /// Does what the room wants done.
    async fn drain(&mut self) -> Result<(), WorkerGone> {
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Send { session, response } => self.send(session, response),
                // The socket closes once it has written what is in its queue.
                Output::Close { session } => drop(self.sessions.remove(&session)),
                Output::Media(command) => self.worker.send(ToWorker::Media(command)).await?,
                Output::Report { question, report } => self.questions.answer(question, report),
                Output::Answer { question, answer } => self.calls.ready(question, answer),
                Output::Notice(notice) => bridge::notice(&self.shared.metrics, self.room.name(), notice),
                Output::Agents(order) => self.orders.push(order),
                Output::Webhook(event) => self.tell(event),
                Output::Ended => self.end(),
            }
        }
        self.count(self.room.participants());
        let written = self.shared.webhooks.as_ref().and_then(|webhooks| webhooks.written(self.told));
        self.calls.give(written);
        Ok(())
    }

    async fn give_orders(&mut self) {
        for order in self.orders.drain(..) {
            self.shared.agents.order(order, &self.way_back).await;
        }
    }

    fn tell(&mut self, event: Box<WebhookEvent>) {
        if let Some(webhooks) = &self.shared.webhooks {
            self.told = webhooks.tell(event);
        }
    }

    fn send(&mut self, session: SessionId, response: SignalResponse) {
        let Some(queue) = self.sessions.get(&session) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = queue.try_send(Box::new(response)) {
            // It would not read a farewell either. Its WebSocket ends when it sees that we are gone.
            tracing::warn!(room = self.room.name(), "client does not read its messages and is disconnected");
            self.shared.metrics.slow_clients.inc();
            self.sessions.remove(&session);
            self.room.socket_closed(bridge::clock(), session, SocketEnd::Silent(Duration::ZERO));
        }
    }

    /// The room cannot go on here: every client is told to join anew, which makes a room elsewhere.
    fn rejoin_elsewhere(&mut self) {
        for queue in self.sessions.values() {
            let _ = queue.try_send(Box::new(refuse_resume()));
        }
        self.room.abandon(bridge::clock());
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Webhook(event) => self.tell(event),
                Output::Agents(order) => self.orders.push(order),
                _ => {}
            }
        }
        self.end();
    }

    /// No input is of use any more: takes the name out, so that the next join makes a new room.
    fn end(&mut self) {
        self.ended = true;
        self.mailbox.close();
        let generation = self.generation;
        self.shared.directory.remove_if(self.room.name(), |_, handle| handle.generation == generation);
        while let Ok(message) = self.mailbox.try_recv() {
            if let ToRoom::Join { answer, .. } = message {
                let _ = answer.send(Err(JoinError::Ended));
            }
        }
        self.sessions.clear();
        self.count(0);
    }

    /// Brings the counts outside up to date. Nobody is in a room that has ended.
    fn count(&mut self, now: usize) {
        let now = if self.ended { 0 } else { now };
        let before = std::mem::replace(&mut self.counted, now);
        for count in [&self.shared.participants, self.worker.load().participants()] {
            // Wraps where participants left, as it should.
            count.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
        self.shared.metrics.participants.add(now as i64 - before as i64);
    }
}

impl Drop for Actor {
    /// Also when a bug made the task panic: nothing of the room may stay in the books.
    fn drop(&mut self) {
        if !self.ended {
            self.end();
        }
        self.shared.metrics.rooms.dec();
    }
}
