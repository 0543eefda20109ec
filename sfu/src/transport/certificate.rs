//! Our DTLS certificate, and the fingerprints by which each side knows the other's (RFC 8122).

use std::fmt::Write as _;

use ring::digest;

/// A self-signed ECDSA P-256 certificate with its key (RFC 8827 §6.5). One per process serves all peers.
pub struct Certificate {
    pub(super) inner: rtc_dtls::crypto::Certificate,
    fingerprint: String,
}

/// The system had no randomness to give, or the crypto provider lacks P-256: nothing that a peer can cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate: {0}")]
pub struct CertificateError(String);

impl Certificate {
    /// Makes a new key and certificate, from the system's randomness.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn generate() -> Result<Certificate, CertificateError> {
        let provider = rtc_crypto::default_provider().map_err(|e| CertificateError(e.to_string()))?;
        // The name is not looked at by anybody; it must not tell our host's.
        let names = vec!["webrtc".to_owned()];
        let inner = rtc_dtls::crypto::Certificate::generate_self_signed(names, provider.crypto())
            .map_err(|e| CertificateError(e.to_string()))?;
        let der = inner.certificate.first().ok_or_else(|| CertificateError("no certificate".to_owned()))?;
        let fingerprint = colon_hex(digest::digest(&digest::SHA256, der.as_ref()).as_ref());
        Ok(Certificate { inner, fingerprint })
    }

    /// The value that goes behind `a=fingerprint:sha-256 `: 32 bytes in upper-case hexadecimal, with colons.
    pub fn fingerprint_sha256(&self) -> String {
        self.fingerprint.clone()
    }
}

fn colon_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (i, byte) in bytes.iter().enumerate() {
        let colon = if i == 0 { "" } else { ":" };
        write!(text, "{colon}{byte:02X}").expect("writing to a String cannot fail");
    }
    text
}

/// The peer's `a=fingerprint` (RFC 8122 §5): what its certificate must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    digest: Vec<u8>,
}

/// The hashes that we accept. SHA-1 and MD5 are in the grammar and no longer a proof of anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
            Hash::Sha512 => &digest::SHA512,
        }
    }
}

/// Why a fingerprint is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// The peer may use a stronger one; a description may carry several.
    #[error("hash function is none of sha-256, sha-384, sha-512")]
    UnsupportedHash,
    /// Not pairs of hexadecimal digits with colons, or another number of them than the hash has.
    #[error("not a digest of the named hash function")]
    BadDigest,
}

impl Fingerprint {
    /// From the two words of the attribute: `sha-256 12:34:…`. Case does not matter.
    ///
    /// # Errors
    /// See [`FingerprintError`].
    pub fn parse(hash: &str, value: &str) -> Result<Fingerprint, FingerprintError> {
        let hash = [("sha-256", Hash::Sha256), ("sha-384", Hash::Sha384), ("sha-512", Hash::Sha512)]
            .into_iter()
            .find_map(|(name, kind)| hash.eq_ignore_ascii_case(name).then_some(kind))
            .ok_or(FingerprintError::UnsupportedHash)?;
        let length = hash.algorithm().output_len();
        if value.len() != length * 3 - 1 {
            return Err(FingerprintError::BadDigest);
        }
        let digest: Option<Vec<u8>> = value.split(':').map(hex_pair).collect();
        match digest {
            Some(digest) if digest.len() == length => Ok(Fingerprint { hash, digest }),
            _ => Err(FingerprintError::BadDigest),
        }
    }

    /// From the attribute's whole value, the hash's name and the digest with a blank between.
    ///
    /// # Errors
    /// See [`FingerprintError`].
    pub fn parse_attribute(value: &str) -> Result<Fingerprint, FingerprintError> {
        let (hash, value) = value.trim().split_once(' ').ok_or(FingerprintError::BadDigest)?;
        Fingerprint::parse(hash, value.trim())
    }

    /// Whether the certificate with this DER encoding is the announced one.
    pub fn matches(&self, der: &[u8]) -> bool {
        digest::digest(self.hash.algorithm(), der).as_ref() == self.digest
    }
}

fn hex_pair(text: &str) -> Option<u8> {
    let [high, low] = text.as_bytes() else { return None };
    let high = char::from(*high).to_digit(16)?;
    let low = char::from(*low).to_digit(16)?;
    Some((high << 4 | low) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_fingerprint_names_our_certificate_and_no_other() {
        let ours = Certificate::generate().unwrap();
        let text = ours.fingerprint_sha256();
        assert_eq!(text.len(), 95);
        let der = ours.inner.certificate[0].as_ref();
        assert!(Fingerprint::parse("SHA-256", &text.to_lowercase()).unwrap().matches(der));
        let attribute = format!("sha-256 {text}");
        assert!(Fingerprint::parse_attribute(&attribute).unwrap().matches(der));
        let other = Certificate::generate().unwrap();
        assert!(
            !Fingerprint::parse_attribute(&attribute).unwrap().matches(other.inner.certificate[0].as_ref())
        );
    }

    #[test]
    fn longer_hashes_work_and_weaker_ones_do_not() {
        let der = b"any bytes";
        for (name, algorithm) in [("sha-384", &digest::SHA384), ("sha-512", &digest::SHA512)] {
            let value = colon_hex(digest::digest(algorithm, der).as_ref());
            assert!(Fingerprint::parse(name, &value).unwrap().matches(der));
            assert_eq!(Fingerprint::parse("sha-256", &value), Err(FingerprintError::BadDigest));
        }
        assert_eq!(Fingerprint::parse("sha-1", "00:11"), Err(FingerprintError::UnsupportedHash));
        let good = colon_hex(&[0xab; 32]);
        for bad in [good.replace(':', " "), good.replace("AB", "A"), good.replace("AB", "+B"), String::new()]
        {
            assert_eq!(Fingerprint::parse("sha-256", &bad), Err(FingerprintError::BadDigest), "{bad:?}");
        }
    }
}
