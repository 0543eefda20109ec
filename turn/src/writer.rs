//! Messages as they go out.

use std::net::{IpAddr, SocketAddr};

use ring::hmac;
use rtc_stun::fingerprint::fingerprint_value;

use crate::message::{Class, HEADER_LEN, INTEGRITY_LEN, MAGIC_COOKIE, Method, TransactionId, kind};

/// Builds one message in a buffer. Values come from us, so lengths fit.
pub struct MessageWriter<'a> {
    out: &'a mut Vec<u8>,
    transaction: TransactionId,
}

impl<'a> MessageWriter<'a> {
    /// Begins over what was in `out`.
    pub fn start(
        out: &'a mut Vec<u8>,
        method: Method,
        class: Class,
        transaction: TransactionId,
    ) -> MessageWriter<'a> {
        MessageWriter::start_raw(out, method.code(), class, transaction)
    }

    /// The same, for a method that we may not know.
    pub(crate) fn start_raw(
        out: &'a mut Vec<u8>,
        method: u16,
        class: Class,
        transaction: TransactionId,
    ) -> MessageWriter<'a> {
        let typed = method & 0x000f | (method & 0x0070) << 1 | (method & 0x0f80) << 2 | class.bits();
        out.clear();
        out.extend_from_slice(&typed.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE);
        out.extend_from_slice(&transaction.0);
        MessageWriter { out, transaction }
    }

    /// An attribute with that value.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.out.extend_from_slice(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self
    }

    /// An address, XORed (RFC 8489 §14.2).
    pub fn address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        let mut value = [0; 20];
        value[2..4].copy_from_slice(&address.port().to_be_bytes());
        let length = match address.ip() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&ip.octets());
                8
            }
            IpAddr::V6(ip) => {
                value[1] = 2;
                value[4..20].copy_from_slice(&ip.octets());
                20
            }
        };
        value[2] ^= MAGIC_COOKIE[0];
        value[3] ^= MAGIC_COOKIE[1];
        let mask = MAGIC_COOKIE.iter().chain(&self.transaction.0);
        value[4..length].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        self.attribute(kind, &value[..length])
    }

    /// ERROR-CODE without a reason phrase, which nothing reads and which would make answers larger.
    pub(crate) fn error_code(&mut self, code: u16) -> &mut Self {
        self.attribute(kind::ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8])
    }

    /// MESSAGE-INTEGRITY (RFC 8489 §14.5).
    pub fn sign(&mut self, key: &hmac::Key) -> &mut Self {
        self.set_length(4 + INTEGRITY_LEN);
        let tag = hmac::sign(key, self.out);
        self.attribute(kind::MESSAGE_INTEGRITY, tag.as_ref())
    }

    /// FINGERPRINT (RFC 8489 §14.7).
    pub fn fingerprint(&mut self) -> &mut Self {
        self.set_length(8);
        let crc = fingerprint_value(self.out);
        self.attribute(kind::FINGERPRINT, &crc.to_be_bytes())
    }

    /// The message is whole.
    pub fn finish(&mut self) {
        self.set_length(0);
    }

    /// The length field counts the attribute that is coming.
    fn set_length(&mut self, coming: usize) {
        let length = self.out.len() + coming - HEADER_LEN;
        self.out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    }
}

/// Writes ChannelData (RFC 8656 §12.4) over `out`. On streams it is padded (§12.5).
pub fn write_channel_data(out: &mut Vec<u8>, channel: u16, payload: &[u8], stream: bool) {
    out.clear();
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    out.extend_from_slice(payload);
    if stream {
        out.resize(out.len().next_multiple_of(4), 0);
    }
}
