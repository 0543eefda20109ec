//! Links as they are met outside: policed, bloated, far away, unsteady, with reports that are late or lost.

use sfu::command::Demand;
use sfu::units::{Bitrate, DataSize};

use super::{access, good, ms, seconds};
use crate::call::{Access, Call, SubscriberId};
use crate::camera::CameraConfig;
use crate::link::{Jitter, LinkConfig, Loss};
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

pub(super) fn rows() -> [Row; 18] {
    let row = |name, about, play| Row { name, about, play, heavy: false };
    [
        row("policed", "1 Mbit/s by a policer: 15 kB at once, no queue; 60 ms", |scene| {
            policed(scene, (1000, 15), &USED)
        }),
        row("policed-60", "1 Mbit/s by a policer: 60 kB at once, no queue; 60 ms", |scene| {
            policed(scene, (1000, 60), &USED)
        }),
        row("policed-500", "500 kbit/s by a policer: 30 kB at once, no queue; 60 ms", |scene| {
            policed(scene, (500, 30), &Limits { frozen: 4.0, longest: 1500.0, ..USED })
        }),
        row("tiny-buffer", "1 Mbit/s, 60 ms, queue of 25 ms", tiny_buffer),
        row("narrow-lossy", "1 Mbit/s, 60 ms, 5 % lost", |scene| {
            narrow_lossy(scene, (1000, 60), 0.05, &USED)
        }),
        row("narrow-lossy-500", "500 kbit/s, 100 ms, 10 % lost", |scene| {
            narrow_lossy(scene, (500, 100), 0.1, &AT_THE_EDGE)
        }),
        row("mixed", "1.5 Mbit/s, 100 ms; jitter of 40 ms, 3 % lost in bursts, queue of 100 ms", mixed),
        row("two-way", "1 Mbit/s, 100 ms, queue of 300 ms, 5 % lost there and back", two_way),
        row("bloat", "1 Mbit/s, 40 ms, queue of 2 s", bloat),
        row("far", "4 Mbit/s, 600 ms, 1 % lost", far),
        row("wave", "2.5 Mbit/s and 700 kbit/s, 5 s each, 60 ms", wave),
        row("radio", "0.25 to 6 Mbit/s, another every 200 ms; 70 ms, queue of 500 ms", radio),
        row("late-reports", "1.2 Mbit/s, 60 ms; upwards 64 kbit/s, queue of 500 ms", late_reports),
        row("lost-reports", "1.2 Mbit/s, 60 ms; upwards 20 % lost", lost_reports),
        row("scans", "10 Mbit/s, 20 ms; nothing for 150 ms every 2 s, then all at once", scans),
        row("tunnels", "3 Mbit/s, 60 ms; nothing passes for 800 ms every 8 s", tunnels),
        row("ramp", "200 kbit/s to 4 Mbit/s within a minute, 60 ms", ramp),
        row("fade", "4 Mbit/s to 250 kbit/s within 30 s, 60 ms", fade),
    ]
}

/// What is promised of one row.
struct Limits {
    utilisation: Option<f64>,
    frozen: f64,
    longest: f64,
    queueing: f64,
    concealed: f64,
    switches: f64,
}

const LIMITS: Limits =
    Limits { utilisation: None, frozen: 2.0, longest: 700.0, queueing: 250.0, concealed: 2.0, switches: 6.0 };

/// The same where most of the link is to be used.
const USED: Limits = Limits { utilisation: Some(60.0), ..LIMITS };

/// The same where repairs leave just less than the next step needs.
const AT_THE_EDGE: Limits = Limits {
    utilisation: Some(40.0),
    frozen: 7.0,
    longest: 1000.0,
    switches: 12.0,
    concealed: 2.5,
    ..LIMITS
};

