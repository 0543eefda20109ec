//! The loop on real loopback sockets, with a scripted core in the place of `sfu::Sfu`.

use std::net::UdpSocket as StdSocket;

use sfu::command::{AddPeer, NegotiationRole};
use sfu::ids::PeerId;

use super::super::kernel::BufferSizes;
use super::*;

/// Sends every datagram back three times; one that begins with `later` only after 5 ms. An offer's `id` is the number
/// of `FirstMedia` events that it makes, an answer's that of `Data` events.
struct Echo {
    start: Instant,
    slab: Vec<u8>,
    runs: Vec<(Path, u16, std::ops::Range<usize>)>,
    later: Vec<(Instant, Path, Vec<u8>)>,
    events: std::collections::VecDeque<Event>,
    removed: Arc<Mutex<Vec<PeerId>>>,
    stats: Stats,
}

impl Echo {
    fn new(start: Instant, removed: Arc<Mutex<Vec<PeerId>>>) -> Echo {
        Echo {
            start,
            slab: Vec::new(),
            runs: Vec::new(),
            later: Vec::new(),
            events: std::collections::VecDeque::new(),
            removed,
            stats: Stats::default(),
        }
    }

    fn answer(&mut self, path: Path, bytes: &[u8]) {
        let begin = self.slab.len();
        for _ in 0..3 {
            self.slab.extend_from_slice(bytes);
        }
        self.runs.push((path, bytes.len() as u16, begin..self.slab.len()));
    }
}

impl MediaCore for Echo {
    fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        self.stats.received.audio.packets += 1;
        if bytes.starts_with(b"later") {
            self.later.push((now + Duration::from_millis(5), path, bytes.to_vec()));
        } else {
            self.answer(path, bytes);
        }
    }

    fn handle_command(&mut self, _: Instant, command: Command) {
        match command {
            Command::Offer { peer, id, .. } => {
                self.events.extend((0..id).map(|_| Event::FirstMedia { peer }));
            }
            Command::Answer { peer, id, .. } => self.events.extend((0..id).map(|_| Event::Data {
                peer,
                label: String::new(),
                binary: true,
                payload: bytes::Bytes::new(),
            })),
            Command::RemovePeer { peer } => self.removed.lock().unwrap().push(peer),
            _ => {}
        }
    }

    fn settle(&mut self, _: Instant) {}
    fn ticks(&self) -> Ticks {
        Ticks::since(self.start)
    }
    fn handle_timeout(&mut self, now: Instant) {
        for (at, path, bytes) in std::mem::take(&mut self.later) {
            assert!(at <= now, "never early");
            self.answer(path, &bytes);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.later.first().map(|later| later.0)
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn knows(&self, _: Path) -> bool {
        false
    }

    fn handle_backlog(&mut self, _: Path, _: bool) {}
    fn restrain(&mut self, _: Instant, _: sfu::congestion::restraint::Restraint) {}

    fn egress(&self) -> impl Iterator<Item = Outgoing<'_>> {
        let run = |(path, segment, range): &(Path, u16, std::ops::Range<usize>)| Outgoing {
            path: *path,
            segment: *segment,
            bytes: &self.slab[range.clone()],
        };
        self.runs.iter().map(run)
    }

    fn clear_egress(&mut self) {
        self.slab.clear();
        self.runs.clear();
    }

    fn stats(&self) -> &Stats {
        &self.stats
    }
}

fn start() -> (Worker, Arc<Mutex<Vec<PeerId>>>) {
    let buffers = BufferSizes { receive: 1 << 20, send: 1 << 20 };
    let sockets = ["127.0.0.1:0", "[::1]:0"];
    let sockets = sockets.iter().map(|at| UdpSocket::bind(at.parse().unwrap(), buffers).unwrap()).collect();
    let removed = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&removed);
    let worker = Worker::start(0, sockets, None, move |now| Echo::new(now, shared)).unwrap();
    (worker, removed)
}

