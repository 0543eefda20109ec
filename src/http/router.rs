//! Which path is what, and the answers that are not WebSockets.
//!
//! Clients look at status and text of errors: all are plain text, and carry CORS headers, or a browser would see
//! "server unreachable" in place of a 401. A 404 on a signalling path sends clients from v1 to v0, so none is given there
//! but for what is no WebSocket at all.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts as _, Query, Request, State, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use signaling::access::{self, Claims, VideoGrant};
use signaling::livekit::api::{self, MAX_BODY};
use signaling::livekit::connect::{self, Endpoint, HttpRequest, Purpose, Refusal};
use signaling::livekit::frame::MAX_FRAME;
use signaling::whip::request;
use tokio::sync::{mpsc, watch};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use super::places::HttpPlace;
use super::{agent, debug, page, twirp, webhooks, websocket, whip};
use crate::bridge;
use crate::config::DEV_KEY;
use crate::media::worker::WorkerClient;
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::webhooks::Webhooks;
use crate::whip::WhipSessions;

/// Browsers may keep the answer to a preflight for a day.
const PREFLIGHT_AGE: Duration = Duration::from_hours(24);
/// A token of `/dev/token` is good for a day of work.
const DEV_TOKEN_TTL: Duration = Duration::from_hours(24);

/// What handlers need.
#[derive(Clone)]
pub struct App {
    /// Rooms.
    pub rooms: Rooms,
    /// Sessions of WHIP and WHEP.
    pub whip: WhipSessions,
    /// Metrics.
    pub metrics: Metrics,
    /// Webhooks, if there are receivers.
    pub webhooks: Option<Webhooks>,
    /// Media workers, for health.
    pub workers: Arc<[WorkerClient]>,
    /// Whether the server is stopping.
    pub closing: watch::Receiver<bool>,
    /// Every WebSocket holds a clone until it is closed.
    pub open_sockets: mpsc::WeakSender<()>,
    /// Silence that ends a WebSocket.
    pub idle_timeout: Duration,
    /// Secret of [`DEV_KEY`]: tokens for the asking, in development only.
    pub dev_secret: Option<&'static str>,
}

/// All paths.
pub fn router(app: App) -> Router {
    // Browsers leave `Authorization` out of `*`, so what is asked for is allowed by name.
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(whip::EXPOSED)
        .max_age(PREFLIGHT_AGE);
    let mut router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route(debug::REPORT, get(debug::report))
        .route(webhooks::FAILED, get(webhooks::failed))
        .route(webhooks::REPLAY, post(webhooks::replay))
        .fallback(other)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(cors)
        .layer(axum::middleware::from_fn(whip::announce));
    if app.dev_secret.is_some() {
        // After the layer: pages of other origins shall not get tokens.
        router = router.route("/dev/token", get(dev_token));
    }
    router.with_state(app)
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}

fn refused(app: &App, refusal: Refusal) -> Response {
    app.metrics.join_refused(refusal.status);
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text(status, refusal.body)
}

/// Healthy as long as the process can do its work. Depends on nothing outside of it.
async fn livez(State(app): State<App>) -> Response {
    if app.workers.iter().all(WorkerClient::is_alive) {
        text(StatusCode::OK, "OK")
    } else {
        text(StatusCode::INTERNAL_SERVER_ERROR, "a media worker has ended")
    }
}

/// Ready as long as joins are let in.
async fn readyz(State(app): State<App>) -> Response {
    if *app.closing.borrow() {
        text(StatusCode::SERVICE_UNAVAILABLE, "shutting down")
    } else if app.workers.iter().any(WorkerClient::is_alive) {
        text(StatusCode::OK, "OK")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "no media worker is running")
    }
}

async fn metrics(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
        .into_response()
}

