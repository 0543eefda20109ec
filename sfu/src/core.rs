//! The dispatch between datagrams, commands, time and the peers, tracks and rooms they concern.

mod commands;
mod data_tracks;
mod feed;
mod media;
mod negotiation;
pub(crate) mod speakers;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use self::data_tracks::DataPackets;
use self::speakers::Speakers;
use crate::ahead;
use crate::command::{Command, Event, MediaKind, Path, PeerEnd, SpeakerLevel, SpeakerLevels};
#[cfg(feature = "null-cipher")]
use crate::congestion::controller::Snapshot;
use crate::congestion::restraint::Restraint;
use crate::data_track::DataTracks;
use crate::egress::Egress;
#[cfg(feature = "null-cipher")]
use crate::ids::LayerId;
use crate::ids::{PeerId, RoomId, TrackId};
use crate::peer::Peer;
use crate::peer::connection::ConnectionEvent;
use crate::peer::downlink::Change;
use crate::stats::{DropReason, Stats};
use crate::ticks::Ticks;
use crate::timers::Timers;
use crate::track::Track;
use crate::transport::certificate::{Certificate, CertificateError};
use crate::transport::demux::{PacketClass, classify};
use crate::transport::dtls::{DtlsConfig, DtlsConfigError};
use crate::transport::ice::{IceConfig, IceSecret};
use crate::transport::sctp::ChannelEvent;
use crate::transport::stun;
use crate::units::WallClock;
use crate::wire::data_track;

/// A peer that was served rests this long: a deadline of its that is still past waits for news, not for time.
const REST: Duration = Duration::from_micros(500);
/// How often speakers are told.
const SPEAKER_WINDOW: Duration = Duration::from_millis(400);

/// What a core needs to begin.
#[derive(Clone, Debug)]
pub struct SfuConfig {
    /// Addresses that go into descriptions as host candidates on UDP, best first.
    pub announced: Vec<SocketAddr>,
    /// The same on TCP, where clients connect; may be empty.
    pub announced_tcp: Vec<SocketAddr>,
    /// Which of its process's cores it is: told by its username fragments, see [`core_of`](crate::transport::ice::core_of).
    /// At most [`MAX_CORES`](crate::transport::ice::MAX_CORES).
    pub number: u16,
    /// Ties `Instant` to wall-clock time.
    pub wall: WallClock,
    /// Seed of everything random that is not a secret.
    pub seed: u64,
    /// Secret of the process, from the system's generator.
    pub secret: [u8; 32],
}

/// Why a core cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SfuError {
    /// No key pair could be made.
    #[error("cannot make a DTLS certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// DTLS refuses its settings.
    #[error("cannot set up DTLS: {0}")]
    Dtls(#[from] DtlsConfigError),
}

#[derive(Default)]
struct Room {
    peers: Vec<usize>,
    tracks: Vec<usize>,
    spoke: bool,
    speakers: Speakers,
}

/// All rooms of one worker: bytes, commands and time in; bytes, events and a deadline out.
///
/// One thread owns it. After each batch of datagrams and commands, call [`Sfu::flush`], send what
/// [`Sfu::egress`] has, drain [`Sfu::poll_event`], and come back at [`Sfu::next_timeout`].
pub struct Sfu {
    announced: Vec<SocketAddr>,
    announced_tcp: Vec<SocketAddr>,
    fingerprint: String,
    wall: WallClock,
    ice: IceConfig,
    dtls: DtlsConfig,
    rng: fastrand::Rng,
    rooms: HashMap<RoomId, Room>,
    peers: Vec<Option<Box<Peer>>>,
    tracks: Vec<Option<Box<Track>>>,
    peer_ids: HashMap<PeerId, usize>,
    track_ids: HashMap<TrackId, usize>,
    by_ufrag: HashMap<String, usize>,
    /// Where media of a path belongs: the peer that selected it, before that the first that signed a request there.
    by_path: HashMap<Path, usize>,
    /// Who signed a request on a path last: the answers to our checks are for it.
    claims: HashMap<Path, usize>,
    timers: Timers,
    /// When peers' pacers may send again. Apart from the other deadlines, since they come two hundred times a second.
    flushes: Timers,
    /// Peers whose pacer has got something since the last flush.
    dirty: Vec<usize>,
    speakers_due: Option<Instant>,
    data_tracks: DataTracks,
    data_packets: DataPackets,
    restraint: Restraint,
    egress: Egress,
    events: VecDeque<Event>,
    stats: Stats,
    changes: Vec<Change>,
    lost: Vec<u16>,
}

