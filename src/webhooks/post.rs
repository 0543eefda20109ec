//! One attempt: a signed POST, and what the receiver says.
//!
//! Always: redirects are not followed, nothing takes longer than the timeout, and of the answer's body no more is read than keeps
//! the connection usable.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::connect::{CaError, ConnectError, Connector};
use super::metrics::FailureKind;
use super::settings::{SigningKey, WebhookSettings};
use super::sign::sign;
use crate::bridge;

/// Bytes of an answer's body that are read; a longer one costs the connection.
const MAX_ANSWER: usize = 16 << 10;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Characters of a reason that are kept.
const MAX_REASON: usize = 300;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct PostError {
    pub(super) kind: FailureKind,
    /// For people.
    pub(super) reason: String,
    /// What the receiver asked for.
    pub(super) retry_after: Option<Duration>,
}

impl PostError {
    pub(super) fn new(kind: FailureKind, reason: impl Into<String>) -> PostError {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(MAX_REASON));
        PostError { kind, reason, retry_after: None }
    }
}

/// Posts to one receiver.
pub(super) struct Poster {
    client: Client<Connector, Full<Bytes>>,
    url: Uri,
    key: SigningKey,
    timeout: Duration,
}

impl Poster {
    /// # Errors
    /// [`CaError`]
    pub(super) fn new(settings: &WebhookSettings, url: Uri) -> Result<Poster, CaError> {
        let connector = Connector::new(settings.allowed.clone(), settings.ca_file.as_deref())?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.patience.concurrency)
            .build(connector);
        Ok(Poster { client, url, key: settings.key.clone(), timeout: settings.timeout })
    }

    /// # Errors
    /// [`PostError`]: it has not arrived, as far as can be known.
    pub(super) async fn post(&self, body: Vec<u8>) -> Result<(), PostError> {
        let deadline = Instant::now() + self.timeout;
        let token = sign(&self.key, &body, bridge::unix_ms())
            .map_err(|error| PostError::new(FailureKind::Refused, error.to_string()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/webhook+json")
            .header(AUTHORIZATION, token)
            .header(USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| PostError::new(FailureKind::Refused, error.to_string()))?;
        let answer = match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failure(&error)),
            Err(_) => {
                return Err(PostError::new(FailureKind::Timeout, format!("no answer in {:?}", self.timeout)));
            }
        };
        let status = answer.status();
        let retry_after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // Read to its end, so that the connection can be used again; what it says is of no interest.
        let _ = timeout_at(deadline, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        if status.is_success() {
            return Ok(());
        }
        let redirect = if status.is_redirection() { "; redirects are not followed" } else { "" };
        let reason = format!("answered with status {}{redirect}", status.as_u16());
        let retry_after = retry_after.map(Duration::from_secs);
        Err(PostError { retry_after, ..PostError::new(FailureKind::Status, reason) })
    }
}

fn failure(error: &hyper_util::client::legacy::Error) -> PostError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(error) = cause.downcast_ref::<ConnectError>() {
            return PostError::new(error.kind(), error.to_string());
        }
        match cause.source() {
            Some(source) => cause = source,
            None => {
                return PostError::new(
                    FailureKind::Broken,
                    format!("the connection ended without an answer: {cause}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
