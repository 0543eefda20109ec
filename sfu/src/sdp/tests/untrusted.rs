//! Descriptions that are wrong, huge or made to hurt.

use proptest::prelude::*;

use super::offers::answer_to;
use super::*;

/// The state after a good offer, and that offer.
fn connected() -> (Negotiation, String) {
    let mut negotiation = answerer();
    let client = Client::joining(Style::Chromium);
    accept(&mut negotiation, &client, &[opus(1), vp8(2)]);
    (negotiation, client.offer())
}

#[test]
fn bad_offers_are_named_and_change_nothing() {
    use DescriptionError as E;
    let (mut negotiation, good) = connected();
    let before = format!("{negotiation:?}");
    let cut = good.split("m=application").next().expect("a beginning").to_owned();
    let cases = [
        (good.replace("BUNDLE 0 1 2 3", "BUNDLE 0 1 3"), E::NotBundled { m_line: 2 }),
        (good.replace("a=group:BUNDLE", "a=group:LS"), E::NotBundled { m_line: 0 }),
        (good.replacen("a=rtcp-mux\r\n", "", 1), E::NoRtcpMux { m_line: 0 }),
        (good.replace("a=mid:4", "a=mid:1"), E::DuplicateMid { first: 1, second: 4, mid: mid("1") }),
        (good.replace("a=mid:4\r\n", ""), E::NoMid { m_line: 4 }),
        (good.replace("a=mid:4", "a=mid:12345678901234567"), E::NoMid { m_line: 4 }),
        (good.replacen("a=ice-pwd:", "a=x:", 1), E::NoIceCredentials),
        (
            good.replacen("a=ice-ufrag:UHQA", &format!("a=ice-ufrag:{}", "x".repeat(257)), 1),
            E::NoIceCredentials,
        ),
        (good.replacen("a=fingerprint:", "a=x:", 1), E::NoFingerprint),
        (good.replacen("a=fingerprint:sha-256 53", "a=fingerprint:sha-256 <b>", 1), E::NoFingerprint),
        (cut, E::MediaLinesMissing { got: 6, had: 7 }),
    ];
    for (bad, error) in cases {
        assert_eq!(negotiation.accept_offer(&bad, &local(), &[], &[opus(3)]), Err(error));
        assert_eq!(format!("{negotiation:?}"), before);
    }
    let accepted = negotiation.accept_offer(&good, &local(), &[], &[opus(1), vp8(2)]).expect("still works");
    assert_eq!(accepted.placed, [(mid("0"), TrackId(1)), (mid("3"), TrackId(2))]);
}

#[test]
fn limits_hold_before_anything_is_parsed() {
    let mut negotiation = answerer();
    let mut refused = |offer: &str| negotiation.accept_offer(offer, &local(), &[], &[]).expect_err("refused");
    let long = "v=0\r\n".to_owned() + &"a".repeat(1024 * 1024);
    assert_eq!(refused(&long), DescriptionError::TooLong { got: long.len(), limit: MAX_DESCRIPTION });
    let many = "v=0\r\n".to_owned() + &"m=audio 9 X 0\r\n".repeat(10_000);
    let got = 10_000;
    assert_eq!(refused(&many), DescriptionError::TooManyMediaLines { got, limit: MAX_MEDIA_LINES });
    let long_and_many = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=rtcp-mux\r\n".repeat(10_000);
    assert!(matches!(refused(&long_and_many), DescriptionError::TooLong { .. }));
}

#[test]
fn errors_are_short_whatever_they_quote() {
    let mut negotiation = answerer();
    for bad in ["", "hello", &"z".repeat(200_000), &format!("v=0\r\no={}\r\n", "\u{7f}".repeat(100_000))] {
        let error = negotiation.accept_offer(bad, &local(), &[], &[]).expect_err("refused").to_string();
        assert!(error.len() < 400, "{} bytes", error.len());
        assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
    }
}

#[test]
fn no_line_of_the_offer_can_add_lines_to_the_answer() {
    let good = Client::joining(Style::Chromium).offer();
    for injected in ["profile-id=0\ra=candidate:x", "profile-id=0\u{0}", "profile-id=0\u{85}a=x"] {
        let bad = good.replace("profile-id=0", injected);
        let refused = answerer().accept_offer(&bad, &local(), &[], &[]);
        assert!(matches!(refused, Err(DescriptionError::Malformed(_))), "{injected:?}");
    }
    let mut odd = vp8(1);
    odd.stream_id = "a b\r\na=candidate:evil".into();
    odd.label = String::new();
    let accepted = answerer().accept_offer(&good, &local(), &[], &[odd]).expect("a good offer");
    assert!(has_line(&answer_of(&accepted)[3], "a=msid:a_b__a=candidate:evil -"));
}

