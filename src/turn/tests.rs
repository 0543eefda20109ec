use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket as StdUdpSocket};
use std::time::{Duration, Instant};

use turn::{
    Class, MAX_PACKET, MessageWriter, Method, Packet, TransactionId, first_packet, kind, long_term_key,
};
use turn_config::Secret;

use super::*;

const LIMITS: TurnLimits = TurnLimits {
    protocol: turn::Limits { allocations: 10, per_user: 10, per_address: 10 },
    connections: 4,
    connections_per_address: 3,
    handshakes_per_second: 10,
    idle_timeout: Duration::from_secs(1),
    send_queue: 1 << 16,
};

/// Media of the test's own, and a server whose only peer it is.
fn relay() -> (TurnServer, StdUdpSocket) {
    let media = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    media.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let inside = media.local_addr().expect("bound");
    // Told to clients by another name, as behind a NAT.
    let told = SocketAddr::new([203, 0, 113, 9].into(), inside.port());
    let server = TurnServer::start(Start {
        bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        udp_port: Some(0),
        tcp_port: Some(0),
        tls: None,
        media: MediaMap::new([(told, inside)]),
        secret: Secret::new("north"),
        limits: LIMITS,
    });
    (server.expect("it starts"), media)
}

impl TurnServer {
    fn address(&self, transport: Transport) -> SocketAddr {
        let port = self.ports.iter().find(|(each, _)| *each == transport).expect("offered").1;
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Waits until a count is there; they are copied out once a second.
    fn counted(&self, what: &str, count: impl Fn(&TurnStats) -> u64, wanted: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let got = count(&self.stats.lock().expect("not poisoned"));
            if got >= wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {got}, not {wanted}");
            std::thread::yield_now();
        }
    }
}

/// A client's way to the server.
enum Way {
    Datagrams(StdUdpSocket),
    Stream(TcpStream, Vec<u8>),
}

impl Way {
    fn udp(server: &TurnServer) -> Way {
        let socket = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.connect(server.address(Transport::Udp)).expect("local");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Way::Datagrams(socket)
    }

    fn tcp(server: &TurnServer) -> Way {
        let stream = TcpStream::connect(server.address(Transport::Tcp)).expect("accepted");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Way::Stream(stream, Vec::new())
    }

    fn send(&mut self, bytes: &[u8]) {
        match self {
            Way::Datagrams(socket) => drop(socket.send(bytes).expect("sent")),
            Way::Stream(stream, _) => stream.write_all(bytes).expect("sent"),
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; MAX_PACKET];
        match self {
            Way::Datagrams(socket) => {
                let length = socket.recv(&mut bytes).expect("an answer");
                bytes.truncate(length);
                bytes
            }
            Way::Stream(stream, rest) => loop {
                if let Some(length) = first_packet(rest).expect("TURN") {
                    return rest.drain(..length).collect();
                }
                let length = stream.read(&mut bytes).expect("an answer");
                assert!(length > 0, "closed");
                rest.extend_from_slice(&bytes[..length]);
            },
        }
    }

