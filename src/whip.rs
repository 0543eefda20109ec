//! Sessions over HTTP (WHIP and WHEP): the table of them, and one task for each.
//!
//! A session's task stands between its requests and its room, as a WebSocket's does between frames and room. Always: a
//! session is in the table exactly while its task runs, and its participant is in the room at most as long; both kinds
//! are bounded for a room and for an address. Not here: HTTP (`http::whip`), what requests mean (`signaling::whip`).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use signaling::livekit::SocketEnd;
use signaling::livekit::connect::{Admission, Refusal};
use signaling::whip::{Created, Exchange, Patched, Progress, Protocol, WhipError};
use tokio::sync::{mpsc, oneshot};

use crate::bridge;
use crate::config::WhipSettings;
use crate::counts::Counts;
use crate::metrics::Metrics;
use crate::rooms::{FromClient, Mailbox, Rooms, Session};

/// How long the answer to an offer may take: a turn of the room's task and one of its worker's.
const PATIENCE: Duration = Duration::from_secs(4);
/// Requests that wait for one session.
const ASKED: usize = 8;

/// All sessions of the server. Clones share them.
#[derive(Clone)]
pub struct WhipSessions {
    shared: Arc<Shared>,
}

struct Shared {
    settings: WhipSettings,
    sessions: DashMap<String, Handle>,
    by_room: Counts<String>,
    by_address: Counts<IpAddr>,
    metrics: Metrics,
}

/// The way to a session's task, and whose it is.
struct Handle {
    asks: mpsc::Sender<Ask>,
    protocol: Protocol,
    owner: Owner,
}

/// Who made a session.
#[derive(Clone, PartialEq, Eq)]
pub struct Owner {
    /// The room's name.
    pub room: String,
    /// The participant's identity.
    pub identity: String,
    /// SHA-256 of the token.
    pub token: Digest,
}

/// A token's hash: enough to know it again, and of no use to whoever reads memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a token.
    pub fn of(token: &str) -> Digest {
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        Digest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

/// What a client asks of its session.
enum Ask {
    Patch { if_match: Option<String>, body: Bytes, answer: oneshot::Sender<Result<Changed, WhipError>> },
    Delete { answer: oneshot::Sender<()> },
}

/// What came of a `PATCH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Candidates were taken.
    Trickled,
    /// ICE is restarted.
    Restarted {
        /// The body.
        fragment: String,
        /// The new entity-tag.
        etag: String,
    },
}

impl WhipSessions {
    /// None yet.
    pub fn new(settings: WhipSettings, metrics: Metrics) -> WhipSessions {
        let (by_room, by_address) = (Counts::default(), Counts::default());
        WhipSessions {
            shared: Arc::new(Shared { settings, sessions: DashMap::new(), by_room, by_address, metrics }),
        }
    }

    /// The limits, and whether there may be any sessions.
    pub fn settings(&self) -> &WhipSettings {
        &self.shared.settings
    }

    /// Sessions at present.
    pub fn len(&self) -> usize {
        self.shared.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shared.sessions.is_empty()
    }

    /// Lets a client in with its offer. Gives the session's name and what the client is to be told.
    ///
    /// # Errors
    /// [`WhipError`]. Nothing is left of the attempt.
    pub async fn create(
        &self,
        rooms: &Rooms,
        protocol: Protocol,
        mut admission: Admission,
        offer: String,
        token: Digest,
        address: IpAddr,
    ) -> Result<(String, Created), WhipError> {
        let shared = &self.shared;
        let (of_room, of_address) = (shared.settings.sessions_per_room, shared.settings.sessions_per_address);
        let places = (
            shared.by_room.take(admission.room.clone(), of_room).ok_or_else(|| full("room", of_room))?,
            shared.by_address.take(address, of_address).ok_or_else(|| full("address", of_address))?,
        );
        let owner = Owner { room: admission.room.clone(), identity: admission.identity.clone(), token };
        let mut exchange = Exchange::new(protocol, offer, bridge::random());
        admission.publisher_offer = Some(exchange.first_offer());
        let mut session = rooms.join(admission).await.map_err(WhipError::Refused)?;
        let answered = tokio::time::timeout(PATIENCE, first_answer(&mut session, &mut exchange)).await;
        let created = answered.map_err(|_| late())??;

        let name = name();
        let (asks, asked) = mpsc::channel(ASKED);
        shared.sessions.insert(name.clone(), Handle { asks, protocol, owner });
        shared.metrics.whip_session_began(protocol);
        let (shared, own_name) = (Arc::clone(shared), name.clone());
        tokio::spawn(async move {
            // Also when the task is dropped with the runtime.
            let _listed = Listed { shared, name: own_name, protocol };
            run(session, exchange, asked).await;
            drop(places);
        });
        Ok((name, created))
    }

    /// Who made a session.
    ///
    /// # Errors
    /// [`WhipError::NoSession`]
    pub fn owner(&self, protocol: Protocol, name: &str) -> Result<Owner, WhipError> {
        let handle = self.shared.sessions.get(name).filter(|handle| handle.protocol == protocol);
        handle.map(|handle| handle.owner.clone()).ok_or(WhipError::NoSession)
    }

