use super::*;
use crate::allocation::Transport;
use crate::message::{Packet, long_term_key};
use crate::stats::Stats;

const UNIX_S: u64 = 1_800_000_000;

/// A client with its password, against a server; time at will.
struct Script {
    server: Server,
    clock: Clock,
    client: Client,
    username: String,
    secret: Secret,
    realm: String,
    nonce: Vec<u8>,
    transaction: u8,
    out: Vec<u8>,
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

fn media() -> Vec<SocketAddr> {
    ["192.0.2.1:7882", "192.0.2.1:7883", "[2001:db8::1]:7882"].map(at).to_vec()
}

fn client(port: u16) -> Client {
    let remote = SocketAddr::new([198, 51, 100, 7].into(), port);
    Client { transport: Transport::Udp, local: at("192.0.2.1:3478"), remote }
}

fn script_with(limits: Limits) -> Script {
    let secret = Secret::new("north");
    let config = Config { secret: secret.clone(), nonce_key: [3; 32], seed: 1, limits, media: media() };
    Script {
        server: Server::new(config),
        clock: Clock { now: test_clock(), unix_s: UNIX_S },
        client: client(40_000),
        username: format!("{}:ada", UNIX_S + 60),
        secret,
        realm: String::new(),
        nonce: Vec::new(),
        transaction: 0,
        out: Vec::new(),
    }
}

fn script() -> Script {
    script_with(Limits { allocations: 4, per_user: 2, per_address: 3 })
}

/// The one look at a clock: an `Instant` cannot be made otherwise.
#[expect(clippy::disallowed_methods, reason = "the beginning of virtual time")]
fn test_clock() -> Instant {
    Instant::now()
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Nothing,
    Success,
    Error(u16),
    Relayed(SocketAddr, Vec<u8>),
}

impl Script {
    fn later(&mut self, seconds: u64) {
        self.clock.now += Duration::from_secs(seconds);
        self.clock.unix_s += seconds;
        self.server.handle_timeout(self.clock.now);
    }

    fn give(&mut self, bytes: &[u8]) -> Got {
        let mut out = std::mem::take(&mut self.out);
        let got = match self.server.handle_client(self.clock, self.client, bytes, &mut out) {
            Action::Nothing => Got::Nothing,
            Action::Reply => answer(&out),
            Action::Bind { allocation, is_v4, .. } => {
                let relayed = at(if is_v4 { "192.0.2.1:50000" } else { "[2001:db8::1]:50000" });
                self.server.bound(allocation, Some(relayed), &mut out);
                answer(&out)
            }
            Action::Relay { peer, payload, .. } => Got::Relayed(peer, payload.to_vec()),
        };
        self.out = out;
        got
    }

