//! A client's transport: a UDP socket, ICE checks, DTLS as the client, SRTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use ring::hmac;
use sfu::command::Path;
use sfu::transport::certificate::{Certificate, Fingerprint};
use sfu::transport::demux::{PacketClass, classify};
use sfu::transport::dtls::{Dtls, DtlsConfig, DtlsEvent, MAX_DATAGRAM, RtcDtls};
use sfu::transport::srtp::{DtlsRole, SrtpReceiver, SrtpSender};
use sfu::transport::stun::{self, Check, IceRole, StunMessage, TransactionId};
use sluice::media::kernel::{BufferSizes, Outgoing, ReceiveBatch, SendBatch, UdpSocket};

use crate::Result;

pub(crate) const AUDIO_PAYLOAD_TYPE: u8 = 111;
pub(crate) const VIDEO_PAYLOAD_TYPE: u8 = 96;
pub(crate) const RTX_PAYLOAD_TYPE: u8 = 97;
pub(crate) const AUDIO_MID: &str = "0";
pub(crate) const VIDEO_MID: &str = "1";
pub(crate) const MID_EXTENSION: u8 = 1;
pub(crate) const TRANSPORT_CC_EXTENSION: u8 = 4;
pub(crate) const AUDIO_LEVEL_EXTENSION: u8 = 5;

const BUFFERS: BufferSizes = BufferSizes { receive: 1 << 18, send: 1 << 18 };
const PASSWORD: &str = "onepasswordforeverybody";
/// Until the handshake is done, and then as consent (RFC 7675 has a client check every 5 s or so).
const CHECK_INTERVALS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(4)];

/// What all clients of a run have in common.
pub(crate) struct Identity {
    fingerprint: String,
    dtls: DtlsConfig,
}

impl Identity {
    pub(crate) fn generate() -> Result<Identity> {
        let certificate = Certificate::generate()?;
        Ok(Identity { fingerprint: certificate.fingerprint_sha256(), dtls: DtlsConfig::new(&certificate)? })
    }

    /// An offer of one audio and one video section.
    pub(crate) fn offer(&self, ufrag: &str, direction: &str) -> String {
        let section = |kind: &str, mid: &str, formats: &str| {
            format!(
                "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\nc=IN IP4 0.0.0.0\na=ice-ufrag:{ufrag}\n\
                 a=ice-pwd:{PASSWORD}\na=fingerprint:sha-256 {}\na=setup:actpass\na=mid:{mid}\na={direction}\n\
                 a=msid:- {kind}\na=rtcp-mux\na=rtcp-rsize\n\
                 a=extmap:{MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid\n\
                 a=extmap:{TRANSPORT_CC_EXTENSION} \
                 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\n",
                self.fingerprint
            )
        };
        let (audio, video, rtx) = (AUDIO_PAYLOAD_TYPE, VIDEO_PAYLOAD_TYPE, RTX_PAYLOAD_TYPE);
        let head = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\n";
        let group = format!("a=group:BUNDLE {AUDIO_MID} {VIDEO_MID}\n");
        let audio = section("audio", AUDIO_MID, &audio.to_string())
            + &format!("a=extmap:{AUDIO_LEVEL_EXTENSION} urn:ietf:params:rtp-hdrext:ssrc-audio-level\n")
            + &format!("a=rtpmap:{audio} opus/48000/2\na=rtcp-fb:{audio} transport-cc\n");
        let video = section("video", VIDEO_MID, &format!("{video} {rtx}"))
            + &format!("a=rtpmap:{video} VP8/90000\na=rtcp-fb:{video} transport-cc\n")
            + &format!("a=rtcp-fb:{video} nack\na=rtcp-fb:{video} nack pli\na=rtcp-fb:{video} ccm fir\n")
            + &format!("a=rtpmap:{rtx} rtx/90000\na=fmtp:{rtx} apt={video}\n");
        [head, &group, &audio, &video].concat().replace('\n', "\r\n")
    }
}

/// Something decrypted, so many bytes at the start of the buffer, and the size that it had on the wire.
pub(crate) enum Received {
    Rtp { len: usize, on_wire: usize },
    Rtcp { len: usize },
}

/// What all clients of a run use one after the other.
pub(crate) struct Batches {
    receive: Box<ReceiveBatch>,
    send: Box<SendBatch>,
}

impl Batches {
    pub(crate) fn new() -> Batches {
        Batches { receive: ReceiveBatch::new(), send: SendBatch::new() }
    }
}

/// Datagrams, end to end, and where each ends.
#[derive(Default)]
struct Mail {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    taken: usize,
}

impl Mail {
    fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
    }

    /// Copies the next one; its length.
    fn take(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let Some(&end) = self.ends.get(self.taken) else {
            self.clear();
            return None;
        };
        let start = self.taken.checked_sub(1).map_or(0, |last| self.ends[last]);
        buffer[..end - start].copy_from_slice(&self.bytes[start..end]);
        self.taken += 1;
        Some(end - start)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.taken = 0;
    }
}

pub(crate) struct Connection {
    socket: UdpSocket,
    inbox: Mail,
    outbox: Mail,
    server: SocketAddr,
    ufrag: String,
    their_ufrag: String,
    key: hmac::Key,
    their_key: hmac::Key,
    checks: u32,
    check_due: Instant,
    dtls: RtcDtls,
    srtp: Option<(SrtpSender, SrtpReceiver)>,
    scratch: Vec<u8>,
}

