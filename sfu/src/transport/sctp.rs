//! Data channels of one peer: SCTP over DTLS (RFC 8831), with in-band opening (RFC 8832).
//!
//! [`DataTransport`] takes the payload of DTLS records and gives packets to be put into them. The protocol is
//! that of `sctp-proto`; here are the channels over its streams, the limits, and what must not reach it
//! (`guard`, `packet`). `channel` keeps one channel's state, `types` has what
//! goes in and comes out, `dcep` reads and writes the opening messages.
//! Always: one association at most; unread messages stay in the receive window, so that a slow reader
//! slows the peer down and memory is bounded by [`DataConfig`]; a broken or oversized message costs nobody
//! but its own channel. The library draws tags and TSNs from the system's generator: runs differ in those
//! bytes, and in nothing else.
//! Not here: DTLS; what the messages mean (`signaling`).

mod channel;
mod guard;
mod packet;
#[cfg(test)]
mod tests;
mod types;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationHandle, Chunks, ClientConfig, DatagramEvent, Endpoint, EndpointConfig,
    EndpointEvent, Event, Payload, PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig,
    StreamEvent, TransportConfig,
};

pub use self::types::{
    ChannelEvent, DataConfig, DataCounters, MAX_MESSAGE_SIZE, OpenError, SendError, StreamId,
};

use self::channel::{Channel, Phase};
use self::guard::{PacketGuard, Verdict};
use crate::command::Reliability;
use crate::transport::dcep::{DcepMessage, MAX_LABEL_LEN, Open, RetryLimit};
use crate::transport::srtp::DtlsRole;

/// Largest SCTP packet that we send, in bytes: with the DTLS record around it, it fits 1200 bytes of UDP.
pub const MAX_PACKET_LEN: usize = 1148;

/// Shortest retransmission timeout, in milliseconds. RFC 9260 §16 has 1 s, which makes every lost tail a
/// visible stall; at 5 % loss a download took 13.7 s with that and 2.2 s with 200 ms.
const RTO_MIN_MS: u64 = 200;
/// Before the first measurement, in milliseconds.
const RTO_INITIAL_MS: u64 = 500;
/// After a network change the peer is reachable again at once: do not sleep for RFC 9260's minute.
const RTO_MAX_MS: u64 = 4_000;

/// Streams beyond those of channels that may live at a time: refused, or not yet opened by DCEP.
const MAX_SPARE_STREAMS: usize = 64;

/// Ids that we choose for channels are below this; libwebrtc knows no higher ones.
const MAX_STREAM_ID: u16 = 1024;

/// The library tells peers apart by address; there is only one here.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No COOKIE exchange yet.
    Connecting,
    Up,
    Lost,
}

/// SCTP and the data channels of one peer.
///
/// After every call that takes input, drain [`poll_event`](Self::poll_event), then as much of
/// [`poll_transmit`](Self::poll_transmit) as the pacer lets through; come back at
/// [`next_timeout`](Self::next_timeout).
pub struct DataTransport {
    config: DataConfig,
    role: DtlsRole,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    state: State,
    guard: PacketGuard,
    /// At most `max_channels`, and those closing.
    channels: Vec<Channel>,
    /// Asked for before the association was up.
    wanted: Vec<Open>,
    /// Streams that live in the library, channels or not.
    live_streams: usize,
    /// Streams with something to read, each once.
    readable: VecDeque<StreamId>,
    events: VecDeque<ChannelEvent>,
    /// Made by the library in one go, handed out one by one. Bounded by the congestion window.
    outbox: VecDeque<Bytes>,
    counters: DataCounters,
}

