//! What a participant answers to a server, with another str0m in the server's place.

use std::net::UdpSocket;

use livekit_protocol::{MediaSectionsRequirement, SessionDescription};
use str0m::Candidate;
use str0m::change::SdpOffer;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::settings::Video;

struct Room {
    settings: Settings,
    poller: Poller,
    watcher: Participant,
    requests: UnboundedReceiver<ToServer>,
    server: Connection,
    /// Where the server would be.
    _socket: UdpSocket,
    candidate: Candidate,
}

impl Room {
    /// A watcher, and its first offer.
    fn new() -> (Room, String) {
        let now = Instant::now();
        let settings = Settings {
            url: "ws://127.0.0.1:1".to_owned(),
            protocol: Protocol::Livekit,
            api_key: String::new(),
            api_secret: String::new(),
            room: String::new(),
            publishers: 1,
            subscribers: 1,
            meeting: false,
            duration: Duration::from_secs(5),
            video: Video::Single(200_000),
            audio: true,
            speakers: u16::MAX,
            warm_up: Duration::from_secs(1),
            joins_per_second: 1.0,
            join_timeout: Duration::from_secs(5),
            quality: None,
            server_pid: None,
            seed: 1,
        };
        let identity = Identity::generate().unwrap();
        let role = Role { publisher: None, watches: true };
        let (mut watcher, opening) = Participant::new(now, 0, role, &settings, &identity);
        let (send, requests) = unbounded_channel();
        watcher.opened(send);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let candidate = Candidate::host(socket.local_addr().unwrap(), "udp").unwrap();
        let server = Connection::new(now, &identity);
        let poller = Poller::new().unwrap();
        (
            Room { settings, poller, watcher, requests, server, _socket: socket, candidate },
            opening.offer.unwrap(),
        )
    }

    fn say(&mut self, message: FromServer) {
        let news = News::Message(Box::new(message));
        self.watcher.news(Clock::read(), news, &self.settings, &self.poller);
        assert_eq!(self.watcher.status, Status::Joining);
    }

    /// Takes all sections, before there is anything to send in them, and tells no address yet.
    fn answer(&mut self, offer: &str) {
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        let answer = self.server.sdp().accept_offer(offer).unwrap().to_sdp_string();
        assert!(answer.contains("a=sendonly") && !answer.contains("a=candidate"), "{answer}");
        self.say(FromServer::Answer(SessionDescription { sdp: answer, id: 1, ..Default::default() }));
    }
}

/// As LiveKit 1.13 does when tracks come after its answer: the sections that are there suffice.
#[test]
fn a_server_that_needs_no_more_sections_is_offered_the_same_again() {
    let (mut room, offer) = Room::new();
    room.answer(&offer);
    room.say(FromServer::MediaSectionsRequirement(MediaSectionsRequirement::default()));
    let Ok(ToServer::Offer(again)) = room.requests.try_recv() else { panic!("no second offer") };
    assert_eq!(again.id, 2);
    assert_eq!(again.sdp.matches("a=recvonly").count(), 2 * FIRST_SECTIONS, "{}", again.sdp);
}

#[test]
fn a_server_that_trickles_its_address_is_told_ours() {
    let (mut room, offer) = Room::new();
    room.answer(&offer);
    assert!(room.requests.try_recv().is_err());
    let candidate = room.candidate.to_sdp_string();
    room.say(FromServer::Trickle(offer::trickle(&candidate)));
    let Ok(ToServer::Trickle(ours)) = room.requests.try_recv() else { panic!("no candidate") };
    assert!(offer::trickled(&ours).unwrap().contains("127.0.0.1"), "{ours:?}");
}
