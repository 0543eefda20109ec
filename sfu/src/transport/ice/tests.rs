use std::net::SocketAddr;

use super::*;
use crate::transport::stun::{Check, TransactionId, password_key, write_check, write_success};

const CLIENT_PWD: &str = "client-side-password-00";

fn client_pwd() -> String {
    CLIENT_PWD.replace('-', "+")
}

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The client's port tells its paths apart.
fn path(port: u16) -> Path {
    Path::udp(SocketAddr::from(([192, 0, 2, 1], 7882)), SocketAddr::from(([198, 51, 100, 7], port)))
}

fn config() -> IceConfig {
    IceConfig::new(IceSecret::from_bytes([9; 32]))
}

/// A full agent of the test's own, with its fragment and our credentials.
struct Client {
    ufrag: String,
    server_ufrag: String,
    server_pwd: String,
    asked: u8,
}

impl Client {
    fn of(ice: &mut IceLite, ufrag: &str) -> Client {
        ice.set_remote_credentials(RemoteCredentials::parse(ufrag, &client_pwd()).unwrap());
        Client {
            ufrag: ufrag.to_owned(),
            server_ufrag: ice.local_credentials().ufrag().to_owned(),
            server_pwd: ice.local_credentials().pwd().to_owned(),
            asked: 0,
        }
    }

    fn request(&mut self, nominate: bool, role: IceRole) -> Vec<u8> {
        self.asked = self.asked.wrapping_add(1);
        let key = password_key(&self.server_pwd);
        let check = Check {
            transaction: TransactionId([self.asked; 12]),
            their_ufrag: &self.server_ufrag,
            our_ufrag: &self.ufrag,
            priority: 1,
            role,
            key: &key,
        };
        let mut out = Vec::new();
        write_check(&mut out, &check);
        if nominate {
            // Goes before the signature, so it is signed anew: header, attributes, USE-CANDIDATE, signature.
            let unsigned = out.len() - 8 - 24;
            out.truncate(unsigned);
            out.extend_from_slice(&[0x00, 0x25, 0, 0]);
            let signed_len = (out.len() + 24 - 20) as u16;
            out[2..4].copy_from_slice(&signed_len.to_be_bytes());
            let tag = ring::hmac::sign(&key, &out);
            out.extend_from_slice(&[0x00, 0x08, 0, 20]);
            out.extend_from_slice(tag.as_ref());
        }
        out
    }

    fn ping(&mut self) -> Vec<u8> {
        self.request(false, IceRole::Controlling(5))
    }

    fn nominate(&mut self) -> Vec<u8> {
        self.request(true, IceRole::Controlling(5))
    }
}

/// The client's answer to a check of ours.
fn response_to(check: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let transaction = TransactionId(check[8..20].try_into().unwrap());
    write_success(&mut out, transaction, path(0).local, &password_key(&client_pwd()));
    out
}

/// Hands over a request and lets a client that is really there answer our checks. Returns bytes sent to it.
fn deliver(ice: &mut IceLite, now: Instant, on: Path, request: &[u8]) -> IceOutcome {
    let mut reply = Vec::new();
    let outcome = ice.handle_stun(now, on, request, &mut reply);
    let mut check = Vec::new();
    while let Some(to) = ice.poll_transmit(&mut check) {
        let answer = response_to(&check);
        assert_eq!(ice.handle_stun(now, to, &answer, &mut reply), IceOutcome::Validated);
        assert!(reply.is_empty());
    }
    outcome
}

/// Hands over a request from an address whose owner answers nothing; returns the bytes that went there.
fn deliver_spoofed(ice: &mut IceLite, now: Instant, on: Path, request: &[u8]) -> usize {
    let mut reply = Vec::new();
    ice.handle_stun(now, on, request, &mut reply);
    let mut sent = reply.len();
    let mut check = Vec::new();
    while let Some(to) = ice.poll_transmit(&mut check) {
        assert_eq!(to, on);
        sent += check.len();
    }
    sent
}

fn events(ice: &mut IceLite) -> Vec<IceEvent> {
    std::iter::from_fn(|| ice.poll_event()).collect()
}

fn agent() -> (IceLite, Client, fastrand::Rng) {
    let mut rng = fastrand::Rng::with_seed(8445);
    let mut ice = IceLite::new(&config(), &mut rng);
    let client = Client::of(&mut ice, "them");
    (ice, client, rng)
}

