//! Packets of data tracks for a client that does not take them as fast as they come.
//!
//! They are live: who falls behind is better served with the newest. So the oldest go first when there are too many, whole frames
//! at a time, since a part of one is of no use, and so does what has waited too long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::ids::DataHandle;
use crate::stats::{DataTrackDrop, Stats};
use crate::transport::sctp::SendError;

/// Bytes that wait for one client, beside those that its SCTP association holds: a frame or two of the largest that SDKs put
/// together at usual sizes.
const MAX_BYTES: usize = 256 << 10;
/// What a packet takes beside its bytes.
const OVERHEAD: usize = 64;
/// Older than this, a packet is out of date. It also lasts for as long as a channel takes to open.
const MAX_AGE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Waiting {
    since: Instant,
    handle: DataHandle,
    frame: u16,
    packet: Bytes,
}

impl Waiting {
    fn size(&self) -> usize {
        self.packet.len() + OVERHEAD
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct DataBacklog {
    packets: VecDeque<Waiting>,
    bytes: usize,
    /// Something was written on the client's channel and has not been sent yet.
    pub(crate) written: bool,
}

impl DataBacklog {
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Writes one packet, or lets it wait behind those that do. `write` gets its bytes out under the handle.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        handle: DataHandle,
        frame: u16,
        packet: &Bytes,
        write: impl FnOnce() -> Result<(), SendError>,
        stats: &mut Stats,
    ) {
        if self.packets.is_empty() {
            match write() {
                Ok(()) => {
                    self.written = true;
                    return stats.data_tracks.1.count(packet.len());
                }
                Err(SendError::TooLarge { .. }) => return stats.drop_data(DataTrackDrop::TooLarge, 1),
                Err(SendError::NotOpen | SendError::Backlogged) => {}
            }
        }
        self.push(Waiting { since: now, handle, frame, packet: packet.clone() }, stats);
    }

    /// Writes of what waits as much as the channel takes. Tells whether that was anything.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        mut write: impl FnMut(DataHandle, &Bytes) -> Result<(), SendError>,
        stats: &mut Stats,
    ) -> bool {
        self.expire(now, stats);
        let mut wrote = false;
        while let Some(first) = self.packets.front() {
            match write(first.handle, &first.packet) {
                Ok(()) => {
                    stats.data_tracks.1.count(first.packet.len());
                    wrote = true;
                }
                Err(SendError::TooLarge { .. }) => stats.drop_data(DataTrackDrop::TooLarge, 1),
                Err(SendError::NotOpen | SendError::Backlogged) => break,
            }
            self.pop();
        }
        wrote
    }

    fn push(&mut self, waiting: Waiting, stats: &mut Stats) {
        self.expire(waiting.since, stats);
        let size = waiting.size();
        while self.bytes + size > MAX_BYTES
            && let Some(frame) = self.packets.front().map(|first| (first.handle, first.frame))
        {
            stats.drop_data(DataTrackDrop::Overflow, self.drop_frame(frame));
        }
        self.bytes += size;
        self.packets.push_back(waiting);
    }

