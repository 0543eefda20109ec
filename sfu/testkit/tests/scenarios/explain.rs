//! What a report says of a call is what its viewer goes through.

use sfu::command::explanation::{Explanation, TrackExplanation};
use sfu::command::{Demand, DownlinkPolicy, MediaKind};
use sfu::congestion::explain::Why;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines, SubscriberId};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::LinkConfig;

use crate::{Faults, good, ms, seconds, seeds};

fn of(explanation: &Explanation, kind: MediaKind) -> &TrackExplanation {
    explanation.tracks.iter().find(|track| track.kind == kind).expect("both kinds are subscribed to")
}

/// Width and reason of the camera.
fn camera(call: &mut Call, viewer: SubscriberId) -> (Option<u32>, Why) {
    let explanation = call.explain(viewer);
    let track = of(&explanation, MediaKind::Video);
    (track.gets.and_then(|gets| gets.size).map(|(width, _)| width), track.why)
}

#[test]
fn explain() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("explain", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let viewer = call.subscribe(publisher, good(), Demand::default());
        let mut expect = |call: &mut Call, when: &str, wanted: (Option<u32>, Why)| {
            let got = camera(call, viewer);
            faults.check(got == wanted, seed, || format!("{when}: {got:?}"));
        };
        call.run_for(seconds(8));
        expect(&mut call, "wide", (Some(1280), Why::None));

        call.adjust(viewer, Demand { size: Some((600, 300)), ..Demand::default() });
        call.run_for(seconds(2));
        expect(&mut call, "asked for a small one", (Some(640), Why::AskedSize));
        call.adjust(viewer, Demand::default());
        call.set_layer(publisher, "f", false);
        call.run_for(seconds(3));
        expect(&mut call, "without the top encoding", (Some(640), Why::LayerNotSent));
        call.set_layer(publisher, "f", true);
        call.run_for(seconds(6));

        // Nobody's bandwidth, though the estimate says "a little": each fact is its own.
        call.limit(viewer, DownlinkPolicy { max: Some(Bitrate::kbps(330)), ..Default::default() });
        call.run_for(seconds(12));
        expect(&mut call, "bounded by the client", (Some(320), Why::ClientLimit));
        call.mute(publisher, true);
        call.run_for(seconds(1));
        expect(&mut call, "muted meanwhile", (None, Why::Muted));
        call.mute(publisher, false);
        call.limit(viewer, DownlinkPolicy::default());
        call.run_for(seconds(12));
        call.limit(viewer, DownlinkPolicy { data_saver: true, ..Default::default() });
        call.run_for(seconds(4));
        expect(&mut call, "saving data", (Some(1280), Why::DataSaver));
        call.limit(viewer, DownlinkPolicy { background: true, ..Default::default() });
        call.run_for(seconds(1));
        expect(&mut call, "in the background", (None, Why::Background));
        call.limit(viewer, DownlinkPolicy::default());
        call.adjust(viewer, Demand { enabled: false, ..Demand::default() });
        call.run_for(seconds(1));
        expect(&mut call, "switched off", (None, Why::Disabled));
        call.adjust(viewer, Demand::default());

        let narrow = LinkConfig { rate: Some(Bitrate::kbps(700)), ..good().down };
        call.set_access(viewer, Access { down: narrow, ..good() });
        call.run_for(seconds(20));
        let told = call.explain(viewer);
        let video = of(&told, MediaKind::Video);
        faults.check(video.why == Why::Budget, seed, || format!("700 kbit/s: {video:?}"));
        let next = video.next.map_or(Bitrate::ZERO, |next| next.rate);
        faults.check(next > told.budget.media, seed, || format!("{next} fits: {:?}", told.budget));
        faults.check(told.budget.used <= told.budget.media, seed, || format!("{:?}", told.budget));
        let sound = of(&told, MediaKind::Audio);
        faults.check(sound.why == Why::None && sound.gets.is_some(), seed, || format!("{sound:?}"));

        // The history has a sample for each second, and the fall in it.
        let history = told.history.expect("it subscribed");
        let targets: Vec<Bitrate> = history.iter().map(|(_, sample)| sample.target()).collect();
        let expected = call.time().as_secs();
        faults.check(targets.len().abs_diff(expected as usize) <= 2, seed, || format!("{}", targets.len()));
        let highest = targets.iter().max().copied().unwrap_or_default();
        faults.check(highest > Bitrate::kbps(1500), seed, || format!("{highest}"));
        let last = targets.last().copied().unwrap_or_default();
        faults.check(last < Bitrate::kbps(1000), seed, || format!("{last}"));
        let steps = history.iter().zip(history.iter().skip(1)).map(|((a, _), (b, _))| b - a);
        let even = steps.filter(|step| *step >= ms(900) && *step <= ms(1200)).count();
        faults.check(even + 2 > targets.len(), seed, || format!("{even} of {} seconds", targets.len()));
    }
    faults.none();
}
