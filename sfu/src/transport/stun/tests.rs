use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rtc_stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
};
use rtc_stun::error_code::{CODE_ROLE_CONFLICT, CODE_UNKNOWN_ATTRIBUTE, ErrorCodeAttribute};
use rtc_stun::fingerprint::FINGERPRINT as TheirFingerprint;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST as THEIR_REQUEST, Getter, Message, Setter};
use rtc_stun::xoraddr::XorMappedAddress;

use super::write::Writer;
use super::*;

const PASSWORD: &str = "correcthorsebatterystaple";

/// A check as `rtc-stun` writes it.
fn check_by_rtc_stun(extra: &[(AttrType, &[u8])]) -> Vec<u8> {
    let provider = rtc_crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.set_type(THEIR_REQUEST);
    message.write_header();
    rtc_stun::message::TransactionId([7; 12]).add_to(&mut message).unwrap();
    message.add(ATTR_USERNAME, b"ours1234:them");
    message.add(ATTR_PRIORITY, &[0, 0, 0, 1]);
    for (kind, value) in extra {
        message.add(*kind, value);
    }
    MessageIntegrity::new_short_term_integrity_with_provider(PASSWORD.to_owned(), provider.crypto())
        .add_to(&mut message)
        .unwrap();
    TheirFingerprint.add_to(&mut message).unwrap();
    message.raw
}

fn read_by_rtc_stun(bytes: &[u8], password: Option<&str>) -> Message {
    let provider = rtc_crypto::default_provider().unwrap();
    let mut message = Message::new();
    message.unmarshal_binary(bytes).unwrap();
    TheirFingerprint.check(&message).unwrap();
    if let Some(password) = password {
        MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).unwrap();
    }
    message
}

fn request(bytes: &[u8]) -> BindingRequest<'_> {
    match parse(bytes) {
        Ok(StunMessage::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// Appends an attribute and corrects the header's length, as somebody without the password can.
fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    Writer { out: bytes }.attribute(kind, value);
    let length = (bytes.len() - HEADER_LEN) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

#[test]
fn a_check_of_another_implementation_is_read_and_verified() {
    let bytes = check_by_rtc_stun(&[(ATTR_USE_CANDIDATE, &[]), (ATTR_ICE_CONTROLLING, &9u64.to_be_bytes())]);
    let request = request(&bytes);
    assert_eq!((request.local_ufrag, request.remote_ufrag), ("ours1234", "them"));
    assert_eq!(request.transaction, TransactionId([7; 12]));
    assert_eq!(request.role, Some(IceRole::Controlling(9)));
    assert!(request.use_candidate);
    assert!(request.signed.verify(&password_key(PASSWORD)));
    assert!(!request.signed.verify(&password_key("correcthorsebatterystaplf")));
    assert_eq!(peek_local_ufrag(&bytes), Some("ours1234"));
}

#[test]
fn a_changed_bit_in_what_is_signed_is_noticed() {
    let key = password_key(PASSWORD);
    let original = check_by_rtc_stun(&[(ATTR_USE_CANDIDATE, &[])]);
    let fingerprint = original.len() - 8; // its type may become one that is nobody's problem
    for bit in 0..fingerprint * 8 {
        let mut bytes = original.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let accepted = matches!(parse(&bytes), Ok(StunMessage::Request(r)) if r.signed.verify(&key));
        assert!(!accepted, "bit {bit}");
    }
}

#[test]
fn what_stands_behind_the_signature_is_not_believed() {
    let key = password_key(PASSWORD);
    let signed_only = |extra: &[(AttrType, &[u8])]| {
        let mut bytes = check_by_rtc_stun(extra);
        bytes.truncate(bytes.len() - 8); // without the fingerprint
        let length = (bytes.len() - HEADER_LEN) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let mut bytes = signed_only(&[]);
    assert!(request(&bytes).signed.verify(&key), "a fingerprint is not what authenticates");
    append(&mut bytes, USE_CANDIDATE, &[]);
    append(&mut bytes, ICE_CONTROLLED, &[0; 8]);
    append(&mut bytes, USERNAME, b"else:where");
    let read = request(&bytes);
    assert!(read.signed.verify(&key));
    assert!(!read.use_candidate);
    assert_eq!(read.role, None);
    assert_eq!(read.local_ufrag, "ours1234");

    let mut nothing_before = Vec::new();
    Writer::start(&mut nothing_before, BINDING_REQUEST, TransactionId([0; 12])).sign(&key);
    append(&mut nothing_before, USERNAME, b"ours1234:them");
    assert_eq!(peek_local_ufrag(&nothing_before), None);
    assert!(matches!(parse(&nothing_before), Err(StunError::BadRequest(_))));
}

#[test]
fn a_message_fills_its_datagram_exactly() {
    let bytes = check_by_rtc_stun(&[]);
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[0; 4]);
    assert_eq!(parse(&longer).unwrap_err(), StunError::Malformed);
    assert_eq!(peek_local_ufrag(&longer), None);
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "cut to {length}");
        assert_eq!(peek_local_ufrag(&bytes[..length]), None, "cut to {length}");
    }
    let mut after_fingerprint = bytes;
    append(&mut after_fingerprint, 0x8022, b"more");
    assert!(parse(&after_fingerprint).is_err());
}

