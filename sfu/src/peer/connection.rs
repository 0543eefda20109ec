//! One peer connection's transport: ICE, DTLS, SRTP and SCTP, stacked.
//!
//! What the network delivered comes in by class (STUN, DTLS, SRTP, SRTCP); what is to be sent goes straight into
//! the [`Egress`]. Always: media is neither accepted nor sent before the handshake is complete and its
//! fingerprint was right, and only over the path that ICE selected.
//! Not here: what the packets mean.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ahead::look;
use crate::command::{Path, PeerEnd, Reliability};
use crate::egress::{Egress, MAX_DATAGRAM};
use crate::ids::Ssrc;
use crate::stats::{DropReason, Stats};
use crate::transport::certificate::Fingerprint;
use crate::transport::dtls::{Dtls, DtlsConfig, DtlsEvent, DtlsFailure, EarlyDatagrams, RtcDtls};
use crate::transport::ice::{IceConfig, IceEvent, IceLite, IceOutcome, RemoteCredentials};
use crate::transport::sctp::{ChannelEvent, DataConfig, DataTransport};
use crate::transport::srtp::{DtlsRole, SrtpError, SrtpReceiver, SrtpSender};

/// A client that is not connected this long after its description was agreed on will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that is not heard again this long after its consent expired is given up, unless signalling did so before.
const LOST_TIMEOUT: Duration = Duration::from_mins(1);
/// Between two [`ConnectionEvent::Returning`]. A keyframe that came since serves that long.
const RETURNING_INTERVAL: Duration = Duration::from_millis(300);
/// SCTP packets of one connection that leave at once; the rest waits for [`DATA_TICK`], so that a big message does
/// not overflow the client's socket buffer.
const DATA_BURST: usize = 32;
/// See [`DATA_BURST`].
const DATA_TICK: Duration = Duration::from_millis(2);

/// What the peer must act upon.
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// Handshake complete and path selected: media may flow.
    Up,
    /// No path any more, after a silence of this length: see [`Event::Lost`](crate::command::Event::Lost).
    Lost(Duration),
    /// The client asks for a path in place of the one that it has, or had: media may soon flow there.
    Returning,
    /// A path again: media may flow on.
    Back,
    /// Media goes over this path from now on.
    Selected(Path),
    /// Datagrams with this username fragment are not for us any more.
    UfragRetired(String),
    /// Nor are those that come over this path, unless they are signed.
    PathForgotten(Path),
    /// Something happened on the data channels.
    Channel(ChannelEvent),
    /// It is over.
    Ended(PeerEnd),
}

/// How media is protected.
enum Cipher {
    /// Nothing agreed yet.
    None,
    Srtp {
        sender: Box<SrtpSender>,
        receiver: Box<SrtpReceiver>,
    },
    /// Simulations only: nothing is encrypted, and the path is given.
    #[cfg(feature = "null-cipher")]
    Null(Path),
}

/// See the module's page.
pub(crate) struct Connection {
    pub(crate) ice: IceLite,
    dtls: Option<RtcDtls>,
    early: EarlyDatagrams,
    cipher: Cipher,
    pub(crate) data: Option<DataTransport>,
    data_config: DataConfig,
    /// Channels to open when SCTP is up.
    pub(crate) wanted_channels: Vec<(String, Reliability)>,
    data_due: Option<Instant>,
    give_up: Option<Instant>,
    up: bool,
    /// Given up then; `Some` exactly while there is no path after there was one.
    lost_until: Option<Instant>,
    /// When [`ConnectionEvent::Returning`] may be told again.
    returning_from: Option<Instant>,
    events: VecDeque<ConnectionEvent>,
    scratch: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(config: &IceConfig, rng: &mut fastrand::Rng) -> Self {
        Connection {
            ice: IceLite::new(config, rng),
            dtls: None,
            early: EarlyDatagrams::default(),
            cipher: Cipher::None,
            data: None,
            data_config: DataConfig::default(),
            wanted_channels: Vec::new(),
            data_due: None,
            give_up: None,
            up: false,
            lost_until: None,
            returning_from: None,
            events: VecDeque::new(),
            scratch: Vec::with_capacity(MAX_DATAGRAM),
        }
    }

