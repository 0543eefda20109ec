//! One association by `rtc-dtls`, and the filter in front of it.
//!
//! `rtc-dtls` never sees a datagram, only single records that were looked at: plaintext handshake messages whole and in
//! order (`reassembly`), ChangeCipherSpec and encrypted records not before they can be used, application data not
//! before the handshake is complete. So nothing can pile up inside it.
//!
//! Flights are repeated by `flight`, not by `rtc-dtls`.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use super::flight::Flight;
use super::hello::choose_srtp_profile;
use super::reassembly::{Message, Reassembly, Verdict};
use super::record::{self, PlaintextNumbers, Record, Records};
use super::{Dtls, DtlsConfig, DtlsEvent, DtlsFailure, DtlsSendError, MAX_APPLICATION_DATA, SRTP_LABEL};
use crate::transport::certificate::Fingerprint;
use crate::transport::srtp::{DtlsRole, SrtpKeys, SrtpProfile};

/// What `rtc-dtls` believes the peer's address to be: always the same, since ICE may move the peer.
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// From the first datagram to completion; as long as consent lasts.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// A datagram of a browser has at most six.
const MAX_RECORDS: usize = 32;
/// Encrypted records that wait for keys, for ChangeCipherSpec or for the peer's Finished.
pub(super) const MAX_HELD: usize = 8;
pub(super) const MAX_HELD_RECORD: usize = 2048;
/// An encrypted handshake record holds a Finished: 24 bytes, nonce and tag. What is larger could bring more fragments
/// than `rtc-dtls` can cope with, and what is inside cannot be seen from here.
const MAX_SEALED_HANDSHAKE: usize = 128;
/// Before completion, and after it: a peer repeats its last flight if ours was lost.
pub(super) const MAX_SEALED_HANDSHAKES: u32 = 16;
/// Datagrams not taken by `poll_transmit`; a flight has about four.
const MAX_OUTBOX: usize = 256;

enum State {
    /// Nothing came and nothing was sent.
    Idle,
    Handshaking {
        deadline: Instant,
    },
    Connected,
    Over,
}

/// [`Dtls`] by `rtc-dtls` 0.21: version 1.2, ECDHE with AES-128-GCM or ChaCha20, extended master secret and a certificate
/// of the peer required.
pub struct RtcDtls {
    config: DtlsConfig,
    role: DtlsRole,
    expected: Fingerprint,
    state: State,
    /// `None` before the first ClientHello (it decides the settings) and when all is over.
    endpoint: Option<Endpoint>,

    reassembly: Reassembly,
    inbound_numbers: PlaintextNumbers,
    change_cipher_spec: ChangeCipherSpec,
    held: Vec<BytesMut>,
    sealed_handshakes: u32,

