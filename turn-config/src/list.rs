//! The list of servers as an operator writes it, and as it is told to a participant.

use std::fmt;
use std::time::Duration;

use crate::credential::Secret;
use crate::uri::IceUri;

/// Longest and default life of a credential made from a secret: a long call, and ICE restarts in it.
const DEFAULT_TTL: Duration = Duration::from_hours(4);
/// Shorter ones would end while a client still gathers.
const MIN_TTL: Duration = Duration::from_mins(1);

/// One entry as written in the configuration file.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IceServer {
    /// Ways to reach it, such as `"turn:turn.example.org:3478?transport=udp"`.
    pub urls: Vec<IceUri>,
    /// User name, for relays.
    #[serde(default)]
    pub username: String,
    /// Password, for relays. Goes to every client that joins.
    #[serde(default)]
    pub credential: String,
    /// In place of both: what the relay knows too (coturn: `static-auth-secret`). Each participant gets a credential
    /// of its own that expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Life of such a credential; 4 hours without it.
    #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
}

/// One entry as a participant is told.
#[derive(Clone, PartialEq, Eq)]
pub struct ToldServer {
    /// As the operator wrote them.
    pub urls: Vec<String>,
    /// Empty for address discovery alone.
    pub username: String,
    /// The same.
    pub credential: String,
}

impl fmt::Debug for ToldServer {
    /// Leaves the credential out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToldServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IceServer {
    /// Leaves the credential out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("urls", &self.urls)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Why a list of servers was refused. `index` counts entries from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// An entry without `urls`.
    #[error("ICE server {index}: urls is empty")]
    NoUrls {
        /// Which entry.
        index: usize,
    },
    /// A relay without user name or password: no client could use it (RFC 8656 §5).
    #[error("ICE server {index}: {uri} needs username and credential, or secret")]
    NoCredential {
        /// Which entry.
        index: usize,
        /// Its first relay URI.
        uri: IceUri,
    },
    /// Both ways to authenticate.
    #[error("ICE server {index}: secret stands beside username or credential; keep one of the two ways")]
    TwoCredentials {
        /// Which entry.
        index: usize,
    },
    /// A life for nothing, or one that ends before it is used.
    #[error("ICE server {index}: ttl needs a secret and at least 1m; the default is 4h")]
    Ttl {
        /// Which entry.
        index: usize,
    },
    /// An empty secret, which everybody knows.
    #[error("ICE server {index}: secret is empty")]
    EmptySecret {
        /// Which entry.
        index: usize,
    },
    /// More than a join can carry with reason.
    #[error("{got} ICE servers, limit {limit}")]
    TooMany {
        /// As configured.
        got: usize,
        /// The limit.
        limit: usize,
    },
}

/// The checked list that goes into every join, in the operator's order; empty when clients need none.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(try_from = "Vec<IceServer>", into = "Vec<IceServer>")]
pub struct IceServerList(Vec<IceServer>);

impl IceServerList {
    /// Browsers warn above five servers since each slows discovery down.
    pub const MAX: usize = 16;

    /// Checks what the types alone cannot.
    ///
    /// # Errors
    /// [`ListError`] names the first entry at fault.
    pub fn new(servers: Vec<IceServer>) -> Result<IceServerList, ListError> {
        if servers.len() > Self::MAX {
            return Err(ListError::TooMany { got: servers.len(), limit: Self::MAX });
        }
        for (index, server) in servers.iter().enumerate() {
            if server.urls.is_empty() {
                return Err(ListError::NoUrls { index });
            }
            if server.ttl.is_some_and(|ttl| server.secret.is_none() || ttl < MIN_TTL) {
                return Err(ListError::Ttl { index });
            }
            if let Some(secret) = &server.secret {
                if !server.username.is_empty() || !server.credential.is_empty() {
                    return Err(ListError::TwoCredentials { index });
                }
                if secret.reveal().is_empty() {
                    return Err(ListError::EmptySecret { index });
                }
            } else if let Some(uri) = server.urls.iter().find(|uri| uri.scheme().is_relay())
                && (server.username.is_empty() || server.credential.is_empty())
            {
                return Err(ListError::NoCredential { index, uri: uri.clone() });
            }
        }
        Ok(IceServerList(servers))
    }

    /// The servers, in order.
    pub fn servers(&self) -> &[IceServer] {
        &self.0
    }

    /// The same list with one more server, tried after the others.
    ///
    /// # Errors
    /// As [`IceServerList::new`].
    pub fn with(mut self, server: IceServer) -> Result<IceServerList, ListError> {
        self.0.push(server);
        IceServerList::new(self.0)
    }

