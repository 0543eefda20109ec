//! Whole calls: the real core between scripted publishers and subscribers, in virtual time.
//!
//! Everything is as in a server but for encryption and ICE, which the core leaves out on request: descriptions are SDP
//! text, media is RTP, feedback is RTCP. Signalling takes no time. A call that ends prints what happened in it, and with
//! `SIM_TIMELINE=N` in the environment how the downlink of viewer N went. With `SIM_PCAP=FOLDER` what the server sends is kept for
//! Wireshark.
//! Always: one seed is one whole call, to the byte ([`Server::trace`]).

mod capture;
mod host;
mod hostile;
mod publisher;
mod sdp;
mod server;
mod subscriber;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu::command::explanation::Explanation;
use sfu::command::{
    AddPeer, AnnouncedLayer, Command, Demand, DownlinkPolicy, Event, MediaKind, NegotiationRole,
};
use sfu::congestion::controller::Snapshot;
use sfu::congestion::restraint::Restraint;
use sfu::ids::{LayerId, Mid, PeerId, RoomId, Ssrc, TrackId};
use sfu::units::{DataSize, WallClock};

pub use self::host::{Host, Stalls};
pub use self::hostile::{Attack, Forgery};
pub use self::publisher::{Published, Publisher};
pub use self::sdp::Reports;
pub use self::server::Server;
pub use self::subscriber::{Heard, Seen, Subscriber};
use crate::camera::{Camera, CameraConfig, Microphone};
use crate::link::{LinkConfig, LinkStats, Loss};
use crate::net::{Net, NodeId};
use crate::rtp::ExtensionIds;
use crate::tcp::{Sink, Tcp};

const ROOM: RoomId = RoomId(1);
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7882);
/// How often the state of the downlinks is noted.
const SAMPLE: Duration = Duration::from_millis(100);
/// Longest call on busy machines.
const LONGEST: Duration = Duration::from_mins(10);

/// The machines that server and subscribers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machines {
    /// Each runs when it has something to do.
    Idle,
    /// They are shared, and stall: see [`Stalls::busy`].
    Busy,
}

impl Machines {
    /// Time that nothing happens on them, at most.
    pub fn longest_stall(self) -> Duration {
        match self {
            Machines::Idle => Duration::ZERO,
            Machines::Busy => host::LONGEST_STALL,
        }
    }
}

/// A path in both directions, as its client sees them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Access {
    /// From the server.
    pub down: LinkConfig,
    /// To the server.
    pub up: LinkConfig,
}

impl Access {
    /// The same both ways.
    pub fn same(link: LinkConfig) -> Access {
        Access { down: link, up: link }
    }
}

/// A publisher of a call.
#[derive(Clone, Copy, Debug)]
pub struct PublisherId {
    node: NodeId,
    peer: PeerId,
    video: TrackId,
    audio: TrackId,
}

impl PublisherId {
    /// Its connection.
    pub fn peer(self) -> PeerId {
        self.peer
    }

    /// Its camera.
    pub fn video(self) -> TrackId {
        self.video
    }
}

/// A subscriber of a call.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberId {
    node: NodeId,
    peer: PeerId,
    video: TrackId,
    index: usize,
}

impl SubscriberId {
    /// Its connection.
    pub fn peer(self) -> PeerId {
        self.peer
    }
}

/// A TCP flow beside a call.
#[derive(Clone, Copy, Debug)]
pub struct Download(NodeId);

/// The state of one downlink at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// After the call's start.
    pub at: Duration,
    /// Of the congestion control.
    pub snapshot: Snapshot,
    /// Of each camera, in the order of subscription, the layer that the allocator wants…
    pub wanted: Vec<Option<LayerId>>,
    /// …and the layer that goes.
    pub current: Vec<Option<LayerId>>,
    /// What a packet would wait in the path's queue.
    pub queue: Duration,
    /// Bytes given to the path so far.
    pub sent: DataSize,
}

/// What is kept of a subscriber.
struct Viewer {
    id: SubscriberId,
    address: SocketAddr,
    cameras: Vec<TrackId>,
    samples: Vec<Sample>,
}

