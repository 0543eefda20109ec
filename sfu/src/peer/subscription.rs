//! One track to one subscriber: what is wanted, how it was negotiated, and the packets as they leave.

use std::time::{Duration, Instant};

use crate::ahead::look;
use crate::command::{Demand, MediaKind};
use crate::congestion::FeedbackKind;
use crate::forward::cache::{CachedPacket, PacketCache};
use crate::forward::keyframe::RequestLimit;
use crate::forward::redundancy::Earlier;
use crate::forward::rewrite::{Join, Numbers, Rewriter};
use crate::forward::select::{Decision, Layout, Selector};
use crate::forward::sent::SentLog;
use crate::ids::{LayerId, Mid, SeqNo, Ssrc, TrackId};
use crate::sdp::{Feedback, SendSection, TrackCodec};
use crate::track::{Encoding, Ingested, Track};
use crate::units::{DataSize, NtpTime, RtpTime};
use crate::wire::description::Codec;
use crate::wire::extension::{self, ExtensionKind, ExtensionMap};
use crate::wire::rtp::{self, FIXED_HEADER, FixedHeader};
use crate::wire::{red, vp8};

/// Two frames shown as one would upset decoders: a switch moves the clock by this at least.
const MIN_STEP: Duration = Duration::from_millis(10);

/// Reports that a client gets before its silent track is announced by a packet of padding, and after how many the last is sent.
const HERALDS: std::ops::RangeInclusive<u8> = 2..=6;

/// No track has this place.
const NO_TRACK: usize = usize::MAX;

/// A stream to a client that is no track's for good.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Its section, once there is one, and all that may be sent there.
    section: Option<(Mid, SendSection)>,
}

/// How packets are written, by the client's description.
#[derive(Debug)]
pub(crate) struct SendFormat {
    pub(crate) mid: Mid,
    pub(crate) payload_type: u8,
    pub(crate) rtx_payload_type: Option<u8>,
    pub(crate) red_payload_type: Option<u8>,
    pub(crate) extensions: ExtensionMap,
    pub(crate) feedback: FeedbackKind,
}

impl SendFormat {
    pub(crate) fn new(mid: Mid, section: &SendSection) -> Self {
        let mut extensions = ExtensionMap::default();
        let kinds = section.extensions.iter().map(|(id, uri)| (*id, ExtensionKind::from_uri(uri)));
        let transport_cc = section.feedback.has(Feedback::TransportCc);
        for (id, kind) in kinds.filter_map(|(id, kind)| Some((id, kind?))) {
            if kind != ExtensionKind::TransportCc || transport_cc {
                extensions.insert(id, kind);
            }
        }
        let feedback = if extensions.id_of(ExtensionKind::TransportCc).is_some() {
            FeedbackKind::TransportWide
        } else if section.feedback.has(Feedback::Ccfb) {
            FeedbackKind::PerStream
        } else {
            FeedbackKind::ReceiverSide
        };
        SendFormat {
            mid,
            payload_type: section.pt,
            rtx_payload_type: section.rtx_pt,
            red_payload_type: section.red_pt,
            extensions,
            feedback,
        }
    }

    /// Whether the client says of each packet what became of it, so that they are numbered.
    pub(crate) fn numbered(&self) -> bool {
        self.feedback != FeedbackKind::ReceiverSide
    }
}

/// What is written freshly into each packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) transport_cc: Option<u16>,
    pub(crate) ntp: NtpTime,
    /// For publishers who say nothing of it themselves.
    pub(crate) playout: Option<[u8; 3]>,
}

