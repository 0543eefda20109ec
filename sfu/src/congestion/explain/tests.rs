use super::*;
use crate::congestion::controller::{Config, Controller};

fn layer(spatial: u8, temporal: u8) -> LayerId {
    LayerId { spatial, temporal }
}

/// The middle of three encodings, since no more fits.
fn facts() -> Facts {
    Facts {
        agreed: Agreed::Yes,
        enabled: true,
        muted: false,
        alive: true,
        silent: false,
        reason: Some(Reason::Budget),
        layers: (Some(layer(1, 1)), Some(layer(1, 1))),
        awaits_keyframe: false,
        background: false,
        held_back: false,
        limited: false,
        saver: None,
        asked: layer(u8::MAX, u8::MAX),
        sent: layer(2, 1),
        announced: layer(2, 1),
    }
}

#[test]
fn the_allocators_word_counts_where_the_track_flows() {
    assert_eq!(facts().why(), Why::Budget);
    assert_eq!(Facts { limited: true, ..facts() }.why(), Why::ClientLimit);
    assert_eq!(Facts { limited: true, held_back: true, ..facts() }.why(), Why::Overload);
    assert_eq!(Facts { reason: Some(Reason::Settling), ..facts() }.why(), Why::Settling);
    let top = Facts { reason: Some(Reason::Satisfied), ..facts() };
    assert_eq!(top.why(), Why::None);
    assert_eq!(Facts { limited: true, held_back: true, ..top }.why(), Why::None);
    assert_eq!(Facts { reason: None, ..facts() }.why(), Why::None, "sound");
}

#[test]
fn a_pause_for_bandwidth_hides_nothing() {
    let paused = Facts { layers: (None, None), ..facts() };
    assert_eq!(paused.why(), Why::Budget);
    for (change, why) in [
        (Facts { muted: true, ..paused }, Why::Muted),
        (Facts { enabled: false, muted: true, ..paused }, Why::Disabled),
        (Facts { alive: false, ..paused }, Why::PublisherPaused),
        (Facts { alive: false, muted: true, ..paused }, Why::Muted),
        (Facts { background: true, reason: Some(Reason::Off), ..paused }, Why::Background),
        (Facts { silent: true, reason: Some(Reason::Satisfied), ..paused }, Why::NoFeedback),
        (Facts { agreed: Agreed::Pending, ..paused }, Why::Connecting),
        (Facts { agreed: Agreed::Unsupported, enabled: false, ..paused }, Why::Unsupported),
    ] {
        assert_eq!(change.why(), why, "{change:?}");
    }
}

#[test]
fn a_keyframe_is_waited_for_on_the_way_up_only() {
    let switching = Facts { awaits_keyframe: true, reason: Some(Reason::Satisfied), ..facts() };
    let up = Facts { layers: (Some(layer(0, 1)), Some(layer(2, 1))), ..switching };
    assert_eq!(up.why(), Why::WaitingForKeyframe);
    let first = Facts { layers: (None, Some(layer(0, 0))), ..switching };
    assert_eq!(first.why(), Why::WaitingForKeyframe);
    let down =
        Facts { layers: (Some(layer(2, 1)), Some(layer(0, 1))), reason: Some(Reason::Budget), ..switching };
    assert_eq!(down.why(), Why::Budget);
}

#[test]
fn all_that_was_asked_for_is_bounded_by_whoever_bounds_it() {
    let given = Facts { reason: Some(Reason::Satisfied), ..facts() };
    for (change, why) in [
        (Facts { asked: layer(1, u8::MAX), ..given }, Why::AskedSize),
        // Dynacast stopped what nobody asks for: the ask is the reason.
        (Facts { asked: layer(1, u8::MAX), sent: layer(1, 1), ..given }, Why::AskedSize),
        (Facts { asked: layer(1, 0), ..given }, Why::AskedFps),
        (Facts { sent: layer(1, 1), ..given }, Why::LayerNotSent),
        (Facts { saver: Some(0), ..given }, Why::DataSaver),
        (Facts { saver: Some(0), asked: layer(1, u8::MAX), ..given }, Why::DataSaver),
        // Nothing to halve: not the saver's doing.
        (Facts { saver: Some(0), sent: layer(2, 0), announced: layer(2, 0), ..given }, Why::None),
        (Facts { saver: Some(0), asked: layer(2, 0), ..given }, Why::AskedFps),
    ] {
        assert_eq!(change.why(), why, "{change:?}");
    }
}

#[test]
fn ten_minutes_are_kept_in_place_and_the_oldest_goes_first() {
    assert!(size_of::<Sample>() <= 24, "{} bytes, 600 times for every subscriber", size_of::<Sample>());
    let start = crate::test_time();
    let snapshot = Controller::new(start, Config::default()).snapshot();
    let mut history = History::new(start);
    assert_eq!(history.recent(HISTORY).iter().count(), 0);
    let ring = history.ring.as_ptr();
    for second in 1..=700_u64 {
        let snapshot = Snapshot { target: Bitrate::kbps(second), ..snapshot };
        history.take(start + Duration::from_secs(second), &snapshot, [0, 1, 0, 0, 0]);
    }
    assert_eq!(history.ring.as_ptr(), ring);
    let all = history.recent(usize::MAX);
    let seconds: Vec<u64> = all.iter().map(|(at, _)| (at - start).as_secs()).collect();
    assert_eq!(seconds, (101..=700).collect::<Vec<_>>());
    assert!(all.iter().all(|(at, sample)| sample.target() == Bitrate::kbps((at - start).as_secs())));
    let three = history.recent(3);
    assert_eq!(three.iter().map(|(at, _)| (at - start).as_secs()).collect::<Vec<_>>(), [698, 699, 700]);
}

#[test]
fn a_sample_gives_back_what_it_was_given_whatever_its_size() {
    let start = crate::test_time();
    let snapshot = Snapshot {
        target: Bitrate::bps(1_234_567),
        cause: Cause::Probe,
        delivered: None,
        queue_delay: Duration::from_micros(17_800),
        loss: 0.05,
        ..Controller::new(start, Config::default()).snapshot()
    };
    let mut history = History::new(start);
    history.take(start, &snapshot, [1, 2, 3, 4, 5]);
    let huge = Snapshot {
        target: Bitrate::bps(u64::MAX),
        delivered: Some(Bitrate::bps(u64::MAX)),
        queue_delay: Duration::from_secs(1000),
        loss: f64::NAN,
        ..snapshot
    };
    history.take(start, &huge, Pictures::default());
    let recent = history.recent(2);
    let [(_, usual), (_, huge)] = recent.iter().collect::<Vec<_>>()[..] else { panic!("two were taken") };
    assert_eq!(
        (usual.target(), usual.cause(), usual.delivered()),
        (Bitrate::bps(1_234_567), Cause::Probe, None)
    );
    assert_eq!((usual.queue_delay(), usual.pictures()), (Duration::from_millis(17), [1, 2, 3, 4, 5]));
    assert!((usual.loss() - 0.05).abs() < 1e-4, "{}", usual.loss());
    assert!(huge.delivered().is_some() && huge.target() > Bitrate::kbps(4_000_000));
    assert_eq!((huge.queue_delay(), huge.loss()), (Duration::from_millis(65_535), 0.0));
}
