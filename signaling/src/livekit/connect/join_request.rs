//! `join_request`: base64url of a `WrappedJoinRequest`, whose inside may be gzipped.

use std::io::Read as _;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use livekit_protocol::wrapped_join_request::Compression;
use livekit_protocol::{JoinRequest, WrappedJoinRequest};
use prost::Message as _;

/// What a gzipped request may inflate to, in bytes. Real ones are below 30 kB.
pub const MAX_INFLATED: usize = 1 << 20;

/// SDKs pad, others do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a `join_request` cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRequestError {
    /// Not base64, of either alphabet.
    #[error("not base64")]
    Base64,
    /// Not the protobuf that wraps it.
    #[error("not a WrappedJoinRequest")]
    Wrapper,
    /// Neither plain nor gzip.
    #[error("unknown compression {0}")]
    Compression(i32),
    /// Announced as gzip, and is not, or is cut short.
    #[error("not gzip")]
    Gzip,
    /// Larger than a join ever is: a gzip bomb, most likely.
    #[error("larger than {MAX_INFLATED} bytes")]
    TooLarge,
    /// Not the protobuf inside.
    #[error("not a JoinRequest")]
    Inner,
}

/// Reads the parameter as it stands in the query, percent-decoded; untrusted. Allocates at most a small
/// multiple of [`MAX_INFLATED`].
///
/// # Errors
/// [`JoinRequestError`]. Never panics.
pub fn decode_join_request(text: &str) -> Result<JoinRequest, JoinRequestError> {
    if text.len() > MAX_INFLATED * 2 {
        return Err(JoinRequestError::TooLarge);
    }
    let bytes = base64_any(text).ok_or(JoinRequestError::Base64)?;
    let wrapped = WrappedJoinRequest::decode(&bytes[..]).map_err(|_| JoinRequestError::Wrapper)?;
    let inner = match Compression::try_from(wrapped.compression) {
        Ok(Compression::None) => wrapped.join_request,
        Ok(Compression::Gzip) => inflate(&wrapped.join_request)?,
        Err(_) => return Err(JoinRequestError::Compression(wrapped.compression)),
    };
    if inner.len() > MAX_INFLATED {
        return Err(JoinRequestError::TooLarge);
    }
    JoinRequest::decode(&inner[..]).map_err(|_| JoinRequestError::Inner)
}

/// Stops as soon as the limit is passed, whatever the input announces.
fn inflate(gzip: &[u8]) -> Result<Vec<u8>, JoinRequestError> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(gzip)
        .take(MAX_INFLATED as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| JoinRequestError::Gzip)?;
    if plain.len() > MAX_INFLATED { Err(JoinRequestError::TooLarge) } else { Ok(plain) }
}

/// Base64 of either alphabet, padded or not; a `+` that a query made a space is one again.
pub(super) fn base64_any(text: &str) -> Option<Vec<u8>> {
    let standard: Vec<u8> = text
        .bytes()
        .map(|c| match c {
            b'-' | b' ' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    BASE64.decode(standard).ok()
}