/// Signalling, WHIP and WHEP, the server API, the page, or nothing.
async fn other(State(app): State<App>, request: Request) -> Response {
    if api::is_call(request.uri().path()) {
        return twirp::serve(&app, request).await;
    }
    if request::place(request.uri().path()).is_some() {
        return whip::serve(&app, request).await;
    }
    let (parts, _) = request.into_parts();
    if parts.uri.path() == agent::PATH {
        return agent::connect(app, parts).await;
    }
    if let Some((endpoint, purpose)) = connect::route(parts.uri.path()) {
        return match purpose {
            Purpose::Connect => connect_websocket(app, endpoint, parts).await,
            Purpose::Validate => validate(&app, endpoint, &parts),
        };
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    }
    let path = parts.uri.path().trim_start_matches('/');
    if path.is_empty() {
        return if wants_page(&parts.headers) { page::index() } else { text(StatusCode::OK, "OK") };
    }
    match page::asset(path) {
        Some(asset) => asset,
        // A path inside the page, such as a room's: the page knows what to do. Files have a dot.
        None if wants_page(&parts.headers) && !path.contains('.') => page::index(),
        None => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// Browsers ask for HTML by name; clients and health checks do not.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|a| a.contains("text/html")))
}

fn admit(app: &App, endpoint: Endpoint, parts: &Parts) -> Result<connect::Admission, Refusal> {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let request = HttpRequest {
        endpoint,
        query: parts.uri.query().unwrap_or_default(),
        authorization: header(header::AUTHORIZATION),
        user_agent: header(header::USER_AGENT),
    };
    let settings = app.rooms.settings();
    let admission = connect::admit(&request, &settings.keys, &settings.limits, bridge::unix_ms())
        .map_err(|error| error.refusal())?;
    app.rooms.check(&admission)?;
    Ok(admission)
}

/// Says why a WebSocket failed.
fn validate(app: &App, endpoint: Endpoint, parts: &Parts) -> Response {
    match admit(app, endpoint, parts) {
        Ok(_) => text(StatusCode::OK, "success"),
        Err(refusal) => refused(app, refusal),
    }
}

/// A join: checked, let into its room, and only then upgraded.
async fn connect_websocket(app: App, endpoint: Endpoint, mut parts: Parts) -> Response {
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &app).await else {
        return text(StatusCode::NOT_FOUND, "404 page not found");
    };
    let admission = match admit(&app, endpoint, &parts) {
        Ok(admission) => admission,
        Err(refusal) => return refused(&app, refusal),
    };
    let Some(open) = app.open_sockets.upgrade() else {
        return refused(&app, Refusal { status: 503, body: "server is shutting down".to_owned() });
    };
    let place = parts.extensions.remove::<Arc<HttpPlace>>();
    let session = match app.rooms.join(admission).await {
        Ok(session) => session,
        Err(refusal) => return refused(&app, refusal),
    };
    let (metrics, idle_timeout) = (app.metrics, app.idle_timeout);
    // Above the limit of a frame, so that one that is a little too long is answered with its own error.
    let upgrade = upgrade.max_message_size(2 * MAX_FRAME).max_frame_size(2 * MAX_FRAME);
    upgrade.read_buffer_size(websocket::READ_BUFFER).on_upgrade(move |socket| async move {
        websocket::run(socket, session, &metrics, idle_timeout).await;
        drop((open, place));
    })
}

#[derive(serde::Deserialize)]
struct DevTokenQuery {
    #[serde(default)]
    room: String,
    #[serde(default)]
    identity: String,
    #[serde(default)]
    name: String,
}

#[derive(serde::Serialize)]
struct DevToken {
    token: String,
    url: String,
}

/// A join token for whoever asks.
async fn dev_token(
    State(app): State<App>,
    Query(query): Query<DevTokenQuery>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(secret) = app.dev_secret else { return text(StatusCode::NOT_FOUND, "404 page not found") };
    if query.room.is_empty() || query.identity.is_empty() {
        return text(StatusCode::BAD_REQUEST, "room and identity are required: /dev/token?room=R&identity=I");
    }
    let claims = Claims {
        sub: query.identity,
        name: query.name,
        video: Some(VideoGrant {
            room_join: true,
            room: query.room,
            can_update_own_metadata: Some(true),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    let now = bridge::unix_ms().div_euclid(1000);
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or(uri.host())
        .unwrap_or("localhost:7880");
    match access::mint(DEV_KEY.0, secret, claims, DEV_TOKEN_TTL, now) {
        Ok(token) => axum::Json(DevToken { token, url: format!("ws://{host}") }).into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
