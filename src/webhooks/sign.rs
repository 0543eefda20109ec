//! The signature of a webhook: a token of ours that carries the body's hash, as receivers of the server SDKs check it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use signaling::access::{self, Claims, MintError};

use super::settings::SigningKey;

/// How long a receiver may take a signature for a fresh one.
const TTL: Duration = Duration::from_mins(5);

/// The value of `Authorization`: a JWT without `Bearer`, its claim `sha256` the hash of exactly these bytes in standard base64.
pub(super) fn sign(key: &SigningKey, body: &[u8], unix_ms: i64) -> Result<String, MintError> {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, body));
    let mut claims = Claims::default();
    claims.other.insert("sha256".to_owned(), hash.into());
    access::mint(&key.name, &key.secret, claims, TTL, unix_ms.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stock receivers check the same in tests/clients/webhooks.rs.
    #[test]
    fn the_hash_is_of_the_body_and_the_token_is_the_keys() {
        let key = SigningKey { name: "devkey".to_owned(), secret: "secret".to_owned() };
        let token = sign(&key, b"{\"event\":\"room_started\"}", 1_800_000_000_000).unwrap();
        let keys = [("devkey".to_owned(), "secret".to_owned())].into_iter().collect();
        let claims = access::verify(&keys, &token, 1_800_000_000).unwrap();
        // printf '{"event":"room_started"}' | openssl dgst -sha256 -binary | base64
        assert_eq!(claims.other["sha256"], "w9NV0uLHjSON8P7eonnkKXDHY4ICORefbHDCviKIgX8=");
        assert_eq!((claims.iss.as_str(), claims.exp), ("devkey", Some(1_800_000_300)));
        assert!(claims.video.is_none(), "good for nothing else");
    }
}
