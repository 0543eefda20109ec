//! Streams of the camera, with packets taken out, swapped and thinned.

use super::*;
use crate::script::camera::{Camera, Layer};

const MS: Duration = Duration::from_millis(1);

/// A second of a camera, with a keyframe at the start and the given wish for another at 500 ms.
fn film(temporal_layers: u8, keyframe_again: bool) -> Vec<Part> {
    let layer = Layer { rid: None, size: (640, 360), rate: 900_000, temporal_layers };
    let start = Instant::now();
    let mut camera = Camera::new(start, &[layer], 30, 7);
    let mut parts = Vec::new();
    for millisecond in 0..1000 {
        if millisecond == 500 && keyframe_again {
            camera.request_keyframe(0);
        }
        while let Some(packet) = camera.poll(start + millisecond * MS) {
            let descriptor = Descriptor::read(&packet.payload).unwrap();
            parts.push(Part { descriptor, marker: packet.marker });
        }
    }
    parts
}

fn number_of_frames(parts: &[Part]) -> u64 {
    parts.iter().filter(|part| part.marker).count() as u64
}

/// Everything at once, then patience has an end.
fn judge(parts: impl IntoIterator<Item = (u64, Option<Part>)>) -> Picture {
    let now = Instant::now();
    let mut picture = Picture::default();
    for (number, part) in parts {
        picture.take(now, number, part);
    }
    for _ in 0..100 {
        picture.handle_timeout(now + PATIENCE);
    }
    picture
}

fn numbered(parts: &[Part]) -> Vec<(u64, Option<Part>)> {
    (1..).zip(parts.iter().copied().map(Some)).collect()
}

#[test]
fn a_whole_stream_is_shown_whole_in_whatever_order_it_comes() {
    for temporal_layers in [1, 3] {
        let parts = film(temporal_layers, true);
        let mut packets = numbered(&parts);
        for index in (1..packets.len() - 4).step_by(5) {
            packets.swap(index, index + 3);
        }
        packets.swap(0, 0);
        let frames = judge(packets).frames();
        let all = number_of_frames(&parts);
        let expected = Frames { shown: all, keyframes: 2, ..Frames::default() };
        assert_eq!(frames, expected, "{temporal_layers} temporal layers");
    }
}

#[test]
fn a_lost_packet_breaks_the_picture_until_the_next_keyframe() {
    let parts = film(1, true);
    let first_frame = parts.iter().position(|part| part.marker).unwrap() as u64 + 1;
    let keyframe = parts.iter().rposition(|part| part.descriptor.keyframe).unwrap() as u64 + 1;
    // The second packet of the second frame.
    let packets = numbered(&parts).into_iter().filter(|(number, _)| *number != first_frame + 2);
    let frames = judge(packets).frames();
    let broken = number_of_frames(&parts[..keyframe as usize - 1]) - 1;
    assert_eq!((frames.incomplete, frames.undecodable), (1, broken - 1));
    assert_eq!(frames.shown, number_of_frames(&parts) - broken);
}

#[test]
fn without_another_keyframe_it_stays_broken_and_wants_one() {
    let parts = film(1, false);
    let whole = judge(numbered(&parts));
    assert!(!whole.wants_keyframe());
    let packets = numbered(&parts).into_iter().filter(|(number, _)| *number != 20);
    let broken = judge(packets);
    assert!(broken.wants_keyframe());
    assert!(broken.frames().shown < 10);
}

#[test]
fn thinned_to_lower_temporal_layers_it_is_shown_if_numbers_are_made_continuous() {
    let parts = film(3, false);
    for highest in [0, 1] {
        let kept: Vec<Part> =
            parts.iter().copied().filter(|part| part.descriptor.temporal.unwrap().0 <= highest).collect();
        let frames = judge(numbered(&kept)).frames();
        assert_eq!((frames.undecodable, frames.incomplete), (0, 0));
        assert_eq!(frames.shown, number_of_frames(&kept));
        assert!(frames.skipped_numbers > 5, "picture ids were left as they were");

        let (mut id, mut renumbered) = (0, kept);
        for part in &mut renumbered {
            id += u16::from(part.descriptor.start);
            part.descriptor.picture_id = Some(id);
        }
        let frames = judge(numbered(&renumbered)).frames();
        assert_eq!((frames.shown, frames.skipped_numbers), (number_of_frames(&renumbered), 0));
    }
}

