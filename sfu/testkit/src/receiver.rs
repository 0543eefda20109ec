//! A scripted receiver: what a browser would show, and what it would report.
//!
//! It asks for missing packets (NACK) and for keyframes (PLI), writes feedback for congestion control, and decodes what libwebrtc
//! would decode ([`video`]), shown or played when it would be ([`playout`]).
//! Always: memory is bounded; nothing it is sent makes it panic.

pub mod playout;
mod video;

use std::time::{Duration, Instant};

use sfu::congestion::{FeedbackRecorder, StreamRecorder};
use sfu::ids::{SeqNo, Ssrc};
use sfu::units::WallClock;

use self::video::Video;
use crate::rtp::{ExtensionIds, RtpPacket, red};

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
    /// Breaks of the chain that the receiver cannot know of: a frame whose beginning or reference is missing though no
    /// number before it is, or one shown before its predecessor.
    pub undecodable: u64,
    /// Times that the receiver went on without frames that did not come in time.
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
    /// When each of them would be seen behind a playout buffer ([`playout`]).
    pub played: Vec<Duration>,
    /// How much later that is than at the fastest.
    pub delays: Vec<Duration>,
    /// Packets of the retransmission stream that carried media.
    pub resent: u64,
    /// Of them, those that a NACK asked for and that came otherwise too.
    pub spurious: u64,
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
    /// Those with earlier ones in them.
    pub redundant: u64,
    /// Sequence numbers between the first and the last that never came, nor in a later packet.
    pub missing: u64,
    /// Longest time between two packets.
    pub longest_gap: Duration,
}

/// One audio packet that came, by itself or in a later one.
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

/// What arrived, in the form of its reports.
#[derive(Debug)]
enum Recorder {
    TransportWide(FeedbackRecorder),
    PerStream(StreamRecorder, WallClock),
}

/// A receiving client.
#[derive(Debug)]
pub struct Receiver {
    start: Instant,
    ssrc: Ssrc,
    extensions: ExtensionIds,
    recorder: Recorder,
    reported: u64,
    videos: Vec<Video>,
    audios: Vec<Audio>,
    redundancy: Option<u8>,
}

impl Receiver {
    /// A client that reports as `ssrc`.
    pub fn new(start: Instant, ssrc: Ssrc, extensions: ExtensionIds) -> Receiver {
        let recorder = Recorder::TransportWide(FeedbackRecorder::new(start));
        Receiver {
            start,
            ssrc,
            extensions,
            recorder,
            reported: 0,
            videos: Vec::new(),
            audios: Vec::new(),
            redundancy: None,
        }
    }

    /// It reports by stream (RFC 8888) from now on.
    pub fn report_by_stream(&mut self, wall: WallClock) {
        self.recorder = Recorder::PerStream(StreamRecorder::default(), wall);
    }

    /// It asks for missing packets only after this long: they may come otherwise.
    pub fn delay_nacks(&mut self, delay: Duration) {
        for video in &mut self.videos {
            video.nack_delay = delay;
        }
    }

    /// Bytes of feedback for congestion control so far.
    pub fn reported(&self) -> u64 {
        self.reported
    }

    /// Audio of this payload type carries earlier packets, of 20 ms each.
    pub fn expect_redundancy(&mut self, payload_type: Option<u8>) {
        self.redundancy = payload_type;
    }

    /// Expects a video stream; once packets come, it is asked for a keyframe until one is there.
    pub fn expect_video(&mut self, stream: ReceivedStream) {
        self.videos.push(Video::new(stream));
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
        match (&mut self.recorder, packet.transport_number) {
            (Recorder::TransportWide(recorder), Some(number)) => {
                recorder.on_received(now, number, bytes.len());
            }
            (Recorder::TransportWide(_), None) => {}
            (Recorder::PerStream(recorder, _), _) => {
                recorder.on_received(now, packet.ssrc, packet.sequence, bytes.len());
            }
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
        let report = match &self.recorder {
            Recorder::TransportWide(recorder) => recorder.next_timeout(),
            Recorder::PerStream(recorder, _) => recorder.next_timeout(),
        };
        videos.chain(report).min()
    }

    /// The next RTCP packet due: NACK, PLI or feedback for congestion control. Call until `None`.
    pub fn poll_rtcp(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (ssrc, start) = (self.ssrc, self.start);
        for video in &mut self.videos {
            video.play(now, start);
            if let Some(rtcp) = video.poll_rtcp(now, ssrc) {
                return Some(rtcp);
            }
        }
        let mut buf = [0; 1200];
        let media = self.videos.first().map_or(Ssrc(0), |video| video.stream.ssrc);
        let len = match &mut self.recorder {
            Recorder::TransportWide(recorder) => recorder.write(now, &mut buf, ssrc, media),
            Recorder::PerStream(recorder, wall) => recorder.write(now, &mut buf, ssrc, wall.ntp(now)),
        }?;
        self.reported += len as u64;
        Some(buf[..len].to_vec())
    }

    fn receive_audio(&mut self, now: Instant, packet: &RtpPacket) {
        if packet.payload.is_empty() {
            return; // padding
        }
        let redundant = self.redundancy == Some(packet.payload_type);
        let offsets = if redundant { red::offsets(&packet.payload) } else { Some(Vec::new()) };
        let Some(offsets) = offsets else { return };
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
        audio.stats.packets += 1;
        audio.stats.redundant += u64::from(!offsets.is_empty());
        audio.stats.longest_gap = audio.stats.longest_gap.max(now - audio.last);
        audio.last = now;
        let at = now - self.start;
        audio.note(at, packet.sequence, packet.timestamp);
        for offset in offsets {
            let sequence = packet.sequence.wrapping_sub((offset / 960) as u16);
            audio.note(at, sequence, packet.timestamp.wrapping_sub(offset));
        }
    }
}

impl Audio {
    /// A packet is there, perhaps not for the first time.
    fn note(&mut self, at: Duration, sequence: u16, timestamp: u32) {
        let number = self.highest.extend(sequence);
        if number < self.first && self.distinct > 0 {
            return; // before the beginning
        }
        let bit = |number: SeqNo| ((number.value() / 64 % 16) as usize, 1_u64 << (number.value() % 64));
        for step in 1..=number.distance(self.highest).clamp(0, 1024) as u64 {
            let (word, mask) = bit(self.highest.plus(step));
            self.seen[word] &= !mask;
        }
        self.highest = self.highest.max(number);
        let (word, mask) = bit(number);
        if self.highest.distance(number) < 1024 && self.seen[word] & mask == 0 {
            self.seen[word] |= mask;
            self.distinct += 1;
            let ticks = u64::from(timestamp.wrapping_sub(self.origin));
            let media = Duration::from_micros(ticks * 1000 / 48);
            self.arrivals.push(AudioArrival { at, number, media });
        }
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
