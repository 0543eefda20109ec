//! A scripted receiver: what a browser would show, and what it would report.
//!
//! It asks for missing packets (NACK) and for keyframes (PLI), writes transport-wide feedback, and checks
//! every frame against the one before: sequence numbers without a gap, picture ids, the chain of base-layer
//! frames, rising timestamps. It plays without a buffer: a frame is shown as soon as it and all before it
//! are there, so freezes are somewhat overstated.
//! Always: memory is bounded; nothing it is sent makes it panic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu::congestion::FeedbackRecorder;
use sfu::ids::{SeqNo, Ssrc};

use crate::rtp::{ExtensionIds, RtpPacket, Vp8};

/// Packets buffered per stream.
const BUFFER: usize = 4096;
/// A missing packet is asked for again after this long: the round trip that libwebrtc assumes where it knows none…
const NACK_RETRY: Duration = Duration::from_millis(100);
/// …this often, as libwebrtc does (`NackRequester`)…
const NACK_TRIES: u32 = 10;
/// …and given up after this long: the receiver then waits for a keyframe.
const GIVE_UP: Duration = Duration::from_millis(1000);
/// A stream that does not begin with a keyframe is asked for one after this long.
const FIRST_PLI: Duration = Duration::from_millis(200);
/// Pause between two keyframe requests.
const PLI_RETRY: Duration = Duration::from_millis(300);
/// Frames whose mean distance a freeze is measured against (W3C webrtc-stats, `freezeCount`).
const FREEZE_FRAMES: usize = 30;

/// One video stream to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedStream {
    /// The stream.
    pub ssrc: Ssrc,
    /// Stream of its retransmissions.
    pub rtx: Option<Ssrc>,
}

/// What was seen of one video stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VideoStats {
    /// Packets, retransmissions and duplicates included.
    pub packets: u64,
    /// Payload bytes of them.
    pub bytes: u64,
    /// Frames shown.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Frames that arrived whole and could not be decoded: a break of the chain.
    pub undecodable: u64,
    /// Times that the receiver gave up waiting and skipped to a keyframe.
    pub skips: u64,
    /// From the creation of the receiver to the first frame shown.
    pub first_frame: Option<Duration>,
    /// Longest time between two frames shown.
    pub longest_gap: Duration,
    /// Freezes (W3C: a gap over max(3 x mean, mean + 150 ms)), and the time spent in them.
    pub freezes: u64,
    /// Sum of those gaps.
    pub frozen: Duration,
    /// Picture size last shown.
    pub size: Option<(u16, u16)>,
    /// When each size was first shown after another one, since the creation of the receiver.
    pub sizes: Vec<(Duration, (u16, u16))>,
    /// Each frame shown: when, since the creation of the receiver, and its size.
    pub shown: Vec<(Duration, (u16, u16))>,
    /// Packets of the retransmission stream that carried media.
    pub resent: u64,
    /// NACKed packets, retries included.
    pub nacks: u64,
    /// Keyframe requests.
    pub plis: u64,
}

/// What was seen of one audio stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioStats {
    /// Packets.
    pub packets: u64,
    /// Sequence numbers between the first and the last that never came.
    pub missing: u64,
    /// Longest time between two packets.
    pub longest_gap: Duration,
}

/// One audio packet that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioArrival {
    /// Since the creation of the receiver.
    pub at: Duration,
    /// Its number.
    pub number: SeqNo,
    /// Its time on a media clock of 48 kHz; minus `at` it is its delay, but for a constant.
    pub media: Duration,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    asked: Option<Instant>,
    tries: u32,
}

