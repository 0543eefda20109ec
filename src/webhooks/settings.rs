//! What webhooks need to know: checked values.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper::http::uri::Scheme;
use signaling::access::Keys;

use super::address::Allowed;
use super::schedule::Patience;
use crate::config::WebhooksSection;

/// Receivers; each has a queue and connections of its own.
const MAX_URLS: usize = 16;
/// A queue that holds no burst is of no use.
const MIN_DISK: u64 = 1 << 20;

/// `[webhooks]`, checked.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where events go.
    pub urls: Vec<Uri>,
    /// Signs them.
    pub key: SigningKey,
    /// The queue's file.
    pub path: PathBuf,
    /// Bytes that it may take on disk.
    pub max_disk: u64,
    /// How often and how long is tried.
    pub patience: Patience,
    /// Of one attempt, from the name's resolution to the answer.
    pub timeout: Duration,
    /// Beside public addresses.
    pub allowed: Allowed,
    /// PEM certificates trusted beside those of the Web.
    pub ca_file: Option<PathBuf>,
}

/// An API key that signs.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The key, which is the issuer of signatures.
    pub name: String,
    /// Its secret.
    pub secret: String,
}

impl fmt::Debug for SigningKey {
    /// Names the key, never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.name).finish()
    }
}

/// Why `[webhooks]` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookSettingsError {
    /// Not a URL that can be posted to.
    #[error("webhooks.urls: {url:?}: {reason}; write one such as \"https://app.example.com/webhooks\"")]
    Url {
        /// As written.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Events could be read on the way.
    #[error("webhooks.urls: {url:?} is not encrypted; use https, or set webhooks.allow-http = true")]
    PlainHttp {
        /// As written.
        url: String,
    },
    /// One queue each.
    #[error("webhooks.urls: {got} receivers, limit {MAX_URLS}; let one of them pass events on")]
    TooManyUrls {
        /// As written.
        got: usize,
    },
    /// Nothing says which key signs.
    #[error(
        "webhooks.api-key: there are {keys} API keys; name the one to sign with, which the receiver has, too"
    )]
    WhichKey {
        /// How many.
        keys: usize,
    },
    /// Not one of the keys.
    #[error("webhooks.api-key: there is no API key {key:?} in [keys]; write one of those")]
    NoSuchKey {
        /// As written.
        key: String,
    },
    /// Too little.
    #[error("webhooks.{key}: must be at least {least}; the default is {default}")]
    TooSmall {
        /// Which.
        key: &'static str,
        /// The least.
        least: &'static str,
        /// The default.
        default: &'static str,
    },
    /// Neither a network nor a name.
    #[error(
        "webhooks.allow: {entry:?} is neither a network such as \"10.1.0.0/16\", nor an address, nor a host name"
    )]
    Allow {
        /// As written.
        entry: String,
    },
}

impl WebhookSettingsError {
    /// The key at fault.
    pub fn key(&self) -> String {
        let key = match self {
            WebhookSettingsError::Url { .. }
            | WebhookSettingsError::PlainHttp { .. }
            | WebhookSettingsError::TooManyUrls { .. } => "urls",
            WebhookSettingsError::WhichKey { .. } | WebhookSettingsError::NoSuchKey { .. } => "api-key",
            WebhookSettingsError::TooSmall { key, .. } => key,
            WebhookSettingsError::Allow { .. } => "allow",
        };
        format!("webhooks.{key}")
    }
}

impl WebhookSettings {
    /// Checks the section; `None` when it names no receiver. In development receivers on this machine are allowed, without
    /// encryption.
    ///
    /// # Errors
    /// [`WebhookSettingsError`] names the key at fault.
    pub fn checked(
        section: WebhooksSection,
        keys: &Keys,
        dev: bool,
    ) -> Result<Option<WebhookSettings>, WebhookSettingsError> {
        let least = |key, ok: bool, least, default| {
            if ok { Ok(()) } else { Err(WebhookSettingsError::TooSmall { key, least, default }) }
        };
        least("max-disk", section.max_disk >= MIN_DISK, "1048576", "1073741824")?;
        least("max-age", section.max_age >= Duration::from_secs(1), "1s", "24h")?;
        least("first-retry", section.first_retry >= Duration::from_millis(10), "10ms", "500ms")?;
        least("longest-retry", section.longest_retry >= section.first_retry, "first-retry", "5m")?;
        least("timeout", section.timeout >= Duration::from_millis(100), "100ms", "5s")?;
        least("connections", section.connections > 0, "1", "16")?;
        let mut allowed = Allowed::default();
        for entry in &section.allow {
            allow(&mut allowed, entry)?;
        }
        if dev {
            for network in ["127.0.0.0/8", "::1/128"] {
                allowed.networks.extend(network.parse::<ipnet::IpNet>());
            }
        }
        let allow_http = section.allow_http || dev;
        let urls =
            section.urls.iter().map(|url| checked_url(url, allow_http)).collect::<Result<Vec<_>, _>>()?;
        if urls.len() > MAX_URLS {
            return Err(WebhookSettingsError::TooManyUrls { got: urls.len() });
        }
        if urls.is_empty() {
            return Ok(None);
        }
        Ok(Some(WebhookSettings {
            urls,
            key: signing_key(&section.api_key, keys)?,
            path: section.path,
            max_disk: section.max_disk,
            patience: Patience {
                first: section.first_retry,
                longest: section.longest_retry,
                max_age: section.max_age,
                max_attempts: (section.max_attempts > 0).then_some(section.max_attempts),
                concurrency: section.connections,
            },
            timeout: section.timeout,
            allowed,
            ca_file: section.ca_file,
        }))
    }
}

fn checked_url(text: &str, allow_http: bool) -> Result<Uri, WebhookSettingsError> {
    let refused = |reason| WebhookSettingsError::Url { url: text.to_owned(), reason };
    let url: Uri = text.parse().map_err(|_| refused("not a URL"))?;
    let authority = url.authority().ok_or_else(|| refused("no host in it"))?;
    if authority.host().is_empty() {
        return Err(refused("no host in it"));
    }
    if authority.as_str().contains('@') {
        return Err(refused("user names and passwords are not sent; the signature tells who calls"));
    }
    match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => Ok(url),
        Some(scheme) if *scheme == Scheme::HTTP && allow_http => Ok(url),
        Some(scheme) if *scheme == Scheme::HTTP => {
            Err(WebhookSettingsError::PlainHttp { url: text.to_owned() })
        }
        _ => Err(refused("neither https nor http")),
    }
}

fn allow(allowed: &mut Allowed, entry: &str) -> Result<(), WebhookSettingsError> {
    if let Ok(ip) = entry.parse::<IpAddr>() {
        allowed.networks.push(ip.to_canonical().into());
    } else if let Ok(network) = entry.parse() {
        allowed.networks.push(network);
    } else if !entry.is_empty()
        && entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    {
        allowed.hosts.push(entry.to_ascii_lowercase());
    } else {
        return Err(WebhookSettingsError::Allow { entry: entry.to_owned() });
    }
    Ok(())
}

fn signing_key(named: &str, keys: &Keys) -> Result<SigningKey, WebhookSettingsError> {
    let name = if named.is_empty() {
        let mut names = keys.names();
        match (names.next(), names.next()) {
            (Some(only), None) => only,
            _ => return Err(WebhookSettingsError::WhichKey { keys: keys.names().count() }),
        }
    } else {
        named
    };
    let secret = keys.secret(name).ok_or_else(|| WebhookSettingsError::NoSuchKey { key: name.to_owned() })?;
    Ok(SigningKey { name: name.to_owned(), secret: secret.to_owned() })
}
