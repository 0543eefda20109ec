use super::*;
use crate::writer::{MessageWriter, write_channel_data};

/// RFC 5769 §2.4: a request with a long-term credential.
const LONG_TERM_REQUEST: &[u8] = b"\
    \x00\x01\x00\x60\x21\x12\xa4\x42\x78\xad\x34\x33\xc6\xad\x72\xc0\x29\xda\x41\x2e\
    \x00\x06\x00\x12\xe3\x83\x9e\xe3\x83\x88\xe3\x83\xaa\xe3\x83\x83\xe3\x82\xaf\xe3\x82\xb9\x00\x00\
    \x00\x15\x00\x1c\x66\x2f\x2f\x34\x39\x39\x6b\x39\x35\x34\x64\x36\x4f\x4c\x33\x34\x6f\x4c\x39\x46\
    \x53\x54\x76\x79\x36\x34\x73\x41\
    \x00\x14\x00\x0b\x65\x78\x61\x6d\x70\x6c\x65\x2e\x6f\x72\x67\x00\
    \x00\x08\x00\x14\xf6\x70\x24\x65\x6d\xd6\x4a\x3e\x02\xb8\xe0\x71\x2e\x85\xc9\xa2\x8c\xa8\x96\x66";

/// RFC 5769 §2.2: an IPv4 answer, 192.0.2.1 port 32853, with a short-term credential and FINGERPRINT.
const IPV4_RESPONSE: &[u8] = b"\
    \x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
    \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\
    \x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
    \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
    \x80\x28\x00\x04\xc0\x7d\x4c\x96";

fn message(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    match Packet::read(bytes)? {
        Packet::Message(message) => Ok(message),
        Packet::ChannelData { .. } => panic!("ChannelData"),
    }
}

#[test]
fn the_long_term_credential_of_the_test_vector_is_right() {
    let request = message(LONG_TERM_REQUEST).expect("RFC 5769 §2.4");
    let username = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
    assert_eq!(request.text(kind::USERNAME, 508), Some(username));
    assert_eq!(request.text(kind::REALM, 127), Some("example.org"));
    assert!(request.is_signed_by(&long_term_key(username, "example.org", "TheMatrIX")));
    assert!(!request.is_signed_by(&long_term_key(username, "example.org", "TheMatrix")));
    for at in 20..LONG_TERM_REQUEST.len() - 24 {
        let mut bent = LONG_TERM_REQUEST.to_vec();
        bent[at] ^= 1;
        let believed = message(&bent)
            .is_ok_and(|bent| bent.is_signed_by(&long_term_key(username, "example.org", "TheMatrIX")));
        assert!(!believed, "byte {at}");
    }
}

#[test]
fn addresses_and_fingerprint_of_the_test_vector_are_read() {
    let response = message(IPV4_RESPONSE).expect("RFC 5769 §2.2");
    assert!(response.has_fingerprint() && response.class == Class::Success);
    let addresses: Vec<_> = response.addresses(kind::XOR_MAPPED_ADDRESS).collect();
    assert_eq!(addresses, [Some("192.0.2.1:32853".parse().unwrap())]);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"VOkJxbRl1RmTxUk/WvJxBt");
    assert!(response.is_signed_by(&key));
    let mut bent = IPV4_RESPONSE.to_vec();
    *bent.last_mut().unwrap() ^= 1;
    assert!(message(&bent).is_err());
}

#[test]
fn what_is_written_is_read_back() {
    let (mut out, key) = (Vec::new(), long_term_key("1:a", "sluice", "p"));
    let transaction = TransactionId(*b"0123456789ab");
    for peer in ["192.0.2.7:7882", "[2001:db8::7]:7882"].map(|text| text.parse::<SocketAddr>().unwrap()) {
        for (_, method) in Method::ALL {
            for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
                let mut writer = MessageWriter::start(&mut out, method, class, transaction);
                writer.address(kind::XOR_PEER_ADDRESS, peer).attribute(kind::DATA, b"12345");
                writer.sign(&key).fingerprint().finish();
                let read = message(&out).expect("our own");
                assert_eq!((read.method, read.class, read.transaction), (Some(method), class, transaction));
                assert_eq!(read.addresses(kind::XOR_PEER_ADDRESS).next(), Some(Some(peer)));
                assert_eq!(read.attribute(kind::DATA), Some(&b"12345"[..]));
                assert!(read.is_signed_by(&key));
            }
        }
    }
    write_channel_data(&mut out, 0x4001, b"12345", true);
    assert_eq!(out.len(), 12);
    let Ok(Packet::ChannelData { channel, payload }) = Packet::read(&out) else { panic!() };
    assert_eq!((channel, payload), (0x4001, &b"12345"[..]));
}

#[test]
fn nothing_behind_the_signature_is_believed() {
    let (mut out, key) = (Vec::new(), long_term_key("1:a", "sluice", "p"));
    let mut writer = MessageWriter::start(&mut out, Method::Allocate, Class::Request, TransactionId([7; 12]));
    writer.attribute(kind::LIFETIME, &[0, 0, 0, 1]).sign(&key);
    writer.attribute(kind::REALM, b"late").attribute(0x7fff, b"").finish();
    let read = message(&out).expect("well-formed");
    assert!(read.is_signed_by(&key));
    assert_eq!((read.number(kind::LIFETIME), read.attribute(kind::REALM)), (Some(1), None));
    assert!(read.unknown(&[]).kinds().iter().all(|kind| *kind == kind::LIFETIME));
}

#[test]
fn what_is_no_packet_is_refused() {
    let whole = LONG_TERM_REQUEST;
    for end in 0..whole.len() {
        assert!(Packet::read(&whole[..end]).is_err(), "cut at {end}");
    }
    let longer = [whole, &[0]].concat();
    assert!(Packet::read(&longer).is_err());
    assert!(Packet::read(&vec![0x40; MAX_PACKET + 1]).is_err());
    assert!(Packet::read(&[0x40, 0, 0, 1]).is_err());
    assert!(Packet::read(&[0x80; 40]).is_err());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let mut with_cookie = bytes.clone();
        if with_cookie.len() >= 20 {
            with_cookie[0] &= 0x3f;
            let length = (with_cookie.len() - 20) as u16;
            with_cookie[2..4].copy_from_slice(&length.to_be_bytes());
            with_cookie[4..8].copy_from_slice(&MAGIC_COOKIE);
        }
        for bytes in [bytes, with_cookie] {
            if let Ok(Packet::Message(message)) = Packet::read(&bytes) {
                let _ = message.addresses(kind::XOR_PEER_ADDRESS).count();
                let _ = message.is_signed_by(&long_term_key("a", "b", "c"));
                assert!(message.unknown(&[]).kinds().len() <= MAX_UNKNOWN);
            }
        }
    }
}