    outbound_numbers: PlaintextNumbers,
    flight: Flight,
    outbox: VecDeque<BytesMut>,
    events: VecDeque<DtlsEvent>,
    dropped: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum ChangeCipherSpec {
    Awaited,
    /// It came, but the keys are not there yet.
    Seen,
    Passed,
}

/// What a record made `rtc-dtls` do wrong, by what it was.
#[derive(Clone, Copy, PartialEq)]
enum Fed {
    Alert,
    Other,
}

impl RtcDtls {
    /// An association with the peer whose certificate has the fingerprint `expected`. Does nothing until
    /// [`start`](Dtls::start) or, for a server, until a datagram comes.
    pub fn new(config: &DtlsConfig, role: DtlsRole, expected: Fingerprint) -> RtcDtls {
        RtcDtls {
            config: config.clone(),
            role,
            expected,
            state: State::Idle,
            endpoint: None,
            reassembly: Reassembly::new(role),
            inbound_numbers: PlaintextNumbers::default(),
            change_cipher_spec: ChangeCipherSpec::Awaited,
            held: Vec::new(),
            sealed_handshakes: 0,
            outbound_numbers: PlaintextNumbers::default(),
            flight: Flight::default(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Which side we are.
    pub fn role(&self) -> DtlsRole {
        self.role
    }

    /// Whether application data can be sent.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// Records and fragments that were of no use, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of the peer's that are kept because something else has to come first: at most 48 kB.
    pub fn bytes_kept(&self) -> usize {
        self.reassembly.bytes_kept() + self.held.iter().map(BytesMut::len).sum::<usize>()
    }

    fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Handshaking { .. })
    }

    fn begin(&mut self, now: Instant) {
        if let State::Idle = self.state {
            self.state = State::Handshaking { deadline: now + HANDSHAKE_TIMEOUT };
        }
    }

    // ---- what comes in ----

    /// A plaintext handshake record; `true` if it brought the handshake on.
    fn handle_plaintext_handshake(&mut self, now: Instant, body: &[u8], repeated: &mut bool) -> bool {
        match self.reassembly.push_record(body) {
            Verdict::Kept => {}
            Verdict::Repeated => *repeated = true,
            Verdict::Refused => self.dropped += 1,
        }
        let mut progress = false;
        while self.is_handshaking()
            && let Some(message) = self.reassembly.pop()
        {
            progress = true;
            self.pass_message(now, &message);
            self.release(now);
        }
        progress
    }

    fn pass_message(&mut self, now: Instant, message: &Message) {
        if self.endpoint.is_none() && message.is_client_hello() {
            let Some(profile) = choose_srtp_profile(&message.body) else {
                self.fail(now, DtlsFailure::Refused);
                return;
            };
            let settings = self.config.server(profile);
            self.endpoint = Some(Endpoint::new(REMOTE, TransportProtocol::UDP, Some(settings)));
        }
        let whole = self.inbound_numbers.record(record::HANDSHAKE, &[&message.header, &message.body]);
        self.feed(now, BytesMut::from(&*whole), Fed::Other);
    }

    /// An encrypted record.
    fn handle_sealed(&mut self, now: Instant, record: &Record<'_>) {
        if record.content == record::HANDSHAKE && record.body().len() > MAX_SEALED_HANDSHAKE {
            self.dropped += 1;
        } else if self.can_pass(record.content) {
            self.pass_sealed(now, BytesMut::from(record.whole));
        } else if self.held.len() < MAX_HELD && record.whole.len() <= MAX_HELD_RECORD {
            self.held.push(BytesMut::from(record.whole));
        } else {
            self.dropped += 1;
        }
    }

    fn pass_sealed(&mut self, now: Instant, whole: BytesMut) {
        let content = whole[0];
        if content == record::HANDSHAKE {
            if self.sealed_handshakes >= MAX_SEALED_HANDSHAKES {
                self.dropped += 1;
                return;
            }
            self.sealed_handshakes += 1;
        }
        self.feed(now, whole, Fed::of(content));
    }

    /// Whether an encrypted record of this kind can be used now.
    fn can_pass(&self, content: u8) -> bool {
        let keyed = self.change_cipher_spec == ChangeCipherSpec::Passed;
        self.is_connected() || (self.is_handshaking() && keyed && content != record::APPLICATION_DATA)
    }

    /// Passes on what had to wait, as far as it need not any more.
    fn release(&mut self, now: Instant) {
        if self.change_cipher_spec == ChangeCipherSpec::Seen && self.is_handshaking() && self.has_keys() {
            self.change_cipher_spec = ChangeCipherSpec::Passed;
            let whole = self.inbound_numbers.record(record::CHANGE_CIPHER_SPEC, &[&[1]]);
            self.feed(now, BytesMut::from(&*whole), Fed::Other);
        }
        while let Some(at) = self.held.iter().position(|whole| self.can_pass(whole[0])) {
            let whole = self.held.remove(at);
            self.pass_sealed(now, whole);
        }
    }

    fn has_keys(&self) -> bool {
        let Some(endpoint) = &self.endpoint else { return false };
        let Some(state) = endpoint.get_connection_state(REMOTE) else { return false };
        state.cipher_suite().is_some_and(rtc_dtls::cipher_suite::CipherSuite::is_initialized)
    }

    /// Gives one record to `rtc-dtls` and takes what comes of it.
    fn feed(&mut self, now: Instant, whole: BytesMut, fed: Fed) {
        let Some(endpoint) = &mut self.endpoint else {
            self.dropped += 1;
            return;
        };
        let result = endpoint.read(now, REMOTE, None, whole);
        let sent = self.collect();
        if !sent.is_empty() && self.is_handshaking() {
            self.flight.begin(now, sent);
        }
        match result {
            Ok(events) => events.into_iter().for_each(|event| self.handle_endpoint_event(now, event)),
            Err(error) => self.handle_error(now, &error, fed),
        }
    }

    fn handle_endpoint_event(&mut self, now: Instant, event: EndpointEvent) {
        match event {
            EndpointEvent::HandshakeComplete => self.complete(now),
            EndpointEvent::ApplicationData(data) if self.is_connected() => {
                self.events.push_back(DtlsEvent::ApplicationData(data.freeze()));
            }
            EndpointEvent::PeerClosed => self.end(DtlsEvent::Closed),
            _ => self.dropped += 1,
        }
    }

    fn handle_error(&mut self, now: Instant, error: &Error, fed: Fed) {
        match (&self.state, fed, error) {
            (State::Handshaking { .. }, Fed::Alert, Error::ErrAlertFatalOrClose) => {
                self.fail(now, DtlsFailure::RefusedByPeer);
            }
            (State::Connected, Fed::Alert, Error::ErrAlertFatalOrClose) => self.end(DtlsEvent::Closed),
            // A warning, or something that a live connection has no use for.
            (_, Fed::Alert, _) | (State::Connected, Fed::Other, _) => self.dropped += 1,
            (State::Handshaking { .. }, Fed::Other, error) => {
                let failure = match error {
                    Error::ErrClientCertificateRequired | Error::ErrCertificateVerifyNoCertificate => {
                        DtlsFailure::NoCertificate
                    }
                    Error::ErrServerNoMatchingSrtpProfile
                    | Error::ErrClientNoMatchingSrtpProfile
                    | Error::ErrRequestedButNoSrtpExtension => DtlsFailure::NoSrtpProfile,
                    _ => DtlsFailure::Refused,
                };
                self.fail(now, failure);
            }
            (State::Idle | State::Over, Fed::Other, _) => {}
        }
    }

    /// The handshake is over for `rtc-dtls`; whether it is with the right peer is decided here.
    fn complete(&mut self, now: Instant) {
        match self.keys() {
            Ok(keys) => {
                self.state = State::Connected;
                self.flight = Flight::default();
                self.sealed_handshakes = 0;
                self.events.push_back(DtlsEvent::Connected(keys));
            }
            Err(failure) => self.fail(now, failure),
        }
    }

    fn keys(&self) -> Result<SrtpKeys, DtlsFailure> {
        let state = self.endpoint.as_ref().and_then(|endpoint| endpoint.get_connection_state(REMOTE));
        let state = state.ok_or(DtlsFailure::Refused)?;
        let certificate = state.peer_certificates.first().ok_or(DtlsFailure::NoCertificate)?;
        if !self.expected.matches(certificate) {
            return Err(DtlsFailure::FingerprintMismatch);
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Aes128CmHmacSha1_80,
            _ => return Err(DtlsFailure::NoSrtpProfile),
        };
        let material = state
            .export_keying_material(SRTP_LABEL, &[], profile.keying_material_len())
            .map_err(|_| DtlsFailure::Refused)?;
        SrtpKeys::from_exporter(profile, material.as_ref()).map_err(|_| DtlsFailure::Refused)
    }

    /// Ends a handshake; the peer is told by whatever alert `rtc-dtls` has for it, at least a close_notify.
    fn fail(&mut self, now: Instant, failure: DtlsFailure) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.stop(now, REMOTE);
            self.collect();
        }
        self.end(DtlsEvent::Failed(failure));
    }