    /// Whether media may flow.
    pub(crate) fn is_up(&self) -> bool {
        self.up && self.lost_until.is_none()
    }

    /// Where media goes.
    pub(crate) fn path(&self) -> Option<Path> {
        #[cfg(feature = "null-cipher")]
        if let Cipher::Null(path) = self.cipher {
            return Some(path);
        }
        self.ice.selected().filter(|_| self.up)
    }

    pub(crate) fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    /// Takes what the client's description says of its transport. The handshake can begin with it.
    pub(crate) fn agree(
        &mut self,
        now: Instant,
        credentials: RemoteCredentials,
        fingerprint: Fingerprint,
        role: DtlsRole,
        dtls: &DtlsConfig,
        egress: &mut Egress,
    ) {
        self.ice.set_remote_credentials(credentials);
        if self.dtls.is_none() {
            self.give_up.get_or_insert(now + CONNECT_TIMEOUT);
            let mut session = RtcDtls::new(dtls, role, fingerprint);
            for datagram in self.early.drain() {
                session.handle_datagram(now, &datagram);
            }
            self.dtls = Some(session);
            if self.ice.handshake_path().is_some()
                && let Some(session) = &mut self.dtls
            {
                session.start(now);
            }
        }
        self.pump(now, egress);
    }

    /// The client takes messages up to this size.
    pub(crate) fn set_max_message_size(&mut self, size: usize) {
        self.data_config.max_send_message = self.data_config.max_send_message.min(size);
    }

    /// Media flows over `path` in the clear from now on.
    #[cfg(feature = "null-cipher")]
    pub(crate) fn connect_plain(&mut self, path: Path) {
        self.cipher = Cipher::Null(path);
        (self.dtls, self.give_up) = (None, None);
        self.up = true;
        self.events.push_back(ConnectionEvent::Selected(path));
        self.events.push_back(ConnectionEvent::Up);
    }

