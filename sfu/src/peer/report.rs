//! The RTCP that we write: reports once a second, feedback when it is due.

use std::time::Instant;

use smallvec::SmallVec;

use super::connection::Connection;
use super::{Peer, REPORT_INTERVAL};
use crate::egress::Egress;
use crate::stats::Stats;
use crate::track::Track;
use crate::units::WallClock;
use crate::wire::rtcp::{ReportBlock, SenderInfo, Writer};

/// Room for what is encrypted later, below the usual MTU.
const LIMIT: usize = 1200;
/// Numbers asked for in one packet.
const MAX_NACKS: usize = 250;

/// Sends one RTCP packet that `write` composes; nothing if it composes nothing.
fn send_rtcp(
    connection: &mut Connection,
    egress: &mut Egress,
    stats: &mut Stats,
    write: impl FnOnce(&mut Writer<'_>),
) {
    let Some(path) = connection.path() else { return };
    let out = egress.space();
    let mut writer = Writer::new(&mut out[..LIMIT]);
    write(&mut writer);
    let plain = writer.len();
    if plain > 0
        && let Some(len) = connection.protect_rtcp(out, plain)
    {
        stats.rtcp.1.count(len);
        egress.commit(path, len);
    }
}

impl Peer {
    /// NACKs and keyframe requests to the publisher, and what arrived of it, as far as they are due.
    pub(crate) fn send_feedback(
        &mut self,
        now: Instant,
        tracks: &mut [Option<Box<Track>>],
        wall: &WallClock,
        egress: &mut Egress,
        stats: &mut Stats,
        lost: &mut Vec<u16>,
    ) {
        if !self.connection.is_up() {
            return;
        }
        let (rtt, own) = (self.rtt(), self.ssrc);
        for at in 0..self.uplink.tracks.len() {
            let index = self.uplink.tracks[at];
            let Some(track) = tracks.get_mut(index).and_then(Option::as_deref_mut) else { continue };
            for encoding in &mut track.encodings {
                let Some(media) = encoding.ssrc else { continue };
                lost.clear();
                encoding.nack.poll(now, rtt, lost);
                if encoding.nack.take_hopeless() && track.kind == crate::command::MediaKind::Video {
                    encoding.gate.want(now);
                }
                for part in lost.chunks(MAX_NACKS) {
                    stats.nacks.1 += part.len() as u64;
                    send_rtcp(&mut self.connection, egress, stats, |writer| {
                        writer.nack(own, media, part);
                    });
                }
            }
            while let Some(media) = track.poll_keyframe_request(now, rtt) {
                stats.plis.1 += 1;
                send_rtcp(&mut self.connection, egress, stats, |writer| {
                    writer.pli(own, media);
                });
            }
        }
        self.report_arrivals(now, wall, egress, stats);
    }

    fn report_arrivals(&mut self, now: Instant, wall: &WallClock, egress: &mut Egress, stats: &mut Stats) {
        let Some(path) = self.connection.path() else { return };
        let names = (self.ssrc, self.uplink.media_ssrc);
        loop {
            let out = egress.space();
            let written = self.uplink.feedback.write(now, &mut out[..LIMIT], names, wall);
            let Some(plain) = written else { return };
            if let Some(len) = self.connection.protect_rtcp(out, plain) {
                stats.rtcp.1.count(len);
                egress.commit(path, len);
            }
        }
    }

    /// Sender reports for what the client gets, and a receiver report on what it sends. `clock_offset` knows the
    /// publishers' clocks, by their index.
    pub(crate) fn send_reports(
        &mut self,
        now: Instant,
        wall: &WallClock,
        tracks: &mut [Option<Box<Track>>],
        clock_offset: impl Fn(usize) -> Option<i64>,
        egress: &mut Egress,
        stats: &mut Stats,
    ) {
        self.report_due = now + REPORT_INTERVAL;
        if !self.connection.is_up() {
            return;
        }
        let ntp = wall.ntp(now);
        self.downlink.herald(now);
        for subscription in self.downlink.iter() {
            let Some(track) = tracks.get(subscription.track).and_then(Option::as_deref) else { continue };
            let offset = clock_offset(track.owner);
            if subscription.flows()
                && subscription.packets > 0
                && let Some(rtp) = subscription.report_time(now, ntp, track, offset)
            {
                let info =
                    SenderInfo { ntp, rtp, packets: subscription.packets, octets: subscription.octets };
                send_rtcp(&mut self.connection, egress, stats, |writer| {
                    writer.sender_report(subscription.ssrc, &info, &[]);
                    writer.source_description(subscription.ssrc, subscription.cname());
                });
            }
        }

        let mut blocks: SmallVec<[ReportBlock; 8]> = SmallVec::new();
        for index in &self.uplink.tracks {
            let Some(track) = tracks.get_mut(*index).and_then(Option::as_deref_mut) else { continue };
            for encoding in &mut track.encodings {
                if let Some(ssrc) = encoding.ssrc
                    && let Some(block) = encoding.reception.report(now, ssrc)
                {
                    blocks.push(block);
                }
            }
        }
        if !blocks.is_empty() {
            let worst = blocks.iter().map(|block| block.fraction_lost).max().unwrap_or(0);
            self.uplink.loss = f32::from(worst) / 256.0;
        }
        let own = self.ssrc;
        for part in blocks.chunks(31) {
            send_rtcp(&mut self.connection, egress, stats, |writer| {
                writer.receiver_report(own, part);
            });
        }
    }
}
