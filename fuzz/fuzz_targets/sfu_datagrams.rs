//! A whole core with a call in it, fed arbitrary datagrams at arbitrary times: a publisher of sound and of video in
//! every codec, a subscriber of all of it, and a client in its handshake.
//!
//! The first two have no encryption, so that what they send is seen by everything behind it. An input is a row of
//! steps: a byte that says what happens, and what that needs.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sfu::command::{AddPeer, Command, Demand, Event, NegotiationRole, Path};
use sfu::ids::{Mid, PeerId, RoomId, Ssrc, TrackId};
use sfu::transport::stun::{self, Check, IceRole, TransactionId, password_key};
use sfu::units::{RtpTime, WallClock};
use sfu::wire::extension;
use sfu::wire::rtp::{FIXED_HEADER, FixedHeader, RtpHeader};
use sfu::{Sfu, SfuConfig};

const ROOM: RoomId = RoomId(1);
const PUBLISHER: PeerId = PeerId(1);
const SUBSCRIBER: PeerId = PeerId(2);
const STRANGER: PeerId = PeerId(3);

/// Payload type of each section's media, and of its retransmissions; the section's number is its mid.
const FORMATS: [(&str, u8, u8, &str); 5] = [
    ("audio", 111, 63, "opus/48000/2"),
    ("video", 96, 97, "VP8/90000"),
    ("video", 98, 99, "VP9/90000"),
    ("video", 102, 103, "H264/90000"),
    ("video", 45, 46, "AV1/90000"),
];
const RIDS: [&str; 3] = ["q", "h", "f"];

// Extension ids of the offers below.
const TRANSPORT_CC: u8 = 3;
const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;
const DEPENDENCY_DESCRIPTOR: u8 = 12;

/// One section for each of [`FORMATS`], the VP8 one in three encodings when the client sends.
fn offer(direction: &str) -> String {
    let mut sdp = String::from(
        "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0 1 2 3 4\na=extmap-allow-mixed\n",
    );
    for (mid, (kind, pt, other, name)) in FORMATS.iter().enumerate() {
        sdp += &format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {pt} {other}\nc=IN IP4 0.0.0.0\na=ice-ufrag:them\n\
             a=ice-pwd:themthemthemthemthemthem\na=fingerprint:sha-256 53:3F:6D:08:A7:1F:6F:F6:1E:E8:EB:B2:20:FA:\
             DE:F3:32:F5:C0:44:16:4F:30:E2:D8:29:C7:A0:3D:DF:E0:FC\na=setup:actpass\na=mid:{mid}\n\
             a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n\
             a=extmap:{TRANSPORT_CC} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n\
             a=extmap:{MID} urn:ietf:params:rtp-hdrext:sdes:mid\n\
             a=extmap:{RID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\n\
             a=extmap:{REPAIRED_RID} urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\n\
             a=extmap:{DEPENDENCY_DESCRIPTOR} https://aomediacodec.github.io/av1-rtp-spec/\
             #dependency-descriptor-rtp-header-extension\n\
             a={direction}\na=rtcp-mux\na=rtcp-rsize\na=rtpmap:{pt} {name}\na=rtcp-fb:{pt} transport-cc\n"
        );
        if *kind == "audio" {
            sdp += &format!("a=rtpmap:{other} red/48000/2\na=fmtp:{other} {pt}/{pt}\n");
        } else {
            sdp += &format!(
                "a=rtcp-fb:{pt} nack\na=rtcp-fb:{pt} nack pli\na=rtpmap:{other} rtx/90000\na=fmtp:{other} apt={pt}\n"
            );
        }
        if name.starts_with("H264") {
            sdp += &format!(
                "a=fmtp:{pt} packetization-mode=1;profile-level-id=42e01f;level-asymmetry-allowed=1\n"
            );
        }
        if name.starts_with("VP8") && direction == "sendonly" {
            sdp += "a=rid:q send\na=rid:h send\na=rid:f send\na=simulcast:send q;h;f\n";
        }
    }
    sdp.replace('\n', "\r\n")
}

fn path(port: u16) -> Path {
    Path::udp(SocketAddr::from(([192, 0, 2, 1], 7882)), SocketAddr::from(([192, 0, 2, 2], port)))
}

struct Call {
    sfu: Sfu,
    now: Instant,
    /// The subscriber's streams, in the order of its description.
    ssrcs: Vec<Ssrc>,
    /// Number and time of each of the publisher's streams.
    streams: [(u16, u32); 16],
    transport_number: u16,
}

