//! One peer's packets: which protocol a datagram is, and the protocols below media; `framing` is for those that come in a stream.
//!
//! A datagram passes `demux` (which protocol?), then `ice` (may this address speak at all?) and only then
//! `dtls`, SRTP or SCTP. Always: an address that no authenticated STUN request came from reaches no
//! cryptography beyond STUN's own, and gets no answer but STUN's.
//! Not here: sockets (the server's worker), what the packets mean (`wire`, `peer`).

pub mod certificate;
pub mod dcep;
pub mod demux;
pub mod dtls;
pub mod framing;
pub mod ice;
pub mod sctp;
pub mod srtp;
pub mod stun;
