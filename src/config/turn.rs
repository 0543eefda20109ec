//! The embedded TURN server's settings, checked.

use std::time::Duration;

use turn_config::{IceUri, Secret};

use super::{TlsFiles, TurnSection, TurnTransport};

/// A secret shorter than this can be guessed from one credential, offline.
const MIN_SECRET: usize = 32;
/// A GSO run of a keyframe.
const MIN_QUEUE: usize = 65_536;

/// The embedded TURN server.
#[derive(Clone, Debug)]
pub struct TurnSettings {
    /// Of UDP, when that is offered; 0 lets the system choose.
    pub udp_port: Option<u16>,
    /// The same of TCP.
    pub tcp_port: Option<u16>,
    /// The same of TLS, with its certificate.
    pub tls: Option<(u16, TlsFiles)>,
    /// Told to clients; `None` for addresses.
    pub domain: Option<String>,
    /// From which credentials are made; `None` for a random one.
    pub secret: Option<Secret>,
    /// Life of a credential.
    pub credential_ttl: Duration,
    /// Caps.
    pub limits: TurnLimits,
}

/// What clients may have of it.
#[derive(Clone, Copy, Debug)]
pub struct TurnLimits {
    /// Allocations.
    pub protocol: turn::Limits,
    /// TCP and TLS, together.
    pub connections: usize,
    /// From one address.
    pub connections_per_address: usize,
    /// Of TLS.
    pub handshakes_per_second: u32,
    /// Without an allocation, or without taking anything.
    pub idle_timeout: Duration,
    /// Bytes for each connection.
    pub send_queue: usize,
}

/// Why `[turn]` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// Nobody could reach it.
    #[error(
        "turn.transports: is empty; name some of \"udp\", \"tcp\" and \"tls\", or set turn.enabled = false"
    )]
    NoTransports,
    /// TLS without a certificate.
    #[error("turn.transports: \"tls\" needs turn.tls-cert and turn.tls-key, or those of [http]")]
    NoCertificate,
    /// One of the pair is missing.
    #[error("{present}: {missing} is missing; set both, or neither to use those of [http]")]
    HalfTls {
        /// The key that is there.
        present: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Not a host name.
    #[error("turn.domain: {domain:?} is not a host name such as turn.example.org")]
    Domain {
        /// As written.
        domain: String,
    },
    /// Too easy to guess.
    #[error(
        "turn.secret: has {got} characters and needs at least {MIN_SECRET}, or none for a random one; `openssl rand -base64 32` makes one"
    )]
    ShortSecret {
        /// Characters.
        got: usize,
    },
    /// A cap or a time that lets nothing through.
    #[error("turn.{key}: must be at least {least}; the default is {default}")]
    TooSmall {
        /// Without its section.
        key: &'static str,
        /// The least.
        least: &'static str,
        /// The default.
        default: &'static str,
    },
}

impl TurnError {
    /// The key at fault, with its section.
    pub fn key(&self) -> String {
        match self {
            TurnError::NoTransports | TurnError::NoCertificate => "turn.transports".to_owned(),
            TurnError::HalfTls { present, .. } => (*present).to_owned(),
            TurnError::Domain { .. } => "turn.domain".to_owned(),
            TurnError::ShortSecret { .. } => "turn.secret".to_owned(),
            TurnError::TooSmall { key, .. } => format!("turn.{key}"),
        }
    }
}

impl TurnSettings {
    /// Checks the section; `http` is the certificate of HTTPS. `None` if it is not enabled.
    pub(super) fn checked(
        turn: TurnSection,
        http: Option<&TlsFiles>,
    ) -> Result<Option<TurnSettings>, TurnError> {
        if !turn.enabled {
            return Ok(None);
        }
        for (key, small, least, default) in [
            ("credential-ttl", turn.credential_ttl < Duration::from_mins(1), "1m", "4h"),
            ("max-allocations", turn.max_allocations == 0, "1", "2000"),
            ("max-allocations-per-user", turn.max_allocations_per_user == 0, "1", "12"),
            ("max-allocations-per-address", turn.max_allocations_per_address == 0, "1", "200"),
            ("max-connections", turn.max_connections == 0, "1", "4000"),
            ("max-connections-per-address", turn.max_connections_per_address == 0, "1", "400"),
            ("max-handshakes-per-second", turn.max_handshakes_per_second == 0, "1", "100"),
            ("idle-timeout", turn.idle_timeout < Duration::from_secs(1), "1s", "30s"),
            ("send-queue", turn.send_queue < MIN_QUEUE, "65536", "262144"),
        ] {
            if small {
                return Err(TurnError::TooSmall { key, least, default });
            }
        }
        if turn.transports.is_empty() {
            return Err(TurnError::NoTransports);
        }
        let half = |present, missing| Err(TurnError::HalfTls { present, missing });
        let own = match (turn.tls_cert, turn.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return half("turn.tls-cert", "turn.tls-key"),
            (None, Some(_)) => return half("turn.tls-key", "turn.tls-cert"),
        };
        let offers = |transport| turn.transports.contains(&transport);
        let tls = if offers(TurnTransport::Tls) {
            let files = own.or_else(|| http.cloned()).ok_or(TurnError::NoCertificate)?;
            Some((turn.tls_port, files))
        } else {
            None
        };
        let domain = (!turn.domain.is_empty()).then_some(turn.domain);
        if let Some(domain) = &domain
            && !format!("turn:{domain}").parse::<IceUri>().is_ok_and(|uri| uri.host() == domain)
        {
            return Err(TurnError::Domain { domain: domain.clone() });
        }
        let got = turn.secret.reveal().chars().count();
        if (1..MIN_SECRET).contains(&got) {
            return Err(TurnError::ShortSecret { got });
        }
        Ok(Some(TurnSettings {
            udp_port: offers(TurnTransport::Udp).then_some(turn.udp_port),
            tcp_port: offers(TurnTransport::Tcp).then_some(turn.tcp_port),
            tls,
            domain,
            secret: (got > 0).then_some(turn.secret),
            credential_ttl: turn.credential_ttl,
            limits: TurnLimits {
                protocol: turn::Limits {
                    allocations: turn.max_allocations,
                    per_user: turn.max_allocations_per_user,
                    per_address: turn.max_allocations_per_address,
                },
                connections: turn.max_connections,
                connections_per_address: turn.max_connections_per_address,
                handshakes_per_second: turn.max_handshakes_per_second,
                idle_timeout: turn.idle_timeout,
                send_queue: turn.send_queue,
            },
        }))
    }
}