#[derive(Debug)]
struct Video {
    stream: ReceivedStream,
    stats: VideoStats,
    packets: BTreeMap<SeqNo, RtpPacket>,
    missing: BTreeMap<SeqNo, Missing>,
    next: Option<SeqNo>, // first number not yet played
    highest: Option<SeqNo>,
    last: Option<(Vp8, u32)>, // decoded last, with its timestamp
    tl0: Option<u8>,
    gaps: Vec<Duration>,
    shown: Option<Instant>,
    needs_keyframe: bool,
    keyframe_due: Option<Instant>, // when to ask for one; `None` while none is needed
}

#[derive(Debug)]
struct Audio {
    ssrc: Ssrc,
    first: SeqNo,
    highest: SeqNo,
    distinct: u64,
    last: Instant,
    seen: [u64; 16], // bits for the last 1024 numbers
    origin: u32,     // timestamp of the first packet
    arrivals: Vec<AudioArrival>,
    stats: AudioStats,
}

/// A receiving client.
#[derive(Debug)]
pub struct Receiver {
    start: Instant,
    ssrc: Ssrc,
    extensions: ExtensionIds,
    recorder: FeedbackRecorder,
    videos: Vec<Video>,
    audios: Vec<Audio>,
}

impl Receiver {
    /// A client that reports as `ssrc`.
    pub fn new(start: Instant, ssrc: Ssrc, extensions: ExtensionIds) -> Receiver {
        let recorder = FeedbackRecorder::new(start);
        Receiver { start, ssrc, extensions, recorder, videos: Vec::new(), audios: Vec::new() }
    }

    /// Expects a video stream; once packets come, it is asked for a keyframe until one is there.
    pub fn expect_video(&mut self, stream: ReceivedStream) {
        self.videos.push(Video {
            stream,
            stats: VideoStats::default(),
            packets: BTreeMap::new(),
            missing: BTreeMap::new(),
            next: None,
            highest: None,
            last: None,
            tl0: None,
            gaps: Vec::new(),
            shown: None,
            needs_keyframe: true,
            keyframe_due: None,
        });
    }

    /// What was seen of a stream that is expected.
    pub fn video(&self, ssrc: Ssrc) -> Option<&VideoStats> {
        self.videos.iter().find(|video| video.stream.ssrc == ssrc).map(|video| &video.stats)
    }

    /// What was seen of any other stream.
    pub fn audio(&self, ssrc: Ssrc) -> Option<AudioStats> {
        let audio = self.audios.iter().find(|audio| audio.ssrc == ssrc)?;
        let expected = audio.highest.distance(audio.first).max(0) as u64 + 1;
        Some(AudioStats { missing: expected.saturating_sub(audio.distinct), ..audio.stats })
    }

    /// Each packet of an audio stream that came, in order of arrival and without repetitions.
    pub fn audio_arrivals(&self, ssrc: Ssrc) -> &[AudioArrival] {
        self.audios.iter().find(|audio| audio.ssrc == ssrc).map_or(&[], |audio| &audio.arrivals)
    }

    /// An RTP packet arrived, decrypted. Anything else is ignored.
    pub fn handle_rtp(&mut self, now: Instant, bytes: &[u8]) {
        let Some(packet) = RtpPacket::read(bytes, &self.extensions) else { return };
        if let Some(number) = packet.transport_number {
            self.recorder.on_received(now, number, bytes.len());
        }
        let ssrc = packet.ssrc;
        let of = |video: &&mut Video| video.stream.ssrc == ssrc || video.stream.rtx == Some(ssrc);
        match self.videos.iter_mut().find(of) {
            Some(video) => video.receive(now, self.start, packet),
            None => self.receive_audio(now, &packet),
        }
    }

    /// When `poll_rtcp` may have something.
    pub fn next_timeout(&self) -> Option<Instant> {
        let videos = self.videos.iter().filter_map(Video::next_timeout);
        videos.chain(self.recorder.next_timeout()).min()
    }

