//! Credentials that expire and are checked without a list of them, from a secret that two servers share
//! (draft-uberti-behave-turn-rest-00; coturn's `use-auth-secret`).
//!
//! The user name is `expiry:identity`, the expiry in seconds since the Unix epoch; the password is
//! base64(HMAC-SHA1(secret, user name)). Whoever knows the secret can make and check both.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;

/// Longer identities are told by a hash: a USERNAME has fewer than 509 bytes (RFC 8489 §14.3).
const MAX_IDENTITY: usize = 256;

/// What our server and a relay share. Never formatted.
#[derive(Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
pub struct Secret(String);

/// A user name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// `expiry:identity`.
    pub username: String,
    /// Base64.
    pub password: String,
}

impl Secret {
    /// As an operator writes it.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for a relay's configuration.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The credential of a participant, good until `expires` (seconds since the Unix epoch).
    pub fn credential(&self, identity: &str, expires: u64) -> Credential {
        let username = format!("{expires}:{}", self.user(identity));
        Credential { password: self.password(&username), username }
    }

    /// The password that belongs to a user name, whatever that says.
    pub fn password(&self, username: &str) -> String {
        BASE64.encode(self.tag(username))
    }

    /// The identity where every relay and client takes it as it is, else a hash of it: without `OpaqueString`
    /// (RFC 8265 §4.2) on both sides other letters would give different keys.
    fn user(&self, identity: &str) -> String {
        let plain = !identity.is_empty() && identity.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && identity.len() <= MAX_IDENTITY {
            return identity.to_owned();
        }
        let mut hash = String::new();
        for byte in self.tag(identity).as_ref() {
            let _ = write!(hash, "{byte:02x}"); // a String takes everything
        }
        hash
    }

    fn tag(&self, text: &str) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_bytes()), text.as_bytes())
    }
}

/// The expiry, in seconds since the Unix epoch, and the identity in a user name. `None`: not one of ours.
pub fn read_username(username: &str) -> Option<(u64, &str)> {
    let (expiry, identity) = username.split_once(':')?;
    let digits = !expiry.is_empty() && expiry.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !identity.is_empty()).then(|| Some((expiry.parse().ok()?, identity)))?
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Debug for Credential {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_that_of_other_implementations() {
        // printf 1893456000:ada | openssl dgst -sha1 -hmac north -binary | base64
        let credential = Secret::new("north").credential("ada", 1_893_456_000);
        assert_eq!(credential.username, "1893456000:ada");
        assert_eq!(credential.password, "A0DNf16by58KaWAwAe4TV36DNwI=");
        // RFC 2202 §3, case 2.
        let tag = Secret::new("Jefe").password("what do ya want for nothing?");
        assert_eq!(
            tag,
            BASE64
                .encode(b"\xef\xfc\xdf\x6a\xe5\xeb\x2f\xa2\xd2\x74\x16\xd5\xf1\x84\xdf\x9c\x25\x9a\x7c\x79")
        );
    }

    #[test]
    fn a_user_name_is_read_back() {
        assert_eq!(read_username("17:ada"), Some((17, "ada")));
        assert_eq!(read_username("17:ada:b"), Some((17, "ada:b")));
        for other in ["", "17", "17:", ":ada", "ada:17", "-1:ada", "+1:ada", "99999999999999999999:ada"] {
            assert_eq!(read_username(other), None, "{other}");
        }
    }

    #[test]
    fn identities_that_a_user_name_cannot_carry_are_hashed_and_stay_apart() {
        let secret = Secret::new("north");
        let long = "a".repeat(MAX_IDENTITY + 1);
        let names = ["Zoë", "Zoe\u{308}", "a b", "", &long].map(|identity| {
            let username = secret.credential(identity, 1).username;
            assert!(username.is_ascii() && username.len() == 2 + 40, "{username}");
            username
        });
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn nothing_secret_is_formatted() {
        let secret = Secret::new("north");
        let credential = secret.credential("ada", 1);
        let text = format!("{secret:?} {credential:?}");
        assert!(!text.contains("north") && !text.contains(&credential.password), "{text}");
    }
}