#[test]
fn a_nominated_path_is_selected_after_one_round_trip() {
    let (mut ice, mut client, _) = agent();
    let now = start();
    let mut reply = Vec::new();
    assert_eq!(ice.handle_stun(now, path(1), &client.nominate(), &mut reply), IceOutcome::Answered);
    assert!(!reply.is_empty());
    assert_eq!(ice.selected(), None, "knowing the password is not owning the address");
    assert_eq!(ice.handshake_path(), Some(path(1)));

    let mut check = Vec::new();
    assert_eq!(ice.poll_transmit(&mut check), Some(path(1)));
    assert_eq!(ice.handle_stun(now, path(1), &response_to(&check), &mut reply), IceOutcome::Validated);
    assert_eq!(ice.selected(), Some(path(1)));
    assert_eq!(events(&mut ice), [IceEvent::Selected(path(1))]);
    assert_eq!(ice.poll_transmit(&mut check), None);
    deliver(&mut ice, now, path(1), &client.nominate());
    assert_eq!(events(&mut ice), [], "the same nomination again is no news");
}

#[test]
fn a_tcp_connection_needs_no_check_and_is_not_the_udp_path_with_the_same_numbers() {
    let (mut ice, mut client, _) = agent();
    let (now, udp) = (start(), path(1));
    let tcp = Path::tcp(udp.local, udp.remote);
    let (mut reply, mut check) = (Vec::new(), Vec::new());
    assert_eq!(ice.handle_stun(now, tcp, &client.nominate(), &mut reply), IceOutcome::Answered);
    assert_eq!(ice.poll_transmit(&mut check), None, "its handshake has shown that the client is there");
    assert_eq!(ice.selected(), Some(tcp));
    assert!(ice.admit(tcp, 1200) && !ice.admit(udp, 1200), "nobody signed anything over UDP");

    assert_eq!(ice.handle_stun(now, udp, &client.nominate(), &mut reply), IceOutcome::Answered);
    assert_eq!(ice.selected(), Some(tcp), "nor is that known to be the client's");
    deliver(&mut ice, now, udp, &client.nominate());
    assert_eq!(ice.selected(), Some(udp));
}

#[test]
fn pings_without_nomination_select_nothing_until_data_comes() {
    let (mut ice, mut client, _) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.ping());
    deliver(&mut ice, now, path(2), &client.ping());
    assert_eq!(ice.selected(), None);
    assert!(ice.admit(path(2), 1200));
    assert_eq!(ice.selected(), Some(path(2)), "the client sends DTLS where it means to be");
    deliver(&mut ice, now, path(1), &client.nominate());
    assert_eq!(ice.selected(), Some(path(1)), "a nomination overrides what was presumed");
    deliver(&mut ice, now, path(2), &client.nominate());
    deliver(&mut ice, now, path(1), &client.ping());
    assert_eq!(ice.selected(), Some(path(2)), "the last nomination counts");
}

#[test]
fn nothing_but_signed_requests_makes_an_address_known() {
    let (mut ice, mut client, _) = agent();
    let now = start();
    let mut reply = Vec::new();
    assert!(!ice.admit(path(1), 100));
    assert!(!ice.may_send_handshake(path(1), 1));

    let mut stranger =
        Client { server_pwd: "another-password-of-32-characters".to_owned(), ..Client::of(&mut ice, "them") };
    let outcome = ice.handle_stun(now, path(1), &stranger.nominate(), &mut reply);
    assert_eq!(outcome, IceOutcome::Refused(Refusal::Unauthenticated));
    let mut lost = Client::of(&mut ice, "them");
    lost.server_ufrag = "unknown1".to_owned();
    let outcome = ice.handle_stun(now, path(1), &lost.nominate(), &mut reply);
    assert_eq!(outcome, IceOutcome::Refused(Refusal::Unauthenticated));
    assert!(!ice.admit(path(1), 100));
    assert_eq!(
        ice.handle_stun(now, path(1), &[0; 20], &mut reply),
        IceOutcome::Dropped(IceDropReason::Malformed)
    );
    assert!(reply.is_empty());

    deliver(&mut ice, now, path(1), &client.ping());
    assert!(ice.admit(path(1), 100));
    assert!(!ice.admit(path(2), 100), "the neighbour is still unknown");
}

#[test]
fn an_address_that_never_answers_gets_at_most_threefold_and_no_media() {
    let (mut ice, mut client, _) = agent();
    let mut now = start();
    let (mut received, mut sent) = (0, 0);
    for round in 0..50 {
        now += ms(50);
        let request = client.nominate();
        received += request.len();
        sent += deliver_spoofed(&mut ice, now, path(1), &request);
        if round % 3 == 0 {
            assert!(ice.admit(path(1), 200));
            received += 200;
        }
        while ice.may_send_handshake(path(1), 700) {
            sent += 700;
        }
        assert!(sent <= 3 * received, "round {round}: {sent} for {received}");
        assert_eq!(ice.selected(), None);
    }
    assert!(sent > received, "and DTLS could have been answered");
}