    /// The next RTCP packet due: NACK, PLI or transport-wide feedback. Call until `None`.
    pub fn poll_rtcp(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (ssrc, start) = (self.ssrc, self.start);
        if let Some(rtcp) = self.videos.iter_mut().find_map(|video| video.poll_rtcp(now, start, ssrc)) {
            return Some(rtcp);
        }
        let mut buf = [0; 1200];
        let media = self.videos.first().map_or(Ssrc(0), |video| video.stream.ssrc);
        let len = self.recorder.write(now, &mut buf, ssrc, media)?;
        Some(buf[..len].to_vec())
    }

    fn receive_audio(&mut self, now: Instant, packet: &RtpPacket) {
        if packet.payload.is_empty() {
            return; // padding
        }
        let known = self.audios.iter().position(|audio| audio.ssrc == packet.ssrc);
        let index = known.unwrap_or_else(|| {
            let first = SeqNo::first(packet.sequence);
            self.audios.push(Audio {
                ssrc: packet.ssrc,
                first,
                highest: first,
                distinct: 0,
                last: now,
                seen: [0; 16],
                origin: packet.timestamp,
                arrivals: Vec::new(),
                stats: AudioStats::default(),
            });
            self.audios.len() - 1
        });
        let audio = &mut self.audios[index];
        let number = audio.highest.extend(packet.sequence);
        let bit = |number: SeqNo| ((number.value() / 64 % 16) as usize, 1_u64 << (number.value() % 64));
        for step in 1..=number.distance(audio.highest).clamp(0, 1024) as u64 {
            let (word, mask) = bit(audio.highest.plus(step));
            audio.seen[word] &= !mask;
        }
        audio.highest = audio.highest.max(number);
        audio.first = audio.first.min(number);
        audio.stats.packets += 1;
        audio.stats.longest_gap = audio.stats.longest_gap.max(now - audio.last);
        audio.last = now;
        let (word, mask) = bit(number);
        if audio.highest.distance(number) < 1024 && audio.seen[word] & mask == 0 {
            audio.seen[word] |= mask;
            audio.distinct += 1;
            let ticks = u64::from(packet.timestamp.wrapping_sub(audio.origin));
            let media = Duration::from_micros(ticks * 1000 / 48);
            audio.arrivals.push(AudioArrival { at: now - self.start, number, media });
        }
    }
}

