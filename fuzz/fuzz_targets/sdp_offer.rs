//! Any text as an offer, and as an answer to an offer of ours: refused or answered, never a panic, and what we
//! answer is itself a description that we would read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::command::{MediaKind, NegotiationRole};
use sfu::ids::{Ssrc, TrackId};
use sfu::sdp::{LocalTransport, Negotiation, SendTrack, TrackCodec, parse_candidate};
use sfu::wire::description::Codec;

fn track(id: u64, kind: MediaKind, codec: Codec, clock_rate: u32) -> SendTrack {
    SendTrack {
        track: TrackId(id),
        kind,
        stream_id: "PA_a|TR_a".into(),
        label: "TR_a".into(),
        cname: "cname".into(),
        codec: Some(TrackCodec {
            codec,
            mime: String::new(),
            fmtp: String::new(),
            clock_rate,
            channels: 2,
            red: true,
        }),
        ssrc: Ssrc(id as u32),
        rtx_ssrc: Ssrc(id as u32 + 100),
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let local = LocalTransport {
        ufrag: "ours".into(),
        pwd: "ourpasswordourpassword".into(),
        fingerprint: "AA:BB".into(),
        candidates: vec!["192.0.2.1:7882".parse().expect("an address")],
        tcp_candidates: vec!["192.0.2.1:7881".parse().expect("an address")],
        ice_lite: true,
        restarts: 0,
    };
    let send = [
        track(1, MediaKind::Audio, Codec::Opus, 48_000),
        track(2, MediaKind::Video, Codec::Vp8, 90_000),
        track(3, MediaKind::Video, Codec::H264, 90_000),
    ];
    let _ = parse_candidate(text);

    let mut answerer = Negotiation::new(NegotiationRole::Answerer, 1);
    let first = answerer.accept_offer(text, &local, &[], &send);
    let second = answerer.accept_offer(text, &local, &[], &send[1..]);
    assert_eq!(first.is_ok(), second.is_ok(), "an offer can be repeated");
    if let Some(answer) = first.ok().and_then(|accepted| accepted.answer) {
        // An answer of ours is good enough to be an offer, unless nothing is left in it or it is active.
        let mut other = Negotiation::new(NegotiationRole::Answerer, 2);
        let refused = other.accept_offer(&answer, &local, &[], &[]).err();
        let fine = refused.is_none_or(|e| matches!(e, sfu::sdp::DescriptionError::NoIceCredentials));
        assert!(fine || answer.len() > sfu::sdp::MAX_DESCRIPTION);
    }

    let mut offerer = Negotiation::new(NegotiationRole::Offerer, 3);
    offerer.create_offer(&local, &send, true);
    let _ = offerer.accept_answer(text);
    offerer.create_offer(&local, &send[..2], true);
});