#[test]
fn a_response_validates_only_its_own_path_and_only_when_signed() {
    let (mut ice, mut client, _) = agent();
    let now = start();
    let (mut reply, mut check) = (Vec::new(), Vec::new());
    ice.handle_stun(now, path(1), &client.nominate(), &mut reply);
    ice.handle_stun(now, path(2), &client.nominate(), &mut reply);
    let mut checks = Vec::new();
    while let Some(to) = ice.poll_transmit(&mut check) {
        checks.push((to, check.clone()));
    }
    assert_eq!(checks.len(), 2);
    assert_ne!(checks[0].1[8..20], checks[1].1[8..20]);
    let unexpected = IceOutcome::Dropped(IceDropReason::UnexpectedResponse);
    // What came to one address does not speak for another.
    assert_eq!(ice.handle_stun(now, checks[1].0, &response_to(&checks[0].1), &mut reply), unexpected);
    assert_eq!(ice.handle_stun(now, path(3), &response_to(&checks[0].1), &mut reply), unexpected);
    let mut forged = Vec::new();
    let transaction = TransactionId(checks[1].1[8..20].try_into().unwrap());
    write_success(&mut forged, transaction, path(0).local, &password_key("guessed"));
    assert_eq!(ice.handle_stun(now, checks[1].0, &forged, &mut reply), unexpected);
    assert_eq!(ice.selected(), None);
    assert_eq!(
        ice.handle_stun(now, checks[1].0, &response_to(&checks[1].1), &mut reply),
        IceOutcome::Validated
    );
    assert_eq!(ice.selected(), Some(path(2)));
}

#[test]
fn a_completed_handshake_validates_the_one_path_it_used() {
    let (mut ice, mut client, _) = agent();
    let now = start();
    deliver_spoofed(&mut ice, now, path(1), &client.nominate());
    ice.admit(path(1), 400);
    assert!(ice.may_send_handshake(path(1), 900));
    ice.handle_handshake_complete(path(1));
    assert_eq!(ice.selected(), Some(path(1)));

    let (mut ice, mut client, _) = agent();
    deliver_spoofed(&mut ice, now, path(1), &client.ping());
    deliver_spoofed(&mut ice, now, path(2), &client.nominate());
    assert!(ice.may_send_handshake(path(1), 50));
    assert!(ice.may_send_handshake(path(2), 50));
    ice.handle_handshake_complete(path(2));
    assert_eq!(ice.selected(), None, "the flights may have been read at the other address");
}

#[test]
fn a_client_that_believes_to_be_controlled_is_told_so() {
    let (mut ice, mut client, _) = agent();
    let mut reply = Vec::new();
    for tie_breaker in [0, 1, u64::MAX] {
        let request = client.request(true, IceRole::Controlled(tie_breaker));
        let outcome = ice.handle_stun(start(), path(1), &request, &mut reply);
        assert_eq!(outcome, IceOutcome::Refused(Refusal::RoleConflict));
        assert!(!reply.is_empty());
    }
    assert!(!ice.admit(path(1), 1), "and has checked nothing");
}

#[test]
fn a_new_address_of_the_same_client_takes_over_in_one_round_trip() {
    let (mut ice, mut client, _) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    events(&mut ice);
    let mut reply = Vec::new();
    ice.handle_stun(now + ms(100), path(2), &client.nominate(), &mut reply);
    assert_eq!(ice.selected(), Some(path(1)), "media stays where it was for the round trip");
    let mut check = Vec::new();
    assert_eq!(ice.poll_transmit(&mut check), Some(path(2)));
    ice.handle_stun(now + ms(150), path(2), &response_to(&check), &mut reply);
    assert_eq!(events(&mut ice), [IceEvent::Selected(path(2))]);
}

