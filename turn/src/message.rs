//! STUN messages and ChannelData as a TURN server reads them (RFC 8489 §5, RFC 8656 §12).
//!
//! Reading borrows from the packet and allocates nothing. Always: nothing behind MESSAGE-INTEGRITY is found
//! (RFC 8489 §14.5); a FINGERPRINT that is there is right and the last.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use md5::{Digest as _, Md5};
use ring::hmac;
use rtc_stun::fingerprint::fingerprint_value;

/// RFC 8489 §5.
pub(crate) const HEADER_LEN: usize = 20;
/// RFC 8656 §12.4.
pub(crate) const CHANNEL_HEADER_LEN: usize = 4;
pub(crate) const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The longest packet taken: a datagram of an Ethernet path and what Send adds to it, with room.
pub const MAX_PACKET: usize = 2048;
/// An authenticated request has about ten; CreatePermission one for each peer.
const MAX_ATTRIBUTES: usize = 64;
/// Attributes named in one UNKNOWN-ATTRIBUTES; a server may leave out the rest.
const MAX_UNKNOWN: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
pub(crate) const INTEGRITY_LEN: usize = 20;

/// Attribute types (RFC 8489 §18.3, RFC 8656 §18).
#[expect(missing_docs, reason = "named as in the RFC")]
pub mod kind {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    pub const LIFETIME: u16 = 0x000d;
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub const DATA: u16 = 0x0013;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub const EVEN_PORT: u16 = 0x0018;
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const RESERVATION_TOKEN: u16 = 0x0022;
    pub const FINGERPRINT: u16 = 0x8028;
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// RFC 8489 §18.2.
    Binding,
    /// RFC 8656 §17, this and the rest.
    Allocate,
    /// Keeps an allocation, or ends it.
    Refresh,
    /// An indication of the client's: data to a peer without a channel.
    Send,
    /// An indication of ours: data of a peer without a channel.
    Data,
    /// Lets peers in.
    CreatePermission,
    /// Gives a peer a number.
    ChannelBind,
}

impl Method {
    const ALL: [(u16, Method); 7] = [
        (0x001, Method::Binding),
        (0x003, Method::Allocate),
        (0x004, Method::Refresh),
        (0x006, Method::Send),
        (0x007, Method::Data),
        (0x008, Method::CreatePermission),
        (0x009, Method::ChannelBind),
    ];

    pub(crate) fn code(self) -> u16 {
        Method::ALL.iter().find(|(_, method)| *method == self).map_or(0, |(code, _)| *code)
    }
}

/// RFC 8489 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Good answer.
    Success,
    /// Bad answer.
    Error,
}

impl Class {
    pub(crate) const fn bits(self) -> u16 {
        match self {
            Class::Request => 0x000,
            Class::Indication => 0x010,
            Class::Success => 0x100,
            Class::Error => 0x110,
        }
    }
}

/// Pairs an answer with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

/// A packet is neither a STUN message nor ChannelData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// One packet of a client's.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// STUN.
    Message(Message<'a>),
    /// RFC 8656 §12.4.
    ChannelData {
        /// 0x4000 to 0x7fff; which are in use is another question.
        channel: u16,
        /// Without padding.
        payload: &'a [u8],
    },
}

impl<'a> Packet<'a> {
    /// Reads one packet, of which `bytes` is all.
    ///
    /// # Errors
    /// [`Malformed`]; such a packet is never answered.
    pub fn read(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        if bytes.len() > MAX_PACKET {
            return Err(Malformed);
        }
        match bytes.first().ok_or(Malformed)? >> 6 {
            0 => Message::read(bytes).map(Packet::Message),
            1 => {
                let (header, rest) = bytes.split_first_chunk::<CHANNEL_HEADER_LEN>().ok_or(Malformed)?;
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let payload = rest.get(..length).ok_or(Malformed)?;
                Ok(Packet::ChannelData { channel: u16::from_be_bytes([header[0], header[1]]), payload })
            }
            _ => Err(Malformed),
        }
    }
}

/// A well-formed STUN message; nothing in it is authenticated before [`Message::is_signed_by`].
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it asks for; `None`: nothing that we know.
    pub method: Option<Method>,
    /// Whether it wants an answer.
    pub class: Class,
    /// To be echoed.
    pub transaction: TransactionId,
    /// The type as it came, for the answer.
    pub(crate) raw_method: u16,
    bytes: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins, and the end without it: what is behind is not believed.
    signed_end: usize,
    tag: Option<&'a [u8]>,
    has_fingerprint: bool,
}

impl<'a> Message<'a> {
    fn read(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[4..8] != MAGIC_COOKIE || length != body.len() || !length.is_multiple_of(4) {
            return Err(Malformed);
        }
        let typed = u16::from_be_bytes([header[0], header[1]]);
        let class = match typed & 0x0110 {
            0x000 => Class::Request,
            0x010 => Class::Indication,
            0x100 => Class::Success,
            _ => Class::Error,
        };
        // RFC 8489 §5: the class's two bits lie between the method's.
        let raw_method = typed & 0x000f | (typed & 0x00e0) >> 1 | (typed & 0x3e00) >> 2;
        let method = Method::ALL.iter().find(|(code, _)| *code == raw_method).map(|(_, method)| *method);
        let mut message = Message {
            method,
            class,
            transaction: TransactionId(header[8..].try_into().expect("20 bytes less 8")),
            raw_method,
            bytes,
            signed_end: bytes.len(),
            tag: None,
            has_fingerprint: false,
        };
        for (seen, attribute) in (Attributes { bytes, at: HEADER_LEN }).enumerate() {
            let attribute = attribute.filter(|_| seen < MAX_ATTRIBUTES).ok_or(Malformed)?;
            if message.has_fingerprint {
                return Err(Malformed); // RFC 8489 §14.7: it is the last
            }
            match attribute.kind {
                kind::FINGERPRINT => {
                    let expected = fingerprint_value(&bytes[..attribute.at]).to_be_bytes();
                    if attribute.value != expected {
                        return Err(Malformed);
                    }
                    message.has_fingerprint = true;
                    message.signed_end = message.signed_end.min(attribute.at);
                }
                kind::MESSAGE_INTEGRITY if message.tag.is_none() => {
                    if attribute.value.len() != INTEGRITY_LEN {
                        return Err(Malformed);
                    }
                    message.tag = Some(attribute.value);
                    message.signed_end = attribute.at;
                }
                _ => {}
            }
        }
        Ok(message)
    }

