//! What people say in words, on every SDK of clients: streams of text and bytes, methods of each other's that they call, and what
//! they say of themselves.

use std::time::Duration;

use crate::harness::{Browser, Mode, Participant, Sdk, Server, Stream, alone, eventually};

/// Letters or bytes of a stream: of one packet and of many.
const SIZES: [usize; 2] = [200, 100_000];

#[test]
fn streams_methods_and_names_pass_among_all_sdks() {
    let _turn = alone();
    let server = Server::start("words");
    let (browser, python, node) = (Browser::start(), Sdk::start(), Sdk::start_node());
    let people = [
        (browser.participant("ada"), Mode::V1),
        (browser.participant("grace"), Mode::V0),
        (python.participant("alan"), Mode::V1),
        (python.participant("joan"), Mode::V0),
        (node.participant("kurt"), Mode::V0),
    ]
    .map(|(person, mode)| {
        person.join(&server, "garden", mode);
        person.register_greeting("greet");
        person
    });
    for person in &people {
        eventually(Duration::from_secs(5), || match person.others().len() {
            4 => Ok(()),
            others => Err(format!("{} sees {others}", person.name())),
        });
    }
    for sender in &people {
        streams_arrive(sender, &people);
    }
    for caller in &people {
        for callee in others(caller, &people) {
            let call = |method: &str, payload: &str| caller.call_method(callee, method, payload);
            assert_eq!(call("greet", caller.name()), format!("hello {}", caller.name()));
            assert_eq!(call("greet", "nobody"), "error 7: there is nobody");
            let unknown = call("levitate", "");
            assert!(unknown.starts_with("error 1400:"), "{} to {}: {unknown}", caller.name(), callee.name());
        }
    }
    for person in &people {
        let name = person.name();
        person.introduce(&name.to_uppercase(), &format!("about {name}"), ("handRaised", name));
        for other in &people {
            eventually(Duration::from_secs(5), || {
                let seen = &other.people()[name];
                let right = seen["name"] == name.to_uppercase()
                    && seen["metadata"] == format!("about {name}")
                    && seen["attributes"]["handRaised"] == name;
                if right { Ok(()) } else { Err(format!("{name} as {} sees it: {seen}", other.name())) }
            });
        }
    }
    for person in &people {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
    }
}

fn others<'a, 'b>(
    sender: &Participant<'b>,
    people: &'a [Participant<'b>],
) -> impl Iterator<Item = &'a Participant<'b>> {
    people.iter().filter(move |person| person.name() != sender.name())
}

/// Everybody else gets every stream of `sender`'s whole, and once.
fn streams_arrive(sender: &Participant<'_>, people: &[Participant<'_>]) {
    let sent: Vec<(&str, String, u32)> = SIZES
        .into_iter()
        .flat_map(|size| {
            let note = format!("{}-{size}", sender.name());
            let (text, file) = (sender.send_words(size, &note), sender.send_file(size, &note));
            [("words", note.clone(), text), ("file", note, file)]
        })
        .collect();
    for other in others(sender, people) {
        let arrived = eventually(Duration::from_secs(10), || {
            let all = other.streams().into_iter();
            let arrived: Vec<Stream> = all.filter(|stream| stream.from == sender.name()).collect();
            if arrived.len() >= sent.len() {
                Ok(arrived)
            } else {
                Err(format!("{} has of {}: {arrived:?}", other.name(), sender.name()))
            }
        });
        assert_eq!(arrived.len(), sent.len(), "{arrived:?}");
        for (topic, note, fingerprint) in &sent {
            let whole = |stream: &&Stream| {
                stream.topic == *topic
                    && stream.note.as_deref() == Some(note)
                    && stream.fingerprint == *fingerprint
            };
            assert_eq!(arrived.iter().filter(whole).count(), 1, "{topic} {note}: {arrived:?}");
        }
    }
}
