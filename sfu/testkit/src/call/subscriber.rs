//! A client that receives one camera and one microphone, and reports as libwebrtc does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::ids::Ssrc;
use sfu::units::RtpTime;
use sfu::uplink::reception::Reception;
use sfu::wire::rtcp::{self, Packet, Writer};

use super::hostile::{Attack, Attacker};
use super::sdp::Answer;
use crate::net::{Node, Transmit};
use crate::receiver::{AudioArrival, ReceivedStream, Receiver, VideoStats};
use crate::rtp::{ExtensionIds, RtpPacket};

/// Names the client in RTCP.
pub(super) const OWN: Ssrc = Ssrc(1);
/// Time between receiver reports, as in libwebrtc for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Audio that comes this much later than the earliest is not played any more.
const PLAYOUT: Duration = Duration::from_millis(200);

/// Audio of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Packets that came, late ones and those within later ones included.
    pub packets: u64,
    /// That did not, not even in a later one.
    pub lost: u64,
    /// That came over 200 ms later than the earliest ones do.
    pub late: u64,
}

impl Heard {
    /// Share of packets that could not be played, 0 to 1.
    pub fn missed(&self) -> f64 {
        (self.lost + self.late) as f64 / (self.packets + self.lost).max(1) as f64
    }
}

/// See the module's page.
pub struct Subscriber {
    receiver: Receiver,
    extensions: ExtensionIds,
    local: SocketAddr,
    server: SocketAddr,
    /// Camera and microphone of each publisher.
    streams: Vec<(Ssrc, Ssrc)>,
    receptions: Vec<(Ssrc, Reception)>,
    report_at: Instant,
    attacker: Option<Attacker>,
    outbox: VecDeque<Vec<u8>>,
    /// When media was first allowed to come, after the call's start.
    joined: Duration,
}

impl Subscriber {
    pub(super) fn new(
        start: Instant,
        now: Instant,
        answer: &Answer,
        mids: &[(&str, &str)],
        (local, server): (SocketAddr, SocketAddr),
    ) -> Subscriber {
        let extensions = answer.extensions;
        let find =
            |mid: &str| answer.streams.iter().find(|stream| stream.mid == mid).expect("all are offered");
        let mut receiver = Receiver::new(start, OWN, extensions);
        receiver.expect_redundancy(answer.red);
        let (mut streams, mut receptions) = (Vec::new(), Vec::new());
        for (video, audio) in mids {
            let (video, audio) = (find(video), find(audio));
            assert!(video.video && !audio.video, "{video:?}, {audio:?}");
            receiver.expect_video(ReceivedStream { ssrc: video.ssrc, rtx: video.rtx });
            receptions.push((video.ssrc, Reception::new(90_000)));
            receptions.push((audio.ssrc, Reception::new(48_000)));
            streams.push((video.ssrc, audio.ssrc));
        }
        Subscriber {
            receiver,
            extensions,
            local,
            server,
            streams,
            receptions,
            report_at: now + REPORT_INTERVAL,
            attacker: None,
            outbox: VecDeque::new(),
            joined: now - start,
        }
    }

    /// Behaves no more.
    pub(super) fn attack(&mut self, now: Instant, attack: Attack) {
        self.attacker = Some(Attacker::new(now, attack));
    }

    /// What was seen; times count from the call's start.
    pub fn video(&self) -> &VideoStats {
        self.video_of(0)
    }

    /// The same of the publisher with this number among those subscribed to.
    pub fn video_of(&self, publisher: usize) -> &VideoStats {
        self.receiver.video(self.streams[publisher].0).expect("it is expected from the beginning")
    }

    /// Audio packets that came with earlier ones in them.
    pub fn redundant_audio(&self) -> u64 {
        self.receiver.audio(self.streams[0].1).map_or(0, |audio| audio.redundant)
    }

    /// Its address.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// When it joined, after the call's start.
    pub fn joined(&self) -> Duration {
        self.joined
    }

    /// From joining to the first picture.
    pub fn first_frame(&self) -> Option<Duration> {
        Some(self.video().shown.first()?.0.saturating_sub(self.joined))
    }

    /// Frames shown a second between two times.
    pub fn fps(&self, from: Duration, to: Duration) -> f64 {
        self.shown(from, to).count() as f64 / to.saturating_sub(from).as_secs_f64()
    }

    /// Sizes shown between two times, in order, each once until it changes; the one at the beginning included.
    pub fn sizes(&self, from: Duration, to: Duration) -> Vec<(u16, u16)> {
        let mut sizes: Vec<(u16, u16)> = self.shown(from, to).map(|(_, size)| size).collect();
        sizes.dedup();
        sizes
    }

