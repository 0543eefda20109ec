//! An application that makes rooms, sends somebody in now and then, and deletes them, as fast as the server answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use signaling::access::{self, Claims, VideoGrant};
use tokio::task::JoinSet;

/// Callers, each with a room of its own.
const CALLERS: usize = 16;
/// Every so many lives of a room somebody goes in.
const VISIT: usize = 8;
/// How long a caller waits for a server that is dead.
const PATIENCE: Duration = Duration::from_secs(90);

/// One life of a room, as far as the application knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cycle {
    /// The server has answered that it is there.
    pub(crate) sid: Option<String>,
    /// Somebody was in it.
    pub(crate) visited: bool,
    /// The server has answered that it is gone.
    pub(crate) ended: bool,
}

/// What the server has answered.
pub(crate) struct Told {
    pub(crate) rooms: HashMap<String, Vec<Cycle>>,
}

pub(crate) struct Application {
    answered: Arc<AtomicUsize>,
    callers: JoinSet<(String, Vec<Cycle>)>,
}

impl Application {
    /// Goes on until the server has answered for so many events.
    pub(crate) fn start(server: SocketAddr, events: usize) -> Application {
        let answered = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let caller = Caller {
                server,
                room: format!("room-{number}"),
                client: reqwest::Client::builder()
                    .timeout(Duration::from_secs(15))
                    .build()
                    .expect("a client"),
                answered: Arc::clone(&answered),
            };
            callers.spawn(caller.run(events));
        }
        Application { answered, callers }
    }

    /// Events that the server has answered for.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Until it has answered for so many.
    pub(crate) async fn until(&self, events: usize) {
        let (mut last, mut progress) = (0, Instant::now());
        while self.answered() < events {
            if self.answered() > last {
                (last, progress) = (self.answered(), Instant::now());
            }
            assert!(progress.elapsed() < PATIENCE, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Until all callers are done.
    pub(crate) async fn finish(mut self) -> Told {
        let mut rooms = HashMap::new();
        while let Some(caller) = self.callers.join_next().await {
            rooms.extend([caller.expect("no caller fails")]);
        }
        Told { rooms }
    }
}

struct Caller {
    server: SocketAddr,
    room: String,
    client: reqwest::Client,
    answered: Arc<AtomicUsize>,
}

impl Caller {
    async fn run(self, events: usize) -> (String, Vec<Cycle>) {
        let mut cycles = Vec::new();
        while self.answered.load(Ordering::Relaxed) < events {
            let mut cycle = Cycle::default();
            if self.live(&mut cycle, cycles.len() % VISIT == VISIT - 1).await.is_none() {
                self.until_alive().await;
            }
            cycles.push(cycle);
        }
        (self.room, cycles)
    }

    /// `None`: the server died, and what it had not answered is not known.
    async fn live(&self, cycle: &mut Cycle, visit: bool) -> Option<()> {
        let made = self.call("CreateRoom", json!({ "name": self.room })).await?;
        cycle.sid = Some(made["sid"].as_str().expect("a sid").to_owned());
        self.answered.fetch_add(1, Ordering::Relaxed);
        if visit {
            let token =
                token(VideoGrant { room_join: true, room: self.room.clone(), ..VideoGrant::default() });
            let url = format!("ws://{}/rtc?access_token={token}&protocol=16", self.server);
            // From here on somebody may have been in.
            cycle.visited = true;
            let (socket, _) = tokio_tungstenite::connect_async(url).await.ok()?;
            drop(socket);
        }
        self.call("DeleteRoom", json!({ "room": self.room })).await?;
        cycle.ended = true;
        self.answered.fetch_add(1 + usize::from(visit), Ordering::Relaxed);
        Some(())
    }

    /// What the server answers; `None` when it does not.
    async fn call(&self, method: &str, body: Value) -> Option<Value> {
        let grant = VideoGrant { room_create: true, ..VideoGrant::default() };
        let request = self
            .client
            .post(format!("http://{}/twirp/livekit.RoomService/{method}", self.server))
            .header("authorization", format!("Bearer {}", token(grant)))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let body = answer.bytes().await.ok()?;
        assert!(status.is_success(), "{method}: {status}: {}", String::from_utf8_lossy(&body));
        Some(serde_json::from_slice(&body).expect("JSON"))
    }

    async fn until_alive(&self) {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://{}/readyz", self.server);
        while !self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < deadline, "the server does not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn token(grant: VideoGrant) -> String {
    let claims = Claims { sub: "visitor".to_owned(), video: Some(grant), ..Claims::default() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    access::mint("devkey", "secret", claims, Duration::from_mins(10), now as i64).expect("a token")
}
