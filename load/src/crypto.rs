//! What str0m leaves to its user: ciphers, hashes and DTLS, from crates that the workspace has anyway.
//!
//! `ring` does AES-GCM, SHA-1 and SHA-256, `aes` the single blocks of key derivation and counter mode, `dimpl` the
//! DTLS handshake. None of it is the server's code: a mistake there does not find its mirror image here.

mod dtls;
mod srtp;

use std::sync::Arc;

pub(crate) use dtls::Agreed;

use ring::{digest, hmac};
use str0m::crypto::dtls::DtlsCert;
use str0m::crypto::{CryptoProvider, Sha1HmacProvider, Sha256Provider};

/// The provider for all connections of a run, and what these agree on.
pub(crate) fn provider() -> (Arc<CryptoProvider>, &'static Agreed) {
    // str0m wants providers that live for ever: some bytes a run.
    let agreed: &'static Agreed = Box::leak(Box::default());
    let provider = CryptoProvider {
        srtp_provider: &srtp::Srtp,
        sha1_hmac_provider: &Hashes,
        sha256_provider: &Hashes,
        dtls_provider: Box::leak(Box::new(dtls::Dtls(agreed))),
    };
    (Arc::new(provider), agreed)
}

/// A self-signed P-256 certificate, one for everybody: who is who is the tokens' affair.
///
/// # Errors
/// If the system has no randomness.
pub(crate) fn certificate() -> Result<DtlsCert, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?;
    Ok(DtlsCert { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
}

#[derive(Debug)]
struct Hashes;

impl Sha1HmacProvider for Hashes {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        let mut context = hmac::Context::with_key(&key);
        for payload in payloads {
            context.update(payload);
        }
        context.sign().as_ref().try_into().expect("SHA-1 has 20 bytes")
    }
}

impl Sha256Provider for Hashes {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        digest::digest(&digest::SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_rfcs() {
        // RFC 2202 §3, test case 2.
        let tag = Hashes.sha1_hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(tag[..16], 0xeffcdf6ae5eb2fa2d27416d5f184df9c_u128.to_be_bytes());
        assert_eq!(tag[16..], 0x259a7c79_u32.to_be_bytes());
        // RFC 6234 §8.5, test 1.
        let hash = Hashes.sha256(b"abc");
        assert_eq!(hash[..16], 0xba7816bf8f01cfea414140de5dae2223_u128.to_be_bytes());
        assert_eq!(hash[16..], 0xb00361a396177a9cb410ff61f20015ad_u128.to_be_bytes());
    }
}
