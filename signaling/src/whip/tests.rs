//! Requests, fragments and one session's exchange, without a room.

use std::time::Duration;

use livekit_protocol::request_response::{Reason, Request as Concerning};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, IceServer, JoinResponse, LeaveRequest, RequestResponse, SessionDescription,
    SignalRequest, SignalResponse,
};

use super::fragment::{Fragment, FragmentError, MAX_CANDIDATES, MAX_FRAGMENT, of_answer};
use super::request::{Head, Place, admit, offer, place};
use super::*;
use crate::access::{self, Claims, Keys, VideoGrant};
use crate::livekit::RoomLimits;
use crate::livekit::connect::{Mode, Signalling};

const NOW_MS: i64 = 1_800_000_000_000;
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n\
                     a=mid:0\r\na=sendonly\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
                     a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=end-of-candidates\r\n";
const ANSWER: &str = "v=0\r\ns=-\r\na=ice-lite\r\na=ice-options:trickle\r\na=group:BUNDLE 0 1\r\n\
                      m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:ours\r\na=ice-pwd:0123456789012345678901\r\n\
                      a=mid:0\r\na=recvonly\r\n\
                      m=video 7882 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 udp 1 192.0.2.9 7882 typ host\r\n\
                      a=candidate:2 1 tcp 1 192.0.2.9 7881 typ host tcptype passive\r\n\
                      a=end-of-candidates\r\na=ice-ufrag:ours\r\na=ice-pwd:0123456789012345678901\r\na=mid:1\r\n";

fn keys() -> Keys {
    [("devkey".to_owned(), "secret".to_owned())].into_iter().collect()
}

fn bearer(video: VideoGrant) -> String {
    let claims = Claims { sub: "encoder".into(), video: Some(video), ..Claims::default() };
    let token = access::mint("devkey", "secret", claims, Duration::from_mins(1), NOW_MS / 1000).unwrap();
    format!("Bearer {token}")
}

fn grant() -> VideoGrant {
    VideoGrant { room_join: true, room: "lobby".into(), ..VideoGrant::default() }
}

fn enter(
    protocol: Protocol,
    query: &str,
    bearer: &str,
) -> Result<crate::livekit::connect::Admission, WhipError> {
    let head = Head { protocol, query, authorization: Some(bearer), user_agent: None };
    admit(&head, &keys(), &RoomLimits::default(), NOW_MS)
}

#[test]
fn paths_lead_to_endpoints_and_sessions() {
    let (whip, whep) = (Protocol::Whip, Protocol::Whep);
    for (path, want) in [
        ("/whip", Some(Place::Endpoint(whip))),
        ("//whip/", Some(Place::Endpoint(whip))),
        ("/whip/v1", Some(Place::Endpoint(whip))),
        ("/whip/v1/", Some(Place::Endpoint(whip))),
        ("/whip/v1/abc", Some(Place::Session(whip, "abc"))),
        ("/whip/abc", Some(Place::Session(whip, "abc"))),
        ("/whip/v1abc", Some(Place::Session(whip, "v1abc"))),
        ("/whep", Some(Place::Endpoint(whep))),
        ("/whep/abc", Some(Place::Session(whep, "abc"))),
        ("/whip2", None),
        ("/", None),
    ] {
        assert_eq!(place(path), want, "{path}");
    }
}

#[test]
fn a_publisher_is_let_in_as_joins_are() {
    let admission = enter(Protocol::Whip, "reconnect=1&auto_subscribe=1", &bearer(grant())).unwrap();
    assert_eq!((admission.room.as_str(), admission.identity.as_str()), ("lobby", "encoder"));
    assert_eq!((admission.mode, admission.signalling), (Mode::Single, Signalling::Publish));
    assert!(
        !admission.auto_subscribe && admission.resume.is_none(),
        "parameters of the client protocol say nothing"
    );
    assert!(!admission.permission.hidden);
    let forbidden = bearer(VideoGrant { can_publish: Some(false), ..grant() });
    assert_eq!(enter(Protocol::Whip, "", &forbidden).unwrap_err().refusal().status, 403);
    assert!(enter(Protocol::Whep, "", &forbidden).is_ok());
}

