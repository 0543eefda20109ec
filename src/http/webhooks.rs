//! `/webhooks/failed`: the events that were given up, for administrators.
//!
//! Always: nobody sees or replays anything without a token with `roomAdmin`, and nobody more than the room that it names; a
//! token that names none is good for all rooms.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use signaling::livekit::connect::Refusal;
use signaling::livekit::explain::administered_room;

use super::router::{App, text};
use crate::bridge;
use crate::webhooks::Webhooks;

/// The list.
pub(super) const FAILED: &str = "/webhooks/failed";
/// Trying again.
pub(super) const REPLAY: &str = "/webhooks/failed/replay";

/// Entries of a page.
const MAX_PAGE: usize = 1000;
const PAGE: usize = 100;
/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(15);

#[derive(serde::Deserialize)]
pub(super) struct PageQuery {
    /// The number of the last entry of the page before.
    after: Option<u64>,
    limit: Option<usize>,
}

/// What is to be tried again; everything, unless ids are named.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    ids: Option<HashSet<String>>,
}

/// Events that were given up, a page of them.
pub(super) async fn failed(
    State(app): State<App>,
    Query(query): Query<PageQuery>,
    request: Request,
) -> Response {
    let (webhooks, room) = match admit(&app, request.uri().query(), request.headers()) {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(refusal),
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let listing = move || webhooks.failed(room.as_deref(), query.after, limit);
    match tokio::task::spawn_blocking(listing).await {
        Ok(Ok(events)) => {
            let next = if events.len() == limit { events.last().map(|event| event.number) } else { None };
            let page = json!({ "events": events, "next": next });
            ([(header::CACHE_CONTROL, "no-store")], axum::Json(page)).into_response()
        }
        Ok(Err(error)) => unavailable(&error),
        Err(error) => unavailable(&error),
    }
}

/// Puts events back into the queue.
pub(super) async fn replay(State(app): State<App>, request: Request) -> Response {
    let (webhooks, room) = match admit(&app, request.uri().query(), request.headers()) {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(refusal),
    };
    let body = match tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return text(refused.status(), refused.body_text()),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive"),
    };
    let asked = if body.is_empty() { Ok(ReplayRequest::default()) } else { serde_json::from_slice(&body) };
    let ReplayRequest { ids } = match asked {
        Ok(asked) => asked,
        Err(error) => {
            let help = "send {\"ids\": [\"EV_…\"]}, or nothing for all";
            return text(StatusCode::BAD_REQUEST, format!("{error}; {help}"));
        }
    };
    match webhooks.replay(room, ids).await {
        Ok(replayed) => axum::Json(json!({ "replayed": replayed })).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// The webhooks, and the room that the token is bound to.
fn admit(app: &App, query: Option<&str>, headers: &HeaderMap) -> Result<(Webhooks, Option<String>), Refusal> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let request = (query.unwrap_or_default(), authorization);
    let room = administered_room(request, &app.rooms.settings().keys, bridge::unix_ms())
        .map_err(|error| error.refusal())?;
    let missing = || Refusal { status: 404, body: "there are no webhooks: see webhooks.urls".to_owned() };
    Ok((app.webhooks.clone().ok_or_else(missing)?, room))
}

fn refused(refusal: Refusal) -> Response {
    text(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal.body)
}

fn unavailable(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "the list of failed webhooks cannot be read");
    text(StatusCode::SERVICE_UNAVAILABLE, "the queue of webhooks cannot be read; see the server's log")
}