/// See the module's page.
pub struct Call {
    name: String,
    net: Net,
    start: Instant,
    machines: Machines,
    server: NodeId,
    publishers: Vec<(NodeId, PublisherId)>,
    subscribers: Vec<Viewer>,
    next: u8,
    quiet: bool,
}

impl Call {
    /// A server without clients. `name` and `seed` are for the report.
    pub fn new(name: &str, seed: u64, machines: Machines) -> Call {
        let mut net = Net::new(seed);
        let start = net.now();
        let server = Server::new(start, SERVER, net.seed());
        let server = Call::host(&mut net, machines, server);
        let server = net.add(&[SERVER], server);
        let name = format!("{name}, seed {seed}");
        Call {
            name,
            net,
            start,
            machines,
            server,
            publishers: Vec::new(),
            subscribers: Vec::new(),
            next: 2,
            quiet: false,
        }
    }

    /// The same, but it prints nothing unless it fails.
    pub fn quiet(name: &str, seed: u64) -> Call {
        let mut call = Call::new(name, seed, Machines::Idle);
        call.quiet = true;
        call
    }

    fn host<N: crate::net::Node>(net: &mut Net, machines: Machines, node: N) -> Host<N> {
        match machines {
            Machines::Idle => Host::idle(node),
            Machines::Busy => {
                let (now, reading, writing) = (net.now(), net.seed(), net.seed());
                let stalls = |seed| Stalls::busy(now, LONGEST, seed);
                Host::new(node, stalls(reading), stalls(writing))
            }
        }
    }

    /// Time since the call began.
    pub fn time(&self) -> Duration {
        self.net.now() - self.start
    }

    /// The same for another moment.
    pub fn since_start(&self, at: Instant) -> Duration {
        at - self.start
    }

    /// A client joins, offers and sends. `camera` gets a first SSRC, its section and the ids of extensions.
    pub fn publish(
        &mut self,
        camera: fn(u32, &str, ExtensionIds) -> CameraConfig,
        access: Access,
    ) -> PublisherId {
        self.publish_with(camera, access, Reports::TransportWide)
    }

