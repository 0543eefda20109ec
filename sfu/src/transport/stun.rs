//! STUN as an ICE-lite server needs it: binding requests read and answered, binding requests of our own
//! (RFC 8489, RFC 8445).
//!
//! Reading borrows from the datagram and allocates nothing, since everybody on the internet can make us do
//! it. `rtc-stun` computes the fingerprint's CRC and is the other side in the tests; its message type is not
//! used, because it accepts attributes behind MESSAGE-INTEGRITY and bytes behind the message, so that the
//! whole walk would have to be repeated here to refuse those.
//!
//! Always: nothing that stands behind MESSAGE-INTEGRITY is believed (RFC 8489 §14.5), except FINGERPRINT; a
//! message fills its datagram exactly.
//! Not here: whose password it is and what an answer leads to (`ice`).

mod write;

use ring::hmac;
use rtc_stun::fingerprint::fingerprint_value;
pub use write::{Check, Refusal, write_check, write_refusal, write_success};

/// RFC 8489 §5.
const HEADER_LEN: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// An ICE check has no reason to exceed one packet of an Ethernet path; libwebrtc's, with a DTLS flight
/// carried inside, stays below 1300.
pub const MAX_MESSAGE: usize = 1500;
/// A check of libwebrtc has about a dozen attributes.
const MAX_ATTRIBUTES: usize = 48;
/// RFC 8839 §5.4: an `ice-ufrag` has at most 256 characters.
pub(super) const MAX_UFRAG: usize = 256;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

// RFC 8489 §18.3 and RFC 8445 §16.1.
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

const INTEGRITY_LEN: usize = 20;
const ATTRIBUTE_HEADER: usize = 4;

/// 96 bits that pair a response with its request (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// The role that the sender of a check believes to have, with its tie-breaker (RFC 8445 §7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceRole {
    /// The sender nominates.
    Controlling(u64),
    /// The sender expects us to nominate.
    Controlled(u64),
}

/// Why a datagram is not a message that we answer as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    /// Not STUN, or damaged: wrong cookie, length or fingerprint, bytes behind the end. Never answered.
    #[error("not a well-formed STUN message")]
    Malformed,
    /// STUN, but neither a binding request nor a response to one. Never answered.
    #[error("not a binding request or response")]
    NotBinding,
    /// A binding request without USERNAME or MESSAGE-INTEGRITY, or with a wrong value in an attribute: 400.
    #[error("bad binding request")]
    BadRequest(TransactionId),
    /// A binding request that demands the understanding of this attribute: 420 (RFC 8489 §6.3.1).
    #[error("unknown attribute {1:#06x}")]
    UnknownAttribute(TransactionId, u16),
}

/// A well-formed message. Nothing in it is authenticated before [`Signed::verify`].
#[derive(Clone, Copy, Debug)]
pub enum StunMessage<'a> {
    /// Somebody checks a path to us.
    Request(BindingRequest<'a>),
    /// Somebody answers a check of ours with success.
    Success(BindingSuccess<'a>),
    /// Somebody refuses a check of ours. It may lack integrity, so nothing follows from it.
    Error(TransactionId),
}

/// A connectivity check (RFC 8445 §7.1).
#[derive(Clone, Copy, Debug)]
pub struct BindingRequest<'a> {
    /// To be echoed.
    pub transaction: TransactionId,
    /// The half of USERNAME before the colon: for the receiver, its own.
    pub local_ufrag: &'a str,
    /// The half behind the colon: the sender's own.
    pub remote_ufrag: &'a str,
    /// Whether USE-CANDIDATE is there.
    pub use_candidate: bool,
    /// ICE-CONTROLLING or ICE-CONTROLLED; `None` when there is neither (RFC 8445 wants one).
    pub role: Option<IceRole>,
    /// The signature.
    pub signed: Signed<'a>,
}

