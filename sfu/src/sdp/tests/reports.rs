//! Which feedback for congestion control is agreed on: one kind for the whole transport.

use super::*;

const CCFB: &str = "a=rtcp-fb:* ack ccfb";

/// A client that also receives, with this line in each section but that of data, and what it offers otherwise edited.
fn answered(more: &str, edit: impl Fn(&str) -> Option<String>) -> (Accepted, Vec<String>) {
    let parts = vec![audio("recvonly"), video("recvonly"), video("sendonly")];
    let offer = Client { parts, ..joining() }.offer();
    let mut text = String::new();
    for line in offer.lines().filter_map(edit) {
        text.push_str(&line);
        text.push_str("\r\n");
        if line == "a=rtcp-mux" && !more.is_empty() {
            text.push_str(more);
            text.push_str("\r\n");
        }
    }
    let accepted =
        answerer().accept_offer(&text, &local(), &[], &[opus(1), vp8(2)]).expect("an offer to be answered");
    let answer = answer_of(&accepted);
    (accepted, answer)
}

fn joining() -> Client {
    Client::joining(Style::Chromium)
}

/// What is agreed on: of what we send, and of what we receive.
fn kinds(accepted: &Accepted, feedback: Feedback) -> Vec<bool> {
    let sent = accepted.sections.iter().filter_map(|s| Some(s.send.as_ref()?.feedback.has(feedback)));
    let received = accepted.sections.iter().filter_map(|s| s.receive.as_ref());
    sent.chain(received.map(|receive| receive.payloads.iter().all(|p| p.feedback.has(feedback)))).collect()
}

#[test]
fn transport_cc_is_preferred_where_both_are_offered() {
    let (accepted, answer) = answered(CCFB, |line| Some(line.to_owned()));
    assert!(!answer.iter().any(|section| section.contains("ccfb")));
    assert!(has_line(&answer[1], "a=rtcp-fb:96 transport-cc"));
    assert_eq!(kinds(&accepted, Feedback::TransportCc), [true; 3]);
    assert_eq!(kinds(&accepted, Feedback::Ccfb), [false; 3]);
}

#[test]
fn ccfb_is_taken_where_it_is_offered_alone() {
    let without =
        |what: &'static str| answered(CCFB, move |line| (!line.contains(what)).then(|| line.to_owned()));
    // Feedback needs the extension, and the extension the feedback.
    for what in ["transport-wide-cc", "transport-cc"] {
        let (accepted, answer) = without(what);
        for section in &answer {
            assert_eq!(section.matches(CCFB).count(), 1, "once for each section: {section}");
        }
        assert_eq!(kinds(&accepted, Feedback::Ccfb), [true; 3], "{what}");
    }
    let (_, answer) = without("transport-cc");
    assert!(has_line(&answer[1], "a=rtcp-fb:96 nack pli"), "what is of payload types stays");
}

#[test]
fn ccfb_of_one_payload_type_is_read_too() {
    let per_payload = |line: &str| match line {
        "a=rtcp-fb:96 transport-cc" => Some("a=rtcp-fb:96 ack ccfb".to_owned()),
        _ if line.contains("transport-cc") => None,
        _ => Some(line.to_owned()),
    };
    let (accepted, answer) = answered("", per_payload);
    assert!(has_line(&answer[1], CCFB) && !answer[0].contains("ccfb"));
    assert!(accepted.sections[1].send.as_ref().is_some_and(|send| send.feedback.has(Feedback::Ccfb)));
}

#[test]
fn our_offers_have_transport_cc_alone() {
    let mut negotiation = Negotiation::new(NegotiationRole::Offerer, 1);
    let offer = negotiation.create_offer(&local(), &[opus(1), vp8(2)], false).sdp;
    assert!(offer.contains("transport-cc") && !offer.contains("ccfb"));
}
