use std::time::Duration;

use super::*;
use crate::SfuConfig;
use crate::command::{AddPeer, Command, NegotiationRole};
use crate::ids::RoomId;
use crate::units::WallClock;

/// A core with connections that have no path, so that packets for them wait where they can be looked at.
struct Core {
    sfu: Sfu,
    now: Instant,
}

const ALICE: PeerId = PeerId(1);
const BOB: PeerId = PeerId(2);
const CAROL: PeerId = PeerId(3);

fn handle(number: u32) -> DataHandle {
    DataHandle::new(number).unwrap()
}

/// A frame of one packet.
fn packet(number: u16, payload: &str) -> Bytes {
    let mut packet = vec![0x18, 0];
    packet.extend(number.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend(payload.as_bytes());
    packet.into()
}

impl Core {
    fn new() -> Core {
        let now = crate::test_time();
        let wall = WallClock { instant: now, unix: Duration::from_hours(500_000) };
        let config = SfuConfig {
            announced: Vec::new(),
            announced_tcp: Vec::new(),
            wall,
            seed: 1,
            secret: [1; 32],
            number: 0,
        };
        let mut core = Core { sfu: Sfu::new(config).unwrap(), now };
        for peer in [ALICE, BOB, CAROL] {
            core.add(peer);
        }
        core
    }

    fn command(&mut self, command: Command) {
        self.sfu.handle_command(self.now, command);
    }

    fn add(&mut self, peer: PeerId) {
        let (room, role) = (RoomId(1), NegotiationRole::Answerer);
        self.command(Command::AddPeer(AddPeer { peer, room, role, channels: Vec::new() }));
    }

    fn subscribe(&mut self, peer: PeerId, track: u64, number: u32, fps: Option<u32>) {
        let (track, handle) = (TrackId(track), handle(number));
        self.command(Command::SubscribeDataTrack { peer, track, handle, fps });
    }

    fn bind(&mut self, peer: PeerId, number: u32, track: u64) {
        self.command(Command::BindDataTrack { peer, handle: handle(number), track: TrackId(track) });
    }

    fn arrive(&mut self, peer: PeerId, packet: impl Into<Bytes>) {
        let index = self.sfu.peer_ids[&peer];
        self.sfu.data_track_arrived(index, true, packet.into());
    }

    /// What waits for a connection: handles, and payloads with them.
    fn waits(&mut self, peer: PeerId) -> Vec<(u16, String)> {
        self.sfu.flush(self.now);
        let index = self.sfu.peer_ids[&peer];
        let backlog = &mut self.sfu.peers[index].as_mut().unwrap().data_backlog;
        let mut got = Vec::new();
        let take = |handle: DataHandle, packet: &Bytes| {
            got.push((handle.wire(), String::from_utf8_lossy(&packet[12..]).into_owned()));
            Ok(())
        };
        backlog.drain(self.now, take, &mut self.sfu.stats);
        got
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        let dropped = &self.sfu.stats.data_tracks_dropped;
        let counts = DataTrackDrop::ALL.into_iter().map(|reason| (reason.as_str(), dropped[reason as usize]));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

fn got(list: &[(u16, &str)]) -> Vec<(u16, String)> {
    list.iter().map(|(handle, payload)| (*handle, (*payload).to_owned())).collect()
}

#[test]
fn a_packet_goes_to_the_subscribers_of_its_senders_track_under_their_handles() {
    let mut core = Core::new();
    core.bind(ALICE, 1, 10);
    core.bind(BOB, 1, 11);
    core.subscribe(BOB, 10, 7, None);
    core.subscribe(CAROL, 10, 8, None);
    core.subscribe(CAROL, 11, 9, None);
    core.arrive(ALICE, packet(1, "of alice"));
    core.arrive(BOB, packet(1, "of bob"));
    assert_eq!(core.waits(ALICE), []);
    assert_eq!(core.waits(BOB), got(&[(7, "of alice")]));
    assert_eq!(core.waits(CAROL), got(&[(8, "of alice"), (9, "of bob")]));
    // Carol publishes nothing, whatever number she writes.
    for number in [1, 8, 9] {
        core.arrive(CAROL, packet(number, "forged"));
    }
    assert_eq!([core.waits(ALICE), core.waits(BOB)], [vec![], vec![]]);
    assert_eq!(core.dropped(), [("unknown", 3)]);
    let (received, sent) = core.sfu.stats.data_tracks;
    assert_eq!((received.packets, sent.packets, sent.bytes), (5, 3, 20 + 20 + 18));
}

#[test]
fn what_ended_goes_nowhere() {
    let mut core = Core::new();
    core.bind(ALICE, 1, 10);
    core.bind(ALICE, 2, 11);
    for track in [10, 11] {
        core.subscribe(BOB, track, track as u32, None);
        core.subscribe(CAROL, track, track as u32, None);
    }
    core.command(Command::UnsubscribeDataTrack { peer: BOB, track: TrackId(10) });
    core.command(Command::RemoveDataTrack { track: TrackId(11) });
    core.arrive(ALICE, packet(1, "first"));
    core.arrive(ALICE, packet(2, "second"));
    assert_eq!((core.waits(BOB), core.waits(CAROL)), (vec![], got(&[(10, "first")])));
    assert_eq!(core.dropped(), [("unknown", 1)]);
}

#[test]
fn a_number_of_a_connection_that_is_gone_carries_nothing_over_to_the_next() {
    let mut core = Core::new();
    core.bind(ALICE, 1, 10);
    core.subscribe(BOB, 10, 7, None);
    core.arrive(ALICE, packet(1, "last"));
    core.command(Command::RemovePeer { peer: ALICE });
    core.command(Command::RemovePeer { peer: BOB });
    let (dave, erin) = (PeerId(4), PeerId(5));
    for peer in [dave, erin] {
        core.add(peer);
    }
    core.bind(dave, 1, 12);
    assert_eq!((core.waits(dave), core.waits(erin)), (vec![], vec![]));
    core.arrive(dave, packet(1, "nobody's"));
    assert_eq!((core.waits(erin), core.waits(CAROL)), (vec![], vec![]));
    for peer in [CAROL, dave, erin] {
        core.command(Command::RemovePeer { peer });
    }
    assert_eq!(core.sfu.data_tracks.held() + core.sfu.data_packets.len(), 0);
}

#[test]
fn what_is_no_packet_is_counted_and_dropped() {
    let mut core = Core::new();
    core.bind(ALICE, 1, 10);
    core.subscribe(BOB, 10, 7, None);
    core.arrive(ALICE, vec![0; 11]);
    core.arrive(ALICE, packet(0, "no handle"));
    let alice = core.sfu.peer_ids[&ALICE];
    core.sfu.data_track_arrived(alice, false, packet(1, "text"));
    core.arrive(ALICE, packet(1, &"x".repeat(MAX_PACKET - 12)));
    core.arrive(ALICE, packet(1, &"x".repeat(MAX_PACKET - 11)));
    let arrived: Vec<usize> = core.waits(BOB).iter().map(|(_, payload)| payload.len()).collect();
    assert_eq!(arrived, [MAX_PACKET - 12]);
    assert_eq!(core.dropped(), [("malformed", 3), ("too_large", 1)]);
}

#[test]
fn who_wants_fewer_frames_gets_fewer() {
    let mut core = Core::new();
    core.bind(ALICE, 1, 10);
    core.subscribe(BOB, 10, 7, Some(5));
    core.subscribe(CAROL, 10, 8, None);
    let (mut fewer, mut all) = (0, 0);
    for frame in 0..100u16 {
        let mut bytes = packet(1, "x").to_vec();
        bytes[6..8].copy_from_slice(&frame.to_be_bytes());
        core.arrive(ALICE, bytes);
        fewer += core.waits(BOB).len();
        all += core.waits(CAROL).len();
        core.now += Duration::from_millis(20);
    }
    assert!((10..=12).contains(&fewer), "{fewer} in two seconds at five a second");
    assert_eq!(all, 100);
}

#[test]
fn what_is_collected_is_bounded_without_a_flush() {
    let mut core = Core::new();
    core.bind(ALICE, 1, 10);
    core.subscribe(BOB, 10, 7, None);
    for _ in 0..10 * MAX_COLLECTED {
        core.arrive(ALICE, packet(1, "x"));
        core.sfu.bound_collected_data(core.now);
        assert!(core.sfu.data_packets.len() < MAX_COLLECTED);
    }
    assert!(!core.waits(BOB).is_empty());
}
