//! `/debug`: what operators and users can read of a call that runs.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use signaling::livekit::connect::Refusal;
use signaling::livekit::explain::may_read;

use super::router::{App, text};
use crate::bridge;

/// Where reports are: of one participant of one room.
pub(super) const REPORT: &str = "/debug/rooms/{room}/participants/{identity}";

#[derive(serde::Deserialize)]
pub(super) struct ReportQuery {
    /// Seconds of history; all of it unless told otherwise.
    #[serde(default = "all")]
    history: u16,
}

fn all() -> u16 {
    u16::MAX
}

/// Why a participant gets what it gets.
pub(super) async fn report(
    State(app): State<App>,
    Path((room, identity)): Path<(String, String)>,
    Query(query): Query<ReportQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let request = (uri.query().unwrap_or_default(), authorization);
    let keys = &app.rooms.settings().keys;
    if let Err(error) = may_read(request, keys, (&room, &identity), bridge::unix_ms()) {
        return refused(error.refusal());
    }
    match app.rooms.explain(&room, identity, query.history).await {
        Ok(report) => ([(header::CACHE_CONTROL, "no-store")], axum::Json(report)).into_response(),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Response {
    text(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), refusal.body)
}