#[test]
fn a_lost_frame_of_an_upper_layer_hurts_those_above_only() {
    let parts = film(3, false);
    let start = parts.iter().position(|part| part.descriptor.temporal.unwrap().0 == 1).unwrap();
    let whole_frame = |part: &Part| part.descriptor.picture_id == parts[start].descriptor.picture_id;
    let packets: Vec<_> =
        numbered(&parts).into_iter().filter(|(_, part)| !whole_frame(&part.unwrap())).collect();
    let frames = judge(packets).frames();
    assert_eq!(frames.undecodable + frames.incomplete, 1, "{frames:?}"); // the frame of layer 2 that refers to it
    assert_eq!(frames.shown, number_of_frames(&parts) - 2);
}

#[test]
fn a_lost_frame_of_the_base_layer_hurts_all() {
    let parts = film(3, false);
    let base = |part: &&Part| part.descriptor.temporal.unwrap().0 == 0 && !part.descriptor.keyframe;
    let second = parts.iter().find(base).unwrap().descriptor.picture_id;
    let packets: Vec<_> = numbered(&parts)
        .into_iter()
        .filter(|(_, part)| part.unwrap().descriptor.picture_id != second)
        .collect();
    let picture = judge(packets);
    assert!(picture.wants_keyframe());
    assert!(picture.frames().shown <= 9, "{:?}", picture.frames());
}

#[test]
fn numbers_without_a_part_are_no_gap() {
    let parts = film(1, false);
    let mut packets = numbered(&parts);
    for (number, _) in &mut packets {
        *number *= 2;
    }
    let padding: Vec<_> = packets.iter().map(|(number, _)| (number + 1, None)).collect();
    packets.extend(padding);
    packets.sort_by_key(|(number, _)| *number);
    let frames = judge(packets).frames();
    assert_eq!(frames.shown, number_of_frames(&parts));
}

#[test]
fn a_repair_that_comes_in_time_leaves_no_trace() {
    let parts = film(1, false);
    let start = Instant::now();
    let in_time = start + PATIENCE.saturating_sub(MS);
    let mut picture = Picture::default();
    for (number, part) in numbered(&parts).into_iter().filter(|(number, _)| *number != 20) {
        picture.take(start, number, part);
        picture.handle_timeout(in_time);
    }
    picture.take(in_time, 20, Some(parts[19]));
    assert_eq!(
        picture.frames(),
        Frames { shown: number_of_frames(&parts), keyframes: 1, ..Frames::default() }
    );
}

#[test]
fn a_gap_that_never_closes_does_not_hold_more_than_so_much() {
    let parts = film(1, false);
    let now = Instant::now();
    let mut picture = Picture::default();
    for round in 0..20 {
        for (number, part) in numbered(&parts) {
            picture.take(now, 2 + number + round * parts.len() as u64 * 2, part);
            assert!(picture.waiting.len() <= MAX_WAITING);
        }
    }
}

#[test]
fn a_frame_that_a_keyframe_cuts_off_is_not_taken_for_a_loss() {
    let parts = film(1, true);
    let keyframe = parts.iter().rposition(|part| part.descriptor.keyframe).unwrap();
    let cut: Vec<Part> = parts[..keyframe - 1].iter().chain(&parts[keyframe..]).copied().collect();
    let frames = judge(numbered(&cut)).frames();
    assert_eq!((frames.cut_off, frames.incomplete, frames.undecodable), (1, 0, 0));
    assert_eq!(frames.skipped_numbers, 0);
    assert_eq!(frames.shown, number_of_frames(&parts) - 1);
}
