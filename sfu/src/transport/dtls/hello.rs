//! What we look for in handshake messages before `rtc-dtls` sees them.

use crate::transport::srtp::SrtpProfile;

/// RFC 5764 §4.1.1.
const USE_SRTP: u16 = 14;
/// RFC 7714 §14.2.
const SRTP_AEAD_AES_128_GCM: u16 = 0x0007;

/// Takes things from the front; `None` once something is missing.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    /// A big-endian number of `width` bytes, at most 3.
    fn number(&mut self, width: usize) -> Option<usize> {
        Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A vector with a length of `width` bytes in front (RFC 5246 §4.3).
    fn vector(&mut self, width: usize) -> Option<Reader<'a>> {
        let length = self.number(width)?;
        self.take(length).map(Reader)
    }
}

/// The profile that we choose for the client whose ClientHello has this body (RFC 6347 §4.2.1): GCM when it is
/// offered, at whatever place, since it costs a third. `None` if it is no ClientHello.
///
/// A client that offers neither gets the other too, and is refused by the handshake.
pub(super) fn choose_srtp_profile(client_hello: &[u8]) -> Option<SrtpProfile> {
    let mut hello = Reader(client_hello);
    hello.take(2 + 32)?; // version, random
    hello.vector(1)?; // session id
    hello.vector(1)?; // cookie
    hello.vector(2)?; // cipher suites
    hello.vector(1)?; // compression methods
    if hello.0.is_empty() {
        return Some(SrtpProfile::Aes128CmHmacSha1_80);
    }
    let mut extensions = hello.vector(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut value = extensions.vector(2)?;
        if kind == usize::from(USE_SRTP) {
            let gcm = value.vector(2)?.0.chunks_exact(2).any(|id| id == SRTP_AEAD_AES_128_GCM.to_be_bytes());
            return Some(if gcm { SrtpProfile::AeadAes128Gcm } else { SrtpProfile::Aes128CmHmacSha1_80 });
        }
    }
    Some(SrtpProfile::Aes128CmHmacSha1_80)
}

/// Whether the lengths in this body of a Certificate message (RFC 5246 §7.4.2) stay within it. `rtc-dtls` would allocate
/// whatever the 24 bits say.
pub(super) fn certificate_lengths_fit(certificate: &[u8]) -> bool {
    let mut message = Reader(certificate);
    let Some(mut list) = message.vector(3) else { return false };
    while !list.0.is_empty() {
        if list.vector(3).is_none() {
            return false;
        }
    }
    message.0.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello(extensions: &[u8]) -> Vec<u8> {
        let mut hello = vec![0xfe, 0xfd];
        hello.extend_from_slice(&[1; 32]);
        hello.extend_from_slice(&[0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        hello.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        hello.extend_from_slice(extensions);
        hello
    }

    #[test]
    fn gcm_is_chosen_wherever_it_stands() {
        let gcm_last = [0, 23, 0, 0, 0, 14, 0, 9, 0, 6, 0, 1, 0, 8, 0, 7, 0];
        assert_eq!(choose_srtp_profile(&client_hello(&gcm_last)), Some(SrtpProfile::AeadAes128Gcm));
        let without = [0, 14, 0, 7, 0, 4, 0, 1, 0, 8, 0];
        assert_eq!(choose_srtp_profile(&client_hello(&without)), Some(SrtpProfile::Aes128CmHmacSha1_80));
        assert_eq!(choose_srtp_profile(&client_hello(&[])), Some(SrtpProfile::Aes128CmHmacSha1_80));
        let hello = client_hello(&gcm_last);
        for length in 0..hello.len() {
            let _ = choose_srtp_profile(&hello[..length]);
        }
        assert_eq!(choose_srtp_profile(&hello[..hello.len() - 1]), None);
    }

    #[test]
    fn certificates_must_lie_within_their_message() {
        assert!(certificate_lengths_fit(&[0, 0, 0]));
        assert!(certificate_lengths_fit(&[0, 0, 5, 0, 0, 2, 7, 7]));
        for bad in [
            &[][..],
            &[0, 0],
            &[0, 0, 4, 0, 0, 2, 7, 7],
            &[0, 0, 5, 0, 0, 3, 7, 7],
            &[0, 0, 5, 0xff, 0xff, 0xff, 7, 7],
            &[0, 0, 5, 0, 0, 2, 7, 7, 0],
            &[0xff, 0xff, 0xff, 0, 0, 2, 7, 7],
        ] {
            assert!(!certificate_lengths_fit(bad), "{bad:?}");
        }
    }
}
