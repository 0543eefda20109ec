//! The testkit tested on itself: a camera and a receiver with nothing but a path between them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::ids::{Rid, Ssrc};
use sfu::units::Bitrate;
use sfu_testkit::camera::{Camera, CameraConfig, Microphone};
use sfu_testkit::link::{Jitter, LinkConfig, Loss};
use sfu_testkit::net::{Net, Node, NodeId, Transmit};
use sfu_testkit::receiver::{ReceivedStream, Receiver};
use sfu_testkit::rtp::{ExtensionIds, RtpPacket};

const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(1),
    rid: Some(2),
    repaired_rid: Some(3),
    transport_cc: Some(4),
    audio_level: Some(5),
};
const VIDEO: Ssrc = Ssrc(104); // layer f
const AUDIO: Ssrc = Ssrc(7);

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 5000))
}

/// Sends the top layer and sound, answers NACK and PLI.
struct Sender {
    camera: Camera,
    microphone: Microphone,
    number: u16,
    outbox: Vec<RtpPacket>,
    feedback: u64,
}

impl Node for Sender {
    fn handle_datagram(&mut self, now: Instant, _: SocketAddr, _: SocketAddr, data: &mut [u8]) {
        match (data[1], data[0] & 0x1f) {
            (205, 15) => self.feedback += 1,
            (205, 1) => {
                for item in data[12..].chunks(4) {
                    let sequence = u16::from_be_bytes([item[0], item[1]]);
                    self.outbox.extend(self.camera.retransmit(VIDEO, sequence));
                }
            }
            (206, 1) => self.camera.request_keyframe(now, VIDEO),
            other => panic!("{other:?}"),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(packet) = self.microphone.poll(now) {
            self.outbox.push(packet);
        }
        while let Some(packet) = self.camera.poll(now) {
            self.outbox.extend((packet.ssrc == VIDEO).then_some(packet));
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.camera.next_timeout().min(self.microphone.next_timeout())
    }

    fn poll_transmit(&mut self, _: Instant) -> Option<Transmit> {
        if self.outbox.is_empty() {
            return None;
        }
        let mut packet = self.outbox.remove(0);
        packet.transport_number = Some(self.number);
        self.number = self.number.wrapping_add(1);
        let data = packet.write(&EXTENSIONS);
        Some(Transmit { source: address(1), destination: address(2), data })
    }
}

struct Viewer(Receiver);

impl Node for Viewer {
    fn handle_datagram(&mut self, now: Instant, _: SocketAddr, _: SocketAddr, data: &mut [u8]) {
        self.0.handle_rtp(now, data);
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn next_timeout(&self) -> Option<Instant> {
        self.0.next_timeout()
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        let data = self.0.poll_rtcp(now)?;
        Some(Transmit { source: address(2), destination: address(1), data })
    }
}

fn call(seed: u64, down: LinkConfig) -> (Net, NodeId, NodeId) {
    let mut net = Net::new(seed);
    let start = net.now();
    let camera = Camera::new(start, CameraConfig::simulcast(100, "video", EXTENSIONS), net.seed());
    let mut microphone = Microphone::new(start, AUDIO, "audio", 111, net.seed());
    microphone.set_speaking(true);
    let sender = Sender { camera, microphone, number: 65_000, outbox: Vec::new(), feedback: 0 };
    let mut receiver = Receiver::new(start, Ssrc(9), EXTENSIONS);
    receiver.expect_video(ReceivedStream { ssrc: VIDEO, rtx: Some(Ssrc(105)) });
    let sender = net.add(&[address(1)], sender);
    let viewer = net.add(&[address(2)], Viewer(receiver));
    net.set_link(sender, viewer, down);
    net.set_link(viewer, sender, LinkConfig { delay: Duration::from_millis(20), ..LinkConfig::fiber() });
    (net, sender, viewer)
}

#[test]
fn a_clean_path_shows_every_frame() {
    let (mut net, sender, viewer) = call(1, LinkConfig::narrow(Bitrate::kbps(10_000)));
    net.run_for(Duration::from_secs(10));
    let stats = net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected");
    assert!((298..=301).contains(&stats.frames), "{stats:?}");
    assert_eq!((stats.undecodable, stats.freezes, stats.nacks, stats.keyframes), (0, 0, 0, 1), "{stats:?}");
    assert!(stats.first_frame.is_some_and(|time| time < Duration::from_millis(100)));
    assert_eq!(stats.size, Some((1280, 720)));
    let audio = net.node::<Viewer>(viewer).0.audio(AUDIO).expect("sound");
    assert_eq!((audio.missing, audio.packets), (0, 499), "{audio:?}");
    assert!((90..=201).contains(&net.node::<Sender>(sender).feedback), "every 50 to 100 ms");
}

#[test]
fn retransmission_repairs_loss_reordering_and_duplicates() {
    for seed in 1..=5 {
        let down = LinkConfig {
            loss: Loss::Random(0.05),
            jitter: Jitter::Reorder { share: 0.03, most: Duration::from_millis(15) },
            duplicate: 0.01,
            ..LinkConfig::narrow(Bitrate::kbps(10_000))
        };
        let (mut net, _, viewer) = call(seed, down);
        net.run_for(Duration::from_secs(20));
        let stats = net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected");
        assert!(stats.frames > 590, "seed {seed}: {stats:?}");
        assert_eq!(stats.undecodable, 0, "seed {seed}: {stats:?}");
        assert!(stats.nacks > 50, "seed {seed}: {stats:?}");
        let audio = net.node::<Viewer>(viewer).0.audio(AUDIO).expect("sound");
        assert!((20..90).contains(&audio.missing), "seed {seed}: 5 % of 1000: {audio:?}");
    }
}

#[test]
fn an_outage_ends_with_a_keyframe() {
    let path = LinkConfig::narrow(Bitrate::kbps(10_000));
    let (mut net, sender, viewer) = call(1, path);
    net.run_for(Duration::from_secs(5));
    net.set_link(sender, viewer, LinkConfig { loss: Loss::Random(1.0), ..path });
    net.run_for(Duration::from_secs(2));
    net.set_link(sender, viewer, path);
    let before = net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected").frames;
    let back = net.run_until(Duration::from_secs(5), |net| {
        net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected").frames > before
    });
    assert!(back.is_some_and(|time| time < Duration::from_millis(1500)), "{back:?}");
    let stats = net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected");
    assert_eq!(stats.freezes, 1, "{stats:?}");
    assert!(stats.frozen > Duration::from_secs(2) && stats.plis + stats.nacks > 0, "{stats:?}");
    net.run_for(Duration::from_secs(3));
    assert_eq!(net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected").undecodable, 0);
}

#[test]
fn one_seed_is_one_run() {
    let run = |seed| {
        let down = LinkConfig { loss: Loss::Random(0.1), ..LinkConfig::narrow(Bitrate::kbps(5000)) };
        let (mut net, _, viewer) = call(seed, down);
        net.run_for(Duration::from_secs(5));
        net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected").clone()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn a_stopped_layer_is_noticed() {
    let (mut net, sender, viewer) = call(1, LinkConfig::fiber());
    net.run_for(Duration::from_secs(2));
    net.with(sender, |now, sender: &mut Sender| {
        sender.camera.set_active(now, Rid::parse("f").expect("a rid"), false);
    });
    let frames = net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected").frames;
    net.run_for(Duration::from_secs(2));
    let later = net.node::<Viewer>(viewer).0.video(VIDEO).expect("expected").frames;
    assert!(later - frames <= 1, "{frames} {later}");
}
