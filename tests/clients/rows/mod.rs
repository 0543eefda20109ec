//! What docs/adaptation.md promises, with real clients over real networks in real time: `cargo xtask rows` prints the
//! table. The short rows are tests, too, and there a single call may miss a limit by as much again.
//!
//! Always: a figure is what the client's own statistics and decoder say, or what the link carried.

mod stage;

use std::time::Duration;

use sfu_testkit::score::{Figure, Line, Score, Unit, summaries, table};

use self::stage::{Client, Moment, Passed, on_stage};
use crate::harness::{Access, Kind, observe};

/// One row.
struct Row {
    name: &'static str,
    about: &'static str,
    play: fn() -> Score,
}

const ROWS: [Row; 16] = [
    Row { name: "join", about: "4 Mbit/s, 50 ms", play: join },
    Row { name: "steady-1000", about: "1 Mbit/s, 60 ms", play: || steady(1000, seconds(60)) },
    Row { name: "steady-500", about: "500 kbit/s, 60 ms", play: || steady(500, seconds(60)) },
    Row { name: "cliff", about: "2.5 Mbit/s, for 20 s 300 kbit/s, 60 ms, queue of 200 ms", play: cliff },
    Row {
        name: "loss-2",
        about: "4 Mbit/s, 80 ms, 2 % lost",
        play: || loss(CHROMIUM, 2, (0.5, 0.5), seconds(60)),
    },
    Row {
        name: "loss-5",
        about: "4 Mbit/s, 80 ms, 5 % lost",
        play: || loss(CHROMIUM, 5, (1.0, 1.0), seconds(60)),
    },
    Row {
        name: "loss-10",
        about: "4 Mbit/s, 80 ms, 10 % lost",
        play: || loss(CHROMIUM, 10, (3.0, 3.0), seconds(60)),
    },
    Row {
        name: "loss-20",
        about: "4 Mbit/s, 80 ms, 20 % lost",
        play: || loss(CHROMIUM, 20, (10.0, 8.0), seconds(60)),
    },
    Row {
        name: "loss-5-sdk",
        about: "the same, Python SDK",
        play: || loss(PYTHON, 5, (1.0, 1.0), seconds(60)),
    },
    Row {
        name: "loss-20-sdk",
        about: "the same, Python SDK",
        play: || loss(PYTHON, 20, (10.0, 8.0), seconds(60)),
    },
    Row {
        name: "blackout-3",
        about: "4 Mbit/s, 50 ms; nothing passes for 3 s",
        play: || blackout(CHROMIUM, seconds(3)),
    },
    Row {
        name: "blackout-30",
        about: "4 Mbit/s, 50 ms; nothing passes for 30 s",
        play: || blackout(CHROMIUM, seconds(30)),
    },
    Row { name: "blackout-3-sdk", about: "the same, Python SDK", play: || blackout(PYTHON, seconds(3)) },
    Row { name: "blackout-30-sdk", about: "the same, Python SDK", play: || blackout(PYTHON, seconds(30)) },
    Row {
        name: "roam",
        about: "20 Mbit/s, 20 ms, then 3 Mbit/s, 70 ms under a new address, there 4 s before",
        play: || roam("roam", seconds(4)),
    },
    Row {
        name: "roam-abrupt",
        about: "the same, there when the old one goes",
        play: || roam("roam-abrupt", seconds(0)),
    },
];
const CHROMIUM: Client = Client::Chromium;
const PYTHON: Client = Client::Python;

#[test]
fn a_narrow_link_is_used_well_and_without_a_queue() {
    bear(&steady(1000, seconds(30)));
}

#[test]
#[ignore = "a minute more, and limits that a busy machine can miss: `cargo xtask rows --row cliff`"]
fn a_link_that_collapses_and_recovers_is_followed() {
    bear(&cliff());
}

#[test]
fn one_packet_in_ten_lost_is_hardly_noticed() {
    bear(&loss(CHROMIUM, 10, (3.0, 3.0), seconds(20)));
}

