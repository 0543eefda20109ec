//! One track in two codecs, to two subscribers: each gets what it can decode, under the payload type that it agreed to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::command::{AddPeer, AnnouncedLayer, Command, Demand, Event, NegotiationRole, Path, PublishHint};
use sfu::ids::{Mid, PeerId, RoomId, Ssrc, TrackId};
use sfu::units::{Bitrate, WallClock};
use sfu::wire::description::Codec;
use sfu::{Sfu, SfuConfig};
use sfu_testkit::rtp::{ExtensionIds, RtpPacket};

const SERVER: SocketAddr = address(1);
const PUBLISHER: PeerId = PeerId(1);
/// Alice's camera in VP9, and the same in VP8.
const OWN: TrackId = TrackId(10);
const FURTHER: TrackId = TrackId(11);
const LABEL: &str = "TR_camera";

const fn address(host: u8) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, host)), 5000)
}

/// A codec that a client knows, and its payload type.
type Known = (u8, &'static str);
const VP9: Known = (98, "VP9");
const VP8: Known = (96, "VP8");

fn section(mid: &str, direction: &str, known: &[Known]) -> String {
    let payloads: Vec<String> = known.iter().map(|(number, _)| number.to_string()).collect();
    let maps: String = known
        .iter()
        .map(|(number, name)| ["a=rtpmap:", &number.to_string(), " ", name, "/90000\n"].concat())
        .collect();
    format!(
        "m=video 9 UDP/TLS/RTP/SAVPF {}\nc=IN IP4 0.0.0.0\na=ice-ufrag:them\na=ice-pwd:themthemthemthemthemthem\n\
         a=fingerprint:sha-256 53:3F:6D:08:A7:1F:6F:F6:1E:E8:EB:B2:20:FA:DE:F3:32:F5:C0:44:16:4F:30:E2:D8:29:C7:A0:3D:\
         DF:E0:FC\na=setup:{}\na=mid:{mid}\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\na={direction}\na=rtcp-mux\n\
         {maps}",
        payloads.join(" "),
        if direction == "answer" { "active" } else { "actpass" },
    )
}

fn session(mids: &[&str], sections: &str) -> String {
    let head = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE";
    format!("{head} {}\n{sections}", mids.join(" ")).replace('\n', "\r\n")
}

/// The answer of a client that knows these codecs and no others: where it knows none it rejects the section.
fn answer(offer: &str, known: &[Known]) -> String {
    let knows = |section: &str| {
        known
            .iter()
            .copied()
            .filter(|(_, name)| section.contains(&format!("{name}/90000")))
            .collect::<Vec<_>>()
    };
    let mut mids = Vec::new();
    let mut sections = String::new();
    for offered in offer.split("m=").skip(1) {
        let mid = offered.lines().find_map(|line| line.strip_prefix("a=mid:")).expect("a mid");
        let common = knows(offered);
        let written =
            section(mid, if offered.contains("a=inactive") { "inactive" } else { "recvonly" }, &common);
        if common.is_empty() || offered.starts_with("video 0") {
            let first =
                offered.split(' ').nth(3).and_then(|word| word.split_whitespace().next()).expect("a number");
            let head =
                ["m=video 0 UDP/TLS/RTP/SAVPF ", first, "\nc=IN IP4 0.0.0.0\na=mid:", mid, "\na=inactive\n"];
            sections += &head.concat();
        } else {
            mids.push(mid);
            sections += &written.replace("a=setup:actpass", "a=setup:active");
        }
    }
    if mids.is_empty() {
        // Who rejects everything still says who it is.
        let transport = section("none", "recvonly", &[VP8]);
        let lines = transport.lines().filter(|line| {
            ["a=ice-", "a=fingerprint"].iter().any(|word| line.starts_with(word))
                || line.starts_with("a=setup")
        });
        let lines: String = lines.map(|line| line.replace("actpass", "active") + "\n").collect();
        let head = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\n";
        return format!("{head}{lines}{sections}").replace('\n', "\r\n");
    }
    session(&mids, &sections)
}

/// The mid and the payload types of the section that carries the camera.
fn placed(description: &str) -> Option<(String, String)> {
    let is_ours = |section: &&str| section.contains(LABEL);
    let section = description.split("m=").skip(1).find(is_ours)?;
    let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:"))?;
    let payloads = section.lines().next()?.rsplit("SAVPF ").next()?;
    Some((mid.to_owned(), payloads.to_owned()))
}

struct Viewer {
    peer: PeerId,
    known: &'static [Known],
    /// Where the camera is, by the last description of the server's.
    placed: Option<(String, String)>,
    /// Rounds of negotiation.
    rounds: u32,
}

struct Core {
    sfu: Sfu,
    now: Instant,
    sent: u16,
    viewers: Vec<Viewer>,
    /// What was said of subscriptions: bound or not.
    fates: Vec<(PeerId, TrackId, bool)>,
    /// Offers that are not answered yet.
    held: Vec<(PeerId, u32, String)>,
    hold: bool,
}

impl Core {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn new() -> Core {
        let now = Instant::now();
        let config = SfuConfig {
            announced: vec![SERVER],
            announced_tcp: Vec::new(),
            number: 0,
            wall: WallClock { instant: now, unix: Duration::from_hours(500_000) },
            seed: 1,
            secret: [1; 32],
        };
        let sfu = Sfu::new(config).expect("good settings");
        let viewers = Vec::new();
        let mut core = Core { sfu, now, sent: 0, viewers, fates: Vec::new(), held: Vec::new(), hold: false };
        core.join(PUBLISHER, NegotiationRole::Answerer);
        let sections = ["0", "1"].map(|mid| section(mid, "sendonly", &[VP8, VP9]));
        let hint = |codec| PublishHint { cid: String::new(), stereo: false, dtx: false, red: false, codec };
        let mut sdp = session(&["0", "1"], &sections.concat());
        // By its hint each section is for another codec.
        for (mid, cid) in [("0", "own"), ("1", "further")] {
            let line = format!("a=mid:{mid}\r\n");
            sdp = sdp.replace(&line, &format!("{line}a=msid:s {cid}\r\n"));
        }
        let hints = vec![
            PublishHint { cid: "own".into(), ..hint(Some(Codec::Vp9)) },
            PublishHint { cid: "further".into(), ..hint(Some(Codec::Vp8)) },
        ];
        core.command(Command::Offer { peer: PUBLISHER, id: 1, sdp, hints });
        core.bind("0", OWN);
        core.connect(PUBLISHER);
        core
    }

    fn bind(&mut self, mid: &str, track: TrackId) {
        let mid = Mid::parse(mid).expect("a mid");
        // Little enough for a path of which nothing is known.
        let layers = vec![AnnouncedLayer { rid: None, size: (320, 180), bitrate: Bitrate::kbps(50) }];
        self.command(Command::BindTrack { peer: PUBLISHER, mid, track, layers, encrypted: false });
    }

    fn join(&mut self, peer: PeerId, role: NegotiationRole) {
        self.command(Command::AddPeer(AddPeer { peer, room: RoomId(1), role, channels: Vec::new() }));
    }

    /// Without ICE and DTLS its media comes and goes from now on.
    fn connect(&mut self, peer: PeerId) {
        self.sfu.connect_plain(self.now, peer, Path::udp(SERVER, address(peer.0 as u8)));
        self.run();
    }

    fn view(&mut self, role: NegotiationRole, known: &'static [Known]) -> PeerId {
        let peer = PeerId(2 + self.viewers.len() as u64);
        self.join(peer, role);
        self.viewers.push(Viewer { peer, known, placed: None, rounds: 0 });
        let (stream_id, label) = ("PA_alice".to_owned(), LABEL.to_owned());
        let demand = Demand::default();
        self.command(Command::Subscribe { peer, track: OWN, stream_id, label, demand });
        if role == NegotiationRole::Answerer {
            self.offer(peer);
        }
        self.run();
        self.connect(peer);
        peer
    }

    /// A viewer that offers has one section to receive in.
    fn offer(&mut self, peer: PeerId) {
        let viewer = self.viewers.iter_mut().find(|viewer| viewer.peer == peer).expect("a viewer");
        viewer.rounds += 1;
        let (id, sdp) = (viewer.rounds, session(&["0"], &section("0", "recvonly", viewer.known)));
        self.command(Command::Offer { peer, id, sdp, hints: Vec::new() });
    }

    fn command(&mut self, command: Command) {
        self.sfu.handle_command(self.now, command);
        self.react();
    }

    /// What clients do at once.
    fn react(&mut self) {
        while let Some(event) = self.sfu.poll_event() {
            match event {
                Event::Offer { peer, id, sdp, .. } => {
                    self.held.push((peer, id, sdp));
                    if !self.hold {
                        self.release();
                    }
                }
                Event::Answer { peer, sdp, .. } => {
                    if let Some(viewer) = self.viewers.iter_mut().find(|viewer| viewer.peer == peer) {
                        viewer.placed = placed(&sdp);
                    }
                }
                Event::SectionsNeeded { peer, audio, video } => {
                    assert_eq!((audio, video), (0, 0), "there is a section already");
                    self.offer(peer);
                }
                Event::SubscriptionBound { peer, track } => self.fates.push((peer, track, true)),
                Event::SubscriptionUnsupported { peer, track } => self.fates.push((peer, track, false)),
                Event::DescriptionRefused { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    /// Answers the offers that wait.
    fn release(&mut self) {
        for (peer, id, sdp) in std::mem::take(&mut self.held) {
            let viewer = self.viewers.iter_mut().find(|viewer| viewer.peer == peer).expect("a viewer");
            viewer.placed = placed(&sdp);
            viewer.rounds += 1;
            let sdp = answer(&sdp, viewer.known);
            self.command(Command::Answer { peer, id, sdp });
        }
    }

    /// Two frames of a codec, of one packet each.
    fn publish(&mut self, (mid, ssrc): (&str, u32), (payload_type, name): Known) {
        for _ in 0..2 {
            // A keyframe of VP8 (RFC 7741 §4.3), and one of VP9 with nothing but its bounds told (RFC 9628 §4.2).
            let mut payload = match name {
                "VP8" => vec![0x10, 0x10, 2, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0],
                _ => vec![0x0c, 0x82, 0x49, 0x83, 0x42, 0, 0, 0, 0, 0, 0],
            };
            payload.extend(name.as_bytes());
            self.sent += 1;
            let time = u32::from(self.sent) * 3000;
            let packet = RtpPacket {
                marker: true,
                mid: Mid::parse(mid),
                ..RtpPacket::new(Ssrc(ssrc), payload_type, self.sent, time, payload)
            };
            let mut bytes = packet.write(&ExtensionIds { mid: Some(4), ..ExtensionIds::default() });
            let path = Path::udp(SERVER, address(PUBLISHER.0 as u8));
            self.sfu.handle_datagram(self.now, path, &mut bytes);
            self.run_for(Duration::from_millis(33));
        }
    }

    fn run(&mut self) {
        self.run_for(Duration::from_secs(1));
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.sfu.next_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.sfu.handle_timeout(self.now);
            self.react();
        }
        self.now = end;
        self.sfu.flush(self.now);
        self.react();
    }

    /// RTP with a payload that went to each viewer since the last look: payload type, SSRC, number, and the codec's name
    /// at its end.
    fn received(&mut self, peer: PeerId) -> Vec<(u8, u32, u16, String)> {
        self.sfu.flush(self.now);
        let egress = self.sfu.egress_ref();
        let of = egress.runs().iter().filter(|run| run.path.remote == address(peer.0 as u8));
        let packets = of.flat_map(|run| egress.slab()[run.range.clone()].chunks(usize::from(run.segment)));
        packets
            .filter(|bytes| bytes.ends_with(b"VP8") || bytes.ends_with(b"VP9"))
            .map(|bytes| {
                let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let ssrc = u32::from(number(8)) << 16 | u32::from(number(10));
                let name = String::from_utf8_lossy(&bytes[bytes.len() - 3..]).into_owned();
                (bytes[1] & 0x7f, ssrc, number(2), name)
            })
            .collect()
    }

    fn forget(&mut self) {
        self.sfu.egress().clear();
    }

    /// Pictures of both codecs, those of the second only if it is published.
    fn film(&mut self, further: bool) {
        self.forget();
        self.publish(("0", 100), VP9);
        if further {
            self.publish(("1", 200), VP8);
        }
    }

    fn placed(&self, peer: PeerId) -> Option<(String, String)> {
        self.viewers.iter().find(|viewer| viewer.peer == peer)?.placed.clone()
    }
}

/// Only these packets, and at least one.
fn assert_all(packets: &[(u8, u32, u16, String)], (payload_type, name): Known) {
    assert!(!packets.is_empty(), "nothing came");
    let good = |(pt, _, _, of): &(u8, u32, u16, String)| (*pt, of.as_str()) == (payload_type, name);
    assert!(packets.iter().all(good), "{packets:?}");
}

#[test]
fn each_subscriber_gets_the_codec_that_it_can_decode_under_its_payload_type() {
    for role in [NegotiationRole::Offerer, NegotiationRole::Answerer] {
        let mut core = Core::new();
        let both = core.view(role, &[VP9, VP8]);
        let old = core.view(role, &[VP8]);
        assert_eq!(core.fates, [(both, OWN, true), (old, OWN, false)], "{role:?}");
        core.film(false);
        assert_all(&core.received(both), VP9);
        assert_eq!(core.received(old), []);

        core.bind("1", FURTHER);
        core.command(Command::ReplaceTrack { peer: old, subscription: OWN, track: FURTHER });
        core.fates.clear();
        core.run();
        assert_eq!(core.fates, [(old, FURTHER, true)], "{role:?}: under the name of what is carried");
        core.film(true);
        assert_all(&core.received(both), VP9);
        assert_all(&core.received(old), VP8);
        assert!(core.placed(old).is_some(), "as the same track: {role:?}");

        // The second codec ends with what it carries, and with it a subscription that was not taken off it.
        core.command(Command::RemoveTrack { track: FURTHER });
        core.run();
        core.film(true);
        assert_all(&core.received(both), VP9);
        assert_eq!(core.received(old), [], "{role:?}");
    }
}

#[test]
fn who_has_the_first_codec_gets_the_second_in_the_same_section_and_stream() {
    for role in [NegotiationRole::Offerer, NegotiationRole::Answerer] {
        let mut core = Core::new();
        let viewer = core.view(role, &[VP9, VP8]);
        core.bind("1", FURTHER);
        core.film(true);
        let before = core.received(viewer);
        assert_all(&before, VP9);
        let (mid, _) = core.placed(viewer).expect("placed");
        for (track, codec) in [(FURTHER, VP8), (OWN, VP9)] {
            core.command(Command::ReplaceTrack { peer: viewer, subscription: OWN, track });
            // Repeated, it does nothing.
            core.command(Command::ReplaceTrack { peer: viewer, subscription: OWN, track });
            core.run();
            core.film(true);
            let after = core.received(viewer);
            assert_all(&after, codec);
            assert_eq!(core.placed(viewer).expect("placed").0, mid, "{role:?}");
            assert_eq!(before[0].1, after[0].1, "{role:?}: one SSRC");
            let gap = after[0].2.wrapping_sub(before[before.len() - 1].2);
            assert!(gap < 0x100, "{role:?}: numbers go on, from {before:?} to {after:?}");
        }
        // By the name under which it was made it ends.
        core.command(Command::Unsubscribe { peer: viewer, track: OWN });
        core.run();
        core.film(true);
        assert_eq!(core.received(viewer), [], "{role:?}");
    }
}

/// The viewer's answer is to an offer that the replacement made old: nothing is sent under its payload type.
#[test]
fn an_answer_that_comes_too_late_is_not_gone_by() {
    for known in [&[VP9, VP8][..], &[VP8]] {
        let known: &'static [Known] = known;
        let mut core = Core::new();
        core.bind("1", FURTHER);
        core.hold = true;
        let viewer = core.view(NegotiationRole::Offerer, known);
        assert_eq!(core.held.len(), 1, "our offer is out");
        core.command(Command::ReplaceTrack { peer: viewer, subscription: OWN, track: FURTHER });
        core.hold = false;
        core.release();
        core.film(true);
        let early = core.received(viewer);
        assert!(early.iter().all(|(pt, _, _, name)| (*pt, name.as_str()) == VP8), "{early:?}");
        core.run();
        core.film(true);
        assert_all(&core.received(viewer), VP8);
        assert!(!core.fates.contains(&(viewer, FURTHER, false)), "{:?}", core.fates);
    }
}

#[test]
fn nothing_takes_the_place_of_what_is_not_there() {
    let mut core = Core::new();
    let viewer = core.view(NegotiationRole::Offerer, &[VP9, VP8]);
    for (subscription, track) in [(OWN, TrackId(999)), (TrackId(999), OWN), (OWN, OWN)] {
        core.command(Command::ReplaceTrack { peer: viewer, subscription, track });
    }
    core.run();
    core.film(false);
    assert_all(&core.received(viewer), VP9);
}
