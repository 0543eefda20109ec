//! Media over TCP, where no UDP gets through: two clients behind a firewall that drops all of it, and sockets that mean no good
//! on the same port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::namespace::Namespace;
use crate::harness::{Browser, Camera, Kind, Mode, Participant, Sdk, Server, alone, eventually, observe};
use crate::layers::with_width;
use crate::meeting::{hears, sees};

/// Of a namespace without UDP, where the browser and the SDK live.
struct Firewalled {
    namespace: Namespace,
    server: Server,
    browser: Browser,
    sdk: Sdk,
}

impl Firewalled {
    fn start(test: &str, configuration: &[(&str, &str)]) -> Firewalled {
        let namespace = Namespace::new();
        namespace.lose(100);
        let server = Server::start_with(test, namespace.outside(), configuration);
        let (browser, sdk) = (Browser::start_in(&namespace), Sdk::start_in(&namespace));
        Firewalled { namespace, server, browser, sdk }
    }

    /// Two people in a room, who see and hear each other.
    fn meet(&self, [one, other]: [&Participant<'_>; 2], mode: Mode) {
        for (person, hertz) in [(one, 440.0), (other, 660.0)] {
            person.join(&self.server, "garden", mode);
            person.publish_camera(&Camera::SMALL);
            person.publish_microphone(hertz);
        }
        for (viewer, of, hertz) in [(one, other, 660.0), (other, one, 440.0)] {
            eventually(Duration::from_secs(30), || sees(viewer, of));
            eventually(Duration::from_secs(10), || hears(viewer, of, hertz));
        }
    }

    fn connections(&self) -> u64 {
        self.server.metric("sluice_tcp_connections", &[])
    }
}

#[test]
fn browsers_and_python_meet_over_tcp_with_one_connection_each() {
    meet_over_tcp(Mode::V1);
}

#[test]
fn browsers_and_python_meet_over_tcp_with_two_connections_each() {
    meet_over_tcp(Mode::V0);
}

fn meet_over_tcp(mode: Mode) {
    let _turn = alone();
    let place = Firewalled::start(&format!("tcp-{mode:?}"), &[]);
    let (ada, grace) = (place.browser.participant("ada"), place.sdk.participant("grace"));
    place.meet([&ada, &grace], mode);
    let [_, up] = place.namespace.lost();
    assert!(up > 0, "nobody has even tried UDP");

    ada.restart();
    grace.restart();
    let window = Duration::from_secs(4);
    observe(window);
    for (viewer, of, hertz) in [(&ada, &grace, 660.0), (&grace, &ada, 440.0)] {
        let video = sees(viewer, of).expect("still seen");
        assert!(video.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{video:?}");
        assert!(video.seen.longest_gap < 1000.0, "frozen: {video:?}");
        hears(viewer, of, hertz).expect("still heard");
    }
    assert!(place.connections() >= 2, "{}", place.connections());
    assert_eq!(place.server.metric("sluice_tcp_packets_dropped_total", &["queue_full"]), 0);

    ada.leave();
    grace.leave();
    eventually(Duration::from_secs(20), || match place.connections() {
        0 => Ok(()),
        some => Err(format!("{some} connections of nobody")),
    });
}

#[test]
fn a_narrow_link_over_tcp_gets_less_video_and_all_of_the_sound() {
    let _turn = alone();
    let place = Firewalled::start("tcp-narrow", &[]);
    let outside = Sdk::start();
    let (sender, viewer) = (outside.participant("sender"), place.browser.participant("viewer"));
    for person in [&sender, &viewer] {
        person.join(&place.server, "garden", Mode::V1);
    }
    sender.publish_camera(&Camera::HD);
    sender.publish_microphone(440.0);
    eventually(Duration::from_secs(40), || with_width(&viewer, &sender, |width| width == 1280));

    place.namespace.limit_downlink(500);
    eventually(Duration::from_secs(20), || with_width(&viewer, &sender, |width| width < 1280));
    // What waits in the network at first is worked off.
    eventually(Duration::from_secs(20), || {
        viewer.restart();
        observe(Duration::from_secs(3));
        let (video, sound) = (viewer.track(&sender, Kind::Video)?, hears(&viewer, &sender, 440.0)?);
        let flows = video.seen.longest_gap < 1000.0 && sound.seen.longest_gap < 500.0;
        if flows { Ok(()) } else { Err(format!("{video:?}, {sound:?}")) }
    });
}

#[test]
fn sockets_that_mean_no_good_are_closed_and_a_call_over_tcp_goes_on() {
    const CROWD: usize = 40;
    let _turn = alone();
    let per_address = (CROWD / 2).to_string();
    let limits = [("SLUICE_MEDIA__TCP_CONNECTIONS_PER_ADDRESS", per_address.as_str())];
    let mut place = Firewalled::start("tcp-abuse", &limits);
    let refused = |place: &Firewalled, why: &str| {
        place.server.metric("sluice_tcp_connections_refused_total", &[&format!("reason=\"{why}\"")])
    };
    {
        let (ada, grace) = (place.browser.participant("ada"), place.sdk.participant("grace"));
        place.meet([&ada, &grace], Mode::V1);
        ada.restart();
        grace.restart();
        let since = Instant::now();

        let connect = || {
            let stream = TcpStream::connect(place.server.tcp_address()).expect("a listener");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
            stream
        };
        let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &[0; 64], &[0, 20, 0, 1, 0, 0]];
        for bytes in garbage.iter().take(3) {
            let mut stream = connect();
            stream.write_all(bytes).expect("sent");
            assert!(!matches!(stream.read(&mut [0; 16]), Ok(1..)), "an answer to {bytes:?}");
        }
        assert_eq!(refused(&place, "garbage"), 3);

        // Silent, or with a frame that never ends; and more than there may be.
        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| connect()).collect();
        eventually(Duration::from_secs(5), || match refused(&place, "address") {
            count if count >= CROWD as u64 / 2 => Ok(()),
            count => Err(format!("{count} of {CROWD} refused")),
        });
        for stream in &mut crowd {
            // Who is refused already does not take it.
            let _ = stream.write_all(garbage[3]);
        }
        for mut stream in crowd {
            assert!(!matches!(stream.read(&mut [0; 16]), Ok(1..)));
        }
        assert_eq!(refused(&place, "unknown"), CROWD as u64 / 2);

        let window = since.elapsed();
        for (viewer, of, hertz) in [(&ada, &grace, 660.0), (&grace, &ada, 440.0)] {
            let video = sees(viewer, of).expect("still seen");
            assert!(video.seen.frames as f64 > 8.0 * window.as_secs_f64(), "{window:?}: {video:?}");
            assert!(video.seen.longest_gap < 1000.0, "frozen: {video:?}");
            hears(viewer, of, hertz).expect("still heard");
        }
    }
    place.server.assert_alive();
}
