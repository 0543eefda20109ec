//! A published track: its encodings, and who gets it.
//!
//! A packet that came is placed in its encoding, counted, described and kept; who gets it is for the caller to ask
//! its subscriptions. Nothing here assumes that the publisher is a local socket.

use std::time::{Duration, Instant};

use crate::command::{AnnouncedLayer, MediaKind};
use crate::congestion::voice::Tally;
use crate::forward::cache::{CachedPacket, Carried, PacketCache, PacketMeta};
use crate::forward::keyframe::{KeyframeGate, TrackBudget};
use crate::forward::redundancy::missing_number;
use crate::forward::select::Layout;
use crate::ids::{Mid, Rid, SeqNo, Ssrc, TrackId};
use crate::sdp::TrackCodec;
use crate::units::{Bitrate, DataSize, NtpTime, RtpTime};
use crate::uplink::audio::Loudness;
use crate::uplink::clock::MediaClock;
use crate::uplink::meter::LayerMeter;
use crate::uplink::nack::NackGenerator;
use crate::uplink::reception::{Order, Reception};
use crate::wire::dependency_descriptor;
use crate::wire::description::{Codec, PacketDescription, describe, describe_encrypted};
use crate::wire::extension::Extensions;
use crate::wire::red::Red;
use crate::wire::rtp::RtpHeader;

/// IP, UDP, RTP and extensions around a payload, for prices.
const OVERHEAD: usize = 20 + 8 + 12 + 12 + 16;
/// Assumed for encodings that were not measured yet and announced nothing, smallest first.
const PRESET: [Bitrate; 3] = [Bitrate::kbps(160), Bitrate::kbps(450), Bitrate::kbps(1700)];

/// A keyframe younger than this is given to who comes late, with all that followed it.
const REPLAYED: Duration = Duration::from_millis(300);
/// An encoding of which nothing was forwarded for this long is watched by nobody.
const WATCHED: Duration = Duration::from_millis(500);
/// Packets that one packet's redundancy can bring back.
const RECOVERED: usize = 4;
/// Assumed for sound.
const SOUND: Bitrate = Bitrate::kbps(48);
/// An encoding that is late has stopped once each of the others sent this many frames meanwhile.
const STOPPED_BEHIND: usize = 3;

/// One encoding of a track.
#[derive(Debug)]
pub(crate) struct Encoding {
    pub(crate) rid: Option<Rid>,
    pub(crate) ssrc: Option<Ssrc>,
    pub(crate) announced: Bitrate,
    pub(crate) announced_size: (u32, u32),
    pub(crate) cache: PacketCache,
    pub(crate) reception: Reception,
    pub(crate) nack: NackGenerator,
    pub(crate) meter: LayerMeter,
    pub(crate) clock: MediaClock,
    pub(crate) gate: KeyframeGate,
    /// First packet of the last keyframe, and its size so far.
    keyframe: Option<SeqNo>,
    keyframe_size: (RtpTime, DataSize),
    /// When a packet was forwarded last, to anybody.
    pub(crate) watched: Option<Instant>,
    /// Frames of the other encodings since the last packet of this one.
    behind: u8,
    /// Whether it flowed when one of its frames or of the others' came last.
    flowed: bool,
    descriptors: dependency_descriptor::Reader,
    /// Packets kept, whichever way they came.
    kept: u64,
    /// The highest number, packets first hand and packets kept, when losses were last taken.
    counted: Option<(SeqNo, u64, u64)>,
}

impl Encoding {
    fn new(clock_rate: u32, rid: Option<Rid>) -> Self {
        Encoding {
            rid,
            ssrc: None,
            announced: Bitrate::ZERO,
            announced_size: (0, 0),
            cache: PacketCache::default(),
            reception: Reception::new(clock_rate),
            nack: NackGenerator::default(),
            meter: LayerMeter::default(),
            clock: MediaClock::new(clock_rate),
            gate: KeyframeGate::default(),
            keyframe: None,
            keyframe_size: (RtpTime(0), DataSize::ZERO),
            watched: None,
            behind: u8::MAX,
            flowed: false,
            descriptors: dependency_descriptor::Reader::default(),
            kept: 0,
            counted: None,
        }
    }