impl DataTransport {
    /// To be made when DTLS is up, `role` being our side of it.
    ///
    /// The DTLS client sends the INIT, the server waits for it: every known client either always sends one
    /// or does when it is the DTLS client. If both did, the peer's wins.
    pub fn new(role: DtlsRole, config: DataConfig) -> DataTransport {
        // Room for one message of the largest size that the library puts together, and for what comes behind.
        let window = bytes(config.max_receive_message.saturating_mul(4));
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(window)
            .with_max_receive_message_size(bytes(config.max_receive_message.saturating_mul(3)))
            .with_max_send_message_size(bytes(config.max_send_message))
            .with_max_init_retransmits(None)
            .with_max_data_retransmits(None)
            .with_rto_initial_ms(RTO_INITIAL_MS)
            .with_rto_min_ms(RTO_MIN_MS)
            .with_rto_max_ms(RTO_MAX_MS);
        let transport = Arc::new(transport);
        let mut server = ServerConfig::new();
        server.transport = transport.clone();
        let mut endpoint_config = EndpointConfig::new();
        endpoint_config.max_payload_size(MAX_PACKET_LEN as u32 - 12 - 16);
        let mut endpoint = Endpoint::new(Arc::new(endpoint_config), Some(Arc::new(server)));
        let association = match role {
            DtlsRole::Server => None,
            DtlsRole::Client => {
                let mut client = ClientConfig::new();
                client.transport = transport;
                // Starts its first retransmission timer by the system's clock; all others run by ours.
                Some(endpoint.connect(client, PEER).expect("ports are set and no tokens are given"))
            }
        };
        DataTransport {
            config,
            role,
            endpoint,
            association,
            state: State::Connecting,
            guard: PacketGuard::new(window),
            channels: Vec::new(),
            wanted: Vec::new(),
            live_streams: 0,
            readable: VecDeque::new(),
            events: VecDeque::new(),
            outbox: VecDeque::new(),
            counters: DataCounters::default(),
        }
    }