#[test]
fn after_three_seconds_of_nothing_the_picture_is_back_at_once() {
    bear(&blackout(CHROMIUM, seconds(3)));
}

#[test]
fn from_wifi_to_lte_hardly_a_word_is_missed() {
    bear(&roam("roam", seconds(4)));
}

#[test]
#[ignore = "takes half an hour: `cargo xtask rows`"]
fn every_row_with_real_clients() {
    let wanted = std::env::var("SLUICE_ROW").ok();
    let runs = std::env::var("SLUICE_ROW_RUNS").map_or(3, |runs| runs.parse().expect("a number of runs"));
    let mut lines = Vec::new();
    for row in ROWS.iter().filter(|row| wanted.as_ref().is_none_or(|name| row.name == name)) {
        let scores: Vec<_> = (1..=runs).map(|run| (run, (row.play)())).collect();
        let line = || Line { name: row.name, about: row.about, summaries: summaries(row.name, &scores) };
        println!("{}", table([line()], "run"));
        lines.push(line());
    }
    assert!(!lines.is_empty(), "no row {wanted:?}");
    let missed: Vec<_> = lines
        .iter()
        .filter(|line| line.summaries.iter().any(|summary| !summary.kept))
        .map(|line| line.name)
        .collect();
    println!("\n{}", table(lines, "run"));
    assert!(missed.is_empty(), "missed: {missed:?}");
}

/// Holds one call to what is the least for a single one.
#[track_caller]
fn bear(score: &Score) {
    let written = |figure: &Figure| format!("{}: {}", figure.name, figure.unit.write(figure.value));
    let all: Vec<String> = score.figures.iter().map(written).collect();
    println!("{}", all.join(", "));
    let missed = score.figures.iter().filter(|figure| !figure.limit.bears(figure.value));
    let missed: Vec<String> =
        missed.map(|figure| format!("{}, {:?}", written(figure), figure.limit)).collect();
    assert!(missed.is_empty(), "{}", missed.join("; "));
}

fn join() -> Score {
    on_stage("join", Client::Chromium, Access::new(4000, 50), |stage| {
        let asked = stage.join();
        let connected = Moment::now();
        let top = stage.shown_after(asked, 1280, seconds(20));
        let first = stage.video().ok().and_then(|track| Some(track.seen.sizes.first()?.at - asked.unix));
        Score::default()
            .within("top layer", 3.0, top)
            .note("first picture", Unit::Seconds, first.map_or(f64::INFINITY, |first| first / 1000.0))
            .note("connected", Unit::Seconds, (connected.unix - asked.unix) / 1000.0)
    })
}

/// Packets that a second of sound is in, and what each of them costs beside its payload, in bytes.
const SOUND: f64 = 50.0 * 70.0;
/// What packets of video cost beyond their payload.
const OVERHEAD: f64 = 1.06;

fn steady(kbit: u64, window: Duration) -> Score {
    on_stage(&format!("steady-{kbit}"), Client::Chromium, Access::new(kbit, 60), |stage| {
        let asked = stage.join();
        observe(seconds(20));
        let (settled, passed) = (Moment::now(), stage.watch(window));
        let room = (kbit as f64 * 950.0 - passed.audio - SOUND * 8.0) / OVERHEAD;
        // Whole layers: half of the 15 or 20 frames a second of the lower ones is no motion, and not offered.
        let best = passed.layers.iter().copied().filter(|rate| *rate <= room).fold(0.0, f64::max);
        let sizes = stage.video().map(|track| track.seen.sizes).unwrap_or_default();
        let switches = sizes.iter().filter(|size| size.at > settled.unix).count() as f64;
        println!(
            "{kbit} kbit/s: {:?} of {:?}, at most {room}, sound {}",
            passed.video, passed.layers, passed.audio
        );
        Score::default()
            .least("utilisation", Unit::Percent, 85.0, passed.video / best * 100.0)
            .most("queueing p95", Unit::Ms, 150.0, ms(stage.link.queueing(asked.at + seconds(2))))
            .most("switches after 20 s", Unit::PerMinute, 1.0, switches / passed.time.as_secs_f64() * 60.0)
            .and(usual(&passed))
    })
}

