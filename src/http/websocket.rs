//! One client's WebSocket: frames in, messages out, pings, and an end that the client hears of.
//!
//! Always: pings are answered here, so a busy room never ends a connection; what a client sends waits in a small queue
//! of its own for a place in the room's mailbox, and when that is full too, in the kernel; a message that cannot be written
//! for some seconds ends the socket. When the room wants somebody gone, its last messages (the `leave`) are written before
//! the close.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, close_code};
use livekit_protocol::{SignalRequest, SignalResponse};
use signaling::livekit::frame::{self, Encoding};
use signaling::livekit::{SocketEnd, pong_for};
use tokio::time::Instant;

use super::socket::{self, Broken, FAREWELL, PING_INTERVAL, Read};
use crate::bridge;
use crate::metrics::Metrics;
use crate::rooms::{FromClient, Session};

/// Requests of this client that wait for a place at the room.
const PENDING: usize = 64;

/// Bytes that are read at once. The default of 128 KiB, which is zeroed for each socket, is most of what an idle participant costs;
/// a longer frame is read in several turns.
pub(super) const READ_BUFFER: usize = 4096;

/// Why the loop ended.
enum End {
    /// The room has said its last word, or is gone.
    Room,
    /// The socket.
    Socket(Broken),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> End {
        End::Socket(broken)
    }
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
        End::Socket(Broken::Closed) | End::Room => SocketEnd::Closed,
        End::Socket(Broken::Silent) => SocketEnd::Silent(heard.elapsed()),
    });
    match end {
        End::Socket(Broken::Closed) => {}
        End::Room => socket::close(&mut socket, close_code::NORMAL, "").await,
        End::Socket(Broken::Silent) => socket::close(&mut socket, close_code::NORMAL, "idle").await,
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
                match socket::read(message) {
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
                    Err(broken) => return broken.into(),
                }
            }
            _ = ping.tick() => socket::write(socket, Message::Ping(bytes::Bytes::new()), None).await,
            () = tokio::time::sleep_until(*heard + idle_timeout), if has_room => return Broken::Silent.into(),
        };
        if let Err(broken) = written {
            return broken.into();
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

/// Pings are answered at once, everything else is for the room.
async fn answer_or_keep(
    socket: &mut WebSocket,
    encoding: Encoding,
    request: SignalRequest,
    pending: &mut VecDeque<FromClient>,
    metrics: &Metrics,
) -> Result<(), Broken> {
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
) -> Result<(), Broken> {
    let bytes = frame::encode(encoding, response);
    socket::write(socket, socket::message(encoding, bytes), until).await
}