impl Call {
    fn new() -> Call {
        let now = Instant::now();
        let config = SfuConfig {
            announced: vec![path(1).local],
            announced_tcp: Vec::new(),
            number: 0,
            wall: WallClock { instant: now, unix: Duration::from_secs(1_800_000_000) },
            seed: 1,
            secret: [1; 32],
        };
        let sfu = Sfu::new(config).expect("a core");
        let mut call = Call { sfu, now, ssrcs: Vec::new(), streams: [(0, 0); 16], transport_number: 0 };
        call.add(PUBLISHER);
        call.offer(PUBLISHER, "sendonly");
        for index in 0..FORMATS.len() {
            let mid = Mid::parse(&index.to_string()).expect("a mid");
            let track = TrackId(index as u64);
            call.command(Command::BindTrack { peer: PUBLISHER, mid, track, layers: Vec::new(), encrypted: false });
        }
        call.add(SUBSCRIBER);
        for index in 0..FORMATS.len() {
            let (stream_id, label) = ("PA_a".into(), "TR_a".into());
            let (track, demand) = (TrackId(index as u64), Demand::default());
            call.command(Command::Subscribe { peer: SUBSCRIBER, track, stream_id, label, demand });
        }
        let answer = call.offer(SUBSCRIBER, "recvonly");
        for line in answer.lines().filter_map(|line| line.strip_prefix("a=ssrc:")) {
            let number = line.split(' ').next().expect("a first word").parse().expect("an SSRC");
            if !call.ssrcs.contains(&Ssrc(number)) {
                call.ssrcs.push(Ssrc(number));
            }
        }
        assert!(call.ssrcs.len() >= FORMATS.len(), "{answer}");
        for peer in [PUBLISHER, SUBSCRIBER] {
            call.sfu.connect_plain(now, peer, path(peer.0 as u16));
        }

        // The third one proved who it is, so that its handshake is listened to.
        call.add(STRANGER);
        let answer = call.offer(STRANGER, "sendonly");
        let value = |key| answer.lines().find_map(|line| line.strip_prefix(key)).expect("credentials");
        let mut request = Vec::new();
        let check = Check {
            transaction: TransactionId([7; 12]),
            their_ufrag: value("a=ice-ufrag:"),
            our_ufrag: "them",
            priority: 1,
            role: IceRole::Controlling(1),
            key: &password_key(value("a=ice-pwd:")),
        };
        stun::write_check(&mut request, &check);
        call.datagram(STRANGER.0 as u16, &mut request);
        assert!(!call.sfu.egress().is_empty(), "the check is answered");
        call.drain();
        call
    }

    fn command(&mut self, command: Command) {
        self.sfu.handle_command(self.now, command);
    }

    fn add(&mut self, peer: PeerId) {
        let (role, channels) = (NegotiationRole::Answerer, Vec::new());
        self.command(Command::AddPeer(AddPeer { peer, room: ROOM, role, channels }));
    }

