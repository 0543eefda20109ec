use proptest::prelude::*;

use super::*;
use crate::congestion::twcc::Arrival;
use crate::forward::cache::{Carried, PacketMeta};
use crate::units::DataSize;
use crate::wire::description::PacketDescription;

const FRAME: i32 = 960;
const CALM: Path = Path { queue: Queue::Normal, delay: Duration::ZERO };

/// One packet of 20 ms: its number, its bytes, marker and level.
#[derive(Clone, Debug)]
struct Frame {
    number: u64,
    time: i32,
    payload: Vec<u8>,
    marker: bool,
    level: Option<u8>,
}

fn frame(number: u64) -> Frame {
    let payload = vec![number as u8; 60];
    Frame { number, time: number as i32 * FRAME, payload, marker: false, level: Some(30) }
}

fn first() -> SeqNo {
    SeqNo::first(65_530)
}

fn cache(frames: &[Frame]) -> PacketCache {
    let mut cache = PacketCache::default();
    for frame in frames {
        let meta = PacketMeta {
            seq: first().plus(frame.number),
            marker: frame.marker,
            payload_type: 111,
            timestamp: RtpTime(u32::MAX - 1000).plus(frame.time),
            arrival: crate::test_time(),
            description: PacketDescription::default(),
            carried: Carried { audio_level: frame.level, ..Carried::default() },
        };
        cache.insert(meta, &[], &frame.payload);
    }
    cache
}

/// Offset and first byte of each block that goes along with packet `number`.
fn gathered(frames: &[Frame], number: u64, level: u8, from: u64) -> Vec<(u16, u8)> {
    let cache = cache(frames);
    let packet = cache.get(first().plus(number)).unwrap();
    let earlier = Earlier::gather(&cache, &packet, level, first().plus(from), 111);
    earlier.blocks().iter().map(|block| (block.offset, block.payload[0])).collect()
}

#[test]
fn the_packets_before_go_along_oldest_first() {
    let frames: Vec<Frame> = (0..10).map(frame).collect();
    assert_eq!(gathered(&frames, 8, 0, 0), []);
    assert_eq!(gathered(&frames, 8, 1, 0), [(960, 7)]);
    assert_eq!(gathered(&frames, 8, 2, 0), [(1920, 6), (960, 7)]);
    assert_eq!(gathered(&frames, 8, 9, 0), [(1920, 6), (960, 7)], "no more than two");
    assert_eq!(gathered(&frames, 8, 2, 7), [(960, 7)], "the subscriber's stream begins at 7");
    assert_eq!(gathered(&frames, 0, 2, 0), [], "the first of all");
}

#[test]
fn nothing_goes_along_over_a_gap_a_pause_or_a_new_spurt() {
    let frames = |change: fn(&mut Frame)| -> Vec<Frame> {
        let mut frames: Vec<Frame> = (0..10).map(frame).collect();
        frames[7..].iter_mut().for_each(change);
        frames
    };
    let lost: Vec<Frame> = (0..10).filter(|number| *number != 7).map(frame).collect();
    assert_eq!(gathered(&lost, 8, 2, 0), []);
    assert_eq!(gathered(&lost, 9, 2, 0), [(960, 8)]);

    let paused = frames(|frame| frame.time += 20_000);
    assert_eq!(gathered(&paused, 7, 2, 0), []);
    assert_eq!(gathered(&paused, 8, 2, 0), [(960, 7)]);
    let back = frames(|frame| frame.time -= 20_000);
    assert_eq!(gathered(&back, 7, 2, 0), [], "another clock");
    let spurt = frames(|frame| frame.marker = frame.number == 7);
    assert_eq!(gathered(&spurt, 7, 2, 0), []);
    assert_eq!(gathered(&spurt, 8, 2, 0), [(960, 7)]);
}

