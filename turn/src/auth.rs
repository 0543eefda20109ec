//! Who asks: long-term credentials (RFC 8489 §9.2) without a list of users, nonces without a list of nonces.

use ring::hmac;
use turn_config::{Secret, read_username};

use crate::allocation::Client;
use crate::message::{Message, kind, long_term_key};
use crate::server::Clock;
use crate::stats::Refusal;

/// Seconds for which a nonce is given out; it is good for as long again.
const NONCE_WINDOW: u64 = 600;
/// RFC 8489 §14.3.
const MAX_USERNAME: usize = 508;
/// RFC 8489 §14.9.
const MAX_REALM: usize = 127;

/// What an answer to somebody without a credential can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The usual.
    Long,
    /// For datagrams of 28 to 34 bytes, such as libwebrtc's first Allocate, which has 28: a realm of one character, since libwebrtc
    /// does not sign for an empty one, and half a nonce.
    Short,
}

impl Challenge {
    /// Header, ERROR-CODE without a phrase, REALM and NONCE: 52 or 44 bytes. Of datagrams, whose source may be forged, the long
    /// one is within 1.5 times the request, the short one within 1.58. `None`: the request is too short for both.
    pub(crate) const fn within(request: usize, is_stream: bool) -> Option<Challenge> {
        match request {
            _ if is_stream => Some(Challenge::Long),
            35.. => Some(Challenge::Long),
            28.. => Some(Challenge::Short),
            _ => None,
        }
    }

    pub(crate) const fn realm(self) -> &'static str {
        match self {
            Challenge::Long => "sluice",
            Challenge::Short => "s",
        }
    }

    const fn nonce_length(self) -> usize {
        match self {
            Challenge::Long => 8,
            Challenge::Short => 4,
        }
    }
}

/// Somebody who knows the password of a user name.
pub(crate) struct User<'a> {
    pub(crate) username: &'a str,
    /// Its part without the expiry.
    pub(crate) name: &'a str,
    pub(crate) key: hmac::Key,
}

/// Why somebody is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// No credential yet: a challenge is due.
    Unsigned,
    /// A credential that is wrong: a challenge too, and counted.
    Refused(Refusal),
}

/// Makes and checks what proves a user.
pub(crate) struct Authority {
    secret: Secret,
    nonce_key: hmac::Key,
}

impl Authority {
    pub(crate) fn new(secret: Secret, nonce_key: &[u8; 32]) -> Authority {
        Authority { secret, nonce_key: hmac::Key::new(hmac::HMAC_SHA256, nonce_key) }
    }

    /// Who sent `message`. The expiry counts for a new allocation only: one that is there outlives its credential, so that
    /// nobody drops out of a long call.
    pub(crate) fn authenticate<'a>(
        &self,
        clock: Clock,
        client: &Client,
        message: &Message<'a>,
        begins: bool,
    ) -> Result<User<'a>, Denial> {
        if !message.is_signed() {
            return Err(Denial::Unsigned);
        }
        let refused = |why| Err(Denial::Refused(why));
        let (Some(username), Some(realm), Some(nonce)) = (
            message.text(kind::USERNAME, MAX_USERNAME),
            message.text(kind::REALM, MAX_REALM),
            message.attribute(kind::NONCE),
        ) else {
            return refused(Refusal::Malformed);
        };
        // The cheap check first: only who can receive at the address gets further.
        if !self.is_fresh(clock, client, nonce) {
            return refused(Refusal::StaleNonce);
        }
        let Some((expires, name)) = read_username(username) else {
            return refused(Refusal::WrongCredential);
        };
        if ![Challenge::Long, Challenge::Short].iter().any(|challenge| challenge.realm() == realm) {
            return refused(Refusal::WrongCredential);
        }
        let key = long_term_key(username, realm, &self.secret.password(username));
        if !message.is_signed_by(&key) {
            return refused(Refusal::WrongCredential);
        }
        if begins && expires <= clock.unix_s {
            return refused(Refusal::Expired);
        }
        Ok(User { username, name, key })
    }

    /// The nonce that a client is given now.
    pub(crate) fn nonce(&self, clock: Clock, client: &Client, challenge: Challenge) -> Vec<u8> {
        let mut nonce = self.nonce_of(clock.unix_s / NONCE_WINDOW, client);
        nonce.truncate(challenge.nonce_length());
        nonce
    }

    fn is_fresh(&self, clock: Clock, client: &Client, nonce: &[u8]) -> bool {
        let window = clock.unix_s / NONCE_WINDOW;
        let lengths = [Challenge::Long, Challenge::Short].map(Challenge::nonce_length);
        lengths.contains(&nonce.len())
            && [window, window.saturating_sub(1)]
                .iter()
                .any(|window| self.nonce_of(*window, client)[..nonce.len()] == *nonce)
    }

    /// 8 characters, 48 bits: to guess one helps nobody without a password, and with one nobody needs to.
    fn nonce_of(&self, window: u64, client: &Client) -> Vec<u8> {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut context = hmac::Context::with_key(&self.nonce_key);
        context.update(&window.to_be_bytes());
        context.update(&[client.transport as u8]);
        context.update(client.remote.to_string().as_bytes());
        let tag = context.sign();
        tag.as_ref().iter().take(8).map(|byte| LETTERS[usize::from(byte & 63)]).collect()
    }
}
