//! The server has no time: pictures become smaller and then go, sound does not notice, and all comes back.

use sfu::command::{Demand, explanation::Explanation};
use sfu::congestion::explain::Why;
use sfu::congestion::restraint::Restraint;
use sfu_testkit::call::{Call, Machines, SubscriberId};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, good, ms, seconds, seeds};

/// What the viewers are sent by the allocator's choice, all together, in bit/s.
fn used(call: &mut Call, viewers: &[SubscriberId]) -> u64 {
    viewers.iter().map(|viewer| call.explain(*viewer).budget.used.as_bps()).sum()
}

fn whys(explanation: &Explanation) -> Vec<Why> {
    explanation.tracks.iter().filter(|track| track.granted != track.wanted).map(|track| track.why).collect()
}

#[test]
fn pictures_go_before_sound_and_come_back() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("overload", seed, Machines::Idle);
        let publishers = [(); 3].map(|()| call.publish(CameraConfig::simulcast, good()));
        let asked = publishers.map(|publisher| (publisher, Demand::default()));
        let viewers = [(); 4].map(|()| call.subscribe_all(&asked, good()));
        call.run_for(seconds(10));
        let whole = used(&mut call, &viewers);
        let begin = call.time();

        let mut before = whole;
        for steps in [3, 6, 9, 12] {
            call.restrain(Restraint::NONE.more(steps));
            call.run_for(seconds(4));
            let left = used(&mut call, &viewers);
            faults.check(left < before, seed, || format!("{left} of {before} bit/s after {steps} steps"));
            before = left;
            for viewer in viewers {
                let explanation = call.explain(viewer);
                let whys = whys(&explanation);
                let told = whys.contains(&Why::Overload) && !whys.contains(&Why::Budget);
                faults.check(told, seed, || format!("{steps} steps: {whys:?}"));
                let probes = call.samples(viewer).iter().rev().take(30).any(|sample| sample.snapshot.probing);
                faults.check(!probes, seed, || "the path is asked for what there is no time for".to_owned());
            }
        }
        faults.check(before < whole / 8, seed, || format!("{before} of {whole} bit/s"));
        let shown = call.seen(viewers[0]).fps(call.time().saturating_sub(seconds(3)), call.time());
        faults.check(shown > 3.0, seed, || format!("small pictures, and still some: {shown} a second"));

        call.restrain(Restraint::ALL);
        call.run_for(seconds(1));
        let silent = call.time();
        call.run_for(seconds(3));
        let shown: f64 = viewers.iter().map(|viewer| call.seen(*viewer).fps(silent, call.time())).sum();
        faults.check(shown == 0.0, seed, || format!("{shown} frames a second"));

        let back = call.time();
        call.restrain(Restraint::NONE);
        call.run_for(seconds(12));
        for viewer in viewers {
            let seen = call.seen(viewer);
            let heard = seen.heard(begin, call.time());
            faults.check(heard.packets > 1000 && heard.missed() < 0.001, seed, || format!("{heard:?}"));
            let first = seen.freezes(back, call.time(), ms(0)).first().map(|(_, length)| *length);
            faults.check(first.is_some_and(|after| after < seconds(4)), seed, || {
                format!("back after {first:?}")
            });
        }
        let again = used(&mut call, &viewers);
        faults.check(again as f64 > 0.9 * whole as f64, seed, || format!("{again} of {whole} bit/s"));
    }
    faults.none();
}

#[test]
fn who_speaks_is_seen_longest() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("overload speaker", seed, Machines::Idle);
        let publishers = [(); 6].map(|()| call.publish(CameraConfig::simulcast, good()));
        for publisher in &publishers[1..] {
            call.set_speaking(*publisher, false);
        }
        let asked = publishers.map(|publisher| (publisher, Demand::default()));
        let viewer = call.subscribe_all(&asked, good());
        call.run_for(seconds(10));
        call.restrain(Restraint::NONE.more(Restraint::ALL.steps() - 1));
        call.run_for(seconds(5));
        let seen = call.explain(viewer);
        let shown: Vec<_> = seen
            .tracks
            .iter()
            .filter(|track| track.gets.is_some() && track.mime.starts_with("video"))
            .collect();
        let speaker = shown.iter().any(|track| track.track == publishers[0].video());
        faults.check(speaker && shown.len() < 6, seed, || format!("{shown:#?}"));
    }
    faults.none();
}