    pub(crate) fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        egress: &mut Egress,
        stats: &mut Stats,
    ) {
        let mut reply = std::mem::take(&mut self.scratch);
        match self.ice.handle_stun(now, path, datagram, &mut reply) {
            IceOutcome::Answered => {
                egress.push(path, &reply);
                self.may_return(now, path);
            }
            IceOutcome::Refused(_) => {
                stats.drop(DropReason::Stun);
                egress.push(path, &reply);
            }
            IceOutcome::Validated => {}
            IceOutcome::Dropped(_) => stats.drop(DropReason::Stun),
        }
        while let Some(path) = self.ice.poll_transmit(&mut reply) {
            egress.push(path, &reply);
        }
        self.scratch = reply;
        if let Some(dtls) = &mut self.dtls
            && self.ice.handshake_path().is_some()
        {
            dtls.start(now);
        }
        self.pump(now, egress);
    }

    /// A signed request came over this path.
    fn may_return(&mut self, now: Instant, path: Path) {
        let moves =
            self.lost_until.is_some() || (self.ice.is_restarting() && self.ice.selected() != Some(path));
        if self.up && moves && self.returning_from.is_none_or(|at| at <= now) {
            self.returning_from = Some(now + RETURNING_INTERVAL);
            self.events.push_back(ConnectionEvent::Returning);
        }
    }

    pub(crate) fn handle_dtls(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        egress: &mut Egress,
        stats: &mut Stats,
    ) {
        if !self.ice.admit(path, datagram.len()) {
            stats.drop(DropReason::UnknownSource);
            return;
        }
        match &mut self.dtls {
            None => self.early.push(datagram),
            Some(dtls) => {
                dtls.handle_datagram(now, datagram);
                self.pump_from(now, Some(path), egress);
            }
        }
    }

    /// Decrypts one RTP packet in place and returns its plain length.
    pub(crate) fn unprotect_rtp(&mut self, path: Path, packet: &mut [u8]) -> Result<usize, DropReason> {
        self.unprotect(path, packet, SrtpReceiver::unprotect_rtp)
    }

    /// Decrypts one RTCP packet in place and returns its plain length.
    pub(crate) fn unprotect_rtcp(&mut self, path: Path, packet: &mut [u8]) -> Result<usize, DropReason> {
        self.unprotect(path, packet, SrtpReceiver::unprotect_rtcp)
    }

    fn unprotect(
        &mut self,
        path: Path,
        packet: &mut [u8],
        open: impl FnOnce(&mut SrtpReceiver, &mut [u8]) -> Result<usize, SrtpError>,
    ) -> Result<usize, DropReason> {
        match &mut self.cipher {
            Cipher::Srtp { receiver, .. } if self.ice.admit(path, packet.len()) => {
                open(receiver, packet).map_err(|_| DropReason::Unauthentic)
            }
            Cipher::Srtp { .. } | Cipher::None => Err(DropReason::UnknownSource),
            #[cfg(feature = "null-cipher")]
            Cipher::Null(_) => Ok(packet.len()),
        }
    }

    /// Encrypts the `len` bytes of an RTP packet that was built in `packet`; its length on the wire, or `None` when
    /// it cannot be sent.
    pub(crate) fn protect_rtp(&mut self, packet: &mut [u8], len: usize) -> Option<usize> {
        self.protect(packet, len, SrtpSender::protect_rtp)
    }

    /// Reads ahead what sending this stream's next packet needs.
    pub(crate) fn ahead(&self, ssrc: Ssrc) {
        look(&self.path());
        if let Cipher::Srtp { sender, .. } = &self.cipher {
            sender.ahead(ssrc);
        }
    }

    /// Reads ahead what an RTCP packet needs that comes.
    pub(crate) fn ahead_of_rtcp(&self) {
        look(&self.path());
        if let Cipher::Srtp { receiver, .. } = &self.cipher {
            receiver.ahead_of_rtcp();
        }
    }

    /// Bytes that an RTP packet grows by.
    pub(crate) fn rtp_overhead(&self) -> usize {
        match &self.cipher {
            Cipher::Srtp { sender, .. } => sender.profile().rtp_overhead(),
            Cipher::None => 0,
            #[cfg(feature = "null-cipher")]
            Cipher::Null(_) => 0,
        }
    }

    /// The same for RTCP.
    pub(crate) fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Option<usize> {
        self.protect(packet, len, SrtpSender::protect_rtcp)
    }

    fn protect(
        &mut self,
        packet: &mut [u8],
        len: usize,
        seal: impl FnOnce(&mut SrtpSender, &mut [u8], usize) -> Result<usize, SrtpError>,
    ) -> Option<usize> {
        match &mut self.cipher {
            Cipher::Srtp { sender, .. } => seal(sender, packet, len).ok(),
            Cipher::None => None,
            #[cfg(feature = "null-cipher")]
            Cipher::Null(_) => Some(len),
        }
    }

    /// Moves what the layers have for each other and for the network.
    pub(crate) fn pump(&mut self, now: Instant, egress: &mut Egress) {
        self.pump_from(now, None, egress);
    }

    fn pump_from(&mut self, now: Instant, from: Option<Path>, egress: &mut Egress) {
        self.pump_dtls_events(now, from);
        self.pump_data(now);
        self.flush_dtls(egress);
        while let Some(event) = self.ice.poll_event() {
            match event {
                IceEvent::Selected(path) => self.events.push_back(ConnectionEvent::Selected(path)),
                // Before the handshake is complete, `give_up` bounds the wait.
                IceEvent::ConsentExpired if self.up => {
                    self.lost_until = Some(now + LOST_TIMEOUT);
                    self.events.push_back(ConnectionEvent::Lost(self.ice.consent_timeout()));
                }
                IceEvent::ConsentExpired => {}
                IceEvent::UfragRetired(ufrag) => self.events.push_back(ConnectionEvent::UfragRetired(ufrag)),
                IceEvent::PathForgotten(path) => self.events.push_back(ConnectionEvent::PathForgotten(path)),
            }
        }
        let keyed = !matches!(self.cipher, Cipher::None);
        if keyed && self.ice.selected().is_some() {
            if !std::mem::replace(&mut self.up, true) {
                self.give_up = None;
                self.events.push_back(ConnectionEvent::Up);
            } else if self.lost_until.take().is_some() {
                self.events.push_back(ConnectionEvent::Back);
            }
        }
    }

    fn pump_dtls_events(&mut self, now: Instant, from: Option<Path>) {
        let Some(dtls) = &mut self.dtls else { return };
        while let Some(event) = dtls.poll_event() {
            match event {
                DtlsEvent::Connected(keys) => {
                    let role = dtls.role();
                    let sender = Box::new(keys.sender(role));
                    let receiver = Box::new(keys.receiver(role));
                    self.cipher = Cipher::Srtp { sender, receiver };
                    if let Some(path) = from {
                        self.ice.handle_handshake_complete(path);
                    }
                    let mut data = DataTransport::new(role, self.data_config.clone());
                    for (label, reliability) in self.wanted_channels.drain(..) {
                        // A fresh transport is below its cap, and the labels are ours.
                        let _ = data.open(&label, reliability);
                    }
                    self.data = Some(data);
                }
                DtlsEvent::ApplicationData(packet) => {
                    if let Some(data) = &mut self.data {
                        data.handle_datagram(now, &packet);
                    }
                }
                DtlsEvent::Closed => self.events.push_back(ConnectionEvent::Ended(PeerEnd::ClosedByPeer)),
                DtlsEvent::Failed(failure) => {
                    let end = match failure {
                        DtlsFailure::FingerprintMismatch => PeerEnd::FingerprintMismatch,
                        DtlsFailure::NoCertificate
                        | DtlsFailure::NoSrtpProfile
                        | DtlsFailure::RefusedByPeer
                        | DtlsFailure::Refused
                        | DtlsFailure::Timeout => PeerEnd::HandshakeFailed,
                    };
                    self.events.push_back(ConnectionEvent::Ended(end));
                }
            }
        }
    }

    fn pump_data(&mut self, now: Instant) {
        let (Some(dtls), Some(data)) = (&mut self.dtls, &mut self.data) else { return };
        while let Some(event) = data.poll_event() {
            self.events.push_back(ConnectionEvent::Channel(event));
        }
        if matches!(self.cipher, Cipher::None) || self.data_due.is_some_and(|due| now < due) {
            return;
        }
        self.data_due = None;
        for _ in 0..DATA_BURST {
            let Some(packet) = data.poll_transmit(now) else { return };
            if dtls.send_application_data(now, &packet).is_err() {
                return;
            }
        }
        self.data_due = Some(now + DATA_TICK);
    }

    fn flush_dtls(&mut self, egress: &mut Egress) {
        let Some(dtls) = &mut self.dtls else { return };
        let path = self.ice.handshake_path();
        loop {
            let Some(len) = dtls.poll_transmit(egress.space()) else { return };
            if let Some(path) = path
                && self.ice.may_send_handshake(path, len)
            {
                egress.commit(path, len);
            }
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let layers = [
            self.ice.next_timeout(),
            self.dtls.as_ref().and_then(Dtls::next_timeout),
            self.data.as_ref().and_then(DataTransport::next_timeout),
            self.data_due,
            self.give_up,
            self.lost_until,
        ];
        layers.into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, egress: &mut Egress) {
        self.ice.handle_timeout(now);
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        if let Some(data) = &mut self.data {
            data.handle_timeout(now);
        }
        if self.give_up.is_some_and(|at| at <= now) {
            self.give_up = None;
            self.events.push_back(ConnectionEvent::Ended(PeerEnd::NeverConnected));
        }
        if self.lost_until.is_some_and(|at| at <= now) {
            self.lost_until = None;
            self.events.push_back(ConnectionEvent::Ended(PeerEnd::ConsentExpired));
        }
        self.pump(now, egress);
    }

    /// Says goodbye: a close_notify leaves with the next flush.
    pub(crate) fn close(&mut self, now: Instant, egress: &mut Egress) {
        if let Some(dtls) = &mut self.dtls {
            dtls.close(now);
        }
        self.flush_dtls(egress);
    }
}