/// See the module's page.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(crate) struct Subscription {
    /// Tells this from others that had the slot before.
    pub(crate) serial: u32,
    /// What negotiation calls it: the track that was subscribed to, or the feed.
    pub(crate) name: TrackId,
    /// The track that is in it.
    pub(crate) track_id: TrackId,
    /// Its place among all tracks, [`NO_TRACK`] for a feed with nothing in it.
    pub(crate) track: usize,
    /// Of a stream that is fed one track after another.
    pub(crate) feed: Option<Feed>,
    pub(crate) kind: MediaKind,
    pub(crate) stream_id: String,
    pub(crate) label: String,
    pub(crate) ssrc: Ssrc,
    pub(crate) rtx_ssrc: Ssrc,
    pub(crate) demand: Demand,
    pub(crate) format: Option<SendFormat>,
    /// The codec of its track when the round of negotiation began that is answered next.
    pub(crate) negotiated: Option<Codec>,
    /// Told to signalling once.
    pub(crate) announced: bool,
    pub(crate) unsupported: bool,
    pub(crate) selector: Selector,
    /// The allocator has nothing for it.
    pub(crate) paused: bool,
    /// Its client was told so, and of nothing since.
    pub(crate) told_paused: bool,
    rewriter: Rewriter,
    pub(crate) sent: SentLog,
    /// Keyframes that the client asks for.
    pub(crate) requests: RequestLimit,
    rtx_next: SeqNo,
    /// Reports since it was agreed upon, while nothing was sent.
    silent: u8,
    /// The encoding that the numbers stand in; differs from the selector's while a switch waits in the pacer.
    source: Option<u8>,
    /// The first packet under the present numbers.
    first: Option<SeqNo>,
    /// The packet sent last: when it came, and its capture time on the publisher's clock.
    last: Option<(Instant, Option<i64>)>,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
}

impl Subscription {
    pub(crate) fn new(
        serial: u32,
        track_index: usize,
        track: &Track,
        (stream_id, label): (String, String),
        demand: Demand,
        rng: &mut fastrand::Rng,
    ) -> Self {
        Subscription {
            track: track_index,
            feed: None,
            demand,
            selector: Selector::new(track.layout),
            ..Subscription::feed(serial, track.id, track.kind, (stream_id, label), rng)
        }
    }

    /// A feed with nothing in it.
    pub(crate) fn feed(
        serial: u32,
        id: TrackId,
        kind: MediaKind,
        (stream_id, label): (String, String),
        rng: &mut fastrand::Rng,
    ) -> Self {
        Subscription {
            serial,
            name: id,
            track_id: id,
            track: NO_TRACK,
            feed: Some(Feed { section: None }),
            kind,
            stream_id,
            label,
            ssrc: Ssrc(rng.u32(1..)),
            rtx_ssrc: Ssrc(rng.u32(1..)),
            demand: Demand::default(),
            format: None,
            negotiated: None,
            announced: false,
            unsupported: false,
            selector: Selector::new(Layout::Simulcast),
            paused: false,
            told_paused: false,
            rewriter: Rewriter::new(rng),
            sent: SentLog::new(kind),
            requests: RequestLimit::default(),
            rtx_next: SeqNo::first(rng.u16(..0x7fff)),
            silent: 0,
            source: None,
            first: None,
            last: None,
            packets: 0,
            octets: 0,
        }
    }

    /// A feed has this section now, or none.
    pub(crate) fn open(&mut self, section: Option<(Mid, &SendSection)>, track: Option<&Track>) {
        let Some(feed) = &mut self.feed else { return };
        feed.section = section.map(|(mid, section)| (mid, section.clone()));
        self.fit(track);
    }

    /// Chooses how what is in a feed is written. Before there is a section nothing is decided.
    fn fit(&mut self, track: Option<&Track>) {
        self.format = track.and_then(|track| self.fed_format(&track.codec));
        let agreed = self.feed.as_ref().is_some_and(|feed| feed.section.is_some());
        self.unsupported = agreed && track.is_some() && self.format.is_none();
    }

    /// How a feed would carry that codec; `None` if its client does not take it, and for what is no feed.
    pub(crate) fn fed_format(&self, codec: &TrackCodec) -> Option<SendFormat> {
        let (mid, section) = self.feed.as_ref()?.section.as_ref()?;
        Some(SendFormat::new(*mid, &section.carrying(self.kind, codec)?))
    }