    fn end(&mut self, last: DtlsEvent) {
        self.over();
        self.events.push_back(last);
    }

    /// Frees what only a live association needs. What is to be sent still is.
    fn over(&mut self) {
        self.state = State::Over;
        self.endpoint = None;
        self.reassembly = Reassembly::new(self.role);
        self.held = Vec::new();
        self.flight = Flight::default();
    }

    // ---- what goes out ----

    /// Moves what `rtc-dtls` has to send to the outbox, and returns it too.
    fn collect(&mut self) -> Vec<BytesMut> {
        let mut sent = Vec::new();
        let Some(endpoint) = &mut self.endpoint else { return sent };
        while let Some(transmit) = endpoint.poll_transmit() {
            let mut datagram = transmit.message;
            self.outbound_numbers.renumber(&mut datagram);
            if matches!(self.state, State::Handshaking { .. }) {
                sent.push(datagram.clone());
            }
            if self.outbox.len() < MAX_OUTBOX {
                self.outbox.push_back(datagram);
            }
        }
        sent
    }

    /// Sends our last flight again.
    fn repeat_flight(&mut self, now: Instant) {
        if !self.outbox.is_empty() || !self.flight.take_repeat(now) {
            return;
        }
        if let Some(endpoint) = &mut self.endpoint
            && let Some(due) = endpoint.poll_timeout(&REMOTE)
            && self.flight.take_regeneration()
        {
            if endpoint.handle_timeout(REMOTE, due).is_err() {
                self.fail(now, DtlsFailure::Timeout);
                return;
            }
            let sent = self.collect();
            if !sent.is_empty() {
                self.flight.datagrams = sent;
                return;
            }
        }
        for datagram in &mut self.flight.datagrams {
            self.outbound_numbers.renumber(datagram);
            self.outbox.push_back(datagram.clone());
        }
    }
}