    /// When a picture of this width was first shown after `from`; since `from`.
    pub fn shown_after(&self, from: Duration, width: u16) -> Option<Duration> {
        let mut shown = self.video().shown.iter();
        shown.find(|(at, size)| *at >= from && size.0 == width).map(|(at, _)| at.saturating_sub(from))
    }

    /// Times between two times in which no new frame was shown for longer than `least`: begin and length.
    pub fn freezes(&self, from: Duration, to: Duration, least: Duration) -> Vec<(Duration, Duration)> {
        let mut last = from;
        let ends = self.shown(from, to).map(|(at, _)| at).chain([to]);
        let gaps = ends.map(|at| {
            let before = std::mem::replace(&mut last, at);
            (before, at.saturating_sub(before))
        });
        gaps.filter(|(_, length)| *length > least).collect()
    }

    /// Audio that was sent between two times, as far as arrivals tell.
    pub fn heard(&self, from: Duration, to: Duration) -> Heard {
        self.heard_of(0, from, to)
    }

    /// The same of the publisher with this number.
    pub fn heard_of(&self, publisher: usize, from: Duration, to: Duration) -> Heard {
        let all = self.receiver.audio_arrivals(self.streams[publisher].1);
        // The earliest ever: a packet's delay is told against it.
        let delay = |a: &AudioArrival| a.at.as_micros() as i64 - a.media.as_micros() as i64;
        let Some(least) = all.iter().map(delay).min() else { return Heard::default() };
        let sent_at =
            |a: &AudioArrival| Duration::from_micros((a.media.as_micros() as i64 + least).max(0) as u64);
        let within = || all.iter().filter(|a| (from..to).contains(&sent_at(a)));
        let numbers = || within().map(|a| a.number);
        let expected = match (numbers().min(), numbers().max()) {
            (Some(first), Some(last)) => last.distance(first) as u64 + 1,
            _ => 0,
        };
        let packets = within().count() as u64;
        let late = within().filter(|a| delay(a) - least > PLAYOUT.as_micros() as i64).count() as u64;
        Heard { packets, lost: expected.saturating_sub(packets), late }
    }

    fn shown(&self, from: Duration, to: Duration) -> impl Iterator<Item = (Duration, (u16, u16))> {
        self.video().shown.iter().copied().filter(move |(at, _)| (from..to).contains(at))
    }

    fn handle_reports(&mut self, now: Instant, data: &[u8]) {
        for packet in rtcp::packets(data) {
            if let Packet::SenderReport(ssrc, info, _) = packet.expect("the core writes whole RTCP")
                && let Some((_, reception)) = self.receptions.iter_mut().find(|(of, _)| *of == ssrc)
            {
                reception.handle_sender_report(now, info.ntp);
            }
        }
    }

    fn report(&mut self, now: Instant) -> Option<Vec<u8>> {
        let blocks: Vec<_> =
            self.receptions.iter_mut().filter_map(|(ssrc, reception)| reception.report(now, *ssrc)).collect();
        if blocks.is_empty() {
            return None;
        }
        let mut buf = [0; 1200];
        let mut writer = Writer::new(&mut buf);
        // As many as one report holds; in a crowd the others' turn never comes.
        writer.receiver_report(OWN, &blocks[..blocks.len().min(31)]);
        let len = writer.len();
        Some(buf[..len].to_vec())
    }
}

impl Node for Subscriber {
    fn handle_datagram(&mut self, now: Instant, _: SocketAddr, _: SocketAddr, data: &mut [u8]) {
        let Some(packet) = RtpPacket::read(data, &self.extensions) else {
            self.handle_reports(now, data);
            return;
        };
        if let Some((_, reception)) = self.receptions.iter_mut().find(|(of, _)| *of == packet.ssrc) {
            reception.handle_packet(now, packet.sequence, RtpTime(packet.timestamp));
        }
        if let Some(attacker) = &mut self.attacker
            && packet.ssrc == self.streams[0].0
        {
            attacker.newest = packet.sequence;
        }
        self.receiver.handle_rtp(now, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(attacker) = &mut self.attacker {
            self.outbox.extend(attacker.flood(now, self.streams[0].0));
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let attack = self.attacker.as_ref().and_then(Attacker::next_timeout);
        [self.receiver.next_timeout(), attack, Some(self.report_at)].into_iter().flatten().min()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.outbox.is_empty() {
            let mut data = self.receiver.poll_rtcp(now);
            if data.is_none() && self.report_at <= now {
                self.report_at = now + REPORT_INTERVAL;
                data = self.report(now);
            }
            let data = data?;
            match &mut self.attacker {
                Some(attacker) => self.outbox.extend(attacker.forge(data)),
                None => self.outbox.push_back(data),
            }
        }
        let data = self.outbox.pop_front()?;
        Some(Transmit { source: self.local, destination: self.server, data })
    }
}
