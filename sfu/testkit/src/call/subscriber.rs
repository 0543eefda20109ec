//! A client that receives cameras and microphones, and reports as libwebrtc does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::ids::{Ssrc, TrackId};
use sfu::units::{RtpTime, WallClock};
use sfu::uplink::reception::Reception;
use sfu::wire::rtcp::{self, Packet, Writer};

use super::hostile::{Attack, Attacker};
use super::sdp::{Announced, Answer, Reports};
use super::server::EPOCH;
use crate::net::{Node, Transmit};
use crate::receiver::playout::{self, Played};
use crate::receiver::{AudioArrival, ReceivedStream, Receiver, VideoStats};
use crate::rtp::{ExtensionIds, RtpPacket};

/// Names the client in RTCP.
pub(super) const OWN: Ssrc = Ssrc(1);
/// Time between receiver reports, as in libwebrtc for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Report blocks in one packet at most (RFC 3550 §6.4.1 has 31).
const MOST_BLOCKS: usize = 20;
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

/// What one subscriber saw and heard of one publisher.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    receiver: &'a Receiver,
    video: Ssrc,
    audio: Ssrc,
    joined: Duration,
}

impl<'a> Seen<'a> {
    /// What was seen; times count from the call's start.
    pub fn video(&self) -> &'a VideoStats {
        self.receiver.video(self.video).expect("it is expected from the beginning")
    }

    /// Audio packets that came with earlier ones in them.
    pub fn redundant_audio(&self) -> u64 {
        self.receiver.audio(self.audio).map_or(0, |audio| audio.redundant)
    }

    /// Bytes of feedback for congestion control that it sent.
    pub fn reported(&self) -> u64 {
        self.receiver.reported()
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
        let all = self.receiver.audio_arrivals(self.audio);
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

    fn shown(&self, from: Duration, to: Duration) -> impl Iterator<Item = (Duration, (u16, u16))> + use<'a> {
        self.video().shown.iter().copied().filter(move |(at, _)| (from..to).contains(at))
    }

    /// How the audio sent between two times was played.
    pub fn played(&self, from: Duration, to: Duration) -> Played {
        playout::play(self.receiver.audio_arrivals(self.audio), from, to)
    }
}

/// See the module's page.
pub struct Subscriber {
    receiver: Receiver,
    extensions: ExtensionIds,
    local: SocketAddr,
    server: SocketAddr,
    streams: Vec<Announced>,
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
        answer: Answer,
        (local, server): (SocketAddr, SocketAddr),
        reports: Reports,
    ) -> Subscriber {
        let extensions = answer.extensions;
        let mut receiver = Receiver::new(start, OWN, extensions);
        if reports == Reports::PerStream {
            receiver.report_by_stream(WallClock { instant: start, unix: EPOCH });
        }
        receiver.expect_redundancy(answer.red);
        for stream in answer.streams.iter().filter(|stream| stream.video) {
            receiver.expect_video(ReceivedStream { ssrc: stream.ssrc, rtx: stream.rtx });
        }
        let clock = |stream: &Announced| if stream.video { 90_000 } else { 48_000 };
        let receptions =
            answer.streams.iter().map(|stream| (stream.ssrc, Reception::new(clock(stream)))).collect();
        Subscriber {
            receiver,
            extensions,
            local,
            server,
            streams: answer.streams,
            receptions,
            report_at: now + REPORT_INTERVAL,
            attacker: None,
            outbox: VecDeque::new(),
            joined: now - start,
        }
    }

    /// What it got of one publisher, told by its tracks.
    pub(super) fn of(&self, video: TrackId, audio: TrackId) -> Seen<'_> {
        let find = |track: TrackId| {
            let label = super::label(track);
            self.streams.iter().find(|stream| stream.label == label).expect("it is subscribed to").ssrc
        };
        Seen { receiver: &self.receiver, video: find(video), audio: find(audio), joined: self.joined }
    }

    /// It asks for missing packets of video only after this long.
    pub(super) fn delay_nacks(&mut self, delay: Duration) {
        self.receiver.delay_nacks(delay);
    }

    /// Behaves no more.
    pub(super) fn attack(&mut self, now: Instant, attack: Attack) {
        self.attacker = Some(Attacker::new(now, attack));
    }

    /// The first camera that it gets: what an attacker is after.
    fn camera(&self) -> Ssrc {
        self.streams.iter().find(|stream| stream.video).expect("it is subscribed to a camera").ssrc
    }

    /// Where it sends from, from now on.
    pub(super) fn set_local(&mut self, local: SocketAddr) {
        self.local = local;
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

    fn report(&mut self, now: Instant) {
        let blocks: Vec<_> =
            self.receptions.iter_mut().filter_map(|(ssrc, reception)| reception.report(now, *ssrc)).collect();
        for blocks in blocks.chunks(MOST_BLOCKS) {
            let mut buf = [0; 500];
            let mut writer = Writer::new(&mut buf);
            writer.receiver_report(OWN, blocks);
            let len = writer.len();
            let report = buf[..len].to_vec();
            match &mut self.attacker {
                Some(attacker) => self.outbox.extend(attacker.forge(report)),
                None => self.outbox.push_back(report),
            }
        }
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
        let camera = self.camera();
        if let Some(attacker) = &mut self.attacker
            && packet.ssrc == camera
        {
            attacker.newest = packet.sequence;
        }
        self.receiver.handle_rtp(now, data);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let camera = self.camera();
        if let Some(attacker) = &mut self.attacker {
            self.outbox.extend(attacker.flood(now, camera));
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let attack = self.attacker.as_ref().and_then(Attacker::next_timeout);
        [self.receiver.next_timeout(), attack, Some(self.report_at)].into_iter().flatten().min()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.report(now);
        }
        if self.outbox.is_empty()
            && let Some(data) = self.receiver.poll_rtcp(now)
        {
            match &mut self.attacker {
                Some(attacker) => self.outbox.extend(attacker.forge(data)),
                None => self.outbox.push_back(data),
            }
        }
        let data = self.outbox.pop_front()?;
        Some(Transmit { source: self.local, destination: self.server, data })
    }
}