#[test]
fn a_viewer_is_hidden_and_sends_nothing() {
    let admission = enter(Protocol::Whep, "participant=ada%20b", &bearer(grant())).unwrap();
    assert_eq!(admission.signalling, Signalling::Watch { participant: Some("ada b".into()) });
    let may = admission.permission;
    assert!(may.hidden && !may.can_publish && !may.can_publish_data && may.can_subscribe);
    let anybody = enter(Protocol::Whep, "participant=", &bearer(grant())).unwrap();
    assert_eq!(anybody.signalling, Signalling::Watch { participant: None });
    let forbidden = bearer(VideoGrant { can_subscribe: Some(false), ..grant() });
    assert_eq!(enter(Protocol::Whep, "", &forbidden).unwrap_err().refusal().status, 403);
    let long = format!("participant={}", "x".repeat(300));
    assert_eq!(enter(Protocol::Whep, &long, &bearer(grant())).unwrap_err().refusal().status, 400);
}

#[test]
fn a_token_may_be_a_parameter_and_must_be_good() {
    let token = bearer(grant()).split_off(7);
    let head = Head {
        protocol: Protocol::Whep,
        query: &format!("access_token={token}"),
        authorization: None,
        user_agent: None,
    };
    assert!(admit(&head, &keys(), &RoomLimits::default(), NOW_MS).is_ok());
    let none = Head { query: "", ..head };
    let refusal = admit(&none, &keys(), &RoomLimits::default(), NOW_MS).unwrap_err().refusal();
    assert_eq!((refusal.status, refusal.body.as_str()), (401, "no access token given"));
    let late = NOW_MS + 3_600_000;
    assert_eq!(admit(&head, &keys(), &RoomLimits::default(), late).unwrap_err().refusal().status, 401);
}

#[test]
fn an_offer_needs_a_section_in_the_right_direction() {
    let with = |direction: &str| OFFER.replace("a=sendonly", direction).into_bytes();
    assert!(offer(Protocol::Whip, OFFER.as_bytes()).is_ok());
    assert!(offer(Protocol::Whip, &with("a=sendrecv")).is_ok());
    assert!(offer(Protocol::Whip, &with("a=x")).is_ok(), "sendrecv unless told otherwise");
    for wrong in [&with("a=recvonly")[..], &with("a=inactive"), b"", b"garbage"] {
        assert!(matches!(offer(Protocol::Whip, wrong), Err(WhipError::Nothing(_))));
    }
    assert!(offer(Protocol::Whep, &with("a=recvonly")).is_ok());
    assert!(matches!(offer(Protocol::Whep, OFFER.as_bytes()), Err(WhipError::Nothing(_))));
    let session_level = format!("v=0\r\na=recvonly\r\n{}", OFFER.replace("a=sendonly\r\n", ""));
    assert!(matches!(offer(Protocol::Whip, session_level.as_bytes()), Err(WhipError::Nothing(_))));
    assert_eq!(offer(Protocol::Whip, b"v=0\xff"), Err(WhipError::NotText));
}

#[test]
fn bodies_are_of_one_kind() {
    let (endpoint, session) = (Place::Endpoint(Protocol::Whip), Place::Session(Protocol::Whip, "x"));
    assert!(endpoint.check_type(Some("application/sdp")).is_ok());
    assert!(endpoint.check_type(Some("Application/SDP; charset=utf-8")).is_ok());
    assert!(session.check_type(Some("application/trickle-ice-sdpfrag")).is_ok());
    for wrong in [None, Some(""), Some("application/json"), Some("application/sdpx")] {
        assert_eq!(endpoint.check_type(wrong).unwrap_err().refusal().status, 415);
        assert_eq!(session.check_type(wrong).unwrap_err().refusal().status, 415);
    }
}

#[test]
fn fragments_of_the_rfc_are_read() {
    let text = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
                a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
                a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
                a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host\r\na=end-of-candidates\r\n";
    let fragment = Fragment::parse(text.as_bytes()).unwrap();
    assert_eq!(fragment.credentials(), Some(("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")));
    assert_eq!((fragment.candidates.len(), fragment.ended), (2, true));
    assert!(fragment.candidates.iter().all(|c| c.mid == "0" && c.text.starts_with("candidate:")));
}

