//! What a server runs with: checked values, in the types that the rest of the code uses.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use signaling::access::Keys;
use turn_config::IceServerList;

use super::{Config, TurnError, TurnSettings};
use crate::media::kernel::BufferSizes;
use crate::webhooks::{WebhookSettings, WebhookSettingsError};

/// The key and secret of `--dev`.
pub const DEV_KEY: (&str, &str) = ("devkey", "secret");

/// A secret shorter than this can be guessed from one token, offline.
const MIN_SECRET: usize = 32;

/// Everything a server needs to know to start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// HTTP and WebSocket.
    pub http: HttpSettings,
    /// UDP and the workers.
    pub media: MediaSettings,
    /// Who may sign tokens.
    pub keys: Keys,
    /// Rooms.
    pub rooms: RoomSettings,
    /// WHIP and WHEP.
    pub whip: WhipSettings,
    /// Agents.
    pub agents: AgentSettings,
    /// Bounds.
    pub limits: Limits,
    /// The embedded TURN server, when there is one.
    pub turn: Option<TurnSettings>,
    /// ICE servers told to clients.
    pub ice_servers: IceServerList,
    /// Webhooks, if there are receivers.
    pub webhooks: Option<WebhookSettings>,
    /// Log filter.
    pub log_level: String,
    /// Development: the page gets a token by asking.
    pub dev: bool,
}

/// HTTP and WebSocket.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// HTTPS, when there.
    pub tls: Option<TlsFiles>,
    /// Connections there.
    pub limits: HttpLimits,
}

/// How many HTTP connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Together.
    pub connections: usize,
    /// From one address, loopback apart.
    pub connections_per_address: usize,
    /// Of TLS.
    pub handshakes_per_second: u32,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain, the server's first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// UDP and the workers.
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// To bind for IPv4.
    pub bind_v4: Option<Ipv4Addr>,
    /// To bind for IPv6; passed over where the machine has no IPv6.
    pub bind_v6: Option<Ipv6Addr>,
    /// Of the first worker; 0 lets the system choose each.
    pub first_port: u16,
    /// Threads.
    pub workers: NonZeroUsize,
    /// For clients without UDP, if there is to be one; 0 lets the system choose.
    pub tcp_port: Option<u16>,
    /// Connections there.
    pub tcp: TcpLimits,
    /// Told to clients; empty for the addresses of the interfaces (of loopback, when bound to that).
    pub node_ips: Vec<IpAddr>,
    /// Share of a worker's time above which nobody more is let in, 0 to 1; `None` for no limit.
    pub max_load: Option<f64>,
    /// Of each socket.
    pub buffers: BufferSizes,
}

impl MediaSettings {
    /// The addresses to bind, IPv4 first.
    pub fn bound_ips(&self) -> Vec<IpAddr> {
        self.bind_v4.map(IpAddr::V4).into_iter().chain(self.bind_v6.map(IpAddr::V6)).collect()
    }
}

/// How many TCP connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct TcpLimits {
    /// Together.
    pub connections: usize,
    /// From one address.
    pub connections_per_address: usize,
}

/// Rooms.
#[derive(Clone, Copy, Debug)]
pub struct RoomSettings {
    /// Made by a join.
    pub auto_create: bool,
    /// Life of a room that nobody joined.
    pub empty_timeout: Duration,
    /// Life after the last participant.
    pub departure_timeout: Duration,
    /// Life of a participant whose side closed its WebSocket, and whose media is not heard.
    pub resume_timeout: Duration,
    /// Life of a participant that is heard neither over its WebSocket nor over media, and closed nothing.
    pub outage_timeout: Duration,
    /// Per room; `None` for no limit.
    pub max_participants: Option<u32>,
    /// What one participant may have.
    pub share: Share,
    /// The server API may unmute tracks.
    pub remote_unmute: bool,
}

/// What one participant may have.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Tracks, those announced included.
    pub tracks: usize,
    /// Data tracks.
    pub data_tracks: u16,
    /// Tracks that it gets.
    pub subscriptions: usize,
    /// Tracks of which it has said something.
    pub wishes: usize,
    /// Entries in its list of who may subscribe.
    pub permission_entries: usize,
    /// Bytes of an identity or a name; of a room's name, too.
    pub name: usize,
    /// Bytes of metadata; of a room's, too.
    pub metadata: usize,
    /// Bytes of attributes.
    pub attributes: usize,
    /// Bytes a second of data messages.
    pub data_rate: u32,
}

