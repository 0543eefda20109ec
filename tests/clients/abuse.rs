//! Input that means no good, while two people talk: each gets its own clear answer, and the two notice nothing.

use std::io::Write as _;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use flate2::Compression;
use flate2::write::GzEncoder;
use livekit_protocol::wrapped_join_request;
use livekit_protocol::{SessionDescription, WrappedJoinRequest, signal_request, signal_response};
use prost::Message as _;
use serde_json::json;

use crate::harness::{
    Camera, Claims, Kind, Mode, Participant, Sdk, Server, Signal, Token, alone, eventually, http, observe,
};
use crate::meeting::{hears, sees};

/// Two people who must not notice.
struct Call<'a> {
    ada: Participant<'a>,
    grace: Participant<'a>,
}

impl<'a> Call<'a> {
    fn start(server: &Server, sdk: &'a Sdk) -> Call<'a> {
        let [ada, grace] = ["ada", "grace"].map(|name| sdk.participant(name));
        for person in [&ada, &grace] {
            person.join(server, "garden", Mode::V1);
        }
        ada.publish_camera(&Camera::SMALL);
        ada.publish_microphone(440.0);
        eventually(Duration::from_secs(20), || sees(&grace, &ada));
        grace.restart();
        Call { ada, grace }
    }

    /// Picture and sound went on since the start, and at `least` that many frames a second.
    #[track_caller]
    fn assert_unharmed(&self, since: Instant, least: f64) {
        eventually(Duration::from_secs(5), || hears(&self.grace, &self.ada, 440.0));
        let video = self.grace.track(&self.ada, Kind::Video).expect("still there");
        let rate = video.seen.frames as f64 / since.elapsed().as_secs_f64();
        assert!(rate >= least, "{rate} frames a second: {video:?}");
        assert!(video.seen.longest_gap < 1000.0, "frozen: {video:?}");
        for person in [&self.ada, &self.grace] {
            assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
        }
    }
}

#[test]
fn bad_requests_get_their_own_answers_and_a_call_goes_on() {
    let _turn = alone();
    let mut server = Server::start("abuse");
    let sdk = Sdk::start();
    let call = Call::start(&server, &sdk);
    let since = Instant::now();

    let mut answers = Vec::new();
    for (what, target, expected) in bad_requests(&server) {
        // As an upgrade, and as the question why the upgrade failed.
        let validate = target.replacen('?', "/validate?", 1);
        for target in [target, validate] {
            let answer = http::get(server.address(), &target, &UPGRADE)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(expected.contains(&answer.status), "{what}: {answer:?}");
            assert!(
                answer.status == 431 || answer.status == 414 || !answer.body.is_empty(),
                "{what}: {answer:?}"
            );
            answers.push((what, answer));
        }
        server.assert_alive();
    }
    for (what, answer) in &answers {
        let same = answers.iter().find(|(other, theirs)| other != what && theirs.body == answer.body);
        assert!(same.is_none() || answer.body.is_empty(), "{what} is answered as {same:?}");
    }
    println!("{answers:#?}");

    for (what, frame) in bad_frames() {
        let token = server.token("elsewhere", what);
        let mut signal =
            Signal::connect(&server, &format!("/rtc?access_token={token}&protocol=17&auto_subscribe=1"));
        let first = signal.next();
        assert!(matches!(first, Ok(signal_response::Message::Join(_))), "{what}: {first:?}");
        signal.send_raw(frame);
        // Told to go, told no, or shown the door; but told.
        let answer = signal.find(|message| match message {
            signal_response::Message::Leave(leave) => Some(format!("{leave:?}")),
            signal_response::Message::RequestResponse(response) => Some(format!("{response:?}")),
            _ => None,
        });
        println!("{what}: {answer:?}");
        assert!(answer.as_ref().is_ok_and(|answer| !answer.is_empty()), "{what}: {answer:?}");
        server.assert_alive();
    }
    // A quick machine is through in milliseconds, too short to count pictures in.
    observe(Duration::from_secs(2).saturating_sub(since.elapsed()));
    call.assert_unharmed(since, 8.0);
}

/// What makes a request one for a WebSocket (RFC 6455 §4.1).
const UPGRADE: [&str; 4] = [
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// What is wrong, the request, and the statuses that would be right.
fn bad_requests(server: &Server) -> Vec<(&'static str, String, Vec<u16>)> {
    let right = Token::Hs256 { secret: "secret" };
    let claims = || Claims::join("elsewhere", "mallory");
    let with_token = |token: String| format!("/rtc?access_token={token}");
    let good = server.token("elsewhere", "mallory");
    let v1 = |join_request: &str| format!("/rtc/v1?access_token={good}&join_request={join_request}");
    let plausible = BASE64_URL_SAFE.encode(noise(47 << 10));
    vec![
        ("no token", "/rtc?protocol=17".to_owned(), vec![401]),
        ("expired token", with_token(right.write(&claims().with("exp", json!(1_700_000_000)))), vec![401]),
        ("algorithm none", with_token(Token::Unsigned.write(&claims())), vec![401]),
        ("wrong secret", with_token(Token::Hs256 { secret: "guessed" }.write(&claims())), vec![401]),
        ("unknown key", with_token(right.write(&claims().with("iss", json!("nobody")))), vec![401]),
        (
            "no roomJoin grant",
            with_token(right.write(&claims().with("video", json!({ "room": "elsewhere" })))),
            vec![401],
        ),
        ("no join_request", format!("/rtc/v1?access_token={good}"), vec![400]),
        ("join_request that is not base64", v1("!!!not*base64!!!"), vec![400]),
        ("join_request that inflates without end", v1(&bomb()), vec![400, 413]),
        // Within what a proxy would let through, so it must be read and judged.
        ("64 kB URL", v1(&plausible), vec![400]),
        ("300 kB URL", v1(&"A".repeat(300_000)), vec![400, 414]),
    ]
}

/// A join_request of 40 kB, which fits into a URL, that inflates to 30 MiB.
fn bomb() -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..30 {
        encoder.write_all(&zeros).expect("to memory");
    }
    let wrapped = WrappedJoinRequest {
        compression: wrapped_join_request::Compression::Gzip.into(),
        join_request: encoder.finish().expect("to memory"),
    };
    BASE64_URL_SAFE.encode(wrapped.encode_to_vec())
}

/// What is wrong and the frame.
fn bad_frames() -> Vec<(&'static str, Vec<u8>)> {
    let offer = |sdp: String| {
        let description =
            SessionDescription { r#type: "offer".to_owned(), sdp, id: 1, ..SessionDescription::default() };
        livekit_protocol::SignalRequest { message: Some(signal_request::Message::Offer(description)) }
            .encode_to_vec()
    };
    let head = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
    // Short, so that the number of lines is what is wrong and not the size.
    let line = "m=audio 9 RTP/AVP 0\r\n";
    vec![
        ("frame of garbage", vec![0xff; 64]),
        ("frame of noise", noise(4096)),
        ("offer that is no SDP", offer("hello".to_owned())),
        ("offer of 1 MiB", offer(format!("{head}{}", "a=x\r\n".repeat((1 << 20) / 5)))),
        ("offer of 10 000 m-lines", offer(format!("{head}{}", line.repeat(10_000)))),
        ("frame of 3 MiB", vec![0; 3 << 20]),
    ]
}

/// Bytes that look like nothing, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

#[test]
fn a_flood_of_garbage_on_the_media_ports_does_not_disturb_a_call() {
    const RATE: u32 = 10_000;
    const SECONDS: u32 = 3;
    let _turn = alone();
    let mut server = Server::start("flood");
    let sdk = Sdk::start();
    let call = Call::start(&server, &sdk);
    let dropped = |server: &Server| server.metric("sluice_media_packets_dropped_total", &[]);
    let (since, before) = (Instant::now(), dropped(&server));

    let targets = server.media_addresses();
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    let mut random = fastrand::Rng::with_seed(11);
    let began = Instant::now();
    for sent in 0..RATE * SECONDS {
        if sent % 50 == 0 {
            let due = began + Duration::from_secs(1) * sent / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let packet = garbage(&mut random);
        // The kernel may refuse one when the server's queue is full; the next counts.
        let _ = socket.send_to(&packet, targets[sent as usize % targets.len()]);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(u64::from(SECONDS) * 2), "the flood was a trickle: {took:?}");

    call.assert_unharmed(since, 8.0);
    server.assert_alive();
    eventually(Duration::from_secs(3), || match dropped(&server) - before {
        counted if counted > u64::from(RATE) => Ok(()),
        counted => Err(format!("{counted} of {} packets counted as dropped", RATE * SECONDS)),
    });
}

/// The beginning of each protocol on the port (RFC 7983), and noise after it.
fn garbage(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut packet = vec![0; random.usize(1..1400)];
    random.fill(&mut packet);
    let head: &[u8] = match random.u8(0..6) {
        // STUN binding request, its cookie right and its length as it may be.
        0 => &[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42],
        // DTLS 1.2 handshake and application data.
        1 => &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 40, 1],
        2 => &[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 40],
        // RTP and RTCP.
        3 => &[0x90, 96],
        4 => &[0x81, 201, 0, 7],
        _ => &[],
    };
    let length = head.len().min(packet.len());
    packet[..length].copy_from_slice(&head[..length]);
    packet
}