    /// Packets of the stream since the last call: how many there were, and what did not come.
    fn take_losses(&mut self) -> Tally {
        let Some(highest) = self.reception.highest() else { return Tally::default() };
        let counts = (highest, self.reception.received(), self.kept);
        let Some(before) = self.counted.replace(counts) else { return Tally::default() };
        let sent = u32::try_from(highest.distance(before.0)).unwrap_or(0);
        let less = |came: u64| sent.saturating_sub(u32::try_from(came).unwrap_or(u32::MAX));
        let lost = less(counts.1.saturating_sub(before.1));
        Tally { sent, lost, missed: less(counts.2 - before.2) }
    }

    /// When the last keyframe began and the numbers from it to the newest packet, if it is fresh and nothing is missing:
    /// who needs a keyframe can begin with that one.
    pub(crate) fn fresh_keyframe(
        &self,
        now: Instant,
    ) -> Option<(Instant, impl Iterator<Item = SeqNo> + use<>)> {
        let first = self.keyframe?;
        let count = u64::try_from(self.reception.highest()?.distance(first)).ok()?;
        let began = self.cache.get(first)?.meta.arrival;
        let fresh = now.saturating_duration_since(began) <= REPLAYED;
        let numbers = (0..=count).map(move |step| first.plus(step));
        (fresh && numbers.clone().all(|seq| self.cache.contains(seq))).then_some((began, numbers))
    }

    /// Whether somebody gets it.
    pub(crate) fn watched(&self, now: Instant) -> bool {
        self.watched.is_some_and(|at| now.saturating_duration_since(at) < WATCHED)
    }

    /// A packet of a video frame came: what the last keyframe costs tells how often there may be one.
    fn note_cost(&mut self, timestamp: RtpTime, size: DataSize, begins: bool) {
        let (time, sum) = &mut self.keyframe_size;
        if begins {
            (*time, *sum) = (timestamp, DataSize::ZERO);
        }
        if *time == timestamp && self.keyframe.is_some() {
            *sum += size;
            self.gate.set_cost(*sum, self.meter.price(u8::MAX));
        }
    }

    /// What the last keyframe took so far.
    pub(crate) fn keyframe_size(&self) -> DataSize {
        self.keyframe_size.1
    }

    /// The picture's size, measured or announced; zero when unknown.
    pub(crate) fn size(&self) -> (u32, u32) {
        self.meter.size().map_or(self.announced_size, |(w, h)| (u32::from(w), u32::from(h)))
    }
}

/// A packet that is to be forwarded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ingested {
    pub(crate) seq: SeqNo,
    pub(crate) meta: PacketMeta,
    pub(crate) size: DataSize,
    /// Later packets of its encoding came before.
    pub(crate) late: bool,
    /// With it an encoding has begun to flow or is found to have stopped.
    pub(crate) reshaped: bool,
}

impl Ingested {
    /// One that came before.
    pub(crate) fn again(cached: &CachedPacket<'_>) -> Ingested {
        let size = wire_size(cached.payload.len() + cached.dependency_descriptor.len());
        Ingested { seq: cached.meta.seq, meta: *cached.meta, size, late: false, reshaped: false }
    }

    /// Without what is around it.
    pub(crate) fn payload_size(&self) -> DataSize {
        self.size - wire_size(0)
    }
}

fn wire_size(payload: usize) -> DataSize {
    DataSize::bytes((payload + OVERHEAD) as u64)
}

/// See the module's page.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) owner: usize,
    pub(crate) mid: Mid,
    pub(crate) kind: MediaKind,
    pub(crate) codec: TrackCodec,
    pub(crate) red_payload_type: Option<u8>,
    /// End to end: its payloads can be neither taken apart nor put together.
    pub(crate) encrypted: bool,
    pub(crate) muted: bool,
    /// Missing packets may be asked for.
    pub(crate) nacks: bool,
    /// Smallest picture first: the index is the spatial layer.
    pub(crate) encodings: Vec<Encoding>,
    /// What all their gates share.
    pub(crate) keyframes: TrackBudget,
    /// The encoding that a keyframe was asked of last.
    keyframe_turn: usize,
    pub(crate) layout: Layout,
    /// Spatial and temporal layers seen inside one stream.
    pub(crate) svc_spatial: u8,
    /// Peer and slot of each subscription.
    pub(crate) subscribers: Vec<(usize, u16)>,
    pub(crate) loudness: Loudness,
    pub(crate) started: bool,
    /// The encodings that flowed when somebody last asked, a bit for each.
    flowing: u32,
    /// What the last packet brought back, and whether later packets came before it.
    recovered: [Option<(SeqNo, bool)>; RECOVERED],
}

