//! Clients that lose their WebSocket or change their network and keep their place, and those that have to rejoin.

use std::time::Duration;

use crate::harness::namespace::Namespace;
use crate::harness::{
    Browser, Camera, Kind, Mode, Participant, Sdk, Server, Wire, alone, eventually, observe,
};
use crate::meeting::{hears, sees};

#[test]
fn a_client_resumes_over_one_connection() {
    clients_resume(Mode::V1);
}

#[test]
fn a_client_resumes_over_two_connections() {
    clients_resume(Mode::V0);
}

fn clients_resume(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("resuming-{mode:?}"));
    let browser = Browser::start();
    let (ada, grace) = (browser.participant("ada"), browser.participant("grace"));
    meet(&server, mode, &ada, &grace);
    let sid = ada.sid();
    let scenarios = [
        "signal-reconnect",
        "disconnect-signal-on-resume",
        "disconnect-signal-on-resume-no-messages",
        "migration",
    ];
    for (count, scenario) in scenarios.iter().enumerate() {
        ada.restart();
        grace.restart();
        ada.simulate(scenario);
        eventually(Duration::from_secs(20), || reconnected(&ada, count + 1));
        observe(Duration::from_secs(2));
        both_ways(&ada, &grace).unwrap_or_else(|error| panic!("{scenario}: {error}"));
        for (viewer, of) in [(&ada, &grace), (&grace, &ada)] {
            let [video, audio] =
                [Kind::Video, Kind::Audio].map(|kind| viewer.track(of, kind).expect("seen").seen);
            println!(
                "{mode:?} {scenario}: {} ms of video, {} ms of audio",
                video.longest_gap, audio.longest_gap
            );
            assert!(video.longest_gap < 1500.0, "{scenario}: frozen for {}: {video:?}", viewer.name());
            assert!(audio.longest_gap < 1000.0, "{scenario}: silent for {}: {audio:?}", viewer.name());
        }
        assert_eq!(ada.sid(), sid, "{scenario}");
        assert_eq!(grace.departures(), [""; 0], "{scenario}: somebody noticed");
        said(&ada, &grace, scenario);
        said(&grace, &ada, scenario);
    }
    // Each has; some of those that were simulated to be dropped come twice.
    assert!(server.metric("sluice_resumes_total", &["outcome=\"resumed\""]) >= 4);
    assert_eq!(server.metric("sluice_resumes_total", &["refused"]), 0);
}