    /// What a participant is told at `unix_s`, seconds since the Unix epoch.
    pub fn told_to(&self, identity: &str, unix_s: u64) -> Vec<ToldServer> {
        let told = |server: &IceServer| {
            let urls = server.urls.iter().map(ToString::to_string).collect();
            let Some(secret) = &server.secret else {
                let (username, credential) = (server.username.clone(), server.credential.clone());
                return ToldServer { urls, username, credential };
            };
            let expires = unix_s.saturating_add(server.ttl.unwrap_or(DEFAULT_TTL).as_secs());
            let made = secret.credential(identity, expires);
            ToldServer { urls, username: made.username, credential: made.password }
        };
        self.0.iter().map(told).collect()
    }
}

impl TryFrom<Vec<IceServer>> for IceServerList {
    type Error = ListError;

    fn try_from(servers: Vec<IceServer>) -> Result<IceServerList, ListError> {
        IceServerList::new(servers)
    }
}

impl From<IceServerList> for Vec<IceServer> {
    fn from(list: IceServerList) -> Vec<IceServer> {
        list.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_without_credentials_is_named() {
        let server = |url: &str, username: &str| IceServer {
            urls: vec![url.parse().unwrap()],
            username: username.into(),
            credential: username.into(),
            ..IceServer::default()
        };
        assert!(IceServerList::new(vec![server("stun:a", ""), server("turn:a", "u")]).is_ok());
        let error = IceServerList::new(vec![server("stun:a", ""), server("turn:a", "")]).unwrap_err();
        assert_eq!(error.to_string(), "ICE server 1: turn:a needs username and credential, or secret");
        assert_eq!(IceServerList::new(vec![IceServer::default()]), Err(ListError::NoUrls { index: 0 }));
        let many = vec![server("stun:a", ""); IceServerList::MAX + 1];
        assert!(matches!(IceServerList::new(many), Err(ListError::TooMany { got: 17, limit: 16 })));
    }

    #[test]
    fn a_secret_replaces_user_name_and_password() {
        let entry = |server: IceServer| {
            let error =
                IceServerList::new(vec![IceServer { urls: vec!["turn:a".parse().unwrap()], ..server }]);
            error.map(drop)
        };
        let secret = || Some(Secret::new("north"));
        assert_eq!(entry(IceServer { secret: secret(), ..IceServer::default() }), Ok(()));
        let both = IceServer { secret: secret(), username: "u".into(), ..IceServer::default() };
        assert_eq!(entry(both), Err(ListError::TwoCredentials { index: 0 }));
        let empty = IceServer { secret: Some(Secret::new("")), ..IceServer::default() };
        assert_eq!(entry(empty), Err(ListError::EmptySecret { index: 0 }));
        for (secret, seconds) in [(None, 3600), (secret(), 59)] {
            let ttl = Some(Duration::from_secs(seconds));
            assert_eq!(
                entry(IceServer { secret, ttl, ..IceServer::default() }),
                Err(ListError::Ttl { index: 0 })
            );
        }
    }

    #[test]
    fn each_participant_is_told_a_credential_of_its_own() {
        let fixed = IceServer {
            urls: vec!["turn:fixed".parse().unwrap()],
            username: "u".into(),
            credential: "p".into(),
            ..IceServer::default()
        };
        let shared = IceServer {
            urls: vec!["turns:shared:443?transport=tcp".parse().unwrap()],
            secret: Some(Secret::new("north")),
            ttl: Some(Duration::from_mins(10)),
            ..IceServer::default()
        };
        let list = IceServerList::new(vec![fixed]).unwrap().with(shared).unwrap();
        let [ada, grace] = ["ada", "grace"].map(|identity| list.told_to(identity, 1_000));
        assert_eq!((ada[0].username.as_str(), ada[0].credential.as_str()), ("u", "p"));
        assert_eq!(ada[1].urls, ["turns:shared:443?transport=tcp"]);
        assert_eq!((ada[1].username.as_str(), grace[1].username.as_str()), ("1600:ada", "1600:grace"));
        assert_eq!(ada[1].credential, Secret::new("north").password("1600:ada"));
        assert_ne!(ada[1].credential, grace[1].credential);
    }

    #[test]
    fn debug_output_hides_the_credential() {
        let server = IceServer {
            username: "u".into(),
            credential: "hunter2".into(),
            secret: Some(Secret::new("hunter2")),
            ..IceServer::default()
        };
        assert!(!format!("{server:?}").contains("hunter2"));
        let told = ToldServer { urls: vec![], username: "u".into(), credential: "hunter2".into() };
        assert!(!format!("{told:?}").contains("hunter2"));
    }
}