impl Track {
    #[expect(clippy::too_many_arguments, reason = "what a section says, once for each track")]
    pub(crate) fn new(
        id: TrackId,
        owner: usize,
        mid: Mid,
        kind: MediaKind,
        codec: TrackCodec,
        rids: &[Rid],
        streams: usize,
        announced: &[AnnouncedLayer],
    ) -> Self {
        let mut rids = rids.to_vec();
        rids.sort_by_key(|rid| rank(*rid, announced));
        let count = if rids.is_empty() { streams.max(1) } else { rids.len() };
        let mut encodings: Vec<Encoding> =
            (0..count).map(|index| Encoding::new(codec.clock_rate, rids.get(index).copied())).collect();
        for (index, encoding) in encodings.iter_mut().enumerate() {
            let by_rid = announced.iter().find(|layer| layer.rid.is_some() && layer.rid == encoding.rid);
            if let Some(layer) = by_rid.or_else(|| announced.get(index)) {
                encoding.announced = layer.bitrate;
                encoding.announced_size = layer.size;
            }
        }
        let layout = layout_of(count, &codec);
        Track {
            id,
            owner,
            mid,
            kind,
            codec,
            red_payload_type: None,
            encrypted: false,
            muted: false,
            nacks: true,
            encodings,
            keyframes: TrackBudget::default(),
            keyframe_turn: 0,
            layout,
            svc_spatial: 0,
            subscribers: Vec::new(),
            loudness: Loudness::default(),
            started: false,
            flowing: 0,
            recovered: [None; RECOVERED],
        }
    }

    /// The encoding with this `rid`; the only one for a stream without.
    pub(crate) fn encoding_of(&self, rid: Option<Rid>) -> Option<u8> {
        match rid {
            Some(rid) => self.encodings.iter().position(|e| e.rid == Some(rid)).map(|at| at as u8),
            None => (self.encodings.len() == 1).then_some(0),
        }
    }

    /// Takes a media packet in plain. `resent` gives the original number and payload of a retransmission. `None`: it is
    /// not to be forwarded (padding, a duplicate, unreadable). Redundant audio is kept without its redundancy, which fills
    /// gaps: see [`Track::take_recovered`].
    #[expect(clippy::too_many_arguments, reason = "one packet, parsed by the caller")]
    pub(crate) fn ingest(
        &mut self,
        now: Instant,
        index: u8,
        codec: Codec,
        header: &RtpHeader,
        extensions: &Extensions<'_>,
        wire: u16,
        payload: &[u8],
        resent: bool,
    ) -> Option<Ingested> {
        let encoding = self.encodings.get_mut(usize::from(index))?;
        let before = encoding.reception.highest();
        let seq = if resent {
            encoding.reception.place(wire)?
        } else {
            match encoding.reception.handle_packet(now, wire, header.timestamp) {
                Order::Restarted(seq) => {
                    encoding.nack.reset();
                    encoding.counted = None;
                    seq
                }
                Order::Newest(seq) | Order::Late(seq) => seq,
            }
        };
        let late = encoding.reception.highest().is_some_and(|highest| seq.distance(highest) < 0);
        if self.nacks {
            encoding.nack.handle_packet(now, seq, resent);
        }
        if encoding.cache.contains(seq) {
            return None;
        }
        let mut meta = PacketMeta {
            seq,
            marker: header.marker,
            payload_type: header.payload_type,
            timestamp: header.timestamp,
            arrival: now,
            description: PacketDescription::default(),
            carried: carried(extensions),
        };
        if payload.is_empty() {
            // Padding: its number is closed, since the cache knows it, but nobody gets it.
            encoding.cache.insert(meta, &[], &[]);
            encoding.kept += 1;
            encoding.behind = 0;
            encoding.meter.handle_padding(now);
            return None;
        }
        let red = if codec == Codec::Red && !self.encrypted { Some(Red::parse(payload)?) } else { None };
        let (codec, payload) = red.map_or((codec, payload), |red| (Codec::Opus, red.primary));
        if let Some(red) = &red {
            meta.payload_type = red.payload_type;
            if payload.is_empty() || self.red_payload_type == Some(red.payload_type) {
                return None; // nothing in it, or RED in RED
            }
        }
        let read = if self.encrypted { describe_encrypted } else { describe };
        let mut description = read(codec, payload, header.marker)?;
        let descriptor = extensions.dependency_descriptor.unwrap_or_default();
        if !descriptor.is_empty()
            && let Ok(read) = encoding.descriptors.read(seq, descriptor)
        {
            description.apply(&read);
        }
        if self.layout == Layout::Simulcast {
            // The encoding is the layer, whatever the stream calls it inside.
            description.spatial = 0;
        } else {
            self.svc_spatial = self.svc_spatial.max(description.spatial.min(3));
        }
        meta.description = description;
        encoding.behind = 0;
        encoding.kept += 1;
        encoding.cache.insert(meta, descriptor, payload);
        encoding.clock.handle_packet(now, header.timestamp);
        let size = wire_size(payload.len() + descriptor.len());
        encoding.meter.handle_packet(now, size, header.timestamp, &description);
        if description.keyframe && description.frame_start && self.kind == MediaKind::Video {
            encoding.gate.handle_keyframe(now);
            encoding.keyframe = Some(seq);
            encoding.note_cost(header.timestamp, size, true);
        } else {
            encoding.note_cost(header.timestamp, size, false);
        }
        let reshaped = description.frame_start && self.note_frame(now, usize::from(index));
        if let Some(level) = extensions.audio_level {
            self.loudness.handle_level(level.dbov);
        }
        if let Some(red) = &red {
            self.recover(now, usize::from(index), &meta, red, before);
        }
        Some(Ingested { seq, meta, size, late, reshaped })
    }

