//! Connections to receivers: the name is resolved here, each address is checked, and the connection goes to the address that was
//! checked.
//!
//! Always: a name is resolved once for a connection; no proxy of the environment is asked.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::address::Allowed;
use super::metrics::FailureKind;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name has no address.
    #[error("{host} cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// All its addresses are where webhooks may not go.
    #[error("{host} is at {addresses}, where webhooks may not go; see webhooks.allow")]
    Refused {
        /// The name.
        host: String,
        /// What it was resolved to.
        addresses: String,
    },
    /// Nobody listens, or the way there is broken.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate, most of the time.
    #[error("TLS with {host}: {source}")]
    Tls {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
}

impl ConnectError {
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            ConnectError::Resolve { .. } => FailureKind::Resolve,
            ConnectError::Refused { .. } => FailureKind::Refused,
            ConnectError::Connect { .. } | ConnectError::Tls { .. } => FailureKind::Connect,
        }
    }
}

/// Why TLS towards receivers cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("webhooks.ca-file: {file}: {reason}; needed is a PEM file with certificates")]
pub struct CaError {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub reason: String,
}

/// Makes connections. Clones are cheap.
#[derive(Clone)]
pub(super) struct Connector {
    allowed: Arc<Allowed>,
    tls: TlsConnector,
}

impl Connector {
    /// Trusts the Web's certificate authorities, and those in `ca_file`.
    pub(super) fn new(allowed: Allowed, ca_file: Option<&std::path::Path>) -> Result<Connector, CaError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = ca_file {
            let wrong = |reason| CaError { file: file.display().to_string(), reason };
            let certificates =
                CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("no certificate in it".to_owned()));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Connector { allowed: Arc::new(allowed), tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(self, url: Uri) -> Result<Stream, ConnectError> {
        // Literal IPv6 addresses stand in brackets.
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let encrypted = url.scheme() != Some(&Scheme::HTTP);
        let port = url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let resolved = tokio::net::lookup_host((host.as_str(), port)).await;
        let resolved: Vec<SocketAddr> =
            resolved.map_err(|source| ConnectError::Resolve { host: host.clone(), source })?.collect();
        let tcp = self.connect_to(&host, &resolved).await?;
        if !encrypted {
            return Ok(Stream::Plain(TokioIo::new(tcp)));
        }
        let wrong = |source| ConnectError::Tls { host: host.clone(), source };
        let name = ServerName::try_from(host.clone()).map_err(|error| wrong(io::Error::other(error)))?;
        let tls = self.tls.connect(name, tcp).await.map_err(wrong)?;
        Ok(Stream::Tls(TokioIo::new(Box::new(tls))))
    }

    /// The first of the permitted addresses that takes a connection.
    async fn connect_to(&self, host: &str, resolved: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
        let mut failure = None;
        for address in resolved.iter().filter(|address| self.allowed.permits(host, address.ip())) {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Err(source) => failure = Some(ConnectError::Connect { address: *address, source }),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let addresses: Vec<String> = resolved.iter().map(|address| address.ip().to_string()).collect();
            ConnectError::Refused { host: host.to_owned(), addresses: addresses.join(", ") }
        }))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}

/// A connection, encrypted or not.
pub(super) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
