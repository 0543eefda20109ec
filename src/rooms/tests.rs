//! Rooms without sockets: what happens when queues are full, and when joins cross ends.

use livekit_protocol::signal_response::Message;
use signaling::access::{self, Claims, VideoGrant};
use signaling::livekit::connect::{self, Endpoint, HttpRequest};
use tokio::sync::mpsc;

use super::*;
use crate::bridge::{CoreSeed, media_core};
use crate::config::DEV_KEY;
use crate::media::worker::Worker;

fn start(change: impl FnOnce(&mut Settings)) -> (Rooms, Worker) {
    let mut settings = Settings::test();
    change(&mut settings);
    let clock = bridge::clock();
    let wall = sfu::units::WallClock { instant: clock.now, unix: Duration::from_secs(1_700_000_000) };
    let seed = CoreSeed { announced: Vec::new(), announced_tcp: Vec::new(), number: 0, wall, seed: 1 };
    let worker = Worker::start(0, Vec::new(), None, move |now| media_core(seed, now)).unwrap();
    let metrics = Metrics::new(vec![worker.stats()]).unwrap();
    (Rooms::new(&settings, vec![worker.client().clone()], metrics, None), worker)
}

fn admission(rooms: &Rooms, room: &str, identity: &str) -> Admission {
    let video = VideoGrant { room_join: true, room: room.to_owned(), ..VideoGrant::default() };
    let claims = Claims { sub: identity.to_owned(), video: Some(video), ..Claims::default() };
    let now = bridge::unix_ms();
    let token = access::mint(DEV_KEY.0, DEV_KEY.1, claims, Duration::from_mins(1), now / 1000).unwrap();
    let query = format!("access_token={token}&protocol=16");
    let request =
        HttpRequest { endpoint: Endpoint::V0, query: &query, authorization: None, user_agent: None };
    connect::admit(&request, &rooms.settings().keys, &rooms.settings().limits, now).unwrap()
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off_and_the_others_go_on() {
    let (rooms, worker) = start(|settings| settings.limits.session_queue = NonZeroUsize::new(8).unwrap());
    let mut slow = rooms.join(admission(&rooms, "r", "slow")).await.unwrap();
    let metric = rooms.shared.metrics.slow_clients.clone();
    let mut witness = rooms.join(admission(&rooms, "r", "witness")).await.unwrap();
    for i in 0..20 {
        // Each newcomer is news for the slow one, told at the same moment as to the witness.
        let name = format!("p{i}");
        let _newcomer = rooms.join(admission(&rooms, "r", &name)).await.unwrap();
        loop {
            match witness.next().await.expect("the witness reads and stays").message {
                Some(Message::Update(update)) if update.participants.iter().any(|p| p.identity == name) => {
                    break;
                }
                _ => {}
            }
        }
        if metric.get() > 0 {
            break;
        }
    }
    assert_eq!(metric.get(), 1);
    let mut kept = 0;
    while slow.next().await.is_some() {
        kept += 1;
    }
    assert_eq!(kept, 8, "what was in its queue, and then the end");
    assert!(!witness.is_ending(), "the others stay");
    rooms.shut_down().await;
    worker.stop().await;
}

#[tokio::test]
async fn joins_that_cross_the_end_of_their_room_get_a_new_one() {
    // The room ends as soon as it is empty, so every join meets the end of the one before.
    let (rooms, worker) = start(|settings| settings.rooms.departure_timeout = Duration::ZERO);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let rooms = rooms.clone();
        tasks.spawn(async move {
            let admission = admission(&rooms, "r", &format!("p{i}"));
            let mut session =
                rooms.join(admission).await.unwrap_or_else(|refusal| panic!("{i}: {refusal:?}"));
            assert!(session.next().await.is_some());
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    while !rooms.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rooms.shared.participants.load(Ordering::Relaxed), 0);
    assert_eq!(worker.client().load().participants().load(Ordering::Relaxed), 0);
    rooms.shut_down().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_join_that_nobody_waits_for_leaves_nobody_behind() {
    let (rooms, worker) = start(|settings| settings.rooms.departure_timeout = Duration::ZERO);
    for i in 0..50 {
        let admission = admission(&rooms, "r", &format!("p{i}"));
        // Dropped at every possible moment: before, while and after the room takes it.
        let join = rooms.join(admission);
        let _ = tokio::time::timeout(Duration::from_micros(i * 10), join).await;
    }
    while !rooms.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rooms.shared.participants.load(Ordering::Relaxed), 0);
    rooms.shut_down().await;
    worker.stop().await;
}

#[tokio::test]
async fn after_the_shut_down_nobody_gets_in() {
    let (rooms, worker) = start(|_| {});
    let mut session = rooms.join(admission(&rooms, "r", "i")).await.unwrap();
    rooms.shut_down().await;
    while session.next().await.is_some() {}
    let refusal = rooms.join(admission(&rooms, "r", "j")).await.err().expect("refused");
    assert_eq!(refusal.status, 503);
    assert!(rooms.is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_while_the_mailbox_is_full_is_still_reported() {
    let (mailbox, mut messages) = mpsc::channel(1);
    let (_outgoing, responses) = mpsc::channel(1);
    mailbox.send(ToRoom::Closed(SessionId(1), SocketEnd::Closed)).await.unwrap();
    let seat = Some(Seat { id: SessionId(2), mailbox });
    let session = Session { outgoing: responses, seat, end: SocketEnd::Closed };
    let end = SocketEnd::Silent(Duration::from_secs(7));
    session.close(end);
    assert!(matches!(messages.recv().await, Some(ToRoom::Closed(SessionId(1), _))));
    assert!(matches!(messages.recv().await, Some(ToRoom::Closed(SessionId(2), told)) if told == end));
}
