//! The whole server against a WebRTC stack that is not ours: the `webrtc` crate, beside it in this process.
//!
//! Everything between the two is real: LiveKit signalling over a WebSocket, ICE, DTLS, SRTP and SCTP over UDP on
//! loopback. A client keeps a journal of what it saw; tests wait for what they want to read there.
//! Not here: what a user of a browser sees (`clients.rs`), bad networks and long calls (`sfu/testkit`).

#[path = "webrtc/client.rs"]
mod client;
#[path = "webrtc/journal.rs"]
mod journal;
#[path = "webrtc/peer.rs"]
mod peer;
#[path = "webrtc/signalling.rs"]
mod signalling;
#[path = "webrtc/source.rs"]
mod source;
#[path = "webrtc/tap.rs"]
mod tap;

#[path = "webrtc/data.rs"]
mod data;
#[path = "webrtc/data_tracks.rs"]
mod data_tracks;
#[path = "webrtc/leaving.rs"]
mod leaving;
#[path = "webrtc/media.rs"]
mod media;
#[path = "webrtc/repair.rs"]
mod repair;
#[path = "webrtc/resuming.rs"]
mod resuming;
#[path = "webrtc/tcp.rs"]
mod tcp;
