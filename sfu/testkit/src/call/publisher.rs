//! A client that sends: camera and microphone, answers to NACK and PLI, sender reports.
//!
//! Its encoders keep their rates: what it reads of feedback for congestion control is counted, not obeyed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::congestion::{ccfb, twcc};
use sfu::ids::{Rid, Ssrc};
use sfu::units::WallClock;
use sfu::wire::rtcp::{self, Packet, SenderInfo, Writer};

use super::sdp::{RED, Reports};
use crate::camera::{Camera, Microphone};
use crate::net::{Node, Transmit};
use crate::rtp::RtpPacket;

/// Time between sender reports of one stream, as in libwebrtc for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What a publisher did and was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Frames sent, by stream.
    pub frames: BTreeMap<Ssrc, u64>,
    /// When a keyframe was asked for, and of which stream.
    pub plis: Vec<(Instant, Ssrc)>,
    /// Packets asked for again…
    pub nacked: u64,
    /// …and sent again.
    pub resent: u64,
    /// Packets that transport-wide feedback says arrived, and did not.
    pub reported: (u64, u64),
    /// The same of feedback by stream.
    pub reported_by_stream: (u64, u64),
}

/// See the module's page.
pub struct Publisher {
    camera: Camera,
    microphone: Microphone,
    local: SocketAddr,
    server: SocketAddr,
    wall: WallClock,
    number: u16,
    report_at: Instant,
    /// Packets and bytes of payload, by stream.
    sent: BTreeMap<Ssrc, (u32, u32)>,
    outbox: VecDeque<Vec<u8>>,
    published: Published,
    reports: Reports,
}

impl Publisher {
    pub(super) fn new(
        now: Instant,
        (camera, microphone): (Camera, Microphone),
        (local, server): (SocketAddr, SocketAddr),
        wall: WallClock,
        reports: Reports,
    ) -> Publisher {
        Publisher {
            camera,
            microphone,
            local,
            server,
            wall,
            number: 65_000,
            report_at: now + REPORT_INTERVAL / 2,
            sent: BTreeMap::new(),
            outbox: VecDeque::new(),
            published: Published::default(),
            reports,
        }
    }

    /// What it did so far.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Starts or stops one encoding.
    pub fn set_layer(&mut self, now: Instant, rid: &str, active: bool) {
        self.camera.set_active(now, Rid::parse(rid).expect("a test's own name"), active);
    }

    /// Its user speaks, or is silent and hardly sends anything (DTX).
    pub fn set_speaking(&mut self, speaking: bool) {
        self.microphone.set_discontinuous(true);
        self.microphone.set_speaking(speaking);
    }

    /// Sends each packet of the microphone again in the next one.
    pub fn set_redundant(&mut self, redundant: bool) {
        self.microphone.set_redundant(redundant.then_some(RED));
    }

    /// Sends nothing while it is muted.
    pub fn set_muted(&mut self, now: Instant, muted: bool) {
        self.camera.set_muted(now, muted);
        self.microphone.set_muted(muted);
    }

    fn send(&mut self, mut packet: RtpPacket) {
        packet.transport_number = Some(self.number);
        self.number = self.number.wrapping_add(1);
        self.outbox.push_back(packet.write(&self.reports.extensions()));
    }

    fn send_media(&mut self, packet: RtpPacket) {
        let (packets, octets) = self.sent.entry(packet.ssrc).or_default();
        *packets += 1;
        *octets += packet.payload.len() as u32;
        if packet.marker && packet.ssrc != self.microphone.ssrc() {
            *self.published.frames.entry(packet.ssrc).or_default() += 1;
        }
        self.send(packet);
    }

    fn report(&mut self, now: Instant) {
        for (&ssrc, &(packets, octets)) in &self.sent {
            let rtp = self.camera.media_time(now, ssrc).unwrap_or_else(|| self.microphone.media_time(now));
            let info = SenderInfo { ntp: self.wall.ntp(now), rtp, packets, octets };
            let mut buf = [0; 100];
            let mut writer = Writer::new(&mut buf);
            writer.sender_report(ssrc, &info, &[]);
            let len = writer.len();
            self.outbox.push_back(buf[..len].to_vec());
        }
    }
}

impl Node for Publisher {
    fn handle_datagram(&mut self, now: Instant, _: SocketAddr, _: SocketAddr, data: &mut [u8]) {
        for packet in rtcp::packets(data) {
            match packet.expect("the core writes whole RTCP") {
                Packet::Pli(ssrc) => {
                    self.published.plis.push((now, ssrc));
                    self.camera.request_keyframe(now, ssrc);
                }
                Packet::Nack(ssrc, lost) => {
                    for number in lost {
                        self.published.nacked += 1;
                        if let Some(packet) = self.camera.retransmit(ssrc, number) {
                            self.published.resent += 1;
                            self.send(packet);
                        }
                    }
                }
                Packet::TransportCc(fci) => {
                    let report = twcc::parse(fci).expect("the core writes whole reports");
                    let came = report.received().count() as u64;
                    self.published.reported.0 += came;
                    self.published.reported.1 += u64::from(report.count) - came;
                }
                Packet::Ccfb(body) => {
                    let report = ccfb::parse(body).expect("the core writes whole reports");
                    let counted = &mut self.published.reported_by_stream;
                    for metric in report.blocks().flat_map(|block| block.metrics()) {
                        match metric {
                            ccfb::Metric::Arrived(_) => counted.0 += 1,
                            ccfb::Metric::Missing => counted.1 += 1,
                        }
                    }
                }
                Packet::SenderReport(..)
                | Packet::ReceiverReport(..)
                | Packet::Bye(_)
                | Packet::Fir(_)
                | Packet::Remb(_)
                | Packet::Other(_) => {}
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(packet) = self.microphone.poll(now) {
            self.send_media(packet);
        }
        while let Some(packet) = self.camera.poll(now) {
            self.send_media(packet);
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.report(now);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        [self.camera.next_timeout(), self.microphone.next_timeout(), Some(self.report_at)]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll_transmit(&mut self, _: Instant) -> Option<Transmit> {
        let data = self.outbox.pop_front()?;
        Some(Transmit { source: self.local, destination: self.server, data })
    }
}