    /// A feed carries another track from now on, or none, under numbers that go on.
    pub(crate) fn refill(&mut self, serial: u32, track: Option<(usize, &Track)>, demand: Demand) {
        if self.feed.is_none() {
            return;
        }
        self.demand = demand;
        self.fit(track.map(|(_, track)| track));
        self.told_paused = false;
        self.take_over(serial, track);
    }

    /// It carries another track from now on, under numbers that go on, as soon as its client agreed to that one.
    pub(crate) fn replace(&mut self, serial: u32, index: usize, track: &Track) {
        self.format = None;
        (self.announced, self.unsupported) = (false, false);
        self.take_over(serial, Some((index, track)));
    }

    fn take_over(&mut self, serial: u32, track: Option<(usize, &Track)>) {
        self.serial = serial;
        self.track = track.map_or(NO_TRACK, |(index, _)| index);
        self.track_id = track.map_or(self.name, |(_, track)| track.id);
        self.selector = Selector::new(track.map_or(Layout::Simulcast, |(_, track)| track.layout));
        self.paused = false;
        // What was sent is in another track's cache, and its capture times are of another clock.
        self.sent = SentLog::new(self.kind);
        (self.source, self.first) = (None, None);
        self.last = self.last.map(|(arrival, _)| (arrival, None));
    }

    /// Tracks of one publisher share it, so that they are played in sync (RFC 3550 §6.5.1).
    pub(crate) fn cname(&self) -> &str {
        self.stream_id.split('|').next().unwrap_or(&self.stream_id)
    }

    /// Reads ahead what deciding about a packet needs.
    pub(crate) fn ahead_of_choice(&self) {
        look(&self.serial);
        look(&self.kind);
        look(&self.demand.enabled);
        look(&self.format.is_some());
        self.selector.ahead();
    }

    /// Reads ahead what sending one needs.
    pub(crate) fn ahead_of_departure(&self) {
        self.rewriter.ahead();
        self.sent.ahead();
        look(&self.source);
        look(&self.packets);
        look(&self.last.is_some());
        if let Some(format) = &self.format {
            look(&format.payload_type);
            format.extensions.ahead();
        }
    }

    /// Whether packets may be queued at all.
    pub(crate) fn flows(&self) -> bool {
        self.format.is_some() && self.demand.enabled
    }

    /// Whether a packet goes to this subscriber; what to set as its marker bit, and whether it starts another encoding.
    pub(crate) fn select(&mut self, encoding: u8, packet: &Ingested) -> Option<(bool, bool)> {
        if self.kind == MediaKind::Audio {
            return Some((packet.meta.marker, false));
        }
        let meta = &packet.meta;
        match self.selector.select(encoding, packet.seq, meta.timestamp, &meta.description) {
            Decision::Forward { marker } => Some((marker, false)),
            Decision::Switch { marker } => Some((marker, true)),
            Decision::Drop => None,
        }
    }

    /// A late packet was selected and is queued, or else declined: then the number to close, if one was kept for it.
    pub(crate) fn settle_late(&mut self, seq: SeqNo, selected: bool) -> Option<SeqNo> {
        if selected {
            self.rewriter.await_late(seq);
            None
        } else {
            self.rewriter.decline_late(seq)
        }
    }

