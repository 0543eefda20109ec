//! Paths that others use too: a radio that delays and repeats, somebody's download.

use std::time::Duration;

use sfu::command::Demand;

use super::{access, good, ms, seconds};
use crate::call::Access;
use crate::camera::CameraConfig;
use crate::link::{Jitter, LinkConfig, Loss};
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

/// Whose the queue is can be told only after a while of giving way.
const SETTLED: Duration = Duration::from_secs(15);

pub(super) fn rows() -> [Row; 2] {
    let row = |name, about, play| Row { name, about, play, heavy: false };
    [
        row(
            "bursts",
            "4 Mbit/s, 80 ms; bursts of 3 lose 5 %, jitter of 60 ms, 3 % out of order by up to 15 ms, 2 % twice",
            bursts,
        ),
        row("tcp", "3 Mbit/s, 60 ms, queue of 100 ms, shared with a download (Cubic) after 10 s", tcp),
    ]
}

fn bursts(scene: &Scene) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let path = access(4000, 80);
    let jitter = Jitter::Mixed { wander: ms(60), share: 0.03, most: ms(15) };
    let loss = Loss::Bursts { ratio: 0.05, burst: 3.0 };
    let down = LinkConfig { jitter, loss, duplicate: 0.02, ..path.down };
    let viewer = call.subscribe(publisher, Access { down, ..path }, Demand::default());
    let joined = call.time();
    call.run_for(seconds(62));
    let to = call.time();
    let (warm, settled) = (Span { from: joined + seconds(2), to }, Span { from: joined + seconds(10), to });
    // There is room for the best layer at any time: whatever is less, the path's unrest has cost.
    let lower = call.samples(viewer).iter().filter(|sample| sample.at >= settled.from);
    let downs = lower.map(|sample| sample.current[0].map_or(0, |layer| layer.spatial)).collect::<Vec<_>>();
    let downs = downs.windows(2).filter(|pair| pair[1] < pair[0]).count();
    let video = call.seen(viewer).video();
    let spurious = video.spurious as f64 / video.packets.max(1) as f64 * 100.0;
    let usual = measure::usual(&mut call, viewer, warm, 4000.0, ms(70));
    Score::default()
        .never("wrong down-switches", downs)
        .most("spurious retransmissions", Unit::Percent, 2.0, spurious)
        .and(usual)
}

fn tcp(scene: &Scene) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let path = access(3000, 60);
    let down = LinkConfig { queue_time: ms(100), ..path.down };
    let viewer = call.subscribe(publisher, Access { down, ..path }, Demand::default());
    call.run_for(seconds(10));
    let download = call.add_tcp(viewer);
    let began = call.time();
    call.run_for(seconds(90));

    // By then both have met each other.
    let span = Span { from: began + SETTLED, to: call.time() };
    let samples: Vec<_> =
        call.samples(viewer).iter().filter(|sample| sample.at >= span.from).cloned().collect();
    let targets: f64 = samples.iter().map(|sample| sample.snapshot.target.as_bps() as f64).sum();
    let estimate = targets / samples.len().max(1) as f64 / 3e6 * 100.0;
    let middle = |sample: &&crate::call::Sample| sample.current[0].is_none_or(|layer| layer.spatial < 1);
    let lost = samples.iter().filter(middle).count();
    let theirs = call.downloaded(download) as f64 * 8.0 / (span.to.saturating_sub(began)).as_secs_f64();
    let usual = measure::usual(&mut call, viewer, span, 3000.0, ms(30));
    Score::default()
        .least("estimate of the link", Unit::Percent, 25.0, estimate)
        .most("estimate of the link", Unit::Percent, 75.0, estimate)
        .never("tenths of a second below the middle layer", lost)
        .note("the download's share", Unit::Percent, theirs / 3e6 * 100.0)
        .and(usual.without(&["utilisation"]))
}