fn cliff() -> Score {
    let (wide, narrow) = (Access::new(2500, 60), Access::new(300, 60));
    on_stage("cliff", Client::Chromium, wide, |stage| {
        stage.settle();
        stage.viewer.restart();
        let collapse = Moment::now();
        stage.link.change(narrow);
        let passed = stage.watch(seconds(20));
        let longest = stage.video().map_or(f64::INFINITY, |track| track.seen.longest_gap);
        let rise = Moment::now();
        stage.link.change(wide);
        let top = stage.shown_after(rise, 1280, seconds(20));
        Score::default()
            .within("rate below the link", 1.5, stage.link.below(collapse.at, narrow.kbit))
            .most("longest freeze", Unit::Ms, 700.0, longest)
            .within("queue empty", 1.5, stage.link.empty(collapse.at))
            .within("top layer after the rise", 8.0, top)
            .and(usual(&passed))
    })
}

/// `limits`: percentages of frozen and concealed time.
fn loss(client: Client, percent: u32, limits: (f64, f64), window: Duration) -> Score {
    let access = Access { loss: percent, ..Access::new(4000, 80) };
    on_stage(&format!("loss-{percent}-{client:?}"), client, access, |stage| {
        stage.join();
        // A browser that sends nothing does not know the round trip, which it asks for repairs by and waits for them.
        stage.viewer.publish_microphone(660.0);
        observe(seconds(8));
        let passed = stage.watch(window);
        println!("lost by chance and in the queue: {:?}", stage.link.lost());
        println!("video at the end: {:?}", stage.video().map(|track| track.stats));
        Score::default()
            .most("frozen", Unit::Percent, limits.0, passed.frozen)
            .most("audio concealed", Unit::Percent, limits.1, passed.concealed)
            .note("frames a second", Unit::Rate, passed.frames)
    })
}

fn blackout(client: Client, length: Duration) -> Score {
    let access = Access::new(4000, 50);
    on_stage(&format!("blackout-{}-{client:?}", length.as_secs()), client, access, |stage| {
        stage.settle();
        let sid = stage.viewer.sid();
        stage.viewer.restart();
        stage.link.black_out();
        observe(length);
        let back = Moment::now();
        stage.link.change(access);
        let picture = stage.resumed_after(back, Kind::Video, seconds(60));
        println!("{client:?}: {:?}", stage.viewer.events());
        Score::default()
            .within("picture after the return", 0.5, picture)
            .never("connections ended", stage.lost_places(&sid))
    })
}

/// Out of the house. `overlap`: how long the new network is there before the old one goes.
fn roam(name: &str, overlap: Duration) -> Score {
    on_stage(name, Client::Chromium, Access::new(20_000, 20), |stage| {
        stage.settle();
        let sid = stage.viewer.sid();
        stage.viewer.restart();
        let (_lte, left) = stage.move_to(Access::new(3000, 70), overlap);
        // As mobile SDKs do when their system tells them.
        stage.viewer.simulate("signal-reconnect");
        observe(seconds(10));
        for happening in stage.viewer.history() {
            println!("{:.0} ms after: {}", happening.at - left.unix, happening.what);
        }
        let gap = |kind| {
            let longest = stage.viewer.track(&stage.sender, kind).ok()?.seen.longest_gap;
            Some(Duration::from_secs_f64(longest / 1000.0))
        };
        Score::default()
            .within("audio gap", 1.0, gap(Kind::Audio))
            .within("video gap", 1.5, gap(Kind::Video))
            .never("connections ended", stage.lost_places(&sid))
    })
}

/// Told, but not promised.
fn usual(passed: &Passed) -> Score {
    Score::default()
        .note("frozen", Unit::Percent, passed.frozen)
        .note("audio concealed", Unit::Percent, passed.concealed)
        .note("frames a second", Unit::Rate, passed.frames)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