    fn message(
        &mut self,
        method: Method,
        class: Class,
        fill: impl FnOnce(&mut MessageWriter<'_>),
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.transaction = self.transaction.wrapping_add(1);
        let transaction = TransactionId([self.transaction; 12]);
        let mut writer = MessageWriter::start(&mut bytes, method, class, transaction);
        fill(&mut writer);
        writer.finish();
        bytes
    }

    fn signed(&mut self, method: Method, fill: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
        let password = self.secret.password(&self.username);
        let key = long_term_key(&self.username, &self.realm, &password);
        let (username, realm, nonce) = (self.username.clone(), self.realm.clone(), self.nonce.clone());
        self.message(method, Class::Request, |writer| {
            fill(writer);
            writer.attribute(kind::USERNAME, username.as_bytes());
            writer.attribute(kind::REALM, realm.as_bytes()).attribute(kind::NONCE, &nonce);
            writer.sign(&key);
        })
    }

    fn request(&mut self, method: Method, fill: impl FnOnce(&mut MessageWriter<'_>)) -> Got {
        let bytes = self.signed(method, fill);
        self.give(&bytes)
    }

    /// Takes realm and nonce from the answer.
    fn learn(&mut self) {
        let Ok(Packet::Message(answer)) = Packet::read(&self.out) else { panic!() };
        self.realm = answer.text(kind::REALM, 127).expect("a realm").to_owned();
        self.nonce = answer.attribute(kind::NONCE).expect("a nonce").to_vec();
    }

    fn challenge(&mut self) {
        let bytes = self.message(Method::Allocate, Class::Request, udp);
        assert_eq!(self.give(&bytes), Got::Error(401));
        self.learn();
    }

    fn allocate(&mut self) -> Got {
        self.challenge();
        self.request(Method::Allocate, udp)
    }

    fn allocated() -> Script {
        let mut script = script();
        assert_eq!(script.allocate(), Got::Success);
        script
    }

    fn permit(&mut self, peer: SocketAddr) -> Got {
        self.request(Method::CreatePermission, |writer| {
            writer.address(kind::XOR_PEER_ADDRESS, peer);
        })
    }

    fn bind(&mut self, number: u16, peer: SocketAddr) -> Got {
        self.request(Method::ChannelBind, |writer| {
            let [high, low] = number.to_be_bytes();
            writer.attribute(kind::CHANNEL_NUMBER, &[high, low, 0, 0]).address(kind::XOR_PEER_ADDRESS, peer);
        })
    }

    fn send(&mut self, peer: SocketAddr) -> Got {
        let bytes = self.message(Method::Send, Class::Indication, |writer| {
            writer.address(kind::XOR_PEER_ADDRESS, peer).attribute(kind::DATA, b"data");
        });
        self.give(&bytes)
    }

    fn refused(&self, why: Refusal) -> u64 {
        self.server.stats().refused[why as usize]
    }
}

fn udp(writer: &mut MessageWriter<'_>) {
    writer.attribute(kind::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]);
}

fn answer(out: &[u8]) -> Got {
    let Ok(Packet::Message(answer)) = Packet::read(out) else { panic!("{out:?}") };
    match answer.class {
        Class::Success => Got::Success,
        Class::Error => {
            let code = answer.attribute(kind::ERROR_CODE).expect("an error says its code");
            Got::Error(u16::from(code[2]) * 100 + u16::from(code[3]))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_with_a_credential_reaches_media_and_media_reaches_it() {
    let mut script = Script::allocated();
    let Ok(Packet::Message(allocated)) = Packet::read(&script.out) else { panic!() };
    assert_eq!(allocated.addresses(kind::XOR_RELAYED_ADDRESS).next().flatten(), Some(at("192.0.2.1:50000")));
    assert_eq!(allocated.addresses(kind::XOR_MAPPED_ADDRESS).next().flatten(), Some(script.client.remote));
    assert_eq!(allocated.number(kind::LIFETIME), Some(600));
    let key = long_term_key(&script.username, &script.realm, &script.secret.password(&script.username));
    assert!(allocated.is_signed_by(&key));

    let peer = media()[0];
    assert_eq!(script.permit(peer), Got::Success);
    assert_eq!(script.send(peer), Got::Relayed(peer, b"data".to_vec()));
    let id = AllocationId(0);
    let mut out = Vec::new();
    let now = script.clock.now;
    assert_eq!(script.server.handle_peer(now, id, peer, b"back", &mut out), Some(script.client));
    let Ok(Packet::Message(data)) = Packet::read(&out) else { panic!() };
    assert_eq!((data.method, data.attribute(kind::DATA)), (Some(Method::Data), Some(&b"back"[..])));
    assert_eq!(data.addresses(kind::XOR_PEER_ADDRESS).next(), Some(Some(peer)));

    assert_eq!(script.bind(0x4000, peer), Got::Success);
    let mut channel_data = Vec::new();
    write_channel_data(&mut channel_data, 0x4000, b"media", false);
    assert_eq!(script.give(&channel_data), Got::Relayed(peer, b"media".to_vec()));
    script.server.handle_peer(now, id, peer, b"back", &mut out);
    assert!(matches!(Packet::read(&out), Ok(Packet::ChannelData { channel: 0x4000, payload: b"back" })));
    let Stats { inward, outward, allocations, .. } = script.server.stats();
    assert_eq!((inward.packets, outward.packets, allocations[0]), (2, 2, 1));
}

/// 30 addresses, each by CreatePermission, ChannelBind and Send: all but ours are refused.
#[test]
fn only_media_addresses_are_peers() {
    let strangers = [
        "127.0.0.1:7882",
        "127.0.0.53:53",
        "0.0.0.0:7882",
        "10.0.0.1:80",
        "10.255.255.255:7882",
        "172.16.0.1:22",
        "192.168.1.1:80",
        "169.254.169.254:80",
        "100.64.0.1:7882",
        "192.0.2.2:7882",
        "192.0.2.0:7882",
        "198.51.100.7:40000",
        "203.0.113.1:443",
        "8.8.8.8:53",
        "224.0.0.1:5353",
        "239.255.255.250:1900",
        "255.255.255.255:7882",
        "240.0.0.1:7882",
        "[::1]:7882",
        "[::]:7882",
        "[::ffff:127.0.0.1]:7882",
        "[::ffff:192.0.2.1]:7882",
        "[::ffff:10.0.0.1]:80",
        "[::192.0.2.1]:7882",
        "[64:ff9b::c000:201]:7882",
        "[2002:c000:201::]:7882",
        "[fe80::1]:7882",
        "[fd00::1]:7882",
        "[2001:db8::2]:7882",
        "[ff02::1]:5353",
    ]
    .map(at);
    assert_eq!(strangers.len(), 30);
    for is_v4 in [true, false] {
        let mut script = script();
        script.challenge();
        let allocated = script.request(Method::Allocate, |writer| {
            udp(writer);
            writer.attribute(kind::REQUESTED_ADDRESS_FAMILY, &[if is_v4 { 1 } else { 2 }, 0, 0, 0]);
        });
        assert_eq!(allocated, Got::Success);
        let ours = media().into_iter().find(|peer| peer.is_ipv4() == is_v4).expect("one of each");
        assert_eq!(script.permit(ours), Got::Success);
        for peer in strangers {
            let code = if peer.is_ipv4() == is_v4 { 403 } else { 443 };
            assert_eq!(script.permit(peer), Got::Error(code), "CreatePermission {peer}");
            assert_eq!(script.bind(0x4001, peer), Got::Error(code), "ChannelBind {peer}");
            assert_eq!(script.send(peer), Got::Nothing, "Send {peer}");
            let both = script.request(Method::CreatePermission, |writer| {
                writer.address(kind::XOR_PEER_ADDRESS, ours).address(kind::XOR_PEER_ADDRESS, peer);
            });
            assert_eq!(both, Got::Error(code), "beside ours {peer}");
        }
        // A port of ours that is not media's: permitted by address, as permissions are, and yet not reached.
        let other_port = SocketAddr::new(ours.ip(), 22);
        assert_eq!(script.permit(other_port), Got::Success);
        assert_eq!(script.bind(0x4001, other_port), Got::Error(403));
        assert_eq!(script.send(other_port), Got::Nothing);
        assert_eq!(script.send(ours), Got::Relayed(ours, b"data".to_vec()));
        assert!(script.refused(Refusal::ForbiddenPeer) > 0 && script.refused(Refusal::Family) > 0);
    }
}

#[test]
fn answers_to_the_unauthenticated_are_small() {
    let mut script = script();
    for method in [
        Method::Binding,
        Method::Allocate,
        Method::Refresh,
        Method::Send,
        Method::Data,
        Method::CreatePermission,
        Method::ChannelBind,
    ] {
        for extra in 0..40 {
            let plain = script.message(method, Class::Request, |writer| {
                for _ in 0..extra {
                    writer.attribute(0x8022, b"");
                }
            });
            // Wrong in each way that is looked at before the password.
            let nonce = script.server.authority.nonce(script.clock, &script.client, Challenge::Long);
            let wrong = [("", &b"x"[..]), ("ada", b"x"), ("9:ada", b"stale123"), ("9:ada", &nonce)];
            let signed = wrong.map(|(username, nonce)| {
                script.message(method, Class::Request, |writer| {
                    writer.attribute(kind::USERNAME, username.as_bytes()).attribute(kind::REALM, b"");
                    writer.attribute(kind::NONCE, nonce).sign(&long_term_key("", "", ""));
                })
            });
            for request in [&plain].into_iter().chain(&signed) {
                if script.give(request) != Got::Nothing {
                    let (asked, answered) = (request.len(), script.out.len());
                    assert!(
                        answered * 2 <= asked * 3 || (asked, answered) == (28, 44),
                        "{answered} for {asked}, {method:?}"
                    );
                }
            }
        }
    }
    assert_eq!(script.server.stats().allocations, [0; 3]);
    assert!(script.server.allocations.is_empty());
}

#[test]
fn the_short_request_of_browsers_is_challenged_and_so_is_the_usual_one() {
    let mut script = script();
    let bare = script.message(Method::Allocate, Class::Request, udp);
    assert_eq!((bare.len(), script.give(&bare)), (28, Got::Error(401)));
    script.learn();
    assert_eq!((script.realm.as_str(), script.nonce.len()), ("s", 4));
    assert_eq!(script.request(Method::Allocate, udp), Got::Success);

    script.client = client(40_001);
    let usual = script.message(Method::Allocate, Class::Request, |writer| {
        udp(writer);
        writer.attribute(kind::LIFETIME, &[0, 0, 3, 0]);
    });
    assert_eq!((usual.len(), script.give(&usual)), (36, Got::Error(401)));
    script.learn();
    assert_eq!((script.realm.as_str(), script.nonce.len()), ("sluice", 8));
    assert_eq!(script.request(Method::Allocate, udp), Got::Success);

    // Nobody forges the source of a stream.
    script.client = Client { transport: Transport::Tcp, ..client(40_002) };
    assert_eq!(script.give(&bare), Got::Error(401));
    script.learn();
    assert_eq!((script.realm.as_str(), script.nonce.len()), ("sluice", 8));
    let bare = script.message(Method::Binding, Class::Request, |_| {});
    assert_eq!((bare.len(), script.give(&bare)), (20, Got::Success));
}

#[test]
fn a_nonce_is_one_clients_and_ages() {
    let mut script = script();
    script.challenge();
    script.client = client(40_001);
    assert_eq!(script.request(Method::Allocate, udp), Got::Error(438), "another client's");
    script.learn();
    assert_eq!(script.request(Method::Allocate, udp), Got::Success);
    script.later(599);
    assert_eq!(script.permit(media()[0]), Got::Success);
    script.request(Method::Refresh, |_| {});
    script.later(599);
    script.request(Method::Refresh, |_| {});
    script.later(599);
    assert_eq!(script.permit(media()[0]), Got::Error(438));
    script.learn();
    // The credential ended long ago; the allocation is there.
    assert_eq!(script.permit(media()[0]), Got::Success);
}

#[test]
fn credentials_that_are_wrong_or_over_do_not_begin() {
    let mut script = script();
    script.challenge();
    let good = script.username.clone();
    for wrong in ["ada", &format!("{}:", UNIX_S + 60), "x:ada"] {
        script.username = wrong.to_owned();
        assert_eq!(script.request(Method::Allocate, udp), Got::Error(401), "{wrong}");
    }
    script.username.clone_from(&good);
    script.secret = Secret::new("south");
    assert_eq!(script.request(Method::Allocate, udp), Got::Error(401));
    assert_eq!(script.refused(Refusal::WrongCredential), 4);
    script.secret = Secret::new("north");
    script.later(60);
    assert_eq!(script.request(Method::Allocate, udp), Got::Error(401));
    assert_eq!(script.refused(Refusal::Expired), 1);
}

#[test]
fn an_allocation_is_its_users_alone_and_ends() {
    let mut script = Script::allocated();
    let same = script.signed(Method::Allocate, udp);
    assert_eq!(script.give(&same), Got::Error(437), "there is one already");
    let ada = std::mem::replace(&mut script.username, format!("{}:eve", UNIX_S + 60));
    assert_eq!(script.permit(media()[0]), Got::Error(441));
    assert_eq!(script.request(Method::Refresh, |_| {}), Got::Error(441));
    script.username = ada;
    let end = |writer: &mut MessageWriter<'_>| {
        writer.attribute(kind::LIFETIME, &[0; 4]);
    };
    assert_eq!(script.request(Method::Refresh, end), Got::Success);
    assert_eq!(script.server.poll_closed(), Some(AllocationId(0)));
    assert_eq!(script.request(Method::Refresh, end), Got::Error(437));
    assert!(script.server.allocations.is_empty());

    assert_eq!(script.allocate(), Got::Success);
    assert_eq!(script.server.next_timeout(), Some(script.clock.now + Duration::from_mins(10)));
    script.later(600);
    assert!(script.server.poll_closed().is_some() && script.server.allocations.is_empty());
    assert_eq!(script.server.stats().allocations, [0; 3]);

    assert_eq!(script.allocate(), Got::Error(401), "the credential is over by now");
}

#[test]
fn a_repeated_allocate_is_answered_again() {
    let mut script = script();
    script.challenge();
    let request = script.signed(Method::Allocate, udp);
    assert_eq!(script.give(&request), Got::Success);
    assert_eq!(script.give(&request), Got::Success);
    assert_eq!(script.server.stats().allocated[0], 1);
}

#[test]
fn permissions_and_channels_run_out() {
    let mut script = Script::allocated();
    let [first, second, _] = media()[..] else { panic!() };
    assert_eq!(script.bind(0x4000, first), Got::Success);
    assert_eq!(script.bind(0x4000, second), Got::Error(400), "the number is another's");
    assert_eq!(script.bind(0x4001, first), Got::Error(400), "the peer has a number");
    for number in [0x3fff, 0x7fff, 0x8000] {
        assert_eq!(script.bind(number, second), Got::Error(400), "{number:#x}");
    }
    script.later(301);
    assert_eq!(script.send(first), Got::Nothing, "the permission is over");
    assert_eq!(script.server.stats().dropped[Drop::NoPermission as usize], 1);
    script.request(Method::Refresh, |_| {});
    script.later(300);
    let mut data = Vec::new();
    write_channel_data(&mut data, 0x4000, b"x", false);
    assert_eq!(script.give(&data), Got::Nothing, "the channel is over");
    let (now, mut out) = (script.clock.now, Vec::new());
    assert_eq!(script.server.handle_peer(now, AllocationId(0), first, b"x", &mut out), None);
}

#[test]
fn allocations_are_capped_by_user_by_address_and_together() {
    let mut script = script();
    let mut allocate = |user: &str, remote: &str| {
        script.client.remote = at(remote);
        script.username = format!("{}:{user}", UNIX_S + 60);
        script.allocate()
    };
    assert_eq!(allocate("ada", "198.51.100.1:1"), Got::Success);
    assert_eq!(allocate("ada", "198.51.100.1:2"), Got::Success);
    assert_eq!(allocate("ada", "198.51.100.2:1"), Got::Error(486), "user");
    assert_eq!(allocate("bob", "198.51.100.1:3"), Got::Success);
    assert_eq!(allocate("cy", "198.51.100.1:4"), Got::Error(486), "address");
    assert_eq!(allocate("cy", "198.51.100.3:1"), Got::Success);
    assert_eq!(allocate("dan", "198.51.100.4:1"), Got::Error(508), "all");
    for why in [Refusal::UserQuota, Refusal::AddressQuota, Refusal::Capacity] {
        assert_eq!(script.refused(why), 1, "{why:?}");
    }
    script.client.remote = at("198.51.100.3:1");
    let gone = script.client;
    script.server.disconnected(&gone);
    script.client.remote = at("198.51.100.4:1");
    script.username = format!("{}:dan", UNIX_S + 60);
    assert_eq!(script.allocate(), Got::Success, "there is room again");
}

#[test]
fn what_is_not_offered_is_refused_by_its_own_code() {
    let mut script = script();
    script.challenge();
    let mut allocate = |kinds: &[(u16, &[u8])]| {
        script.request(Method::Allocate, |writer| {
            for (kind, value) in kinds {
                writer.attribute(*kind, value);
            }
        })
    };
    let transport: (u16, &[u8]) = (kind::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]);
    assert_eq!(allocate(&[]), Got::Error(400));
    assert_eq!(allocate(&[(kind::REQUESTED_TRANSPORT, &[6, 0, 0, 0])]), Got::Error(442));
    assert_eq!(allocate(&[transport, (kind::EVEN_PORT, &[0x80])]), Got::Error(508));
    assert_eq!(allocate(&[transport, (kind::RESERVATION_TOKEN, &[0; 8])]), Got::Error(508));
    assert_eq!(allocate(&[transport, (kind::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0])]), Got::Error(440));
    assert_eq!(allocate(&[transport, (0x001a, b"")]), Got::Error(420), "DONT-FRAGMENT");
    let Ok(Packet::Message(answer)) = Packet::read(&script.out) else { panic!() };
    assert_eq!(answer.attribute(kind::UNKNOWN_ATTRIBUTES), Some(&[0, 0x1a][..]));
    assert!(script.server.allocations.is_empty());
}

#[test]
fn an_even_port_can_be_had() {
    for wanted in [false, true] {
        let mut script = script();
        script.challenge();
        let request = script.signed(Method::Allocate, |writer| {
            udp(writer);
            if wanted {
                writer.attribute(kind::EVEN_PORT, &[0]);
            }
        });
        let (clock, client, mut out) = (script.clock, script.client, Vec::new());
        let action = script.server.handle_client(clock, client, &request, &mut out);
        assert!(matches!(action, Action::Bind { even, .. } if even == wanted), "{action:?}");
    }
}

#[test]
fn without_a_socket_there_is_no_allocation() {
    let mut script = script();
    script.challenge();
    let request = script.signed(Method::Allocate, udp);
    let mut out = Vec::new();
    let Action::Bind { allocation, .. } =
        script.server.handle_client(script.clock, script.client, &request, &mut out)
    else {
        panic!()
    };
    script.server.bound(allocation, None, &mut out);
    assert_eq!(answer(&out), Got::Error(508));
    assert!(script.server.allocations.is_empty());
}

#[test]
fn a_crowd_without_credentials_leaves_nothing_behind() {
    let mut script = script();
    let request = script.message(Method::Allocate, Class::Request, udp);
    for port in 1..=u16::MAX {
        script.client = client(port);
        assert_eq!(script.give(&request), Got::Error(401));
    }
    assert!(script.server.allocations.is_empty());
    assert_eq!(script.server.stats().challenged, u64::from(u16::MAX));
}
