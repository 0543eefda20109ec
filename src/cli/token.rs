//! `sluice token`: a join token from flags.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use humantime_serde::re::humantime;
use signaling::access::{self, Claims, MintError, VideoGrant};

use crate::config::DEV_KEY;

/// Print a token with which a client can join a room. What is not said is allowed to publish, subscribe and send data.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
#[command(after_help = "Example: sluice token --room standup --identity alice --name Alice --ttl 1h")]
pub struct TokenArgs {
    /// The room that may be joined
    #[arg(long, value_parser = not_empty)]
    pub room: String,
    /// Who joins, unique in the room
    #[arg(long, value_parser = not_empty)]
    pub identity: String,
    /// Name to show
    #[arg(long, default_value = "")]
    pub name: String,
    /// How long the token is good for, such as 30m, 6h or 7d
    #[arg(long, default_value = "6h", value_parser = ttl)]
    pub ttl: Duration,
    /// API key that signs
    #[arg(long, env = "SLUICE_API_KEY", default_value = DEV_KEY.0)]
    pub key: String,
    /// The key's secret
    #[arg(long, env = "SLUICE_API_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// Take the key's secret from this configuration file
    #[arg(long, value_name = "FILE", env = "SLUICE_CONFIG", conflicts_with = "secret")]
    pub config: Option<PathBuf>,
    /// May publish tracks [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub can_publish: Option<bool>,
    /// May subscribe to tracks [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub can_subscribe: Option<bool>,
    /// May send data messages [default: as --can-publish]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub can_publish_data: Option<bool>,
    /// May publish only this source: camera, microphone, screen_share or screen_share_audio; may be repeated
    #[arg(long = "can-publish-source", value_name = "SOURCE",
          value_parser = ["camera", "microphone", "screen_share", "screen_share_audio"])]
    pub can_publish_sources: Vec<String>,
    /// May change their own name, metadata and attributes
    #[arg(long)]
    pub can_update_own_metadata: bool,
    /// Is not shown to others
    #[arg(long)]
    pub hidden: bool,
    /// Is a recorder
    #[arg(long)]
    pub recorder: bool,
    /// May administer the room
    #[arg(long)]
    pub room_admin: bool,
    /// May create and delete rooms
    #[arg(long)]
    pub room_create: bool,
    /// May list rooms
    #[arg(long)]
    pub room_list: bool,
    /// Free text for the application
    #[arg(long, default_value = "")]
    pub metadata: String,
    /// A pair for the application; may be repeated
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = pair)]
    pub attributes: Vec<(String, String)>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A key without its secret.
    #[error("--secret is missing: the secret of API key {0}; or --config FILE to take it from there")]
    NoSecret(String),
    /// The file has other keys.
    #[error("--key {key}: {file} has no such key in [keys]; it has {has}")]
    UnknownKey {
        /// As asked for.
        key: String,
        /// The file.
        file: String,
        /// Its keys.
        has: String,
    },
    /// The file.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Signing.
    #[error(transparent)]
    Mint(#[from] MintError),
}

impl TokenArgs {
    /// The token, valid from `unix_ms` on (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// [`TokenError`] names the flag to look at.
    pub fn token(&self, unix_ms: i64) -> Result<String, TokenError> {
        let secret = self.find_secret()?;
        let claims = Claims {
            sub: self.identity.clone(),
            name: self.name.clone(),
            metadata: self.metadata.clone(),
            attributes: self.attributes.iter().cloned().collect::<BTreeMap<_, _>>(),
            video: Some(VideoGrant {
                room_join: true,
                room: self.room.clone(),
                room_admin: self.room_admin,
                room_create: self.room_create,
                room_list: self.room_list,
                can_publish: self.can_publish,
                can_subscribe: self.can_subscribe,
                can_publish_data: self.can_publish_data,
                can_publish_sources: self.can_publish_sources.clone(),
                can_update_own_metadata: self.can_update_own_metadata.then_some(true),
                hidden: self.hidden,
                recorder: self.recorder,
                ..VideoGrant::default()
            }),
            ..Claims::default()
        };
        Ok(access::mint(&self.key, &secret, claims, self.ttl, unix_ms.div_euclid(1000))?)
    }

    fn find_secret(&self) -> Result<String, TokenError> {
        if let Some(secret) = &self.secret {
            return Ok(secret.clone());
        }
        if let Some(file) = &self.config {
            let keys = crate::config::load(file, std::env::vars_os())?.keys;
            return keys.secret(&self.key).map(str::to_owned).ok_or_else(|| TokenError::UnknownKey {
                key: self.key.clone(),
                file: file.display().to_string(),
                has: format!("{keys:?}"),
            });
        }
        if self.key == DEV_KEY.0 {
            return Ok(DEV_KEY.1.to_owned());
        }
        Err(TokenError::NoSecret(self.key.clone()))
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, such as 6h"))?;
    if ttl.as_secs() == 0 { Err("must be at least 1s".to_owned()) } else { Ok(ttl) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("needs the form KEY=VALUE")?;
    if key.is_empty() { Err("the key is empty".to_owned()) } else { Ok((key.to_owned(), value.to_owned())) }
}