#[test]
fn what_is_no_fragment_is_told_by_line() {
    let error = |text: &str| Fragment::parse(text.as_bytes()).unwrap_err();
    assert_eq!(error(""), FragmentError::Empty);
    assert_eq!(error("a=mid:0\r\n"), FragmentError::Empty);
    assert_eq!(error("a=mid:0\r\nnonsense\r\n"), FragmentError::Line(2));
    assert_eq!(error("a=candidate:1\u{0}\n"), FragmentError::Line(1));
    assert_eq!(error("a=ice-ufrag:abc\n"), FragmentError::Credential(1));
    assert_eq!(error("a=ice-ufrag:abcd\n"), FragmentError::HalfCredentials);
    assert_eq!(error("a=ice-ufrag:abcd\na=ice-ufrag:abce\n"), FragmentError::TwoCredentials);
    assert_eq!(error(&"a=candidate:1\n".repeat(MAX_CANDIDATES + 1)), FragmentError::TooManyCandidates);
    assert_eq!(error(&format!("a=candidate:{}\n", "1".repeat(2000))), FragmentError::Candidate(1));
    let long = "a=candidate:1\n".repeat(MAX_FRAGMENT);
    assert_eq!(error(&long), FragmentError::TooLong { got: long.len() });
    assert_eq!(Fragment::parse(b"a=\xff"), Err(FragmentError::NotText));
}

#[test]
fn a_restart_is_told_by_the_section_with_candidates() {
    let lines: Vec<String> = of_answer(ANSWER).lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "a=ice-lite",
            "a=ice-options:trickle",
            "a=group:BUNDLE 0 1",
            "m=video 7882 UDP/TLS/RTP/SAVPF 96",
            "a=mid:1",
            "a=ice-ufrag:ours",
            "a=ice-pwd:0123456789012345678901",
            "a=candidate:1 1 udp 1 192.0.2.9 7882 typ host",
            "a=end-of-candidates",
        ]
    );
    assert_eq!(of_answer(""), "");
}

fn told(message: Response) -> SignalResponse {
    SignalResponse { message: Some(message) }
}

fn answer(id: u32, sdp: &str) -> SignalResponse {
    told(Response::Answer(SessionDescription { id, sdp: sdp.into(), ..SessionDescription::default() }))
}

fn refusal(reason: Reason, request: Option<Concerning>) -> SignalResponse {
    told(Response::RequestResponse(RequestResponse {
        reason: reason as i32,
        message: "why".into(),
        request,
        ..RequestResponse::default()
    }))
}

fn created() -> Exchange {
    let mut exchange = Exchange::new(Protocol::Whip, OFFER.into(), 7);
    assert!(matches!(exchange.hear(answer(1, ANSWER)), Progress::Created(_)));
    exchange
}

