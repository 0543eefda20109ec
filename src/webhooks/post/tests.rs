use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::config::Settings;
use crate::webhooks::address::Allowed;

/// A receiver that gives the same answer to everybody, and what it was sent.
struct Receiver {
    address: SocketAddr,
    heard: mpsc::UnboundedReceiver<String>,
}

impl Receiver {
    async fn start(answer: &'static [u8]) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let got = stream.read(&mut request).await.unwrap();
                    let _ = sender.send(String::from_utf8_lossy(&request[..got]).into_owned());
                    let _ = stream.write_all(answer).await;
                    // Open until the other side closes.
                    let _ = stream.read(&mut request).await;
                });
            }
        });
        Receiver { address, heard }
    }

    fn poster(&self, scheme: &str, allow: &[&str]) -> Poster {
        poster(&format!("{scheme}://{}/hooks?x=1", self.address), allow)
    }
}

fn poster(url: &str, allow: &[&str]) -> Poster {
    let mut settings = Settings::test_with_webhooks(url, std::path::Path::new("unused")).webhooks.unwrap();
    settings.timeout = Duration::from_millis(500);
    settings.allowed = Allowed {
        networks: allow.iter().filter_map(|network| network.parse().ok()).collect(),
        hosts: allow
            .iter()
            .filter(|host| host.contains("localhost"))
            .map(|host| (*host).to_owned())
            .collect(),
    };
    Poster::new(&settings, settings.urls[0].clone()).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[tokio::test]
async fn a_post_is_signed_and_typed() {
    let mut receiver = Receiver::start(OK).await;
    receiver.poster("http", &["127.0.0.0/8"]).post(b"{}".to_vec()).await.unwrap();
    let request = receiver.heard.recv().await.unwrap();
    assert!(request.starts_with("POST /hooks?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/webhook+json\r\n"), "{request}");
    assert!(request.contains("authorization: ey"), "no Bearer: {request}");
    assert!(request.ends_with("\r\n\r\n{}"), "{request}");
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_even_connected_to() {
    let mut receiver = Receiver::start(OK).await;
    let port = receiver.address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "[::1]"] {
        let error = poster(&format!("http://{host}:{port}/"), &[]).post(vec![]).await.expect_err(host);
        // What the resolver does not take for an address is not resolved.
        let refused = [FailureKind::Refused, FailureKind::Resolve].contains(&error.kind);
        assert!(refused, "{host}: {error:?}");
        assert!(error.kind != FailureKind::Refused || error.reason.contains("webhooks.allow"), "{error:?}");
    }
    for host in ["169.254.169.254", "10.0.0.1", "[fd00:ec2::254]", "192.168.0.1"] {
        let error = poster(&format!("https://{host}/"), &[]).post(vec![]).await.expect_err(host);
        assert_eq!(error.kind, FailureKind::Refused, "{host}");
    }
    assert!(receiver.heard.try_recv().is_err(), "nothing came");
    poster(&format!("http://localhost:{port}/"), &["localhost"]).post(vec![]).await.unwrap();
    assert!(receiver.heard.recv().await.is_some());
}

#[tokio::test]
async fn redirects_are_failures() {
    let inner = Receiver::start(OK).await;
    let answer =
        format!("HTTP/1.1 307 Go\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", inner.address);
    let receiver = Receiver::start(answer.leak().as_bytes()).await;
    let error = receiver.poster("http", &["127.0.0.0/8"]).post(vec![]).await.expect_err("a redirect");
    assert_eq!(error.kind, FailureKind::Status);
    assert!(error.reason.contains("307") && error.reason.contains("not followed"), "{error:?}");
    let mut inner = inner;
    assert!(inner.heard.try_recv().is_err(), "nothing came");
}

#[tokio::test]
async fn failures_are_told_apart() {
    for (answer, kind, part) in [
        (&b"HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"[..], FailureKind::Status, "503"),
        (b"", FailureKind::Timeout, "no answer in 500ms"),
        (b"HTTP/1.1 200", FailureKind::Timeout, "no answer"),
        (b"SSH-2.0-x\r\n", FailureKind::Broken, "without an answer"),
    ] {
        let receiver = Receiver::start(answer).await;
        let error = receiver.poster("http", &["127.0.0.0/8"]).post(vec![]).await.expect_err(part);
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.reason.contains(part), "{error:?}");
        let asked = (kind == FailureKind::Status).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after, asked);
    }
    let receiver = Receiver::start(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let error = receiver.poster("https", &["127.0.0.0/8"]).post(vec![]).await.expect_err("no TLS there");
    assert_eq!(error.kind, FailureKind::Connect, "{error:?}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error =
        poster(&format!("http://{closed}/"), &["127.0.0.0/8"]).post(vec![]).await.expect_err("closed");
    assert_eq!(error.kind, FailureKind::Connect, "{error:?}");
    let error = poster("http://no-such-host.invalid/", &[]).post(vec![]).await.expect_err("no such host");
    assert_eq!(error.kind, FailureKind::Resolve, "{error:?}");
}

#[tokio::test]
async fn an_endless_body_is_not_read_to_its_end() {
    let receiver = Receiver::start(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\nxxxx").await;
    let before = std::time::Instant::now();
    receiver.poster("http", &["127.0.0.0/8"]).post(vec![]).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(3));
}
