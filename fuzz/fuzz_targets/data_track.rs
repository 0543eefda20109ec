//! Packets of data tracks: their header, and the handle that is written in the place of theirs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::ids::DataHandle;
use sfu::wire::data_track::{DataTrackHeader, write_handle};

fuzz_target!(|packet: &[u8]| {
    let Some(header) = DataTrackHeader::parse(packet) else { return };
    assert!((12..=packet.len()).contains(&header.len));
    let handle = DataHandle::new(u32::from(header.handle.wire()) ^ 0x5555).unwrap_or(header.handle);
    let mut rewritten = packet.to_vec();
    write_handle(&mut rewritten, handle);
    assert_eq!(DataTrackHeader::parse(&rewritten), Some(DataTrackHeader { handle, ..header }));
    assert_eq!((&rewritten[..2], &rewritten[4..]), (&packet[..2], &packet[4..]));
});
