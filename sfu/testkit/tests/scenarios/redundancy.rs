//! What is heard over a lossy path, with redundant audio from the server or from the publisher.

use std::time::Duration;

use sfu::command::Demand;
use sfu::stats::Stats;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Heard, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{LinkConfig, Loss};

use crate::{Faults, access, good, ms, seconds, seeds};

/// 4 Mbit/s, 80 ms there and back, on which the subscriber loses packets.
fn lossy(loss: Loss) -> Access {
    let path = access(Bitrate::kbps(4000), ms(80));
    Access { down: LinkConfig { loss, ..path.down }, up: path.up }
}

/// A minute of sound from joining on.
fn listen(call: &mut Call, paths: &(Access, Access), redundant: bool) -> (Heard, u64) {
    let publisher = call.publish(CameraConfig::simulcast, paths.0);
    call.set_redundant(publisher, redundant);
    let viewer = call.subscribe(publisher, paths.1, Demand::default());
    call.run_for(seconds(61));
    let seen = call.seen(viewer);
    (seen.heard(Duration::ZERO, call.time().saturating_sub(seconds(1))), seen.redundant_audio())
}

/// Of packets sent, the share that may be concealed.
fn downlink_loses(name: &str, loss: Loss, most: f64) {
    let mut faults = Faults::default();
    for seed in seeds() {
        for redundant in [false, true] {
            let mut call = Call::new(name, seed, Machines::Idle);
            let (heard, came) = listen(&mut call, &(good(), lossy(loss)), redundant);
            let concealed = heard.missed();
            println!(
                "{name}, seed {seed}, publisher's redundancy {redundant}: concealed {concealed:.4}, {heard:?}"
            );
            faults.check(heard.packets > 2500, seed, || format!("{heard:?}"));
            faults
                .check(concealed < most, seed, || format!("publisher's {redundant}: {concealed}: {heard:?}"));
            faults.check(came > 500, seed, || format!("{came} redundant packets"));
        }
    }
    faults.none();
}

#[test]
fn downlink_loses_2_percent() {
    downlink_loses("downlink_loses_2_percent", Loss::Random(0.02), 0.005);
}

#[test]
fn downlink_loses_5_percent() {
    downlink_loses("downlink_loses_5_percent", Loss::Random(0.05), 0.01);
}

#[test]
fn downlink_loses_10_percent() {
    downlink_loses("downlink_loses_10_percent", Loss::Random(0.1), 0.03);
}

#[test]
fn downlink_loses_20_percent() {
    downlink_loses("downlink_loses_20_percent", Loss::Random(0.2), 0.08);
}

#[test]
fn who_loses_nothing_gets_no_redundancy() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for redundant in [false, true] {
            let mut call = Call::new("who_loses_nothing_gets_no_redundancy", seed, Machines::Idle);
            let (heard, came) = listen(&mut call, &(good(), lossy(Loss::Never)), redundant);
            let sent = call.server().sfu().stats().redundant;
            faults.check((came, sent) == (0, 0), seed, || format!("{came} came, {sent} sent"));
            faults.check(heard.packets > 2500 && heard.lost == 0, seed, || format!("{heard:?}"));
        }
    }
    faults.none();
}

#[test]
fn loss_on_one_path_is_no_reason_on_another() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("loss_on_one_path_is_no_reason_on_another", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let loser = call.subscribe(publisher, lossy(Loss::Random(0.1)), Demand::default());
        let other = call.subscribe(publisher, lossy(Loss::Never), Demand::default());
        call.run_for(seconds(20));
        let came = [loser, other].map(|viewer| call.seen(viewer).redundant_audio());
        faults.check(came[0] > 500 && came[1] == 0, seed, || format!("{came:?}"));
    }
    faults.none();
}

#[test]
fn loss_by_a_full_queue_is_no_reason() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("loss_by_a_full_queue_is_no_reason", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, lossy(Loss::Never), Demand::default());
        call.run_for(seconds(15));
        let narrow = access(Bitrate::kbps(400), ms(80));
        call.set_access(viewer, narrow);
        call.run_for(seconds(2));
        let came = call.seen(viewer).redundant_audio();
        faults.check(came == 0, seed, || format!("{came} redundant packets"));
    }
    faults.none();
}

/// A publisher that loses packets and sends each twice: everybody hears it, also who gets no redundancy.
#[test]
fn publishers_redundancy_fills_our_gaps() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut missed = [0.0; 2];
        for (missed, redundant) in missed.iter_mut().zip([false, true]) {
            let mut call = Call::new("publishers_redundancy_fills_our_gaps", seed, Machines::Idle);
            let up = LinkConfig { loss: Loss::Random(0.1), ..good().up };
            let publisher = Access { up, down: good().down };
            let (heard, came) = listen(&mut call, &(publisher, lossy(Loss::Never)), redundant);
            let Stats { recovered, redundant: sent, .. } = *call.server().sfu().stats();
            *missed = heard.missed();
            faults.check((recovered > 200) == redundant, seed, || format!("{recovered} recovered"));
            faults.check((came, sent) == (0, 0), seed, || format!("{came} came, {sent} sent"));
        }
        // 10 % without, 1 % with.
        faults.check(missed[0] > 0.07 && missed[1] < 0.02, seed, || format!("{missed:?}"));
    }
    faults.none();
}

/// Too little for video: loss by our own queue earns no redundancy, and that of the path what fits.
fn a_voice_alone(name: &str, rate: Bitrate, loss: f64, check: fn(u64) -> bool) {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let narrow = access(rate, ms(80));
        let down = LinkConfig { loss: Loss::Random(loss), ..narrow.down };
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, Access { down, up: narrow.up }, Demand::default());
        call.run_for(seconds(61));
        let seen = call.seen(viewer);
        let heard = seen.heard(seconds(5), seconds(60));
        let (concealed, came) = (heard.missed(), seen.redundant_audio());
        println!("{name}, seed {seed}: concealed {concealed:.4}, {heard:?}, {came} redundant");
        // The worst seed; most of it is what probes for more bandwidth push out.
        faults.check(concealed < 0.06, seed, || format!("{concealed}: {heard:?}"));
        faults.check(check(came), seed, || format!("{came} redundant packets"));
    }
    faults.none();
}

#[test]
fn a_voice_in_80_kbit() {
    a_voice_alone("a_voice_in_80_kbit", Bitrate::kbps(80), 0.0, |redundant| redundant == 0);
}

#[test]
fn a_voice_in_150_kbit_with_loss() {
    a_voice_alone("a_voice_in_150_kbit_with_loss", Bitrate::kbps(150), 0.1, |redundant| redundant > 1000);
}
