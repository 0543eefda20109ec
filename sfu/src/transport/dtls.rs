//! DTLS of one peer connection: agrees on SRTP keys and carries the data channels (RFC 5764, RFC 8261).
//!
//! [`Dtls`] is what the rest of the core knows; [`RtcDtls`] does it with `rtc-dtls`, behind a filter that bounds
//! what an unauthenticated peer can make it keep and compute (`session`, `reassembly`).
//! Always: application data passes in either direction, and keys are told, only after the peer has proven to hold
//! the key of the certificate whose fingerprint was signalled; everything a peer can make us keep is bounded.
//! Not here: where datagrams go and whether they may (`ice`), SRTP itself, SCTP.
//!
//! An implementation is made with the peer's fingerprint, hence after its description is known. Where the client
//! answers *our* offer, its first datagrams may overtake the answer: keep them in an [`EarlyDatagrams`].

mod config;
mod early;
mod flight;
mod hello;
mod reassembly;
mod record;
mod session;

use std::time::Instant;

use bytes::Bytes;
pub use config::{DtlsConfig, DtlsConfigError};
pub use early::EarlyDatagrams;
pub use session::RtcDtls;

use crate::transport::srtp::SrtpKeys;

/// No handshake datagram of ours is longer, in bytes of UDP payload.
pub const DTLS_MTU: usize = 1200;
/// No datagram of ours at all is longer: the least length of the buffer for [`Dtls::poll_transmit`].
pub const MAX_DATAGRAM: usize = 1500;
/// The longest application data of one record. A record adds 37 bytes, and one goes into each datagram.
pub const MAX_APPLICATION_DATA: usize = MAX_DATAGRAM - 64;

/// Exporter label of RFC 5764 §4.2.
const SRTP_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DtlsFailure {
    /// The peer's certificate is not the signalled one (RFC 8122 §5).
    FingerprintMismatch,
    /// The peer showed no certificate.
    NoCertificate,
    /// There is no SRTP profile that both sides know.
    NoSrtpProfile,
    /// The peer sent a fatal alert.
    RefusedByPeer,
    /// What the peer sent cannot be agreed to: version, cipher, a wrong signature.
    Refused,
    /// It took longer than 30 s.
    Timeout,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DtlsEvent {
    /// The handshake is complete and the fingerprint right. Comes at most once, before any data.
    Connected(SrtpKeys),
    /// One record of application data: an SCTP packet.
    ApplicationData(Bytes),
    /// The peer ended the connection (close_notify, or a fatal alert after the handshake). The last event.
    Closed,
    /// The handshake came to nothing. The last event.
    Failed(DtlsFailure),
}

/// Why application data was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DtlsSendError {
    /// The handshake is not complete, or the connection over.
    #[error("DTLS is not connected")]
    NotConnected,
    /// More than [`MAX_APPLICATION_DATA`].
    #[error("{got} bytes, limit {MAX_APPLICATION_DATA}")]
    TooLong {
        /// How many there were.
        got: usize,
    },
    /// The caller must drain [`Dtls::poll_transmit`] first.
    #[error("output not drained")]
    NotDrained,
}

/// One DTLS association, sans-IO. After each call that takes `now`, drain `poll_transmit` and `poll_event`.
pub trait Dtls {
    /// A path exists over which datagrams can go: a client sends its first flight. Further calls do nothing.
    fn start(&mut self, now: Instant);

    /// Takes one datagram, untrusted, that `demux` called DTLS and `ice` admitted. Never fails: what cannot be used is
    /// counted and dropped.
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]);

    /// Lets time pass.
    fn handle_timeout(&mut self, now: Instant);

    /// When to call [`handle_timeout`](Dtls::handle_timeout); `None`: only a datagram can wake it.
    fn next_timeout(&self) -> Option<Instant>;

    /// Writes the next datagram to send to the start of `into`, which has [`MAX_DATAGRAM`] bytes or more, and returns
    /// its length; `None` when there is nothing left. One that does not get sent is repeated if it matters.
    fn poll_transmit(&mut self, into: &mut [u8]) -> Option<usize>;

    /// What happened; `None` when there is nothing left.
    fn poll_event(&mut self) -> Option<DtlsEvent>;

    /// Protects one record of application data.
    ///
    /// # Errors
    /// See [`DtlsSendError`].
    fn send_application_data(&mut self, now: Instant, data: &[u8]) -> Result<(), DtlsSendError>;

    /// Ends the connection: a close_notify is to be sent, no event follows.
    fn close(&mut self, now: Instant);
}

#[cfg(test)]
mod tests;