/// WHIP and WHEP.
#[derive(Clone, Copy, Debug)]
pub struct WhipSettings {
    /// Whether there are these paths.
    pub enabled: bool,
    /// Bytes of an offer.
    pub max_body: usize,
    /// Sessions of one room at the same time.
    pub sessions_per_room: usize,
    /// Sessions of one client address at the same time.
    pub sessions_per_address: usize,
}

/// Agents: workers, and jobs for them.
#[derive(Clone, Copy, Debug)]
pub struct AgentSettings {
    /// Workers at the same time; with 0 there are none.
    pub workers: usize,
    /// Jobs for which no worker is there.
    pub waiting_jobs: usize,
    /// Dispatches of one room.
    pub dispatches_per_room: usize,
}

/// Bounds of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rooms at the same time; `None` for no limit.
    pub rooms: Option<usize>,
    /// Participants at the same time; `None` for no limit.
    pub participants: Option<usize>,
    /// Messages waiting for one client.
    pub session_queue: NonZeroUsize,
    /// Silence that ends a WebSocket.
    pub idle_timeout: Duration,
    /// From the wish to stop to the end.
    pub shutdown_timeout: Duration,
}

/// Why a configuration that can be read cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Nobody could join.
    #[error(
        "keys: there is no API key; add [keys] with a line such as mykey = \"…\", or use --dev to try things out"
    )]
    NoKeys,
    /// Too easy to guess.
    #[error(
        "keys.{key}: the secret has {got} characters and needs at least {MIN_SECRET}; `openssl rand -base64 32` makes one"
    )]
    ShortSecret {
        /// Whose.
        key: String,
        /// Characters.
        got: usize,
    },
    /// One of the pair is missing.
    #[error("{present}: {missing} is missing; HTTPS needs both, HTTP neither")]
    HalfTls {
        /// The key that is there.
        present: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// No address, or two of a family.
    #[error(
        "media.bind: needs one IPv4 address, one IPv6 address, or one of each, such as [\"0.0.0.0\", \"::\"]"
    )]
    Bind,
    /// The last worker's port would be above 65535.
    #[error("media.udp-port-start: {first} leaves no room for {workers} workers; at most {}", 65_535 - workers + 1)]
    Ports {
        /// The first port.
        first: u16,
        /// Workers.
        workers: usize,
    },
    /// More threads than make sense.
    #[error("media.workers: {got} is above the limit of {limit}; 0 is one per core")]
    Workers {
        /// As written.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// A limit that lets nobody in.
    #[error("media.{key}: 0 lets nobody in; write media.tcp-port = 0 for that")]
    TcpConnections {
        /// `tcp-connections` or `tcp-connections-per-address`.
        key: &'static str,
    },
    /// No client can send to this address.
    #[error(
        "media.node-ips: {ip} is not an address that clients can reach; write the machine's public address"
    )]
    NodeIp {
        /// Which.
        ip: IpAddr,
    },
    /// A share of the time that no load stays below, or that leaves no time to act.
    #[error("media.max-load: {got} percent; 20 to 95 are right, 0 for no limit, the default is 85")]
    MaxLoad {
        /// As written.
        got: usize,
    },
    /// A buffer that holds no burst.
    #[error("media.{key}: {got} bytes are too few; at least {least}, by default 8388608")]
    Buffer {
        /// `receive-buffer` or `send-buffer`.
        key: &'static str,
        /// As written.
        got: usize,
        /// The least.
        least: usize,
    },
    /// Offers that cannot be sent, or that the media core does not read.
    #[error("whip.max-body: {got} bytes; 4096 to 262144 are right, the default is 65536")]
    WhipBody {
        /// As written.
        got: usize,
    },
    /// A limit that lets nobody in.
    #[error("whip.{key}: 0 lets nobody in; write whip.enabled = false for that")]
    WhipSessions {
        /// `sessions-per-room` or `sessions-per-address`.
        key: &'static str,
    },
    /// A limit that nobody can live with, or that holds nothing back.
    #[error("{key}: {got} is not right; at least {least}{}", if *.most == usize::MAX { String::new() } else { format!(", at most {most}") })]
    OutOfRange {
        /// With its section.
        key: &'static str,
        /// As written.
        got: usize,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// A queue for nothing.
    #[error("limits.session-queue: must be at least 1; the default is 1024")]
    SessionQueue,
    /// Clients that are well would be cut off: they send every 5 s, and we every 10 s.
    #[error(
        "limits.idle-timeout: must be at least 11s, or clients that are well are cut off; the default is 15s"
    )]
    IdleTimeout,
    /// The embedded TURN server.
    #[error(transparent)]
    Turn(#[from] TurnError),
    /// Something in `[webhooks]`.
    #[error(transparent)]
    Webhooks(#[from] WebhookSettingsError),
    /// Not a log filter.
    #[error(
        "log.level: {reason}; write error, warn, info, debug or trace, or a list such as \"info,sluice=debug\""
    )]
    LogLevel {
        /// What the filter's parser says.
        reason: String,
    },
}

