//! The connections on which we offer.

use super::offers::answer_to;
use super::*;

fn offerer() -> Negotiation {
    Negotiation::new(NegotiationRole::Offerer, 7)
}

/// One whole round in which the client takes everything.
fn round(negotiation: &mut Negotiation, send: &[SendTrack]) -> (LocalOffer, Accepted) {
    let offer = negotiation.create_offer(&local(), send, true);
    let accepted = negotiation.accept_answer(&answer_to(&offer.sdp)).expect("a good answer");
    (offer, accepted)
}

#[test]
fn data_channels_come_first_and_stay() {
    let mut negotiation = offerer();
    let (offer, accepted) = round(&mut negotiation, &[]);
    let parts = sections(&offer.sdp);
    assert_eq!(parts.len(), 1);
    assert!(parts[0].starts_with("m=application 7882 UDP/DTLS/SCTP webrtc-datachannel\n"));
    assert!(has_line(&parts[0], "a=setup:actpass") && has_line(&parts[0], "a=mid:0"));
    assert!(offer.sdp.contains("a=ice-lite\r\n") && offer.sdp.contains("a=group:BUNDLE 0\r\n"));
    assert!(accepted.data.is_some());
    assert_eq!(accepted.remote.setup, Setup::Server);
    let later = negotiation.create_offer(&local(), &[opus(1)], false);
    assert!(sections(&later.sdp)[0].starts_with("m=application 7882 "));
    assert!(later.sdp.contains("o=- 7 2 IN"));
}

#[test]
fn each_section_offers_the_codec_of_its_track_alone() {
    let mut stereo = opus(2);
    stereo.codec.as_mut().expect("a codec").fmtp = "stereo=1".into();
    let mut red = opus(3);
    red.codec.as_mut().expect("a codec").red = true;
    let send = [
        opus(1),
        stereo,
        red,
        vp8(4),
        h264(5, "packetization-mode=1;profile-level-id=42e01f"),
        h264(6, "packetization-mode=0;profile-level-id=4d001f"),
        track(7, MediaKind::Video, Codec::Vp9, "profile-id=2"),
        track(8, MediaKind::Video, Codec::Av1, ""),
        pcmu(9),
    ];
    let mut negotiation = offerer();
    let (offer, accepted) = round(&mut negotiation, &send);
    let parts = sections(&offer.sdp);
    let formats = |i: usize| {
        let line = parts[i].lines().next().expect("an m-line");
        line.split_once("SAVPF ").expect("formats").1.to_owned()
    };
    let expected = ["111", "112", "111 63", "96 97", "108 109", "118 119", "100 101", "35 36", "0"];
    assert_eq!((1..10).map(formats).collect::<Vec<_>>(), expected);
    assert!(
        has_line(&parts[1], "a=rtcp-fb:111 nack") && !parts[3].contains("nack"),
        "RED needs no resending"
    );
    assert!(has_line(&parts[4], "a=ssrc-group:FID 1004 2004") && has_line(&parts[4], "a=sendonly"));
    assert!(has_line(&parts[9], "a=rtpmap:0 PCMU/8000"));
    assert_eq!(offer.tracks.len(), 9);
    assert_eq!(accepted.placed, offer.tracks);
    let sends: Vec<_> = accepted.sections.iter().filter_map(|s| s.send.as_ref()).collect();
    assert_eq!((sends[2].pt, sends[2].red_pt), (111, Some(63)));
    assert_eq!((sends[4].pt, sends[4].rtx_pt), (108, Some(109)));
    assert!(sends[4].extensions.contains(&(12, extension::DEPENDENCY_DESCRIPTOR)));
    assert!(sends[4].feedback.has(Feedback::TransportCc));

    // One payload type, one set of parameters, in the whole bundle.
    let mut parameters = std::collections::HashMap::new();
    for line in offer.sdp.lines().filter(|l| l.starts_with("a=fmtp:") || l.starts_with("a=rtpmap:")) {
        let (key, value) = line.split_once(' ').expect("a value");
        assert_eq!(*parameters.entry(key).or_insert(value), value, "{key}");
    }
}

#[test]
fn sections_are_reused_by_kind_after_a_round_of_rest() {
    let mut negotiation = offerer();
    round(&mut negotiation, &[opus(1), vp8(2)]);
    let (offer, _) = round(&mut negotiation, &[vp8(2), opus(3)]);
    let parts = sections(&offer.sdp);
    assert_eq!(parts.len(), 4, "3 may not have the section of 1 at once");
    assert!(has_line(&parts[1], "a=inactive") && !parts[1].contains("a=msid:"));
    assert_eq!(offer.tracks, [(mid("2"), TrackId(2)), (mid("3"), TrackId(3))]);
    let (offer, _) = round(&mut negotiation, &[vp8(2), opus(3), opus(4), vp8(5)]);
    assert_eq!(sections(&offer.sdp).len(), 5);
    assert_eq!(
        offer.tracks,
        [(mid("1"), TrackId(4)), (mid("2"), TrackId(2)), (mid("3"), TrackId(3)), (mid("4"), TrackId(5))]
    );
    let (offer, accepted) = round(&mut negotiation, &[]);
    assert_eq!(sections(&offer.sdp).len(), 5);
    assert!(accepted.placed.is_empty() && offer.tracks.is_empty());
}

