//! The file's sections as written. `config/reference.toml` says what each key is for.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The whole file. There are no defaults here: a file is laid over the reference before it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `[http]`
    pub http: HttpSection,
    /// `[media]`
    pub media: MediaSection,
    /// `[keys]`
    pub keys: KeysSection,
    /// `[rooms]`
    pub rooms: RoomsSection,
    /// `[whip]`
    pub whip: WhipSection,
    /// `[agents]`
    pub agents: AgentsSection,
    /// `[limits]`
    pub limits: LimitsSection,
    /// `[turn]`
    pub turn: TurnSection,
    /// `[webhooks]`
    pub webhooks: WebhooksSection,
    /// `[log]`
    pub log: LogSection,
    /// `[[ice-servers]]`
    #[serde(default)]
    pub ice_servers: turn_config::IceServerList,
}

/// `[http]`: signalling, page, health, metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpSection {
    /// Where to listen.
    pub listen: SocketAddr,
    /// PEM certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// Together.
    pub max_connections: usize,
    /// From one address.
    pub max_connections_per_address: usize,
    /// Of TLS.
    pub max_handshakes_per_second: u32,
}

/// `[media]`: UDP and the workers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MediaSection {
    /// Addresses to bind.
    pub bind: Vec<IpAddr>,
    /// The first worker's port.
    pub udp_port_start: u16,
    /// Threads; 0 for one per core.
    pub workers: usize,
    /// Of all workers; 0 for none.
    pub tcp_port: u16,
    /// Together.
    pub tcp_connections: usize,
    /// From one address.
    pub tcp_connections_per_address: usize,
    /// Addresses told to clients; empty for those of the interfaces.
    pub node_ips: Vec<IpAddr>,
    /// Percent; 0 for no limit.
    pub max_load: usize,
    /// Bytes.
    pub receive_buffer: usize,
    /// Bytes.
    pub send_buffer: usize,
}

/// `[keys]`: API key to secret.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct KeysSection(pub BTreeMap<String, String>);

impl fmt::Debug for KeysSection {
    /// Names the keys, never the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// `[rooms]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoomsSection {
    /// Made by a join.
    pub auto_create: bool,
    /// Life of a room that nobody joined.
    #[serde(with = "humantime_serde")]
    pub empty_timeout: Duration,
    /// Life after the last participant.
    #[serde(with = "humantime_serde")]
    pub departure_timeout: Duration,
    /// Life of a participant that closed its socket and is not heard.
    #[serde(with = "humantime_serde")]
    pub resume_timeout: Duration,
    /// Life of a participant that is not heard and closed nothing.
    #[serde(with = "humantime_serde")]
    pub outage_timeout: Duration,
    /// Per room; 0 for no limit.
    pub max_participants: u32,
    /// Of one participant.
    pub max_tracks: usize,
    /// The same.
    pub max_data_tracks: u16,
    /// The same.
    pub max_subscriptions: usize,
    /// Of one participant, in what it says of others' tracks.
    pub max_wishes: usize,
    /// Of one participant, in its list of who may subscribe.
    pub max_permission_entries: usize,
    /// Bytes.
    pub max_name: usize,
    /// Bytes.
    pub max_metadata: usize,
    /// Bytes.
    pub max_attributes: usize,
    /// Bytes a second, of one participant.
    pub max_data_rate: u32,
    /// By the server API.
    pub remote_unmute: bool,
}

/// `[whip]`: WHIP and WHEP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WhipSection {
    /// Whether there are these paths.
    pub enabled: bool,
    /// Bytes.
    pub max_body: usize,
    /// Both kinds together.
    pub sessions_per_room: usize,
    /// The same.
    pub sessions_per_address: usize,
}

/// `[agents]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AgentsSection {
    /// Connected at the same time.
    pub workers: usize,
    /// For which no worker is there.
    pub waiting_jobs: usize,
    /// In one room.
    pub dispatches_per_room: usize,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LimitsSection {
    /// 0 for no limit.
    pub rooms: usize,
    /// 0 for no limit.
    pub participants: usize,
    /// Messages.
    pub session_queue: usize,
    /// Silence that ends a WebSocket.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// From SIGTERM to the end.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
}

/// `[turn]`: the embedded TURN server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TurnSection {
    /// Run it.
    pub enabled: bool,
    /// Ways to reach it.
    pub transports: Vec<TurnTransport>,
    /// 0 for one of the system's.
    pub udp_port: u16,
    /// The same.
    pub tcp_port: u16,
    /// The same.
    pub tls_port: u16,
    /// Told to clients; empty for addresses.
    pub domain: String,
    /// PEM certificate chain.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// Empty for a random one.
    pub secret: turn_config::Secret,
    /// Life of a credential.
    #[serde(with = "humantime_serde")]
    pub credential_ttl: Duration,
    /// Together.
    pub max_allocations: usize,
    /// Of one participant.
    pub max_allocations_per_user: usize,
    /// From one address.
    pub max_allocations_per_address: usize,
    /// Together.
    pub max_connections: usize,
    /// From one address.
    pub max_connections_per_address: usize,
    /// Of TLS.
    pub max_handshakes_per_second: u32,
    /// Without an allocation, or without taking anything.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Bytes for each connection.
    pub send_queue: usize,
}

/// A way to the TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TurnTransport {
    /// `turn:…?transport=udp`
    Udp,
    /// `turn:…?transport=tcp`
    Tcp,
    /// `turns:…?transport=tcp`
    Tls,
}

/// `[webhooks]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhooksSection {
    /// Receivers; empty for none.
    pub urls: Vec<String>,
    /// Signs; empty for the only one.
    pub api_key: String,
    /// The queue's file.
    pub path: PathBuf,
    /// Bytes.
    pub max_disk: u64,
    /// After which an event is given up.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// After which an event is given up; 0 for any number.
    pub max_attempts: u32,
    /// Pause after the first failure.
    #[serde(with = "humantime_serde")]
    pub first_retry: Duration,
    /// The longest pause.
    #[serde(with = "humantime_serde")]
    pub longest_retry: Duration,
    /// Of one attempt.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// To each receiver.
    pub connections: usize,
    /// Networks, addresses and host names.
    pub allow: Vec<String>,
    /// Receivers may be without encryption.
    pub allow_http: bool,
    /// PEM certificates.
    pub ca_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogSection {
    /// A filter as `tracing_subscriber::EnvFilter` reads it.
    pub level: String,
}