    /// Takes the payload of one DTLS application data record: one SCTP packet, untrusted.
    pub fn handle_datagram(&mut self, now: Instant, packet: &[u8]) {
        if self.state == State::Lost {
            return;
        }
        match self.guard.inspect(packet, self.state == State::Up) {
            Verdict::Pass => {}
            Verdict::Drop => {
                self.counters.packets += 1;
                return;
            }
            Verdict::Abort => return self.abort(),
        }
        let packet = Bytes::copy_from_slice(packet);
        match self.endpoint.handle(now, PEER, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                // The library makes one for every INIT with a new tag, and keeps it.
                self.endpoint.reject_new_associations();
                if let Some((old, _)) = self.association.replace((handle, association)) {
                    self.endpoint.handle_event(old, EndpointEvent::drained());
                }
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((current, association)) = &mut self.association
                    && *current == handle
                {
                    association.handle_event(event);
                }
            }
            None => self.counters.packets += 1,
        }
        self.pump();
    }

    /// The next packet to put into a DTLS record, at most [`MAX_PACKET_LEN`] bytes.
    ///
    /// A large message fills a whole congestion window at once: take a few packets per tick, the rest waits
    /// here. When they all go out in one burst, the peer's socket buffer overflows.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        loop {
            if let Some(packet) = self.outbox.pop_front() {
                return Some(packet);
            }
            let (_, association) = self.association.as_mut()?;
            let Payload::RawEncode(packets) = association.poll_transmit(now)?.payload else { return None };
            for packet in packets {
                self.guard.observe_outgoing(&packet);
                if packet.len() <= MAX_PACKET_LEN {
                    self.outbox.push_back(packet);
                } else {
                    // Only a SACK with hundreds of gaps fits no packet; the next one will have fewer.
                    let outbox = &mut self.outbox;
                    self.counters.packets +=
                        packet::split(&packet, MAX_PACKET_LEN, |part| outbox.push_back(part));
                }
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); may change with every call to the transport.
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Connecting | State::Up => self.association.as_ref()?.1.poll_timeout(),
            State::Lost => None,
        }
    }

    /// Runs the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.pump();
    }

    /// What happened, oldest first; reads at most one message.
    pub fn poll_event(&mut self) -> Option<ChannelEvent> {
        loop {
            self.pump();
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            // DATA may overtake the COOKIE ACK; before that nothing can be answered.
            if self.state != State::Up {
                return None;
            }
            let stream = *self.readable.front()?;
            let message = match &mut self.association {
                Some((_, association)) => {
                    association.stream(stream.0).and_then(|mut s| s.read()).ok().flatten()
                }
                None => None,
            };
            match message {
                Some(message) => self.on_message(stream, message),
                None => {
                    self.readable.pop_front();
                }
            }
        }
    }

    /// Opens a channel of our own; [`ChannelEvent::Opened`] follows when the peer has acknowledged it. Before
    /// the association is up, the request waits for it.
    ///
    /// # Errors
    /// Any [`OpenError`].
    pub fn open(&mut self, label: &str, reliability: Reliability) -> Result<(), OpenError> {
        if label.len() > MAX_LABEL_LEN {
            return Err(OpenError::LabelTooLong { got: label.len() });
        }
        if self.channels.len() + self.wanted.len() >= self.config.max_channels {
            return Err(OpenError::TooManyChannels);
        }
        let open = Open::new(label, reliability);
        match self.state {
            State::Connecting => {
                self.wanted.push(open);
                Ok(())
            }
            State::Up => self.open_stream(open),
            State::Lost => Err(OpenError::Lost),
        }
    }

    /// Closes the channel of that label, if there is one; [`ChannelEvent::Closed`] follows when the peer has
    /// closed its direction too. What was sent before is still delivered.
    pub fn close(&mut self, label: &str) {
        self.wanted.retain(|open| open.label != label);
        let found = self.channels.iter_mut().find(|c| c.open.label == label && c.phase != Phase::Closing);
        if let Some(channel) = found {
            channel.phase = Phase::Closing;
            let stream = channel.stream;
            self.reset(stream);
        }
    }

    /// Sends one message on the oldest channel of that label.
    ///
    /// # Errors
    /// Any [`SendError`]; the channel lives on.
    pub fn send(&mut self, label: &str, binary: bool, payload: &[u8]) -> Result<(), SendError> {
        let channel = self.channels.iter_mut().find(|c| c.open.label == label && c.phase != Phase::Closing);
        let (Some(channel), Some((_, association))) = (channel, &mut self.association) else {
            return Err(SendError::NotOpen);
        };
        let mut stream = association.stream(channel.stream.0).map_err(|_| SendError::NotOpen)?;
        let (limit, backlog) = match channel.reliability() {
            Reliability::Reliable => (self.config.max_send_message, self.config.reliable_backlog),
            Reliability::Lossy => {
                (self.config.max_lossy_message.min(self.config.max_send_message), self.config.lossy_backlog)
            }
        };
        if payload.len() > limit {
            return Err(SendError::TooLarge { got: payload.len(), limit });
        }
        // RFC 8831 §6.6: SCTP has no empty messages; one byte stands for nothing.
        let (bytes, ppid) = match (payload.is_empty(), binary) {
            (false, true) => (payload, Ppid::Binary),
            (false, false) => (payload, Ppid::String),
            (true, true) => (&[0][..], Ppid::BinaryEmpty),
            (true, false) => (&[0][..], Ppid::StringEmpty),
        };
        let buffered = stream.buffered_amount().map_err(|_| SendError::NotOpen)?;
        if !channel.has_room(buffered, bytes.len(), backlog) {
            return Err(SendError::Backlogged);
        }
        stream.write_with_ppi(bytes, ppid).map_err(|_| SendError::NotOpen)?;
        channel.sent(bytes.len());
        Ok(())
    }

    /// Whether the association is up.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// What was dropped so far.
    pub fn counters(&self) -> DataCounters {
        self.counters
    }

    /// Takes the library's news. Messages are left in it, until somebody asks for events.
    fn pump(&mut self) {
        while let Some(event) = self.association.as_mut().and_then(|(_, association)| association.poll()) {
            match event {
                Event::Connected => self.on_connected(),
                Event::HandshakeFailed { .. } | Event::AssociationLost { .. } => self.on_lost(),
                Event::Stream(StreamEvent::Opened { .. }) => {
                    self.live_streams += 1;
                    if self.live_streams > self.config.max_channels + MAX_SPARE_STREAMS {
                        self.abort();
                    }
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    let id = StreamId(id);
                    self.readable.retain(|known| *known != id);
                    self.readable.push_back(id);
                }
                // The peer has reset its direction; the library resets ours in return.
                Event::Stream(StreamEvent::Finished { id }) => self.on_closed(StreamId(id)),
                // Exactly once for every stream that ceases to exist.
                Event::DataChannelStatsFinal(_) => self.live_streams = self.live_streams.saturating_sub(1),
                // A failed or outstanding reset keeps the id from reuse inside the library. The rest is
                // about thresholds that we do not set.
                _ => {}
            }
        }
    }

    fn on_connected(&mut self) {
        if self.state != State::Connecting {
            return;
        }
        self.state = State::Up;
        // Its own INIT, had it not been the first, would make another association from now on.
        self.endpoint.reject_new_associations();
        for open in std::mem::take(&mut self.wanted) {
            if self.open_stream(open).is_err() {
                self.counters.refused += 1;
            }
        }
    }

    fn on_lost(&mut self) {
        if self.state != State::Lost {
            self.state = State::Lost;
            self.channels.clear();
            self.wanted.clear();
            self.readable.clear();
            self.events.push_back(ChannelEvent::AssociationLost);
        }
    }

    fn on_closed(&mut self, stream: StreamId) {
        if let Some(at) = self.channels.iter().position(|c| c.stream == stream) {
            let channel = self.channels.remove(at);
            self.events.push_back(ChannelEvent::Closed { label: channel.open.label });
        }
    }

    fn on_message(&mut self, stream: StreamId, mut message: Chunks) {
        let len = message.len();
        self.guard.delivered(message.chunks.len());
        let (binary, empty) = match message.ppi {
            Ppid::Dcep => {
                let payload = if len <= MAX_DCEP_LEN { joined(&mut message, len) } else { Bytes::new() };
                return self.on_dcep(stream, &payload);
            }
            Ppid::String => (false, false),
            Ppid::StringEmpty => (false, true),
            Ppid::Binary => (true, false),
            Ppid::BinaryEmpty => (true, true),
            Ppid::Unknown => {
                self.counters.unexpected += 1;
                return;
            }
        };
        // A message of the peer's on our channel says as much as an acknowledgement. On a stream that is no
        // channel yet it is dropped: RFC 8832 §6 has senders go in order until they are acknowledged.
        self.acknowledge(stream);
        let channel = self.channels.iter().find(|c| c.stream == stream);
        let Some(channel) = channel.filter(|c| c.phase == Phase::Open) else {
            self.counters.unexpected += 1;
            return;
        };
        if len > self.config.max_receive_message {
            self.counters.oversized += 1;
            return;
        }
        let label = channel.open.label.clone();
        let payload = if empty { Bytes::new() } else { joined(&mut message, len) };
        self.events.push_back(ChannelEvent::Message { label, stream, binary, payload });
    }

    fn on_dcep(&mut self, stream: StreamId, payload: &[u8]) {
        let known = self.channels.iter_mut().find(|c| c.stream == stream);
        match (DcepMessage::parse(payload), known) {
            (Ok(DcepMessage::Ack), Some(_)) => self.acknowledge(stream),
            (Ok(DcepMessage::Open(open)), None) => self.accept(stream, open),
            // RFC 8832 §6: a stream in use is not opened again, but closed.
            (Ok(DcepMessage::Open(_)), Some(channel)) => {
                self.counters.unexpected += 1;
                if channel.phase != Phase::Closing {
                    channel.phase = Phase::Closing;
                    self.reset(stream);
                }
            }
            (Ok(DcepMessage::Ack), None) | (Err(_), Some(_)) => self.counters.unexpected += 1,
            (Err(_), None) => {
                self.counters.refused += 1;
                self.reset(stream);
            }
        }
    }

    /// The peer opens a channel. Its parity is not checked (RFC 8832 §6 says even for the DTLS client): the
    /// stream is free, and not every stack derives its ids from the DTLS role.
    fn accept(&mut self, stream: StreamId, open: Open) {
        if self.channels.len() >= self.config.max_channels {
            self.counters.refused += 1;
            return self.reset(stream);
        }
        if self.set_delivery(stream, open.ordered, open.limit) && self.write_dcep(stream, &DcepMessage::Ack) {
            let (label, reliability) = (open.label.clone(), open.reliability());
            self.channels.push(Channel::new(stream, Phase::Open, open));
            self.events.push_back(ChannelEvent::Opened { label, reliability });
        } else {
            self.counters.refused += 1;
            self.reset(stream);
        }
    }

    /// The peer has shown that it knows our channel.
    fn acknowledge(&mut self, stream: StreamId) {
        let channel = self.channels.iter_mut().find(|c| c.stream == stream);
        let Some(channel) = channel.filter(|c| c.phase == Phase::Opening) else { return };
        channel.phase = Phase::Open;
        let (label, reliability) = (channel.open.label.clone(), channel.reliability());
        let (ordered, limit) = (channel.open.ordered, channel.open.limit);
        self.set_delivery(stream, ordered, limit);
        self.events.push_back(ChannelEvent::Opened { label, reliability });
    }

    /// Sends DATA_CHANNEL_OPEN on the lowest free stream of our parity (RFC 8832 §6).
    fn open_stream(&mut self, open: Open) -> Result<(), OpenError> {
        let first = match self.role {
            DtlsRole::Client => 0,
            DtlsRole::Server => 1,
        };
        let (_, association) = self.association.as_mut().ok_or(OpenError::Lost)?;
        // The library refuses an id that is in use or whose reset is not over.
        let id = (first..MAX_STREAM_ID)
            .step_by(2)
            .find(|&id| association.open_stream(id, Ppid::Binary).is_ok())
            .ok_or(OpenError::TooManyChannels)?;
        let stream = StreamId(id);
        self.live_streams += 1;
        // In order until it is acknowledged, lest a message overtake the request (RFC 8832 §6).
        self.set_delivery(stream, true, open.limit);
        self.write_dcep(stream, &DcepMessage::Open(open.clone()));
        self.channels.push(Channel::new(stream, Phase::Opening, open));
        Ok(())
    }

    fn set_delivery(&mut self, stream: StreamId, ordered: bool, limit: RetryLimit) -> bool {
        let (kind, value) = match limit {
            RetryLimit::Unlimited => (ReliabilityType::Reliable, 0),
            RetryLimit::Retransmits(count) => (ReliabilityType::Rexmit, count),
            RetryLimit::LifetimeMs(ms) => (ReliabilityType::Timed, ms),
        };
        let Some((_, association)) = &mut self.association else { return false };
        let stream = association.stream(stream.0);
        stream.and_then(|mut s| s.set_reliability_params(!ordered, kind, value)).is_ok()
    }

    /// The library sends PPID 50 in order and until it is acknowledged, whatever the channel (RFC 8832 §6).
    fn write_dcep(&mut self, stream: StreamId, message: &DcepMessage) -> bool {
        let Some((_, association)) = &mut self.association else { return false };
        let stream = association.stream(stream.0);
        stream.and_then(|mut s| s.write_with_ppi(&message.to_bytes(), Ppid::Dcep)).is_ok()
    }

    /// Resets our direction of a stream (RFC 8831 §6.7).
    fn reset(&mut self, stream: StreamId) {
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(stream.0)
        {
            // Fails only when the association is not established, and then there is nothing to reset.
            let _ = stream.close();
        }
    }

    /// Ends the association because of what the peer did.
    fn abort(&mut self) {
        if let Some((_, association)) = &mut self.association {
            let _ = association.close();
        }
        self.on_lost();
    }
}

/// No valid DCEP message is longer.
const MAX_DCEP_LEN: usize = 12 + 2 * MAX_LABEL_LEN;

/// A size as the library has it.
fn bytes(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// The fragments of a message in one piece.
fn joined(message: &mut Chunks, len: usize) -> Bytes {
    message.next(len).map(|chunk| chunk.bytes).unwrap_or_default()
}