    fn request(
        &mut self,
        method: Method,
        login: Option<&(String, Vec<u8>)>,
        fill: impl Fn(&mut MessageWriter<'_>),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = MessageWriter::start(&mut bytes, method, Class::Request, TransactionId([9; 12]));
        fill(&mut writer);
        if let Some((realm, nonce)) = login {
            let username = "4000000000:ada";
            let key = long_term_key(username, realm, &Secret::new("north").password(username));
            writer.attribute(kind::USERNAME, username.as_bytes());
            writer.attribute(kind::REALM, realm.as_bytes()).attribute(kind::NONCE, nonce).sign(&key);
        }
        writer.finish();
        self.send(&bytes);
        self.receive()
    }

    /// Allocates and binds channel 0x4000 to media.
    fn open(&mut self, media: SocketAddr) -> SocketAddr {
        let transport = |writer: &mut MessageWriter<'_>| {
            writer.attribute(kind::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        };
        let challenge = self.request(Method::Allocate, None, transport);
        let Ok(Packet::Message(challenge)) = Packet::read(&challenge) else { panic!() };
        let realm = challenge.text(kind::REALM, 127).expect("a realm").to_owned();
        let login = (realm, challenge.attribute(kind::NONCE).expect("a nonce").to_vec());
        let allocated = self.request(Method::Allocate, Some(&login), transport);
        let Ok(Packet::Message(allocated)) = Packet::read(&allocated) else { panic!() };
        assert_eq!(allocated.class, Class::Success);
        let bound = self.request(Method::ChannelBind, Some(&login), |writer| {
            writer.attribute(kind::CHANNEL_NUMBER, &[0x40, 0, 0, 0]).address(kind::XOR_PEER_ADDRESS, media);
        });
        let Ok(Packet::Message(bound)) = Packet::read(&bound) else { panic!() };
        assert_eq!(bound.class, Class::Success);
        allocated.addresses(kind::XOR_RELAYED_ADDRESS).next().flatten().expect("an address")
    }
}

fn channel_data(payload: &[u8], stream: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    turn::write_channel_data(&mut bytes, 0x4000, payload, stream);
    bytes
}

#[test]
fn packets_go_both_ways_over_udp_and_tcp_and_strangers_are_not_heard() {
    let (server, media) = relay();
    let told = SocketAddr::new([203, 0, 113, 9].into(), media.local_addr().expect("bound").port());
    for (mut way, stream) in [(Way::udp(&server), false), (Way::tcp(&server), true)] {
        let relayed = way.open(told);
        way.send(&channel_data(b"hello", stream));
        let mut bytes = [0; 64];
        let (length, from) = media.recv_from(&mut bytes).expect("relayed");
        assert_eq!((&bytes[..length], from), (&b"hello"[..], relayed));

        let stranger = StdUdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        stranger.send_to(b"stranger", relayed).expect("sent");
        media.send_to(b"back", relayed).expect("sent");
        assert_eq!(way.receive(), channel_data(b"back", stream));
    }
    server.counted("strangers", |stats| stats.strangers, 2);
    server.counted("relayed", |stats| stats.protocol.inward.packets, 2);
}

#[test]
fn an_allocation_goes_with_its_connection() {
    let (server, media) = relay();
    let told = SocketAddr::new([203, 0, 113, 9].into(), media.local_addr().expect("bound").port());
    let mut way = Way::tcp(&server);
    way.open(told);
    server.counted("allocations", |stats| stats.protocol.allocations[Transport::Tcp as usize], 1);
    drop(way);
    server.counted("gone", |stats| u64::from(stats.protocol.allocations == [0; 3]), 1);
}

#[test]
fn connections_without_a_purpose_are_closed_and_capped() {
    let (server, _media) = relay();
    let is_closed = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        // An end or a reset, and no answer.
        !matches!(stream.read(&mut [0; 16]), Ok(1..))
    };
    let connect = || TcpStream::connect(server.address(Transport::Tcp)).expect("a listener");
    let mut garbage = connect();
    garbage.write_all(b"\xff\xffnot TURN").expect("sent");
    assert!(is_closed(garbage));
    server.counted("garbage", |stats| stats.refused[Refused::Garbage as usize], 1);

    let crowd: Vec<TcpStream> = (0..LIMITS.connections_per_address + 2).map(|_| connect()).collect();
    server.counted("address", |stats| stats.refused[Refused::Address as usize], 2);
    for idle in crowd {
        assert!(is_closed(idle));
    }
    server.counted(
        "idle",
        |stats| stats.refused[Refused::Idle as usize],
        LIMITS.connections_per_address as u64,
    );
}

#[test]
fn a_client_that_does_not_read_costs_its_queue_and_no_more() {
    let (server, media) = relay();
    let told = SocketAddr::new([203, 0, 113, 9].into(), media.local_addr().expect("bound").port());
    let (mut slow, mut quick) = (Way::tcp(&server), Way::udp(&server));
    let (slow_relay, quick_relay) = (slow.open(told), quick.open(told));
    // More than the sockets on both sides can hold, in pieces that each get through to the server.
    let packet = [7; 1200];
    let deadline = Instant::now() + Duration::from_secs(30);
    while server.stats.lock().expect("not poisoned").queue_full == 0 {
        assert!(Instant::now() < deadline, "the queue never was full");
        for _ in 0..32 {
            media.send_to(&packet, slow_relay).expect("sent");
        }
        media.send_to(b"quick", quick_relay).expect("sent");
        assert_eq!(quick.receive(), channel_data(b"quick", false));
    }
}