impl Fed {
    fn of(content: u8) -> Fed {
        if content == record::ALERT { Fed::Alert } else { Fed::Other }
    }
}

impl Dtls for RtcDtls {
    fn start(&mut self, now: Instant) {
        let (State::Idle, DtlsRole::Client) = (&self.state, self.role) else { return };
        self.begin(now);
        let mut endpoint = Endpoint::new(REMOTE, TransportProtocol::UDP, None);
        let connected = endpoint.connect(now, REMOTE, self.config.client(), None);
        self.endpoint = Some(endpoint);
        let sent = self.collect();
        match connected {
            Ok(()) => self.flight.begin(now, sent),
            Err(_) => self.fail(now, DtlsFailure::Refused),
        }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        match (&self.state, self.role) {
            (State::Over, _) | (State::Idle, DtlsRole::Client) => {
                self.dropped += 1;
                return;
            }
            (State::Idle, DtlsRole::Server) => self.begin(now),
            (State::Handshaking { .. } | State::Connected, _) => {}
        }
        let (mut progress, mut repeated) = (false, false);
        for record in Records(datagram).take(MAX_RECORDS) {
            // After completion there is nothing in plaintext that could not be forged, and nothing that is needed:
            // the encrypted Finished makes `rtc-dtls` repeat our last flight.
            match (record.epoch, record.content, self.is_handshaking()) {
                (0, record::HANDSHAKE, true) => {
                    progress |= self.handle_plaintext_handshake(now, record.body(), &mut repeated);
                }
                (0, record::CHANGE_CIPHER_SPEC, true) if record.body() == [1] => {
                    if self.change_cipher_spec == ChangeCipherSpec::Awaited {
                        self.change_cipher_spec = ChangeCipherSpec::Seen;
                    }
                }
                (0, record::ALERT, true) if record.body().len() == 2 => {
                    let whole = self.inbound_numbers.record(record::ALERT, &[record.body()]);
                    self.feed(now, BytesMut::from(&*whole), Fed::Alert);
                }
                (1, record::HANDSHAKE | record::ALERT | record::APPLICATION_DATA, _) => {
                    self.handle_sealed(now, &record);
                }
                _ => self.dropped += 1,
            }
            self.release(now);
        }
        if repeated && !progress && self.is_handshaking() {
            self.repeat_flight(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let State::Handshaking { deadline } = self.state else { return };
        if now >= deadline {
            self.fail(now, DtlsFailure::Timeout);
        } else if self.flight.is_due(now) {
            self.repeat_flight(now);
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let State::Handshaking { deadline } = self.state else { return None };
        Some(self.flight.repeat_at().map_or(deadline, |at| at.min(deadline)))
    }

    fn poll_transmit(&mut self, into: &mut [u8]) -> Option<usize> {
        loop {
            let datagram = self.outbox.pop_front()?;
            if let Some(target) = into.get_mut(..datagram.len()) {
                target.copy_from_slice(&datagram);
                return Some(datagram.len());
            }
            debug_assert!(false, "a buffer of {} bytes for {}", into.len(), datagram.len());
        }
    }

    fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    fn send_application_data(&mut self, now: Instant, data: &[u8]) -> Result<(), DtlsSendError> {
        if data.len() > MAX_APPLICATION_DATA {
            return Err(DtlsSendError::TooLong { got: data.len() });
        }
        if self.outbox.len() >= MAX_OUTBOX {
            return Err(DtlsSendError::NotDrained);
        }
        let State::Connected = self.state else { return Err(DtlsSendError::NotConnected) };
        let Some(endpoint) = &mut self.endpoint else { return Err(DtlsSendError::NotConnected) };
        endpoint.write(now, REMOTE, data).map_err(|_| DtlsSendError::NotConnected)?;
        self.collect();
        Ok(())
    }

    fn close(&mut self, now: Instant) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.stop(now, REMOTE);
            self.collect();
        }
        self.over();
    }
}