    /// Keeps those blocks of a redundant packet whose own packets never came.
    fn recover(&mut self, now: Instant, index: usize, of: &PacketMeta, red: &Red<'_>, before: Option<SeqNo>) {
        self.recovered = [None; RECOVERED];
        let encoding = &mut self.encodings[index];
        for (block, place) in red.blocks().zip(&mut self.recovered) {
            let Some(description) = describe(Codec::Opus, block.payload, false) else { continue };
            let missing = missing_number(&encoding.cache, of.seq, of.timestamp, block.offset);
            let Some(seq) = missing.filter(|_| !block.payload.is_empty()) else { continue };
            let meta = PacketMeta {
                seq,
                marker: false,
                payload_type: block.payload_type,
                timestamp: of.timestamp.plus(-i32::from(block.offset)),
                arrival: now,
                description,
                carried: Carried::default(),
            };
            encoding.nack.fill(seq);
            encoding.kept += 1;
            encoding.cache.insert(meta, &[], block.payload);
            let size = wire_size(block.payload.len());
            encoding.meter.handle_packet(now, size, meta.timestamp, &description);
            *place = Some((seq, before.is_some_and(|before| seq < before)));
        }
    }

    /// Lost packets that the last one brought back, oldest first, and whether later ones came before them.
    pub(crate) fn take_recovered(&mut self) -> [Option<(SeqNo, bool)>; RECOVERED] {
        std::mem::take(&mut self.recovered)
    }

    /// The publisher sends this codec from now on.
    pub(crate) fn set_codec(&mut self, codec: TrackCodec) {
        self.layout = layout_of(self.encodings.len(), &codec);
        self.codec = codec;
    }

    /// Whether packets of this payload type are redundant audio.
    pub(crate) fn is_red(&self, payload_type: u8) -> bool {
        self.red_payload_type == Some(payload_type)
    }

    /// A sender report on one encoding.
    pub(crate) fn handle_sender_report(&mut self, now: Instant, index: u8, ntp: NtpTime, rtp: RtpTime) {
        if let Some(encoding) = self.encodings.get_mut(usize::from(index)) {
            encoding.reception.handle_sender_report(now, ntp);
            encoding.clock.handle_sender_report(ntp, rtp);
        }
    }

    /// What the layers up to `spatial` may come to cost: a publisher that has just begun sends less than it will.
    pub(crate) fn expected(&self, spatial: u8) -> Bitrate {
        let most = |encoding: &Encoding| encoding.announced;
        self.encodings.iter().take(usize::from(spatial) + 1).map(most).max().unwrap_or(Bitrate::ZERO)
    }

