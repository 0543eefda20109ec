//! One client's WebSocket: frames in, messages out, pings, and an end that the client hears of.
//!
//! Always: pings are answered here, so a busy room never ends a connection; what a client sends waits in a small queue
//! of its own for a place in the room's mailbox, and when that is full too, in the kernel; a message that cannot be written
//! for some seconds ends the socket. When the room wants somebody gone, its last messages (the `leave`) are written before
//! the close.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use livekit_protocol::{SignalRequest, SignalResponse};
use signaling::livekit::frame::{self, Encoding};
use signaling::livekit::{SocketEnd, pong_for};
use tokio::time::{Instant, timeout};

use crate::bridge;
use crate::metrics::Metrics;
use crate::rooms::{FromClient, Session};

/// Keeps proxies from closing a quiet connection, and shows whether anybody is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long the kernel may take no byte of a message.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the client may take for the last messages and for its answer to the close.
const FAREWELL: Duration = Duration::from_secs(3);
/// Requests of this client that wait for a place at the room.
const PENDING: usize = 64;

/// Why the loop ended.
enum End {
    /// The room has said its last word, or is gone.
    Room,
    /// The client is gone or broke the protocol of WebSockets.
    Client,
    /// Nothing came from the client for too long, or nothing can be sent to it: its network may be cut.
    Silent,
}

/// Runs until either side ends it. At the end `session` is closed, which tells the room.
pub(super) async fn run(
    mut socket: WebSocket,
    mut session: Session,
    metrics: &Metrics,
    idle_timeout: Duration,
) {
    metrics.websockets.inc();
    let mut heard = Instant::now();
    let end = exchange(&mut socket, &mut session, metrics, idle_timeout, &mut heard).await;
    metrics.websockets.dec();
    session.close(match end {
        End::Client | End::Room => SocketEnd::Closed,
        End::Silent => SocketEnd::Silent(heard.elapsed()),
    });
    match end {
        End::Client => {}
        End::Room => close(&mut socket, close_code::NORMAL, "").await,
        End::Silent => close(&mut socket, close_code::NORMAL, "idle").await,
    }
}

async fn exchange(
    socket: &mut WebSocket,
    session: &mut Session,
    metrics: &Metrics,
    idle_timeout: Duration,
    heard: &mut Instant,
) -> End {
    let mut encoding = Encoding::default();
    let mut pending = VecDeque::new();
    let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    // Set once the room has given its last message: by then all of them must be written.
    let mut write_until = None;
    loop {
        let has_room = pending.len() < PENDING;
        let is_pending = !pending.is_empty();
        let ending = session.is_ending();
        let (outgoing, mailbox) = session.split();
        let written = tokio::select! {
            response = outgoing.recv() => {
                let Some(response) = response else { return End::Room };
                if ending && write_until.is_none() {
                    write_until = Some(Instant::now() + FAREWELL);
                }
                metrics.signals_sent.inc();
                write_response(socket, encoding, &response, write_until).await
            }
            taken = put(mailbox.as_ref(), &mut pending), if is_pending => {
                if !taken {
                    // The room is gone; what it said last is still to be written.
                    pending.clear();
                }
                Ok(())
            }
            message = socket.recv(), if has_room => {
                match read(message) {
                    Ok(Read::Frame(kind, bytes)) => {
                        *heard = Instant::now();
                        metrics.signals_received.inc();
                        encoding = kind;
                        match frame::decode(kind, &bytes) {
                            Ok(request) => answer_or_keep(socket, encoding, request, &mut pending, metrics).await,
                            Err(error) => {
                                pending.push_back(FromClient::Unreadable(error));
                                Ok(())
                            }
                        }
                    }
                    Ok(Read::Control) => {
                        *heard = Instant::now();
                        Ok(())
                    }
                    Err(end) => return end,
                }
            }
            _ = ping.tick() => write(socket, Message::Ping(bytes::Bytes::new()), None).await,
            () = tokio::time::sleep_until(*heard + idle_timeout), if has_room => return End::Silent,
        };
        if let Err(end) = written {
            return end;
        }
    }
}

/// Puts the front of `pending` into the mailbox. Without one, because the room is gone, says so.
async fn put(mailbox: Option<&crate::rooms::Mailbox<'_>>, pending: &mut VecDeque<FromClient>) -> bool {
    match mailbox {
        Some(mailbox) => mailbox.put(pending).await,
        None => false,
    }
}

/// What came from the socket.
enum Read {
    Frame(Encoding, bytes::Bytes),
    /// Pings, answered by the library, and pongs.
    Control,
}

fn read(message: Option<Result<Message, axum::Error>>) -> Result<Read, End> {
    match message {
        Some(Ok(Message::Binary(bytes))) => Ok(Read::Frame(Encoding::Protobuf, bytes)),
        Some(Ok(Message::Text(text))) => Ok(Read::Frame(Encoding::Json, text.into())),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Read::Control),
        Some(Ok(Message::Close(_))) | None => Err(End::Client),
        Some(Err(error)) => Err(end_by(&error)),
    }
}

/// A kernel that gives a connection up since nobody answers says so in these ways; all else comes from the other side.
fn end_by(error: &axum::Error) -> End {
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let kinds = sources.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    let unanswered = |kind| {
        matches!(kind, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
    };
    if kinds.into_iter().any(unanswered) { End::Silent } else { End::Client }
}

/// Pings are answered at once, everything else is for the room.
async fn answer_or_keep(
    socket: &mut WebSocket,
    encoding: Encoding,
    request: SignalRequest,
    pending: &mut VecDeque<FromClient>,
    metrics: &Metrics,
) -> Result<(), End> {
    if let Some(pong) = pong_for(&request, bridge::unix_ms()) {
        metrics.signals_sent.inc();
        return write_response(socket, encoding, &pong, None).await;
    }
    pending.push_back(FromClient::Request(request));
    Ok(())
}

async fn write_response(
    socket: &mut WebSocket,
    encoding: Encoding,
    response: &SignalResponse,
    until: Option<Instant>,
) -> Result<(), End> {
    let bytes = frame::encode(encoding, response);
    let message = match encoding {
        Encoding::Protobuf => Message::Binary(bytes.into()),
        Encoding::Json => match String::from_utf8(bytes) {
            Ok(text) => Message::Text(text.into()),
            Err(error) => {
                tracing::error!(%error, "JSON that is not UTF-8");
                return Ok(());
            }
        },
    };
    write(socket, message, until).await
}

/// Fails where the message could not be written in time.
async fn write(socket: &mut WebSocket, message: Message, until: Option<Instant>) -> Result<(), End> {
    let latest = Instant::now() + WRITE_TIMEOUT;
    let until = until.map_or(latest, |until| until.min(latest));
    match tokio::time::timeout_at(until, socket.send(message)).await {
        Ok(written) => written.map_err(|error| end_by(&error)),
        Err(_) => Err(End::Silent),
    }
}

/// Says goodbye and waits for the client's goodbye: a socket that is closed with unread bytes takes the last messages with
/// it (RFC 9112 §9.6 has the same for HTTP).
async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) {
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
