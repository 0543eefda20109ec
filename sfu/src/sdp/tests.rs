//! Negotiations as browsers and SDKs drive them, and as nobody should.

mod offerer;
mod offers;
mod reports;
mod untrusted;

use self::offers::{Client, Style, audio, data, sections, video};
use super::*;
use crate::ids::{Mid, Rid, Ssrc, TrackId};
use crate::wire::description::Codec;

fn local() -> LocalTransport {
    LocalTransport {
        ufrag: "ours".into(),
        pwd: "ourpasswordourpassword".into(),
        fingerprint: "AA:BB".into(),
        candidates: vec!["[2001:db8::1]:7882".parse().expect("v6"), "192.0.2.1:7882".parse().expect("v4")],
        tcp_candidates: Vec::new(),
        ice_lite: true,
        restarts: 0,
    }
}

fn track(id: u64, kind: MediaKind, codec: Codec, fmtp: &str) -> SendTrack {
    let (mime, clock_rate, channels) = match kind {
        MediaKind::Audio => ("audio/opus", 48_000, 2),
        MediaKind::Video => ("video/any", 90_000, 1),
    };
    let (ssrc, rtx_ssrc) = (Ssrc(1000 + id as u32), Ssrc(2000 + id as u32));
    SendTrack {
        track: TrackId(id),
        kind,
        stream_id: format!("PA_{id}|TR_{id}"),
        label: format!("TR_{id}"),
        cname: "cname".into(),
        codec: Some(TrackCodec {
            codec,
            mime: mime.into(),
            fmtp: fmtp.into(),
            clock_rate,
            channels,
            red: false,
        }),
        ssrc,
        rtx_ssrc,
    }
}

fn opus(id: u64) -> SendTrack {
    track(id, MediaKind::Audio, Codec::Opus, "minptime=10;useinbandfec=1")
}

fn pcmu(id: u64) -> SendTrack {
    let mut track = track(id, MediaKind::Audio, Codec::Pcmu, "");
    let codec = track.codec.as_mut().expect("a codec");
    (codec.clock_rate, codec.channels) = (8000, 1);
    track
}

fn vp8(id: u64) -> SendTrack {
    track(id, MediaKind::Video, Codec::Vp8, "")
}

fn h264(id: u64, fmtp: &str) -> SendTrack {
    track(id, MediaKind::Video, Codec::H264, fmtp)
}

fn mid(text: &str) -> Mid {
    Mid::parse(text).expect("a mid")
}

fn answerer() -> Negotiation {
    Negotiation::new(NegotiationRole::Answerer, u64::MAX)
}

fn accept(negotiation: &mut Negotiation, client: &Client, send: &[SendTrack]) -> Accepted {
    negotiation.accept_offer(&client.offer(), &local(), &[], send).expect("a good offer")
}

fn answer_of(accepted: &Accepted) -> Vec<String> {
    sections(accepted.answer.as_ref().expect("an answer"))
}

fn has_line(section: &str, line: &str) -> bool {
    section.lines().any(|l| l == line)
}