#[test]
fn silence_neither_carries_nor_is_carried() {
    let frames = |change: fn(&mut Frame)| -> Vec<Frame> {
        let mut frames: Vec<Frame> = (0..10).map(frame).collect();
        change(&mut frames[7]);
        frames
    };
    let discontinuous = frames(|frame| frame.payload.truncate(1));
    let quiet = frames(|frame| frame.level = Some(80));
    for frames in [discontinuous, quiet] {
        assert_eq!(gathered(&frames, 7, 2, 0), []);
        assert_eq!(gathered(&frames, 8, 2, 0), []);
        assert_eq!(gathered(&frames, 9, 2, 0), [(960, 8)]);
    }
    let unknown = frames(|frame| frame.level = None);
    assert_eq!(gathered(&unknown, 8, 2, 0).len(), 2, "a client without levels speaks");
    let voice = frames(|frame| frame.level = Some(0x80 | 0x1e));
    assert_eq!(gathered(&voice, 8, 2, 0).len(), 2);
}

#[test]
fn a_lost_packet_is_found_by_its_time() {
    let find = |lost: &[u64], of: u64, frames_back: u16| {
        let frames: Vec<Frame> = (0..20).filter(|n| *n <= of && !lost.contains(n)).map(frame).collect();
        let cache = cache(&frames);
        let at = cache.get(first().plus(of)).unwrap().meta.timestamp;
        let seq = missing_number(&cache, first().plus(of), at, 960 * frames_back)?;
        Some(seq.distance(first()) as u64)
    };
    assert_eq!(find(&[9], 10, 1), Some(9));
    assert_eq!(find(&[9], 10, 2), None, "8 is there");
    assert_eq!(find(&[8], 10, 2), Some(8));
    assert_eq!(find(&[7, 8, 9], 10, 3), Some(7));
    assert_eq!(find(&[7, 8, 9], 10, 2), Some(8));
    assert_eq!(find(&[0, 1], 2, 1), None, "nothing before it tells where it stood");

    // A pause lies in the gap, so that nobody knows how many packets were on which side.
    let mut frames: Vec<Frame> = [5, 8].map(frame).to_vec();
    frames[1].time += 4000;
    let cache = cache(&frames);
    let at = cache.get(first().plus(8)).unwrap().meta.timestamp;
    assert_eq!(missing_number(&cache, first().plus(8), at, 960), None);
}

/// A subscriber's path in steps of 100 ms: 10 packets, of which every second is audio.
struct Subscriber {
    level: Level,
    now: Instant,
    rng: fastrand::Rng,
    conditions: Conditions,
    queue: Duration,
}

impl Subscriber {
    fn new(seed: u64) -> Subscriber {
        let conditions = Conditions {
            audio: Bitrate::kbps(48),
            block: Bitrate::kbps(24),
            target: Bitrate::kbps(1000),
            video: true,
            rtt: Duration::from_millis(80),
        };
        let rng = fastrand::Rng::with_seed(seed);
        Subscriber {
            level: Level::default(),
            now: crate::test_time(),
            rng,
            conditions,
            queue: Duration::ZERO,
        }
    }

    /// Lets time pass while packets are lost by `lose`; the levels that there were.
    fn run(&mut self, seconds: u64, mut lose: impl FnMut(&mut fastrand::Rng) -> bool) -> Vec<u8> {
        let levels = (0..seconds * 10).map(|step| {
            self.now += Duration::from_millis(100);
            let acked: Vec<Acked> = (0..10)
                .map(|n| Acked {
                    number: SeqNo::first(n),
                    sent: self.now,
                    arrival: (!lose(&mut self.rng)).then_some(Arrival::micros(0)),
                    late: false,
                    size: DataSize::bytes(100),
                    class: if n % 2 == 0 { PacketClass::Audio } else { PacketClass::Video },
                    cluster: None,
                })
                .collect();
            let path = Path { delay: self.queue, ..CALM };
            self.level.on_acked(self.now, &acked, path);
            if step % 10 == 9 {
                self.level.update(self.now, &self.conditions);
            }
            self.level.get()
        });
        levels.collect()
    }

    fn random(&mut self, seconds: u64, loss: f64) -> Vec<u8> {
        self.run(seconds, |rng| rng.f64() < loss)
    }
}

