//! When not even sound gets through, it is said, and when it does again; and not sooner.

use std::time::Duration;

use sfu::command::{Demand, Event, VoiceFault, Way};
use sfu::ids::PeerId;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{LinkConfig, Loss};

use crate::{Faults, access, good, ms, seconds, seeds};

/// What was told of a connection's sound, and when.
fn told(call: &Call, of: PeerId) -> Vec<(Duration, Way, Option<VoiceFault>)> {
    let notices = call.server().notices().iter();
    let voice = notices.filter_map(|(at, event)| match event {
        Event::Voice { peer, way, fault } if *peer == of => Some((*at, *way, *fault)),
        _ => None,
    });
    voice.collect()
}

fn losing(loss: f64) -> LinkConfig {
    LinkConfig { loss: Loss::Random(loss), ..access(Bitrate::kbps(4000), ms(60)).down }
}

fn slow(kbps: u64, queue_time: Duration) -> LinkConfig {
    LinkConfig { queue_time, ..access(Bitrate::kbps(kbps), ms(60)).down }
}

/// Half a minute of a good path, a minute of `bad`, half a minute of a good one, to or from a client.
fn bad_minute(name: &str, way: Way, bad: LinkConfig, fault: Option<fn(VoiceFault) -> bool>) {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let peer = if way == Way::Up { publisher.peer() } else { viewer.peer() };
        let set = |call: &mut Call, access| match way {
            Way::Up => call.set_publisher_access(publisher, access),
            Way::Down => call.set_access(viewer, access),
        };
        call.run_for(seconds(30));
        let begin = call.time();
        let path = match way {
            Way::Up => Access { up: bad, down: good().down },
            Way::Down => Access { down: bad, up: good().up },
        };
        set(&mut call, path);
        call.run_for(seconds(60));
        let end = call.time();
        let heard = call.seen(viewer).heard(begin, end);
        println!("{name}, seed {seed}: missed {:.3}, told {:?}", heard.missed(), told(&call, peer));
        set(&mut call, good());
        call.run_for(seconds(30));
        let told = told(&call, peer);
        match (fault, &told[..]) {
            (None, told) => faults.check(told.is_empty(), seed, || format!("told {told:?}")),
            (Some(is), [(since, of, Some(why)), (until, _, None)]) => {
                faults.check(*of == way && is(*why), seed, || format!("told {told:?}"));
                let after = (since.saturating_sub(begin), until.saturating_sub(end));
                faults
                    .check(after.0 < seconds(10) && after.1 < seconds(20), seed, || format!("told {told:?}"));
            }
            (Some(_), told) => faults.check(false, seed, || format!("told {told:?}")),
        }
    }
    faults.none();
}

#[test]
fn eighty_kbit_carry_a_voice() {
    bad_minute("eighty_kbit_carry_a_voice", Way::Down, slow(80, ms(200)), None);
}

#[test]
fn twenty_kbit_carry_none() {
    let fault = |fault| matches!(fault, VoiceFault::Loss | VoiceFault::Bandwidth);
    bad_minute("twenty_kbit_carry_none", Way::Down, slow(20, ms(200)), Some(fault));
}

#[test]
fn a_voice_that_takes_two_seconds_is_too_late() {
    let far = LinkConfig { delay: seconds(2), ..good().down };
    let name = "a_voice_that_takes_two_seconds_is_too_late";
    bad_minute(name, Way::Down, far, Some(|f| matches!(f, VoiceFault::Delay | VoiceFault::Outage)));
}

#[test]
fn a_deep_queue_in_front_of_too_little_carries_no_voice() {
    let name = "a_deep_queue_in_front_of_too_little_carries_no_voice";
    bad_minute(name, Way::Down, slow(40, seconds(4)), Some(|f| f != VoiceFault::Outage));
}

#[test]
fn twenty_percent_lost_are_repaired() {
    bad_minute("twenty_percent_lost_are_repaired", Way::Down, losing(0.2), None);
}

#[test]
fn forty_percent_lost_are_too_many() {
    bad_minute("forty_percent_lost_are_too_many", Way::Down, losing(0.4), Some(|f| f == VoiceFault::Loss));
}

#[test]
fn a_publisher_that_loses_forty_percent_is_not_heard() {
    let name = "a_publisher_that_loses_forty_percent_is_not_heard";
    bad_minute(name, Way::Up, losing(0.4), Some(|f| f == VoiceFault::Loss));
}

#[test]
fn a_publisher_that_loses_five_percent_is_heard() {
    bad_minute("a_publisher_that_loses_five_percent_is_heard", Way::Up, losing(0.05), None);
}

#[test]
fn a_path_that_is_gone_is_told() {
    bad_minute("a_path_that_is_gone_is_told", Way::Down, losing(1.0), Some(|f| f == VoiceFault::Outage));
}
