//! Join tokens: JWT with HS256 (RFC 7519, RFC 7515), with LiveKit's claims.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use serde_json::json;

/// What one participant may do.
pub(crate) struct Grant<'a> {
    pub(crate) room: &'a str,
    pub(crate) identity: &'a str,
    pub(crate) publish: bool,
    pub(crate) subscribe: bool,
}

/// A token for `grant`, good for `ttl`.
pub(crate) fn mint(key: &str, secret: &str, grant: &Grant<'_>, ttl: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = json!({
        "iss": key,
        "sub": grant.identity,
        "nbf": now.as_secs().saturating_sub(1),
        "exp": (now + ttl).as_secs(),
        "video": {
            "roomJoin": true,
            "room": grant.room,
            "canPublish": grant.publish,
            "canSubscribe": grant.subscribe,
        },
    });
    let header = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_three_parts_that_say_what_was_asked() {
        let grant = Grant { room: "a room", identity: "load-1", publish: true, subscribe: false };
        let token = mint("key", "secret", &grant, Duration::from_mins(1));
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("{token}") };
        let claims: serde_json::Value = serde_json::from_slice(&BASE64.decode(claims).unwrap()).unwrap();
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("key"), &json!("load-1")));
        assert_eq!(claims["video"]["room"], "a room");
        assert_eq!(claims["video"]["canSubscribe"], false);
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(), 61);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        let signed = format!("{header}.{}", parts[1]);
        hmac::verify(&key, signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
    }
}
