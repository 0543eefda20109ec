//! A configuration for coturn that relays to our media addresses and to nothing else.

use std::net::IpAddr;

use crate::credential::Secret;
use crate::list::IceServerList;
use crate::uri::{IceUri, Scheme};

/// What the configuration must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoturnConfig {
    /// The relay's name, from its URIs.
    pub realm: String,
    /// Of `turn:` URIs.
    pub port: u16,
    /// Of `turns:` URIs, when there are some.
    pub tls_port: Option<u16>,
    /// What it shares with us.
    pub secret: Secret,
    /// Our media addresses, the only peers.
    pub media: Vec<IpAddr>,
    /// Our UDP ports, the first and the last.
    pub media_ports: (u16, u16),
}

/// Why there is nothing to configure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoturnError {
    /// No entry that coturn could have.
    #[error(
        "no ICE server with a turn: or turns: URI and a secret; add [[ice-servers]] with urls and secret, \
         such as urls = [\"turn:turn.example.org:3478?transport=udp\"]"
    )]
    NoEntry,
    /// Without peers it would relay to nobody.
    #[error("no media address is known; name those of the machine in media.node-ips")]
    NoMedia,
}

impl CoturnConfig {
    /// For the first entry of the list with a secret.
    ///
    /// # Errors
    /// [`CoturnError`]
    pub fn new(
        list: &IceServerList,
        media: Vec<IpAddr>,
        media_ports: (u16, u16),
    ) -> Result<CoturnConfig, CoturnError> {
        let entry = list.servers().iter().find_map(|server| {
            let secret = server.secret.clone()?;
            let relay = server.urls.iter().find(|uri| uri.scheme().is_relay())?;
            Some((server, relay, secret))
        });
        let (server, relay, secret) = entry.ok_or(CoturnError::NoEntry)?;
        if media.is_empty() {
            return Err(CoturnError::NoMedia);
        }
        let port_of = |scheme| server.urls.iter().find(|uri| uri.scheme() == scheme).map(IceUri::port);
        Ok(CoturnConfig {
            realm: relay.host().to_owned(),
            port: port_of(Scheme::Turn).unwrap_or(3478),
            tls_port: port_of(Scheme::Turns),
            secret,
            media,
            media_ports,
        })
    }

    /// The text of `turnserver.conf`, for coturn 4.5.2 and later. Contains the secret.
    ///
    /// Coturn asks the allowed addresses first and the denied ones then, and knows addresses as they are written: 4.6.1 takes
    /// `::ffff:127.0.0.1` for no loopback address, and ranges of IPv4 do not hold for it. So everything is denied in both families.
    pub fn write(&self) -> String {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        line("# coturn for Sluice: relays to Sluice's media addresses and to nothing else.");
        line("# Written by `sluice turn coturn-config`; contains a secret: keep it from others (chmod 600).");
        line("");
        line(&format!("listening-port={}", self.port));
        if let Some(port) = self.tls_port {
            line(&format!("tls-listening-port={port}"));
            line("# Certificate and key of the name in the turns: URI.");
            line("cert=/etc/coturn/cert.pem");
            line("pkey=/etc/coturn/key.pem");
            line("no-tlsv1");
            line("no-tlsv1_1");
            line("no-dtls");
        } else {
            line("no-tls");
            line("no-dtls");
        }
        line("");
        line("# Credentials that expire, made by Sluice for each participant.");
        line("use-auth-secret");
        line(&format!("static-auth-secret={}", self.secret.reveal()));
        line(&format!("realm={}", self.realm));
        line("stale-nonce=600");
        line("secure-stun");
        line("");
        line(
            "# Peers: Sluice's addresses. What is allowed goes before what is denied, and that is everything else, in both",
        );
        line(
            "# families: of IPv6 also ::ffff:0:0/96, by which coturn 4.6.1 reaches IPv4, loopback included.",
        );
        for ip in &self.media {
            line(&format!("allowed-peer-ip={ip}"));
        }
        line("denied-peer-ip=0.0.0.0-255.255.255.255");
        line("denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        line("denied-peer-ip=::ffff:0.0.0.0-::ffff:255.255.255.255");
        line("no-multicast-peers");
        line("no-tcp-relay");
        line("allocation-default-address-family=ipv4");
        line("");
        line("# Bounds: a client takes one or two allocations for each way to the relay.");
        line("user-quota=12");
        line("total-quota=1200");
        line("max-allocate-lifetime=3600");
        line("min-port=49152");
        line("max-port=65535");
        line("");
        line("# Nothing else that could be asked.");
        line("no-cli");
        line("no-rfc5780");
        line("no-stun-backward-compatibility");
        line("response-origin-only-with-rfc5780");
        line("no-software-attribute");
        line("fingerprint");
        line("");
        let (first, last) = self.media_ports;
        line(
            "# Coturn knows no ports of peers. Where it runs on the machine of Sluice itself, let its user send there to the",
        );
        line("# media ports alone, or it relays to every UDP service of the machine:");
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        for ip in &self.media {
            let family = if ip.is_ipv4() { "ip" } else { "ip6" };
            line(&format!(
                "#   nft add rule inet filter output meta skuid turnserver {family} daddr {ip} udp dport != {ports} udp sport 49152-65535 drop"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::IceServer;

    fn list(urls: &[&str], secret: Option<&str>) -> IceServerList {
        let urls: Vec<IceUri> = urls.iter().map(|url| url.parse().unwrap()).collect();
        let secret = secret.map(Secret::new);
        let credential = if secret.is_some() { String::new() } else { "c".into() };
        let server = IceServer { urls, secret, username: credential.clone(), credential, ttl: None };
        IceServerList::new(vec![server]).unwrap()
    }

    #[test]
    fn everything_but_our_media_is_denied() {
        let urls = ["turn:turn.example.org?transport=udp", "turns:turn.example.org:443?transport=tcp"];
        let media = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let config = CoturnConfig::new(&list(&urls, Some("north")), media, (7882, 7885)).unwrap();
        let text = config.write();
        for wanted in [
            "listening-port=3478",
            "tls-listening-port=443",
            "realm=turn.example.org",
            "static-auth-secret=north",
            "allowed-peer-ip=192.0.2.1",
            "allowed-peer-ip=2001:db8::1",
            "denied-peer-ip=0.0.0.0-255.255.255.255",
            "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "no-tcp-relay",
        ] {
            assert!(text.lines().any(|line| line == wanted), "{wanted} in\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("allowed-peer-ip")).count(), 2);
        assert!(text.contains("udp dport != 7882-7885"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let media = || vec!["192.0.2.1".parse().unwrap()];
        let fixed = list(&["turn:a"], None);
        assert_eq!(CoturnConfig::new(&fixed, media(), (1, 1)), Err(CoturnError::NoEntry));
        let stun = list(&["stun:a"], Some("north"));
        assert_eq!(CoturnConfig::new(&stun, media(), (1, 1)), Err(CoturnError::NoEntry));
        let good = list(&["turn:a"], Some("north"));
        assert_eq!(CoturnConfig::new(&good, vec![], (1, 1)), Err(CoturnError::NoMedia));
        assert!(!CoturnConfig::new(&good, media(), (1, 1)).unwrap().write().contains("tls-listening-port"));
    }
}
