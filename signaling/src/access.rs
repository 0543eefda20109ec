//! Access tokens: who may do what, signed with a shared secret (RFC 7519, LiveKit's claims).
//!
//! Always: only HS256, only with an expiry, only from a key we know; the signature is compared in constant
//! time (by `jsonwebtoken`). Nothing here logs or formats a token or a secret. Time comes as an argument.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};

/// Clocks of token makers may be off by this much, either way.
pub const LEEWAY: Duration = Duration::from_mins(1);

/// The longest token that is looked at, in bytes. Real ones are below 2 kB.
pub const MAX_TOKEN: usize = 1 << 20;

/// API keys and their secrets.
#[derive(Clone, Default)]
pub struct Keys(HashMap<String, String>);

impl Keys {
    /// The secret of `key`.
    pub fn secret(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All keys, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there are none, so that nobody can join.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Keys {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Keys {
        Keys(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Keys {
    /// Names the keys, never the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The `video` claim: what its bearer may do. `None` is a permission left out, whose meaning is that of the
/// method of the same name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the claim is a list of independent permissions")]
pub struct VideoGrant {
    /// Create and delete rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_create: bool,
    /// List rooms.
    #[serde(skip_serializing_if = "is_false")]
    pub room_list: bool,
    /// Administer `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_admin: bool,
    /// Join `room`.
    #[serde(skip_serializing_if = "is_false")]
    pub room_join: bool,
    /// The room's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// The other room, for what concerns two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_room: String,
    /// Publish tracks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    /// Subscribe to tracks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    /// Send data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    /// The only sources that may be published: `camera`, `microphone`, `screen_share`, `screen_share_audio`;
    /// empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can_publish_sources: Vec<String>,
    /// Change one's own name, metadata and attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    /// Receive metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    /// Not shown to others.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// A recorder: exempt from subscription permissions.
    #[serde(skip_serializing_if = "is_false")]
    pub recorder: bool,
    /// An agent.
    #[serde(skip_serializing_if = "is_false")]
    pub agent: bool,
    /// Grants of other services and of later versions, kept for the refreshed token.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl VideoGrant {
    /// Absent means yes.
    pub fn can_publish(&self) -> bool {
        self.can_publish.unwrap_or(true)
    }

    /// Absent means yes.
    pub fn can_subscribe(&self) -> bool {
        self.can_subscribe.unwrap_or(true)
    }

    /// Absent means the same as [`VideoGrant::can_publish`].
    pub fn can_publish_data(&self) -> bool {
        self.can_publish_data.unwrap_or_else(|| self.can_publish())
    }

    /// Absent means no.
    pub fn can_update_own_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }

    /// Absent means no.
    pub fn can_subscribe_metrics(&self) -> bool {
        self.can_subscribe_metrics.unwrap_or(false)
    }
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Claims {
    /// The API key that signed it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub iss: String,
    /// The participant's identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Old place of the identity.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Expiry, seconds since the Unix epoch.
    #[serde(deserialize_with = "numeric_date", skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// Not valid before, seconds since the Unix epoch.
    #[serde(deserialize_with = "numeric_date", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Another place of the identity, in some makers' tokens.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// Name to show.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `standard`, `ingress`, `egress`, `sip`, `agent`, `connector` or `bridge`; empty for `standard`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Free text for the application.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Free pairs for the application.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Room permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
    /// Protobuf-JSON of `RoomConfiguration`, for the room that this join creates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<serde_json::Value>,
    /// Claims of other services and of later versions, kept for the refreshed token.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Claims {
    /// Who bears the token; empty when nobody is named.
    pub fn identity(&self) -> &str {
        [&self.sub, &self.identity, &self.jti]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or("", String::as_str)
    }
}

/// RFC 7519 §2: a number of seconds, which some makers write with a fraction. `null` is absence.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(deserializer)?;
    Ok(number.and_then(|number| number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64))))
}

/// Why a token does not let its bearer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// None was given.
    #[error("no access token given")]
    Missing,
    /// Not three base64url parts of JSON, or a claim of the wrong type.
    #[error("invalid access token: malformed")]
    Malformed,
    /// Anything but HS256, `none` included.
    #[error("invalid access token: algorithm must be HS256")]
    Algorithm,
    /// Signed by a key that this server does not have.
    #[error("invalid API key")]
    UnknownKey,
    /// The signature is not that of the key's secret.
    #[error("invalid access token: wrong signature")]
    Signature,
    /// Every token must end some time.
    #[error("invalid access token: no exp claim")]
    NoExpiry,
    /// Its time is over.
    #[error("access token has expired")]
    Expired,
    /// Its time has not come.
    #[error("access token is not valid yet")]
    NotYetValid,
}

impl TokenError {
    /// The HTTP status to answer with; the text is that of `Display`.
    pub const fn status(self) -> u16 {
        match self {
            TokenError::Missing
            | TokenError::Malformed
            | TokenError::Algorithm
            | TokenError::UnknownKey
            | TokenError::Signature
            | TokenError::NoExpiry
            | TokenError::Expired
            | TokenError::NotYetValid => 401,
        }
    }
}

/// Checks a token and gives what it says. `unix_s` is the wall clock in seconds since the Unix epoch.
///
/// # Errors
/// [`TokenError`], the first thing found wrong. Never panics, whatever the text.
pub fn verify(keys: &Keys, token: &str, unix_s: i64) -> Result<Claims, TokenError> {
    #[derive(Deserialize)]
    struct Alg {
        alg: String,
    }
    #[derive(Deserialize)]
    struct Issuer {
        #[serde(default)]
        iss: String,
    }

    if token.is_empty() {
        return Err(TokenError::Missing);
    }
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed);
    }
    let mut parts = token.split('.');
    let header: Alg = json_part(parts.next()).ok_or(TokenError::Malformed)?;
    // Before the signature is looked at: a token may not choose how it is checked (RFC 8725 §3.1).
    if header.alg != "HS256" {
        return Err(TokenError::Algorithm);
    }
    let issuer: Issuer = json_part(parts.next()).ok_or(TokenError::Malformed)?;
    let secret = keys.secret(&issuer.iss).ok_or(TokenError::UnknownKey)?;

