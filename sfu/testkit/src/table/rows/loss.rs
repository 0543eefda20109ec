//! Packets that are lost on the way, each by itself.

use sfu::command::Demand;

use super::{access, good, ms, seconds};
use crate::call::Access;
use crate::camera::CameraConfig;
use crate::link::{LinkConfig, Loss};
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

pub(super) fn rows() -> [Row; 4] {
    let row = |name, about, play| Row { name, about, play, heavy: false };
    [
        row("loss-2", "4 Mbit/s, 80 ms, 2 % lost", |scene| random(scene, 0.02, 0.5, 0.5)),
        row("loss-5", "4 Mbit/s, 80 ms, 5 % lost", |scene| random(scene, 0.05, 1.0, 1.0)),
        row("loss-10", "4 Mbit/s, 80 ms, 10 % lost", |scene| random(scene, 0.1, 3.0, 3.0)),
        row("loss-20", "4 Mbit/s, 80 ms, 20 % lost", |scene| random(scene, 0.2, 10.0, 8.0)),
    ]
}

/// `frozen` and `concealed` are the percentages of time allowed.
fn random(scene: &Scene, loss: f64, frozen: f64, concealed: f64) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let path = access(4000, 80);
    let down = LinkConfig { loss: Loss::Random(loss), ..path.down };
    let viewer = call.subscribe(publisher, Access { down, ..path }, Demand::default());
    let joined = call.time();
    call.run_for(seconds(62));
    let span = Span { from: joined + seconds(2), to: call.time() };
    let stood = measure::frozen(&call.seen(viewer), span).share(span);
    let missed = call.seen(viewer).played(span.from, span.to).missed() * 100.0;
    let usual = measure::usual(&mut call, viewer, span, 4000.0, ms(40));
    Score::default()
        .most("frozen", Unit::Percent, frozen, stood)
        .most("audio concealed", Unit::Percent, concealed, missed)
        .and(usual.without(&["frozen", "audio concealed"]))
}