impl Sfu {
    /// A core without rooms.
    ///
    /// # Errors
    /// [`SfuError`] when no certificate can be made.
    pub fn new(config: SfuConfig) -> Result<Sfu, SfuError> {
        let certificate = Certificate::generate()?;
        Ok(Sfu {
            announced: config.announced,
            announced_tcp: config.announced_tcp,
            fingerprint: certificate.fingerprint_sha256(),
            wall: config.wall,
            ice: IceConfig { core: config.number, ..IceConfig::new(IceSecret::from_bytes(config.secret)) },
            dtls: DtlsConfig::new(&certificate)?,
            rng: fastrand::Rng::with_seed(config.seed),
            rooms: HashMap::new(),
            peers: Vec::new(),
            tracks: Vec::new(),
            peer_ids: HashMap::new(),
            track_ids: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_path: HashMap::new(),
            claims: HashMap::new(),
            timers: Timers::default(),
            flushes: Timers::default(),
            dirty: Vec::new(),
            speakers_due: None,
            data_tracks: DataTracks::default(),
            data_packets: DataPackets::default(),
            restraint: Restraint::NONE,
            egress: Egress::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
            changes: Vec::new(),
            lost: Vec::new(),
        })
    }

    /// Says that a datagram which came over `path` is taken soon, with others: what it needs is looked at now.
    pub fn expect_datagram(&self, path: Path) {
        let peer = self.by_path.get(&path).and_then(|index| self.peers[*index].as_ref());
        if let Some(peer) = peer.filter(|peer| peer.downlink.sent_media) {
            peer.connection.ahead_of_rtcp();
            peer.downlink.controller.ahead_of_report();
        }
    }

