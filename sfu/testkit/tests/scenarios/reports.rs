//! Clients that report by stream (RFC 8888) alone are served as those with transport-wide reports are.

use sfu::command::Demand;
use sfu::congestion::FeedbackKind;
use sfu::ids::LayerId;
use sfu::units::Bitrate;
use sfu_testkit::call::{Call, Machines, Reports};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, access, good, ms, seconds, seeds};

/// What a viewer reports by, and what came of it in the last ten seconds of its call: the layer that was sent most, and
/// the share of time that it was; bytes of reports a second.
struct Watched {
    kind: FeedbackKind,
    layer: Option<LayerId>,
    held: f64,
    reported: u64,
}

/// A call over a link of these rates, in kbit/s, 20 s each.
fn watch(seed: u64, reports: Reports, links: &[u64]) -> Watched {
    let mut call = Call::new("reports_by_stream_reach_the_same_layers", seed, Machines::Idle);
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let path = |link: &u64| access(Bitrate::kbps(*link), ms(60));
    let (first, others) = links.split_first().expect("there is a link");
    let viewer = call.subscribe_by_offer(&[(publisher, Demand::default())], path(first), reports);
    let joined = call.time();
    call.run_for(seconds(20));
    let mut last = joined;
    for link in others {
        last = call.time();
        call.set_access(viewer, path(link));
        call.run_for(seconds(20));
    }
    let kind = call.explain(viewer).feedback;
    let samples = call.samples(viewer).iter().filter(|sample| sample.at >= last + seconds(10));
    let layers: Vec<_> = samples.map(|sample| sample.current[0]).collect();
    let times = |layer: &Option<LayerId>| layers.iter().filter(|other| *other == layer).count();
    let layer = layers.iter().max_by_key(|layer| times(layer)).copied().expect("it is sampled");
    let held = times(&layer) as f64 / layers.len() as f64;
    let time = call.time().saturating_sub(joined).as_millis() as u64;
    let reported = call.seen(viewer).reported() * 1000 / time;
    println!("{reports:?}, {links:?}, seed {seed}: {layer:?} {held:.2}, {reported} B/s of reports");
    Watched { kind, layer, held, reported }
}

#[test]
fn reports_by_stream_reach_the_same_layers() {
    let mut faults = Faults::default();
    for seed in seeds() {
        // Steady ones, and a cliff with what is beyond it.
        for links in [&[500][..], &[1000], &[4000], &[2500, 300], &[2500, 300, 2500]] {
            let [wide, by_stream] =
                [Reports::TransportWide, Reports::PerStream].map(|reports| watch(seed, reports, links));
            let kinds = (wide.kind, by_stream.kind);
            faults.check(kinds == (FeedbackKind::TransportWide, FeedbackKind::PerStream), seed, || {
                format!("{links:?}: {kinds:?}")
            });
            faults.check(by_stream.layer == wide.layer && wide.layer.is_some(), seed, || {
                format!("{links:?}: {:?} instead of {:?}", by_stream.layer, wide.layer)
            });
            faults.check(by_stream.held > wide.held - 0.1, seed, || {
                format!("{links:?}: kept for {} instead of {}", by_stream.held, wide.held)
            });
            faults.check(by_stream.reported > 200, seed, || format!("{} B/s of reports", by_stream.reported));
        }
    }
    faults.none();
}

#[test]
fn a_publisher_that_takes_reports_by_stream_gets_them() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for reports in [Reports::TransportWide, Reports::PerStream] {
            let name = "a_publisher_that_takes_reports_by_stream_gets_them";
            let mut call = Call::new(name, seed, Machines::Idle);
            let publisher = call.publish_with(CameraConfig::simulcast, good(), reports);
            call.subscribe(publisher, good(), Demand::default());
            call.run_for(seconds(10));
            let published = call.published(publisher);
            let (given, other) = match reports {
                Reports::TransportWide => (published.reported, published.reported_by_stream),
                Reports::PerStream => (published.reported_by_stream, published.reported),
            };
            let received = call.server().sfu().stats().received;
            let packets = received.audio.packets + received.video.packets;
            println!("{reports:?}, seed {seed}: {given:?} of {packets}");
            // What is on its way to be told.
            faults.check(packets - given.0 < 60 && given.1 == 0, seed, || {
                format!("{reports:?}: {given:?} of {packets}")
            });
            faults.check(other == (0, 0), seed, || format!("{reports:?}: the others came, too"));
        }
    }
    faults.none();
}
