//! Whole associations: with a client that is plain `rtc-dtls`, so without our filter and repeats, and with ourselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;

use super::reassembly::tests::fragment as handshake_fragment;
use super::record::{HANDSHAKE, PlaintextNumbers};
use super::session::{MAX_HELD, MAX_HELD_RECORD, MAX_SEALED_HANDSHAKES};
use super::*;
use crate::transport::certificate::{Certificate, Fingerprint};
use crate::transport::srtp::{DtlsRole, SrtpProfile};

const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
const MAX_KEPT: usize = super::reassembly::MAX_KEPT + MAX_HELD * MAX_HELD_RECORD;

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A client by `rtc-dtls` alone.
struct RawClient {
    endpoint: Endpoint,
    connected: bool,
    received: Vec<Vec<u8>>,
}

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

struct ClientSetup {
    profiles: Vec<SrtpProtectionProfile>,
    certificate: Option<Certificate>,
    mtu: usize,
    master_secret: ExtendedMasterSecretType,
    name: String,
}

impl ClientSetup {
    fn usual(certificate: Certificate) -> ClientSetup {
        ClientSetup {
            profiles: vec![CM, GCM],
            certificate: Some(certificate),
            mtu: 1200,
            master_secret: ExtendedMasterSecretType::Require,
            name: String::new(),
        }
    }

    fn start(self, now: Instant) -> RawClient {
        let certificates = self.certificate.map(|certificate| vec![certificate.inner]).unwrap_or_default();
        let config = ConfigBuilder::default()
            .with_crypto_provider(rtc_crypto::default_provider().unwrap())
            .with_certificates(certificates)
            .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
            .with_srtp_protection_profiles(self.profiles)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(self.master_secret)
            .with_server_name(self.name)
            .with_flight_interval(ms(50))
            .with_mtu(self.mtu)
            .build(true, None)
            .unwrap();
        let mut endpoint = Endpoint::new(SERVER, TransportProtocol::UDP, None);
        endpoint.connect(now, SERVER, Arc::new(config), None).unwrap();
        RawClient { endpoint, connected: false, received: Vec::new() }
    }
}

impl RawClient {
    fn sent(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.endpoint.poll_transmit())
            .map(|transmit| transmit.message.to_vec())
            .collect()
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        for event in self.endpoint.read(now, SERVER, None, BytesMut::from(datagram)).unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => self.connected = true,
                EndpointEvent::ApplicationData(data) => self.received.push(data.to_vec()),
                _ => {}
            }
        }
    }

    fn receive_all(&mut self, now: Instant, datagrams: &[Vec<u8>]) {
        for datagram in datagrams {
            self.receive(now, datagram);
        }
    }

    fn material(&self, length: usize) -> Vec<u8> {
        let state = self.endpoint.get_connection_state(SERVER).unwrap();
        state.export_keying_material(SRTP_LABEL, &[], length).unwrap().as_ref().to_vec()
    }
}

fn sent(dtls: &mut impl Dtls) -> Vec<Vec<u8>> {
    let mut buffer = [0; MAX_DATAGRAM];
    std::iter::from_fn(|| dtls.poll_transmit(&mut buffer).map(|length| buffer[..length].to_vec())).collect()
}

fn give(dtls: &mut impl Dtls, now: Instant, datagrams: &[Vec<u8>]) {
    for datagram in datagrams {
        dtls.handle_datagram(now, datagram);
    }
}

fn events(dtls: &mut impl Dtls) -> Vec<DtlsEvent> {
    std::iter::from_fn(|| dtls.poll_event()).collect()
}

fn fingerprint_of(certificate: &Certificate) -> Fingerprint {
    Fingerprint::parse("sha-256", &certificate.fingerprint_sha256()).unwrap()
}

/// A server that expects the certificate which comes with it.
fn server() -> (RtcDtls, Certificate) {
    let config = DtlsConfig::new(&Certificate::generate().unwrap()).unwrap();
    let client = Certificate::generate().unwrap();
    (RtcDtls::new(&config, DtlsRole::Server, fingerprint_of(&client)), client)
}

/// Lets both talk until neither has anything to say. Returns what the server said happened.
fn talk(now: Instant, client: &mut RawClient, server: &mut RtcDtls) -> Vec<DtlsEvent> {
    let mut seen = Vec::new();
    for _ in 0..20 {
        for datagram in client.sent() {
            server.handle_datagram(now, &datagram);
        }
        seen.extend(events(server));
        for datagram in sent(server) {
            assert!(datagram.len() <= DTLS_MTU, "{} bytes", datagram.len());
            client.receive(now, &datagram);
        }
    }
    seen
}