    /// Takes one datagram, untrusted; it is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &mut [u8]) {
        match classify(bytes) {
            Some(PacketClass::Stun) => self.handle_stun(now, path, bytes),
            Some(PacketClass::Dtls) => match self.by_path.get(&path) {
                Some(&index) => {
                    self.handle_dtls(now, index, path, bytes);
                    self.bound_collected_data(now);
                }
                None => self.stats.drop(DropReason::UnknownSource),
            },
            Some(PacketClass::Rtp) => match self.by_path.get(&path) {
                Some(&index) => self.handle_rtp(now, index, path, bytes),
                None => self.stats.drop(DropReason::UnknownSource),
            },
            Some(PacketClass::Rtcp) => match self.by_path.get(&path) {
                Some(&index) => self.handle_rtcp(now, index, path, bytes),
                None => self.stats.drop(DropReason::UnknownSource),
            },
            None => self.stats.drop(DropReason::UnknownSource),
        }
    }

    /// Whether somebody has signed a request on this path, so that what comes over it is for one of our peers.
    pub fn knows(&self, path: Path) -> bool {
        self.by_path.contains_key(&path)
    }

    /// Says whether what was sent over this path waits for the network, on our side of it. As long as it does no video
    /// goes there: it waits where it can still be dropped without a gap, and sound goes before it.
    pub fn handle_backlog(&mut self, path: Path, waits: bool) {
        let Some(&index) = self.by_path.get(&path) else { return };
        if let Some(peer) = self.peers[index].as_mut().filter(|peer| peer.connection.path() == Some(path)) {
            peer.downlink.handle_backlog(waits);
            self.mark_dirty(index);
        }
    }

    fn handle_stun(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let request = stun::peek_local_ufrag(bytes);
        let index = match request {
            Some(ufrag) => self.by_ufrag.get(ufrag),
            None => self.claims.get(&path).or_else(|| self.by_path.get(&path)),
        };
        let Some(&index) = index else {
            self.stats.drop(DropReason::UnknownSource);
            return;
        };
        let Some(peer) = self.peers[index].as_mut() else { return };
        peer.connection.handle_stun(now, path, bytes, &mut self.egress, &mut self.stats);
        if peer.connection.ice.knows(path) {
            self.claims.insert(path, index);
            // A path in use is not taken from its owner by a signature: see `ConnectionEvent::Selected`.
            self.by_path.entry(path).or_insert(index);
        }
        self.drain_connection(now, index);
    }

    fn handle_dtls(&mut self, now: Instant, index: usize, path: Path, bytes: &[u8]) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        peer.connection.handle_dtls(now, path, bytes, &mut self.egress, &mut self.stats);
        self.drain_connection(now, index);
    }

    /// Carries out one command. A command for somebody who is not there is ignored.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddPeer(add) => self.add_peer(now, add),
            Command::RemovePeer { peer } => {
                if let Some(&index) = self.peer_ids.get(&peer) {
                    self.remove_peer(now, index);
                }
            }
            Command::Offer { peer, id, sdp, hints } => self.handle_offer(now, peer, id, &sdp, &hints),
            Command::Answer { peer, id, sdp } => self.handle_answer(now, peer, id, &sdp),
            // We are lite: the client finds us, and shows its addresses by signed requests.
            Command::RemoteCandidate { .. } => {}
            Command::RestartIce { peer } => self.restart_ice(now, peer),
            Command::BindTrack { peer, mid, track, layers, encrypted } => {
                self.bind_track(now, peer, mid, track, &layers, encrypted);
            }
            Command::RemoveTrack { track } => {
                if let Some(&index) = self.track_ids.get(&track) {
                    self.remove_track(now, index);
                }
            }
            Command::MuteTrack { track, muted } => self.mute_track(now, track, muted),
            Command::Subscribe { peer, track, stream_id, label, demand } => {
                self.subscribe(now, peer, track, stream_id, label, demand);
            }
            Command::OpenFeed { peer, feed, kind, stream_id, label } => {
                self.open_feed(now, peer, feed, kind, (stream_id, label));
            }
            Command::Feed { peer, feed, track, demand } => self.feed(now, peer, feed, track, demand),
            Command::Unsubscribe { peer, track } => self.unsubscribe(now, peer, track),
            Command::ReplaceTrack { peer, subscription, track } => {
                self.replace_track(now, peer, subscription, track);
            }
            Command::Adjust { peer, track, demand } => self.adjust(now, peer, track, demand),
            Command::Limit { peer, policy } => self.limit(now, peer, policy),
            Command::Explain { peer, question, history } => self.explain(now, peer, question, history),
            Command::SendData { to, label, binary, payload } => {
                for peer in to.iter() {
                    self.send_data(now, *peer, &label, binary, &payload);
                }
            }
            Command::BindDataTrack { peer, handle, track } => self.bind_data_track(peer, handle, track),
            Command::RemoveDataTrack { track } => self.data_tracks.remove(track),
            Command::SubscribeDataTrack { peer, track, handle, fps } => {
                self.subscribe_data_track(peer, track, handle, fps);
            }
            Command::UnsubscribeDataTrack { peer, track } => self.unsubscribe_data_track(peer, track),
        }
    }

    /// Lets time pass: everything due at `now` is done.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(index) = self.timers.pop_due(now) {
            self.handle_peer_timeout(now, index);
        }
        while let Some(index) = self.flushes.pop_due(now) {
            self.mark_dirty(index);
        }
        if self.speakers_due.is_some_and(|due| due <= now) {
            self.tell_speakers(now);
        }
        self.flush(now);
    }

    /// Sends what may leave now of what came since the last flush. Call it once after each batch of datagrams.
    pub fn flush(&mut self, now: Instant) {
        self.forward_data(now);
        // A pacer that could not keep up has its peer's choices made anew, and more may leave after that.
        for _ in 0..2 {
            let mut dirty = std::mem::take(&mut self.dirty);
            for group in dirty.chunks(ahead::GROUP) {
                for peer in group.iter().filter_map(|index| self.peers[*index].as_ref()) {
                    peer.downlink.ahead_of_flush(&peer.connection);
                }
                for index in group {
                    self.flush_peer(now, *index);
                }
            }
            dirty.clear();
            dirty.append(&mut self.dirty);
            self.dirty = dirty;
        }
    }

    /// How much video is held back from now on, since time is short. Less of it leaves at once, more within some seconds.
    pub fn restrain(&mut self, now: Instant, restraint: Restraint) {
        let falls = restraint > std::mem::replace(&mut self.restraint, restraint);
        for index in 0..self.peers.len() {
            let Some(peer) = self.peers[index].as_mut() else { continue };
            peer.downlink.controller.restrain(restraint.share(index));
            if falls && peer.downlink.has_video() {
                self.allocate(now, index);
            }
        }
    }

    /// When to call [`Sfu::handle_timeout`]; `None` without peers.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.flushes.next(), self.speakers_due].into_iter().flatten().min()
    }

    /// What happened; `None` when there is nothing left.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is to be sent.
    pub fn egress_ref(&self) -> &Egress {
        &self.egress
    }

    /// The same, to be cleared when it was sent.
    pub fn egress(&mut self) -> &mut Egress {
        &mut self.egress
    }

    /// The ticks at which video leaves: when it is worth while to come back, if there are many datagrams.
    pub fn ticks(&self) -> Ticks {
        Ticks::since(self.wall.instant)
    }

    /// What was counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Connects a peer without encryption over a given path, for simulations.
    #[cfg(feature = "null-cipher")]
    pub fn connect_plain(&mut self, now: Instant, peer: PeerId, path: Path) {
        if let Some(&index) = self.peer_ids.get(&peer)
            && let Some(peer) = self.peers[index].as_mut()
        {
            peer.connection.connect_plain(path);
            self.drain_connection(now, index);
        }
    }

    /// What a subscriber's congestion control thinks, for simulations.
    #[cfg(feature = "null-cipher")]
    pub fn congestion(&self, peer: PeerId) -> Option<Snapshot> {
        Some(self.peers[*self.peer_ids.get(&peer)?].as_ref()?.downlink.controller.snapshot())
    }

    /// Elements in all queues and maps, for simulations: a long call must not have more of them than a short one. Rings
    /// are left out: they grow to the bound that their `Extent` is.
    #[cfg(feature = "null-cipher")]
    pub fn held(&self) -> usize {
        let held = |peer: &Peer| peer.downlink.held() + peer.data_backlog.held();
        let downlinks = self.peers.iter().flatten().map(|peer| held(peer)).sum::<usize>();
        let own = self.events.len() + self.changes.len() + self.lost.len() + self.dirty.len();
        let names = self.by_path.len() + self.claims.len() + self.by_ufrag.len();
        downlinks + own + names + self.data_tracks.held() + self.data_packets.len()
    }

    /// The layer of a track that is meant for a subscriber, and the one that goes to it, for simulations.
    #[cfg(feature = "null-cipher")]
    pub fn layers(&self, peer: PeerId, track: TrackId) -> (Option<LayerId>, Option<LayerId>) {
        let peer = self.peer_ids.get(&peer).and_then(|index| self.peers[*index].as_ref());
        let subscription = peer.and_then(|peer| peer.downlink.iter().find(|s| s.track_id == track));
        subscription.map_or((None, None), |s| (s.selector.target(), s.layer()))
    }

    fn handle_peer_timeout(&mut self, now: Instant, index: usize) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        if peer.connection.next_timeout().is_some_and(|at| at <= now) {
            peer.connection.handle_timeout(now, &mut self.egress);
            self.drain_connection(now, index);
        }
        let Some(peer) = self.peers[index].as_mut() else { return };
        peer.pending_data.handle_timeout(now);
        if peer.agreement.begin(now) {
            self.begin_round(now, index);
        }
        self.service_media(now, index);
        self.reschedule(now, index);
    }

    /// Sets the peer's deadline anew.
    fn reschedule(&mut self, now: Instant, index: usize) {
        let at = self.peers[index].as_ref().and_then(|peer| peer.next_timeout(&self.tracks));
        self.timers.set(index, at.map(|at| at.max(now + REST)));
    }

    fn mark_dirty(&mut self, index: usize) {
        if let Some(peer) = self.peers[index].as_mut()
            && !std::mem::replace(&mut peer.downlink.queued, true)
        {
            self.dirty.push(index);
        }
    }

    fn drain_connection(&mut self, now: Instant, index: usize) {
        self.drain_data_backlog(now, index);
        while let Some(peer) = self.peers[index].as_mut() {
            let Some(event) = peer.connection.poll_event() else { break };
            let id = peer.id;
            match event {
                ConnectionEvent::Up => {
                    self.events.push_back(Event::Connected { peer: id });
                    self.allocate(now, index);
                }
                ConnectionEvent::Back => {
                    // What came meanwhile is out of date, and was not numbered: video begins again with a keyframe.
                    peer.downlink.clear_all();
                    self.events.push_back(Event::Connected { peer: id });
                    self.allocate(now, index);
                }
                ConnectionEvent::Returning => self.prepare_pictures(now, index),
                ConnectionEvent::Selected(path) => {
                    peer.downlink.handle_path_change(now);
                    peer.downlink.handle_backlog(false);
                    self.by_path.insert(path, index);
                    self.allocate(now, index);
                    self.refresh_pictures(now, index);
                }
                ConnectionEvent::Lost(silence) => {
                    self.stats.count_end(PeerEnd::ConsentExpired);
                    self.events.push_back(Event::Lost { peer: id, silence });
                }
                ConnectionEvent::UfragRetired(ufrag) => {
                    self.by_ufrag.remove(&ufrag);
                }
                ConnectionEvent::PathForgotten(path) => {
                    for owners in [&mut self.by_path, &mut self.claims] {
                        if owners.get(&path) == Some(&index) {
                            owners.remove(&path);
                        }
                    }
                }
                ConnectionEvent::Channel(event) => self.handle_channel(now, index, event),
                ConnectionEvent::Ended(reason) => {
                    self.end_peer(now, index, reason);
                    return;
                }
            }
        }
        self.reschedule(now, index);
    }

    fn handle_channel(&mut self, now: Instant, index: usize, event: ChannelEvent) {
        let Some(peer) = self.peers[index].as_mut() else { return };
        match event {
            ChannelEvent::Opened { label, .. } => {
                for (binary, payload) in peer.pending_data.take(&label) {
                    if let Some(data) = &mut peer.connection.data {
                        // Whatever does not fit was best effort.
                        let _ = data.send(&label, binary, &payload);
                    }
                }
                peer.connection.pump(now, &mut self.egress);
                self.drain_data_backlog(now, index);
            }
            ChannelEvent::Message { label, binary, payload, .. } if label == data_track::CHANNEL => {
                self.data_track_arrived(index, binary, payload);
            }
            ChannelEvent::Message { label, binary, payload, .. } => {
                self.events.push_back(Event::Data { peer: peer.id, label, binary, payload });
            }
            // Media goes on without data; a client that needs it makes a new connection.
            ChannelEvent::Closed { .. } | ChannelEvent::AssociationLost => {}
        }
    }

    fn end_peer(&mut self, now: Instant, index: usize, reason: PeerEnd) {
        if let Some(peer) = &self.peers[index] {
            // That was counted when consent expired.
            if reason != PeerEnd::ConsentExpired {
                self.stats.count_end(reason);
            }
            self.events.push_back(Event::Ended { peer: peer.id, reason });
            self.remove_peer(now, index);
        }
    }

    fn tell_speakers(&mut self, now: Instant) {
        self.speakers_due = None;
        let mut unsettled: Vec<usize> = Vec::new();
        for (id, room) in &mut self.rooms {
            let mut levels = SpeakerLevels::new();
            let mut heard: SmallVec<[(usize, bool); 32]> = SmallVec::new();
            for index in &room.tracks {
                let Some(track) = self.tracks[*index].as_mut().filter(|t| t.kind == MediaKind::Audio) else {
                    continue;
                };
                self.speakers_due = Some(now + SPEAKER_WINDOW);
                let level = track.loudness.close_window();
                if level > 0.0 && !track.muted {
                    levels.push(SpeakerLevel { track: track.id, level });
                }
                heard.push((track.owner, level > 0.0 && !track.muted));
            }
            levels.sort_unstable_by(|a, b| b.level.total_cmp(&a.level));
            if !levels.is_empty() || room.spoke {
                room.spoke = !levels.is_empty();
                self.events.push_back(Event::Speakers { room: *id, levels });
            }
            // Of two microphones the one that is spoken into counts.
            heard.sort_unstable_by_key(|(owner, speaks)| (*owner, !speaks));
            heard.dedup_by_key(|(owner, _)| *owner);
            if room.speakers.update(now, SPEAKER_WINDOW, heard.iter().copied()) {
                unsettled.extend(&room.peers);
            }
        }
        for index in unsettled {
            // Of one video it does not matter whose it is.
            if self.peers[index].as_ref().is_some_and(|peer| peer.downlink.has_videos()) {
                self.allocate(now, index);
            }
        }
    }
}
