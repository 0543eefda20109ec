//! A whole run: who joins when, the loop that plays everybody on one thread, and the sums.
//!
//! The loop looks at its sockets each millisecond rather than being woken by each packet: on loopback a wake-up is
//! paid for by the sender. Delays do not suffer, since the kernel stamps arrivals.

use std::io;
use std::time::{Duration, Instant};

use livekit_protocol::signal_request::Message as ToServer;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc::UnboundedSender;

use crate::connection::Identity;
use crate::failure::JoinFailure;
use crate::histogram::Histogram;
use crate::net::{Inbox, Poller};
use crate::offer;
use crate::participant::{Clock, Milestones, Opening, Participant, Role, Status};
use crate::process::Usage;
use crate::receive::ledger::Counts;
use crate::receive::picture::Frames;
use crate::receive::{Delays, Kind, MAX_LAYERS};
use crate::report::{FrameCounts, Generator, Joins, Quantiles, Received, Second, Server, Sound, Summary};
use crate::settings::{Protocol, Settings};
use crate::signalling::{News, Signalling};
use crate::token::{self, Grant};
use crate::videoroom::Visit;

const TICK: Duration = Duration::from_millis(1);
/// How often pictures are looked after.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// What is on its way at the end may still arrive.
const DRAIN: Duration = Duration::from_millis(300);
/// Looks at the sockets before time must pass for everybody, whatever still waits there.
const MAX_ROUNDS: usize = 32;
/// For saying goodbye.
const PARTING: Duration = Duration::from_secs(1);
/// Beyond the run; nobody resumes.
const TOKEN_MARGIN: Duration = Duration::from_mins(10);

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This machine does not play along.
    #[error("cannot start: {0}")]
    Local(#[from] io::Error),
    /// No certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The process to be measured.
    #[error("cannot measure process {pid}: {source}; is --server-pid right?")]
    Server {
        /// Its number.
        pid: i32,
        /// Why.
        source: io::Error,
    },
    /// What stopped the first would stop everybody.
    #[error("{failure}\n  {}", failure.advice())]
    Nobody {
        /// The first one's.
        failure: JoinFailure,
    },
}

/// Plays everybody. `progress` is told of each second.
///
/// # Errors
/// [`RunError`]. A run in which joins fail one by one is no error: see [`Summary::has_media`].
pub fn run(settings: &Settings, mut progress: impl FnMut(&Second)) -> Result<Summary, RunError> {
    raise_open_file_limit();
    let mut run = Run::start(settings)?;
    let end = run.started + settings.duration;
    let silence = run.started + settings.duration.saturating_sub(DRAIN);
    let mut tick = run.started;
    let mut is_silent = false;
    while tick < end {
        let clock = Clock::read();
        run.late_max = run.late_max.max(clock.now.saturating_duration_since(tick));
        if silence <= clock.now && !is_silent {
            is_silent = true;
            run.freeze(clock.now)?;
        }
        run.step(clock)?;
        if run.people.iter().all(|who| matches!(who.status, Status::Failed(_)))
            && let Some(Status::Failed(failure)) = run.people.first().map(|who| &who.status)
            && failure.is_for_all()
        {
            return Err(RunError::Nobody { failure: failure.clone() });
        }
        if run.second_due <= clock.now {
            progress(&run.second(clock.now));
        }
        tick = (tick + TICK).max(Instant::now().checked_sub(TICK).unwrap_or(tick));
        std::thread::sleep(tick.saturating_duration_since(Instant::now()));
    }
    run.finish()
}

/// Two for each participant are needed; what more there may be is asked for.
fn raise_open_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Then it is as it was; sockets that are missing are told of.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

struct Run<'a> {
    settings: &'a Settings,
    identity: Identity,
    signalling: Signalling,
    poller: Poller,
    inbox: Inbox,
    ready: Vec<usize>,
    people: Vec<Participant>,
    delays: Delays,
    started: Instant,
    join_due: Instant,
    look_after_due: Instant,
    second_due: Instant,
    late_max: Duration,
    /// As of the last second told.
    told: Snapshot,
    server_before: Usage,
    /// Since when nobody is on the way.
    complete: Option<Instant>,
    /// When things became steady.
    steady: Option<Snapshot>,
    /// When the senders stopped.
    frozen: Option<Snapshot>,
}

/// Sums at some time.
#[derive(Clone, Copy)]
struct Snapshot {
    at: Instant,
    counts: Counts,
    sound: Counts,
    layers: [u64; MAX_LAYERS],
    frames: Frames,
    own: Usage,
    server: Usage,
}

