//! One who watches: decrypts, counts, and reports so that the server's estimate grows.

use std::time::{Duration, Instant};

use sfu::congestion::FeedbackRecorder;
use sfu::ids::{SeqNo, Ssrc};
use sfu::wire::extension;
use sfu::wire::rtcp::{self, Packet, ReportBlock, Writer};
use sfu::wire::rtp::RtpHeader;

use crate::connection::{
    AUDIO_PAYLOAD_TYPE, Connection, Received, TRANSPORT_CC_EXTENSION, VIDEO_PAYLOAD_TYPE,
};
use crate::{BUFFER, Counts, Result};

/// What it reports as; receivers of one bundle need no more than one.
const OURS: Ssrc = Ssrc(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Feedback on a path as long as loopback fits easily.
const FEEDBACK_LEN: usize = 1200;

#[derive(Default)]
struct Stream {
    /// Of the packets so far: the stream's SSRC, the first number and the highest.
    numbers: Option<(Ssrc, SeqNo, SeqNo)>,
    received: u64,
    sender_report: Option<(u32, Instant)>,
}

impl Stream {
    fn count(&mut self, header: &RtpHeader) {
        self.received += 1;
        let wire = header.sequence_number;
        let (_, first, highest) =
            self.numbers.get_or_insert((header.ssrc, SeqNo::first(wire), SeqNo::first(wire)));
        let number = highest.extend(wire);
        (*first, *highest) = ((*first).min(number), (*highest).max(number));
    }

    /// Numbers that never came. The server's numbers have no gaps, so these were lost on the way.
    fn lost(&self) -> u64 {
        let Some((_, first, highest)) = self.numbers else { return 0 };
        (highest.distance(first).unsigned_abs() + 1).saturating_sub(self.received)
    }

    fn report(&self, now: Instant) -> Option<ReportBlock> {
        let (ssrc, _, highest) = self.numbers?;
        let (last_sr, delay) = match self.sender_report {
            Some((sr, at)) => (sr, ((now - at).as_micros() * 65_536 / 1_000_000) as u32),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc: ssrc.0,
            highest_sequence: highest.value() as u32,
            last_sr,
            delay_since_last_sr: delay,
            ..ReportBlock::default()
        })
    }
}

pub(crate) struct Subscriber {
    pub(crate) connection: Connection,
    recorder: FeedbackRecorder,
    audio: Stream,
    video: Stream,
    report_due: Instant,
}

impl Subscriber {
    pub(crate) fn new(now: Instant, connection: Connection) -> Subscriber {
        Subscriber {
            connection,
            recorder: FeedbackRecorder::new(now),
            audio: Stream::default(),
            video: Stream::default(),
            report_due: now + REPORT_INTERVAL,
        }
    }

    /// Media packets received so far; padding and what was sent again are left out.
    pub(crate) fn received(&self) -> Counts {
        Counts { audio: self.audio.received, video: self.video.received }
    }

    /// Media packets lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.audio.lost() + self.video.lost()
    }

    /// Takes what is there.
    pub(crate) fn receive(&mut self, now: Instant) -> Result<()> {
        let mut buffer = [0; BUFFER];
        while let Some(received) = self.connection.receive(now, &mut buffer)? {
            match received {
                Received::Rtp { len, on_wire } => self.handle_rtp(now, &buffer[..len], on_wire)?,
                Received::Rtcp { len } => self.handle_rtcp(now, &buffer[..len])?,
            }
        }
        Ok(())
    }

    fn handle_rtp(&mut self, now: Instant, packet: &[u8], on_wire: usize) -> Result<()> {
        let header = RtpHeader::parse(packet)?;
        if let Some((profile, body)) = header.extension.clone() {
            let mut elements = extension::elements(profile, &packet[body]);
            if let Some((_, [high, low])) = elements.find(|(id, _)| *id == TRANSPORT_CC_EXTENSION) {
                self.recorder.on_received(now, u16::from_be_bytes([*high, *low]), on_wire);
            }
        }
        match header.payload_type {
            AUDIO_PAYLOAD_TYPE => self.audio.count(&header),
            VIDEO_PAYLOAD_TYPE => self.video.count(&header),
            _ => {}
        }
        Ok(())
    }

    fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) -> Result<()> {
        for packet in rtcp::packets(compound) {
            if let Packet::SenderReport(ssrc, info, _) = packet? {
                let of = |stream: &&mut Stream| stream.numbers.is_some_and(|(own, ..)| own == ssrc);
                if let Some(stream) = [&mut self.audio, &mut self.video].into_iter().find(of) {
                    stream.sender_report = Some((info.ntp.middle(), now));
                }
            }
        }
        Ok(())
    }

    /// Sends the reports that are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<()> {
        self.connection.handle_timeout(now)?;
        let mut buffer = [0; BUFFER];
        let media = self.video.numbers.map_or(OURS, |(ssrc, ..)| ssrc);
        while let Some(len) = self.recorder.write(now, &mut buffer[..FEEDBACK_LEN], OURS, media) {
            self.connection.send_rtcp(&mut buffer, len)?;
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            let blocks: Vec<_> = [&self.audio, &self.video].iter().filter_map(|s| s.report(now)).collect();
            let mut writer = Writer::new(&mut buffer);
            writer.receiver_report(OURS, &blocks);
            let len = writer.len();
            self.connection.send_rtcp(&mut buffer, len)?;
        }
        Ok(())
    }
}
