//! A meeting of ten, for half an hour, on links that change all the time.

use std::time::Duration;

use sfu::units::Bitrate;

use super::crowd::{asked, unexplained};
use super::{access, good, seconds};
use crate::call::{Access, Call, PublisherId, SubscriberId};
use crate::camera::CameraConfig;
use crate::link::{Jitter, LinkConfig, Loss};
use crate::receiver::playout::Played;
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

const CLIENTS: usize = 10;

pub(super) fn rows() -> [Row; 1] {
    [Row {
        name: "long",
        about: "ten clients for 30 minutes; each link changes every 5 to 30 s, 150 kbit/s to 20 Mbit/s, up to 10 % lost",
        play: long,
        heavy: true,
    }]
}

/// Ten clients, each with a camera, a microphone, and all the others to see.
struct Room {
    call: Call,
    publishers: Vec<PublisherId>,
    viewers: Vec<SubscriberId>,
    speaker: usize,
}

impl Room {
    fn new(mut call: Call, access: &Access) -> Room {
        let publishers: Vec<PublisherId> =
            (0..CLIENTS).map(|_| call.publish(CameraConfig::simulcast, good())).collect();
        let others = |own: usize| publishers.iter().enumerate().filter(move |(index, _)| *index != own);
        let viewers = (0..CLIENTS)
            .map(|own| {
                let wanted: Vec<_> = others(own).map(|(index, p)| (*p, asked(index == 0))).collect();
                call.subscribe_all(&wanted, *access)
            })
            .collect();
        let mut room = Room { call, publishers, viewers, speaker: 0 };
        for index in 0..CLIENTS {
            room.set_speaking(index, index == 0);
        }
        room
    }

    /// Somebody else speaks: is shown large, and heard. Encodings that nobody asks for are off, as by dynacast.
    fn give_floor(&mut self, speaker: usize) {
        let before = std::mem::replace(&mut self.speaker, speaker);
        for index in [before, speaker] {
            self.set_speaking(index, index == speaker);
            for (_, id) in self.viewers.iter().enumerate().filter(|(viewer, _)| *viewer != index) {
                self.call.adjust_camera(*id, self.publishers[index], asked(index == speaker));
            }
        }
    }

    fn set_speaking(&mut self, index: usize, speaks: bool) {
        self.call.set_speaking(self.publishers[index], speaks);
        for rid in ["h", "f"] {
            self.call.set_layer(self.publishers[index], rid, speaks);
        }
    }

    /// Number of a publisher in the order in which a viewer subscribed.
    fn camera(viewer: usize, publisher: usize) -> usize {
        if publisher > viewer { publisher - 1 } else { publisher }
    }
}

/// A meeting of ten on links of 4 Mbit/s, for the speed of simulation.
pub(in crate::table) fn ten_clients(scene: &Scene, length: Duration) -> Call {
    let mut room = Room::new(scene.call(), &access(4000, 50));
    room.call.run_for(length);
    room.call
}

fn long(scene: &Scene) -> Score {
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    let mut room = Room::new(scene.call(), &access(4000, 50));
    let joined = room.call.time();
    let end = joined + seconds(30 * 60);
    let mut change_at = [joined; CLIENTS];
    let mut floor_at = joined + seconds(20);
    let mut held = Vec::new();
    while room.call.time() < end {
        let now = room.call.time();
        for (index, at) in change_at.iter_mut().enumerate().filter(|(_, at)| **at <= now) {
            *at = now + seconds(rng.u64(5..30));
            room.call.set_access(room.viewers[index], some_link(&mut rng));
        }
        if floor_at <= now {
            floor_at = now + seconds(rng.u64(5..60));
            room.give_floor(rng.usize(..CLIENTS));
        }
        room.call.run_for(seconds(1));
        held.push(room.call.server().sfu().held());
    }
    // In the end all have good links: nothing may be left of what was.
    for viewer in &room.viewers {
        room.call.set_access(*viewer, good());
    }
    room.call.run_for(seconds(20));
    let calm = room.call.time();
    room.call.run_for(seconds(5));
    let to = room.call.time();

    let (mut stuck, mut untold) = (0, 0);
    let (mut frozen, mut played) = (0.0_f64, Vec::new());
    let whole = Span { from: joined + seconds(10), to };
    for (viewer, id) in room.viewers.iter().enumerate() {
        for publisher in (0..CLIENTS).filter(|publisher| *publisher != viewer) {
            let camera = Room::camera(viewer, publisher);
            let seen = room.call.seen_camera(*id, camera);
            let width = if publisher == room.speaker { 1280 } else { 320 };
            let sizes = seen.sizes(calm, to);
            stuck += usize::from(sizes.is_empty() || sizes.iter().any(|size| size.0 != width));
            untold += unexplained(&room.call, *id, camera, whole);
            frozen = frozen.max(measure::frozen(&seen, whole).share(whole));
            played.push(seen.played(whole.from, whole.to));
        }
    }
    let most = |held: &[usize]| held.iter().copied().max().unwrap_or(0).max(1) as f64;
    // Queues come and go with the links, so it is told only whether they go beyond what they were.
    let third = held.len() / 3;
    let growth = (most(&held[2 * third..]) / most(&held[third..2 * third]) - 1.0).max(0.0) * 100.0;
    if scene.told {
        println!("  held: {:?}", held.chunks(60).map(most).collect::<Vec<_>>());
    }
    Score::default()
        .never("stuck layers", stuck)
        .never("seconds without picture or notice", untold)
        .most("growth of queues and maps, last third", Unit::Percent, 50.0, growth)
        .note("audio concealed, all", Unit::Percent, Played::sum(played.into_iter()).missed() * 100.0)
        .note("frozen or paused, the worst camera", Unit::Percent, frozen)
}

fn some_link(rng: &mut fastrand::Rng) -> Access {
    let kbps = (150.0 * (20_000.0_f64 / 150.0).powf(rng.f64())) as u64;
    let path = access(kbps, rng.u64(20..200));
    let loss = match rng.u8(..4) {
        0 => Loss::Random(rng.f64() * 0.1),
        1 => Loss::Bursts { ratio: rng.f64() * 0.05, burst: 3.0 },
        _ => Loss::Never,
    };
    let jitter = if rng.u8(..4) == 0 { Jitter::InOrder(Duration::from_millis(40)) } else { Jitter::None };
    Access { down: LinkConfig { rate: Some(Bitrate::kbps(kbps)), loss, jitter, ..path.down }, ..path }
}