fn fragment(ufrag: &str) -> String {
    format!(
        "a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\nm=video 9 X 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    )
}

#[test]
fn an_answer_makes_a_session_with_links_and_a_tag() {
    let mut exchange = Exchange::new(Protocol::Whip, OFFER.into(), 7);
    assert_eq!(exchange.first_offer().sdp, OFFER);
    let servers = vec![
        IceServer { urls: vec!["stun:a".into()], ..IceServer::default() },
        IceServer { urls: vec!["turn:b".into()], username: "u\"".into(), credential: "c".into() },
    ];
    let join = JoinResponse { ice_servers: servers, ..JoinResponse::default() };
    assert_eq!(exchange.hear(told(Response::Join(join))), Progress::None);
    assert_eq!(exchange.hear(answer(9, "another")), Progress::None);
    let Progress::Created(created) = exchange.hear(answer(1, ANSWER)) else { panic!("not created") };
    assert_eq!(created.sdp, ANSWER);
    assert_eq!(created.etag, exchange.etag());
    assert_eq!(
        created.links,
        [
            "<stun:a>; rel=\"ice-server\"",
            "<turn:b>; rel=\"ice-server\"; username=\"u\\\"\"; credential=\"c\"; credential-type=\"password\"",
        ]
    );
    assert_ne!(Exchange::new(Protocol::Whip, OFFER.into(), 8).etag(), created.etag, "of this session alone");
}

#[test]
fn a_publisher_is_answered_in_full_or_not_at_all() {
    let rejecting = ANSWER.replace("m=video 7882", "m=video 0");
    let offer = ANSWER.replace("7882", "9");
    let hear = |protocol, offer: &str| Exchange::new(protocol, offer.into(), 7).hear(answer(1, &rejecting));
    assert_eq!(hear(Protocol::Whip, &offer), Progress::Refused(WhipError::NoCodec { m_line: 1 }));
    assert!(matches!(hear(Protocol::Whep, &offer), Progress::Created(_)));
    assert!(matches!(hear(Protocol::Whip, &rejecting), Progress::Created(_)), "it was not meant");
}

#[test]
fn what_the_room_refuses_makes_no_session() {
    let refused = |message| {
        let mut exchange = Exchange::new(Protocol::Whip, OFFER.into(), 7);
        match exchange.hear(message) {
            Progress::None => exchange.hear(answer(1, ANSWER)),
            progress => progress,
        }
    };
    let Progress::Refused(error) = refused(refusal(Reason::InvalidRequest, None)) else { panic!() };
    assert_eq!(
        (error.refusal().status, error.to_string().as_str()),
        (400, "the offer cannot be answered: why")
    );
    let track = || Some(Concerning::AddTrack(AddTrackRequest::default()));
    let Progress::Refused(error) = refused(refusal(Reason::NotAllowed, track())) else { panic!() };
    assert_eq!(error.refusal().status, 403);
    let Progress::Refused(error) = refused(refusal(Reason::LimitExceeded, track())) else { panic!() };
    assert_eq!(error.refusal().status, 400);
    assert_eq!(refused(told(Response::Leave(LeaveRequest::default()))), Progress::Ended);
}

#[test]
fn candidates_are_passed_on_under_the_present_tag() {
    let mut exchange = created();
    let tag = exchange.etag();
    for body in [fragment("abcd"), "a=end-of-candidates\r\n".to_owned()] {
        let Ok(Patched::Trickled(sent)) = exchange.patch(Some(&tag), body.as_bytes()) else {
            panic!("{body}")
        };
        let candidates = sent.iter().filter_map(|request| match &request.message {
            Some(Request::Trickle(trickle)) => Some(trickle.candidate_init.clone()),
            _ => None,
        });
        let candidates: Vec<String> = candidates.collect();
        assert_eq!(candidates.len(), usize::from(body.contains("candidate:1")), "{candidates:?}");
        assert!(candidates.iter().all(|json| json.contains("\"sdpMid\":\"0\"")));
    }
    assert_eq!(exchange.etag(), tag);
    let status = |result: Result<Patched, WhipError>| result.unwrap_err().refusal().status;
    assert_eq!(status(exchange.patch(None, fragment("abcd").as_bytes())), 428);
    assert_eq!(status(exchange.patch(Some("\"other\""), fragment("abcd").as_bytes())), 412);
    assert_eq!(status(exchange.patch(Some(&tag), b"nonsense")), 400);
    assert_eq!(exchange.patch(Some(&tag), fragment("efgh").as_bytes()), Err(WhipError::NotARestart));
    let several = format!("\"old\", {tag}");
    assert!(exchange.patch(Some(&several), fragment("abcd").as_bytes()).is_ok());
}

#[test]
fn a_restart_offers_again_with_new_credentials_and_changes_the_tag() {
    let mut exchange = created();
    let tag = exchange.etag();
    let Ok(Patched::Restarting(request)) = exchange.patch(Some("*"), fragment("efgh").as_bytes()) else {
        panic!("no offer")
    };
    let SignalRequest { message: Some(Request::Offer(offer)) } = *request else { panic!("no offer") };
    assert_eq!(offer.id, 2);
    assert!(offer.sdp.contains("a=ice-ufrag:efgh\r\n") && !offer.sdp.contains("abcd"), "{}", offer.sdp);
    assert!(!offer.sdp.contains("candidate"), "those of the old session are worth nothing");
    assert_eq!(offer.sdp.lines().count(), OFFER.lines().count() - 2);
    assert_eq!(exchange.patch(Some("*"), fragment("ijkl").as_bytes()), Err(WhipError::Busy));

    let Progress::Restarted { fragment: told, etag } = exchange.hear(answer(2, ANSWER)) else { panic!() };
    assert!(told.contains("a=ice-ufrag:ours"));
    assert_ne!(etag, tag);
    assert_eq!(exchange.patch(Some(&tag), fragment("efgh").as_bytes()), Err(WhipError::Stale));
    assert!(matches!(exchange.patch(Some(&etag), fragment("efgh").as_bytes()), Ok(Patched::Trickled(_))));
    // The star alone, with the credentials that are in use, is no restart.
    assert!(matches!(exchange.patch(Some("*"), fragment("efgh").as_bytes()), Ok(Patched::Trickled(_))));
}

#[test]
fn a_restart_that_is_refused_leaves_the_session_as_it_was() {
    let mut exchange = created();
    let tag = exchange.etag();
    assert!(exchange.patch(Some("*"), fragment("efgh").as_bytes()).is_ok());
    let progress = exchange.hear(refusal(Reason::InvalidRequest, None));
    assert!(matches!(progress, Progress::Refused(WhipError::Offer(_))), "{progress:?}");
    assert_eq!(exchange.etag(), tag);
    assert!(matches!(exchange.patch(Some(&tag), fragment("abcd").as_bytes()), Ok(Patched::Trickled(_))));
}
