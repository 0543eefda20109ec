//! The server API over HTTP: `/twirp/{service}/{method}`. What is asked and permitted is told by `signaling::livekit::api`.
//!
//! Always: errors are Twirp's JSON, whatever the encoding of the call; a body is read from those alone who have a token of
//! ours, up to a length, and for a while.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request};
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use signaling::access::Keys;
use signaling::livekit::api::{self, ApiError, Call, Head, MAX_BODY};
use signaling::livekit::frame::Encoding;

use super::router::App;
use crate::bridge;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(15);

/// Carries out one call. The router bounds the body to [`MAX_BODY`].
pub(super) async fn serve(app: &App, request: Request) -> Response {
    let name = api::method(request.uri().path()).map_or("none", api::Method::name);
    match carry_out(app, request).await {
        Ok(response) => {
            tracing::debug!(method = name, "API call");
            app.metrics.api_called(name, "ok");
            response
        }
        Err(error) => {
            let code = error.code();
            tracing::info!(method = name, code = code.name(), %error, "API call failed");
            app.metrics.api_called(name, code.name());
            let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, [(header::CONTENT_TYPE, "application/json")], error.body()).into_response()
        }
    }
}

async fn carry_out(app: &App, request: Request) -> Result<Response, ApiError> {
    let settings = app.rooms.settings();
    let call = open(&request, &settings.keys)?;
    let body = body(request).await?;
    let answer = app.rooms.call(call.read(&body, &settings.limits)?).await?;
    let kind = match call.encoding() {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/protobuf",
    };
    Ok(([(header::CONTENT_TYPE, kind)], answer.write(call.encoding())).into_response())
}

fn open(request: &Request, keys: &Keys) -> Result<Call, ApiError> {
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let head = Head {
        post: request.method() == Method::POST,
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        content_type: header(header::CONTENT_TYPE),
        authorization: header(header::AUTHORIZATION),
    };
    api::open(&head, keys, bridge::unix_ms())
}

async fn body(request: Request) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_PATIENCE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(ApiError::BodyTooLarge { limit: MAX_BODY })
        }
        Ok(Err(_)) | Err(_) => Err(ApiError::BodyLost),
    }
}
