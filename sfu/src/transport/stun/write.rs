//! The messages that we send: answers to checks, and checks of our own.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;
use rtc_stun::fingerprint::fingerprint_value;

use super::{
    ATTRIBUTE_HEADER, BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, ERROR_CODE, FINGERPRINT, HEADER_LEN,
    ICE_CONTROLLED, ICE_CONTROLLING, INTEGRITY_LEN, IceRole, MAGIC_COOKIE, MESSAGE_INTEGRITY, PRIORITY,
    TransactionId, UNKNOWN_ATTRIBUTES, USERNAME, XOR_MAPPED_ADDRESS,
};

/// Writes the success response to a check that came from `mapped` (RFC 8445 §7.3.1.2) over `out`.
///
/// An IPv4 address in IPv6 clothes, as a dual-stack socket has it, is written as IPv4.
pub fn write_success(out: &mut Vec<u8>, transaction: TransactionId, mapped: SocketAddr, key: &hmac::Key) {
    let mut value = [0; 20];
    value[1] = 1; // family
    value[2..4].copy_from_slice(&mapped.port().to_be_bytes());
    let length = match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            value[4..20].copy_from_slice(&ip.octets());
            20
        }
    };
    // RFC 8489 §14.2: port and address are XORed with the cookie, the latter with the transaction id too.
    let mask = MAGIC_COOKIE.iter().chain(&transaction.0);
    value[4..length].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    value[2] ^= MAGIC_COOKIE[0];
    value[3] ^= MAGIC_COOKIE[1];

    let mut message = Writer::start(out, BINDING_SUCCESS, transaction);
    message.attribute(XOR_MAPPED_ADDRESS, &value[..length]);
    message.sign(key);
    message.finish();
}

/// Why a request is refused (RFC 8489 §14.8, RFC 8445 §7.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400
    BadRequest,
    /// 401: no such username fragment, or another password.
    Unauthenticated,
    /// 420, with the attribute that is not understood.
    UnknownAttribute(u16),
    /// 487: both sides believe to be controlled.
    RoleConflict,
}

impl Refusal {
    const fn code(self) -> (u16, &'static [u8]) {
        match self {
            Refusal::BadRequest => (400, b"Bad Request"),
            Refusal::Unauthenticated => (401, b"Unauthenticated"),
            Refusal::UnknownAttribute(_) => (420, b"Unknown Attribute"),
            Refusal::RoleConflict => (487, b"Role Conflict"),
        }
    }
}

/// Writes an error response over `out`; signed where the request was authenticated (RFC 8489 §9.1.3).
pub fn write_refusal(
    out: &mut Vec<u8>,
    transaction: TransactionId,
    refusal: Refusal,
    key: Option<&hmac::Key>,
) {
    let (code, reason) = refusal.code();
    let mut message = Writer::start(out, BINDING_ERROR, transaction);
    message.attribute_of_parts(ERROR_CODE, &[&[0, 0, (code / 100) as u8, (code % 100) as u8], reason]);
    if let Refusal::UnknownAttribute(kind) = refusal {
        message.attribute(UNKNOWN_ATTRIBUTES, &kind.to_be_bytes());
    }
    if let Some(key) = key {
        message.sign(key);
    }
    message.finish();
}

/// What a check of our own says.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// Ties the answer to it.
    pub transaction: TransactionId,
    /// The receiver's username fragment…
    pub their_ufrag: &'a str,
    /// …and ours.
    pub our_ufrag: &'a str,
    /// The priority that a candidate learned from it would have (RFC 8445 §7.1.1).
    pub priority: u32,
    /// Our role.
    pub role: IceRole,
    /// The key of the receiver's password.
    pub key: &'a hmac::Key,
}

/// Writes a binding request over `out`.
pub fn write_check(out: &mut Vec<u8>, check: &Check<'_>) {
    let mut message = Writer::start(out, BINDING_REQUEST, check.transaction);
    let username: [&[u8]; 3] = [check.their_ufrag.as_bytes(), b":", check.our_ufrag.as_bytes()];
    message.attribute_of_parts(USERNAME, &username);
    message.attribute(PRIORITY, &check.priority.to_be_bytes());
    match check.role {
        IceRole::Controlling(tie_breaker) => message.attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes()),
        IceRole::Controlled(tie_breaker) => message.attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes()),
    }
    message.sign(check.key);
    message.finish();
}

/// Builds one message; `finish` adds the fingerprint. Attributes come from us, so lengths always fit.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn start(out: &'a mut Vec<u8>, kind: u16, transaction: TransactionId) -> Writer<'a> {
        out.clear();
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE);
        out.extend_from_slice(&transaction.0);
        Writer { out }
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.attribute_of_parts(kind, &[value]);
    }

    fn attribute_of_parts(&mut self, kind: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&(length as u16).to_be_bytes());
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    /// The length field must already count the attribute that the digest goes into.
    fn set_length(&mut self, coming: usize) {
        let length = self.out.len() + coming - HEADER_LEN;
        self.out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    }

    pub(super) fn sign(&mut self, key: &hmac::Key) {
        self.set_length(ATTRIBUTE_HEADER + INTEGRITY_LEN);
        let tag = hmac::sign(key, self.out);
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
    }

    pub(super) fn finish(mut self) {
        self.set_length(ATTRIBUTE_HEADER + 4);
        let crc = fingerprint_value(self.out);
        self.attribute(FINGERPRINT, &crc.to_be_bytes());
    }
}
