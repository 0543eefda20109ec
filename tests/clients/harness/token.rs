//! Join tokens, right ones and wrong ones. Made here and not by the server's own code, whose judge this is.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};

/// What a token says.
pub(crate) struct Claims(pub(crate) Value);

impl Claims {
    /// May do everything in `room`, for an hour.
    pub(crate) fn join(room: &str, identity: &str) -> Claims {
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        Claims(json!({
            "iss": "devkey",
            "sub": identity,
            "nbf": now - 60,
            "exp": now + 3600,
            "video": { "roomJoin": true, "room": room, "canUpdateOwnMetadata": true },
        }))
    }

    /// The same with one claim changed.
    pub(crate) fn with(mut self, claim: &str, value: Value) -> Claims {
        self.0[claim] = value;
        self
    }
}

/// How a token is written.
pub(crate) enum Token<'a> {
    /// HMAC with SHA-256, as all SDKs do.
    Hs256 { secret: &'a str },
    /// Not signed at all (RFC 7519 §6).
    Unsigned,
}

impl Token<'_> {
    pub(crate) fn write(&self, claims: &Claims) -> String {
        let algorithm = match self {
            Token::Hs256 { .. } => "HS256",
            Token::Unsigned => "none",
        };
        let header = json!({ "alg": algorithm, "typ": "JWT" });
        let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims.0));
        let signature = match self {
            Token::Hs256 { secret } => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()))
            }
            Token::Unsigned => String::new(),
        };
        format!("{signed}.{signature}")
    }
}