impl<'a> Run<'a> {
    fn start(settings: &'a Settings) -> Result<Run<'a>, RunError> {
        let server_before = server_usage(settings)?;
        let now = Instant::now();
        let told = Snapshot {
            at: now,
            counts: Counts::default(),
            sound: Counts::default(),
            layers: [0; MAX_LAYERS],
            frames: Frames::default(),
            own: Usage::own(),
            server: server_before,
        };
        Ok(Run {
            settings,
            identity: Identity::generate()?,
            signalling: Signalling::start()?,
            poller: Poller::new()?,
            inbox: Inbox::new(),
            ready: Vec::new(),
            people: Vec::new(),
            delays: Delays::default(),
            started: now,
            join_due: now,
            look_after_due: now,
            second_due: now + Duration::from_secs(1),
            late_max: Duration::ZERO,
            told,
            server_before,
            complete: None,
            steady: None,
            frozen: None,
        })
    }

    fn step(&mut self, clock: Clock) -> Result<(), RunError> {
        self.admit(clock.now);
        while let Some((who, news)) = self.signalling.poll() {
            self.people[who].news(clock, news, self.settings, &self.poller);
        }
        for _ in 0..MAX_ROUNDS {
            self.poller.ready(&mut self.ready)?;
            if self.ready.is_empty() {
                break;
            }
            let clock = Clock::read();
            for index in &self.ready {
                self.people[*index].read(clock, &mut self.inbox, &mut self.delays)?;
            }
        }
        let clock = Clock::read();
        for who in &mut self.people {
            if who.next_timeout() <= clock.now {
                who.handle_timeout(clock);
            }
        }
        if self.look_after_due <= clock.now {
            self.look_after_due = clock.now + LOOK_AFTER;
            for who in &mut self.people {
                who.look_after(clock.now);
            }
            self.become_steady(clock.now)?;
        }
        Ok(())
    }

    fn total(&self) -> usize {
        usize::from(self.settings.publishers) + usize::from(self.settings.subscribers)
    }

    /// Lets in who is due. Those who only watch come when there is somebody to watch.
    fn admit(&mut self, now: Instant) {
        let publishers = usize::from(self.settings.publishers);
        while self.people.len() < self.total() && self.join_due <= now && self.frozen.is_none() {
            let index = self.people.len();
            if index == publishers && !self.people.iter().all(Participant::is_settled) {
                self.join_due = now;
                return;
            }
            let publishes = index < publishers;
            let role = Role {
                publisher: publishes.then_some(index as u16),
                watches: !publishes || self.settings.meeting,
            };
            let (mut who, opening) = Participant::new(now, index, role, self.settings, &self.identity);
            who.opened(match self.settings.protocol {
                Protocol::Livekit => self.join_livekit(index, role, opening),
                Protocol::Videoroom => {
                    let visit = Visit::new(index as u64, self.settings.publishers, opening.offer);
                    self.signalling.visit(index, self.settings.url.clone(), visit)
                }
            });
            self.people.push(who);
            self.join_due += Duration::from_secs_f64(1.0 / self.settings.joins_per_second);
        }
    }

    fn join_livekit(&self, index: usize, role: Role, opening: Opening) -> UnboundedSender<ToServer> {
        let identity = format!("load-{:x}-{index}", self.settings.seed & 0xFFFF);
        let grant = Grant {
            room: &self.settings.room,
            identity: &identity,
            publish: role.publisher.is_some(),
            subscribe: role.watches,
        };
        let ttl = self.settings.duration + TOKEN_MARGIN;
        let token = token::mint(&self.settings.api_key, &self.settings.api_secret, &grant, ttl);
        let first = opening.offer.expect("everybody has sections to send or to receive in");
        let path = offer::join_path(first, opening.tracks, role.watches);
        self.signalling.open(index, format!("{}{path}", self.settings.url), &token)
    }

    /// Starts to measure when nobody is on the way any more.
    fn become_steady(&mut self, now: Instant) -> Result<(), RunError> {
        let is_open = |who: &Participant| who.status == Status::Joining;
        if self.steady.is_some() || self.people.len() < self.total() || self.people.iter().any(is_open) {
            return Ok(());
        }
        let complete = *self.complete.get_or_insert(now);
        if complete + self.settings.warm_up <= now {
            self.steady = Some(self.snapshot(now)?);
            (self.delays.audio, self.delays.video) = Default::default();
            self.late_max = Duration::ZERO;
        }
        Ok(())
    }

    /// The senders stop; rates are measured up to here.
    fn freeze(&mut self, now: Instant) -> Result<(), RunError> {
        self.frozen = Some(self.snapshot(now)?);
        for who in &mut self.people {
            who.stop_sending();
        }
        Ok(())
    }

    fn snapshot(&self, at: Instant) -> Result<Snapshot, RunError> {
        let (mut counts, mut sound, mut frames) = (Counts::default(), Counts::default(), Frames::default());
        let mut layers = [0; MAX_LAYERS];
        for stream in self.people.iter().flat_map(|who| &who.streams) {
            counts.add(&stream.counts());
            match stream.kind {
                Kind::Audio => sound.add(&stream.counts()),
                Kind::Video => layers.iter_mut().zip(stream.layers).for_each(|(sum, layer)| *sum += layer),
            }
            frames.add(&stream.picture.frames());
        }
        Ok(Snapshot {
            at,
            counts,
            sound,
            layers,
            frames,
            own: Usage::own(),
            server: server_usage(self.settings)?,
        })
    }

    fn second(&mut self, now: Instant) -> Second {
        self.second_due = now + Duration::from_secs(1);
        // A server that has ended shows as one that does nothing.
        let snapshot = self.snapshot(now).unwrap_or(Snapshot { at: now, ..self.told });
        let before = std::mem::replace(&mut self.told, snapshot);
        let seconds = (snapshot.at - before.at).as_secs_f64().max(0.001);
        let share = |usage: Usage, before: Usage| usage.since(before).total.as_secs_f64() / seconds;
        let counts = snapshot.counts;
        let ms = |micros: u64| micros as f64 / 1000.0;
        let recent = std::mem::take(&mut self.delays.recent);
        let recent_audio = std::mem::take(&mut self.delays.recent_audio);
        let delays = |recent: &Histogram| {
            recent.quantile(0.5).zip(recent.quantile(0.99)).map(|(p50, p99)| (ms(p50), ms(p99)))
        };
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        let bad = |frames: &Frames| frames.undecodable + frames.incomplete;
        let is_in = |who: &&Participant| matches!(who.status, Status::Joined(_)) && who.lost.is_none();
        Second {
            at: now - self.started,
            joined: self.people.iter().filter(is_in).count(),
            failed: self.people.iter().filter(|who| matches!(who.status, Status::Failed(_))).count(),
            packets: rate(counts.received, before.counts.received),
            lost: counts.lost().saturating_sub(before.counts.lost()),
            reordered: counts.reordered - before.counts.reordered,
            sound: Sound {
                packets: rate(snapshot.sound.received, before.sound.received),
                lost: snapshot.sound.lost().saturating_sub(before.sound.lost()),
                delay_ms: delays(&recent_audio),
            },
            layers: std::array::from_fn(|layer| rate(snapshot.layers[layer], before.layers[layer])),
            frames: snapshot.frames.shown - before.frames.shown,
            bad_frames: bad(&snapshot.frames) - bad(&before.frames),
            delay_ms: delays(&recent),
            own_cpu: share(snapshot.own, before.own),
            server_cpu: self.settings.server_pid.map(|_| share(snapshot.server, before.server)),
        }
    }

    fn finish(mut self) -> Result<Summary, RunError> {
        let now = Instant::now();
        let last = self.snapshot(now)?;
        let frozen = self.frozen.unwrap_or(last);
        let mut summary = self.sums(now, &last, &frozen);
        for who in &mut self.people {
            who.leave(now);
        }
        self.part();
        if let Some(server) = &mut summary.server {
            server.resident_after = server_usage(self.settings)?.resident;
        }
        Ok(summary)
    }

    /// Until everybody's WebSocket has closed.
    fn part(&mut self) {
        let by = Instant::now() + PARTING;
        let mut open = self.people.len();
        while open > 0 && Instant::now() < by {
            match self.signalling.poll() {
                Some((_, News::Failed(_))) => open -= 1,
                Some((_, News::Message(_))) => {}
                None => std::thread::sleep(TICK),
            }
        }
    }

    fn sums(&self, now: Instant, last: &Snapshot, frozen: &Snapshot) -> Summary {
        let streams = || self.people.iter().flat_map(|who| &who.streams);
        let packets_of = |kind: Kind| -> u64 {
            streams().filter(|stream| stream.kind == kind).map(|stream| stream.counts().received).sum()
        };
        let steady = self.steady.filter(|steady| steady.at < frozen.at);
        let seconds = steady.map_or(0.0, |steady| (frozen.at - steady.at).as_secs_f64());
        let within = |sum: fn(&Snapshot) -> u64| steady.map_or(0, |steady| sum(frozen) - sum(&steady)) as f64;
        let steady_packets = within(|snapshot| snapshot.counts.received);
        let counts = last.counts;
        let layers = last.layers;
        let video: u64 = layers.iter().sum();
        let used = self.settings.video.layers().len();
        let own = steady.map(|steady| frozen.own.since(steady.own));
        let server =
            self.settings.server_pid.zip(steady).filter(|_| steady_packets > 0.0).map(|(_, steady)| {
                let used = frozen.server.since(steady.server);
                let per_packet = used.total.as_secs_f64() * 1e6 / steady_packets;
                let (before, full) = (self.server_before.resident, frozen.server.resident);
                Server {
                    cpu_share: used.total.as_secs_f64() / seconds,
                    cpu_us_per_packet: per_packet,
                    user_us_per_packet: per_packet * used.user_share(),
                    kernel_us_per_packet: per_packet * (1.0 - used.user_share()),
                    resident_before: before,
                    resident_full: full,
                    resident_after: 0,
                    resident_per_participant: full.saturating_sub(before) / self.people.len().max(1) as u64,
                }
            });
        let frames = last.frames;
        Summary {
            publishers: self.settings.publishers,
            subscribers: self.settings.subscribers,
            srtp_profiles: self.identity.agreed.names(),
            seconds: (now - self.started).as_secs_f64(),
            steady_seconds: seconds,
            publisher_joins: self.joins(true),
            subscriber_joins: self.joins(false),
            sent: self.people.iter().map(Participant::sent).sum(),
            received: Received {
                packets: counts.received,
                audio_packets: packets_of(Kind::Audio),
                video_packets: packets_of(Kind::Video),
                packets_per_second: if seconds > 0.0 { steady_packets / seconds } else { 0.0 },
                lost: counts.lost(),
                audio_lost: last.sound.lost(),
                loss: counts.lost() as f64 / counts.expected.max(1) as f64,
                repaired: counts.repaired,
                missing: counts.missing(),
                reordered: counts.reordered,
                duplicates: counts.duplicates,
                early: self.people.iter().map(|who| who.early).sum(),
                dropped_here: self.people.iter().map(|who| u64::from(who.dropped())).sum(),
            },
            audio_delay: Quantiles::of(&self.delays.audio),
            video_delay: Quantiles::of(&self.delays.video),
            frames: FrameCounts {
                shown: frames.shown,
                keyframes: frames.keyframes,
                undecodable: frames.undecodable,
                incomplete: frames.incomplete,
                cut_off: frames.cut_off,
                skipped_numbers: frames.skipped_numbers,
            },
            layers: layers[..used].iter().map(|count| *count as f64 / video.max(1) as f64).collect(),
            generator: Generator {
                cpu_s: last.own.since(Usage::default()).total.as_secs_f64(),
                cpu_share: own.map_or(0.0, |own| own.total.as_secs_f64() / seconds),
                late_max_ms: self.late_max.as_secs_f64() * 1000.0,
            },
            server,
        }
    }

    fn joins(&self, publishers: bool) -> Joins {
        let mut joins = Joins::default();
        let mut times = Histogram::default();
        let mut milestones = [(); 3].map(|()| Histogram::default());
        for who in self.people.iter().filter(|who| who.role().publisher.is_some() == publishers) {
            joins.attempted += 1;
            let failure = match &who.status {
                Status::Failed(failure) => Some(failure),
                Status::Joining | Status::Joined(_) => who.lost.as_ref(),
            };
            if let (None, Some(failure)) = (&joins.example, failure) {
                joins.example = Some(format!("{failure}; {}", failure.advice()));
            }
            match &who.status {
                Status::Joined(after) => {
                    joins.joined += 1;
                    times.record(after.as_micros() as u64);
                }
                // The run was over before they could.
                Status::Joining => *joins.failed.entry("run_too_short").or_default() += 1,
                Status::Failed(failure) => *joins.failed.entry(failure.label()).or_default() += 1,
            }
            let Milestones { connected, first_sound, first_picture } = who.milestones;
            let waited_for =
                [connected, first_sound, first_picture].into_iter().take(if publishers { 1 } else { 3 });
            for (histogram, after) in milestones.iter_mut().zip(waited_for) {
                if let Some(after) = after {
                    histogram.record(after.as_micros() as u64);
                }
            }
            if let Some(lost) = &who.lost {
                *joins.lost_later.entry(lost.label()).or_default() += 1;
            }
        }
        joins.time = Quantiles::of(&times);
        [joins.connected, joins.first_sound, joins.first_picture] = milestones.each_ref().map(Quantiles::of);
        joins
    }
}

/// Zero if none is watched.
fn server_usage(settings: &Settings) -> Result<Usage, RunError> {
    let Some(pid) = settings.server_pid else { return Ok(Usage::default()) };
    Usage::of(pid).map_err(|source| RunError::Server { pid, source })
}
