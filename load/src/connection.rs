//! One peer connection: str0m's state machine and the socket that it speaks through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpApi, SdpOffer, SdpPendingOffer};
use str0m::crypto::CryptoProvider;
use str0m::crypto::dtls::DtlsCert;
use str0m::format::Codec;
use str0m::media::{Mid, Pt, Rid};
use str0m::net::{Protocol, Receive, Transmit};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcError};

use crate::crypto::Agreed;
use crate::net::Socket;
use crate::offer;

/// Packets of video that are kept for repair: some seconds.
const SEND_BUFFER: usize = 1000;

/// What all connections of a run have in common.
pub(crate) struct Identity {
    provider: Arc<CryptoProvider>,
    certificate: DtlsCert,
    /// SRTP profiles.
    pub(crate) agreed: &'static Agreed,
}

impl Identity {
    pub(crate) fn generate() -> Result<Identity, rcgen::Error> {
        let (provider, agreed) = crate::crypto::provider();
        Ok(Identity { provider, certificate: crate::crypto::certificate()?, agreed })
    }
}

/// See the module's page.
pub(crate) struct Connection {
    rtc: Rtc,
    /// Lent to whoever reads from it, with which this goes on.
    socket: Option<Socket>,
    local: Option<SocketAddr>,
    /// Nobody has taken note of the socket yet.
    is_new: bool,
    outbox: Vec<Transmit>,
    /// The latest time that it was told.
    now: Instant,
    wake: Instant,
}

