//! ICE candidates as text (RFC 8839 §5.1). We are a lite agent: the client's are for information only.

use std::net::{IpAddr, SocketAddr};

use super::section::LocalTransport;
use crate::command::Protocol;

/// Where a candidate says the client can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateHost {
    /// An address.
    Ip(IpAddr),
    /// A name instead of one, in practice of mDNS: `….local`. At most 255 bytes.
    Name(String),
}

/// How the client came by the candidate (RFC 8445 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of its own.
    Host,
    /// What a STUN server saw.
    ServerReflexive,
    /// What a peer saw.
    PeerReflexive,
    /// On a TURN server.
    Relayed,
}

/// A candidate of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCandidate {
    /// Its address.
    pub host: CandidateHost,
    /// Its port; 9 in active TCP candidates.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// Its origin.
    pub kind: CandidateKind,
    /// 1 for RTP, 2 for RTCP without rtcp-mux.
    pub component: u8,
    /// The client's preference.
    pub priority: u32,
}

/// Reads `candidate:…`, with or without `a=` or `candidate:` before it. `None` for the empty text that ends a
/// list of candidates, and for anything that is not understood.
pub fn parse_candidate(text: &str) -> Option<RemoteCandidate> {
    let text = text.trim();
    let text = text.strip_prefix("a=").unwrap_or(text);
    let text = text.strip_prefix("candidate:").unwrap_or(text);
    let mut fields = text.split_ascii_whitespace();
    let _foundation = fields.next()?;
    let component = fields.next()?.parse().ok()?;
    let protocol = match fields.next()? {
        udp if udp.eq_ignore_ascii_case("udp") => Protocol::Udp,
        tcp if tcp.eq_ignore_ascii_case("tcp") => Protocol::Tcp,
        _ => return None,
    };
    let priority = fields.next()?.parse().ok()?;
    let host = fields.next()?;
    let host = match host.parse::<IpAddr>() {
        Ok(ip) => CandidateHost::Ip(ip),
        Err(_) if host.len() <= 255 => CandidateHost::Name(host.to_owned()),
        Err(_) => return None,
    };
    let port = fields.next()?.parse().ok()?;
    if fields.next()? != "typ" {
        return None;
    }
    let kind = match fields.next()? {
        "host" => CandidateKind::Host,
        "srflx" => CandidateKind::ServerReflexive,
        "prflx" => CandidateKind::PeerReflexive,
        "relay" => CandidateKind::Relayed,
        _ => return None,
    };
    Some(RemoteCandidate { host, port, protocol, kind, component, priority })
}

/// Local preference of our first candidate at first, how much each restart adds for all of them, and the most: below what
/// clients give to theirs.
const PREFERENCE: u32 = 1024;
const PER_RESTART: u32 = 16;
const MOST_PREFERRED: u32 = 24_576;

/// Type preferences (RFC 8445 §5.1.2.2): that of a host, and below it that of one over TCP (RFC 6544 §4.2), as libwebrtc has
/// it, so that UDP goes before TCP wherever it works.
const HOST: u32 = 126;
const HOST_TCP: u32 = 90;

