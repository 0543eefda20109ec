//! One participant: what it says to the server, what it sends, and what it gets.

use std::io;
use std::time::{Duration, Instant};

use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as FromServer;
use livekit_protocol::{
    AddTrackRequest, LeaveRequest, ParticipantInfo, SubscribedQualityUpdate, TrackType, UpdateTrackSettings,
    VideoQuality,
};
use str0m::change::SdpPendingOffer;
use str0m::format::Codec;
use str0m::media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer};
use str0m::rtp::RtpPacket;
use str0m::{Event, RtcError};
use tokio::sync::mpsc::UnboundedSender;

use crate::connection::{Connection, Identity, SdpFailure};
use crate::failure::JoinFailure;
use crate::net::{Inbox, Poller};
use crate::offer;
use crate::receive::{Delays, Kind, Media, Stream};
use crate::sending::Sending;
use crate::settings::{Protocol, Quality, Settings};
use crate::signalling::News;
use crate::stamp::WallNanos;

/// Sections to receive in, of each kind, in the first offer: as many as the SDKs have.
const FIRST_SECTIONS: usize = 3;
/// Sections that a server may ask for at once; no room of ours is larger.
const MAX_SECTIONS: u32 = 1000;
/// Between two requests for a keyframe, while nothing can be shown.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// What a participant is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    /// Its number among those who publish.
    pub(crate) publisher: Option<u16>,
    pub(crate) watches: bool,
}

/// How far somebody has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Status {
    Joining,
    /// So long after the request; those who only publish when connected, others with the first of everything that
    /// they wait for.
    Joined(Duration),
    Failed(JoinFailure),
}

/// How long after its request somebody had come so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Milestones {
    /// ICE and DTLS are done.
    pub(crate) connected: Option<Duration>,
    pub(crate) first_sound: Option<Duration>,
    /// A whole keyframe.
    pub(crate) first_picture: Option<Duration>,
}

/// What is plain in a packet of media (RFC 3550 §5.1).
#[derive(Clone, Copy)]
struct Header {
    payload_type: u8,
    sequence: u16,
    ssrc: u32,
}

impl Header {
    /// `None` for anything but RTP: types from 64 to 95 are RTCP's (RFC 5761 §4).
    fn read(datagram: &[u8]) -> Option<Header> {
        let &[first, second, s0, s1, _, _, _, _, r0, r1, r2, r3] = datagram.first_chunk()?;
        let payload_type = second & 0x7F;
        (first >> 6 == 2 && !(64..96).contains(&payload_type)).then_some(Header {
            payload_type,
            sequence: u16::from_be_bytes([s0, s1]),
            ssrc: u32::from_be_bytes([r0, r1, r2, r3]),
        })
    }
}

/// The time now, in both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    pub(crate) wall: WallNanos,
}

impl Clock {
    pub(crate) fn read() -> Clock {
        Clock { now: Instant::now(), wall: WallNanos::now() }
    }

    fn instant(self, at: WallNanos) -> Instant {
        let ago = Duration::from_nanos(self.wall.0.saturating_sub(at.0));
        self.now.checked_sub(ago).unwrap_or(self.now)
    }
}

/// See the module's page.
pub(crate) struct Participant {
    index: usize,
    role: Role,
    pub(crate) status: Status,
    /// Ended after it had joined.
    pub(crate) lost: Option<JoinFailure>,
    pub(crate) streams: Vec<Stream>,
    /// Packets of streams that we did not know when they came.
    pub(crate) early: u64,
    requested: Instant,
    join_by: Instant,
    answered: bool,
    pub(crate) milestones: Milestones,
    /// Whether it waits for sound and for pictures.
    listens: bool,
    looks: bool,
    session: Option<UnboundedSender<ToServer>>,
    connection: Connection,
    offers: Offers,
    sending: Sending,
    camera_sid: String,
    keyframe_asked: Option<Instant>,
    events: Vec<Event>,
}

/// What somebody comes with.
pub(crate) struct Opening {
    /// Offer number 1; none if it has nothing to send and the server is the one to offer.
    pub(crate) offer: Option<String>,
    pub(crate) tracks: Vec<AddTrackRequest>,
}

