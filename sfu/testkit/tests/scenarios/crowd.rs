//! Many viewers at once are one burden for the publisher, and many publishers fit into one viewer's link as they can.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Call, Machines};
use sfu_testkit::camera::CameraConfig;

use crate::pauses::notices;
use crate::{Faults, access, good, ms, seconds, seeds};

#[test]
fn twenty_viewers_at_once() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("twenty_viewers_at_once", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        call.run_for(seconds(2));
        let joined = call.time();
        let viewers: Vec<_> = (0..20).map(|_| call.subscribe(publisher, good(), Demand::default())).collect();
        call.run_for(seconds(15));

        let plis = &call.published(publisher).plis;
        let asked: Vec<_> = plis.iter().map(|(at, ssrc)| (call.since_start(*at), ssrc.0)).collect();
        // Three layers, and the better ones again for those who come up later.
        faults.check(asked.len() <= 6, seed, || format!("{} keyframes asked for: {asked:?}", asked.len()));
        for (index, (at, ssrc)) in asked.iter().enumerate() {
            let next = asked[index + 1..].iter().find(|(_, other)| other == ssrc);
            let pause = next.map(|(next, _)| next.saturating_sub(*at));
            faults.check(pause.is_none_or(|pause| pause >= ms(1900)), seed, || {
                format!("twice within {pause:?}")
            });
        }
        let settled = joined + seconds(8);
        let asked_later = asked.iter().filter(|(at, _)| *at > settled).count();
        faults.check(asked_later == 0, seed, || format!("{asked_later} keyframes asked for after 8 s"));
        for viewer in &viewers {
            let seen = call.seen(*viewer);
            let sizes = seen.sizes(settled, call.time());
            faults.check(sizes == [(1280, 720)], seed, || format!("after 8 s: {sizes:?}"));
            let freezes = seen.freezes(joined + seconds(2), call.time(), ms(400));
            faults.check(freezes.is_empty(), seed, || format!("freezes {freezes:?}"));
            let undecodable = seen.video().undecodable;
            faults.check(undecodable == 0, seed, || format!("{undecodable} undecodable"));
        }
    }
    faults.none();
}

#[test]
fn twenty_viewers_see_a_picture_soon() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("twenty_viewers_see_a_picture_soon", seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        call.run_for(seconds(2));
        let viewers: Vec<_> = (0..20).map(|_| call.subscribe(publisher, good(), Demand::default())).collect();
        call.run_for(seconds(3));
        let first = viewers.iter().map(|viewer| call.seen(*viewer).first_frame());
        let late: Vec<_> = first.filter(|first| first.is_none_or(|after| after > ms(500))).collect();
        faults.check(late.is_empty(), seed, || format!("{} waited: {late:?}", late.len()));
    }
    faults.none();
}

/// 25 people with cameras on 1.5 Mbit/s: everybody is heard, the speaker is seen in the middle size, the others small or
/// not, and who is not knows it. The word goes around.
#[test]
fn a_room_on_a_narrow_link() {
    const SPEAKERS: [usize; 5] = [3, 11, 20, 3, 11];
    let mut faults = Faults::default();
    for seed in seeds() {
        let mut call = Call::new("a_room_on_a_narrow_link", seed, Machines::Idle);
        let publishers: Vec<_> = (0..25).map(|_| call.publish(CameraConfig::simulcast, good())).collect();
        for &publisher in &publishers {
            call.set_speaking(publisher, false);
        }
        let narrow = access(Bitrate::kbps(1500), ms(40));
        let wanted: Vec<_> = publishers.iter().map(|publisher| (*publisher, Demand::default())).collect();
        let viewer = call.subscribe_all(&wanted, narrow);
        // What the link carries is found out meanwhile.
        call.run_for(seconds(20));
        let mut sizes = Vec::new();
        for (turn, &speaker) in SPEAKERS.iter().enumerate() {
            let begin = call.time();
            call.set_speaking(publishers[speaker], true);
            call.run_for(seconds(20));
            call.set_speaking(publishers[speaker], false);
            let (seen, end) = (call.seen_camera(viewer, speaker), call.time());
            let shown = |from, to| {
                let shown = seen.video().shown.iter().filter(move |(at, _)| (from..to).contains(at));
                shown.map(|(_, size)| size.0).collect::<Vec<u16>>()
            };
            let late = shown(begin + seconds(10), end);
            let medium = late.iter().filter(|width| **width == 640).count() as f64 / late.len().max(1) as f64;
            sizes.push((late.len(), medium));
            faults.check(late.len() > 100 && medium > 0.9, seed, || {
                format!("turn {turn}, speaker {speaker}: {} frames, {medium:.2} of them medium", late.len())
            });
            let notices = notices(&call, viewer.peer(), publishers[speaker].video());
            let paused = |(at, paused): &&(Duration, bool)| *paused && (begin + seconds(5)..end).contains(at);
            faults.check(notices.iter().filter(paused).count() == 0, seed, || {
                format!("turn {turn}, speaker {speaker}: {notices:?}")
            });
            let heard = seen.heard(begin + seconds(1), end);
            faults.check(heard.packets > 900 && heard.missed() < 0.02, seed, || {
                format!("turn {turn}: {heard:?}")
            });
        }
        let end = call.time();
        let (mut off, mut told) = (0, Vec::new());
        for (index, publisher) in publishers.iter().enumerate() {
            let seen = call.seen_camera(viewer, index);
            let heard = seen.heard(seconds(5), end);
            faults.check(heard.packets > 100, seed, || format!("{index} is heard: {heard:?}"));
            let notices = notices(&call, viewer.peer(), publisher.video());
            let from = end.saturating_sub(seconds(1));
            let settled = notices.last().is_none_or(|(at, _)| *at + seconds(1) < from);
            let flows = seen.video().shown.iter().any(|(at, _)| *at >= from);
            let paused = notices.last().is_some_and(|(_, paused)| *paused);
            off += u32::from(!flows);
            faults.check(flows != paused || !settled, seed, || {
                format!("{index}: flows {flows}, told {notices:?}")
            });
            let later = notices.iter().filter(|(at, _)| *at > seconds(20)).count();
            told.push(later);
        }
        println!(
            "a_room_on_a_narrow_link, seed {seed}: speakers' frames, medium of them {sizes:?}; {off} off, notices after 20 s {told:?}"
        );
        faults.check(off < 22, seed, || format!("{off} of 25 are not seen"));
        // In 100 s with five turns: who comes takes others' places, and the estimate moves.
        let (most, sum) = (told.iter().max().copied().unwrap_or(0), told.iter().sum::<usize>());
        faults.check(most <= 8 && sum <= 75, seed, || format!("notices after 20 s: {told:?}"));
    }
    faults.none();
}