    /// What forwarding an encoding up to a temporal layer costs.
    pub(crate) fn price(&self, index: u8, temporal: u8) -> Bitrate {
        let Some(encoding) = self.encodings.get(usize::from(index)) else { return Bitrate::ZERO };
        let measured = encoding.meter.price(temporal);
        if encoding.meter.settled() {
            return measured;
        }
        let whole = if self.kind == MediaKind::Audio {
            SOUND
        } else if encoding.announced == Bitrate::ZERO {
            // A single encoding is as large as the largest of several.
            let from_top = self.encodings.len() - 1 - usize::from(index);
            PRESET[PRESET.len() - 1 - from_top.min(PRESET.len() - 1)]
        } else {
            encoding.announced
        };
        let assumed =
            if temporal == 0 && encoding.meter.highest_temporal() > 0 { whole.scale(0.6) } else { whole };
        // The first figures are those of the opening keyframe: they may lower what is assumed, but not raise it.
        let opening = measured.min(assumed);
        // One that stopped and starts again comes to cost what it did, though its encoder begins low.
        let former = encoding.meter.former_price(temporal);
        match (former, opening) {
            (Bitrate::ZERO, Bitrate::ZERO) => assumed,
            (former, opening) => former.max(opening),
        }
    }

    /// What one earlier payload in each packet adds to the price of sound.
    pub(crate) fn block_price(&self) -> Bitrate {
        let packets = self.encodings.first().map_or(0.0, |encoding| encoding.meter.fps());
        self.price(0, 0).saturating_sub(Bitrate::bps((packets * 8.0) as u64 * OVERHEAD as u64))
    }

    /// A frame of encoding `index` has begun. Says whether that changes which encodings flow.
    fn note_frame(&mut self, now: Instant, index: usize) -> bool {
        for (other, encoding) in self.encodings.iter_mut().enumerate() {
            encoding.behind = if other == index { 0 } else { encoding.behind.saturating_add(1) };
        }
        let mut reshaped = false;
        for at in 0..self.encodings.len() {
            let flows = self.flows(now, &self.encodings[at]);
            let encoding = &mut self.encodings[at];
            if encoding.flowed && !flows {
                encoding.gate.give_up();
            }
            reshaped |= std::mem::replace(&mut encoding.flowed, flows) != flows;
        }
        reshaped
    }

    /// Whether an encoding stopped since the last call: its subscribers must be served from another one.
    pub(crate) fn take_stop(&mut self, now: Instant) -> bool {
        let bit =
            |(index, encoding)| u32::from(self.flows(now, encoding)).checked_shl(index as u32).unwrap_or(0);
        let flowing = self.encodings.iter().enumerate().map(bit).sum();
        std::mem::replace(&mut self.flowing, flowing) & !flowing != 0
    }

    /// Whether an encoding flows. While all of them are late it is the path, or the publisher, that hesitates; one has
    /// stopped if others go on without it.
    pub(crate) fn flows(&self, now: Instant, encoding: &Encoding) -> bool {
        let others = self.encodings.len().saturating_sub(1);
        encoding.meter.alive(now) || usize::from(encoding.behind) < STOPPED_BEHIND * others
    }

    /// Packets since the last call: how many there were, and what did not come.
    pub(crate) fn take_losses(&mut self) -> Tally {
        self.encodings.first_mut().map_or(Tally::default(), Encoding::take_losses)
    }

    /// Whether anything of the track came lately.
    pub(crate) fn alive(&self, now: Instant) -> bool {
        self.encodings.iter().any(|encoding| encoding.meter.alive(now))
    }

    /// The stream of which a keyframe is to be asked for now; it counts as asked then. Encodings take turns: those on bad
    /// links, who ask for the small ones again and again, leave something of the budget for the others.
    pub(crate) fn poll_keyframe_request(&mut self, now: Instant, rtt: Duration) -> Option<Ssrc> {
        if !self.keyframes.allows(now) {
            return None;
        }
        let count = self.encodings.len();
        let mut order = (1..=count).map(|step| (self.keyframe_turn + step) % count);
        let turn = order.find(|&at| {
            let encoding = &mut self.encodings[at];
            encoding.ssrc.is_some() && encoding.gate.poll(now, rtt)
        })?;
        self.keyframe_turn = turn;
        self.keyframes.spend(now);
        self.encodings[turn].ssrc
    }

    /// When a gate or a missing packet wants attention. `rtt` is the publisher's.
    pub(crate) fn next_timeout(&self, rtt: Duration) -> Option<Instant> {
        let opens = self.keyframes.opens();
        let first = |e: &Encoding| opens.filter(|_| e.gate.begins());
        let gate = |e: &Encoding| {
            e.gate.due(rtt).map(|at| opens.map_or(at, |opens| at.max(opens))).or_else(|| first(e))
        };
        let of = |e: &Encoding| [e.nack.next_timeout(), gate(e)].into_iter().flatten().min();
        self.encodings.iter().filter_map(of).min()
    }
}