    /// Drops the oldest packets, as far as they are of one frame.
    fn drop_frame(&mut self, frame: (DataHandle, u16)) -> usize {
        let is_of_it = |first: &Waiting| (first.handle, first.frame) == frame;
        let mut dropped = 0;
        while self.packets.front().is_some_and(is_of_it) {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    fn expire(&mut self, now: Instant, stats: &mut Stats) {
        while self.packets.front().is_some_and(|first| first.since + MAX_AGE < now) {
            self.pop();
            stats.drop_data(DataTrackDrop::Late, 1);
        }
    }

    fn pop(&mut self) {
        if let Some(first) = self.packets.pop_front() {
            self.bytes -= first.size();
        }
    }

    /// Packets that wait, for simulations.
    #[cfg(any(test, feature = "null-cipher"))]
    pub(crate) fn held(&self) -> usize {
        self.packets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel that takes so many packets, and notes them as handle and first byte.
    struct Channel {
        room: usize,
        got: Vec<(u16, u8)>,
    }

    impl Channel {
        fn write(&mut self, handle: DataHandle, packet: &Bytes) -> Result<(), SendError> {
            if packet.len() > 60_000 {
                return Err(SendError::TooLarge { got: packet.len(), limit: 60_000 });
            }
            self.room = self.room.checked_sub(1).ok_or(SendError::Backlogged)?;
            self.got.push((handle.wire(), packet[0]));
            Ok(())
        }
    }

    struct Client {
        now: Instant,
        backlog: DataBacklog,
        channel: Channel,
        stats: Stats,
    }

    impl Client {
        fn new(room: usize) -> Client {
            let channel = Channel { room, got: Vec::new() };
            let (now, backlog, stats) = (crate::test_time(), DataBacklog::default(), Stats::default());
            Client { now, backlog, channel, stats }
        }

        /// A packet of the track `handle`: `byte` is its frame, and stands at its beginning.
        fn send(&mut self, handle: u32, byte: u8, len: usize) {
            let mut packet = vec![0; len];
            packet[0] = byte;
            let (handle, packet) = (DataHandle::new(handle).unwrap(), Bytes::from(packet));
            let channel = &mut self.channel;
            let write = || channel.write(handle, &packet);
            self.backlog.send(self.now, handle, byte.into(), &packet, write, &mut self.stats);
        }

        fn drain(&mut self, room: usize) -> bool {
            self.channel.room = room;
            let channel = &mut self.channel;
            self.backlog.drain(self.now, |handle, packet| channel.write(handle, packet), &mut self.stats)
        }

        fn dropped(&self, reason: DataTrackDrop) -> u64 {
            self.stats.data_tracks_dropped[reason as usize]
        }
    }

    #[test]
    fn what_cannot_be_written_waits_and_goes_in_order() {
        let mut client = Client::new(1);
        for byte in 0..3 {
            client.send(7, byte, 100);
        }
        assert_eq!(client.channel.got, [(7, 0)]);
        // There is room, but one that came earlier waits.
        client.channel.room = 1;
        client.send(8, 3, 100);
        assert_eq!(client.channel.got, [(7, 0)]);
        assert!(client.drain(2) && client.drain(9) && !client.drain(9));
        assert_eq!(client.channel.got, [(7, 0), (7, 1), (7, 2), (8, 3)]);
        assert_eq!((client.stats.data_tracks.1.packets, client.stats.data_tracks.1.bytes), (4, 400));
        assert_eq!(client.backlog.bytes, 0);
        client.channel.room = 1;
        client.send(7, 4, 100);
        assert_eq!(client.channel.got.len(), 5, "nothing waits any more");
    }

    #[test]
    fn the_oldest_frame_makes_room_for_the_newest_packet() {
        let mut client = Client::new(0);
        // Frames of three packets each, 30 kB together.
        for byte in 0..30 {
            for _ in 0..3 {
                client.send(1, byte, 10_000);
            }
        }
        assert!(client.backlog.bytes <= MAX_BYTES);
        client.drain(1000);
        let frames: Vec<u8> = client.channel.got.iter().map(|(_, byte)| *byte).collect();
        assert_eq!(frames.len() % 3, 0, "whole frames: {frames:?}");
        assert_eq!((frames.first(), frames.last()), (Some(&22), Some(&29)), "the newest eight");
        assert_eq!(client.dropped(DataTrackDrop::Overflow), 90 - 24);
    }

    #[test]
    fn what_waits_too_long_is_out_of_date() {
        let mut client = Client::new(0);
        client.send(1, 0, 10);
        client.now += MAX_AGE;
        client.send(1, 1, 10);
        client.now += Duration::from_millis(1);
        client.drain(9);
        assert_eq!(client.channel.got, [(1, 1)]);
        assert_eq!(client.dropped(DataTrackDrop::Late), 1);
    }

    #[test]
    fn what_the_client_does_not_take_holds_nothing_up() {
        let mut client = Client::new(1);
        client.send(1, 0, 60_001);
        client.send(1, 1, 10);
        client.send(1, 2, 60_001);
        client.send(1, 3, 10);
        assert!(client.drain(9));
        assert_eq!(client.channel.got, [(1, 1), (1, 3)]);
        assert_eq!(client.dropped(DataTrackDrop::TooLarge), 2);
    }
}