#[test]
fn the_first_offer_of_an_sdk_is_answered_section_by_section() {
    for style in [Style::Chromium, Style::Python] {
        let mut negotiation = answerer();
        let accepted = accept(&mut negotiation, &Client::joining(style), &[]);
        let text = accepted.answer.clone().expect("an answer");
        assert!(text.contains("\r\na=ice-lite\r\n") && text.contains("\r\na=group:BUNDLE 0 1 2 3 4 5 6\r\n"));
        assert!(
            text.contains("\r\na=extmap-allow-mixed\r\n") && text.contains("\r\na=msid-semantic: WMS *\r\n")
        );
        assert!(!text.contains("sctp-init") && !text.contains("sped"), "experiments are not echoed");
        assert!(text.starts_with(&format!("v=0\r\no=- {} 1 ", u64::MAX >> 2)));

        let answer = answer_of(&accepted);
        assert_eq!(answer.len(), 7);
        assert!(answer[0].starts_with("m=audio 7882 UDP/TLS/RTP/SAVPF 111 63\nc=IN IP4 192.0.2.1\n"));
        assert!(answer[3].starts_with(
            "m=video 7882 UDP/TLS/RTP/SAVPF 96 97 98 99 100 101 102 103 104 107 108 109 114 115 116 117 39 40 45 46\n"
        ));
        assert!(answer[6].starts_with("m=application 7882 UDP/DTLS/SCTP webrtc-datachannel\n"));
        assert!(
            has_line(&answer[6], "a=max-message-size:262144") && has_line(&answer[6], "a=sctp-port:5000")
        );
        for (index, section) in answer.iter().enumerate() {
            assert!(has_line(section, &format!("a=mid:{index}")));
            assert!(has_line(section, "a=setup:passive") && has_line(section, "a=ice-ufrag:ours"));
            assert!(has_line(section, "a=fingerprint:sha-256 AA:BB"));
            // The first section is inactive, so the first active one repeats what Pion would not see there.
            let lists = index == 0 || index == 6;
            assert_eq!(section.matches("a=candidate:").count(), if lists { 2 } else { 0 });
            assert_eq!(has_line(section, "a=end-of-candidates"), lists);
            if index < 6 {
                assert!(has_line(section, "a=inactive") && has_line(section, "a=rtcp-mux"));
                assert!(has_line(section, "a=rtcp-rsize"));
            }
        }
        assert!(has_line(&answer[0], "a=fmtp:111 minptime=10;useinbandfec=1"));
        assert!(has_line(&answer[0], "a=fmtp:63 111/111"));
        assert!(has_line(&answer[3], "a=fmtp:46 apt=45"));
        for fb in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
            assert!(has_line(&answer[3], &format!("a=rtcp-fb:96 {fb}")), "{fb}");
        }
        assert_eq!(accepted.data, Some(DataSection { sctp_port: 5000, max_message_size: 262_144 }));
        assert_eq!(accepted.sections.len(), 6);
        assert!(accepted.sections.iter().all(|s| s.receive.is_none() && s.send.is_none()));
        assert_eq!(accepted.remote.setup, Setup::Server);
        assert_eq!(negotiation.free_sections(MediaKind::Audio), 3);
        assert_eq!(negotiation.free_sections(MediaKind::Video), 3);
    }
}

