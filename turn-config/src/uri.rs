//! URIs of STUN and TURN servers (RFC 7064 §3.1, RFC 7065 §3.1).

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// What one URI asks of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `stun:`, address discovery over UDP.
    Stun,
    /// `stuns:`, the same over TLS.
    Stuns,
    /// `turn:`, a relay over UDP or TCP.
    Turn,
    /// `turns:`, a relay over TLS.
    Turns,
}

impl Scheme {
    const ALL: [(&'static str, Scheme); 4] =
        [("stun", Scheme::Stun), ("stuns", Scheme::Stuns), ("turn", Scheme::Turn), ("turns", Scheme::Turns)];

    /// Whether it names a relay, which needs credentials.
    pub const fn is_relay(self) -> bool {
        matches!(self, Scheme::Turn | Scheme::Turns)
    }
}

/// A checked `stun:`, `stuns:`, `turn:` or `turns:` URI, kept as the operator wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct IceUri {
    text: String,
    scheme: Scheme,
    /// Where the host lies in the text, brackets of IPv6 left out.
    host: (usize, usize),
    port: Option<u16>,
}

impl IceUri {
    /// The URI as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it asks of its server.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name or address of its server.
    pub fn host(&self) -> &str {
        &self.text[self.host.0..self.host.1]
    }

    /// Its port, or the one that its scheme has by default (RFC 7064 §3.2, RFC 7065 §3.2).
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.scheme {
            Scheme::Stun | Scheme::Turn => 3478,
            Scheme::Stuns | Scheme::Turns => 5349,
        })
    }
}

impl fmt::Display for IceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a URI was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme, or none.
    #[error("{uri:?} must begin with stun:, stuns:, turn: or turns:")]
    Scheme {
        /// What was written.
        uri: String,
    },
    /// `turn://host` is a common slip: these URIs have no slashes.
    #[error("{uri:?} must not have // after the scheme: write {scheme}:host")]
    Slashes {
        /// What was written.
        uri: String,
        /// Its scheme.
        scheme: &'static str,
    },
    /// The host is missing, or is neither a name nor an address.
    #[error("{uri:?} has no usable host name or address")]
    Host {
        /// What was written.
        uri: String,
    },
    /// The port is not 1 to 65535.
    #[error("{uri:?}: port must be 1 to 65535")]
    Port {
        /// What was written.
        uri: String,
    },
    /// Only `?transport=udp` and `?transport=tcp` exist, and for relays alone.
    #[error("{uri:?}: after ? only transport=udp or transport=tcp may stand, and only for turn: and turns:")]
    Query {
        /// What was written.
        uri: String,
    },
}

impl FromStr for IceUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<IceUri, UriError> {
        let uri = || text.to_owned();
        let (written, rest) = text.split_once(':').ok_or_else(|| UriError::Scheme { uri: uri() })?;
        let (scheme_name, scheme) = Scheme::ALL
            .into_iter()
            .find(|(name, _)| written.eq_ignore_ascii_case(name))
            .ok_or_else(|| UriError::Scheme { uri: uri() })?;
        if rest.starts_with("//") {
            return Err(UriError::Slashes { uri: uri(), scheme: scheme_name });
        }
        let (address, query) = match rest.split_once('?') {
            Some((address, query)) => (address, Some(query)),
            None => (rest, None),
        };
        match query {
            None => {}
            Some("transport=udp" | "transport=tcp") if scheme.is_relay() => {}
            Some(_) => return Err(UriError::Query { uri: uri() }),
        }
        let (host, is_host, port) = match address.strip_prefix('[') {
            Some(v6) => match v6.split_once(']') {
                Some((host, "")) => (host, host.parse::<Ipv6Addr>().is_ok(), None),
                Some((host, after)) => {
                    (host, host.parse::<Ipv6Addr>().is_ok(), after.strip_prefix(':').or(Some("")))
                }
                None => ("", false, None),
            },
            None => match address.split_once(':') {
                Some((host, port)) => (host, is_host(host), Some(port)),
                None => (address, is_host(address), None),
            },
        };
        if !is_host {
            return Err(UriError::Host { uri: uri() });
        }
        let number = |port: &str| {
            let digits = port.bytes().all(|c| c.is_ascii_digit());
            port.parse::<u16>()
                .ok()
                .filter(|port| digits && *port > 0)
                .ok_or_else(|| UriError::Port { uri: uri() })
        };
        let port = port.map(number).transpose()?;
        let start = written.len() + 1 + usize::from(address.starts_with('['));
        let host = (start, start + host.len());
        Ok(IceUri { text: text.to_owned(), scheme, host, port })
    }
}

/// A host name or IPv4 address: letters, digits, dots and dashes (RFC 3986 §3.2.2, the part in use).
fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'))
}

impl TryFrom<String> for IceUri {
    type Error = UriError;

    fn try_from(text: String) -> Result<IceUri, UriError> {
        text.parse()
    }
}

impl From<IceUri> for String {
    fn from(uri: IceUri) -> String {
        uri.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_clients_understand_are_accepted_unchanged() {
        for good in [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "stuns:stun.example.org:5349",
            "turn:turn.example.org?transport=udp",
            "turn:[2001:db8::1]:3478?transport=tcp",
            "turns:turn.example.org:443?transport=tcp",
            "TURN:turn.example.org",
        ] {
            assert_eq!(good.parse::<IceUri>().expect(good).as_str(), good);
        }
    }

    #[test]
    fn host_and_port_are_read() {
        for (text, host, port) in [
            ("stun:stun.example.org", "stun.example.org", 3478),
            ("turn:192.0.2.1:80?transport=udp", "192.0.2.1", 80),
            ("turns:[2001:db8::1]:443?transport=tcp", "2001:db8::1", 443),
            ("turns:[2001:db8::1]", "2001:db8::1", 5349),
        ] {
            let uri: IceUri = text.parse().expect(text);
            assert_eq!((uri.host(), uri.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn each_slip_has_its_own_error() {
        let error = |text: &str| text.parse::<IceUri>().expect_err(text);
        for text in ["", "example.org", "http:example.org", "turnx:a"] {
            assert!(matches!(error(text), UriError::Scheme { .. }), "{text}");
        }
        assert!(matches!(error("turn://example.org"), UriError::Slashes { scheme: "turn", .. }));
        for text in
            ["stun:", "turn::3478", "turn:[2001:db8::1", "turn:[host]:1", "turn:a b", "turn:2001:db8::1x/"]
        {
            assert!(matches!(error(text), UriError::Host { .. } | UriError::Port { .. }), "{text}");
        }
        for text in ["turn:a:0", "turn:a:65536", "turn:a:", "turn:a:+1", "turn:[::1]x", "turn:[::1]:"] {
            assert!(matches!(error(text), UriError::Port { .. }), "{text}");
        }
        for text in ["turn:a?transport=sctp", "turn:a?", "stun:a?transport=udp"] {
            assert!(matches!(error(text), UriError::Query { .. }), "{text}");
        }
        assert!(error("turn://example.org").to_string().contains("write turn:host"));
    }
}
