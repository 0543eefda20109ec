//! The candidate on TCP, and the core behind it: a connectivity check as RFC 6544 has it, beside a call over UDP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use livekit_protocol::signal_response::Message as ToClient;
use sfu::sdp::parse_candidate;
use sfu::transport::framing::{self, HEADER};
use sfu::transport::stun::{self, IceRole, StunMessage, TransactionId};

use super::client::{Client, Mode, start_server};

const TRANSACTION: TransactionId = TransactionId([6; 12]);

/// Sends a check with these credentials; the answer.
fn check(port: u16, (ufrag, pwd): (&str, &str)) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let check = stun::Check {
        transaction: TRANSACTION,
        their_ufrag: ufrag,
        our_ufrag: "them",
        priority: 1,
        role: IceRole::Controlling(1),
        key: &stun::password_key(pwd),
    };
    let (mut datagram, mut frame) = (Vec::new(), Vec::new());
    stun::write_check(&mut datagram, &check);
    framing::write(&mut frame, &datagram);
    stream.write_all(&frame).expect("sent");
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).expect("an answer");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(header))];
    stream.read_exact(&mut answer).expect("all of it");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_over_tcp_is_answered_over_tcp() {
    let server = start_server().await;
    let alice = Client::join(&server, Mode::V1, "alice").await;
    let answer = alice.until("an answer", |journal| {
        journal.signals.iter().find_map(|signal| match signal {
            ToClient::Answer(answer) => Some(answer.sdp.clone()),
            _ => None,
        })
    });
    let answer = answer.await;
    let value =
        |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).expect("in each section");
    let candidate =
        answer.lines().find(|line| line.ends_with("typ host tcptype passive")).expect("one on TCP");
    let port = parse_candidate(candidate).expect("a candidate").port;
    assert_eq!(Some(port), server.tcp_port);

    let (ufrag, pwd) = (value("a=ice-ufrag:"), value("a=ice-pwd:"));
    let reply = check(port, (ufrag, pwd));
    match stun::parse(&reply) {
        Ok(StunMessage::Success(success)) => {
            assert_eq!(success.transaction, TRANSACTION);
            assert!(success.signed.verify(&stun::password_key(pwd)));
        }
        other => panic!("not a success: {other:?}"),
    }
    let reply = check(port, (ufrag, "somebodyelsespassword00"));
    assert!(matches!(stun::parse(&reply), Ok(StunMessage::Error(TRANSACTION))), "{:?}", stun::parse(&reply));
    server.stop().await;
}