impl SettingsError {
    /// The key at fault, with its section.
    pub fn key(&self) -> Cow<'static, str> {
        let key = match self {
            SettingsError::NoKeys => "keys",
            SettingsError::ShortSecret { key, .. } => return format!("keys.{key}").into(),
            SettingsError::HalfTls { present, .. } => present,
            SettingsError::Bind => "media.bind",
            SettingsError::Ports { .. } => "media.udp-port-start",
            SettingsError::Workers { .. } => "media.workers",
            SettingsError::TcpConnections { key: "tcp-connections" } => "media.tcp-connections",
            SettingsError::TcpConnections { .. } => "media.tcp-connections-per-address",
            SettingsError::NodeIp { .. } => "media.node-ips",
            SettingsError::MaxLoad { .. } => "media.max-load",
            SettingsError::Buffer { key: "receive-buffer", .. } => "media.receive-buffer",
            SettingsError::Buffer { .. } => "media.send-buffer",
            SettingsError::WhipBody { .. } => "whip.max-body",
            SettingsError::WhipSessions { key: "sessions-per-room" } => "whip.sessions-per-room",
            SettingsError::WhipSessions { .. } => "whip.sessions-per-address",
            SettingsError::OutOfRange { key, .. } => key,
            SettingsError::SessionQueue => "limits.session-queue",
            SettingsError::IdleTimeout => "limits.idle-timeout",
            SettingsError::Turn(error) => return error.key().into(),
            SettingsError::Webhooks(error) => return error.key().into(),
            SettingsError::LogLevel { .. } => "log.level",
        };
        Cow::Borrowed(key)
    }
}

impl Settings {
    /// For development: one key, `devkey` with the secret `secret`, everything bound to loopback, IPv6 too.
    /// The defaults otherwise.
    pub fn dev() -> Settings {
        super::load_dev([]).expect("the reference is complete and valid; a test reads it")
    }

    /// For tests: as [`Settings::dev`], with one worker and all ports chosen by the system.
    pub fn test() -> Settings {
        let mut settings = Settings::dev();
        settings.http.listen.set_port(0);
        settings.media.first_port = 0;
        settings.media.tcp_port = Some(0);
        settings.media.workers = NonZeroUsize::MIN;
        // Machines that tests run on have other things to do.
        settings.media.max_load = None;
        settings
    }