impl Connection {
    pub(crate) fn new(now: Instant, identity: &Identity) -> Connection {
        let config = Rtc::builder()
            .set_crypto_provider(Arc::clone(&identity.provider))
            .set_dtls_cert(identity.certificate.clone())
            .set_rtp_mode(true)
            .set_send_buffer_video(SEND_BUFFER)
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true);
        Connection {
            rtc: config.build(now),
            socket: None,
            local: None,
            is_new: false,
            outbox: Vec::new(),
            now,
            wake: now,
        }
    }

    /// For an offer.
    pub(crate) fn sdp(&mut self) -> SdpApi<'_> {
        self.rtc.sdp_api()
    }

    /// Takes the answer to an offer.
    pub(crate) fn answer(&mut self, pending: SdpPendingOffer, sdp: &str) -> Result<(), SdpFailure> {
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| SdpFailure::Sdp(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.open(sdp)
    }

    /// Takes an offer of the server's, and gives the answer to it.
    pub(crate) fn offered(&mut self, sdp: &str) -> Result<String, SdpFailure> {
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| SdpFailure::Sdp(error.to_string()))?;
        self.open(sdp)?;
        Ok(self.rtc.sdp_api().accept_offer(offer)?.to_sdp_string())
    }

    /// Takes a candidate that the server told apart from its description (RFC 8838); of use is what is UDP.
    pub(crate) fn trickled(&mut self, candidate: &str) -> Result<(), SdpFailure> {
        let line = format!("a={candidate}");
        if offer::udp_candidates(&line).is_empty() {
            return Ok(());
        }
        let parsed = Candidate::from_sdp_string(candidate);
        self.rtc.add_remote_candidate(parsed.map_err(|error| SdpFailure::Sdp(error.to_string()))?);
        self.open(&line)
    }

    /// The socket, once: it is to be watched, and its address told to the server.
    pub(crate) fn opened(&mut self) -> Option<&Socket> {
        self.socket.as_ref().filter(|_| std::mem::take(&mut self.is_new))
    }

    /// Where the server's packets are to go, once there is a socket (RFC 8839 §5.1).
    pub(crate) fn candidate(&self) -> Option<String> {
        Some(Candidate::host(self.local?, "udp").ok()?.to_sdp_string())
    }

    /// Opens a socket towards the server if there is none yet: its candidates say where that is.
    fn open(&mut self, sdp: &str) -> Result<(), SdpFailure> {
        if self.local.is_some() {
            return Ok(());
        }
        let mut failed = None;
        for candidate in offer::udp_candidates(sdp) {
            match Socket::towards(candidate) {
                Ok(socket) => {
                    let local = Candidate::host(socket.local(), "udp");
                    self.rtc.add_local_candidate(local.map_err(|error| SdpFailure::Sdp(error.to_string()))?);
                    self.local = Some(socket.local());
                    (self.socket, self.is_new) = (Some(socket), true);
                    return Ok(());
                }
                Err(error) => failed = Some(error),
            }
        }
        // Without a candidate others may come apart from it.
        failed.map_or(Ok(()), |error| Err(SdpFailure::Socket(error)))
    }

    /// To read from, while [`Connection::receive`] takes what comes; to be given back.
    pub(crate) fn lend_socket(&mut self) -> Option<Socket> {
        self.socket.take()
    }

    /// What there was to say meanwhile leaves now.
    pub(crate) fn give_back(&mut self, socket: Socket) {
        self.socket = Some(socket);
        self.flush();
    }

    /// Datagrams that the kernel dropped because they were not read in time.
    pub(crate) fn dropped(&self) -> u32 {
        self.socket.as_ref().map_or(0, Socket::dropped)
    }

    /// A datagram came. Time does not go back: one that was stamped before the last call came at its time.
    pub(crate) fn receive(
        &mut self,
        at: Instant,
        from: SocketAddr,
        datagram: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), RtcError> {
        let Some(local) = self.local else { return Ok(()) };
        // An error is what is neither STUN, DTLS, RTP nor RTCP.
        let Ok(received) = Receive::new(Protocol::Udp, from, local, datagram) else { return Ok(()) };
        self.now = self.now.max(at);
        self.rtc.handle_input(Input::Receive(self.now, received))?;
        self.drain(events)
    }

    pub(crate) fn next_timeout(&self) -> Instant {
        self.wake
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, events: &mut Vec<Event>) -> Result<(), RtcError> {
        self.now = self.now.max(now);
        self.rtc.handle_input(Input::Timeout(self.now))?;
        self.drain(events)?;
        self.flush();
        Ok(())
    }

    /// Queues a packet; it leaves with the next [`Connection::handle_timeout`].
    pub(crate) fn send(
        &mut self,
        mid: Mid,
        rid: Option<Rid>,
        packet: RtpWrite,
        events: &mut Vec<Event>,
    ) -> Result<(), RtcError> {
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, rid) {
            stream.write_rtp(packet);
        }
        self.drain(events)
    }

    /// Asks for a keyframe of a received stream.
    pub(crate) fn ask_for_keyframe(&mut self, ssrc: u32, events: &mut Vec<Event>) -> Result<(), RtcError> {
        if let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc.into()) {
            stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        }
        self.drain(events)
    }

    /// Payload types of a codec and of its repairs.
    pub(crate) fn payload_types(&self, codec: Codec) -> Option<(Pt, Option<Pt>)> {
        let mut all = self.rtc.codec_config().params().iter();
        all.find(|params| params.spec().codec == codec).map(|params| (params.pt(), params.resend()))
    }

    /// Says goodbye to the server.
    pub(crate) fn close(&mut self, now: Instant) {
        let mut events = Vec::new();
        // An error changes nothing: it is over.
        let _ = self.rtc.close();
        let _ = self.handle_timeout(now + Duration::from_millis(1), &mut events);
    }

    fn drain(&mut self, events: &mut Vec<Event>) -> Result<(), RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(wake) => {
                    self.wake = wake;
                    return Ok(());
                }
                Output::Transmit(datagram) => self.outbox.push(datagram),
                Output::Event(event) => events.push(event),
            }
        }
    }

    fn flush(&mut self) {
        let Some(socket) = &self.socket else { return };
        for datagram in self.outbox.drain(..) {
            socket.send(&datagram.contents, datagram.destination);
        }
    }
}

/// Why the server's description is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SdpFailure {
    #[error("{0}")]
    Sdp(String),
    #[error(transparent)]
    Rtc(#[from] RtcError),
    #[error(transparent)]
    Socket(io::Error),
}
