//! The list of servers as an operator writes it.

use std::fmt;

use crate::uri::IceUri;

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
    #[error("ICE server {index}: {uri} needs username and credential")]
    NoCredential {
        /// Which entry.
        index: usize,
        /// Its first relay URI.
        uri: IceUri,
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
            if let Some(uri) = server.urls.iter().find(|uri| uri.scheme().is_relay())
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
        };
        assert!(IceServerList::new(vec![server("stun:a", ""), server("turn:a", "u")]).is_ok());
        let error = IceServerList::new(vec![server("stun:a", ""), server("turn:a", "")]).unwrap_err();
        assert_eq!(error.to_string(), "ICE server 1: turn:a needs username and credential");
        assert_eq!(IceServerList::new(vec![IceServer::default()]), Err(ListError::NoUrls { index: 0 }));
        let many = vec![server("stun:a", ""); IceServerList::MAX + 1];
        assert!(matches!(IceServerList::new(many), Err(ListError::TooMany { got: 17, limit: 16 })));
    }

    #[test]
    fn debug_output_hides_the_credential() {
        let server = IceServer { urls: vec![], username: "u".into(), credential: "hunter2".into() };
        assert!(!format!("{server:?}").contains("hunter2"));
    }
}
