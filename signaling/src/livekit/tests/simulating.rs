use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{CandidateProtocol, ClientConfigSetting, JoinResponse, SimulateScenario};
use sfu::units::Bitrate;
use turn_config::{IceServer, IceServerList};

use super::script::*;
use super::*;
use crate::livekit::Settings;

fn simulate(scenario: Scenario) -> Request {
    Request::Simulate(SimulateScenario { scenario: Some(scenario) })
}

#[test]
fn nothing_is_simulated_unless_configured() {
    let mut script = Script::with(Settings { simulate: false, ..settings() });
    let alice = script.active(admission("alice"));
    for scenario in
        [Scenario::SpeakerUpdate(1), Scenario::SubscriberBandwidth(1), Scenario::NodeFailure(true)]
    {
        script.request(alice, simulate(scenario));
    }
    assert!(!script.closed.contains(&alice));
    assert!(!names(&script.take(alice)).contains(&"speakers_changed"));
    assert!(!script.take_commands().iter().any(|command| matches!(command, Command::Limit { .. })));
}

#[test]
fn somebody_is_said_to_speak_for_as_long_as_it_asks() {
    let mut script = Script::new();
    let (alice, bob) = (script.active(admission("alice")), script.active(admission("bob")));
    let told = |script: &mut Script, session| -> Vec<bool> {
        let messages = script.take(session).into_iter();
        messages
            .filter_map(|message| match message {
                Response::SpeakersChanged(changed) => Some(changed.speakers),
                _ => None,
            })
            .flatten()
            .map(|speaker| speaker.active)
            .collect()
    };
    script.request(alice, simulate(Scenario::SpeakerUpdate(3)));
    assert_eq!((told(&mut script, alice), told(&mut script, bob)), (vec![true], vec![true]));
    // The core hears nobody.
    script.media(Event::Speakers { room: script.room.id(), levels: [].into_iter().collect() });
    script.advance(Duration::from_millis(2999));
    assert!(told(&mut script, bob).is_empty());
    script.advance(Duration::from_millis(1));
    assert_eq!((told(&mut script, alice), told(&mut script, bob)), (vec![false], vec![false]));
}

#[test]
fn a_link_is_as_narrow_as_its_client_says_until_it_takes_that_back() {
    let mut script = Script::new();
    let attributes = [("sluice.max_kbps".to_owned(), "500".to_owned())].into();
    let alice = script.active(Admission { attributes, ..admission("alice") });
    script.take_commands();
    for (bps, kbps) in [(300_000, 300), (0, 500), (800_000, 500), (-1, 500), (100_000, 100)] {
        script.request(alice, simulate(Scenario::SubscriberBandwidth(bps)));
        let limits = script.take_commands().into_iter().filter_map(|command| match command {
            Command::Limit { policy, .. } => policy.max,
            _ => None,
        });
        assert!(limits.last().is_none_or(|max| max == Bitrate::kbps(kbps)), "{bps}");
    }
}

#[test]
fn who_asks_for_tls_is_sent_over_the_relay_from_its_next_join_on() {
    let forced = |join: JoinResponse| join.client_configuration.map(|is| is.force_relay);
    let (unset, enabled) = (ClientConfigSetting::Unset as i32, ClientConfigSetting::Enabled as i32);
    let ask = |protocol: CandidateProtocol| simulate(Scenario::SwitchCandidateProtocol(protocol as i32));

    let relay = IceServer {
        urls: vec!["turns:turn.example.org:443".parse().unwrap()],
        username: "u".into(),
        credential: "c".into(),
        ..IceServer::default()
    };
    let ice_servers = IceServerList::new(vec![relay]).unwrap();
    let mut script = Script::with(Settings { ice_servers, ..settings() });
    let alice = script.active(admission("alice"));
    script.request(alice, ask(CandidateProtocol::Tls));
    let again = script.join(admission("alice"));
    assert_eq!(forced(script.join_response(again)), Some(enabled));
    let bob = script.join(admission("bob"));
    assert_eq!(forced(script.join_response(bob)), Some(unset), "alice alone");
    script.request(again, ask(CandidateProtocol::Udp));
    let third = script.join(admission("alice"));
    assert_eq!(forced(script.join_response(third)), Some(unset));

    let mut script = Script::new();
    let alice = script.active(admission("alice"));
    script.request(alice, ask(CandidateProtocol::Tls));
    let again = script.join(admission("alice"));
    assert_eq!(forced(script.join_response(again)), Some(unset), "there is no relay");
}