#[test]
fn a_restart_keeps_the_old_path_until_the_new_one_is_there() {
    let (mut ice, mut client, mut rng) = agent();
    let mut now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    events(&mut ice);

    assert!(!ice.is_restart("them"));
    assert!(ice.is_restart("newer"));
    ice.restart(&mut rng);
    let mut renewed = Client::of(&mut ice, "newer");
    assert_ne!(client.server_ufrag, renewed.server_ufrag);
    assert_eq!(ice.local_ufrags().count(), 2);
    now += ms(100);
    assert_eq!(deliver(&mut ice, now, path(1), &client.nominate()), IceOutcome::Answered);
    assert_eq!(ice.selected(), Some(path(1)));

    deliver(&mut ice, now, path(2), &renewed.nominate());
    assert_eq!(ice.selected(), Some(path(2)));
    let retired = IceEvent::UfragRetired(client.server_ufrag.clone());
    let given_up = IceEvent::PathForgotten(path(1));
    assert_eq!(events(&mut ice), [IceEvent::Selected(path(2)), given_up, retired]);
    assert_eq!(ice.local_ufrags().collect::<Vec<_>>(), [renewed.server_ufrag.as_str()]);
    let mut reply = Vec::new();
    let outcome = ice.handle_stun(now, path(1), &client.nominate(), &mut reply);
    assert_eq!(outcome, IceOutcome::Refused(Refusal::Unauthenticated));
    assert!(!ice.admit(path(1), 100), "what only the old credentials vouched for is gone");
}

#[test]
fn after_a_restart_media_follows_the_clients_before_it_nominates() {
    let (mut ice, mut client, mut rng) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    deliver(&mut ice, now, path(2), &client.ping());
    assert!(ice.admit(path(2), 100));
    assert_eq!(ice.selected(), Some(path(1)), "without a restart only a nomination counts");
    events(&mut ice);

    ice.restart(&mut rng);
    let mut renewed = Client::of(&mut ice, "newer");
    assert!(ice.admit(path(2), 100));
    assert_eq!(ice.selected(), Some(path(1)), "that path was checked with the old credentials");
    deliver_spoofed(&mut ice, now, path(3), &renewed.ping());
    assert!(ice.admit(path(3), 100));
    assert_eq!(ice.selected(), Some(path(1)), "nobody has shown to be there");
    deliver(&mut ice, now, path(4), &renewed.ping());
    assert_eq!(ice.selected(), Some(path(1)));
    assert!(ice.admit(path(4), 100));
    assert_eq!(ice.selected(), Some(path(4)));
    assert!(events(&mut ice).contains(&IceEvent::Selected(path(4))));
    assert!(!ice.admit(path(1), 100), "the old path is given up");
}

#[test]
fn a_client_that_restarts_and_has_not_our_new_credentials_is_checked_with_its_new_ones() {
    let (mut ice, mut client, mut rng) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    ice.restart(&mut rng);
    Client::of(&mut ice, "newer");

    // As libwebrtc does that has lost all of its old paths.
    client.ufrag = "newer".to_owned();
    let (mut reply, mut check) = (Vec::new(), Vec::new());
    assert_eq!(ice.handle_stun(now, path(2), &client.nominate(), &mut reply), IceOutcome::Answered);
    assert_eq!(ice.poll_transmit(&mut check), Some(path(2)));
    let Ok(StunMessage::Request(read)) = stun::parse(&check) else { panic!("{check:?}") };
    assert_eq!(read.local_ufrag, "newer", "it does not know the old one any more");
    assert_eq!(ice.handle_stun(now, path(2), &response_to(&check), &mut reply), IceOutcome::Validated);
    assert_eq!(ice.selected(), Some(path(2)));
}

#[test]
fn a_new_path_is_checked_as_soon_as_the_clients_new_credentials_are_known() {
    let (mut ice, mut client, mut rng) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    // The client's checks overtake its description, which is large and goes another way.
    client.ufrag = "new1".to_owned();
    let mut reply = Vec::new();
    assert_eq!(ice.handle_stun(now, path(2), &client.ping(), &mut reply), IceOutcome::Answered);
    let mut check = Vec::new();
    assert_eq!(ice.poll_transmit(&mut check), None, "it would be refused, being signed for the old ones");
    ice.restart(&mut rng);
    ice.set_remote_credentials(RemoteCredentials::parse("new1", &client_pwd()).unwrap());
    assert_eq!(ice.poll_transmit(&mut check), Some(path(2)), "without waiting for the next request");
    assert_eq!(stun::peek_local_ufrag(&check), Some("new1"));
    assert_eq!(ice.handle_stun(now, path(2), &response_to(&check), &mut reply), IceOutcome::Validated);
}

#[test]
fn a_restart_is_followed_when_the_old_path_is_silent_though_nothing_is_nominated() {
    for silent in [true, false] {
        let (mut ice, mut client, mut rng) = agent();
        let now = start();
        deliver(&mut ice, now, path(1), &client.nominate());
        ice.restart(&mut rng);
        let mut renewed = Client::of(&mut ice, "newer");
        for _ in 0..10 {
            deliver(&mut ice, now, path(2), &renewed.ping());
            if !silent {
                assert!(ice.admit(path(1), 100));
            }
        }
        let expected = if silent { path(2) } else { path(1) };
        assert_eq!(ice.selected(), Some(expected), "silent: {silent}");
    }
}

