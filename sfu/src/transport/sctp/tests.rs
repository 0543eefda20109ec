use std::time::Duration;

use super::*;

const TICK: Duration = Duration::from_millis(5);
const ONE_WAY: Duration = Duration::from_millis(20);

/// Two transports on a virtual wire: 20 ms each way, seeded loss, a tick of 5 ms.
struct Wire {
    now: Instant,
    rng: fastrand::Rng,
    /// The DTLS client and the DTLS server.
    ends: [DataTransport; 2],
    /// What each end was told, oldest first.
    got: [Vec<ChannelEvent>; 2],
    /// Arrival, receiving end, packet; in order of arrival.
    flying: VecDeque<(Instant, usize, Bytes)>,
    loss: f64,
    packets_per_tick: usize,
    reads: [bool; 2],
    /// The packets that the client sent, with the time; filled when asked for.
    tapped: Option<Vec<Bytes>>,
}

#[expect(clippy::disallowed_methods, reason = "an `Instant` to count from; nothing reads it again")]
fn origin() -> Instant {
    Instant::now()
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Wire {
    fn new(seed: u64, configs: [DataConfig; 2]) -> Wire {
        let [client, server] = configs;
        Wire {
            now: origin(),
            rng: fastrand::Rng::with_seed(seed),
            ends: [
                DataTransport::new(DtlsRole::Client, client),
                DataTransport::new(DtlsRole::Server, server),
            ],
            got: [vec![], vec![]],
            flying: VecDeque::new(),
            loss: 0.0,
            packets_per_tick: 20,
            reads: [true, true],
            tapped: None,
        }
    }

    /// Both ends up, with default limits.
    fn up(seed: u64) -> Wire {
        let mut wire = Wire::new(seed, [DataConfig::default(), DataConfig::default()]);
        wire.run(Duration::from_secs(1));
        assert!(wire.ends.iter().all(DataTransport::is_up), "seed {seed}");
        wire
    }

    /// One channel of each kind, opened by the client.
    fn with_channels(seed: u64) -> Wire {
        let mut wire = Wire::up(seed);
        wire.ends[CLIENT].open("_reliable", Reliability::Reliable).unwrap();
        wire.ends[CLIENT].open("_lossy", Reliability::Lossy).unwrap();
        wire.run(Duration::from_millis(200));
        wire.got = [vec![], vec![]];
        wire
    }

    fn tick(&mut self) {
        self.now += TICK;
        while self.flying.front().is_some_and(|(at, _, _)| *at <= self.now) {
            let (_, end, packet) = self.flying.pop_front().unwrap();
            self.ends[end].handle_datagram(self.now, &packet);
        }
        for end in [CLIENT, SERVER] {
            if self.ends[end].next_timeout().is_some_and(|at| at <= self.now) {
                self.ends[end].handle_timeout(self.now);
            }
            if self.reads[end] {
                while let Some(event) = self.ends[end].poll_event() {
                    self.got[end].push(event);
                }
            }
            for _ in 0..self.packets_per_tick {
                let Some(packet) = self.ends[end].poll_transmit(self.now) else { break };
                assert!(packet.len() <= MAX_PACKET_LEN, "{} bytes", packet.len());
                if end == CLIENT
                    && let Some(tapped) = &mut self.tapped
                {
                    tapped.push(packet.clone());
                }
                if self.rng.f64() >= self.loss {
                    self.flying.push_back((self.now + ONE_WAY, 1 - end, packet));
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }

    /// Sends as the limits let it, for at most a minute.
    fn send(&mut self, end: usize, label: &str, payload: &[u8]) {
        for _ in 0..12_000 {
            match self.ends[end].send(label, true, payload) {
                Ok(()) => return,
                Err(SendError::Backlogged) => self.tick(),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("backlogged for a minute");
    }

    /// Payloads that `end` got on `label`.
    fn payloads(&self, end: usize, wanted: &str) -> Vec<&Bytes> {
        let messages = self.got[end].iter().filter_map(|event| match event {
            ChannelEvent::Message { label, payload, .. } if label == wanted => Some(payload),
            _ => None,
        });
        messages.collect()
    }

    fn run_until(&mut self, limit: Duration, done: impl Fn(&Wire) -> bool) -> Duration {
        let begin = self.now;
        while !done(self) {
            assert!(self.now < begin + limit, "not done after {limit:?}: {self:?}");
            self.tick();
        }
        self.now - begin
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for end in [CLIENT, SERVER] {
            let (transport, got) = (&self.ends[end], self.got[end].len());
            let timeout = transport.next_timeout().map(|at| at.saturating_duration_since(self.now));
            write!(f, "{end}: {got} events, {:?}, timeout in {timeout:?}, ", transport.state)?;
            write!(f, "{} streams, {:?}; ", transport.live_streams, transport.counters)?;
        }
        Ok(())
    }
}

fn opened(label: &str, reliability: Reliability) -> ChannelEvent {
    ChannelEvent::Opened { label: label.to_owned(), reliability }
}

fn closed(label: &str) -> ChannelEvent {
    ChannelEvent::Closed { label: label.to_owned() }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

#[test]
fn channels_of_either_side_open_with_label_and_reliability() {
    let mut wire = Wire::new(1, [DataConfig::default(), DataConfig::default()]);
    // Before the association is up.
    wire.ends[SERVER].open("_reliable", Reliability::Reliable).unwrap();
    wire.ends[SERVER].open("_lossy", Reliability::Lossy).unwrap();
    assert_eq!(wire.ends[SERVER].send("_reliable", true, b"x"), Err(SendError::NotOpen));
    wire.run(Duration::from_secs(1));
    wire.ends[CLIENT].open("chat", Reliability::Reliable).unwrap();
    wire.run(Duration::from_millis(200));
    for end in [CLIENT, SERVER] {
        assert_eq!(
            wire.got[end],
            [
                opened("_reliable", Reliability::Reliable),
                opened("_lossy", Reliability::Lossy),
                opened("chat", Reliability::Reliable)
            ],
            "end {end}"
        );
    }

    wire.got = [vec![], vec![]];
    for label in ["_reliable", "_lossy", "chat"] {
        wire.ends[SERVER].send(label, true, label.as_bytes()).unwrap();
        wire.ends[CLIENT].send(label, false, label.as_bytes()).unwrap();
    }
    wire.run(Duration::from_millis(200));
    for (end, binary) in [(CLIENT, true), (SERVER, false)] {
        let mut streams = vec![];
        for label in ["_reliable", "_lossy", "chat"] {
            let found = wire.got[end].iter().find_map(|event| match event {
                ChannelEvent::Message { label: got, stream, binary: b, payload }
                    if got == label && *b == binary && payload == label =>
                {
                    Some(stream.0)
                }
                _ => None,
            });
            streams.push(found.unwrap_or_else(|| panic!("nothing on {label} at {end}")));
        }
        assert_eq!(streams, [1, 3, 0], "odd for the DTLS server, even for the client");
    }
}

#[test]
fn messages_on_a_reliable_channel_arrive_once_and_in_order() {
    for (seed, loss) in [(1, 0.0), (2, 0.05), (3, 0.2)] {
        let mut wire = Wire::with_channels(seed);
        wire.loss = loss;
        for number in 0..2000u32 {
            wire.send(CLIENT, "_reliable", &number.to_be_bytes());
        }
        let taken = wire.run_until(Duration::from_mins(1), |w| w.payloads(SERVER, "_reliable").len() == 2000);
        for (number, payload) in (0..2000u32).zip(wire.payloads(SERVER, "_reliable")) {
            assert_eq!(payload[..], number.to_be_bytes(), "seed {seed}");
        }
        // 40 packets: what loss costs is retransmission timeouts of 200 ms.
        assert!(taken < Duration::from_secs(6), "seed {seed}: {taken:?}");
    }
}

#[test]
fn messages_of_all_sizes_arrive_whole() {
    for loss in [0.0, 0.05] {
        let mut wire = Wire::with_channels(4);
        wire.loss = loss;
        let sizes = [0, 1, 0, 1119, 1120, 1121, 60_000, 200_000, MAX_MESSAGE_SIZE, 5];
        for (seed, size) in (0..).zip(sizes) {
            wire.send(SERVER, "_reliable", &noise(seed, size));
        }
        wire.run_until(Duration::from_mins(1), |w| w.payloads(CLIENT, "_reliable").len() == sizes.len());
        for (seed, (size, payload)) in (0..).zip(sizes.iter().zip(wire.payloads(CLIENT, "_reliable"))) {
            assert_eq!(payload, &noise(seed, *size), "{size}");
        }
    }
}

#[test]
fn text_and_empty_text_stay_text() {
    let mut wire = Wire::with_channels(5);
    for (binary, payload) in [(false, "ä"), (false, ""), (true, ""), (true, "b")] {
        wire.ends[CLIENT].send("_reliable", binary, payload.as_bytes()).unwrap();
    }
    wire.run(Duration::from_millis(300));
    let expected = [(false, "ä"), (false, ""), (true, ""), (true, "b")].map(|(binary, text)| {
        let (label, payload) = ("_reliable".to_owned(), Bytes::from(text));
        ChannelEvent::Message { label, stream: StreamId(0), binary, payload }
    });
    assert_eq!(wire.got[SERVER], expected);
}

#[test]
fn a_message_above_the_limit_is_an_error_and_the_channel_lives() {
    let mut wire = Wire::with_channels(6);
    let (got, limit) = (MAX_MESSAGE_SIZE + 1, MAX_MESSAGE_SIZE);
    let refused = wire.ends[CLIENT].send("_reliable", true, &noise(1, got));
    assert_eq!(refused, Err(SendError::TooLarge { got, limit }));
    let refused = wire.ends[CLIENT].send("_lossy", true, &noise(1, 65_537));
    assert_eq!(refused, Err(SendError::TooLarge { got: 65_537, limit: 65_536 }));
    for label in ["_reliable", "_lossy"] {
        wire.ends[CLIENT].send(label, true, b"small").unwrap();
    }
    wire.run(Duration::from_millis(300));
    assert_eq!(wire.payloads(SERVER, "_reliable"), ["small"]);
    assert_eq!(wire.payloads(SERVER, "_lossy"), ["small"]);
}

#[test]
fn a_peers_message_above_the_limit_is_dropped_and_the_channel_lives() {
    let eager = DataConfig { max_send_message: 1 << 20, ..DataConfig::default() };
    let mut wire = Wire::new(7, [eager, DataConfig::default()]);
    wire.run(Duration::from_secs(1));
    wire.ends[CLIENT].open("_reliable", Reliability::Reliable).unwrap();
    wire.ends[CLIENT].open("other", Reliability::Reliable).unwrap();
    wire.run(Duration::from_millis(200));

    wire.send(CLIENT, "_reliable", &noise(1, MAX_MESSAGE_SIZE + 1));
    wire.send(CLIENT, "_reliable", b"after");
    wire.send(CLIENT, "other", b"beside");
    wire.run_until(Duration::from_secs(20), |w| w.payloads(SERVER, "_reliable").len() == 1);
    assert_eq!(wire.payloads(SERVER, "_reliable"), ["after"]);
    assert_eq!(wire.payloads(SERVER, "other"), ["beside"]);
    assert_eq!(wire.ends[SERVER].counters().oversized, 1);

    // No client does this; memory has an end, and here the data channels have too.
    wire.send(CLIENT, "other", &noise(1, 3 * MAX_MESSAGE_SIZE + 1));
    wire.run_until(Duration::from_secs(20), |w| w.got[SERVER].last() == Some(&ChannelEvent::AssociationLost));
    assert_eq!(wire.ends[SERVER].send("other", true, b"x"), Err(SendError::NotOpen));
    assert_eq!(wire.ends[SERVER].next_timeout(), None);
}

#[test]
fn a_lossy_channel_loses_but_does_not_stall() {
    for seed in 0..3 {
        let mut wire = Wire::with_channels(seed);
        wire.loss = 0.05;
        let begin = wire.now;
        for number in 0..1000u32 {
            let sent = wire.ends[CLIENT].send("_lossy", true, &number.to_be_bytes());
            assert_eq!(sent, Ok(()), "seed {seed}: 1000 small messages in 10 s are no backlog");
            wire.run(2 * TICK);
        }
        let taken = wire.now - begin;
        wire.run(Duration::from_secs(1));
        let arrived = wire.payloads(SERVER, "_lossy").len();
        assert!((850..1000).contains(&arrived), "seed {seed}: {arrived} of 1000 in {taken:?}");
        let last = wire.payloads(SERVER, "_lossy").last().and_then(|p| p.first_chunk().copied()).unwrap();
        assert!(u32::from_be_bytes(last) > 990, "seed {seed}: {last:?}");
    }
}

#[test]
fn a_lossy_channel_without_loss_carries_60_kb() {
    let mut wire = Wire::with_channels(8);
    wire.ends[CLIENT].send("_lossy", true, &noise(1, 60_000)).unwrap();
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.payloads(SERVER, "_lossy"), [&noise(1, 60_000)]);
}

#[test]
fn a_closed_channel_can_be_opened_again_and_the_others_live() {
    for loss in [0.0, 0.1] {
        let mut wire = Wire::with_channels(9);
        wire.loss = loss;
        for round in 0..5 {
            wire.send(CLIENT, "_reliable", b"last words");
            wire.ends[CLIENT].close("_reliable");
            assert_eq!(wire.ends[CLIENT].send("_reliable", true, b"x"), Err(SendError::NotOpen));
            wire.run_until(Duration::from_secs(20), |w| {
                w.got.iter().all(|got| got.contains(&closed("_reliable")))
            });
            assert_eq!(wire.payloads(SERVER, "_reliable"), ["last words"], "round {round}");
            assert_eq!(wire.got[CLIENT], [closed("_reliable")], "round {round}");

            wire.got = [vec![], vec![]];
            wire.ends[CLIENT].open("_reliable", Reliability::Reliable).unwrap();
            wire.run_until(Duration::from_secs(20), |w| !w.got[CLIENT].is_empty());
            assert_eq!(wire.got[SERVER], [opened("_reliable", Reliability::Reliable)], "round {round}");
            wire.send(SERVER, "_reliable", b"hello again");
            wire.run_until(Duration::from_secs(20), |w| w.payloads(CLIENT, "_reliable") == ["hello again"]);
            wire.got = [vec![], vec![]];
        }
        wire.loss = 0.0;
        wire.send(CLIENT, "_lossy", b"still here");
        wire.run_until(Duration::from_secs(20), |w| w.payloads(SERVER, "_lossy") == ["still here"]);
        let channels = &wire.ends[SERVER].channels;
        assert_eq!(channels.len(), 2);
        assert!(channels.iter().all(|c| c.stream.0 < 6), "ids are used again: {channels:?}");
        assert_eq!(wire.ends[SERVER].live_streams, 2);
    }
}

#[test]
fn what_was_sent_before_a_close_is_read_before_it_is_told() {
    let mut wire = Wire::with_channels(10);
    wire.reads[SERVER] = false;
    for number in 0..10u32 {
        wire.send(CLIENT, "_reliable", &number.to_be_bytes());
    }
    wire.ends[CLIENT].close("_reliable");
    wire.run(Duration::from_secs(2));
    wire.reads[SERVER] = true;
    wire.run(Duration::from_secs(2));
    assert_eq!(wire.payloads(SERVER, "_reliable").len(), 10);
    assert_eq!(wire.got[SERVER].last(), Some(&closed("_reliable")));
    assert_eq!(wire.got[CLIENT], [closed("_reliable")]);
}

#[test]
fn a_slow_reader_slows_the_sender_down() {
    let mut wire = Wire::with_channels(11);
    wire.reads[SERVER] = false;
    let message = noise(1, 16_000);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..1000 {
        match wire.ends[CLIENT].send("_reliable", true, &message) {
            Ok(()) => accepted += 1,
            Err(error) => {
                assert_eq!(error, SendError::Backlogged);
                refused += 1;
            }
        }
        wire.run(2 * TICK);
    }
    // One window at the receiver, one backlog at the sender.
    assert!((1 << 20..3 << 20).contains(&(accepted * message.len())), "{accepted} accepted");
    assert!(refused > 500);
    wire.reads[SERVER] = true;
    wire.run_until(Duration::from_secs(30), |w| w.payloads(SERVER, "_reliable").len() == accepted);
}

#[test]
fn channels_above_the_cap_are_refused_and_the_others_live() {
    let eager = DataConfig { max_channels: 200, ..DataConfig::default() };
    let mut wire = Wire::new(12, [eager, DataConfig { max_channels: 4, ..DataConfig::default() }]);
    wire.run(Duration::from_secs(1));
    for number in 0..6 {
        wire.ends[CLIENT].open(&format!("channel {number}"), Reliability::Reliable).unwrap();
    }
    wire.run(Duration::from_secs(2));
    assert_eq!(wire.got[SERVER].len(), 4);
    assert_eq!(wire.ends[SERVER].counters().refused, 2);
    for number in [4, 5] {
        assert!(wire.got[CLIENT].contains(&closed(&format!("channel {number}"))), "{:?}", wire.got[CLIENT]);
    }
    wire.send(CLIENT, "channel 3", b"fine");
    wire.run(Duration::from_millis(200));
    assert_eq!(wire.payloads(SERVER, "channel 3"), ["fine"]);
    assert_eq!(wire.ends[SERVER].open("mine", Reliability::Lossy), Err(OpenError::TooManyChannels));
    let long = "x".repeat(MAX_LABEL_LEN + 1);
    let refused = wire.ends[CLIENT].open(&long, Reliability::Lossy);
    assert_eq!(refused, Err(OpenError::LabelTooLong { got: MAX_LABEL_LEN + 1 }));

    // Far above it, the peer is not serious.
    for number in 6..100 {
        wire.ends[CLIENT].open(&format!("channel {number}"), Reliability::Reliable).unwrap();
    }
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.got[SERVER].last(), Some(&ChannelEvent::AssociationLost), "{wire:?}");
}

/// Writes to a stream of the client's as no channel of ours would.
fn write_raw(wire: &mut Wire, id: u16, ppid: Ppid, payload: &[u8]) {
    let (_, association) = wire.ends[CLIENT].association.as_mut().unwrap();
    let _ = association.open_stream(id, ppid);
    association.stream(id).unwrap().write_with_ppi(payload, ppid).unwrap();
}

#[test]
fn broken_opening_messages_cost_only_their_stream() {
    let mut wire = Wire::with_channels(13);
    let bad = [
        &b"\x00"[..],
        b"\x00\x29",
        b"\x00\x04\x00",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x00",
        &[3; 2000],
    ];
    for (id, payload) in (10..).zip(bad) {
        write_raw(&mut wire, id, Ppid::Dcep, payload);
    }
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.ends[SERVER].counters().refused, 6);
    write_raw(&mut wire, 0, Ppid::Dcep, b"\x00");
    write_raw(&mut wire, 40, Ppid::Dcep, b"\x02");
    write_raw(&mut wire, 41, Ppid::Binary, b"no channel");
    write_raw(&mut wire, 0, Ppid::Unknown, b"no data");
    wire.send(CLIENT, "_reliable", b"fine");
    wire.run(Duration::from_millis(200));
    assert_eq!(wire.ends[SERVER].counters().unexpected, 4);
    assert_eq!(wire.payloads(SERVER, "_reliable"), ["fine"]);
    assert_eq!(wire.got[SERVER].len(), 1);

    // A second OPEN on a living channel closes it.
    write_raw(
        &mut wire,
        0,
        Ppid::Dcep,
        &DcepMessage::Open(Open::new("again", Reliability::Lossy)).to_bytes(),
    );
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.got[SERVER].last(), Some(&closed("_reliable")));
    wire.send(CLIENT, "_lossy", b"fine");
    wire.run(Duration::from_millis(200));
    assert_eq!(wire.payloads(SERVER, "_lossy"), ["fine"]);
}

#[test]
fn a_late_copy_of_the_init_changes_nothing() {
    let mut wire = Wire::new(14, [DataConfig::default(), DataConfig::default()]);
    wire.tapped = Some(vec![]);
    wire.ends[CLIENT].open("_reliable", Reliability::Reliable).unwrap();
    wire.run(Duration::from_secs(1));
    let tapped = wire.tapped.take().unwrap();
    let init = tapped[0].clone();
    assert_eq!(init[12], packet::CHUNK_INIT);
    for packet in tapped {
        wire.ends[SERVER].handle_datagram(wire.now, &packet);
    }
    // One with another tag would be another association.
    let mut other = init.to_vec();
    other[16] ^= 0xff;
    wire.ends[SERVER].handle_datagram(wire.now, &with_crc(other));
    wire.send(CLIENT, "_reliable", b"fine");
    wire.run(Duration::from_millis(200));
    assert_eq!(wire.payloads(SERVER, "_reliable"), ["fine"]);
    assert!(!wire.got[SERVER].contains(&ChannelEvent::AssociationLost));
}

#[test]
fn lost_handshake_packets_are_repeated() {
    for seed in 0..30 {
        let mut wire = Wire::new(seed, [DataConfig::default(), DataConfig::default()]);
        wire.loss = 0.4;
        wire.ends[SERVER].open("_reliable", Reliability::Reliable).unwrap();
        wire.run_until(Duration::from_mins(1), |w| w.got.iter().all(|got| !got.is_empty()));
        assert!(wire.got.iter().flatten().all(|event| *event == opened("_reliable", Reliability::Reliable)));
    }
}

#[test]
fn when_both_send_an_init_the_peers_wins() {
    let mut wire = Wire::new(15, [DataConfig::default(), DataConfig::default()]);
    wire.ends[SERVER] = DataTransport::new(DtlsRole::Client, DataConfig::default());
    // The peer's own answer to our INIT is not what brings the association up.
    let ours = wire.ends[SERVER].poll_transmit(wire.now).unwrap();
    assert_eq!(ours[12], packet::CHUNK_INIT);
    wire.ends[CLIENT].open("_reliable", Reliability::Reliable).unwrap();
    wire.run(Duration::from_secs(1));
    assert_eq!(wire.got[SERVER], [opened("_reliable", Reliability::Reliable)]);
    assert_eq!(wire.got[CLIENT], [opened("_reliable", Reliability::Reliable)]);
}

fn with_crc(mut packet: Vec<u8>) -> Vec<u8> {
    packet::write_checksum(&mut packet);
    packet
}

#[test]
fn pieces_that_never_become_messages_end_the_association() {
    let mut wire = Wire::with_channels(16);
    wire.tapped = Some(vec![]);
    wire.ends[CLIENT].send("_lossy", true, b"x").unwrap();
    wire.run(Duration::from_millis(50));
    let genuine = wire.tapped.take().unwrap().into_iter().find(|p| p[12] == 0).expect("a DATA packet");
    let mut tsn = u32::from_be_bytes(*genuine[16..].first_chunk().unwrap());
    let mut sent = 0;
    while wire.got[SERVER].last() != Some(&ChannelEvent::AssociationLost) {
        let mut packet = genuine[..12].to_vec();
        for _ in 0..50 {
            tsn = tsn.wrapping_add(1);
            // Unordered, neither first nor last: one byte that waits for the rest.
            packet.extend([0, 0x04, 0, 17]);
            packet.extend(tsn.to_be_bytes());
            packet.extend([0, 2, 0, 0, 0, 0, 0, 53, 0xaa, 0, 0, 0]);
            sent += 1;
        }
        wire.ends[SERVER].handle_datagram(wire.now, &with_crc(packet));
        wire.tick();
        assert!(sent < 10_000, "{sent} pieces are still waiting");
    }
    assert!(sent > 8000, "{sent}");
}

/// What an authenticated but hostile client can send: genuine packets with bytes changed, chunks cut out,
/// repeated or glued together, under a correct checksum and tag.
#[test]
fn mutated_packets_never_panic() {
    let mut wire = Wire::with_channels(17);
    wire.tapped = Some(vec![]);
    wire.loss = 0.1;
    for number in 0..60 {
        wire.send(CLIENT, "_reliable", &noise(number, 700));
        wire.send(CLIENT, "_lossy", &noise(number, 300));
        wire.tick();
    }
    wire.ends[CLIENT].close("_lossy");
    wire.run(Duration::from_secs(2));
    let genuine = wire.tapped.take().unwrap();
    let mut lost = 0;
    for seed in 0..1000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut wire = Wire::with_channels(seed);
        let tag = {
            wire.tapped = Some(vec![]);
            wire.send(CLIENT, "_reliable", b"x");
            wire.run(Duration::from_millis(50));
            wire.tapped.take().unwrap()[0][4..8].to_vec()
        };
        for _ in 0..40 {
            let mut packet = genuine[rng.usize(..genuine.len())].to_vec();
            packet.truncate(400);
            if rng.bool() {
                let other = &genuine[rng.usize(..genuine.len())];
                packet.extend(&other[12..other.len().min(200)]);
            }
            for _ in 0..rng.usize(1..6) {
                // Headers are where the decisions are.
                let at = if rng.bool() {
                    rng.usize(12..packet.len().min(40))
                } else {
                    rng.usize(12..packet.len())
                };
                packet[at] = match rng.u8(..4) {
                    0 => rng.u8(..),
                    1 => packet[at] ^ (1 << rng.u8(..8)),
                    2 => [0, 1, 0xff, 0x80, 0xc0, 0x82][rng.usize(..6)],
                    _ => rng.u8(..16),
                };
            }
            if rng.u8(..8) == 0 {
                packet.truncate(rng.usize(12..=packet.len()));
            }
            packet[4..8].copy_from_slice(&tag);
            wire.ends[SERVER].handle_datagram(wire.now, &with_crc(packet));
            wire.tick();
        }
        lost += usize::from(!wire.ends[SERVER].is_up());
    }
    // The mutations reach the state machine: some end the association (ABORT and its like), not all do.
    assert!((1..1000).contains(&lost), "{lost} of 1000 ended");
}

proptest::proptest! {
    #[test]
    fn noise_never_panics(packets in proptest::collection::vec(
        proptest::collection::vec(proptest::num::u8::ANY, 12..100), 1..8
    )) {
        let mut transport = DataTransport::new(DtlsRole::Server, DataConfig::default());
        let now = origin();
        for packet in packets {
            transport.handle_datagram(now, &packet);
            transport.handle_datagram(now, &with_crc(packet));
            while transport.poll_event().is_some() {}
            while transport.poll_transmit(now).is_some() {}
        }
    }
}