fn connected() -> (Instant, RawClient, RtcDtls) {
    let now = start();
    let (mut server, certificate) = server();
    let mut client = ClientSetup::usual(certificate).start(now);
    assert!(matches!(talk(now, &mut client, &mut server)[..], [DtlsEvent::Connected(_)]));
    (now, client, server)
}

fn assert_carries_data(now: Instant, client: &mut RawClient, server: &mut RtcDtls) {
    client.endpoint.write(now, SERVER, b"up").unwrap();
    assert_eq!(talk(now, client, server), [DtlsEvent::ApplicationData(Bytes::from_static(b"up"))]);
    server.send_application_data(now, b"down").unwrap();
    talk(now, client, server);
    assert_eq!(client.received.pop().as_deref(), Some(&b"down"[..]));
}

#[test]
fn an_association_can_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    sendable(&server().0);
}

#[test]
fn gcm_is_agreed_on_when_offered_and_cm_otherwise() {
    for (offered, profile) in [
        (vec![CM, GCM], SrtpProfile::AeadAes128Gcm),
        (vec![GCM], SrtpProfile::AeadAes128Gcm),
        (vec![CM], SrtpProfile::Aes128CmHmacSha1_80),
    ] {
        let now = start();
        let (mut server, certificate) = server();
        let mut client = ClientSetup { profiles: offered, ..ClientSetup::usual(certificate) }.start(now);
        let seen = talk(now, &mut client, &mut server);
        let [DtlsEvent::Connected(keys)] = &seen[..] else { panic!("{seen:?}") };
        assert!(client.connected);
        let material = client.material(profile.keying_material_len());
        assert_eq!(*keys, SrtpKeys::from_exporter(profile, &material).unwrap());
        assert_eq!(server.next_timeout(), None);
        assert_eq!(server.bytes_kept(), 0);
        assert_carries_data(now, &mut client, &mut server);
    }
}

#[test]
fn a_hello_in_pieces_is_read_in_any_order() {
    // As long as that of a browser that offers a post-quantum group.
    for (mtu, reversed) in [(1000, false), (1000, true), (300, false), (300, true), (64, true)] {
        let now = start();
        let (mut server, certificate) = server();
        let name = "n".repeat(1250);
        let mut client = ClientSetup { mtu, name, ..ClientSetup::usual(certificate) }.start(now);
        let mut seen = Vec::new();
        for _ in 0..10 {
            let mut datagrams = client.sent();
            if reversed {
                datagrams.reverse();
            }
            for datagram in datagrams {
                server.handle_datagram(now, &datagram);
            }
            seen.extend(events(&mut server));
            client.receive_all(now, &sent(&mut server));
        }
        let [DtlsEvent::Connected(keys)] = &seen[..] else {
            panic!("mtu {mtu}, reversed {reversed}: {seen:?}")
        };
        assert_eq!(keys.profile(), SrtpProfile::AeadAes128Gcm, "use_srtp was found behind the first piece");
        assert!(client.connected);
    }
}

/// `rtc-dtls` alone never connects after this.
#[test]
fn a_lost_server_hello_flight_is_sent_again_when_the_client_repeats_itself() {
    let mut now = start();
    let (mut server, certificate) = server();
    let mut client = ClientSetup::usual(certificate).start(now);
    give(&mut server, now, &client.sent());
    client.receive_all(now, &sent(&mut server)); // HelloVerifyRequest
    give(&mut server, now, &client.sent());
    assert!(sent(&mut server).iter().map(Vec::len).sum::<usize>() > 500, "the flight that is lost");

    now += ms(50);
    client.endpoint.handle_timeout(SERVER, now).unwrap();
    let seen = talk(now, &mut client, &mut server);
    assert!(matches!(seen[..], [DtlsEvent::Connected(_)]), "{seen:?}");
    assert!(client.connected);
}

#[test]
fn a_lost_last_flight_is_sent_again() {
    let mut now = start();
    let (mut server, certificate) = server();
    let mut client = ClientSetup::usual(certificate).start(now);
    while !server.is_connected() {
        give(&mut server, now, &client.sent());
        if !server.is_connected() {
            client.receive_all(now, &sent(&mut server));
        }
    }
    assert!(!sent(&mut server).is_empty() && !client.connected);
    now += ms(50);
    client.endpoint.handle_timeout(SERVER, now).unwrap();
    talk(now, &mut client, &mut server);
    assert!(client.connected);
    assert_carries_data(now, &mut client, &mut server);
}