/// A viewer joins on `path`, and the call goes on for as long as `play` takes. Judged from five seconds later on, against the
/// best that fits `link` kbit/s.
fn watch(
    scene: &Scene,
    path: &Access,
    link: f64,
    limits: &Limits,
    play: impl FnOnce(&mut Call, SubscriberId),
) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let viewer = call.subscribe(publisher, *path, Demand::default());
    let joined = call.time();
    play(&mut call, viewer);

    let span = Span { from: joined + seconds(5), to: call.time() };
    let queueing = call.queueing(viewer, span.from).as_secs_f64() * 1000.0;
    let used = measure::utilisation(call.samples(viewer), span, link);
    let stats = call.downlink(viewer);
    let dropped = stats.queue_drops as f64 / stats.sent.max(1) as f64 * 100.0;
    let seen = call.seen(viewer);
    let stood = measure::frozen(&seen, span);
    let missed = seen.played(span.from, span.to).missed() * 100.0;
    let switches =
        measure::switches(&seen, span) as f64 / span.to.saturating_sub(span.from).as_secs_f64() * 60.0;
    let usual = measure::usual(&mut call, viewer, span, link, path.down.delay);
    let promised = Score::default()
        .most("frozen", Unit::Percent, limits.frozen, stood.share(span))
        .most("longest freeze", Unit::Ms, limits.longest, stood.longest.as_secs_f64() * 1000.0)
        .most("queueing p95", Unit::Ms, limits.queueing, queueing)
        .most("audio concealed", Unit::Percent, limits.concealed, missed)
        .most("switches", Unit::PerMinute, limits.switches, switches);
    let promised = match limits.utilisation {
        Some(least) => promised.least("utilisation", Unit::Percent, least, used),
        None => promised.note("utilisation", Unit::Percent, used),
    };
    let told = ["frozen", "longest freeze", "queueing p95", "audio concealed", "switches", "utilisation"];
    promised.note("dropped by the queue", Unit::Percent, dropped).and(usual.without(&told))
}

/// The same on a path that stays as it is, for a minute.
fn steady(scene: &Scene, path: &Access, link: u64, limits: &Limits) -> Score {
    watch(scene, path, link as f64, limits, |call, _| call.run_for(seconds(60)))
}

/// `bucket` in kB.
fn policed(scene: &Scene, (kbps, bucket): (u64, u64), limits: &Limits) -> Score {
    let path = access(kbps, 60);
    let down = LinkConfig { bucket: DataSize::bytes(bucket * 1000), queue_time: ms(5), ..path.down };
    steady(scene, &Access { down, ..path }, kbps, limits)
}

fn tiny_buffer(scene: &Scene) -> Score {
    let path = access(1000, 60);
    let down = LinkConfig { queue_time: ms(25), ..path.down };
    let limits = Limits { utilisation: Some(85.0), ..LIMITS };
    steady(scene, &Access { down, ..path }, 1000, &limits)
}

fn narrow_lossy(scene: &Scene, (kbps, rtt): (u64, u64), loss: f64, limits: &Limits) -> Score {
    let path = access(kbps, rtt);
    let down = LinkConfig { loss: Loss::Random(loss), ..path.down };
    steady(scene, &Access { down, ..path }, kbps, limits)
}

fn mixed(scene: &Scene) -> Score {
    let path = access(1500, 100);
    let loss = Loss::Bursts { ratio: 0.03, burst: 2.0 };
    let down = LinkConfig { loss, jitter: Jitter::InOrder(ms(40)), queue_time: ms(100), ..path.down };
    steady(scene, &Access { down, ..path }, 1500, &AT_THE_EDGE)
}

fn two_way(scene: &Scene) -> Score {
    let path = access(1000, 100);
    let lossy = |link: LinkConfig| LinkConfig { loss: Loss::Random(0.05), queue_time: ms(300), ..link };
    let path = Access { down: lossy(path.down), up: lossy(path.up) };
    steady(scene, &path, 1000, &USED)
}

fn bloat(scene: &Scene) -> Score {
    let path = access(1000, 40);
    let down = LinkConfig { queue_time: seconds(2), ..path.down };
    let limits = Limits { utilisation: Some(85.0), queueing: 150.0, ..LIMITS };
    steady(scene, &Access { down, ..path }, 1000, &limits)
}

fn far(scene: &Scene) -> Score {
    let path = access(4000, 600);
    let down = LinkConfig { loss: Loss::Random(0.01), ..path.down };
    // A repair that is lost, too, is worth one keyframe, and both take a round trip.
    let limits = Limits { utilisation: Some(80.0), frozen: 3.0, longest: 1000.0, concealed: 1.0, ..LIMITS };
    steady(scene, &Access { down, ..path }, 4000, &limits)
}

