//! Data messages among three: small and large, reliable and lossy, and one that is too large.

use std::time::Duration;

use crate::harness::{Browser, Message, Mode, Participant, Sdk, Server, alone, eventually};

/// Who is on an SDK with the native core, which writes the packet's `kind` the wrong way round, and livekit-client believes it.
const NATIVE: [&str; 3] = ["alan", "joan", "kurt"];

const SIZES: [usize; 4] = [1_000, 8_000, 15_000, 60_000];

#[test]
fn messages_reach_the_two_others() {
    let _turn = alone();
    let server = Server::start("data");
    let (browser, sdk) = (Browser::start(), Sdk::start());
    // Both ways of connecting, and both stacks.
    let people = [browser.participant("ada"), browser.participant("grace"), sdk.participant("alan")];
    for (person, mode) in people.iter().zip([Mode::V1, Mode::V0, Mode::V1]) {
        person.join(&server, "garden", mode);
    }

    for sender in &people {
        for reliable in [true, false] {
            for bytes in SIZES {
                exchange(sender, &people, bytes, reliable);
            }
        }
    }
    // 64 KiB and more do not fit through every stack: refused where it is sent, and nothing breaks.
    let too_large = people[0].send(70_000, true, "too-large");
    assert!(too_large.is_err(), "{too_large:?}");
    for reliable in [true, false] {
        exchange(&people[0], &people, 1_001, reliable);
    }
    for person in &people {
        assert_eq!(person.events(), [""; 0], "{}'s connection was in trouble", person.name());
        let messages = person.messages();
        assert!(messages.iter().all(|message| message.topic.as_deref() != Some("too-large")), "{messages:?}");
    }
}

#[test]
fn a_burst_of_reliable_messages_arrives_once_and_in_order() {
    let _turn = alone();
    let server = Server::start("burst");
    let (browser, python, node) = (Browser::start(), Sdk::start(), Sdk::start_node());
    let people = [
        (browser.participant("ada"), Mode::V1),
        (browser.participant("grace"), Mode::V0),
        (python.participant("alan"), Mode::V1),
        (python.participant("joan"), Mode::V0),
        (node.participant("kurt"), Mode::V0),
    ];
    for (person, mode) in &people {
        person.join(&server, "garden", *mode);
    }
    let people = people.map(|(person, _)| person);
    for sender in &people {
        exchange(sender, &people, 10, true);
        let topics: Vec<String> =
            (0..100).map(|number| format!("burst-{}-{number}", sender.name())).collect();
        for topic in &topics {
            sender.send(2_000, true, topic).expect("sent");
        }
        for receiver in people.iter().filter(|person| person.name() != sender.name()) {
            let arrived = eventually(Duration::from_secs(10), || {
                let messages = receiver.messages().into_iter().filter_map(|message| message.topic);
                let burst: Vec<String> = messages.filter(|topic| topics.contains(topic)).collect();
                if burst.last() == topics.last() { Ok(burst) } else { Err(format!("{burst:?}")) }
            });
            assert_eq!(arrived, topics, "{} to {}", sender.name(), receiver.name());
        }
    }
}

fn same(sent: &Message, arrived: &Message) -> bool {
    let native = sent.from.as_deref().is_some_and(|from| NATIVE.contains(&from));
    let reliable = if native { arrived.reliable } else { sent.reliable };
    Message { reliable, ..sent.clone() } == *arrived
}

/// Sends one message and sees it arrive whole, once, at everybody else, from the right sender. A lossy one may be
/// sent again: one of five must arrive, and none twice.
fn exchange(sender: &Participant<'_>, people: &[Participant<'_>], bytes: usize, reliable: bool) {
    let others = || people.iter().filter(|person| person.name() != sender.name());
    let tries = if reliable { 1 } else { 5 };
    let mut sent = Vec::new();
    for attempt in 0..tries {
        let topic = format!("{}-{bytes}-{reliable}-{attempt}", sender.name());
        let fingerprint = sender.send(bytes, reliable, &topic).expect("within the limit");
        sent.push(Message {
            from: Some(sender.name().to_owned()),
            topic: Some(topic),
            reliable,
            bytes,
            fingerprint,
        });
    }
    for other in others() {
        let arrived = eventually(Duration::from_secs(5), || {
            let messages = other.messages();
            let known = |message: &&Message| sent.iter().any(|sent| same(sent, message));
            let arrived: Vec<Message> = messages.iter().filter(known).cloned().collect();
            if arrived.is_empty() {
                Err(format!(
                    "{}: nothing of {sent:?}; the last message was {:?}",
                    other.name(),
                    messages.last()
                ))
            } else {
                Ok(arrived)
            }
        });
        for (at, message) in arrived.iter().enumerate() {
            assert!(!arrived[..at].contains(message), "{} got it twice: {message:?}", other.name());
        }
    }
    let own = sender.messages();
    assert!(sent.iter().all(|message| !own.contains(message)), "the sender got its own message");
}
