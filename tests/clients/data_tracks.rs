//! Data tracks among browsers and the Python SDK: frames of one packet and of many, those who come late, the end of a track, and
//! what is left of one when its publisher or its subscriber loses a connection.

use std::time::Duration;

use crate::harness::{Browser, DataFrame, Mode, Participant, Sdk, Server, Wire, alone, eventually};

/// Bytes of a frame, and the pause after it in milliseconds. SDKs cut frames into packets of 16 000 bytes: these are of one to ten.
const SIZES: [(usize, u32); 5] = [(100, 10), (15_900, 20), (16_000, 20), (60_000, 100), (150_000, 100)];
/// Frames up to this size all arrive. Of larger ones the kernel drops datagrams while a client gets no time on a busy machine, and
/// nothing is sent again: one of each size must arrive whole.
const SMALL: usize = 100;
/// Frames of each size.
const COUNT: usize = 5;

#[test]
fn frames_of_a_data_track_arrive_until_it_is_unpublished() {
    let _turn = alone();
    let server = Server::start("data-tracks");
    let (browser, sdk) = (Browser::start(), Sdk::start());
    let mut people = vec![browser.participant("ada"), browser.participant("grace"), sdk.participant("alan")];
    for (person, mode) in people.iter().zip([Mode::V1, Mode::V0, Mode::V1]) {
        person.join(&server, "garden", mode);
        person.publish_data_track(person.name()).expect("published");
    }
    for sender in &people {
        frames_arrive(sender, &people, "first");
    }
    for (late, mode) in [("late", Mode::V0), ("later", Mode::V1)] {
        people.push(sdk.participant(late));
        people.last().expect("pushed").join(&server, "garden", mode);
    }
    for sender in &people[..3] {
        frames_arrive(sender, &people, "second");
        // SDKs have a word for a name that is taken, and go on.
        let again = sender.publish_data_track(sender.name());
        assert!(again.is_err(), "{}: {again:?}", sender.name());
    }
    for (gone, sender) in people[..3].iter().enumerate() {
        sender.unpublish_data_track(sender.name());
        for other in others(sender, &people) {
            // Its own is not among them, and they end in this order.
            let expected = people[..=gone].iter().map(Participant::name).filter(|name| *name != other.name());
            let expected: Vec<&str> = expected.collect();
            eventually(Duration::from_secs(5), || {
                let ended = other.ended_data_tracks();
                if ended == expected { Ok(()) } else { Err(format!("{}: {ended:?}", other.name())) }
            });
        }
    }
    for person in &people {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
    for lost in ["malformed", "too_large"] {
        let lost = format!("reason=\"{lost}\"");
        assert_eq!(server.metric("sluice_data_track_packets_dropped_total", &[&lost]), 0, "{lost}");
    }
    assert!(server.metric("sluice_data_track_packets_total", &["direction=\"out\""]) > 0);
}

#[test]
fn data_tracks_survive_the_loss_of_a_websocket() {
    let _turn = alone();
    let server = Server::start("data-tracks-resume");
    let (browser, sdk) = (Browser::start(), Sdk::start());
    let people = [browser.participant("ada"), browser.participant("grace"), sdk.participant("alan")];
    let wire = Wire::to(&server);
    people[0].join(&server, "garden", Mode::V1);
    people[1].join(&server, "garden", Mode::V0);
    people[2].join_over(&wire, &server, "garden", Mode::V1);
    for person in &people {
        person.publish_data_track(person.name()).expect("published");
    }
    for sender in &people {
        frames_arrive(sender, &people, "before");
    }
    people[0].simulate("signal-reconnect");
    people[1].simulate("signal-reconnect");
    wire.cut();
    for person in &people {
        eventually(Duration::from_secs(20), || match person.events().last() {
            Some(last) if last == "reconnected" => Ok(()),
            last => Err(format!("{}: {last:?}", person.name())),
        });
    }
    for sender in &people {
        frames_arrive(sender, &people, "after");
    }
    for person in &people {
        assert_eq!(person.ended_data_tracks(), [""; 0], "{} was told of an end", person.name());
    }
}

#[test]
fn a_publisher_that_rejoins_publishes_its_data_tracks_anew() {
    let _turn = alone();
    let server = Server::start("data-tracks-rejoin");
    let (browser, sdk) = (Browser::start(), Sdk::start());
    let people = [browser.participant("ada"), browser.participant("grace"), sdk.participant("alan")];
    for (person, mode) in people.iter().zip([Mode::V1, Mode::V0, Mode::V1]) {
        person.join(&server, "garden", mode);
    }
    let ada = &people[0];
    ada.publish_data_track("ada").expect("published");
    frames_arrive(ada, &people, "before");
    ada.simulate("full-reconnect");
    eventually(Duration::from_secs(20), || match ada.events().last() {
        Some(last) if last == "reconnected" => Ok(()),
        last => Err(format!("{last:?}")),
    });
    frames_arrive(ada, &people, "after");
}

#[test]
fn a_data_track_may_be_encrypted_end_to_end() {
    let _turn = alone();
    let server = Server::start("data-tracks-encrypted");
    let browser = Browser::start();
    let people = [browser.participant("ada"), browser.participant("grace")];
    for person in &people {
        person.join_encrypted(&server, "garden", "open sesame");
        person.publish_data_track(person.name()).expect("published");
    }
    for sender in &people {
        frames_arrive(sender, &people, "secret");
    }
}

fn others<'a, 'b>(
    sender: &Participant<'b>,
    people: &'a [Participant<'b>],
) -> impl Iterator<Item = &'a Participant<'b>> {
    people.iter().filter(move |person| person.name() != sender.name())
}