/// One offer at a time.
struct Offers {
    last: u32,
    pending: Option<SdpPendingOffer>,
    /// Another is needed after the answer.
    wanted: bool,
    /// Sections still to be added, for sound and for video.
    wanted_sections: [usize; 2],
    /// Sections in which we receive.
    receiving: Vec<Mid>,
}

impl Participant {
    /// Makes the first offer.
    pub(crate) fn new(
        now: Instant,
        index: usize,
        role: Role,
        settings: &Settings,
        identity: &Identity,
    ) -> (Participant, Opening) {
        let mut connection = Connection::new(now, identity);
        let layers = settings.video.layers();
        let mut tracks = Vec::new();
        let mut sending = Sending::new(role.publisher.unwrap_or_default(), settings.seed + index as u64);
        let mut sdp = connection.sdp();
        if role.publisher.is_some() {
            let mut add = |kind, cid: &str, simulcast| {
                let cid = Some(cid.to_owned());
                sdp.add_media(kind, Direction::SendOnly, cid.clone(), cid, simulcast)
            };
            if settings.audio && role.publisher < Some(settings.speakers) {
                sending.microphone_in(add(MediaKind::Audio, offer::MICROPHONE, None));
                tracks.push(offer::microphone());
            }
            if settings.video.is_on() {
                let rids: Vec<_> = layers.iter().filter_map(|layer| layer.rid).collect();
                let simulcast = (!rids.is_empty()).then(|| Simulcast {
                    send: rids.iter().map(|rid| SimulcastLayer::new(rid)).collect(),
                    recv: Vec::new(),
                });
                sending.camera_in(add(MediaKind::Video, offer::CAMERA, simulcast), &layers);
                tracks.push(offer::camera(&layers));
            }
        }
        let mut receiving = Vec::new();
        if role.watches && settings.protocol == Protocol::Livekit {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let mut add = || sdp.add_media(kind, Direction::RecvOnly, None, None, None);
                receiving.extend(std::iter::repeat_with(&mut add).take(FIRST_SECTIONS));
            }
        }
        let (first, pending) = sdp.apply().unzip();
        let opening = Opening { offer: first.map(|offer| offer.to_sdp_string()), tracks };
        let offers = Offers { last: 1, pending, wanted: false, wanted_sections: [0; 2], receiving };
        let waits = role.publisher.is_none() && settings.publishers > 0;
        let participant = Participant {
            index,
            role,
            status: Status::Joining,
            lost: None,
            streams: Vec::new(),
            early: 0,
            requested: now,
            join_by: now + settings.join_timeout,
            answered: false,
            milestones: Milestones::default(),
            listens: settings.audio && waits,
            looks: settings.video.is_on() && waits,
            session: None,
            connection,
            offers,
            sending,
            camera_sid: String::new(),
            keyframe_asked: None,
            events: Vec::new(),
        };
        (participant, opening)
    }

    /// The request is on its way; messages go there.
    pub(crate) fn opened(&mut self, session: UnboundedSender<ToServer>) {
        self.session = Some(session);
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// Whether it publishes, or will not any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.milestones.connected.is_some() || matches!(self.status, Status::Failed(_))
    }

    /// Datagrams that the kernel dropped because we did not read them in time.
    pub(crate) fn dropped(&self) -> u32 {
        self.connection.dropped()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sending.sent()
    }

    /// Switches camera and microphone off.
    pub(crate) fn stop_sending(&mut self) {
        self.sending.stop();
    }

    pub(crate) fn news(&mut self, clock: Clock, news: News, settings: &Settings, poller: &Poller) {
        if self.is_over() {
            return;
        }
        match news {
            News::Failed(failure) => self.end(failure),
            News::Message(message) => match *message {
                FromServer::Join(join) => self.ask_for_quality(&join.other_participants, settings),
                FromServer::Update(update) => self.ask_for_quality(&update.participants, settings),
                FromServer::Answer(answer) => {
                    // An id of 0 is that of servers that do not echo it.
                    if answer.id != self.offers.last && answer.id != 0 {
                        return;
                    }
                    if let Some(pending) = self.offers.pending.take() {
                        let taken = self.connection.answer(pending, &answer.sdp);
                        if let Err(failure) = taken.and_then(|()| self.look_out(poller)) {
                            return self.end(failure.into());
                        }
                        self.answered = true;
                        self.pass_time(clock);
                        self.offer(clock);
                    }
                }
                FromServer::Offer(offer) => {
                    let taken = self.connection.offered(&offer.sdp).and_then(|answer| {
                        self.say(ToServer::Answer(offer::answered(answer, offer.id)));
                        self.look_out(poller)
                    });
                    if let Err(failure) = taken {
                        return self.end(failure.into());
                    }
                    self.answered = true;
                    self.pass_time(clock);
                }
                FromServer::Trickle(trickle) => {
                    let Some(candidate) = offer::trickled(&trickle) else { return };
                    let taken = self.connection.trickled(&candidate);
                    if let Err(failure) = taken.and_then(|()| self.look_out(poller)) {
                        return self.end(failure.into());
                    }
                    self.pass_time(clock);
                }
                FromServer::MediaSectionsRequirement(needed) => {
                    self.offers.wanted = true;
                    self.offers.wanted_sections[0] += needed.num_audios.min(MAX_SECTIONS) as usize;
                    self.offers.wanted_sections[1] += needed.num_videos.min(MAX_SECTIONS) as usize;
                    self.offer(clock);
                }
                FromServer::TrackPublished(published) if published.cid == offer::CAMERA => {
                    self.camera_sid = published.track.unwrap_or_default().sid;
                }
                FromServer::SubscribedQualityUpdate(update) => self.follow_demand(&update),
                FromServer::Leave(leave) => {
                    self.end(JoinFailure::SentAway(format!("{:?}, {:?}", leave.reason(), leave.action())));
                }
                _ => {}
            },
        }
    }

    /// Reads a run of datagrams from its socket.
    pub(crate) fn read(&mut self, clock: Clock, inbox: &mut Inbox, delays: &mut Delays) -> io::Result<()> {
        let Some(mut socket) = self.connection.lend_socket() else { return Ok(()) };
        let take = |from, at, bytes: &[u8]| self.datagram(clock, from, at, bytes, delays);
        let result = inbox.receive(&mut socket, take);
        self.connection.give_back(socket);
        result
    }

    fn datagram(
        &mut self,
        clock: Clock,
        from: std::net::SocketAddr,
        arrived: WallNanos,
        datagram: &[u8],
        delays: &mut Delays,
    ) {
        if self.is_over() {
            return;
        }
        let now = clock.instant(arrived);
        let header = Header::read(datagram);
        let kind = header.and_then(|header| self.sending.kind(header.payload_type));
        // Counted before it is decrypted, so that duplicates are seen.
        let known =
            header.and_then(|header| self.streams.iter().position(|stream| stream.ssrc == header.ssrc));
        let wire =
            header.zip(known).map(|(header, index)| (index, self.streams[index].on_wire(header.sequence)));
        if let Err(error) = self.connection.receive(now, from, datagram, &mut self.events) {
            return self.fail(&error);
        }
        let mut had_media = false;
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            match event {
                Event::RtpPacket(packet) => {
                    had_media = true;
                    self.packet(now, arrived, &packet, kind, delays);
                }
                other => self.event(now, &other),
            }
        }
        self.events = events;
        match wire {
            Some((index, (number, true))) if !had_media => self.streams[index].no_media(now, number),
            None if kind.is_some() && !had_media => self.early += 1,
            Some(_) | None => {}
        }
    }

    fn packet(
        &mut self,
        now: Instant,
        arrived: WallNanos,
        packet: &RtpPacket,
        kind: Option<Kind>,
        delays: &mut Delays,
    ) {
        let ssrc = *packet.header.ssrc;
        let mut known = self.streams.iter().position(|stream| stream.ssrc == ssrc);
        if let (None, Some(kind)) = (known, kind) {
            let mut stream = Stream::new(ssrc, kind);
            stream.on_wire(packet.header.sequence_number);
            known = Some(self.streams.len());
            self.streams.push(stream);
        }
        let Some(stream) = known.map(|index| &mut self.streams[index]) else { return };
        let media = Media {
            arrived,
            sequence: packet.header.sequence_number,
            marker: packet.header.marker,
            payload: &packet.payload,
            repair: kind.is_none(),
        };
        if !stream.media(now, &media, delays) {
            return;
        }
        let after = now.saturating_duration_since(self.requested);
        let milestone = match stream.kind {
            Kind::Audio => &mut self.milestones.first_sound,
            Kind::Video if stream.picture.frames().shown > 0 => &mut self.milestones.first_picture,
            Kind::Video => return,
        };
        milestone.get_or_insert(after);
        self.judge(now);
    }

    fn event(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Connected => {
                let after = now.saturating_duration_since(self.requested);
                self.milestones.connected.get_or_insert(after);
                self.sending.begin(now);
                self.judge(now);
            }
            Event::KeyframeRequest(request) => self.sending.keyframe(request.rid),
            Event::Closed => self.end(JoinFailure::Closed("its peer connection, by the server".to_owned())),
            _ => {}
        }
    }

    /// Whether it is there now. Publishers are when they can send: whom they would watch may come later.
    fn judge(&mut self, now: Instant) {
        let Milestones { connected, first_sound, first_picture } = self.milestones;
        let is_there = connected.is_some()
            && (first_sound.is_some() || !self.listens)
            && (first_picture.is_some() || !self.looks);
        if self.status == Status::Joining && is_there {
            self.status = Status::Joined(now.saturating_duration_since(self.requested));
        }
    }

    /// When to come back.
    pub(crate) fn next_timeout(&self) -> Instant {
        match self.sending.next_timeout() {
            Some(at) => at.min(self.connection.next_timeout()),
            None => self.connection.next_timeout(),
        }
    }

    /// Sends what is due and lets time pass.
    pub(crate) fn handle_timeout(&mut self, clock: Clock) {
        if self.is_over() {
            return;
        }
        let due = self.connection.next_timeout() <= clock.now;
        match self.sending.handle_timeout(clock.now, &mut self.connection, &mut self.events) {
            Ok(sent) if sent || due => self.pass_time(clock),
            Ok(_) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Once in a while: gives up gaps, asks for a keyframe when nothing can be shown, and does not wait for ever.
    pub(crate) fn look_after(&mut self, now: Instant) {
        if self.status == Status::Joining && self.join_by <= now {
            return self.end(match (self.answered, self.milestones.connected.is_some()) {
                (false, _) => JoinFailure::NoAnswer,
                (true, false) => JoinFailure::NoConnection,
                (true, true) => JoinFailure::NoMedia,
            });
        }
        let may_ask = self.keyframe_asked.is_none_or(|asked| asked + KEYFRAME_INTERVAL <= now);
        let mut failed = None;
        for stream in self.streams.iter_mut().filter(|stream| stream.kind == Kind::Video) {
            stream.picture.handle_timeout(now);
            if may_ask && stream.picture.wants_keyframe() {
                self.keyframe_asked = Some(now);
                failed = self.connection.ask_for_keyframe(stream.ssrc, &mut self.events).err();
            }
        }
        if let Some(error) = failed {
            self.fail(&error);
        }
    }

    fn pass_time(&mut self, clock: Clock) {
        if let Err(error) = self.connection.handle_timeout(clock.now, &mut self.events) {
            return self.fail(&error);
        }
        if !self.sending.knows_codecs() {
            let [audio, video] = [Codec::Opus, Codec::Vp8].map(|codec| self.connection.payload_types(codec));
            self.sending.set_codecs(audio, video);
        }
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            self.event(clock.now, &event);
        }
        self.events = events;
    }

    /// Offers, if there is need and no other offer is under way.
    fn offer(&mut self, clock: Clock) {
        if !self.offers.wanted || self.offers.pending.is_some() || self.is_over() {
            return;
        }
        self.offers.wanted = false;
        let [audios, videos] = std::mem::take(&mut self.offers.wanted_sections);
        let mut sdp = self.connection.sdp();
        // A section that the server had no use for was answered as inactive: it is offered again.
        // And where the server has only filled sections that it had agreed to before, nothing changes for str0m, which then
        // makes no offer: to and fro is a change.
        if let Some(mid) = self.offers.receiving.first() {
            sdp.set_direction(*mid, Direction::Inactive);
        }
        for mid in &self.offers.receiving {
            sdp.set_direction(*mid, Direction::RecvOnly);
        }
        for (kind, count) in [(MediaKind::Audio, audios), (MediaKind::Video, videos)] {
            let mut add = || sdp.add_media(kind, Direction::RecvOnly, None, None, None);
            self.offers.receiving.extend(std::iter::repeat_with(&mut add).take(count));
        }
        let Some((offer, pending)) = sdp.apply() else { return };
        self.offers.last += 1;
        self.offers.pending = Some(pending);
        let id = self.offers.last;
        self.say(ToServer::Offer(offer::described(offer.to_sdp_string(), id)));
        self.pass_time(clock);
    }

    /// Watches a socket that is new, and tells the server of it: one that has been told nothing may not look for us.
    fn look_out(&mut self, poller: &Poller) -> Result<(), SdpFailure> {
        let Some(socket) = self.connection.opened() else { return Ok(()) };
        poller.watch(socket, self.index).map_err(SdpFailure::Socket)?;
        if let Some(candidate) = self.connection.candidate() {
            self.say(ToServer::Trickle(offer::trickle(&candidate)));
        }
        Ok(())
    }

    fn ask_for_quality(&mut self, people: &[ParticipantInfo], settings: &Settings) {
        let Some(quality) = settings.quality.filter(|_| self.role.watches) else { return };
        let tracks = people.iter().flat_map(|who| &who.tracks);
        let videos = tracks.filter(|track| track.r#type == TrackType::Video as i32);
        let track_sids: Vec<_> = videos.map(|track| track.sid.clone()).collect();
        if !track_sids.is_empty() {
            let quality = match quality {
                Quality::Low => VideoQuality::Low,
                Quality::Medium => VideoQuality::Medium,
                Quality::High => VideoQuality::High,
            };
            let quality = quality as i32;
            self.say(ToServer::TrackSetting(UpdateTrackSettings {
                track_sids,
                quality,
                ..Default::default()
            }));
        }
    }

    /// Dynacast: an encoding that nobody asks for is not sent.
    fn follow_demand(&mut self, update: &SubscribedQualityUpdate) {
        if update.track_sid != self.camera_sid {
            return;
        }
        let vp8 = update.subscribed_codecs.iter().find(|codec| codec.codec.eq_ignore_ascii_case("vp8"));
        #[expect(deprecated, reason = "servers that do not name codecs have this")]
        let qualities = vp8.map_or(&update.subscribed_qualities, |codec| &codec.qualities);
        self.sending.set_demand(qualities.iter().map(|wish| (wish.quality, wish.enabled)));
    }

    fn say(&mut self, message: ToServer) {
        if let Some(session) = &self.session {
            // A socket that has closed says so itself.
            let _ = session.send(message);
        }
    }

    /// Goes, as SDKs do.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.say(ToServer::Leave(LeaveRequest::default()));
        self.connection.close(now);
        self.session = None;
    }

    fn is_over(&self) -> bool {
        self.lost.is_some() || matches!(self.status, Status::Failed(_))
    }

    fn fail(&mut self, error: &RtcError) {
        self.end(JoinFailure::Closed(format!("its peer connection, by our stack: {error}")));
    }

    fn end(&mut self, failure: JoinFailure) {
        self.session = None;
        match &self.status {
            Status::Joining => self.status = Status::Failed(failure),
            Status::Joined(_) => self.lost = self.lost.take().or(Some(failure)),
            Status::Failed(_) => {}
        }
    }
}

impl From<SdpFailure> for JoinFailure {
    fn from(failure: SdpFailure) -> JoinFailure {
        match failure {
            SdpFailure::Socket(error) => JoinFailure::Local(error.to_string()),
            SdpFailure::Sdp(error) => JoinFailure::Description(error),
            SdpFailure::Rtc(error) => JoinFailure::Description(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