#[test]
fn a_restart_over_the_same_address_needs_no_new_proof() {
    let (mut ice, mut client, mut rng) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    ice.restart(&mut rng);
    let mut renewed = Client::of(&mut ice, "newer");
    events(&mut ice);
    deliver_spoofed(&mut ice, now, path(1), &renewed.nominate());
    assert_eq!(ice.selected(), Some(path(1)));
    assert_eq!(events(&mut ice), [IceEvent::UfragRetired(client.server_ufrag.clone())]);
}

#[test]
fn restarts_that_come_to_nothing_leave_nothing() {
    let (mut ice, mut client, mut rng) = agent();
    let now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    for _ in 0..20 {
        ice.restart(&mut rng);
        let mut renewed = Client::of(&mut ice, "newer");
        deliver_spoofed(&mut ice, now, path(7), &renewed.nominate());
    }
    assert_eq!(ice.local_ufrags().count(), 2);
    assert_eq!(ice.selected(), Some(path(1)));
    assert_eq!(deliver(&mut ice, now, path(1), &client.nominate()), IceOutcome::Answered);
    let events = events(&mut ice);
    let count = |what: fn(&&IceEvent) -> bool| events.iter().filter(what).count();
    assert_eq!(count(|event| matches!(event, IceEvent::Selected(_))), 1);
    assert_eq!(count(|event| matches!(event, IceEvent::UfragRetired(_))), 19);
    assert_eq!(count(|event| matches!(event, IceEvent::PathForgotten(_))), 19);
}

#[test]
fn consent_lasts_its_time_from_the_last_signed_request() {
    let (mut ice, mut client, _) = agent();
    let mut now = start();
    assert_eq!(ice.next_timeout(), None);
    deliver(&mut ice, now, path(1), &client.nominate());
    for _ in 0..5 {
        now += CONSENT_TIMEOUT.saturating_sub(ms(1000));
        ice.handle_timeout(now);
        deliver(&mut ice, now, path(1), &client.ping());
    }
    events(&mut ice);
    assert_eq!(ice.next_timeout(), Some(now + CONSENT_TIMEOUT));
    assert!(ice.admit(path(1), 1000), "media is no consent");
    ice.handle_timeout(now + CONSENT_TIMEOUT.saturating_sub(ms(1)));
    assert_eq!(ice.selected(), Some(path(1)));
    ice.handle_timeout(now + CONSENT_TIMEOUT);
    assert_eq!(ice.selected(), None);
    assert_eq!(events(&mut ice), [IceEvent::PathForgotten(path(1)), IceEvent::ConsentExpired]);
    assert_eq!(ice.next_timeout(), None);
    assert!(!ice.admit(path(1), 1000));

    deliver(&mut ice, now + CONSENT_TIMEOUT, path(2), &client.nominate());
    assert_eq!(events(&mut ice), [IceEvent::Selected(path(2))], "a client that was away is back");
}

#[test]
fn paths_are_bounded_and_the_selected_one_stays() {
    let (mut ice, mut client, _) = agent();
    let mut now = start();
    deliver(&mut ice, now, path(1), &client.nominate());
    deliver(&mut ice, now, path(2), &client.ping());
    for port in 100..1000 {
        now += ms(1);
        deliver_spoofed(&mut ice, now, path(port), &client.nominate());
        assert!(ice.paths.iter().count() <= MAX_PATHS);
    }
    assert_eq!(ice.selected(), Some(path(1)));
    assert!(ice.admit(path(2), 1), "validated ones outlive the others");
    assert!(ice.admit(path(999), 1), "the newest is kept");
    assert!(!ice.admit(path(100), 1));
}

#[test]
fn requests_before_the_clients_description_are_answered_and_checked_later() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut ice = IceLite::new(&config(), &mut rng);
    let mut client = Client {
        ufrag: "them".to_owned(),
        server_ufrag: ice.local_credentials().ufrag().to_owned(),
        server_pwd: ice.local_credentials().pwd().to_owned(),
        asked: 0,
    };
    let mut out = Vec::new();
    assert_eq!(ice.handle_stun(start(), path(1), &client.nominate(), &mut out), IceOutcome::Answered);
    assert_eq!(ice.poll_transmit(&mut out), None);
    ice.set_remote_credentials(RemoteCredentials::parse("them", &client_pwd()).unwrap());
    assert_eq!(ice.poll_transmit(&mut out), Some(path(1)));
    let mut reply = Vec::new();
    ice.handle_stun(start(), path(1), &response_to(&out), &mut reply);
    assert_eq!(ice.selected(), Some(path(1)));
}
