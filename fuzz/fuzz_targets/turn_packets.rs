//! A TURN server with an allocation, fed arbitrary packets of arbitrary clients at arbitrary times.
//!
//! An input is a row of steps: what happens, how long after the last, and a packet's length and bytes. Half of the packets
//! are made whole messages by their header, and signed as the user who may.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use turn::{
    Action, Class, Client, Clock, Config, Limits, MessageWriter, Method, Packet, Server, TransactionId, Transport,
    first_packet, kind, long_term_key,
};
use turn_config::Secret;

const METHODS: [Method; 4] = [Method::Allocate, Method::Refresh, Method::CreatePermission, Method::ChannelBind];

fuzz_target!(|input: &[u8]| {
    let media: Vec<SocketAddr> =
        ["192.0.2.1:7882", "[2001:db8::1]:7882"].map(|text| text.parse().expect("an address")).to_vec();
    let secret = Secret::new("north");
    let mut server = Server::new(Config {
        secret: secret.clone(),
        nonce_key: [1; 32],
        seed: 1,
        limits: Limits { allocations: 3, per_user: 2, per_address: 3 },
        media: media.clone(),
    });
    let mut clock = Clock { now: Instant::now(), unix_s: 1_800_000_000 };
    let mut out = Vec::new();
    let mut challenge = (String::new(), Vec::new());
    let mut last = None;
    let mut rest = input;
    while let Some((&[what, seconds, length], after)) = rest.split_first_chunk::<3>() {
        let (given, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        clock.now += Duration::from_secs(seconds.into());
        clock.unix_s += u64::from(seconds);
        server.handle_timeout(clock.now);
        let transport = Transport::ALL[usize::from(what >> 6) % 3];
        let remote = SocketAddr::new([198, 51, 100, 7].into(), 40_000 + u16::from(what & 1));
        let client = Client { transport, local: media[0], remote };
        let signed = (what & 2 != 0).then(|| {
            let username = "1900000000:ada";
            let key = long_term_key(username, &challenge.0, &secret.password(username));
            let mut bytes = Vec::new();
            let method = METHODS[usize::from(what >> 2) % METHODS.len()];
            let mut writer = MessageWriter::start(&mut bytes, method, Class::Request, TransactionId([what; 12]));
            // Type, length, value: whatever comes.
            let mut attributes = given;
            while let Some((&[high, low, length], after)) = attributes.split_first_chunk::<3>() {
                let (value, after) = after.split_at(usize::from(length).min(after.len()));
                attributes = after;
                writer.attribute(u16::from_be_bytes([high, low]), value);
            }
            writer.attribute(kind::USERNAME, username.as_bytes());
            writer.attribute(kind::REALM, challenge.0.as_bytes()).attribute(kind::NONCE, &challenge.1);
            writer.sign(&key).finish();
            bytes
        });
        let bytes = signed.as_deref().unwrap_or(given);
        if let Ok(Some(length)) = first_packet(bytes) {
            assert!(length <= bytes.len() && length <= turn::MAX_PACKET);
        }
        match server.handle_client(clock, client, bytes, &mut out) {
            Action::Nothing => {}
            Action::Reply => {
                let Ok(Packet::Message(reply)) = Packet::read(&out) else { panic!("our own answer") };
                // A stream's source is nobody else. The shortest request of browsers could not be challenged within that measure.
                let may_be_forged = !reply.is_signed() && matches!(client.transport, Transport::Udp);
                if may_be_forged && (bytes.len(), out.len()) != (28, 44) {
                    assert!(out.len() * 2 <= bytes.len() * 3, "{} for {}", out.len(), bytes.len());
                }
                if let (Some(realm), Some(nonce)) = (reply.text(kind::REALM, 127), reply.attribute(kind::NONCE)) {
                    challenge = (realm.to_owned(), nonce.to_vec());
                }
            }
            Action::Bind { allocation, .. } => {
                server.bound(allocation, (what & 32 == 0).then_some(media[0]), &mut out);
                last = Some(allocation);
            }
            Action::Relay { peer, .. } => assert!(media.contains(&peer)),
        }
        if let Some(last) = last {
            server.handle_peer(clock.now, last, media[usize::from(what & 1)], given, &mut out);
        }
        if what & 16 != 0 && what & 8 != 0 {
            server.disconnected(&client);
        }
        while server.poll_closed().is_some() {}
    }
});