#[test]
fn the_level_follows_loss_up_at_once_and_down_late() {
    for seed in 0..20 {
        let mut path = Subscriber::new(seed);
        assert_eq!(path.random(30, 0.0).iter().max(), Some(&0), "seed {seed}: no loss");
        let levels = path.random(20, 0.03);
        assert!(levels[50..].iter().all(|level| *level == 1), "seed {seed}: 3 %: {levels:?}");
        let levels = path.random(20, 0.2);
        assert!(levels[30..].iter().all(|level| *level == 2), "seed {seed}: 20 %: {levels:?}");
        let levels = path.random(60, 0.0);
        assert!(levels[..140].iter().all(|level| *level == 2), "seed {seed}: {levels:?}");
        assert_eq!(levels.last(), Some(&0), "seed {seed}: {levels:?}");
    }
}

#[test]
fn a_stray_loss_is_no_reason() {
    let mut path = Subscriber::new(1);
    let mut count = 0;
    let levels = path.run(60, |_| {
        count += 1;
        count % 500 == 0 // 0.2 %
    });
    assert_eq!(levels.iter().max(), Some(&0));
}

#[test]
fn bursts_and_long_round_trips_want_two() {
    let mut path = Subscriber::new(1);
    let mut count = 0;
    let levels = path.run(20, |_| {
        count += 1;
        count % 200 < 6 // three audio packets in a row
    });
    assert_eq!(levels.last(), Some(&2));
    let mut path = Subscriber::new(1);
    path.conditions.rtt = Duration::from_millis(250);
    assert_eq!(path.random(20, 0.04).last(), Some(&2));
}

#[test]
fn loss_by_our_own_queue_earns_nothing() {
    let mut path = Subscriber::new(1);
    path.queue = Duration::from_millis(60);
    assert_eq!(path.random(20, 0.2).iter().max(), Some(&0));
    path.queue = Duration::ZERO;
    assert_eq!(path.random(20, 0.2).last(), Some(&2));
    path.queue = Duration::from_millis(60);
    assert_eq!(path.random(1, 0.2).iter().max(), Some(&0), "at once");
}

#[test]
fn a_queue_explains_what_was_lost_before_it_was_noticed() {
    let mut path = Subscriber::new(1);
    path.random(5, 0.0);
    path.run(1, |_| true);
    path.queue = Duration::from_millis(60);
    path.random(1, 0.5);
    path.queue = Duration::ZERO;
    path.now += Duration::from_millis(200);
    assert_eq!(path.random(20, 0.0).iter().max(), Some(&0));
}

#[test]
fn it_stays_inside_its_share() {
    for (target, video, level) in [
        (400, true, 2),
        (170, true, 1), // 72 of 85
        (120, true, 0),
        (120, false, 2), // 96 of 114, but only once there is room
        (80, false, 1),
        (60, false, 0),
    ] {
        let mut path = Subscriber::new(1);
        path.conditions.target = Bitrate::kbps(target);
        path.conditions.video = video;
        let levels = path.random(20, 0.2);
        assert_eq!(levels.last(), Some(&level), "{target} {video}");
    }
}

#[test]
fn receiver_reports_do_where_there_is_nothing_better() {
    let mut path = Subscriber::new(1);
    for _ in 0..5 {
        path.now += Duration::from_secs(1);
        path.level.on_report(path.now, 0.04);
        path.level.update(path.now, &path.conditions);
    }
    assert_eq!(path.level.get(), 1);
}

#[test]
fn what_came_after_all_was_not_lost() {
    let mut path = Subscriber::new(1);
    for _ in 0..100 {
        path.now += Duration::from_millis(100);
        let acked = |arrival, late| Acked {
            number: SeqNo::first(1),
            sent: path.now,
            arrival,
            late,
            size: DataSize::bytes(100),
            class: PacketClass::Video,
            cluster: None,
        };
        path.level.on_acked(path.now, &[acked(None, false)], CALM);
        path.level.on_acked(path.now, &[acked(Some(Arrival::micros(0)), true)], CALM);
        path.level.update(path.now, &path.conditions);
        assert_eq!(path.level.get(), 0);
    }
}

