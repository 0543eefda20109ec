//! The ICE servers that a client is told to use: what an operator writes, checked once, and then trusted.
//!
//! Always: an [`IceUri`] that exists is valid (RFC 7064 §3.1, RFC 7065 §3.1), and a `turn:` server has
//! credentials, or the secret from which each participant's are made.
//! Not here: the relay itself, and where the list comes from.
#![forbid(unsafe_code)]

mod coturn;
mod credential;
mod list;
mod uri;

pub use coturn::{CoturnConfig, CoturnError};
pub use credential::{Credential, Secret, read_username};
pub use list::{IceServer, IceServerList, ListError, ToldServer};
pub use uri::{IceUri, Scheme, UriError};
