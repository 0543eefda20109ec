//! What a client may send that no browser does: reports that lie, and requests that flood.

use std::time::{Duration, Instant};

use sfu::congestion::twcc;
use sfu::ids::Ssrc;
use sfu::wire::rtcp::{FMT_TRANSPORT_CC, PT_RTPFB, Packet, Writer, packets, write_feedback_header};

use super::subscriber::OWN;

/// Numbers that one packet of NACKs names.
const ALL: u16 = 240;
/// The same for those received, and how many newer ones there are: a report has told of these.
const RECEIVED: (u16, u16) = (100, 60);
/// Time between packets of NACKs and of REMB.
const BETWEEN: Duration = Duration::from_millis(20);

/// What a subscriber does from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Its transport-wide reports are not true.
    Reports(Forgery),
    /// It asks for all of the last 240 video packets, 50 times a second.
    NackAll,
    /// It asks so often for 100 packets that it has reported as received.
    NackReceived,
    /// It asks for keyframes, so many times a second.
    Plis(u32),
    /// The same in the form of FIR.
    Firs(u32),
    /// It claims this for its rate, in bit/s.
    Remb(u64),
}

/// How reports lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Everything arrived, and all of it at once.
    AtOnce,
    /// Everything arrived, in a tenth of the time.
    Compressed,
    /// Everything arrives years later, then long ago, in turns.
    Future,
    /// They are about 65 535 packets.
    Everything,
    /// They are about numbers that were never sent.
    NeverSent,
    /// Each comes twenty times.
    Repeated,
    /// Base and reference time are noise.
    Noise,
}

impl Forgery {
    /// All of them.
    pub const ALL: [Forgery; 7] = [
        Forgery::AtOnce,
        Forgery::Compressed,
        Forgery::Future,
        Forgery::Everything,
        Forgery::NeverSent,
        Forgery::Repeated,
        Forgery::Noise,
    ];
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Attacker {
    attack: Attack,
    due: Instant,
    rng: fastrand::Rng,
    count: u8,
    /// Sequence number of the newest video packet.
    pub(super) newest: u16,
}

impl Attacker {
    pub(super) fn new(now: Instant, attack: Attack) -> Attacker {
        Attacker { attack, due: now, rng: fastrand::Rng::with_seed(1), count: 0, newest: 0 }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        (!matches!(self.attack, Attack::Reports(_))).then_some(self.due)
    }

    /// What is sent beside what honest clients send.
    pub(super) fn flood(&mut self, now: Instant, video: Ssrc) -> Option<Vec<u8>> {
        if self.next_timeout().is_none_or(|due| due > now) {
            return None;
        }
        let mut buf = [0; 1200];
        let mut writer = Writer::new(&mut buf);
        self.count = self.count.wrapping_add(1);
        let (count, newer) = if self.attack == Attack::NackReceived { RECEIVED } else { (ALL, 0) };
        let numbers = (newer..newer + count).rev().map(|back| self.newest.wrapping_sub(back));
        let numbers: Vec<u16> = numbers.collect();
        self.due += match self.attack {
            Attack::NackAll | Attack::NackReceived => {
                writer.nack(OWN, video, &numbers);
                BETWEEN
            }
            Attack::Plis(rate) => {
                writer.pli(OWN, video);
                Duration::from_secs(1) / rate
            }
            Attack::Firs(rate) => {
                writer.fir(OWN, video, self.count);
                Duration::from_secs(1) / rate
            }
            Attack::Remb(rate) => {
                writer.remb(OWN, rate, &[video]);
                BETWEEN
            }
            Attack::Reports(_) => return None,
        };
        let len = writer.len();
        Some(buf[..len].to_vec())
    }

    /// What is sent instead of an honest packet.
    pub(super) fn forge(&mut self, honest: Vec<u8>) -> Vec<Vec<u8>> {
        let Attack::Reports(forgery) = self.attack else { return vec![honest] };
        let Some(Ok(Packet::TransportCc(fci))) = packets(&honest).next() else { return vec![honest] };
        let report = twcc::parse(fci).expect("the receiver writes whole reports");
        let (base, count, time) = (report.base, report.count, report.reference);
        self.count = self.count.wrapping_add(1);
        let forged = match forgery {
            Forgery::AtOnce => self.received(base, count, time),
            Forgery::Compressed => self.received(base, count, time / 10),
            Forgery::Future => {
                let years = if self.count.is_multiple_of(2) { 0 } else { 0x7f_ffff };
                self.received(base, count, time.wrapping_add(years))
            }
            Forgery::Everything => self.packet(base, u16::MAX, time, &[0x1fff; 9], 0),
            Forgery::NeverSent => self.received(base.wrapping_add(30_000), count, time),
            Forgery::Repeated => return vec![honest; 20],
            Forgery::Noise => {
                let (base, time) = (self.rng.u16(..), self.rng.u32(..));
                self.received(base, count, time)
            }
        };
        vec![forged]
    }

    /// All packets arrived at `time`, which counts in 64 ms.
    fn received(&self, base: u16, count: u16, time: u32) -> Vec<u8> {
        let count = count.min(1000);
        self.packet(base, count, time, &[0x2000 | count], usize::from(count))
    }

    fn packet(&self, base: u16, count: u16, time: u32, chunks: &[u16], deltas: usize) -> Vec<u8> {
        let mut fci = [base.to_be_bytes(), count.to_be_bytes()].concat();
        fci.extend((time << 8 | u32::from(self.count)).to_be_bytes());
        fci.extend(chunks.iter().flat_map(|chunk| chunk.to_be_bytes()));
        fci.resize((fci.len() + deltas).next_multiple_of(4), 0);
        let header = write_feedback_header(PT_RTPFB, FMT_TRANSPORT_CC, OWN, Ssrc(0), fci.len());
        [&header[..], &fci].concat()
    }
}