/// One stream of a codec with spatial layers may have them inside.
fn layout_of(encodings: usize, codec: &TrackCodec) -> Layout {
    if encodings == 1 && matches!(codec.codec, Codec::Vp9 | Codec::Av1) {
        Layout::Svc
    } else {
        Layout::Simulcast
    }
}

/// Where a rid stands among its like: as announced, else by the names that clients use, else in order of the SDP.
fn rank(rid: Rid, announced: &[AnnouncedLayer]) -> usize {
    if let Some(at) = announced.iter().position(|layer| layer.rid == Some(rid)) {
        return at;
    }
    match rid.as_str() {
        "q" | "2" | "l" | "low" => 0,
        "h" | "1" | "m" | "mid" | "medium" => 1,
        "f" | "0" | "high" => 2,
        _ => 3,
    }
}

fn carried(extensions: &Extensions<'_>) -> Carried {
    Carried {
        audio_level: extensions.audio_level.map(|level| level.dbov | u8::from(level.voice) << 7),
        video_orientation: extensions.video_orientation,
        playout_delay: extensions.playout_delay.and_then(|bytes| bytes.try_into().ok()),
        capture_time: extensions.abs_capture_time.and_then(|bytes| bytes.first_chunk().copied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of AV1 that is encrypted end to end nothing is read but what stands around it.
    #[test]
    fn encrypted_av1_is_described_by_its_dependency_descriptor() {
        let codec = TrackCodec { codec: Codec::Av1, ..TrackCodec::vp8() };
        let mid = Mid::parse("0").expect("a mid");
        let mut track = Track::new(TrackId(1), 0, mid, MediaKind::Video, codec, &[], 1, &[]);
        // One template of one layer; then a frame that refers to it. Neither payload can be an OBU's.
        let structure: &[u8] = &[0x80, 0, 1, 0x80, 0x00, 0xe0];
        let frames = [(structure, true), (&[0xc0, 0, 2][..], false)];
        let ingest = |track: &mut Track, number: u8| {
            let (descriptor, keyframe) = frames[usize::from(number)];
            let packet = [0x80, 45, 0, number, 0, 0, number, 0, 0, 0, 0, 9, 0x00, 0xff, 0xff];
            let header = RtpHeader::parse(&packet).expect("a header");
            let extensions = Extensions { dependency_descriptor: Some(descriptor), ..Extensions::default() };
            let (now, wire, payload) = (crate::test_time(), header.sequence_number, &packet[12..]);
            let taken = track.ingest(now, 0, Codec::Av1, &header, &extensions, wire, payload, false);
            taken.map(|taken| {
                (taken.meta.description.keyframe == keyframe, taken.meta.description.frame_start)
            })
        };
        assert_eq!(ingest(&mut track, 0), None, "in the clear it is no AV1");
        track.encrypted = true;
        for number in [0, 1] {
            assert_eq!(ingest(&mut track, number), Some((true, true)), "{number}");
        }
    }

    /// Two encodings that are asked for all the time use up the budget; the third has its turn nevertheless.
    #[test]
    fn encodings_take_turns_at_being_asked_for_keyframes() {
        let rids = ["q", "h", "f"].map(|rid| Rid::parse(rid).expect("a rid"));
        let mid = Mid::parse("0").expect("a mid");
        let mut track = Track::new(TrackId(1), 0, mid, MediaKind::Video, TrackCodec::vp8(), &rids, 1, &[]);
        for (index, encoding) in track.encodings.iter_mut().enumerate() {
            encoding.ssrc = Some(Ssrc(index as u32));
        }
        let (start, rtt) = (crate::test_time(), Duration::from_millis(50));
        let mut asked = Vec::new();
        for step in 0..100 {
            let now = start + Duration::from_millis(100) * step;
            let wanting = if step < 30 { 2 } else { 3 };
            for encoding in track.encodings.iter_mut().take(wanting) {
                encoding.gate.need();
            }
            while let Some(Ssrc(index)) = track.poll_keyframe_request(now, rtt) {
                track.encodings[index as usize].gate.handle_keyframe(now);
                asked.push((step, index));
            }
        }
        let first = asked.iter().position(|(step, _)| *step >= 30).expect("the budget opens again");
        let served = asked.iter().skip(first).take(3).filter(|(_, index)| *index == 2).count();
        assert_eq!(served, 1, "{asked:?}");
    }
}