#[test]
fn loss_all_at_once_is_no_reason() {
    let mut path = Subscriber::new(1);
    for _ in 0..5 {
        path.random(9, 0.0);
        assert_eq!(path.random(1, 0.4).iter().max(), Some(&0), "a burst");
    }
    path.random(10, 0.0);
    assert_eq!(path.random(5, 0.9).iter().max(), Some(&0), "hardly anything comes through");
}

/// Share of packets that are neither there nor in one of the next `level`.
fn residual(level: usize, mut lose: impl FnMut() -> bool) -> f64 {
    let lost: Vec<bool> = (0..200_000).map(|_| lose()).collect();
    let gone = lost.windows(level + 1).filter(|window| window.iter().all(|lost| *lost)).count();
    gone as f64 / lost.len() as f64
}

#[test]
fn random_loss_leaves_its_powers() {
    for loss in [0.05, 0.1, 0.2] {
        for level in 1..=MAX_BLOCKS {
            let mut rng = fastrand::Rng::with_seed(1);
            let left = residual(level, || rng.f64() < loss);
            let expected = f64::powi(loss, level as i32 + 1);
            assert!((left / expected - 1.0).abs() < 0.3, "{loss} {level}: {left} not {expected}");
        }
    }
}

proptest! {
    /// Whatever was lost, paused or silent: what goes along is what its own packet had, in the limits of the format.
    #[test]
    fn blocks_are_what_was_sent(
        frames in proptest::collection::vec(
            (any::<bool>(), 0..4_i32, 0..1200_usize, any::<bool>(), proptest::option::of(0..128_u8)), 1..40),
        level in 0..4_u8,
        from in 0..40_u64,
    ) {
        let mut time = 0;
        let frames: Vec<Frame> = frames
            .into_iter()
            .enumerate()
            .filter_map(|(number, (lost, steps, len, marker, level))| {
                time += steps * 2880;
                let payload = vec![number as u8; len];
                let frame = Frame { number: number as u64, time, payload, marker, level };
                (!lost).then_some(frame)
            })
            .collect();
        let cache = cache(&frames);
        for frame in &frames {
            let packet = cache.get(first().plus(frame.number)).unwrap();
            let earlier = Earlier::gather(&cache, &packet, level, first().plus(from), 111);
            let blocks = earlier.blocks();
            prop_assert!(blocks.len() <= usize::from(level).min(MAX_BLOCKS));
            for (back, block) in blocks.iter().rev().enumerate() {
                let before = frames.iter().find(|f| f.number + back as u64 + 1 == frame.number).unwrap();
                prop_assert!(before.number >= from);
                prop_assert_eq!(block.payload, &before.payload[..]);
                prop_assert_eq!(i32::from(block.offset), frame.time - before.time);
                prop_assert!(block.offset > 0 && block.payload.len() > DTX);
            }
            let mut out = [0; 1500];
            if !blocks.is_empty() {
                let len = crate::wire::red::write(&mut out, blocks, 111, packet.payload);
                prop_assert!(len.is_some_and(|len| len <= MAX_PAYLOAD + 1));
            }
        }
    }

    /// A publisher's blocks land in their own places or nowhere.
    #[test]
    fn what_is_recovered_is_what_was_lost(
        lost in proptest::collection::vec(any::<bool>(), 30),
        back in 1..5_u16,
    ) {
        let all: Vec<Frame> = (0..30).map(frame).collect();
        for of in 5..30_usize {
            if lost[of] {
                continue;
            }
            let there: Vec<Frame> = all[..=of].iter().filter(|f| !lost[f.number as usize]).cloned().collect();
            let cache = cache(&there);
            let at = cache.get(first().plus(of as u64)).unwrap().meta.timestamp;
            let found = missing_number(&cache, first().plus(of as u64), at, back * 960);
            let number = of - usize::from(back);
            let known = lost[of.saturating_sub(REACH.into())..number].iter().any(|lost| !lost);
            let expected = (lost[number] && known).then(|| first().plus(number as u64));
            prop_assert_eq!(found, expected);
        }
    }
}