    /// As [`Settings::test`], with webhooks to `url`, queued in `path`.
    pub fn test_with_webhooks(url: &str, path: &std::path::Path) -> Settings {
        let variables =
            [("SLUICE_WEBHOOKS__URLS", url.into()), ("SLUICE_WEBHOOKS__PATH", path.as_os_str().to_owned())];
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value));
        let settings = super::load_dev(variables).expect("the test names a URL");
        Settings { webhooks: settings.webhooks, ..Settings::test() }
    }

    /// Binds HTTP and media to `ip`. Loopback brings the other family's loopback with it for media.
    pub fn bind_to(&mut self, ip: IpAddr) {
        self.http.listen.set_ip(ip);
        (self.media.bind_v4, self.media.bind_v6) = match ip {
            ip if ip.is_loopback() => (Some(Ipv4Addr::LOCALHOST), Some(Ipv6Addr::LOCALHOST)),
            IpAddr::V4(ip) if ip.is_unspecified() => (Some(ip), Some(Ipv6Addr::UNSPECIFIED)),
            IpAddr::V4(ip) => (Some(ip), None),
            IpAddr::V6(ip) if ip.is_unspecified() => (Some(Ipv4Addr::UNSPECIFIED), Some(ip)),
            IpAddr::V6(ip) => (None, Some(ip)),
        };
    }

    /// Checks what the types alone cannot. `dev` puts the key of development in the place of all others.
    pub(super) fn checked(config: Config, dev: bool) -> Result<Settings, SettingsError> {
        let keys = if dev { dev_keys() } else { checked_keys(config.keys.0)? };
        let http = checked_http(&config.http)?;
        let tls = match (config.http.tls_cert, config.http.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(SettingsError::HalfTls { present: "http.tls-cert", missing: "http.tls-key" });
            }
            (None, Some(_)) => {
                return Err(SettingsError::HalfTls { present: "http.tls-key", missing: "http.tls-cert" });
            }
        };
        tracing_subscriber::EnvFilter::builder()
            .parse(&config.log.level)
            .map_err(|error| SettingsError::LogLevel { reason: error.to_string() })?;
        let limits = &config.limits;
        // One ping of ours, and a second for its answer.
        if limits.idle_timeout < Duration::from_secs(11) {
            return Err(SettingsError::IdleTimeout);
        }
        let limit = |count: usize| (count > 0).then_some(count);
        let turn = TurnSettings::checked(config.turn, tls.as_ref())?;
        let webhooks = WebhookSettings::checked(config.webhooks, &keys, dev)?;
        Ok(Settings {
            turn,
            http: HttpSettings { listen: config.http.listen, tls, limits: http },
            media: checked_media(config.media)?,
            keys,
            rooms: RoomSettings {
                auto_create: config.rooms.auto_create,
                empty_timeout: config.rooms.empty_timeout,
                departure_timeout: config.rooms.departure_timeout,
                resume_timeout: config.rooms.resume_timeout,
                outage_timeout: config.rooms.outage_timeout,
                max_participants: (config.rooms.max_participants > 0)
                    .then_some(config.rooms.max_participants),
                share: checked_share(&config.rooms)?,
                remote_unmute: config.rooms.remote_unmute,
            },
            whip: checked_whip(&config.whip)?,
            agents: AgentSettings {
                workers: config.agents.workers,
                waiting_jobs: config.agents.waiting_jobs,
                dispatches_per_room: config.agents.dispatches_per_room,
            },
            limits: Limits {
                rooms: limit(limits.rooms),
                participants: limit(limits.participants),
                session_queue: NonZeroUsize::new(limits.session_queue).ok_or(SettingsError::SessionQueue)?,
                idle_timeout: limits.idle_timeout,
                shutdown_timeout: limits.shutdown_timeout,
            },
            ice_servers: config.ice_servers,
            webhooks,
            log_level: config.log.level,
            dev,
        })
    }
}

fn dev_keys() -> Keys {
    [(DEV_KEY.0.to_owned(), DEV_KEY.1.to_owned())].into_iter().collect()
}

fn checked_keys(keys: impl IntoIterator<Item = (String, String)>) -> Result<Keys, SettingsError> {
    let keys: Vec<_> = keys.into_iter().collect();
    if keys.is_empty() {
        return Err(SettingsError::NoKeys);
    }
    for (key, secret) in &keys {
        let got = secret.chars().count();
        if got < MIN_SECRET {
            return Err(SettingsError::ShortSecret { key: key.clone(), got });
        }
    }
    Ok(keys.into_iter().collect())
}

fn checked_http(http: &super::HttpSection) -> Result<HttpLimits, SettingsError> {
    for (key, limit) in [
        ("http.max-connections", http.max_connections),
        ("http.max-connections-per-address", http.max_connections_per_address),
        ("http.max-handshakes-per-second", http.max_handshakes_per_second as usize),
    ] {
        if limit == 0 {
            return Err(SettingsError::OutOfRange { key, got: 0, least: 1, most: usize::MAX });
        }
    }
    Ok(HttpLimits {
        connections: http.max_connections,
        connections_per_address: http.max_connections_per_address,
        handshakes_per_second: http.max_handshakes_per_second,
    })
}