fn client(server: SocketAddr) -> StdSocket {
    let socket = StdSocket::bind(SocketAddr::new(server.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn expect_thrice(socket: &StdSocket, expected: &[u8]) {
    let mut buffer = [0; 2048];
    for _ in 0..3 {
        let length = socket.recv(&mut buffer).expect("an answer");
        assert_eq!(&buffer[..length], expected);
    }
}

fn add_peer(peer: u64, room: u64) -> ToWorker {
    ToWorker::Media(Command::AddPeer(AddPeer {
        peer: PeerId(peer),
        room: RoomId(room),
        role: NegotiationRole::Answerer,
        channels: Vec::new(),
    }))
}

/// Makes `count` events of peer `peer`.
fn make_events(peer: u64, count: usize) -> ToWorker {
    let id = count as u32;
    ToWorker::Media(Command::Offer { peer: PeerId(peer), id, sdp: String::new(), hints: Vec::new() })
}

#[tokio::test]
async fn datagrams_are_answered_on_both_families_at_once_and_by_timer() {
    let (worker, _) = start();
    for &server in worker.local_addrs() {
        let socket = client(server);
        socket.send(b"now").unwrap();
        expect_thrice(&socket, b"now");
        let begin = Instant::now();
        socket.send(b"later").unwrap();
        expect_thrice(&socket, b"later");
        assert!(begin.elapsed() >= Duration::from_millis(5));
    }
    let stats = worker.stats();
    worker.stop().await;
    let stats = stats.lock().unwrap();
    assert_eq!(stats.core.received.audio.packets, 4, "counts are copied out at the end, too");
    assert!(stats.send_calls >= 4);
    assert!(stats.lag.counts.iter().sum::<u64>() >= 2, "timers were due");
}

#[tokio::test]
async fn events_go_to_their_room_only() {
    let (worker, _) = start();
    let mut rooms = Vec::new();
    for id in 1..=2 {
        let (events, queue) = mpsc::channel(EVENT_QUEUE);
        worker.client().send(ToWorker::Open { room: RoomId(id), events }).await.unwrap();
        worker.client().send(add_peer(id, id)).await.unwrap();
        rooms.push(queue);
    }
    worker.client().send(make_events(2, 1)).await.unwrap();
    let event = rooms[1].recv().await.expect("room 2 is open");
    assert!(matches!(event, Event::FirstMedia { peer: PeerId(2) }));
    worker.stop().await;
    assert!(rooms[0].recv().await.is_none(), "nothing for room 1 before the worker's end");
}

#[tokio::test]
async fn a_room_that_takes_nothing_is_closed_and_the_others_go_on() {
    let (worker, removed) = start();
    let (events, mut stuck) = mpsc::channel(EVENT_QUEUE);
    worker.client().send(ToWorker::Open { room: RoomId(1), events }).await.unwrap();
    let (events, mut well) = mpsc::channel(EVENT_QUEUE);
    worker.client().send(ToWorker::Open { room: RoomId(2), events }).await.unwrap();
    for (peer, room) in [(10, 1), (11, 1), (20, 2)] {
        worker.client().send(add_peer(peer, room)).await.unwrap();
    }
    worker.client().send(make_events(10, EVENT_QUEUE + 1)).await.unwrap();
    worker.client().send(make_events(20, 1)).await.unwrap();
    assert!(well.recv().await.is_some());

    let mut taken = 0;
    while stuck.recv().await.is_some() {
        taken += 1;
    }
    assert_eq!(taken, EVENT_QUEUE, "the queue ends after what was in it");
    let stats = worker.stats();
    worker.stop().await;
    let mut removed = removed.lock().unwrap().clone();
    removed.sort();
    assert_eq!(removed, [PeerId(10), PeerId(11)]);
    assert_eq!(stats.lock().unwrap().rooms_overrun, 1);
}

#[tokio::test]
async fn data_cannot_take_the_places_of_signalling() {
    let (worker, removed) = start();
    let (events, mut queue) = mpsc::channel(EVENT_QUEUE);
    worker.client().send(ToWorker::Open { room: RoomId(1), events }).await.unwrap();
    worker.client().send(add_peer(1, 1)).await.unwrap();
    let flood = Command::Answer { peer: PeerId(1), id: 10_000, sdp: String::new() };
    worker.client().send(ToWorker::Media(flood)).await.unwrap();
    worker.client().send(make_events(1, 1)).await.unwrap();
    let stats = worker.stats();
    worker.stop().await;

    let mut last = None;
    while let Some(event) = queue.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::FirstMedia { .. })), "the room lives and hears of it: {last:?}");
    assert_eq!(stats.lock().unwrap().data_dropped, 10_000 - (EVENT_QUEUE - EVENT_RESERVE) as u64);
    assert!(removed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_closed_room_leaves_no_connection() {
    let (worker, removed) = start();
    let (events, mut queue) = mpsc::channel(EVENT_QUEUE);
    worker.client().send(ToWorker::Open { room: RoomId(1), events }).await.unwrap();
    worker.client().send(add_peer(1, 1)).await.unwrap();
    worker.client().send(ToWorker::Close { room: RoomId(1) }).await.unwrap();
    assert!(queue.recv().await.is_none());
    worker.stop().await;
    assert_eq!(*removed.lock().unwrap(), [PeerId(1)]);
}

#[tokio::test]
async fn a_worker_that_panicked_is_seen_to_be_gone() {
    struct Bomb(Echo);
    impl MediaCore for Bomb {
        fn handle_datagram(&mut self, _: Instant, _: Path, _: &mut [u8]) {}
        fn handle_command(&mut self, _: Instant, _: Command) {
            panic!("as a bug would");
        }
        fn settle(&mut self, _: Instant) {}
        fn handle_timeout(&mut self, _: Instant) {}
        fn ticks(&self) -> Ticks {
            self.0.ticks()
        }
        fn next_timeout(&self) -> Option<Instant> {
            None
        }
        fn poll_event(&mut self) -> Option<Event> {
            None
        }
        fn knows(&self, _: Path) -> bool {
            false
        }
        fn handle_backlog(&mut self, _: Path, _: bool) {}
        fn restrain(&mut self, _: Instant, _: sfu::congestion::restraint::Restraint) {}
        fn egress(&self) -> impl Iterator<Item = Outgoing<'_>> {
            self.0.egress()
        }
        fn clear_egress(&mut self) {}
        fn stats(&self) -> &Stats {
            &self.0.stats
        }
    }
    let worker = Worker::start(0, Vec::new(), None, |now| Bomb(Echo::new(now, Arc::default()))).unwrap();
    let client = worker.client().clone();
    client.send(add_peer(1, 1)).await.unwrap();
    client.queue.closed().await;
    assert!(!client.is_alive());
    assert_eq!(client.send(ToWorker::Stop).await, Err(WorkerGone));
}

#[tokio::test]
async fn a_worker_that_takes_all_of_its_core_holds_video_back_and_lets_nobody_in() {
    /// Has work without end while `busy`.
    struct Swamped {
        echo: Echo,
        busy: Arc<AtomicBool>,
        restrained: Arc<AtomicBool>,
    }
    impl MediaCore for Swamped {
        fn handle_datagram(&mut self, _: Instant, _: Path, _: &mut [u8]) {}
        fn handle_command(&mut self, _: Instant, _: Command) {}
        fn settle(&mut self, _: Instant) {}
        fn handle_timeout(&mut self, now: Instant) {
            while now.elapsed() < Duration::from_millis(5) {}
        }
        fn ticks(&self) -> Ticks {
            self.echo.ticks()
        }
        fn next_timeout(&self) -> Option<Instant> {
            self.busy.load(Ordering::Relaxed).then_some(self.echo.start)
        }
        fn poll_event(&mut self) -> Option<Event> {
            None
        }
        fn knows(&self, _: Path) -> bool {
            false
        }
        fn handle_backlog(&mut self, _: Path, _: bool) {}
        fn restrain(&mut self, _: Instant, restraint: Restraint) {
            self.restrained.store(restraint > Restraint::NONE, Ordering::Relaxed);
        }
        fn egress(&self) -> impl Iterator<Item = Outgoing<'_>> {
            self.echo.egress()
        }
        fn clear_egress(&mut self) {}
        fn stats(&self) -> &Stats {
            &self.echo.stats
        }
    }
    let flags = [true, false].map(|flag| Arc::new(AtomicBool::new(flag)));
    let [busy, restrained] = flags.clone();
    // What the loop gets of the machine is the machine's affair.
    let limits = Limits { own: 0.0, little: 0.0, ..Limits::of(0.85) };
    let worker = Worker::start(0, Vec::new(), Some(limits), move |now| Swamped {
        echo: Echo::new(now, Arc::default()),
        busy,
        restrained,
    });
    let worker = worker.unwrap();
    let [busy, restrained] = flags;
    let load = worker.client().load();
    let until = async |wanted: bool| {
        let by = Instant::now() + Duration::from_mins(1);
        while restrained.load(Ordering::Relaxed) != wanted || load.admits() == wanted {
            assert!(Instant::now() < by, "restrained: {restrained:?}, {load:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(true).await;
    busy.store(false, Ordering::Relaxed);
    until(false).await;
    worker.stop().await;
}
