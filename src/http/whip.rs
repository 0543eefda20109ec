//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03) over HTTP: bodies, headers, statuses.
//!
//! Always: a body is read from those alone who have a token of ours, up to a length, and for a while; errors are plain text
//! that says what is wrong.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use signaling::whip::fragment::MAX_FRAGMENT;
use signaling::whip::request::{self, Head, Place};
use signaling::whip::{Created, Protocol, WhipError};

use super::router::{App, text};
use crate::bridge;
use crate::whip::{Changed, Digest};

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(15);
/// When to try again what the server was too full for, in seconds.
const RETRY_AFTER: &str = "5";
/// The proxies' list of addresses that a request came through.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's end of the TCP connection, as an extension of its requests.
#[derive(Clone, Copy)]
pub(super) struct Remote(pub(super) SocketAddr);

/// Headers that pages of other origins may read.
pub(super) const EXPOSED: [HeaderName; 5] = [
    header::LOCATION,
    header::ETAG,
    header::LINK,
    HeaderName::from_static("accept-patch"),
    HeaderName::from_static("accept-post"),
];

/// Answers a request to a place of either protocol.
pub(super) async fn serve(app: &App, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let Some(place) = request::place(&path) else { return text(StatusCode::NOT_FOUND, "404 page not found") };
    let method = match *request.method() {
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let response = match carry_out(app, place, request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::info!(protocol = place.protocol().name(), method, %error, "request refused");
            refused(place, &error)
        }
    };
    app.metrics.whip_requested(place.protocol(), method, response.status().as_u16());
    response
}

fn refused(place: Place<'_>, error: &WhipError) -> Response {
    let refusal = error.refusal();
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, refusal.body);
    let headers = response.headers_mut();
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(header::ALLOW, HeaderValue::from_static(place.methods()));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => accept(place, headers),
        _ => {}
    }
    response
}

/// Says which bodies a place takes.
fn accept(place: Place<'_>, headers: &mut HeaderMap) {
    let (name, value) = place.accepts();
    headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

async fn carry_out(app: &App, place: Place<'_>, request: Request) -> Result<Response, WhipError> {
    if !app.whip.settings().enabled {
        return Err(WhipError::Off);
    }
    match (place, request.method()) {
        (Place::Endpoint(protocol), &Method::POST) => Box::pin(create(app, protocol, place, request)).await,
        (Place::Session(protocol, name), &Method::PATCH) => {
            check_owner(app, protocol, name, &request)?;
            place.check_type(value(request.headers(), &header::CONTENT_TYPE))?;
            let if_match = value(request.headers(), &header::IF_MATCH).map(str::to_owned);
            let body = body(request, MAX_FRAGMENT).await?;
            Ok(changed(app.whip.patch(name, if_match, body).await?))
        }
        (Place::Session(protocol, name), &Method::DELETE) => {
            check_owner(app, protocol, name, &request)?;
            app.whip.delete(name).await?;
            Ok(StatusCode::OK.into_response())
        }
        _ => Err(WhipError::Method(place.methods())),
    }
}

async fn create(
    app: &App,
    protocol: Protocol,
    place: Place<'_>,
    request: Request,
) -> Result<Response, WhipError> {
    let admission = admit(app, protocol, &request)?;
    place.check_type(value(request.headers(), &header::CONTENT_TYPE))?;
    app.rooms.check(&admission).map_err(WhipError::Refused)?;
    let token = Digest::of(&token(&request));
    let address = address(&request);
    let path = request.uri().path().trim_matches('/').to_owned();
    let offer = request::offer(protocol, &body(request, app.whip.settings().max_body).await?)?;
    let (name, created) = app.whip.create(&app.rooms, protocol, admission, offer, token, address).await?;
    Ok(made(place, &format!("/{path}/{name}"), created))
}

/// 201, as RFC 9725 §4.2 has it.
fn made(place: Place<'_>, location: &str, created: Created) -> Response {
    let mut response = (StatusCode::CREATED, created.sdp).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/sdp"));
    for (name, text) in [(header::LOCATION, location), (header::ETAG, created.etag.as_str())] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    for link in created.links {
        if let Ok(value) = HeaderValue::from_str(&link) {
            headers.append(header::LINK, value);
        }
    }
    accept(Place::Session(place.protocol(), ""), headers);
    response
}

fn changed(changed: Changed) -> Response {
    match changed {
        Changed::Trickled => StatusCode::NO_CONTENT.into_response(),
        Changed::Restarted { fragment, etag } => {
            let content_type = HeaderValue::from_static("application/trickle-ice-sdpfrag");
            let mut response = ([(header::CONTENT_TYPE, content_type)], fragment).into_response();
            if let Ok(etag) = HeaderValue::from_str(&etag) {
                response.headers_mut().insert(header::ETAG, etag);
            }
            response
        }
    }
}

fn admit(
    app: &App,
    protocol: Protocol,
    request: &Request,
) -> Result<signaling::livekit::connect::Admission, WhipError> {
    let head = Head {
        protocol,
        query: request.uri().query().unwrap_or_default(),
        authorization: value(request.headers(), &header::AUTHORIZATION),
        user_agent: value(request.headers(), &header::USER_AGENT),
    };
    let settings = app.rooms.settings();
    request::admit(&head, &settings.keys, &settings.limits, bridge::unix_ms())
}

/// A session is its maker's: the same token will do although it has expired, and another for the same participant.
fn check_owner(app: &App, protocol: Protocol, name: &str, request: &Request) -> Result<(), WhipError> {
    let owner = match app.whip.owner(protocol, name) {
        Ok(owner) if owner.token == Digest::of(&token(request)) => return Ok(()),
        owner => owner,
    };
    // Whoever has no token learns nothing of sessions.
    let asking = admit(app, protocol, request)?;
    let owner = owner?;
    if (asking.room, asking.identity) == (owner.room, owner.identity) {
        Ok(())
    } else {
        Err(WhipError::NotYours)
    }
}

fn token(request: &Request) -> String {
    let query = request.uri().query().unwrap_or_default();
    request::token(query, value(request.headers(), &header::AUTHORIZATION))
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Where a client is: what a proxy on our own machine or network says, else the other end of the connection.
fn address(request: &Request) -> IpAddr {
    let remote = request.extensions().get::<Remote>().map(|Remote(remote)| remote.ip().to_canonical());
    let remote = remote.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let is_proxy = match remote {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    };
    // The last entry is the proxy's own word; those before it are the client's.
    let last = request.headers().get_all(FORWARDED_FOR).iter().next_back();
    let last = last.and_then(|list| list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    last.filter(|_| is_proxy).unwrap_or(remote)
}

async fn body(mut request: Request, limit: usize) -> Result<Bytes, WhipError> {
    DefaultBodyLimit::max(limit).apply(&mut request);
    match tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(WhipError::TooLong { limit })
        }
        Ok(Err(_)) | Err(_) => Err(WhipError::BodyLost),
    }
}

/// Adds to the answer to an `OPTIONS` what RFC 9725 §4.1 wants said; CORS has answered the rest of it.
pub(super) async fn announce(request: Request, next: Next) -> Response {
    let options = (request.method() == Method::OPTIONS).then(|| request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if let Some(place) = options.as_deref().and_then(request::place) {
        accept(place, response.headers_mut());
    }
    response
}