fn checked_share(rooms: &super::RoomsSection) -> Result<Share, SettingsError> {
    // Names go into every token and every announcement, and a join's URL holds metadata and attributes at most once.
    for (key, got, least, most) in [
        ("rooms.max-tracks", rooms.max_tracks, 1, 512),
        ("rooms.max-subscriptions", rooms.max_subscriptions, 1, sfu::MAX_SUBSCRIPTIONS),
        ("rooms.max-wishes", rooms.max_wishes, 1, 1 << 20),
        ("rooms.max-permission-entries", rooms.max_permission_entries, 1, 1 << 20),
        ("rooms.max-name", rooms.max_name, 16, 4096),
        ("rooms.max-metadata", rooms.max_metadata, 0, 1 << 20),
        ("rooms.max-attributes", rooms.max_attributes, 0, 1 << 20),
        ("rooms.max-data-rate", rooms.max_data_rate as usize, sfu::sdp::MAX_MESSAGE_SIZE, u32::MAX as usize),
    ] {
        if !(least..=most).contains(&got) {
            return Err(SettingsError::OutOfRange { key, got, least, most });
        }
    }
    Ok(Share {
        tracks: rooms.max_tracks,
        data_tracks: rooms.max_data_tracks,
        subscriptions: rooms.max_subscriptions,
        wishes: rooms.max_wishes,
        permission_entries: rooms.max_permission_entries,
        name: rooms.max_name,
        metadata: rooms.max_metadata,
        attributes: rooms.max_attributes,
        data_rate: rooms.max_data_rate,
    })
}

fn checked_whip(whip: &super::WhipSection) -> Result<WhipSettings, SettingsError> {
    // Below no browser's offer fits; above, the media core reads none.
    if !(4096..=sfu::sdp::MAX_DESCRIPTION).contains(&whip.max_body) {
        return Err(SettingsError::WhipBody { got: whip.max_body });
    }
    for (key, sessions) in
        [("sessions-per-room", whip.sessions_per_room), ("sessions-per-address", whip.sessions_per_address)]
    {
        if sessions == 0 {
            return Err(SettingsError::WhipSessions { key });
        }
    }
    Ok(WhipSettings {
        enabled: whip.enabled,
        max_body: whip.max_body,
        sessions_per_room: whip.sessions_per_room,
        sessions_per_address: whip.sessions_per_address,
    })
}

fn checked_media(media: super::MediaSection) -> Result<MediaSettings, SettingsError> {
    /// Above the cores of any machine; a thread too many costs memory, not calls.
    const MAX_WORKERS: usize = 1024;
    /// A keyframe of a high layer to some tens of subscribers.
    const MIN_BUFFER: usize = 65_536;

    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = NonZeroUsize::new(media.workers).unwrap_or(cores);
    if workers.get() > MAX_WORKERS {
        return Err(SettingsError::Workers { got: workers.get(), limit: MAX_WORKERS });
    }
    if media.udp_port_start > 0 && usize::from(media.udp_port_start) + workers.get() - 1 > 65_535 {
        return Err(SettingsError::Ports { first: media.udp_port_start, workers: workers.get() });
    }
    let (mut bind_v4, mut bind_v6) = (None, None);
    for ip in media.bind {
        let before = match ip {
            IpAddr::V4(ip) => bind_v4.replace(ip).map(IpAddr::V4),
            IpAddr::V6(ip) => bind_v6.replace(ip).map(IpAddr::V6),
        };
        if before.is_some() {
            return Err(SettingsError::Bind);
        }
    }
    if bind_v4.is_none() && bind_v6.is_none() {
        return Err(SettingsError::Bind);
    }
    if let Some(&ip) = media.node_ips.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        return Err(SettingsError::NodeIp { ip });
    }
    for (key, got) in [("receive-buffer", media.receive_buffer), ("send-buffer", media.send_buffer)] {
        if got < MIN_BUFFER {
            return Err(SettingsError::Buffer { key, got, least: MIN_BUFFER });
        }
    }
    if !matches!(media.max_load, 0 | 20..=95) {
        return Err(SettingsError::MaxLoad { got: media.max_load });
    }
    for (key, connections) in [
        ("tcp-connections", media.tcp_connections),
        ("tcp-connections-per-address", media.tcp_connections_per_address),
    ] {
        if connections == 0 {
            return Err(SettingsError::TcpConnections { key });
        }
    }
    Ok(MediaSettings {
        bind_v4,
        bind_v6,
        first_port: media.udp_port_start,
        workers,
        tcp_port: (media.tcp_port > 0).then_some(media.tcp_port),
        tcp: TcpLimits {
            connections: media.tcp_connections,
            connections_per_address: media.tcp_connections_per_address,
        },
        node_ips: media.node_ips,
        max_load: (media.max_load > 0).then_some(media.max_load as f64 / 100.0),
        buffers: BufferSizes { receive: media.receive_buffer, send: media.send_buffer },
    })
}