#[test]
fn a_section_is_not_reused_before_the_client_knows_that_it_rests() {
    let mut negotiation = offerer();
    round(&mut negotiation, &[opus(1)]);
    negotiation.create_offer(&local(), &[], true);
    let offer = negotiation.create_offer(&local(), &[opus(2)], true);
    assert_eq!(offer.tracks, [(mid("2"), TrackId(2))], "the offer before this one was never answered");
}

#[test]
fn a_rejected_section_is_not_offered_again_but_its_place_is() {
    let mut negotiation = offerer();
    let send = [track(1, MediaKind::Video, Codec::Av1, ""), opus(2)];
    let offer = negotiation.create_offer(&local(), &send, true);
    let answer =
        answer_to(&offer.sdp).replace("m=video 7882 ", "m=video 0 ").replace("BUNDLE 0 1 2", "BUNDLE 0 2");
    let accepted = negotiation.accept_answer(&answer).expect("a good answer");
    assert_eq!(accepted.unsupported, [TrackId(1)]);
    assert_eq!(accepted.placed, [(mid("2"), TrackId(2))]);

    let (offer, _) = {
        let offer = negotiation.create_offer(&local(), &send, true);
        assert!(sections(&offer.sdp)[1].starts_with("m=video 0 "));
        assert!(offer.sdp.contains("BUNDLE 0 2\r\n"));
        assert_eq!(offer.tracks, [(mid("2"), TrackId(2))]);
        let accepted = negotiation.accept_answer(&answer_to(&offer.sdp)).expect("a good answer");
        (offer, accepted)
    };
    assert_eq!(sections(&offer.sdp).len(), 3);

    // The same track in another codec takes the place under a new name.
    let offer = negotiation.create_offer(&local(), &[vp8(1), opus(2)], true);
    assert_eq!(offer.tracks, [(mid("3"), TrackId(1)), (mid("2"), TrackId(2))]);
    assert_eq!(sections(&offer.sdp).len(), 3);
    negotiation.accept_answer(&answer_to(&offer.sdp)).expect("a good answer");
}

#[test]
fn a_client_that_insists_is_the_dtls_server() {
    let mut negotiation = offerer();
    let offer = negotiation.create_offer(&local(), &[], true);
    let answer = answer_to(&offer.sdp);
    let refused = negotiation.accept_answer(&answer.replace("setup:active", "setup:actpass"));
    assert_eq!(refused, Err(DescriptionError::WrongSetup));
    let accepted = negotiation.accept_answer(&answer.replace("setup:active", "setup:passive"));
    assert_eq!(accepted.expect("a good answer").remote.setup, Setup::Client);
}

#[test]
fn answers_that_do_not_fit_change_nothing() {
    let mut negotiation = offerer();
    let nothing_asked = negotiation.accept_answer("v=0\r\n");
    assert_eq!(nothing_asked, Err(DescriptionError::OutOfTurn));
    let offer = negotiation.create_offer(&local(), &[opus(1), vp8(2)], true);
    let answer = answer_to(&offer.sdp);
    let before = format!("{negotiation:?}");
    let cut = answer.split("m=video").next().expect("a beginning").to_owned();
    let cases = [
        (cut, DescriptionError::MediaLinesMissing { got: 2, had: 3 }),
        (answer.replace("a=mid:2", "a=mid:9"), DescriptionError::NotWhatWasOffered { m_line: 2 }),
        (answer.replace("m=video", "m=audio"), DescriptionError::NotWhatWasOffered { m_line: 2 }),
        (answer.replace("BUNDLE 0 1 2", "BUNDLE 0 1"), DescriptionError::NotBundled { m_line: 2 }),
        (
            answer.clone() + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n",
            DescriptionError::NotWhatWasOffered { m_line: 3 },
        ),
    ];
    for (bad, error) in cases {
        assert_eq!(negotiation.accept_answer(&bad), Err(error));
        assert_eq!(format!("{negotiation:?}"), before);
    }
    let as_answerer = negotiation.accept_offer(&answer, &local(), &[], &[]);
    assert_eq!(as_answerer, Err(DescriptionError::OutOfTurn));
    negotiation.accept_answer(&answer).expect("the good one still counts");
}

#[test]
fn a_client_that_declines_a_track_leaves_it_unplaced() {
    let mut negotiation = offerer();
    let offer = negotiation.create_offer(&local(), &[opus(1)], false);
    let answer = answer_to(&offer.sdp).replace("a=recvonly", "a=inactive");
    let accepted = negotiation.accept_answer(&answer).expect("a good answer");
    assert_eq!(accepted.unplaced, [TrackId(1)]);
    assert!(accepted.placed.is_empty() && accepted.sections[0].send.is_none());
}

#[test]
fn a_restart_of_either_side_is_noticed() {
    let mut negotiation = offerer();
    round(&mut negotiation, &[]);
    let mut fresh = local();
    fresh.ufrag = "fresh".into();
    let offer = negotiation.create_offer(&fresh, &[], true);
    assert!(offer.sdp.contains("a=ice-ufrag:fresh\r\n"));
    let answer = answer_to(&offer.sdp).replace("a=ice-ufrag:client", "a=ice-ufrag:other");
    assert!(negotiation.accept_answer(&answer).expect("a good answer").remote.ice_restarted);
}

#[test]
fn the_number_of_sections_has_a_bound() {
    let mut negotiation = offerer();
    let send: Vec<_> = (0..600).map(opus).collect();
    let offer = negotiation.create_offer(&local(), &send, true);
    assert_eq!(sections(&offer.sdp).len(), MAX_MEDIA_LINES);
    assert_eq!(offer.tracks.len(), MAX_MEDIA_LINES - 1);
}
