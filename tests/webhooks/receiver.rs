//! A receiver that fails: what it says no to it forgets, most of the time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use livekit_protocol::WebhookEvent;
use ring::digest;
use signaling::access::{self, Keys};

use crate::application::{Cycle, Told};

/// Of what it says no to, the share that it has noted all the same, as a receiver that dies before it answers.
const NOTED: f64 = 0.02;

pub(crate) struct Receiver {
    address: SocketAddr,
    journal: Arc<Journal>,
}

struct Journal {
    share: f64,
    keys: Keys,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// What each room's events were, in the order in which they came first.
    rooms: HashMap<String, Vec<Seen>>,
    ids: HashSet<String>,
    requests: usize,
    refused: usize,
    repeated: usize,
    dropped: i64,
}

/// An event: its kind and the sid of its room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    event: String,
    sid: String,
}

impl Receiver {
    /// Says no to this share of requests.
    pub(crate) async fn start(share: f64) -> Receiver {
        let keys = [("devkey".to_owned(), "secret".to_owned())].into_iter().collect();
        let journal = Arc::new(Journal { share, keys, notes: Mutex::default() });
        let router = axum::Router::new().fallback(take).with_state(Arc::clone(&journal));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        Receiver { address, journal }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.journal.notes.lock().expect("not poisoned")
    }

    /// Different events.
    pub(crate) fn arrived(&self) -> usize {
        self.notes().ids.len()
    }

    pub(crate) fn summary(&self) -> String {
        let notes = self.notes();
        format!(
            "{} arrived in {} requests, {} refused, {} came again",
            notes.ids.len(),
            notes.requests,
            notes.refused,
            notes.repeated
        )
    }

    /// Whether all that was answered has come, and everything in order.
    pub(crate) fn judge(&self, told: &Told) {
        let notes = self.notes();
        assert_eq!(notes.dropped, 0, "no event says that others were lost");
        let mut expected = 0;
        for (room, cycles) in &told.rooms {
            let seen = notes.rooms.get(room).map_or(&[][..], Vec::as_slice);
            expected += judge(room, seen, cycles);
        }
        let strangers = notes.rooms.keys().filter(|room| !told.rooms.contains_key(*room)).count();
        assert_eq!(strangers, 0, "rooms that nobody made");
        println!("{expected} events were answered for, {} arrived", notes.ids.len());
        assert!(notes.ids.len() >= expected);
    }
}

/// One room: every life of it is told from its start on, without a gap, and none before the life before it has ended.
fn judge(room: &str, seen: &[Seen], cycles: &[Cycle]) -> usize {
    let mut lives: Vec<(&str, Vec<&str>)> = Vec::new();
    for Seen { event, sid } in seen {
        match lives.last_mut() {
            Some((last, events)) if last == sid => events.push(event),
            _ => {
                assert!(
                    lives.iter().all(|(known, _)| known != sid),
                    "{room}: {event} of {sid} came too late"
                );
                lives.push((sid, vec![event]));
            }
        }
    }
    let mut at = 0;
    let mut expected = 0;
    for cycle in cycles {
        let Some(sid) = &cycle.sid else { continue };
        let found = lives[at..].iter().position(|(known, _)| known == sid);
        let found = found.unwrap_or_else(|| panic!("{room}: nothing of {sid}, or not in order"));
        at += found;
        let events = &lives[at].1;
        let full: &[&str] = if cycle.visited {
            &["room_started", "participant_connection_aborted", "room_finished"]
        } else {
            &["room_started", "room_finished"]
        };
        // Of a life whose end was not answered, whatever came must be its beginning.
        let least = if cycle.ended { full.len() } else { 1 };
        assert!(
            events.len() >= least && full.starts_with(events),
            "{room}: {events:?} of {full:?}, {cycle:?}"
        );
        expected += least;
        at += 1;
    }
    // Lives that nobody was told of: their making was not answered.
    let unanswered = cycles.iter().filter(|cycle| cycle.sid.is_none()).count();
    let known = cycles.len() - unanswered;
    assert!(lives.len() <= known + unanswered, "{room}: {} lives, {known} answered", lives.len());
    expected
}

async fn take(State(journal): State<Arc<Journal>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = access::verify(&journal.keys, &text("authorization"), now as i64).expect("a signature");
    let hash = BASE64_STANDARD.encode(digest::digest(&digest::SHA256, &body));
    assert_eq!(claims.other["sha256"], hash);
    assert_eq!(text("content-type"), "application/webhook+json");
    let event: WebhookEvent = serde_json::from_slice(&body).expect("an event");

    let refused = fastrand::f64() < journal.share;
    let mut notes = journal.notes.lock().expect("not poisoned");
    notes.requests += 1;
    notes.refused += usize::from(refused);
    if !refused || fastrand::f64() < NOTED {
        notes.note(event);
    }
    if refused { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}

impl Notes {
    #[expect(deprecated, reason = "receivers read it")]
    fn note(&mut self, event: WebhookEvent) {
        if !self.ids.insert(event.id) {
            self.repeated += 1;
            return;
        }
        self.dropped += i64::from(event.num_dropped);
        let room = event.room.expect("every event names its room");
        self.rooms.entry(room.name).or_default().push(Seen { event: event.event, sid: room.sid });
    }
}
