//! Any bytes as an offer over HTTP and as an SDP fragment, and as what a session is patched with and answered by.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{SessionDescription, SignalResponse};
use signaling::whip::fragment::{Fragment, MAX_CANDIDATES, of_answer};
use signaling::whip::request::{self, place};
use signaling::whip::{Exchange, Patched, Progress, Protocol};

const OFFER: &str =
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

fuzz_target!(|data: &[u8]| {
    if let Ok(fragment) = Fragment::parse(data) {
        assert!(fragment.candidates.len() <= MAX_CANDIDATES);
        assert_eq!(fragment.ufrag.is_some(), fragment.pwd.is_some());
    }
    let text = String::from_utf8_lossy(data);
    let _ = (of_answer(&text), place(&text));
    for protocol in Protocol::ALL {
        let _ = request::offer(protocol, data);
    }
    // The same bytes as the offer and as its fragment.
    for offer in [OFFER, &*text] {
        let mut exchange = Exchange::new(Protocol::Whep, offer.to_owned(), 1);
        let answer = |id| {
            let description = SessionDescription { id, sdp: text.clone().into_owned(), ..Default::default() };
            SignalResponse { message: Some(Response::Answer(description)) }
        };
        assert!(matches!(exchange.hear(answer(1)), Progress::Created(_)));
        let before = exchange.etag();
        match exchange.patch(Some("*"), data) {
            Ok(Patched::Restarting(_)) => {
                assert!(matches!(exchange.hear(answer(2)), Progress::Restarted { .. }));
                assert_ne!(exchange.etag(), before);
            }
            Ok(Patched::Trickled(_)) | Err(_) => assert_eq!(exchange.etag(), before),
        }
    }
});