#[test]
fn requests_without_credentials_are_bad_and_unknown_demands_are_named() {
    let transaction = TransactionId([3; 12]);
    let mut bytes = Vec::new();
    Writer::start(&mut bytes, BINDING_REQUEST, transaction).finish();
    assert_eq!(parse(&bytes).unwrap_err(), StunError::BadRequest(transaction));

    let bytes = check_by_rtc_stun(&[(AttrType(0x7abc), &[1])]);
    assert_eq!(parse(&bytes).unwrap_err(), StunError::UnknownAttribute(TransactionId([7; 12]), 0x7abc));
    let bytes = check_by_rtc_stun(&[(AttrType(0xc057), &[0, 1, 0, 5])]);
    assert!(parse(&bytes).is_ok(), "an optional attribute is nobody's problem");
    let both: [(AttrType, &[u8]); 2] = [(ATTR_ICE_CONTROLLED, &[0; 8]), (ATTR_ICE_CONTROLLING, &[0; 8])];
    assert!(matches!(parse(&check_by_rtc_stun(&both)), Err(StunError::BadRequest(_))));
}

#[test]
fn size_and_number_of_attributes_are_bounded() {
    let many = |count: usize| {
        let extra: Vec<(AttrType, &[u8])> = vec![(AttrType(0xc000), &[]); count];
        check_by_rtc_stun(&extra)
    };
    assert!(parse(&many(MAX_ATTRIBUTES - 4)).is_ok());
    assert_eq!(parse(&many(MAX_ATTRIBUTES - 3)).unwrap_err(), StunError::Malformed);
    let large = check_by_rtc_stun(&[(AttrType(0xc000), &[0; MAX_MESSAGE])]);
    assert_eq!(parse(&large).unwrap_err(), StunError::Malformed);

    let name = |half: usize| format!("{}:{}", "a".repeat(half), "b".repeat(half));
    assert!(split_username(name(MAX_UFRAG).as_bytes()).is_some());
    assert!(split_username(name(MAX_UFRAG + 1).as_bytes()).is_none());
    for bad in ["", ":", "a:", ":b", "a b:c", "a:b:c", "ä:b"] {
        assert!(split_username(bad.as_bytes()).is_none(), "{bad:?}");
    }
}

#[test]
fn answers_are_understood_by_another_implementation() {
    let key = password_key(PASSWORD);
    let transaction = TransactionId([0x5a; 12]);
    let v4 = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 40_000));
    let v6 = SocketAddr::from(("2001:db8::77".parse::<Ipv6Addr>().unwrap(), 1));
    let mapped = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9).to_ipv6_mapped(), 40_000));
    for (from, seen) in [(v4, v4), (v6, v6), (mapped, v4)] {
        let mut out = vec![1, 2, 3];
        write_success(&mut out, transaction, from, &key);
        let message = read_by_rtc_stun(&out, Some(PASSWORD));
        let mut address = XorMappedAddress::default();
        address.get_from(&message).unwrap();
        assert_eq!(SocketAddr::new(address.ip, address.port), seen);
        assert_eq!(message.transaction_id.0, transaction.0);
    }

    let mut out = Vec::new();
    write_refusal(&mut out, transaction, Refusal::RoleConflict, Some(&key));
    let mut code = ErrorCodeAttribute::default();
    code.get_from(&read_by_rtc_stun(&out, Some(PASSWORD))).unwrap();
    assert_eq!(code.code.0, CODE_ROLE_CONFLICT.0);
    write_refusal(&mut out, transaction, Refusal::UnknownAttribute(0x7abc), None);
    code.get_from(&read_by_rtc_stun(&out, None)).unwrap();
    assert_eq!(code.code.0, CODE_UNKNOWN_ATTRIBUTE.0);
}

#[test]
fn our_own_check_is_a_check() {
    let key = password_key(PASSWORD);
    let check = Check {
        transaction: TransactionId([9; 12]),
        their_ufrag: "them",
        our_ufrag: "ours1234",
        priority: 1,
        role: IceRole::Controlled(0),
        key: &key,
    };
    let mut out = Vec::new();
    write_check(&mut out, &check);
    read_by_rtc_stun(&out, Some(PASSWORD));
    let read = request(&out);
    assert_eq!((read.local_ufrag, read.remote_ufrag), ("them", "ours1234"));
    assert_eq!(read.role, Some(IceRole::Controlled(0)));
    assert!(read.signed.verify(&key));
}

#[test]
fn mutations_never_panic() {
    let mut rng = fastrand::Rng::with_seed(8489);
    let key = password_key(PASSWORD);
    let original = check_by_rtc_stun(&[(ATTR_USE_CANDIDATE, &[]), (ATTR_ICE_CONTROLLING, &[1; 8])]);
    for _ in 0..20_000 {
        let mut bytes = original.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        bytes.truncate(rng.usize(..=bytes.len()));
        if rng.bool() && bytes.len() >= HEADER_LEN {
            let length = (bytes.len() - HEADER_LEN) as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
        }
        let _ = peek_local_ufrag(&bytes);
        if let Ok(StunMessage::Request(request)) = parse(&bytes) {
            let _ = request.signed.verify(&key);
        }
    }
}
