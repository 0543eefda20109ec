//! A video that does not fit is paused with notice, and the notice of its return is true.

use std::time::Duration;

use sfu::command::{Demand, Event};
use sfu::ids::{PeerId, TrackId};
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::{Faults, access, good, ms, seconds, seeds};

/// Notices about a subscriber's video, and when they came.
pub(crate) fn notices(call: &Call, of: PeerId, video: TrackId) -> Vec<(Duration, bool)> {
    let notices = call.server().notices().iter();
    let paused = notices.filter_map(|(at, event)| match event {
        Event::SubscriptionPaused { peer, track, paused } if (*peer, *track) == (of, video) => {
            Some((*at, *paused))
        }
        _ => None,
    });
    paused.collect()
}

/// Too little for any picture, and enough again; while it is paused, the publisher mutes once.
#[test]
fn pauses_are_told() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for mutes in [false, true] {
            let mut call = Call::new("pauses_are_told", seed, Machines::Idle);
            let publisher = call.publish(CameraConfig::simulcast, good());
            let viewer = call.subscribe(publisher, good(), Demand::default());
            call.run_for(seconds(10));
            let begin = call.time();
            let narrow = access(Bitrate::kbps(90), ms(20));
            call.set_access(viewer, Access { down: narrow.down, up: good().up });
            call.run_for(seconds(10));
            if mutes {
                call.mute(publisher, true);
                call.run_for(seconds(5));
                call.mute(publisher, false);
                call.run_for(seconds(5));
            }
            let end = call.time();
            call.set_access(viewer, good());
            call.run_for(seconds(15));
            let told = notices(&call, viewer.peer(), publisher.video());
            let [(paused, true), .., (active, false)] = told[..] else {
                faults.check(false, seed, || format!("muted {mutes}: {told:?}"));
                continue;
            };
            faults.check(paused.saturating_sub(begin) < seconds(3), seed, || format!("{begin:?}: {told:?}"));
            for pair in told.windows(2) {
                let apart = pair[1].0.saturating_sub(pair[0].0);
                let shortest = if pair[0].1 { seconds(2) } else { ms(300) };
                faults.check(pair[0].1 != pair[1].1 && apart >= shortest, seed, || format!("{told:?}"));
            }
            let seen = call.seen(viewer);
            let shown = seen
                .shown_after(active.saturating_sub(ms(50)), 320)
                .or_else(|| seen.shown_after(active.saturating_sub(ms(50)), 640));
            faults.check(shown.is_some_and(|after| after < ms(350)), seed, || {
                format!("active at {active:?}, shown after {shown:?}")
            });
            faults.check(active > end && active.saturating_sub(end) < seconds(8), seed, || {
                format!("good from {end:?} on: {told:?}")
            });
            let between = seen.fps(paused + ms(500), active);
            faults.check(between < 1.0, seed, || format!("{between} fps while paused: {told:?}"));
        }
    }
    faults.none();
}