    /// Gives a packet that leaves its numbers; `None` if it must not leave any more.
    pub(crate) fn number(
        &mut self,
        track: &Track,
        encoding: u8,
        packet: &CachedPacket<'_>,
        switch: bool,
    ) -> Option<Numbers> {
        let meta = packet.meta;
        let source = track.encodings.get(usize::from(encoding))?;
        let capture = source.clock.capture_micros(meta.timestamp);
        // The packet that was to switch may have been dropped, with all that a later keyframe replaces.
        let begins = meta.description.keyframe && meta.description.frame_start;
        if switch || self.source.is_none() || (begins && self.source != Some(encoding)) {
            let rate = i64::from(source.clock.rate());
            let ticks = |micros: i64| (micros.clamp(-10_000_000, 600_000_000) * rate / 1_000_000) as i32;
            let since = self.last.map_or(0, |(arrival, last_capture)| match (last_capture, capture) {
                // The publisher's clock tells how far apart two pictures are…
                (Some(before), Some(now)) if (now - before).abs() < 5_000_000 => now - before,
                // …and when it does not, their arrival.
                _ => meta.arrival.saturating_duration_since(arrival).as_micros() as i64,
            });
            let at_least = ticks(MIN_STEP.as_micros() as i64);
            self.rewriter.switch(
                meta.timestamp,
                Join { ticks: ticks(since), at_least },
                meta.description.vp8.as_ref(),
            );
            self.source = Some(encoding);
            self.first = Some(meta.seq);
        } else if self.source != Some(encoding) {
            return None; // of the layer before the switch, and late
        }
        let numbers =
            self.rewriter.number(meta.seq, meta.timestamp, meta.description.vp8.as_ref(), &source.cache)?;
        self.last = Some((meta.arrival, capture));
        Some(numbers)
    }

    /// Whether all that was sent came before `time`: what came then can still be sent without going back in time.
    pub(crate) fn sent_nothing_since(&self, time: Instant) -> bool {
        self.last.is_none_or(|(arrival, _)| arrival < time)
    }

    /// With each report: the number of a packet of padding to send if the track is silent from the start, as a muted one is. Pion,
    /// and with it the Go SDK, tells of a track only once a packet of it has come.
    pub(crate) fn herald(&mut self) -> Option<SeqNo> {
        if !self.flows() || self.rewriter.started() || self.silent >= *HERALDS.end() {
            return None;
        }
        self.silent += 1;
        HERALDS.contains(&self.silent).then(|| self.rewriter.skip())
    }

    /// What the last keyframe took of the encoding that is shown.
    pub(crate) fn keyframe_size(&self, tracks: &[Option<Box<Track>>]) -> DataSize {
        let track = tracks.get(self.track).and_then(Option::as_ref);
        let encoding = self.source.and_then(|source| track?.encodings.get(usize::from(source)));
        encoding.map_or(DataSize::ZERO, Encoding::keyframe_size)
    }

    /// Continues under fresh numbers, whatever comes next.
    pub(crate) fn interrupt(&mut self) {
        self.selector.restart();
        self.source = None;
    }

    /// Whether it can be given redundant audio.
    pub(crate) fn takes_redundancy(&self, track: &Track) -> bool {
        let agreed = self.format.as_ref().is_some_and(|format| format.red_payload_type.is_some());
        agreed && track.codec.codec == Codec::Opus && !track.encrypted
    }