#[test]
fn a_client_that_cannot_resume_rejoins() {
    a_client_rejoins(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what the core does in the same way over one connection"]
fn a_client_that_cannot_resume_rejoins_over_two_connections() {
    a_client_rejoins(Mode::V0);
}

fn a_client_rejoins(mode: Mode) {
    let _turn = alone();
    let server = Server::start(&format!("rejoining-{mode:?}"));
    let browser = Browser::start();
    let (ada, grace) = (browser.participant("ada"), browser.participant("grace"));
    meet(&server, mode, &ada, &grace);
    for (count, scenario) in
        ["full-reconnect", "leave-full-reconnect", "node-failure", "resume-reconnect"].iter().enumerate()
    {
        let before = ada.sid();
        ada.simulate(scenario);
        eventually(Duration::from_secs(30), || reconnected(&ada, count + 1));
        eventually(Duration::from_secs(20), || both_ways(&ada, &grace));
        assert_ne!(ada.sid(), before, "{scenario}");
    }
    ada.simulate("server-leave");
    eventually(Duration::from_secs(5), || match ada.events().last() {
        Some(last) if last.starts_with("disconnected") => Ok(()),
        last => Err(format!("{last:?}")),
    });
}

#[test]
fn the_python_sdk_resumes_when_its_websocket_breaks() {
    let _turn = alone();
    let server = Server::start("resuming-sdk");
    let (first, second) = (Sdk::start(), Sdk::start());
    let wire = Wire::to(&server);
    for mode in [Mode::V1, Mode::V0] {
        let name = |who: &str| format!("{who}-{mode:?}");
        let breaks = first.participant(&name("breaks"));
        let stays = second.participant(&name("stays"));
        breaks.join_over(&wire, &server, "garden", mode);
        stays.join(&server, "garden", mode);
        for (person, hertz) in [(&breaks, 440.0), (&stays, 660.0)] {
            person.publish_microphone(hertz);
        }
        eventually(Duration::from_secs(20), || hears(&stays, &breaks, 440.0));
        let (sid, before) = (breaks.sid(), breaks.events().len());
        wire.cut();
        eventually(Duration::from_secs(20), || match &breaks.events()[before..] {
            [.., last] if last == "reconnected" => Ok(()),
            events => Err(format!("{events:?}")),
        });
        eventually(Duration::from_secs(10), || hears(&stays, &breaks, 440.0));
        eventually(Duration::from_secs(10), || hears(&breaks, &stays, 660.0));
        said(&breaks, &stays, "after");
        said(&stays, &breaks, "after");
        assert_eq!((breaks.sid(), stays.departures().len()), (sid, 0), "{mode:?}");
        breaks.leave();
        stays.leave();
    }
}

#[test]
#[ignore = "most of a minute, for what browsers show of each scenario"]
fn native_sdks_resume_and_rejoin() {
    let _turn = alone();
    let server = Server::start("native");
    let (python, node, browser) = (Sdk::start(), Sdk::start_node(), Browser::start());
    for (number, (sdk, mode)) in
        [(&python, Mode::V1), (&python, Mode::V0), (&node, Mode::V0)].iter().enumerate()
    {
        let name = |who: &str| format!("{who}-{number}");
        let (native, grace) = (sdk.participant(&name("native")), browser.participant(&name("grace")));
        meet(&server, *mode, &native, &grace);
        let scenarios = [("signal-reconnect", true), ("node-failure", false), ("full-reconnect", false)];
        for (count, (scenario, keeps)) in scenarios.into_iter().enumerate() {
            let sid = native.sid();
            native.simulate(scenario);
            eventually(Duration::from_secs(30), || reconnected(&native, count + 1));
            eventually(Duration::from_secs(20), || both_ways(&native, &grace));
            assert_eq!(native.sid() == sid, keeps, "{scenario}");
            said(&native, &grace, scenario);
            said(&grace, &native, scenario);
        }
        native.leave();
        grace.close();
    }
}

#[test]
fn a_phone_that_changes_its_network_keeps_its_call_over_one_connection() {
    a_browser_changes_its_network(Mode::V1, &Told::Nothing);
}

#[test]
fn a_phone_that_changes_its_network_keeps_its_call_over_two_connections() {
    a_browser_changes_its_network(Mode::V0, &Told::Nothing);
}

#[test]
fn the_python_sdk_changes_its_network_and_keeps_its_call_over_one_connection() {
    the_python_sdk_changes_its_network(Mode::V1);
}

#[test]
#[ignore = "half a minute, for what it does in the same way over one connection"]
fn the_python_sdk_changes_its_network_and_keeps_its_call_over_two_connections() {
    the_python_sdk_changes_its_network(Mode::V0);
}

#[test]
#[ignore = "most of a minute: the server does the same for those that are not told, which come later"]
fn a_phone_that_is_told_of_its_new_network_hardly_misses_a_word() {
    a_browser_changes_its_network(Mode::V1, &Told::AtOnce);
    a_browser_changes_its_network(Mode::V0, &Told::AtOnce);
}

/// What the client hears of the change.
#[derive(PartialEq)]
enum Told {
    /// Nothing: it goes by its pings, which go unanswered.
    Nothing,
    /// What it sees itself: the native SDKs look at the interfaces every two seconds.
    ItLooks,
    /// As mobile SDKs are by their system, and the new network was there before the old one went. Chromium hears of an address
    /// two to three seconds after it has come, and has no candidate there until then.
    AtOnce,
}

fn a_browser_changes_its_network(mode: Mode, told: &Told) {
    let _turn = alone();
    let namespace = Namespace::new();
    let pocket = Browser::start_in(&namespace);
    a_phone_changes_its_network(
        &format!("switch-{mode:?}"),
        &namespace,
        &pocket.participant("phone"),
        mode,
        told,
    );
}

fn the_python_sdk_changes_its_network(mode: Mode) {
    let _turn = alone();
    let namespace = Namespace::new();
    let pocket = Sdk::start_in(&namespace);
    let phone = pocket.participant("phone");
    a_phone_changes_its_network(&format!("switch-sdk-{mode:?}"), &namespace, &phone, mode, &Told::ItLooks);
}

fn a_phone_changes_its_network(
    test: &str,
    namespace: &Namespace,
    phone: &Participant<'_>,
    mode: Mode,
    told: &Told,
) {
    let server = Server::start_at(test, namespace.outside());
    let house = Browser::start();
    let home = house.participant("home");
    meet(&server, mode, &home, phone);
    let sid = phone.sid();
    for person in [&home, phone] {
        person.begin_talk(person.name(), 50);
    }
    if *told == Told::AtOnce {
        namespace.bring_up_second();
        observe(Duration::from_secs(6));
    }
    home.restart();
    let left = phone.restart_at();
    match told {
        Told::Nothing | Told::ItLooks => {
            namespace.bring_up_second();
            namespace.switch_network();
        }
        Told::AtOnce => {
            namespace.switch_network();
            phone.simulate("signal-reconnect");
        }
    }

    eventually(Duration::from_secs(30), || reconnected(phone, 1));
    eventually(Duration::from_secs(10), || both_ways(&home, phone));
    let history = phone.history();
    let noticed = history.iter().find(|happening| happening.what.ends_with("reconnecting"));
    let detected = noticed.expect("it noticed").at;
    println!("{mode:?}: noticed after {:.0} ms: {history:?}", detected - left);
    for (talker, listener) in [(&home, phone), (phone, &home)] {
        heard_all(talker, listener);
    }
    for (viewer, of) in [(&home, phone), (phone, &home)] {
        for (kind, most) in [(Kind::Video, 1500.0), (Kind::Audio, 1000.0)] {
            let seen = viewer.track(of, kind).expect("still there").seen;
            // Of the longest gap, the part since then.
            let missed = seen.longest_gap.min(seen.gap_ended - detected);
            println!(
                "{mode:?}: {} without {kind:?} for {:.0} ms, for {missed:.0} ms since it was noticed",
                viewer.name(),
                seen.longest_gap
            );
            assert!(missed < most, "{kind:?} of {}: {missed} ms: {seen:?}", of.name());
            let longest = match told {
                Told::Nothing => 20_000.0,
                Told::ItLooks => 4000.0,
                Told::AtOnce => 2000.0,
            };
            assert!(seen.longest_gap < longest, "{kind:?} of {}: {seen:?}", of.name());
        }
    }
    assert_eq!((phone.sid(), home.departures().len()), (sid, 0));
}

/// Ends the talk that began before; all of it arrives, once and in order.
#[track_caller]
fn heard_all(talker: &Participant<'_>, listener: &Participant<'_>) {
    let said = talker.end_talk();
    assert!(said.len() > 100, "{} said {} things", talker.name(), said.len());
    let heard = eventually(Duration::from_secs(10), || {
        let of_talk =
            listener.messages().into_iter().filter(|one| one.topic.as_deref() == Some(talker.name()));
        let heard: Vec<u32> = of_talk.map(|one| one.fingerprint).collect();
        if heard.len() >= said.len() {
            Ok(heard)
        } else {
            Err(format!("{} heard {} of {}'s {}", listener.name(), heard.len(), talker.name(), said.len()))
        }
    });
    println!("{} heard all that {} said, {} messages", listener.name(), talker.name(), said.len());
    assert!(heard == said, "{} heard {heard:?}, and {} said {said:?}", listener.name(), talker.name());
}

fn meet(server: &Server, mode: Mode, one: &Participant<'_>, other: &Participant<'_>) {
    for (person, hertz) in [(one, 440.0), (other, 660.0)] {
        person.join(server, "garden", mode);
        person.publish_camera(&Camera { fps: 15, ..Camera::SMALL });
        person.publish_microphone(hertz);
    }
    eventually(Duration::from_secs(20), || both_ways(one, other));
}

/// As [`meet`] left them.
fn both_ways(one: &Participant<'_>, other: &Participant<'_>) -> Result<(), String> {
    sees(one, other)?;
    sees(other, one)?;
    hears(one, other, 660.0)?;
    hears(other, one, 440.0)?;
    Ok(())
}

fn reconnected(who: &Participant<'_>, times: usize) -> Result<(), String> {
    let events = who.events();
    let count = events.iter().filter(|event| *event == "reconnected").count();
    if count >= times { Ok(()) } else { Err(format!("{events:?}")) }
}

#[track_caller]
fn said(from: &Participant<'_>, to: &Participant<'_>, topic: &str) {
    let fingerprint = from.send(1000, true, topic).expect("it can be sent");
    eventually(Duration::from_secs(5), || {
        let got = to.messages();
        let found = got.iter().filter(|message| {
            message.fingerprint == fingerprint && message.from.as_deref() == Some(from.name())
        });
        match found.count() {
            1 => Ok(()),
            count => Err(format!("{count} of {topic:?} in {got:?}")),
        }
    });
}