/// An answer to a check of ours.
#[derive(Clone, Copy, Debug)]
pub struct BindingSuccess<'a> {
    /// That of our request.
    pub transaction: TransactionId,
    /// The signature.
    pub signed: Signed<'a>,
}

/// What MESSAGE-INTEGRITY says of a message (RFC 8489 §14.5).
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The message up to the attribute.
    covered: &'a [u8],
    tag: &'a [u8],
}

impl Signed<'_> {
    /// Whether the sender knows the password behind `key`. Takes the same time wherever the tags differ.
    pub fn verify(&self, key: &hmac::Key) -> bool {
        let mut copy = [0; MAX_MESSAGE];
        let Some(covered) = copy.get_mut(..self.covered.len()) else { return false };
        covered.copy_from_slice(self.covered);
        // The signer's length field ended behind the attribute, whatever followed later.
        let signed_len = self.covered.len() + ATTRIBUTE_HEADER + INTEGRITY_LEN - HEADER_LEN;
        covered[2..4].copy_from_slice(&(signed_len as u16).to_be_bytes());
        hmac::verify(key, covered, self.tag).is_ok()
    }
}

/// The key that a short-term password stands for (RFC 8489 §9.1.1). ICE passwords are ASCII, which
/// `OpaqueString` leaves as it is.
pub fn password_key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

/// The receiver's username fragment of a binding request, before any cryptography: tells whose it is.
///
/// `None` if there is none, if it is outside the grammar (RFC 8839 §5.4: `ice-char`s, at most 256), and for
/// anything but a binding request. Responses carry none: route them by address.
pub fn peek_local_ufrag(datagram: &[u8]) -> Option<&str> {
    let header = Header::read(datagram)?;
    if header.kind != BINDING_REQUEST {
        return None;
    }
    for attribute in Attributes::of(datagram) {
        let attribute = attribute?;
        match attribute.kind {
            USERNAME => return split_username(attribute.value).map(|(local, _)| local),
            MESSAGE_INTEGRITY => return None,
            _ => {}
        }
    }
    None
}

/// Reads one message that must fill `datagram` exactly.
///
/// # Errors
/// See [`StunError`]: the variants with a transaction id can be answered, the others are dropped in silence.
pub fn parse(datagram: &[u8]) -> Result<StunMessage<'_>, StunError> {
    let header = Header::read(datagram).ok_or(StunError::Malformed)?;
    let transaction = header.transaction;
    let mut username = None;
    let mut use_candidate = false;
    let mut controlling = None;
    let mut controlled = None;
    let mut signed = None;
    let mut unknown = None;
    let mut bad_value = false;
    let mut end = false;

    for attribute in Attributes::of(datagram) {
        let attribute = attribute.ok_or(StunError::Malformed)?;
        let value = attribute.value;
        if end {
            return Err(StunError::Malformed); // FINGERPRINT is the last (RFC 8489 §14.7)
        }
        match attribute.kind {
            FINGERPRINT => {
                let expected = fingerprint_value(&datagram[..attribute.at]).to_be_bytes();
                if value != expected {
                    return Err(StunError::Malformed);
                }
                end = true;
            }
            _ if signed.is_some() => {} // not covered, so not believed
            MESSAGE_INTEGRITY if value.len() == INTEGRITY_LEN => {
                signed = Some(Signed { covered: &datagram[..attribute.at], tag: value });
            }
            // Of an attribute that comes twice the first counts (RFC 8489 §14).
            USERNAME => username = username.or(Some(value)),
            USE_CANDIDATE => use_candidate = true,
            ICE_CONTROLLING => {
                controlling = controlling.or_else(|| value.try_into().ok().map(u64::from_be_bytes));
            }
            ICE_CONTROLLED => {
                controlled = controlled.or_else(|| value.try_into().ok().map(u64::from_be_bytes));
            }
            PRIORITY => bad_value |= value.len() != 4, // a lite agent makes no use of it
            MESSAGE_INTEGRITY => bad_value = true,
            ERROR_CODE | XOR_MAPPED_ADDRESS => {}
            kind if kind < 0x8000 => unknown = unknown.or(Some(kind)),
            _ => {}
        }
    }

    match header.kind {
        BINDING_REQUEST => {
            let (Some(username), Some(signed), false) = (username, signed, bad_value) else {
                return Err(StunError::BadRequest(transaction));
            };
            let (local_ufrag, remote_ufrag) =
                split_username(username).ok_or(StunError::BadRequest(transaction))?;
            if let Some(kind) = unknown {
                return Err(StunError::UnknownAttribute(transaction, kind));
            }
            let role = match (controlling, controlled) {
                (Some(tie_breaker), None) => Some(IceRole::Controlling(tie_breaker)),
                (None, Some(tie_breaker)) => Some(IceRole::Controlled(tie_breaker)),
                (None, None) => None,
                (Some(_), Some(_)) => return Err(StunError::BadRequest(transaction)),
            };
            Ok(StunMessage::Request(BindingRequest {
                transaction,
                local_ufrag,
                remote_ufrag,
                use_candidate,
                role,
                signed,
            }))
        }
        BINDING_SUCCESS => match signed {
            Some(signed) => Ok(StunMessage::Success(BindingSuccess { transaction, signed })),
            None => Err(StunError::Malformed),
        },
        BINDING_ERROR => Ok(StunMessage::Error(transaction)),
        _ => Err(StunError::NotBinding),
    }
}