    fn offer(&mut self, peer: PeerId, direction: &str) -> String {
        self.command(Command::Offer { peer, id: 1, sdp: offer(direction), hints: Vec::new() });
        let answer = std::iter::from_fn(|| self.sfu.poll_event()).find_map(|event| match event {
            Event::Answer { sdp, .. } => Some(sdp),
            Event::DescriptionRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        answer.expect("an answer")
    }

    fn datagram(&mut self, port: u16, bytes: &mut [u8]) {
        self.sfu.handle_datagram(self.now, path(port), bytes);
    }

    /// A packet of the publisher with all that routing wants; what the codec's reader sees is the input's.
    fn media(&mut self, input: &mut Input<'_>) {
        let [choice, flags, step, ticks] = input.array();
        let (section, retransmission) = (usize::from(choice) % FORMATS.len(), choice & 0x80 != 0);
        let encoding = if section == 1 { usize::from(flags & 0x0f) % RIDS.len() } else { 0 };
        let stream =
            section + if encoding > 0 { 4 + encoding } else { 0 } + if retransmission { 8 } else { 0 };
        let (number, time) = &mut self.streams[stream];
        *number = number.wrapping_add_signed(i16::from(step as i8));
        *time = time.wrapping_add(u32::from(ticks) * 100);
        let (_, pt, other, _) = FORMATS[section];
        let fixed = FixedHeader {
            marker: flags & 0x80 != 0,
            payload_type: if retransmission { other } else { pt },
            sequence_number: *number,
            timestamp: RtpTime(*time),
            ssrc: Ssrc(100 + stream as u32),
        };
        self.transport_number = self.transport_number.wrapping_add(1);
        let transport_number = self.transport_number.to_be_bytes();
        let mid = section.to_string();
        let descriptor = input.bytes();
        let mut elements: Vec<(u8, &[u8])> = vec![(TRANSPORT_CC, &transport_number), (MID, mid.as_bytes())];
        if section == 1 {
            let id = if retransmission { REPAIRED_RID } else { RID };
            elements.push((id, RIDS[encoding].as_bytes()));
        }
        if !descriptor.is_empty() {
            elements.push((DEPENDENCY_DESCRIPTOR, descriptor));
        }
        let mut packet = [0; 1500];
        let (head, rest) = packet.split_first_chunk_mut::<FIXED_HEADER>().expect("a long array");
        fixed.write(head, true);
        let start = FIXED_HEADER + extension::write(rest, &elements).expect("there is room");
        let payload = input.bytes();
        packet[start..start + payload.len()].copy_from_slice(payload);
        self.datagram(PUBLISHER.0 as u16, &mut packet[..start + payload.len()]);
    }

    /// Feedback of the subscriber on a stream that it has.
    fn feedback(&mut self, input: &mut Input<'_>) {
        let [kind, count, stream] = input.array();
        let ssrc = self.ssrcs[usize::from(stream) % self.ssrcs.len()];
        let body = input.bytes();
        let words = body.len() / 4;
        let mut packet = vec![0x80 | count & 0x3f, 200 + kind % 8, 0, (words + 2) as u8, 0, 0, 0, 1];
        packet.extend(ssrc.0.to_be_bytes());
        packet.extend(&body[..4 * words]);
        self.datagram(SUBSCRIBER.0 as u16, &mut packet);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut at_once = 0;
        while let Some(due) = self.sfu.next_timeout().filter(|due| *due <= end) {
            at_once = if due > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 100, "a deadline that does not pass");
            self.now = self.now.max(due);
            self.sfu.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// What the core wants sent must be whole, and media must be of a stream that the subscriber has.
    fn drain(&mut self) {
        self.sfu.flush(self.now);
        let egress = self.sfu.egress();
        for run in egress.runs() {
            for datagram in egress.slab()[run.range.clone()].chunks(usize::from(run.segment)) {
                if run.path == path(SUBSCRIBER.0 as u16)
                    && let Some(sfu::transport::demux::PacketClass::Rtp) =
                        sfu::transport::demux::classify(datagram)
                {
                    let header = RtpHeader::parse(datagram).expect("what we send is RTP");
                    assert!(self.ssrcs.contains(&header.ssrc), "{header:?}");
                }
            }
        }
        self.sfu.egress().clear();
        while self.sfu.poll_event().is_some() {}
    }
}

/// What is left of the input; an exhausted one gives zeros and nothing.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (head, tail) = self.0.split_at(self.0.len().min(N));
        out[..head.len()].copy_from_slice(head);
        self.0 = tail;
        out
    }

    /// A length byte and as many bytes.
    fn bytes(&mut self) -> &'a [u8] {
        let [len] = self.array();
        let (head, tail) = self.0.split_at(self.0.len().min(usize::from(len)));
        self.0 = tail;
        head
    }
}

fuzz_target!(|data: &[u8]| {
    let mut call = Call::new();
    let mut input = Input(data);
    while !input.0.is_empty() {
        let [step] = input.array();
        match step & 0x07 {
            0 | 1 => call.media(&mut input),
            2 => call.feedback(&mut input),
            // From the publisher, the subscriber, the stranger, or somebody else still.
            3 => call.datagram(1 + u16::from((step >> 3) & 3), &mut input.bytes().to_vec()),
            4 => {
                let [time] = input.array();
                call.pass(Duration::from_millis(u64::from(time)));
            }
            5 => {
                let [time] = input.array();
                call.pass(Duration::from_millis(u64::from(time) * 20));
            }
            6 => {
                let track = TrackId(u64::from(step >> 3) % FORMATS.len() as u64);
                call.command(Command::MuteTrack { track, muted: step & 0x80 != 0 });
            }
            _ => {
                let [wish] = input.array();
                let track = TrackId(u64::from(step >> 3) % FORMATS.len() as u64);
                let demand =
                    Demand { enabled: wish & 0x80 == 0, max_spatial: wish & 0x03, ..Demand::default() };
                call.command(Command::Adjust { peer: SUBSCRIBER, track, demand });
            }
        }
    }
    call.pass(Duration::from_secs(1));
});