    /// The same for a client that takes such reports on what it sends.
    pub fn publish_with(
        &mut self,
        camera: impl FnOnce(u32, &str, ExtensionIds) -> CameraConfig,
        access: Access,
        reports: Reports,
    ) -> PublisherId {
        let (peer, address) = self.join(NegotiationRole::Answerer);
        let first = u32::from(self.next) * 1000;
        let config = camera(first, sdp::VIDEO.0, reports.extensions());
        let rids: Vec<_> = config.layers.iter().filter_map(|layer| layer.rid).collect();
        self.command(Command::Offer { peer, id: 1, sdp: sdp::offer(&rids, reports), hints: Vec::new() });
        self.expect_event(|event| match event {
            Event::Answer { peer: of, .. } => (*of == peer).then_some(()),
            Event::DescriptionRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        let tracks = [(sdp::AUDIO.0, TrackId(peer.0 * 10)), (sdp::VIDEO.0, TrackId(peer.0 * 10 + 1))];
        for (mid, track) in tracks {
            let layers = config.layers.iter().filter(|_| mid == sdp::VIDEO.0).map(|layer| AnnouncedLayer {
                rid: layer.rid,
                size: (layer.size.0.into(), layer.size.1.into()),
                bitrate: layer.rate,
            });
            let (mid, layers) = (Mid::parse(mid).expect("our own"), layers.collect());
            self.command(Command::BindTrack { peer, mid, track, layers, encrypted: false });
        }
        self.connect(peer, address);

        let now = self.net.now();
        let camera = Camera::new(now, config, self.net.seed());
        let (mid, payload_type) = sdp::AUDIO;
        let mut microphone = Microphone::new(now, Ssrc(first + 100), mid, payload_type, self.net.seed());
        microphone.set_speaking(true);
        let wall = WallClock { instant: self.start, unix: server::EPOCH };
        let node = Publisher::new(now, (camera, microphone), (address, SERVER), wall, reports);
        let node = self.net.add(&[address], node);
        let id = PublisherId { node, peer, audio: tracks[0].1, video: tracks[1].1 };
        self.publishers.push((node, id));
        self.net.set_link(self.server, node, access.down);
        self.net.set_link(node, self.server, access.up);
        id
    }

    /// A client joins, subscribes to both tracks of a publisher, and answers the offer that comes of it.
    pub fn subscribe(&mut self, publisher: PublisherId, access: Access, demand: Demand) -> SubscriberId {
        self.subscribe_all(&[(publisher, demand)], access)
    }

    /// The same for several publishers, with what is wanted of each camera.
    pub fn subscribe_all(&mut self, publishers: &[(PublisherId, Demand)], access: Access) -> SubscriberId {
        let (peer, address) = self.join(NegotiationRole::Offerer);
        self.want(peer, publishers);
        let (id, offer) = self.expect_event(|event| match event {
            Event::Offer { peer: of, id, sdp, .. } => (*of == peer).then(|| (*id, sdp.clone())),
            _ => None,
        });
        let answer = sdp::answer(&offer);
        self.command(Command::Answer { peer, id, sdp: answer.sdp.clone() });
        self.receive(publishers, &access, (peer, address), answer, Reports::TransportWide)
    }

    /// The same for a client that offers, as all do that have one connection for both directions, and that reports so.
    pub fn subscribe_by_offer(
        &mut self,
        publishers: &[(PublisherId, Demand)],
        access: Access,
        reports: Reports,
    ) -> SubscriberId {
        let (peer, address) = self.join(NegotiationRole::Answerer);
        self.want(peer, publishers);
        let sdp = sdp::offer_to_receive(publishers.len(), reports);
        self.command(Command::Offer { peer, id: 1, sdp, hints: Vec::new() });
        let answer = self.expect_event(|event| match event {
            Event::Answer { peer: of, sdp, .. } => (*of == peer).then(|| sdp::answer(sdp)),
            Event::DescriptionRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        self.receive(publishers, &access, (peer, address), answer, reports)
    }

    /// The same for one that is fed one publisher's tracks after another, beginning with these.
    pub fn watch(&mut self, publisher: PublisherId, access: Access) -> SubscriberId {
        let (peer, address) = self.join(NegotiationRole::Answerer);
        for (feed, kind, track) in feeds(peer, publisher) {
            let (stream_id, label) = ("RM_1".to_owned(), label(track));
            self.command(Command::OpenFeed { peer, feed, kind, stream_id, label });
        }
        self.feed(peer, Some(publisher));
        let sdp = sdp::offer_to_receive(1, Reports::TransportWide);
        self.command(Command::Offer { peer, id: 1, sdp, hints: Vec::new() });
        let answer = self.expect_event(|event| match event {
            Event::Answer { peer: of, sdp, .. } => (*of == peer).then(|| sdp::answer(sdp)),
            Event::DescriptionRefused { reason, .. } => panic!("{reason}"),
            _ => None,
        });
        let publishers = [(publisher, Demand::default())];
        self.receive(&publishers, &access, (peer, address), answer, Reports::TransportWide)
    }

    /// Feeds somebody who watches with another publisher's tracks, or with nothing.
    pub fn show(&mut self, viewer: SubscriberId, publisher: Option<PublisherId>) {
        self.feed(viewer.peer, publisher);
    }

    fn feed(&mut self, peer: PeerId, publisher: Option<PublisherId>) {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let track = publisher.map(|publisher| match kind {
                MediaKind::Audio => publisher.audio,
                MediaKind::Video => publisher.video,
            });
            let feed = feed_of(peer, kind);
            self.command(Command::Feed { peer, feed, track, demand: Demand::default() });
        }
    }

    fn want(&mut self, peer: PeerId, publishers: &[(PublisherId, Demand)]) {
        for (track, demand) in
            publishers.iter().flat_map(|(p, demand)| [(p.audio, demand), (p.video, demand)])
        {
            let (stream_id, label) = (format!("PA_{}|", track.0 / 10), label(track));
            self.command(Command::Subscribe { peer, track, stream_id, label, demand: *demand });
        }
    }

    /// A subscriber has agreed on its tracks: its media may come.
    fn receive(
        &mut self,
        publishers: &[(PublisherId, Demand)],
        access: &Access,
        (peer, address): (PeerId, SocketAddr),
        answer: sdp::Answer,
        reports: Reports,
    ) -> SubscriberId {
        for track in publishers.iter().flat_map(|(publisher, _)| [publisher.audio, publisher.video]) {
            self.expect_event(|event| match event {
                Event::SubscriptionBound { peer: of, track: it } => {
                    (*of == peer && *it == track).then_some(())
                }
                Event::DescriptionRefused { reason, .. } => panic!("{reason}: {}", answer.sdp),
                _ => None,
            });
        }
        let now = self.net.now();
        let node = Subscriber::new(self.start, now, answer, (address, SERVER), reports);
        let node = Call::host(&mut self.net, self.machines, node);
        let node = self.net.add(&[address], node);
        self.net.set_link(self.server, node, access.down);
        self.net.set_link(node, self.server, access.up);
        self.connect(peer, address);
        let cameras: Vec<TrackId> = publishers.iter().map(|(publisher, _)| publisher.video).collect();
        let id = SubscriberId { node, peer, video: cameras[0], index: self.subscribers.len() };
        self.subscribers.push(Viewer { id, address, cameras, samples: Vec::new() });
        id
    }

    /// Another demand of a subscriber for the camera.
    pub fn adjust(&mut self, subscriber: SubscriberId, demand: Demand) {
        self.command(Command::Adjust { peer: subscriber.peer, track: subscriber.video, demand });
    }

    /// The same for any of the cameras that it gets.
    pub fn adjust_camera(&mut self, subscriber: SubscriberId, publisher: PublisherId, demand: Demand) {
        self.command(Command::Adjust { peer: subscriber.peer, track: publisher.video, demand });
    }

    /// A subscriber's bounds.
    pub fn limit(&mut self, subscriber: SubscriberId, policy: DownlinkPolicy) {
        self.command(Command::Limit { peer: subscriber.peer, policy });
    }

    /// The server's machine is short of time by so much.
    pub fn restrain(&mut self, restraint: Restraint) {
        self.net.with(self.server, |now, host: &mut Host<Server>| host.node_mut().restrain(now, restraint));
    }

    /// What the server says of a subscriber's downlink, with all of its history.
    pub fn explain(&mut self, subscriber: SubscriberId) -> Explanation {
        let SubscriberId { peer, .. } = subscriber;
        self.command(Command::Explain { peer, question: 1, history: u16::MAX });
        self.expect_event(|event| match event {
            Event::Explained { peer: of, explanation, .. } if *of == peer => Some((**explanation).clone()),
            _ => None,
        })
    }

    /// A publisher's user mutes camera and microphone, or takes it back.
    pub fn mute(&mut self, publisher: PublisherId, muted: bool) {
        for track in [publisher.audio, publisher.video] {
            self.command(Command::MuteTrack { track, muted });
        }
        self.net.with(publisher.node, |now, node: &mut Publisher| node.set_muted(now, muted));
    }

    /// A publisher may no longer publish: its tracks end, and it goes on sending.
    pub fn forbid_publishing(&mut self, publisher: PublisherId) {
        for track in [publisher.audio, publisher.video] {
            self.command(Command::RemoveTrack { track });
        }
    }

    /// A subscriber may no longer have a publisher's tracks.
    pub fn forbid_subscribing(&mut self, subscriber: SubscriberId, publisher: PublisherId) {
        for track in [publisher.audio, publisher.video] {
            self.command(Command::Unsubscribe { peer: subscriber.peer, track });
        }
    }

    /// A publisher's user begins or ends to speak; between that the microphone hardly sends anything.
    pub fn set_speaking(&mut self, publisher: PublisherId, speaking: bool) {
        self.net.with(publisher.node, |_, node: &mut Publisher| node.set_speaking(speaking));
    }

    /// A publisher's microphone sends each packet again in the next one (RED), or no longer.
    pub fn set_redundant(&mut self, publisher: PublisherId, redundant: bool) {
        self.net.with(publisher.node, |_, node: &mut Publisher| node.set_redundant(redundant));
    }

    /// A publisher starts or stops an encoding.
    pub fn set_layer(&mut self, publisher: PublisherId, rid: &str, active: bool) {
        self.net.with(publisher.node, |now, node: &mut Publisher| node.set_layer(now, rid, active));
    }

    /// Changes a publisher's path.
    pub fn set_publisher_access(&mut self, publisher: PublisherId, access: Access) {
        self.net.set_link(self.server, publisher.node, access.down);
        self.net.set_link(publisher.node, self.server, access.up);
    }

    /// A subscriber asks for missing packets of video only after this long, as one with forward error correction does.
    pub fn delay_nacks(&mut self, subscriber: SubscriberId, delay: Duration) {
        self.net.with(subscriber.node, |_, host: &mut Host<Subscriber>| host.node_mut().delay_nacks(delay));
    }

    /// What became of the packets to a subscriber.
    pub fn downlink(&mut self, subscriber: SubscriberId) -> LinkStats {
        self.net.link(self.server, subscriber.node).stats()
    }

    /// A subscriber turns hostile.
    pub fn attack(&mut self, subscriber: SubscriberId, attack: Attack) {
        self.net.with(subscriber.node, |now, host: &mut Host<Subscriber>| {
            host.node_mut().attack(now, attack);
        });
    }

    /// All that was sent to a subscriber and when, as one number.
    pub fn trace_of(&self, subscriber: SubscriberId) -> u64 {
        self.server().trace_of(self.subscribers[subscriber.index].address)
    }

    /// Changes a subscriber's path.
    pub fn set_access(&mut self, subscriber: SubscriberId, access: Access) {
        self.net.set_link(self.server, subscriber.node, access.down);
        self.net.set_link(subscriber.node, self.server, access.up);
    }

    /// A subscriber's phone leaves its network for another: nothing comes or goes for `gap`, then its first packet
    /// from the new address, authenticated, is on its way over the new path. The server keeps the session.
    pub fn roam(&mut self, subscriber: SubscriberId, gap: Duration, access: Access) {
        let nothing = LinkConfig { loss: Loss::Random(1.0), ..access.down };
        self.set_access(subscriber, Access::same(nothing));
        self.run_for(gap);
        self.set_access(subscriber, access);
        let viewer = &mut self.subscribers[subscriber.index];
        let new = SocketAddr::new(viewer.address.ip(), viewer.address.port() + 1);
        let old = std::mem::replace(&mut viewer.address, new);
        self.net.move_address(subscriber.node, old, new);
        self.net.with(subscriber.node, |_, host: &mut Host<Subscriber>| host.node_mut().set_local(new));
        self.run_for(access.up.delay);
        self.connect(subscriber.peer, new);
    }

    /// One greedy TCP flow through a subscriber's link, from now on.
    pub fn add_tcp(&mut self, subscriber: SubscriberId) -> Download {
        let [source, sink] = [1, 2].map(|host| SocketAddr::from(([10, 0, 3, host], 443)));
        let now = self.net.now();
        let guests = (
            self.net.add(&[source], Tcp::new(now, source, sink)),
            self.net.add(&[sink], Sink::new(sink, source)),
        );
        self.net.share_path(guests, (self.server, subscriber.node));
        Download(guests.0)
    }

    /// Bytes on the wire that a TCP flow got through.
    pub fn downloaded(&self, download: Download) -> u64 {
        self.net.node::<Tcp>(download.0).delivered() * 1500
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.net.now() + time;
        while self.net.now() < end {
            self.net.run_for(SAMPLE.min(end - self.net.now()));
            self.sample();
        }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        self.net.node::<Host<Server>>(self.server).node()
    }

    /// What a subscriber got of the publisher that it subscribed to first.
    pub fn seen(&self, subscriber: SubscriberId) -> Seen<'_> {
        self.seen_camera(subscriber, 0)
    }

    /// What it got of publisher number `camera` in the order of subscription.
    pub fn seen_camera(&self, subscriber: SubscriberId, camera: usize) -> Seen<'_> {
        let video = self.subscribers[subscriber.index].cameras[camera];
        let audio = TrackId(video.0 - 1);
        self.net.node::<Host<Subscriber>>(subscriber.node).node().of(video, audio)
    }

    /// When a subscriber was told that a camera of its is paused, and until when.
    pub fn pauses(&self, subscriber: SubscriberId, camera: usize) -> Vec<(Duration, Option<Duration>)> {
        let track = self.subscribers[subscriber.index].cameras[camera];
        let mut pauses: Vec<(Duration, Option<Duration>)> = Vec::new();
        for (at, event) in self.server().notices() {
            let Event::SubscriptionPaused { peer, track: of, paused } = event else { continue };
            if (*peer, *of) != (subscriber.peer, track) {
                continue;
            }
            match pauses.last_mut() {
                Some((_, end)) if !paused => *end = Some(*at),
                _ => pauses.push((*at, None)),
            }
        }
        pauses
    }

    /// Whether the server ended any connection.
    pub fn anybody_left(&self) -> bool {
        self.server().events().iter().any(|event| matches!(event, Event::Ended { .. }))
    }

    /// 95th percentile of what packets to a subscriber waited in the queue of its link since `from`.
    pub fn queueing(&mut self, subscriber: SubscriberId, from: Duration) -> Duration {
        self.net.link(self.server, subscriber.node).wait_p95(self.start + from)
    }

    /// What a publisher did.
    pub fn published(&self, publisher: PublisherId) -> &Published {
        self.net.node::<Publisher>(publisher.node).published()
    }

    /// What was noted of a subscriber's downlink.
    pub fn samples(&self, subscriber: SubscriberId) -> &[Sample] {
        &self.subscribers[subscriber.index].samples
    }

    /// What happened, in a few lines.
    pub fn report(&self) -> String {
        let mut text = format!("{}: {:.1} s\n", self.name, self.time().as_secs_f64());
        for (node, _) in &self.publishers {
            let published = self.net.node::<Publisher>(*node).published();
            let frames: Vec<u64> = published.frames.values().copied().collect();
            let time = |(at, ssrc): &(Instant, Ssrc)| {
                format!("{:.2} s {}", self.since_start(*at).as_secs_f64(), ssrc.0 % 1000)
            };
            let plis: Vec<String> = published.plis.iter().map(time).collect();
            let _ = writeln!(
                text,
                "  publisher: frames {frames:?}, PLIs at [{}], {} nacked, {} resent, reported (came, lost) {:?}",
                plis.join(", "),
                published.nacked,
                published.resent,
                published.reported,
            );
        }
        for (index, viewer) in self.subscribers.iter().enumerate() {
            let seen = self.seen(viewer.id);
            let (from, to, video) = (seen.joined(), self.time(), seen.video());
            let freezes = seen.freezes(from, to, Duration::from_millis(300));
            let sizes: Vec<String> = video
                .sizes
                .iter()
                .map(|(at, size)| format!("{:.1} s {}", at.as_secs_f64(), size.1))
                .collect();
            let _ = writeln!(
                text,
                "  viewer {index}: {:.1} fps, first frame {:?}, {} freezes > 300 ms {freezes:?}, longest {:?}, \
                 heights [{}], {} undecodable, {} skips, {} nacks, {} resent, {} PLIs, {:?}",
                seen.fps(from, to),
                seen.first_frame().unwrap_or_default(),
                freezes.len(),
                video.longest_gap,
                sizes.join(", "),
                video.undecodable,
                video.skips,
                video.nacks,
                video.resent,
                video.plis,
                seen.heard(from, to),
            );
        }
        let stats = self.server().sfu().stats();
        let _ = writeln!(
            text,
            "  server (in, out): nacks {:?}, PLIs {:?}, resent {:?}, audio (recovered, redundant) {:?}, \
             switches (up, down) {:?}, dropped {:?}",
            stats.nacks,
            stats.plis,
            stats.retransmissions,
            (stats.recovered, stats.redundant),
            stats.switches,
            stats.dropped,
        );
        text
    }

    /// A subscriber's downlink over time, a line for each change of cause or layer, and for each second.
    pub fn timeline(&self, subscriber: SubscriberId) -> String {
        let mut text = String::new();
        let mut last: Option<&Sample> = None;
        let layer = |layers: &[Option<LayerId>]| {
            let name = |layer: &Option<LayerId>| {
                layer.map_or("-".to_owned(), |layer| format!("{}/{}", layer.spatial, layer.temporal))
            };
            layers.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        for sample in self.samples(subscriber) {
            let key = |s: &Sample| (s.snapshot.cause, s.wanted.clone(), s.current.clone(), s.at.as_secs());
            if last.replace(sample).is_some_and(|last| key(last) == key(sample)) {
                continue;
            }
            let snapshot = &sample.snapshot;
            let _ = writeln!(
                text,
                "    {:6.1} s target {:>6} {:?}, delivered {:?}, queue {:?} {} ms (link {} ms), loss {:.3}, rtt {} ms, \
                 unmet {:?}, wanted {} current {}{}{}",
                sample.at.as_secs_f64(),
                snapshot.target.as_bps() / 1000,
                snapshot.cause,
                snapshot.delivered.map(|rate| rate.as_bps() / 1000),
                snapshot.queue,
                snapshot.queue_delay.as_millis(),
                sample.queue.as_millis(),
                snapshot.loss,
                snapshot.rtt.as_millis(),
                snapshot.unmet.map(|rate| rate.as_bps() / 1000),
                layer(&sample.wanted),
                layer(&sample.current),
                if snapshot.probing { " probing" } else { "" },
                if snapshot.silent { " silent" } else { "" },
            );
        }
        text
    }

    fn join(&mut self, role: NegotiationRole) -> (PeerId, SocketAddr) {
        let number = self.next;
        self.next += 1;
        let peer = PeerId(number.into());
        self.command(Command::AddPeer(AddPeer { peer, room: ROOM, role, channels: Vec::new() }));
        (peer, SocketAddr::from(([10, 0, 1, number], 5000)))
    }

    fn connect(&mut self, peer: PeerId, address: SocketAddr) {
        self.net
            .with(self.server, |now, host: &mut Host<Server>| host.node_mut().connect(now, peer, address));
    }

    fn command(&mut self, command: Command) {
        self.net.with(self.server, |now, host: &mut Host<Server>| host.node_mut().command(now, command));
    }

    /// Waits for an event of the server.
    fn expect_event<T>(&mut self, mut choose: impl FnMut(&Event) -> Option<T>) -> T {
        let server = self.server;
        let mut found = None;
        self.net.run_until(Duration::from_secs(2), |net| {
            found = net.with(server, |_, host: &mut Host<Server>| host.node_mut().take_event(&mut choose));
            found.is_some()
        });
        found.expect("the event comes within two seconds")
    }

    fn sample(&mut self) {
        let at = self.time();
        for index in 0..self.subscribers.len() {
            let id = self.subscribers[index].id;
            let link = self.net.link(self.server, id.node);
            let (queue, sent) = (link.queue_delay(), DataSize::bytes(link.stats().sent_bytes));
            let sfu = self.server().sfu();
            let Some(snapshot) = sfu.congestion(id.peer) else { continue };
            let cameras = self.subscribers[index].cameras.iter();
            let (wanted, current) = cameras.map(|camera| sfu.layers(id.peer, *camera)).unzip();
            self.subscribers[index].samples.push(Sample { at, snapshot, wanted, current, queue, sent });
        }
    }
}

/// Names of somebody's feeds, with their kinds and the tracks that are in them first.
fn feeds(peer: PeerId, publisher: PublisherId) -> [(TrackId, MediaKind, TrackId); 2] {
    [(MediaKind::Audio, publisher.audio), (MediaKind::Video, publisher.video)]
        .map(|(kind, track)| (feed_of(peer, kind), kind, track))
}

fn feed_of(peer: PeerId, kind: MediaKind) -> TrackId {
    match kind {
        MediaKind::Audio => TrackId(peer.0 * 10 + 5),
        MediaKind::Video => TrackId(peer.0 * 10 + 6),
    }
}

/// The name of a track in `a=msid`.
fn label(track: TrackId) -> String {
    format!("TR_{}", track.0)
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.quiet && !std::thread::panicking() {
            return;
        }
        println!("{}", self.report());
        let wanted = std::env::var("SIM_TIMELINE").ok();
        for (index, viewer) in self.subscribers.iter().enumerate() {
            if wanted.as_ref().is_some_and(|wanted| wanted.parse() == Ok(index)) {
                println!("  viewer {index}:\n{}", self.timeline(viewer.id));
            }
        }
    }
}