    /// Up to `level` earlier payloads to go along with a packet that has its numbers.
    pub(crate) fn earlier<'a>(
        &self,
        track: &Track,
        cache: &'a PacketCache,
        packet: &CachedPacket<'_>,
        level: u8,
    ) -> Earlier<'a> {
        match (&self.format, self.first) {
            (Some(format), Some(first)) if level > 0 && self.takes_redundancy(track) => {
                Earlier::gather(cache, packet, level, first, format.payload_type)
            }
            _ => Earlier::default(),
        }
    }

    /// Writes a media packet in plain, with what goes along; its length, or `None` if it does not fit.
    #[expect(clippy::too_many_arguments, reason = "one packet and what it becomes")]
    pub(crate) fn write(
        &mut self,
        out: &mut [u8],
        packet: &CachedPacket<'_>,
        earlier: &Earlier<'_>,
        codec: Codec,
        numbers: &Numbers,
        marker: bool,
        stamp: Stamp,
    ) -> Option<usize> {
        let format = self.format.as_ref()?;
        let redundant = !earlier.blocks().is_empty();
        // What comes as RED here is encrypted, and cannot be taken apart.
        let payload_type =
            if redundant || codec == Codec::Red { format.red_payload_type? } else { format.payload_type };
        let header = FixedHeader {
            marker,
            payload_type,
            sequence_number: numbers.seq.wire(),
            timestamp: numbers.timestamp,
            ssrc: self.ssrc,
        };
        let start = write_header(out, &header, format, Some(packet), stamp)?;
        let body = out.get_mut(start..)?;
        let len = if redundant {
            red::write(body, earlier.blocks(), format.payload_type, packet.payload)?
        } else {
            body.get_mut(..packet.payload.len())?.copy_from_slice(packet.payload);
            packet.payload.len()
        };
        if let Some(at) = &packet.meta.description.vp8 {
            vp8::rewrite(&mut body[..len], at, numbers.picture_id, numbers.tl0_pic_idx);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(len as u32);
        Some(start + len)
    }

    /// Writes the retransmission of a packet (RFC 4588 §4).
    pub(crate) fn write_retransmission(
        &mut self,
        out: &mut [u8],
        packet: &CachedPacket<'_>,
        numbers: &Numbers,
        marker: bool,
        stamp: Stamp,
    ) -> Option<usize> {
        let format = self.format.as_ref()?;
        let header = FixedHeader {
            marker,
            payload_type: format.rtx_payload_type?,
            sequence_number: self.rtx_next.wire(),
            timestamp: numbers.timestamp,
            ssrc: self.rtx_ssrc,
        };
        let start = write_header(out, &header, format, Some(packet), stamp)?;
        let end = start + 2 + packet.payload.len();
        let body = out.get_mut(start..end)?;
        body[..2].copy_from_slice(&numbers.seq.wire().to_be_bytes());
        body[2..].copy_from_slice(packet.payload);
        if let Some(at) = &packet.meta.description.vp8 {
            vp8::rewrite(&mut body[2..], at, numbers.picture_id, numbers.tl0_pic_idx);
        }
        self.rtx_next = self.rtx_next.plus(1);
        Some(end)
    }

    /// Writes a packet of padding alone on the retransmission stream, which receivers count but do not show: of `most`
    /// bytes on the wire, or less.
    pub(crate) fn write_padding(&mut self, out: &mut [u8], most: usize, stamp: Stamp) -> Option<usize> {
        /// Headers of IP, UDP and RTP with its extensions, and the tag.
        const AROUND: usize = 80;
        const PADDING: usize = 224;
        let payload_type = self.format.as_ref()?.rtx_payload_type?;
        let padding = most.saturating_sub(AROUND).clamp(1, PADDING) as u8;
        let len = self.write_empty(out, (payload_type, self.rtx_ssrc, self.rtx_next), padding, stamp)?;
        self.rtx_next = self.rtx_next.plus(1);
        Some(len)
    }

    /// Writes the least packet that closes a number kept free: padding alone, on the media stream.
    pub(crate) fn write_filler(&self, out: &mut [u8], number: SeqNo, stamp: Stamp) -> Option<usize> {
        let payload_type = self.format.as_ref()?.payload_type;
        self.write_empty(out, (payload_type, self.ssrc, number), 1, stamp)
    }

    fn write_empty(
        &self,
        out: &mut [u8],
        (payload_type, ssrc, number): (u8, Ssrc, SeqNo),
        padding: u8,
        stamp: Stamp,
    ) -> Option<usize> {
        let header = FixedHeader {
            marker: false,
            payload_type,
            sequence_number: number.wire(),
            // Before the first packet, too: it may be that a probe must first show that it fits.
            timestamp: self.rewriter.latest_timestamp(),
            ssrc,
        };
        let start = write_header(out, &header, self.format.as_ref()?, None, stamp)?;
        let end = start + usize::from(padding);
        (rtp::pad(out, start, end) == end).then_some(end)
    }

    /// The media time for a sender report of `ntp`; `None` before the first packet.
    pub(crate) fn report_time(
        &self,
        now: Instant,
        ntp: NtpTime,
        track: &Track,
        clock_offset: Option<i64>,
    ) -> Option<RtpTime> {
        let source = track.encodings.get(usize::from(self.source.unwrap_or(0)))?;
        // Of a track that has just come into a feed nothing went yet.
        if !self.rewriter.started() || self.first.is_none() {
            return None;
        }
        Some(self.rewriter.map(source.clock.report_at(now, clock_offset, ntp)?))
    }

    /// The layer that leaves now.
    pub(crate) fn layer(&self) -> Option<LayerId> {
        self.selector.current()
    }
}