/// Sends frames of all sizes on the track that has its publisher's name, and sees them arrive whole at everybody else, none twice
/// and in order.
fn frames_arrive(sender: &Participant<'_>, people: &[Participant<'_>], topic: &str) {
    // Only what comes after a subscription is for the subscriber, and SDKs do not tell when that begins.
    for other in others(sender, people) {
        let before = from(sender, other).len();
        let mut attempt = 0;
        eventually(Duration::from_secs(10), || {
            let probe = format!("{topic}-for-{}-{attempt}", other.name());
            sender.push_frames(sender.name(), &probe, 1, 50, 10);
            attempt += 1;
            if from(sender, other).len() > before {
                Ok(())
            } else {
                Err(format!("{} gets nothing", other.name()))
            }
        });
    }
    for (bytes, interval) in SIZES {
        let topic = format!("{}-{topic}-{bytes}", sender.name());
        let sent = sender.push_frames(sender.name(), &topic, COUNT, bytes, interval);
        for other in others(sender, people) {
            eventually(Duration::from_secs(10), || {
                let of_size = from(sender, other).into_iter().filter(|frame| frame.bytes == bytes);
                let arrived: Vec<u32> =
                    of_size.map(|frame| frame.fingerprint).filter(|frame| sent.contains(frame)).collect();
                let in_order: Vec<u32> =
                    sent.iter().copied().filter(|frame| arrived.contains(frame)).collect();
                assert_eq!(arrived, in_order, "{topic} at {}: twice, or out of order", other.name());
                let enough = if bytes <= SMALL { arrived == sent } else { !arrived.is_empty() };
                if enough {
                    Ok(())
                } else {
                    Err(format!("{topic} at {}: {arrived:?} of {sent:?}", other.name()))
                }
            });
        }
    }
    assert!(
        sender.data_frames().iter().all(|frame| frame.from != sender.name()),
        "the sender got its own frames"
    );
}

/// The frames of `sender`'s track that have arrived at `other`.
fn from(sender: &Participant<'_>, other: &Participant<'_>) -> Vec<DataFrame> {
    let frames = other.data_frames().into_iter();
    frames.filter(|frame| frame.from == sender.name() && frame.track == sender.name()).collect()
}