impl Connection {
    /// A connection to `server`, whose answer is `answer`, of the client that offered with `ufrag`.
    pub(crate) fn new(
        now: Instant,
        server: SocketAddr,
        identity: &Identity,
        ufrag: String,
        answer: &str,
    ) -> Result<Connection> {
        let attribute = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name));
            line.ok_or_else(|| format!("no {name} in the answer"))
        };
        let fingerprint = Fingerprint::parse_attribute(attribute("a=fingerprint:")?)?;
        Ok(Connection {
            socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), BUFFERS)?,
            inbox: Mail::default(),
            outbox: Mail::default(),
            server,
            their_ufrag: attribute("a=ice-ufrag:")?.to_owned(),
            key: stun::password_key(PASSWORD),
            their_key: stun::password_key(attribute("a=ice-pwd:")?),
            ufrag,
            checks: 0,
            check_due: now,
            dtls: RtcDtls::new(&identity.dtls, DtlsRole::Client, fingerprint),
            srtp: None,
            scratch: Vec::new(),
        })
    }

    /// Whether media can flow.
    pub(crate) fn is_up(&self) -> bool {
        self.srtp.is_some()
    }

    /// Reads what the socket has; runs come as they were sent.
    pub(crate) fn read(&mut self, batches: &mut Batches) -> Result<()> {
        batches.receive.receive(&self.socket)?;
        let (inbox, local) = (&mut self.inbox, self.socket.local_addr());
        batches.receive.for_each(Instant::now(), local, |_, _, datagram| inbox.push(datagram));
        Ok(())
    }

    /// Sends what was written.
    pub(crate) fn flush(&mut self, batches: &mut Batches) {
        let path = Path::udp(self.socket.local_addr(), self.server);
        let starts = std::iter::once(0).chain(self.outbox.ends.iter().copied());
        let datagrams = starts.zip(&self.outbox.ends).map(|(start, &end)| {
            let bytes = &self.outbox.bytes[start..end];
            Outgoing { path, segment: bytes.len() as u16, bytes }
        });
        batches.send.send(&mut self.socket, datagrams);
        self.outbox.clear();
    }

    /// Takes datagrams until there is media or media control, which is left in `buffer`; `None` when all that was
    /// read is taken.
    pub(crate) fn receive(&mut self, now: Instant, buffer: &mut [u8]) -> Result<Option<Received>> {
        loop {
            let Some(on_wire) = self.inbox.take(buffer) else { return Ok(None) };
            let datagram = &mut buffer[..on_wire];
            match (classify(datagram), &mut self.srtp) {
                (Some(PacketClass::Stun), _) => self.handle_stun(now, datagram)?,
                (Some(PacketClass::Dtls), _) => {
                    self.dtls.handle_datagram(now, datagram);
                    self.drain_dtls()?;
                }
                (Some(PacketClass::Rtp), Some((_, receiver))) => {
                    return Ok(Some(Received::Rtp { len: receiver.unprotect_rtp(datagram)?, on_wire }));
                }
                (Some(PacketClass::Rtcp), Some((_, receiver))) => {
                    return Ok(Some(Received::Rtcp { len: receiver.unprotect_rtcp(datagram)? }));
                }
                // Media may overtake the end of the handshake.
                (_, _) => {}
            }
        }
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8]) -> Result<()> {
        match stun::parse(datagram) {
            Ok(StunMessage::Request(request)) => {
                stun::write_success(&mut self.scratch, request.transaction, self.server, &self.key);
                self.outbox.push(&self.scratch);
                Ok(())
            }
            Ok(StunMessage::Success(_)) => {
                self.dtls.start(now);
                self.drain_dtls()
            }
            Ok(StunMessage::Error(_)) | Err(_) => Err("a connectivity check was refused".into()),
        }
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<()> {
        if self.check_due <= now {
            self.check_due = now + CHECK_INTERVALS[usize::from(self.is_up())];
            self.checks += 1;
            let mut transaction = [0; 12];
            transaction[..4].copy_from_slice(&self.checks.to_be_bytes());
            let check = Check {
                transaction: TransactionId(transaction),
                their_ufrag: &self.their_ufrag,
                our_ufrag: &self.ufrag,
                priority: 1,
                role: IceRole::Controlling(1),
                key: &self.their_key,
            };
            stun::write_check(&mut self.scratch, &check);
            self.outbox.push(&self.scratch);
        }
        if self.dtls.next_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
            self.drain_dtls()?;
        }
        Ok(())
    }

    fn drain_dtls(&mut self) -> Result<()> {
        let mut datagram = [0; MAX_DATAGRAM];
        while let Some(len) = self.dtls.poll_transmit(&mut datagram) {
            self.outbox.push(&datagram[..len]);
        }
        while let Some(event) = self.dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => {
                    self.srtp = Some((keys.sender(DtlsRole::Client), keys.receiver(DtlsRole::Client)));
                }
                DtlsEvent::ApplicationData(_) => {}
                DtlsEvent::Closed => return Err("the server closed a connection".into()),
                DtlsEvent::Failed(why) => return Err(format!("a handshake failed: {why:?}").into()),
            }
        }
        Ok(())
    }

    /// Encrypts and sends the `len` bytes of RTP at the start of `buffer`, which has room for the tag.
    pub(crate) fn send_rtp(&mut self, buffer: &mut [u8], len: usize) -> Result<()> {
        let Some((sender, _)) = &mut self.srtp else { return Ok(()) };
        let len = sender.protect_rtp(buffer, len)?;
        self.outbox.push(&buffer[..len]);
        Ok(())
    }

    /// The same for RTCP.
    pub(crate) fn send_rtcp(&mut self, buffer: &mut [u8], len: usize) -> Result<()> {
        let Some((sender, _)) = &mut self.srtp else { return Ok(()) };
        let len = sender.protect_rtcp(buffer, len)?;
        self.outbox.push(&buffer[..len]);
        Ok(())
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