fn write_header(
    out: &mut [u8],
    header: &FixedHeader,
    format: &SendFormat,
    packet: Option<&CachedPacket<'_>>,
    stamp: Stamp,
) -> Option<usize> {
    let transport_cc = stamp.transport_cc.unwrap_or(0).to_be_bytes();
    let send_time = extension::abs_send_time(stamp.ntp);
    let carried = packet.map(|packet| packet.meta.carried).unwrap_or_default();
    let level = carried.audio_level.map(|byte| [byte]);
    let playout = carried.playout_delay.or(stamp.playout);
    let orientation = carried.video_orientation.map(|byte| [byte]);
    let descriptor = packet.map_or(&[][..], |packet| packet.dependency_descriptor);

    let values: [(ExtensionKind, Option<&[u8]>); 8] = [
        (ExtensionKind::Mid, Some(format.mid.as_str().as_bytes())),
        (ExtensionKind::TransportCc, stamp.transport_cc.is_some().then_some(&transport_cc)),
        (ExtensionKind::AbsSendTime, Some(&send_time)),
        (ExtensionKind::AudioLevel, level.as_ref().map(|bytes| &bytes[..])),
        (ExtensionKind::VideoOrientation, orientation.as_ref().map(|bytes| &bytes[..])),
        (ExtensionKind::PlayoutDelay, playout.as_ref().map(|bytes| &bytes[..])),
        (ExtensionKind::AbsCaptureTime, carried.capture_time.as_ref().map(|bytes| &bytes[..])),
        (ExtensionKind::DependencyDescriptor, (!descriptor.is_empty()).then_some(descriptor)),
    ];
    let mut elements: [(u8, &[u8]); 8] = [(0, &[]); 8];
    let mut count = 0;
    for (kind, value) in values {
        if let (Some(id), Some(value)) = (format.extensions.id_of(kind), value) {
            elements[count] = (id, value);
            count += 1;
        }
    }
    let (fixed, rest) = out.split_first_chunk_mut::<FIXED_HEADER>()?;
    header.write(fixed, count > 0);
    Some(FIXED_HEADER + extension::write(rest, &elements[..count])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::TrackCodec;
    use crate::wire::rtp::RtpHeader;

    /// A single layer above the first target stays paused until padding has shown that it fits.
    #[test]
    fn a_probe_may_come_before_the_first_packet() {
        let mid = Mid::parse("1").expect("a plain tag");
        let track = Track::new(TrackId(1), 0, mid, MediaKind::Video, TrackCodec::vp8(), &[], 1, &[]);
        let mut rng = fastrand::Rng::with_seed(1);
        let names = ("stream".to_owned(), "track".to_owned());
        let mut subscription = Subscription::new(1, 0, &track, names, Demand::default(), &mut rng);
        subscription.format = Some(SendFormat {
            mid,
            payload_type: 96,
            rtx_payload_type: Some(97),
            red_payload_type: None,
            extensions: ExtensionMap::default(),
            feedback: FeedbackKind::TransportWide,
        });
        let stamp = Stamp { transport_cc: Some(1), ntp: NtpTime::default(), playout: None };
        let mut out = [0; 1500];
        let len = subscription.write_padding(&mut out, 1200, stamp).expect("there is a format to write in");
        let header = RtpHeader::parse(&out[..len]).expect("we wrote it");
        assert_eq!((header.payload_type, header.ssrc), (97, subscription.rtx_ssrc));
        assert!(header.payload().is_empty(), "nothing but padding");
        // What keeps reports coming on a path that is full.
        let small = subscription.write_padding(&mut out, 100, stamp).expect("there is a format to write in");
        assert!(small < 70 && small < len, "{small}");
    }
}
