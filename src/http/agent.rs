//! One worker of agents: `/agent`, a WebSocket for programs on the livekit-agents framework.
//!
//! Always: a worker that cannot be let in gets a status and a text; one that breaks the protocol gets the reason in its close.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, close_code};
use axum::extract::{FromRequestParts as _, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use signaling::agents::{self, MAX_WORKER_MESSAGE};
use signaling::livekit::frame::{Encoding, encode};
use tokio::time::Instant;

use super::places::HttpPlace;
use super::router::{App, text};
use super::socket::{self, Broken, PING_INTERVAL, Read};
use crate::agents::{ToWorker, WorkerSeat};
use crate::bridge;

/// Where workers connect.
pub(super) const PATH: &str = "/agent";

/// Why the loop ended.
enum End {
    /// The pool wants it, for this reason.
    Dismissed(&'static str),
    /// The server is stopping.
    Pool,
    /// The socket.
    Socket(Broken),
}

/// A worker: its token is checked, and only then it is upgraded.
pub(super) async fn connect(app: App, mut parts: Parts) -> Response {
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &app).await else {
        return text(StatusCode::NOT_FOUND, "workers of agents connect here, by WebSocket");
    };
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let query = parts.uri.query().unwrap_or_default();
    let keys = &app.rooms.settings().keys;
    let key = match agents::admit(query, authorization, keys, bridge::unix_ms()) {
        Ok(key) => key,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::UNAUTHORIZED);
            return text(status, error.to_string());
        }
    };
    let unavailable = |why: String| text(StatusCode::SERVICE_UNAVAILABLE, why);
    let Some(open) = app.open_sockets.upgrade() else {
        return unavailable("server is shutting down".to_owned());
    };
    let seat = match app.rooms.agents().connect(key).await {
        Ok(seat) => seat,
        Err(error) => return unavailable(error.to_string()),
    };
    let (idle_timeout, place) = (app.idle_timeout, parts.extensions.remove::<Arc<HttpPlace>>());
    upgrade.max_message_size(MAX_WORKER_MESSAGE).max_frame_size(MAX_WORKER_MESSAGE).on_upgrade(
        move |mut socket| async move {
            match exchange(&mut socket, seat, idle_timeout).await {
                End::Dismissed(why) => {
                    tracing::warn!(why, "agent worker disconnected");
                    socket::close(&mut socket, close_code::POLICY, why).await;
                }
                End::Pool => socket::close(&mut socket, close_code::AWAY, "").await,
                End::Socket(Broken::Silent) => socket::close(&mut socket, close_code::NORMAL, "idle").await,
                End::Socket(Broken::Closed) => {}
            }
            drop((open, place));
        },
    )
}

async fn exchange(socket: &mut WebSocket, mut seat: WorkerSeat, idle_timeout: Duration) -> End {
    let (outgoing, way) = seat.split();
    let mut encoding = Encoding::default();
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval_at(heard + PING_INTERVAL, PING_INTERVAL);
    loop {
        let written = tokio::select! {
            message = outgoing.recv() => match message {
                Some(ToWorker::Message(message)) => {
                    let bytes = encode(encoding, &*message);
                    socket::write(socket, socket::message(encoding, bytes), None).await
                }
                Some(ToWorker::Close(reason)) => return End::Dismissed(reason),
                None => return End::Pool,
            },
            message = socket.recv() => match socket::read(message) {
                Ok(read) => {
                    heard = Instant::now();
                    if let Read::Frame(kind, bytes) = read {
                        encoding = kind;
                        way.put(agents::frame::decode(kind, &bytes)).await;
                    }
                    Ok(())
                }
                Err(broken) => Err(broken),
            },
            _ = ping.tick() => socket::write(socket, Message::Ping(Bytes::new()), None).await,
            () = tokio::time::sleep_until(heard + idle_timeout) => Err(Broken::Silent),
        };
        if let Err(broken) = written {
            return End::Socket(broken);
        }
    }
}
