//! More than fits: many cameras on one link, a link for sound alone, an audience with some on bad links.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;

use super::{access, good, ms, seconds};
use crate::call::{Access, Call, PublisherId, SubscriberId};
use crate::camera::CameraConfig;
use crate::link::{LinkConfig, Loss};
use crate::receiver::playout::Played;
use crate::score::{Score, Unit};
use crate::table::measure::{self, Span};
use crate::table::{Row, Scene};

/// Publishers of the crowd.
const CROWD: usize = 25;
/// A camera that is not paused shows something this often, or its viewer does not know why.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn rows() -> [Row; 3] {
    let row = |name, about, play| Row { name, about, play, heavy: false };
    [
        row("crowd", "1.5 Mbit/s, 60 ms; 25 cameras and microphones", crowd),
        row("80k", "80 kbit/s, 80 ms", narrow),
        Row {
            heavy: true,
            ..row(
                "audience",
                "200 viewers: 195 at 20 Mbit/s, 20 ms, the others at 200 to 500 kbit/s with loss",
                audience,
            )
        },
    ]
}

/// What is asked of a camera: the speaker's large and first, the others as thumbnails.
pub(super) fn asked(speaks: bool) -> Demand {
    if speaks {
        Demand { size: Some((1280, 720)), priority: 1, ..Demand::default() }
    } else {
        Demand { size: Some((320, 180)), ..Demand::default() }
    }
}

fn crowd(scene: &Scene) -> Score {
    let mut call = scene.call();
    let publishers: Vec<PublisherId> =
        (0..CROWD).map(|_| call.publish(CameraConfig::simulcast, good())).collect();
    for (index, publisher) in publishers.iter().enumerate() {
        call.set_speaking(*publisher, index == 0);
    }
    call.run_for(seconds(2));
    let wanted: Vec<_> =
        publishers.iter().enumerate().map(|(index, publisher)| (*publisher, asked(index == 0))).collect();
    let viewer = call.subscribe_all(&wanted, access(1500, 60));
    let joined = call.time();
    call.run_for(seconds(30));
    let changed = call.time();
    for index in [0, 1] {
        call.set_speaking(publishers[index], index == 1);
        call.adjust_camera(viewer, publishers[index], asked(index == 1));
    }
    call.run_for(seconds(30));
    let end = call.time();

    let settle = seconds(5);
    let spans = [Span { from: joined + settle, to: changed }, Span { from: changed + settle, to: end }];
    let (mut medium, mut all, mut above) = (0, 0, 0);
    for (speaker, span) in spans.iter().enumerate() {
        for sample in call.samples(viewer).iter().filter(|s| s.at >= span.from && s.at < span.to) {
            let rank = |camera: usize| sample.current[camera].map_or(0, |layer| layer.spatial);
            all += 1;
            medium += usize::from(rank(speaker) >= 1);
            above += (0..CROWD).filter(|camera| *camera != speaker && rank(*camera) > 0).count();
        }
    }
    let whole = Span { from: joined + settle, to: end };
    let untold: usize = (0..CROWD).map(|camera| unexplained(&call, viewer, camera, whole)).sum();
    let pauses: usize = (0..CROWD).map(|camera| call.pauses(viewer, camera).len()).sum();
    let never_seen =
        (0..CROWD).filter(|camera| call.seen_camera(viewer, *camera).video().shown.is_empty()).count();
    let played = (0..CROWD).map(|camera| call.seen_camera(viewer, camera).played(joined + seconds(1), end));
    let concealed = Played::sum(played).missed() * 100.0;
    let usual = measure::usual(&mut call, viewer, whole, 1500.0, ms(30));
    Score::default()
        .least("speaker's medium layer", Unit::Percent, 95.0, medium as f64 / f64::from(all.max(1)) * 100.0)
        .never("tenths of a second above low, others", above)
        .never("seconds without picture or notice", untold)
        .most("audio concealed, all", Unit::Percent, 1.0, concealed)
        .note("pauses told", Unit::Count, pauses as f64)
        .note("cameras never seen", Unit::Count, never_seen as f64)
        .and(usual.without(&["utilisation", "switches"]))
}

