//! STUN: routing, reading, and a whole ICE-lite agent fed with whatever claims to be STUN.
#![no_main]

use std::net::SocketAddr;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use sfu::command::Path;
use sfu::transport::ice::{IceConfig, IceLite, IceOutcome, IceSecret, RemoteCredentials};
use sfu::transport::{demux, stun};

fuzz_target!(|data: &[u8]| {
    let _ = demux::classify(data);
    let peeked = stun::peek_local_ufrag(data);
    if let Ok(stun::StunMessage::Request(request)) = stun::parse(data) {
        assert_eq!(peeked, Some(request.local_ufrag), "routing and reading agree");
    }

    let config = IceConfig::new(IceSecret::from_bytes([0; 32]));
    let mut ice = IceLite::new(&config, &mut fastrand::Rng::with_seed(0));
    if let Ok(remote) = RemoteCredentials::parse("them", "aaaaaaaaaaaaaaaaaaaaaa") {
        ice.set_remote_credentials(remote);
    }
    let address = SocketAddr::from(([192, 0, 2, 1], 7882));
    let path = Path::udp(address, address);
    let (now, mut reply) = (Instant::now(), Vec::new());
    let outcome = ice.handle_stun(now, path, data, &mut reply);
    let replies = matches!(outcome, IceOutcome::Answered | IceOutcome::Refused(_));
    assert_eq!(replies, !reply.is_empty());
    assert!(reply.len() <= 3 * data.len());
    while ice.poll_transmit(&mut reply).is_some() {}
});
