//! The way of a data track's packets: from a message on one connection's channel to messages on others', under other handles.
//!
//! What a batch of datagrams brings is collected and forwarded with the flush after it, so that what a message sets off at its
//! receivers never lies inside of what set it off at its sender, and a receiver's packets leave together.
//! Always: a packet goes to those who were subscribed to a track that its own sender has; only its handle is changed.
//! Not here: who may publish and subscribe, and which handles they have (`signaling`).

use std::time::Instant;

use bytes::Bytes;

use super::Sfu;
use crate::ids::{DataHandle, PeerId, TrackId};
use crate::peer::connection::Connection;
use crate::stats::DataTrackDrop;
use crate::transport::sctp::SendError;
use crate::wire::data_track::{CHANNEL, DataTrackHeader, MAX_PACKET, write_handle};

/// Packets that are collected at most, in one batch or not.
const MAX_COLLECTED: usize = 256;

/// What is collected and what was done with it. Kept from flush to flush for its room.
#[derive(Default)]
pub(super) struct DataPackets {
    /// By the number of the sender's connection.
    arrived: Vec<(usize, Bytes)>,
    /// Connections that something was written on.
    written: Vec<usize>,
    /// A packet under a subscriber's handle.
    rewritten: Vec<u8>,
}

impl DataPackets {
    /// A connection is gone, and its number may be another's soon.
    pub(super) fn forget(&mut self, peer: usize) {
        self.arrived.retain(|(sender, _)| *sender != peer);
        self.written.retain(|other| *other != peer);
    }

    /// Packets that wait to be forwarded.
    pub(super) fn len(&self) -> usize {
        self.arrived.len()
    }
}

impl Sfu {
    pub(super) fn bind_data_track(&mut self, peer: PeerId, handle: DataHandle, track: TrackId) {
        if let Some(&owner) = self.peer_ids.get(&peer) {
            self.data_tracks.bind(owner, handle, track);
        }
    }

    pub(super) fn subscribe_data_track(
        &mut self,
        peer: PeerId,
        track: TrackId,
        handle: DataHandle,
        fps: Option<u32>,
    ) {
        if let Some(&subscriber) = self.peer_ids.get(&peer) {
            self.data_tracks.subscribe(track, subscriber, handle, fps);
        }
    }

    pub(super) fn unsubscribe_data_track(&mut self, peer: PeerId, track: TrackId) {
        if let Some(&subscriber) = self.peer_ids.get(&peer) {
            self.data_tracks.unsubscribe(track, subscriber);
        }
    }

    /// Collects a message of a client's channel of data tracks.
    pub(super) fn data_track_arrived(&mut self, index: usize, binary: bool, packet: Bytes) {
        self.stats.data_tracks.0.count(packet.len());
        if !binary {
            return self.stats.drop_data(DataTrackDrop::Malformed, 1);
        }
        self.data_packets.arrived.push((index, packet));
    }

    /// Forwards ahead of the flush what has become too much to be kept.
    pub(super) fn bound_collected_data(&mut self, now: Instant) {
        if self.data_packets.len() >= MAX_COLLECTED {
            self.forward_data(now);
        }
    }

    /// Forwards what was collected.
    pub(super) fn forward_data(&mut self, now: Instant) {
        while !self.data_packets.arrived.is_empty() {
            let mut packets = std::mem::take(&mut self.data_packets);
            for (sender, packet) in packets.arrived.drain(..) {
                let rewritten = &mut packets.rewritten;
                self.forward_data_packet(now, sender, &packet, rewritten, &mut packets.written);
            }
            let mut written = std::mem::take(&mut packets.written);
            self.data_packets = packets;
            // What their connections have to tell may be packets again.
            for index in written.drain(..) {
                if let Some(peer) = self.peers[index].as_mut() {
                    peer.data_backlog.written = false;
                    peer.connection.pump(now, &mut self.egress);
                    self.drain_connection(now, index);
                }
            }
            self.data_packets.written = written;
        }
    }

    fn forward_data_packet(
        &mut self,
        now: Instant,
        sender: usize,
        packet: &Bytes,
        rewritten: &mut Vec<u8>,
        written: &mut Vec<usize>,
    ) {
        if packet.len() > MAX_PACKET {
            return self.stats.drop_data(DataTrackDrop::TooLarge, 1);
        }
        let Some(header) = DataTrackHeader::parse(packet) else {
            return self.stats.drop_data(DataTrackDrop::Malformed, 1);
        };
        let Some(subscribers) = self.data_tracks.subscribers(sender, header.handle) else {
            return self.stats.drop_data(DataTrackDrop::Unknown, 1);
        };
        rewritten.clear();
        rewritten.extend_from_slice(packet);
        for subscriber in subscribers {
            let Some(peer) = self.peers[subscriber.peer].as_mut() else { continue };
            if !subscriber.takes(now, header.frame) {
                continue;
            }
            write_handle(rewritten, subscriber.handle);
            let was_written = peer.data_backlog.written;
            let connection = &mut peer.connection;
            let write = || write(connection, rewritten);
            peer.data_backlog.send(now, subscriber.handle, header.frame, packet, write, &mut self.stats);
            if peer.data_backlog.written && !was_written {
                written.push(subscriber.peer);
            }
        }
    }

    /// Writes what a connection's client did not take before.
    pub(super) fn drain_data_backlog(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        if peer.data_backlog.is_empty() {
            return;
        }
        let (connection, rewritten) = (&mut peer.connection, &mut self.data_packets.rewritten);
        let write = |handle, packet: &Bytes| {
            rewritten.clear();
            rewritten.extend_from_slice(packet);
            write_handle(rewritten, handle);
            write(connection, rewritten)
        };
        if peer.data_backlog.drain(now, write, &mut self.stats) {
            peer.connection.pump(now, &mut self.egress);
        }
    }
}

/// Writes on a connection's channel of data tracks. While it has no path it takes nothing: what it held would be out of date.
fn write(connection: &mut Connection, packet: &[u8]) -> Result<(), SendError> {
    if !connection.is_up() {
        return Err(SendError::NotOpen);
    }
    match &mut connection.data {
        Some(data) => data.send(CHANNEL, true, packet),
        None => Err(SendError::NotOpen),
    }
}

#[cfg(test)]
mod tests;
