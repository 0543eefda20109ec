//! A path that is gone for a while, or replaced by another.

use std::time::Duration;

use sfu::command::Demand;

use super::{access, good, ms, seconds};
use crate::call::Access;
use crate::camera::CameraConfig;
use crate::link::{LinkConfig, Loss};
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

pub(super) fn rows() -> [Row; 3] {
    let row = |name, about, play| Row { name, about, play, heavy: false };
    [
        row("blackout-3", "4 Mbit/s, 50 ms; nothing passes for 3 s", |scene| blackout(scene, 3)),
        row("blackout-30", "4 Mbit/s, 50 ms; nothing passes for 30 s", |scene| blackout(scene, 30)),
        row("roam", "20 Mbit/s, 20 ms; nothing for 300 ms, then 3 Mbit/s, 70 ms under a new address", roam),
    ]
}

fn blackout(scene: &Scene, length: u64) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let path = access(4000, 50);
    let viewer = call.subscribe(publisher, path, Demand::default());
    call.run_for(seconds(10));
    let loss = Loss::Random(1.0);
    let nothing = |link: LinkConfig| LinkConfig { loss, ..link };
    call.set_access(viewer, Access { down: nothing(path.down), up: nothing(path.up) });
    call.run_for(seconds(length));
    let back = call.time();
    call.set_access(viewer, path);
    call.run_for(seconds(20));

    let seen = call.seen(viewer);
    let picture = seen.video().shown.iter().find(|(at, _)| *at >= back);
    let picture = picture.map(|(at, _)| at.saturating_sub(back));
    let top = seen.shown_after(back + seconds(1), 1280);
    let top = top.map_or(f64::INFINITY, |top| 1.0 + top.as_secs_f64());
    let left = usize::from(call.anybody_left());
    let span = Span { from: back + seconds(2), to: call.time() };
    let usual = measure::usual(&mut call, viewer, span, 4000.0, ms(25));
    Score::default()
        .within("picture after the return", 0.5, picture)
        .never("connections ended", left)
        .note("top layer after the return", Unit::Seconds, top)
        .and(usual.without(&["first frame"]))
}

fn roam(scene: &Scene) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let viewer = call.subscribe(publisher, access(20_000, 20), Demand::default());
    call.run_for(seconds(10));
    let left = call.time();
    call.roam(viewer, ms(300), access(3000, 70));
    call.run_for(seconds(20));

    let seen = call.seen(viewer);
    let around = Span { from: left.saturating_sub(seconds(1)), to: left + seconds(10) };
    let longest = |freezes: &[(Duration, Duration)]| freezes.iter().map(|(_, length)| *length).max();
    let video = longest(&seen.freezes(around.from, around.to, Duration::ZERO));
    let audio = seen.played(around.from, around.to).longest;
    let span = Span { from: left, to: call.time() };
    let usual = measure::usual(&mut call, viewer, span, 3000.0, ms(35));
    Score::default()
        .within("audio gap", 1.0, Some(audio))
        .within("video gap", 1.5, video)
        .and(usual.without(&["first frame"]))
}