#[test]
fn recvonly_video_of_the_first_answer_negotiates_rid_extensions() {
    let accepted = accept(&mut answerer(), &Client::joining(Style::Chromium), &[]);
    let answer = answer_of(&accepted);
    assert!(has_line(&answer[3], "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
    assert!(has_line(&answer[3], "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"));
    for refused in ["toffset", "video-content-type", "video-timing", "color-space"] {
        assert!(!answer[3].contains(refused), "{refused}");
    }
    assert_eq!(answer[0].matches("a=extmap:").count(), 4);
    assert_eq!(answer[3].matches("a=extmap:").count(), 8);
}

#[test]
fn tracks_are_placed_under_the_numbers_of_the_offer() {
    let mut negotiation = answerer();
    let send = [vp8(1), opus(2), vp8(3)];
    let accepted = accept(&mut negotiation, &Client::joining(Style::Chromium), &send);
    assert_eq!(accepted.placed, [(mid("0"), TrackId(2)), (mid("3"), TrackId(1)), (mid("4"), TrackId(3))]);
    let answer = answer_of(&accepted);
    for line in [
        "a=sendonly",
        "a=msid:PA_1|TR_1 TR_1",
        "a=ssrc-group:FID 1001 2001",
        "a=ssrc:1001 cname:cname",
        "a=ssrc:2001 cname:cname",
    ] {
        assert!(has_line(&answer[3], line), "{line}");
    }
    assert!(has_line(&answer[0], "a=sendonly") && has_line(&answer[0], "a=ssrc:1002 cname:cname"));
    assert!(!answer[0].contains("FID"), "audio has no retransmission stream");
    assert!(has_line(&answer[5], "a=inactive") && !answer[5].contains("a=msid"));

    let video = accepted.sections[3].send.as_ref().expect("a track");
    assert_eq!((video.pt, video.rtx_pt, video.red_pt), (96, Some(97), None));
    assert!(video.extensions.contains(&(4, extension::MID)));
    assert!(video.extensions.contains(&(3, extension::TRANSPORT_CC)));
    assert!(video.extensions.iter().all(|(_, uri)| *uri != extension::RID));
    assert!(Feedback::OF_PAYLOADS.into_iter().all(|fb| video.feedback.has(fb)));
    let audio = accepted.sections[0].send.as_ref().expect("a track");
    assert_eq!((audio.pt, audio.rtx_pt, audio.red_pt), (111, None, Some(63)));
    assert!(audio.feedback.has(Feedback::TransportCc) && !audio.feedback.has(Feedback::Nack));
    assert_eq!(negotiation.free_sections(MediaKind::Audio), 2);
    assert_eq!(negotiation.free_sections(MediaKind::Video), 1);
}

#[test]
fn more_tracks_than_sections_wait_for_the_next_offer() {
    let mut negotiation = answerer();
    let mut client = Client::joining(Style::Chromium);
    let send: Vec<_> = (1..=5).map(opus).collect();
    let accepted = accept(&mut negotiation, &client, &send);
    assert_eq!(accepted.unplaced, [TrackId(4), TrackId(5)]);
    assert_eq!(negotiation.free_sections(MediaKind::Audio), 0);
    client.parts.push(audio("recvonly"));
    client.parts.push(audio("recvonly"));
    let accepted = accept(&mut negotiation, &client, &send);
    assert!(accepted.unplaced.is_empty());
    assert_eq!(accepted.placed[3..], [(mid("7"), TrackId(4)), (mid("8"), TrackId(5))]);
}

#[test]
fn a_track_keeps_its_section_and_a_section_rests_between_two_tracks() {
    let mut negotiation = answerer();
    let client = Client::joining(Style::Python);
    accept(&mut negotiation, &client, &[opus(1), opus(2), opus(3)]);

    // 1 goes, 4 comes: its section is not yet 4's, which has to wait although it will be free.
    let accepted = accept(&mut negotiation, &client, &[opus(4), opus(3), opus(2)]);
    assert_eq!(accepted.placed, [(mid("1"), TrackId(2)), (mid("2"), TrackId(3))]);
    assert_eq!(accepted.unplaced, [TrackId(4)]);
    assert!(has_line(&answer_of(&accepted)[0], "a=inactive"));
    assert_eq!(negotiation.free_sections(MediaKind::Audio), 1);

    let accepted = accept(&mut negotiation, &client, &[opus(4), opus(3), opus(2)]);
    assert_eq!(accepted.placed, [(mid("0"), TrackId(4)), (mid("1"), TrackId(2)), (mid("2"), TrackId(3))]);
    assert!(has_line(&answer_of(&accepted)[0], "a=msid:PA_4|TR_4 TR_4"));
}

#[test]
fn a_repeated_offer_gets_the_same_numbers_and_a_new_version() {
    let mut negotiation = answerer();
    let client = Client::joining(Style::Chromium);
    let first = accept(&mut negotiation, &client, &[vp8(1)]);
    let second = accept(&mut negotiation, &client, &[vp8(1)]);
    assert_eq!(answer_of(&first), answer_of(&second));
    assert!(second.answer.expect("an answer").contains(" 2 IN IP4"));
    assert_eq!(first.sections, second.sections);
}

#[test]
fn simulcast_by_rid_is_accepted_in_the_order_of_the_offer() {
    let mut client = Client::joining(Style::Python);
    client.parts.push(video("sendonly").msid("stream cam").rids(&["f", "h", "q"]));
    let mut negotiation = answerer();
    let accepted = accept(&mut negotiation, &client, &[vp8(1)]);
    let answer = answer_of(&accepted);
    assert!(has_line(&answer[7], "a=recvonly") && has_line(&answer[7], "a=simulcast:recv f;h;q"));
    for rid in ["f", "h", "q"] {
        assert!(has_line(&answer[7], &format!("a=rid:{rid} recv")), "{rid}");
    }
    let receive = accepted.sections[6].receive.as_ref().expect("the client sends");
    assert_eq!(receive.rids, ["f", "h", "q"].map(|r| Rid::parse(r).expect("a rid")));
    assert_eq!((receive.stream_id.as_deref(), receive.track_id.as_deref()), (Some("stream"), Some("cam")));
    assert!(receive.extensions.contains(&(10, extension::RID)));
    assert!(receive.extensions.contains(&(11, extension::REPAIRED_RID)));
    let vp8 = &receive.payloads[0];
    assert_eq!((vp8.pt, vp8.codec, vp8.rtx_pt), (96, Codec::Vp8, Some(97)));
    assert_eq!(vp8.track_codec(MediaKind::Video, true).mime, "video/VP8");
    assert_eq!(accepted.placed, [(mid("3"), TrackId(1))], "not where the client sends");
}

#[test]
fn paused_and_alternative_encodings_count_and_undescribed_ones_do_not() {
    let part = video("sendonly").with(&[
        "a=rid:a send",
        "a=rid:b send pt=96",
        "a=rid:c recv",
        "a=simulcast:recv c send ~a,x;b;d",
    ]);
    let accepted = accept(&mut answerer(), &Client::new(Style::Chromium, vec![part]), &[]);
    let receive = accepted.sections[0].receive.as_ref().expect("the client sends");
    assert_eq!(receive.rids, ["a", "b"].map(|r| Rid::parse(r).expect("a rid")));
}

#[test]
fn simulcast_by_ssrc_group_is_read() {
    let part = video("sendonly").with(&[
        "a=ssrc-group:SIM 10 20 30",
        "a=ssrc-group:FID 10 11",
        "a=ssrc-group:FID 20 21",
        "a=ssrc-group:FID 30 31",
        "a=ssrc:10 cname:c",
        "a=ssrc:10 msid:old names",
        "a=ssrc:11 cname:c",
    ]);
    let accepted = accept(&mut answerer(), &Client::new(Style::Chromium, vec![part]), &[]);
    let receive = accepted.sections[0].receive.clone().expect("the client sends");
    assert_eq!(receive.simulcast_ssrcs, [Ssrc(10), Ssrc(20), Ssrc(30)]);
    assert!(receive.nacks);
    assert_eq!(receive.rtx_ssrcs[1], (Ssrc(20), Ssrc(21)));
    assert_eq!(receive.ssrcs, [Ssrc(10), Ssrc(11)]);
    assert_eq!(receive.track_id.as_deref(), Some("names"));
    assert!(receive.rids.is_empty());
}

fn hint(cid: &str, stereo: bool, dtx: bool, red: bool) -> PublishHint {
    PublishHint { cid: cid.into(), stereo, dtx, red, codec: None }
}

#[test]
fn opus_parameters_are_the_same_in_all_sections_and_remembered() {
    let mut client = Client::joining(Style::Chromium);
    client.parts.push(audio("sendonly").msid("s mic"));
    let mut negotiation = answerer();
    let mut fmtp = |client: &Client, hints: &[PublishHint]| {
        let accepted = negotiation.accept_offer(&client.offer(), &local(), hints, &[]).expect("a good offer");
        let lines = answer_of(&accepted).join("\n");
        let found: Vec<_> =
            lines.lines().filter(|l| l.starts_with("a=fmtp:111 ")).map(str::to_owned).collect();
        assert_eq!(found.len(), client.parts.iter().filter(|p| p.kind == "audio").count());
        assert!(found.windows(2).all(|w| w[0] == w[1]), "{found:?}");
        found[0].clone()
    };
    assert_eq!(fmtp(&client, &[]), "a=fmtp:111 minptime=10;useinbandfec=1");
    let dtx = "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1";
    assert_eq!(fmtp(&client, &[hint("mic", false, true, true)]), dtx);
    assert_eq!(fmtp(&client, &[]), dtx, "a hint need not be repeated");
    client.parts.push(audio("sendonly").msid("s music"));
    let stereo = "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1";
    assert_eq!(fmtp(&client, &[hint("music", true, false, true)]), stereo);
}

#[test]
fn red_is_refused_only_where_the_hint_says_so() {
    let mut client = Client::joining(Style::Chromium);
    client.parts.push(audio("sendonly").msid("s mic"));
    client.parts.push(audio("sendonly").msid("s other"));
    let accepted = answerer()
        .accept_offer(&client.offer(), &local(), &[hint("mic", false, true, false)], &[])
        .expect("a good offer");
    let answer = answer_of(&accepted);
    assert!(answer[7].starts_with("m=audio 7882 UDP/TLS/RTP/SAVPF 111\n"));
    assert!(answer[8].starts_with("m=audio 7882 UDP/TLS/RTP/SAVPF 111 63\n"));
    let codecs = |i: usize| -> Vec<Codec> {
        accepted.sections[i].receive.iter().flat_map(|r| &r.payloads).map(|p| p.codec).collect()
    };
    assert_eq!(codecs(6), [Codec::Opus]);
    assert_eq!(codecs(7), [Codec::Opus, Codec::Red]);
}

#[test]
fn g711_is_taken_from_who_prefers_it_and_not_beside_opus() {
    let mut client = Client::new(Style::Chromium, vec![audio("sendonly").msid("s mic")]);
    let offer = |client: &Client, formats: &str| client.offer().replace("111 63 9 0 8 13 110 126", formats);
    let hinted = PublishHint { codec: Some(Codec::Pcma), ..hint("mic", false, true, true) };
    let usual = "111 63 9 0 8 13 110 126";
    let opus: &[_] = &[Codec::Opus, Codec::Red];
    for (formats, hints, taken) in [
        (usual, &[][..], opus),
        (usual, &[hinted], &[Codec::Pcma, Codec::Opus, Codec::Red]),
        ("0 111 63", &[], &[Codec::Pcmu, Codec::Opus, Codec::Red]),
        ("9 8 0 13", &[], &[Codec::Pcma, Codec::Pcmu]),
    ] {
        // Static payload types have no need of a line of their own.
        for told in [true, false] {
            let lines = |line: &&str| told || !(line.contains("PCMU") || line.contains("PCMA"));
            let offer: String =
                offer(&client, formats).lines().filter(lines).flat_map(|line| [line, "\r\n"]).collect();
            let accepted = answerer().accept_offer(&offer, &local(), hints, &[]).expect("a good offer");
            let receive = accepted.sections[0].receive.as_ref().expect("it is sent");
            let codecs: Vec<Codec> = receive.payloads.iter().map(|payload| payload.codec).collect();
            assert_eq!(codecs, taken, "{formats}");
            let pcmu = has_line(&answer_of(&accepted)[0], "a=rtpmap:0 PCMU/8000");
            assert_eq!(pcmu, taken.contains(&Codec::Pcmu), "{formats}");
        }
    }
    client.parts[0] = audio("recvonly");
    let accepted = accept(&mut answerer(), &client, &[pcmu(1)]);
    let sent = accepted.sections[0].send.as_ref().expect("it is wanted");
    assert_eq!((sent.pt, sent.red_pt), (0, None));
}

#[test]
fn a_track_is_sent_in_the_payload_type_of_its_profile() {
    let cases = [
        (h264(1, "packetization-mode=1;profile-level-id=42e01f"), Some(102), "baseline is baseline"),
        (h264(1, "packetization-mode=0;profile-level-id=42e034"), Some(104), "any level"),
        (h264(1, "packetization-mode=1;profile-level-id=4d0032"), Some(116), "main"),
        (h264(1, "packetization-mode=1;profile-level-id=640032"), None, "nobody offered high"),
        (h264(1, "packetization-mode=2;profile-level-id=42e01f"), None, "interleaved"),
        (track(1, MediaKind::Video, Codec::Vp9, "profile-id=2"), Some(100), "profile 2"),
        (track(1, MediaKind::Video, Codec::Vp9, ""), Some(98), "profile 0 is the default"),
        (track(1, MediaKind::Video, Codec::Av1, "profile=0"), Some(45), "AV1"),
    ];
    for (track, pt, what) in cases {
        let accepted = accept(&mut answerer(), &Client::joining(Style::Chromium), &[track]);
        let sent = accepted.sections.iter().find_map(|s| s.send.as_ref());
        assert_eq!(sent.map(|s| s.pt), pt, "{what}");
        assert_eq!(accepted.unsupported.is_empty(), pt.is_some(), "{what}");
        assert!(accepted.unplaced.is_empty(), "{what}");
    }
}

#[test]
fn mode_0_video_goes_to_a_client_that_knows_only_mode_1() {
    let only_mode_1 =
        Client::joining(Style::Chromium).offer().replace("packetization-mode=0", "packetization-mode=7");
    let send = [h264(1, "profile-level-id=42e01f")];
    let accepted = answerer().accept_offer(&only_mode_1, &local(), &[], &send).expect("a good offer");
    assert_eq!(accepted.sections[3].send.as_ref().map(|s| s.pt), Some(102));
    let only_mode_0 =
        Client::joining(Style::Chromium).offer().replace("packetization-mode=1", "packetization-mode=7");
    let send = [h264(1, "packetization-mode=1;profile-level-id=42e01f")];
    let accepted = answerer().accept_offer(&only_mode_0, &local(), &[], &send).expect("a good offer");
    assert_eq!(accepted.unsupported, [TrackId(1)]);
}

#[test]
fn high_profile_is_taken_from_those_who_know_nothing_lower() {
    let part = video("sendonly");
    let offer = Client::new(Style::Python, vec![part]).offer();
    let with_high = offer.replace("profile-level-id=42001f", "profile-level-id=640c1f");
    let codecs = |offer: &str| -> Vec<u8> {
        let accepted = answerer().accept_offer(offer, &local(), &[], &[]).expect("a good offer");
        accepted.sections[0].receive.iter().flat_map(|r| &r.payloads).map(|p| p.pt).collect()
    };
    assert_eq!(codecs(&with_high), [96, 98, 100, 108, 114, 116, 39, 45]);
    let only_high = with_high.replace("42e01f", "f4001f").replace("4d001f", "f4001f");
    assert_eq!(codecs(&only_high), [96, 98, 100, 102, 104, 45]);
}

/// A feed is placed before it is known what will be in it, and can carry all that the client decodes.
#[test]
fn a_feed_is_negotiated_without_a_track() {
    let mut negotiation = answerer();
    let client = Client::joining(Style::Chromium);
    let feed = SendTrack { codec: None, ..vp8(9) };
    let accepted = accept(&mut negotiation, &client, &[feed]);
    assert_eq!((accepted.unplaced, accepted.unsupported), (vec![], vec![]));
    let section = accepted.sections.iter().find(|s| s.kind == MediaKind::Video).expect("a section of video");
    let send = section.send.as_ref().expect("a place for the feed");
    let carried = |track: &SendTrack| {
        let carrying = send.carrying(MediaKind::Video, track.codec.as_ref()?)?;
        Some((carrying.pt, carrying.rtx_pt.is_some(), carrying.extensions == send.extensions))
    };
    assert_eq!(carried(&vp8(1)), Some((96, true, true)));
    assert_eq!(carried(&track(1, MediaKind::Video, Codec::Av1, "")).map(|(pt, ..)| pt), Some(45));
    let h264 = |profile: &str| h264(1, &format!("packetization-mode=1;profile-level-id={profile}"));
    assert!(carried(&h264("42e01f")).is_some());
    assert_eq!(
        carried(&track(1, MediaKind::Video, Codec::Vp9, "profile-id=1")),
        None,
        "which is not forwarded"
    );
    assert_eq!(carried(&opus(1)), None);
}

#[test]
fn a_track_whose_codec_changed_stays_or_leaves_for_an_inactive_section() {
    let mut negotiation = answerer();
    let client = Client::joining(Style::Chromium);
    accept(&mut negotiation, &client, &[vp8(1)]);
    let accepted = accept(&mut negotiation, &client, &[track(1, MediaKind::Video, Codec::Av1, "")]);
    assert_eq!(accepted.placed, [(mid("3"), TrackId(1))]);
    assert_eq!(accepted.sections[3].send.as_ref().map(|s| s.pt), Some(45));
    let high = h264(1, "packetization-mode=1;profile-level-id=640032");
    let accepted = accept(&mut negotiation, &client, &[high]);
    assert_eq!(accepted.unsupported, [TrackId(1)]);
    assert!(has_line(&answer_of(&accepted)[3], "a=inactive"));
}

#[test]
fn answers_go_no_further_than_the_offer() {
    let cases = [
        ("sendonly", "recvonly", "recvonly"),
        ("recvonly", "inactive", "sendonly"),
        ("sendrecv", "recvonly", "sendrecv"),
        ("inactive", "inactive", "inactive"),
    ];
    for (offered, without, with) in cases {
        let client = Client::new(Style::Chromium, vec![video(offered)]);
        for (send, expected) in [(vec![], without), (vec![vp8(1)], with)] {
            let accepted = accept(&mut answerer(), &client, &send);
            assert!(has_line(&answer_of(&accepted)[0], &format!("a={expected}")), "{offered} -> {expected}");
            assert_eq!(accepted.sections[0].receive.is_some(), offered.starts_with("send"), "{offered}");
            assert_eq!(accepted.placed.is_empty(), !expected.starts_with("send"), "{offered}");
        }
    }
}

#[test]
fn sections_in_which_the_client_sends_are_the_last_choice() {
    let client = Client::new(Style::Chromium, vec![video("sendrecv"), video("recvonly")]);
    let accepted = accept(&mut answerer(), &client, &[vp8(1), vp8(2), vp8(3)]);
    assert_eq!(accepted.placed, [(mid("0"), TrackId(2)), (mid("1"), TrackId(1))]);
    assert_eq!(accepted.unplaced, [TrackId(3)]);
}

#[test]
fn a_section_that_the_client_stops_gives_its_track_another() {
    let mut negotiation = answerer();
    let mut client = Client::joining(Style::Chromium);
    accept(&mut negotiation, &client, &[vp8(1)]);
    client.parts[3] = video("inactive");
    let accepted = accept(&mut negotiation, &client, &[vp8(1)]);
    assert_eq!(accepted.placed, [(mid("4"), TrackId(1))]);
}

#[test]
fn what_is_rejected_or_unknown_stays_in_its_place_with_port_0() {
    let client = Client::new(Style::Chromium, vec![audio("recvonly"), video("recvonly"), data(), data()]);
    let offer = client
        .offer()
        .replace("m=audio 9 ", "m=audio 0 ")
        .replace("a=group:BUNDLE 0 1 2 3", "a=group:BUNDLE 1 2 3 4 5")
        + "m=text 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:4\r\nm=video 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:5\r\n\
           a=rtcp-mux\r\na=rtpmap:98 H265/90000\r\n";
    let accepted = answerer().accept_offer(&offer, &local(), &[], &[opus(1)]).expect("a good offer");
    let answer = answer_of(&accepted);
    assert!(answer[0].starts_with("m=audio 0 ") && has_line(&answer[0], "a=mid:0"));
    assert!(
        answer[1].starts_with("m=video 7882 ") && answer[1].contains("a=candidate:"),
        "now the tagged one"
    );
    assert!(answer[2].starts_with("m=application 7882 "));
    assert!(answer[3].starts_with("m=application 0 "), "one for data is enough");
    assert!(answer[4].starts_with("m=text 0 UDP/TLS/RTP/SAVPF 98\n"));
    assert!(answer[5].starts_with("m=video 0 "), "no codec in common");
    let text = accepted.answer.expect("an answer");
    assert!(text.contains("a=group:BUNDLE 1 2\r\n"));
    assert_eq!(accepted.unplaced, [TrackId(1)]);
}

#[test]
fn extensions_keep_their_direction_and_large_ids_need_mixing() {
    let part = video("sendrecv")
        .with(&["a=extmap:20 http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"]);
    let mixed = Client::new(Style::Chromium, vec![part])
        .offer()
        .replace("a=extmap:13 ", "a=extmap:13/sendonly ")
        .replace("a=extmap:5 ", "a=extmap:5/inactive ");
    let accepted = answerer().accept_offer(&mixed, &local(), &[], &[vp8(1)]).expect("a good offer");
    let answer = answer_of(&accepted);
    assert!(has_line(&answer[0], "a=extmap:13/recvonly urn:3gpp:video-orientation"));
    assert!(!answer[0].contains("playout-delay"));
    assert!(answer[0].contains("a=extmap:20 "));
    let section = &accepted.sections[0];
    let receive = section.receive.as_ref().expect("the client sends");
    let send = section.send.as_ref().expect("a track");
    assert!(receive.extensions.contains(&(13, extension::VIDEO_ORIENTATION)));
    assert!(!send.extensions.contains(&(13, extension::VIDEO_ORIENTATION)));
    assert!(send.extensions.contains(&(20, extension::ABS_CAPTURE_TIME)));

    let plain = mixed.replace("a=extmap-allow-mixed\r\n", "");
    let accepted = answerer().accept_offer(&plain, &local(), &[], &[]).expect("a good offer");
    assert!(!accepted.answer.expect("an answer").contains("a=extmap:20 "));
}

#[test]
fn ice_restarts_are_seen_before_and_after_the_answer() {
    let mut negotiation = answerer();
    let mut client = Client::joining(Style::Chromium);
    assert!(!negotiation.restarts_ice(&client.offer()), "the first offer is no restart");
    assert!(!accept(&mut negotiation, &client, &[]).remote.ice_restarted);
    assert!(!negotiation.restarts_ice(&client.offer()));
    client.ufrag = "uPVe";
    assert!(negotiation.restarts_ice(&client.offer()));
    let accepted = accept(&mut negotiation, &client, &[]);
    assert!(accepted.remote.ice_restarted);
    assert_eq!(accepted.remote.ufrag, "uPVe");
    assert!(!accept(&mut negotiation, &client, &[]).remote.ice_restarted);
}

#[test]
fn the_dtls_role_is_ours_to_choose_once() {
    for (setup, role, line) in [
        ("actpass", Setup::Server, "a=setup:passive"),
        ("active", Setup::Server, "a=setup:passive"),
        ("passive", Setup::Client, "a=setup:active"),
    ] {
        let mut negotiation = answerer();
        let mut client = Client::joining(Style::Chromium);
        client.setup = setup;
        let accepted = accept(&mut negotiation, &client, &[]);
        assert_eq!(accepted.remote.setup, role);
        assert!(has_line(&answer_of(&accepted)[0], line));
        client.setup = "actpass";
        assert_eq!(accept(&mut negotiation, &client, &[]).remote.setup, role, "kept");
    }
    let mut negotiation = answerer();
    let mut client = Client::joining(Style::Chromium);
    accept(&mut negotiation, &client, &[]);
    for bad in ["passive", "holdconn"] {
        client.setup = bad;
        let refused = negotiation.accept_offer(&client.offer(), &local(), &[], &[]);
        assert_eq!(refused, Err(DescriptionError::WrongSetup), "{bad}");
    }
}
