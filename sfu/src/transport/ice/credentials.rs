//! Username fragments and passwords (RFC 8445 §5.3, RFC 8839 §5.4).

use std::fmt;

use ring::hmac;

use crate::transport::stun::{self, TransactionId};

/// 64 values a character: 48 bits, twice what RFC 8445 §5.3 wants, so that fragments do not collide either. Before them stands
/// the core's number.
const UFRAG_LEN: usize = 8;
/// Cores of one process that two characters tell apart.
pub const MAX_CORES: u16 = 64 * 64;
/// 32 characters of 6 bits; RFC 8445 §5.3 wants 128 bits.
const PWD_LEN: usize = 32;

const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Makes passwords and transaction ids that nobody can guess, from one secret per process.
///
/// Fragments come from the caller's seeded generator, which is enough for names. That generator's later output
/// follows from its earlier one, though, and a client sees some of it; so what must be *secret* is an HMAC of
/// the fragment and is as unpredictable as the secret.
#[derive(Clone)]
pub struct IceSecret(hmac::Key);

impl IceSecret {
    /// From 32 bytes: the system's randomness in a server, anything fixed in a test.
    pub fn from_bytes(bytes: [u8; 32]) -> IceSecret {
        IceSecret(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
    }

    fn derive(&self, purpose: &[u8], ufrag: &str, number: u64) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(purpose);
        context.update(&number.to_be_bytes());
        context.update(ufrag.as_bytes());
        context.sign()
    }

    fn password(&self, ufrag: &str, salt: u64) -> String {
        let tag = self.derive(b"password", ufrag, salt);
        tag.as_ref().iter().take(PWD_LEN).map(|byte| ice_char(*byte)).collect()
    }

    /// The id of check number `number`.
    pub(super) fn transaction(&self, ufrag: &str, number: u64) -> TransactionId {
        let tag = self.derive(b"transaction", ufrag, number);
        TransactionId(tag.as_ref()[..12].try_into().expect("SHA-256 has 32 bytes"))
    }
}

fn ice_char(byte: u8) -> char {
    char::from(ICE_CHARS[usize::from(byte) % ICE_CHARS.len()])
}

/// The number of the core that has made this username fragment, if one of ours did: who shares a connection among cores,
/// as TCP does one port, finds the right one by it. Proves nothing.
pub fn core_of(ufrag: &str) -> Option<u16> {
    let digit = |at: usize| ICE_CHARS.iter().position(|char| Some(char) == ufrag.as_bytes().get(at));
    Some(digit(0)? as u16 * 64 + digit(1)? as u16)
}

/// What goes into our description, `a=ice-ufrag` and `a=ice-pwd`.
pub struct LocalCredentials {
    ufrag: String,
    pwd: String,
    pub(super) key: hmac::Key,
}

impl LocalCredentials {
    pub(super) fn generate(secret: &IceSecret, core: u16, rng: &mut fastrand::Rng) -> LocalCredentials {
        let number = [core / 64, core % 64].map(|digit| digit as u8);
        let random = std::iter::repeat_with(|| rng.u8(..)).take(UFRAG_LEN);
        let ufrag: String = number.into_iter().chain(random).map(ice_char).collect();
        let pwd = secret.password(&ufrag, rng.u64(..));
        let key = stun::password_key(&pwd);
        LocalCredentials { ufrag, pwd, key }
    }

    /// 10 `ice-char`s.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// 32 `ice-char`s. Never logged.
    pub fn pwd(&self) -> &str {
        &self.pwd
    }
}

impl fmt::Debug for LocalCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalCredentials({})", self.ufrag)
    }
}

/// What the client's description says. Needed for checks of our own only.
#[derive(Clone)]
pub struct RemoteCredentials {
    ufrag: String,
    pub(super) key: hmac::Key,
}

/// The fragment has not 4 to 256 `ice-char`s, or the password not 22 to 256 (RFC 8839 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ice-ufrag or ice-pwd is outside the grammar")]
pub struct BadCredentials;

impl RemoteCredentials {
    /// From `a=ice-ufrag` and `a=ice-pwd`.
    ///
    /// # Errors
    /// See [`BadCredentials`].
    pub fn parse(ufrag: &str, pwd: &str) -> Result<RemoteCredentials, BadCredentials> {
        let good = |text: &str, min: usize| text.len() >= min && stun::is_ice_chars(text);
        if !good(ufrag, 4) || !good(pwd, 22) {
            return Err(BadCredentials);
        }
        Ok(RemoteCredentials { ufrag: ufrag.to_owned(), key: stun::password_key(pwd) })
    }

    /// The fragment.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }
}

impl fmt::Debug for RemoteCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteCredentials({})", self.ufrag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_fit_the_grammar_and_do_not_repeat() {
        let secret = IceSecret::from_bytes([1; 32]);
        let mut rng = fastrand::Rng::with_seed(1);
        let made: Vec<LocalCredentials> =
            (0..200).map(|_| LocalCredentials::generate(&secret, 0, &mut rng)).collect();
        for one in &made {
            assert!(RemoteCredentials::parse(one.ufrag(), one.pwd()).is_ok());
            assert!(one.ufrag().len() >= 8 && one.pwd().len() >= 24);
            assert!(!format!("{one:?}").contains(one.pwd()));
        }
        let distinct: std::collections::HashSet<&str> = made.iter().map(LocalCredentials::pwd).collect();
        assert_eq!(distinct.len(), made.len());
    }

    #[test]
    fn a_fragment_tells_its_core() {
        let secret = IceSecret::from_bytes([1; 32]);
        let mut rng = fastrand::Rng::with_seed(1);
        for core in [0, 1, 63, 64, MAX_CORES - 1] {
            let made = LocalCredentials::generate(&secret, core, &mut rng);
            assert_eq!(core_of(made.ufrag()), Some(core), "{made:?}");
        }
        for text in ["", "A", "A:", "é9"] {
            assert_eq!(core_of(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_generator_alone_does_not_tell_the_password() {
        let make = |secret| {
            LocalCredentials::generate(&IceSecret::from_bytes(secret), 0, &mut fastrand::Rng::with_seed(7))
        };
        let (one, other) = (make([1; 32]), make([2; 32]));
        assert_eq!(one.ufrag(), other.ufrag());
        assert_ne!(one.pwd(), other.pwd());
        assert_eq!(one.pwd(), make([1; 32]).pwd(), "the same seeds give the same run");
    }

    #[test]
    fn credentials_outside_the_grammar_are_refused() {
        let pwd = "a".repeat(22);
        assert!(RemoteCredentials::parse("abcd", &pwd).is_ok());
        let long = "a".repeat(257);
        for (ufrag, pwd) in
            [("abc", &*pwd), ("abcd", &pwd[1..]), (&long, &pwd), ("abcd", &long), ("ab:d", &pwd)]
        {
            assert_eq!(RemoteCredentials::parse(ufrag, pwd).unwrap_err(), BadCredentials);
        }
    }
}