/// Our candidates, each as `candidate:…` the way trickle messages have them; in SDP `a=` goes before. Those on TCP, which wait
/// for the client to connect (RFC 6544 §4.5), come last.
///
/// The lower one of two candidates decides about their pair (RFC 8445 §6.1.2.3). Ours are the lower ones, and higher after
/// each restart: so libwebrtc leaves a pair of before, which it takes to be alive for seconds after its network is gone, as
/// soon as one of the restart works. Among equals the client's own preference counts as before.
pub fn candidate_lines(local: &LocalTransport) -> Vec<String> {
    let first = local.restarts.saturating_mul(PER_RESTART).saturating_add(PREFERENCE).min(MOST_PREFERRED);
    // RFC 8445 §5.1.2.1: the type, then our order, then component 1.
    let line = |kind: u32, protocol: &str, index: usize, address: &SocketAddr| {
        let preference = first.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
        let priority = (kind << 24) | (preference << 8) | 255;
        let (ip, port) = (address.ip(), address.port());
        format!("1 {protocol} {priority} {ip} {port} typ host")
    };
    let udp = local.candidates.iter().enumerate().map(|(index, address)| line(HOST, "udp", index, address));
    let tcp = local.tcp_candidates.iter().enumerate();
    let tcp = tcp.map(|(index, address)| line(HOST_TCP, "tcp", index, address) + " tcptype passive");
    udp.chain(tcp).enumerate().map(|(at, rest)| format!("candidate:{} {rest}", at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_of_browsers_are_read() {
        let text = "candidate:842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 10.0.0.1 rport 46154 \
                    generation 0 ufrag EEtu network-id 3";
        let parsed = parse_candidate(text).expect("a candidate");
        assert_eq!(parsed.host, CandidateHost::Ip("203.0.113.9".parse().expect("an address")));
        assert_eq!((parsed.port, parsed.component, parsed.priority), (46154, 1, 1_677_729_535));
        assert_eq!((parsed.protocol, parsed.kind), (Protocol::Udp, CandidateKind::ServerReflexive));

        let mdns =
            "a=candidate:1 1 TCP 1 0b3e1c1c-93c9-4d4f-8a58-2f0b7fa0b1d6.local 9 typ host tcptype active";
        let parsed = parse_candidate(mdns).expect("a candidate");
        assert!(matches!(parsed.host, CandidateHost::Name(name) if name.len() == 42));
        assert_eq!(parsed.protocol, Protocol::Tcp);
    }

    #[test]
    fn what_is_no_candidate_is_none() {
        for text in [
            "",
            "candidate:",
            "a=end-of-candidates",
            "candidate:1 1 udp 1 1.2.3.4 70000 typ host",
            "candidate:1 1 sctp 1 1.2.3.4 7000 typ host",
            "candidate:1 1 udp 1 1.2.3.4 7000 host",
        ] {
            assert_eq!(parse_candidate(text), None, "{text:?}");
        }
    }

    #[test]
    fn our_candidates_are_read_back_in_order_of_preference() {
        let candidates: Vec<SocketAddr> =
            vec!["192.0.2.1:7882".parse().expect("v4"), "[2001:db8::1]:7882".parse().expect("v6")];
        let local = LocalTransport {
            ufrag: "u".into(),
            pwd: "p".into(),
            fingerprint: String::new(),
            candidates: candidates.clone(),
            tcp_candidates: vec!["192.0.2.1:7881".parse().expect("v4")],
            ice_lite: true,
            restarts: 0,
        };
        let read = |local: &LocalTransport| -> Vec<RemoteCandidate> {
            let lines = candidate_lines(local);
            lines.iter().map(|line| parse_candidate(line).expect("our own candidate")).collect()
        };
        let restarted = read(&LocalTransport { restarts: 1, ..local.clone() });
        let most = read(&LocalTransport { restarts: u32::MAX, ..local.clone() });
        let read = read(&local);
        assert!(read[0].priority > read[1].priority);
        let tcp = &read[2];
        assert_eq!((tcp.protocol, tcp.port), (Protocol::Tcp, 7881));
        assert!(candidate_lines(&local)[2].ends_with(" typ host tcptype passive"));
        assert!(most[2].priority < read[1].priority, "UDP goes before, whatever was restarted");
        assert!(restarted[1].priority > read[0].priority, "what a restart brings comes first");
        // A host candidate of Chromium's.
        assert!(most[0].priority < 2_122_260_223);
        for (address, candidate) in candidates.iter().zip(&read) {
            assert_eq!(candidate.host, CandidateHost::Ip(address.ip()));
            assert_eq!((candidate.protocol, candidate.port), (Protocol::Udp, address.port()));
        }
    }
}
