//! Links that stay as they are, and one that falls off a cliff.

use sfu::command::Demand;

use super::{access, good, ms, seconds};
use crate::call::Reports::{self, PerStream, TransportWide};
use crate::call::{Call, PublisherId, SubscriberId};
use crate::camera::CameraConfig;
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

const CLIFF: &str = "2.5 Mbit/s, for 20 s 300 kbit/s, 60 ms, queue of 200 ms";

pub(super) fn rows() -> [Row; 7] {
    let row = |name, about, play| Row { name, about, play, heavy: false };
    [
        row("join", "4 Mbit/s, 50 ms", |scene| join(scene, TransportWide)),
        row("steady-1000", "1 Mbit/s, 60 ms", |scene| steady(scene, 1000, TransportWide)),
        row("steady-500", "500 kbit/s, 60 ms", |scene| steady(scene, 500, TransportWide)),
        row("cliff", CLIFF, |scene| cliff(scene, TransportWide)),
        row("join-ccfb", "4 Mbit/s, 50 ms; reports by stream", |scene| join(scene, PerStream)),
        row("steady-ccfb", "500 kbit/s, 60 ms; reports by stream", |scene| steady(scene, 500, PerStream)),
        row("cliff-ccfb", "as `cliff`; reports by stream", |scene| cliff(scene, PerStream)),
    ]
}

/// A viewer that reports so. Who offers makes no difference but to seeds.
fn watch(call: &mut Call, publisher: PublisherId, (kbps, rtt): (u64, u64), reports: Reports) -> SubscriberId {
    let access = access(kbps, rtt);
    match reports {
        TransportWide => call.subscribe(publisher, access, Demand::default()),
        PerStream => call.subscribe_by_offer(&[(publisher, Demand::default())], access, PerStream),
    }
}

fn join(scene: &Scene, reports: Reports) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let viewer = watch(&mut call, publisher, (4000, 50), reports);
    let joined = call.time();
    call.run_for(seconds(20));
    let top = call.seen(viewer).shown_after(joined, 1280);
    let span = Span { from: joined + seconds(3), to: call.time() };
    let usual = measure::usual(&mut call, viewer, span, 4000.0, ms(25));
    Score::default().within("top layer", 3.0, top).and(usual)
}

fn steady(scene: &Scene, link: u64, reports: Reports) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let viewer = watch(&mut call, publisher, (link, 60), reports);
    let joined = call.time();
    call.run_for(seconds(80));
    let to = call.time();
    let (warm, settled) = (Span { from: joined + seconds(2), to }, Span { from: joined + seconds(20), to });
    let queueing = call.queueing(viewer, warm.from).as_secs_f64() * 1000.0;
    let used = measure::utilisation(call.samples(viewer), warm, link as f64);
    let switches = measure::switches(&call.seen(viewer), settled) as f64;
    let usual = measure::usual(&mut call, viewer, warm, link as f64, ms(30));
    Score::default()
        .least("utilisation", Unit::Percent, 85.0, used)
        .most("queueing p95", Unit::Ms, 150.0, queueing)
        .most("switches after 20 s", Unit::PerMinute, 1.0, switches)
        .and(usual.without(&["utilisation", "queueing p95", "switches"]))
}

fn cliff(scene: &Scene, reports: Reports) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let viewer = watch(&mut call, publisher, (2500, 60), reports);
    call.run_for(seconds(20));
    let drop = call.time();
    call.set_access(viewer, access(300, 60));
    call.run_for(seconds(20));
    let rise = call.time();
    call.set_access(viewer, access(2500, 60));
    call.run_for(seconds(15));

    let span = Span { from: drop, to: rise };
    let longest = measure::frozen(&call.seen(viewer), span).longest.as_secs_f64() * 1000.0;
    let below = measure::below(call.samples(viewer), drop, 300.0);
    let empty = measure::empty(call.samples(viewer), drop);
    let top = call.seen(viewer).shown_after(rise, 1280);
    let usual = measure::usual(&mut call, viewer, span, 300.0, ms(30));
    Score::default()
        .within("rate below the link", 1.5, below)
        .most("longest freeze", Unit::Ms, 700.0, longest)
        .within("queue empty", 1.5, empty)
        .within("top layer after the rise", 8.0, top)
        .and(usual.without(&["longest freeze", "first frame"]))
}