impl Video {
    fn receive(&mut self, now: Instant, start: Instant, mut packet: RtpPacket) {
        self.stats.packets += 1;
        self.stats.bytes += packet.payload.len() as u64;
        if self.stream.rtx == Some(packet.ssrc) {
            let Some(original) = packet.payload.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)) else {
                return; // padding on the RTX stream
            };
            packet.sequence = original;
            packet.payload.drain(..2);
            self.stats.resent += 1;
        }
        let number = match self.highest {
            Some(highest) => highest.extend(packet.sequence),
            None => SeqNo::first(packet.sequence),
        };
        if self.next.is_some_and(|next| number < next) {
            return; // played or given up
        }
        if self.next.is_none() {
            self.next = Some(number);
            self.keyframe_due = Some(now + FIRST_PLI);
        }
        let expected = self.highest.map_or(number, |highest| highest.plus(1));
        let ahead = number.distance(expected);
        if ahead > BUFFER as i64 {
            self.restart(now, number);
        } else {
            for step in 0..ahead.max(0) as u64 {
                self.missing.insert(expected.plus(step), Missing { since: now, asked: None, tries: 0 });
            }
        }
        self.highest = self.highest.max(Some(number));
        self.missing.remove(&number);
        if self.packets.len() < BUFFER {
            self.packets.insert(number, packet);
        }
        self.play(now, start);
    }

    fn restart(&mut self, now: Instant, number: SeqNo) {
        self.packets.clear();
        self.missing.clear();
        self.next = Some(number);
        self.highest = None;
        self.need_keyframe(now);
    }

    /// Shows every whole frame at the front of the buffer; a whole keyframe waits for nothing before it.
    fn play(&mut self, now: Instant, start: Instant) {
        self.play_front(now, start);
        if let Some(keyframe) = self.whole_keyframe() {
            self.stats.skips += 1;
            self.packets = self.packets.split_off(&keyframe);
            self.missing = self.missing.split_off(&keyframe);
            self.next = Some(keyframe);
            self.play_front(now, start);
        }
    }

    /// The first packet of the newest keyframe in the buffer that is there to its end.
    fn whole_keyframe(&self) -> Option<SeqNo> {
        let keyframe =
            |packet: &RtpPacket| Vp8::read(&packet.payload).is_some_and(|vp8| vp8.keyframe.is_some());
        let whole = |first: SeqNo, time: u32| {
            let rest = (0..).map_while(|step| self.packets.get(&first.plus(step)));
            rest.take_while(|packet| packet.timestamp == time).any(|packet| packet.marker)
        };
        let mut newest = self.packets.iter().rev();
        newest
            .find(|(first, packet)| keyframe(packet) && whole(**first, packet.timestamp))
            .map(|(first, _)| *first)
    }

    fn play_front(&mut self, now: Instant, start: Instant) {
        while let Some(next) = self.next {
            let Some(first) = self.packets.get(&next) else { return };
            let timestamp = first.timestamp;
            let mut end = next;
            loop {
                match self.packets.get(&end) {
                    None => return,                                                    // the rest is still to come
                    Some(packet) if packet.payload.is_empty() && end == next => break, // padding
                    Some(packet) if packet.timestamp != timestamp => break, // its end never had a marker
                    Some(packet) if packet.marker => {
                        end = end.plus(1);
                        break;
                    }
                    Some(_) => end = end.plus(1),
                }
            }
            let padding = first.payload.is_empty();
            let vp8 = Vp8::read(&first.payload);
            let end = if end == next { next.plus(1) } else { end };
            let mut number = next;
            while number < end {
                self.packets.remove(&number);
                number = number.plus(1);
            }
            self.next = Some(end);
            if !padding {
                self.decode(now, start, vp8, timestamp);
            }
        }
    }

    fn decode(&mut self, now: Instant, start: Instant, vp8: Option<Vp8>, timestamp: u32) {
        let vp8 = vp8.filter(|vp8| vp8.start);
        let keyframe = vp8.is_some_and(|vp8| vp8.keyframe.is_some());
        if self.needs_keyframe && !keyframe {
            return; // a decoder drops these without a word
        }
        let Some(vp8) = vp8.filter(|vp8| keyframe || self.follows(vp8, timestamp)) else {
            self.stats.undecodable += 1;
            self.need_keyframe(now);
            return;
        };
        if let Some((_, last)) = self.last
            && (timestamp.wrapping_sub(last) as i32) <= 0
        {
            self.stats.undecodable += 1; // shown before its predecessor: a jump back in time
        }
        self.needs_keyframe = false;
        self.keyframe_due = None;
        self.last = Some((vp8, timestamp));
        if vp8.temporal == 0 {
            self.tl0 = Some(vp8.tl0_pic_idx);
        }
        self.show(now, start, vp8);
    }

    fn need_keyframe(&mut self, now: Instant) {
        self.needs_keyframe = true;
        self.keyframe_due.get_or_insert(now);
    }

    /// Whether all that the frame may refer to was decoded.
    fn follows(&self, vp8: &Vp8, timestamp: u32) -> bool {
        let Some((last, last_timestamp)) = self.last else { return false };
        let next_picture = vp8.picture_id == (last.picture_id + 1) & 0x7fff;
        let base = if vp8.temporal == 0 { vp8.tl0_pic_idx.wrapping_sub(1) } else { vp8.tl0_pic_idx };
        (timestamp.wrapping_sub(last_timestamp) as i32) > 0 && next_picture && self.tl0 == Some(base)
    }

    fn show(&mut self, now: Instant, start: Instant, vp8: Vp8) {
        self.stats.frames += 1;
        self.stats.first_frame.get_or_insert(now - start);
        if let Some(size) = vp8.keyframe {
            self.stats.keyframes += 1;
            if self.stats.size != Some(size) {
                self.stats.size = Some(size);
                self.stats.sizes.push((now - start, size));
            }
        }
        self.stats.shown.push((now - start, self.stats.size.unwrap_or_default()));
        if let Some(shown) = self.shown {
            let gap = now - shown;
            self.stats.longest_gap = self.stats.longest_gap.max(gap);
            if !self.gaps.is_empty() {
                let mean = self.gaps.iter().sum::<Duration>() / self.gaps.len() as u32;
                if gap > (mean * 3).max(mean + Duration::from_millis(150)) {
                    self.stats.freezes += 1;
                    self.stats.frozen += gap;
                }
            }
            if self.gaps.len() == FREEZE_FRAMES {
                self.gaps.remove(0);
            }
            self.gaps.push(gap);
        }
        self.shown = Some(now);
    }

    fn next_timeout(&self) -> Option<Instant> {
        let nack = self.missing.values().map(|missing| match missing.asked {
            _ if missing.tries >= NACK_TRIES => missing.since + GIVE_UP,
            None => missing.since,
            Some(asked) => (asked + NACK_RETRY).min(missing.since + GIVE_UP),
        });
        nack.chain(self.keyframe_due).min()
    }

    fn poll_rtcp(&mut self, now: Instant, start: Instant, sender: Ssrc) -> Option<Vec<u8>> {
        self.give_up(now, start);
        let due = |missing: &Missing| {
            missing.tries < NACK_TRIES && missing.asked.is_none_or(|asked| now >= asked + NACK_RETRY)
        };
        let wanted: Vec<SeqNo> = self
            .missing
            .iter()
            .filter(|(_, missing)| due(missing))
            .map(|(&number, _)| number)
            .take(64)
            .collect();
        if !wanted.is_empty() {
            let mut rtcp = header(1, 205, sender, self.stream.ssrc);
            for number in wanted {
                rtcp.extend(number.wire().to_be_bytes());
                rtcp.extend([0, 0]);
                self.stats.nacks += 1;
                let missing = self.missing.get_mut(&number).expect("taken from the map");
                (missing.asked, missing.tries) = (Some(now), missing.tries + 1);
            }
            return Some(finish(rtcp));
        }
        if self.keyframe_due.is_some_and(|due| due <= now) {
            self.keyframe_due = Some(now + PLI_RETRY);
            self.stats.plis += 1;
            return Some(finish(header(1, 206, sender, self.stream.ssrc)));
        }
        None
    }

    /// Skips what is missing for too long.
    fn give_up(&mut self, now: Instant, start: Instant) {
        let lost = |missing: &Missing| now >= missing.since + GIVE_UP;
        let Some((&last_lost, _)) = self.missing.iter().rev().find(|(_, missing)| lost(missing)) else {
            return;
        };
        self.stats.skips += 1;
        self.need_keyframe(now);
        let next = last_lost.plus(1);
        self.packets = self.packets.split_off(&next);
        self.missing = self.missing.split_off(&next);
        self.next = Some(next);
        self.play(now, start);
    }
}

/// Header of a feedback packet (RFC 4585 §6.1), its length still open.
fn header(format: u8, packet_type: u8, sender: Ssrc, media: Ssrc) -> Vec<u8> {
    let mut rtcp = vec![0x80 | format, packet_type, 0, 0];
    rtcp.extend(sender.0.to_be_bytes());
    rtcp.extend(media.0.to_be_bytes());
    rtcp
}

fn finish(mut rtcp: Vec<u8>) -> Vec<u8> {
    let words = (rtcp.len() / 4 - 1) as u16;
    rtcp[2..4].copy_from_slice(&words.to_be_bytes());
    rtcp
}