/// RFC 8445 §7.2.2: the receiver's fragment, a colon, the sender's fragment.
fn split_username(value: &[u8]) -> Option<(&str, &str)> {
    let (local, remote) = std::str::from_utf8(value).ok()?.split_once(':')?;
    (is_ice_chars(local) && is_ice_chars(remote)).then_some((local, remote))
}

/// RFC 8839 §5.4, without the lower bound: an unknown fragment is refused anyway.
pub(super) fn is_ice_chars(text: &str) -> bool {
    (1..=MAX_UFRAG).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
}

struct Header {
    kind: u16,
    transaction: TransactionId,
}

impl Header {
    /// `None` unless `datagram` is one whole message by its header (RFC 8489 §5).
    fn read(datagram: &[u8]) -> Option<Header> {
        let (header, body) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let whole = length == body.len() && length.is_multiple_of(4) && datagram.len() <= MAX_MESSAGE;
        if kind & 0xc000 != 0 || header[4..8] != MAGIC_COOKIE || !whole {
            return None;
        }
        let transaction = TransactionId(header[8..].try_into().expect("20 bytes less 8"));
        Some(Header { kind, transaction })
    }
}

struct Attribute<'a> {
    kind: u16,
    /// Where its header starts, from the start of the message.
    at: usize,
    value: &'a [u8],
}

/// Walks over attributes; an item of `None` ends it: the rest cannot be attributes, or there are too many.
struct Attributes<'a> {
    datagram: &'a [u8],
    at: usize,
    seen: usize,
}

impl<'a> Attributes<'a> {
    /// `datagram` must have passed `Header::read`.
    fn of(datagram: &'a [u8]) -> Attributes<'a> {
        Attributes { datagram, at: HEADER_LEN, seen: 0 }
    }

    fn read(&self) -> Option<(Attribute<'a>, usize)> {
        let rest = self.datagram.get(self.at..)?;
        let (header, rest) = rest.split_first_chunk::<ATTRIBUTE_HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let padded = length.next_multiple_of(4);
        if padded > rest.len() || self.seen >= MAX_ATTRIBUTES {
            return None;
        }
        let kind = u16::from_be_bytes([header[0], header[1]]);
        Some((Attribute { kind, at: self.at, value: &rest[..length] }, ATTRIBUTE_HEADER + padded))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<Attribute<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.datagram.len() {
            return None;
        }
        if let Some((attribute, length)) = self.read() {
            self.at += length;
            self.seen += 1;
            Some(Some(attribute))
        } else {
            self.at = self.datagram.len();
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests;