    /// Bytes on the wire.
    pub const fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Whether MESSAGE-INTEGRITY is there, right or wrong.
    pub const fn is_signed(&self) -> bool {
        self.tag.is_some()
    }

    /// Whether the sender wants answers with a FINGERPRINT.
    pub const fn has_fingerprint(&self) -> bool {
        self.has_fingerprint
    }

    /// Whether the sender knows `key`. Takes the same time wherever the tags differ.
    pub fn is_signed_by(&self, key: &hmac::Key) -> bool {
        let Some(tag) = self.tag else { return false };
        let mut covered = [0; MAX_PACKET];
        let covered = &mut covered[..self.signed_end];
        covered.copy_from_slice(&self.bytes[..self.signed_end]);
        // The signer's length field ended behind the attribute.
        let length = self.signed_end + ATTRIBUTE_HEADER + INTEGRITY_LEN - HEADER_LEN;
        covered[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        hmac::verify(key, covered, tag).is_ok()
    }

    /// The first attribute of that type.
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        self.attributes(kind).next()
    }

    /// All of that type, in order.
    pub fn attributes(&self, kind: u16) -> impl Iterator<Item = &'a [u8]> {
        let believed = &self.bytes[..self.signed_end];
        let all = Attributes { bytes: believed, at: HEADER_LEN }.flatten();
        all.filter(move |attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    /// The same as text, at most `longest` bytes.
    pub fn text(&self, kind: u16, longest: usize) -> Option<&'a str> {
        self.attribute(kind)
            .filter(|value| value.len() <= longest)
            .and_then(|value| str::from_utf8(value).ok())
    }

    /// A 32-bit number.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.attribute(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Addresses of a type whose values are XORed (RFC 8489 §14.2); `None` for one that is none.
    pub fn addresses(&self, kind: u16) -> impl Iterator<Item = Option<SocketAddr>> {
        let transaction = self.transaction;
        self.attributes(kind).map(move |value| read_xor_address(value, transaction))
    }

    /// Types below 0x8000 that are not in `known`: the sender wants them understood (RFC 8489 §14). At most four.
    pub fn unknown(&self, known: &[u16]) -> Unknown {
        let mut unknown = Unknown::default();
        let believed = &self.bytes[..self.signed_end];
        for attribute in (Attributes { bytes: believed, at: HEADER_LEN }).flatten() {
            let is_unknown = attribute.kind < 0x8000 && !known.contains(&attribute.kind);
            if is_unknown && unknown.count < MAX_UNKNOWN {
                unknown.kinds[unknown.count] = attribute.kind;
                unknown.count += 1;
            }
        }
        unknown
    }
}

/// Attributes that were not understood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unknown {
    kinds: [u16; MAX_UNKNOWN],
    count: usize,
}

impl Unknown {
    /// Their types.
    pub fn kinds(&self) -> &[u16] {
        &self.kinds[..self.count]
    }
}

fn read_xor_address(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    let (header, address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([header[2] ^ MAGIC_COOKIE[0], header[3] ^ MAGIC_COOKIE[1]]);
    let mut mask = MAGIC_COOKIE.iter().chain(&transaction.0);
    let mut unmask = |byte: &u8| byte ^ mask.next().expect("16 bytes, as many as the longest address");
    let ip = match (header[1], address.len()) {
        (1, 4) => {
            let octets: [u8; 4] = std::array::from_fn(|i| unmask(&address[i]));
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        (2, 16) => {
            let octets: [u8; 16] = std::array::from_fn(|i| unmask(&address[i]));
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

struct Attribute<'a> {
    kind: u16,
    /// Where its header begins.
    at: usize,
    value: &'a [u8],
}

/// Walks over attributes; an item of `None` ends it: the rest are none.
struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<Attribute<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        let read = || {
            let (header, rest) = rest.split_first_chunk::<ATTRIBUTE_HEADER>()?;
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let value = rest.get(..length.next_multiple_of(4))?;
            Some((
                Attribute { kind: u16::from_be_bytes([header[0], header[1]]), at, value: &value[..length] },
                value.len(),
            ))
        };
        let found = read();
        self.at = found.as_ref().map_or(self.bytes.len(), |(_, padded)| at + ATTRIBUTE_HEADER + padded);
        Some(found.map(|(attribute, _)| attribute))
    }
}

/// The key of a long-term credential (RFC 8489 §9.2.2): MD5 of `username:realm:password`.
pub fn long_term_key(username: &str, realm: &str, password: &str) -> hmac::Key {
    let mut md5 = Md5::new();
    md5.update(username);
    md5.update(":");
    md5.update(realm);
    md5.update(":");
    md5.update(password);
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &md5.finalize())
}

#[cfg(test)]
mod tests;