#[test]
fn a_flight_in_reverse_order_needs_no_repeat() {
    let now = start();
    let (mut server, certificate) = server();
    let mut client = ClientSetup { mtu: 150, ..ClientSetup::usual(certificate) }.start(now);
    for _ in 0..10 {
        let datagrams = client.sent();
        datagrams.iter().rev().for_each(|datagram| server.handle_datagram(now, datagram));
        client.receive_all(now, &sent(&mut server));
    }
    assert!(client.connected && server.is_connected());
}

/// Both sides are ours, over a link that loses; returns the time until both were connected.
fn connect_over(seed: u64, loss: f64) -> Option<Duration> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (ours, theirs) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
    let mut passive =
        RtcDtls::new(&DtlsConfig::new(&ours).unwrap(), DtlsRole::Server, fingerprint_of(&theirs));
    let mut active =
        RtcDtls::new(&DtlsConfig::new(&theirs).unwrap(), DtlsRole::Client, fingerprint_of(&ours));
    let begin = start();
    let mut now = begin;
    active.start(now);
    let mut keys = Vec::new();
    while now < begin + Duration::from_secs(30) {
        for _ in 0..8 {
            for datagram in sent(&mut active) {
                if rng.f64() >= loss {
                    passive.handle_datagram(now, &datagram);
                }
            }
            for datagram in sent(&mut passive) {
                if rng.f64() >= loss {
                    active.handle_datagram(now, &datagram);
                }
            }
        }
        for event in events(&mut active).into_iter().chain(events(&mut passive)) {
            match event {
                DtlsEvent::Connected(told) => keys.push(told),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        if let [one, other] = &keys[..] {
            assert_eq!(one.profile(), SrtpProfile::AeadAes128Gcm);
            assert_eq!(one, other);
            return Some(now - begin);
        }
        now = [active.next_timeout(), passive.next_timeout()].into_iter().flatten().min()?;
        active.handle_timeout(now);
        passive.handle_timeout(now);
    }
    None
}

#[test]
fn we_are_a_client_too_and_both_sides_have_the_same_keys() {
    assert_eq!(connect_over(0, 0.0), Some(Duration::ZERO));
}

#[test]
fn handshakes_survive_loss() {
    for seed in 0..60 {
        let took = connect_over(seed, 0.25);
        assert!(took.is_some_and(|took| took < Duration::from_secs(15)), "seed {seed}: {took:?}");
    }
}

#[test]
fn another_certificate_than_the_signalled_one_is_refused() {
    let now = start();
    let (mut server, _) = server();
    let mut client = ClientSetup::usual(Certificate::generate().unwrap()).start(now);
    let mut seen = talk(now, &mut client, &mut server);
    let _ = client.endpoint.write(now, SERVER, b"let me in");
    seen.extend(talk(now, &mut client, &mut server));
    assert_eq!(seen, [DtlsEvent::Failed(DtlsFailure::FingerprintMismatch)]);
    assert_eq!(server.send_application_data(now, b"x"), Err(DtlsSendError::NotConnected));
    assert_eq!(server.next_timeout(), None);

    let mut again = ClientSetup::usual(Certificate::generate().unwrap()).start(now);
    assert_eq!(talk(now, &mut again, &mut server), [], "what is over stays over");
}

#[test]
fn what_cannot_be_agreed_to_fails_at_once_and_says_why() {
    let usual = || {
        let (server, certificate) = server();
        (server, ClientSetup::usual(certificate))
    };
    let now = start();
    let fails = |(mut server, setup): (RtcDtls, ClientSetup), why| {
        let seen = talk(now, &mut setup.start(now), &mut server);
        assert_eq!(seen, [DtlsEvent::Failed(why)]);
    };
    let (server, setup) = usual();
    fails((server, ClientSetup { certificate: None, ..setup }), DtlsFailure::NoCertificate);
    let (server, setup) = usual();
    let none = ExtendedMasterSecretType::Disable;
    fails((server, ClientSetup { master_secret: none, ..setup }), DtlsFailure::Refused);
    let (server, setup) = usual();
    let other = vec![SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm];
    fails((server, ClientSetup { profiles: other, ..setup }), DtlsFailure::NoSrtpProfile);
    let (server, setup) = usual();
    fails((server, ClientSetup { profiles: vec![], ..setup }), DtlsFailure::NoSrtpProfile);
}

#[test]
fn a_handshake_that_stalls_fails_after_thirty_seconds() {
    let begin = start();
    let mut now = begin;
    let (mut server, certificate) = server();
    assert_eq!(server.next_timeout(), None);
    let mut client = ClientSetup::usual(certificate).start(now);
    give(&mut server, now, &client.sent());
    client.receive_all(now, &sent(&mut server));
    give(&mut server, now, &client.sent());
    let mut bytes = 0;
    while let Some(at) = server.next_timeout() {
        now = at;
        server.handle_timeout(now);
        bytes += sent(&mut server).iter().map(Vec::len).sum::<usize>();
    }
    assert_eq!(events(&mut server), [DtlsEvent::Failed(DtlsFailure::Timeout)]);
    assert_eq!(now - begin, Duration::from_secs(30));
    assert!((2_000..20_000).contains(&bytes), "the flight was repeated, with patience: {bytes} bytes");
}

#[test]
fn an_end_is_told_to_the_other_side() {
    let (now, mut client, mut server) = connected();
    client.endpoint.close(now).unwrap();
    assert_eq!(talk(now, &mut client, &mut server), [DtlsEvent::Closed]);
    let (now, mut client, mut server) = connected();
    server.close(now);
    let datagrams = sent(&mut server);
    assert_eq!(datagrams.len(), 1);
    assert_eq!(events(&mut server), []);
    client.receive(now, &datagrams[0]);
    assert!(client.endpoint.get_connection_state(SERVER).is_none());
}

// ---- attacks ----

fn sealed_junk(content: u8, sequence: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![content, 0xfe, 0xfd, 0, 1];
    bytes.extend_from_slice(&sequence.to_be_bytes()[2..]);
    bytes.extend_from_slice(&(length as u16).to_be_bytes());
    bytes.resize(13 + length, 0x5a);
    bytes
}

/// 1-byte fragments of one message, in order, several to a datagram.
#[test]
fn a_hello_in_one_byte_fragments_is_not_put_together() {
    let now = start();
    let (mut server, certificate) = server();
    let mut numbers = PlaintextNumbers::default();
    for at in 0..4000 {
        let fragment = handshake_fragment(1, 4000, 0, at, &[0]);
        server.handle_datagram(now, &numbers.record(HANDSHAKE, &[&fragment]));
        assert!(server.bytes_kept() <= 4000);
    }
    assert!(server.dropped() > 100);
    assert!(sent(&mut server).is_empty());
    let mut client = ClientSetup::usual(certificate).start(now);
    assert!(
        matches!(talk(now, &mut client, &mut server)[..], [DtlsEvent::Connected(_)]),
        "and it still works"
    );
}

/// The recursion over these once ended the process.
#[test]
fn forty_thousand_reversed_fragments_do_not_end_the_stack() {
    let run = || {
        let now = start();
        let (mut server, _) = server();
        let mut numbers = PlaintextNumbers::default();
        let parts: Vec<Vec<u8>> =
            (0..40_000).rev().map(|at| handshake_fragment(1, 40_000, 0, at, &[0])).collect();
        for few in parts.chunks(80) {
            server.handle_datagram(now, &numbers.record(HANDSHAKE, &[&few.concat()]));
            assert_eq!(server.bytes_kept(), 0, "longer than any message we take");
        }
        let parts: Vec<Vec<u8>> =
            (0..16_000).rev().map(|at| handshake_fragment(1, 16_000, 0, at, &[0])).collect();
        for few in parts.chunks(80) {
            server.handle_datagram(now, &numbers.record(HANDSHAKE, &[&few.concat()]));
            assert!(server.bytes_kept() <= MAX_KEPT);
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_certificate_longer_than_its_message_is_dropped() {
    let now = start();
    let (mut server, certificate) = server();
    let mut client = ClientSetup::usual(certificate).start(now);
    give(&mut server, now, &client.sent());
    client.receive_all(now, &sent(&mut server));
    give(&mut server, now, &client.sent());
    let body = [0, 0, 3, 0xff, 0xff, 0xff];
    let fragment = handshake_fragment(11, body.len(), 2, 0, &body);
    let mut numbers = PlaintextNumbers::default();
    server.handle_datagram(now, &numbers.record(HANDSHAKE, &[&fragment]));
    assert_eq!(server.bytes_kept(), 0);
    client.receive_all(now, &sent(&mut server));
    assert!(matches!(talk(now, &mut client, &mut server)[..], [DtlsEvent::Connected(_)]));
}

#[test]
fn empty_fragments_of_later_messages_are_not_kept() {
    let now = start();
    let (mut server, certificate) = server();
    let mut numbers = PlaintextNumbers::default();
    for round in 0..4000_u32 {
        let record: Vec<u8> =
            (0..90).flat_map(|i| handshake_fragment(1, 100, (round % 7 + i) as u16, 0, &[])).collect();
        server.handle_datagram(now, &numbers.record(HANDSHAKE, &[&record]));
        assert_eq!(server.bytes_kept(), 0);
    }
    let mut client = ClientSetup::usual(certificate).start(now);
    assert!(matches!(talk(now, &mut client, &mut server)[..], [DtlsEvent::Connected(_)]));
}

#[test]
fn encrypted_records_before_there_are_keys_are_kept_in_number() {
    let now = start();
    for content in [record::HANDSHAKE, record::ALERT, record::APPLICATION_DATA] {
        let (mut server, certificate) = server();
        for sequence in 0..4000 {
            server.handle_datagram(now, &sealed_junk(content, sequence, 100 + (sequence % 1300) as usize));
            server.handle_datagram(now, &sealed_junk(content, sequence, 48));
            assert!(server.bytes_kept() <= MAX_HELD * MAX_HELD_RECORD);
        }
        assert!(server.bytes_kept() > 0);
        assert!(server.dropped() >= 7990);
        let mut client = ClientSetup::usual(certificate).start(now);
        let seen = talk(now, &mut client, &mut server);
        assert!(matches!(seen[..], [DtlsEvent::Connected(_)]), "{content}: {seen:?}");
        assert_eq!(server.bytes_kept(), 0);
    }
}

#[test]
fn handshake_records_after_completion_are_bounded_and_harmless() {
    let (now, mut client, mut server) = connected();
    let mut numbers = PlaintextNumbers::default();
    let mut answered = 0;
    for at in 0..2000 {
        let fragment = handshake_fragment(1, 2000, (at % 9) as u16, at, &[0]);
        server.handle_datagram(now, &numbers.record(HANDSHAKE, &[&fragment]));
        server.handle_datagram(now, &numbers.record(record::ALERT, &[&[2, 40]]));
        answered += sent(&mut server).len();
    }
    assert_eq!(answered, 0, "nothing in plaintext is answered");
    assert_eq!(server.dropped(), 4000);
    for sequence in 0..2000 {
        server.handle_datagram(now, &sealed_junk(HANDSHAKE, 1000 + sequence, 48));
        server.handle_datagram(now, &sealed_junk(HANDSHAKE, 5000 + sequence, 1200));
        answered += sent(&mut server).len();
    }
    assert_eq!(answered, 0);
    assert_eq!(server.dropped(), 8000 - u64::from(MAX_SEALED_HANDSHAKES));
    assert_eq!(server.bytes_kept(), 0);
    assert_carries_data(now, &mut client, &mut server);
}

#[test]
fn mutated_datagrams_never_panic_and_nothing_piles_up() {
    let mut rng = fastrand::Rng::with_seed(7983);
    let mut established = 0;
    for round in 0..400 {
        let now = start();
        let (mut server, certificate) = server();
        let mut client =
            ClientSetup { mtu: rng.usize(80..1200), ..ClientSetup::usual(certificate) }.start(now);
        for _ in 0..5 {
            for datagram in client.sent() {
                for _ in 0..rng.usize(..8).saturating_sub(5) {
                    let mut mutated = datagram.clone();
                    for _ in 0..rng.usize(1..6) {
                        let at = rng.usize(..mutated.len());
                        mutated[at] = if rng.bool() { rng.u8(..) } else { mutated[at] ^ (1 << rng.u8(..8)) };
                    }
                    if rng.u8(..4) == 0 {
                        mutated.truncate(rng.usize(..mutated.len()));
                    }
                    server.handle_datagram(now, &mutated);
                    assert!(server.bytes_kept() <= MAX_KEPT, "round {round}");
                }
                server.handle_datagram(now, &datagram);
            }
            client.receive_all(now, &sent(&mut server));
        }
        if server.is_connected() {
            established += 1;
            client.endpoint.write(now, SERVER, b"data").unwrap();
            for datagram in client.sent() {
                let mut mutated = datagram.clone();
                let at = rng.usize(..mutated.len());
                mutated[at] ^= 1 << rng.u8(..8);
                server.handle_datagram(now, &mutated);
                server.handle_datagram(now, &datagram);
            }
            let got = DtlsEvent::ApplicationData(Bytes::from_static(b"data"));
            assert!(events(&mut server).contains(&got), "round {round}: junk stopped the data");
        }
    }
    assert!(established > 50, "{established} of 400 got through");
}