#[test]
fn a_section_without_end_is_read_in_bounded_time_and_space() {
    let attributes: String =
        (0..6000).fold(String::new(), |all, i| all + &format!("a=ssrc:{i} cname:x\r\na=rid:r{i} send\r\n"));
    let offer = Client::new(Style::Chromium, vec![video("sendonly")]).offer() + &attributes;
    assert!(offer.len() < MAX_DESCRIPTION);
    let accepted = answerer().accept_offer(&offer, &local(), &[], &[]).expect("a good offer");
    let receive = accepted.sections[0].receive.as_ref().expect("the client sends");
    assert_eq!((receive.ssrcs.len(), receive.rids.len()), (64, 8));
}

#[test]
fn an_offer_with_nothing_left_keeps_the_transport() {
    let (mut negotiation, good) = connected();
    let stopped = ["audio", "video", "application"]
        .iter()
        .fold(good, |sdp, kind| sdp.replace(&format!("m={kind} 9 "), &format!("m={kind} 0 ")));
    let accepted = negotiation.accept_offer(&stopped, &local(), &[], &[opus(1)]).expect("a good offer");
    assert_eq!(accepted.remote.ufrag, "UHQA");
    assert!(accepted.sections.is_empty() && accepted.data.is_none());
    assert_eq!(accepted.unplaced, [TrackId(1)]);
    assert!(!accepted.answer.expect("an answer").contains("BUNDLE"));
}

/// What must hold of every answer that was given to whatever offer.
fn check(accepted: &Accepted) {
    let answer = accepted.answer.as_ref().expect("an answer");
    let read = read::Remote::parse(answer).expect("our own words");
    read.check(|i| !read.media[i].rejected).expect("our own rules");
    let mut fmtps = std::collections::HashMap::new();
    for section in answer_of(accepted) {
        for line in section.lines().filter(|l| l.starts_with("a=fmtp:111 ")) {
            assert_eq!(*fmtps.entry("111").or_insert_with(|| line.to_owned()), line);
        }
    }
    for (mid, track) in &accepted.placed {
        let section = accepted.sections.iter().find(|s| s.mid == *mid).expect("a section");
        assert_eq!(section.send.as_ref().map(|s| s.track), Some(*track));
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_danger(text in ".{0,400}", body in "([vostcbkzriuepma]=[ -~]{0,40}\r?\n){0,40}") {
        let mut negotiation = answerer();
        for offer in [&text, &body, &format!("v=0\r\no=- 0 0 IN IP4 0\r\ns=-\r\nt=0 0\r\n{body}")] {
            let _ = negotiation.accept_offer(offer, &local(), &[], &[opus(1)]);
        }
        let _ = parse_candidate(&text);
    }

    #[test]
    fn mutated_offers_are_answered_well_or_refused(
        python in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5_u8, any::<u8>()), 1..12),
        send_video in any::<bool>(),
    ) {
        let mut client = Client::joining(if python { Style::Python } else { Style::Chromium });
        client.parts.push(video("sendonly").rids(&["q", "h", "f"]));
        client.parts.push(audio("sendrecv"));
        let offer = client.offer();
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (at, other, edit, byte) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match edit {
                0 => { lines.remove(at); }
                1 => { let line = lines[other].clone(); lines.insert(at, line); }
                2 => lines.swap(at, other),
                3 => {
                    let mut bytes = lines[at].clone().into_bytes();
                    let i = other % bytes.len().max(1);
                    if let Some(b) = bytes.get_mut(i) { *b = byte & 0x7f; }
                    lines[at] = String::from_utf8(bytes).expect("ASCII");
                }
                _ => lines[at] = lines[at].chars().rev().collect(),
            }
        }
        let mutated = lines.join("\r\n") + "\r\n";
        let send = if send_video { vec![vp8(1), vp8(2), opus(3)] } else { vec![opus(3), opus(4)] };
        let mut negotiation = answerer();
        for offer in [&mutated, &offer, &mutated] {
            let before = format!("{negotiation:?}");
            if let Ok(accepted) = negotiation.accept_offer(offer, &local(), &[], &send) {
                check(&accepted);
            } else {
                prop_assert_eq!(before, format!("{negotiation:?}"));
            }
        }
    }

    #[test]
    fn mutated_answers_are_taken_or_refused(
        cut in any::<prop::sample::Index>(),
        swap in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let mut negotiation = Negotiation::new(NegotiationRole::Offerer, 1);
        let offer = negotiation.create_offer(&local(), &[opus(1), vp8(2)], true);
        let answer = answer_to(&offer.sdp);
        let mut lines: Vec<&str> = answer.lines().collect();
        lines.remove(cut.index(lines.len()));
        let (a, b) = (swap.0.index(lines.len()), swap.1.index(lines.len()));
        lines.swap(a, b);
        if negotiation.accept_answer(&(lines.join("\r\n") + "\r\n")).is_err() {
            prop_assert!(negotiation.accept_answer(&answer).is_ok());
        }
        let again = negotiation.create_offer(&local(), &[vp8(2), vp8(3)], true);
        prop_assert!(read::Remote::parse(&again.sdp).is_ok());
    }
}
