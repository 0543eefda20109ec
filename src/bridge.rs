//! Where the server meets the two packages that do the work: `signaling` and `sfu`.
//!
//! Nothing else names their constructors: settings become theirs here, and their notices become metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use livekit_protocol::RoomConfiguration;
use sfu::congestion::restraint::Restraint;
use sfu::ticks::Ticks;
use sfu::{Sfu, SfuConfig};
use signaling::agents::{Pool, PoolLimits};
use signaling::livekit::{self, Clock, Notice, RoomLimits};

use crate::config::Settings;
use crate::media::kernel::Outgoing;
use crate::media::worker::MediaCore;
use crate::metrics::Metrics;

/// What a media core needs to begin with.
#[derive(Clone, Debug)]
pub struct CoreSeed {
    /// Addresses told to clients as host candidates on UDP.
    pub announced: Vec<SocketAddr>,
    /// The same on TCP.
    pub announced_tcp: Vec<SocketAddr>,
    /// The worker's, among its process's.
    pub number: u16,
    /// Ties the worker's clock to wall-clock time.
    pub wall: sfu::units::WallClock,
    /// For its random numbers; from the system's generator.
    pub seed: u64,
}

/// What all rooms have in common, from the server's settings.
pub fn room_settings(settings: &Settings) -> Arc<livekit::Settings> {
    let rooms = settings.rooms;
    Arc::new(livekit::Settings {
        keys: settings.keys.clone(),
        ice_servers: settings.ice_servers.clone(),
        node_id: format!("ND_{:012x}", random() & 0xffff_ffff_ffff),
        region: String::new(),
        limits: RoomLimits {
            participants: rooms.max_participants.map_or(usize::MAX, |limit| limit as usize),
            tracks_per_participant: rooms.share.tracks,
            data_tracks_per_participant: usize::from(rooms.share.data_tracks),
            subscriptions_per_participant: rooms.share.subscriptions,
            preferences_per_participant: rooms.share.wishes,
            permission_entries: rooms.share.permission_entries,
            name_bytes: rooms.share.name,
            metadata_bytes: rooms.share.metadata,
            attributes_bytes: rooms.share.attributes,
            data_rate: rooms.share.data_rate,
            empty_timeout: rooms.empty_timeout,
            departure_timeout: rooms.departure_timeout,
            resume_timeout: rooms.resume_timeout,
            outage_timeout: rooms.outage_timeout,
            dispatches: settings.agents.dispatches_per_room,
        },
        simulate: settings.dev,
        remote_unmute: rooms.remote_unmute,
        webhooks: settings.webhooks.is_some(),
    })
}

/// A new room.
pub fn room(
    settings: &Arc<livekit::Settings>,
    name: &str,
    config: Option<&RoomConfiguration>,
) -> livekit::Room {
    let rng = fastrand::Rng::with_seed(random());
    livekit::Room::new(clock(), Arc::clone(settings), name.to_owned(), config, rng)
}

/// The pool of agents' workers.
pub fn agent_pool(settings: &Settings, rooms: &Arc<livekit::Settings>) -> Pool {
    let limits = PoolLimits { workers: settings.agents.workers, waiting: settings.agents.waiting_jobs };
    Pool::new(Arc::clone(rooms), limits, fastrand::Rng::with_seed(random()))
}

/// Counts and logs what a room has noticed.
pub fn notice(metrics: &Metrics, room: &str, notice: Notice) {
    match notice {
        Notice::FirstMedia { after } => metrics.join_duration.observe(after.as_secs_f64()),
        Notice::ParticipantJoined => tracing::info!(room, "participant joined"),
        Notice::ParticipantActive { after } => tracing::info!(room, ?after, "participant active"),
        Notice::ParticipantLeft { reason, after } => {
            tracing::info!(room, ?reason, ?after, "participant left");
        }
        Notice::TrackPublished { kind } => tracing::debug!(room, ?kind, "track published"),
        Notice::TrackUnpublished { kind } => tracing::debug!(room, ?kind, "track unpublished"),
        Notice::Subscribed { .. } | Notice::Unsubscribed { .. } => {}
        Notice::Resumed { after } => {
            tracing::info!(room, ?after, "participant resumed");
            metrics.resumed.inc();
        }
        Notice::ResumeRefused => {
            tracing::info!(room, "resume refused");
            metrics.resumes_refused.inc();
        }
        Notice::BadFrame => tracing::warn!(room, "signal frame cannot be read"),
        Notice::DescriptionRefused => tracing::warn!(room, "session description refused"),
        Notice::DataRefused(why) => {
            tracing::debug!(room, ?why, "data message not forwarded");
            metrics.data_refused(why.name());
        }
        Notice::LimitHit(limit) => {
            tracing::info!(room, limit = limit.name(), "refused: a participant has reached a limit");
            metrics.limit_hit(limit.name());
        }
    }
}

/// Both clocks, now.
pub fn clock() -> Clock {
    Clock { now: Instant::now(), unix_ms: unix_ms() }
}

/// Milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A seed from the system's generator.
pub fn random() -> u64 {
    let bytes = ring::rand::generate::<[u8; 8]>(&ring::rand::SystemRandom::new());
    bytes.map_or_else(|_| fastrand::u64(..), |bytes| u64::from_ne_bytes(bytes.expose()))
}

/// The media core of one worker.
pub fn media_core(seed: CoreSeed, _now: Instant) -> Core {
    let config = SfuConfig {
        announced: seed.announced,
        announced_tcp: seed.announced_tcp,
        number: seed.number,
        wall: seed.wall,
        seed: seed.seed,
        secret: secret(),
    };
    Core(Sfu::new(config).expect("a key pair takes only the random generator, which has just worked"))
}

/// Random bytes that nobody may guess.
pub fn secret() -> [u8; 32] {
    let bytes = ring::rand::generate::<[u8; 32]>(&ring::rand::SystemRandom::new());
    bytes.expect("the system has a random generator").expose()
}

/// `sfu::Sfu` as a worker drives it.
pub struct Core(Sfu);

impl MediaCore for Core {
    fn expect_datagram(&self, path: sfu::command::Path) {
        self.0.expect_datagram(path);
    }
    fn handle_datagram(&mut self, now: Instant, path: sfu::command::Path, bytes: &mut [u8]) {
        self.0.handle_datagram(now, path, bytes);
    }
    fn handle_command(&mut self, now: Instant, command: sfu::command::Command) {
        self.0.handle_command(now, command);
    }
    fn settle(&mut self, now: Instant) {
        self.0.flush(now);
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }
    fn ticks(&self) -> Ticks {
        self.0.ticks()
    }
    fn next_timeout(&self) -> Option<Instant> {
        self.0.next_timeout()
    }
    fn poll_event(&mut self) -> Option<sfu::command::Event> {
        self.0.poll_event()
    }
    fn knows(&self, path: sfu::command::Path) -> bool {
        self.0.knows(path)
    }
    fn handle_backlog(&mut self, path: sfu::command::Path, waits: bool) {
        self.0.handle_backlog(path, waits);
    }
    fn restrain(&mut self, now: Instant, restraint: Restraint) {
        self.0.restrain(now, restraint);
    }
    fn egress(&self) -> impl Iterator<Item = Outgoing<'_>> {
        let egress = self.0.egress_ref();
        egress.runs().iter().map(|run| Outgoing {
            path: run.path,
            segment: run.segment,
            bytes: &egress.slab()[run.range.clone()],
        })
    }
    fn clear_egress(&mut self) {
        self.0.egress().clear();
    }
    fn stats(&self) -> &sfu::stats::Stats {
        self.0.stats()
    }
}