fn wave(scene: &Scene) -> Score {
    watch(
        scene,
        &access(2500, 60),
        700.0,
        &Limits { switches: 40.0, frozen: 7.0, concealed: 2.5, ..LIMITS },
        |call, viewer| {
            for _ in 0..6 {
                call.set_access(viewer, access(2500, 60));
                call.run_for(seconds(5));
                call.set_access(viewer, access(700, 60));
                call.run_for(seconds(5));
            }
        },
    )
}

fn radio(scene: &Scene) -> Score {
    let path = |kbps| {
        let path = access(kbps, 70);
        Access { down: LinkConfig { queue_time: ms(500), ..path.down }, ..path }
    };
    let limits =
        Limits { queueing: 400.0, switches: 20.0, frozen: 5.0, longest: 1500.0, concealed: 4.0, ..LIMITS };
    let mut rng = fastrand::Rng::with_seed(scene.seed);
    watch(scene, &path(1500), 1200.0, &limits, |call, viewer| {
        // A walk that tends to 1.2 Mbit/s.
        let (least, middle, most) = (250.0_f64.ln(), 1200.0_f64.ln(), 6000.0_f64.ln());
        let mut level = 1500.0_f64.ln();
        for _ in 0..300 {
            let step = rng.f64() + rng.f64() + rng.f64() - 1.5;
            level = (level + 0.05 * (middle - level) + 0.35 * step).clamp(least, most);
            call.set_access(viewer, path(level.exp() as u64));
            call.run_for(ms(200));
        }
    })
}

fn late_reports(scene: &Scene) -> Score {
    let path = access(1200, 60);
    let up = LinkConfig { rate: Some(Bitrate::kbps(64)), queue_time: ms(500), ..path.up };
    let limits = Limits { utilisation: Some(70.0), ..LIMITS };
    steady(scene, &Access { up, ..path }, 1200, &limits)
}

fn lost_reports(scene: &Scene) -> Score {
    let path = access(1200, 60);
    let up = LinkConfig { loss: Loss::Random(0.2), ..path.up };
    let limits = Limits { utilisation: Some(85.0), queueing: 150.0, ..LIMITS };
    steady(scene, &Access { up, ..path }, 1200, &limits)
}

fn scans(scene: &Scene) -> Score {
    let limits = Limits { utilisation: Some(90.0), concealed: 3.0, switches: 2.0, ..LIMITS };
    watch(scene, &access(10_000, 20), 10_000.0, &limits, |call, viewer| {
        for _ in 0..30 {
            call.run_for(ms(1850));
            let path = access(10_000, 20);
            // What enters now arrives when the scan is over, in its order.
            let stop = |link: LinkConfig| LinkConfig {
                rate: Some(Bitrate::kbps(1)),
                queue_time: seconds(100_000),
                ..link
            };
            call.set_access(viewer, Access { down: stop(path.down), up: stop(path.up) });
            call.run_for(ms(150));
            call.set_access(viewer, path);
        }
    })
}

fn tunnels(scene: &Scene) -> Score {
    let limits = Limits {
        utilisation: Some(70.0),
        frozen: 16.0,
        longest: 1500.0,
        concealed: 13.0,
        switches: 20.0,
        ..LIMITS
    };
    watch(scene, &access(3000, 60), 3000.0, &limits, |call, viewer| {
        let path = access(3000, 60);
        let nothing = |link: LinkConfig| LinkConfig { loss: Loss::Random(1.0), ..link };
        for _ in 0..8 {
            call.run_for(ms(7200));
            call.set_access(viewer, Access { down: nothing(path.down), up: nothing(path.up) });
            call.run_for(ms(800));
            call.set_access(viewer, path);
        }
    })
}

fn ramp(scene: &Scene) -> Score {
    watch(scene, &access(200, 60), 1500.0, &LIMITS, |call, viewer| {
        for step in 0..60 {
            call.set_access(viewer, access(200 + step * 64, 60));
            call.run_for(seconds(1));
        }
    })
}

fn fade(scene: &Scene) -> Score {
    watch(scene, &access(4000, 60), 1500.0, &Limits { frozen: 3.0, ..LIMITS }, |call, viewer| {
        call.run_for(seconds(10));
        for step in 0..60_u32 {
            let kbps = 4000.0 * (250.0_f64 / 4000.0).powf(f64::from(step) / 59.0);
            call.set_access(viewer, access(kbps as u64, 60));
            call.run_for(ms(500));
        }
        call.run_for(seconds(10));
    })
}