    let mut rules = Validation::new(Algorithm::HS256);
    // The times are checked below, against the clock we were given.
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_nbf = false;
    rules.validate_aud = false;
    let claims: Claims = jsonwebtoken::decode(token, &DecodingKey::from_secret(secret.as_bytes()), &rules)
        .map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
            _ => TokenError::Malformed,
        })?
        .claims;

    let leeway = LEEWAY.as_secs() as i64;
    let exp = claims.exp.ok_or(TokenError::NoExpiry)?;
    if exp.saturating_add(leeway) < unix_s {
        return Err(TokenError::Expired);
    }
    if claims.nbf.is_some_and(|nbf| nbf.saturating_sub(leeway) > unix_s) {
        return Err(TokenError::NotYetValid);
    }
    Ok(claims)
}

fn json_part<T: serde::de::DeserializeOwned>(part: Option<&str>) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part?).ok()?).ok()
}

/// Why no token could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// HMAC takes any secret, but an empty one protects nothing.
    #[error("the API secret is empty")]
    EmptySecret,
    /// The claims could not be written as JSON.
    #[error("the claims cannot be written as JSON")]
    Encode,
}

/// Makes a token of `claims`, signed by `key`, valid for `ttl` from `unix_s` (seconds since the Unix epoch).
/// `iss`, `nbf` and `exp` of `claims` are replaced.
///
/// # Errors
/// [`MintError`]; with a secret and JSON-able claims, never.
pub fn mint(
    key: &str,
    secret: &str,
    mut claims: Claims,
    ttl: Duration,
    unix_s: i64,
) -> Result<String, MintError> {
    if secret.is_empty() {
        return Err(MintError::EmptySecret);
    }
    key.clone_into(&mut claims.iss);
    claims.nbf = Some(unix_s);
    claims.exp = Some(unix_s.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)));
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .map_err(|_| MintError::Encode)
}

#[cfg(test)]
mod tests;
