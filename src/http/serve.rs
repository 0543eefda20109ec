//! Accepting connections: HTTP/1.1, with TLS where configured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::ServiceExt as _;

use super::places::{HttpPlace, HttpPlaces};
use super::whip::Remote;
use crate::config::TlsFiles;
use crate::listen::pause_after;
use crate::metrics::Metrics;

/// Bytes of a request's head. A v1 join carries its offer in the URL, 10 to 25 KB and more before compression. What is
/// longer than this is answered with 431. The URL alone may have 65 534 bytes, the limit of the `http` crate: above it is
/// 414.
const MAX_HEAD: usize = 512 << 10;
/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificates cannot be read.
    #[error("tls-cert: {file}: {reason}; needed is a PEM file with the server's certificate first")]
    Certificate {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// The key cannot be read.
    #[error("tls-key: {file}: {reason}; needed is a PEM file with one private key")]
    Key {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// They do not fit together.
    #[error("tls-key: {0}")]
    Mismatch(String),
}

/// Reads certificate and key.
///
/// # Errors
/// [`TlsError`] names the key of the configuration at fault.
pub fn load_tls(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = load(files)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same for TURN, which no application protocol is named for (RFC 7443 has one that clients need not name).
///
/// # Errors
/// As [`load_tls`].
pub fn load_turn_tls(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    Ok(Arc::new(load(files)?))
}

fn load(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let name = |path: &std::path::Path| path.display().to_string();
    let certificate = |reason| TlsError::Certificate { file: name(&files.cert), reason };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(certificate("no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| TlsError::Key { file: name(&files.key), reason: error.to_string() })?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| TlsError::Mismatch(error.to_string()))?;
    Ok(config)
}

/// Serves `router` until `closing` turns true; then lets requests under way end. WebSockets are not waited for: they have
/// tasks of their own, which keep the connection's place.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    places: Arc<HttpPlaces>,
    metrics: Metrics,
    mut closing: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        let (stream, remote) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => (stream, Remote(remote)),
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = closed(&mut closing) => break,
        };
        let place = match places.take(Instant::now(), remote.0.ip(), acceptor.is_some()) {
            Ok(place) => Arc::new(place),
            Err(full) => {
                metrics.limit_hit(full.name());
                continue;
            }
        };
        let (acceptor, router, closing) = (acceptor.clone(), router.clone(), closing.clone());
        connections.spawn(async move {
            // Signal messages are small and must not wait for each other.
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => connection(stream, remote, place, router, closing).await,
                Some(acceptor) => {
                    if let Some(stream) = handshake(&acceptor, stream).await {
                        connection(stream, remote, place, router, closing).await;
                    }
                }
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    remote: Remote,
    place: Arc<HttpPlace>,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    let router = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(remote);
        // For a WebSocket, whose connection outlives this one.
        request.extensions_mut().insert(Arc::clone(&place));
        request
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// Until the server stops, or is gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|&closing| closing).await;
}