/// Seconds in which a camera showed nothing for two seconds, though nobody was told that it is paused.
pub(super) fn unexplained(call: &Call, viewer: SubscriberId, camera: usize, span: Span) -> usize {
    let pauses = call.pauses(viewer, camera);
    // After the end of a pause a keyframe is awaited.
    let told =
        |at: Duration| pauses.iter().any(|(from, to)| at >= *from && to.is_none_or(|to| at < to + PATIENCE));
    let seen = call.seen_camera(viewer, camera);
    let shown = &seen.video().shown;
    let seconds = (span.from.as_secs() + 1)..=span.to.as_secs();
    let dark = |second: &u64| {
        let at = Duration::from_secs(*second);
        let last = shown.partition_point(|(shown, _)| *shown < at).checked_sub(1).map(|index| shown[index].0);
        last.is_none_or(|last| at.saturating_sub(last) > PATIENCE) && !told(at)
    };
    seconds.filter(dark).count()
}

fn narrow(scene: &Scene) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let viewer = call.subscribe(publisher, access(80, 80), Demand::default());
    let joined = call.time();
    call.run_for(seconds(60));
    let end = call.time();
    let told = call.pauses(viewer, 0).first().map(|(from, _)| from.saturating_sub(joined));
    let seen = call.seen(viewer);
    let shown = seen.video().shown.iter().filter(|(at, _)| *at > joined + seconds(5)).count();
    let span = Span { from: joined + seconds(2), to: end };
    let missed = seen.played(span.from, span.to).missed() * 100.0;
    let usual = measure::usual(&mut call, viewer, span, 80.0, ms(40));
    Score::default()
        .within("notice of the pause", 3.0, told)
        .never("frames after 5 s", shown)
        .most("audio concealed", Unit::Percent, 3.0, missed)
        .and(usual.without(&[
            "audio concealed",
            "utilisation",
            "first frame",
            "frozen",
            "longest freeze",
            "switches",
        ]))
}

fn audience(scene: &Scene) -> Score {
    let mut call = scene.call();
    let publisher = call.publish(CameraConfig::simulcast, good());
    call.run_for(seconds(2));
    let bad = |kbps: u64, loss: Loss| {
        let path = access(kbps, 100);
        Access { down: LinkConfig { rate: Some(Bitrate::kbps(kbps)), loss, ..path.down }, ..path }
    };
    let paths = [
        bad(200, Loss::Never),
        bad(500, Loss::Random(0.1)),
        bad(300, Loss::Random(0.05)),
        bad(500, Loss::Bursts { ratio: 0.05, burst: 5.0 }),
        bad(400, Loss::Random(0.2)),
    ];
    let mut viewers = Vec::new();
    for path in paths {
        viewers.push(call.subscribe(publisher, path, Demand::default()));
    }
    for _ in 0..195 {
        viewers.push(call.subscribe(publisher, good(), Demand::default()));
        call.run_for(ms(20));
    }
    call.run_for(seconds(6));
    let settled = call.time();
    call.run_for(seconds(20));
    let end = call.time();

    let span = Span { from: settled, to: end };
    let asked: Vec<Duration> =
        call.published(publisher).plis.iter().map(|(at, _)| call.since_start(*at)).collect();
    let later = asked.iter().filter(|at| **at >= settled).count();
    let rate = later as f64 / end.saturating_sub(settled).as_secs_f64();
    let (mut switches, mut worst, mut concealed) = (0, 0.0_f64, 0.0_f64);
    for viewer in &viewers[5..] {
        let seen = call.seen(*viewer);
        switches += measure::switches(&seen, span);
        worst = worst.max(measure::frozen(&seen, span).share(span));
        concealed = concealed.max(seen.played(span.from, span.to).missed() * 100.0);
    }
    let top = |viewer: &&SubscriberId| call.seen(**viewer).sizes(settled, end) == [(1280, 720)];
    let good_ones = viewers[5..].iter().filter(top).count();
    let joining = asked.len() - later;
    let usual = measure::usual(&mut call, viewers[0], span, 200.0, ms(50));
    Score::default()
        .most("PLIs a second", Unit::Rate, 1.0, rate)
        .least("the good ones on the top layer", Unit::Percent, 100.0, good_ones as f64 / 1.95)
        .never("switches of the good ones", switches)
        .most("frozen, the worst of the good", Unit::Percent, 0.5, worst)
        .most("audio concealed, the worst of the good", Unit::Percent, 0.1, concealed)
        .note("PLIs while they join", Unit::Count, joining as f64)
        .and(usual.without(&["switches"]))
}
