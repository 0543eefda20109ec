//! A WebSocket as everybody here uses it: what is read, how long a write may take, and a close that the other side hears of.

use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use signaling::livekit::frame::Encoding;
use tokio::time::{Instant, timeout};

/// Keeps proxies from closing a quiet connection, and shows whether anybody is there.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long the kernel may take no byte of a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other side may take for the last messages and for its answer to the close.
pub(super) const FAREWELL: Duration = Duration::from_secs(3);

/// How a socket ended that we did not close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The other side is gone or broke the protocol of WebSockets.
    Closed,
    /// Nothing came from it for too long, or nothing can be sent to it: its network may be cut.
    Silent,
}

/// What came from the socket.
pub(super) enum Read {
    Frame(Encoding, bytes::Bytes),
    /// Pings, answered by the library, and pongs.
    Control,
}

pub(super) fn read(message: Option<Result<Message, axum::Error>>) -> Result<Read, Broken> {
    match message {
        Some(Ok(Message::Binary(bytes))) => Ok(Read::Frame(Encoding::Protobuf, bytes)),
        Some(Ok(Message::Text(text))) => Ok(Read::Frame(Encoding::Json, text.into())),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Read::Control),
        Some(Ok(Message::Close(_))) | None => Err(Broken::Closed),
        Some(Err(error)) => Err(broken_by(&error)),
    }
}

/// A kernel that gives a connection up since nobody answers says so in these ways; all else comes from the other side.
fn broken_by(error: &axum::Error) -> Broken {
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let kinds = sources.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    let unanswered = |kind| {
        matches!(kind, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
    };
    if kinds.into_iter().any(unanswered) { Broken::Silent } else { Broken::Closed }
}

/// A message in the encoding that the other side writes.
pub(super) fn message(encoding: Encoding, bytes: Vec<u8>) -> Message {
    match encoding {
        Encoding::Protobuf => Message::Binary(bytes.into()),
        // JSON is UTF-8.
        Encoding::Json => Message::Text(String::from_utf8_lossy(&bytes).into_owned().into()),
    }
}

/// Fails where the message could not be written in time.
pub(super) async fn write(
    socket: &mut WebSocket,
    message: Message,
    until: Option<Instant>,
) -> Result<(), Broken> {
    let latest = Instant::now() + WRITE_TIMEOUT;
    let until = until.map_or(latest, |until| until.min(latest));
    match tokio::time::timeout_at(until, socket.send(message)).await {
        Ok(written) => written.map_err(|error| broken_by(&error)),
        Err(_) => Err(Broken::Silent),
    }
}

/// Says goodbye and waits for the client's goodbye: a socket that is closed with unread bytes takes the last messages with
/// it (RFC 9112 §9.6 has the same for HTTP).
pub(super) async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
    let goodbye = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let _ = timeout(FAREWELL, async {
        if socket.send(goodbye).await.is_ok() {
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        }
    })
    .await;
}