    /// Adds candidates to a session, or restarts its ICE.
    ///
    /// # Errors
    /// [`WhipError`]
    pub async fn patch(
        &self,
        name: &str,
        if_match: Option<String>,
        body: Bytes,
    ) -> Result<Changed, WhipError> {
        let (answer, answered) = oneshot::channel();
        self.ask(name, Ask::Patch { if_match, body, answer }, answered).await?
    }

    /// Ends a session. Its participant has left when this returns.
    ///
    /// # Errors
    /// [`WhipError`]
    pub async fn delete(&self, name: &str) -> Result<(), WhipError> {
        let (answer, answered) = oneshot::channel();
        self.ask(name, Ask::Delete { answer }, answered).await
    }

    async fn ask<T>(&self, name: &str, ask: Ask, answered: oneshot::Receiver<T>) -> Result<T, WhipError> {
        let asks = self.shared.sessions.get(name).map(|handle| handle.asks.clone());
        let asks = asks.ok_or(WhipError::NoSession)?;
        let asking = async {
            asks.send(ask).await.ok()?;
            answered.await.ok()
        };
        // Without an answer the session ended meanwhile.
        tokio::time::timeout(PATIENCE, asking).await.map_err(|_| late())?.ok_or(WhipError::NoSession)
    }
}

fn full(of: &str, limit: usize) -> WhipError {
    WhipError::Unavailable(format!(
        "too many sessions: {limit} of one {of} is the limit (whip.sessions-per-{of} of the server's configuration)"
    ))
}

fn late() -> WhipError {
    WhipError::Unavailable("the room did not answer in time".to_owned())
}

/// A name that nobody guesses.
fn name() -> String {
    format!("{:016x}{:016x}", bridge::random(), bridge::random())
}

/// What comes of an offer.
async fn first_answer(session: &mut Session, exchange: &mut Exchange) -> Result<Created, WhipError> {
    while let Some(message) = session.next().await {
        match exchange.hear(message) {
            Progress::Created(created) => return Ok(created),
            Progress::Refused(error) => return Err(error),
            Progress::None | Progress::Restarted { .. } => {}
            Progress::Ended => break,
        }
    }
    let body = "the room let the session go before it was answered".to_owned();
    Err(WhipError::Refused(Refusal { status: 503, body }))
}

/// Until either side ends it.
async fn run(mut session: Session, mut exchange: Exchange, mut asked: mpsc::Receiver<Ask>) {
    let mut pending: VecDeque<FromClient> = VecDeque::new();
    let mut restarting: Option<oneshot::Sender<Result<Changed, WhipError>>> = None;
    let mut deleting: Vec<oneshot::Sender<()>> = Vec::new();
    loop {
        let (outgoing, mailbox) = session.split();
        tokio::select! {
            // What the room has said before a request came is heard before it.
            biased;
            message = outgoing.recv() => {
                let Some(message) = message else { break };
                let outcome = match exchange.hear(*message) {
                    Progress::Restarted { fragment, etag } => Ok(Changed::Restarted { fragment, etag }),
                    Progress::Refused(error) => Err(error),
                    Progress::None | Progress::Created(_) => continue,
                    Progress::Ended => break,
                };
                // Whoever asked may have given up.
                let _ = restarting.take().map(|answer| answer.send(outcome));
            }
            taken = put(mailbox, &mut pending), if !pending.is_empty() => {
                if !taken {
                    break;
                }
            }
            ask = asked.recv(), if pending.is_empty() => match ask {
                Some(Ask::Patch { if_match, body, answer }) => {
                    match exchange.patch(if_match.as_deref(), &body) {
                        Ok(Patched::Trickled(candidates)) => {
                            pending.extend(candidates.into_iter().map(FromClient::Request));
                            let _ = answer.send(Ok(Changed::Trickled));
                        }
                        Ok(Patched::Restarting(offer)) => {
                            pending.push_back(FromClient::Request(*offer));
                            restarting = Some(answer);
                        }
                        Err(error) => drop(answer.send(Err(error))),
                    }
                }
                Some(Ask::Delete { answer }) => {
                    pending.push_back(FromClient::Request(Exchange::leave()));
                    deleting.push(answer);
                }
                // The table holds the other end.
                None => break,
            },
        }
    }
    session.close(SocketEnd::Closed);
    for answer in deleting {
        let _ = answer.send(());
    }
}

async fn put(mailbox: Option<Mailbox<'_>>, pending: &mut VecDeque<FromClient>) -> bool {
    match mailbox {
        Some(mailbox) => mailbox.put(pending).await,
        None => false,
    }
}

/// A session's line in the table, for as long as its task.
struct Listed {
    shared: Arc<Shared>,
    name: String,
    protocol: Protocol,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.shared.sessions.remove(&self.name);
        self.shared.metrics.whip_session_ended(self.protocol);
    }
}
