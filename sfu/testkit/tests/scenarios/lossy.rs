//! One packet in twenty is lost in either direction, on both ends of the call.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{LinkConfig, Loss};

use crate::{Faults, access, good, ms, seconds, seeds};

/// Repairs that surely happen in a minute: the camera sends some 3000 packets.
const SOME: u64 = 50;

/// `longest` is the freeze that repairs may cause which are lost themselves.
fn one_in_twenty(name: &str, rtt: Duration, longest: Duration) {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let link = LinkConfig { loss: Loss::Random(0.05), ..access(Bitrate::kbps(20_000), rtt).down };
        let publisher = call.publish(CameraConfig::small, Access::same(link));
        let viewer = call.subscribe(publisher, Access::same(link), Demand::default());
        call.run_for(seconds(3));
        let begin = call.time();
        let sent = |call: &Call| call.published(publisher).frames.values().sum::<u64>();
        let before = sent(&call);
        call.run_for(seconds(60));

        let (seen, end) = (call.seen(viewer), call.time());
        let sent = (sent(&call) - before) as f64;
        let shown = seen.fps(begin, end) * 60.0;
        faults.check(shown >= 0.9 * sent, seed, || format!("{shown} of {sent} frames"));
        let heard = seen.heard(begin, end);
        // Lost on either way: 1 - 0.95², give or take.
        faults.check(heard.missed() < 0.14, seed, || format!("{heard:?}"));
        let stats = call.server().sfu().stats();
        let published = call.published(publisher);
        let repairs = [
            ("NACKs in", stats.nacks.0),
            ("NACKs out", stats.nacks.1),
            ("resent in", stats.retransmissions.0),
            ("resent out", stats.retransmissions.1),
            ("NACKs at the publisher", published.nacked),
            ("resent by the publisher", published.resent),
            ("NACKs of the viewer", seen.video().nacks),
            ("resent to the viewer", seen.video().resent),
        ];
        for (what, count) in repairs {
            faults.check(count > SOME, seed, || format!("{what}: {count}"));
        }
        let freezes = seen.freezes(begin, end, longest);
        faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
        let undecodable = seen.video().undecodable;
        faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
    }
    faults.none();
}

#[test]
fn loss_of_5_percent_over_20_ms() {
    one_in_twenty("loss_of_5_percent_over_20_ms", ms(20), ms(500));
}

#[test]
fn loss_of_5_percent_over_150_ms() {
    one_in_twenty("loss_of_5_percent_over_150_ms", ms(150), ms(750));
}

/// A repair that is lost, too, is sent twice: three round trips without a frame are rare.
#[test]
fn repairs_that_are_lost_delay_few_pictures() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("repairs_that_are_lost_delay_few_pictures", seed, Machines::Idle);
        let path = access(Bitrate::kbps(4000), ms(80));
        let down = LinkConfig { loss: Loss::Random(0.2), ..path.down };
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, Access { down, ..path }, Demand::default());
        call.run_for(seconds(10));
        let begin = call.time();
        call.run_for(seconds(60));
        let long = call.seen(viewer).freezes(begin, call.time(), ms(250)).len();
        println!("seed {seed}: {long}");
        faults.check(long <= 8, seed, || format!("{long} times in a minute"));
    }
    faults.none();
}

/// Loss on the publisher's side alone: what the server repairs costs its viewers a moment.
fn publisher_loses(name: &str, demand: Demand, least_fps: f64) {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let up = LinkConfig { loss: Loss::Random(0.03), ..good().up };
        let publisher = call.publish(CameraConfig::simulcast, Access { up, down: good().down });
        let viewer = call.subscribe(publisher, good(), demand);
        call.run_for(seconds(8));
        let begin = call.time();
        call.run_for(seconds(30));

        let (seen, end) = (call.seen(viewer), call.time());
        let fps = seen.fps(begin, end);
        faults.check(fps >= least_fps, seed, || format!("{fps} fps"));
        let freezes = seen.freezes(begin, end, ms(400));
        faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
        let published = call.published(publisher);
        let (asked, resent) = (published.nacked, published.resent);
        // The microphone agreed to no NACKs, and is not to be asked.
        faults
            .check(asked == resent && resent > SOME, seed, || format!("asked for {asked}, resent {resent}"));
        let video = seen.video();
        faults.check(video.undecodable == 0, seed, || format!("{} undecodable", video.undecodable));
        // A repair that is lost too comes too late, which is rare: 1 in 1000 packets.
        faults.check(video.skips <= 6, seed, || format!("{} times frames were left out", video.skips));
    }
    faults.none();
}

#[test]
fn publisher_loses_packets() {
    publisher_loses("publisher_loses_packets", Demand::default(), 28.0);
}

#[test]
fn publisher_loses_packets_and_the_viewer_wants_half_the_frames() {
    let demand = Demand { max_spatial: 1, fps: Some(15), ..Demand::default() };
    publisher_loses("publisher_loses_packets_and_the_viewer_wants_half_the_frames", demand, 14.0);
}

/// A viewer who has just joined is sent a keyframe slowly; what the publisher resends meanwhile must find its place.
#[test]
fn publisher_loses_packets_while_viewers_join() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("publisher_loses_packets_while_viewers_join", seed, Machines::Idle);
        let up = LinkConfig { loss: Loss::Random(0.05), ..access(Bitrate::kbps(20_000), ms(10)).up };
        let publisher = call.publish(CameraConfig::simulcast, Access { up, down: good().down });
        call.run_for(seconds(2));
        let mut viewers = Vec::new();
        for _ in 0..20 {
            viewers.push(call.subscribe(publisher, good(), Demand { max_spatial: 1, ..Demand::default() }));
            call.run_for(ms(700));
        }
        call.run_for(seconds(2));
        for (index, viewer) in viewers.iter().enumerate() {
            let undecodable = call.seen(*viewer).video().undecodable;
            faults.check(undecodable == 0, seed, || format!("viewer {index}: {undecodable} undecodable"));
        }
    }
    faults.none();
}
